"""Looking after bytes: scrub, quarantine, scan, a volume that moved, leaf tables, pace."""

import os
import random
import shutil
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from conftest import NOW

import cas.scan
import cas.scrub
from cas.durable import owned_path
from cas.errors import BlobChanged, BlobRefused, VolumeProblem
from cas.ids import ContentId
from cas.leaves import build_leaf_table, find_blocks, leaf_table, without_leaf_table
from cas.pace import Pace
from cas.repair import good_copy, repair
from cas.scan import move_volume, scan
from cas.scrub import ScrubResult, due, is_too_many, quarantined, scrub
from cas.store import AdoptResult, BlobStore
from cas.unixfs import DAG_PB, LEAF_BYTES, RAW
from cas.walk import walk

LATER = NOW + timedelta(days=100)
OLD_NS = int((NOW - timedelta(days=30)).timestamp()) * 1_000_000_000


@pytest.fixture
def store(tmp_path: Path) -> Iterator[BlobStore]:
    made = BlobStore.open(tmp_path / "store")
    yield made
    made.close()


@pytest.fixture
def scans(store: BlobStore, tmp_path: Path) -> Path:
    """A volume of twenty indexed files, last written a month ago."""
    root = tmp_path / "scans"
    for number in range(20):
        path = root / f"drawer{number % 3}" / f"{number:02}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path, f"sheet {number}".encode())
    store.define_volume("scans", root)
    assert len(list(store.adopt_many("scans", [seen.path for seen in walk(root)], now=NOW))) == 20
    return root


def write(path: Path, data: bytes, *, mtime_ns: int = OLD_NS) -> None:
    path.write_bytes(data)
    os.utime(path, ns=(mtime_ns, mtime_ns))


def run(store: BlobStore, *, now: datetime = LATER, older_than: datetime = LATER) -> list[ScrubResult]:
    return list(scrub(store, clock=lambda: now, older_than=older_than))


def flip(path: Path) -> None:
    """Rot: one bit differs, nothing that a stat tells does."""
    before = path.stat()
    path.chmod(0o644)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


# ---------------------------------------------------------------------- scrub
def test_scrub_reads_everything_once_and_the_oldest_first(store: BlobStore, scans: Path) -> None:
    owned = store.put_bytes(b"owned", now=NOW + timedelta(days=1)).id
    assert due(store, LATER) == (21, sum(path.stat().st_size for path in scans.rglob("*.jpg")) + 5)
    found = run(store)
    assert {item.verdict for item in found} == {"good"}
    assert len(found) == 21
    assert found[-1].id == owned
    assert due(store, LATER) == (0, 0)
    assert run(store) == []
    assert len(run(store, older_than=LATER + timedelta(days=1))) == 21


def test_a_flipped_bit_is_found_and_never_given_out_again(store: BlobStore, scans: Path) -> None:
    owned = store.put_bytes(b"owned bytes", now=NOW).id
    flip(scans / "drawer1" / "01.jpg")
    flip(owned_path(store.folder / "owned", owned))
    adopted = ContentId.of(b"sheet 1")
    bad = [item for item in run(store) if item.verdict != "good"]
    assert {(item.id, item.verdict) for item in bad} == {(owned, "damaged"), (adopted, "damaged")}
    for cid in (owned, adopted):
        with pytest.raises(BlobChanged, match="quarantine"):
            store.open_blob(cid)
    kept = {item.id: item for item in quarantined(store)}
    assert (store.folder / kept[owned].kept_at).read_bytes() != b"owned bytes"
    assert (scans / "drawer1" / "01.jpg").exists(), "the institution's file is not touched"
    assert run(store, older_than=LATER + timedelta(days=1), now=LATER + timedelta(days=1))
    # Good bytes again: both are open again.
    store.put_bytes(b"owned bytes", now=LATER)
    write(scans / "drawer1" / "01.jpg", b"sheet 1", mtime_ns=OLD_NS + 5_000_000_000)
    assert store.adopt("scans", "drawer1/01.jpg", now=LATER).id == adopted
    assert quarantined(store) == []
    for cid in (owned, adopted):
        store.open_blob(cid).close()


