"""Decoding: upright RGB or a plain reason, whatever the file is."""

import io
import struct
import zlib

import numpy as np
import pytest
from conftest import jpeg
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from runners.decode import Limits, decode_upright, read_header
from runners.errors import ImageRefused

SMALL = Limits(max_pixels=1_000_000, max_file_bytes=5_000_000)


def decode(data: bytes, limits: Limits = SMALL) -> np.ndarray:
    return decode_upright(io.BytesIO(data), len(data), limits)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_orientation_comes_out_upright(orientation: int) -> None:
    data = jpeg(3, size=(40, 24), orientation=orientation)
    with Image.open(io.BytesIO(data)) as image:
        expected = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    assert np.array_equal(decode(data), expected)
    header = read_header(io.BytesIO(data), len(data), SMALL)
    assert (header.height, header.width) == expected.shape[:2]
    assert header.orientation == orientation


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_header_and_pixels_agree_on_upright_in_every_format(kind: str, orientation: int) -> None:
    stored = np.zeros((24, 40, 3), dtype=np.uint8)
    stored[:8, :12] = (250, 10, 10)
    image, exif = Image.fromarray(stored), Image.Exif()
    exif[0x0112] = orientation
    data = encoded(image, kind, exif=exif, **({"lossless": True} if kind == "WEBP" else {}))
    image.getexif()[0x0112] = orientation
    expected = np.asarray(ImageOps.exif_transpose(image))
    assert np.array_equal(decode(data), expected)
    header = read_header(io.BytesIO(data), len(data), SMALL)
    assert (header.height, header.width, header.orientation) == (*expected.shape[:2], orientation)


def test_a_camera_file_with_a_preview_behind_is_a_jpeg() -> None:
    first, second = Image.new("RGB", (40, 24), (200, 0, 0)), Image.new("RGB", (20, 12), (0, 200, 0))
    data = encoded(first, "MPO", save_all=True, append_images=[second])
    assert read_header(io.BytesIO(data), len(data), SMALL).media_type == "image/jpeg"
    pixels = decode(data)
    assert pixels.shape == (24, 40, 3)
    assert pixels[0, 0, 0] > 150


@pytest.mark.parametrize("values", [(0, 32_768, 65_535)])
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_become_eight(kind: str, values: tuple[int, ...]) -> None:
    data = encoded(Image.fromarray(np.array([values], dtype=np.uint16)), kind)
    assert decode(data)[0].tolist() == [[0, 0, 0], [128, 128, 128], [255, 255, 255]]


class FailingDisk(io.BytesIO):
    """A file on a disk that fails after its first blocks."""

    def read(self, size: int | None = -1, /) -> bytes:
        if self.tell() > 600:
            raise OSError(5, "Input/output error")
        return super().read(512 if size is None or size < 0 or size > 512 else size)


def test_a_failing_disk_says_nothing_about_the_image() -> None:
    data = jpeg(4, size=(300, 200))
    with pytest.raises(OSError, match="Input/output"):
        decode_upright(FailingDisk(data), len(data), SMALL)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16", "CMYK"])
def test_every_mode_becomes_rgb_of_the_right_brightness(mode: str) -> None:
    if mode == "I;16":
        image = Image.fromarray(np.full((8, 8), 65535, dtype=np.uint16))
    elif mode in ("LA", "RGBA"):
        image = Image.new(mode, (8, 8), 0)  # wholly transparent: paper shows
    else:
        image = Image.new("RGB", (8, 8), (255, 255, 255)).convert(mode)
    pixels = decode(encoded(image, "TIFF"))
    assert pixels.shape == (8, 8, 3)
    assert pixels.dtype == np.uint8
    assert pixels.min() >= 250


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def bomb() -> bytes:
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 1, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 100_000))
        + chunk(b"IEND", b"")
    )


def looping_tiff() -> bytes:
    return b"II*\0\x08\0\0\0" + struct.pack("<H", 1) + struct.pack("<HHII", 256, 4, 1, 5) + struct.pack("<I", 8)


HOSTILE = {
    "empty": (b"", "0 bytes"),
    "text": (b"plain text, no picture\n" * 3, "text file"),
    "html": (b"  <!DOCTYPE html><html></html>", "web page"),
    "svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "web page"),
    "bomb": (bomb(), "60,000 x 60,000 pixels"),
    "jpeg header": (b"\xff\xd8\xff\xe0\0\x10JFIF\0", "JPEG"),
    "tiff nonsense": (b"II*\0\xff\xff\xff\xff", "TIFF"),
    "looping tiff": (looping_tiff(), ""),
    "gif": (encoded(Image.new("P", (4, 4)), "GIF"), "not a JPEG"),
    "bmp": (encoded(Image.new("RGB", (4, 4)), "BMP"), "not a JPEG"),
    "polyglot": (b"GIF89a<script>alert(1)</script>\xff\xd8\xff", "not a JPEG"),
    "wide": (encoded(Image.new("1", (70_000, 2)), "PNG"), "pixels"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_a_plain_reason(name: str) -> None:
    data, says = HOSTILE[name]
    with pytest.raises(ImageRefused) as caught:
        decode(data, Limits())
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_a_truncated_jpeg_is_said_to_be_truncated(share: float) -> None:
    data = jpeg(1, size=(300, 200))
    with pytest.raises(ImageRefused, match="truncated|broken"):
        decode(data[: int(len(data) * share)])


def test_limits_are_looked_at_before_anything_is_decoded() -> None:
    data = encoded(Image.new("RGB", (1100, 1000)), "PNG")
    with pytest.raises(ImageRefused, match="1,100 x 1,000 pixels"):
        decode(data)
    with pytest.raises(ImageRefused, match="bytes"):
        decode(data, Limits(max_file_bytes=100))


def test_too_many_pages_are_refused() -> None:
    frames = [Image.new("1", (2, 2)) for _ in range(80)]
    data = encoded(frames[0], "TIFF", save_all=True, append_images=frames[1:])
    with pytest.raises(ImageRefused, match="more pages than the 64"):
        decode(data)


@settings(max_examples=150, deadline=None)
@given(
    st.binary(max_size=300),
    st.sampled_from([b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"II*\0", b"MM\0*", b"RIFF\0\0\0\0WEBP"]),
)
def test_any_bytes_are_pixels_or_a_reason(tail: bytes, start: bytes) -> None:
    try:
        decode(start + tail)
    except ImageRefused as error:
        assert str(error)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_flipped_byte_never_does_more_than_spoil_the_picture(data: st.DataObject) -> None:
    good = bytearray(jpeg(5))
    for _ in range(data.draw(st.integers(1, 4))):
        good[data.draw(st.integers(0, len(good) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        assert decode(bytes(good)).shape[2] == 3
    except ImageRefused:
        pass
