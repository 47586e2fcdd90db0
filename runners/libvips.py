"""Pictures by libvips: upright sRGB from a file, the pyramid of it, and what is cut out of a pyramid.

The only module that knows ``pyvips``. It runs in the processes of ``runners.picture_process``, behind walls.

Invariants:
- Only the loaders of JPEG, PNG, TIFF and WebP are there; ``runners.decode`` checks the header before one is used,
  and the loader is chosen by that header, not by libvips.
- What comes out is 8-bit sRGB without any metadata: orientation applied, ICC profiles applied, transparency on white.
- A pyramid is opened for every request: a long-lived one, read by threads, grows without end under glibc's malloc.

Small pictures are kept as they are, without levels and without loss; of larger ones the tiles are JPEG of quality 85
(from 90 on libvips drops the subsampling of colours, and files become three times as large).
"""

import os
from dataclasses import dataclass
from typing import IO, Any, Final

import pyvips

from linkeddata.iiif_image import confined_size
from runners.decode import Header, Limits, decode_upright, read_header
from runners.errors import BeyondLimits, ImageRefused
from runners.pyramid_file import SMALL_PX, page_sizes

TILE_QUALITY: Final = 85
JPEG_QUALITY: Final = 85
REDACTED_QUALITY: Final = 90
"""Of a whole picture that is given out in the place of an original."""
JPEG_MOST_PX: Final = 65_500
"""Longest side of a JPEG, as libjpeg has it."""
WEBP_QUALITY: Final = 80
_LOADERS: Final = {"JPEG": "jpegload_source", "MPO": "jpegload_source", "PNG": "pngload_source",
                   "TIFF": "tiffload_source", "WEBP": "webpload_source"}  # fmt: skip
