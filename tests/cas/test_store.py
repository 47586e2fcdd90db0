"""The blob store: owned and adopted bytes, and everything that may happen to a file."""

import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import NOW
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

import cas.store
from cas.durable import owned_path
from cas.errors import BlobChanged, BlobNotFound, BlobRefused, StoreFailed, VolumeProblem
from cas.ids import ContentId
from cas.store import AdoptFailure, AdoptResult, BlobStore, PutResult


@pytest.fixture
def store(tmp_path: Path) -> Iterator[BlobStore]:
    made = BlobStore.open(tmp_path / "store")
    yield made
    made.close()


@pytest.fixture
def volume(store: BlobStore, tmp_path: Path) -> Path:
    root = tmp_path / "scans"
    root.mkdir()
    store.define_volume("scans", root)
    return root


def read(store: BlobStore, cid: ContentId) -> bytes:
    with store.open_blob(cid) as blob:
        return blob.pread(0, blob.size)


def test_put_bytes_are_there_once_under_their_hash(store: BlobStore) -> None:
    first = store.put_bytes(b"leaf", now=NOW)
    assert first == PutResult(id=ContentId.of(b"leaf"), size=4, is_new=True)
    assert store.put_bytes(b"leaf", now=NOW).is_new is False
    assert read(store, first.id) == b"leaf"
    path = owned_path(store.folder / "owned", first.id)
    assert path.read_bytes() == b"leaf"
    assert path.stat().st_mode & 0o222 == 0
    assert not list((store.folder / "staging").iterdir())


def test_a_stream_that_is_too_long_or_another_is_refused_and_leaves_nothing(store: BlobStore) -> None:
    with pytest.raises(BlobRefused, match="more than 10 bytes"):
        store.put_stream([b"x" * 6, b"y" * 6], now=NOW, max_bytes=10)
    with pytest.raises(BlobRefused, match="expected"):
        store.put_bytes(b"a", now=NOW, expected=ContentId.of(b"b"))
    assert store.counts() == (0, 0)
    assert not [path for path in (store.folder / "owned").rglob("*") if path.is_file()]
    assert not list((store.folder / "staging").iterdir())


def test_copying_many_reports_each(store: BlobStore, tmp_path: Path) -> None:
    paths = []
    for number in range(20):
        path = tmp_path / f"{number}.bin"
        path.write_bytes(b"x" * number)
        paths.append(path)
    results = list(store.put_files([*paths, tmp_path / "absent"], now=NOW))
    assert sum(isinstance(item, PutResult) for item in results) == 20
    assert [item.relpath for item in results if isinstance(item, AdoptFailure)] == [str(tmp_path / "absent")]


def test_adopted_files_stay_and_are_read_again_only_when_they_changed(store: BlobStore, volume: Path) -> None:
    (volume / "a.tif").write_bytes(b"one")
    assert store.adopt("scans", "a.tif", now=NOW).outcome == "new"
    assert store.adopt("scans", "a.tif", now=NOW).outcome == "unchanged"
    (volume / "a.tif").write_bytes(b"other")
    again = store.adopt("scans", "a.tif", now=NOW)
    assert (again.outcome, again.previous) == ("changed", ContentId.of(b"one"))
    (volume / "a.tif").rename(volume / "b.tif")
    assert store.adopt("scans", "b.tif", now=NOW).outcome == "moved"
    assert read(store, ContentId.of(b"other")) == b"other"


@pytest.mark.parametrize("change", ["content", "longer, time put back", "same size", "replaced", "gone", "touched"])
def test_a_changed_file_is_never_served_under_the_old_id(store: BlobStore, volume: Path, change: str) -> None:
    path = volume / "a.tif"
    path.write_bytes(b"one")
    cid = store.adopt("scans", "a.tif", now=NOW).id
    stat = path.stat()
    if change == "content":
        path.write_bytes(b"longer")
    elif change == "longer, time put back":
        path.write_bytes(b"longer")
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    elif change == "same size":
        path.write_bytes(b"two")
    elif change == "replaced":
        (volume / "n").write_bytes(b"two")
        os.utime(volume / "n", ns=(stat.st_atime_ns, stat.st_mtime_ns))
        (volume / "n").rename(path)
    elif change == "gone":
        path.unlink()
    else:
        os.utime(path, ns=(1, 1))
    with pytest.raises(BlobChanged):
        store.open_blob(cid)
    assert store.stat(cid) is not None  # nothing is forgotten: it may come back


