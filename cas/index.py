"""The index of a blob store: which bytes are here, and where. SQLite, WAL, ``synchronous=FULL``.

Invariants:
- A row exists only for bytes that were on disk before it was committed.
- The same bytes at several places are one blob with several locations.
- Every statement runs under one lock: the index has one connection and one writer.

It leaves out: files (``cas.store``).
"""

import sqlite3
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, Self

from cas.errors import StoreFailed
from cas.ids import ContentId

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS blob (sha BLOB PRIMARY KEY, size INTEGER NOT NULL, verified TEXT NOT NULL)
  STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS location (
  volume TEXT NOT NULL, path TEXT NOT NULL, sha BLOB NOT NULL,
  size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, ino INTEGER NOT NULL, dev INTEGER NOT NULL,
  PRIMARY KEY (volume, path)) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS location_sha ON location (sha);
CREATE TABLE IF NOT EXISTS volume (name TEXT PRIMARY KEY, root TEXT NOT NULL, identity TEXT NOT NULL)
  STRICT, WITHOUT ROWID;
"""
OWNED: Final = ""
"""Volume name of owned blobs; their path is derived from the hash."""
_SCHEMA_NUMBER: Final = 1

Identity = Literal["inode", "size+mtime"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Location:
    """Where some bytes lie, and by what the file is recognised."""

    volume: str
    path: str
    sha: bytes
    size: int
    mtime_ns: int
    ino: int
    dev: int


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeRow:
    """A tree of the institution's files."""

    name: str
    root: Path
    identity: Identity


class BlobIndex:
    """The index; thread-safe, blocking."""

    def __init__(self, conn: sqlite3.Connection) -> None:
        self._conn = conn
        self._lock = threading.Lock()

    @classmethod
    def open(cls, path: Path) -> Self:
        """Opens or creates the index.

        Raises:
            StoreFailed: it cannot be used.
        """
        try:
            conn = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)
            conn.row_factory = sqlite3.Row
            conn.execute("PRAGMA journal_mode=WAL")
            conn.execute("PRAGMA synchronous=FULL")
            number = conn.execute("PRAGMA user_version").fetchone()[0]
            if number > _SCHEMA_NUMBER:
                raise StoreFailed(f"{path} is from a newer version of the program")
            if number < _SCHEMA_NUMBER:
                conn.executescript(_SCHEMA)
                conn.execute(f"PRAGMA user_version={_SCHEMA_NUMBER}")
        except sqlite3.DatabaseError as error:
            raise StoreFailed(f"{path} cannot be used as an index: {error}") from error
        return cls(conn)

    def close(self) -> None:
        """Closes the connection."""
        with self._lock:
            self._conn.close()

    def size_of(self, cid: ContentId) -> int | None:
        """Bytes of the blob; None when it is not here."""
        with self._lock:
            row = self._conn.execute("SELECT size FROM blob WHERE sha = ?", (cid.digest,)).fetchone()
        return None if row is None else int(row["size"])

    def locations(self, cid: ContentId) -> list[Location]:
        """Every place of these bytes, owned first."""
        with self._lock:
            rows = self._conn.execute(
                "SELECT * FROM location WHERE sha = ? ORDER BY volume, path", (cid.digest,)
            ).fetchall()
        return [_location(row) for row in rows]

    def at(self, volume: str, path: str) -> Location | None:
        """What is known about a path."""
        with self._lock:
            row = self._conn.execute("SELECT * FROM location WHERE volume = ? AND path = ?", (volume, path)).fetchone()
        return None if row is None else _location(row)

    def record(self, found: Sequence[Location], *, verified: str) -> None:
        """Commits locations (and their blobs) together, durably.

        Raises:
            StoreFailed: the disk refused; nothing of the group is stored.
        """
        with self._lock:
            try:
                self._conn.execute("BEGIN IMMEDIATE")
                self._conn.executemany(
                    "INSERT INTO blob VALUES (?, ?, ?) ON CONFLICT (sha) DO UPDATE SET verified = excluded.verified",
                    [(item.sha, item.size, verified) for item in found],
                )
                self._conn.executemany(
                    "INSERT OR REPLACE INTO location VALUES (?, ?, ?, ?, ?, ?, ?)",
                    [
                        (item.volume, item.path, item.sha, item.size, item.mtime_ns, item.ino, item.dev)
                        for item in found
                    ],
                )
                self._conn.execute("COMMIT")
            except sqlite3.Error as error:
                if self._conn.in_transaction:
                    self._conn.execute("ROLLBACK")
                raise StoreFailed(f"the index could not be written: {error}") from error

    def forget(self, places: Iterable[tuple[str, str]]) -> None:
        """Removes locations (not blobs): a file was moved or replaced."""
        with self._lock:
            self._conn.execute("BEGIN IMMEDIATE")
            self._conn.executemany("DELETE FROM location WHERE volume = ? AND path = ?", list(places))
            self._conn.execute("COMMIT")

    def set_volume(self, volume: VolumeRow) -> None:
        """Names a tree."""
        with self._lock:
            self._conn.execute(
                "INSERT OR REPLACE INTO volume VALUES (?, ?, ?)", (volume.name, str(volume.root), volume.identity)
            )

    def volumes(self) -> dict[str, VolumeRow]:
        """Every named tree."""
        with self._lock:
            rows = self._conn.execute("SELECT * FROM volume").fetchall()
        return {
            row["name"]: VolumeRow(name=row["name"], root=Path(row["root"]), identity=row["identity"]) for row in rows
        }

    def counts(self) -> tuple[int, int]:
        """(blobs, bytes)."""
        with self._lock:
            row = self._conn.execute("SELECT count(*), coalesce(sum(size), 0) FROM blob").fetchone()
        return int(row[0]), int(row[1])

    def all_ids(self) -> list[ContentId]:
        """Every blob, in the order of its hash."""
        with self._lock:
            return [ContentId(row["sha"]) for row in self._conn.execute("SELECT sha FROM blob ORDER BY sha")]


def _location(row: sqlite3.Row) -> Location:
    return Location(
        volume=row["volume"], path=row["path"], sha=row["sha"], size=row["size"], mtime_ns=row["mtime_ns"],
        ino=row["ino"], dev=row["dev"],
    )  # fmt: skip
