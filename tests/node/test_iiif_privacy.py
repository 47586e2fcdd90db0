"""Nothing that lies in the luggage of a picture leaves with its derivatives; what the record says about rights does."""

import io
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from test_iiif_http import serving

from node.folder import NodeFolder

Make = Callable[..., NodeFolder]
NEEDLES = (b"SERIAL-4711", b"CAMERA-MAKER", b"XMP-PLACE", b"IPTC-PLACE", b"TRAILER-NOTE", b"COMMENT-NOTE", b"Exif\0\0",
           b"<exif:GPS", b"Photoshop 3.0")  # fmt: skip


def segment(marker: int, data: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data


def with_luggage() -> bytes:
    """A JPEG with a place in EXIF, XMP and IPTC, a serial number, an embedded preview, a comment and a trailer."""
    across = np.linspace(0, 255, 2000, dtype=np.float32)[None, :].repeat(1400, 0)
    image = Image.fromarray(np.stack([across, across[:, ::-1], across * 0 + 80], 2).astype(np.uint8))
    exif = Image.Exif()
    exif[0x010F] = "CAMERA-MAKER"
    exif.get_ifd(0x8769)[0xA431] = "SERIAL-4711"
    gps = exif.get_ifd(0x8825)
    gps[1], gps[2], gps[3], gps[4] = "N", (47.0, 12.0, 34.5), "E", (8.0, 5.0, 6.5)
    out = io.BytesIO()
    image.save(out, "JPEG", quality=90, exif=exif, comment=b"COMMENT-NOTE")
    data = out.getvalue()
    small = io.BytesIO()
    image.resize((160, 112)).save(small, "JPEG")
    xmp = b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta xmlns:x='adobe:ns:meta/'><exif:GPSLatitude>XMP-PLACE</exif:GPSLatitude></x:xmpmeta>"
    iptc = b"Photoshop 3.0\x008BIM\x04\x04\0\0\0\0\0\x0f\x1c\x02\x5a\0\x0aIPTC-PLACE\0"
    return data[:2] + segment(0xE1, xmp) + segment(0xED, iptc) + data[2:] + small.getvalue() + b"TRAILER-NOTE"


OUTPUTS = (
    "0,0,512,512/512,512/0/default.jpg", "0,0,1024,1024/512,512/0/default.jpg", "1536,1024,464,376/max/0/default.jpg",
    "full/!400,400/0/default.jpg", "full/max/0/default.jpg", "full/500,/90/gray.png", "5,5,600,600/max/!0/default.webp",
    "full/300,/0/default.png",
)  # fmt: skip


async def test_no_derivative_carries_places_serial_numbers_or_previews(make_node: Make, tmp_path: Path) -> None:
    original = with_luggage()
    for needle in NEEDLES:
        assert needle in original, needle
    async with serving(make_node, tmp_path / "a", sheet=original) as served:
        for rest in OUTPUTS:
            data = await (await served.client.get(served.path(rest))).read()
            with Image.open(io.BytesIO(data)) as image:
                image.load()
                assert not dict(image.getexif()), rest
                info: dict[str, Any] = dict(image.info)
            for needle in NEEDLES:
                assert needle not in data, (rest, needle)
            assert data.count(b"\xff\xd8\xff") == (1 if rest.endswith("jpg") else 0), (
                f"a picture in the picture: {rest}"
            )
            packet = info.get("xmp") or info.get("XML:com.adobe.xmp", "").encode()
            if rest.startswith("0,0,"):
                assert not packet, "tiles carry nothing"
            else:
                assert b"creativecommons.org/publicdomain/zero/1.0/" in packet, rest
                assert b"/media/" in packet
        for path in served.node.settings.derived_path.rglob("*"):
            if path.is_file():
                for needle in NEEDLES:
                    assert needle not in path.read_bytes(), (path, needle)


@pytest.mark.parametrize("form", ["PNG", "WEBP", "TIFF"])
async def test_metadata_of_other_formats_stays_too(make_node: Make, tmp_path: Path, form: str) -> None:
    exif = Image.Exif()
    exif[0x010F] = "CAMERA-MAKER"
    out = io.BytesIO()
    Image.new("RGB", (700, 500), (9, 99, 199)).save(
        out, form, exif=exif, **({"xmp": b"<x>XMP-PLACE</x>"} if form == "WEBP" else {})
    )
    assert b"CAMERA-MAKER" in out.getvalue()
    async with serving(make_node, tmp_path / "a", sheet=out.getvalue()) as served:
        for rest in (
            "full/max/0/default.jpg",
            "full/max/0/default.png",
            "full/max/0/default.webp",
            "full/!400,400/0/default.jpg",
        ):
            data = await (await served.client.get(served.path(rest))).read()
            assert b"CAMERA-MAKER" not in data
            assert b"XMP-PLACE" not in data
