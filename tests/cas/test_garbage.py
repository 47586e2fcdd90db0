"""Garbage: what is removed, what never is, and who may come in between."""

import os
import random
import shutil
import threading
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import kill_harness
import pytest
from conftest import NOW

from cas.durable import Written
from cas.errors import BlobNotFound
from cas.garbage import Garbage, GarbageReport, TooMuchGarbage
from cas.ids import ContentId
from cas.pins import add_pin, list_pins, remove_pin
from cas.store import AdoptResult, BlobStore, PutResult

GRACE = timedelta(days=30)
DAY = timedelta(days=1)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[BlobStore]:
    opened = BlobStore.open(tmp_path / "store")
    yield opened
    opened.close()


def run(store: BlobStore, named: list[ContentId], *, day: int, delete: bool = True, **options: bool) -> GarbageReport:
    garbage = Garbage(store, now=NOW + day * DAY, grace=GRACE)
    garbage.mark(cid.digest for cid in named)
    return garbage.sweep(delete=delete, **options)


def owned(store: BlobStore) -> set[str]:
    return {path.name for path in (store.folder / "owned").rglob("*") if path.is_file()}


def test_unnamed_bytes_go_after_the_grace_period_and_named_ones_stay(store: BlobStore) -> None:
    kept, rubbish = (store.put_bytes(text, now=NOW).id for text in (b"kept", b"rubbish"))
    first = run(store, [kept], day=0)
    assert (first.unnamed, first.waiting, first.due, first.removed) == (1, 1, 0, 0)
    assert run(store, [kept], day=29).removed == 0
    dry = run(store, [kept], day=30, delete=False)
    assert (dry.due, dry.due_bytes, dry.removed) == (1, 7, 0)
    assert store.verify(rubbish)
    last = run(store, [kept], day=30)
    assert (last.removed, last.removed_bytes, last.problems) == (1, 7, ())
    assert owned(store) == {kept.hex}
    assert store.all_ids() == [kept]
    with pytest.raises(BlobNotFound):
        store.open_blob(rubbish)
    assert run(store, [kept], day=31).unnamed == 0


def test_bytes_named_again_or_stored_again_begin_the_grace_anew(store: BlobStore) -> None:
    cid = store.put_bytes(b"once more", now=NOW).id
    run(store, [], day=0)
    run(store, [cid], day=20)
    assert run(store, [], day=31).due == 0
    store.put_bytes(b"once more", now=NOW)
    assert run(store, [], day=61).due == 0
    assert run(store, [], day=91).removed == 1


def test_a_pin_keeps_bytes(store: BlobStore) -> None:
    cid = store.put_bytes(b"on show", now=NOW).id
    run(store, [], day=0)
    add_pin(store, cid, "exhibition", now=NOW)
    assert run(store, [], day=40).unnamed == 0
    assert [(pin.id, pin.name) for pin in list_pins(store)] == [(cid, "exhibition")]
    assert remove_pin(store, cid, "exhibition")
    assert not remove_pin(store, cid, "exhibition")
    assert run(store, [], day=41).waiting == 1
    assert run(store, [], day=71).removed == 1
    with pytest.raises(BlobNotFound):
        add_pin(store, cid, "too late", now=NOW)


def test_a_pin_between_looking_and_removing_keeps_bytes(store: BlobStore) -> None:
    cid = store.put_bytes(b"on show", now=NOW).id
    run(store, [], day=0)
    garbage = Garbage(store, now=NOW + 40 * DAY, grace=GRACE)
    garbage.mark([])
    with store.index.transaction() as conn:  # as another process that has the row `unnamed` still in sight
        conn.execute("INSERT INTO pin VALUES (?, 'x', 'now')", (cid.digest,))
    assert garbage.sweep(delete=True).removed == 0
    assert store.verify(cid)


