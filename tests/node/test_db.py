"""The database: durable group commits, isolation of failures, migrations."""

import asyncio
import sqlite3
from pathlib import Path

import pytest

from node.storage.db import Database, DatabaseError, connect, migrate, migrations, schema_version


@pytest.fixture
def db(tmp_path: Path):
    database = Database.open(tmp_path / "node.sqlite")
    yield database
    database.close()


async def test_many_writes_share_commits_and_all_are_there(db: Database) -> None:
    def insert(number: int):
        return lambda conn: conn.execute("INSERT INTO meta VALUES (?, 'x')", (str(number),)).rowcount

    done = await asyncio.gather(*(db.write(insert(number)) for number in range(300)))
    assert sum(done) == 300
    assert await db.read(lambda conn: conn.execute("SELECT count(*) FROM meta").fetchone()[0]) == 300


async def test_one_failing_write_takes_none_of_its_group_with_it(db: Database) -> None:
    def insert(key: str):
        return lambda conn: conn.execute("INSERT INTO meta VALUES (?, 'x')", (key,))

    outcomes = await asyncio.gather(*(db.write(insert(key)) for key in ("a", "b", "a", "c")), return_exceptions=True)
    assert [isinstance(item, Exception) for item in outcomes] == [False, False, True, False]
    rows = await db.read(lambda conn: [row[0] for row in conn.execute("SELECT key FROM meta ORDER BY key")])
    assert rows == ["a", "b", "c"]


def test_a_transaction_that_raises_leaves_nothing(db: Database) -> None:
    with pytest.raises(RuntimeError), db.transaction() as conn:
        conn.execute("INSERT INTO meta VALUES ('a', 'x')")
        raise RuntimeError
    with db.reader() as conn:
        assert conn.execute("SELECT count(*) FROM meta").fetchone()[0] == 0


def test_a_reader_cannot_write(db: Database) -> None:
    with db.reader() as conn, pytest.raises(sqlite3.OperationalError):
        conn.execute("INSERT INTO meta VALUES ('a', 'x')")


def test_a_runaway_read_is_stopped(db: Database) -> None:
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
    with db.reader(limit_s=0.05) as conn, pytest.raises(sqlite3.OperationalError, match="interrupted"):
        conn.execute(endless).fetchone()


def test_writes_are_synchronous_and_in_wal(tmp_path: Path) -> None:
    migrate(tmp_path / "n.sqlite")
    conn = connect(tmp_path / "n.sqlite")
    assert conn.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
    assert conn.execute("PRAGMA synchronous").fetchone()[0] == 2  # FULL
    conn.close()


def test_a_newer_database_is_refused_and_untouched(tmp_path: Path) -> None:
    path = tmp_path / "n.sqlite"
    migrate(path)
    conn = sqlite3.connect(path)
    conn.execute("PRAGMA user_version=9999")
    conn.close()
    with pytest.raises(DatabaseError, match="newer version"):
        Database.open(path)
    assert schema_version(path) == 9999


def test_a_file_that_is_no_database_is_said(tmp_path: Path) -> None:
    (tmp_path / "n.sqlite").write_bytes(b"not a database at all" * 100)
    with pytest.raises(DatabaseError, match="cannot be used"):
        Database.open(tmp_path / "n.sqlite")


def test_migrations_are_numbered_without_gaps_and_run_once(tmp_path: Path) -> None:
    numbers = [number for number, _ in migrations()]
    assert numbers == list(range(1, len(numbers) + 1))
    assert migrate(tmp_path / "n.sqlite") == numbers
    assert migrate(tmp_path / "n.sqlite") == []


def test_writing_after_close_is_an_error_not_a_hang(tmp_path: Path) -> None:
    database = Database.open(tmp_path / "n.sqlite")
    database.close()
    with pytest.raises(DatabaseError, match="closed"):
        database.submit(lambda conn: None)
