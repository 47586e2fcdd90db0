"""Builds the search tables anew from the records, beside a serving node, and swaps them in one transaction.

Invariants:
- Until the swap, questions are answered from the old tables, which go on following every change; after it, from the
  new ones. No answer is made from both.
- The new tables are filled in small transactions, so that writers wait for a fraction of a second at most.
- A specimen that changes meanwhile is noted in the transaction that changes it, and indexed again before the swap.
- A rebuild that ends half-way (or is killed) has changed nothing; the next one clears what it left. Of two at once the
  later one wins, the earlier one stops.

It leaves out: what stands in the tables (``node.storage.search_index``).
"""

import re
import sqlite3
from collections.abc import Callable
from typing import Final

from node.storage.db import Database
from node.storage.search_index import EVERYTHING, TABLES, note_changes, write

NEXT: Final = "next_"
BATCH: Final = 500
"""Specimens of one transaction: about a tenth of a second of a writer's patience."""
LAST_BATCH: Final = 100
"""So few changed specimens are indexed within the swap itself."""
_TABLE: Final = re.compile(r"(CREATE\s+(?:VIRTUAL\s+)?TABLE\s+)[\"'`]?(\w+)[\"'`]?")
_INDEX: Final = re.compile(r"CREATE\s+INDEX\s+[\"'`]?(\w+)[\"'`]?\s+ON\s+[\"'`]?(\w+)[\"'`]?")


class RebuildOvertaken(Exception):
    """Another rebuild began meanwhile; it will finish the work."""


def _say_nothing(done: int, total: int) -> None:
    """Nobody watches."""


def rebuild(database: Database, *, token: str, progress: Callable[[int, int], None] = _say_nothing) -> int:
    """Rebuilds; returns how many specimens are in the tables.

    Args:
        database: of a node that may be serving.
        token: any text that no other rebuild has.
        progress: told after each step how many specimens are done, of how many; between transactions.

    Raises:
        RebuildOvertaken: another one began.
    """
    with database.transaction() as conn:
        _clear(conn)
        _create(conn)
        conn.execute("INSERT OR REPLACE INTO meta VALUES ('search_rebuild', ?)", (token,))
        conn.execute("DELETE FROM search_dirty")
        total = conn.execute("SELECT count(*) FROM record WHERE kind = 'specimen' AND state = 'active'").fetchone()[0]
    done, last = 0, ""
    progress(done, total)
    while True:
        with database.transaction() as conn:
            _check(conn, token)
            rows = conn.execute(
                """SELECT iri FROM record WHERE iri > ? AND kind = 'specimen' AND state = 'active'
                   ORDER BY iri LIMIT ?""",
                (last, BATCH),
            ).fetchall()
            for row in rows:
                write(conn, row["iri"], prefix=NEXT)
        done, last = done + len(rows), rows[-1]["iri"] if rows else last
        progress(done, max(done, total))
        if len(rows) < BATCH:  # whatever comes after these was noted as changed
            break
    _merge(database, token)
    while _follow(database, token) > LAST_BATCH:
        progress(done, max(done, total))
    count = _swap(database, token)
    with database.transaction() as conn:
        conn.execute("PRAGMA analysis_limit=2000")
        conn.execute("ANALYZE specimen_facet")
        conn.execute("ANALYZE annotation_mark")
    return count


def _check(conn: sqlite3.Connection, token: str) -> None:
    row = conn.execute("SELECT value FROM meta WHERE key = 'search_rebuild'").fetchone()
    if row is None or row[0] != token:
        raise RebuildOvertaken("another rebuild of the search tables began meanwhile")


def _clear(conn: sqlite3.Connection) -> None:
    for table in TABLES:
        conn.execute(f"DROP TABLE IF EXISTS {NEXT}{table}")


def _create(conn: sqlite3.Connection) -> None:
    """The same tables and indexes as those in use, under other names."""
    for table in TABLES:
        statement = conn.execute("SELECT sql FROM sqlite_master WHERE type = 'table' AND name = ?", (table,)).fetchone()
        conn.execute(_TABLE.sub(lambda found: f"{found[1]}{NEXT}{found[2]}", statement[0], count=1))
        indexes = conn.execute(
            "SELECT sql FROM sqlite_master WHERE type = 'index' AND tbl_name = ? AND sql IS NOT NULL", (table,)
        ).fetchall()
        for row in indexes:
            conn.execute(_INDEX.sub(_other_index, row[0], count=1))


def _other_index(found: re.Match[str]) -> str:
    """Names of indexes are of no table, so the two generations take turns with them."""
    name = found[1].removesuffix("_b") if found[1].endswith("_b") else found[1] + "_b"
    return f"CREATE INDEX {name} ON {NEXT}{found[2]}"


def _merge(database: Database, token: str) -> None:
    """Merges the new full-text indexes, a slice at a time."""
    for table in (f"{NEXT}specimen_text", f"{NEXT}annotation_text"):
        pages = -BATCH
        while True:
            with database.transaction() as conn:
                _check(conn, token)
                before = conn.total_changes
                conn.execute(f"INSERT INTO {table} ({table}, rank) VALUES ('merge', ?)", (pages,))  # noqa: S608
                changes = conn.total_changes - before
            if changes < 2:  # as the documentation of FTS5 says: nothing is left to merge
                break
            pages = BATCH


def _follow(database: Database, token: str) -> int:
    """Indexes what changed meanwhile; returns how many are left."""
    with database.transaction() as conn:
        _check(conn, token)
        _take_changed(conn, BATCH)
        return int(conn.execute("SELECT count(*) FROM search_dirty").fetchone()[0])


def _take_changed(conn: sqlite3.Connection, limit: int) -> None:
    for row in conn.execute("SELECT iri FROM search_dirty LIMIT ?", (limit,)).fetchall():
        write(conn, row["iri"], prefix=NEXT)
        conn.execute("DELETE FROM search_dirty WHERE iri = ?", (row["iri"],))


def _swap(database: Database, token: str) -> int:
    with database.transaction() as conn:
        _check(conn, token)
        _take_changed(conn, -1)
        for table in TABLES:
            conn.execute(f"DROP TABLE {table}")
            conn.execute(f"ALTER TABLE {NEXT}{table} RENAME TO {table}")
        note_changes(conn, *EVERYTHING)
        conn.execute("DELETE FROM meta WHERE key IN ('search_rebuild', 'search_stale')")
        return int(conn.execute("SELECT count(*) FROM specimen_facet").fetchone()[0])
