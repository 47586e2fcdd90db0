"""Plugged models: a good one runs behind the walls; what is wrong with others is said in a line; hostile ones get nowhere."""

import hashlib
import io
import json
import os
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from engine_bench import Bench
from hypothesis import given, settings
from hypothesis import strategies as st
from made_models import LABELS, SIDE, brightness_graph, picture, write_model
from onnx import TensorProto, helper, numpy_helper

from cas.store import BlobStore
from linkeddata.errors import OutputRefused
from linkeddata.outputs import parse_output
from linkeddata.outputs.classes import Classes, check_vocabulary
from linkeddata.pipeline import WorkUnit
from runners.catalogue import Catalogue, plugged
from runners.engine import make_pipeline_manifest
from runners.errors import PipelineUnavailable
from runners.model_folder import ModelFolderError, read_model_folder
from runners.onnx_file import NotAModel, read_model, refusals
from runners.pipelines.plugged import PluggedModel, look_through, prepare
from runners.workers import Worker, WorkerSettings


@pytest.fixture
def store(tmp_path: Path) -> Iterator[BlobStore]:
    made = BlobStore.open(tmp_path / "blobs")
    yield made
    made.close()


def png(red: int, green: int, blue: int) -> bytes:
    out = io.BytesIO()
    picture(red, green, blue).save(out, "PNG")
    return out.getvalue()


async def start(folder: Path, **limits: float) -> None:
    entry = plugged(folder)
    worker = Worker(entry, make_pipeline_manifest(entry), WorkerSettings(**limits))  # type: ignore[arg-type]
    try:
        await worker.start()
    finally:
        await worker.stop()


def body_of(folder: Path, red: int, green: int, blue: int) -> Classes:
    model = PluggedModel(str(folder))
    model.load()
    pixels = np.asarray(picture(red, green, blue))
    body = model.run(pixels, {}, {})
    body["image"] = {"width": pixels.shape[1], "height": pixels.shape[0]}
    output = parse_output("classes/1", body)
    assert isinstance(output, Classes)
    check_vocabulary(output, model.manifest().vocabulary)
    return output


async def test_a_plugged_model_runs_like_any_pipeline(store: BlobStore, tmp_path: Path) -> None:
    write_model(tmp_path / "models" / "brightness")
    made = Bench(store, Catalogue.of(("brightness",), models=tmp_path / "models"))
    await made.start()
    try:
        [offer] = made.engine.offers
        assert (offer.manifest.output, offer.manifest.name, offer.manifest.vocabulary) == (
            "classes/1", "brightness", LABELS,
        )  # fmt: skip
        assert (offer.conformance.verdict, offer.is_isolated) == ("pass", True)
        units: list[WorkUnit] = await made.work([png(250, 10, 10), png(2, 2, 2), png(102, 102, 102)])
        await made.wait(3)
        bodies = [json.loads(status.body or b"") for unit in units if (status := made.journal.status(unit.key))]
        assert [body["classes"][0]["name"] for body in bodies if body["certain"]] == ["red", "dark"]
        assert bodies[2]["doubts"] == ["no class is likely enough"]
    finally:
        await made.stop()


def test_what_a_classifier_says_is_an_answer_a_region_and_a_reason(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "brightness")
    red, unsure = body_of(folder, 250, 10, 10), body_of(folder, 102, 102, 102)
    assert (red.answer(None).answer, red.answer("red").answer, red.answer("bright").answer) == ("yes", "yes", "no")
    assert [(region.label, region.box) for region in red.regions()] == [("red", (0, 0, 40, 30))]
    assert (unsure.answer("red").answer, unsure.answer("red").reason) == ("cannot tell", "no class is likely enough")
    assert unsure.regions() == ()


def test_several_classes_hold_where_the_model_says_so(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "brightness", scores="sigmoid", output="no = 0.3")
    both = body_of(folder, 255, 220, 220)
    assert {item.name for item in both.classes if item.holds} == {"bright", "red"} or both.certain is False
    assert both.answer("dark").answer in ("no", "cannot tell")


def test_a_worker_can_name_no_class_that_is_not_in_the_vocabulary() -> None:
    body = {
        "image": {"width": 9, "height": 9}, "box": [0, 0, 9, 9], "certain": True, "doubts": [],
        "classes": [{"name": "aGVsbG8gd29ybGQ", "score": "0.900", "holds": True}],
    }  # fmt: skip
    with pytest.raises(OutputRefused, match="1 of the classes are not in the vocabulary"):
        check_vocabulary(parse_output("classes/1", body), LABELS)


