"""Small ONNX classifiers made for tests, in a folder as an operator would plug one in; and hostile ones."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

LABELS = ("dark", "red", "bright")
SIDE = 16


def brightness_graph(*, nodes: Sequence[Any] = (), opset: int = 17, domains: Sequence[str] = ()) -> onnx.ModelProto:
    """Three classes from the mean colour: dark, red, bright. Input (1, 3, 16, 16), values 0 to 1; output three logits."""
    weight = np.array([[-20.0, 30.0, 10.0], [-20.0, -15.0, 10.0], [-20.0, -15.0, 10.0]], dtype=np.float32)
    bias = np.array([12.0, 0.0, -12.0], dtype=np.float32)
    graph = helper.make_graph(
        [
            *nodes,
            helper.make_node("GlobalAveragePool", ["image"], ["pooled"]),
            helper.make_node("Flatten", ["pooled"], ["flat"]),
            helper.make_node("Gemm", ["flat", "weight", "bias"], ["logits"]),
        ],
        "brightness",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 3])],
        [numpy_helper.from_array(weight, "weight"), numpy_helper.from_array(bias, "bias")],
    )
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
    return helper.make_model(graph, opset_imports=imports, ir_version=8)


def picture(red: int, green: int, blue: int, size: tuple[int, int] = (40, 30)) -> Image.Image:
    return Image.new("RGB", size, (red, green, blue))


def settings(model: bytes, *, name: str = "brightness", extra: str = "", **changes: str) -> str:
    """A ``pipeline.toml``; ``changes`` are further keys of its tables, as ``input.resize``."""
    return f"""name = "{name}"
version = "1.0.0"
title = "Brightness"
licence = "CC0-1.0"
kind = "classification"
for_images = "made pictures of one colour"
sha256 = "{hashlib.sha256(model).hexdigest()}"
labels = "labels.txt"
tolerance = 0.01
{extra}
[input]
width = {SIDE}
height = {SIDE}
resize = "{changes.get("resize", "squash")}"
{changes.get("input", "")}
[output]
scores = "{changes.get("scores", "softmax")}"
yes = 0.7
{changes.get("output", "")}
[[references]]
image = "{changes.get("image", "red.png")}"
scores = {{ red = {changes.get("red", "1.0")}, bright = 0.0 }}
"""


def write_model(folder: Path, model: onnx.ModelProto | bytes | None = None, **changes: str) -> Path:
    """A folder with a model, as an operator plugs it in; returns it."""
    folder.mkdir(parents=True, exist_ok=True)
    data = model if isinstance(model, bytes) else (model or brightness_graph()).SerializeToString()
    (folder / "model.onnx").write_bytes(data)
    (folder / "labels.txt").write_text("\n".join(LABELS) + "\n", "utf-8")
    picture(250, 10, 10).save(folder / "red.png")
    (folder / "pipeline.toml").write_text(settings(data, name=folder.name, **changes), "utf-8")
    return folder
