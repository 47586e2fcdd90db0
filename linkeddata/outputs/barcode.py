"""``barcode/1``: machine-readable codes on an image, with symbology, payload, box and the reader that read it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from linkeddata.json_strict import Json, as_object, get_list
from linkeddata.matching import TextLine, match_lines, parse_match
from linkeddata.outputs.shape import (
    Box,
    ImageSize,
    Region,
    UnitAnswer,
    no_or_cannot_tell,
    read_box,
    read_doubts,
    read_text,
)

MAX_CODES: Final = 64
MAX_PAYLOAD_CHARS: Final = 300
"""A catalogue number or a short address; longer payloads are posters, not labels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """A machine-readable code."""

    symbology: str
    payload: str
    box: Box
    reader: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Barcodes:
    """``barcode/1``."""

    image: ImageSize
    codes: tuple[Code, ...]
    doubts: tuple[str, ...]

    def answer(self, query: str | None) -> UnitAnswer:
        """Whether a payload matches; without a query, whether there is a code."""
        values: dict[str, Json] = {
            "codes": [
                {"symbology": code.symbology, "payload": code.payload, "box": list(code.box), "reader": code.reader}
                for code in self.codes
            ]
        }
        if query is not None:
            lines = [TextLine(text=code.payload, score=1.0, box=code.box) for code in self.codes]
            matches = match_lines(parse_match(query), lines)
            if matches:
                found: tuple[Mapping[str, Json], ...] = tuple(
                    {"text": match.text, "score": "1.000", "distance": match.distance, "box": list(match.box)}
                    for match in matches
                )
                return UnitAnswer(answer="yes", matches=found, values=values)
        elif self.codes:
            return UnitAnswer(answer="yes", values=values)
        return no_or_cannot_tell(not self.doubts, self.doubts)

    def regions(self) -> tuple[Region, ...]:
        """One per code."""
        return tuple(
            Region(
                box=code.box, text=code.payload, label=code.symbology, terms={"vasculum:symbology": code.symbology}
            )
            for code in self.codes
        )  # fmt: skip

    def measured(self) -> Mapping[str, str]:
        """None."""
        return {}


def parse(document: dict[str, Json], image: ImageSize) -> Barcodes:
    """A worker's body.

    Raises:
        DocumentError: it breaks the contract.
    """
    codes: list[Code] = []
    for item in get_list(document, "codes", max_items=MAX_CODES):
        code = as_object(item, "a code")
        codes.append(
            Code(
                symbology=read_text(code, "symbology", max_chars=40),
                payload=read_text(code, "payload", max_chars=MAX_PAYLOAD_CHARS),
                box=read_box(code, image),
                reader=read_text(code, "reader", max_chars=40),
            )
        )
    return Barcodes(image=image, codes=tuple(codes), doubts=read_doubts(document))
