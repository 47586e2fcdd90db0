"""SIGKILL during gc and scrub: nothing acknowledged is lost, nothing is torn, fsck is clean after the restart.

Each suite has a sabotaged twin that must go red.
"""

import dataclasses
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import care_world as world
import kill_harness
import pytest

from cas.check import Check
from cas.errors import CasError
from cas.garbage import Garbage
from cas.ids import ContentId
from cas.scrub import quarantined, scrub
from cas.store import BlobStore

CHILD = """
import sys
from pathlib import Path
import care_world
care_world.work(Path(sys.argv[1]), sys.argv[2], counting_fsync, sabotaged=sys.argv[3] == "sabotaged")
"""
MODES = ("gc", "scrub")
LIMIT = {"gc": 260, "scrub": 90}
"""Write boundaries of one run, about."""


def broken(folder: Path, mode: str, acks: list[list[str]]) -> list[str]:
    """What is wrong after a kill and a restart; finishes the work, and then nothing may be left."""
    store = BlobStore.open(folder / "store")
    try:
        found = after_gc(store, acks) if mode == "gc" else after_scrub(store, acks)
        for path in (store.folder / "owned").rglob("*"):
            if path.is_file() and mode == "gc" and ContentId.of(path.read_bytes()).hex != path.name:
                found.append(f"torn: {path.name}")
        list(Check(store, now=world.LATER, fix=True).run())
        left = [item.code for item in Check(store, now=world.LATER, read=True).run()]
        expected = [] if mode == "gc" else ["quarantined"] * world.DAMAGED
        return found + ([] if left == expected else [f"fsck: {left}"])
    finally:
        store.close()


def after_gc(store: BlobStore, acks: list[list[str]]) -> list[str]:
    kept = {cid.hex for cid in world.ids(0, world.KEPT)} | {hex_id for what, hex_id in acks if what == "stored"}
    found = [f"lost: {hex_id}" for hex_id in kept if not store.verify(ContentId.from_hex(hex_id))]
    found += [f"row without bytes: {cid.hex}" for cid in store.all_ids() if not store.verify(cid)]
    again = Garbage(store, now=world.LATER, grace=world.GRACE)
    again.mark(cid.digest for cid in world.ids(0, world.KEPT))
    again.sweep(delete=True, even_most=True)
    return found + [f"lost by the second run: {item}" for item in kept if not store.verify(ContentId.from_hex(item))]


def after_scrub(store: BlobStore, acks: list[list[str]]) -> list[str]:
    found = []
    damaged = {cid.hex for cid in world.ids(0, world.DAMAGED)}
    known = {item.id.hex for item in quarantined(store)}
    for what, hex_id in acks:
        [row] = store.index.select("SELECT checked FROM location WHERE path = ?", hex_id)
        if (what == "good" and row["checked"] < world.LATER.isoformat()) or (what == "damaged" and hex_id not in known):
            found.append(f"said, and forgotten: {what} {hex_id}")
        if (what == "damaged") != (hex_id in damaged):
            found.append(f"wrong: {what} {hex_id}")
    again = {item.id.hex for item in scrub(store, clock=lambda: world.LATER, older_than=world.LATER)}
    everything = {cid.hex for cid in world.ids(0, world.KEPT + world.RUBBISH)}
    checked = {
        row["path"] for row in store.index.select("SELECT path FROM location WHERE checked >= ?", str(world.LATER))
    }
    if again | checked | known < everything:
        found.append("some were never looked at")
    for hex_id in damaged:
        cid = ContentId.from_hex(hex_id)
        try:
            store.open_blob(cid).close()
            found.append(f"damaged bytes are given out: {hex_id}")
        except CasError:
            pass
        if not list((store.folder / "bad").glob(f"{hex_id}.*")) or store.tree.path(cid).exists():
            found.append(f"damaged bytes are not where they are kept: {hex_id}")
    good = world.ids(world.DAMAGED, world.KEPT + world.RUBBISH)
    return found + [f"lost: {cid.hex}" for cid in good if not store.verify(cid)]


def one_kill(base: Path, folder: Path, mode: str, rng: random.Random, *, how: str) -> tuple[list[list[str]], int]:
    shutil.copytree(base, folder)
    if rng.random() < 0.4:
        child = kill_harness.start(CHILD, str(folder), mode, how)
        acks, status = kill_harness.kill_after_first_ack(child, rng, spread_s=0.03)
    else:
        child = kill_harness.start(CHILD, str(folder), mode, how, kill_at=rng.randint(20, LIMIT[mode]))
        acks, status = kill_harness.finish(child)
    return [ack.split(" ", 1) for ack in acks if not ack.startswith("swept")], status


def kills(tmp_path: Path, mode: str, *, count: int, seed: int) -> kill_harness.Kills:
    """Kills at random moments and at write boundaries, each followed by a restart that finishes the work."""
    world.fill(tmp_path / "base", mode)
    tally, rng = kill_harness.Kills(), random.Random(seed)
    while tally.kills < count:
        folder = tmp_path / "killed"
        acks, status = one_kill(tmp_path / "base", folder, mode, rng, how="honest")
        tally.add(len(acks), status, broken(folder, mode, acks))
        shutil.rmtree(folder)
    return tally


@pytest.mark.fault
@pytest.mark.parametrize("mode", MODES)
def test_a_few_kills_lose_nothing(tmp_path: Path, mode: str) -> None:
    assert kills(tmp_path, mode, count=8, seed=3).after_an_acknowledgement >= 2


@pytest.mark.fault
@pytest.mark.parametrize("mode", MODES)
def test_the_sabotaged_twin_is_found_out(tmp_path: Path, mode: str) -> None:
    world.fill(tmp_path / "base", mode)
    rng = random.Random(4)
    for number in range(30):
        acks, _ = one_kill(tmp_path / "base", tmp_path / f"k{number}", mode, rng, how="sabotaged")
        if broken(tmp_path / f"k{number}", mode, acks):
            return
    pytest.fail("the sabotaged twin lost nothing: the kills prove nothing")


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("mode", MODES)
def test_many_kills_lose_nothing(tmp_path: Path, mode: str, figures: Callable[..., None]) -> None:
    tally = kills(tmp_path, mode, count=75, seed=9)
    figures(f"SIGKILL during {mode}", **dataclasses.asdict(tally))
    assert tally.after_an_acknowledgement >= 25
