"""Moving between tiers: rules, order, restore, and what gc, fsck, scrub, repair and withdrawal make of it."""

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from conftest import NOW
from contracts.tier_contract import FaultyTier
from contracts.tier_places import FileHooks, folder_tier

from cas.check import Check
from cas.errors import BlobArchived, BlobChanged, BlobNotFound, StoreFailed, TierFailed
from cas.garbage import Garbage
from cas.ids import ContentId
from cas.index import BlobIndex
from cas.scrub import quarantined, scrub
from cas.store import BlobStore
from cas.tier import key_of
from cas.tier_care import TierCheck, due_in_tier, scrub_tier
from cas.tier_folder import FolderTier
from cas.tiering import MOST_ASKED, Rule, Tiering
from cas.usage import usage
from cas.used import UsedDays

DAY = timedelta(days=1)
DATA = [f"image {number}".encode() * 500 for number in range(6)]
IDS = [ContentId.of(data) for data in DATA]


@dataclass
class World:
    """A store with a folder tier, and a clock that can be set."""

    store: BlobStore
    tier: FolderTier
    tiering: Tiering
    hooks: FileHooks
    now: datetime = NOW

    def findings(self, *, fix: bool = False, read: bool = True) -> list[str]:
        found = [*Check(self.store, now=self.now, fix=fix, read=read).run()]
        found += TierCheck(self.store, self.tiering, now=self.now, fix=fix, read=read).run()
        return [item.code for item in found]

    def where(self, cid: ContentId) -> str:
        """a: active row and file, t: counts in the tier and lies there."""
        active = self.store.index.at("", cid.hex) is not None and self.store.tree.path(cid).exists()
        archived = bool(list(self.tiering.copies(cid))) and self.tier.stat(cid) is not None
        return "a" * active + "t" * archived


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    store = BlobStore.open(tmp_path / "store")
    for data in DATA:
        store.put_bytes(data, now=NOW)
    tier = folder_tier(tmp_path / "archive")
    made = World(
        store=store, tier=tier, tiering=Tiering(store, {"archive": tier}, clock=lambda: made.now),
        hooks=FileHooks(tmp_path / "archive" / "blobs"),
    )  # fmt: skip
    yield made
    store.close()


def test_a_move_keeps_the_id_frees_the_place_and_leaves_nothing_to_find(world: World) -> None:
    before = world.store.counts()
    assert world.tiering.move(IDS[0], "archive") == "moved"
    assert world.where(IDS[0]) == "t"
    assert world.store.counts() == before
    with pytest.raises(BlobArchived) as raised:
        world.store.open_blob(IDS[0])
    assert raised.value.id == IDS[0]
    assert world.findings() == []
    assert world.tiering.move(IDS[0], "archive") == "not-active"
    found = world.store.stat(IDS[0])
    assert found is not None
    assert (found.kind, found.volume, found.size) == ("owned", "tier:archive", len(DATA[0]))
    assert [(item.name, item.files) for item in usage(world.store)] == [("", 5), ("tier:archive", 1)]


def test_a_restore_brings_the_same_bytes_and_keeps_the_second_copy(world: World) -> None:
    world.tiering.move(IDS[0], "archive")
    assert world.tiering.ask(IDS[0]) == world.tiering.ask(IDS[0])
    assert world.tiering.due() == [IDS[0]]
    assert world.tiering.restore(IDS[0]) == "archive"
    assert world.where(IDS[0]) == "at"
    assert world.store.verify(IDS[0])
    assert world.tiering.restores() == []
    assert world.findings() == []
    assert world.tiering.move(IDS[0], "archive") == "moved"
    assert world.where(IDS[0]) == "t"


@pytest.mark.parametrize("ends", ["back", "gone"])
def test_what_moves_while_it_is_opened_is_not_called_damaged(
    world: World, monkeypatch: pytest.MonkeyPatch, ends: str
) -> None:
    world.tiering.move(IDS[0], "archive")
    ask = BlobIndex.in_tiers

    def late(index: BlobIndex, cid: ContentId) -> object:
        monkeypatch.undo()  # between the questions of open_blob somebody else is quicker
        with world.store.index.transaction() as conn:
            conn.execute("DELETE FROM tier_location WHERE sha = ?", (cid.digest,))
            if ends == "gone":
                conn.execute("DELETE FROM blob WHERE sha = ?", (cid.digest,))
        if ends == "back":
            world.store.put_bytes(DATA[0], now=NOW)
        return ask(index, cid)

    monkeypatch.setattr(BlobIndex, "in_tiers", late)
    if ends == "gone":
        with pytest.raises(BlobNotFound):
            world.store.open_blob(IDS[0])
    else:
        with world.store.open_blob(IDS[0]) as blob:
            assert blob.pread(0, len(DATA[0])) == DATA[0]


