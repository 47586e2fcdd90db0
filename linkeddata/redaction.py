"""What is blacked out on a picture of a sensitive specimen, decided from what was read on that very picture.

Labels tell the place. Where this node has read the labels of a picture, and is sure of every line, the labels can be
covered. Lines are grown, joined to blocks and snapped to a coarse grid: how long a word is, and how many lines a label
has, would tell which of a few places it names.

Invariants:
- Pure. Whatever is not sure is a reason not to cover at all (``Uncoverable``): what a reader of labels is unsure of, it
  may have missed a part of.
- Covered is what any reading ever found, codes and whole labels included; the newest reading of the labels decides
  whether it is sure.
- The digest changes exactly when other pixels are covered.

It leaves out: covering (``runners.libvips``), which results there are (``node.storage.redactions``), that a person must
have looked before anything is given out (``node.services.redactions``).
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from linkeddata.canon import canonical_bytes
from linkeddata.outputs import Barcodes, Box, ImageSize, LabelText, Output
from linkeddata.outputs.objects import Objects

LABELS: Final = "label-text/1"
CODES: Final = "barcode/1"
OBJECTS: Final = "objects/1"
WRITTEN_ON: Final = frozenset({"label", "barcode", "stamp"})
"""Kinds of objects that are covered, whether or not a line was read on them."""
FORM: Final = 1
"""Goes up when pictures are covered in another way: what people looked at before is not that any more."""
GROW_LINES: Final = 2.0
"""A line of text is covered with so many of its heights around it: ascenders, a number beside it, a line in pencil."""
GROW_SHARE: Final = 0.02
"""And at least with this share of the longer side."""
GRID_CELLS: Final = 48
"""Cells along the longer side to which covers are snapped: on a sheet of 45 cm about one centimetre."""
MOST_COVERED: Final = 0.75
"""Share of the picture from which on nothing worth showing is left."""


class Uncoverable(Exception):
    """The labels of this picture cannot be covered surely; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What one pipeline found on a picture."""

    contract: str
    at: str
    """When, as sortable text."""
    image: ImageSize
    boxes: tuple[Box, ...]
    """Of lines and codes: x, y, width, height in pixels of the upright picture."""
    areas: tuple[Box, ...] = ()
    """Of whole labels, codes and stamps."""
    unsure: str = ""
    """Why it cannot be relied on; empty: it can."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Redaction:
    """What is covered of one picture."""

    image: str
    """SHA-256 of the original, hex."""
    width: int
    height: int
    """Of the upright picture, pixels."""
    boxes: tuple[Box, ...]
    """Apart from each other, inside the picture, sorted."""

    @property
    def digest(self) -> str:
        """SHA-256 (hex) over everything that decides which pixels are covered."""
        return hashlib.sha256(
            canonical_bytes([FORM, self.image, self.width, self.height, [list(box) for box in self.boxes]])
        ).hexdigest()

    @property
    def share(self) -> float:
        """Of the picture that is covered, 0 to 1."""
        return sum(w * h for _, _, w, h in self.boxes) / (self.width * self.height)


def reading_of(output: Output, *, at: str, unsure: str = "") -> Reading | None:
    """A work result as a reading; None for results that find neither text nor codes nor what bears them.

    Args:
        output: the result.
        at: when it was made.
        unsure: a reason beside the result not to rely on it.
    """
    match output:
        case LabelText():
            return Reading(
                contract=LABELS, at=at, image=output.image, boxes=tuple(line.box for line in output.lines),
                unsure=unsure or _doubt(output),
            )  # fmt: skip
        case Barcodes():
            return Reading(contract=CODES, at=at, image=output.image, boxes=tuple(code.box for code in output.codes))
        case Objects():
            areas = tuple(item.box for item in output.objects if item.kind in WRITTEN_ON)
            return Reading(contract=OBJECTS, at=at, image=output.image, boxes=(), areas=areas)
        case _:
            return None


def areas_of_statement(document: Mapping[str, Any]) -> tuple[Box, ...]:
    """The labels, codes and stamps in a statement about the objects on a picture."""
    regions = [item for item in document.get("vasculum:hasRegion", []) if item.get("vasculum:class") in WRITTEN_ON]
    return boxes_of_statement({"vasculum:hasRegion": regions})