def test_twin_a_scrub_that_only_looks_at_size_and_time_finds_nothing(
    store: BlobStore, scans: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flip(scans / "drawer1" / "01.jpg")
    monkeypatch.setattr(cas.scrub, "_read", lambda store, volume, place, took: cas.scrub._result(place, "good", ""))
    assert all(item.verdict == "good" for item in run(store))


def test_an_edited_file_is_changed_and_not_damaged(store: BlobStore, scans: Path) -> None:
    write(scans / "drawer0" / "00.jpg", b"edited on purpose", mtime_ns=OLD_NS + 9_000_000_000)
    (scans / "drawer0" / "03.jpg").unlink()
    odd = {item.path: item.verdict for item in run(store) if item.verdict != "good"}
    assert odd == {"drawer0/00.jpg": "changed", "drawer0/03.jpg": "missing"}
    assert quarantined(store) == []


def test_a_volume_that_is_not_there_is_said_once_and_nothing_is_changed(store: BlobStore, scans: Path) -> None:
    away = scans.rename(scans.parent / "away")
    scans.mkdir()
    found = run(store)
    assert [item.verdict for item in found] == ["volume"]
    assert "empty" in found[0].reason
    scans.rmdir()
    away.rename(scans)
    assert {item.verdict for item in run(store)} == {"good"}


def test_many_odd_files_are_a_volume_problem(store: BlobStore, scans: Path) -> None:
    for path in sorted(scans.rglob("*.jpg"))[:12]:
        write(path, b"another tree", mtime_ns=OLD_NS + 1)
    found = [item for item in run(store) if item.verdict != "good"]
    assert [item.verdict for item in found if item.verdict == "volume"] == ["volume"]
    assert quarantined(store) == []


def test_many_is_more_than_a_few_and_more_than_one_in_a_hundred() -> None:
    assert [is_too_many(odd, count) for odd, count in ((8, 10), (9, 10), (9, 899), (9, 900), (11, 1000))] == [
        False, True, True, False, True,
    ]  # fmt: skip


def test_a_touched_file_that_is_written_to_while_it_is_read_is_not_taken_for_the_same(
    store: BlobStore, scans: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = scans / "drawer0" / "00.jpg"
    os.utime(path, ns=(OLD_NS + 1, OLD_NS + 1))
    real = cas.scan.hash_descriptor

    def slow(*arguments: Any, **options: Any) -> Any:
        found = real(*arguments, **options)
        os.utime(path, ns=(OLD_NS + 2, OLD_NS + 2))
        return found

    monkeypatch.setattr(cas.scan, "hash_descriptor", slow)
    assert scan(store, "scans", now=LATER).changed == ["drawer0/00.jpg"]
    known = store.index.at("scans", "drawer0/00.jpg")
    assert known is not None
    assert known.mtime_ns == OLD_NS


def test_a_move_that_could_be_of_two_files_is_not_guessed(store: BlobStore, tmp_path: Path) -> None:
    root = tmp_path / "drive"
    for folder in ("a", "b"):
        (root / folder).mkdir(parents=True)
        write(root / folder / "front.jpg", f"sheet {folder}".encode())
    store.define_volume("drive", root, identity="size+mtime")
    list(store.adopt_many("drive", ["a/front.jpg", "b/front.jpg"], now=NOW))
    (root / "a" / "front.jpg").unlink()
    (root / "b").rename(root / "c")
    report = scan(store, "drive", now=LATER)
    assert (report.moved, [item.path for item in report.new]) == ([], ["c/front.jpg"])


def test_a_file_that_cannot_be_read_is_put_into_quarantine_with_its_reason(
    store: BlobStore, scans: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = (scans / "drawer2" / "02.jpg").stat().st_ino
    real = os.preadv

    def failing(descriptor: int, *rest: object) -> int:
        if os.fstat(descriptor).st_ino == bad:
            raise OSError(5, "Input/output error")
        return real(descriptor, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "preadv", failing)
    assert [item.path for item in run(store) if item.verdict == "unreadable"] == ["drawer2/02.jpg"]
    assert [item.reason for item in quarantined(store)] == ["Input/output error"]


def test_what_was_checked_before_a_stop_is_not_read_again(store: BlobStore, scans: Path) -> None:
    assert scans
    first = scrub(store, clock=lambda: LATER, older_than=LATER)
    monkeys = [next(first) for _ in range(3)]
    first.close()  # type: ignore[attr-defined]
    assert {item.verdict for item in monkeys} == {"good"}
    assert due(store, LATER)[0] < 20


def test_damage_is_localised_by_the_leaf_table(store: BlobStore) -> None:
    data = random.Random(3).randbytes(3 * LEAF_BYTES + 100)
    cid = store.put_bytes(data, now=NOW).id
    build_leaf_table(store, cid, now=NOW)
    path = owned_path(store.folder / "owned", cid)
    path.chmod(0o644)
    with path.open("r+b") as stream:
        stream.seek(LEAF_BYTES + 5)
        stream.write(b"\0\0\0\0")
    (found,) = run(store)
    assert (found.verdict, found.damage) == ("damaged", ((LEAF_BYTES, LEAF_BYTES),))
    assert quarantined(store)[0].damage == f"{LEAF_BYTES}+{LEAF_BYTES}"


# ---------------------------------------------------------------------- scan
def test_an_unchanged_tree_is_compared_without_reading_a_file(
    store: BlobStore, scans: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert scans
    monkeypatch.setattr(os, "preadv", lambda *_: pytest.fail("a file was read"))
    report = scan(store, "scans", now=LATER)
    assert (report.unchanged, report.new, report.changed, report.vanished) == (20, [], [], [])


def test_the_order_of_the_walk_is_the_order_of_the_index(store: BlobStore, tmp_path: Path) -> None:
    root = tmp_path / "odd"
    names = ["a/b.jpg", "a.jpg", "a-b.jpg", "a/b/c.jpg", "a/b-c.jpg", "ä.jpg", "z.jpg", "Z/1.jpg", "日/本.jpg", "\U0001f33f.jpg", "￿.jpg"]  # fmt: skip
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())
    store.define_volume("odd", root)
    walked = [seen.path for seen in walk(root)]
    assert sorted(walked) == sorted(names)
    list(store.adopt_many("odd", names, now=NOW - timedelta(days=9)))
    [*rows] = store.index.select("SELECT path FROM location WHERE volume = 'odd' ORDER BY path")
    assert [row["path"] for row in rows] == walked
    assert scan(store, "odd", now=LATER).unchanged == len(names)


def test_a_walk_goes_on_behind_what_it_cannot_read_and_keeps_no_folder_open(scans: Path) -> None:
    (scans / os.fsdecode(b"caf\xe9.jpg")).write_bytes(b"latin-1")
    (scans / "broken.jpg").symlink_to("nowhere")
    (scans / "loop").symlink_to(".")
    unreadable: list[tuple[str, str]] = []
    open_before = len(os.listdir("/proc/self/fd"))
    walked = walk(scans)
    next(walked)
    walked.close()  # type: ignore[attr-defined]
    assert len(list(walk(scans, unreadable))) == 20
    assert [reason for _, reason in unreadable] == ["No such file or directory", "the name is not UTF-8"]
    assert list(walk(scans / "gone", unreadable)) == []
    assert unreadable[-1][0] == "."
    assert len(os.listdir("/proc/self/fd")) == open_before


def test_each_difference_is_told_by_its_name(store: BlobStore, scans: Path) -> None:
    (scans / "drawer0" / "00.jpg").rename(scans / "renamed.jpg")
    write(scans / "drawer0" / "03.jpg", b"sheet X", mtime_ns=OLD_NS + 7)  # same size, other bytes
    os.utime(scans / "drawer0" / "06.jpg", ns=(OLD_NS + 8, OLD_NS + 8))  # touched
    (scans / "drawer0" / "09.jpg").unlink()
    write(scans / "fresh.jpg", b"fresh")
    (scans / "link.jpg").symlink_to(scans / "fresh.jpg")
    (scans / "loop").symlink_to(scans)
    report = scan(store, "scans", now=LATER)
    assert report.moved == [("drawer0/00.jpg", "renamed.jpg")]
    assert report.changed == ["drawer0/03.jpg"]
    assert report.touched == 1
    assert report.vanished == ["drawer0/09.jpg"]
    assert [seen.path for seen in report.new] == ["fresh.jpg", "link.jpg"]
    assert report.unchanged == 16
    store.open_blob(ContentId.of(b"sheet 0")).close()
    store.open_blob(ContentId.of(b"sheet 6")).close()
    with pytest.raises(BlobChanged):
        store.open_blob(ContentId.of(b"sheet 3"))
    again = scan(store, "scans", now=LATER)
    assert (again.unchanged, again.touched, again.moved) == (18, 0, [])
    assert again.vanished == ["drawer0/09.jpg"], "a file that is gone changes no row"


def test_a_mass_of_differences_changes_nothing_unless_it_is_accepted(store: BlobStore, scans: Path) -> None:
    for path in sorted(scans.rglob("*.jpg"))[:12]:
        path.unlink()
    (scans / "drawer2" / "11.jpg").rename(scans / "moved.jpg")
    with pytest.raises(VolumeProblem, match="nothing was changed"):
        scan(store, "scans", now=LATER)
    assert store.index.at("scans", "moved.jpg") is None
    report = scan(store, "scans", now=LATER, accept=True)
    assert len(report.vanished) == 12
    assert store.index.at("scans", "moved.jpg") is not None
    shutil.rmtree(scans)
    scans.mkdir()
    with pytest.raises(VolumeProblem, match="empty"):
        scan(store, "scans", now=LATER, accept=True)


def test_an_edit_in_the_tick_of_the_hashing_is_found_by_the_next_scan(
    store: BlobStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "r"
    root.mkdir()
    now_ns = int(NOW.timestamp()) * 1_000_000_000
    write(root / "a.jpg", b"one", mtime_ns=now_ns - 10)
    store.define_volume("r", root)
    store.adopt("r", "a.jpg", now=NOW)
    write(root / "a.jpg", b"two", mtime_ns=now_ns - 10)  # the clock of the filesystem did not move on
    assert scan(store, "r", now=LATER).changed == ["a.jpg"]
    write(root / "a.jpg", b"one", mtime_ns=now_ns - 10)
    report = scan(store, "r", now=LATER)
    assert (report.unchanged, report.touched, report.changed) == (1, 0, []), "read once more"
    monkeypatch.setattr(os, "preadv", lambda *_: pytest.fail("a file was read"))
    assert scan(store, "r", now=LATER).unchanged == 1, "and then known to be sound"


# ---------------------------------------------------------------------- volumes
def test_a_volume_that_moved_to_another_disk_is_found_again_and_due_for_reading(
    store: BlobStore, scans: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "new disk"
    shutil.copytree(scans, copy)  # keeps times, not inodes
    shutil.rmtree(scans)
    with pytest.raises(BlobChanged):
        store.open_blob(ContentId.of(b"sheet 4"))
    assert move_volume(store, "scans", copy) == (20, [])
    store.open_blob(ContentId.of(b"sheet 4")).close()
    assert store.index.volumes()["scans"].identity == "inode"
    assert due(store, NOW)[0] == 20
    assert {item.verdict for item in run(store)} == {"good"}


def test_a_volume_moved_to_the_wrong_place_changes_nothing(store: BlobStore, scans: Path, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong"
    wrong.mkdir()
    with pytest.raises(VolumeProblem, match="empty"):
        move_volume(store, "scans", wrong)
    (wrong / "something.txt").write_bytes(b"x")
    with pytest.raises(VolumeProblem, match="nothing was changed"):
        move_volume(store, "scans", wrong)
    assert store.index.volumes()["scans"].root == scans
    with pytest.raises(BlobRefused, match="no volume"):
        move_volume(store, "nothing", scans)


def test_a_move_that_stops_half_way_leaves_a_volume_that_works(
    store: BlobStore, scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "new disk"
    shutil.copytree(scans, copy)
    shutil.rmtree(scans)
    monkeypatch.setattr("cas.scan._renumber", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        move_volume(store, "scans", copy)
    store.open_blob(ContentId.of(b"sheet 4")).close()
    monkeypatch.undo()
    assert move_volume(store, "scans", copy)[0] == 20
    store.open_blob(ContentId.of(b"sheet 4")).close()


# ---------------------------------------------------------------------- leaf tables
def test_a_leaf_table_is_built_once_and_every_block_is_found(store: BlobStore) -> None:
    data = random.Random(4).randbytes(2 * LEAF_BYTES + 9)
    big, small = store.put_bytes(data, now=NOW).id, store.put_bytes(b"small", now=NOW).id
    assert list(without_leaf_table(store)) == [(big, len(data))]
    assert leaf_table(store, big) is None
    table = build_leaf_table(store, big, now=NOW)
    assert leaf_table(store, big) == table == build_leaf_table(store, big, now=LATER)
    assert list(without_leaf_table(store)) == []
    for node in table.tree():
        (block,) = find_blocks(store, node.codec, node.digest)
        assert (block.file, block.offset, block.size, block.node) == (big, node.offset, node.size, node.block)
    assert find_blocks(store, DAG_PB, table.leaves[0]) == []
    assert [block.size for block in find_blocks(store, RAW, small.digest)] == [5]
    with pytest.raises(BlobRefused, match="one leaf"):
        build_leaf_table(store, small, now=NOW)


def test_damaged_bytes_never_become_a_leaf_table(store: BlobStore) -> None:
    cid = store.put_bytes(bytes(2 * LEAF_BYTES), now=NOW).id
    flip(owned_path(store.folder / "owned", cid))
    with pytest.raises(BlobChanged, match="hash"):
        build_leaf_table(store, cid, now=NOW)
    assert leaf_table(store, cid) is None


# ---------------------------------------------------------------------- pace
def test_people_never_wait_and_work_waits_for_them() -> None:
    time, waits = [0.0], []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        time[0] += seconds

    pace = Pace(100.0, clock=lambda: time[0], wait=wait)
    pace.took(50)
    assert waits == [0.5]
    pace.took_for_people(300)
    assert waits == [0.5]
    pace.took(100)
    assert waits == [0.5, 4.0]
    pace.took_for_people(1_000_000)
    pace.took(1)
    assert waits[-1] == pytest.approx(10.0, abs=0.02), "people stop work for ten seconds at most"
    free = Pace(0, clock=lambda: time[0], wait=wait)
    free.took(10**12)
    assert len(waits) == 3


def test_scrub_keeps_its_pace(store: BlobStore, scans: Path) -> None:
    assert scans
    time = [0.0]

    def wait(seconds: float) -> None:
        time[0] += seconds

    total = due(store, LATER)[1]
    pace = Pace(10.0, clock=lambda: time[0], wait=wait)
    assert (
        len(list(scrub(store, clock=lambda: LATER, older_than=LATER, took=lambda volume, count: pace.took(count))))
        == 20
    )
    assert time[0] == pytest.approx(total / 10, rel=0.01)


@pytest.mark.parametrize("moment", ["before the row", "before the move"])
def test_bytes_healed_while_scrub_finds_them_damaged_are_not_taken_away(
    store: BlobStore, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """Scrub has read damage; before it acts, somebody stores the same bytes again and is told that they are stored."""
    cid = store.put_bytes(b"good bytes", now=NOW).id
    flip(owned_path(store.folder / "owned", cid))
    name = "put_in_quarantine" if moment == "before the row" else "_put_aside"
    real = getattr(cas.scrub, name)

    def late(*args: object, **options: object) -> object:
        store.put_bytes(b"good bytes", now=LATER)
        return real(*args, **options)

    monkeypatch.setattr(cas.scrub, name, late)
    run(store)
    assert store.verify(cid)
    assert quarantined(store) == []


def test_a_copy_that_rotted_unnoticed_is_passed_over_by_repair(store: BlobStore, scans: Path) -> None:
    for name in ("x1.jpg", "x2.jpg", "x3.jpg"):
        write(scans / name, b"the same sheet")
    list(store.adopt_many("scans", ["x1.jpg", "x2.jpg", "x3.jpg"], now=NOW))
    cid = ContentId.of(b"the same sheet")
    for name in ("x1.jpg", "x2.jpg"):
        write(scans / name, b"the sAme sheet")
    assert good_copy(store, cid) == scans / "x3.jpg"
    write(scans / "x3.jpg", b"the saMe sheet")
    assert good_copy(store, cid) is None


@pytest.mark.parametrize("link", ["file", "folder"])
def test_repair_writes_no_file_behind_a_link(store: BlobStore, scans: Path, tmp_path: Path, link: str) -> None:
    cid = store.index.at("scans", "drawer0/00.jpg")
    assert cid is not None
    good = (scans / "drawer0" / "00.jpg").read_bytes()
    write(scans / "drawer0" / "00.jpg", b"X" * len(good))
    assert [item.verdict for item in run(store) if item.verdict != "good"] == ["damaged"]
    outside = tmp_path / "outside"
    (scans / "drawer0").rename(outside)
    if link == "folder":
        (scans / "drawer0").symlink_to(outside)
    else:
        (scans / "drawer0").mkdir()
        (scans / "drawer0" / "00.jpg").symlink_to(outside / "00.jpg")
    before = sorted(path.name for path in outside.iterdir())
    with pytest.raises(BlobRefused, match="link"):
        repair(store, ContentId(cid.sha), [good], source="a peer", now=LATER, write_adopted=True)
    assert (outside / "00.jpg").read_bytes() == b"X" * len(good)
    assert sorted(path.name for path in outside.iterdir()) == before


def test_repair_reads_back_what_it_wrote_before_it_takes_the_place_of_the_file(
    store: BlobStore, scans: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = scans / "drawer0" / "00.jpg"
    good = path.read_bytes()
    cid = ContentId.of(good)
    write(path, b"X" * len(good))
    list(run(store))
    monkeypatch.setattr("cas.repair.hash_descriptor", lambda _fd: (ContentId.of(b"what a failing disk reads"), 1))
    with pytest.raises(BlobChanged, match="failing"):
        repair(store, cid, [good], source="a peer", now=LATER, write_adopted=True)
    assert path.read_bytes() == b"X" * len(good)
    assert [item.name for item in path.parent.iterdir() if "repair" in item.name or "damaged" in item.name] == []


def test_a_damaged_file_that_is_found_whole_elsewhere_leaves_no_quarantine_behind(
    store: BlobStore, scans: Path
) -> None:
    path = scans / "drawer0" / "00.jpg"
    good = path.read_bytes()
    write(path, b"X" * len(good))
    list(run(store))
    path.unlink()
    write(scans / "restored.jpg", good)
    (found,) = store.adopt_many("scans", ["restored.jpg"], now=LATER)
    assert isinstance(found, AdoptResult)
    assert found.outcome == "moved"
    assert quarantined(store) == []
