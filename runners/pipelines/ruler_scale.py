"""The scale of a picture from the rulers on it: chains, their units, and whether they agree.

Two readings that disagree are no answer: the reason is said instead. Pure: pixels in, a finding out.
"""

import dataclasses
from dataclasses import dataclass
from typing import Final

import numpy as np

from runners.pipeline import Pixels
from runners.pipelines.ruler_chains import Chain, find_chains
from runners.pipelines.ruler_units import Reading, read_chain

SIDES_PX: Final = (2000, 3600)
"""Longer side of the copy on which ticks are looked for; the second one only if the first shows no ruler."""
ENLARGED: Final = 2.0
"""Small pictures are enlarged: ticks of five pixels are too short for the segment detector."""
MAX_CHAINS: Final = 120
AGREE: Final = 0.02
"""Relative difference up to which two readings say the same."""
WEAK: Final = 0.6
"""A reading with less than this share of the best score does not count against it."""
MAX_BEND: Final = 0.03
"""A ruler whose halves differ by more lies askew to the camera: there is no one scale."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What the rulers say."""

    best: Reading | None
    px_per_mm: float
    """0 where there is no answer."""
    score: float
    agreeing: tuple[Reading, ...]
    reason: str
    """Why there is no answer; empty where there is one."""


def find_scale(grey: Pixels) -> Finding:
    """Scale of an upright grey picture, pixels per millimetre on the plane of the ruler."""
    readings: list[Reading] = []
    seen = 0
    longest = max(grey.shape)
    for side in SIDES_PX:
        if side != SIDES_PX[0] and longest <= SIDES_PX[0] * 1.2:
            break
        chains = _chains(grey, min(ENLARGED, side / longest))
        seen = max(seen, len(chains))
        readings = [reading for chain in chains if (reading := read_chain(grey, chain, chains)) is not None]
        if readings:
            break
    return _agree(readings, seen)


def _chains(grey: Pixels, scale: float) -> list[Chain]:
    import cv2

    size = (max(1, round(grey.shape[1] * scale)), max(1, round(grey.shape[0] * scale)))
    copy = cv2.resize(grey, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    factor = np.array([size[0] / grey.shape[1], size[1] / grey.shape[0]])
    mean = float(factor.mean())
    return [
        dataclasses.replace(
            chain,
            points=(chain.points + 0.5) / factor - 0.5,
            starts=chain.starts / mean,
            ends=chain.ends / mean,
            step=chain.step / mean,
        )
        for chain in find_chains(copy)[:MAX_CHAINS]
    ]


def _agree(readings: list[Reading], seen: int) -> Finding:
    if not readings:
        reason = "no ruler found" if not seen else "rows of equal strokes, but none with the marks of a ruler"
        return Finding(best=None, px_per_mm=0.0, score=0.0, agreeing=(), reason=reason)
    readings = sorted(readings, key=lambda reading: (-reading.score, -reading.ticks, reading.px_per_mm))
    best = readings[0]
    agreeing = tuple(item for item in readings if abs(item.px_per_mm / best.px_per_mm - 1) <= AGREE)
    against = [item for item in readings if item not in agreeing and item.score >= WEAK * best.score]
    if against:
        values = sorted({f"{item.px_per_mm:.3f}" for item in (best, *against)})[:3]
        reason = f"the rulers disagree: {' and '.join(values)} px/mm"
        return Finding(best=best, px_per_mm=0.0, score=0.0, agreeing=agreeing, reason=reason)
    if best.bend > MAX_BEND:
        reason = "the ruler lies askew to the camera: its ends have different scales"
        return Finding(best=best, px_per_mm=0.0, score=0.0, agreeing=agreeing, reason=reason)
    weights = np.array([item.ticks * item.score for item in agreeing])
    value = float(np.average([item.px_per_mm for item in agreeing], weights=weights))
    score = best.score
    if {item.unit for item in agreeing} == {"mm", "in"}:
        score = 1 - (1 - score) * 0.3
    return Finding(best=best, px_per_mm=value, score=min(0.99, score), agreeing=agreeing, reason="")
