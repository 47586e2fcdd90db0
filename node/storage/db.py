"""The database of a node: opening, migrating, reading, and the one writer.

Owns ``node.sqlite``: its pragmas, its numbered migrations and the discipline of who may write when.

Invariants:
- WAL with ``synchronous=FULL``: what a write has acknowledged survives a power cut
  (with ``NORMAL`` 300 of 300 acknowledged commits were lost in a simulated one).
- One writer at any moment: every write transaction begins with ``BEGIN IMMEDIATE``.
  Inside the serving process all writes go through one thread, which commits a group of them together;
  each write of a group has its own savepoint, so one that fails takes none of the others with it.
- A read connection cannot write (``query_only``) and cannot run for ever (progress handler).
- A database of a newer schema is refused; an older one is copied aside before it is migrated.

It leaves out: what the tables mean (the modules beside this one) and backups to other places (``node.backup``).

Example:
    >>> db = Database.open(folder / "node.sqlite")
    >>> with db.transaction() as conn:
    ...     conn.execute("INSERT INTO meta VALUES ('a', 'b')")
"""

import asyncio
import concurrent.futures
import contextlib
import importlib.resources
import logging
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self, TypeVar
from urllib.parse import quote

from cas.disk import why_refused
from node.storage.search_columns import SearchColumns
from node.storage.search_index import refill
from node.storage.search_sql import add_functions

T = TypeVar("T")

BUSY_TIMEOUT_S: Final = 30.0
"""How long a writer waits for another process (an ingest beside a running server) before it gives up."""
READ_CACHE_KIB: Final = 32 * 1024
"""Pages of the file that each reading thread keeps at most: the indexes that searching walks along."""
READ_LIMIT_S: Final = 5.0
"""A read that runs longer is stopped: no page needs it, and a hostile query must not hold a thread."""
GROUP_LIMIT: Final = 256
"""Most writes that share one commit; bounds how long the first of them waits."""
BULK_CACHE_KIB: Final = 64 * 1024
"""Page cache of a long piece of writing; SQLite's own 2 MB hold none of the inner pages of a million records."""
BULK_WAL_PAGES: Final = 64_000
"""256 MB of log before pages go back into the file: what every batch touches is then written back once for many.
More is slower again: every page is looked for in the log first."""
BULK_WAL_KEPT_BYTES: Final = 32 * 1024 * 1024
"""Of the log's file, when its pages have gone back."""
REFILL_ROWS: Final = 1000
"""Specimens that share a transaction while search tables are filled: whoever is killed does a second of work again."""
SAID_EVERY: Final = 10_000
"""Specimens after which somebody who waits is told how far it is: some ten seconds."""
_READERS: Final = 4
_PROGRESS_STEPS: Final = 10_000
_log = logging.getLogger(__name__)


class DatabaseError(Exception):
    """The database cannot be used as it is; the message says what to do."""


@dataclass(slots=True)
class _Write:
    work: Callable[[sqlite3.Connection], object]
    done: "concurrent.futures.Future[object]"


