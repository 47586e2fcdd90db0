"""Tiers as people meet them: settings, commands, 202 for archived bytes, jobs, withdrawal, and the work in the background."""

import asyncio
import json
import shutil
import zipfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
import pytest
from aiohttp.test_utils import TestClient, TestServer
from conftest import NOW, ingest, jpeg, rows_of, write_archive
from contracts.tier_places import FileHooks
from test_processes import pair_of

from cas.errors import BlobArchived, TierFailed
from cas.ids import ContentId
from cas.scrub import quarantined
from cas.unixfs import RAW, cid_text
from node.app import build_application
from node.cli.main import run
from node.config import ConfigError, parse_settings
from node.folder import NodeFolder, open_folder
from node.services.tiers import TierWork, open_tiering, prepare
from node.services.withdraw import WithdrawalPending, finish_begun
from node.web.keys import TIERS
from runners.catalogue import Catalogue

Make = Callable[..., NodeFolder]
TIER = '[tiers.archive]\npath = "../archive"\nolder_than_days = 30\n'
RULES = '[[sources.collection.rules]]\nfield = "country"\nmatch = "Privatia"\naccess = "private"\n'
KINDS = ("open", "restricted", "private")


def zipped(folder: Path, **extra: str) -> Path:
    """Three images in a zip, so that the node keeps own copies: open, restricted, private."""
    rows = rows_of(3, **extra)
    rows[1]["licence"] = "all rights reserved"
    rows[2] |= {"country": "Privatia"}
    write_archive(folder, rows, images=jpeg)
    with zipfile.ZipFile(folder.with_suffix(".zip"), "w") as packed:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                packed.write(path, path.relative_to(folder))
    return folder.with_suffix(".zip")


def ids_of(folder: Path) -> dict[str, ContentId]:
    return {kind: ContentId.of((folder / f"images/{number}.jpg").read_bytes()) for number, kind in enumerate(KINDS)}


@pytest.fixture
def node(make_node: Make, tmp_path: Path) -> NodeFolder:
    (tmp_path / "archive").mkdir()
    found = make_node(settings=TIER + RULES)
    ingest(found, zipped(tmp_path / "export"))
    return found


@pytest.fixture
def ids(node: NodeFolder, tmp_path: Path) -> dict[str, ContentId]:
    return ids_of(tmp_path / "export")


def archive_all(node: NodeFolder) -> None:
    assert run(["tier", "move", str(node.settings.folder), "--to", "archive", "--all", "--go"]) == 0


@asynccontextmanager
async def serving(node: NodeFolder) -> AsyncIterator[TestClient]:  # type: ignore[type-arg]
    app = build_application(node, catalogue=Catalogue.of(()), clock=lambda: NOW)
    async with TestClient(TestServer(app, host="127.0.0.1")) as client:
        yield client


async def test_archived_bytes_are_asked_for_come_back_and_are_then_served(
    node: NodeFolder, ids: dict[str, ContentId], tmp_path: Path
) -> None:
    await asyncio.to_thread(archive_all, node)
    cid, data = ids["open"], (tmp_path / "export/images/0.jpg").read_bytes()
    address = f"/cas/sha256/{cid.hex}"
    async with serving(node) as client:
        for method in ("GET", "HEAD", "GET"):
            answer = await client.request(method, address)
            assert (answer.status, answer.headers["Retry-After"]) == (202, "60")
            assert answer.headers["Cache-Control"] == "no-store"
            assert "ETag" not in answer.headers
        told = await answer.json()
        assert told["type"] == "/problems/being-restored"
        assert str(len(data)) in told["detail"]
        page = await client.get(address, headers={"Accept": "text/html"})
        assert (page.status, page.content_type) == (202, "text/html")
    async with serving(node) as client:  # what was asked for survives a restart
        assert [item.id for item in client.app[TIERS].tiering.restores()] == [cid]  # type: ignore[union-attr]
        done = await asyncio.to_thread(client.app[TIERS].run_restores)  # type: ignore[union-attr]
        assert (done.moved, done.problems) == (1, ())
        answer = await client.get(address)
        assert (answer.status, await answer.read()) == (200, data)


