"""SIGKILL of a working engine: acknowledged results stay, the next start goes on, nothing is computed or counted twice."""

import dataclasses
import os
import random
import shutil
import sqlite3
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import kill_harness
import pytest
from conftest import NOW, ROOT
from contracts.journal_contract import unit

from node.storage.db import Database
from node.storage.journal import SqliteJournal

UNITS = 40
BOUNDARIES = (300, 590)
"""Write boundaries from the last preparations to the last result; the first result comes at about 390."""
CHILD = """
import asyncio, contextlib, os, sys
from datetime import datetime, UTC
from pathlib import Path
from cas.ids import ContentId
from cas.store import BlobStore
from conftest import NOW
from linkeddata.pipeline import WorkUnit
from node.storage.db import Database
from node.storage.journal import SqliteJournal
from pipelines_for_tests import entry
from runners.catalogue import Catalogue
from runners.engine import Engine, EngineHooks, EngineSettings
from runners.workers import WorkerSettings
from PIL import Image
import io, numpy as np

folder, boot, count, names = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4].split(",")

def picture(number):
    out = io.BytesIO()
    Image.fromarray(np.full((8, 8, 3), 100 + number, dtype=np.uint8)).save(out, "PNG")
    return out.getvalue()

async def main():
    database = Database.open(folder / "n.sqlite")
    journal, store = SqliteJournal(database), BlobStore.open(folder / "blobs")
    left = asyncio.Event()
    async def gate(item):
        print("begun", item.key, flush=True)
        return None
    async def finished(key):
        print("ack", key, flush=True)
        rows = await database.read(lambda conn: conn.execute("SELECT count(*) FROM unit WHERE state <> 'done'").fetchone()[0])
        if rows == 0:
            left.set()
    engine = Engine(journal, Catalogue.of((), extra=tuple(map(entry, names))), EngineSettings(batch=3, worker=WorkerSettings()),
        EngineHooks(open_image=lambda image: store.open_blob(ContentId.from_hex(image)), gate=gate, on_finished=finished,
                    clock=lambda: datetime.now(UTC)), boot=boot)
    await engine.start()
    units = []
    for image in [store.put_bytes(picture(n), now=NOW).id.hex for n in range(count)]:
        keys = {}
        for offer in sorted(engine.offers, key=lambda offer: len(offer.manifest.needs)):
            units.append(WorkUnit(output=offer.manifest.output, pipeline=offer.manifest.digest, image=image,
                environment=offer.environment.digest, upstream=tuple(keys[item] for item in offer.manifest.upstream)))
            keys[offer.manifest.digest] = units[-1].key
    await journal.enqueue(list(enumerate(units)), now=datetime.now(UTC))
    rows = await database.read(lambda conn: conn.execute("SELECT count(*) FROM unit WHERE state <> 'done'").fetchone()[0])
    if rows:
        task = asyncio.create_task(engine.run())
        await asyncio.wait_for(left.wait(), 500)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    await engine.aclose()
    database.close()
    store.close()

asyncio.run(main())
"""


SAID_FIRST = """
_complete, _late = SqliteJournal.complete, []
async def complete_later(journal, *arguments, **options):
    _late.append((arguments, options))
    if len(_late) > 3:
        first, rest = _late.pop(0)
        await _complete(journal, *first, **rest)
    return True
SqliteJournal.complete = complete_later
"""
"""A journal that says "done" three results before it is."""


def done(folder: Path) -> dict[str, bytes]:
    conn = sqlite3.connect(folder / "n.sqlite")
    try:
        assert conn.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
        return dict(conn.execute("SELECT work_key, body FROM unit WHERE state = 'done'").fetchall())
    finally:
        conn.close()


def orphans() -> list[str]:
    """Workers of ours whose engine is dead."""
    found = []
    for path in Path("/proc").iterdir():
        try:
            line = (path / "cmdline").read_bytes() if path.name.isdecimal() else b""
            parent = (path / "stat").read_text().rpartition(")")[2].split()[1] if line else ""
        except OSError:
            continue
        if b"runners.worker" in line and b"pipelines_for_tests:Plain" in line and parent == "1":
            found.append(path.name)
    return found


