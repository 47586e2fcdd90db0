"""SIGKILL, power cut and full disk against the store and the database, each with a twin that must go red."""

import dataclasses
import random
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import kill_harness
import pytest
from conftest import NOW
from power_cut import LoopDisk, skip_without_power_cuts

from cas.check import Check
from cas.ids import ContentId
from cas.store import BlobStore

CHILD = """
import sys
from pathlib import Path
import cas.store
from cas.store import AdoptResult, BlobStore, PutResult
from conftest import NOW
cas.store.GROUP_FILES = 8
folder, mode, is_sabotaged = Path(sys.argv[1]), sys.argv[2], sys.argv[3] == "sabotaged"
if is_sabotaged:  # says "stored" before the commit, and writes under the final name
    import os
    import cas.durable
    held = []
    record = cas.store.BlobIndex.record
    def late(self, found, **options):
        held.append((found, options))
        if len(held) > 1:
            record(self, held[0][0], **held[0][1])
            del held[0]
    cas.store.BlobIndex.record = late
    def in_place(chunks, *, tree, staging, max_bytes, expected, refuse=None):
        data = b"".join(bytes(chunk) for chunk in chunks)
        cid = cas.durable.ContentId.of(data)
        target = tree.path(cid)
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("wb") as stream:
            stream.write(data[:9000])
            stream.flush()
            counting_fsync(stream.fileno())
            stream.write(data[9000:])
        temporary = staging / cid.hex
        temporary.touch()
        return cas.durable.Written(id=cid, size=len(data), path=target, temporary=temporary)
    cas.store.write_blob = in_place
store = BlobStore.open(folder / "store", sync=counting_fsync)
store.define_volume("v", folder / "files")
names = sorted(path.name for path in (folder / "files").iterdir())
if mode == "copy":
    results = store.put_files([folder / "files" / name for name in names], now=NOW)
else:
    results = store.adopt_many("v", names, now=NOW)
for item in results:
    if isinstance(item, (AdoptResult, PutResult)):
        print("ack", item.id.hex, flush=True)
"""

FILES = 120
BOUNDARIES = {"adopt": 40, "copy": 700}
"""By what is done, the write boundaries of it, about."""


def make_files(folder: Path, count: int) -> None:
    (folder / "files").mkdir(parents=True)
    rng = random.Random(7)
    for number in range(count):
        (folder / "files" / f"{number:03}").write_bytes(rng.randbytes(20_000))


def lost(folder: Path, acks: list[str]) -> list[str]:
    """Acknowledged bytes that are not there, and final files that are torn."""
    store = BlobStore.open(folder / "store")
    try:
        found = [ack for ack in acks if not store.verify(ContentId.from_hex(ack))]
        for path in (store.folder / "owned").rglob("*"):
            if path.is_file() and ContentId.of(path.read_bytes()).hex != path.name:
                found.append(f"torn: {path.name}")
        found += [f"row without bytes: {cid.hex}" for cid in store.all_ids() if not store.verify(cid)]
        store.sweep_staging()
        assert not list((store.folder / "staging").iterdir())
    finally:
        store.close()
    return found


def kills(tmp_path: Path, mode: str, *, count: int, seed: int) -> kill_harness.Kills:
    """Kills at random moments and at write boundaries; after each, the same work is done again to its end."""
    make_files(tmp_path / "base", FILES)
    tally, rng, number = kill_harness.Kills(), random.Random(seed), 0
    while tally.kills < count:
        number += 1
        folder = tmp_path / f"k{number}"
        acks, status = one_kill(tmp_path, number, mode, rng, how="honest")
        tally.add(len(acks), status, lost(folder, acks))
        acks, status = kill_harness.finish(kill_harness.start(CHILD, str(folder), mode, "honest"))
        assert status == 0
        assert len(acks) == FILES
        tally.add(0, 0, fsck(folder))
        shutil.rmtree(folder)
    return tally