def test_a_second_place_of_the_same_bytes_is_used_when_the_first_broke(store: BlobStore, volume: Path) -> None:
    for name in ("a", "b"):
        (volume / name).write_bytes(b"same")
    cid = {item.id for item in store.adopt_many("scans", ["a", "b"], now=NOW) if isinstance(item, AdoptResult)}.pop()
    assert store.counts() == (1, 4)
    (volume / "a").write_bytes(b"else")
    assert read(store, cid) == b"same"


@pytest.mark.parametrize(
    "path", ["../outside", "/etc/passwd", "a/../../outside", "", "link", "folder", "pipe", "absent", "nul\0"]
)
def test_what_is_not_a_file_of_the_volume_is_refused(store: BlobStore, volume: Path, path: str) -> None:
    (volume.parent / "outside").write_bytes(b"secret")
    (volume / "link").symlink_to(volume.parent / "outside")
    (volume / "folder").mkdir()
    os.mkfifo(volume / "pipe")
    [result] = list(store.adopt_many("scans", [path], now=NOW))
    assert isinstance(result, AdoptFailure)
    assert result.reason
    assert store.counts() == (0, 0)


def test_a_link_put_in_place_later_does_not_lead_out(store: BlobStore, volume: Path) -> None:
    (volume / "a").write_bytes(b"one")
    cid = store.adopt("scans", "a", now=NOW).id
    (volume.parent / "outside").write_bytes(b"one")
    (volume / "a").unlink()
    (volume / "a").symlink_to(volume.parent / "outside")
    with pytest.raises(BlobChanged):
        store.open_blob(cid)


def test_a_network_volume_is_recognised_by_size_and_time(store: BlobStore, volume: Path) -> None:
    store.define_volume("scans", volume, identity="size+mtime")
    (volume / "a").write_bytes(b"one")
    cid = store.adopt("scans", "a", now=NOW).id
    stat = (volume / "a").stat()
    (volume / "copy").write_bytes(b"one")
    os.utime(volume / "copy", ns=(stat.st_atime_ns, stat.st_mtime_ns))
    (volume / "copy").rename(volume / "a")  # another inode, as after a remount
    assert read(store, cid) == b"one"


def test_an_empty_mount_is_a_problem_not_a_deletion(store: BlobStore, volume: Path) -> None:
    (volume / "a").write_bytes(b"one")
    cid = store.adopt("scans", "a", now=NOW).id
    (volume / "a").rename(volume.parent / "away")
    assert any("is empty" in text for text in store.volume_problems())
    assert store.stat(cid) is not None
    (volume.parent / "away").rename(volume / "a")
    assert store.volume_problems() == []
    assert read(store, cid) == b"one"
    volume.rename(volume.parent / "unmounted")
    assert any("cannot be read" in text for text in store.volume_problems())


def test_a_flipped_byte_is_found_by_verify(store: BlobStore) -> None:
    cid = store.put_bytes(b"leaf", now=NOW).id
    path = owned_path(store.folder / "owned", cid)
    path.chmod(0o600)
    path.write_bytes(b"lead")
    assert store.verify(cid) is False


def test_a_file_that_is_written_to_while_it_is_adopted_is_refused(
    store: BlobStore, volume: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (volume / "a").write_bytes(b"same length")
    real = cas.store.hash_descriptor

    def slow(*arguments: Any, **options: Any) -> Any:
        found = real(*arguments, **options)
        os.utime(volume / "a", ns=(7, 7))
        return found

    monkeypatch.setattr(cas.store, "hash_descriptor", slow)
    with pytest.raises(BlobRefused, match="changed while it was read"):
        store.adopt("scans", "a", now=NOW)
    assert store.counts() == (0, 0)


def test_an_owned_copy_that_was_cut_short_is_not_given_out(store: BlobStore) -> None:
    cid = store.put_bytes(b"whole", now=NOW).id
    path = store.tree.path(cid)
    path.chmod(0o644)
    path.write_bytes(b"whol")
    with pytest.raises(BlobChanged):
        store.open_blob(cid)


def test_unknown_bytes_and_unusable_folders_are_said(store: BlobStore, tmp_path: Path) -> None:
    with pytest.raises(BlobNotFound):
        store.open_blob(ContentId.of(b"nothing"))
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreFailed):
        BlobStore.open(tmp_path / "file" / "x")
    with pytest.raises(BlobRefused):
        store.adopt("nowhere", "a", now=NOW)
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "index.sqlite").write_bytes(b"no database" * 100)
    with pytest.raises(StoreFailed):
        BlobStore.open(tmp_path / "bad")


def test_leftovers_of_an_interrupted_copy_are_swept(store: BlobStore) -> None:
    (store.folder / "staging" / "leftover").write_bytes(b"half")
    assert store.sweep_staging() == 1


