"""``chart/1``: finds a chart of 24 colour patches, measures it, and makes the matrix that corrects the colours.

``chart_grid`` finds a lattice of squares whose colours are in the right order; ``colour`` has the published values.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import numpy as np

import runners.decode
from linkeddata.json_strict import Json
from linkeddata.pipeline import Environment, PipelineManifest
from runners.pipeline import Pixels, Reference, Upstream, base_versions, decimal, implementation_digest, pinned
from runners.pipelines import chart_grid, colour

LIBRARIES: Final = ("opencv-python-headless", "numpy", "pillow")
SQUEEZED_ABOVE: Final = 1.12
"""Patches are square: where their steps differ by more, the picture is not as wide as it was high."""
SAID_ABOVE: Final = 0.05
"""Share of clipped patches from which the matrix is doubted."""


class Chart:
    """The adapter."""

    def manifest(self) -> PipelineManifest:
        """What it is."""
        return PipelineManifest(
            output="chart/1",
            name="chart",
            version="1.0.0",
            title="Colour chart",
            description="Charts of 24 patches (6 x 4), their colours, and the matrix to the published values",
            runtime="builtin",
            libraries=pinned(*LIBRARIES),
            tolerance="0.05",
            implementation=implementation_digest(self, chart_grid, colour, runners.decode),
        )

    def load(self) -> Environment:
        """Imports OpenCV."""
        import cv2

        cv2.setNumThreads(1)
        return Environment(
            versions=base_versions(*LIBRARIES), execution_provider="cpu", precision="float64", device_class="cpu"
        )

    def run(self, pixels: Pixels, parameters: Mapping[str, Json], upstream: Upstream) -> dict[str, Json]:  # noqa: ARG002
        """Looks at one image."""
        found = chart_grid.find_chart(pixels)
        height, width = pixels.shape[:2]
        if found is None:
            doubts: list[Json] = [] if min(width, height) >= 200 else ["too small an image to hold a chart"]
            return {
                "box": None, "corners": [], "patches": [], "matrix": [], "before": "0", "after": "0", "score": "0",
                "doubts": doubts,
            }  # fmt: skip
        return {
            "box": _box(found.corners.min(axis=0), found.corners.max(axis=0), width, height),
            "corners": [
                [int(np.clip(round(float(x)), 0, width)), int(np.clip(round(float(y)), 0, height))]
                for x, y in found.corners
            ],
            "patches": [
                {
                    "box": _box(centre - found.patch / 2, centre + found.patch / 2, width, height),
                    "rgb": [round(float(value)) for value in values],
                }
                for centre, values in zip(found.centres, found.colours, strict=True)
            ],
            "matrix": [decimal(float(value), 5) for value in found.matrix.ravel()],
            "before": decimal(found.before, 2),
            "after": decimal(found.after, 2),
            "score": decimal(max(0.0, 1 - found.after / 20)),
            "doubts": _doubts(found),
        }

    def references(self) -> Sequence[Reference]:
        """A chart in a wrong light, and one whose patches are in another order."""
        chart, shuffled = draw_reference(is_chart=True), draw_reference(is_chart=False)
        return (
            Reference(name="chart", pixels=chart, deviation=_expects(is_chart=True)),
            Reference(name="shuffled", pixels=shuffled, deviation=_expects(is_chart=False)),
        )


def draw_reference(*, is_chart: bool) -> Pixels:
    """A sheet with a chart of 24 patches, in a reddish light; or with the same patches in another order."""
    light = np.array((1.0, 0.86, 0.72))
    linear = (chart_grid.WANTED * light).clip(0, 1)
    values = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    colours = np.round(values * 255).astype(np.uint8)
    if not is_chart:
        colours = colours[np.arange(24) * 7 % 24]
    sheet = np.full((400, 560, 3), (236, 216, 190), dtype=np.uint8)
    sheet[60:340, 70:490] = (30, 28, 26)
    for number, value in enumerate(colours):
        x, y = 84 + number % 6 * 66, 74 + number // 6 * 66
        sheet[y : y + 56, x : x + 56] = value
    return sheet


def _doubts(found: chart_grid.Chart) -> list[Json]:
    doubts: list[Json] = []
    grid = found.centres.reshape(4, 6, 2)
    across = float(np.median(np.hypot(*np.diff(grid, axis=1).reshape(-1, 2).T)))
    down = float(np.median(np.hypot(*np.diff(grid, axis=0).reshape(-1, 2).T)))
    if max(across, down) > SQUEEZED_ABOVE * min(across, down):
        doubts.append("the patches are not square: the image may be squeezed, and lengths on it mean little")
    clipped = float((found.colours >= 254).any(axis=1).mean())
    if clipped > SAID_ABOVE:
        doubts.append(f"{round(clipped * 24)} patches are overexposed: the matrix is less sure")
    return doubts


def _box(low: colour.Array, high: colour.Array, width: int, height: int) -> list[Json]:
    left, top = (
        int(np.clip(round(float(value)), 0, most - 1)) for value, most in zip(low, (width, height), strict=True)
    )
    right, bottom = (
        int(np.clip(round(float(value)), 1, most)) for value, most in zip(high, (width, height), strict=True)
    )
    return [left, top, max(1, right - left), max(1, bottom - top)]


def _expects(*, is_chart: bool) -> Callable[[dict[str, Json]], float]:
    def deviation(body: dict[str, Json]) -> float:
        if (body["box"] is not None) != is_chart:
            return 1.0
        return float(body["after"]) / 20 if is_chart else 0.0

    return deviation
