"""Masks and outlines inside outputs: bounded, so that a result never carries the picture it is about.

A mask has at most 512 x 512 cells over the upright image, whatever the size of that, and is written as lengths of runs
(row by row, the first one is of what is *not* covered; lengths add up to the cells). An outline has whole pixels.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

from linkeddata.errors import OutputRefused
from linkeddata.json_strict import Json, get_int, get_list, get_object, get_str
from linkeddata.outputs.shape import ImageSize

MAX_MASK_SIDE: Final = 512
MAX_RUNS: Final = 20_000
"""A fir branch, the most intricate of our samples, has 15,000."""
MAX_CORNERS: Final = 120
_OUTLINE: Final = re.compile(rf"[0-9]{{1,6}},[0-9]{{1,6}}(?: [0-9]{{1,6}},[0-9]{{1,6}}){{2,{MAX_CORNERS - 1}}}\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mask:
    """Which cells of the image are covered."""

    width: int
    height: int
    runs: tuple[int, ...]

    @property
    def covered(self) -> int:
        """Covered cells."""
        return sum(self.runs[1::2])

    def rows(self) -> list[list[tuple[int, int]]]:
        """Per row, the covered stretches as (first, behind the last)."""
        found: list[list[tuple[int, int]]] = [[] for _ in range(self.height)]
        ends = list(accumulate(self.runs))
        for index in range(1, len(self.runs), 2):
            start, stop = ends[index - 1], ends[index]
            while start < stop:
                row = start // self.width
                end = min(stop, (row + 1) * self.width)
                found[row].append((start - row * self.width, end - row * self.width))
                start = end
        return found


def read_mask(document: Mapping[str, Json], name: str, image: ImageSize) -> Mask:
    """The member ``{"width", "height", "runs"}``.

    Raises:
        OutputRefused: larger than it may be or than the image, or the runs do not add up.
    """
    value = get_object(document, name)
    width = get_int(value, "width", low=1, high=min(MAX_MASK_SIDE, image.width))
    height = get_int(value, "height", low=1, high=min(MAX_MASK_SIDE, image.height))
    runs: list[int] = []
    for place, run in enumerate(get_list(value, "runs", max_items=MAX_RUNS)):
        if not isinstance(run, int) or isinstance(run, bool) or run < (place != 0):
            raise OutputRefused(f"{name}: runs are whole numbers above 0; the first may be 0")
        runs.append(run)
    if sum(runs) != width * height:
        raise OutputRefused(f"{name}: the runs do not add up to its cells")
    return Mask(width=width, height=height, runs=tuple(runs))


def read_outline(document: Mapping[str, Json], name: str, image: ImageSize) -> str:
    """Corners ``x,y x,y x,y``: 3 to 120, inside the image.

    Raises:
        OutputRefused: something else.
    """
    text = get_str(document, name, max_chars=14 * MAX_CORNERS)
    if not _OUTLINE.match(text):
        raise OutputRefused(f"{name} is 3 to {MAX_CORNERS} corners x,y in whole pixels")
    for corner in text.split(" "):
        x, _, y = corner.partition(",")
        if int(x) > image.width or int(y) > image.height:
            raise OutputRefused(f"{name} leaves the image")
    return text
