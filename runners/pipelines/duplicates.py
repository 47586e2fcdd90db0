"""``duplicates/1``: perceptual hashes (PDQ) of an image as it is, turned, mirrored, and of its middle.

PDQ (Facebook, 2019, "The TMK+PDQF Video-Hashing Algorithm and the PDQ Image-Hashing Algorithm") keeps the signs of 256
low frequencies; resizing and compressing hardly change it, another sheet of the same layout differs in about 90 bits.
Cuts are looked for by hashing the middle of the picture, as if its outer parts had been cut off.

It leaves out: comparing (``linkeddata.duplicates``).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np

import linkeddata.outputs.duplicates
import runners.decode
from linkeddata.duplicates import LITTLE, distance
from linkeddata.json_strict import Json
from linkeddata.outputs.duplicates import CUTS, MAX_QUALITY
from linkeddata.pipeline import Environment, PipelineManifest
from runners.errors import PipelineUnavailable
from runners.pipeline import Pixels, Reference, Upstream, base_versions, implementation_digest, pinned

SIDE_PX: Final = 512
"""Longer side of what is hashed. PDQ looks at 64 x 64 pixels of it."""
LIBRARIES: Final = ("pdqhash", "opencv-python-headless", "numpy", "pillow")

Bits = np.ndarray[Any, np.dtype[np.uint8]]


class Duplicates:
    """The adapter."""

    def __init__(self) -> None:
        self._pdq: Any = None

    def manifest(self) -> PipelineManifest:
        """What it is."""
        return PipelineManifest(
            output="duplicates/1",
            name="duplicates",
            version="1.0.0",
            title="Fingerprints",
            description="Perceptual hashes (PDQ) by which copies, cuts and further scans of a picture are found",
            runtime="builtin",
            libraries=pinned(*LIBRARIES),
            tolerance="8",
            implementation=implementation_digest(self, runners.decode, linkeddata.outputs.duplicates),
        )

    def load(self) -> Environment:
        """Imports PDQ."""
        try:
            import cv2
            import pdqhash
        except ImportError as error:
            raise PipelineUnavailable(f"duplicates: {error}") from error
        cv2.setNumThreads(1)
        self._pdq = pdqhash
        return Environment(
            versions=base_versions(*LIBRARIES), execution_provider="cpu", precision="float32", device_class="cpu"
        )

    def run(self, pixels: Pixels, parameters: Mapping[str, Json], upstream: Upstream) -> dict[str, Json]:  # noqa: ARG002
        """The hashes of one image."""
        if self._pdq is None:
            raise PipelineUnavailable("duplicates: load comes before run")
        small = _shrunk(pixels)
        turned, quality = self._pdq.compute_dihedral(small)
        cut: list[Json] = [_text(self._pdq.compute(_middle(small, float(part)))[0]) for part in CUTS]
        turns: list[Json] = [_text(bits) for bits in turned]
        doubts: list[Json] = ["there is too little in the picture to tell it from others"] if quality < LITTLE else []
        return {"turned": turns, "cut": cut, "quality": max(0, min(MAX_QUALITY, int(quality))), "doubts": doubts}

    def references(self) -> Sequence[Reference]:
        """Made pictures; the deviation is in bits of 256."""
        rows, columns = np.indices((400, 520))
        waves = 127 + 60 * np.sin(rows / 37.0) + 50 * np.cos(columns / 23.0) + 15 * np.sin((rows + 2 * columns) / 11.0)
        spots = 230 - 180 * ((rows % 130 - 60) ** 2 + ((columns + rows // 3) % 170 - 80) ** 2 < 1500)
        return tuple(
            Reference(name=name, pixels=_rgb(grey), deviation=_expects(expected))
            for name, grey, expected in (("waves", waves, WAVES), ("spots", spots, SPOTS))
        )


WAVES: Final = "55550000555500005555ffffaa2affff0020ffdf0082ff7f0a00dff70000ffff"
SPOTS: Final = "9a9ff040f29f7140fabfa2c25a80dbca64950a3f203f0a95f1c025350f3ff76a"


def _shrunk(pixels: Pixels) -> Pixels:
    import cv2

    height, width = pixels.shape[:2]
    scale = SIDE_PX / max(height, width)
    if scale >= 1 and min(height, width) >= 8:
        return pixels
    size = (max(8, round(width * min(scale, 1))), max(8, round(height * min(scale, 1))))
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def _middle(pixels: Pixels, part: float) -> Pixels:
    height, width = pixels.shape[:2]
    y, x = round(height * (1 - part) / 2), round(width * (1 - part) / 2)
    return np.ascontiguousarray(pixels[y : height - y, x : width - x])


def _text(bits: Bits) -> str:
    return np.packbits(np.asarray(bits, dtype=np.uint8)).tobytes().hex()


def _rgb(grey: np.ndarray[Any, Any]) -> Pixels:
    clipped = np.clip(grey, 0, 255).astype(np.uint8)
    return np.ascontiguousarray(np.repeat(clipped[:, :, None], 3, axis=2))


def _expects(expected: str) -> Callable[[dict[str, Json]], float]:
    def deviation(body: dict[str, Json]) -> float:
        return float(distance(str(body["turned"][0]), expected))

    return deviation
