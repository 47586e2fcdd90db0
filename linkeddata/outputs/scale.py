"""``scale/1``: pixels per millimetre on the plane of the specimen, read from a ruler on the image; or why not."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from linkeddata.errors import OutputRefused
from linkeddata.json_strict import Json, get_int
from linkeddata.outputs.shape import (
    Box,
    ImageSize,
    Region,
    UnitAnswer,
    no_or_cannot_tell,
    read_box,
    read_choice,
    read_decimal,
    read_doubts,
    read_score,
)

UNITS: Final = ("", "mm", "in")
MARKS: Final = ("", "1 mm", "1 mm, tens", "0.5 mm", "1/8 in", "1/16 in", "1/32 in", "divided cm", "divided in")
"""By what the unit was known: the pattern of the lengths of the ticks, or the one unit that is divided."""
CHECKS: Final = ("", "chart")
MAX_PX_PER_MM: Final = 10_000
MAX_RULERS: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """``scale/1``."""

    image: ImageSize
    px_per_mm: str
    """Decimal text; ``0`` where there is no answer."""
    unit: str
    """System of the ruler, ``mm`` or ``in``; empty where there is no answer."""
    marks: str
    """By what the unit was known."""
    score: str
    rulers: int
    """Rows of ticks that agree."""
    box: Box | None
    """Of the ticks; None where there is no answer."""
    doubts: tuple[str, ...]
    checked_by: str = ""
    """What else on the image says the same: ``chart``, or nothing."""

    @property
    def is_known(self) -> bool:
        """Whether there is an answer."""
        return self.box is not None

    def answer(self, query: str | None) -> UnitAnswer:  # noqa: ARG002
        """*yes*: the scale is known. Never *no*: a ruler that is not seen may be there."""
        if not self.is_known:
            return no_or_cannot_tell(is_certain=False, doubts=self.doubts)
        values: dict[str, Json] = {"pixelsPerMillimetre": self.px_per_mm, "unit": self.unit, "score": self.score}
        return UnitAnswer(answer="yes", values=values)

    def regions(self) -> tuple[Region, ...]:
        """The ruler."""
        if self.box is None:
            return ()
        terms: dict[str, Json] = {"vasculum:pixelsPerMillimetre": self.px_per_mm}
        checked = f"; the {self.checked_by} agrees" if self.checked_by else ""
        label = f"ruler, {self.px_per_mm} px/mm ({self.marks}{checked})"
        return (Region(box=self.box, label=label, score=self.score, terms=terms),)

    def measured(self) -> Mapping[str, str]:
        """Pixels per millimetre."""
        return {"pixelsPerMillimetre": self.px_per_mm} if self.is_known else {}


def parse(document: dict[str, Json], image: ImageSize) -> Scale:
    """A worker's body.

    Raises:
        DocumentError: it breaks the contract.
    """
    px_per_mm = read_decimal(document, "px_per_mm")
    value = float(px_per_mm)
    unit, marks = read_choice(document, "unit", UNITS), read_choice(document, "marks", MARKS)
    is_known = value != 0
    if not 0 <= value <= MAX_PX_PER_MM:
        raise OutputRefused(f"px_per_mm is from 0 to {MAX_PX_PER_MM}")
    if not is_known == bool(unit) == bool(marks) == (document.get("box") is not None):
        raise OutputRefused("px_per_mm, unit, marks and box go together")
    doubts = read_doubts(document)
    if not is_known and not doubts:
        raise OutputRefused("a scale that is not known says why")
    return Scale(
        image=image,
        px_per_mm=px_per_mm,
        unit=unit,
        marks=marks,
        score=read_score(document),
        rulers=get_int(document, "rulers", low=0, high=MAX_RULERS),
        box=read_box(document, image) if is_known else None,
        doubts=doubts,
        checked_by=read_choice(document, "checked_by", CHECKS) if "checked_by" in document else "",
    )
