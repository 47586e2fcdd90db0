"""Pictures behind walls: every kind comes out right, hostile files are refused with a reason and harm nobody else."""

import contextlib
import io
import os
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import hostile_pictures as made
import numpy as np
import pytest
from PIL import Image, ImageCms

from runners.decode import Limits, decode_upright
from runners.errors import ImageRefused, RunnerError, UnitFailed, WorkerDied
from runners.pictures import Cutters, Decoder, check_decoder
from runners.pyramid_file import JPEG, PyramidDamaged, PyramidFile, page_sizes, read_index

TILE = 256


class Studio:
    """One decoder and one cutter for all tests of this module: they outlive every hostile file."""

    def __init__(self) -> None:
        self.decoder = Decoder(Limits(max_pixels=50_000_000))
        self.cutters = Cutters(1)

    def close(self) -> None:
        self.decoder.close()
        self.cutters.close()

    def pyramid(self, data: bytes) -> tuple[tuple[int, int], int]:
        """The size, and the open pyramid."""
        with tempfile.TemporaryFile() as source:
            source.write(data)
            source.flush()
            out = os.open(tempfile.gettempdir(), os.O_RDWR | os.O_TMPFILE)
            try:
                return self.decoder.write_pyramid(source.fileno(), out, tile_px=TILE), out
            except BaseException:
                os.close(out)
                raise

    def pixels(self, data: bytes) -> np.ndarray[Any, Any]:
        """What comes out of it."""
        (width, height), out = self.pyramid(data)
        try:
            found = self.cutters.cut(out, cut(width, height))
        finally:
            os.close(out)
        return np.asarray(Image.open(io.BytesIO(found)).convert("RGB")).astype(int)

    def refusal(self, data: bytes) -> str:
        with pytest.raises(ImageRefused) as caught:
            os.close(self.pyramid(data)[1])
        return str(caught.value)


def cut(width: int, height: int, **other: Any) -> dict[str, Any]:
    return {"level": 0, "box": [0, 0, width, height], "size": [width, height], "mirror": False, "turn": 0,
            "quality": "default", "format": "png"} | other  # fmt: skip


@pytest.fixture(scope="module")
def studio() -> Iterator[Studio]:
    found = Studio()
    yield found
    found.close()


def close_to(found: np.ndarray[Any, Any], wanted: np.ndarray[Any, Any], *, by: int) -> None:
    assert found.shape == wanted.shape
    assert np.abs(found - wanted.astype(int)).max() <= by