def test_nothing_is_swept_while_another_store_is_open(store: BlobStore) -> None:
    (store.folder / "staging" / "being written").write_bytes(b"half")
    other = BlobStore.open(store.folder)
    assert (store.sweep_staging(), other.sweep_staging()) == (0, 0)
    other.close()
    assert store.sweep_staging() == 1
    again = BlobStore.open(store.folder)  # the refusal did not give the store's own presence away
    assert again.sweep_staging() == 0
    again.close()


@pytest.mark.parametrize("damage", ["flipped", "short", "empty"])
def test_the_same_bytes_again_heal_a_damaged_copy(store: BlobStore, damage: str) -> None:
    data = bytes(range(256)) * 100
    cid = store.put_bytes(data, now=NOW).id
    path = owned_path(store.folder / "owned", cid)
    path.chmod(0o600)
    path.write_bytes({"flipped": b"\x01" + data[1:], "short": data[:-1], "empty": b""}[damage])
    assert store.verify(cid) is False
    assert store.put_bytes(data, now=NOW).is_new is False
    assert store.verify(cid) is True
    assert not list((store.folder / "staging").iterdir())


def test_the_folder_of_a_file_is_durable_even_when_another_made_it(tmp_path: Path) -> None:
    synced: list[str] = []

    def note(descriptor: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))

    cid = ContentId.of(b"leaf")
    shard = owned_path(tmp_path / "s" / "owned", cid).parent
    shard.mkdir(parents=True)  # by a thread or a process that has not come to its fsync
    store = BlobStore.open(tmp_path / "s", sync=note)
    store.put_bytes(b"leaf", now=NOW)
    assert [name for name in synced if "staging" not in name] == [
        str(shard.parent.parent), str(shard.parent), str(shard)
    ]  # fmt: skip
    store.close()


def test_a_name_that_is_not_utf8_fails_alone(store: BlobStore, volume: Path) -> None:
    bad = os.fsdecode(b"M\xfcller.tif")
    (volume / bad).write_bytes(b"x")
    (volume / "good").write_bytes(b"y")
    first, second = store.adopt_many("scans", [bad, "good"], now=NOW)
    assert isinstance(first, AdoptFailure)
    assert "UTF-8" in first.reason
    assert isinstance(second, AdoptResult)


def test_touched_files_are_read_again_and_are_unchanged(store: BlobStore, volume: Path) -> None:
    (volume / "a").write_bytes(b"one")
    cid = store.adopt("scans", "a", now=NOW).id
    os.utime(volume / "a", ns=(1, 1))
    assert store.adopt("scans", "a", now=NOW).outcome == "unchanged"
    assert read(store, cid) == b"one"


def test_bytes_that_lie_nowhere_any_more_have_no_row(store: BlobStore, volume: Path) -> None:
    (volume / "a").write_bytes(b"one")
    (volume / "b").write_bytes(b"one")
    for name in ("a", "b"):
        old = store.adopt("scans", name, now=NOW).id
    for name, left in (("a", 2), ("b", 1)):
        (volume / name).write_bytes(b"other")
        store.adopt("scans", name, now=NOW)
        assert store.counts()[0] == left
    with pytest.raises(BlobNotFound):
        store.open_blob(old)
    assert store.all_ids() == [ContentId.of(b"other")]


def test_a_volume_that_another_process_moved_is_found(store: BlobStore, volume: Path) -> None:
    (volume / "a").write_bytes(b"one")
    cid = store.adopt("scans", "a", now=NOW).id
    other = BlobStore.open(store.folder)
    volume.rename(volume.parent / "elsewhere")
    other.define_volume("scans", volume.parent / "elsewhere")
    assert read(store, cid) == b"one"
    other.close()


def test_adopting_from_a_drive_that_is_gone_stops_with_its_name(store: BlobStore, volume: Path) -> None:
    (volume / "a").write_bytes(b"one")
    cid = store.adopt("scans", "a", now=NOW).id
    (volume / "a").rename(volume.parent / "away")
    with pytest.raises(VolumeProblem, match="scans.*is empty"):
        list(store.adopt_many("scans", ["a"], now=NOW))
    assert store.stat(cid) is not None


def test_another_tree_in_the_place_of_a_volume_is_said(store: BlobStore, volume: Path) -> None:
    names = [f"{number}.tif" for number in range(20)]
    for name in names:
        (volume / name).write_bytes(name.encode())
    list(store.adopt_many("scans", names, now=NOW))
    for name in names[:9]:
        (volume / name).write_bytes(b"restored from a backup")
    assert store.volume_problems() == []  # a few changed files are changed files
    for name in names[9:12]:
        (volume / name).unlink()
    [problem] = store.volume_problems()
    assert "11 of 19 sampled files" in problem


