"""The registry's own small database: one row per origin, the envelope exactly as its origin served it."""

import json
import sqlite3
import threading
from pathlib import Path
from typing import Final

from federation.continuity import parse_pin
from federation.registry import Entry
from linkeddata.envelope import parse_envelope
from linkeddata.times import format_time, parse_time

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS entry (
  origin TEXT PRIMARY KEY, envelope TEXT NOT NULL, pin TEXT NOT NULL, first_seen TEXT NOT NULL,
  last_success TEXT NOT NULL, last_try TEXT NOT NULL, failures INTEGER NOT NULL, problem TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS key_log (
  seq INTEGER PRIMARY KEY, origin TEXT NOT NULL, signing TEXT NOT NULL, recovery TEXT NOT NULL, at TEXT NOT NULL
) STRICT;
"""


class RegistryStore:
    """Blocking and thread-safe; every write is durable when it returns."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._guard = threading.Lock()
        self._conn = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=30)
        self._conn.row_factory = sqlite3.Row
        self._conn.execute("PRAGMA journal_mode=WAL")
        self._conn.execute("PRAGMA synchronous=FULL")
        self._conn.executescript(_SCHEMA)

    def get(self, origin: str) -> Entry | None:
        """The entry of an origin."""
        with self._guard:
            row = self._conn.execute("SELECT * FROM entry WHERE origin = ?", (origin,)).fetchone()
        return None if row is None else _entry(row)

    def all(self, *, limit: int) -> list[Entry]:
        """Every entry, by origin."""
        with self._guard:
            rows = self._conn.execute("SELECT * FROM entry ORDER BY origin LIMIT ?", (limit,)).fetchall()
        return [_entry(row) for row in rows]

    def count(self) -> int:
        """How many entries there are."""
        with self._guard:
            return int(self._conn.execute("SELECT count(*) FROM entry").fetchone()[0])

    def put(self, entry: Entry) -> None:
        """Writes an entry; a change of its keys is also written to the key log."""
        pin = json.dumps(entry.pin.to_json())
        signing, recovery = json.dumps(sorted(entry.pin.signing)), json.dumps(sorted(entry.pin.recovery))
        with self._guard:
            self._conn.execute("BEGIN IMMEDIATE")
            try:
                last = self._conn.execute(
                    "SELECT signing, recovery FROM key_log WHERE origin = ? ORDER BY seq DESC LIMIT 1", (entry.origin,)
                ).fetchone()
                if last is None or (last["signing"], last["recovery"]) != (signing, recovery):
                    self._conn.execute(
                        "INSERT INTO key_log (origin, signing, recovery, at) VALUES (?, ?, ?, ?)",
                        (entry.origin, signing, recovery, format_time(entry.last_try)),
                    )
                self._conn.execute(
                    "INSERT OR REPLACE INTO entry VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                    (
                        entry.origin, json.dumps(entry.envelope.to_json()), pin, format_time(entry.first_seen),
                        format_time(entry.last_success), format_time(entry.last_try), entry.failures, entry.problem,
                    ),
                )  # fmt: skip
                self._conn.execute("COMMIT")
            except BaseException:
                if self._conn.in_transaction:
                    self._conn.execute("ROLLBACK")
                raise

    def close(self) -> None:
        """Closes the file."""
        with self._guard:
            self._conn.close()


def _entry(row: sqlite3.Row) -> Entry:
    return Entry(
        origin=row["origin"], envelope=parse_envelope(row["envelope"]), pin=parse_pin(json.loads(row["pin"])),
        first_seen=parse_time(row["first_seen"]), last_success=parse_time(row["last_success"]),
        last_try=parse_time(row["last_try"]), failures=row["failures"], problem=row["problem"],
    )  # fmt: skip