def test_adopted_files_are_never_touched_and_rows_go_only_with_single_files(store: BlobStore, tmp_path: Path) -> None:
    root = tmp_path / "files"
    for number in range(12):
        path = root / f"box{int(number % 4 == 1)}" / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes([number]) * 10)
    store.define_volume("v", root)
    names = [f"box{int(number % 4 == 1)}/{number}.jpg" for number in range(12)]
    found = {item.relpath: item.id for item in store.adopt_many("v", names, now=NOW) if isinstance(item, AdoptResult)}
    run(store, [], day=0)
    there = run(store, [], day=40)
    assert (there.adopted, there.due, there.removed, there.rows_dropped) == (12, 0, 0, 0)
    assert all((root / name).exists() for name in names)

    (root / "box0/0.jpg").unlink()
    shutil.move(root / "box1", tmp_path / "elsewhere")  # a drive below the volume that is not mounted
    (root / "box1").mkdir()
    one = run(store, [found["box0/0.jpg"]], day=41)
    assert one.rows_dropped == 0  # still named
    run(store, [], day=42)
    last = run(store, [], day=80)
    assert (last.rows_dropped, last.problems) == (1, ())
    (root / "box1").rmdir()
    shutil.move(tmp_path / "elsewhere", root / "box1")
    assert run(store, [], day=81).rows_dropped == 0
    assert len(store.all_ids()) == 11


def test_an_unmounted_volume_is_one_problem_and_drops_nothing(store: BlobStore, tmp_path: Path) -> None:
    root = tmp_path / "files"
    root.mkdir()
    for number in range(20):
        (root / str(number)).write_bytes(bytes([number]) * 10)
    store.define_volume("v", root)
    list(store.adopt_many("v", [str(number) for number in range(20)], now=NOW))
    run(store, [], day=0)
    shutil.rmtree(root)
    root.mkdir()
    report = run(store, [], day=60)
    assert report.rows_dropped == 0
    assert len(report.problems) == 1
    assert "mounted" in report.problems[0]
    assert len(store.all_ids()) == 20


def test_most_of_a_store_does_not_go_unasked(store: BlobStore) -> None:
    for number in range(12):
        store.put_bytes(bytes([number]), now=NOW)
    run(store, [], day=0)
    with pytest.raises(TooMuchGarbage, match="right database"):
        run(store, [], day=60)
    assert len(store.all_ids()) == 12
    assert run(store, [], day=60, even_most=True).removed == 12


def test_a_file_left_by_a_crash_goes_with_the_next_run(store: BlobStore) -> None:
    cid = store.put_bytes(b"left over", now=NOW).id
    run(store, [], day=0)
    stopped = Garbage(store, now=NOW + 40 * DAY, grace=GRACE, unlink=_interrupted)
    stopped.mark([])
    with pytest.raises(KeyboardInterrupt):
        stopped.sweep(delete=True)
    assert store.all_ids() == []
    assert owned(store) == {cid.hex}
    run(store, [], day=41)
    assert owned(store) == set()


def test_a_file_that_cannot_be_removed_is_said_and_tried_again(store: BlobStore) -> None:
    store.put_bytes(b"stays", now=NOW)
    run(store, [], day=0)
    refused = Garbage(store, now=NOW + 40 * DAY, grace=GRACE, unlink=_refused)
    refused.mark([])
    assert "next run" in refused.sweep(delete=True).problems[0]
    run(store, [], day=41)
    assert owned(store) == set()


@pytest.mark.parametrize("how", ["stream", "files"])
def test_bytes_stored_again_while_they_are_swept_are_there(store: BlobStore, tmp_path: Path, how: str) -> None:
    """The file is found under its name, gc removes row and file, and only then the row is committed."""
    data = b"x" * 1000
    cid = store.put_bytes(data, now=NOW).id
    run(store, [], day=0)

    def sweep_between(_hidden: object = None) -> None:
        assert run(store, [], day=60).removed == 1
        assert owned(store) == set()

    real = store._record
    store._record = lambda written, now: (sweep_between(), real(written, now))[1]  # type: ignore[method-assign]
    (tmp_path / "file").write_bytes(data)
    if how == "stream":
        store.put_stream([data], now=NOW, max_bytes=10_000)
    else:
        list(store.put_files([tmp_path / "file"], now=NOW))
    assert store.verify(cid)
    assert not list((store.folder / "staging").iterdir())


