"""Researchers who are enrolled here, and nonces of signed requests that were seen.

Owns the tables researcher and nonce.

Invariants:
- A revoked key stays in the table: it is known, and it is refused.
- A nonce is remembered durably before the request it came with is acted on; it survives a restart.
"""

import sqlite3
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from federation.errors import ReplayDetected
from federation.identity import parse_kid
from linkeddata.times import format_time, parse_time
from node.storage.db import Database

Standing = Literal["enrolled", "revoked", "unknown"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Researcher:
    """Somebody whose key was entered here."""

    kid: str
    name: str
    state: Literal["enrolled", "revoked"]
    enrolled: datetime
    revoked: datetime | None
    note: str


def enrol(conn: sqlite3.Connection, kid: str, name: str, *, note: str, now: datetime) -> None:
    """Enters a key, or brings a revoked one back.

    Raises:
        SignatureInvalid: this is no key id.
    """
    parse_kid(kid)
    conn.execute(
        """INSERT INTO researcher (kid, public_key, name, state, enrolled, note) VALUES (?, ?, ?, 'enrolled', ?, ?)
           ON CONFLICT (kid) DO UPDATE SET name = excluded.name, note = excluded.note, state = 'enrolled',
             enrolled = CASE WHEN state = 'revoked' THEN excluded.enrolled ELSE enrolled END, revoked = NULL""",
        (kid, kid.partition(":")[2], name, format_time(now), note),
    )


def revoke(conn: sqlite3.Connection, kid: str, *, now: datetime) -> bool:
    """Revokes a key; False when it was not enrolled."""
    changed = conn.execute(
        "UPDATE researcher SET state = 'revoked', revoked = ? WHERE kid = ? AND state = 'enrolled'",
        (format_time(now), kid),
    )
    return changed.rowcount > 0


def standing(conn: sqlite3.Connection, kid: str) -> Standing:
    """What this node knows about a key."""
    row = conn.execute("SELECT state FROM researcher WHERE kid = ?", (kid,)).fetchone()
    if row is None:
        return "unknown"
    return "enrolled" if row["state"] == "enrolled" else "revoked"


def listing(conn: sqlite3.Connection) -> list[Researcher]:
    """Everybody, by name."""
    rows = conn.execute("SELECT * FROM researcher ORDER BY name COLLATE NOCASE, kid").fetchall()
    return [
        Researcher(
            kid=row["kid"], name=row["name"], state=row["state"], enrolled=parse_time(row["enrolled"]),
            revoked=None if row["revoked"] is None else parse_time(row["revoked"]), note=row["note"],
        )
        for row in rows
    ]  # fmt: skip


class SqliteReplayGuard:
    """``federation.http_signatures.ReplayGuard`` on the node's database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def remember(self, kid: str, nonce: str, expires: datetime) -> None:
        """See the port."""

        def work(conn: sqlite3.Connection) -> None:
            try:
                conn.execute("INSERT INTO nonce VALUES (?, ?, ?)", (kid, nonce, int(expires.timestamp())))
            except sqlite3.IntegrityError as error:
                raise ReplayDetected("this signed request was received before") from error

        await self._database.write(work)


def forget_nonces(conn: sqlite3.Connection, *, now: datetime) -> int:
    """Removes nonces whose requests have expired; returns how many."""
    return conn.execute("DELETE FROM nonce WHERE expires < ?", (int(now.timestamp()),)).rowcount
