"""The durable journal of work (port: ``runners.journal``) in the node's database.

Every acknowledged step is a FULL commit, shared with whatever else is written at that moment (group commit).
How many units another one still waits for is counted in the transaction in which one of them ends: no kill comes
between.
"""

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from linkeddata.pipeline import WorkUnit
from linkeddata.times import format_time
from node.storage.db import Database
from runners.journal import FailureKind, Leased, UnitStatus, decide_after_failure, not_enqueued

_WAITS: Final = """(SELECT count(*) FROM unit_need n JOIN unit u ON u.work_key = n.upstream
  WHERE n.work_key = unit.work_key AND u.state IN ('queued', 'leased'))"""
"""How many of the units that a ``unit`` takes results of have not ended. Counted again, never up or down."""
_FINE: Final = "%Y-%m-%dT%H:%M:%S.%fZ"
"""Leases and retries need fractions of a second, which documents do not."""


class SqliteJournal:
    """The journal of one node."""

    def __init__(self, database: Database) -> None:
        self._db = database

    async def status(self, key: str) -> UnitStatus | None:
        """How a unit stands; None when it is not known."""
        return await self._db.read(lambda conn: unit_status(conn, key))

    async def enqueue(self, units: Sequence[tuple[int, WorkUnit]], *, now: datetime) -> int:
        """See ``runners.journal.Journal``."""
        return await self._db.write(lambda conn: enqueue(conn, units, now=now))

    async def lease(
        self, pipeline: str, environment: str, *, limit: int, now: datetime, lease_s: float, boot: str
    ) -> list[Leased]:
        """See ``runners.journal.Journal``."""
        moment = now.strftime(_FINE)
        waiting = await self._db.read(lambda conn: _has_queued(conn, pipeline, environment, moment))
        if not waiting:
            return []  # an idle node does not write
        until = (now + timedelta(seconds=lease_s)).strftime(_FINE)
        return await self._db.write(lambda conn: _lease(conn, pipeline, environment, limit, moment, until, boot))

    async def complete(self, key: str, attempt: int, body: bytes, seconds: float, *, now: datetime) -> bool:
        """See ``runners.journal.Journal``."""

        def work(conn: sqlite3.Connection) -> bool:
            counted = conn.execute(
                """UPDATE unit SET state = 'done', body = ?, seconds = ?, finished = ?, reason = NULL,
                     failure_kind = NULL, lease_boot = NULL, lease_until = NULL
                   WHERE work_key = ? AND attempt = ? AND state = 'leased'""",
                (body, seconds, format_time(now), key, attempt),
            ).rowcount
            if counted:
                tell_waiting(conn, key)
            return bool(counted)

        return await self._db.write(work)

    async def fail(self, key: str, attempt: int, kind: FailureKind, reason: str, *, now: datetime) -> bool:
        """See ``runners.journal.Journal``."""

        def work(conn: sqlite3.Connection) -> bool:
            row = conn.execute(
                "SELECT failures FROM unit WHERE work_key = ? AND attempt = ? AND state = 'leased'", (key, attempt)
            ).fetchone()
            if row is None:
                return False
            after = decide_after_failure(kind, row["failures"], reason, now=now)
            if kind == "upstream" and _waits(conn, key):
                after = replace(after, state="queued")  # somebody had them queued again meanwhile
            finished = None if after.state == "queued" else format_time(now)
            retry = None if after.retry_at is None else after.retry_at.strftime(_FINE)
            conn.execute(
                f"""UPDATE unit SET state = ?, failures = ?, reason = ?, failure_kind = ?, not_before = ?, finished = ?,
                     lease_boot = NULL, lease_until = NULL, waits = {_WAITS} WHERE work_key = ?""",  # noqa: S608 - a constant
                (after.state, after.failures, after.reason, kind, retry, finished, key),
            )
            if finished is not None:
                tell_waiting(conn, key)
            return True

        return await self._db.write(work)

    async def release(self, key: str, attempt: int, *, now: datetime) -> bool:  # noqa: ARG002
        """See ``runners.journal.Journal``."""
        return await self._db.write(
            lambda conn: (
                conn.execute(
                    f"""UPDATE unit SET state = 'queued', lease_boot = NULL, lease_until = NULL, waits = {_WAITS}
                   WHERE work_key = ? AND attempt = ? AND state = 'leased'""",  # noqa: S608 - a constant
                    (key, attempt),
                ).rowcount
                == 1
            )
        )

    async def reclaim(self, boot: str, *, now: datetime) -> int:
        """See ``runners.journal.Journal``."""
        return await self._db.write(
            lambda conn: (
                conn.execute(
                    f"""UPDATE unit SET state = 'queued', lease_boot = NULL, lease_until = NULL, waits = {_WAITS}
                   WHERE state = 'leased' AND (lease_boot <> ? OR lease_until < ?)""",  # noqa: S608 - a constant
                    (boot, now.strftime(_FINE)),
                ).rowcount
            )
        )


