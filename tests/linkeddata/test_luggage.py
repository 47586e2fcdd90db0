"""What metadata tells is found wherever it hides, and a public original has none of it and every bit of the picture."""

import io
import random
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, ImageOps

from linkeddata.jpeg_parts import SOS, _end_of_scan, parts_of
from linkeddata.luggage import Luggage, is_withheld, luggage_of
from linkeddata.public_original import NotLossless, public_original
from linkeddata.rights_packet import Rights, rights_packet

PACKET = rights_packet(Rights(licence="https://creativecommons.org/licenses/by/4.0/", holder="Hortus", source="x:m"))
NEEDLES = (b"SERIAL-4711", b"OWNER-NAME", b"XMP-PLACE", b"IPTC-PLACE", b"TRAILER-NOTE", b"COMMENT-NOTE", b"MAKER-NOTE")


def segment(marker: int, data: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data


def picture(size: tuple[int, int] = (96, 64)) -> Image.Image:
    pixels = np.random.default_rng(7).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def full_exif(orientation: int = 6) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    inner = exif.get_ifd(0x8769)
    inner[0xA431], inner[0xA430], inner[0x927C] = "SERIAL-4711", "OWNER-NAME", b"MAKER-NOTE"
    gps = exif.get_ifd(0x8825)
    gps[1], gps[2], gps[3], gps[4] = "N", (47.0, 12.0, 34.5), "E", (8.0, 5.0, 6.5)
    return exif


XMP = b"<x:xmpmeta xmlns:x='adobe:ns:meta/'><rdf:Description photoshop:City='XMP-PLACE'/></x:xmpmeta>"
IPTC = b"Photoshop 3.0\x008BIM\x04\x04\0\0\0\0\0\x0f\x1c\x02\x5a\0\x0aIPTC-PLACE\0"


def jpeg(**options: Any) -> bytes:
    out = io.BytesIO()
    picture().save(out, "JPEG", quality=88, **options)
    return out.getvalue()


def loaded_jpeg(*, progressive: bool = False) -> bytes:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    data = jpeg(exif=full_exif(), comment=b"COMMENT-NOTE", icc_profile=profile, progressive=progressive)
    xmp = segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + XMP)
    return data[:2] + xmp + segment(0xED, IPTC) + data[2:] + jpeg() + b"TRAILER-NOTE"


def scans(data: bytes) -> list[bytes]:
    return [data[part.start : part.stop] for part in parts_of(data) if part.marker == SOS]


def upright(data: bytes) -> Any:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(ImageOps.exif_transpose(image))


def test_the_quick_way_through_a_scan_finds_what_the_long_way_finds() -> None:
    out = io.BytesIO()
    picture().save(out, "JPEG", quality=88, restart_marker_rows=1)
    plain, restarts = jpeg(), out.getvalue()
    assert b"\xff\xd0" in restarts
    for data in (plain, restarts, jpeg(progressive=True), plain[:-2] + segment(0xFE, b"between") + b"\xff\xd9"):
        ends = []
        for quick in (True, False):
            at = parts_of(data)[[part.marker for part in parts_of(data)].index(SOS)]
            ends.append(_end_of_scan(data, at.body, is_first=quick))
        assert ends[0] == ends[1]
    assert len([part for part in parts_of(jpeg(progressive=True)) if part.marker == SOS]) > 3
    hidden = plain[:-2] + segment(0xFE, b"COMMENT-NOTE") + b"\xff\xd9"
    assert luggage_of(hidden) == {Luggage.TEXT}, "a comment behind the picture data, before the end"
    assert b"COMMENT-NOTE" not in public_original(hidden, b"")


@pytest.mark.parametrize("progressive", [False, True])
def test_a_public_jpeg_has_every_bit_of_the_picture_and_nothing_else(progressive: bool) -> None:
    data = loaded_jpeg(progressive=progressive)
    assert all(needle in data for needle in NEEDLES)
    assert luggage_of(data) == set(Luggage) - {Luggage.PREVIEW, Luggage.OTHER, Luggage.UNREADABLE}
    public = public_original(data, PACKET)
    assert scans(public) == scans(data)
    assert not [needle for needle in NEEDLES if needle in public]
    assert not luggage_of(public) - {Luggage.TEXT}
    with Image.open(io.BytesIO(public)) as image, Image.open(io.BytesIO(data)) as before:
        assert dict(image.getexif()) == {0x0112: 6}
        assert image.info["icc_profile"] == before.info["icc_profile"]
        assert b"Hortus" in image.info["xmp"]
    assert np.array_equal(upright(public), upright(data))


@pytest.mark.parametrize("form", ["PNG", "WEBP"])
@pytest.mark.parametrize("orientation", [1, 8])
def test_other_formats_keep_pixels_and_orientation(form: str, orientation: int) -> None:
    out = io.BytesIO()
    more: dict[str, Any] = {"lossless": True, "xmp": XMP} if form == "WEBP" else {}
    picture().save(out, form, exif=full_exif(orientation), **more)
    assert {Luggage.POSITION, Luggage.SERIAL, Luggage.PERSON} <= luggage_of(out.getvalue())
    public = public_original(out.getvalue(), PACKET)
    assert not [needle for needle in NEEDLES if needle in public]
    assert np.array_equal(upright(public), upright(out.getvalue()))
    with Image.open(io.BytesIO(public)) as image:
        assert dict(image.getexif()) == ({} if orientation == 1 else {0x0112: orientation})
        assert b"Hortus" in (image.info.get("xmp") or image.info["XML:com.adobe.xmp"].encode())


