"""The index of a blob store: which bytes are here, and where. SQLite, WAL, ``synchronous=FULL``.

Invariants:
- A row exists only for bytes that were on disk before it was committed.
- The same bytes at several places are one blob with several locations; a blob without a location has no row.
- One connection writes, under a lock. Reads have connections of their own and never wait for a commit.
- Owned files are given their place back, and rubbish is unlinked, only inside a write transaction: of "the row is
  committed" and "the file is gone" at most one can be true, in any number of threads and processes.
  One exception: a kill between the two while bytes are archived, of which a verified copy lies in a tier by then.
- Nothing of SQLite leaves: every failure is ``StoreFailed``.

It leaves out: files (``cas.store``).
"""

import contextlib
import hashlib
import hmac
import json
import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, Self
from urllib.parse import quote

from cas.disk import why_refused
from cas.errors import StoreFailed
from cas.ids import ContentId
from cas.migrate import migrate
from cas.tier import TIER_VOLUME

OWNED: Final = ""
"""Volume name of owned blobs; their path is derived from the hash."""
WITHDRAWAL_KEY: Final = "withdrawal_key"
"""The fact that holds the key of ``withdrawal_mark``; made with the first withdrawal."""
_BUSY_S: Final = 30
"""How long a writer waits for another process."""

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
    checked: str = ""
    """When it was last read whole and found good (ISO 8601); empty: not since it was indexed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeRow:
    """A tree of the institution's files."""

    name: str
    root: Path
    identity: Identity


