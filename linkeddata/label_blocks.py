"""Lines of text joined to label blocks: what stands close together, in letters of like size, is one label.

Derived from the lines of ``label-text/1`` alone: the same wherever it is computed, and older results have it too.
Measured on 110 transcribed blocks of 59 images, on which the three numbers were also chosen: of the pairs of lines put
into one block 96 % belong together, of those that belong together 87 % are in one block; 77 blocks come out exactly.
A label with wide gaps falls into several blocks; two labels glued side by side without a gap become one.

It leaves out: paper edges, and what a block is about.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

Box = tuple[int, int, int, int]

GAP_BELOW: Final = 2.0
"""Lines under each other: so many heights of the smaller line may be empty between them."""
GAP_BESIDE: Final = 2.0
"""Parts of one line: so many heights of the larger one may be empty between them."""
SIZE_RATIO: Final = 2.0
"""Heights of letters in one block differ at most so much."""
OVERLAP: Final = 0.1
"""Lines under each other share this part of the shorter one's width."""
SAME_ROW: Final = 0.5
STANDING_RATIO: Final = 1.5
"""A line so much higher than wide stands on its side."""
STANDING_CHARS: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Lines that belong together."""

    lines: tuple[int, ...]
    """Places in the list of lines, ascending."""
    box: Box
    """Around all of them, pixels of the upright image."""


def join_lines(lines: Sequence[tuple[Box, str]]) -> tuple[Block, ...]:
    """Every line in exactly one block; blocks in the order of their first lines.

    Args:
        lines: box and text of each line.
    """
    standing = [len(text) >= STANDING_CHARS and box[3] > STANDING_RATIO * box[2] for box, text in lines]
    flat = [
        (box[1], box[0], box[3], box[2]) if is_standing else box
        for (box, _), is_standing in zip(lines, standing, strict=True)
    ]
    first = list(range(len(lines)))
    for one in range(len(lines)):
        for two in range(one + 1, len(lines)):
            if standing[one] == standing[two] and _belong(flat[one], flat[two]):
                low, high = sorted((_root(first, one), _root(first, two)))
                first[high] = low
    members: dict[int, list[int]] = {}
    for number in range(len(lines)):
        members.setdefault(_root(first, number), []).append(number)
    return tuple(
        Block(lines=tuple(numbers), box=_around([lines[number][0] for number in numbers]))
        for _, numbers in sorted(members.items())
    )


def _root(first: list[int], number: int) -> int:
    while first[number] != number:
        number = first[number]
    return number


def _belong(one: Box, two: Box) -> bool:
    x, y, w, h = one
    other_x, other_y, other_w, other_h = two
    small, large = min(h, other_h), max(h, other_h)
    if large > SIZE_RATIO * small:
        return False
    gap_down = max(y, other_y) - min(y + h, other_y + other_h)
    gap_across = max(x, other_x) - min(x + w, other_x + other_w)
    is_below = gap_down <= GAP_BELOW * small and -gap_across >= OVERLAP * min(w, other_w)
    is_beside = -gap_down >= SAME_ROW * small and gap_across <= GAP_BESIDE * large
    return is_below or is_beside


def _around(boxes: Sequence[Box]) -> Box:
    left, top = min(box[0] for box in boxes), min(box[1] for box in boxes)
    right, bottom = max(box[0] + box[2] for box in boxes), max(box[1] + box[3] for box in boxes)
    return left, top, right - left, bottom - top
