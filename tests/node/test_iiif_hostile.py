"""Hostile pictures at the door: a reason each, a server that stays small, decoders that die alone, lines that end."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import hostile_pictures as made
import pytest
from aiohttp.test_utils import TestClient, TestServer
from conftest import NOW, ingest, jpeg, rows_of, write_archive

from cas.errors import BlobWithdrawn
from cas.ids import ContentId
from node.app import build_application
from node.folder import NodeFolder
from node.services import images as image_service
from node.services.images import ImageService, Picture, PicturesBusy, PictureUnusable
from node.services.withdraw import plan_withdrawal, withdraw
from node.web.iiif import IMAGES
from runners.catalogue import Catalogue
from runners.errors import WorkerDied

Make = Callable[..., NodeFolder]


def resident_mb() -> float:
    text = Path("/proc/self/status").read_text()
    return int(text.split("VmRSS:")[1].split()[0]) / 1000


async def test_every_hostile_picture_gets_a_reason_and_the_server_goes_on(make_node: Make, tmp_path: Path) -> None:
    files = {
        "giant": made.giant_png(), "directories": made.tiff_directories(100_000),
        "loop": made.tiff_directories(3, is_loop=True), "beyond": made.tiff_offsets_beyond(), **made.wrong_kinds(),
        **made.truncated(), "polyglot": made.polyglot(), "good": jpeg(1),
    }  # fmt: skip
    del files["empty"]
    names = list(files)
    node = make_node()
    ingest(node, write_archive(tmp_path / "a", rows_of(len(names)), images=lambda number: files[names[number]]))
    before = resident_mb()
    async with TestClient(TestServer(build_application(node, catalogue=Catalogue.of(()), clock=lambda: NOW))) as client:
        for name, data in files.items():
            for rest in (
                "info.json",
                "0,0,50,50/max/0/default.jpg",
                "full/!400,400/0/default.jpg",
                "full/max/0/default.png",
            ):
                answer = await client.get(f"/iiif/3/{ContentId.of(data).hex}/{rest}")
                body = await answer.read()
                where = (name, rest, answer.status)
                assert answer.headers["X-Content-Type-Options"] == "nosniff"
                assert b"<script" not in body, where
                if name in ("polyglot", "good"):
                    assert answer.status == 200, where
                elif answer.status == 200:
                    # a header may be sound where pixels are not, and a first page where later ones are not
                    assert rest == "info.json" or name in ("loop", "beyond"), where
                else:
                    assert answer.status in (400, 422), where
                    assert len((await answer.json())["detail"]) > 10, where
        assert resident_mb() - before < 150, "pictures are decoded elsewhere"


class Deadly:
    """A decoder that ends over every picture."""

    calls = 0

    def write_pyramid(self, image_fd: int, out_fd: int, *, tile_px: int) -> tuple[int, int]:
        self.calls += 1
        os.write(out_fd, b"half a file")
        raise WorkerDied("it ended")

    def close(self) -> None:
        pass


async def test_a_picture_that_ends_its_decoder_is_remembered_and_leaves_nothing(
    make_node: Make, tmp_path: Path
) -> None:
    node = make_node()
    data = jpeg(1)
    ingest(node, write_archive(tmp_path / "a", rows_of(1), images=lambda number: data))
    service = ImageService(node.settings, node.blobs)
    service._decoder = deadly = Deadly()  # type: ignore[assignment]
    picture = Picture(cid=ContentId.of(data), width=64, height=48)
    for _ in range(3):
        with pytest.raises(PictureUnusable, match="ended over"):
            await service.pyramid(picture)
    assert deadly.calls == 1
    assert not [path for path in node.settings.derived_path.rglob("*") if path.is_file()]
    service.close()


async def test_a_full_line_is_told_to_come_again(
    make_node: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_service, "MOST_WAITING_CUTS", 0)
    node = make_node(settings="[images]\ncutters = 1\n")
    data = jpeg(1, size=(1500, 1100))
    ingest(node, write_archive(tmp_path / "a", rows_of(1), images=lambda number: data))
    app = build_application(node, catalogue=Catalogue.of(()), clock=lambda: NOW)
    async with TestClient(TestServer(app)) as client:
        service = app[IMAGES]
        path = f"/iiif/3/{ContentId.of(data).hex}/7,7,900,900/300,/0/default.jpg"
        assert (await client.get(path)).status == 200
        begin, end = asyncio.Event(), asyncio.Event()
        real, loop = service._cutters.cut, asyncio.get_running_loop()

        def slow(fd: int, request: dict[str, object]) -> bytes:
            loop.call_soon_threadsafe(begin.set)
            asyncio.run_coroutine_threadsafe(end.wait(), loop).result()
            return real(fd, request)

        monkeypatch.setattr(service._cutters, "cut", slow)
        first = asyncio.create_task(client.get(path))
        await begin.wait()
        second = await client.get(path)
        assert second.status == 503
        assert int(second.headers["Retry-After"]) > 0
        end.set()
        assert (await first).status == 200


async def test_one_pyramid_is_made_once_however_many_ask(make_node: Make, tmp_path: Path) -> None:
    node = make_node()
    data = jpeg(1, size=(1500, 1100))
    ingest(node, write_archive(tmp_path / "a", rows_of(1), images=lambda number: data))
    service = ImageService(node.settings, node.blobs)
    calls = 0
    real = service._decoder.write_pyramid

    def count(*arguments: int, tile_px: int) -> tuple[int, int]:
        nonlocal calls
        calls += 1
        return real(*arguments, tile_px=tile_px)

    service._decoder.write_pyramid = count  # type: ignore[method-assign]
    picture = Picture(cid=ContentId.of(data), width=1500, height=1100)
    asked = [asyncio.create_task(service.pyramid(picture)) for _ in range(12)]
    await asyncio.sleep(0)
    asked[0].cancel()
    found = await asyncio.gather(*asked, return_exceptions=True)
    assert calls == 1
    assert isinstance(found[0], asyncio.CancelledError)
    assert all(item is found[1] for item in found[1:])
    service.close()


async def test_the_budget_is_kept_and_what_was_used_last_stays(make_node: Make, tmp_path: Path) -> None:
    files = [jpeg(number, size=(1500, 1100)) for number in range(5)]
    node = make_node(settings="[images]\npyramids_max_bytes = 2600000\n")
    ingest(node, write_archive(tmp_path / "a", rows_of(5), images=lambda number: files[number]))
    service = ImageService(node.settings, node.blobs)
    for number, data in enumerate(files):
        picture = Picture(cid=ContentId.of(data), width=1500, height=1100)
        await service.pyramid(picture)
        os.utime(service.derived.path("pyramids", picture.cid), (1000 + number, 1000 + number))
    left = [
        number for number, data in enumerate(files) if service.derived.path("pyramids", ContentId.of(data)).exists()
    ]
    assert service.derived.used_bytes() <= 2_600_000
    assert left
    assert left == list(range(5))[-len(left) :]
    assert len(left) < 5
    service.close()


async def test_a_full_disk_is_said_and_nothing_is_left(
    make_node: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = make_node()
    data = jpeg(1)
    ingest(node, write_archive(tmp_path / "a", rows_of(1), images=lambda number: data))
    service = ImageService(node.settings, node.blobs)

    def refuse(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("node.services.derived.os.fsync", refuse)
    with pytest.raises(PicturesBusy, match="No space"):
        await service.pyramid(Picture(cid=ContentId.of(data), width=64, height=48))
    assert not [path for path in node.settings.derived_path.rglob("*") if path.is_file()]
    service.close()


def test_a_sweep_removes_other_recipes_and_what_killed_processes_left(make_node: Make) -> None:
    node = make_node()
    derived = ImageService(node.settings, node.blobs).derived
    folder = node.settings.derived_path / "pyramids" / "ab"
    folder.mkdir(parents=True)
    name = "ab" + "0" * 62
    old, mine = folder / f"{name}.{'1' * 12}.tif", folder / f"{name}.{derived.recipe}.tif"
    left, fresh = folder / f"{name}.{derived.recipe}.tif.aa.tmp", folder / f"{name}.{derived.recipe}.tif.bb.tmp"
    for path in (old, mine, left, fresh):
        path.write_bytes(b"x")
    os.utime(left, (1, 1))
    assert derived.sweep() == 2
    assert sorted(folder.iterdir()) == sorted((mine, fresh))


def copied(descriptor: int, data: bytes) -> tuple[int, int]:
    os.write(descriptor, data)
    return 1500, 1100


async def test_a_pyramid_that_was_being_made_when_its_image_was_withdrawn_is_not_kept(
    make_node: Make, tmp_path: Path
) -> None:
    """The mark is set before files are looked for; it is asked for after a file is there."""
    node = make_node()
    data = jpeg(1, size=(1500, 1100))
    ingest(node, write_archive(tmp_path / "a", rows_of(1), images=lambda number: data))
    cid = ContentId.of(data)
    service = ImageService(node.settings, node.blobs)
    picture = Picture(cid=cid, width=1500, height=1100)
    real = service._decoder
    await service.pyramid(picture)
    sound = service.derived.path("pyramids", cid).read_bytes()
    service.derived.drop(cid)

    class Meanwhile:
        """Withdraws the image while the decoder is at it."""

        def write_pyramid(self, image_fd: int, out_fd: int, *, tile_px: int) -> tuple[int, int]:
            size = real.write_pyramid(image_fd, out_fd, tile_px=tile_px)
            withdraw(node, plan_withdrawal(node, cid), reason="error", now=NOW, new_key=b"k" * 32)
            return size

        def close(self) -> None:
            real.close()

    service._decoder = Meanwhile()  # type: ignore[assignment]
    with pytest.raises(BlobWithdrawn):
        await service.pyramid(picture)
    with pytest.raises(BlobWithdrawn):  # and when the withdrawal looked for files just before this one had its name
        service.derived.keep_pyramid(cid, width=1500, height=1100, write=lambda descriptor: copied(descriptor, sound))
    with pytest.raises(BlobWithdrawn):
        service.derived.keep_thumbnail(cid, b"\xff\xd8 small \xff\xd9")
    with pytest.raises(BlobWithdrawn):
        await service.thumbnail(picture)
    assert not [path for path in node.settings.derived_path.rglob("*") if path.is_file()]
    service.close()