class BlobIndex:
    """The index; thread-safe, blocking."""

    def __init__(self, path: Path, writer: sqlite3.Connection, *, only_reads: bool = False) -> None:
        self._path = path
        self._only_reads = only_reads
        self._writer = writer
        self._lock = threading.Lock()
        self._idle: deque[sqlite3.Connection] = deque()

    @classmethod
    def open(cls, path: Path) -> Self:
        """Opens or creates the index.

        Raises:
            StoreFailed: it cannot be used.
        """
        try:
            conn = _connect(path)
        except sqlite3.Error as error:
            raise StoreFailed(f"{path} cannot be used as an index: {why_refused(path, error)}") from error
        try:
            conn.execute("PRAGMA journal_mode=WAL")
            conn.execute("PRAGMA synchronous=FULL")
            migrate(conn, path)
        except BaseException as error:
            conn.close()
            if isinstance(error, sqlite3.Error):
                raise StoreFailed(f"{path} cannot be used as an index: {why_refused(path, error)}") from error
            raise
        return cls(path, conn)

    @classmethod
    def open_to_read(cls, path: Path) -> Self:
        """Opens an index that another process keeps; SQLite itself refuses every write.

        Raises:
            StoreFailed: it is not there, or cannot be used.
        """
        try:
            conn = _connect(path, only_reads=True)
            conn.execute("SELECT 1 FROM blob LIMIT 1").fetchone()
        except sqlite3.Error as error:
            raise StoreFailed(f"{path} cannot be used as an index: {why_refused(path, error)}") from error
        return cls(path, conn, only_reads=True)

    def close(self) -> None:
        """Closes every connection; no call may be under way."""
        with self._lock:
            self._writer.close()
        while self._idle:
            self._idle.pop().close()

    # ------------------------------------------------------------------ reading
    def size_of(self, cid: ContentId) -> int | None:
        """Bytes of the blob; None when it is not here."""
        row = self._one("SELECT size FROM blob WHERE sha = ?", cid.digest)
        return None if row is None else int(row["size"])

    def locations(self, cid: ContentId) -> list[Location]:
        """Every place of these bytes, owned first."""
        return [
            to_location(row) for row in self.select("SELECT * FROM location WHERE sha = ? ORDER BY 1, 2", cid.digest)
        ]

    def places(self, cid: ContentId) -> list[tuple[Location, VolumeRow | None]]:
        """Every good place of these bytes, owned first, with its volume as it is now (None: owned, or forgotten)."""
        rows = self.select(
            """SELECT location.*, volume.root, volume.identity FROM location LEFT JOIN volume ON name = volume
               WHERE sha = ? AND NOT EXISTS (SELECT 1 FROM quarantine AS bad
                                             WHERE bad.volume = location.volume AND bad.path = location.path)
               ORDER BY 1, 2""",
            cid.digest,
        )
        return [
            (to_location(row), None if row["root"] is None else _volume(row["volume"], row["root"], row["identity"]))
            for row in rows
        ]

    def in_tiers(self, cid: ContentId) -> list[tuple[int, str, str]]:
        """Size, tier and key of every copy in another tier that counts and is not in quarantine."""
        rows = self.select(
            """SELECT size, tier, key FROM tier_location AS t WHERE sha = ? AND stored <> ''
               AND NOT EXISTS (SELECT 1 FROM quarantine AS bad WHERE bad.volume = ? || t.tier AND bad.path = t.key)
               ORDER BY tier""",
            cid.digest, TIER_VOLUME,
        )  # fmt: skip
        return [(int(row["size"]), row["tier"], row["key"]) for row in rows]

    def at(self, volume: str, path: str) -> Location | None:
        """What is known about a path."""
        row = self._one("SELECT * FROM location WHERE volume = ? AND path = ?", volume, path)
        return None if row is None else to_location(row)

    def at_all(self, volume: str, paths: Sequence[str]) -> dict[str, Location]:
        """What is known about these paths, by path: one question for all of them."""
        rows = self.select(
            "SELECT l.* FROM json_each(?) AS wanted CROSS JOIN location AS l ON l.volume = ? AND l.path = wanted.value",
            _json_of(paths), volume,
        )  # fmt: skip
        return {row["path"]: to_location(row) for row in rows}

    def other_paths(self, volume: str, places: Iterable[Location]) -> dict[str, list[str]]:
        """By path: the other paths of this volume with the same bytes. Paths without any are left out."""
        rows = self.select(
            """SELECT mine.path AS path, other.path AS other FROM json_each(?) AS wanted
               CROSS JOIN location AS mine ON mine.volume = ? AND mine.path = wanted.value
               CROSS JOIN location AS other ON other.sha = mine.sha AND other.volume = mine.volume
               WHERE other.path <> mine.path""",
            _json_of([item.path for item in places]), volume,
        )  # fmt: skip
        found: dict[str, list[str]] = {}
        for row in rows:
            found.setdefault(row["path"], []).append(row["other"])
        return found

    def sample(self, volume: str, probes: int) -> list[Location]:
        """Up to ``probes`` locations of a volume, spread evenly over all hashes; always the same ones."""
        found: dict[str, Location] = {}
        for number in range(probes):
            start = (number << 256) // probes
            row = self._one(
                "SELECT * FROM location WHERE sha >= ? AND volume = ? ORDER BY sha LIMIT 1", start.to_bytes(32), volume
            )
            if row is not None:
                found[row["path"]] = to_location(row)
        return list(found.values())

    def volumes(self) -> dict[str, VolumeRow]:
        """Every named tree."""
        rows = self.select("SELECT * FROM volume ORDER BY name")
        return {row["name"]: _volume(row["name"], row["root"], row["identity"]) for row in rows}

    def counts(self) -> tuple[int, int]:
        """(blobs, bytes)."""
        [row] = self.select("SELECT count(*), coalesce(sum(size), 0) FROM blob")
        return int(row[0]), int(row[1])

    def all_ids(self) -> list[ContentId]:
        """Every blob, in the order of its hash."""
        return [ContentId(row["sha"]) for row in self.select("SELECT sha FROM blob ORDER BY sha")]

    # ------------------------------------------------------------------ writing
    def record(
        self,
        found: Sequence[Location],
        *,
        verified: str,
        replaced: Sequence[ContentId] = (),
        first: Callable[[Sequence[Location]], None] = lambda _found: None,
    ) -> None:
        """Commits locations (and their blobs) together, durably; what was rubbish among them is not any more.

        Args:
            found: where they lie.
            verified: when they were read whole.
            replaced: lay at some of these places before.
            first: makes true of files what the rows will say; nobody else can write to the index meanwhile.

        Raises:
            StoreFailed: the disk refused; nothing of the group is stored.

        Withdrawn bytes get no row, whoever asks: a copy may have been on its way while they were withdrawn.
        """
        with self.transaction() as conn:
            found = _without_withdrawn(conn, found)
            first(found)
            conn.executemany("DELETE FROM unnamed WHERE sha = ?", [(item.sha,) for item in found])
            conn.executemany(
                "INSERT INTO blob VALUES (?, ?, ?) ON CONFLICT (sha) DO UPDATE SET verified = excluded.verified",
                [(item.sha, item.size, verified) for item in found],
            )
            conn.executemany(
                """INSERT OR REPLACE INTO location (volume, path, sha, size, mtime_ns, ino, dev, checked)
                   VALUES (?, ?, ?, ?, ?, ?, ?, ?)""",
                [
                    (item.volume, item.path, item.sha, item.size, item.mtime_ns, item.ino, item.dev, verified)
                    for item in found
                ],
            )
            conn.executemany(
                "DELETE FROM quarantine WHERE volume = ? AND path = ?", [(item.volume, item.path) for item in found]
            )
            conn.executemany(
                """DELETE FROM blob WHERE sha = ?1 AND NOT EXISTS (SELECT 1 FROM location WHERE sha = ?1)
                   AND NOT EXISTS (SELECT 1 FROM tier_location WHERE sha = ?1)""",
                [(cid.digest,) for cid in replaced],
            )

    def forget(self, places: Iterable[tuple[str, str]]) -> None:
        """Removes locations of bytes that have another one: a file was moved."""
        with self.transaction() as conn:
            gone = list(places)
            conn.executemany("DELETE FROM location WHERE volume = ? AND path = ?", gone)
            conn.executemany("DELETE FROM quarantine WHERE volume = ? AND path = ?", gone)

    def set_volume(self, volume: VolumeRow) -> None:
        """Names a tree."""
        with self.transaction() as conn:
            conn.execute(
                "INSERT OR REPLACE INTO volume VALUES (?, ?, ?)", (volume.name, str(volume.root), volume.identity)
            )

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """One durable write transaction, for the modules that own other tables of this index.

        Raises:
            StoreFailed: the disk refused; nothing was changed.
        """
        conn = self._writer
        with self._lock:
            try:
                conn.execute("BEGIN IMMEDIATE")
                yield conn
                conn.execute("COMMIT")
            except BaseException as error:
                with contextlib.suppress(sqlite3.Error):
                    if conn.in_transaction:
                        conn.execute("ROLLBACK")
                if isinstance(error, sqlite3.Error):
                    raise StoreFailed(f"the index could not be written: {error}") from error
                if isinstance(error, OSError):
                    raise StoreFailed(f"not stored: {error.strerror or error}") from error
                raise

    @contextlib.contextmanager
    def long_reader(self) -> Iterator[sqlite3.Connection]:
        """A connection of its own for long work, with temporary tables; it cannot write to the index.

        Raises:
            StoreFailed: the index cannot be read.
        """
        address = f"file:{quote(str(self._path))}?mode=ro"
        try:
            conn = sqlite3.connect(address, uri=True, timeout=_BUSY_S, isolation_level=None)
            try:
                conn.row_factory = sqlite3.Row
                yield conn
            finally:
                conn.close()
        except sqlite3.Error as error:
            raise StoreFailed(f"the index could not be read: {error}") from error

    def _one(self, sql: str, *values: str | bytes) -> sqlite3.Row | None:
        rows = self.select(sql, *values)
        return rows[0] if rows else None

    def select(self, sql: str, *values: str | bytes | int) -> list[sqlite3.Row]:
        """Rows of a question, also for the modules that own other tables of this index.

        Raises:
            StoreFailed: the index cannot be read.
        """
        conn: sqlite3.Connection | None = None
        try:
            try:
                conn = self._idle.pop()
            except IndexError:
                conn = _connect(self._path, only_reads=self._only_reads)
                conn.execute("PRAGMA query_only=ON")
            rows = conn.execute(sql, values).fetchall()
        except sqlite3.Error as error:
            if conn is not None:
                conn.close()
            raise StoreFailed(f"the index could not be read: {error}") from error
        self._idle.append(conn)
        return rows


