"""The network that ``segment`` and ``objects`` share: a U-Net over EfficientNet-Lite0, and how it becomes ONNX.

Input: RGB as float32 0..255, (n, 3, h, w), both sides multiples of 32. Output: (n, 10, h, w) probabilities: the nine
classes of ``made_pictures.CLASSES`` (they sum to one) and, last, the rim of things of paper.
The encoder begins with ImageNet weights when they are given (Tan and Le 2019, the Lite variant; Apache-2.0).
Weights are stored with 16 bits and computed with 32.
"""

from pathlib import Path
from typing import Any, Final

import numpy as np

BLOCKS: Final = (
    (1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112), (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)  # fmt: skip
"""EfficientNet-Lite0: repeats, kernel, stride of the first, expansion, channels."""
SKIPS: Final = (0, 2, 4, 10)
"""Blocks whose outputs the decoder sees, at 1/2, 1/4, 1/8 and 1/16."""
OUTPUTS: Final = 10
Weights = dict[str, np.ndarray[Any, np.dtype[Any]]]


def build() -> Any:  # noqa: C901 - classes of torch can only be made where torch is imported
    """The network, with random weights."""
    import torch
    from torch import nn
    from torch.nn import functional

    class Same(nn.Conv2d):  # type: ignore[misc]
        """A convolution padded as TensorFlow does: what is odd goes to the right and below."""

        def forward(self, x: Any) -> Any:
            kernel = self.kernel_size[0]
            if self.stride[0] == 2:
                x = functional.pad(x, ((kernel - 2) // 2, (kernel - 1) // 2) * 2)
                return functional.conv2d(x, self.weight, self.bias, self.stride, 0, 1, self.groups)
            return functional.conv2d(x, self.weight, self.bias, 1, kernel // 2, 1, self.groups)

    class Block(nn.Module):  # type: ignore[misc]
        """An inverted bottleneck; names as in the published weights."""

        def __init__(self, kernel: int, stride: int, expand: int, inp: int, out: int) -> None:
            super().__init__()
            wide = inp * expand
            self.expand = expand
            if expand != 1:
                self._expand_conv = Same(inp, wide, 1, bias=False)
                self._bn0 = nn.BatchNorm2d(wide, 1e-3, 0.05)
            self._depthwise_conv = Same(wide, wide, kernel, stride, groups=wide, bias=False)
            self._bn1 = nn.BatchNorm2d(wide, 1e-3, 0.05)
            self._project_conv = Same(wide, out, 1, bias=False)
            self._bn2 = nn.BatchNorm2d(out, 1e-3, 0.05)
            self.has_skip = stride == 1 and inp == out

        def forward(self, x: Any) -> Any:
            y = x
            if self.expand != 1:
                y = functional.relu6(self._bn0(self._expand_conv(y)))
            y = functional.relu6(self._bn1(self._depthwise_conv(y)))
            y = self._bn2(self._project_conv(y))
            return y + x if self.has_skip else y

    def twice(inp: int, out: int, count: int = 2) -> Any:
        layers: list[Any] = []
        for index in range(count):
            layers += [
                nn.Conv2d(inp if index == 0 else out, out, 3, padding=1, bias=False),
                nn.BatchNorm2d(out),
                nn.ReLU(),
            ]
        return nn.Sequential(*layers)

    class Net(nn.Module):  # type: ignore[misc]
        """Encoder, decoder, one head."""

        def __init__(self) -> None:
            super().__init__()
            self._conv_stem = Same(3, 32, 3, 2, bias=False)
            self._bn0 = nn.BatchNorm2d(32, 1e-3, 0.05)
            blocks, inp = [], 32
            for repeats, kernel, stride, expand, out in BLOCKS:
                for index in range(repeats):
                    blocks.append(Block(kernel, stride if index == 0 else 1, expand, inp, out))
                    inp = out
            self._blocks = nn.ModuleList(blocks)
            self.fine = twice(3, 8, 1)
            self.deep = nn.Sequential(nn.Conv2d(320, 96, 1, bias=False), nn.BatchNorm2d(96), nn.ReLU())
            self.ups = nn.ModuleList([twice(96 + 112, 96), twice(96 + 40, 64), twice(64 + 24, 40), twice(40 + 16, 32)])
            self.last = twice(32 + 8, 24, 1)
            self.head = nn.Conv2d(24, OUTPUTS, 1)

        def logits(self, x: Any) -> Any:
            """Before the softmax."""
            x = (x - 127.0) / 128.0
            fine = self.fine(x)
            y = functional.relu6(self._bn0(self._conv_stem(x)))
            skips = []
            for index, block in enumerate(self._blocks):
                y = block(y)
                if index in SKIPS:
                    skips.append(y)
            y = self.deep(y)
            for up, skip in zip(self.ups, reversed(skips), strict=True):
                y = up(
                    torch.cat(
                        [functional.interpolate(y, scale_factor=2.0, mode="bilinear", align_corners=False), skip], 1
                    )
                )
            y = torch.cat([functional.interpolate(y, scale_factor=2.0, mode="bilinear", align_corners=False), fine], 1)
            return self.head(self.last(y))

        def forward(self, x: Any) -> Any:
            y = self.logits(x)
            return torch.cat([torch.softmax(y[:, : OUTPUTS - 1], 1), torch.sigmoid(y[:, OUTPUTS - 1 :])], 1)

    return Net()


def begin(net: Any, encoder: Path | None) -> int:
    """Puts ImageNet weights into the encoder; returns how many tensors were taken."""
    import torch

    if encoder is None:
        return 0
    given = torch.load(encoder, map_location="cpu", weights_only=True)
    own = net.state_dict()
    taken = {name: value for name, value in given.items() if name in own and own[name].shape == value.shape}
    net.load_state_dict({**own, **taken})
    return len(taken)


def to_arrays(net: Any) -> Weights:
    """Weights as 16-bit arrays by name."""
    return {
        name: value.detach().float().cpu().numpy().astype(np.float16)
        for name, value in net.state_dict().items()
        if "num_batches" not in name
    }


def from_arrays(weights: Weights) -> Any:
    """The network with stored weights, ready to run."""
    import torch

    net = build()
    own = net.state_dict()
    own.update({name: torch.from_numpy(value.astype(np.float32)) for name, value in weights.items()})
    net.load_state_dict(own)
    return net.eval()


def export(weights: Weights, out: Path) -> None:
    """Writes ONNX whose initialisers hold 16 bits and are cast to 32 when loaded.

    Batch normalisation is folded into the convolutions first.
    """
    import io

    import onnx
    import torch

    net = _folded(from_arrays(weights))
    stream = io.BytesIO()
    torch.onnx.export(
        net,
        (torch.zeros(1, 3, 64, 64),),
        stream,
        input_names=["pixels"],
        output_names=["shares"],
        dynamic_axes={"pixels": {2: "height", 3: "width"}, "shares": {2: "height", 3: "width"}},
        opset_version=17,
        dynamo=False,
    )
    model = onnx.load_from_string(stream.getvalue())
    graph = model.graph
    casts = []
    for tensor in list(graph.initializer):
        values = onnx.numpy_helper.to_array(tensor)
        if values.dtype != np.float32 or values.size < 16:
            continue
        half = onnx.numpy_helper.from_array(values.astype(np.float16), tensor.name + ".half")
        graph.initializer.remove(tensor)
        graph.initializer.append(half)
        casts.append(onnx.helper.make_node("Cast", [half.name], [tensor.name], to=onnx.TensorProto.FLOAT))
    for cast in reversed(casts):
        graph.node.insert(0, cast)
    model.producer_name, model.producer_version, model.doc_string = "vasculum", "1", ""
    onnx.checker.check_model(model)
    out.write_bytes(model.SerializeToString())


def _folded(net: Any) -> Any:
    from torch import nn
    from torch.nn.utils.fusion import fuse_conv_bn_weights

    def fuse(conv: Any, norm: Any) -> None:
        weight, bias = fuse_conv_bn_weights(
            conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
        )
        conv.weight, conv.bias = weight, bias

    fuse(net._conv_stem, net._bn0)  # noqa: SLF001 - names as in the published weights
    net._bn0 = nn.Identity()  # noqa: SLF001
    for block in net._blocks:  # noqa: SLF001
        for conv, norm in (("_expand_conv", "_bn0"), ("_depthwise_conv", "_bn1"), ("_project_conv", "_bn2")):
            if hasattr(block, conv):
                fuse(getattr(block, conv), getattr(block, norm))
                setattr(block, norm, nn.Identity())
    for stage in (net.fine, net.deep, net.last, *net.ups):
        for index in range(0, len(stage), 3):
            fuse(stage[index], stage[index + 1])
            stage[index + 1] = nn.Identity()
    return net
