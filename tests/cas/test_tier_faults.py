"""SIGKILL while bytes move between tiers and while gc collects them there: nothing is lost, fsck explains all of it.

Each suite has a sabotaged twin that must go red.
"""

import dataclasses
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import kill_harness
import pytest
import tier_world as world
from small_disk import small_disk

from cas.check import Check
from cas.errors import BlobArchived, CasError, StoreFailed, TierFailed
from cas.ids import ContentId
from cas.store import BlobStore
from cas.tier import checked
from cas.tier_care import TierCheck
from cas.tier_folder import FolderTier
from cas.tiering import Tiering

CHILD = """
import sys
from pathlib import Path
import tier_world
tier_world.work(Path(sys.argv[1]), sys.argv[2], counting_fsync, sabotaged=sys.argv[3] == "sabotaged")
"""
MODES = ("move", "gc")
LIMIT = {"move": 620, "gc": 200}
"""Write boundaries of one run, about."""
NAMES = {"move": "tier move and restore", "gc": "gc in a tier"}
EXPLAINED = {
    "move": {"leftover", "half-moved", "move-unfinished", "file-without-row"},
    "gc": {"gc-unfinished", "leftover"},
}  # fmt: skip


def is_somewhere(store: BlobStore, tiering: Tiering, cid: ContentId) -> bool:
    """Whether whoever asks for these bytes gets them, from here or after a restore."""
    try:
        store.open_blob(cid).close()
        return store.verify(cid)
    except BlobArchived:
        [copy] = tiering.copies(cid)
        return b"".join(checked(cid, tiering.tiers["archive"].read(cid), size=copy.size)) != b""
    except CasError:
        return False


def fsck(store: BlobStore, tiering: Tiering, *, fix: bool) -> list[str]:
    found = [*Check(store, now=world.LATER, fix=fix, read=True).run()]
    found += TierCheck(store, tiering, now=world.LATER, fix=fix, read=True).run()
    return [item.code for item in found]


def broken(folder: Path, mode: str, acks: list[list[str]]) -> list[str]:
    """What is wrong after a kill and a restart; finishes the work, and then nothing may be left."""
    store, tiering = world.open_world(folder)
    try:
        said = {hex_id: what for what, hex_id in acks}
        kept = world.ids() if mode == "move" else world.ids(0, world.KEPT)
        found = [f"lost: {cid.hex}" for cid in kept if not is_somewhere(store, tiering, cid)]
        for hex_id, what in said.items():
            is_active = store.tree.path(ContentId.from_hex(hex_id)).exists() if what != "swept" else None
            if (what, is_active) in (("moved", True), ("restored", False)):
                # "moved" is the last word unless the kill came in the restore that follows it
                number = [cid.hex for cid in world.ids()].index(hex_id)
                if what == "restored" or number % 3:
                    found.append(f"said, and not so: {what} {hex_id}")
        codes = set(fsck(store, tiering, fix=False))
        if codes - EXPLAINED[mode]:
            found.append(f"not explained: {codes}")
        if mode == "gc":
            world.collect(store, tiering)
        fsck(store, tiering, fix=True)
        if left := fsck(store, tiering, fix=False):
            found.append(f"fsck: {left}")
        if mode == "move":
            for cid in world.ids():
                tiering.move(cid, "archive")
            if not all([copy.is_active for copy in tiering.copies(cid)] == [False] for cid in world.ids()):
                found.append("a second run does not end it")
        else:
            found += [f"left over: {copy.id.hex}" for copy in tiering.copies() if copy.id not in kept]
        found += [f"lost by the second run: {cid.hex}" for cid in kept if not is_somewhere(store, tiering, cid)]
        return found + [f"fsck at the end: {item}" for item in fsck(store, tiering, fix=False)]
    finally:
        store.close()


def one_kill(base: Path, folder: Path, mode: str, rng: random.Random, *, how: str) -> tuple[list[list[str]], int]:
    shutil.copytree(base, folder)
    if rng.random() < 0.3:
        child = kill_harness.start(CHILD, str(folder), mode, how)
        acks, status = kill_harness.kill_after_first_ack(child, rng, spread_s=0.05)
    else:
        child = kill_harness.start(CHILD, str(folder), mode, how, kill_at=rng.randint(2, LIMIT[mode]))
        acks, status = kill_harness.finish(child)
    return [ack.split(" ", 1) for ack in acks], status


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
    figures(f"SIGKILL during {NAMES[mode]}", **dataclasses.asdict(tally))
    assert tally.after_an_acknowledgement >= 25


@pytest.mark.fault
def test_a_full_disk_of_the_tier_moves_nothing_and_a_full_disk_here_restores_nothing(tmp_path: Path) -> None:
    with small_disk(tmp_path / "there", size_mb=8) as there, small_disk(tmp_path / "here", size_mb=20) as here:
        data = random.Random(1).randbytes(2_000_000)
        store = BlobStore.open(here.path / "store")
        (there.path / "archive").mkdir()
        tier = FolderTier(there.path / "archive")
        tier.mark()
        tiering = Tiering(store, {"archive": tier}, clock=lambda: world.LATER)
        cid = store.put_bytes(data, now=world.LATER).id
        there.fill()
        with pytest.raises(TierFailed, match="space"):
            tiering.move(cid, "archive")
        assert store.verify(cid)
        assert list((there.path / "archive" / "staging").iterdir()) == []
        there.give_room()
        assert tiering.move(cid, "archive") == "moved"
        tiering.ask(cid)
        here.fill()
        with pytest.raises(StoreFailed):
            tiering.restore(cid)
        assert [item.state for item in tiering.restores()] == ["asked"], "asked for all the same"
        here.give_room()
        assert tiering.restore(cid) == "archive"
        assert store.verify(cid)
        assert fsck(store, tiering, fix=False) == []
        store.close()
