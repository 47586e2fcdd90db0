"""Garbage: bytes that nobody names. Finds them, remembers since when, and removes owned ones after a grace period.

Who names bytes is not known here: the caller brings every id that is named, pins are in the index.

Invariants:
- Bytes are removed only when they were unnamed in every run of the whole grace period; storing them again, or a pin,
  begins it anew. No lock is held while names are gathered; a run may be stopped at any moment and repeated.
- The row goes first and durably, the file afterwards: a crash leaves at worst a file without a row, which is still in
  the table ``unnamed`` and goes with the next run.
- A file is unlinked inside a write transaction in which no row names it. Whoever stores the same bytes meanwhile
  commits his row in a write transaction in which the file is there (``cas.durable.Written.put_back``).
- Adopted files are never touched. Their rows go only when the file is gone from a folder that is otherwise there.

- A copy in another tier goes before its row, which remembers it as long as the tier cannot be used (``cas.tiering``).

It leaves out: who names what (``node.services.roots``).
"""

import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final, TypeVar

from cas.durable import owned_path
from cas.errors import BlobRefused, TierFailed
from cas.files import root_problem, sample_problem
from cas.ids import ContentId
from cas.index import OWNED, BlobIndex, VolumeRow
from cas.store import BlobStore
from cas.tiering import Tiering

T = TypeVar("T")

BATCH: Final = 200
"""Blobs per write transaction: writers wait milliseconds, not for the whole run."""
SAMPLED: Final = 64
FEWEST: Final = 8
"""Below this many blobs a store has no "most of it"."""


