"""SIGKILL during an ingest, at random and at write boundaries: nothing acknowledged is lost, the next run goes on."""

import dataclasses
import json
import random
import shutil
import signal
import sqlite3
import zipfile
from collections.abc import Callable
from pathlib import Path

import kill_harness
import pytest
from conftest import NOW, ORIGIN, ingest, jpeg, rows_of, write_archive
from power_cut import LoopDisk, skip_without_power_cuts

from cas.check import Check
from cas.errors import CasError
from cas.ids import ContentId
from node.config import ConfigError
from node.folder import open_folder
from node.setup import NewNode, create_node
from node.storage.db import DatabaseError

CHILD = """
import sys
from pathlib import Path
from conftest import NOW
from node.services import ingest as service
from node.services.intake_source import open_intake
import cas.store
from node.folder import open_folder
SABOTAGE
with open_folder(Path(sys.argv[1])) as node:
    node.blobs._tree.sync = counting_fsync
    with open_intake(Path(sys.argv[2]), "collection") as intake:
        work = service.Ingest(node.settings, node.database, node.blobs, intake, clock=lambda: NOW, batch_rows=10)
        work.run(progress=lambda done, total: print("ack", done, flush=True))
print("ack all", flush=True)
"""
COUNT = """
print("ack", 10**9 - _left[0], flush=True)
"""
NO_TRANSACTIONS = """
class Loose(Counted):
    def execute(self, sql, *rest):
        if sql.startswith(("BEGIN", "COMMIT", "ROLLBACK")):
            return super().execute("SELECT 1")
        if sql.lstrip().startswith(("INSERT", "UPDATE")):
            tick("statement")
        return super().execute(sql, *rest)
    in_transaction = False
sqlite3.connect = lambda *args, **options: _connect(*args, **{"factory": Loose, **options})
"""
PUBLISH_FIRST = """
from cas.ids import ContentId
from cas.store import BlobStore, PutResult
_put, _pending = BlobStore.put_stream, []
def lazy(store, chunks, **options):
    data = b"".join(chunks)
    _pending.append((data, options))
    return PutResult(id=ContentId.of(data), size=len(data), is_new=True)
_apply = service.Ingest._publish
def publish_then_write(work, *args, **options):
    _apply(work, *args, **options)
    while _pending:
        data, rest = _pending.pop(0)
        _put(work._blobs, [data], **rest)
BlobStore.put_stream = lazy
service.Ingest._publish = publish_then_write
"""
ROWS = 60


def problems(folder: Path, acknowledged: int) -> list[str]:
    """What is wrong with a node after a kill; empty when every promise was kept."""
    found: list[str] = []
    with open_folder(folder) as node, node.database.reader(limit_s=None) as conn:
        if conn.execute("PRAGMA integrity_check").fetchone()[0] != "ok":
            found.append("the database is damaged")
        rows = conn.execute("SELECT count(*) FROM source_row WHERE state = 'present'").fetchone()[0]
        if rows < acknowledged:
            found.append(f"{acknowledged} rows were acknowledged, {rows} are there")
        seqs = [row[0] for row in conn.execute("SELECT seq FROM change ORDER BY seq")]
        if seqs != list(range(1, len(seqs) + 1)):
            found.append("the publication log has a gap")
        for row in conn.execute("SELECT iri, record_type FROM change"):
            record = conn.execute("SELECT published FROM record WHERE iri = ?", (row["iri"],)).fetchone()
            if record is None or not record["published"]:
                found.append(f"{row['iri']} is in the log and not there")
        for row in conn.execute("SELECT * FROM record WHERE kind = 'specimen'"):
            if conn.execute("SELECT 1 FROM source_row WHERE iri = ?", (row["iri"],)).fetchone() is None:
                found.append("a record without its source row")
            for item in json.loads(row["body"]).get("ods:hasEntityRelationships", []):
                target = item["dwc:relatedResourceID"]
                if conn.execute("SELECT 1 FROM record WHERE iri = ?", (target,)).fetchone() is None:
                    found.append("a specimen whose medium is missing")
            if not row["published"]:
                found.append("a record that was never published")
        for row in conn.execute("SELECT image FROM medium WHERE image IS NOT NULL"):
            if not node.blobs.verify(ContentId.from_hex(row["image"])):
                found.append(f"{row['image']} is published and its bytes are not there")
        if (
            conn.execute("SELECT count(*) FROM record").fetchone()[0]
            != conn.execute("SELECT count(*) FROM record_version").fetchone()[0]
        ):
            found.append("a record without its version")
    return found


