"""The digest of a picture: the same whatever the metadata says, another as soon as anything decodes otherwise."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin, TiffImagePlugin

from linkeddata.picture_digest import picture_digest
from linkeddata.public_original import public_original
from linkeddata.rights_packet import put_in


def digest(data: bytes) -> str:
    return picture_digest(lambda offset, count: data[offset : offset + count], len(data))


def picture(seed: int = 1) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (40, 60, 3), dtype=np.uint8))


def exif(text: str, *, orientation: int = 1) -> Image.Exif:
    block = Image.Exif()
    block[0x010E] = text
    block[0x0112] = orientation
    block.get_ifd(0x8769)[0xA431] = "serial " + text
    return block


def jpeg(text: str, *, seed: int = 1, quality: int = 80, dpi: int = 72, orientation: int = 1) -> bytes:
    out = io.BytesIO()
    block = exif(text, orientation=orientation)
    picture(seed).save(out, "JPEG", quality=quality, exif=block, comment=text.encode(), dpi=(dpi, dpi))
    return out.getvalue()


def png(text: str, *, seed: int = 1, quality: int = 6, dpi: int = 72, orientation: int = 1) -> bytes:
    out, info = io.BytesIO(), PngImagePlugin.PngInfo()
    info.add_text("Description", text)
    block = exif(text, orientation=orientation)
    picture(seed).save(out, "PNG", pnginfo=info, exif=block, dpi=(dpi, dpi), compress_level=quality % 10)
    return out.getvalue()


def webp(text: str, *, seed: int = 1, quality: int = 80, dpi: int = 72, orientation: int = 1) -> bytes:
    out = io.BytesIO()
    picture(seed).save(out, "WEBP", quality=quality, exif=exif(f"{text} {dpi}", orientation=orientation))
    return out.getvalue()


def tiff(text: str, *, seed: int = 1, quality: int = 0, dpi: int = 72, orientation: int = 1) -> bytes:
    out, tags = io.BytesIO(), TiffImagePlugin.ImageFileDirectory_v2()
    tags[270] = text * 5
    tags[700] = b"<x:xmpmeta>" + text.encode() * 40
    tags[274] = orientation
    compression = "tiff_lzw" if quality else "raw"
    picture(seed).save(out, "TIFF", tiffinfo=tags, dpi=(dpi, dpi), compression=compression)
    return out.getvalue()


MAKERS = pytest.mark.parametrize("make", [jpeg, png, webp, tiff])


@MAKERS
def test_metadata_makes_no_other_picture(make: Callable[..., bytes]) -> None:
    one, two = make("first"), make("quite another text", dpi=300)
    assert one != two
    assert digest(one) == digest(two) != ""


@MAKERS
@pytest.mark.parametrize("change", [{"seed": 2}, {"orientation": 6}, {"quality": 93}])
def test_whatever_decodes_otherwise_is_another_picture(make: Callable[..., bytes], change: dict[str, int]) -> None:
    assert digest(make("x", **change)) not in ("", digest(make("x")))


@MAKERS
def test_one_changed_byte_of_the_picture_is_another_picture_or_none(make: Callable[..., bytes]) -> None:
    data = bytearray(make("x"))
    at = len(data) // 2 if make is not tiff else data.find(picture().tobytes()[:64]) + 7
    data[at] ^= 0x15
    assert digest(bytes(data)) != digest(make("x"))


@MAKERS
def test_a_file_that_is_cut_off_has_no_digest_and_never_that_of_the_whole(make: Callable[..., bytes]) -> None:
    data = make("x")
    whole = digest(data)
    assert all(digest(data[:size]) != whole for size in range(0, len(data) - 2, 97))
    assert digest(b"no image at all") == digest(b"") == ""


def test_a_public_original_shows_the_same_picture_as_its_file() -> None:
    data = jpeg("x", orientation=8)
    assert digest(public_original(data, b"")) == digest(data)


def test_a_colour_profile_counts() -> None:
    from PIL import ImageCms

    out = io.BytesIO()
    picture().save(out, "JPEG", icc_profile=ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    plain = io.BytesIO()
    picture().save(plain, "JPEG")
    assert digest(out.getvalue()) not in ("", digest(plain.getvalue()))


def test_a_webp_file_in_its_simple_form_gains_metadata() -> None:
    plain = io.BytesIO()
    picture().save(plain, "WEBP", quality=80)
    assert plain.getvalue()[12:16] == b"VP8 "
    assert digest(plain.getvalue()) == digest(webp("x")) != ""


def test_a_tiff_whose_strips_overlap_a_thousand_times_is_not_read_a_thousand_times() -> None:
    entries = ((256, 4, 1, 9), (257, 4, 1, 9), (273, 4, 1000, 200), (279, 4, 1000, 4200))
    head = b"II*\0" + (8).to_bytes(4, "little") + len(entries).to_bytes(2, "little")
    head += b"".join(
        tag.to_bytes(2, "little")
        + kind.to_bytes(2, "little")
        + count.to_bytes(4, "little")
        + value.to_bytes(4, "little")
        for tag, kind, count, value in entries
    )
    data = head.ljust(200, b"\0") + b"\x08\0\0\0" * 1000 + (8000).to_bytes(4, "little") * 1000
    read: list[int] = []

    def reading(offset: int, count: int) -> bytes:
        read.append(count)
        return data[offset : offset + count]

    assert picture_digest(reading, len(data)) == ""
    assert sum(read) < 5 * len(data)


@pytest.mark.real_data
def test_every_real_image_is_recognised_after_its_rights_were_written_into_it(shared_data: Path) -> None:
    files = [
        path for path in sorted(shared_data.rglob("*")) if path.suffix.lower() in (".jpg", ".jpeg", ".png", ".tif")
    ]
    found = {path: digest(path.read_bytes()) for path in files}
    assert "" not in found.values()
    for path in files[::7]:
        data = path.read_bytes()
        changed = put_in(data, b"<x:xmpmeta xmlns:x='adobe:ns:meta/'>owner</x:xmpmeta>")
        assert changed != data
        assert digest(changed) == found[path]