def fsck(folder: Path) -> list[str]:
    """What it finds in a store that mends nothing first."""
    store = BlobStore.open(folder / "store")
    try:
        return [item.code for item in Check(store, now=NOW, read=True).run()]
    finally:
        store.close()


def one_kill(tmp_path: Path, number: int, mode: str, rng: random.Random, *, how: str) -> tuple[list[str], int]:
    folder = tmp_path / f"k{number}"
    shutil.copytree(tmp_path / "base", folder)
    if number % 2:
        child = kill_harness.start(CHILD, str(folder), mode, how)
        return kill_harness.kill_after_first_ack(child, rng, spread_s=0.05)
    boundary = rng.randint(2, BOUNDARIES[mode])
    return kill_harness.finish(kill_harness.start(CHILD, str(folder), mode, how, kill_at=boundary))


@pytest.mark.fault
@pytest.mark.parametrize("mode", BOUNDARIES)
def test_a_few_kills_lose_nothing(tmp_path: Path, mode: str) -> None:
    assert kills(tmp_path, mode, count=6, seed=5).after_an_acknowledgement >= 2


@pytest.mark.fault
@pytest.mark.parametrize("mode", BOUNDARIES)
def test_a_store_that_says_stored_too_early_is_found_out(tmp_path: Path, mode: str) -> None:
    make_files(tmp_path / "base", FILES)
    rng, found = random.Random(8), list[str]()
    for number in range(12):
        acks, _ = one_kill(tmp_path, number, mode, rng, how="sabotaged")
        found += lost(tmp_path / f"k{number}", acks)
        if found:
            return
    pytest.fail("the sabotaged store lost nothing: the kills prove nothing")


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("mode", BOUNDARIES)
def test_many_kills_lose_nothing(tmp_path: Path, mode: str, figures: Callable[..., None]) -> None:
    tally = kills(tmp_path, mode, count=75, seed=6)
    figures(f"SIGKILL during {mode}", **dataclasses.asdict(tally))
    assert tally.after_an_acknowledgement >= 25


# ---------------------------------------------------------------------- power cut
CUT_CHILD = """
import os, sqlite3, stat, sys
from pathlib import Path
import cas.store
from cas.store import BlobStore
from conftest import NOW
import node.storage.db as db
cas.store.GROUP_FILES = 8
mount, what, sabotage = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
real = sqlite3.connect
class Lazy(sqlite3.Connection):
    def execute(self, sql, *rest):
        weak = "NORMAL" if sabotage == "normal" else "OFF"
        return super().execute(f"PRAGMA synchronous={weak}" if sql.startswith("PRAGMA synchronous") else sql, *rest)
if sabotage in ("nothing synced", "normal"):
    sqlite3.connect = lambda *args, **options: real(*args, **{**options, "factory": Lazy})
def sync(descriptor):
    is_folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
    if sabotage == "nothing synced" or (sabotage == "files not synced" and not is_folder):
        return
    os.fsync(descriptor)
if what in ("copied", "adopted"):
    store = BlobStore.open(mount / "store", sync=sync)
    source = Path(sys.argv[4])
    if what == "copied":
        results = store.put_files(sorted(source.iterdir()), now=NOW)
    else:
        store.define_volume("v", source)
        results = store.adopt_many("v", sorted(os.listdir(source)), now=NOW)
    for item in results:
        if isinstance(item, (cas.store.AdoptResult, cas.store.PutResult)):
            print("ack", item.id.hex, flush=True)
elif what == "journal":
    import asyncio
    from contracts.journal_contract import unit
    from node.storage.journal import SqliteJournal
    async def work():
        journal = SqliteJournal(db.Database.open(mount / "node.sqlite"))
        await journal.enqueue([(n, unit(n)) for n in range(45)], now=NOW)
        for number in range(45):
            [leased] = await journal.lease("p", "e", limit=1, now=NOW, lease_s=60, boot="b")
            assert await journal.complete(leased.unit.key, leased.attempt, b"{}", 0.1, now=NOW)
            print("ack", leased.unit.key, flush=True)
    asyncio.run(work())
else:
    database = db.Database.open(mount / "node.sqlite")
    for number in range(60):
        database.submit(lambda conn, n=number: conn.execute(
            "INSERT INTO change VALUES (?, 'i', 'specimen', 1, 'Create', 't', 'd')", (n + 1,))).result()
        print("ack", number + 1, flush=True)
print("all", flush=True)
sys.stdin.read()
os._exit(0)
"""


