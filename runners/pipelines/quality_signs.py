"""How a picture lies: skew of its straight edges, direction of its lines of text, what is cut off by its border.

Each says None rather than guess. Pure; pictures are grey or RGB, 8 bit, already made small.
"""

from typing import Any, Final

import numpy as np

from runners.pipeline import Pixels

MIN_EDGE_SHARE: Final = 0.08
"""Straight edges that agree, in lengths of the longer side, below which there is no skew to measure."""
MAX_SKEW: Final = 15.0
"""Degrees beyond which edges that agree are something else than a sheet that lies askew."""
MIN_LINES_PX: Final = 160
"""Lengths of lines of text in all below which their direction is not said."""
MIN_LINES: Final = 3
CLEAR: Final = 1.8
"""How much longer the lines of one direction must be in all."""
DIFFERS: Final = 45
"""Levels by which a place at the border differs from the ground."""


def skew_of(grey: Pixels) -> float | None:
    """Degrees, -15 to 15, by which straight edges deviate from upright and level; positive is clockwise."""
    import cv2

    found = cv2.createLineSegmentDetector(cv2.LSD_REFINE_NONE).detect(grey)[0]
    if found is None:
        return None
    segments = np.asarray(found, dtype=np.float64).reshape(-1, 4)
    along = segments[:, 2:] - segments[:, :2]
    length = np.hypot(along[:, 0], along[:, 1])
    is_long = length > 0.04 * max(grey.shape)
    if not is_long.any():
        return None
    angle = (np.degrees(np.arctan2(along[is_long, 1], along[is_long, 0])) + 45) % 90 - 45
    weight = length[is_long]
    bins = np.arange(-45, 45, 0.25)
    near = np.abs((angle[None, :] - bins[:, None] + 45) % 90 - 45) < 0.5
    sums = (near * weight[None, :]).sum(axis=1)
    best = float(bins[int(np.argmax(sums))])
    agreeing = np.abs((angle - best + 45) % 90 - 45) < 0.75
    if float(weight[agreeing].sum()) < MIN_EDGE_SHARE * max(grey.shape) or weight[agreeing].sum() < 0.25 * weight.sum():
        return None
    off = (angle[agreeing] - best + 45) % 90 - 45
    skew = best + float(np.average(off, weights=weight[agreeing]))
    return skew if abs(skew) <= MAX_SKEW else None


def lines_run(grey: Pixels) -> str | None:
    """``level`` or ``upright``: the direction of lines of text; None where there is too little text to say."""
    import cv2

    dark = cv2.adaptiveThreshold(grey, 255, cv2.ADAPTIVE_THRESH_MEAN_C, cv2.THRESH_BINARY_INV, 25, 15)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(dark, connectivity=8)
    width, height, area = stats[:, 2], stats[:, 3], stats[:, 4]
    letter = (np.maximum(width, height) <= 24) & (np.maximum(width, height) >= 4) & (area >= 6)
    letter &= np.maximum(width, height) < 4 * np.minimum(width, height)
    letter[0] = False
    letters = np.where(letter[labels], 255, 0).astype(np.uint8)
    level = _length_of_lines(letters, across=True)
    upright = _length_of_lines(letters, across=False)
    if max(level, upright) < MIN_LINES_PX or max(level, upright) < CLEAR * min(level, upright):
        return None
    return "level" if level > upright else "upright"


def _length_of_lines(letters: Pixels, *, across: bool) -> float:
    """Sum of the lengths of long thin groups, when letters are joined in one direction."""
    import cv2

    kernel = np.ones((1, 13) if across else (13, 1), dtype=np.uint8)
    joined = cv2.morphologyEx(letters, cv2.MORPH_CLOSE, kernel)
    _, _, stats, _ = cv2.connectedComponentsWithStats(joined, connectivity=8)
    long, thick = (stats[1:, 2], stats[1:, 3]) if across else (stats[1:, 3], stats[1:, 2])
    lines = long[(long > 4 * thick) & (thick >= 4) & (thick <= 30) & (long >= 30)]
    return float(lines.sum()) if len(lines) >= MIN_LINES else 0.0


def touched_border(small: Pixels) -> float:
    """Share of the border, 0 to 1, at which something that differs from the ground is cut off."""
    import cv2

    smooth: np.ndarray[Any, np.dtype[np.int16]] = cv2.blur(small, (3, 3)).astype(np.int16)
    ring = np.concatenate([smooth[0], smooth[-1], smooth[:, 0], smooth[:, -1]])
    ground = np.median(ring, axis=0)
    return float((np.abs(ring - ground).max(axis=1) > DIFFERS).mean())