@pytest.mark.parametrize("form", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_every_orientation_comes_out_upright(studio: Studio, form: str) -> None:
    for orientation in range(1, 9):
        close_to(studio.pixels(made.oriented(form, orientation)), made.upright(orientation), by=6)


def test_colours_of_every_kind_of_file(studio: Studio) -> None:
    scene = made.scene()
    image = Image.fromarray(scene)
    gray = np.asarray(image.convert("L"))[:, :, None].repeat(3, 2)
    green = scene[:, :, 1][:, :, None].repeat(3, 2)
    palette = image.quantize(64)
    bits = image.convert("1")
    half = Image.fromarray(np.dstack([scene, np.full(scene.shape[:2], 128, np.uint8)]))
    on_white = np.rint(scene * (128 / 255) + 255 * (127 / 255))
    see_through = palette.copy()
    see_through.info["transparency"] = 0
    cases = {
        "gray jpeg": (made.saved(image.convert("L"), "JPEG", quality=97), gray, 3),
        "gray png": (made.saved(image.convert("L"), "PNG"), gray, 0),
        "gray and alpha": (made.saved(half.convert("LA"), "PNG"), np.rint(gray * (128 / 255) + 127), 2),
        "rgba png": (made.saved(half, "PNG"), on_white, 1),
        "rgba webp": (made.saved(half, "WEBP", lossless=True), on_white, 1),
        "rgba tiff": (made.saved(half, "TIFF"), on_white, 1),
        "palette": (made.saved(palette, "PNG"), np.asarray(palette.convert("RGB")), 0),
        "palette tiff": (made.saved(palette, "TIFF"), np.asarray(palette.convert("RGB")), 0),
        "palette with a hole": (made.saved(see_through, "PNG", transparency=0), white_where_0(palette), 0),
        "1 bit": (made.saved(bits, "PNG"), np.asarray(bits.convert("RGB")), 0),
        "1 bit tiff": (made.saved(bits, "TIFF", compression="group4"), np.asarray(bits.convert("RGB")), 0),
        "cmyk jpeg": (made.saved(image.convert("CMYK"), "JPEG", quality=97, subsampling=0), scene, 4),
        "cmyk tiff": (made.saved(image.convert("CMYK"), "TIFF"), scene, 2),
        "16 bit png": (made.sixteen_bit(".png", is_gray=False), scene, 1),
        "16 bit gray png": (made.sixteen_bit(".png", is_gray=True), green, 1),
        "16 bit tiff": (made.sixteen_bit(".tiff", is_gray=False), scene, 1),
        "16 bit gray tiff": (made.sixteen_bit(".tiff", is_gray=True), green, 1),
        "lzw tiff": (made.saved(image, "TIFF", compression="tiff_lzw"), scene, 0),
        "progressive jpeg": (made.saved(image, "JPEG", quality=97, progressive=True, subsampling=0), scene, 4),
        "float tiff": (made.saved(Image.fromarray(scene[:, :, 1].astype(np.float32)), "TIFF"), green, 1),
        "one pixel": (made.saved(image.crop((0, 0, 1, 1)), "PNG"), scene[:1, :1], 0),
        "polyglot": (made.polyglot(), np.asarray(Image.open(io.BytesIO(made.polyglot())).convert("RGB")), 4),
    }  # fmt: skip
    for name, (data, wanted, by) in cases.items():
        try:
            close_to(studio.pixels(data), wanted, by=by)
        except (AssertionError, RunnerError) as error:
            raise AssertionError(name) from error


def white_where_0(palette: Image.Image) -> np.ndarray[Any, Any]:
    pixels = np.asarray(palette.convert("RGB")).copy()
    pixels[np.asarray(palette) == 0] = 255
    return pixels


def test_an_icc_profile_is_applied_like_littlecms_does_it(studio: Studio) -> None:
    scene = made.scene() // 2 + 60
    data, profile = made.p3(scene)
    wanted = ImageCms.profileToProfile(
        Image.open(io.BytesIO(data)).convert("RGB"), ImageCms.ImageCmsProfile(io.BytesIO(profile)),
        ImageCms.createProfile("sRGB"), outputMode="RGB",
    )  # fmt: skip
    assert wanted is not None
    close_to(studio.pixels(data), np.asarray(wanted), by=4)
    assert np.abs(np.asarray(wanted).astype(int) - scene).max() > 8, "the profile makes a difference"


def test_an_icc_profile_that_says_srgb_or_nothing_sensible_changes_nothing(studio: Studio) -> None:
    image = Image.fromarray(made.scene())
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for name in (profile, b"no profile at all", profile[:200]):
        close_to(studio.pixels(made.saved(image, "PNG", icc_profile=name)), made.scene(), by=1)


def test_files_of_other_kinds_are_refused_with_a_reason(studio: Studio) -> None:
    for name, data in made.wrong_kinds().items():
        assert studio.refusal(data), name


def test_files_that_end_early_are_refused(studio: Studio) -> None:
    for name, data in made.truncated().items():
        assert studio.refusal(data), name


def test_bombs_are_refused_by_their_headers(studio: Studio) -> None:
    giant = made.giant_png()
    assert len(giant) < 600_000
    assert "60,000 x 60,000" in studio.refusal(giant)
    assert "pages" in studio.refusal(made.tiff_directories(100_000))
    close_to(studio.pixels(made.tiff_directories(3)), np.full((1, 1, 3), 128), by=0)
    for data in (made.tiff_directories(3, is_loop=True), made.tiff_offsets_beyond()):
        try:
            studio.pixels(data)  # a loop of pages whose first is sound may be shown
        except ImageRefused as error:
            assert str(error)


def test_a_picture_beyond_the_memory_of_the_decoder_harms_no_other() -> None:
    decoder = Decoder(Limits(), memory_mib=420)
    try:
        large = made.saved(Image.new("RGB", (9000, 9000), (9, 9, 9)), "JPEG", exif=orientation(6))
        with tempfile.TemporaryFile() as source, tempfile.TemporaryFile() as out:
            source.write(large)
            source.flush()
            with pytest.raises((ImageRefused, WorkerDied)):
                decoder.write_pyramid(source.fileno(), out.fileno(), tile_px=TILE)
        first = decoder.pid
        with tempfile.TemporaryFile() as source, tempfile.TemporaryFile() as out:
            source.write(made.saved(Image.fromarray(made.scene()), "PNG"))
            source.flush()
            assert decoder.write_pyramid(source.fileno(), out.fileno(), tile_px=TILE) == (90, 60)
        assert decoder.pid == first, "only the child of that picture ended"
    finally:
        decoder.close()


def orientation(number: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = number
    return exif


def test_a_decoder_that_hangs_is_replaced(studio: Studio) -> None:
    read, write = os.pipe()
    decoder = Decoder(Limits(), timeout_s=0.2)
    try:
        with tempfile.TemporaryFile() as out, pytest.raises(RunnerError):
            decoder.write_pyramid(read, out.fileno(), tile_px=TILE)  # a pipe never ends
    finally:
        decoder.close()
        os.close(read)
        os.close(write)


def test_processes_that_were_killed_are_replaced_and_no_picture_is_blamed_for_it(studio: Studio) -> None:
    data = made.saved(Image.fromarray(made.scene()), "PNG")
    close_to(studio.pixels(data), made.scene(), by=0)
    for pid in (studio.decoder.pid, *studio.cutters.pids):
        assert pid is not None
        os.kill(pid, 9)
    _, out = studio.pyramid(data)  # the decoder is started anew, once
    for _ in range(2):  # a cutter may be lost at its first picture: whoever asks is told to come again
        with contextlib.suppress(WorkerDied):
            assert studio.cutters.cut(out, cut(90, 60))
    assert studio.cutters.cut(out, cut(90, 60))
    os.close(out)


def test_an_installation_that_cannot_decode_is_told_from_a_bad_picture(
    studio: Studio, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert check_decoder() == ""
    (tmp_path / "pyvips.py").write_text("raise ImportError('libvips is not here')\n")
    root = str(Path(__file__).parents[2])
    monkeypatch.setattr("runners.pictures._CODE_FOLDER", f"{tmp_path}{os.pathsep}{root}")
    assert "vasculum doctor" in check_decoder()
    broken = Decoder(Limits())
    with tempfile.TemporaryFile() as source, tempfile.TemporaryFile() as out, pytest.raises(UnitFailed):
        broken.write_pyramid(source.fileno(), out.fileno(), tile_px=TILE)
    broken.close()


def test_decoders_cannot_open_connections_or_files(studio: Studio) -> None:
    studio.pixels(made.saved(Image.fromarray(made.scene()), "PNG"))
    for pid in (studio.decoder.pid, *studio.cutters.pids):
        with open(f"/proc/{pid}/status") as stream:
            assert "Seccomp:\t2" in stream.read()


@pytest.fixture(scope="module")
def large() -> bytes:
    return made.saved(Image.fromarray(made.scene(2100, 1300)), "JPEG", quality=95, subsampling=0)


def test_tiles_are_jpeg_files_of_their_place(studio: Studio, large: bytes) -> None:
    (width, height), out = studio.pyramid(large)
    size = os.fstat(out).st_size
    levels = read_index(out, size, tile_px=TILE, sizes=page_sizes(width, height, TILE))
    pyramid = PyramidFile(out, tile_px=TILE, levels=levels, size=size)
    whole = np.asarray(Image.open(io.BytesIO(large)).convert("RGB")).astype(int)
    for column, row in ((0, 0), (3, 2), (7, 4)):
        data = pyramid.tile(0, column, row)
        assert data is not None
        tile = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
        close_to(tile, whole[row * TILE : (row + 1) * TILE, column * TILE : (column + 1) * TILE], by=5)
    assert len(levels) == 5
    assert pyramid.has_jpeg_tiles


def test_processes_that_cut_out_of_the_same_file_do_not_disturb_each_other(studio: Studio, large: bytes) -> None:
    _, out = studio.pyramid(large)
    cutters = Cutters(2)
    boxes = [[x, y, 300, 200] for x in range(0, 1800, 150) for y in range(0, 1100, 150)]

    def one(box: list[int]) -> bytes:
        return cutters.cut(out, cut(300, 200, box=box))

    try:
        alone = [one(box) for box in boxes]
        with ThreadPoolExecutor(4) as pool:
            assert list(pool.map(one, boxes * 2)) == alone * 2
        assert len(cutters.pids) == 2
    finally:
        cutters.close()
        os.close(out)


def test_the_index_believes_nothing(studio: Studio, large: bytes) -> None:
    (width, height), out = studio.pyramid(large)
    whole = os.pread(out, 1 << 30, 0)
    os.close(out)
    sizes = page_sizes(width, height, TILE)
    rng = np.random.default_rng(7)
    damaged = [whole[:n] for n in (0, 4, 8, 100, len(whole) - 1)] + [b"MM\0*" + whole[4:], b"RIFF" + whole[4:]]
    first = int.from_bytes(whole[4:8], "little")
    for _ in range(300):  # somewhere in the directories
        data = bytearray(whole)
        at = int(rng.integers(first, min(len(whole), first + 400)))
        data[at : at + 4] = int(rng.integers(0, 1 << 32)).to_bytes(4, "little")
        damaged.append(bytes(data))
    refused = 0
    for data in damaged:
        with tempfile.TemporaryFile() as stream:
            stream.write(data)
            stream.flush()
            try:
                levels = read_index(stream.fileno(), len(data), tile_px=TILE, sizes=sizes)
            except PyramidDamaged:
                refused += 1
                continue
            assert all(
                offset + count <= len(data)
                for level in levels
                for offset, count in zip(level.offsets, level.counts, strict=True)
            )
    assert refused > 100
    with tempfile.TemporaryFile() as stream:
        stream.write(whole)
        stream.flush()
        assert read_index(stream.fileno(), len(whole), tile_px=TILE, sizes=sizes)
        for other in (sizes[:-1], [*sizes, (1, 1)], [(w + 16, h) for w, h in sizes]):
            with pytest.raises(PyramidDamaged):
                read_index(stream.fileno(), len(whole), tile_px=TILE, sizes=other)
    assert JPEG == 7


@pytest.mark.real_data
def test_real_specimens_come_out_as_pillow_sees_them(studio: Studio, shared_data: Path) -> None:
    paths = sorted(path for path in shared_data.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png", ".tif"))
    assert len(paths) > 100
    for path in paths:
        with path.open("rb") as stream:
            upright = Image.fromarray(decode_upright(stream, path.stat().st_size, Limits()))
        size = [min(side, 200) for side in upright.size]
        wanted = np.asarray(upright.resize(size, Image.Resampling.LANCZOS))
        (width, height), out = studio.pyramid(path.read_bytes())
        try:
            found = studio.cutters.cut(out, cut(width, height, size=size))
        finally:
            os.close(out)
        assert (width, height) == upright.size
        assert np.abs(np.asarray(Image.open(io.BytesIO(found))).astype(int) - wanted.astype(int)).mean() < 3, path