def test_the_digest_covers_model_settings_and_classes(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "brightness")
    digests = {PluggedModel(str(folder)).manifest().digest}
    text = (folder / "pipeline.toml").read_text("utf-8")
    (folder / "pipeline.toml").write_text(text.replace("yes = 0.7", "yes = 0.8"), "utf-8")
    digests.add(PluggedModel(str(folder)).manifest().digest)
    (folder / "labels.txt").write_text("dark\nred\nlight\n", "utf-8")
    (folder / "pipeline.toml").write_text(text.replace("bright", "light").replace('"lightness"', '"brightness"'))
    digests.add(PluggedModel(str(folder)).manifest().digest)
    assert len(digests) == 3


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"input": "crop_to = 'nothing/9'"}, "input.crop_to must be one of"),
        ({"input": "mean = [0.5]"}, "input.mean must be three numbers"),
        ({"input": "std = [1, 0, 1]"}, "input.std must be larger than 0"),
        ({"input": "colour = 'RGB'"}, "input.colour is not known; known are width, height"),
        ({"output": "no = 0.9"}, "output.no must not be larger than yes"),
        ({"output": "top = 400"}, "output.top must be a whole number from 1 to 10"),
        ({"image": "../red.png"}, "image must be a file inside the folder"),
        ({"image": "/etc/passwd"}, "image must be a file inside the folder"),
        ({"red": "1.2"}, "scores.red must be a number from 0 to 1"),
        ({"red": "nan"}, "scores.red must be a number from 0 to 1"),
        ({"scores": "magic"}, "output.scores must be one of 'softmax', 'sigmoid', 'none'"),
        ({"extra": "command = 'rm'"}, "pipeline.toml: command is not known"),
        ({"extra": "name = 'x'"}, "Cannot overwrite a value"),
    ],
)
def test_what_is_wrong_with_the_settings_is_said_in_a_line(
    tmp_path: Path, changes: dict[str, str], expected: str
) -> None:
    folder = write_model(tmp_path / "brightness", **changes)
    with pytest.raises(ModelFolderError) as error:
        read_model_folder(folder)
    assert expected in str(error.value)
    assert "\n" not in str(error.value)


def test_a_folder_is_read_only_inside(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "brightness")
    (tmp_path / "elsewhere").mkdir()
    for name in ("labels.txt", "model.onnx", "pipeline.toml", "red.png"):
        (folder / name).rename(tmp_path / "elsewhere" / name)
        (folder / name).symlink_to(tmp_path / "elsewhere" / name)
        with pytest.raises(PipelineUnavailable, match="no link to another place"):
            made = PluggedModel(str(folder))
            made.manifest()
            made.load()
            made.references()
        (folder / name).unlink()
        (tmp_path / "elsewhere" / name).rename(folder / name)
    os.mkfifo(folder / "pipe.png")
    text = (folder / "pipeline.toml").read_text("utf-8").replace("red.png", "pipe.png")
    (folder / "pipeline.toml").write_text(text, "utf-8")
    model = PluggedModel(str(folder))
    model.load()
    with pytest.raises(ModelFolderError, match="must be a file"):
        model.references()


def test_another_file_in_the_place_of_the_model_is_noticed(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "brightness")
    (folder / "model.onnx").write_bytes((folder / "model.onnx").read_bytes() + b"\0")
    with pytest.raises(ModelFolderError, match="is not the file that pipeline.toml names"):
        PluggedModel(str(folder)).manifest()


# ---------------------------------------------------------------------- what stands in a model
def nested(depth: int) -> onnx.ModelProto:
    """``If`` within ``If``."""
    graph = brightness_graph().graph
    for _ in range(depth):
        node = helper.make_node("If", ["c"], ["y"], then_branch=graph)
        graph = helper.make_graph([node], "outer", [], [])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])


def with_external(location: str) -> onnx.ModelProto:
    model = brightness_graph()
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", location
    return model


def with_function() -> onnx.ModelProto:
    model = brightness_graph()
    node = helper.make_node("Relu", ["x"], ["y"])
    model.functions.append(helper.make_function("ours", "Twice", ["x"], ["y"], [node], [helper.make_opsetid("", 17)]))
    return model