def state(folder: Path) -> list[tuple[object, ...]]:
    with open_folder(folder) as node, node.database.reader(limit_s=None) as conn:
        records = [tuple(row) for row in conn.execute("SELECT kind, version, digest FROM record ORDER BY digest")]
        return records + [tuple(conn.execute("SELECT count(*), max(seq) FROM change").fetchone())]


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return write_archive(tmp_path / "archive", rows_of(ROWS), images=jpeg)


def new_node(folder: Path, like: Path | None = None) -> Path:
    folder.parent.mkdir(exist_ok=True)
    if like is None:
        create_node(folder, NewNode(name="N", public_url=ORIGIN, insecure_loopback=True), now=NOW)
    else:
        shutil.copytree(like, folder)
    return folder


@pytest.fixture
def packed(archive: Path) -> Path:
    """The same archive as a zip, whose images are copied into the node."""
    path = archive.with_suffix(".zip")
    with zipfile.ZipFile(path, "w") as target:
        for item in sorted(archive.rglob("*")):
            target.write(item, item.relative_to(archive))
    return path


def boundaries(code: str, folder: Path, archive: Path) -> int:
    """How many write boundaries an uninterrupted ingest has."""
    acks, _ = kill_harness.finish(kill_harness.start(code + COUNT, str(folder), str(archive), kill_at=10**9))
    return int(acks[-1])


def kills(tmp_path: Path, archive: Path, *, count: int, seed: int) -> kill_harness.Kills:
    """Kills ``count`` ingests and checks each; an acknowledgement is a number of rows."""
    rng = random.Random(seed)
    empty = new_node(tmp_path / "empty")
    whole = new_node(tmp_path / "whole", empty)
    with open_folder(whole) as node:
        ingest(node, archive)
    expected = state(whole)
    code = CHILD.replace("SABOTAGE", "")
    most = boundaries(code, new_node(tmp_path / "counted", empty), archive)
    tally, number = kill_harness.Kills(), 0
    while tally.kills < count:
        number += 1
        folder = new_node(tmp_path / f"n{number}", empty)
        if number % 2:
            acks, status = kill_harness.finish(
                kill_harness.start(code, str(folder), str(archive), kill_at=rng.randint(1, most))
            )
        else:
            acks, status = kill_harness.kill_after_first_ack(
                kill_harness.start(code, str(folder), str(archive)), rng, spread_s=0.15
            )
        rows = max((int(ack) for ack in acks if ack != "all"), default=0)
        tally.add(rows, status, problems(folder, rows))
        with open_folder(folder) as node:
            ingest(node, archive)
            node.blobs.sweep_staging()  # as every start of a node does
            found = [item.code for item in Check(node.blobs, now=NOW, read=True).run()]
        assert state(folder) == expected, "going on after the kill gives what an uninterrupted ingest gives"
        tally.add(0, 0, found)
        shutil.rmtree(folder)
    return tally


@pytest.mark.fault
def test_a_few_kills_lose_nothing(tmp_path: Path, archive: Path) -> None:
    assert kills(tmp_path, archive, count=8, seed=1).after_an_acknowledgement >= 2


@pytest.mark.fault
def test_a_few_kills_of_a_zipped_archive_lose_nothing(tmp_path: Path, packed: Path) -> None:
    assert kills(tmp_path, packed, count=6, seed=3).after_an_acknowledgement >= 2


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("form", ["folder", "zip"])
def test_many_kills_lose_nothing(
    tmp_path: Path, archive: Path, packed: Path, form: str, figures: Callable[..., None]
) -> None:
    path, seed = (archive, 2) if form == "folder" else (packed, 4)
    tally = kills(tmp_path / form, path, count=50, seed=seed)
    figures(f"SIGKILL during ingest of a {form}", **dataclasses.asdict(tally))
    assert tally.after_an_acknowledgement >= 20


# ---------------------------------------------------------------------- one large ingest, killed again and again
BATCH = 1000
"""Rows of a transaction of mere text, as the command has them."""
LARGE_S = 7200.0
"""A large ingest that takes longer hangs, also on a busy machine."""


def large_archive(folder: Path, rows: int) -> Path:
    """Mere text, but for an image of every thousandth row."""
    made = rows_of(rows)
    for number, row in enumerate(made):
        if number % 1000:
            row["image"] = ""
    return write_archive(folder, made, images=jpeg)


