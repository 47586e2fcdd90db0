"""Colour charts on made pictures: however they lie, small, squeezed, cut in two; and what only looks like one."""

from typing import Any

import cv2
import numpy as np
import pytest

from linkeddata.errors import OutputRefused
from linkeddata.outputs import Chart, parse_output
from linkeddata.outputs.chart import PATCHES
from runners.pipelines.chart import Chart as ChartPipeline
from runners.pipelines.chart import draw_reference
from runners.pipelines.colour import CHECKER_LAB, difference, lab_to_linear, linear_to_lab


def look(pixels: np.ndarray) -> tuple[Chart, dict[str, Any]]:
    body = ChartPipeline().run(np.ascontiguousarray(pixels), {}, {})
    document = {**body, "image": {"width": pixels.shape[1], "height": pixels.shape[0]}}
    output = parse_output("chart/1", document)
    assert isinstance(output, Chart)
    return output, document


def test_differences_are_those_of_the_paper() -> None:
    pairs = [  # rows 1, 4, 17, 25 and 34 of table 1 of Sharma, Wu and Dalal 2005
        ((50.0, 2.6772, -79.7751), (50.0, 0.0, -82.7485), 2.0425),
        ((50.0, -1.3802, -84.2814), (50.0, 0.0, -82.7485), 1.0000),
        ((50.0, 2.5, 0.0), (73.0, 25.0, -18.0), 27.1492),
        ((60.2574, -34.0099, 36.2677), (60.4626, -34.1751, 39.4387), 1.2644),
        ((2.0776, 0.0795, -1.1350), (0.9033, -0.0636, -0.5514), 0.9082),
    ]
    for one, other, expected in pairs:
        assert abs(float(difference(np.array([one]), np.array([other]))[0]) - expected) < 1e-4
    assert np.abs(linear_to_lab(lab_to_linear(CHECKER_LAB)) - CHECKER_LAB).max() < 0.05


@pytest.mark.parametrize("turns", range(4))
@pytest.mark.parametrize("mirrored", [False, True])
def test_any_way_round(turns: int, mirrored: bool) -> None:
    pixels = np.rot90(draw_reference(is_chart=True), turns)
    output, _ = look(pixels[:, ::-1] if mirrored else pixels)
    assert output.box is not None
    white, black = output.patches[PATCHES.index("white")].rgb, output.patches[PATCHES.index("black")].rgb
    assert white[0] > 230
    assert black[0] < 60
    assert float(output.after) < 1.0 < 4 < float(output.before)


def test_corners_and_patches_lie_where_they_were_drawn() -> None:
    output, _ = look(draw_reference(is_chart=True))
    wanted = np.array([(84, 74), (470, 74), (470, 328), (84, 328)])
    diagonal = float(np.hypot(386, 254))
    assert np.hypot(*(np.array(output.corners) - wanted).T).max() < 0.01 * diagonal
    x, y, width, height = output.patches[7].box
    assert abs(x + width / 2 - (84 + 66 + 28)) < 2
    assert abs(y + height / 2 - (74 + 66 + 28)) < 2
    assert len(output.regions()) == 25


@pytest.mark.parametrize("angle", [3.0, 40.0])
@pytest.mark.parametrize("scale", [0.35, 1.5])
def test_turned_small_and_in_jpeg(angle: float, scale: float) -> None:
    picture = cv2.copyMakeBorder(draw_reference(is_chart=True), 260, 260, 260, 260, cv2.BORDER_REPLICATE)
    middle = (picture.shape[1] / 2, picture.shape[0] / 2)
    picture = cv2.warpAffine(
        picture, cv2.getRotationMatrix2D(middle, angle, 1.0), picture.shape[1::-1], borderMode=cv2.BORDER_REPLICATE
    )
    picture = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    noise = np.random.default_rng(4).normal(0, 3, picture.shape)
    _, data = cv2.imencode(".jpg", (picture + noise).clip(0, 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 80])
    output, _ = look(cv2.imdecode(data, cv2.IMREAD_COLOR))
    assert output.box is not None
    assert float(output.after) < 4


def test_two_strips_and_a_squeezed_picture() -> None:
    chart = draw_reference(is_chart=True)
    strips = np.full((420, 900, 3), 30, dtype=np.uint8)
    strips[100:232, 20:440], strips[100:232, 450:870] = chart[68:200, 70:490], chart[200:332, 70:490]
    output, _ = look(strips)
    assert output.box is not None
    assert output.doubts == ()
    squeezed, _ = look(cv2.resize(chart, None, fx=1.0, fy=0.72, interpolation=cv2.INTER_AREA))
    assert squeezed.box is not None
    assert "squeezed" in squeezed.doubts[0]


def test_what_only_looks_like_a_chart() -> None:
    rng = np.random.default_rng(8)
    for number in range(4):
        sheet = draw_reference(is_chart=False)
        if number:
            for patch in range(24):
                x, y = 84 + patch % 6 * 66, 74 + patch // 6 * 66
                sheet[y : y + 56, x : x + 56] = rng.integers(20, 236, 3 if number > 1 else 1)
        output, _ = look(sheet)
        assert output.box is None
        assert output.answer(None).answer == "no"


@pytest.mark.parametrize("shape", [(1, 1), (1, 500), (226, 90), (300, 300)])
def test_odd_images(shape: tuple[int, int]) -> None:
    noise = np.random.default_rng(5).integers(0, 256, (*shape, 3), dtype=np.uint8)
    for pixels in (noise, np.zeros_like(noise)):
        output, _ = look(pixels)
        assert output.box is None
        assert (output.answer(None).answer == "cannot tell") == (min(shape) < 200)


def test_references_and_the_same_again() -> None:
    pipeline = ChartPipeline()
    pipeline.load()
    for reference in pipeline.references():
        body = pipeline.run(reference.pixels, {}, {})
        assert reference.deviation(body) <= float(pipeline.manifest().tolerance)
        assert body == pipeline.run(reference.pixels, {}, {})


def test_a_worker_can_say_nothing_else() -> None:
    _, good = look(draw_reference(is_chart=True))
    first = good["patches"][0]
    for change in (
        {"box": None}, {"corners": good["corners"][:3]}, {"patches": good["patches"][:23]}, {"matrix": ["1"] * 8},
        {"matrix": ["5000", *good["matrix"][1:]]}, {"matrix": [1.0, *good["matrix"][1:]]}, {"after": "1e3"},
        {"corners": [[0, 9999], *good["corners"][1:]]}, {"corners": [[True, 1], *good["corners"][1:]]},
        {"patches": [{**first, "rgb": [0, 0, 256]}, *good["patches"][1:]]},
        {"patches": [{**first, "box": [0, 0, 9999, 1]}, *good["patches"][1:]]}, {"score": "2"},
    ):  # fmt: skip
        with pytest.raises(OutputRefused):
            parse_output("chart/1", {**good, **change})
