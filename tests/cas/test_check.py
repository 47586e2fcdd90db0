"""fsck: each kind of disagreement is found, said once, and mended only when nothing can be lost."""

import os
import shutil
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from conftest import NOW

from cas.check import Check, Finding
from cas.ids import ContentId
from cas.store import BlobStore


@pytest.fixture
def store(tmp_path: Path) -> Iterator[BlobStore]:
    opened = BlobStore.open(tmp_path / "store")
    root = tmp_path / "files"
    root.mkdir()
    for number in range(12):
        (root / f"{number}.jpg").write_bytes(bytes([number]) * 100)
    opened.define_volume("v", root)
    list(opened.adopt_many("v", [f"{number}.jpg" for number in range(12)], now=NOW))
    for number in range(12):
        opened.put_bytes(bytes([100 + number]) * 100, now=NOW)
    yield opened
    opened.close()


def findings(store: BlobStore, *, fix: bool = False, read: bool = False) -> list[Finding]:
    return list(Check(store, now=NOW + timedelta(days=400), fix=fix, read=read).run())


def codes(found: list[Finding]) -> list[str]:
    return sorted(item.code for item in found)


def test_a_sound_store_has_no_findings(store: BlobStore) -> None:
    assert findings(store) == []
    assert findings(store, fix=True, read=True) == []


def test_owned_bytes_that_are_gone_short_or_damaged(store: BlobStore) -> None:
    gone, short, damaged = (store.tree.path(ContentId.of(bytes([100 + n]) * 100)) for n in range(3))
    gone.unlink()
    short.chmod(0o644)
    short.write_bytes(b"x")
    damaged.chmod(0o644)
    damaged.write_bytes(b"y" * 100)
    assert codes(findings(store)) == ["bytes-missing", "size"]
    assert codes(findings(store, read=True)) == ["bytes-missing", "damaged", "size"]
    assert not any(item.is_fixed for item in findings(store, fix=True))
    assert all(f"hash://sha256/{path.name}" in {item.place for item in findings(store)} for path in (gone, short))


def test_files_without_a_row_are_taken_back_or_put_away_and_never_deleted(store: BlobStore) -> None:
    whole, torn = ContentId.of(b"whole"), ContentId.of(b"not these bytes")
    for cid, data in ((whole, b"whole"), (torn, b"torn")):
        path = store.tree.path(cid)
        path.parent.mkdir(parents=True)
        path.write_bytes(data)
    (store.folder / "owned" / "note.txt").write_text("whose is this?")
    (store.folder / "owned" / "ff").mkdir(exist_ok=True)
    shutil.copy(store.tree.path(whole), store.folder / "owned" / "ff" / whole.hex)
    expected = ["file-without-row", "stray-file", "stray-file", "torn-file"]
    assert codes(findings(store)) == expected
    assert store.stat(whole) is None
    fixed = findings(store, fix=True)
    assert codes(fixed) == expected
    assert all(item.is_fixed for item in fixed)
    assert store.verify(whole)
    assert len(list((store.folder / "lost+found").iterdir())) == 3
    assert findings(store) == []


def test_what_another_process_may_be_storing_is_not_judged(store: BlobStore) -> None:
    path = store.tree.path(ContentId.of(b"on its way"))
    path.parent.mkdir(parents=True)
    path.write_bytes(b"on its way")
    os.utime(path, (NOW.timestamp(), NOW.timestamp()))
    (store.folder / "staging" / "part").write_bytes(b"on")
    other = BlobStore.open(store.folder)
    soon = NOW + timedelta(seconds=10)
    assert list(Check(store, now=soon, fix=True).run()) == []
    other.close()
    assert codes(list(Check(store, now=soon).run())) == ["file-without-row", "leftover"]
    assert all(item.is_fixed for item in Check(store, now=soon, fix=True).run())
    assert findings(store) == []


def test_adopted_files_that_are_gone_or_changed_are_said_and_left(store: BlobStore, tmp_path: Path) -> None:
    (tmp_path / "files" / "1.jpg").unlink()
    (tmp_path / "files" / "2.jpg").write_bytes(b"other")
    found = findings(store, fix=True)
    assert codes(found) == ["file-changed", "file-missing"]
    assert {item.place for item in found} == {"v:1.jpg", "v:2.jpg"}
    assert not any(item.is_fixed for item in found)
    assert len(store.index.select("SELECT 1 FROM location WHERE volume = 'v'")) == 12


def test_a_volume_that_is_not_there_is_one_finding(store: BlobStore, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "files")
    assert codes(findings(store, fix=True)) == ["volume"]
    (tmp_path / "files").mkdir()
    assert codes(findings(store, fix=True)) == ["volume"]
    with store.index.transaction() as conn:
        conn.execute("DELETE FROM volume")
    assert codes(findings(store)) == ["volume-unknown"]


def test_rows_that_do_not_fit_together_are_mended(store: BlobStore) -> None:
    with store.index.transaction() as conn:
        conn.execute("INSERT INTO blob VALUES (?, 3, 'now')", (ContentId.of(b"???").digest,))
        conn.execute("DELETE FROM blob WHERE sha = ?", (ContentId.of(bytes([100]) * 100).digest,))
    assert codes(findings(store)) == ["blob-without-place", "place-without-blob"]
    assert store.counts()[0] == 24
    assert all(item.is_fixed for item in findings(store, fix=True))
    assert findings(store) == []
    assert len(store.all_ids()) == 24
    assert store.stat(ContentId.of(b"???")) is None


def test_a_withdrawn_copy_without_a_row_is_removed(store: BlobStore) -> None:
    cid = store.put_bytes(b"must go", now=NOW).id
    store.withdrawals.withdraw(cid, reason="x", told=True, at="now", new_key=b"k" * 32)
    assert codes(findings(store)) == ["withdrawn-file"]
    assert [item.is_fixed for item in findings(store, fix=True)] == [True]
    assert not store.tree.path(cid).exists()