def enqueue(conn: sqlite3.Connection, units: Sequence[tuple[int, WorkUnit]], *, now: datetime) -> int:
    """Queues units with their turns inside the caller's transaction; returns how many are newly queued.

    Raises:
        ValueError: a unit takes the result of one that is neither here nor before it in ``units``.
    """
    queued = 0
    serial = int(conn.execute("SELECT coalesce(max(serial), 0) FROM unit").fetchone()[0])
    for turn, unit in units:
        serial += 1
        key = unit.key
        for name in unit.upstream:
            if conn.execute("SELECT 1 FROM unit WHERE work_key = ?", (name,)).fetchone() is None:
                raise ValueError(not_enqueued(unit, name))
        is_new = conn.execute(
            """INSERT INTO unit
                 (work_key, output, pipeline, parameters, image, environment, state, turn, serial, created)
               VALUES (?, ?, ?, ?, ?, ?, 'queued', ?, ?, ?)
               ON CONFLICT (work_key) DO UPDATE SET state = 'queued', turn = excluded.turn, serial = excluded.serial,
                 failures = 0, reason = NULL, failure_kind = NULL, not_before = NULL, finished = NULL
               WHERE unit.state IN ('withheld', 'cancelled')
                  OR (unit.state = 'failed' AND unit.failure_kind <> 'permanent')""",
            (
                key, unit.output, unit.pipeline, json.dumps(dict(unit.parameters), sort_keys=True), unit.image,
                unit.environment, turn, serial, format_time(now),
            ),
        ).rowcount  # fmt: skip
        if is_new:
            queued += 1
            _wait_for(conn, key, unit.upstream)
            tell_waiting(conn, key)
        else:
            conn.execute(
                "UPDATE unit SET turn = ?, serial = ? WHERE work_key = ? AND state = 'queued' AND turn > ?",
                (turn, serial, key, turn),
            )
    return queued


def tell_waiting(conn: sqlite3.Connection, key: str) -> None:
    """A unit ended, or is queued again: units that take its result count anew what they wait for."""
    conn.execute(
        f"""UPDATE unit SET waits = {_WAITS} WHERE state = 'queued'
              AND work_key IN (SELECT work_key FROM unit_need WHERE upstream = ?)""",  # noqa: S608 - a constant
        (key,),
    )


def _wait_for(conn: sqlite3.Connection, key: str, upstream: Sequence[str]) -> None:
    if not upstream:
        return
    conn.executemany(
        "INSERT OR IGNORE INTO unit_need (work_key, position, upstream) VALUES (?, ?, ?)",
        [(key, position, name) for position, name in enumerate(upstream)],
    )
    conn.execute(f"UPDATE unit SET waits = {_WAITS} WHERE work_key = ?", (key,))  # noqa: S608 - a constant


def unit_status(conn: sqlite3.Connection, key: str) -> UnitStatus | None:
    """How a unit stands; None when it is not known."""
    row = conn.execute(
        "SELECT state, attempt, failures, reason, failure_kind, body FROM unit WHERE work_key = ?", (key,)
    ).fetchone()
    if row is None:
        return None
    return UnitStatus(
        state=row["state"], attempt=row["attempt"], failures=row["failures"], reason=row["reason"] or "",
        failure_kind=row["failure_kind"], body=None if row["body"] is None else bytes(row["body"]),
    )  # fmt: skip


