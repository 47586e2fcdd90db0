"""``label-text/1``: lines of text as read, each with box, score and a guess at how it is written.

Limits bound how much of an image a result could carry: 400 lines of 300 characters are far more than any sheet has,
and far less than its pixels; the node's counters work on the sizes of these bodies.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from linkeddata.errors import OutputRefused
from linkeddata.json_strict import Json, as_object, get_bool, get_list
from linkeddata.label_blocks import Block, join_lines
from linkeddata.matching import TextLine, match_lines, parse_match
from linkeddata.outputs.shape import (
    Box,
    ImageSize,
    Region,
    UnitAnswer,
    no_or_cannot_tell,
    read_box,
    read_choice,
    read_doubts,
    read_score,
    read_text,
)

MAX_LINES: Final = 400
MAX_LINE_CHARS: Final = 300
MAX_TEXT_CHARS: Final = 24_000
"""Text of one image in all; the fullest sheet among our samples has 2,400 characters."""
MAX_MATCHES: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadLine:
    """A line of text as read."""

    text: str
    score: str
    """0.000 to 1.000."""
    box: Box
    writing: str
    """``print`` or ``uncertain`` (handwriting, blur, or simply hard to read)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelText:
    """``label-text/1``."""

    image: ImageSize
    lines: tuple[ReadLine, ...]
    readable: bool
    """Whether what was not read can be taken for not there."""
    doubts: tuple[str, ...]

    def answer(self, query: str | None) -> UnitAnswer:
        """Whether the text matches; without a query, whether there is any."""
        if query is None:
            values: dict[str, Json] = {
                "lines": [
                    {"text": line.text, "score": line.score, "box": list(line.box), "writing": line.writing}
                    for line in self.lines
                ],
                "blocks": [{"box": list(block.box), "lines": list(block.lines)} for block in self.blocks()],
            }
            if self.lines:
                return UnitAnswer(answer="yes", values=values)
            return no_or_cannot_tell(self.readable, self.doubts)
        lines = [TextLine(text=line.text, score=float(line.score), box=line.box) for line in self.lines]
        matches = match_lines(parse_match(query), lines)
        if not matches:
            return no_or_cannot_tell(self.readable, self.doubts)
        return UnitAnswer(
            answer="yes",
            matches=tuple(
                {
                    "text": match.text,
                    "score": f"{match.score:.3f}",
                    "distance": match.distance,
                    "box": list(match.box),
                }
                for match in matches[:MAX_MATCHES]
            ),
        )

    def blocks(self) -> tuple[Block, ...]:
        """Lines joined to labels; ``linkeddata.label_blocks`` says how, and how well."""
        return join_lines([(line.box, line.text) for line in self.lines])

    def regions(self) -> tuple[Region, ...]:
        """One per line; which lines are one label is said by the number of their block, from 1."""
        numbers = {line: number for number, block in enumerate(self.blocks(), start=1) for line in block.lines}
        return tuple(
            Region(
                box=line.box, text=line.text, score=line.score, label=line.writing,
                terms={"vasculum:writing": line.writing, "vasculum:block": numbers[place]},
            )
            for place, line in enumerate(self.lines)
        )  # fmt: skip

    def measured(self) -> Mapping[str, str]:
        """None."""
        return {}


def parse(document: dict[str, Json], image: ImageSize) -> LabelText:
    """A worker's body.

    Raises:
        DocumentError: it breaks the contract.
    """
    lines: list[ReadLine] = []
    total = 0
    for item in get_list(document, "lines", max_items=MAX_LINES):
        line = as_object(item, "a line")
        text = read_text(line, "text", max_chars=MAX_LINE_CHARS)
        total += len(text)
        writing = read_choice(line, "writing", ("print", "uncertain"))
        lines.append(ReadLine(text=text, score=read_score(line), box=read_box(line, image), writing=writing))
    if total > MAX_TEXT_CHARS:
        raise OutputRefused(f"more than {MAX_TEXT_CHARS} characters of text")
    return LabelText(
        image=image,
        lines=tuple(lines),
        readable=get_bool(document, "readable", default=False),
        doubts=read_doubts(document),
    )
