"""Withdrawing: afterwards no byte of the node's folder holds what was withdrawn, and nothing brings it back."""

import contextlib
import json
import random
import re
import shlex
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import kill_harness
import pytest
from aiohttp.test_utils import TestClient, TestServer
from conftest import NOW, ORIGIN, ROOT, ingest
from withdraw_world import NAME, READ, SECOND, Planted, plant, remains

from cas.errors import BlobNotFound, BlobWithdrawn
from node.app import build_application
from node.cli.main import run
from node.folder import NodeFolder, open_folder
from node.services import withdraw as service
from node.setup import NewNode, create_node
from node.storage.forget import WITHDRAWN
from node.storage.jobs import NO_IMAGE
from runners.catalogue import Catalogue

REASON = "shows a person, who asked"
KEY = bytes(range(32))


def withdraw(node: NodeFolder, planted: Planted, *, clean: bool = True) -> None:
    service.withdraw(node, service.plan_withdrawal(node, planted.cid), reason=REASON, now=NOW, new_key=KEY)
    if clean:
        service.clean(node)


@pytest.fixture
def node(make_node: Callable[..., NodeFolder]) -> NodeFolder:
    return make_node()


@pytest.mark.parametrize("owned", [True, False])
def test_nothing_of_it_is_found_in_the_folder_afterwards(node: NodeFolder, tmp_path: Path, owned: bool) -> None:
    planted = plant(node, tmp_path / "a", owned=owned)
    folder = node.settings.folder
    for path in (node.settings.database_path, node.settings.blobs_path / "index.sqlite"):
        shutil.copy(path, path.with_name(f"{path.name}.before-schema-9"))
    before = {text.partition(": ")[2] for text in remains(folder, planted.needles())}
    assert {"read text", "folded text", "file name", "id", "digest", "EXIF", "head"} <= before
    withdraw(node, planted)
    assert remains(folder, planted.needles()) == []
    assert service.withdrawals_to_clean(node) == 0
    if not owned:
        assert (tmp_path / "a/images" / f"{NAME}.jpg").read_bytes() == planted.data


@pytest.mark.parametrize("sabotage", ["no rewrite", "no merge of the index", "rewrite without the log"])
def test_the_search_notices_when_the_files_are_not_cleaned(
    node: NodeFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sabotage: str
) -> None:
    planted = plant(node, tmp_path / "a", owned=True)
    if sabotage == "no rewrite":
        monkeypatch.setattr(service, "_rewrite", lambda path: None)
    elif sabotage == "no merge of the index":
        monkeypatch.setattr(service, "OPTIMIZE", ())
    else:

        def vacuum_only(path: Path) -> None:
            with contextlib.closing(sqlite3.connect(path)) as conn:
                conn.execute("VACUUM")

        monkeypatch.setattr(service, "_rewrite", vacuum_only)
    with open_folder(node.settings.folder):  # a second opener, as a running server: the last to close empties the log
        withdraw(node, planted)
        assert remains(node.settings.folder, planted.needles()) != []


def test_every_record_says_so(node: NodeFolder, tmp_path: Path) -> None:
    planted = plant(node, tmp_path / "a", owned=False)
    with node.database.reader() as conn:
        before = conn.execute("SELECT max(seq) FROM change").fetchone()[0]
    withdraw(node, planted)
    with node.database.reader() as conn:
        states = {row["iri"]: (row["kind"], row["state"]) for row in conn.execute("SELECT * FROM record")}
        assert states[planted.medium] == ("medium", "tombstone")
        assert states[planted.annotation] == ("annotation", "tombstone")
        assert states[planted.specimen] == ("specimen", "active")
        body = json.loads(conn.execute("SELECT body FROM record WHERE iri = ?", (planted.specimen,)).fetchone()[0])
        assert body["ods:version"] == 2
        assert body["ods:isKnownToContainMedia"] is False
        assert "ods:hasEntityRelationships" not in body
        assert REASON in conn.execute("SELECT body FROM record WHERE iri = ?", (planted.medium,)).fetchone()[0].decode()
        log = [(row["op"], row["record_type"]) for row in conn.execute("SELECT * FROM change WHERE seq > ?", (before,))]
        assert sorted(log) == [
            ("Delete", "annotation"), ("Delete", "medium"), ("Delete", "medium"), ("Update", "specimen"),
        ]  # fmt: skip
        rows = conn.execute("SELECT * FROM job_unit").fetchall()
        assert {(row["answer"], row["reason"], row["image"]) for row in rows} == {("cannot tell", WITHDRAWN, NO_IMAGE)}
        assert conn.execute("SELECT count(*) FROM unit").fetchone()[0] == 0
        assert conn.execute("SELECT count(*) FROM specimen_facet").fetchone()[0] == 3
        found = conn.execute("SELECT count(*) FROM specimen_text WHERE specimen_text MATCH ?", (READ,)).fetchone()[0]
        assert found == 0
        versions = conn.execute("SELECT count(*) FROM record_version WHERE iri = ?", (planted.annotation,)).fetchone()
        assert versions[0] == 1