def test_an_index_that_contradicts_itself_ends_the_question(world: World) -> None:
    """A place without its blob, and no file there: said, not asked for ever."""
    with world.store.index.transaction() as conn:
        conn.execute("PRAGMA defer_foreign_keys = ON")
        conn.execute("DELETE FROM blob WHERE sha = ?", (IDS[0].digest,))
    (world.store.folder / "owned" / IDS[0].hex[:2] / IDS[0].hex[2:4] / IDS[0].hex).unlink()
    with pytest.raises(BlobChanged):
        world.store.open_blob(IDS[0])


def test_copies_of_remote_images_are_a_cache_and_are_not_archived(world: World) -> None:
    with world.store.index.transaction() as conn:
        conn.execute("INSERT INTO remote (url, sha) VALUES (?, ?)", ("https://images.example/1.jpg", IDS[0].digest))
    assert IDS[0] not in [found for found, _ in world.tiering.candidates(Rule())]
    assert world.tiering.move(IDS[0], "archive") == "kept-by-address"
    assert world.where(IDS[0]) == "a"
    assert world.findings() == []


def test_adopted_files_are_never_moved_or_touched(world: World, tmp_path: Path) -> None:
    (tmp_path / "scans").mkdir()
    mine = tmp_path / "scans" / "a.jpg"
    mine.write_bytes(b"a file of the institution")
    world.store.define_volume("scans", tmp_path / "scans")
    cid = world.store.adopt("scans", "a.jpg", now=NOW).id
    assert cid not in [found for found, _ in world.tiering.candidates(Rule())]
    assert world.tiering.move(cid, "archive") == "not-active"
    world.store.put_file(mine, now=NOW)  # our own copy beside it may go, the file may not
    state = mine.stat()
    assert world.tiering.move(cid, "archive") == "moved"
    assert mine.stat() == state
    world.store.open_blob(cid).close()


def test_rules_are_by_age_use_and_size_and_all_must_hold(world: World) -> None:
    def chosen(**rule: object) -> set[bytes]:
        return {cid.digest for cid, _ in world.tiering.candidates(Rule(**rule))}  # type: ignore[arg-type]

    everything = {cid.digest for cid in IDS}
    assert chosen() == everything
    assert chosen(larger_than=len(DATA[0])) == set()
    assert chosen(larger_than=len(DATA[0]) - 1) == everything
    assert chosen(older_than=10 * DAY) == set()
    world.now = NOW + 10 * DAY
    assert chosen(older_than=10 * DAY) == everything
    assert chosen(unused=11 * DAY) == set(), "bytes that were just stored count as used"
    used = UsedDays(world.store.index, clock=lambda: world.now)
    used.saw(IDS[1])
    assert used.flush() == 1
    assert chosen(unused=5 * DAY) == everything - {IDS[1].digest}
    assert chosen(unused=5 * DAY, larger_than=10_000_000) == set()
    world.now = NOW + 15 * DAY
    assert chosen(unused=5 * DAY) == everything
    world.store.put_bytes(DATA[2], now=world.now)
    assert chosen(older_than=10 * DAY) == everything - {IDS[2].digest}, "a restore or a new copy begins it anew"


def test_use_is_written_once_a_day_and_only_of_what_is_here(world: World) -> None:
    used = UsedDays(world.store.index, clock=lambda: world.now)
    for _ in range(3):
        used.saw(IDS[0])
        used.saw(ContentId.of(b"was withdrawn"))
    assert used.flush() == 2
    used.saw(IDS[0])
    assert used.flush() == 0, "once a day"
    assert [row["sha"] for row in world.store.index.select("SELECT sha FROM used")] == [IDS[0].digest]
    world.now += DAY
    used.saw(IDS[0])
    used.flush()
    used.saw(IDS[0])
    assert used.flush() in (0, 1)
    assert [row["day"] for row in world.store.index.select("SELECT day FROM used")] == [world.now.date().isoformat()]