@pytest.mark.parametrize("moment", ["before", "at once"])
def test_bytes_that_two_store_while_they_are_swept_are_there_and_their_name_is_durable(
    store: BlobStore, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """gc removes the file, and whoever puts it back finds that another has linked it, and not synced it yet."""
    synced: list[Path] = []
    store.tree.sync = lambda descriptor: synced.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")))
    data = b"x" * 1000
    cid = store.put_bytes(data, now=NOW).id
    run(store, [], day=0)
    place = store.tree.path(cid)
    link, record = os.link, store._record

    def other_links() -> None:
        other = store.folder / "staging" / "other"
        other.write_bytes(data)
        link(other, place)
        other.unlink()
        synced.clear()

    def link_second(source: Path, target: Path) -> None:
        assert target == place
        monkeypatch.setattr(os, "link", link)
        other_links()
        link(source, target)

    def record_late(written: list[Written], now: datetime) -> list[PutResult | None]:
        assert run(store, [], day=60).removed == 1
        assert owned(store) == set()
        if moment == "before":
            other_links()
        else:
            monkeypatch.setattr(os, "link", link_second)
        return record(written, now)

    store._record = record_late  # type: ignore[method-assign]
    assert store.put_bytes(data, now=NOW).id == cid
    assert place.parent in synced
    assert os.link is link
    assert_rows_are_files(store)


def test_threads_that_store_and_sweep_at_once_never_lose_what_was_stored(tmp_path: Path) -> None:
    store, other = BlobStore.open(tmp_path / "store"), BlobStore.open(tmp_path / "store")
    texts = [bytes([number]) * 50 for number in range(20)]
    stop, lost, runs = threading.Event(), list[str](), [0]

    def put() -> None:
        rng = random.Random(1)
        while not stop.is_set():
            before = runs[0]
            cid = store.put_bytes(rng.choice(texts), now=NOW).id
            # Unnamed for less than one whole run: no sweep may have taken it.
            if not store.verify(cid) and runs[0] - before < 2:
                lost.append(cid.hex)

    threads = [threading.Thread(target=put) for _ in range(2)]
    for thread in threads:
        thread.start()
    removed = 0
    try:
        for day in range(0, 20_000, 40):
            removed += run(other, [], day=day, even_most=True).removed
            runs[0] += 1
            if removed > 60:
                break
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert removed > 60
    assert lost == []
    assert_rows_are_files(store)
    store.close()
    other.close()


WORKER = """
import random, sys
from datetime import timedelta
from pathlib import Path
from cas.garbage import Garbage
from cas.store import BlobStore
from conftest import NOW
folder, role = Path(sys.argv[1]), sys.argv[2]
store = BlobStore.open(folder / "store")
if role == "gc":
    removed = 0
    for day in range(0, 40_000, 40):
        garbage = Garbage(store, now=NOW + timedelta(days=day), grace=timedelta(days=30))
        garbage.mark([])
        removed += garbage.sweep(delete=True, even_most=True).removed
        if removed > 100:
            break
    print("ack", removed, flush=True)
else:
    rng = random.Random(role)
    store.define_volume("v", folder / "files")
    names = sorted(path.name for path in (folder / "files").iterdir())
    for _ in range(150):
        if role == "adopt":
            list(store.adopt_many("v", rng.sample(names, 4), now=NOW))
        else:
            list(store.put_files([folder / "files" / name for name in rng.sample(names, 4)], now=NOW))
    print("ack done", flush=True)
"""


@pytest.mark.long
def test_processes_that_store_adopt_and_sweep_at_once_leave_rows_and_files_that_agree(tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    for number in range(20):
        (tmp_path / "files" / str(number)).write_bytes(bytes([number]) * 50)
    roles = ["gc", "gc", "put", "put too", "adopt"]
    children = [kill_harness.start(WORKER, str(tmp_path), role) for role in roles]
    ends = [kill_harness.finish(child) for child in children]
    assert all(status == 0 and acks for acks, status in ends)
    assert sum(int(acks[0]) for acks, _ in ends[:2]) > 0
    store = BlobStore.open(tmp_path / "store")
    assert_rows_are_files(store)
    assert len(store.index.select("SELECT 1 FROM location WHERE volume = 'v'")) == 20
    store.close()


def assert_rows_are_files(store: BlobStore) -> None:
    rows = {row["sha"].hex() for row in store.index.select("SELECT sha FROM location WHERE volume = ''")}
    assert rows == owned(store)
    assert all(store.verify(cid) for cid in store.all_ids())
    assert not list((store.folder / "staging").iterdir())


def _interrupted(_path: Path) -> None:
    raise KeyboardInterrupt


def _refused(path: Path) -> None:
    raise PermissionError(13, "Permission denied", str(path))