@pytest.mark.parametrize("owned", [True, False])
def test_the_next_ingest_does_not_bring_it_back(node: NodeFolder, tmp_path: Path, owned: bool) -> None:
    planted = plant(node, tmp_path / "a", owned=owned)
    withdraw(node, planted)
    with node.database.reader() as conn:
        before = conn.execute("SELECT max(seq) FROM change").fetchone()[0]
    for _ in range(2):
        report = ingest(node, planted.archive)
        assert report.is_unchanged
    with node.database.reader() as conn:
        assert conn.execute("SELECT max(seq) FROM change").fetchone()[0] == before
        assert conn.execute("SELECT count(*) FROM medium WHERE key LIKE ?", (f"%{NAME}%",)).fetchone()[0] == 0
        findings = [row["code"] for row in conn.execute("SELECT code FROM finding WHERE key = 'urn:x:1'")]
        assert findings == ["withdrawn", "withdrawn"]  # under both its names
    with pytest.raises(BlobWithdrawn):
        node.blobs.open_blob(planted.cid)


def test_another_file_at_its_place_is_a_new_version_of_the_medium(node: NodeFolder, tmp_path: Path) -> None:
    planted = plant(node, tmp_path / "a", owned=False)
    withdraw(node, planted)
    from conftest import jpeg

    (tmp_path / "a" / SECOND).unlink()
    (tmp_path / "a/images" / f"{NAME}.jpg").write_bytes(jpeg(77))
    ingest(node, planted.archive)
    with node.database.reader() as conn:
        [row] = conn.execute("SELECT * FROM medium WHERE key LIKE ?", (f"%{NAME}%",)).fetchall()
        assert row["iri"] == planted.medium
        record = conn.execute("SELECT state, published FROM record WHERE iri = ?", (planted.medium,)).fetchone()
        assert tuple(record) == ("active", 1)


async def test_a_running_node_stops_serving_at_once(node: NodeFolder, tmp_path: Path) -> None:
    planted = plant(node, tmp_path / "a", owned=False)
    app = build_application(node, catalogue=Catalogue.of(()), clock=lambda: NOW)
    async with TestClient(TestServer(app)) as client:
        paths = [
            f"/cas/sha256/{planted.cid.hex}",
            f"/{planted.cid.hex}",
            planted.medium.removeprefix(ORIGIN) + "/preview.jpg",
        ]
        shown = [
            planted.specimen.replace(ORIGIN, "/iiif/presentation/3") + "/manifest",
            planted.specimen.replace(ORIGIN, "/iiif/search/2") + f"?q={READ}",
        ]
        for _ in range(3):  # warm by now
            assert [(await client.get(path)).status for path in paths] == [200] * 3
        for path, said in zip(shown, (planted.cid.hex, READ), strict=True):
            assert said in await (await client.get(path)).text()
        with open_folder(node.settings.folder) as beside:
            withdraw(beside, planted)
        answers = [await client.get(path) for path in paths]
        assert [answer.status for answer in answers] == [410, 410, 404]
        assert REASON in (await answers[0].json())["detail"]
        assert (await client.get(planted.medium.removeprefix(ORIGIN))).status == 410
        assert (await client.get(planted.annotation.removeprefix(ORIGIN))).status in (404, 410)
        assert (await (await client.get(f"/search?q={READ}")).json())["total"] == 0
        for path in shown:
            text = await (await client.get(path)).text()
            assert planted.cid.hex not in text
            assert READ not in text.replace(f"q={READ}", "")
        assert remains(node.settings.folder, planted.needles()) == []


