"""The scale from made rulers of known scale: metric and inch, turned, covered, soft; and from what only looks like one."""

from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
import pytest

from linkeddata.errors import OutputRefused
from linkeddata.outputs import Scale, parse_output
from runners.pipelines.chart import Chart
from runners.pipelines.chart import draw_reference as draw_chart
from runners.pipelines.chart_size import patch_distances
from runners.pipelines.ruler_scale import find_scale
from runners.pipelines.scale import Scale as ScalePipeline
from runners.pipelines.scale import draw_reference, made_chart
from tests.made_rulers import DECOYS, scene


def grey(pixels: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)


def measure(pixels: np.ndarray, chart: dict[str, Any] | None = None) -> Scale:
    pipeline = ScalePipeline()
    pipeline.load()
    body = pipeline.run(pixels, {}, {"chart/1": chart or made_chart(0)})
    output = parse_output("scale/1", {**body, "image": {"width": pixels.shape[1], "height": pixels.shape[0]}})
    assert isinstance(output, Scale)
    return output


@pytest.mark.parametrize(
    ("kind", "px_per_mm", "angle"),
    [("mm", 4, 0.8), ("mm", 4, 131.0), ("half mm", 8, 90.5), ("mm, tens only", 4, 180.0), ("card", 2.4, 1.0),
     ("card", 4, 271.0), ("line", 3, 0.0), ("1/8 in", 3, 1.2), ("1/16 in", 5, 182.0), ("both", 5, 0.0)],
)  # fmt: skip
def test_rulers_of_many_makes(kind: str, px_per_mm: float, angle: float) -> None:
    made = scene(7, kind=kind, px_per_mm=px_per_mm, angle=angle, blur=0.4, quality=80)
    found = find_scale(grey(made.pixels))
    assert abs(found.px_per_mm / px_per_mm - 1) < 0.005, (made.what, found.reason)


@pytest.mark.parametrize("kind", DECOYS)
def test_what_only_looks_like_a_ruler_has_no_scale(kind: str) -> None:
    made = scene(11, kind=kind, px_per_mm=2, angle=0.5)
    found = find_scale(grey(made.pixels))
    assert found.px_per_mm == 0, (made.what, found.best)
    assert found.reason


def test_squared_paper_at_a_slant_has_no_scale() -> None:
    made = scene(5015, kind="grid")
    assert find_scale(grey(made.pixels)).px_per_mm == 0, made.what


def test_sixteenths_are_not_taken_for_eighths_where_the_inch_is_no_longer_than_the_half() -> None:
    sheet = np.full((300, 1400), 240, dtype=np.uint8)
    for number in range(16 * 3 + 1):
        rank = 80 if number % 8 == 0 else 60 if number % 4 == 0 else 45 if number % 2 == 0 else 30
        sheet[20 : 20 + rank, 60 + number * 26 : 63 + number * 26] = 20
    assert find_scale(sheet).px_per_mm == 0
    for number in range(4):  # figures at the inches show where the whole unit is
        cv2.putText(sheet, str(number), (50 + number * 416, 160), cv2.FONT_HERSHEY_SIMPLEX, 1.4, 20, 4)
    assert find_scale(sheet).px_per_mm == 0


def test_two_rulers_that_disagree_are_no_answer() -> None:
    one, other = draw_reference(is_ruler=True), cv2.resize(draw_reference(is_ruler=True), None, fx=1.3, fy=1.3)
    both = np.full((1000, 1100, 3), 236, dtype=np.uint8)
    both[: one.shape[0], : one.shape[1]] = one
    both[-other.shape[0] :, : other.shape[1]] = other
    found = measure(both)
    assert not found.is_known
    assert "disagree" in found.doubts[0]
    assert found.answer(None).answer == "cannot tell"


def test_a_chart_of_a_size_that_is_sold_confirms_the_ruler() -> None:
    found = measure(draw_reference(is_ruler=True), made_chart(8 * 12.7))
    assert (found.is_known, found.checked_by) == (True, "chart")
    assert "the chart agrees" in str(found.regions()[0].label)
    assert parse_output("scale/1", dict(GOOD)).checked_by == ""  # of results that were made before


