"""What stands in an ONNX file, read without running anything: operators, opsets, inputs, outputs, where weights are.

ONNX is a Protocol Buffers message (onnx.proto, IR version 3 and later). Only the members that decide whether a model is
taken are read; a reader for them is a page of code, and the library for it would load the model to say the same.

Invariants:
- Nothing is allocated by what the file says about itself: every length is held against the bytes that are there.
- A file that is no ONNX model, or that hides parts behind depth or number, is refused with one sentence.

It leaves out: whether the model computes what it should (``runners.pipelines.plugged`` runs it behind walls).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

MAX_NODES: Final = 200_000
"""The largest classifiers in use have some thousand."""
MAX_DEPTH: Final = 8
"""Of graphs in nodes (If, Loop, Scan)."""
MAX_OPSET: Final = 26
MIN_OPSET: Final = 7
"""The oldest that ONNX Runtime still promises to run."""
DOMAINS: Final = ("", "ai.onnx", "com.microsoft")
REFUSED_OPERATORS: Final = frozenset({"EPContext", "ATen", "PythonOp", "PythonOpGrad", "SnpeNode", "QnnContext"})
"""Of com.microsoft: they run foreign code, or read further files."""
ELEMENT_TYPES: Final = {1: "float32", 2: "uint8", 3: "int8", 6: "int32", 7: "int64", 10: "float16", 11: "float64"}


class NotAModel(Exception):
    """The bytes are no ONNX model that may be run here; the message is one sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """An input or an output as the file declares it."""

    name: str
    element: str
    shape: tuple[int | str, ...]
    """Numbers, or the names of sizes that are open; empty when nothing is said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """What the file says."""

    ir_version: int
    opsets: dict[str, int]
    """Domain -> version; the standard domain under the empty name."""
    operators: frozenset[tuple[str, str]]
    """(domain, operator) of all nodes, nested ones included."""
    nodes: int
    inputs: tuple[Tensor, ...]
    """Those that are not weights."""
    outputs: tuple[Tensor, ...]
    external: tuple[str, ...]
    """Files outside this one that hold weights, as they are named."""
    functions: int


def read_model(data: bytes) -> ModelFacts:
    """The facts about a model.

    Raises:
        NotAModel: the bytes are no ONNX model, or too deep or large a one.
    """
    if data[4:8] == b"ORTM":
        raise NotAModel("it is in the ORT format, which is not looked through: save it as ONNX")
    ir_version, functions = 0, 0
    opsets: dict[str, int] = {}
    graphs: list[memoryview] = []
    walk = _Walk()
    for number, value in _members(memoryview(data)):
        match number, value:
            case 1, int():
                ir_version = value
            case 7, memoryview():
                graphs.append(value)
            case 8, memoryview():
                domain, version = "", 0
                for inner, content in _members(value):
                    if inner == 1 and isinstance(content, memoryview):
                        domain = _text(content)
                    elif inner == 2 and isinstance(content, int):
                        version = content
                opsets["" if domain == "ai.onnx" else domain] = version
            case 20, memoryview():
                raise NotAModel("it carries training information: export it for inference")
            case 25, memoryview():
                functions += 1
            case _:
                pass
    if not ir_version or not opsets or len(graphs) != 1:
        raise NotAModel("it is not an ONNX model")
    inputs, outputs = walk.graph(graphs[0], 0)
    return ModelFacts(
        ir_version=ir_version, opsets=opsets, operators=frozenset(walk.operators), nodes=walk.nodes,
        inputs=inputs, outputs=outputs, external=tuple(sorted(walk.external)), functions=functions,
    )  # fmt: skip


def refusals(facts: ModelFacts) -> list[str]:
    """Why a model must not run here, one sentence each; empty: it may."""
    found: list[str] = []
    opset = facts.opsets.get("", 0)
    if not MIN_OPSET <= opset <= MAX_OPSET:
        found.append(f"it uses opset {opset} of ai.onnx: export it with {MIN_OPSET} to {MAX_OPSET}")
    foreign = sorted({domain for domain, _ in facts.operators if domain not in DOMAINS})
    if foreign:
        names = sorted(name for domain, name in facts.operators if domain == foreign[0])
        found.append(
            f"it uses the operator {names[0]} of {foreign[0][:80]}: only ai.onnx and com.microsoft are run here"
        )
    banned = sorted(name for _, name in facts.operators if name in REFUSED_OPERATORS)
    if banned:
        found.append(f"it uses the operator {banned[0]}, which runs foreign code or reads other files")
    if facts.functions:
        found.append("it defines functions of its own: inline them when exporting")
    if facts.external:
        found.append(f"its weights lie in another file ({facts.external[0][:80]}): save them in model.onnx")
    return found


class _Walk:
    """Goes through a graph and the graphs in its nodes."""

    def __init__(self) -> None:
        self.operators: set[tuple[str, str]] = set()
        self.external: set[str] = set()
        self.nodes = 0

    def graph(self, data: memoryview, depth: int) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        if depth > MAX_DEPTH:
            raise NotAModel(f"its graphs are nested more than {MAX_DEPTH} deep")
        weights: set[str] = set()
        inputs: list[Tensor] = []
        outputs: list[Tensor] = []
        for number, value in _members(data):
            match number, value:
                case 1, memoryview():
                    self._node(value, depth)
                case 5, memoryview():
                    weights.add(self._tensor(value))
                case 15, memoryview():
                    for inner, content in _members(value):
                        if inner in (1, 2) and isinstance(content, memoryview):
                            weights.add(self._tensor(content))
                case 11, memoryview():
                    inputs.append(_declared(value))
                case 12, memoryview():
                    outputs.append(_declared(value))
                case _:
                    pass
        return tuple(item for item in inputs if item.name not in weights), tuple(outputs)

    def _node(self, data: memoryview, depth: int) -> None:
        self.nodes += 1
        if self.nodes > MAX_NODES:
            raise NotAModel(f"it has more than {MAX_NODES} nodes")
        domain, operator = "", ""
        for number, value in _members(data):
            match number, value:
                case 4, memoryview():
                    operator = _text(value)
                case 7, memoryview():
                    domain = _text(value)
                case 5, memoryview():
                    self._attribute(value, depth)
                case _:
                    pass
        self.operators.add(("" if domain == "ai.onnx" else domain, operator))

    def _attribute(self, data: memoryview, depth: int) -> None:
        for number, value in _members(data):
            if not isinstance(value, memoryview):
                continue
            if number in (6, 11):
                self.graph(value, depth + 1)
            elif number in (5, 10):
                self._tensor(value)
            elif number in (22, 23):
                for inner, content in _members(value):
                    if inner in (1, 2) and isinstance(content, memoryview):
                        self._tensor(content)

    def _tensor(self, data: memoryview) -> str:
        """The name of a tensor; where its numbers lie elsewhere, that is noted."""
        name, is_outside, place = "", False, "a file that is not named"
        for number, value in _members(data):
            match number, value:
                case 8, memoryview():
                    name = _text(value)
                case 14, int():
                    is_outside = is_outside or value != 0
                case 13, memoryview():
                    is_outside = True
                    said = {
                        inner: _text(content) for inner, content in _members(value) if isinstance(content, memoryview)
                    }
                    if said.get(1) == "location":
                        place = said.get(2, place)
                case _:
                    pass
        if is_outside:
            self.external.add(place)
        return name


def _declared(data: memoryview) -> Tensor:
    name, element, shape = "", "unknown", list[int | str]()
    for number, value in _members(data):
        if number == 1 and isinstance(value, memoryview):
            name = _text(value)
        elif number == 2 and isinstance(value, memoryview):
            for kind, tensor in _members(value):
                if kind != 1 or not isinstance(tensor, memoryview):
                    continue
                for inner, content in _members(tensor):
                    if inner == 1 and isinstance(content, int):
                        element = ELEMENT_TYPES.get(content, "unknown")
                    elif inner == 2 and isinstance(content, memoryview):
                        shape = [_dimension(item) for at, item in _members(content) if at == 1]
    return Tensor(name=name, element=element, shape=tuple(shape))


def _dimension(data: int | memoryview) -> int | str:
    if isinstance(data, memoryview):
        for number, value in _members(data):
            if number == 1 and isinstance(value, int):
                return value
            if number == 2 and isinstance(value, memoryview):
                return _text(value)
    return "?"


def _members(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """The members of a message: number, and a whole number or bytes (protobuf.dev, encoding)."""
    at, size = 0, len(data)
    while at < size:
        tag, at = _varint(data, at)
        number, wire = tag >> 3, tag & 7
        if not number:
            raise NotAModel("it is not an ONNX model")
        if wire == 0:
            value, at = _varint(data, at)
            yield number, value
        elif wire == 2:
            length, at = _varint(data, at)
            if length > size - at:
                raise NotAModel("it is not an ONNX model, or it is cut off")
            yield number, data[at : at + length]
            at += length
        elif wire in (1, 5):
            width = 8 if wire == 1 else 4
            if width > size - at:
                raise NotAModel("it is not an ONNX model, or it is cut off")
            at += width
        else:
            raise NotAModel("it is not an ONNX model")


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value, shift = 0, 0
    while True:
        if at >= len(data) or shift > 63:
            raise NotAModel("it is not an ONNX model, or it is cut off")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return value, at
        shift += 7


def _text(data: memoryview) -> str:
    return bytes(data[:500]).decode("utf-8", "replace")