class Database:
    """One SQLite file with its writer thread and its readers."""

    def __init__(self, path: Path, *, only_reads: bool = False) -> None:
        self.path = path
        self._only_reads = only_reads
        self._local = threading.local()
        self._queue: queue.Queue[_Write | None] = queue.Queue()
        self._thread: threading.Thread | None = None
        self._guard = threading.Lock()
        self._readers = concurrent.futures.ThreadPoolExecutor(_READERS, thread_name_prefix="db-read")
        self._connections: list[sqlite3.Connection] = []
        self._watcher: sqlite3.Connection | None = None
        self._closed = False
        self.columns = SearchColumns(lambda: connect(path, read_only=True, only_reads=only_reads))
        """Of the search tables; loaded when somebody asks and they are large."""

    @classmethod
    def open(cls, path: Path) -> Self:
        """Opens the file, creating or migrating it as needed.

        Raises:
            DatabaseError: the file is not ours, is damaged, or is from a newer version.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            migrate(path)
        except sqlite3.DatabaseError as error:
            raise DatabaseError(f"{path} cannot be used as a node database: {why_refused(path, error)}") from error
        return cls(path)

    @classmethod
    def open_to_read(cls, path: Path) -> Self:
        """Opens a database that another process keeps; SQLite itself refuses every write.

        Raises:
            DatabaseError: it is not there, or is not of this program's schema.
        """
        try:
            conn = connect(path, read_only=True, only_reads=True)
            try:
                at, newest = int(conn.execute("PRAGMA user_version").fetchone()[0]), migrations()[-1][0]
            finally:
                conn.close()
        except sqlite3.Error as error:
            raise DatabaseError(f"{path} cannot be used as a node database: {why_refused(path, error)}") from error
        if at != newest:
            raise DatabaseError(f"{path} has schema {at}, this program knows {newest}: the node must be started again")
        return cls(path, only_reads=True)

    # ------------------------------------------------------------------ blocking use (command line, worker threads)
    @contextlib.contextmanager
    def transaction(self, *, on: sqlite3.Connection | None = None) -> Iterator[sqlite3.Connection]:
        """One write transaction; committed durably on exit, rolled back on an exception.

        Args:
            on: a connection of ``bulk``, for many large transactions one after the other.
        """
        conn = connect(self.path, only_reads=self._only_reads) if on is None else on
        try:
            conn.execute("BEGIN IMMEDIATE")
            yield conn
            conn.execute("COMMIT")
        except BaseException:
            if conn.in_transaction:
                conn.execute("ROLLBACK")
            raise
        finally:
            if on is None:
                conn.close()

    @contextlib.contextmanager
    def bulk(self) -> Iterator[sqlite3.Connection]:
        """A connection for a long piece of writing: it keeps its pages and statements from transaction to transaction.

        Records lie in the order of keyed hashes, so every batch touches pages all over the file.
        """
        conn = connect(self.path, only_reads=self._only_reads)
        try:
            conn.execute(f"PRAGMA cache_size=-{BULK_CACHE_KIB}")
            conn.execute(f"PRAGMA wal_autocheckpoint={BULK_WAL_PAGES}")
            conn.execute(f"PRAGMA journal_size_limit={BULK_WAL_KEPT_BYTES}")
            yield conn
        finally:
            conn.close()

    @contextlib.contextmanager
    def reader(self, *, limit_s: float | None = READ_LIMIT_S) -> Iterator[sqlite3.Connection]:
        """A consistent read-only view, kept per thread; reads longer than ``limit_s`` seconds are stopped."""
        conn: sqlite3.Connection | None = getattr(self._local, "reader", None)
        if conn is None:
            conn = connect(self.path, read_only=True, only_reads=self._only_reads)
            self._local.reader = conn
            with self._guard:
                self._connections.append(conn)
        nested = conn.in_transaction
        if not nested:
            deadline = None if limit_s is None else time.monotonic() + limit_s
            conn.set_progress_handler(
                (lambda: time.monotonic() > deadline) if deadline is not None else None, _PROGRESS_STEPS
            )
            conn.execute("BEGIN")
        try:
            yield conn
        finally:
            if not nested and conn.in_transaction:
                conn.set_progress_handler(None, 0)
                conn.execute("ROLLBACK")

    # ------------------------------------------------------------------ use inside the event loop
    def version(self) -> int | None:
        """A number that differs after every commit, whoever made it; None when it cannot be told at once.

        For memories of what was read: asks shared memory, never the disk, and waits for nobody. From one thread.
        """
        try:
            if self._watcher is None:
                conn = connect(self.path, read_only=True, only_reads=self._only_reads)
                conn.execute("PRAGMA busy_timeout=0")
                with self._guard:
                    self._connections.append(conn)
                self._watcher = conn
            return int(self._watcher.execute("PRAGMA data_version").fetchone()[0])
        except sqlite3.Error:
            return None

    async def read(self, work: Callable[[sqlite3.Connection], T], *, limit_s: float = READ_LIMIT_S) -> T:
        """Runs ``work`` on a read-only connection in a thread; after ``limit_s`` seconds it is stopped."""

        def run() -> T:
            with self.reader(limit_s=limit_s) as conn:
                return work(conn)

        return await asyncio.get_running_loop().run_in_executor(self._readers, run)

    async def write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Runs ``work`` in the writer thread; returns after the commit that makes it durable."""
        return await asyncio.wrap_future(self.submit(work))

    def submit(self, work: Callable[[sqlite3.Connection], T]) -> "concurrent.futures.Future[T]":
        """Queues ``work`` for the writer thread; the future resolves after the durable commit."""
        done: concurrent.futures.Future[T] = concurrent.futures.Future()
        with self._guard:
            if self._closed:
                raise DatabaseError("the database is closed")
            if self._only_reads:
                raise DatabaseError("this process only reads")
            if self._thread is None:
                self._thread = threading.Thread(target=self._write_loop, name="db-write", daemon=True)
                self._thread.start()
            self._queue.put(_Write(work, done))  # type: ignore[arg-type]
        return done

    def close(self) -> None:
        """Finishes queued writes, then closes every connection."""
        with self._guard:
            if self._closed:
                return
            self._closed = True
            thread = self._thread
            self._queue.put(None)
        if thread is not None:
            thread.join()
        self.columns.close()
        self._readers.shutdown(wait=True)
        for conn in self._connections:
            conn.close()
        self._connections.clear()

    # ------------------------------------------------------------------ the writer thread
    def _write_loop(self) -> None:
        conn = connect(self.path)
        try:
            while True:
                first = self._queue.get()
                if first is None:
                    return
                group, last = self._gather(first)
                self._commit_group(conn, group)
                if last:
                    return
        finally:
            conn.close()

    def _gather(self, first: _Write) -> tuple[list[_Write], bool]:
        group = [first]
        while len(group) < GROUP_LIMIT:
            try:
                item = self._queue.get_nowait()
            except queue.Empty:
                break
            if item is None:
                return group, True
            group.append(item)
        return group, False

    def _commit_group(self, conn: sqlite3.Connection, group: list[_Write]) -> None:
        outcomes: list[tuple[_Write, object, BaseException | None]] = []
        try:
            conn.execute("BEGIN IMMEDIATE")
            for write in group:
                if not write.done.set_running_or_notify_cancel():
                    continue
                conn.execute("SAVEPOINT one")
                try:
                    result = write.work(conn)
                except Exception as error:  # noqa: BLE001 - handed to the caller through its future
                    conn.execute("ROLLBACK TO one")
                    outcomes.append((write, None, error))
                else:
                    outcomes.append((write, result, None))
                conn.execute("RELEASE one")
            conn.execute("COMMIT")
        except sqlite3.Error as error:
            if conn.in_transaction:
                conn.execute("ROLLBACK")
            for write in group:
                if not write.done.done():
                    write.done.set_exception(DatabaseError(f"not stored: {error}"))
            return
        for write, result, failure in outcomes:
            if failure is None:
                write.done.set_result(result)
            else:
                write.done.set_exception(failure)