def cut(
    tmp_path: Path, what: str, *, number: int, how: str = "honest", after: int | None = None
) -> tuple[list[str], list[str]]:
    """Cuts the power after so many acknowledgements, or when all is done and the child still runs.

    Returns:
        What was acknowledged before the cut, and what of it is lost after the remount.
    """
    disk = LoopDisk(tmp_path / f"{what}{number}.img", tmp_path / f"m-{what}{number}")
    mount = disk.mount
    try:
        files = str(tmp_path / "base" / "files")
        child = kill_harness.start(CUT_CHILD, str(mount), what, how, files, is_fed=True)
        acks, _ = kill_harness.act_after_acks(child, after, disk.cut)
    finally:
        disk.unplug()
    disk.plug_in()
    try:
        if what in ("copied", "adopted"):
            try:
                return acks, lost(mount, acks)
            except Exception as error:
                return acks, [*acks, str(error)]
        conn = sqlite3.connect(mount / "node.sqlite")
        try:
            question = (
                "SELECT seq FROM change" if what == "database" else "SELECT work_key FROM unit WHERE state = 'done'"
            )
            rows = {str(row[0]) for row in conn.execute(question)}
            sound = conn.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
        except sqlite3.DatabaseError:
            rows, sound = set(), False
        finally:
            conn.close()
        return acks, [ack for ack in acks if ack not in rows] + ([] if sound else ["damaged"])
    finally:
        disk.throw_away()


@pytest.mark.fault
@pytest.mark.parametrize("what", ["copied", "adopted", "database", "journal"])
def test_a_power_cut_loses_nothing_acknowledged_and_the_twins_do(tmp_path: Path, what: str) -> None:
    skip_without_power_cuts(tmp_path)
    make_files(tmp_path / "base", 40)
    for number in range(3):
        after = None if number == 0 else number * 12
        acks, gone = cut(tmp_path, what, number=number, after=after)
        assert len(acks) >= (after or 40)
        assert gone == []
    twins = ["nothing synced", "files not synced" if what == "copied" else "normal"]
    for number, how in enumerate(twins, start=8):
        acks, gone = cut(tmp_path, what, number=number, how=how)
        assert len(acks) >= 40
        assert gone, f"the twin ({how}) lost nothing: the cut proves nothing"


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("what", ["copied", "adopted", "database", "journal"])
def test_fifty_power_cuts(tmp_path: Path, what: str, figures: Callable[..., None]) -> None:
    """Every fifth when all is done, the others in the middle of the work."""
    skip_without_power_cuts(tmp_path)
    make_files(tmp_path / "base", 40)
    rng, said, lost_in_all = random.Random(11), 0, 0
    for number in range(50):
        after = rng.randint(1, 36) if number % 5 else None
        acks, gone = cut(tmp_path, what, number=number, after=after)
        assert len(acks) >= (after or 40)
        assert gone == []
        said, lost_in_all = said + len(acks), lost_in_all + len(gone)
    lost_by_twin = len(cut(tmp_path, what, number=50, how="nothing synced")[1])
    figures(
        f"power cut, {what}", cuts=50, acknowledged=said, problems=lost_in_all, lost_by_the_twin_in_one_cut=lost_by_twin
    )
    assert lost_by_twin
