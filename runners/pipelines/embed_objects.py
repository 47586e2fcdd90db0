"""``embed-objects/1``: what each object of ``objects/1`` looks like, by the network of ``embed/1`` on its crop.

The crop is the object's upright box with whatever else lies in it, shown to the network, centred, rooted and quantised
exactly as ``embed`` does with a whole image; so a vector of a region may be compared with one of an image.
Objects too small to be seen are left out, and that is said.

It leaves out: finding objects (``runners.pipelines.objects``), keeping and comparing vectors
(``node.storage.vectors``).
"""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np

import linkeddata.outputs.embed
import linkeddata.outputs.embed_objects
import runners.decode
import runners.pipelines.embed
from linkeddata.json_strict import Json
from linkeddata.outputs.embed import write_vector
from linkeddata.outputs.embed_objects import MAX_EMBEDDED
from linkeddata.pipeline import Environment, PipelineManifest
from runners.errors import ImageRefused, PipelineUnavailable
from runners.pipeline import Pixels, Reference, Upstream, base_versions, implementation_digest, pinned
from runners.pipelines.embed import (
    FOLDER,
    LIBRARIES,
    MODEL,
    REFERENCES,
    SMALL_PX,
    Vector,
    load_network,
    prepared,
    quantised,
    reference_pictures,
    rooted,
    vector_of,
    weight,
)

NEEDED: Final = "objects/1"
PLACES: Final = {"sheet": ("specimen", (40, 60, 430, 640)), "rings": ("other", (520, 210, 420, 300))}
"""Reference pictures of ``embed`` on the reference image: kind, and box."""


class EmbedObjects:
    """The adapter."""

    def __init__(self) -> None:
        self._network: Callable[[Vector], Vector] | None = None

    def manifest(self) -> PipelineManifest:
        """What it is."""
        return PipelineManifest(
            output="embed-objects/1",
            name="embed-objects",
            version="1.0.0",
            title="Embeddings of objects",
            description="1280 numbers for each object on the image (EfficientNet-Lite0), for similarity of regions",
            runtime="onnx",
            weights=(weight(MODEL),),
            libraries=pinned(*LIBRARIES),
            needs=(NEEDED,),
            tolerance="0.002",
            implementation=implementation_digest(
                self, runners.decode, runners.pipelines.embed, linkeddata.outputs.embed,
                linkeddata.outputs.embed_objects,
            ),
        )  # fmt: skip

    def load(self) -> Environment:
        """Loads the model."""
        self._network, provider = load_network()
        return Environment(
            versions=base_versions(*LIBRARIES), execution_provider=provider, precision="float32", device_class="cpu"
        )

    def run(self, pixels: Pixels, parameters: Mapping[str, Json], upstream: Upstream) -> dict[str, Json]:  # noqa: ARG002
        """The vectors of the objects of one image."""
        if self._network is None:
            raise PipelineUnavailable("embed-objects: load comes before run")
        if NEEDED not in upstream:
            raise ImageRefused("nobody looked for objects on this image")
        objects: Any = upstream[NEEDED]
        told: dict[tuple[int, ...], Json] = {}
        small = 0
        for item in objects["objects"][:MAX_EMBEDDED]:
            x, y, width, height = box = tuple(item["box"])
            if box in told:
                continue
            if max(width, height) < SMALL_PX:
                small += 1
                continue
            vector = rooted(self._network(prepared(pixels[y : y + height, x : x + width])))
            told[box] = {"kind": item["kind"], "box": list[Json](box), "vector": write_vector(quantised(vector))}
        doubts: list[Json] = [str(item) for item in objects.get("doubts", [])][:9]
        if small:
            doubts.append(f"{small} objects with fewer than {SMALL_PX} pixels on their longer side are left out")
        return {
            "objects": list(told.values()), "complete": bool(objects.get("complete")) and not small, "doubts": doubts,
        }  # fmt: skip

    def references(self) -> Sequence[Reference]:
        """Two reference pictures of ``embed`` on one image: their vectors were computed by Torch."""
        expected = json.loads((FOLDER / REFERENCES).read_text("utf-8"))
        pictures = reference_pictures()
        image = np.full((760, 980, 3), (214, 216, 210), np.uint8)
        objects: list[Json] = []
        for name, (kind, box) in PLACES.items():
            x, y, width, height = box
            image[y : y + height, x : x + width] = pictures[name]
            objects.append({"kind": kind, "score": "1.000", "box": list[Json](box)})
        upstream: dict[str, dict[str, Json]] = {NEEDED: {"objects": objects, "complete": True, "doubts": []}}
        wanted = {box: vector_of(expected[name]) for name, (_, box) in PLACES.items()}
        return (
            Reference(
                name="two-objects", pixels=image, deviation=lambda body: _farthest(body, wanted), upstream=upstream
            ),
        )


def _farthest(body: dict[str, Json], wanted: Mapping[tuple[int, int, int, int], Vector]) -> float:
    """1 minus the least cosine; 2 when other boxes are told."""
    found: Any = body["objects"]
    vectors = {tuple(item["box"]): vector_of(item["vector"]) for item in found}
    if vectors.keys() != wanted.keys():
        return 2.0
    return max(max(0.0, 1.0 - float(vectors[box] @ vector)) for box, vector in wanted.items())
