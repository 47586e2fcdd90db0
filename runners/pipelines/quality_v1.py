"""``quality/1`` as version 1.0.0 computed it: kept so that jobs which ask for that version still get it.

Frozen: nothing here is changed any more. ``IMPLEMENTATION`` is the digest that the version had when it was current,
so results keep their work keys, and ``tests/runners/test_previous_versions.py`` holds it to what it gave then.

Sharpness is the variance of the Laplacian on a grey copy of at most 2,000 pixels; it depends on noise and subject,
so the threshold is low and the number is given. Compare it within one device and imaging batch.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from linkeddata.json_strict import Json
from linkeddata.pipeline import Environment, PipelineManifest
from runners.pipeline import Pixels, Reference, Upstream, base_versions, decimal, pinned

IMPLEMENTATION: Final = "sha256:b9c3ec8a2da394a66b7bb7ce2efba60ab93619231f5d19f1698aef9cf03b49ff"
"""Over the source of the adapter and of the decoder, as they were."""
BLURRED_BELOW: Final = 12.0
"""Variance of the Laplacian (levels squared) under which even a plain sheet is out of focus: a sharp sheet has
hundreds, the same sheet blurred with sigma 1.5 has 9, with sigma 4 has 1.6."""
CLIPPED_ABOVE: Final = 0.35
"""Share of pure white or pure black pixels beyond which detail is lost; a white background alone reaches 0.3."""
SMALL_BELOW_PX: Final = 600
"""Longer side under which label text of a whole sheet has fewer than about 5 pixels per letter."""
SIDE_PX: Final = 2000


class Quality:
    """The adapter."""

    def manifest(self) -> PipelineManifest:
        """What it is."""
        return PipelineManifest(
            output="quality/1",
            name="quality",
            version="1.0.0",
            title="Image quality",
            description="Sharpness, exposure, clipping and size, each with a verdict",
            runtime="builtin",
            libraries=pinned("opencv-python-headless", "numpy", "pillow"),
            tolerance="0.02",
            implementation=IMPLEMENTATION,
        )

    def load(self) -> Environment:
        """Imports OpenCV."""
        import cv2

        cv2.setNumThreads(1)
        return Environment(
            versions=base_versions("opencv-python-headless", "numpy", "pillow"),
            execution_provider="cpu",
            precision="float64",
            device_class="cpu",
        )

    def run(self, pixels: Pixels, parameters: Mapping[str, Json], upstream: Upstream) -> dict[str, Json]:  # noqa: ARG002
        """Measures one image."""
        import cv2

        height, width = pixels.shape[:2]
        grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
        scale = SIDE_PX / max(height, width)
        if scale < 1:
            size = (max(1, round(width * scale)), max(1, round(height * scale)))
            grey = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
        sharpness = float(cv2.Laplacian(grey, cv2.CV_64F).var())
        mean = float(grey.mean())
        white, black = float((grey >= 254).mean()), float((grey <= 1).mean())
        verdicts: dict[str, Json] = {
            "sharpness": "good" if sharpness >= BLURRED_BELOW else "poor",
            "exposure": "good" if 40 <= mean <= 245 else "poor",
            "clipping": "good" if max(white, black) <= CLIPPED_ABOVE else "poor",
            "size": "good" if max(height, width) >= SMALL_BELOW_PX else "poor",
        }
        measures: dict[str, Json] = {
            "sharpness": decimal(min(sharpness, 1e9), 2),
            "mean": decimal(mean, 2),
            "white": decimal(white, 4),
            "black": decimal(black, 4),
            "megapixels": decimal(width * height / 1e6, 3),
        }
        return {"measures": measures, "verdicts": verdicts, "doubts": []}

    def references(self) -> Sequence[Reference]:
        """A chessboard (sharp) and a ramp (not)."""
        rows, columns = np.indices((400, 640))
        board = np.where((rows // 20 + columns // 20) % 2 == 0, 60, 190).astype(np.uint8)
        ramp = np.linspace(30, 220, 640, dtype=np.float64)[None, :].repeat(400, axis=0).astype(np.uint8)
        return (
            Reference(name="chessboard", pixels=_rgb(board), deviation=_expects("sharpness", "good", 124.5, "mean")),
            Reference(name="ramp", pixels=_rgb(ramp), deviation=_expects("sharpness", "poor", 124.6, "mean")),
        )


def _rgb(grey: Pixels) -> Pixels:
    return np.ascontiguousarray(np.repeat(grey[:, :, None], 3, axis=2))


def _expects(verdict: str, value: str, number: float, measure: str):  # type: ignore[no-untyped-def]
    def deviation(body: dict[str, Json]) -> float:
        if body["verdicts"][verdict] != value:
            return 1.0
        return abs(float(body["measures"][measure]) - number) / number

    return deviation
