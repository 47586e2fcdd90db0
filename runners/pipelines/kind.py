"""``kind/1``: sheet, dry insect, drawer, fluid, slide, label, or something else; from the vector of ``embed/1``.

A linear model of 9,000 numbers on the embedding, trained on pictures of collections and on made ones
(``runners.training.train_kind``, ``docs/models/kind.md``). Below ``LIKELY`` it says that it does not know.

It leaves out: looking at pixels, which ``embed`` does.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import numpy as np

import linkeddata.outputs.kind
from linkeddata.json_strict import Json
from linkeddata.outputs.embed import write_vector
from linkeddata.outputs.kind import KINDS, UNKNOWN
from linkeddata.pipeline import Environment, PipelineManifest
from runners.errors import ImageRefused, PipelineUnavailable
from runners.pipeline import Pixels, Reference, Upstream, base_versions, decimal, implementation_digest, pinned
from runners.pipelines.embed import DIMENSIONS, FOLDER, Vector, reference_pictures, vector_of, weight

MODEL: Final = "kind.onnx"
LIKELY: Final = 0.8
"""Score from which a kind is said; chosen on pictures of sets that training had not seen, where 48 of 49 answers were
right (``docs/pipelines/kind.md``)."""
LIBRARIES: Final = ("onnxruntime", "onnxruntime-gpu", "numpy")


class Kind:
    """The adapter."""

    def __init__(self) -> None:
        self._scores: Callable[[Vector], Vector] | None = None

    def manifest(self) -> PipelineManifest:
        """What it is."""
        return PipelineManifest(
            output="kind/1",
            name="kind",
            version="1.0.0",
            title="Kind of picture",
            description="Sheet, insect, drawer, fluid, slide, label or other, from the embedding; or unknown",
            runtime="onnx",
            weights=(weight(MODEL),),
            libraries=pinned(*LIBRARIES),
            needs=("embed/1",),
            tolerance="0.01",
            implementation=implementation_digest(self, linkeddata.outputs.kind),
        )

    def load(self) -> Environment:
        """Loads the model."""
        try:
            import onnxruntime
        except ImportError as error:
            raise PipelineUnavailable(f"kind: {error}") from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            session = onnxruntime.InferenceSession(
                str(FOLDER / MODEL), sess_options=options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime raises its own kinds for a model that is missing or broken
            raise PipelineUnavailable(f"kind: the model {MODEL} cannot be loaded: {type(error).__name__}") from error

        def scores(vector: Vector) -> Vector:
            found: Vector = session.run(["scores"], {"vector": vector[None]})[0][0]
            return found

        self._scores = scores
        return Environment(
            versions=base_versions(*LIBRARIES), execution_provider=str(session.get_providers()[0]),
            precision="float32", device_class="cpu",
        )  # fmt: skip

    def run(self, pixels: Pixels, parameters: Mapping[str, Json], upstream: Upstream) -> dict[str, Json]:  # noqa: ARG002
        """The kind of one image."""
        if self._scores is None:
            raise PipelineUnavailable("kind: load comes before run")
        if "embed/1" not in upstream:
            raise ImageRefused("there is no embedding of this image")
        found = self._scores(vector_of(str(upstream["embed/1"]["vector"])))
        doubts: list[Json] = [str(item) for item in upstream["embed/1"].get("doubts", [])][:9]
        best = int(np.argmax(found))
        is_known = float(found[best]) >= LIKELY and not doubts
        if float(found[best]) < LIKELY:
            doubts.insert(0, f"no kind is likely enough: {KINDS[best]} has {decimal(float(found[best]))}")
        scores: dict[str, Json] = {
            name: decimal(min(1.0, float(score))) for name, score in zip(KINDS, found, strict=True)
        }
        return {"kind": KINDS[best] if is_known else UNKNOWN, "scores": scores, "doubts": doubts}

    def references(self) -> Sequence[Reference]:
        """Two vectors that no picture gives, and what the model makes of them; the pixels are not looked at."""
        return tuple(
            Reference(
                name=name,
                pixels=reference_pictures()["sheet"],
                deviation=_expects(kind, score),
                upstream={"embed/1": {"vector": write_vector(values), "doubts": []}},
            )
            for name, values, kind, score in (("waves", _wave(3), *WAVES), ("ripples", _wave(41), *RIPPLES))
        )


WAVES: Final = ("insect", 0.668)
RIPPLES: Final = ("insect", 0.411)
"""The kind with the highest score, and that score, by the shipped weights."""


def _wave(period: int) -> list[int]:
    values = np.rint(127 * np.sin(np.arange(DIMENSIONS) * period / 17.0)).astype(int)
    values[0] = 127
    return [int(value) for value in values]


def _expects(kind: str, score: float) -> Callable[[dict[str, Json]], float]:
    def deviation(body: dict[str, Json]) -> float:
        return abs(float(body["scores"][kind]) - score)

    return deviation
