"""volume, hash, scrub, quarantine, repair, du as people use them, and care in the background of a node that serves."""

import asyncio
import json
import os
import shutil
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from conftest import NOW, ingest, jpeg, rows_of, write_archive
from test_docs import rot

from cas.errors import BlobChanged, StoreFailed
from cas.ids import ContentId
from cas.leaves import build_leaf_table
from cas.scan import listed_files
from cas.scrub import doubt, quarantined
from cas.unixfs import LEAF_BYTES
from node.app import build_application
from node.cli.main import run
from node.folder import NodeFolder, open_folder
from node.services.care import Care
from node.services.intake_bytes import volume_home
from node.web.keys import ENGINE, PREVIEWS
from node.web.listen import AT_ONCE
from runners.catalogue import Catalogue
from runners.engine import EngineHooks

Make = Callable[..., NodeFolder]


def filled(make_node: Make, folder: Path, name: str = "node", count: int = 3) -> NodeFolder:
    node = make_node(name)
    ingest(node, write_archive(folder, rows_of(count), images=jpeg))
    return node


async def test_a_flipped_byte_is_never_passed_off_as_good_is_found_and_is_repaired_from_another_node(
    make_node: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    node, peer = filled(make_node, tmp_path / "a"), filled(make_node, tmp_path / "b", "peer")
    folder, file = str(node.settings.folder), tmp_path / "a" / "images" / "1.jpg"
    good = file.read_bytes()
    digest = rot(file)
    cid = ContentId.from_hex(digest)
    clock = {"clock": lambda: NOW}
    app, peer_app = (build_application(item, catalogue=Catalogue.of(()), **clock) for item in (node, peer))
    async with (
        TestClient(TestServer(app, host="127.0.0.1")) as client,
        TestClient(TestServer(peer_app, host="127.0.0.1")) as other,
    ):

        async def answer() -> tuple[int, bool]:
            """Status, and whether the bytes are what the answer says they are."""
            response = await client.get(f"/cas/sha256/{digest}")
            body = await response.read()
            return response.status, response.headers.get("Repr-Digest") == _repr_digest(body)

        assert await answer() == (200, False), "who checks, sees that these are not the bytes"
        assert await asyncio.to_thread(run, ["scrub", folder]) == 1
        assert "1 damaged" in "".join(capsys.readouterr())
        assert (await answer())[0] == 404, "what is known to be damaged is not given out"
        assert await asyncio.to_thread(run, ["repair", folder, digest]) == 1
        assert "--from URL" in capsys.readouterr().err
        address = str(other.make_url("")).rstrip("/")
        assert await asyncio.to_thread(run, ["repair", folder, digest, "--from", address]) == 0
        assert await answer() == (200, True)
        assert file.read_bytes() != good, "the institution's file is not touched"
        command = ["repair", folder, digest, "--from", address, "--write-adopted"]
        assert await asyncio.to_thread(run, command) == 0
    assert file.read_bytes() == good
    assert file.with_name("1.jpg.damaged").read_bytes() != good
    assert quarantined(node.blobs) == []
    assert run(["scrub", folder]) == 0
    assert node.blobs.stat(cid) is not None


def _repr_digest(body: bytes) -> str:
    import base64
    import hashlib

    return f"sha-256=:{base64.b64encode(hashlib.sha256(body).digest()).decode()}:"


async def test_a_peer_that_sends_other_bytes_or_none_repairs_nothing(
    make_node: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from aiohttp import web

    node = filled(make_node, tmp_path / "a")
    folder = str(node.settings.folder)
    digest = rot(tmp_path / "a" / "images" / "1.jpg")
    assert run(["scrub", folder]) == 1

    answers = {"lies": jpeg(77), "long": b"x" * 10_000_000}
    kind = ""

    async def lie(request: web.Request) -> web.Response:
        return web.Response(body=answers[kind]) if kind in answers else web.Response(status=404)

    app = web.Application()
    app.router.add_get("/cas/sha256/{hex}", lie)
    async with TestClient(TestServer(app, host="127.0.0.1")) as liar:
        address = str(liar.make_url("")).rstrip("/")
        for kind, said in (("lies", "expected"), ("long", "large"), ("gone", "answered 404")):
            capsys.readouterr()
            code = await asyncio.to_thread(run, ["repair", folder, digest, "--from", address])
            text = capsys.readouterr().err
            assert code in (1, 2), kind
            assert said in text
            assert "Traceback" not in text
            assert len(text.strip().splitlines()) == 1
    assert len(quarantined(node.blobs)) == 1
    with pytest.raises(BlobChanged):
        node.blobs.open_blob(ContentId.from_hex(digest))


class Parts:
    """A node that has some megabytes of a file, and other bytes in the place of the rest."""

    def __init__(self, data: bytes, good: set[int], lies: bool = False) -> None:
        self.data, self.good, self.lies = data, good, lies
        self.asked: list[int] = []

    async def answer(self, request: web.Request) -> web.Response:
        first, _, last = request.headers["Range"].removeprefix("bytes=").partition("-")
        number, part = int(first) // LEAF_BYTES, self.data[int(first) : int(last) + 1]
        self.asked.append(number)
        if number in self.good:
            return web.Response(status=206, body=part)
        return web.Response(status=206, body=bytes(len(part))) if self.lies else web.Response(status=404)


def damaged_large(make_node: Make, tmp_path: Path) -> tuple[NodeFolder, Path, bytes, ContentId]:
    """A node with an image of four parts (the last one short) of which all but the second rotted, found by scrub."""
    data = jpeg(1) + b"".join(bytes([number]) * LEAF_BYTES for number in range(3)) + b"end"
    node = make_node()
    ingest(node, write_archive(tmp_path / "a", rows_of(1), images=lambda _number: data))
    cid, file = ContentId.of(data), tmp_path / "a" / "images" / "0.jpg"
    assert len(build_leaf_table(node.blobs, cid, now=NOW).leaves) == 4
    state = file.stat()
    rotten = bytearray(data)
    for number in (0, 2, 3):
        rotten[number * LEAF_BYTES + 5] ^= 1
    file.write_bytes(rotten)
    os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert run(["scrub", str(node.settings.folder)]) == 1
    return node, file, data, cid


async def test_an_image_is_repaired_from_several_nodes_part_by_part(
    make_node: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    node, file, data, cid = await asyncio.to_thread(damaged_large, make_node, tmp_path)
    one, two = Parts(data, {0}, lies=True), Parts(data, {2, 3})
    apps = [web.Application(), web.Application()]
    for app, parts in zip(apps, (one, two), strict=True):
        app.router.add_get("/cas/sha256/{hex}", parts.answer)
    async with (
        TestClient(TestServer(apps[0], host="127.0.0.1")) as a,
        TestClient(TestServer(apps[1], host="127.0.0.1")) as b,
    ):
        nodes = [str(client.make_url("")).rstrip("/") for client in (a, b)]
        words = ["repair", str(node.settings.folder), cid.hex, "--from", "http://127.0.0.1:1"]
        capsys.readouterr()
        assert await asyncio.to_thread(run, [*words, "--from", nodes[0]]) == 1
        assert "2 of 4 parts" in (said := capsys.readouterr().err)
        assert len([line for line in said.splitlines() if "Error" in line]) == 1
        assert await asyncio.to_thread(node.blobs.stat, cid) is not None
        one.asked.clear()
        assert await asyncio.to_thread(run, [*words, "--from", nodes[0], "--from", nodes[1]]) == 0
    assert f"{nodes[0]} (1 of 4 parts), {nodes[1]} (2 of 4 parts)" in capsys.readouterr().out
    assert one.asked == [0, 2, 3], "what is good here is not fetched"
    assert two.asked == [2, 3]
    with node.blobs.open_blob(cid) as blob:
        assert blob.pread(0, blob.size) == data
    assert file.read_bytes() != data, "the institution's file is not touched"


async def test_without_a_leaf_table_the_first_node_that_has_the_whole_is_taken(
    make_node: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    node, peer = filled(make_node, tmp_path / "a"), filled(make_node, tmp_path / "b", "peer")
    digest = rot(tmp_path / "a" / "images" / "1.jpg")
    assert run(["scrub", str(node.settings.folder)]) == 1
    app = build_application(peer, catalogue=Catalogue.of(()), clock=lambda: NOW)
    words = ["repair", str(node.settings.folder), digest, "--from", "http://127.0.0.1:1"]
    async with TestClient(TestServer(app, host="127.0.0.1")) as client:
        assert await asyncio.to_thread(run, [*words, "--from", "http://127.0.0.1:2"]) == 1
        assert "127.0.0.1:1" in (said := capsys.readouterr().err)
        assert "127.0.0.1:2" in said
        assert await asyncio.to_thread(run, [*words, "--from", str(client.make_url("")).rstrip("/")]) == 0
    assert node.blobs.verify(ContentId.from_hex(digest))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["repair", "NODE", "nonsense"], "not a content id"),
        (["repair", "NODE", "0" * 64], "not an image of this node"),
        (["volume", "scan", "NODE", "nothing"], "no volume 'nothing'"),
        (["scrub", "NOWHERE"], "vasculum init"),
        (["volume", "list", "NOWHERE"], "vasculum init"),
        (["du", "NOWHERE"], "vasculum init"),
    ],
)
def test_what_is_asked_wrongly_gets_one_line(
    make_node: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    node = filled(make_node, tmp_path / "a", count=1)
    places = {"NODE": str(node.settings.folder), "NOWHERE": str(tmp_path / "nowhere")}
    assert run([places.get(word, word) for word in words]) == 2
    text = capsys.readouterr().err
    assert said in text
    assert len(text.strip().splitlines()) == 1


def test_an_empty_mount_point_is_said_and_nothing_is_lost(
    make_node: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    node = filled(make_node, tmp_path / "a")
    folder = str(node.settings.folder)
    away = (tmp_path / "a").rename(tmp_path / "away")
    (tmp_path / "a").mkdir()
    assert run(["volume", "scan", folder, "collection"]) == 1
    assert "is the drive mounted?" in capsys.readouterr().err
    assert run(["scrub", folder]) == 1
    assert run(["volume", "list", folder, "--json"]) == 0
    (line,) = capsys.readouterr().out.strip().splitlines()[-1:]
    assert json.loads(line)["files"] == 3
    assert json.loads(line)["problems"]
    (tmp_path / "a").rmdir()
    away.rename(tmp_path / "a")
    assert run(["scrub", folder]) == 0


def test_json_of_every_listing_is_json(make_node: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    node = filled(make_node, tmp_path / "a")
    folder = str(node.settings.folder)
    rot(tmp_path / "a" / "images" / "0.jpg")
    (tmp_path / "a" / "images" / "1.jpg").rename(tmp_path / "a" / "images" / "one.jpg")
    outputs = []
    for words in (
        ["volume", "scan", folder, "collection", "--json"], ["scrub", folder, "--json"],
        ["quarantine", folder, "--json"], ["volume", "list", folder, "--json"], ["du", folder, "--json"],
    ):  # fmt: skip
        run(words)
        outputs.append([json.loads(line) for line in capsys.readouterr().out.strip().splitlines()])
    scanned, scrubbed, kept, volumes, usage = outputs
    assert scanned[0]["moved"] == [["images/1.jpg", "images/one.jpg"]]
    assert [item["verdict"] for item in scrubbed] == ["damaged"]
    assert kept[0]["path"] == "images/0.jpg"
    assert volumes[0]["quarantined"] == 1
    assert {item["name"] for item in usage[0]["volumes"]} == {"owned", "collection"}


def test_masters_are_listed_now_and_hashed_later(
    make_node: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    masters = tmp_path / "masters"
    masters.mkdir()
    for number in range(4):
        (masters / f"{number}.tif").write_bytes(os.urandom(1000 + number))
    node = make_node(settings='[volumes.masters]\nroot = "../masters"\n')
    folder = str(node.settings.folder)
    assert run(["volume", "scan", folder, "masters", "--list-only"]) == 0
    assert "4 new files listed as master" in capsys.readouterr().out
    assert node.blobs.counts() == (0, 0), "nothing is hashed yet"
    (masters / "3.tif").unlink()
    assert run(["hash", folder, "--rate", "1000"]) == 1
    assert "stay listed" in capsys.readouterr().err
    assert node.blobs.counts()[0] == 3
    (masters / "3.tif").write_bytes(b"here again")
    assert run(["hash", folder]) == 0
    assert node.blobs.counts()[0] == 4
    assert list(listed_files(node.blobs, "master")) == []
    assert run(["volume", "scan", folder, "masters"]) == 0


def test_a_source_inside_a_named_volume_belongs_to_it_and_nothing_is_read_again(
    make_node: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = filled(make_node, tmp_path / "drive" / "herbarium")
    images = [ContentId.of((tmp_path / "drive" / "herbarium" / f"images/{n}.jpg").read_bytes()) for n in range(3)]
    assert set(node.blobs.index.volumes()) == {"collection"}
    with (node.settings.folder / "node.toml").open("a", encoding="utf-8") as stream:
        stream.write('\n[volumes.drive]\nroot = "../drive"\nidentity = "size+mtime"\nmax_read_mib_s = 50\n')
    with open_folder(node.settings.folder) as again:
        assert volume_home(again.settings, "collection", tmp_path / "drive" / "herbarium").prefix == "herbarium/"
        assert volume_home(again.settings, "other", tmp_path / "elsewhere").volume == "other"
        report = ingest(again, tmp_path / "drive" / "herbarium")
        assert (report.bytes_hashed, report.unchanged) == (0, 3)
        assert set(again.blobs.index.volumes()) == {"drive"}
        for cid in images:
            assert [(item.volume, item.path.split("/")[0]) for item in again.blobs.index.locations(cid)] == [
                ("drive", "herbarium")
            ]
            again.blobs.open_blob(cid).close()


def test_care_in_the_background_reads_what_is_due_and_stops_when_told(make_node: Make, tmp_path: Path) -> None:
    from datetime import timedelta

    node = make_node(settings='[care]\nleaf_tables = "background"\n')
    ingest(node, write_archive(tmp_path / "a", rows_of(3), images=jpeg))
    big = node.blobs.put_bytes(bytes(2 * LEAF_BYTES), now=NOW).id
    rot(tmp_path / "a" / "images" / "2.jpg")
    later = NOW + timedelta(days=91)
    now = {"time": NOW}
    care = Care(node.blobs, node.settings, clock=lambda: now["time"], monotonic=time.monotonic, wait=lambda _: None)
    first = care.run_slice(60)
    assert (first.read, first.tables) == (0, 1), "nothing is due on the first day, but the leaf table is"
    now["time"] = later
    second = care.run_slice(60)
    assert second.read == 4
    assert [item.verdict for item in second.bad] == ["damaged"]
    assert care.run_slice(60).read == 0
    now["time"] = later + timedelta(days=91)
    assert care.run_slice(0).read == 0, "no time, no work"
    care.stop()
    assert care.run_slice(60).read == 0
    assert node.blobs.verify(big)


def test_visitors_make_work_in_the_background_wait(make_node: Make, tmp_path: Path) -> None:
    (tmp_path / "drive").mkdir()
    node = make_node(settings='[volumes.drive]\nroot = "../drive"\nmax_read_mib_s = 1\n[care]\nscrub_mib_s = 0\n')
    now, waits = {"at": 0.0}, []

    def wait(seconds: float) -> None:
        waits.append(round(seconds, 3))
        now["at"] += seconds

    care = Care(node.blobs, node.settings, clock=lambda: NOW, monotonic=lambda: now["at"], wait=wait)
    care.served("drive", 3 << 20)
    assert waits == []
    care.took("drive", 1 << 20)
    assert waits == [4.0]
    care.took_for_job("other", 1 << 30)
    care.took("", 1 << 30)
    assert waits == [4.0], "only this volume has a limit"


def test_a_volume_of_the_settings_must_be_moved_there_too(
    make_node: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_archive(tmp_path / "drive" / "a", rows_of(2), images=jpeg)
    node = make_node(settings='[volumes.drive]\nroot = "../drive"\n')
    ingest(node, source)
    shutil.copytree(tmp_path / "drive", tmp_path / "new")
    folder = str(node.settings.folder)
    assert run(["volume", "moved", folder, "drive", str(tmp_path / "new")]) == 1
    assert "first write root" in capsys.readouterr().err
    text = (node.settings.folder / "node.toml").read_text("utf-8")
    (node.settings.folder / "node.toml").write_text(text.replace("../drive", "../new"), "utf-8")
    assert run(["volume", "moved", folder, "drive", str(tmp_path / "new")]) == 0
    shutil.rmtree(tmp_path / "drive")
    assert run(["scrub", folder]) == 0


def put_back(file: Path, good: bytes) -> None:
    """As ``rsync --inplace -t`` from a backup: the same inode, the old time."""
    state = file.stat()
    file.write_bytes(good)
    os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))


@pytest.mark.parametrize("how", ["repair", "scan"])
def test_a_file_that_was_put_back_leaves_quarantine(
    make_node: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str], how: str
) -> None:
    node = filled(make_node, tmp_path / "a")
    folder, file = str(node.settings.folder), tmp_path / "a" / "images" / "1.jpg"
    good = file.read_bytes()
    digest = rot(file)
    words = ["repair", folder, digest] if how == "repair" else ["volume", "scan", folder, "collection"]
    assert run(["scrub", folder]) == 1
    derived = node.settings.derived_path / "preview-1600" / digest[:2] / f"{digest}.jpg"
    derived.parent.mkdir(parents=True)
    derived.write_bytes(b"made from the damaged bytes")
    capsys.readouterr()
    assert run(words) == (1 if how == "repair" else 0)
    assert how == "repair" or "1 damaged: still in quarantine: images/1.jpg" in capsys.readouterr().out
    assert len(quarantined(node.blobs)) == 1
    put_back(file, good)
    assert run(words) == 0
    assert "good again" in capsys.readouterr().out
    assert quarantined(node.blobs) == []
    node.blobs.open_blob(ContentId.from_hex(digest)).close()
    assert how == "scan" or not derived.exists(), "it is made again from the good bytes"
    assert node.blobs.stat(ContentId.from_hex(digest)).kind == "adopted", "no copy was needed"  # type: ignore[union-attr]
    assert run(["scrub", folder, "--older-than", "0"]) == 0


def test_repair_says_that_the_institutions_file_is_still_damaged(
    make_node: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    node = filled(make_node, tmp_path / "a")
    folder, file = str(node.settings.folder), tmp_path / "a" / "images" / "1.jpg"
    good = file.read_bytes()
    digest = rot(file)
    node.blobs.put_bytes(good, now=NOW)
    assert run(["scrub", folder]) == 1
    capsys.readouterr()
    assert run(["repair", folder, digest]) == 0
    said = capsys.readouterr().out
    assert "your file is still damaged: collection:images/1.jpg" in said
    assert "--write-adopted" in said
    assert run(["repair", folder, digest, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["stillDamaged"] == ["collection:images/1.jpg"]
    assert run(["repair", folder, digest, "--write-adopted"]) == 0
    assert "still damaged" not in capsys.readouterr().out
    assert file.read_bytes() == good


def test_a_damaged_file_that_is_moved_stays_in_quarantine(
    make_node: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    node = filled(make_node, tmp_path / "a")
    folder, file = str(node.settings.folder), tmp_path / "a" / "images" / "1.jpg"
    digest = rot(file)
    assert run(["scrub", folder]) == 1
    file.rename(file.with_name("elsewhere.jpg"))
    assert run(["volume", "scan", folder, "collection"]) == 0
    assert "moved and found again" in capsys.readouterr().out
    assert [item.path for item in quarantined(node.blobs)] == ["images/elsewhere.jpg"]
    with pytest.raises(BlobChanged):
        node.blobs.open_blob(ContentId.from_hex(digest))


def care_of(node: NodeFolder, waits: list[float]) -> Care:
    return Care(node.blobs, node.settings, clock=lambda: NOW, monotonic=lambda: 0.0, wait=waits.append)


def test_without_rounds_what_was_moved_or_is_doubted_is_read_all_the_same(make_node: Make, tmp_path: Path) -> None:
    node = make_node(settings="[care]\nscrub_days = 0\n")
    ingest(node, write_archive(tmp_path / "a", rows_of(3), images=jpeg))
    care = care_of(node, [])
    assert care.run_slice(60).read == 0
    (tmp_path / "a" / "images" / "1.jpg").rename(tmp_path / "a" / "images" / "one.jpg")
    assert run(["volume", "scan", str(node.settings.folder), "collection"]) == 0
    rot(tmp_path / "a" / "images" / "one.jpg")
    found = care.run_slice(60)
    assert [(item.path, item.verdict) for item in found.bad] == [("images/one.jpg", "damaged")]
    assert found.read == 1
    doubt(node.blobs, ContentId.of(jpeg(0)))
    assert care.run_slice(60).read == 1
    assert care.run_slice(60).read == 0


def test_leaf_tables_wait_for_their_volume_and_a_damaged_file_is_doubted_once(make_node: Make, tmp_path: Path) -> None:
    drive = tmp_path / "drive"
    drive.mkdir()
    (drive / "big.tif").write_bytes(os.urandom(3 * LEAF_BYTES))
    node = make_node(
        settings='[volumes.drive]\nroot = "../drive"\nmax_read_mib_s = 1\n'
        '[care]\nscrub_mib_s = 0\nscrub_days = 0\nleaf_tables = "background"\n'
    )
    node.blobs.define_volume("drive", drive)
    assert next(node.blobs.adopt_many("drive", ["big.tif"], now=NOW)).relpath == "big.tif"
    rot(drive / "big.tif")
    waits: list[float] = []
    care = care_of(node, waits)
    assert care.run_slice(60).tables == 0
    assert max(waits) >= 3, "three MiB at one MiB a second"
    assert [item.verdict for item in care.run_slice(60).bad] == ["damaged"], (
        "what failed is read first by the next scrub"
    )
    waits.clear()
    assert care.run_slice(60).tables == 0
    assert waits == [], "and is not read again every minute"


def test_work_in_the_background_keeps_its_own_pace(make_node: Make) -> None:
    node = make_node(settings="[care]\nscrub_mib_s = 2\n")
    waits: list[float] = []
    care_of(node, waits).took("", 6 << 20)
    assert waits == [3.0]


async def test_every_way_to_read_a_volume_is_counted(
    make_node: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Visitors are counted however they are answered (first request, warm request, range); jobs wait."""
    counted: list[tuple[str, str, int]] = []
    for name in ("served", "took_for_job"):
        monkeypatch.setattr(
            Care, name, lambda _self, volume, count, name=name: counted.append((name, volume, count))
        )  # fmt: skip
    made: list[EngineHooks] = []

    def hooks(**options: Any) -> EngineHooks:
        made.append(EngineHooks(**options))
        return made[-1]

    monkeypatch.setattr("node.app.EngineHooks", hooks)
    node = filled(make_node, tmp_path / "a", count=1)
    data = jpeg(0)
    app = build_application(node, catalogue=Catalogue.of(()), clock=lambda: NOW)
    async with TestClient(TestServer(app, host="127.0.0.1")) as client:
        for headers in ({}, {}, {"Range": "bytes=5-14"}):
            response = await client.get(f"/cas/sha256/{ContentId.of(data).hex}", headers=headers)
            assert response.status in (200, 206)
            await response.read()
        assert counted == [("served", "collection", count) for count in (len(data), len(data), 10)]
        counted.clear()
        request = f"GET /cas/sha256/{ContentId.of(data).hex} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()
        plan = app[AT_ONCE].plan(request)
        assert plan is not None
        assert app[AT_ONCE].find(request, plan, "192.0.2.1") is not None
        assert counted == [("served", "collection", len(data))]
        counted.clear()
        with made[0].open_image(ContentId.of(data).hex):
            assert counted == [("took_for_job", "collection", len(data))]

        def refuse(_self: object, _cid: ContentId) -> None:
            raise StoreFailed("the disk is full")

        monkeypatch.setattr("node.services.tiers.TierWork.saw", refuse)
        file, folder = tmp_path / "a" / "images" / "0.jpg", Path("/proc/self/fd")
        with pytest.raises(StoreFailed):
            made[0].open_image(ContentId.of(data).hex)
        still_open = [os.readlink(link) for link in folder.iterdir() if link.is_symlink() and os.path.lexists(link)]
        assert str(file) not in still_open, "a job that cannot begin leaves no file open"


async def test_a_job_gets_no_damaged_bytes_and_the_file_is_scrubbed_next(make_node: Make, tmp_path: Path) -> None:
    node = filled(make_node, tmp_path / "a", count=2)
    app = build_application(node, catalogue=Catalogue.of(()), clock=lambda: NOW)
    async with TestClient(TestServer(app, host="127.0.0.1")):
        open_image = app[ENGINE]._hooks.open_image
        good, bad = ContentId.of(jpeg(0)), ContentId.of(jpeg(1))
        with node.blobs.index.transaction() as conn:
            conn.execute("UPDATE location SET checked = '2026-11-01'")
        rot(tmp_path / "a" / "images" / "1.jpg")
        with open_image(good.hex) as image:
            assert image.fd >= 0
        with pytest.raises(BlobChanged, match="damaged"):
            open_image(bad.hex)
        first = node.blobs.index.select("SELECT sha FROM location WHERE checked = ''")
        assert [row["sha"] for row in first] == [bad.digest]


async def test_previews_and_ipfs_are_counted_for_the_volume(
    make_node: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: list[tuple[str, int]] = []
    monkeypatch.setattr(Care, "served", lambda _self, volume, count: counted.append((volume, count)))
    node = filled(make_node, tmp_path / "a", count=1)
    data = jpeg(0)
    cid = ContentId.of(data)
    app = build_application(node, catalogue=Catalogue.of(()), clock=lambda: NOW)
    async with TestClient(TestServer(app, host="127.0.0.1")) as client:
        for path in (f"/ipfs/{cid.to_cid()}?format=raw", f"/ipfs/{cid.to_cid()}?format=car"):
            response = await client.get(path)
            assert response.status == 200, await response.text()
            await response.read()
        await app[PREVIEWS].get(cid, 100)
    assert counted == [("collection", len(data))] * 3


@pytest.mark.parametrize("words", [["scrub"], ["hash"], ["volume", "scan"], ["ipfs", "index"]])
@pytest.mark.long
def test_commands_keep_the_limit_of_the_volume(
    make_node: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    drive = tmp_path / "drive"
    drive.mkdir()
    (drive / "big.tif").write_bytes(os.urandom(3 << 20))
    node = make_node(settings='[volumes.drive]\nroot = "../drive"\nmax_read_mib_s = 1\n')
    folder = str(node.settings.folder)
    assert run(["volume", "scan", folder, "drive", "--list-only"]) == 0
    waits: list[float] = []
    clock = types.SimpleNamespace(monotonic=lambda: 0.0, sleep=waits.append)
    if words != ["hash"]:
        assert run(["hash", folder]) == 0
    if words == ["scrub"]:
        doubt(node.blobs, ContentId.of((drive / "big.tif").read_bytes()))
    if words == ["volume", "scan"]:
        os.utime(drive / "big.tif", ns=(1, 1))
    monkeypatch.setattr("node.cli.store_work.time", clock)
    assert run([*words, folder, *(["drive"] if words[0] == "volume" else [])]) == 0
    assert max(waits) == pytest.approx(3.0)


def test_bytes_come_back_from_a_file_of_a_backup(
    make_node: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    node = make_node()
    folder = str(node.settings.folder)
    cid = node.blobs.put_bytes(b"an own copy", now=NOW).id
    path = node.blobs.tree.path(cid)
    path.chmod(0o644)
    path.write_bytes(b"an oWn copy")
    assert run(["scrub", folder, "--older-than", "0"]) == 1
    (tmp_path / "wrong").write_bytes(b"an Own copy")
    (tmp_path / "right").write_bytes(b"an own copy")
    capsys.readouterr()
    assert run(["repair", folder, cid.hex, "--file", str(tmp_path / "wrong")]) == 2
    assert "expected" in capsys.readouterr().err
    assert len(quarantined(node.blobs)) == 1
    assert run(["repair", folder, cid.hex, "--file", str(tmp_path / "right")]) == 0
    assert quarantined(node.blobs) == []
    assert node.blobs.verify(cid)
