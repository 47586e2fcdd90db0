"""The ledger of a source: its ingest runs, plans that wait for a person, findings, and the rules its records follow.

Owns the tables ingest_run, ingest_plan, finding and source, and in ``meta`` the digest of the rules of each source.

Invariants:
- A plan behind the brake is stored and waits; of plans that nobody accepted only the newest can be accepted.
- Until a run under new settings has ended, the rules of a source count as mixed: whatever run comes next looks at
  every record.
- At most one run of a source is running; one that was cut off is said to have stopped.

It leaves out: what a run does to records (``node.services.ingest``).
"""

import json
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from linkeddata.ingest_plan import IngestPlan
from linkeddata.times import format_time
from node.services.ingest_report import IngestReport
from node.services.ingest_rules import RULES_PREFIX


class PlanHeld(Exception):
    """The brake is on; the message says why and how to go on."""

    def __init__(self, plan: IngestPlan, reason: str) -> None:
        super().__init__(reason)
        self.plan = plan


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something about a row, a file or the archive (then ``key`` is empty)."""

    key: str
    code: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestLedger:
    """Of one source. Every method works inside the caller's transaction."""

    source: str
    place: str
    """Where its rows come from now; empty when they come from no folder."""
    rules: str
    """Digest of the settings that this run publishes under."""

    def rules_followed(self, conn: sqlite3.Connection) -> str:
        """The digest of the settings that everything of this source was published under; empty when mixed."""
        row = conn.execute("SELECT value FROM meta WHERE key = ?", (RULES_PREFIX + self.source,)).fetchone()
        if row is not None:
            return str(row["value"])
        some = conn.execute("SELECT 1 FROM source_row WHERE source = ? LIMIT 1", (self.source,)).fetchone()
        return self.rules if some is None else ""

    def hold(self, conn: sqlite3.Connection, plan: IngestPlan, reason: str, *, now: datetime) -> None:
        """Keeps a plan that a person has to accept."""
        self._forget_plans(conn, plan)
        conn.execute(
            "INSERT OR REPLACE INTO ingest_plan VALUES (?, ?, ?, ?, ?, NULL)",
            (plan.id, self.source, self.place, format_time(now), json.dumps({"reason": reason})),
        )

    def begin(self, conn: sqlite3.Connection, plan: IngestPlan, *, kind: str, title: str, now: datetime) -> int:
        """Opens a run; returns its number."""
        stamp = format_time(now)
        conn.execute("UPDATE ingest_run SET state = 'stopped' WHERE source = ? AND state = 'running'", (self.source,))
        row = conn.execute(
            """INSERT INTO ingest_run (source, path, plan, started, state) VALUES (?, ?, ?, ?, 'running')
               RETURNING id""",
            (self.source, self.place, plan.id, stamp),
        ).fetchone()
        conn.execute("UPDATE ingest_plan SET accepted = ? WHERE id = ?", (stamp, plan.id))
        self._forget_plans(conn, plan)
        conn.execute("DELETE FROM finding WHERE source = ?", (self.source,))
        self._follow(conn, self.rules if self.rules_followed(conn) == self.rules else "")
        conn.execute(
            "INSERT OR REPLACE INTO source (name, kind, path, title, last_ingest) VALUES (?, ?, ?, ?, ?)",
            (self.source, kind, self.place, title, stamp),
        )
        return int(row[0])

    def note(self, conn: sqlite3.Connection, findings: Iterable[Finding], run: int, *, now: datetime) -> None:
        """Writes findings down."""
        stamp = format_time(now)
        conn.executemany(
            "INSERT INTO finding (source, key, code, message, run, at) VALUES (?, ?, ?, ?, ?, ?)",
            [(self.source, item.key, item.code, item.message[:500], run, stamp) for item in findings],
        )

    def close(self, conn: sqlite3.Connection, run: int, report: IngestReport, *, now: datetime) -> None:
        """The run is done: every record of the source follows the rules now."""
        self._follow(conn, self.rules)
        conn.execute(
            "UPDATE ingest_run SET state = 'done', finished = ?, counts = ? WHERE id = ?",
            (format_time(now), json.dumps(report.counts()), run),
        )

    def break_off(
        self, conn: sqlite3.Connection, run: int, state: Literal["stopped", "failed"], *, now: datetime
    ) -> None:
        """The run ended before its end."""
        conn.execute("UPDATE ingest_run SET state = ?, finished = ? WHERE id = ?", (state, format_time(now), run))

    def _follow(self, conn: sqlite3.Connection, rules: str) -> None:
        conn.execute("INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)", (RULES_PREFIX + self.source, rules))

    def _forget_plans(self, conn: sqlite3.Connection, plan: IngestPlan) -> None:
        """Of the plans of a source that nobody accepted only the newest can be: the others were of other archives."""
        conn.execute(
            "DELETE FROM ingest_plan WHERE source = ? AND accepted IS NULL AND id <> ?", (self.source, plan.id)
        )