def test_damaged_bytes_are_not_moved_and_are_the_first_that_scrub_reads(world: World) -> None:
    FileHooks(world.store.tree.root).flip(IDS[0])
    assert world.tiering.move(IDS[0], "archive") == "damaged"
    assert world.tier.stat(IDS[0]) is None
    assert world.store.index.select("SELECT 1 FROM tier_location") == []
    [first, *_] = scrub(world.store, clock=lambda: world.now, older_than=NOW)
    assert (first.id, first.verdict) == (IDS[0], "damaged")


def test_whatever_fails_on_the_way_the_bytes_are_somewhere_and_a_second_move_ends_it(world: World) -> None:
    rng = random.Random(11)
    faulty = FaultyTier(world.tier, rng, rate=0.3)
    tiering = Tiering(world.store, {"archive": faulty}, clock=lambda: world.now)
    failures = 0
    for cid in IDS:
        for _ in range(60):
            try:
                if tiering.move(cid, "archive") in ("moved", "not-active"):
                    break
            except TierFailed:
                failures += 1
                assert world.where(cid) in ("a", "at")
                assert world.store.verify(cid)
        assert world.where(cid) == "t"
    assert failures > 5
    assert world.findings() == []


def test_a_commit_that_fails_at_the_end_leaves_what_fsck_explains_and_mends(world: World) -> None:
    def unlink(path: Path) -> None:
        path.unlink()
        raise OSError(5, "Input/output error")

    tiering = Tiering(world.store, {"archive": world.tier}, clock=lambda: world.now, unlink=unlink)
    with pytest.raises(StoreFailed):
        tiering.move(IDS[0], "archive")
    assert world.where(IDS[0]) == "t"
    with pytest.raises(BlobArchived):
        world.store.open_blob(IDS[0])
    assert world.findings() == ["half-moved"]
    assert world.findings(fix=True) == ["half-moved"]
    assert world.findings() == []
    with pytest.raises(StoreFailed):
        tiering.move(IDS[1], "archive")
    assert world.tiering.move(IDS[1], "archive") == "moved", "the next move finishes it"
    with pytest.raises(StoreFailed):
        tiering.move(IDS[2], "archive")
    world.tiering.restore(IDS[2])
    assert world.where(IDS[2]) == "at", "and so does a restore"
    assert world.findings() == []


def test_a_copy_that_rotted_in_the_tier_is_noticed_before_the_active_one_goes(world: World) -> None:
    world.tiering.move(IDS[0], "archive")
    world.tiering.restore(IDS[0])
    world.hooks.flip(IDS[0])
    assert world.tiering.move(IDS[0], "archive") == "moved", "written anew, then moved"
    assert world.tiering.restore(IDS[0]) == "archive"
    assert world.store.verify(IDS[0])
    assert quarantined(world.store) == []


def test_a_restore_from_a_damaged_copy_fails_says_so_and_takes_nothing_in(world: World) -> None:
    world.tiering.move(IDS[0], "archive")
    world.hooks.flip(IDS[0])
    world.tiering.ask(IDS[0])
    with pytest.raises(TierFailed, match="expected"):
        world.tiering.restore(IDS[0])
    assert world.where(IDS[0]) == "t"
    [waiting] = world.tiering.restores()
    assert (waiting.state, waiting.id) == ("failed", IDS[0])
    assert [item.volume for item in quarantined(world.store)] == ["tier:archive"]
    with pytest.raises(BlobChanged):
        world.store.open_blob(IDS[0])
    assert world.findings(read=False) == ["quarantined"]
    assert world.tiering.due() == []
    world.store.put_bytes(DATA[0], now=NOW)  # somebody brings the good bytes
    world.tiering.rewrite(IDS[0], "archive")
    assert world.findings() == []


def test_a_tier_that_cannot_be_reached_is_tried_again_after_an_hour(world: World, tmp_path: Path) -> None:
    world.tiering.move(IDS[0], "archive")
    (tmp_path / "archive").rename(tmp_path / "away")
    world.tiering.ask(IDS[0])
    with pytest.raises(TierFailed, match="mounted"):
        world.tiering.restore(IDS[0])
    assert world.tiering.due() == []
    assert quarantined(world.store) == [], "nothing is concluded from a drive that is not there"
    assert world.findings() == ["tier"]
    world.now += timedelta(hours=1)
    assert world.tiering.due() == [IDS[0]]
    (tmp_path / "away").rename(tmp_path / "archive")
    assert world.tiering.restore(IDS[0]) == "archive"