async def test_who_may_not_see_the_bytes_does_not_learn_that_they_are_archived(
    node: NodeFolder, ids: dict[str, ContentId]
) -> None:
    addresses = [f"/cas/sha256/{cid.hex}" for cid in ids.values()]
    addresses += [f"/ipfs/{cid_text(RAW, cid.digest)}?format={form}" for cid in ids.values() for form in ("raw", "car")]
    addresses.append(f"/cas/sha256/{ContentId.of(b'never here').hex}")

    async def answers(client: TestClient) -> list[tuple[int, bytes]]:  # type: ignore[type-arg]
        found = [await client.get(address) for address in addresses]
        return [(item.status, b"" if item.status in (200, 202) else await item.read()) for item in found]

    async with serving(node) as client:
        before = await answers(client)
        await asyncio.to_thread(archive_all, node)
        after = await answers(client)
    assert [status for status, _ in before] == [200, 403, 404, 200, 200, 403, 403, 404, 404, 404]
    assert [status for status, _ in after] == [202, 403, 404, 202, 202, 403, 403, 404, 404, 404]
    assert [item for item in after if item[0] > 202] == [item for item in before if item[0] > 200]
    assert [item.id for item in open_work(node).tiering.restores()] == [ids["open"]], "nobody else's bytes were moved"


