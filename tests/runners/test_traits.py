"""Measures on shapes whose measures are known; what the numbers rest on; what does not fit."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from linkeddata.errors import DocumentError
from linkeddata.json_strict import Json
from linkeddata.outputs import parse_output
from linkeddata.outputs.traits import Traits as TraitsOutput
from linkeddata.presentation import is_polygon
from runners.pipelines.masks import as_body, mask_size
from runners.pipelines.traits import Traits, corrected, measure

HEIGHT, WIDTH = 400, 500
ROWS, COLUMNS = np.indices((HEIGHT, WIDTH))


def turned(angle: float) -> tuple[np.ndarray, np.ndarray]:  # type: ignore[type-arg]
    radians = np.radians(angle)
    x, y = COLUMNS - 250, ROWS - 200
    return x * np.cos(radians) + y * np.sin(radians), -x * np.sin(radians) + y * np.cos(radians)


def picture(cover: np.ndarray, colour: tuple[int, int, int] = (90, 60, 30)) -> np.ndarray:  # type: ignore[type-arg]
    pixels = np.full((HEIGHT, WIDTH, 3), 220, np.uint8)
    pixels[cover] = colour
    return pixels


def upstream(cover: Any, *, px_per_mm: str = "0", matrix: list[str] | None = None) -> dict[str, Any]:
    return {
        "segment/1": {"mask": as_body(cover), "score": "0.900", "doubts": []},
        "scale/1": {"px_per_mm": px_per_mm, "score": "0.800", "doubts": []},
        "chart/1": {"matrix": matrix or [], "after": "2.1"},
    }


def run(cover: Any, **how: Any) -> TraitsOutput:
    pipeline = Traits()
    pipeline.load()
    body: Mapping[str, Json] = pipeline.run(picture(cover), {}, upstream(cover, **how))
    output = parse_output("traits/1", {**body, "image": {"width": WIDTH, "height": HEIGHT}})
    assert isinstance(output, TraitsOutput)
    return output


@pytest.mark.parametrize("angle", [0, 17, 30, 45, 90, 121])
def test_rectangles_and_ellipses_have_the_measures_of_the_book(angle: float) -> None:
    u, v = turned(angle)
    [box] = measure((abs(u) < 150) & (abs(v) < 40), picture(abs(u) < 0), 0)
    [oval] = measure((u / 150) ** 2 + (v / 40) ** 2 < 1, picture(abs(u) < 0), 0)
    assert float(box["length"]) == pytest.approx(300, rel=0.015)
    assert float(box["width"]) == pytest.approx(80, rel=0.04)
    assert float(box["area"]) == pytest.approx(24_000, rel=0.02)
    assert float(box["perimeter"]) == pytest.approx(760, rel=0.04)
    assert float(box["solidity"]) > 0.96
    assert float(oval["length"]) == pytest.approx(300, rel=0.015)
    assert float(oval["area"]) == pytest.approx(np.pi * 150 * 40, rel=0.01)
    assert float(oval["perimeter"]) == pytest.approx(641.2, rel=0.05)


def test_millimetres_only_where_the_scale_is_known() -> None:
    u, v = turned(0)
    cover = (abs(u) < 150) & (abs(v) < 40)
    in_px, in_mm = run(cover), run(cover, px_per_mm="10")
    assert (in_px.unit, in_mm.unit) == ("px", "mm")
    assert any("scale is not known" in doubt for doubt in in_px.doubts)
    assert float(in_mm.specimens[0].length) == pytest.approx(float(in_px.specimens[0].length) / 10, abs=0.01)
    assert float(in_mm.specimens[0].area) == pytest.approx(float(in_px.specimens[0].area) / 100, abs=0.01)
    assert any("10 px/mm" in reason for reason in in_mm.rests_on)
    assert in_mm.measured()["area_mm2"] == in_mm.specimens[0].area
    [region] = in_mm.regions()
    assert is_polygon(region.polygon)


def test_colours_are_those_of_the_specimen_and_a_chart_corrects_them() -> None:
    u, v = turned(0)
    cover = (abs(u) < 150) & (abs(v) < 40)
    plain = run(cover)
    assert plain.specimens[0].colours[0].rgb == "#5a3c1e"
    assert "colours: of the picture as it is, not corrected" in plain.rests_on
    halved = run(cover, matrix=["0.5", "0", "0", "0", "0.5", "0", "0", "0", "0.5"])
    red, green, blue = (int(halved.specimens[0].colours[0].rgb[place : place + 2], 16) for place in (1, 3, 5))
    assert red < 0x5A and green < 0x3C and blue < 0x1E
    assert any("by the chart" in reason for reason in halved.rests_on)
    same = picture(cover)
    assert (corrected(same, np.eye(3)) == same).all()


def test_three_that_lie_apart_are_three_and_crumbs_are_none() -> None:
    cover = np.zeros((HEIGHT, WIDTH), np.bool_)
    for x in (50, 220, 390):
        cover[100:300, x : x + 60] = True
    cover[20:24, 250:254] = True
    assert len(run(cover).specimens) == 3
    none = run(np.zeros((HEIGHT, WIDTH), np.bool_))
    assert none.specimens == ()
    assert none.answer(None).answer == "cannot tell"


def test_one_cell_and_a_large_image_are_measured() -> None:
    dot = np.zeros((HEIGHT, WIDTH), np.bool_)
    dot[5, 5] = True
    assert float(run(dot).specimens[0].area) == 1
    size = mask_size(6000, 4000)
    cover = np.zeros(size[::-1], np.bool_)
    cover[100:200, 100:300] = True
    [found] = measure(cover, np.zeros((4000, 6000, 3), np.uint8), 0)
    assert float(found["length"]) == pytest.approx(200 * 6000 / size[0], rel=0.01)


SPECIMEN: dict[str, Any] = {
    "box": [1, 1, 5, 5], "rectangle": "1,1 6,1 6,6 1,6", "length": "5.00", "width": "5.00", "perimeter": "20.00",
    "area": "25.00", "solidity": "1.000", "colours": [{"rgb": "#5a3c1e", "share": "1.000"}],
}  # fmt: skip
BODY: dict[str, Any] = {
    "image": {"width": 10, "height": 10}, "unit": "px", "px_per_mm": "0", "specimens": [SPECIMEN], "rests_on": [],
    "doubts": [],
}  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [
        {"unit": "mm"},
        {"px_per_mm": "3"},
        {"unit": "cm"},
        {"specimens": []},
        {"specimens": [SPECIMEN] * 21},
        {"specimens": [SPECIMEN | {"length": "-1"}]},
        {"specimens": [SPECIMEN | {"length": 5.0}]},
        {"specimens": [SPECIMEN | {"rectangle": "1,1 60,1 6,6"}]},
        {"specimens": [SPECIMEN | {"colours": [{"rgb": "brown", "share": "1"}]}]},
        {"rests_on": ["a\u0000"]},
    ],
)
def test_what_does_not_fit_is_refused(change: dict[str, Any]) -> None:
    assert parse_output("traits/1", BODY)
    with pytest.raises(DocumentError):
        parse_output("traits/1", BODY | change)