def test_a_change_in_place_after_opening_is_noticed(store: BlobStore, volume: Path) -> None:
    (volume / "a").write_bytes(b"one")
    with store.open_blob(store.adopt("scans", "a", now=NOW).id) as blob:
        blob.check_unchanged()
        (volume / "a").write_bytes(b"two")
        with pytest.raises(BlobChanged):
            blob.check_unchanged()


def test_results_come_in_order_and_stop_with_their_listener(store: BlobStore, volume: Path) -> None:
    names = [f"{number:03}" for number in range(200)]
    for name in names:
        (volume / name).write_bytes(name.encode())
    results = store.adopt_many("scans", iter(names), now=NOW)
    assert [next(results).relpath] == ["000"]
    results.close()  # type: ignore[attr-defined]
    assert [item.relpath for item in store.adopt_many("scans", names, now=NOW)] == names


def test_readers_do_not_wait_for_a_writer(store: BlobStore) -> None:
    cid = store.put_bytes(b"leaf", now=NOW).id
    other = sqlite3.connect(store.folder / "index.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with store.index._lock:  # as during a commit of this process
        assert read(store, cid) == b"leaf"
    other.execute("ROLLBACK")
    other.close()


def test_a_damaged_index_is_said_and_nothing_of_sqlite_leaks(store: BlobStore) -> None:
    conn = sqlite3.connect(store.folder / "index.sqlite", isolation_level=None)
    conn.execute("DROP TABLE location")
    conn.close()
    for call in (
        lambda: store.stat(ContentId.of(b"x")), lambda: store.open_blob(ContentId.of(b"x")), lambda: store.put_bytes(b"x", now=NOW)
    ):  # fmt: skip
        with pytest.raises(StoreFailed):
            call()


def test_an_fsync_that_fails_is_reported_as_not_stored(tmp_path: Path) -> None:
    def failing(descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    store = BlobStore.open(tmp_path / "s", sync=failing)
    with pytest.raises(StoreFailed, match="Input/output error"):
        store.put_bytes(b"x", now=NOW)
    assert store.counts() == (0, 0)
    store.close()


class StoreAgainstADict(RuleBasedStateMachine):
    """Any course of puts, adoptions, changes and reopenings, compared with a dict."""

    ids = Bundle("ids")
    files = Bundle("files")

    def __init__(self) -> None:
        super().__init__()
        import tempfile

        self.folder = Path(tempfile.mkdtemp(prefix="store-"))
        self.root = self.folder / "v"
        self.root.mkdir()
        self.store = BlobStore.open(self.folder / "s")
        self.store.define_volume("v", self.root)
        self.owned: dict[ContentId, bytes] = {}
        self.adopted: dict[str, bytes] = {}
        self.count = 0

    @rule(target=ids, data=st.binary(max_size=40))
    def put(self, data: bytes) -> ContentId:
        cid = self.store.put_bytes(data, now=NOW).id
        self.owned[cid] = data
        return cid

    @rule(target=files, data=st.binary(max_size=40))
    def adopt(self, data: bytes) -> str:
        self.count += 1
        name = f"f{self.count}"
        (self.root / name).write_bytes(data)
        assert self.store.adopt("v", name, now=NOW).id == ContentId.of(data)
        self.adopted[name] = data
        return name

    @rule(name=files, data=st.binary(min_size=41, max_size=50))
    def change(self, name: str, data: bytes) -> None:
        if name in self.adopted:
            (self.root / name).write_bytes(data)
            self.store.adopt("v", name, now=NOW)
            self.adopted[name] = data

    @rule(name=consumes(files))
    def remove(self, name: str) -> None:
        (self.root / name).unlink()
        self.adopted.pop(name, None)

    @rule()
    def reopen(self) -> None:
        self.store.close()
        self.store = BlobStore.open(self.folder / "s")

    @invariant()
    def everything_is_there_and_right(self) -> None:
        for cid, data in self.owned.items():
            assert read(self.store, cid) == data
        for data in self.adopted.values():
            assert read(self.store, ContentId.of(data)) == data

    def teardown(self) -> None:
        import shutil

        self.store.close()
        shutil.rmtree(self.folder)


TestStoreAgainstADict = StoreAgainstADict.TestCase
TestStoreAgainstADict.settings = settings(max_examples=15, stateful_step_count=12, deadline=None)
