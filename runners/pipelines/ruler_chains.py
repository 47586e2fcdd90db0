"""Rows of equally spaced parallel strokes in a picture: what rulers are made of, whichever way they lie.

Straight edges come from the line segment detector (von Gioi et al. 2012, https://doi.org/10.5201/ipol.2012.gjmr-lsd).
An edge of one polarity belongs to each tick; from every edge a chain grows across its neighbours as long as the next
edge of the same polarity lies where the step so far says. Nothing here knows of units.

Invariants: deterministic; positions are pixels (x, y) of the picture given; work grows with the edges, not with the
pixels, and is bounded by ``MAX_SEGMENTS``.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import numpy as np

from runners.pipeline import Pixels

Vectors = np.ndarray[Any, np.dtype[np.float64]]

MAX_SEGMENTS: Final = 12_000
"""The strongest edges by length; a drawer of 800 labels has 10,000."""
MIN_LENGTH_PX: Final = 4.5
MIN_TICKS: Final = 6
MAX_TICKS: Final = 2_000
NEAREST: Final = 3
"""Neighbours tried as the next tick; the first is often half of a thick tick."""
REACH: Final = 7.0
"""How far the next tick may be, in lengths of the tick."""
MIN_STEP_PX: Final = 4.0
MAX_MISSES: Final = 2
ANGLE_TOLERANCE: Final = 0.21
"""Radians between neighbouring ticks; an edge of five pixels is drawn no better."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """Ticks ``index`` 0, 1, 2, .. (with gaps) at ``points`` along ``axis``, a unit vector; ``step`` pixels apart."""

    points: Vectors
    """(n, 2), where the axis crosses each tick."""
    index: np.ndarray[Any, np.dtype[np.int64]]
    starts: Vectors
    """(n,), from the axis to one end of each tick, pixels along the tick; negative."""
    ends: Vectors
    axis: Vectors
    step: float
    residual: float
    """Root mean square distance of the ticks from their places, in steps."""

    @property
    def count(self) -> int:
        """Ticks seen."""
        return len(self.index)

    @property
    def regularity(self) -> float:
        """Ticks seen, less for gaps and for uneven spacing: rulers come first."""
        return self.count * self.count / (int(self.index[-1]) + 1) * max(0.0, 1 - self.residual / 0.09)


def find_chains(grey: Pixels) -> list[Chain]:
    """Chains of at least ``MIN_TICKS`` ticks in a grey picture, longest first, near copies left out."""
    segments = _segments(grey)
    if len(segments) < MIN_TICKS:
        return []
    chains: list[Chain] = []
    height, width = grey.shape
    angles = np.arctan2(segments[:, 3] - segments[:, 1], segments[:, 2] - segments[:, 0])
    for octant in range(8):
        off = np.abs((angles - octant * np.pi / 4 + np.pi) % (2 * np.pi) - np.pi)
        chosen = segments[off < np.pi / 8 + ANGLE_TOLERANCE / 2]
        if len(chosen) >= MIN_TICKS:
            chains.extend(_Octant(chosen, width, height).chains())
    return _distinct(chains)


def _segments(grey: Pixels) -> Vectors:
    import cv2

    detector = cv2.createLineSegmentDetector(cv2.LSD_REFINE_STD)
    found = detector.detect(grey)[0]
    if found is None:
        return np.empty((0, 4))
    segments = np.asarray(found, dtype=np.float64).reshape(-1, 4)
    lengths = np.hypot(segments[:, 2] - segments[:, 0], segments[:, 3] - segments[:, 1])
    segments, lengths = segments[lengths >= MIN_LENGTH_PX], lengths[lengths >= MIN_LENGTH_PX]
    order = np.argsort(-lengths, kind="stable")[:MAX_SEGMENTS]
    return segments[order]


class _Octant:
    """The edges of one eighth of the circle, drawn into a map of their numbers."""

    def __init__(self, segments: Vectors, width: int, height: int) -> None:
        import cv2

        self.first, self.last = segments[:, :2], segments[:, 2:]
        self.middle = (self.first + self.last) / 2
        along = self.last - self.first
        self.length = np.hypot(along[:, 0], along[:, 1])
        self.along = along / self.length[:, None]
        self.across = np.stack([-self.along[:, 1], self.along[:, 0]], axis=1)
        self.width, self.height = width, height
        drawn = np.zeros((height, width), dtype=np.int32)
        ends = np.round(segments).astype(int)
        for number in range(len(segments)):  # short ones last: they lie on top
            a, b, c, d = (int(value) for value in ends[number])
            cv2.line(drawn, (a, b), (c, d), number + 1, 1)
        self.map = drawn

    def chains(self) -> Iterator[Chain]:
        used: set[tuple[int, int]] = set()
        for first, second in self._pairs():
            if (first, second) in used:
                continue
            grown = self._grow(first, second)
            if grown is None:
                continue
            numbers, index = grown
            used.update(pairwise(numbers))
            chain = self._fit(numbers, index)
            if chain is not None:
                yield chain

    def _pairs(self) -> Iterator[tuple[int, int]]:
        """Neighbours in the direction ``across`` from which a third is at its place."""
        count = len(self.length)
        reach = np.minimum(self.length * REACH, 400.0)
        near: list[list[int]] = [[] for _ in range(count)]
        for distance in range(int(MIN_STEP_PX) - 1, int(reach.max()) + 1):
            alive = np.flatnonzero(reach >= distance)
            hit = self._at(self.middle[alive] + distance * self.across[alive])
            for one, other in zip(alive[hit >= 0].tolist(), hit[hit >= 0].tolist(), strict=True):
                if other != one and other not in near[one] and len(near[one]) < NEAREST and self._alike(one, other):
                    near[one].append(other)
        pairs = [(one, other) for one in range(count) for other in near[one]]
        if not pairs:
            return
        ones, others = np.array(pairs).T
        step = ((self.middle[others] - self.middle[ones]) * self.across[ones]).sum(axis=1)
        third = np.full(len(ones), False)
        for slack in (0.0, -0.1, 0.1):
            target = self.middle[ones] + (2 + slack) * step[:, None] * self.across[ones]
            for shift in (-1.0, 0.0, 1.0):
                hit = self._at(target + shift * self.across[ones])
                third |= (hit >= 0) & (hit != others) & (hit != ones)
        for position in np.flatnonzero(third & (step >= MIN_STEP_PX)).tolist():
            yield pairs[position]

    def _at(self, points: Vectors) -> np.ndarray[Any, np.dtype[np.int64]]:
        x, y = np.round(points[:, 0]).astype(int), np.round(points[:, 1]).astype(int)
        inside = (x >= 0) & (y >= 0) & (x < self.width) & (y < self.height)
        found = np.zeros(len(points), dtype=np.int64)
        found[inside] = self.map[y[inside], x[inside]]
        return found - 1

    def _alike(self, one: int, other: int) -> bool:
        cosine = float(self.along[one] @ self.along[other])
        ratio = float(self.length[other] / self.length[one])
        return cosine > np.cos(ANGLE_TOLERANCE) and 0.3 < ratio < 3.4

    def _grow(self, first: int, second: int) -> tuple[list[int], list[int]] | None:
        numbers, index = [first, second], [0, 1]
        axis = self.across[first] * self.length[first] + self.across[second] * self.length[second]
        axis = axis / np.hypot(*axis)
        point = self._crossing(self.middle[first], axis, second)
        if point is None:
            return None
        start = self.middle[first]
        step = float((point - start) @ axis)
        misses = 0
        while misses <= MAX_MISSES and len(numbers) < MAX_TICKS:
            ahead = misses + 1
            hit = self._near(point + ahead * step * axis, axis, max(1.0, 0.13 * step), numbers[-1])
            if hit is None:
                if len(numbers) < 4:
                    return None
                misses += 1
                continue
            crossing = self._crossing(point, axis, hit)
            if crossing is None:
                misses += 1
                continue
            numbers.append(hit)
            index.append(index[-1] + ahead)
            misses = 0
            recent = numbers[-24:]
            weights = self.length[recent]
            axis = (self.across[recent] * weights[:, None]).sum(axis=0)
            axis = axis / np.hypot(*axis)
            if 0.75 < self.length[hit] / self.length[numbers[-2]] < 1.33:
                pull = (self.middle[hit] - crossing) @ self.along[hit]
                crossing = crossing + 0.4 * pull * self.along[hit]
            point = crossing
            step = float(abs((point - start) @ axis)) / index[-1]
        if len(numbers) < MIN_TICKS:
            return None
        return numbers, index

    def _near(self, point: Vectors, axis: Vectors, slack: float, last: int) -> int | None:
        offsets = np.arange(0.0, slack + 0.5, 1.0)
        offsets = np.unique(np.concatenate([offsets, -offsets]))
        offsets = offsets[np.argsort(np.abs(offsets), kind="stable")]
        for hit in self._at(point + offsets[:, None] * axis).tolist():
            if hit >= 0 and hit != last and self._alike(last, hit):
                return int(hit)
        return None

    def _crossing(self, origin: Vectors, axis: Vectors, number: int) -> Vectors | None:
        """Where the line from ``origin`` along ``axis`` crosses an edge."""
        denominator = float(axis @ self.across[number])
        if abs(denominator) < 0.5:
            return None
        distance = float((self.middle[number] - origin) @ self.across[number]) / denominator
        crossed: Vectors = origin + distance * axis
        return crossed

    def _fit(self, numbers: list[int], index: list[int]) -> Chain | None:
        places = np.array(index, dtype=np.int64)
        middles = self.middle[numbers]
        weights = self.length[numbers]
        typical = np.median(weights)
        alike = np.abs(weights - typical) < 0.3 * typical
        if alike.sum() < 3:
            alike[:] = True
        line = middles[alike]
        centre = line.mean(axis=0)
        across = (self.across[numbers] * weights[:, None]).sum(axis=0)
        across = across / np.hypot(*across)
        _, _, directions = np.linalg.svd(line - centre)
        axis = directions[0] if directions[0] @ across > 0 else -directions[0]
        if axis @ across < 0.97:
            return None
        along = np.array([axis[1], -axis[0]])
        points = []
        for number in numbers:
            crossing = self._crossing(centre, axis, number)
            if crossing is None:
                return None
            points.append(crossing)
        crossings = np.array(points)
        position = (crossings - centre) @ axis
        step, start = np.polyfit(places, position, 1)
        residual = float(np.sqrt(np.mean((position - start - step * places) ** 2))) / max(step, 1e-6)
        if step < MIN_STEP_PX or residual > 0.08:
            return None
        one, other = (self.first[numbers] - centre) @ along, (self.last[numbers] - centre) @ along
        return Chain(
            points=crossings, index=places, starts=np.minimum(one, other), ends=np.maximum(one, other), axis=axis,
            step=float(step), residual=residual,
        )  # fmt: skip


def _distinct(chains: list[Chain]) -> list[Chain]:
    """Longest first; of chains over the same place with the same step, one."""
    chains = sorted(chains, key=lambda chain: (-chain.regularity, tuple(chain.points[0].tolist())))
    kept: list[Chain] = []
    for chain in chains:
        if not any(_covers(other, chain) for other in kept):
            kept.append(chain)
    return kept


def _covers(other: Chain, chain: Chain) -> bool:
    if abs(other.step / chain.step - 1) > 0.03 or abs(float(other.axis @ chain.axis)) < 0.98:
        return False
    centre = chain.points.mean(axis=0)
    inner = (other.points - other.points.mean(axis=0)) @ other.axis
    offset = centre - other.points.mean(axis=0)
    at = float(offset @ other.axis)
    beside = abs(float(offset @ np.array([other.axis[1], -other.axis[0]])))
    reach = max(float(np.median(other.ends - other.starts)), float(np.median(chain.ends - chain.starts)))
    return bool(inner.min() - other.step <= at <= inner.max() + other.step and beside < reach)