async def test_a_restore_that_fails_is_told_and_staff_see_why(
    node: NodeFolder, ids: dict[str, ContentId], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    await asyncio.to_thread(archive_all, node)
    (tmp_path / "archive").rename(tmp_path / "away")
    address = f"/cas/sha256/{ids['open'].hex}"
    async with serving(node) as client:
        assert (await client.get(address)).status == 202
        done = await asyncio.to_thread(client.app[TIERS].run_restores)  # type: ignore[union-attr]
        assert "mounted" in done.problems[0]
        answer = await client.get(address)
        assert (answer.status, answer.headers["Retry-After"]) == (503, "3600")
        assert str(tmp_path) not in await answer.text(), "strangers do not learn where the archive is"
        capsys.readouterr()
        folder = str(node.settings.folder)
        assert await asyncio.to_thread(run, ["tier", "list", folder, "--json"]) == 0
        lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert [(item["state"], "mounted" in item["reason"]) for item in lines if item["kind"] == "restore"] == [
            ("failed", True)
        ]
        assert await asyncio.to_thread(run, ["tier", "restore", folder]) == 1
        (tmp_path / "away").rename(tmp_path / "archive")
        assert await asyncio.to_thread(run, ["tier", "restore", folder]) == 0
        assert (await client.get(address)).status == 200


async def test_a_preview_that_was_not_made_yet_waits_for_the_bytes(node: NodeFolder, ids: dict[str, ContentId]) -> None:
    await asyncio.to_thread(archive_all, node)
    with node.database.reader() as conn:
        [row] = conn.execute("SELECT iri FROM medium WHERE image = ?", (ids["open"].hex,)).fetchall()
    async with serving(node) as client:
        address = row["iri"].removeprefix(node.settings.origin) + "/preview.jpg"
        assert (await client.get(address)).status == 202
        await asyncio.to_thread(client.app[TIERS].run_restores)  # type: ignore[union-attr]
        assert (await client.get(address)).status == 200


def open_work(node: NodeFolder, now: Callable[[], datetime] = lambda: NOW) -> TierWork:
    tiering = open_tiering(node.settings, node.blobs, clock=now, environ={})
    return TierWork(
        node.blobs, tiering, node.settings, clock=now, monotonic=lambda: 0.0, wait=lambda _s: None
    )  # fmt: skip


def test_rules_are_applied_in_the_background_and_what_is_used_stays(
    node: NodeFolder, ids: dict[str, ContentId], tmp_path: Path
) -> None:
    clock = [NOW]
    work = open_work(node, lambda: clock[0])
    assert work.run_slice(10).moved == 0, "nothing is older than 30 days"
    assert not (tmp_path / "archive" / "vasculum-tier").exists(), "a folder is not touched before it is needed"
    clock[0] = NOW + timedelta(days=31)
    done = work.run_slice(10)
    assert (done.moved, done.problems) == (3, ())
    assert {copy.id for copy in work.tiering.copies()} == set(ids.values())
    clock[0] += timedelta(days=400)
    FileHooks(tmp_path / "archive" / "blobs").flip(ids["open"])
    done = work.run_slice(10)
    assert [item.id for item in done.bad] == [ids["open"]], "copies are read again once in scrub_days"
    assert [item.volume for item in quarantined(node.blobs)] == ["tier:archive"]
    work.stop()
    assert work.run_slice(10).moved == 0


async def test_serving_notes_what_is_used(make_node: Make, tmp_path: Path) -> None:
    (tmp_path / "archive").mkdir()
    node = make_node(settings='[tiers.archive]\npath = "../archive"\nunused_days = 1\n')
    ingest(node, zipped(tmp_path / "export"))
    cid = ids_of(tmp_path / "export")["open"]
    async with serving(node) as client:
        for _ in range(3):
            assert (await client.get(f"/cas/sha256/{cid.hex}")).status == 200
    rows = node.blobs.index.select("SELECT * FROM used")
    assert [(row["sha"], row["day"]) for row in rows] == [(cid.digest, NOW.date().isoformat())], "written at the end"


def test_a_job_waits_for_archived_bytes_and_asks_for_them(node: NodeFolder, ids: dict[str, ContentId]) -> None:
    archive_all(node)
    app = build_application(node, catalogue=Catalogue.of(()), clock=lambda: NOW)
    from node.web.keys import ENGINE

    open_image = app[ENGINE]._hooks.open_image
    with pytest.raises(BlobArchived):
        open_image(ids["restricted"].hex)
    assert [item.id for item in app[TIERS].tiering.restores()] == [ids["restricted"]]
    assert app[TIERS].run_restores().moved == 1
    with open_image(ids["restricted"].hex) as blob:
        assert blob.size > 0
    with node.blobs.index.transaction() as conn:
        conn.execute("INSERT INTO restore VALUES (?, ?, 'failed', 'no')", (ids["open"].digest, NOW.isoformat()))
    with pytest.raises(TierFailed):
        open_image(ids["open"].hex)


def test_an_ingest_of_the_same_zip_leaves_archived_images_where_they_are(node: NodeFolder, tmp_path: Path) -> None:
    archive_all(node)
    before = media(node)
    report = ingest(node, zipped(tmp_path / "export", recordedBy="B. Collector"))
    assert (report.new, report.changed) == (0, 3)
    assert media(node) == before
    assert [copy.is_active for copy in open_work(node).tiering.copies()] == [False] * 3


def media(node: NodeFolder) -> list[tuple[object, ...]]:
    with node.database.reader() as conn:
        return [
            tuple(row) for row in conn.execute("SELECT iri, image, width, height, problem FROM medium ORDER BY iri")
        ]


def test_commands_say_what_would_move_move_it_list_it_and_bring_it_back(
    node: NodeFolder, ids: dict[str, ContentId], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, one = str(node.settings.folder), ids["open"].hex

    def said(*words: str, code: int = 0) -> str:
        capsys.readouterr()
        assert run(["tier", *words]) == code, capsys.readouterr()
        printed = capsys.readouterr()
        return printed.out + printed.err

    assert "0 images" in said("move", folder)
    assert "1 images" in said("move", folder, one, "--to", "archive")
    assert node.blobs.verify(ids["open"]), "a dry run moves nothing"
    assert "1 images moved" in said("move", folder, one, "--to", "archive", "--go")
    assert "0 images moved" in said("move", folder, one, "--to", "archive", "--go")
    told = said("list", folder, "--images")
    assert one in told
    assert "1 of them without an active copy" in told
    rows = [json.loads(line) for line in said("list", folder, "--images", "--json").splitlines()]
    assert [(row["kind"], row.get("active")) for row in rows] == [("image", False), ("tier", None)]
    assert run(["scrub", folder]) == 0
    assert run(["fsck", folder, "--read"]) == 0
    capsys.readouterr()
    assert run(["du", folder, "--json"]) == 0
    assert [row["name"] for row in json.loads(capsys.readouterr().out)["volumes"]][-1] == "tier:archive"
    assert run(["volume", "list", folder]) == 0
    assert "tier:" not in capsys.readouterr().out
    assert "restored from archive" in said("restore", folder, one)
    assert "nothing waits" in said("restore", folder)
    assert "3 images moved" in said("move", folder, "--all", "--go", "--rate", "100")
    assert said("restore", folder, "--all", "--json").count('"from": "archive"') == 3
    assert "no tier 'tape'" in said("move", folder, "--to", "tape", code=2)
    assert "no content id" in said("move", folder, "xyz", code=2)
    assert "not an image" in said("move", folder, ContentId.of(b"?").hex, code=2)
    assert "in no tier" in said("restore", folder, ContentId.of(b"?").hex, code=2)
    shutil.rmtree(tmp_path / "archive")
    assert "mounted" in said("move", folder, "--all", "--go", code=1)
    assert node.blobs.verify(ids["open"])
    assert run(["doctor", folder]) == 1
    assert "tier archive" in "".join(capsys.readouterr())


def test_adopted_files_are_refused_by_name(make_node: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "archive").mkdir()
    node = make_node(settings=TIER)
    ingest(node, write_archive(tmp_path / "a", rows_of(1), images=jpeg))
    cid = ContentId.of((tmp_path / "a/images/0.jpg").read_bytes())
    assert run(["tier", "move", str(node.settings.folder), cid.hex, "--go"]) == 2
    assert "never moved" in capsys.readouterr().err
    assert run(["tier", "move", str(node.settings.folder), "--all", "--go"]) == 0
    assert "0 images moved" in capsys.readouterr().out


def test_repair_takes_good_bytes_from_a_tier_and_heals_a_tier(
    node: NodeFolder, ids: dict[str, ContentId], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, cid = str(node.settings.folder), ids["open"]
    archive_all(node)
    assert run(["tier", "restore", folder, cid.hex]) == 0
    own, there = FileHooks(node.blobs.tree.root), FileHooks(tmp_path / "archive" / "blobs")
    own.flip(cid)
    assert run(["scrub", folder]) == 1
    capsys.readouterr()
    assert run(["repair", folder, cid.hex]) == 0
    assert "tier archive" in capsys.readouterr().out
    assert node.blobs.verify(cid)
    there.flip(cid)
    assert run(["scrub", folder]) == 1
    assert run(["quarantine", folder]) == 0
    assert "tier:archive" in capsys.readouterr().out
    assert run(["repair", folder, cid.hex]) == 0
    assert "written anew: the damaged copy in tier archive" in capsys.readouterr().out
    assert run(["scrub", folder]) == 0
    assert run(["fsck", folder, "--read"]) == 0


def test_a_withdrawal_takes_the_copy_in_the_tier_too_and_waits_for_one_that_cannot_be_reached(
    node: NodeFolder, ids: dict[str, ContentId], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, data = str(node.settings.folder), (tmp_path / "export/images/0.jpg").read_bytes()
    archive_all(node)
    run(["tier", "restore", folder, ids["open"].hex])
    (tmp_path / "archive").rename(tmp_path / "away")
    command = ["withdraw", folder, ids["open"].hex, "--reason", "asked for", "--yes"]
    assert run(command) == 1
    told = "".join(capsys.readouterr())
    assert "cannot be reached" in told
    assert "the copy in tier archive is removed" in told
    assert not node.blobs.tree.path(ids["open"]).exists(), "everything else is gone"
    assert node.blobs.is_withdrawn(ids["open"])
    with pytest.raises(WithdrawalPending, match="mounted"):
        finish_begun(node, now=NOW)
    assert run(["withdraw", folder, "--finish"]) == 1
    (tmp_path / "away").rename(tmp_path / "archive")
    assert run(["withdraw", folder, "--finish"]) == 0
    assert [path for path in (tmp_path / "archive").rglob("*") if path.is_file() and data in path.read_bytes()] == []
    remains = [
        path for top in (tmp_path / "node", tmp_path / "archive") for path in top.rglob("*") if path.is_file()
        and (ids["open"].digest in path.read_bytes() or ids["open"].hex.encode() in path.read_bytes())
    ]  # fmt: skip
    assert remains == []
    assert run(command) == 0
    assert "was withdrawn on" in capsys.readouterr().out


def test_withdrawal_names_the_tier_before_anything_goes(
    node: NodeFolder, ids: dict[str, ContentId], capsys: pytest.CaptureFixture[str]
) -> None:
    archive_all(node)
    capsys.readouterr()
    assert run(["withdraw", str(node.settings.folder), ids["private"].hex, "--dry-run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["tiers"] == ["archive"]


MINIMAL = {"node": {"name": "x", "public_url": "https://x.example.org"}}


@pytest.mark.parametrize(
    ("name", "tier", "words"),
    [
        ("archive", {}, "either a path"),
        ("archive", {"path": "a", "bucket": "bbb"}, "either a path"),
        ("active", {"path": "a"}, "named"),
        ("Archive", {"path": "a"}, "named"),
        ("archive", {"path": "a", "unused_days": -1}, "unused_days"),
        ("archive", {"bucket": "bbb"}, "endpoint"),
        ("archive", {"bucket": "bbb", "endpoint": "http://s3.example.org"}, "https"),
        ("archive", {"bucket": "bbb", "endpoint": "https://key:secret@s3.example.org"}, "never stand in node.toml"),
        ("archive", {"bucket": "B B", "endpoint": "https://s3.example.org"}, "bucket"),
        ("archive", {"bucket": "bbb", "endpoint": "https://s3.example.org", "prefix": "/a//b"}, "prefix"),
        ("archive", {"path": "a", "secret_access_key": "x"}, "unknown key"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(name: str, tier: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        parse_settings({**MINIMAL, "tiers": {name: tier}}, Path("/nowhere"))


def test_credentials_come_from_the_keys_folder_or_the_environment_and_never_from_a_file_that_others_read(
    make_node: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    node = make_node(settings='[tiers.cloud]\nbucket = "images"\nendpoint = "http://127.0.0.1:1"\n')
    cid = ContentId.of(b"")

    def problem(environ: dict[str, str]) -> str:
        tiering = open_tiering(node.settings, node.blobs, clock=lambda: NOW, environ=environ)
        with pytest.raises(TierFailed) as raised:
            prepare(tiering, node.blobs, "cloud")
            tiering.tiers["cloud"].stat(cid)
        return str(raised.value)

    assert "no credentials" in problem({})
    assert run(["doctor", str(node.settings.folder)]) in (0, 1)
    assert "no credentials" in "".join(capsys.readouterr())
    path = node.settings.folder / "keys" / "tier-cloud.toml"
    path.write_text('access_key_id = "id"\nsecret_access_key = "hush-hush"\n')
    path.chmod(0o644)
    assert "chmod 600" in problem({})
    path.chmod(0o600)
    path.write_text("this is no toml")
    assert "cannot be read" in problem({})
    path.write_text('access_key_id = "id"\nsecret_access_key = 5\n')
    assert "no credentials" in problem({})


def test_a_folder_that_is_used_and_lost_its_mark_is_not_begun_anew(node: NodeFolder, tmp_path: Path) -> None:
    archive_all(node)
    shutil.rmtree(tmp_path / "archive")
    (tmp_path / "archive").mkdir()
    work = open_work(node)
    with pytest.raises(TierFailed, match="mounted"):
        prepare(work.tiering, node.blobs, "archive")
    assert list((tmp_path / "archive").iterdir()) == []
    with open_folder(node.settings.folder) as again:
        assert len(list(open_work(again, lambda: datetime.now(UTC)).tiering.copies())) == 3


async def test_an_extra_process_passes_archived_bytes_and_the_first_use_of_a_day_to_the_core(
    node: NodeFolder, ids: dict[str, ContentId]
) -> None:
    """It writes nothing itself: the core asks for the restore, and notes that the bytes are in use."""
    archived = ids["open"]
    async with pair_of(node) as pair, aiohttp.ClientSession() as session:
        address = f"{pair.reader}/cas/sha256/{archived.hex}"
        tiers = pair.core_app[TIERS]
        for _ in range(2):
            async with session.get(address) as answer:
                assert answer.status == 200
        assert tiers.used.flush() == 1
        assert len(node.blobs.index.select("SELECT 1 FROM used")) == 1
        await asyncio.to_thread(archive_all, node)
        async with session.get(address) as answer:
            assert (answer.status, answer.headers["Retry-After"]) == (202, "60")
        assert [item.id for item in tiers.tiering.restores()] == [archived]
        for kind in ("restricted", "private"):
            async with session.get(f"{pair.reader}/cas/sha256/{ids[kind].hex}") as answer:
                assert answer.status in (403, 404)
        assert len(tiers.tiering.restores()) == 1
        await asyncio.to_thread(tiers.run_restores)
        async with session.get(address) as answer:
            assert answer.status == 200