def load_unit(conn: sqlite3.Connection, key: str) -> WorkUnit | None:
    """A unit as it was enqueued."""
    row = conn.execute("SELECT * FROM unit WHERE work_key = ?", (key,)).fetchone()
    return None if row is None else _unit(conn, row)


def _upstream(conn: sqlite3.Connection, key: str) -> tuple[str, ...]:
    rows = conn.execute("SELECT upstream FROM unit_need WHERE work_key = ? ORDER BY position", (key,))
    return tuple(row["upstream"] for row in rows)


def _waits(conn: sqlite3.Connection, key: str) -> int:
    return int(conn.execute(f"SELECT {_WAITS} FROM unit WHERE work_key = ?", (key,)).fetchone()[0])  # noqa: S608


def _has_queued(conn: sqlite3.Connection, pipeline: str, environment: str, moment: str) -> bool:
    return (
        conn.execute(
            """SELECT 1 FROM unit WHERE state = 'queued' AND waits = 0 AND pipeline = ? AND environment = ?
               AND (not_before IS NULL OR not_before <= ?) LIMIT 1""",
            (pipeline, environment, moment),
        ).fetchone()
        is not None
    )


def _lease(
    conn: sqlite3.Connection, pipeline: str, environment: str, limit: int, moment: str, until: str, boot: str
) -> list[Leased]:
    rows = conn.execute(
        """SELECT * FROM unit WHERE state = 'queued' AND waits = 0 AND pipeline = ? AND environment = ?
             AND (not_before IS NULL OR not_before <= ?) ORDER BY turn, serial, work_key LIMIT ?""",
        (pipeline, environment, moment, limit),
    ).fetchall()
    for row in rows:
        conn.execute(
            """UPDATE unit SET state = 'leased', attempt = attempt + 1, lease_boot = ?, lease_until = ?
               WHERE work_key = ?""",
            (boot, until, row["work_key"]),
        )
    return [_leased(conn, row) for row in rows]


def _leased(conn: sqlite3.Connection, row: sqlite3.Row) -> Leased:
    unit, upstream = _unit(conn, row), dict[str, UnitStatus]()
    for name in unit.upstream:
        output = conn.execute("SELECT output FROM unit WHERE work_key = ?", (name,)).fetchone()["output"]
        status = unit_status(conn, name)
        assert status is not None  # a foreign key keeps it
        upstream[output] = status
    return Leased(unit=unit, attempt=row["attempt"] + 1, upstream=upstream)


def _unit(conn: sqlite3.Connection, row: sqlite3.Row) -> WorkUnit:
    return WorkUnit(
        output=row["output"], pipeline=row["pipeline"], environment=row["environment"], image=row["image"],
        parameters=json.loads(row["parameters"]), upstream=_upstream(conn, row["work_key"]),
    )  # fmt: skip


def is_done(conn: sqlite3.Connection, unit: WorkUnit) -> bool:
    """Whether there is a result of this unit."""
    row = conn.execute("SELECT 1 FROM unit WHERE work_key = ? AND state = 'done'", (unit.key,)).fetchone()
    return row is not None


def keep_result(conn: sqlite3.Connection, unit: WorkUnit, body: bytes, seconds: float, *, now: datetime) -> bool:
    """Keeps a result that no job asked for; False when the engine has the unit in hand."""
    stamp = format_time(now)
    is_kept = (
        conn.execute(
            """INSERT INTO unit (work_key, output, pipeline, parameters, image, environment, state, body, seconds,
                 created, finished)
               VALUES (?, ?, ?, ?, ?, ?, 'done', ?, ?, ?, ?)
               ON CONFLICT (work_key) DO UPDATE SET state = 'done', body = excluded.body, seconds = excluded.seconds,
                 finished = excluded.finished, reason = NULL, failure_kind = NULL
               WHERE unit.state NOT IN ('queued', 'leased')""",
            (
                unit.key, unit.output, unit.pipeline, json.dumps(dict(unit.parameters), sort_keys=True), unit.image,
                unit.environment, body, seconds, stamp, stamp,
            ),
        ).rowcount
        == 1
    )  # fmt: skip
    if is_kept:
        tell_waiting(conn, unit.key)
    return is_kept
