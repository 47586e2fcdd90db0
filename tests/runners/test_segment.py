"""Specimen masks on made pictures whose truth is known, and on pictures that are none."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from linkeddata.json_strict import Json
from linkeddata.outputs import Output, parse_output
from linkeddata.outputs.masks import MAX_RUNS
from linkeddata.outputs.segment import Segment as SegmentOutput
from linkeddata.presentation import is_polygon
from runners.pipelines.masks import as_body, from_body, mask_size, runs_of
from runners.pipelines.segment import Segment, overlap, reference_sheet


@pytest.fixture(scope="module")
def pipeline() -> Segment:
    made = Segment()
    made.load()
    return made


def parsed(body: Mapping[str, Json], pixels: np.ndarray) -> SegmentOutput:  # type: ignore[type-arg]
    output: Output = parse_output(
        "segment/1", {**body, "image": {"width": pixels.shape[1], "height": pixels.shape[0]}}
    )  # fmt: skip
    assert isinstance(output, SegmentOutput)
    return output


def test_a_leaf_is_found_where_it_is_and_twice_the_same(pipeline: Segment) -> None:
    sheet, truth = reference_sheet(with_leaf=True)
    body = pipeline.run(sheet, {}, {})
    assert overlap(body, truth) > 0.95
    assert pipeline.run(sheet, {}, {}) == body
    output = parsed(body, sheet)
    rows, columns = np.flatnonzero(truth.any(1)), np.flatnonzero(truth.any(0))
    x, y, w, h = output.box
    assert abs(x - columns[0]) <= 4 and abs(y - rows[0]) <= 4
    assert abs(x + w - 1 - columns[-1]) <= 4 and abs(y + h - 1 - rows[-1]) <= 4
    [region] = output.regions()
    assert is_polygon(region.polygon)
    assert output.answer(None).answer == "yes"


def test_a_turned_sheet_gives_the_turned_mask(pipeline: Segment) -> None:
    sheet, truth = reference_sheet(with_leaf=True)
    body = pipeline.run(np.ascontiguousarray(np.rot90(sheet)), {}, {})
    assert overlap(body, np.rot90(truth)) > 0.9


def test_a_label_alone_is_no_specimen(pipeline: Segment) -> None:
    sheet, _ = reference_sheet(with_leaf=False)
    output = parsed(pipeline.run(sheet, {}, {}), sheet)
    assert not output.found
    assert output.answer(None).answer in ("no", "cannot tell")


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 3000), (31, 900), (40, 33), (33, 5000)])
def test_odd_sizes_give_a_typed_result(pipeline: Segment, height: int, width: int) -> None:
    rng = np.random.default_rng(1)
    pixels = rng.integers(0, 256, (height, width, 3)).astype(np.uint8)
    output = parsed(pipeline.run(pixels, {}, {}), pixels)
    if min(height, width) < 32:
        assert output.doubts == ("smaller than 32 pixels",)
        assert output.answer(None).answer == "cannot tell"


def test_a_specimen_cut_by_the_border_is_doubted(pipeline: Segment) -> None:
    sheet, _ = reference_sheet(with_leaf=True)
    cut = np.ascontiguousarray(sheet[:330])
    output = parsed(pipeline.run(cut, {}, {}), cut)
    assert output.found
    assert any("touches the border" in doubt for doubt in output.doubts)


def test_masks_come_back_from_their_runs_and_noise_is_smoothed_until_it_fits() -> None:
    rng = np.random.default_rng(2)
    cover = rng.random((17, 23)) < 0.4
    body: Any = as_body(cover)
    assert (from_body(body) == cover).all()
    assert runs_of(np.ones((2, 3), np.bool_)) == [0, 6]
    assert runs_of(np.zeros((2, 3), np.bool_)) == [6]
    noisy: Any = as_body(rng.random((512, 512)) < 0.5)
    assert len(noisy["runs"]) <= MAX_RUNS
    assert sum(noisy["runs"]) == 512 * 512
    assert mask_size(6016, 4016) == (512, 342)
    assert mask_size(90, 226) == (90, 226)
