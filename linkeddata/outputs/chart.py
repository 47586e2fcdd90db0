"""``chart/1``: a chart of 24 colour patches, what its patches measure, and the matrix that corrects the colours."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from linkeddata.errors import OutputRefused
from linkeddata.json_strict import Json, as_object, get_list
from linkeddata.outputs.shape import (
    Box,
    ImageSize,
    Region,
    UnitAnswer,
    no_or_cannot_tell,
    read_box,
    read_decimal,
    read_doubts,
    read_score,
)

PATCHES: Final = (
    "dark skin", "light skin", "blue sky", "foliage", "blue flower", "bluish green",
    "orange", "purplish blue", "moderate red", "purple", "yellow green", "orange yellow",
    "blue", "green", "red", "yellow", "magenta", "cyan",
    "white", "neutral 8", "neutral 6.5", "neutral 5", "neutral 3.5", "black",
)  # fmt: skip
"""Names in the order of the chart, row by row."""
CORNERS: Final = 4
MATRIX: Final = 9
MAX_FACTOR: Final = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Patch:
    """One patch."""

    box: Box
    rgb: tuple[int, int, int]
    """Median, sRGB 0 to 255."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """``chart/1``."""

    image: ImageSize
    box: Box | None
    """Around the patches; None: there is no chart, and the members below are empty."""
    corners: tuple[tuple[int, int], ...]
    """Outer corners of the patches dark skin, bluish green, black and white: shows how it lies."""
    patches: tuple[Patch, ...]
    """24, in the order of ``PATCHES``."""
    matrix: tuple[str, ...]
    """Nine decimal texts, row by row: linear sRGB of the image to linear sRGB as published."""
    before: str
    """Mean CIEDE2000 between patches and published values; ``0`` without a chart."""
    after: str
    """The same after the matrix."""
    score: str
    doubts: tuple[str, ...]

    def answer(self, query: str | None) -> UnitAnswer:  # noqa: ARG002
        """*yes*: there is a chart."""
        if self.box is None:
            return no_or_cannot_tell(not self.doubts, self.doubts)
        values: dict[str, Json] = {"matrix": list(self.matrix), "differenceBefore": self.before}
        return UnitAnswer(answer="yes", values={**values, "differenceAfter": self.after})

    def regions(self) -> tuple[Region, ...]:
        """The chart, then its patches."""
        if self.box is None:
            return ()
        polygon = " ".join(f"{x},{y}" for x, y in self.corners)
        chart = Region(box=self.box, label="colour chart", score=self.score, polygon=polygon)
        named = zip(PATCHES, self.patches, strict=True)
        return (chart, *(Region(box=patch.box, label=name) for name, patch in named))

    def measured(self) -> Mapping[str, str]:
        """Differences before and after, and the matrix."""
        if self.box is None:
            return {}
        rows = {f"matrix{number // 3 + 1}{number % 3 + 1}": value for number, value in enumerate(self.matrix)}
        return {"differenceBefore": self.before, "differenceAfter": self.after, **rows}


def parse(document: dict[str, Json], image: ImageSize) -> Chart:
    """A worker's body.

    Raises:
        DocumentError: it breaks the contract.
    """
    is_there = document.get("box") is not None
    corners = tuple(_corner(item, image) for item in get_list(document, "corners", max_items=CORNERS))
    patches = tuple(_patch(as_object(item, "a patch"), image) for item in get_list(document, "patches", max_items=24))
    matrix = tuple(_factor(item) for item in get_list(document, "matrix", max_items=MATRIX))
    sizes = (len(corners), len(patches), len(matrix))
    if sizes != ((CORNERS, len(PATCHES), MATRIX) if is_there else (0, 0, 0)):
        raise OutputRefused("a chart has four corners, 24 patches and nine numbers; no chart has none")
    return Chart(
        image=image,
        box=read_box(document, image) if is_there else None,
        corners=corners,
        patches=patches,
        matrix=matrix,
        before=read_decimal(document, "before"),
        after=read_decimal(document, "after"),
        score=read_score(document),
        doubts=read_doubts(document),
    )


def _corner(item: Json, image: ImageSize) -> tuple[int, int]:
    if not isinstance(item, list) or len(item) != 2 or any(type(value) is not int for value in item):
        raise OutputRefused("a corner is [x, y] in whole pixels")
    x, y = item
    if not (0 <= x <= image.width and 0 <= y <= image.height):
        raise OutputRefused("a corner lies outside the image")
    return (x, y)


def _patch(document: dict[str, Json], image: ImageSize) -> Patch:
    values = get_list(document, "rgb", max_items=3)
    if len(values) != 3 or any(type(value) is not int or not 0 <= value <= 255 for value in values):
        raise OutputRefused("rgb is three whole numbers from 0 to 255")
    red, green, blue = values
    return Patch(box=read_box(document, image), rgb=(red, green, blue))


def _factor(item: Json) -> str:
    text = read_decimal({"factor": item}, "factor")
    if abs(float(text)) > MAX_FACTOR:
        raise OutputRefused(f"a number of the matrix is beyond {MAX_FACTOR}")
    return text