_CLASSES: Final = ("VipsForeignLoadJpeg", "VipsForeignLoadPng", "VipsForeignLoadTiff", "VipsForeignLoadWebp")
_MODES: Final = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "I;16", "I;16L", "I;16B")
"""What libvips is given, by the names of Pillow; the rest (floats, 32 bit, Lab) Pillow decodes."""
_OPERATIONS: Final = (
    "jpegload_source", "tiffload_source", "pngload_source", "webpload_source", "thumbnail_image", "embed",
    "colourspace", "cast", "copy", "crop", "icc_transform", "flatten", "jpegsave_buffer", "tiffsave_buffer",
)  # fmt: skip
_SHRINKS: Final = (8, 4, 2)
_PROBE_STEPS: Final = 9
"""A profile is sRGB when it moves none of 9 x 9 x 9 colours by more than a step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """What is to be taken out of one level of a pyramid, and what is to be made of it."""

    level: int
    box: tuple[int, int, int, int]
    """x, y, width, height in pixels of the level."""
    width: int
    height: int
    """Before it is turned."""
    mirror: bool
    rotation: int
    quality: str
    format: str


def prepare(*, concurrency: int) -> None:
    """Closes every way into libvips but four, and keeps it from remembering. Before the first picture."""
    pyvips.block_untrusted_set(True)
    pyvips.operation_block_set("VipsForeignLoad", True)
    for name in _CLASSES:
        pyvips.operation_block_set(name, False)
    pyvips.cache_set_max(0)
    pyvips.vips_lib.vips_concurrency_set(concurrency)
    for name in _OPERATIONS:  # looked up once, not by every child; starts no thread
        pyvips.Introspect.get(name)


def warm_up() -> None:
    """Does once what the library does at its first picture, so that no visitor waits for it. Starts threads."""
    grey = pyvips.Image.black(64, 64, bands=3).copy(interpretation="srgb")
    small = pyvips.Image.jpegload_source(pyvips.Source.new_from_memory(grey.jpegsave_buffer(keep="none")))
    small.thumbnail_image(32, size="force").jpegsave_buffer(keep="none")


def write_pyramid(stream: IO[bytes], size_bytes: int, out_fd: int, *, limits: Limits, tile_px: int) -> Header:
    """Writes the pyramid of a picture into an open, empty file; returns what its header said.

    Raises:
        ImageRefused: the picture cannot be used; BeyondLimits where a limit is the reason.
        MemoryError, OSError: not the picture's fault.
    """
    header = read_header(stream, size_bytes, limits)
    image = _upright(stream, size_bytes, header, limits)
    is_small = max(header.width, header.height) <= SMALL_PX
    width, height = page_sizes(header.width, header.height, tile_px)[0]
    try:
        image = image.embed(0, 0, width, height, extend="copy")
        data = image.tiffsave_buffer(
            tile=True, tile_width=tile_px, tile_height=tile_px, keep="none",
            **({"compression": "deflate"} if is_small else {"compression": "jpeg", "Q": TILE_QUALITY, "pyramid": True}),
        )  # fmt: skip
    except pyvips.Error as error:
        raise _refused(header, error) from error
    view = memoryview(data)
    while view:
        view = view[os.write(out_fd, view) :]
    return header


def thumbnail_of_file(stream: IO[bytes], size_bytes: int, *, limits: Limits, longest_px: int) -> bytes:
    """A small JPEG straight from a file; JPEG files are shrunk while they are decoded.

    Raises:
        ImageRefused, MemoryError, OSError: as in ``write_pyramid``.
    """
    pyvips.vips_lib.vips_concurrency_set(1)  # decoding is nearly all of it: more threads only wait for each other
    header = read_header(stream, size_bytes, limits)
    image = _upright(stream, size_bytes, header, limits, at_least_px=longest_px)
    width, height = confined_size(header.width, header.height, longest_px)
    try:
        small = image.thumbnail_image(width, height=height, size="force", no_rotate=True)
        return bytes(small.jpegsave_buffer(Q=JPEG_QUALITY, keep="none"))
    except pyvips.Error as error:
        raise _refused(header, error) from error


def write_redacted(
    stream: IO[bytes], size_bytes: int, out_fd: int, *, limits: Limits, boxes: list[tuple[int, int, int, int]]
) -> Header:
    """Writes the whole picture as a JPEG with black boxes (x, y, width, height) into an open, empty file.

    The boxes are black before anything is encoded, so no block of the JPEG knows what was there.

    Raises:
        ImageRefused, MemoryError, OSError: as in ``write_pyramid``.
    """
    header = read_header(stream, size_bytes, limits)
    if max(header.width, header.height) > JPEG_MOST_PX:
        raise BeyondLimits(f"it is longer than {JPEG_MOST_PX} pixels, the most that a JPEG has")
    image = _upright(stream, size_bytes, header, limits)
    try:
        for x, y, width, height in boxes:
            black = pyvips.Image.black(width, height, bands=3).copy(interpretation="srgb")
            image = image.insert(black, x, y)
        if (image.width, image.height) != (header.width, header.height):
            raise ImageRefused("a box lies outside of the picture")
        data = image.jpegsave_buffer(Q=REDACTED_QUALITY, keep="none")
    except pyvips.Error as error:
        raise _refused(header, error) from error
    view = memoryview(data)
    while view:
        view = view[os.write(out_fd, view) :]
    return header


def cut_out(fd: int, cut: Cut) -> bytes:
    """Takes a region out of a pyramid and encodes it.

    Raises:
        ImageRefused: the pyramid cannot be read.
    """
    # Opened again: a descriptor that was handed over shares its place in the file with every other process that has it.
    own = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        source = pyvips.Source.new_from_descriptor(own)
        image = pyvips.Image.tiffload_source(source, page=cut.level).crop(*cut.box)
        if (image.width, image.height) != (cut.width, cut.height):
            image = image.thumbnail_image(cut.width, height=cut.height, size="force", no_rotate=True)
        if cut.mirror:
            image = image.fliphor()
        if cut.rotation:
            if cut.rotation != 180:
                image = image.copy_memory()
            image = image.rot(f"d{cut.rotation}")
        return _encode(image, cut)
    except pyvips.Error as error:
        raise ImageRefused(f"the pyramid cannot be read: {_text(error)}") from error
    finally:
        os.close(own)


def _encode(image: Any, cut: Cut) -> bytes:
    is_bitonal = cut.quality == "bitonal"
    if cut.quality in ("gray", "bitonal"):
        image = image.colourspace("b-w")
    if is_bitonal:
        image = (image > 127).copy(interpretation="b-w")
    if cut.format == "png":
        return bytes(image.pngsave_buffer(compression=4, keep="none", **({"bitdepth": 1} if is_bitonal else {})))
    if cut.format == "webp":
        return bytes(image.webpsave_buffer(Q=WEBP_QUALITY, effort=2, keep="none"))
    return bytes(image.jpegsave_buffer(Q=JPEG_QUALITY, keep="none"))


def _upright(stream: IO[bytes], size_bytes: int, header: Header, limits: Limits, *, at_least_px: int = 0) -> Any:
    """The picture as upright 8-bit sRGB, not yet decoded; shrunk on the way where that is free."""
    if header.mode not in _MODES:
        stream.seek(0)
        pixels = decode_upright(stream, size_bytes, limits)
        return pyvips.Image.new_from_memory(pixels.data, pixels.shape[1], pixels.shape[0], 3, "uchar").copy(
            interpretation="srgb"
        )
    try:
        shrink = _shrink(header, at_least_px)
        image = _load(stream, header, shrink)
        across = header.orientation >= 5
        stored = (header.height, header.width) if across else (header.width, header.height)
        if shrink == 1 and (image.width, image.height) != stored:
            raise ImageRefused(f"the {header.format} says two different sizes")
        if header.orientation > 2:
            image = image.copy_memory()  # it is read from other ends than it is stored
        return _turned(_srgb(image), header.orientation)
    except pyvips.Error as error:
        raise _refused(header, error) from error


def _load(stream: IO[bytes], header: Header, shrink: int) -> Any:
    os.lseek(stream.fileno(), 0, os.SEEK_SET)
    source = pyvips.Source.new_from_descriptor(stream.fileno())
    options: dict[str, Any] = {"access": "sequential", "fail_on": "error"}
    if shrink > 1:
        options["shrink"] = shrink
    if header.format == "TIFF":
        options["page"] = 0
    return getattr(pyvips.Image, _LOADERS[header.format])(source, **options)


def _shrink(header: Header, at_least_px: int) -> int:
    if not at_least_px or header.media_type != "image/jpeg":
        return 1
    longest = max(header.width, header.height)
    return next((item for item in _SHRINKS if longest // item >= at_least_px), 1)


def _turned(image: Any, orientation: int) -> Any:
    """EXIF orientation applied; 5 and 7 are the mirrored ones that lie on their side."""
    if orientation in (5, 6, 7):
        image = image.rot90()
    elif orientation == 3:
        image = image.rot180()
    elif orientation == 8:
        image = image.rot270()
    if orientation in (2, 5):
        image = image.fliphor()
    elif orientation in (4, 7):
        image = image.flipver()
    return image


def _srgb(image: Any) -> Any:
    """8-bit sRGB of three bands, on white."""
    if image.get_typeof("icc-profile-data") and not _is_srgb(image):
        try:
            image = image.icc_transform("srgb", embedded=True, depth=8, intent="perceptual")
        except pyvips.Error:
            image.remove("icc-profile-data")  # a broken profile: the numbers are taken for what they usually mean
    if image.interpretation == "cmyk":
        image = _from_cmyk(image)
    image = image.colourspace("srgb")
    if image.hasalpha():
        image = image.flatten(background=255)
    if image.bands == 1:
        image = image.bandjoin([image, image])
    if image.bands != 3:
        raise ImageRefused(f"a picture with {image.bands} colours")
    return image.cast("uchar").copy(interpretation="srgb")


def _from_cmyk(image: Any) -> Any:
    """Without a profile nobody knows the inks: the plain formula, as browsers have it."""
    image = image.cast("uchar")[0:4]
    light = (255 - image[0:3]) * (255 - image[3]) / 255
    return light.rint().cast("uchar").copy(interpretation="srgb")


def _is_srgb(image: Any) -> bool:
    """Whether the profile says what is assumed without one; then applying it would cost much and change nothing."""
    if image.bands < 3 or image.interpretation not in ("srgb", "rgb"):
        return False
    step = 255 / (_PROBE_STEPS - 1)
    x, y = (pyvips.Image.xyz(_PROBE_STEPS, _PROBE_STEPS**2)[band] for band in (0, 1))
    patch = x.bandjoin([y % _PROBE_STEPS, (y / _PROBE_STEPS).floor()]) * step
    patch = patch.rint().cast("uchar").copy(interpretation="srgb")
    patch.set_type(pyvips.GValue.blob_type, "icc-profile-data", image.get("icc-profile-data"))
    try:
        moved = patch.icc_transform("srgb", embedded=True, depth=8, intent="perceptual")
        return bool((moved - patch).abs().max() <= 1)
    except pyvips.Error:
        return False


def _refused(header: Header, error: "pyvips.Error") -> ImageRefused:
    text = _text(error)
    lowered = text.lower()
    if "premature end" in lowered or "truncated" in lowered or "out of range" in lowered or "read error" in lowered:
        return ImageRefused(f"the {header.format} ends early (truncated)")
    return ImageRefused(f"the {header.format} cannot be decoded: {text}")


def _text(error: "pyvips.Error") -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else "the library gave no reason")[:120]