def at_a_glance(folder: Path, acknowledged: int) -> list[str]:
    """What is wrong after a kill, as far as the database tells quickly: of hundreds of thousands of rows, every time."""
    found: list[str] = []
    with open_folder(folder) as node, node.database.reader(limit_s=None) as conn:
        rows, keys, iris = conn.execute(
            "SELECT count(*), count(DISTINCT key), count(DISTINCT iri) FROM source_row WHERE state = 'present'"
        ).fetchone()
        if rows < acknowledged or len({rows, keys, iris}) > 1:
            found.append(f"{acknowledged} rows were acknowledged; there are {rows}, of {keys} keys and {iris} records")
        count, last, changed = conn.execute("SELECT count(*), max(seq), count(DISTINCT iri) FROM change").fetchone()
        if len({count, last or 0, changed}) > 1:
            found.append(f"the publication log has {count} entries up to {last}, of {changed} records")
        lost = conn.execute(
            """SELECT (SELECT count(*) FROM change c WHERE NOT EXISTS (SELECT 1 FROM record r WHERE r.iri = c.iri)),
                      (SELECT count(*) FROM record r WHERE NOT EXISTS (SELECT 1 FROM change c WHERE c.iri = r.iri)),
                      (SELECT count(*) FROM source_row s WHERE NOT EXISTS (SELECT 1 FROM record r WHERE r.iri = s.iri))"""
        ).fetchone()
        if any(lost):
            found.append(f"log, records and rows do not fit: {tuple(lost)}")
    return found


