"""``barcode/1``: machine-readable codes, read by zxing-cpp and, where libzbar is there, by a second reader.

On a miss the image is tried again at one and a half and at twice its size (small Data Matrix codes need it), in
tiles so that large sheets stay within memory.
The second reader is restricted to the symbologies in which it makes no false finds
(pyzbar reports Interleaved-2-of-5 in the veins of leaves).
"""

from collections.abc import Iterator, Mapping, Sequence
from ctypes import CDLL, byref, c_uint
from ctypes.util import find_library
from typing import Any, Final

import numpy as np

import runners.decode
from linkeddata.json_strict import Json
from linkeddata.outputs import MAX_CODES, MAX_PAYLOAD_CHARS
from linkeddata.pipeline import Environment, PipelineManifest
from runners.errors import PipelineUnavailable
from runners.pipeline import Pixels, Reference, Upstream, base_versions, implementation_digest, pinned

SYMBOLOGIES: Final = (
    "Code39",
    "Code93",
    "Code128",
    "Codabar",
    "DataMatrix",
    "QRCode",
    "MicroQRCode",
    "PDF417",
    "Aztec",
)
"""What collections print. The retail codes (EAN, UPC, ITF) are left out: they are found where there are none."""
LINEAR_MIN_CHARS: Final = 4
"""A linear code with fewer characters is a ruler that looks like one."""
DOUBLED_MAX_PX: Final = 40_000_000
"""Images up to this size are doubled whole on a miss; larger ones in tiles of this size."""
SCALES: Final = (1.5, 2.0)
"""Tried when no matrix code was found: which one works depends on how the code's modules fall on the pixels."""
TILE_PX: Final = 3000
OVERLAP_PX: Final = 600