def boxes_of_statement(document: Mapping[str, Any]) -> tuple[Box, ...]:
    """The regions of a statement about a picture, by whomever."""
    return tuple(
        (item["vasculum:x"], item["vasculum:y"], item["vasculum:width"], item["vasculum:height"])
        for item in document.get("vasculum:hasRegion", [])
    )


def plan_redaction(
    readings: Sequence[Reading],
    more: Iterable[Box] = (),
    more_areas: Iterable[Box] = (),
    *,
    image: str,
    width: int,
    height: int,
) -> Redaction:
    """What is to be covered.

    Args:
        readings: every reading of this picture that is known.
        more: boxes of lines and codes that somebody stated besides.
        more_areas: the same of whole labels.
        image: SHA-256 of the picture, hex.
        width: of the upright picture, pixels.
        height: the same.

    Raises:
        Uncoverable: not all of it can be covered surely.
    """
    labels = [reading for reading in readings if reading.contract == LABELS]
    if not labels:
        raise Uncoverable("its labels were not read by this node")
    newest = max(labels, key=lambda reading: reading.at)
    if newest.unsure:
        raise Uncoverable(newest.unsure)
    if any((item.image.width, item.image.height) != (width, height) for item in readings):
        raise Uncoverable("its labels were read on a picture of another size")
    found = [*(box for reading in readings for box in reading.boxes), *more]
    areas = [*(box for reading in readings for box in reading.areas), *more_areas]
    redaction = Redaction(image=image, width=width, height=height, boxes=cover(found, width, height, areas=areas))
    if redaction.share > MOST_COVERED:
        raise Uncoverable(f"{redaction.share:.0%} of it would be covered: hardly anything is left")
    return redaction


def cover(boxes: Iterable[Box], width: int, height: int, *, areas: Iterable[Box] = ()) -> tuple[Box, ...]:
    """Boxes grown, joined where they touch, and snapped outwards to the grid.

    Args:
        boxes: of lines and codes, pixels.
        width: of the picture.
        height: the same.
        areas: of whole labels: they have no height of a line, and get the least margin.
    """
    cell = max(1, -(-max(width, height) // GRID_CELLS))
    least = GROW_SHARE * max(width, height)
    blocks: list[tuple[int, int, int, int]] = []
    """left, top, right, bottom in cells."""
    grown = [(box, int(max(least, GROW_LINES * min(box[2:])))) for box in boxes]
    for (x, y, w, h), grow in [*grown, *((box, int(least)) for box in areas)]:
        blocks.append((
            max(0, x - grow) // cell, max(0, y - grow) // cell,
            -(-min(width, x + w + grow) // cell), -(-min(height, y + h + grow) // cell),
        ))  # fmt: skip
    return tuple(
        (left * cell, top * cell, min(width, right * cell) - left * cell, min(height, bottom * cell) - top * cell)
        for left, top, right, bottom in sorted(_joined(blocks))
    )


def _joined(blocks: list[tuple[int, int, int, int]]) -> list[tuple[int, int, int, int]]:
    """Blocks that touch become the one that holds both, until none touch."""
    apart: list[tuple[int, int, int, int]] = []
    todo = list(blocks)
    while todo:
        one = todo.pop()
        touching = [other for other in apart if _touch(one, other)]
        if not touching:
            apart.append(one)
            continue
        apart = [other for other in apart if other not in touching]
        both = [one, *touching]
        todo.append((
            min(item[0] for item in both), min(item[1] for item in both),
            max(item[2] for item in both), max(item[3] for item in both),
        ))  # fmt: skip
    return apart


def _touch(one: tuple[int, int, int, int], other: tuple[int, int, int, int]) -> bool:
    return one[0] <= other[2] and other[0] <= one[2] and one[1] <= other[3] and other[1] <= one[3]


def _doubt(text: LabelText) -> str:
    if text.doubts:
        return f"the reading of its labels has doubts: {text.doubts[0]}"
    if not text.readable:
        return "its labels could not be read"
    unsure = sum(line.writing != "print" for line in text.lines)
    if unsure:
        return f"{unsure} of {len(text.lines)} lines of its labels are uncertain (handwriting, or hard to read)"
    return ""