FOREIGN = helper.make_node("RunShell", ["image"], ["x"], domain="evil.example")
INSIDE = helper.make_graph([FOREIGN], "inside", [], [])


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (brightness_graph(nodes=[FOREIGN], domains=["evil.example"]), "it uses the operator RunShell of evil.example"),
        (
            brightness_graph(nodes=[helper.make_node("If", ["c"], ["y"], then_branch=INSIDE)]),
            "it uses the operator RunShell of evil.example",
        ),
        (
            brightness_graph(nodes=[helper.make_node("EPContext", [], ["y"], domain="com.microsoft")]),
            "it uses the operator EPContext, which runs foreign code",
        ),
        (brightness_graph(opset=5), "it uses opset 5 of ai.onnx"),
        (brightness_graph(opset=400), "it uses opset 400 of ai.onnx"),
        (with_external("../../../etc/passwd"), "its weights lie in another file (../../../etc/passwd)"),
        (with_external("weights.bin"), "its weights lie in another file (weights.bin)"),
        (with_function(), "it defines functions of its own"),
        (nested(12), "its graphs are nested more than 8 deep"),
        (b"text\n", "it is not an ONNX model"),
        (b"", "it is not an ONNX model"),
        (b"\x00\x00\x00\x00ORTM" + b"\0" * 50, "it is in the ORT format"),
    ],
)
async def test_models_that_are_refused_before_the_runtime_sees_them(
    tmp_path: Path, model: onnx.ModelProto | bytes, reason: str
) -> None:
    folder = write_model(tmp_path / "brightness", model)
    found = read_model_folder(folder)
    with pytest.raises(PipelineUnavailable) as error:
        look_through(found, found.read_model())
    assert reason in str(error.value)


def test_what_the_reader_says_is_what_the_library_of_onnx_says() -> None:
    facts = read_model(brightness_graph(domains=["com.microsoft"]).SerializeToString())
    assert facts.opsets == {"": 17, "com.microsoft": 1}
    assert facts.operators == {("", "GlobalAveragePool"), ("", "Flatten"), ("", "Gemm")}
    assert [(item.name, item.element, item.shape) for item in (*facts.inputs, *facts.outputs)] == [
        ("image", "float32", ("n", 3, SIDE, SIDE)), ("logits", "float32", ("n", 3)),
    ]  # fmt: skip
    assert refusals(facts) == []


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_no_bytes_break_the_reader(data: st.DataObject) -> None:
    whole = bytearray(brightness_graph().SerializeToString())
    for _ in range(data.draw(st.integers(0, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(whole[: data.draw(st.integers(0, len(whole)))])
    try:
        read_model(cut)
    except NotAModel as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"input": "layout = 'NHWC'"}, "its input has the shape n x 3 x 16 x 16, the settings make 1 x 16 x 16 x 3"),
        ({"output": "layer = 'scores'"}, "it has no output 'scores'; it has logits"),
    ],
)
def test_settings_that_do_not_fit_the_model(tmp_path: Path, changes: dict[str, str], reason: str) -> None:
    found = read_model_folder(write_model(tmp_path / "brightness", **changes))
    with pytest.raises(PipelineUnavailable) as error:
        look_through(found, found.read_model())
    assert reason in str(error.value)


def test_more_classes_than_numbers_are_noticed(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "brightness")
    (folder / "labels.txt").write_text("dark\nred\nbright\nblue\n", "utf-8")
    found = read_model_folder(folder)
    with pytest.raises(PipelineUnavailable, match=r"output 'logits' has 3 numbers, labels.txt has 4 classes"):
        look_through(found, found.read_model())


# ---------------------------------------------------------------------- what a model does
def greedy() -> onnx.ModelProto:
    """Wants 64 GiB while it is loaded or run."""
    shape = numpy_helper.from_array(np.array([1, 1024, 4096, 4096], dtype=np.int64), "shape")
    nodes = [
        helper.make_node("ConstantOfShape", ["shape"], ["huge"]),
        helper.make_node("ReduceSum", ["huge"], ["sum"], keepdims=1),
        helper.make_node("Add", ["image", "sum"], ["louder"]),
    ]
    model = brightness_graph(nodes=nodes)
    model.graph.initializer.append(shape)
    model.graph.node[3].input[0] = "louder"
    return model


def endless() -> onnx.ModelProto:
    """Counts to two to the 62nd."""
    count = numpy_helper.from_array(np.array(2**62, dtype=np.int64), "count")
    yes = numpy_helper.from_array(np.array(True), "yes")
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["on"]),
            helper.make_node("Add", ["value", "value"], ["next"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("value", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.FLOAT, None),
        ],
    )
    model = brightness_graph(nodes=[helper.make_node("Loop", ["count", "yes", "image"], ["turned"], body=body)])
    model.graph.initializer.extend([count, yes])
    model.graph.node[1].input[0] = "turned"
    return model


