"""``embed/1``: what an image looks like, as 1280 numbers, by EfficientNet-Lite0 without its classifier.

The whole image is shown to the network: scaled to 224 pixels on its longer side, the rest filled by its own border,
so that nothing is cut off and nothing is stretched. The network's values are centred (in the model), and their square
roots are taken: a few large values would otherwise decide alone, and signs would say little.
The model is shipped (``docs/models/embed.md``); ``runners.training.export_embed`` makes it.

It leaves out: comparing vectors (``node.storage.vectors``) and keeping them.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

import linkeddata.outputs.embed
import runners.decode
from linkeddata.json_strict import Json
from linkeddata.outputs.embed import FULL, read_vector, write_vector
from linkeddata.pipeline import Environment, PipelineManifest, Weight
from runners.errors import PipelineUnavailable
from runners.pipeline import Pixels, Reference, Upstream, base_versions, implementation_digest, pinned

DIMENSIONS: Final = linkeddata.outputs.embed.DIMENSIONS
INPUT_PX: Final = 224
MODEL: Final = "efficientnet-lite0.onnx"
REFERENCES: Final = "efficientnet-lite0.references.json"
"""Vectors of the reference pictures as Torch computes them from the published weights."""
FOLDER: Final = Path(__file__).resolve().parent.parent / "models"
LIBRARIES: Final = ("onnxruntime", "onnxruntime-gpu", "opencv-python-headless", "numpy", "pillow")
SMALL_PX: Final = 32
"""Longer side under which there is hardly anything to see."""

Vector = np.ndarray[Any, np.dtype[np.float32]]


class Embed:
    """The adapter."""

    def __init__(self) -> None:
        self._network: Callable[[Vector], Vector] | None = None

    def manifest(self) -> PipelineManifest:
        """What it is."""
        return PipelineManifest(
            output="embed/1",
            name="embed",
            version="1.0.0",
            title="Embedding",
            description="1280 numbers that say what an image looks like (EfficientNet-Lite0), for similarity",
            runtime="onnx",
            weights=(weight(MODEL),),
            libraries=pinned(*LIBRARIES),
            tolerance="0.002",
            implementation=implementation_digest(self, runners.decode, linkeddata.outputs.embed),
        )

    def load(self) -> Environment:
        """Loads the model."""
        self._network, provider = load_network()
        return Environment(
            versions=base_versions(*LIBRARIES), execution_provider=provider, precision="float32", device_class="cpu"
        )

    def run(self, pixels: Pixels, parameters: Mapping[str, Json], upstream: Upstream) -> dict[str, Json]:  # noqa: ARG002
        """The vector of one image."""
        if self._network is None:
            raise PipelineUnavailable("embed: load comes before run")
        small = max(pixels.shape[:2]) < SMALL_PX
        doubts: list[Json] = [f"the image has fewer than {SMALL_PX} pixels on its longer side"] if small else []
        vector = rooted(self._network(prepared(pixels)))
        return {"vector": write_vector(quantised(vector)), "doubts": doubts}

    def references(self) -> Sequence[Reference]:
        """Made pictures; what they must give was computed by Torch."""
        expected = json.loads((FOLDER / REFERENCES).read_text("utf-8"))
        return tuple(
            Reference(name=name, pixels=pixels, deviation=_distance_from(expected[name]))
            for name, pixels in reference_pictures().items()
        )


def load_network() -> tuple[Callable[[Vector], Vector], str]:
    """The network as a function of prepared pixels, and the execution provider that it really got.

    Raises:
        PipelineUnavailable: onnxruntime or the model is missing.
    """
    try:
        import cv2
        import onnxruntime
    except ImportError as error:
        raise PipelineUnavailable(f"embed: {error}") from error
    cv2.setNumThreads(1)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(
            str(FOLDER / MODEL), sess_options=options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # onnxruntime raises its own kinds for a model that is missing or broken
        raise PipelineUnavailable(f"embed: the model {MODEL} cannot be loaded: {type(error).__name__}") from error

    def network(pixels: Vector) -> Vector:
        found: Vector = session.run(["vector"], {"pixels": pixels})[0][0]
        return found

    return network, str(session.get_providers()[0])


def prepared(pixels: Pixels) -> Vector:
    """What the network is shown: (1, 3, 224, 224), about -1 to 1."""
    import cv2

    height, width = pixels.shape[:2]
    scale = INPUT_PX / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    small = cv2.resize(pixels, size, interpolation=way)
    left, top = (INPUT_PX - size[0]) // 2, (INPUT_PX - size[1]) // 2
    filled = cv2.copyMakeBorder(
        small, top, INPUT_PX - size[1] - top, left, INPUT_PX - size[0] - left, cv2.BORDER_REPLICATE
    )
    return np.ascontiguousarray(((filled.astype(np.float32) - 127.0) / 128.0).transpose(2, 0, 1)[None])


def rooted(vector: Vector) -> Vector:
    """Square roots with their signs."""
    return np.asarray(np.sign(vector) * np.sqrt(np.abs(vector)), dtype=np.float32)


def quantised(vector: Vector) -> list[int]:
    """Whole numbers from -127 to 127, the largest of which is 127 or -127."""
    largest = float(np.abs(vector).max())
    if largest == 0:  # no picture gives it; a direction is needed all the same
        return [FULL, *([0] * (DIMENSIONS - 1))]
    values: list[int] = np.rint(vector.astype(np.float64) * (FULL / largest)).astype(int).tolist()
    return values


def vector_of(text: str) -> Vector:
    """The member ``vector`` of a result as a unit vector (1280,)."""
    values = np.array(read_vector(text), dtype=np.float32)
    return values / np.float32(np.linalg.norm(values))


def weight(name: str) -> Weight:
    """A shipped model by content."""
    data = (FOLDER / name).read_bytes()
    return Weight(name=name, id="hash://sha256/" + hashlib.sha256(data).hexdigest(), size_bytes=len(data))


def reference_pictures() -> dict[str, Pixels]:
    """A board with rings, a sheet of paper with a leaf, and a picture far larger than it is shown."""
    rows, columns = np.indices((300, 420))
    board = np.where((rows // 30 + columns // 30) % 2 == 0, 70, 200)
    rings = np.where(np.hypot(rows - 150, columns - 210) % 40 < 20, board, 255 - board)
    sheet = np.full((640, 430, 3), (238, 232, 214))
    y, x = np.indices((640, 430))
    leaf = ((x - 200) / 90) ** 2 + ((y - 260) / 170) ** 2 < 1
    sheet[leaf] = (88, 104, 52)
    sheet[540:610, 250:410] = (250, 250, 246)
    sheet[552:600:12, 262:398] = (40, 38, 36)
    large = np.kron(sheet, np.ones((4, 4, 1)))
    pictures = {"rings": np.repeat(rings[:, :, None], 3, axis=2), "sheet": sheet, "large": large}
    return {name: np.ascontiguousarray(picture.astype(np.uint8)) for name, picture in pictures.items()}


def _distance_from(expected: str) -> Callable[[dict[str, Json]], float]:
    def deviation(body: dict[str, Json]) -> float:
        return max(0.0, 1.0 - float(vector_of(str(body["vector"])) @ vector_of(expected)))

    return deviation