class Barcode:
    """The adapter."""

    def manifest(self) -> PipelineManifest:
        """What it is."""
        return PipelineManifest(
            output="barcode/1",
            name="barcode",
            version="1.0.0",
            title="Barcodes",
            description="Codes read by zxing-cpp, enlarged on a miss, and by zbar as a second reader",
            runtime="builtin",
            libraries=pinned("zxing-cpp", "pyzbar", "opencv-python-headless", "numpy", "pillow"),
            tolerance="0",
            implementation=implementation_digest(self, runners.decode),
        )

    def load(self) -> Environment:
        """Imports the readers; the second one is part of the environment, because it changes results."""
        try:
            import cv2
            import zxingcpp
        except ImportError as error:
            raise PipelineUnavailable(f"barcode: {error}") from error
        cv2.setNumThreads(1)
        self._formats = zxingcpp.barcode_formats_from_str(",".join(SYMBOLOGIES))
        versions = base_versions("zxing-cpp", "pyzbar", "opencv-python-headless", "numpy", "pillow")
        self._has_zbar = find_library("zbar") is not None
        if self._has_zbar:
            from pyzbar import pyzbar  # noqa: F401 - loads libzbar now, before the walls go up

            versions["libzbar"] = _zbar_version()
        return Environment(versions=versions, execution_provider="cpu", precision="uint8", device_class="cpu")

    def run(self, pixels: Pixels, parameters: Mapping[str, Json], upstream: Upstream) -> dict[str, Json]:  # noqa: ARG002
        """Reads one image."""
        import cv2

        height, width = pixels.shape[:2]
        grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
        found: dict[tuple[str, str], dict[str, Json]] = {}
        for code in self._read_zxing(grey, 0, 0, 1.0):
            found.setdefault((code["symbology"], code["payload"]), code)
        if self._has_zbar:
            for code in self._read_zbar(grey):
                found.setdefault((code["symbology"], code["payload"]), code)
        if not any(code["symbology"] in ("DataMatrix", "QRCode") for code in found.values()):
            for x, y, tile in _tiles(grey):
                for scale in SCALES:
                    larger = cv2.resize(tile, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
                    for code in self._read_zxing(larger, x, y, scale):
                        found.setdefault((code["symbology"], code["payload"]), code)
        codes = [_inside(code, width, height) for code in found.values()][:MAX_CODES]
        doubts: list[Json] = []
        if not codes and _is_blurred(grey):
            doubts.append("blurred: a code might be there and not be readable")
        return {"codes": codes, "doubts": doubts}

    def references(self) -> Sequence[Reference]:
        """A code that the library itself draws."""
        import zxingcpp

        made = zxingcpp.create_barcode("VASCULUM 0001", zxingcpp.BarcodeFormat.Code128)
        drawn = zxingcpp.write_barcode_to_image(made, scale=3, add_quiet_zones=True)
        code = np.asarray(drawn, dtype=np.uint8)
        paper = np.full((400, 800), 235, dtype=np.uint8)
        paper[100 : 100 + code.shape[0], 60 : 60 + code.shape[1]] = code
        pixels = np.ascontiguousarray(np.repeat(paper[:, :, None], 3, axis=2))
        return (Reference(name="code128", pixels=pixels, deviation=_expects("VASCULUM 0001")),)

    def _read_zxing(self, grey: Pixels, x: int, y: int, scale: float) -> Iterator[dict[str, Json]]:
        import zxingcpp

        for item in zxingcpp.read_barcodes(grey, formats=self._formats):
            kind = str(item.format).rsplit(".", 1)[-1].replace(" ", "")
            if not _is_plausible(kind, item.text):
                continue
            corners = item.position
            xs = [corners.top_left.x, corners.top_right.x, corners.bottom_left.x, corners.bottom_right.x]
            ys = [corners.top_left.y, corners.top_right.y, corners.bottom_left.y, corners.bottom_right.y]
            box = _box([x + value / scale for value in xs], [y + value / scale for value in ys])
            yield {"symbology": kind, "payload": item.text, "box": box, "reader": "zxing-cpp"}

    def _read_zbar(self, grey: Pixels) -> Iterator[dict[str, Json]]:
        from pyzbar import pyzbar

        kinds = [pyzbar.ZBarSymbol.CODE39, pyzbar.ZBarSymbol.CODE128, pyzbar.ZBarSymbol.QRCODE]
        names = {"CODE39": "Code39", "CODE128": "Code128", "QRCODE": "QRCode"}
        for item in pyzbar.decode(grey, symbols=kinds):
            text = item.data.decode("utf-8", "replace")
            kind = names.get(item.type, item.type)
            if _is_plausible(kind, text):
                x, y, w, h = item.rect
                box = _box([x, x + w], [y, y + h])
                yield {"symbology": kind, "payload": text, "box": box, "reader": "zbar"}


def _zbar_version() -> str:
    """Version of the C library, which pip knows nothing of."""
    parts = (c_uint(), c_uint(), c_uint())
    CDLL(find_library("zbar")).zbar_version(*(byref(part) for part in parts))
    return ".".join(str(part.value) for part in parts)


def _is_plausible(kind: str, text: str) -> bool:
    if not 1 <= len(text) <= MAX_PAYLOAD_CHARS or not text.isprintable():
        return False
    return kind in ("DataMatrix", "QRCode", "Aztec", "PDF417", "MicroQRCode") or len(text) >= LINEAR_MIN_CHARS


def _box(xs: Sequence[float], ys: Sequence[float]) -> list[Json]:
    left, top = int(min(xs)), int(min(ys))
    return [left, top, max(1, int(max(xs)) - left), max(1, int(max(ys)) - top)]


def _inside(code: dict[str, Json], width: int, height: int) -> dict[str, Json]:
    x, y, w, h = code["box"]
    x, y = min(max(x, 0), width - 1), min(max(y, 0), height - 1)
    return {**code, "box": [x, y, max(1, min(w, width - x)), max(1, min(h, height - y))]}


def _tiles(grey: Pixels) -> Iterator[tuple[int, int, Pixels]]:
    height, width = grey.shape
    if height * width * 4 <= DOUBLED_MAX_PX:
        yield 0, 0, grey
        return
    step = TILE_PX - OVERLAP_PX
    for y in range(0, max(1, height - OVERLAP_PX), step):
        for x in range(0, max(1, width - OVERLAP_PX), step):
            yield x, y, np.ascontiguousarray(grey[y : y + TILE_PX, x : x + TILE_PX])


def _is_blurred(grey: Pixels) -> bool:
    import cv2

    return float(cv2.Laplacian(grey, cv2.CV_64F).var()) < 12.0


def _expects(payload: str) -> Any:
    def deviation(body: dict[str, Json]) -> float:
        return 0.0 if [code["payload"] for code in body["codes"]] == [payload] else 1.0

    return deviation