class TooMuchGarbage(BlobRefused):
    """Most of the store would go: more likely the wrong database than rubbish."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GarbageReport:
    """What a run found and did."""

    unnamed: int
    """Blobs that nobody names now."""
    adopted: int
    """Of these, files of the institution that are still there: never touched."""
    waiting: int
    """Of these, owned and unnamed for less than the grace period."""
    due: int
    due_bytes: int
    """Owned and unnamed for the whole grace period; in a dry run these would be removed."""
    removed: int
    removed_bytes: int
    rows_dropped: int
    """Rows of adopted files that are gone."""
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Unnamed:
    """Bytes that nobody names."""

    id: ContentId
    size: int
    since: str
    is_due: bool


class Garbage:
    """One run over one store."""

    def __init__(
        self,
        store: BlobStore,
        *,
        now: datetime,
        grace: timedelta,
        unlink: Callable[[Path], None] = os.unlink,
        progress: Callable[[int], None] = lambda _done: None,
        tiering: Tiering | None = None,
    ) -> None:
        self._store = store
        self._tiering = tiering
        self._index: BlobIndex = store.index
        self._now = now.isoformat()
        self._cutoff = (now - grace).isoformat()
        self._unlink = unlink
        self._progress = progress

    def mark(self, named: Iterable[bytes]) -> None:
        """Remembers which blobs nobody names now, and since when; forgets those that are named again.

        Args:
            named: digests; all that are named anywhere outside the index, in any order, repeated or not.
        """
        with self._index.long_reader() as conn:
            conn.execute("CREATE TEMP TABLE named (sha BLOB PRIMARY KEY) WITHOUT ROWID")
            for batch in _batches(((digest,) for digest in named), 10_000):
                conn.executemany("INSERT OR IGNORE INTO named VALUES (?)", batch)
            again = conn.execute(
                """SELECT sha FROM unnamed u WHERE EXISTS (SELECT 1 FROM named n WHERE n.sha = u.sha)
                   OR EXISTS (SELECT 1 FROM pin p WHERE p.sha = u.sha)"""
            )
            self._write_all("DELETE FROM unnamed WHERE sha = ?", ((row["sha"],) for row in again))
            fresh = conn.execute(
                """SELECT sha FROM blob b WHERE NOT EXISTS (SELECT 1 FROM named n WHERE n.sha = b.sha)
                   AND NOT EXISTS (SELECT 1 FROM pin p WHERE p.sha = b.sha)
                   AND NOT EXISTS (SELECT 1 FROM unnamed u WHERE u.sha = b.sha)"""
            )
            self._write_all("INSERT OR IGNORE INTO unnamed VALUES (?, ?)", ((row["sha"], self._now) for row in fresh))

    def _write_all(self, sql: str, rows: Iterable[tuple[bytes | str, ...]]) -> None:
        for batch in _batches(rows, BATCH * 10):
            with self._index.transaction() as conn:
                conn.executemany(sql, batch)

    def unnamed(self) -> Iterator[Unnamed]:
        """Every blob that was unnamed when last looked, in the order of its hash."""
        with self._index.long_reader() as conn:
            for row in conn.execute("SELECT sha, size, since FROM unnamed JOIN blob USING (sha) ORDER BY sha"):
                yield Unnamed(
                    id=ContentId(row["sha"]), size=row["size"], since=row["since"],
                    is_due=row["since"] <= self._cutoff,
                )  # fmt: skip

    def sweep(self, *, delete: bool, even_most: bool = False) -> GarbageReport:
        """Counts, and with ``delete`` removes what is due.

        Raises:
            TooMuchGarbage: more than half of the owned blobs would go; nothing is removed.
        """
        found = self._count()
        if delete and not even_most and found["owned"] >= FEWEST and found["due"] * 2 > found["owned"]:
            raise TooMuchGarbage(
                f"{found['due']} of {found['owned']} owned blobs would be removed: is this the right database?"
                " If that is meant, say --even-most"
            )
        removed, removed_bytes, dropped, problems = 0, 0, 0, list[str]()
        if delete:
            absent = _Absent(self._index)
            for batch in _batches(self._due(), BATCH):
                archived, held = self._drop_archived([row["sha"] for row in batch], problems)
                due = [row["sha"] for row in batch if row["sha"] not in held]
                gone = self._drop_rows(due) + archived
                dropped += self._drop_absent(due, absent)
                self._remove_files(due, problems)
                removed, removed_bytes = removed + len(gone), removed_bytes + sum(gone)
                self._progress(removed)
            problems += absent.problems()
        return GarbageReport(
            unnamed=found["unnamed"], adopted=found["adopted"], waiting=found["waiting"], due=found["due"],
            due_bytes=found["due_bytes"], removed=removed, removed_bytes=removed_bytes, rows_dropped=dropped,
            problems=tuple(problems),
        )  # fmt: skip

    def _count(self) -> sqlite3.Row:
        with self._index.long_reader() as conn:
            row: sqlite3.Row = conn.execute(
                """WITH found AS (
                     SELECT b.size AS size, u.since <= ? AS is_old,
                            EXISTS (SELECT 1 FROM location l WHERE l.sha = b.sha AND l.volume = ''
                                    UNION ALL SELECT 1 FROM tier_location t WHERE t.sha = b.sha) AS is_owned,
                            EXISTS (SELECT 1 FROM location l WHERE l.sha = b.sha AND l.volume <> '') AS is_adopted
                     FROM unnamed u JOIN blob b USING (sha))
                   SELECT count(*) AS unnamed, coalesce(sum(is_adopted), 0) AS adopted,
                          coalesce(sum(is_owned AND NOT is_old), 0) AS waiting,
                          coalesce(sum(is_owned AND is_old), 0) AS due,
                          coalesce(sum(CASE WHEN is_owned AND is_old THEN size END), 0) AS due_bytes,
                          (SELECT count(*) FROM (SELECT sha FROM location WHERE volume = ''
                                                 UNION SELECT sha FROM tier_location)) AS owned
                   FROM found""",
                (self._cutoff,),
            ).fetchone()
        return row

    def _due(self) -> Iterator[sqlite3.Row]:
        """In the order of the hash, a page at a time: no read transaction stays open over the deletions."""
        last = b""
        while True:
            with self._index.long_reader() as conn:
                rows = conn.execute(
                    "SELECT sha FROM unnamed WHERE since <= ? AND sha > ? ORDER BY sha LIMIT ?",
                    (self._cutoff, last, BATCH),
                ).fetchall()
            if not rows:
                return
            yield from rows
            last = rows[-1]["sha"]

    def _drop_rows(self, batch: Sequence[bytes]) -> list[int]:
        """First step: the rows of owned copies, durably; sizes of those that went. ``unnamed`` keeps their names."""
        gone: list[int] = []
        with self._index.transaction() as conn:
            for sha in batch:
                if not self._is_due(conn, sha):
                    continue
                row = conn.execute(
                    "DELETE FROM location WHERE sha = ? AND volume = ? RETURNING size", (sha, OWNED)
                ).fetchone()
                if row is not None:
                    gone.append(row["size"])
                    conn.execute("DELETE FROM quarantine WHERE sha = ? AND volume = ?", (sha, OWNED))
                _drop_blob(conn, sha)
        return gone

    def _drop_archived(self, batch: Sequence[bytes], problems: list[str]) -> tuple[list[int], set[bytes]]:
        """Copies in other tiers: sizes of blobs of which nothing is left by that, and those that have to wait."""
        gone: list[int] = []
        held: set[bytes] = set()
        for sha in batch:
            rows = self._index.select("SELECT tier, size FROM tier_location WHERE sha = ?", sha)
            try:
                if rows and self._tiering is None:
                    raise TierFailed("its tier is not in use here")
                is_gone = [self._drop_copy(ContentId(sha), row["tier"]) for row in rows]
            except TierFailed as error:
                problems.append(f"{ContentId(sha).hex} stays in its tier: {error}; the next run tries again")
                held.add(sha)
                continue
            if any(is_gone) and self._index.size_of(ContentId(sha)) is None:
                gone.append(rows[0]["size"])
        return gone, held

    def _drop_copy(self, cid: ContentId, name: str) -> bool:
        """One copy: what is decided is durable before it is removed, and is done again by the next run if need be."""
        assert self._tiering is not None
        with self._tiering.lock():
            self._tiering.must_answer(cid, name)
            with self._index.transaction() as conn:
                if not self._is_due(conn, cid.digest):
                    return False
                conn.execute("UPDATE tier_location SET stored = '' WHERE sha = ? AND tier = ?", (cid.digest, name))
                _drop_blob(conn, cid.digest)
            self._tiering.remove(cid, name)
        return True

    def _remove_files(self, batch: Sequence[bytes], problems: list[str]) -> None:
        """Second step: files that no row names. Nobody can commit a row for them while this transaction is open."""
        with self._index.transaction() as conn:
            for sha in batch:
                if conn.execute("SELECT 1 FROM location WHERE sha = ? AND volume = ?", (sha, OWNED)).fetchone():
                    continue
                path = owned_path(self._store.tree.root, ContentId(sha))
                try:
                    with contextlib.suppress(FileNotFoundError):
                        self._unlink(path)
                except OSError as error:
                    problems.append(f"{path} could not be removed ({error.strerror}): the next run tries again")
                    continue
                conn.execute(
                    "DELETE FROM unnamed WHERE sha = ?1 AND NOT EXISTS (SELECT 1 FROM blob WHERE sha = ?1)", (sha,)
                )

    def _drop_absent(self, batch: Sequence[bytes], absent: "_Absent") -> int:
        """Rows of adopted files that are gone for good."""
        dropped: list[sqlite3.Row] = []
        with self._index.transaction() as conn:
            for sha in batch:
                if not self._is_due(conn, sha):
                    continue
                for row in conn.execute(
                    "SELECT * FROM location WHERE sha = ? AND volume <> ?", (sha, OWNED)
                ).fetchall():
                    if absent.is_gone(row["volume"], row["path"]):
                        conn.execute("DELETE FROM location WHERE volume = ? AND path = ?", (row["volume"], row["path"]))
                        dropped.append(row)
                _drop_blob(conn, sha)
        # An adoption that saw the file and the old row said "unchanged": then the row must be there.
        back = [row for row in dropped if not absent.is_gone(row["volume"], row["path"])]
        if back:
            with self._index.transaction() as conn:
                for row in back:
                    conn.execute(
                        "INSERT OR IGNORE INTO blob VALUES (?, ?, ?)", (row["sha"], row["size"], row["checked"])
                    )
                    conn.execute(
                        """INSERT OR IGNORE INTO location (volume, path, sha, size, mtime_ns, ino, dev, checked)
                           VALUES (:volume, :path, :sha, :size, :mtime_ns, :ino, :dev, :checked)""",
                        dict(row),
                    )
        return len(dropped) - len(back)

    def _is_due(self, conn: sqlite3.Connection, sha: bytes) -> bool:
        return (
            conn.execute(
                """SELECT 1 FROM unnamed WHERE sha = ?1 AND since <= ?2
                   AND NOT EXISTS (SELECT 1 FROM pin WHERE sha = ?1)""",
                (sha, self._cutoff),
            ).fetchone()
            is not None
        )


class _Absent:
    """Tells whether an adopted file is gone, as opposed to its drive or folder."""

    def __init__(self, index: BlobIndex) -> None:
        self._volumes = index.volumes()
        self._problems = {name: _problem(index, volume) for name, volume in self._volumes.items()}
        self._met: set[str] = set()

    def is_gone(self, volume: str, relpath: str) -> bool:
        known = self._volumes.get(volume)
        if known is None or self._problems[volume] is not None:
            self._met.add(volume)
            return False
        path = known.root / relpath
        try:
            path.lstat()
        except FileNotFoundError:
            return not _is_empty(path.parent)
        except OSError:
            return False
        return False

    def problems(self) -> list[str]:
        """What is wrong with volumes that were asked about; once each."""
        return [text for name in sorted(self._met) if (text := self._problems.get(name)) is not None]


def _problem(index: BlobIndex, volume: VolumeRow) -> str | None:
    return root_problem(volume) or sample_problem(volume, index.sample(volume.name, SAMPLED))


def _is_empty(folder: Path) -> bool:
    """Empty, or not there: perhaps a drive below the volume that is not mounted."""
    try:
        with os.scandir(folder) as entries:
            return next(entries, None) is None
    except OSError:
        return True


def discard(store: BlobStore, cid: ContentId) -> None:
    """Removes the store's own copy of some bytes at once: something made here that must not be given out any more.

    Nothing is remembered: the same bytes may be stored again. Files of the institution stay, copies in tiers wait for
    the next run. A kill between row and file leaves a file without a row, which goes when it is stored or swept.

    Raises:
        StoreFailed: the disk refused; call again.
    """
    with store.index.transaction() as conn:
        conn.execute("DELETE FROM location WHERE sha = ? AND volume = ?", (cid.digest, OWNED))
        conn.execute("DELETE FROM quarantine WHERE sha = ? AND volume = ?", (cid.digest, OWNED))
        _drop_blob(conn, cid.digest)
    store.note_closing()
    with store.index.transaction() as conn:
        if not conn.execute("SELECT 1 FROM location WHERE sha = ? AND volume = ?", (cid.digest, OWNED)).fetchone():
            store.tree.path(cid).unlink(missing_ok=True)


def _drop_blob(conn: sqlite3.Connection, sha: bytes) -> None:
    """The blob and all that was derived from it, once it lies nowhere."""
    if conn.execute(
        "SELECT 1 FROM location WHERE sha = ?1 UNION ALL SELECT 1 FROM tier_location WHERE sha = ?1 AND stored <> ''",
        (sha,),
    ).fetchone():
        return
    for table in ("blob", "leaf_table", "block", "used", "restore"):
        conn.execute(f"DELETE FROM {table} WHERE sha = ?", (sha,))  # noqa: S608 - a fixed list


def _batches(items: Iterable[T], most: int) -> Iterator[list[T]]:
    batch: list[T] = []
    for item in items:
        batch.append(item)
        if len(batch) >= most:
            yield batch
            batch = []
    if batch:
        yield batch
