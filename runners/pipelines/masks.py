"""Masks as pixels: runs and back, outlines. What a body holds, ``linkeddata.outputs.masks`` reads and bounds."""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from linkeddata.json_strict import Json
from linkeddata.outputs.masks import MAX_CORNERS, MAX_MASK_SIDE, MAX_RUNS

Cover = np.ndarray[Any, np.dtype[np.bool_]]
"""(height, width): what is covered."""
LEAST_SIDE: Final = 16


def mask_size(width: int, height: int, *, side: int = MAX_MASK_SIDE) -> tuple[int, int]:
    """Width and height of the mask of an image: the image's own, or its longer side brought to ``side``."""
    scale = min(1.0, side / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


def runs_of(cover: Cover) -> list[int]:
    """Lengths of runs, row by row; the first one is of what is not covered."""
    flat = np.concatenate([[False], cover.ravel()])
    edges = np.flatnonzero(flat[1:] != flat[:-1])
    lengths = np.diff(np.concatenate([[0], edges, [cover.size]]))
    if lengths.size > 1 and lengths[-1] == 0:
        lengths = lengths[:-1]
    return [int(length) for length in lengths]


def as_body(cover: Cover) -> dict[str, Json]:
    """A mask as an output holds it. One with more runs than allowed is smoothed until it fits."""
    import cv2

    runs, radius = runs_of(cover), 1
    while len(runs) > MAX_RUNS:
        size = 2 * radius + 1
        cover = np.asarray(cv2.medianBlur(cover.astype(np.uint8), size), np.bool_)
        runs, radius = runs_of(cover), radius + 1
    return {"width": cover.shape[1], "height": cover.shape[0], "runs": list[Json](runs)}


def from_body(body: Mapping[str, Any]) -> Cover:
    """The mask of a body that was read and found good."""
    width, height, runs = body["width"], body["height"], np.asarray(body["runs"], dtype=np.int64)
    values = np.arange(runs.size) % 2 == 1
    return np.repeat(values, runs).reshape(height, width)


def outline_of(piece: Cover, x: int, y: int, scale_x: float, scale_y: float, limits: tuple[int, int]) -> str | None:
    """The outer edge of a piece that begins at cell x, y: corners in pixels of the image; None below three corners."""
    import cv2

    contours, _ = cv2.findContours(piece.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    if not contours:
        return None
    longest = max(contours, key=len)
    tolerance = 0.6
    corners = cv2.approxPolyDP(longest, tolerance, True)
    while len(corners) > MAX_CORNERS:
        tolerance *= 1.3
        corners = cv2.approxPolyDP(longest, tolerance, True)
    if len(corners) < 3:
        return None
    points = corners[:, 0, :].astype(np.float64) + np.array([x + 0.5, y + 0.5])
    xs = np.clip(np.round(points[:, 0] * scale_x), 0, limits[0] - 1).astype(int)
    ys = np.clip(np.round(points[:, 1] * scale_y), 0, limits[1] - 1).astype(int)
    return " ".join(f"{left},{top}" for left, top in zip(xs, ys, strict=True))
