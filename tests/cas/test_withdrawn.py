"""Withdrawn bytes: marked without their name, out of every table, refused at every door, safe against kills."""

import sqlite3
from pathlib import Path

import pytest
from conftest import NOW

from cas.errors import BlobNotFound, BlobWithdrawn
from cas.ids import ContentId
from cas.store import AdoptFailure, AdoptResult, BlobStore, PutResult

KEY = bytes(range(32))
DATA = b"what must go" * 50
CID = ContentId.of(DATA)


@pytest.fixture
def store(tmp_path: Path):  # type: ignore[no-untyped-def]
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/a.jpg").write_bytes(DATA)
    (tmp_path / "tree/b.jpg").write_bytes(b"other")
    store = BlobStore.open(tmp_path / "blobs")
    store.define_volume("v", tmp_path / "tree")
    yield store
    store.close()


def withdraw(store: BlobStore, *, told: bool = True):  # type: ignore[no-untyped-def]
    return store.withdrawals.withdraw(CID, reason="asked for", told=told, at="2026-11-24T12:00:00Z", new_key=KEY)


def rows_about(store: BlobStore, tmp_path: Path) -> list[str]:
    """Every value of every table that holds the hash, raw or as text."""
    found = []
    with sqlite3.connect(tmp_path / "blobs/index.sqlite") as conn:
        for (table,) in conn.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            for row in conn.execute(f"SELECT * FROM {table}"):
                text = "|".join(value.hex() if isinstance(value, bytes) else str(value) for value in row)
                if CID.hex in text:
                    found.append(table)
    conn.close()
    return found


def test_owned_bytes_are_gone_and_never_come_back(store: BlobStore, tmp_path: Path) -> None:
    store.put_bytes(DATA, now=NOW)
    path = tmp_path / "blobs/owned" / CID.hex[:2] / CID.hex[2:4] / CID.hex
    assert path.exists()
    todo = withdraw(store)
    assert rows_about(store, tmp_path) == ["withdrawn"]  # what is left to do, until it is done
    with pytest.raises(BlobWithdrawn):
        store.open_blob(CID)
    assert store.erase(todo) == 1
    assert not path.exists()
    store.withdrawals.close(CID)
    assert rows_about(store, tmp_path) == []
    with pytest.raises(BlobWithdrawn):
        store.put_bytes(DATA, now=NOW)
    assert not path.exists()
    assert list((tmp_path / "blobs/staging").iterdir()) == []
    [result] = store.put_files([tmp_path / "tree/a.jpg"], now=NOW)
    assert isinstance(result, AdoptFailure)
    assert result.is_withdrawn
    assert [(item.reason, item.state) for item in store.withdrawals.every()] == [("asked for", "closed")]


def test_adopted_files_stay_and_are_blocked(store: BlobStore, tmp_path: Path) -> None:
    assert len(list(store.adopt_many("v", ["a.jpg", "b.jpg"], now=NOW))) == 2
    store.erase(withdraw(store))
    store.withdrawals.close(CID)
    assert (tmp_path / "tree/a.jpg").read_bytes() == DATA
    with pytest.raises(BlobWithdrawn):
        store.open_blob(CID)
    first, second = store.adopt_many("v", ["a.jpg", "b.jpg"], now=NOW)
    assert isinstance(first, AdoptFailure)
    assert first.is_withdrawn
    assert isinstance(second, AdoptResult)
    assert rows_about(store, tmp_path) == []
    assert store.stat(ContentId.of(b"other")) is not None


def test_a_withdrawal_that_was_interrupted_says_again_what_is_left(store: BlobStore, tmp_path: Path) -> None:
    store.put_bytes(DATA, now=NOW)
    todo = withdraw(store)
    store.close()
    again = BlobStore.open(tmp_path / "blobs")
    assert again.withdrawals.unfinished() == [todo]
    assert withdraw(again) == todo
    assert again.erase(todo) == 1
    assert again.erase(todo) == 0
    again.withdrawals.close(CID)
    assert again.withdrawals.unfinished() == []
    again.withdrawals.clean()
    assert [item.state for item in again.withdrawals.every()] == ["clean"]
    again.close()


def test_another_store_on_the_folder_knows_at_once(store: BlobStore, tmp_path: Path) -> None:
    store.adopt("v", "a.jpg", now=NOW)
    other = BlobStore.open(tmp_path / "blobs")
    assert not other.is_withdrawn(CID)
    other.open_blob(CID).close()
    withdraw(store)
    assert other.is_withdrawn(CID)
    with pytest.raises(BlobWithdrawn):
        other.open_blob(CID)
    other.close()


@pytest.mark.parametrize("how", ["stream", "files"])
def test_a_copy_that_was_on_its_way_is_refused_and_leaves_no_file(
    store: BlobStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """The check before the copy saw nothing; the withdrawal came; the commit of the copy must still refuse."""
    monkeypatch.setattr(BlobStore, "_refuse_withdrawn", lambda *_: None)
    withdraw(store)
    if how == "stream":
        with pytest.raises(BlobWithdrawn):
            store.put_bytes(DATA, now=NOW)
    else:
        for name, data in (("good", b"good"), ("bad", DATA)):
            (tmp_path / name).write_bytes(data)
        good, bad = store.put_files([tmp_path / "good", tmp_path / "bad"], now=NOW)
        assert isinstance(good, PutResult)
        assert isinstance(bad, AdoptFailure)
        assert (bad.relpath, bad.is_withdrawn) == (str(tmp_path / "bad"), True)
    assert store.stat(CID) is None
    assert not store.tree.path(CID).exists()
    assert not list((store.folder / "staging").iterdir())
    with pytest.raises(BlobNotFound):
        store.open_blob(CID)


def test_the_mark_does_not_name_the_bytes(store: BlobStore, tmp_path: Path) -> None:
    store.put_bytes(DATA, now=NOW)
    store.erase(withdraw(store))
    store.withdrawals.close(CID)
    marks = [row["mark"] for row in store.index.select("SELECT mark FROM withdrawn")]
    assert marks != [CID.digest]
    assert len(marks[0]) == 32