def kills(tmp_path: Path, *, count: int, seed: int, names: str = "Plain", images: int = UNITS) -> kill_harness.Kills:
    rng, tally, number = random.Random(seed), kill_harness.Kills(), 0
    units = images * len(names.split(","))
    while tally.kills < count:
        number += 1
        folder = tmp_path / f"e{number}"
        folder.mkdir()
        if number % 2:
            child = kill_harness.start(
                CHILD, str(folder), "first", str(images), names, kill_at=rng.randint(*BOUNDARIES)
            )
            acks, status = kill_harness.finish(child)
        else:
            child = kill_harness.start(CHILD, str(folder), "first", str(images), names)
            acks, status = kill_harness.kill_after_first_ack(child, rng, spread_s=0.12)
        before = done(folder)
        tally.add(len(acks), status, [f"lost: {key}" for key in set(acks) - set(before)])
        child = kill_harness.start(CHILD, str(folder), "second", str(images), names)
        out, _ = child.communicate(timeout=kill_harness.HANGS_S)
        assert child.returncode == 0
        begun = {line.removeprefix("begun ") for line in out.decode().splitlines() if line.startswith("begun ")}
        assert not begun & set(before), "what was done was computed again"
        after = done(folder)
        assert len(after) == units
        assert all(after[key] == body for key, body in before.items())
        shutil.rmtree(folder)
    assert not orphans()
    return tally


@pytest.mark.fault
@pytest.mark.timeout(900)
def test_a_few_kills_lose_no_result(tmp_path: Path) -> None:
    assert kills(tmp_path, count=4, seed=3).after_an_acknowledgement >= 1


@pytest.mark.fault
@pytest.mark.timeout(900)
def test_a_few_kills_leave_no_composed_unit_waiting(tmp_path: Path) -> None:
    assert kills(tmp_path, count=4, seed=5, names="Tally,Codes,Lines", images=14).after_an_acknowledgement >= 1


@pytest.mark.fault
def test_a_journal_that_says_done_too_early_is_found_out(tmp_path: Path) -> None:
    rng = random.Random(6)
    for number in range(8):
        folder = tmp_path / f"e{number}"
        folder.mkdir()
        code = CHILD.replace("folder, boot", SAID_FIRST + "folder, boot", 1)
        child = kill_harness.start(code, str(folder), "first", str(UNITS), "Plain")
        acks, _ = kill_harness.kill_after_first_ack(child, rng, spread_s=0.12)
        if set(acks) - set(done(folder)):
            return
    pytest.fail("the twin lost no result: the kills prove nothing")


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_a_hundred_kills_lose_no_result(tmp_path: Path, figures: Callable[..., None]) -> None:
    tally = kills(tmp_path, count=100, seed=4)
    figures("SIGKILL during a job", **dataclasses.asdict(tally))
    assert tally.after_an_acknowledgement >= 50


class Unfenced(SqliteJournal):
    """The sabotaged twin: takes a result from anybody."""

    async def complete(self, key: str, attempt: int, body: bytes, seconds: float, *, now: object) -> bool:
        return await self._db.write(
            lambda conn: (
                conn.execute("UPDATE unit SET state = 'done', body = ? WHERE work_key = ?", (body, key)).rowcount == 1
            )
        )


@pytest.mark.fault
async def test_without_fencing_an_old_attempt_overwrites_a_newer_one(tmp_path: Path) -> None:
    """Course: taken, lease over, taken again and finished, then the first attempt comes late."""
    outcomes = {}
    for kind in (SqliteJournal, Unfenced):
        database = Database.open(tmp_path / f"{kind.__name__}.sqlite")
        journal = kind(database)
        await journal.enqueue([(0, unit(1))], now=NOW)
        [first] = await journal.lease("p", "e", limit=1, now=NOW, lease_s=1, boot="b")
        await journal.reclaim("b", now=NOW + timedelta(hours=1))
        [second] = await journal.lease("p", "e", limit=1, now=NOW + timedelta(hours=1), lease_s=60, boot="b")
        assert await journal.complete(second.unit.key, second.attempt, b"new", 0, now=NOW)
        await journal.complete(first.unit.key, first.attempt, b"old", 0, now=NOW)
        status = await journal.status(first.unit.key)
        assert status is not None
        outcomes[kind] = status.body
        database.close()
    assert outcomes[SqliteJournal] == b"new"
    assert outcomes[Unfenced] == b"old", "the twin without fencing was not noticed: the check proves nothing"
    assert os.path.isdir(ROOT)