async def test_a_model_that_wants_all_memory_is_ended_and_said_so(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "brightness", greedy())
    with pytest.raises(PipelineUnavailable, match="memory|failed before its first image|refuses the model"):
        await start(folder, memory_mib=2048)


@pytest.mark.long
async def test_a_model_that_never_ends_is_ended(tmp_path: Path) -> None:
    from runners.errors import WorkerDied

    folder = write_model(tmp_path / "brightness", endless())
    with pytest.raises(WorkerDied, match="no answer within"):
        await start(folder, start_timeout_s=4.0)


async def test_a_model_that_does_not_give_what_its_folder_says_does_not_conform(
    store: BlobStore, tmp_path: Path
) -> None:
    write_model(tmp_path / "models" / "brightness", red="0.1")
    made = Bench(store, Catalogue.of(("brightness",), models=tmp_path / "models"))
    await made.start()
    try:
        [offer] = made.engine.offers
        assert offer.conformance.verdict == "fail"
        assert float(offer.conformance.deviations["red.png"]) > 0.5
    finally:
        await made.stop()


def test_resize_rules_place_the_picture_where_they_say(tmp_path: Path) -> None:
    pixels = np.zeros((10, 40, 3), dtype=np.uint8)
    pixels[:, 20:] = 255
    values = {}
    for rule in ("squash", "crop", "letterbox"):
        found = read_model_folder(write_model(tmp_path / rule / "brightness", resize=rule))
        values[rule] = prepare(pixels, found)
        assert values[rule].shape == (3, SIDE, SIDE)
    assert values["squash"][0, :, 8:].min() == 1.0
    assert values["squash"][0, :, :8].max() == 0.0
    assert values["crop"][0, :, 9:].min() > 0.9
    assert values["letterbox"][0, :6].max() == 0.0
    assert values["letterbox"][0, 7:9, 9:].min() > 0.9


# ---------------------------------------------------------------------- the command
def test_the_command_says_what_is_right_and_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from node.cli.main import run

    folder = write_model(tmp_path / "brightness")
    assert run(["pipelines", "check", str(folder)]) == 0
    out = capsys.readouterr().out
    assert "opset 17, 3 nodes, operators Flatten, Gemm, GlobalAveragePool" in out
    assert "red.png: differs by 0.0000" in out
    assert 'put "brightness" into [jobs] pipelines' in out
    write_model(folder, red="0.2")
    assert run(["pipelines", "check", str(folder), "--json"]) == 1
    captured = capsys.readouterr()
    assert json.loads(captured.out)["problems"] == ["red.png: differs by 0.8000, at most 0.01 is allowed"]
    assert "cannot be used" in captured.err
    bad = brightness_graph(nodes=[FOREIGN], opset=400, domains=["evil.example"])
    assert run(["pipelines", "check", str(write_model(folder, bad)), "--json"]) == 1
    assert len(json.loads(capsys.readouterr().out)["problems"]) == 2


def test_a_node_says_what_is_missing_for_a_model(tmp_path: Path) -> None:
    from node.config import ConfigError, parse_settings

    def settings_with(name: str) -> None:
        node = {"name": "N", "public_url": "https://n.example"}
        parse_settings({"node": node, "jobs": {"pipelines": ["quality", name]}}, tmp_path)

    with pytest.raises(ConfigError, match=r"'brightness' is not one of .*, and there is no model in"):
        settings_with("brightness")
    write_model(tmp_path / "models" / "brightness")
    settings_with("brightness")
    write_model(tmp_path / "models" / "barcode")
    with pytest.raises(ConfigError, match="has the name of a built-in pipeline"):
        settings_with("barcode")


def test_the_settings_on_the_page_are_good_ones(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from node.cli.main import run
    from node.config import parse_settings

    page = (Path(__file__).parents[2] / "docs" / "how-to-pipelines.md").read_text("utf-8")
    by_itself, versions, shown = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    for text in (by_itself, versions):
        node = {"name": "N", "public_url": "https://n.example"}
        assert parse_settings({"node": node, **tomllib.loads(text)}, tmp_path).jobs.pipelines
    folder = write_model(tmp_path / "hortus" / "models" / "brightness")
    sha256 = hashlib.sha256((folder / "model.onnx").read_bytes()).hexdigest()
    (folder / "pipeline.toml").write_text(shown.replace("SHA256", sha256), "utf-8")
    assert run(["pipelines", "check", str(folder)]) == 0, capsys.readouterr().out
    found = read_model_folder(folder)
    assert (found.input.layout, found.output.scores, found.name) == ("NCHW", "softmax", "brightness")
