"""From the bytes of a file to upright pixels, carefully: the header is looked at before anything is decoded.

Invariants:
- Only JPEG, PNG, TIFF and WebP are opened, whatever a file is called; limits are checked on the header.
- Pixels come out as upright RGB, 8 bit: EXIF orientation applied, transparency on white, 16 bit scaled.
- Every refusal is one plain sentence about this image. Runs inside the worker, where hostile files bite nobody else.

It leaves out: colour management (ICC), more than the first page of a TIFF.
"""

import os
import warnings
from dataclasses import dataclass
from typing import IO, Any, Final

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from runners.errors import BeyondLimits, ImageRefused

FORMATS: Final = ("JPEG", "PNG", "TIFF", "WEBP")
"""What collections deliver; every further decoder is a further way in."""
MEDIA_TYPES: Final = {
    "JPEG": "image/jpeg",
    "MPO": "image/jpeg",
    "PNG": "image/png",
    "TIFF": "image/tiff",
    "WEBP": "image/webp",
}
"""MPO is what Pillow calls a JPEG with a preview behind it, as many cameras write it; the first picture counts."""
MAX_PAGES: Final = 64
"""A multi-page scan has a few pages; 100,000 directories are an attack."""
MAX_SIDE_PX: Final = 65_500
"""JPEG's own limit is 65,535; beyond it no specimen image in use."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What an image may be at most."""

    max_pixels: int = 400_000_000
    max_file_bytes: int = 4_294_967_296


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What the header says; width and height of the upright image, pixels."""

    format: str
    media_type: str
    width: int
    height: int
    mode: str
    orientation: int
    """EXIF orientation, 1 to 8."""


def read_header(data: IO[bytes], size_bytes: int, limits: Limits) -> Header:
    """Looks at the header only.

    Raises:
        ImageRefused: with the reason.
    """
    image = _open(data, size_bytes, limits)
    with image:
        return _header(image)


def decode_upright(data: IO[bytes], size_bytes: int, limits: Limits) -> "np.ndarray[Any, np.dtype[np.uint8]]":
    """Decodes to an array (height, width, 3), RGB, upright.

    Raises:
        ImageRefused: with the reason; BeyondLimits where a limit is the reason.
        OSError: the disk failed (``errno`` is set), which says nothing about the image.
        MemoryError: it does not fit; a machine or setting with more memory may do it.
    """
    image = _open(data, size_bytes, limits)
    with image:
        header = _header(image)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                image.load()
                upright = ImageOps.exif_transpose(image)
                pixels = np.asarray(_to_rgb(upright))
        except (OSError, SyntaxError, ValueError, EOFError, IndexError, TypeError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            raise ImageRefused(_decode_reason(header.format, error)) from error
    return np.ascontiguousarray(pixels)


def open_descriptor(descriptor: int) -> tuple[IO[bytes], int]:
    """A file object over an open descriptor (which it does not close), and its size in bytes."""
    size = os.fstat(descriptor).st_size
    stream = os.fdopen(descriptor, "rb", closefd=False)
    stream.seek(0)
    return stream, size


def _open(data: IO[bytes], size_bytes: int, limits: Limits) -> Image.Image:
    if size_bytes == 0:
        raise ImageRefused("the file is empty (0 bytes)")
    if size_bytes > limits.max_file_bytes:
        raise BeyondLimits(f"the file has {size_bytes:,} bytes, {limits.max_file_bytes:,} are allowed")
    start = data.read(512)
    data.seek(0)
    # Our own check below is the stricter one and says how large the picture is; Pillow's stays on as a last wall.
    Image.MAX_IMAGE_PIXELS = MAX_SIDE_PX**2
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = Image.open(data, formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise BeyondLimits(f"more pixels than the {limits.max_pixels:,} that are allowed") from error
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, TypeError, MemoryError, RecursionError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise ImageRefused(_unidentified(start)) from error
    width, height = image.size
    if width * height > limits.max_pixels or max(width, height) > MAX_SIDE_PX:
        image.close()
        raise BeyondLimits(f"{width:,} x {height:,} pixels are more than the {limits.max_pixels:,} that are allowed")
    if width < 1 or height < 1:
        image.close()
        raise ImageRefused("the image has no pixels")
    try:
        has_too_many = _has_page(image, MAX_PAGES)
    except (OSError, SyntaxError, ValueError, EOFError, TypeError, RecursionError) as error:
        image.close()
        raise ImageRefused("the page directory of the file is broken") from error
    if has_too_many:
        image.close()
        raise ImageRefused(f"the file has more pages than the {MAX_PAGES} that are allowed")
    return image


def _has_page(image: Image.Image, number: int) -> bool:
    """Whether there is a page of this number, from 0. No more directories are read than that: counting 100,000 of them
    takes Pillow minutes.
    """
    if image.format in ("WEBP", "PNG"):
        return bool(getattr(image, "n_frames", 1) > number)
    if image.format != "TIFF":
        return False
    try:
        image.seek(number)
    except EOFError:
        image.seek(0)
        return False
    image.seek(0)
    return True


def _header(image: Image.Image) -> Header:
    try:
        orientation = int(image.getexif().get(0x0112, 1))
    except (OSError, SyntaxError, ValueError, TypeError, EOFError, KeyError):
        orientation = 1
    if not 1 <= orientation <= 8:
        orientation = 1
    # Pillow gives the size of a TIFF as it will be once loaded, of everything else as it is stored.
    is_upright = orientation < 5 or image.format == "TIFF"
    width, height = image.size if is_upright else image.size[::-1]
    kind = image.format or ""
    return Header(
        format=kind, media_type=MEDIA_TYPES.get(kind, ""), width=width, height=height, mode=image.mode,
        orientation=orientation,
    )  # fmt: skip


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image).astype(np.uint16, copy=False) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        values = np.asarray(image, dtype=np.float32)
        top = 65535.0 if values.max(initial=0) > 255 else 255.0
        return Image.fromarray((values.clip(0, top) * (255.0 / top)).astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        paper = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        return Image.alpha_composite(paper, rgba).convert("RGB")
    return image.convert("RGB")


def _unidentified(start: bytes) -> str:
    if start.startswith(b"\xff\xd8"):
        return "begins like a JPEG but its header is broken"
    if start.startswith(b"\x89PNG"):
        return "begins like a PNG but its header is broken"
    if start[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return "begins like a TIFF but cannot be opened"
    lowered = start.lstrip()[:60].lower()
    if lowered.startswith((b"<!doctype", b"<html", b"<?xml", b"<svg")):
        return "not an image: a web page or XML document under an image's name"
    if all(byte in b"\t\n\r" or 32 <= byte < 127 for byte in start):
        return "not an image: a text file under an image's name"
    return "not a JPEG, PNG, TIFF or WebP image"


def _decode_reason(kind: str, error: Exception) -> str:
    text = str(error)
    if "truncated" in text or "Truncated" in text or isinstance(error, EOFError):
        return f"the {kind} ends early (truncated)"
    return f"the {kind} cannot be decoded: {text.splitlines()[0][:120] if text else type(error).__name__}"
