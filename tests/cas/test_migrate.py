"""The index of every released schema opens with today's program, and nothing in it is lost."""

import sqlite3
from pathlib import Path

import pytest
from conftest import NOW, ROOT

from cas.errors import StoreFailed
from cas.ids import ContentId
from cas.index import BlobIndex
from cas.migrate import index_migrations
from cas.store import BlobStore

FIXTURES = sorted((ROOT / "tests" / "fixtures").glob("blob-index-*.sql"))


def released(tmp_path: Path, fixture: Path) -> Path:
    path = tmp_path / "index.sqlite"
    conn = sqlite3.connect(path)
    conn.executescript(fixture.read_text("utf-8"))
    conn.close()
    return path


@pytest.mark.parametrize("fixture", FIXTURES, ids=lambda path: path.stem)
def test_every_released_index_is_migrated_with_all_its_rows(tmp_path: Path, fixture: Path) -> None:
    path = released(tmp_path, fixture)
    index = BlobIndex.open(path)
    assert index.counts() == (3, 16)
    owned, scan = ContentId.of(b"owned"), ContentId.of(b"second")
    assert [item.volume for item in index.locations(owned)] == [""]
    assert [(item.volume, item.path) for item in index.locations(scan)] == [("herbarium", "b.jpg")]
    assert index.volumes()["herbarium"].root == Path("/data/herbarium")
    index.close()
    conn = sqlite3.connect(path)
    assert conn.execute("PRAGMA user_version").fetchone()[0] == index_migrations()[-1][0]
    assert conn.execute("SELECT count(*) FROM location WHERE checked LIKE '2026-01-01%'").fetchone()[0] == 3
    conn.close()
    number = int(fixture.stem.rpartition("-")[2])
    (aside,) = tmp_path.glob("index.sqlite.before-schema-*")
    copy = sqlite3.connect(aside)
    assert copy.execute("PRAGMA user_version").fetchone()[0] == number
    assert copy.execute("SELECT count(*) FROM location").fetchone()[0] == 3
    copy.close()


def test_there_is_a_fixture_of_every_released_schema() -> None:
    numbers = [number for number, _ in index_migrations()]
    assert numbers == list(range(1, len(numbers) + 1))
    assert [path.stem for path in FIXTURES] == [f"blob-index-{number}" for number in numbers[:-1]]


def test_an_index_of_a_newer_program_is_refused_and_untouched(tmp_path: Path) -> None:
    store = BlobStore.open(tmp_path / "s")
    store.put_bytes(b"x", now=NOW)
    store.close()
    conn = sqlite3.connect(tmp_path / "s" / "index.sqlite")
    conn.execute("PRAGMA user_version=9999")
    conn.close()
    with pytest.raises(StoreFailed, match="newer version"):
        BlobStore.open(tmp_path / "s")
