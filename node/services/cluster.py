"""Groups of images (or of regions) that look alike: connected components of mutual near neighbours.

Two are joined when each is among the ``NEIGHBOURS`` nearest of the other and their cosine reaches the threshold.
Deterministic: no random start, no number of groups to be guessed; the same vectors give the same groups.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

NEIGHBOURS: Final = 10
THRESHOLD: Final = 0.7
"""Cosine. Sheets of one camera have 0.4 to 0.6 among each other, labels of one print 0.8, and 0.9 when they say nearly
the same (measured on sample images)."""
REGIONS_THRESHOLD: Final = 0.85
"""The same for regions: of 633 objects on 96 sample images, 0.7 chains things of all kinds into one group of 197; at
0.85, 94 % of the members are of the main kind of their group, and the largest group has ten."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbour:
    """One near thing, and how near it is."""

    name: str
    score: float
    """Cosine."""


def groups(near: Mapping[str, Sequence[Neighbour]], *, threshold: float = THRESHOLD) -> list[tuple[str, ...]]:
    """Groups of at least two, the largest first; members sorted.

    Args:
        near: for every name its nearest others.
        threshold: least cosine of two that are joined.
    """
    close = {name: {item.name for item in items if item.score >= threshold} for name, items in near.items()}
    parent = {name: name for name in near}

    def root(name: str) -> str:
        while parent[name] != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    for name in sorted(close):
        for other in sorted(close[name]):
            if name in close.get(other, ()):
                first, second = sorted((root(name), root(other)))
                parent[second] = first
    found: dict[str, list[str]] = {}
    for name in sorted(near):
        found.setdefault(root(name), []).append(name)
    return sorted((tuple(item) for item in found.values() if len(item) > 1), key=lambda item: (-len(item), item))
