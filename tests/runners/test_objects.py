"""Objects on made pictures whose content is known, and the contract that bounds them."""

from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
import pytest

from linkeddata.errors import DocumentError
from linkeddata.json_strict import Json
from linkeddata.outputs import parse_output
from linkeddata.outputs.objects import MAX_OBJECTS
from linkeddata.outputs.objects import Objects as ObjectsOutput
from runners.pipelines.objects import Objects, overlap
from runners.pipelines.segment import reference_sheet


@pytest.fixture(scope="module")
def pipeline() -> Objects:
    made = Objects()
    made.load()
    return made


def parsed(body: Mapping[str, Json], pixels: np.ndarray) -> ObjectsOutput:  # type: ignore[type-arg]
    output = parse_output("objects/1", {**body, "image": {"width": pixels.shape[1], "height": pixels.shape[0]}})
    assert isinstance(output, ObjectsOutput)
    return output


def best(output: ObjectsOutput, kind: str, box: tuple[int, int, int, int]) -> float:
    return max((overlap(item.box, box) for item in output.objects if item.kind == kind), default=0.0)


def test_leaf_label_and_code_are_told_apart_and_twice_the_same(pipeline: Objects) -> None:
    sheet, _ = reference_sheet(with_leaf=True)
    rng = np.random.default_rng(1)
    sheet[780:850, 60:250] = 252
    x = 70
    while x < 236:
        width = int(rng.integers(2, 5))
        sheet[788:832, x : x + width] = 20
        x += width + int(rng.integers(2, 5))
    body = pipeline.run(sheet, {}, {})
    assert pipeline.run(sheet, {}, {}) == body
    output = parsed(body, sheet)
    assert best(output, "specimen", (195, 121, 204, 566)) > 0.85
    assert best(output, "label", (350, 690, 250, 160)) > 0.8
    assert best(output, "barcode", (60, 780, 190, 70)) > 0.5
    assert output.answer("barcode").answer == "yes"
    assert output.answer("ruler").answer in ("no", "cannot tell")
    assert output.measured()["specimen"] == "1"


def test_two_like_leaves_are_two_and_a_leaf_cut_by_tape_is_one(pipeline: Objects) -> None:
    sheet, truth = reference_sheet(with_leaf=True)
    leaf = truth[121:690, 190:400]
    small = cv2.resize(sheet[121:690, 190:400], (105, 285), interpolation=cv2.INTER_AREA)
    inside = cv2.resize(leaf.astype(np.uint8), (105, 285), interpolation=cv2.INTER_AREA) > 0
    two = reference_sheet(with_leaf=False)[0]
    for x in (60, 430):
        two[200:485, x : x + 105][inside] = small[inside]
    assert parsed(pipeline.run(two, {}, {}), two).measured()["specimen"] == "2"
    sheet[330:338, 180:420] = (236, 232, 216)
    assert parsed(pipeline.run(sheet, {}, {}), sheet).measured()["specimen"] == "1"


@pytest.mark.parametrize(("height", "width"), [(1, 1), (31, 900), (40, 33)])
def test_odd_sizes_give_a_typed_result(pipeline: Objects, height: int, width: int) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (height, width, 3)).astype(np.uint8)
    output = parsed(pipeline.run(pixels, {}, {}), pixels)
    assert output.complete is not bool(output.doubts)


THING: dict[str, Any] = {"kind": "label", "score": "0.900", "box": [1, 1, 5, 5], "outline": "1,1 5,1 5,5"}


@pytest.mark.parametrize(
    "objects",
    [
        [THING | {"kind": "person"}],
        [THING | {"box": [8, 8, 5, 5]}],
        [THING | {"outline": "1,1 5,1 11,5"}],
        [THING | {"score": 0.9}],
        [THING] * (MAX_OBJECTS + 1),
        [7],
    ],
)
def test_what_does_not_fit_is_refused(objects: list[Any]) -> None:
    body = {"image": {"width": 10, "height": 10}, "objects": objects, "complete": True, "doubts": []}
    with pytest.raises(DocumentError):
        parse_output("objects/1", body)