def test_only_what_is_in_a_tier_can_be_asked_for_and_not_without_end(world: World) -> None:
    assert world.tiering.ask(IDS[0]) is None
    with pytest.raises(BlobNotFound):
        world.tiering.restore(IDS[0])
    for cid in IDS[:2]:
        world.tiering.move(cid, "archive")
    with world.store.index.transaction() as conn:
        conn.executemany(
            "INSERT INTO restore VALUES (?, '', 'asked', '')", [(number.to_bytes(32),) for number in range(MOST_ASKED)]
        )
    assert world.tiering.ask(IDS[0]) is None


def test_damaged_active_bytes_are_healed_by_a_restore(world: World) -> None:
    world.tiering.move(IDS[0], "archive")
    world.tiering.restore(IDS[0])
    FileHooks(world.store.tree.root).flip(IDS[0])
    list(scrub(world.store, clock=lambda: world.now, older_than=NOW + DAY))
    with pytest.raises(BlobArchived):
        world.store.open_blob(IDS[0])
    world.tiering.restore(IDS[0])
    assert world.store.verify(IDS[0])
    assert quarantined(world.store) == []


def test_scrub_of_a_tier_finds_damage_once_and_resumes(world: World) -> None:
    for cid in IDS:
        world.tiering.move(cid, "archive")
    world.hooks.flip(IDS[1])
    world.hooks.lose(IDS[2])
    world.now += 100 * DAY
    assert due_in_tier(world.store, "archive", world.now) == (6, sum(map(len, DATA)))
    read: list[int] = []

    def run(stop_after: int = 99) -> dict[ContentId, str]:
        found: dict[ContentId, str] = {}
        for item in scrub_tier(
            world.tiering, world.store, "archive", clock=lambda: world.now, older_than=world.now, took=read.append,
            should_stop=lambda: len(found) >= stop_after,
        ):  # fmt: skip
            found[item.id] = item.verdict
        return found

    first = run(2)
    assert len(first) == 2
    rest = run()
    assert set(first) | set(rest) == set(IDS)
    assert set(first) & set(rest) == set()
    assert {cid for cid, verdict in {**first, **rest}.items() if verdict != "good"} == {IDS[1], IDS[2]}
    assert {item.id for item in quarantined(world.store)} == {IDS[1], IDS[2]}
    assert sum(read) >= 5 * len(DATA[0])
    assert run() == {}


def test_gc_removes_copies_in_tiers_and_keeps_those_it_cannot_reach_for_the_next_run(
    world: World, tmp_path: Path
) -> None:
    for cid in IDS[:3]:
        world.tiering.move(cid, "archive")
    world.tiering.restore(IDS[2])

    def run(tiering: Tiering | None) -> tuple[int, int, int]:
        garbage = Garbage(world.store, now=world.now, grace=30 * DAY, tiering=tiering)
        garbage.mark(cid.digest for cid in (IDS[0], *IDS[3:]))
        report = garbage.sweep(delete=True, even_most=True)
        return report.due, report.removed, len(report.problems)

    assert run(world.tiering) == (0, 0, 0)
    world.now += 40 * DAY
    (tmp_path / "archive").rename(tmp_path / "away")
    assert run(world.tiering)[2] == 2
    assert {copy.id for copy in world.tiering.copies()} == set(IDS[:3]), "what is not reached is not forgotten"
    (tmp_path / "away").rename(tmp_path / "archive")
    assert run(world.tiering) == (2, 2, 0)
    assert [key for key, _ in world.tier.list()] == [key_of(IDS[0])]
    assert set(world.store.all_ids()) == {IDS[0], *IDS[3:]}
    assert world.findings() == []
    assert run(world.tiering) == (0, 0, 0)


