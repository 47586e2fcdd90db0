"""Columns of the search tables in memory: counts, facets and pages of broad questions, without a walk along their hits.

Derived from ``specimen_facet`` and kept for as long as the process lives (``node.storage.column_store``). Whoever asks
gives the connection on which the rest of the answer is read.

Invariants:
- An answer is that of the transaction it is asked in: what changed since the last question is read first, by the log of
  changes that every writer keeps in the same transaction (``search_change``). When the columns know more than the
  transaction, or much less, they answer nothing, and the caller asks the tables.
- Small collections are never loaded: the tables answer as fast.

It leaves out: what the columns hold and how they are asked.
"""

import logging
import sqlite3
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from linkeddata.selection import Annotated, Selection, Words, leaves
from node.access import Viewer
from node.storage.column_store import CannotTell, ColumnStore, Counted, is_facet, is_held

FEWEST: Final = 20_000
"""Specimens; of fewer the tables answer everything in milliseconds."""
MOST_NEWS: Final = 5_000
"""Changed specimens that a question takes in first; of more a thread does, and the tables answer meanwhile."""
_log = logging.getLogger(__name__)


class SearchColumns:
    """The columns of one database in one process. May be asked from any thread."""

    def __init__(self, connect: Callable[[], sqlite3.Connection], *, fewest: int = FEWEST) -> None:
        self._connect = connect
        self._fewest = fewest
        self._lock = threading.Lock()
        self._seq: int | None = None
        """Of the last change taken in; None while nothing is loaded, or a thread is loading."""
        self._thread: threading.Thread | None = None
        self._closing = False
        self._store = ColumnStore()

    def count(
        self,
        conn: sqlite3.Connection,
        selection: Selection,
        viewer: Viewer,
        *,
        facets: Sequence[str] = (),
        facet_limit: int = 0,
        page: tuple[int | None, int] | None = None,
    ) -> Counted | None:
        """Answers, or None when the tables have to be asked.

        Args:
            conn: inside a transaction in which nothing was read yet; the answer is that of this transaction.
            selection: what is asked.
            viewer: who asks.
            facets: parameters.
            facet_limit: values of each.
            page: (number of the last hit that is known, or None; hits wanted).
        """
        if not can_tell(selection, facets):
            return None
        with self._lock:
            if not self._is_current(conn):
                return None
            try:
                return self._store.count(conn, selection, viewer, facets, facet_limit, page)
            except CannotTell:
                return None

    def prepare(self, conn: sqlite3.Connection) -> None:
        """Begins to load in a thread, when the collection is large: before somebody asks."""
        with self._lock:
            self._is_current(conn)

    def load(self) -> None:
        """Loads now, in this thread (for commands and tests that do not want to wait for a thread)."""
        conn = self._connect()
        try:
            self._load(conn)
        finally:
            conn.close()

    def close(self) -> None:
        """Ends the thread, if there is one."""
        self._closing = True
        thread = self._thread
        if thread is not None:
            thread.join()

    # ------------------------------------------------------------------ following the tables
    def _is_current(self, conn: sqlite3.Connection) -> bool:
        """Takes in what changed. Holding the lock."""
        now = _last_change(conn)
        if self._seq is None:
            if self._thread is None and _size(conn) >= self._fewest:
                self._start()
            return False
        if now == self._seq:
            return True
        if now < self._seq:
            return False  # the transaction is older than what another question has taken in
        ranges = _changes(conn, self._seq)
        if ranges is None or sum(high - low + 1 for low, high in ranges) > MOST_NEWS:
            self._seq = None
            self._start()
            return False
        news = [(low, high, self._store.read(conn, low, high)) for low, high in ranges]  # may be stopped half-way
        for low, high, rows in news:
            self._store.replace(low, high, rows)
        self._seq = now
        return True

    def _start(self) -> None:
        if not self._closing:
            self._thread = threading.Thread(target=self._run, name="search-columns", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        try:
            self.load()
        except sqlite3.Error as error:
            _log.warning("columns for searching could not be loaded, the tables answer: %s", error)
        finally:
            self._thread = None

    def _load(self, conn: sqlite3.Connection) -> None:
        """Reads everything into a new store: in one transaction, so it is one state."""
        store = ColumnStore()
        conn.execute("BEGIN")
        try:
            now = _last_change(conn)
            for rows in store.slices(conn):
                if self._closing:
                    return
                store.take(rows)
        finally:
            conn.execute("ROLLBACK")
        with self._lock:
            self._store, self._seq = store, now


def can_tell(selection: Selection, facets: Iterable[str] = ()) -> bool:
    """Whether the columns hold what such a question is about; words alone are counted sooner by their own index."""
    asked = list(leaves(selection.tree))
    return (
        all(is_held(leaf) for leaf in asked)
        and all(is_facet(name) for name in facets)
        and (bool(facets) or not asked or not all(isinstance(leaf, Words | Annotated) for leaf in asked))
    )


def _last_change(conn: sqlite3.Connection) -> int:
    return int(conn.execute("SELECT coalesce(max(seq), 0) FROM search_change").fetchone()[0])


def _size(conn: sqlite3.Connection) -> int:
    lowest, highest = conn.execute(
        "SELECT coalesce((SELECT min(n) FROM specimen_facet), 0), coalesce((SELECT max(n) FROM specimen_facet), 0)"
    ).fetchone()
    return int(max(0, highest) - min(0, lowest))


def _changes(conn: sqlite3.Connection, since: int) -> list[tuple[int, int]] | None:
    """Ranges of numbers that changed, joined where they touch; None: the log does not reach back so far."""
    first = conn.execute("SELECT min(seq) FROM search_change").fetchone()[0]
    if first is None or first > since + 1:
        return None
    rows = conn.execute("SELECT low, high FROM search_change WHERE seq > ? ORDER BY low", (since,))
    found: list[tuple[int, int]] = []
    for low, high in rows:
        if found and low <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(high, found[-1][1]))
        else:
            found.append((low, high))
    return found
