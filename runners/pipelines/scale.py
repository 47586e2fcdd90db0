"""``scale/1``: pixels per millimetre from the rulers on an image; says "don't know" rather than a wrong number.

``ruler_chains`` finds rows of ticks, ``ruler_units`` says what they mean, ``ruler_scale`` whether they agree, and
``chart_size`` whether a colour chart beside them contradicts. The resolution in the file is not asked: most files say
72, 96 or the scanner's nominal value, whatever was done since.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import numpy as np

import runners.decode
from linkeddata.json_strict import Json
from linkeddata.pipeline import Environment, PipelineManifest
from runners.pipeline import Pixels, Reference, Upstream, base_versions, decimal, implementation_digest, pinned
from runners.pipelines import chart_size, ruler_chains, ruler_scale, ruler_units

LIBRARIES: Final = ("opencv-python-headless", "numpy", "pillow")
REFERENCE_PX_PER_MM: Final = 8


class Scale:
    """The adapter."""

    def manifest(self) -> PipelineManifest:
        """What it is."""
        return PipelineManifest(
            output="scale/1",
            name="scale",
            version="1.0.0",
            title="Scale",
            description="Pixels per millimetre from metric and inch rulers, with the reason where it is not known",
            runtime="builtin",
            libraries=pinned(*LIBRARIES),
            needs=("chart/1",),
            tolerance="0.005",
            implementation=implementation_digest(
                self, chart_size, ruler_chains, ruler_units, ruler_scale, runners.decode
            ),
        )

    def load(self) -> Environment:
        """Imports OpenCV."""
        import cv2

        cv2.setNumThreads(1)
        return Environment(
            versions=base_versions(*LIBRARIES), execution_provider="cpu", precision="float64", device_class="cpu"
        )

    def run(self, pixels: Pixels, parameters: Mapping[str, Json], upstream: Upstream) -> dict[str, Json]:  # noqa: ARG002
        """Measures one image."""
        import cv2

        finding = ruler_scale.find_scale(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY))
        if finding.best is None or finding.reason:
            return _unknown(finding.reason)
        verdict, words = chart_size.judge(finding.px_per_mm, upstream["chart/1"])
        if verdict == "contradicts":
            return _unknown(words)
        height, width = pixels.shape[:2]
        return {
            "px_per_mm": decimal(finding.px_per_mm, 4),
            "unit": finding.best.unit,
            "marks": finding.best.how,
            "score": decimal(finding.score),
            "rulers": len(finding.agreeing),
            "checked_by": "chart" if verdict == "agrees" else "",
            "box": _box(np.concatenate([item.corners for item in finding.agreeing]), width, height),
            "doubts": [],
        }

    def references(self) -> Sequence[Reference]:
        """A metric ruler, and strokes that are none."""
        ruler, comb = draw_reference(is_ruler=True), draw_reference(is_ruler=False)
        right, wrong = (
            {"chart/1": made_chart(12.9 * REFERENCE_PX_PER_MM * factor)} for factor in (1.0, 2.54)
        )  # fmt: skip
        return (
            Reference(name="ruler", pixels=ruler, deviation=_expects(float(REFERENCE_PX_PER_MM)), upstream=right),
            Reference(name="ruler-and-chart-differ", pixels=ruler, deviation=_expects(0.0), upstream=wrong),
            Reference(name="comb", pixels=comb, deviation=_expects(0.0), upstream=right),
        )


def made_chart(distance_px: float) -> dict[str, Json]:
    """Of a body of ``chart/1`` what is asked here: 24 patches this far apart; none for 0."""
    if not distance_px:
        return {"patches": []}
    side = round(distance_px * 0.7)
    boxes = [
        [round(column * distance_px), round(row * distance_px), side, side] for row in range(4) for column in range(6)
    ]
    return {"patches": [{"box": list[Json](box)} for box in boxes]}


def draw_reference(*, is_ruler: bool) -> Pixels:
    """A sheet with a ruler of 90 mm at 8 px/mm; or with as many strokes of equal length."""
    sheet = np.full((420, 800, 3), (236, 231, 216), dtype=np.uint8)
    sheet[250:370, 20:780] = (250, 249, 244)
    for number in range(91):
        rank = (30 if number % 5 else 42) if number % 10 else 54
        x = 40 + number * REFERENCE_PX_PER_MM
        sheet[250 : 250 + (rank if is_ruler else 30), x : x + 2] = (25, 25, 25)
    return sheet


def _unknown(reason: str) -> dict[str, Json]:
    return {"px_per_mm": "0", "unit": "", "marks": "", "score": "0", "rulers": 0, "doubts": [reason]}


def _box(corners: ruler_chains.Vectors, width: int, height: int) -> list[Json]:
    left, top = (max(0, math.floor(float(value))) for value in corners.min(axis=0))
    right, bottom = (math.ceil(float(value)) for value in corners.max(axis=0))
    left, top = min(left, width - 1), min(top, height - 1)
    return [left, top, max(1, min(right, width) - left), max(1, min(bottom, height) - top)]


def _expects(px_per_mm: float) -> Callable[[dict[str, Json]], float]:
    def deviation(body: dict[str, Json]) -> float:
        value = float(body["px_per_mm"])
        if px_per_mm == 0 or value == 0:
            return float(value != px_per_mm)
        return abs(value / px_per_mm - 1)

    return deviation