def test_fsck_compares_the_tier_in_both_directions(world: World) -> None:
    for cid in IDS[:4]:
        world.tiering.move(cid, "archive")
    world.tiering.restore(IDS[1])
    world.hooks.lose(IDS[0])
    world.hooks.lose(IDS[1])
    world.hooks.shorten(IDS[2])
    world.hooks.flip(IDS[3])
    stranger = ContentId.of(b"put there by hand")
    world.hooks.stray(key_of(stranger), b"put there by hand")
    world.hooks.stray("notes.txt", b"?")
    world.hooks.stray(key_of(ContentId.of(b"x")), b"not x")
    with world.store.index.transaction() as conn:
        conn.execute("INSERT INTO tier_location VALUES (?, 'archive', ?, 9, '', '')", (IDS[4].digest, key_of(IDS[4])))
        conn.execute("INSERT INTO tier_location VALUES (?, 'gone', ?, 9, 'x', '')", (IDS[4].digest, key_of(IDS[4])))
    wanted = {
        "tier-bytes-missing": 2, "tier-size": 1, "damaged": 1, "tier-file-without-row": 1, "tier-stray": 2,
        "move-unfinished": 1, "tier-unknown": 1,
    }  # fmt: skip

    def counted(*, fix: bool) -> dict[str, int]:
        codes = world.findings(fix=fix)
        return {code: codes.count(code) for code in codes}

    assert counted(fix=False) == wanted
    assert counted(fix=True) == wanted
    assert counted(fix=False) == {
        "tier-bytes-missing": 1, "tier-size": 1, "damaged": 1, "tier-stray": 2, "tier-unknown": 1,
    }  # fmt: skip
    assert world.tiering.restore(stranger) == "archive"


def test_storing_moving_restoring_and_collecting_at_once_lose_nothing(world: World) -> None:
    """Threads at the same six blobs; whoever is told "stored" finds the bytes, here or in the tier."""
    world.now = NOW + 60 * DAY
    problems: list[str] = []
    collected: list[int] = []
    end = threading.Event()

    def again(work: Callable[[ContentId, bytes], object]) -> None:
        rng = random.Random(work.__name__)
        while not end.is_set():
            number = rng.randrange(len(IDS))
            try:
                work(IDS[number], DATA[number])
            except BlobNotFound:
                continue  # nothing of it was in a tier at that moment
            except Exception as error:
                problems.append(f"{work.__name__}: {error!r}")
                return

    def put(cid: ContentId, data: bytes) -> None:
        world.store.put_bytes(data, now=world.now)
        if cid != IDS[5] and world.store.index.size_of(cid) is None:
            problems.append(f"stored, and not there: {cid.hex}")

    def move(cid: ContentId, _data: bytes) -> None:
        world.tiering.move(cid, "archive")

    def restore(cid: ContentId, _data: bytes) -> None:
        world.tiering.restore(cid)

    def collect(_cid: ContentId, _data: bytes) -> None:
        garbage = Garbage(world.store, now=world.now, grace=0 * DAY, tiering=world.tiering)
        garbage.mark(cid.digest for cid in IDS[:5])  # the last one is rubbish whenever it is looked at
        collected.append(garbage.sweep(delete=True, even_most=True).removed)

    threads = [threading.Thread(target=again, args=(work,)) for work in (put, move, restore, collect)]
    for thread in threads:
        thread.start()
    for _ in range(150):
        for cid, data in zip(IDS, DATA, strict=True):
            with suppress(BlobNotFound), world.store.open_blob(cid) as blob:
                assert blob.pread(0, len(data)) == data
    end.set()
    for thread in threads:
        thread.join()
    assert problems == []
    assert sum(collected) > 0
    for cid, data in zip(IDS[:5], DATA, strict=False):
        if world.store.index.in_tiers(cid):
            assert b"".join(world.tier.read(cid)) == data
        else:
            assert world.store.verify(cid)
    assert world.findings() == []


def test_withdrawn_bytes_go_to_no_tier_and_leave_no_copy_that_nobody_knows_of(world: World) -> None:
    """Withdrawn while the copy is on its way: the row of the beginning is gone, so the copy goes, too."""

    class Slow(FolderTier):
        def put(self, cid: ContentId, chunks: object, *, size: int) -> None:
            super().put(cid, chunks, size=size)  # type: ignore[arg-type]
            todo = world.store.withdrawals.withdraw(cid, reason="r", told=True, at="2026", new_key=b"k" * 32)
            assert todo.tiers == (("archive", key_of(cid)),), "a withdrawal knows of the copy from its beginning"

    tiering = Tiering(world.store, {"archive": Slow(world.tier.root)}, clock=lambda: world.now)
    assert tiering.move(IDS[0], "archive") == "withdrawn"
    assert world.tier.stat(IDS[0]) is None
    assert world.tiering.move(IDS[0], "archive") == "withdrawn"
    world.hooks.stray(key_of(IDS[0]), DATA[0])
    assert world.findings(fix=True) == ["withdrawn-file", "withdrawn-file"]
    assert world.findings() == []
