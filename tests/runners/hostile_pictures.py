"""Pictures that harm decoders, and pictures of every kind that must come out right."""

import io
import struct
import zlib
from typing import Any

import cv2
import numpy as np
import pyvips
from PIL import Image

Pixels = np.ndarray[Any, Any]


def scene(width: int = 90, height: int = 60) -> Pixels:
    """Four corners of different colours, smooth in between: no turn or mirror of it looks like another."""
    corners = np.array([[[250, 20, 30], [20, 220, 40]], [[30, 40, 240], [240, 230, 60]]], np.uint8)
    return np.asarray(Image.fromarray(corners).resize((width, height), Image.Resampling.BICUBIC))


def saved(image: Image.Image, form: str, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def oriented(form: str, orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options: dict[str, Any] = {"exif": exif}
    if form == "JPEG":
        options |= {"quality": 97, "subsampling": 0}
    if form == "WEBP":
        options |= {"lossless": True}
    if form == "TIFF":
        options = {"tiffinfo": {0x0112: orientation}}
    return saved(Image.fromarray(scene()), form, **options)


def upright(orientation: int) -> Pixels:
    """What an EXIF orientation means, written down from the standard: which corner of the scene is row 0, column 0."""
    pixels = scene()
    return {
        1: pixels, 2: pixels[:, ::-1], 3: pixels[::-1, ::-1], 4: pixels[::-1], 5: pixels.transpose(1, 0, 2),
        6: np.rot90(pixels, -1), 7: pixels[::-1, ::-1].transpose(1, 0, 2), 8: np.rot90(pixels),
    }[orientation]  # fmt: skip


def sixteen_bit(form: str, *, is_gray: bool) -> bytes:
    pixels = scene().astype(np.uint16) * 257
    if is_gray:
        pixels = pixels[:, :, 1]
    found, data = cv2.imencode(form, pixels if is_gray else pixels[:, :, ::-1])
    assert found
    return bytes(data)


def p3(pixels: Pixels) -> tuple[bytes, bytes]:
    """A JPEG with a Display P3 profile, and the profile."""
    profile = bytes(pyvips.Image.profile_load("p3"))
    return saved(Image.fromarray(pixels), "JPEG", quality=97, subsampling=0, icc_profile=profile), profile


def giant_png() -> bytes:
    """3.6 gigapixels of white in about 480 kB: one packed piece, again and again."""
    rows = (b"\0" + b"\xff" * 7500) * 500
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    piece = packer.compress(rows) + packer.flush(zlib.Z_FULL_FLUSH)
    check = 1
    for _ in range(120):
        check = zlib.adler32(rows, check)
    data = b"\x78\xda" + piece * 120 + b"\x03\0" + struct.pack(">I", check)
    head = struct.pack(">IIBBBBB", 60_000, 60_000, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(part)) + kind + part + struct.pack(">I", zlib.crc32(kind + part))
        for kind, part in ((b"IHDR", head), (b"IDAT", data), (b"IEND", b""))
    )


def tiff_directories(count: int, *, is_loop: bool = False) -> bytes:
    """A TIFF with a chain of directories, each a 1 x 1 picture; or a chain that bites its tail."""
    entries = ((256, 3, 1, 1), (257, 3, 1, 1), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, 1, 8),
               (277, 3, 1, 1), (278, 3, 1, 1), (279, 4, 1, 1))  # fmt: skip
    size = 2 + 12 * len(entries) + 4
    out = bytearray(b"II*\0" + struct.pack("<I", 12) + b"\x80\0\0\0")
    for number in range(count):
        following = 12 + size * (number + 1) if number + 1 < count else (12 if is_loop else 0)
        out += struct.pack("<H", len(entries))
        for tag, kind, length, value in entries:
            out += struct.pack("<HHII", tag, kind, length, value)
        out += struct.pack("<I", following)
    return bytes(out)


def tiff_offsets_beyond() -> bytes:
    data = bytearray(tiff_directories(1))
    at = data.index(struct.pack("<HHII", 273, 4, 1, 8))
    data[at + 8 : at + 12] = struct.pack("<I", 0xFFFFFFF0)
    return bytes(data)


def polyglot() -> bytes:
    """A picture that is also a page with a script, for whoever does not look at its type."""
    return saved(Image.fromarray(scene()), "JPEG", quality=95, comment=b"<html><script>alert(1)</script></html>")


def wrong_kinds() -> dict[str, bytes]:
    image = Image.fromarray(scene())
    return {
        "svg": b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg" width="90" height="60"><rect/></svg>',
        "bmp": saved(image, "BMP"), "gif": saved(image, "GIF"), "ppm": saved(image, "PPM"),
        "pdf": b"%PDF-1.4\n1 0 obj<<>>endobj\ntrailer<<>>\n%%EOF\n", "html": b"<!doctype html><html><body>x</body></html>",
        "jp2": bytes.fromhex("0000000c6a5020200d0a870a") + b"\0" * 200, "empty": b"", "text": b"not a picture\n",
        "heif": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + b"\0" * 100,
    }  # fmt: skip


def truncated() -> dict[str, bytes]:
    noise = Image.fromarray(np.random.default_rng(1).integers(0, 255, (300, 400, 3), dtype=np.uint8))
    whole = {
        "jpeg": saved(noise, "JPEG", quality=90), "png": saved(noise, "PNG"), "tiff": saved(noise, "TIFF"),
        "tiff-lzw": saved(noise, "TIFF", compression="tiff_lzw"), "webp": saved(noise, "WEBP", quality=90),
    }  # fmt: skip
    return {f"{name} cut": data[: len(data) * 2 // 3] for name, data in whole.items()}
