"""The network behind ``segment`` and ``objects``: which pixels are specimen, label, barcode, ruler, chart and so on.

Trained by ``runners.training.segment``; docs/models/specimen.md says on what and how right it is. Runs on the processor
in one thread, so that the same image gives the same shares again.
"""

import hashlib
from functools import cache
from importlib import resources
from typing import Any, Final

import numpy as np

from linkeddata.pipeline import Environment, Weight
from runners.errors import PipelineUnavailable
from runners.pipeline import Pixels, base_versions

MODEL: Final = "specimen-2.onnx"
CLASSES: Final = ("ground", "specimen", "label", "barcode", "ruler", "chart", "stamp", "envelope", "other")
SPECIMEN: Final = 1
RIM: Final = len(CLASSES)
"""The last plane of the shares: the rim of a thing of paper."""
SIDE_PX: Final = 768
"""The longer side that the network sees: what it was trained with."""
LEAST_PX: Final = 32
"""Below this there is nothing to see."""
LIBRARIES: Final = ("onnxruntime", "onnxruntime-gpu", "opencv-python-headless", "numpy", "pillow")
Shares = np.ndarray[Any, np.dtype[np.float32]]
"""(10, height, width): per class the share of belief, and the rim."""


@cache
def _bytes() -> bytes:
    return resources.files("runners").joinpath("models", MODEL).read_bytes()


def weight() -> Weight:
    """The model by content."""
    data = _bytes()
    return Weight(name=MODEL, id=f"hash://sha256/{hashlib.sha256(data).hexdigest()}", size_bytes=len(data))


class SpecimenNet:
    """The network, loaded."""

    def __init__(self, asker: str) -> None:
        """Loads it.

        Raises:
            PipelineUnavailable: no onnxruntime.
        """
        try:
            import cv2
            import onnxruntime
        except ImportError as error:
            raise PipelineUnavailable(f'{asker}: {error}: install "vasculum[cpu]"') from error
        cv2.setNumThreads(1)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._session: Any = onnxruntime.InferenceSession(_bytes(), options, providers=["CPUExecutionProvider"])

    def environment(self) -> Environment:
        """On what it runs."""
        return Environment(
            versions=base_versions(*LIBRARIES), execution_provider="CPU", precision="float32", device_class="cpu"
        )

    def shares(self, pixels: Pixels) -> Shares:
        """What the network says of an image, whose longer side becomes 768."""
        import cv2

        height, width = pixels.shape[:2]
        scale = SIDE_PX / max(height, width)
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
        picture = cv2.resize(np.ascontiguousarray(pixels), size, interpolation=how)
        padded = np.pad(picture, ((0, -size[1] % 32), (0, -size[0] % 32), (0, 0)), mode="edge")
        given = np.ascontiguousarray(padded.transpose(2, 0, 1)[np.newaxis].astype(np.float32))
        [found] = self._session.run(None, {"pixels": given})
        return np.asarray(found[0, :, : size[1], : size[0]], np.float32)