def kills_of_one(tmp_path: Path, *, rows: int, count: int, seed: int) -> kill_harness.Kills:
    """One ingest, killed ``count`` times on its way and begun again each time; then it ends like one never killed."""
    rng, archive = random.Random(seed), large_archive(tmp_path / "large", rows)
    empty = new_node(tmp_path / "empty")
    code = CHILD.replace("SABOTAGE", "").replace(", batch_rows=10", f", batch_rows={BATCH // 10}")
    whole = new_node(tmp_path / "whole", empty)
    kill_harness.finish(kill_harness.start(code, str(whole), str(archive)), timeout_s=LARGE_S)
    expected = state(whole)
    shutil.rmtree(whole)
    folder, tally, said = new_node(tmp_path / "killed", empty), kill_harness.Kills(), 0
    step = rows // count
    while tally.kills < count:
        if tally.kills % 2:
            # A transaction has four boundaries, also one that finds its rows unchanged.
            at = 4 * (said // BATCH) + rng.randint(1, max(8, 6 * step // BATCH))
            acks, status = kill_harness.finish(
                kill_harness.start(code, str(folder), str(archive), kill_at=at), timeout_s=LARGE_S
            )
        else:
            acks, status = kill_harness.kill_after_first_ack(
                kill_harness.start(code, str(folder), str(archive)), rng, spread_s=0.3,
                least=said + rng.randint(1, step),
            )  # fmt: skip
        assert status == -signal.SIGKILL, f"it ended before {count} kills: the steps are too long"
        new = max((int(ack) for ack in acks), default=0)
        said = max(said, new)
        tally.add(new, status, at_a_glance(folder, said))
    acks, status = kill_harness.finish(kill_harness.start(code, str(folder), str(archive)), timeout_s=LARGE_S)
    assert (acks[-1], status) == ("all", 0)
    assert problems(folder, rows) == []
    assert state(folder) == expected, "going on after the kills gives what an uninterrupted ingest gives"
    with open_folder(folder) as node, node.database.reader(limit_s=None) as conn:
        found = conn.execute(
            """SELECT count(*), count(DISTINCT key), count(DISTINCT iri), (SELECT count(*) FROM specimen_facet),
                      (SELECT count(*) FROM specimen_text) FROM source_row"""
        ).fetchone()
        assert tuple(found) == (rows,) * 5, "no row stands twice, and each is found"
        node.blobs.sweep_staging()
        assert [item.code for item in Check(node.blobs, now=NOW, read=True).run()] == []
    tally.acknowledged = said
    return tally


@pytest.mark.fault
def test_one_ingest_is_killed_a_few_times_and_ends_whole(tmp_path: Path) -> None:
    assert kills_of_one(tmp_path, rows=6000, count=5, seed=8).after_an_acknowledgement >= 2


@pytest.mark.soak
@pytest.mark.timeout(14_400)
def test_an_ingest_of_200000_rows_is_killed_50_times_and_ends_whole(
    tmp_path: Path, figures: Callable[..., None]
) -> None:
    tally = kills_of_one(tmp_path, rows=200_000, count=50, seed=9)
    figures("SIGKILL during one ingest of 200,000 rows", **dataclasses.asdict(tally))
    assert tally.after_an_acknowledgement >= 40


@pytest.mark.fault
@pytest.mark.parametrize("sabotage", [NO_TRANSACTIONS, PUBLISH_FIRST], ids=["no transactions", "bytes afterwards"])
def test_a_sabotaged_ingest_is_noticed_by_the_same_checks(
    tmp_path: Path, archive: Path, packed: Path, sabotage: str
) -> None:
    """The twins: every statement commits by itself; records are published before their bytes are durable."""
    path = archive if sabotage == NO_TRANSACTIONS else packed
    rng = random.Random(5)
    empty = new_node(tmp_path / "empty")
    code = CHILD.replace("SABOTAGE", sabotage)
    most = boundaries(code, new_node(tmp_path / "counted", empty), path)
    unmoved = [problems, at_a_glance] if sabotage == NO_TRANSACTIONS else [problems]
    for number in range(20):
        folder = new_node(tmp_path / f"n{number}", empty)
        kill_harness.finish(kill_harness.start(code, str(folder), str(path), kill_at=rng.randint(most // 4, most)))
        unmoved = [check for check in unmoved if not check(folder, 0)]
        if not unmoved:
            return
    pytest.fail("a sabotaged ingest was not noticed: the checks prove nothing")


# ---------------------------------------------------------------------- power cut
NOTHING_SYNCED = """
class Lazy(Counted):
    def execute(self, sql, *rest):
        return super().execute("PRAGMA synchronous=OFF" if sql.startswith("PRAGMA synchronous") else sql, *rest)
sqlite3.connect = lambda *args, **options: _connect(*args, **{**options, "factory": Lazy})
counting_fsync = os.fsync = lambda descriptor: None
"""


def cuts(tmp_path: Path, archive: Path, *, count: int, seed: int, sabotage: str = "") -> tuple[int, list[str]]:
    """Power cuts in the middle of ingests, and at their end: rows that were acknowledged, and what is wrong after."""
    rng, code = random.Random(seed), CHILD.replace("SABOTAGE", sabotage)
    empty = new_node(tmp_path / "empty")
    whole = new_node(tmp_path / "whole", empty)
    with open_folder(whole) as node:
        ingest(node, archive)
    expected, said, found = state(whole), 0, list[str]()
    for number in range(count):
        disk = LoopDisk(tmp_path / f"{number}.img", tmp_path / f"m{number}")
        try:
            folder = new_node(disk.mount / "node", empty)
            disk.sync()
            child = kill_harness.start(code, str(folder), str(archive), is_fed=True)
            acks, _ = kill_harness.act_after_acks(child, rng.randint(1, ROWS // 10) if number % 5 else None, disk.cut)
        finally:
            disk.unplug()
        disk.plug_in()
        try:
            rows = max((int(ack) for ack in acks if ack != "all"), default=0)
            assert rows
            said += rows
            try:
                found += problems(folder, rows)
                with open_folder(folder) as node:
                    ingest(node, archive)
                if state(folder) != expected:
                    found.append("going on after the cut gives something else than an uninterrupted ingest")
            except (DatabaseError, CasError, ConfigError, sqlite3.Error) as error:
                found.append(str(error))
        finally:
            disk.throw_away()
    return said, found


@pytest.mark.fault
def test_a_power_cut_loses_no_acknowledged_row_and_the_twin_does(tmp_path: Path, packed: Path) -> None:
    skip_without_power_cuts(tmp_path)
    assert cuts(tmp_path / "honest", packed, count=3, seed=6)[1] == []
    assert cuts(tmp_path / "twin", packed, count=2, seed=6, sabotage=NOTHING_SYNCED)[1] != []


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_many_power_cuts_lose_no_acknowledged_row(tmp_path: Path, packed: Path, figures: Callable[..., None]) -> None:
    skip_without_power_cuts(tmp_path)
    said, found = cuts(tmp_path / "honest", packed, count=50, seed=7)
    figures("power cut, ingest of a zip", cuts=50, rows_acknowledged=said, problems=len(found))
    assert found == []