@pytest.mark.parametrize("factor", [2, 0.5, 2.54, 1 / 2.54, 10])
def test_a_ruler_that_makes_a_chart_impossibly_large_or_small_is_not_believed(factor: float) -> None:
    found = measure(draw_reference(is_ruler=True), made_chart(8 * 12.9 * factor))
    assert not found.is_known
    assert "one of the two is misread" in found.doubts[0]


@pytest.mark.parametrize("factor", [0, 1.2, 3.1, 3.57, 7])
def test_a_chart_of_another_make_says_nothing(factor: float) -> None:
    found = measure(draw_reference(is_ruler=True), made_chart(8 * 12.9 * factor))
    assert (found.is_known, found.checked_by) == (True, "")


def test_ruler_and_chart_that_were_drawn_together_agree_through_both_pipelines() -> None:
    drawn = draw_chart(is_chart=True)
    _, patches = chart_of(drawn)
    along, _ = patch_distances({"patches": patches})
    scale = 8 * 12.9 / along
    drawn = cv2.resize(drawn, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    height, width = drawn.shape[:2]
    sheet = np.full((440 + height, max(900, width), 3), (236, 231, 216), dtype=np.uint8)
    sheet[:420, :800] = draw_reference(is_ruler=True)
    sheet[440:, :width] = drawn
    body, _ = chart_of(sheet)
    assert measure(sheet, body).checked_by == "chart"


def chart_of(pixels: np.ndarray) -> tuple[dict[str, Any], list[Any]]:
    pipeline = Chart()
    pipeline.load()
    body: dict[str, Any] = pipeline.run(pixels, {}, {})
    return body, body["patches"]


def test_the_box_lies_on_the_ruler_and_references_hold() -> None:
    pipeline = ScalePipeline()
    pipeline.load()
    for reference in pipeline.references():
        body = pipeline.run(reference.pixels, {}, reference.upstream)
        assert reference.deviation(body) <= float(pipeline.manifest().tolerance)
    found = measure(draw_reference(is_ruler=True))
    assert found == measure(draw_reference(is_ruler=True))
    assert found.unit == "mm"
    assert found.box is not None
    x, y, width, height = found.box
    assert abs(x - 40) < 12
    assert abs(x + width - 760) < 12
    assert 240 <= y
    assert y + height <= 310
    [region] = found.regions()
    assert region.terms == {"vasculum:pixelsPerMillimetre": found.px_per_mm}


@pytest.mark.parametrize("shape", [(1, 1), (1, 400), (400, 1), (226, 90), (60, 60)])
def test_odd_images_have_a_reason(shape: tuple[int, int]) -> None:
    noise = np.random.default_rng(3).integers(0, 256, (*shape, 3), dtype=np.uint8)
    for pixels in (noise, np.zeros_like(noise), np.full_like(noise, 255)):
        found = measure(pixels)
        assert not found.is_known
        assert found.doubts


GOOD: Mapping[str, Any] = {
    "image": {"width": 100, "height": 50}, "px_per_mm": "4.0000", "unit": "mm", "marks": "1 mm", "score": "0.9",
    "rulers": 1, "box": [0, 0, 10, 10], "doubts": [],
}  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [{"px_per_mm": "-1"}, {"px_per_mm": "1e3"}, {"px_per_mm": "0"}, {"px_per_mm": "10001"}, {"unit": "ft"},
     {"unit": ""}, {"marks": "secret"}, {"box": None}, {"box": [0, 0, 101, 10]}, {"rulers": 201}, {"score": "1.5"},
     {"px_per_mm": "0", "unit": "", "marks": "", "box": None}, {"checked_by": "me"}],
)  # fmt: skip
def test_a_worker_can_say_nothing_else(change: dict[str, Any]) -> None:
    parse_output("scale/1", dict(GOOD))
    with pytest.raises(OutputRefused):
        parse_output("scale/1", {**GOOD, **change})
