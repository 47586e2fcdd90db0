"""What two images have to do with each other, by their fingerprints. Pure.

Verdicts, from certain to less so:

- ``same bytes``: one content id; nothing is compared.
- ``same picture``: resized, compressed again, turned or mirrored. At most ``SAME`` bits apart.
- ``crop``: one is the middle of the other. At most ``CUT`` bits from the hash of that middle, and nearer to it than to
  the whole by ``CLEARLY``.
- ``re-scan``: the same thing photographed again, or a picture changed more than the above. At most ``AGAIN`` bits.
  Two labels of one layout come as near as that, so it is a question to a person, not a finding.

Where a picture has too little in it (``quality`` below ``LITTLE``) nothing is said.
The numbers were chosen with the distances of 96 sample images in view; ``docs/pipelines/duplicates.md`` gives them.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from linkeddata.outputs.duplicates import CUTS, Fingerprints

Verdict = Literal["same bytes", "same picture", "crop", "re-scan"]

SAME: Final = 36
CUT: Final = 24
CLEARLY: Final = 10
AGAIN: Final = 46
LITTLE: Final = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Relation:
    """What two images have to do with each other."""

    verdict: Verdict
    bits: int
    """In which the hashes that decided differ, of 256."""
    turned: int = 0
    """Which turn or mirror image of the first the second is (``linkeddata.outputs.duplicates.TURNS``); 0: none."""
    part: str = ""
    """``crop``: the part of each side that is left."""
    cut_is: Literal["", "first", "second"] = ""
    """``crop``: which one is the part."""


def compare(one: Fingerprints, other: Fingerprints) -> Relation | None:
    """What the second is of the first; None: nothing that shows, or too little to tell."""
    if one.quality < LITTLE or other.quality < LITTLE:
        return None
    turn, whole = _nearest(one.turned, other.turned[0])
    best_cut = min(
        ((*_nearest(one.cut, other.turned[0]), "second"), (*_nearest(other.cut, one.turned[0]), "first")),
        key=lambda item: item[1],
    )
    part, bits, which = best_cut
    if bits <= CUT and bits + CLEARLY <= whole:
        return Relation(verdict="crop", bits=bits, part=CUTS[part], cut_is="second" if which == "second" else "first")
    if whole <= SAME:
        return Relation(verdict="same picture", bits=whole, turned=turn)
    if whole <= AGAIN:
        return Relation(verdict="re-scan", bits=whole, turned=turn)
    return None


def near_pairs(prints: Mapping[str, Fingerprints]) -> Iterator[tuple[str, str, Relation]]:
    """Every pair of images that have to do with each other, in the order of their ids (the lower id first)."""
    names = sorted(prints)
    for place, name in enumerate(names):
        for other in names[place + 1 :]:
            found = compare(prints[name], prints[other])
            if found is not None:
                yield name, other, found


def distance(one: str, other: str) -> int:
    """Bits in which two hashes differ, 0 to 256; unrelated pictures differ in about 128."""
    return (int(one, 16) ^ int(other, 16)).bit_count()


def _nearest(hashes: tuple[str, ...], wanted: str) -> tuple[int, int]:
    bits = [distance(item, wanted) for item in hashes]
    nearest = min(bits)
    return bits.index(nearest), nearest