def test_png_text_of_every_kind_is_found_and_goes() -> None:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    out = io.BytesIO()
    picture().save(out, "PNG")
    data = out.getvalue()
    for body, kind, tells in (
        (b"Comment\0COMMENT-NOTE", b"tEXt", Luggage.TEXT),
        (b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(XMP), b"iTXt", Luggage.PLACE),
        (b"Raw profile type exif\0\0" + zlib.compress(b"x"), b"zTXt", Luggage.UNREADABLE),
        (b"anything", b"prVt", Luggage.OTHER),
    ):
        added = data[:33] + chunk(kind, body) + data[33:]
        assert luggage_of(added) == {tells}
        assert public_original(added, b"") == data
    assert luggage_of(data + b"TRAILER") == {Luggage.TRAILER}
    assert public_original(data + b"TRAILER", b"") == data


def test_tags_of_tiff_files_are_read_and_none_is_offered() -> None:
    data = full_exif().tobytes().removeprefix(b"Exif\0\0")  # a TIFF file without a picture
    assert {Luggage.POSITION, Luggage.SERIAL} <= luggage_of(data)
    with pytest.raises(NotLossless, match="TIFF"):
        public_original(data, b"")
    plain = io.BytesIO()
    picture().save(plain, "TIFF")
    assert not luggage_of(plain.getvalue())


@pytest.mark.parametrize(
    ("data", "tells"),
    [
        (jpeg(), set()),
        (jpeg(exif=Image.Exif()), set()),
        (jpeg() + b"\0" * 512, set()),
        (jpeg()[:-2], {Luggage.UNREADABLE}),
        (jpeg()[:2] + segment(0xE1, b"Exif\0\0II*\0\xff\xff\0\0") + jpeg()[2:], {Luggage.UNREADABLE}),
        (jpeg()[:2] + segment(0xE2, b"MPF\0x") + jpeg()[2:], {Luggage.PREVIEW}),
        (jpeg()[:2] + segment(0xE5, b"x") + jpeg()[2:], {Luggage.OTHER}),
        (b"\0\0\0\x0cjP  ", {Luggage.UNREADABLE}),
        (b"", {Luggage.UNREADABLE}),
    ],
)
def test_what_single_things_tell(data: bytes, tells: set[Luggage]) -> None:
    assert luggage_of(data) == tells


def test_what_is_withheld_for_it() -> None:
    assert not is_withheld(None, "nothing")
    assert is_withheld(None, "places"), "nobody has looked"
    assert is_withheld(None, "all")
    for kind in Luggage:
        assert not is_withheld({kind}, "nothing")
        assert is_withheld({kind}, "all")
        tells = {Luggage.POSITION, Luggage.PLACE, Luggage.TRAILER, Luggage.UNREADABLE}
        assert is_withheld({kind}, "places") == (kind in tells)
    assert not is_withheld((), "all")


def samples() -> list[bytes]:
    found = [loaded_jpeg(), loaded_jpeg(progressive=True)]
    for form in ("PNG", "WEBP", "TIFF"):
        out = io.BytesIO()
        picture((24, 16)).save(out, form, exif=full_exif())
        found.append(out.getvalue())
    return found


SAMPLES = samples()
CHANGES: tuple[Callable[[bytearray, random.Random], None], ...] = (
    lambda data, rng: data.__setitem__(rng.randrange(len(data)), rng.randrange(256)),
    lambda data, rng: data.__setitem__(rng.randrange(min(400, len(data))), rng.choice((0, 1, 255, 128))),
    lambda data, rng: data.__delitem__(slice(rng.randrange(len(data)), None)),
    lambda data, rng: data.__delitem__(slice(rng.randrange(len(data) // 2), rng.randrange(len(data) // 2, len(data)))),
    lambda data, rng: data.extend(rng.randbytes(rng.randrange(40))),
)


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(which=st.integers(0, len(SAMPLES) - 1), seed=st.integers(0, 2**32), times=st.integers(1, 6))
def test_damaged_files_are_looked_at_without_a_fall_and_nothing_told_is_left(which: int, seed: int, times: int) -> None:
    rng, data = random.Random(seed), bytearray(SAMPLES[which])
    for _ in range(times):
        if len(data) > 8:
            rng.choice(CHANGES)(data, rng)
    found = luggage_of(bytes(data))
    assert found <= set(Luggage)
    try:
        public = public_original(bytes(data), b"")
    except NotLossless:
        return
    assert not luggage_of(public)
    for needle in (b"SERIAL-4711", b"OWNER-NAME", b"XMP-PLACE", b"IPTC-PLACE", b"COMMENT-NOTE", b"MAKER-NOTE"):
        assert needle not in public
