"""Training of ``kind``: multinomial logistic regression on vectors of ``embed``, from real and made pictures.

Every kind weighs the same, and within a kind every set of pictures (one camera, one collection), so that a large set
does not decide alone. Deterministic: no random numbers but the seeds of the made pictures.

It leaves out: judging. ``benchmarks.accuracy.kind`` trains again for every set without it, with this ``fit``.
"""

import csv
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from linkeddata.outputs.kind import KINDS
from runners.decode import Limits, decode_upright
from runners.errors import PipelineUnavailable
from runners.pipelines.embed import FOLDER, Vector, load_network, prepared, quantised, rooted
from runners.pipelines.kind import MODEL
from runners.training.made_kinds import make

MADE_PER_KIND: Final = 60
MADE_WEIGHT: Final = 0.3
"""Of all made pictures of a kind together, where its real ones weigh 1."""
SHRINK: Final = 2e-4
"""Of the squares of the weights. Chosen once, with pictures of whole sets left out, of three values tried."""
STEPS: Final = 150

Weights = np.ndarray[Any, np.dtype[np.float32]]
"""(1281, kinds): the last row is the constant."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Examples:
    """Vectors of which the kind is known."""

    vectors: Vector
    """(n, 1280), unit vectors."""
    kinds: tuple[str, ...]
    sets: tuple[str, ...]
    """Pictures of one set are left out together."""


def made_examples() -> Examples:
    """The made pictures, as one set."""
    network, _ = load_network()
    vectors = [vector_by(network, make(kind, number)) for kind in KINDS for number in range(MADE_PER_KIND)]
    kinds = tuple(kind for kind in KINDS for _ in range(MADE_PER_KIND))
    return Examples(vectors=np.stack(vectors), kinds=kinds, sets=("made",) * len(kinds))


def vector_by(network: Any, pixels: np.ndarray[Any, np.dtype[np.uint8]]) -> Vector:
    """The unit vector that ``embed/1`` would carry."""
    values = np.array(quantised(rooted(network(prepared(pixels)))), dtype=np.float32)
    return values / np.float32(np.linalg.norm(values))


def fit(real: Examples, made: Examples) -> Weights:
    """Weights and constants, by accelerated gradient descent."""
    vectors = np.concatenate([real.vectors, made.vectors])
    inputs = np.concatenate([vectors, np.ones((len(vectors), 1))], axis=1).astype(np.float32)
    kinds = [*real.kinds, *made.kinds]
    wanted = np.array([[kind == name for name in KINDS] for kind in kinds], dtype=np.float32)
    importance = np.array([*_shares(real), *_shares(made, MADE_WEIGHT)], dtype=np.float32)
    importance = (importance / importance.sum())[:, None]
    found = ahead = np.zeros((inputs.shape[1], len(KINDS)), np.float32)
    held = np.ones((inputs.shape[1], 1), np.float32)
    held[-1] = 0.0
    pace = np.float32(1.0 / (1.0 + SHRINK))
    turn = 1.0
    for _ in range(STEPS):
        slope = inputs.T @ ((likely(inputs, ahead) - wanted) * importance) + np.float32(SHRINK) * held * ahead
        better = ahead - pace * slope
        next_turn = (1.0 + float(np.sqrt(1.0 + 4.0 * turn * turn))) / 2.0
        ahead = better + np.float32((turn - 1.0) / next_turn) * (better - found)
        found, turn = better, next_turn
    return found


def likely(inputs: Vector, weights: Weights) -> Vector:
    """(n, kinds): the softmax."""
    sums = inputs @ weights
    powers = np.exp(sums - sums.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), dtype=np.float32)


def write_model(weights: Weights, folder: Path = FOLDER) -> int:
    """Writes the model that ``runners.pipelines.kind`` runs; returns its bytes."""
    import onnx

    helper, kinds = onnx.helper, onnx.TensorProto
    stored = [
        onnx.numpy_helper.from_array(np.ascontiguousarray(weights[:-1]).astype(np.float16), "weights16"),
        onnx.numpy_helper.from_array(np.ascontiguousarray(weights[-1]), "constants"),
    ]
    nodes = [
        helper.make_node("Cast", ["weights16"], ["weights"], to=kinds.FLOAT),
        helper.make_node("Gemm", ["vector", "weights", "constants"], ["sums"]),
        helper.make_node("Softmax", ["sums"], ["scores"], axis=1),
    ]
    graph = helper.make_graph(
        nodes, "kind",
        [helper.make_tensor_value_info("vector", kinds.FLOAT, [1, weights.shape[0] - 1])],
        [helper.make_tensor_value_info("scores", kinds.FLOAT, [1, len(KINDS)])],
        stored,
    )  # fmt: skip
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, producer_name="vasculum"
    )
    onnx.checker.check_model(model, full_check=True)
    data = bytes(model.SerializeToString(deterministic=True))
    (folder / MODEL).write_bytes(data)
    return len(data)


def _shares(examples: Examples, total: float = 1.0) -> Sequence[float]:
    """What each example weighs: ``total`` for each kind, shared by its sets, shared by their pictures."""
    pairs = list(zip(examples.kinds, examples.sets, strict=True))
    sets_of = {kind: len({pair for pair in pairs if pair[0] == kind}) for kind in set(examples.kinds)}
    return [total / sets_of[kind] / pairs.count((kind, group)) for kind, group in pairs]


def real_examples(images: Path, truth: Path) -> Examples:
    """Pictures below a folder whose SHA-256 stands in a table of kinds (``benchmarks/truth/kind.tsv``).

    Raises:
        PipelineUnavailable: none is there, or one cannot be read.
    """
    with truth.open(encoding="utf-8", newline="") as stream:
        known = {row["sha256"]: row for row in csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE)}
    network, _ = load_network()
    vectors, kinds, sets = [], [], []
    for path in sorted(item for item in images.rglob("*") if item.is_file()):
        row = known.get(hashlib.sha256(path.read_bytes()).hexdigest())
        if row is not None:
            with path.open("rb") as file:
                pixels = decode_upright(file, path.stat().st_size, Limits())
            vectors.append(vector_by(network, pixels))
            kinds.append(row["kind"])
            sets.append(row["set"])
    if not vectors:
        raise PipelineUnavailable(f"no picture below {images} stands in {truth}")
    return Examples(vectors=np.stack(vectors), kinds=tuple(kinds), sets=tuple(sets))
