"""Masks and outlines in outputs: what fits, what adds up, and what is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linkeddata.errors import DocumentError, OutputRefused
from linkeddata.outputs import parse_output
from linkeddata.outputs.masks import MAX_RUNS, Mask, read_mask, read_outline
from linkeddata.outputs.shape import ImageSize

SIZE = ImageSize(width=600, height=400)


@given(st.lists(st.booleans(), min_size=12, max_size=12))
def test_rows_are_what_the_runs_cover(cells: list[bool]) -> None:
    runs, last = [0], False
    for cell in cells:
        if cell == last:
            runs[-1] += 1
        else:
            runs.append(1)
            last = cell
    mask = Mask(width=4, height=3, runs=tuple(runs))
    covered = {(x, y) for y, row in enumerate(mask.rows()) for first, behind in row for x in range(first, behind)}
    assert covered == {(place % 4, place // 4) for place, cell in enumerate(cells) if cell}
    assert mask.covered == sum(cells)
    assert read_mask({"m": {"width": 4, "height": 3, "runs": list(runs)}}, "m", SIZE) == mask


@pytest.mark.parametrize(
    "mask",
    [
        {"width": 513, "height": 4, "runs": [2052]},
        {"width": 4, "height": 401, "runs": [1604]},
        {"width": 4, "height": 4, "runs": [15]},
        {"width": 4, "height": 4, "runs": [8, 0, 8]},
        {"width": 4, "height": 4, "runs": [17, -1]},
        {"width": 4, "height": 4, "runs": [True, 15]},
        {"width": 4, "height": 4, "runs": ["16"]},
        {"width": 4, "height": 4, "runs": [1] * (MAX_RUNS + 1)},
        {"width": 4, "height": 4},
        [],
    ],
)
def test_masks_that_do_not_fit_are_refused(mask: object) -> None:
    with pytest.raises(DocumentError):
        read_mask({"m": mask}, "m", SIZE)  # type: ignore[dict-item]


@pytest.mark.parametrize(
    "outline",
    ["1,1 2,2", "1,1 2,2 601,3", "1,1 2,2 3,401", "1,1 2,2 3,-3", " ".join(["1,1"] * 121), "1,1  2,2 3,3", ""],
)
def test_outlines_that_do_not_fit_are_refused(outline: str) -> None:
    with pytest.raises(OutputRefused):
        read_outline({"outline": outline}, "outline", SIZE)


def test_a_segment_that_contradicts_its_mask_is_refused() -> None:
    body = {
        "image": {"width": 600, "height": 400}, "found": True, "box": [0, 0, 600, 400], "share": "0.000", "score": "0.000",
        "steadiness": "0.000", "mask": {"width": 4, "height": 4, "runs": [16]}, "pieces": [], "doubts": [],
    }  # fmt: skip
    with pytest.raises(OutputRefused, match="something else than the mask"):
        parse_output("segment/1", body)
    none = parse_output("segment/1", body | {"found": False})
    assert none.answer(None).answer == "no"
    unsure = parse_output("segment/1", body | {"found": False, "doubts": ["nothing surely"]})
    assert unsure.answer(None).answer == "cannot tell"
