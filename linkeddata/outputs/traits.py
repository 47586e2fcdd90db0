"""``traits/1``: sizes, shapes and colours of the specimens on an image, and on what each number rests."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from linkeddata.errors import OutputRefused
from linkeddata.json_strict import Json, as_object, get_list, get_str, get_strings
from linkeddata.outputs.masks import read_outline
from linkeddata.outputs.shape import (
    Box,
    ImageSize,
    Region,
    UnitAnswer,
    check_text,
    no_or_cannot_tell,
    read_box,
    read_choice,
    read_decimal,
    read_doubts,
    read_score,
)

UNITS: Final = ("px", "mm")
SIZES: Final = ("length", "width", "perimeter", "area")
"""In the unit; area in its square."""
MAX_SPECIMENS: Final = 20
MAX_COLOURS: Final = 5
MAX_REASONS: Final = 6
_COLOUR: Final = re.compile(r"#[0-9a-f]{6}\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Colour:
    """A colour and how much of the specimen has it."""

    rgb: str
    """``#rrggbb`` (sRGB)."""
    share: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Specimen:
    """One specimen."""

    box: Box
    rectangle: str
    """Corners of the least turned rectangle, in pixels."""
    length: str
    """Longer side of that rectangle."""
    width: str
    """Its shorter side."""
    perimeter: str
    """Of its outer edge, at the fineness of the mask: finer masks give longer edges."""
    area: str
    solidity: str
    """Area over the area of its convex hull, 0 to 1."""
    colours: tuple[Colour, ...]
    """The most frequent first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Traits:
    """``traits/1``."""

    image: ImageSize
    unit: str
    """``mm`` where the scale is known, else ``px``."""
    px_per_mm: str
    """Decimal text; ``0`` where the scale is not known."""
    specimens: tuple[Specimen, ...]
    """The largest first."""
    rests_on: tuple[str, ...]
    """What the numbers were taken from, in sentences for people."""
    doubts: tuple[str, ...]

    def answer(self, query: str | None) -> UnitAnswer:  # noqa: ARG002 - numbers, no text
        """*yes*: something was measured. Never *no*: a specimen that is not seen may be there."""
        if not self.specimens:
            return no_or_cannot_tell(is_certain=False, doubts=self.doubts)
        return UnitAnswer(answer="yes", values={"unit": self.unit, "measures": dict[str, Json](self.measured())})

    def regions(self) -> tuple[Region, ...]:
        """One per specimen, with its rectangle."""
        return tuple(
            Region(
                box=item.box, label=f"{item.length} x {item.width} {self.unit}", polygon=item.rectangle,
                terms={
                    "vasculum:unit": self.unit, "vasculum:length": item.length, "vasculum:breadth": item.width,
                    "vasculum:area": item.area,
                },
            )
            for item in self.specimens
        )  # fmt: skip

    def measured(self) -> Mapping[str, str]:
        """Of the largest specimen, in the unit."""
        if not self.specimens:
            return {}
        first = self.specimens[0]
        square = "mm2" if self.unit == "mm" else "px2"
        return {
            f"length_{self.unit}": first.length, f"width_{self.unit}": first.width,
            f"perimeter_{self.unit}": first.perimeter, f"area_{square}": first.area, "solidity": first.solidity,
        }  # fmt: skip


def parse(document: dict[str, Json], image: ImageSize) -> Traits:
    """A worker's body.

    Raises:
        DocumentError: it breaks the contract.
    """
    unit, px_per_mm = read_choice(document, "unit", UNITS), read_decimal(document, "px_per_mm")
    if (unit == "mm") is not (float(px_per_mm) > 0):
        raise OutputRefused("millimetres and a scale go together")
    specimens = [
        _specimen(as_object(item, "a specimen"), image)
        for item in get_list(document, "specimens", max_items=MAX_SPECIMENS)
    ]
    doubts = read_doubts(document)
    if not specimens and not doubts:
        raise OutputRefused("where nothing was measured it is said why")
    reasons = get_strings(document, "rests_on", max_items=MAX_REASONS, max_chars=200)
    return Traits(
        image=image, unit=unit, px_per_mm=px_per_mm, specimens=tuple(specimens),
        rests_on=tuple(check_text(item, "rests_on") for item in reasons), doubts=doubts,
    )  # fmt: skip


def _specimen(item: dict[str, Json], image: ImageSize) -> Specimen:
    sizes = {name: read_decimal(item, name) for name in SIZES}
    if any(float(value) < 0 for value in sizes.values()):
        raise OutputRefused("a size is not below 0")
    colours: list[Colour] = []
    for entry in get_list(item, "colours", max_items=MAX_COLOURS):
        colour = as_object(entry, "a colour")
        rgb = get_str(colour, "rgb", max_chars=7)
        if not _COLOUR.match(rgb):
            raise OutputRefused("a colour is #rrggbb")
        colours.append(Colour(rgb=rgb, share=read_score(colour, "share")))
    return Specimen(
        box=read_box(item, image), rectangle=read_outline(item, "rectangle", image), length=sizes["length"],
        width=sizes["width"], perimeter=sizes["perimeter"], area=sizes["area"], solidity=read_score(item, "solidity"),
        colours=tuple(colours),
    )  # fmt: skip
