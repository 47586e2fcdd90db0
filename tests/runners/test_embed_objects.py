"""embed-objects on made pictures: the vector of a crop, what is left out, and that no body can be larger than allowed."""

import json

import numpy as np
import pytest

from linkeddata.errors import OutputRefused
from linkeddata.json_strict import Json
from linkeddata.outputs import MAX_BODY_BYTES, parse_output
from linkeddata.outputs.contracts import NOT_RELEASED
from linkeddata.outputs.embed import write_vector
from linkeddata.outputs.embed_objects import MAX_EMBEDDED, EmbeddedObjects
from runners.engine import conforms
from runners.errors import ImageRefused, PipelineUnavailable
from runners.pipelines.embed import Embed, reference_pictures, vector_of
from runners.pipelines.embed_objects import EmbedObjects

GOOD = write_vector([127] + [3] * 1279)


@pytest.fixture(scope="module")
def pipeline() -> EmbedObjects:
    made = EmbedObjects()
    made.load()
    return made


def objects(*boxes: tuple[int, int, int, int], doubts: tuple[str, ...] = ()) -> dict[str, dict[str, Json]]:
    things: list[Json] = [{"kind": "label", "score": "0.900", "box": list(box)} for box in boxes]
    return {"objects/1": {"objects": things, "complete": not doubts, "doubts": list(doubts)}}


def parsed(body: dict[str, Json], pixels: np.ndarray) -> EmbeddedObjects:  # type: ignore[type-arg]
    output = parse_output("embed-objects/1", {**body, "image": {"width": pixels.shape[1], "height": pixels.shape[0]}})
    assert isinstance(output, EmbeddedObjects)
    return output


def test_the_reference_comes_out_as_torch_computed_it(pipeline: EmbedObjects) -> None:
    [reference] = pipeline.references()
    body = pipeline.run(reference.pixels, {}, reference.upstream)
    assert conforms(pipeline.manifest(), {reference.name: f"{reference.deviation(body):.6f}"})
    assert pipeline.run(reference.pixels.copy(), {}, reference.upstream) == body
    body["objects"] = body["objects"][:1]  # type: ignore[index]
    assert not conforms(pipeline.manifest(), {reference.name: f"{reference.deviation(body):.6f}"})


def test_a_crop_has_the_vector_that_it_has_as_an_image(pipeline: EmbedObjects) -> None:
    sheet = reference_pictures()["sheet"]
    embed = Embed()
    embed.load()
    x, y, width, height = box = (240, 530, 180, 90)
    output = parsed(pipeline.run(sheet, {}, objects(box, (0, 0, 430, 640))), sheet)
    alone = embed.run(np.ascontiguousarray(sheet[y : y + height, x : x + width]), {}, {})
    assert [item.box for item in output.objects] == [box, (0, 0, 430, 640)] and output.complete
    assert output.objects[0].vector == alone["vector"]
    assert output.objects[1].vector == embed.run(sheet, {}, {})["vector"]
    assert vector_of(output.objects[0].vector) @ vector_of(output.objects[1].vector) < 0.9


def test_what_cannot_be_seen_or_stands_twice_is_left_out_and_said(pipeline: EmbedObjects) -> None:
    sheet = reference_pictures()["sheet"]
    output = parsed(
        pipeline.run(sheet, {}, objects((0, 0, 31, 31), (0, 0, 1, 400), (0, 0, 1, 400), doubts=("x",))), sheet
    )
    assert [item.box for item in output.objects] == [(0, 0, 1, 400)] and not output.complete
    assert output.doubts == ("x", "1 objects with fewer than 32 pixels on their longer side are left out")
    nothing = parsed(pipeline.run(sheet, {}, objects()), sheet)
    assert nothing.objects == () and nothing.answer(None).answer == "cannot tell"
    with pytest.raises(ImageRefused, match="objects"):
        pipeline.run(sheet, {}, {})
    with pytest.raises(PipelineUnavailable):
        EmbedObjects().run(sheet, {}, objects())


def test_the_largest_result_is_within_the_limit_of_a_body() -> None:
    size = {"width": 200_000, "height": 200_000}
    things = [
        {"kind": "specimen", "box": [100_000 + number, 100_000, 99_000, 99_000], "vector": GOOD}
        for number in range(MAX_EMBEDDED)
    ]
    body = {"image": size, "objects": things, "complete": False, "doubts": ["a doubt " * 20] * 10}
    assert len(json.dumps(body)) < MAX_BODY_BYTES
    output = parse_output("embed-objects/1", body)
    assert isinstance(output, EmbeddedObjects) and len(output.objects) == MAX_EMBEDDED
    with pytest.raises(OutputRefused):
        parse_output("embed-objects/1", {**body, "objects": [*things, {**things[0], "box": [0, 0, 9, 9]}]})


@pytest.mark.parametrize(
    "change",
    [{"kind": "leaf"}, {"box": [0, 0, 11, 5]}, {"box": [0, 0, 0, 0]}, {"box": [0, 0, 5]}, {"vector": GOOD[:-4]},
     {"vector": write_vector([126] + [3] * 1279)}, {"vector": GOOD + "A"}],
)  # fmt: skip
def test_what_does_not_fit_the_contract_is_refused(change: dict[str, Json]) -> None:
    thing: dict[str, Json] = {"kind": "label", "box": [0, 0, 5, 5], "vector": GOOD}
    body: dict[str, Json] = {"image": {"width": 10, "height": 10}, "complete": True, "doubts": []}
    parse_output("embed-objects/1", {**body, "objects": [thing]})
    with pytest.raises(OutputRefused):
        parse_output("embed-objects/1", {**body, "objects": [{**thing, **change}]})
    with pytest.raises(OutputRefused, match="same box"):
        parse_output("embed-objects/1", {**body, "objects": [thing, thing]})


def test_vectors_are_no_part_of_an_answer_or_a_region() -> None:
    assert "embed-objects/1" in NOT_RELEASED
    thing: dict[str, Json] = {"kind": "label", "box": [0, 0, 5, 5], "vector": GOOD}
    body: dict[str, Json] = {"image": {"width": 10, "height": 10}, "objects": [thing], "complete": True, "doubts": []}
    output = parse_output("embed-objects/1", body)
    assert output.answer(None).values == {} and output.answer(None).matches == () and output.measured() == {}
    [region] = output.regions()
    assert (region.box, region.label, region.text, region.terms) == ((0, 0, 5, 5), "label", "", {})