def test_readers_that_hold_on_are_said_and_nothing_is_lost(
    node: NodeFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted = plant(node, tmp_path / "a", owned=False)
    monkeypatch.setattr(service, "CHECKPOINT_S", 0)
    withdraw(node, planted, clean=False)
    with open_folder(node.settings.folder) as beside, beside.database.reader(limit_s=None) as conn:
        conn.execute("SELECT count(*) FROM record").fetchone()
        with pytest.raises(service.CleaningHeld, match="run `vasculum withdraw .* --finish`"):
            service.clean(node)
    assert service.withdrawals_to_clean(node) == 1
    service.clean(node)
    assert remains(node.settings.folder, planted.needles()) == []
    with pytest.raises(service.CleaningHeld, match="stop the server"):
        from node.folder import serve_lock

        with serve_lock(node.settings.lock_path):
            service.clean(node, beside_server_bytes=1)


def test_a_preview_that_was_being_made_is_not_kept(node: NodeFolder, tmp_path: Path) -> None:
    """The mark is set before files are looked for; a preview is asked about after it was written."""
    import asyncio

    from node.web.previews import Previews

    planted = plant(node, tmp_path / "a", owned=False)
    previews = Previews(node.settings, node.blobs)

    async def make(cid: object, longest_px: int) -> bytes:
        withdraw(node, planted, clean=False)
        return b"drawn from " + planted.data[:300]

    previews._make = make  # type: ignore[method-assign, assignment]
    with pytest.raises(BlobWithdrawn):
        asyncio.run(previews.get(planted.cid, 200))
    assert not list(node.settings.derived_path.rglob("*.jpg"))


def test_only_an_older_version_showed_it(node: NodeFolder, tmp_path: Path) -> None:
    planted = plant(node, tmp_path / "a", owned=False)
    from conftest import jpeg

    for name in (f"images/{NAME}.jpg", SECOND):
        (tmp_path / "a" / name).write_bytes(jpeg(5))
    ingest(node, planted.archive)
    withdraw(node, planted)
    with node.database.reader() as conn:
        assert conn.execute("SELECT state FROM record WHERE iri = ?", (planted.medium,)).fetchone()[0] == "active"
    needles = planted.needles()
    del needles["file name"]  # it names another image now
    assert remains(node.settings.folder, needles) == []


# ---------------------------------------------------------------------- the command
def cli(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = run(["withdraw", *arguments])
    out, err = capsys.readouterr()
    return code, out, err


def test_the_command(node: NodeFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    planted, folder = plant(node, tmp_path / "a", owned=False), str(node.settings.folder)
    code, out, _ = cli(capsys, folder, planted.medium, "--dry-run")
    assert (code, "would go" in out, "2 media" in out) == (0, True, True)
    assert node.blobs.stat(planted.cid) is not None
    code, _, err = cli(capsys, folder, str(planted.cid), "--yes")
    assert code == 2
    assert "--reason" in err
    code, _, err = cli(capsys, folder, "0" * 64, "--yes", "--reason", "x")
    assert code == 2
    assert "not here" in err
    code, _, err = cli(capsys, folder, "nonsense")
    assert code == 2
    code, out, err = cli(capsys, folder, planted.cid.hex.upper(), "--yes", "--reason", REASON)
    assert code == 0
    assert "stays, and is never served" in out
    assert "backups made before" in out
    assert "rewriting" in err
    assert remains(node.settings.folder, planted.needles()) == []
    code, out, _ = cli(capsys, folder, str(planted.cid), "--json")
    assert json.loads(out)["reason"] == REASON
    code, out, _ = cli(capsys, folder, "--list", "--json")
    assert [item["state"] for item in json.loads(out)] == ["clean"]
    code, out, _ = cli(capsys, folder, "--finish")
    assert out.startswith("0 interrupted")


def test_every_table_stands_in_the_documentation() -> None:
    """The page says what happens to each table; a new table must be thought about."""
    page = (ROOT / "docs/how-to-withdraw.md").read_text("utf-8")
    rows = [line.split("|")[1] for line in page.splitlines() if line.startswith("| `")]
    said = set(re.findall(r"`(\w+)`", " ".join(rows)))
    tables: set[str] = set()
    for folder in ("cas/migrations", "node/storage/migrations"):
        for path in (ROOT / folder).glob("*.sql"):
            tables |= set(re.findall(r"CREATE (?:VIRTUAL )?TABLE (\w+)", path.read_text("utf-8")))
    assert tables == said, "say in docs/how-to-withdraw.md what a withdrawal does to these tables"


def test_the_page_runs(
    node: NodeFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    planted = plant(node, tmp_path / "a", owned=True)
    (tmp_path / "hortus").symlink_to(node.settings.folder)
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "docs/how-to-withdraw.md").read_text("utf-8").replace("/ID", f"/{planted.cid.hex}")
    blocks = re.findall(r"```console\n(.*?)```", text, re.DOTALL)
    lines = [line[2:] for block in blocks for line in block.splitlines() if line.startswith("$ ")]
    assert len(lines) == 4
    for line in lines:
        assert run(shlex.split(line)[1:]) == 0, line
    assert "done  shows a person" in capsys.readouterr().out
    assert remains(node.settings.folder, planted.needles()) == []


# ---------------------------------------------------------------------- kills
CHILD = """
import sys
from pathlib import Path
from conftest import NOW
from cas.ids import ContentId
from node.folder import open_folder
from node.services import withdraw as service
with open_folder(Path(sys.argv[1])) as node:
    node.blobs._tree.sync = counting_fsync
    plan = service.plan_withdrawal(node, ContentId.from_hex(sys.argv[2]))
    service.withdraw(node, plan, reason="asked", now=NOW, new_key=bytes(32))
    print("ack closed", flush=True)
    service.clean(node)
print("ack", 10**9 - _left[0], flush=True)
"""
FORGET_FIRST_FILE_LAST = """
import cas.store
cas.store.BlobStore.erase = lambda store, todo: 0
"""


def closed_problems(folder: Path, planted: Planted) -> list[str]:
    """What is wrong after a kill and the next look of a serving node; empty when all is closed, or nothing began."""
    with open_folder(folder) as node:
        if not node.blobs.is_withdrawn(planted.cid):
            return [] if node.blobs.stat(planted.cid) is not None else ["gone without a mark"]
        found = []
        with contextlib.suppress(BlobNotFound):
            node.blobs.open_blob(planted.cid).close()
            found.append("the bytes are given out")
        service.finish_begun(node, now=NOW)
        with node.database.reader() as conn:
            if conn.execute("SELECT count(*) FROM medium WHERE image = ?", (planted.cid.hex,)).fetchone()[0]:
                found.append("a medium still names it")
        if node.blobs.withdrawals.unfinished():
            found.append("not finished")
    return found


def kills(tmp_path: Path, *, count: int, seed: int, sabotage: str = "") -> list[str]:
    """Kills withdrawals at write boundaries; then the state must be closed, and running again finishes."""
    rng, whole = random.Random(seed), tmp_path / "whole"
    create_node(whole, NewNode(name="N", public_url=ORIGIN, insecure_loopback=True), now=NOW)
    with open_folder(whole) as node:
        planted = plant(node, tmp_path / "a", owned=True)
    code = CHILD.replace("with open_folder", sabotage + "with open_folder", 1)
    counted = shutil.copytree(whole, tmp_path / "counted")
    acks, _ = kill_harness.finish(kill_harness.start(CHILD, str(counted), planted.cid.hex, kill_at=10**9))
    most = int(acks[-1])
    found: list[str] = []
    for number in range(count):
        folder = shutil.copytree(whole, tmp_path / f"n{number}")
        acks, status = kill_harness.finish(
            kill_harness.start(code, str(folder), planted.cid.hex, kill_at=rng.randint(1, most))
        )
        assert status == -9, status
        found += closed_problems(folder, planted)
        kill_harness.finish(kill_harness.start(code, str(folder), planted.cid.hex))
        found += remains(folder, planted.needles())
    return found


@pytest.mark.long
def test_a_kill_leaves_it_closed_and_the_next_run_finishes(tmp_path: Path) -> None:
    assert kills(tmp_path, count=3, seed=1) == []


@pytest.mark.fault
def test_many_kills_leave_it_closed(tmp_path: Path) -> None:
    assert kills(tmp_path, count=25, seed=2) == []


@pytest.mark.fault
def test_the_kill_test_notices_a_withdrawal_that_forgets_the_file(tmp_path: Path) -> None:
    assert kills(tmp_path, count=3, seed=3, sabotage=FORGET_FIRST_FILE_LAST) != []