def connect(path: Path, *, read_only: bool = False, only_reads: bool = False) -> sqlite3.Connection:
    """A connection with this project's pragmas; transactions are explicit (no implicit BEGIN).

    Args:
        path: the file.
        read_only: this connection does not write (``query_only``).
        only_reads: this process does not write: the file is opened for reading.
    """
    name = f"file:{quote(str(path.absolute()))}?mode=ro" if only_reads else str(path)
    conn = sqlite3.connect(
        name, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False, uri=only_reads
    )  # fmt: skip
    conn.row_factory = sqlite3.Row
    conn.execute("PRAGMA foreign_keys=ON")
    conn.execute("PRAGMA synchronous=FULL")
    conn.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 64 * 1024 * 1024)
    conn.setlimit(sqlite3.SQLITE_LIMIT_EXPR_DEPTH, 200)
    add_functions(conn)
    if read_only:
        conn.execute("PRAGMA query_only=ON")
        conn.execute(f"PRAGMA cache_size=-{READ_CACHE_KIB}")
    return conn


# ---------------------------------------------------------------------- migrations
def migrations() -> list[tuple[int, str]]:
    """All numbered migrations: (number, SQL), in order."""
    folder = importlib.resources.files("node.storage") / "migrations"
    found = [
        (int(entry.name[:4]), entry.read_text("utf-8")) for entry in folder.iterdir() if entry.name.endswith(".sql")
    ]
    return sorted(found)


def schema_version(path: Path) -> int:
    """The number of the newest migration applied to the file; 0 for a new one."""
    conn = sqlite3.connect(path)
    try:
        return int(conn.execute("PRAGMA user_version").fetchone()[0])
    finally:
        conn.close()


def migrate(path: Path) -> list[int]:
    """Brings the file to the newest schema, each migration in one transaction; returns the numbers applied.

    Raises:
        DatabaseError: the file was written by a newer version of the program.
    """
    steps = migrations()
    newest = steps[-1][0]
    conn = connect(path)
    applied: list[int] = []
    try:
        conn.execute("PRAGMA journal_mode=WAL")
        at = int(conn.execute("PRAGMA user_version").fetchone()[0])
        if at > newest:
            raise DatabaseError(f"{path} has schema {at}, this program knows {newest}: install the newer version again")
        if 0 < at < newest:
            _copy_aside(conn, path.with_name(f"{path.name}.before-schema-{newest}"))
        for number, sql in steps:
            if number > at:
                _apply(conn, number, sql)
                applied.append(number)
        _fill_search(conn)
    finally:
        conn.close()
    return applied


def _fill_search(conn: sqlite3.Connection) -> None:
    """A migration that made the search tables anew left them empty, and a note; they are filled again, step by step."""
    done, said = 0, 0
    while True:
        conn.execute("BEGIN IMMEDIATE")
        try:
            step = refill(conn, REFILL_ROWS)
            conn.execute("COMMIT")
        except BaseException:
            if conn.in_transaction:
                conn.execute("ROLLBACK")
            raise
        if step is None:
            return
        done += step
        if done >= said + SAID_EVERY:
            said = done
            _log.warning(
                "a newer version searches otherwise: %d records are in the new search tables, more follow", done
            )


def _apply(conn: sqlite3.Connection, number: int, sql: str) -> None:
    conn.execute("BEGIN IMMEDIATE")
    try:
        if int(conn.execute("PRAGMA user_version").fetchone()[0]) < number:  # another process may have been first
            for statement in _statements(sql):
                conn.execute(statement)
            conn.execute(f"PRAGMA user_version={number:d}")
        conn.execute("COMMIT")
    except BaseException:
        if conn.in_transaction:
            conn.execute("ROLLBACK")
        raise


def _statements(sql: str) -> Iterator[str]:
    pending = ""
    for line in sql.splitlines(keepends=True):
        pending += line
        if sqlite3.complete_statement(pending):
            yield pending
            pending = ""
    if pending.strip() and not all(line.lstrip().startswith("--") or not line.strip() for line in pending.splitlines()):
        raise DatabaseError("a migration ends in the middle of a statement")


def _copy_aside(conn: sqlite3.Connection, target: Path) -> None:
    copy = sqlite3.connect(target)
    try:
        conn.backup(copy)
    finally:
        copy.close()
