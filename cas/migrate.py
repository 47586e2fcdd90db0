"""Numbered migrations of the blob index (``cas/migrations/NNNN.sql``), each applied in one transaction.

An index of a newer schema is refused; an older one is copied aside before it is changed.
"""

import contextlib
import importlib.resources
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from cas.errors import StoreFailed


def index_migrations() -> list[tuple[int, str]]:
    """All numbered migrations: (number, SQL), in order."""
    folder = importlib.resources.files("cas") / "migrations"
    found = [
        (int(entry.name[:4]), entry.read_text("utf-8")) for entry in folder.iterdir() if entry.name.endswith(".sql")
    ]
    return sorted(found)


def migrate(conn: sqlite3.Connection, path: Path) -> list[int]:
    """Brings the index to the newest schema; returns the numbers applied.

    Raises:
        StoreFailed: it was written by a newer version of the program.
    """
    steps = index_migrations()
    newest = steps[-1][0]
    at = int(conn.execute("PRAGMA user_version").fetchone()[0])
    if at > newest:
        raise StoreFailed(f"{path} is from a newer version of the program (schema {at}, known is {newest})")
    if 0 < at < newest:
        _copy_aside(conn, path.with_name(f"{path.name}.before-schema-{newest}"))
    return [number for number, sql in steps if number > at and _apply(conn, number, sql)]


def _apply(conn: sqlite3.Connection, number: int, sql: str) -> bool:
    conn.execute("BEGIN IMMEDIATE")
    try:
        is_due = int(conn.execute("PRAGMA user_version").fetchone()[0]) < number  # another process may have been first
        if is_due:
            for statement in _statements(sql):
                conn.execute(statement)
            conn.execute(f"PRAGMA user_version={number:d}")
        conn.execute("COMMIT")
    except BaseException:
        if conn.in_transaction:
            conn.execute("ROLLBACK")
        raise
    return is_due


def _copy_aside(conn: sqlite3.Connection, target: Path) -> None:
    """A copy of the index beside it, complete or not there."""
    if target.exists():
        return
    temporary = target.with_name(target.name + f".{os.getpid()}.part")
    copy = sqlite3.connect(temporary)
    try:
        conn.backup(copy)
        copy.close()
        os.replace(temporary, target)  # noqa: PTH105 - beside the name it replaces
    finally:
        copy.close()
        with contextlib.suppress(OSError):
            temporary.unlink()


def _statements(sql: str) -> Iterator[str]:
    pending = ""
    for line in sql.splitlines(keepends=True):
        pending += line
        if sqlite3.complete_statement(pending):
            yield pending
            pending = ""