def withdrawal_mark(key: bytes, digest: bytes) -> bytes:
    """What the table ``withdrawn`` knows bytes by (``cas.withdrawn``)."""
    return hmac.digest(key, b"withdrawn\0" + digest, hashlib.sha256)


def _without_withdrawn(conn: sqlite3.Connection, found: Sequence[Location]) -> Sequence[Location]:
    row = conn.execute("SELECT value FROM fact WHERE name = ?", (WITHDRAWAL_KEY,)).fetchone()
    if row is None:
        return found
    key = bytes.fromhex(row["value"])
    ask = "SELECT 1 FROM withdrawn WHERE mark = ?"
    return [item for item in found if conn.execute(ask, (withdrawal_mark(key, item.sha),)).fetchone() is None]


def _connect(path: Path, *, only_reads: bool = False) -> sqlite3.Connection:
    name = f"file:{quote(str(path.absolute()))}?mode=ro" if only_reads else str(path)
    conn = sqlite3.connect(name, timeout=_BUSY_S, isolation_level=None, check_same_thread=False, uri=only_reads)
    conn.row_factory = sqlite3.Row
    return conn


def to_location(row: sqlite3.Row) -> Location:
    """A row of the table ``location``."""
    return Location(
        volume=row["volume"], path=row["path"], sha=row["sha"], size=row["size"], mtime_ns=row["mtime_ns"],
        ino=row["ino"], dev=row["dev"], checked=row["checked"],
    )  # fmt: skip


def _volume(name: str, root: str, identity: Identity) -> VolumeRow:
    return VolumeRow(name=name, root=Path(root), identity=identity)


def _json_of(paths: Sequence[str]) -> str:
    """A JSON array; paths that are not text (see ``cas.files.check_relpath``) are in no row and are left out."""
    try:
        return json.dumps(paths, ensure_ascii=False).encode().decode()
    except UnicodeEncodeError:
        return json.dumps([path for path in paths if path.isascii() or path.encode("utf-8", "ignore").decode() == path])
