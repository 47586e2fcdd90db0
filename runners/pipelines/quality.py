"""``quality/1``: is this picture sharp, well lit, straight, whole and large enough? OpenCV only, cheap.

Sharpness is the variance of the Laplacian on a grey copy of at most 2,000 pixels; it depends on noise and subject,
so the threshold is low and the number is given. Compare it within one device and imaging batch.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

import runners.decode
from linkeddata.json_strict import Json
from linkeddata.pipeline import Environment, PipelineManifest
from runners.pipeline import Pixels, Reference, Upstream, base_versions, decimal, implementation_digest, pinned
from runners.pipelines import quality_signs

BLURRED_BELOW: Final = 12.0
"""Variance of the Laplacian (levels squared) under which even a plain sheet is out of focus: a sharp sheet has
hundreds, the same sheet blurred with sigma 1.5 has 9, with sigma 4 has 1.6."""
CLIPPED_ABOVE: Final = 0.35
"""Share of pure white or pure black pixels beyond which detail is lost; a white background alone reaches 0.3."""
SMALL_BELOW_PX: Final = 600
"""Longer side under which label text of a whole sheet has fewer than about 5 pixels per letter."""
SKEWED_ABOVE: Final = 2.0
"""Degrees beyond which a sheet lies visibly askew."""
TOUCHED_ABOVE: Final = 0.12
"""Share of the border with something on it from which a specimen or a sheet is probably cut off."""
SIDE_PX: Final = 2000
SIGNS_PX: Final = 1400
BORDER_PX: Final = 400


class Quality:
    """The adapter."""

    def manifest(self) -> PipelineManifest:
        """What it is."""
        return PipelineManifest(
            output="quality/1",
            name="quality",
            version="1.1.0",
            title="Image quality",
            description="Sharpness, exposure, clipping, skew, orientation, border and size, each with a reason",
            runtime="builtin",
            libraries=pinned("opencv-python-headless", "numpy", "pillow"),
            tolerance="0.02",
            implementation=implementation_digest(self, quality_signs, runners.decode),
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
        signs = _smaller(grey, SIGNS_PX)
        skew, lines = quality_signs.skew_of(signs), quality_signs.lines_run(signs)
        touched = quality_signs.touched_border(_smaller(pixels, BORDER_PX))
        measures["border"] = decimal(touched, 4)
        verdicts["border"] = "good" if touched <= TOUCHED_ABOVE else "poor"
        doubts: list[Json] = []
        if skew is None:
            doubts.append("skew is not known: too few straight edges")
        else:
            measures["skew"] = decimal(skew, 2)
            verdicts["skew"] = "good" if abs(skew) <= SKEWED_ABOVE else "poor"
        if lines is None:
            doubts.append("orientation is not known: too little text")
        else:
            verdicts["orientation"] = "good" if lines == "level" else "poor"
        reasons = {name: _reason(name, measures, mean) for name, verdict in verdicts.items() if verdict == "poor"}
        return {"measures": measures, "verdicts": verdicts, "reasons": reasons, "doubts": doubts}

    def references(self) -> Sequence[Reference]:
        """A chessboard (sharp) and a ramp (not)."""
        rows, columns = np.indices((400, 640))
        board = np.where((rows // 20 + columns // 20) % 2 == 0, 60, 190).astype(np.uint8)
        ramp = np.linspace(30, 220, 640, dtype=np.float64)[None, :].repeat(400, axis=0).astype(np.uint8)
        return (
            Reference(name="chessboard", pixels=_rgb(board), deviation=_expects("sharpness", "good", 124.5, "mean")),
            Reference(name="ramp", pixels=_rgb(ramp), deviation=_expects("sharpness", "poor", 124.6, "mean")),
        )


def _smaller(picture: Pixels, side: int) -> Pixels:
    import cv2

    scale = side / max(picture.shape[:2])
    if scale >= 1:
        return picture
    size = (max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale)))
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def _reason(verdict: str, measures: Mapping[str, Json], mean: float) -> str:
    """One sentence on why a verdict is poor."""
    sentences = {
        "sharpness": f"blurred: sharpness {measures['sharpness']}, at least {BLURRED_BELOW:g} is usual",
        "exposure": "too dark" if mean < 40 else "too bright",
        "clipping": f"white {measures['white']} and black {measures['black']} of the image have no detail",
        "size": f"the longer side has fewer than {SMALL_BELOW_PX} pixels",
        "skew": f"turned by {measures.get('skew', '0')} degrees",
        "orientation": "lines of text run upright: the image is turned by a quarter",
        "border": f"something touches {float(str(measures['border'])):.0%} of the border: it may be cut off",
    }
    return sentences[verdict]


def _rgb(grey: Pixels) -> Pixels:
    return np.ascontiguousarray(np.repeat(grey[:, :, None], 3, axis=2))


def _expects(verdict: str, value: str, number: float, measure: str):  # type: ignore[no-untyped-def]
    def deviation(body: dict[str, Json]) -> float:
        if body["verdicts"][verdict] != value:
            return 1.0
        return abs(float(body["measures"][measure]) - number) / number

    return deviation
