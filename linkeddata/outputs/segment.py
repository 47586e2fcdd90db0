"""``segment/1``: where the specimen is: a mask of at most 512 cells a side, outlines of its pieces, certainty."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from linkeddata.errors import OutputRefused
from linkeddata.json_strict import Json, as_object, get_bool, get_list
from linkeddata.outputs.masks import Mask, read_mask, read_outline
from linkeddata.outputs.shape import (
    Box,
    ImageSize,
    Region,
    UnitAnswer,
    no_or_cannot_tell,
    read_box,
    read_doubts,
    read_score,
)

MAX_PIECES: Final = 20
"""Outlines; smaller pieces are in the mask only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A connected piece of a specimen."""

    box: Box
    outline: str
    """Its outer edge, simplified: ``x,y x,y x,y`` in pixels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """``segment/1``."""

    image: ImageSize
    found: bool
    box: Box
    """Around the whole mask; of the whole image where nothing was found."""
    share: str
    """Covered share of the image, 0.000 to 1.000."""
    score: str
    """Mean certainty of the covered cells."""
    steadiness: str
    """Cells that are surely specimen as a share of those that might be: low where it is thin or pale."""
    mask: Mask
    pieces: tuple[Piece, ...]
    """The largest first."""
    doubts: tuple[str, ...]

    def answer(self, query: str | None) -> UnitAnswer:  # noqa: ARG002 - a mask has no text
        """Whether there is a specimen."""
        if not self.found:
            return no_or_cannot_tell(not self.doubts, self.doubts)
        values: dict[str, Json] = {"box": list(self.box), "pieces": len(self.pieces), **self.measured()}
        return UnitAnswer(answer="yes", values=values)

    def regions(self) -> tuple[Region, ...]:
        """One per piece, with its outline."""
        return tuple(
            Region(box=piece.box, label="specimen", score=self.score, polygon=piece.outline) for piece in self.pieces
        )

    def measured(self) -> Mapping[str, str]:
        """Share, certainty, steadiness."""
        return {"areaShare": self.share, "certainty": self.score, "steadiness": self.steadiness}


def parse(document: dict[str, Json], image: ImageSize) -> Segment:
    """A worker's body.

    Raises:
        DocumentError: it breaks the contract.
    """
    pieces: list[Piece] = []
    for item in get_list(document, "pieces", max_items=MAX_PIECES):
        piece = as_object(item, "a piece")
        pieces.append(Piece(box=read_box(piece, image), outline=read_outline(piece, "outline", image)))
    found = get_bool(document, "found", default=False)
    mask = read_mask(document, "mask", image)
    if found is not (mask.covered > 0):
        raise OutputRefused("found says something else than the mask")
    return Segment(
        image=image, found=found, box=read_box(document, image), share=read_score(document, "share"),
        score=read_score(document), steadiness=read_score(document, "steadiness"), mask=mask, pieces=tuple(pieces),
        doubts=read_doubts(document),
    )  # fmt: skip
