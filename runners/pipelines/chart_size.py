"""Whether a colour chart on the image has the size that the ruler beside it makes it.

Charts of 24 patches are sold in few sizes. By the scale of the ruler the patches lie some millimetres apart: as in a
size that is sold, and ruler and chart say the same; twice, ten or 2.54 times as far, and the ruler was misread: these
are the mistakes that can be made with its ticks. Anything else says nothing: there are charts of other makes.
Pure. It leaves out scales from charts alone: nothing on a chart says which size it is.
"""

from collections.abc import Mapping
from typing import Any, Final, Literal

import numpy as np

SIZES_MM: Final = {"mini": (12.9, 12.8), "nano": (5.9, 5.1)}
"""Between centres of patches along and across the rows; measured beside rulers on two images of each, 1.5 % apart."""
NEAR: Final = 0.04
MISREAD: Final = (2.0, 0.5, 2.54, 1 / 2.54, 10.0, 0.1)
"""What a scale is off by when half-millimetres, inches or centimetres are taken for something else."""
ROWS: Final = 4
COLUMNS: Final = 6

Verdict = Literal["agrees", "contradicts", ""]


def judge(px_per_mm: float, chart: Mapping[str, Any]) -> tuple[Verdict, str]:
    """What a body of ``chart/1`` says about a scale; of a contradiction also the words."""
    if not chart.get("patches"):
        return "", ""
    along, across = patch_distances(chart)
    for size in SIZES_MM.values():
        off = (along / px_per_mm / size[0], across / px_per_mm / size[1])
        if _both_near(off, 1.0):
            return "agrees", ""
    for name, size in SIZES_MM.items():
        off = (along / px_per_mm / size[0], across / px_per_mm / size[1])
        if any(_both_near(off, factor) for factor in MISREAD):
            words = (
                f"by the ruler ({px_per_mm:.3g} px/mm) the colour chart is {off[0]:.3g} times a chart of size {name}"
            )
            return "contradicts", f"{words}: one of the two is misread"
    return "", ""


def patch_distances(chart: Mapping[str, Any]) -> tuple[float, float]:
    """Pixels between the centres of neighbouring patches, along and across the rows (medians)."""
    boxes = np.array([patch["box"] for patch in chart["patches"]], dtype=np.float64)
    centres = (boxes[:, :2] + boxes[:, 2:] / 2).reshape(ROWS, COLUMNS, 2)
    along = np.linalg.norm(np.diff(centres, axis=1), axis=2)
    across = np.linalg.norm(np.diff(centres, axis=0), axis=2)
    return float(np.median(along)), float(np.median(across))


def _both_near(off: tuple[float, float], factor: float) -> bool:
    return all(abs(value / factor - 1) <= NEAR for value in off)
