"""Values for the collection system: what accepted statements propose, and what became of it there.

Owns the table correction.

Invariants:
- A value is proposed only where it differs from what the institution's own row says at that moment.
- Every value has a number from which on it is exported: of its entry in the publication log, or of the next one, and
  always beyond the last number that an export has handed out. So "since N" misses nothing and repeats nothing.
- An ingest that carries the value closes it; one that carries another value than the old and the new contradicts it.
- What is withdrawn after it was proposed is exported again, as withdrawn.

It leaves out: the file (``node.services.corrections``), deciding (``node.services.review``).
"""

import json
import sqlite3
import unicodedata
from collections.abc import Mapping
from datetime import datetime
from typing import Final

from linkeddata.statement import proposals_of
from linkeddata.times import format_time
from node.storage.records import last_seq
from node.storage.reviews import ReviewRow

SAID: Final = "corrections_said"
"""Key in ``meta``: the last number that an export handed out."""


def propose(conn: sqlite3.Connection, row: ReviewRow, *, seq: int | None, now: datetime) -> int:
    """Keeps what an accepted statement proposes for the rows of its specimens; returns how many values.

    Args:
        conn: in a write transaction.
        row: the statement.
        seq: its entry in the publication log, if it has one.
        now: when.
    """
    shown = [
        item["specimen"]
        for item in conn.execute("SELECT specimen FROM medium_specimen WHERE medium = ?", (row.medium,)).fetchall()
    ]
    count = 0
    for proposal in proposals_of(row.document):
        specimen = proposal.specimen or (shown[0] if len(shown) == 1 else None)
        fields = None if specimen is None else fields_of(conn, specimen)
        if specimen is None or fields is None:
            continue  # the image shows several specimens, and nobody said whose value it is
        old = fields.get(proposal.field, "")
        if is_same(old, proposal.value) or (proposal.fills_only and old.strip()):
            continue
        conn.execute(
            """INSERT INTO correction (iri, specimen, field, old, new, seq, state, at)
               VALUES (?, ?, ?, ?, ?, ?, 'open', ?)
               ON CONFLICT (iri, specimen, field) DO UPDATE SET old = excluded.old, new = excluded.new,
                 seq = excluded.seq, state = 'open', seen = NULL, at = excluded.at""",
            (row.iri, specimen, proposal.field, old, proposal.value, _number(conn, seq), format_time(now)),
        )
        count += 1
    return count


def withdraw(conn: sqlite3.Connection, iri: str, *, now: datetime) -> int:
    """Takes back what a statement proposed; returns how many values."""
    return conn.execute(
        """UPDATE correction SET state = 'withdrawn', seq = ?, at = ?
           WHERE iri = ? AND state IN ('open', 'contradicted')""",
        (_number(conn, None), format_time(now), iri),
    ).rowcount


def settle(conn: sqlite3.Connection, specimen: str, fields: Mapping[str, str], *, now: datetime) -> tuple[int, int]:
    """What an ingest says about values that were proposed for this row; returns (incorporated, contradicted)."""
    done = [0, 0]
    rows = conn.execute(
        "SELECT * FROM correction WHERE specimen = ? AND state IN ('open', 'contradicted')", (specimen,)
    ).fetchall()
    for row in rows:
        value = fields.get(row["field"], "")
        if is_same(value, row["new"]):
            state = "incorporated"
        elif not is_same(value, row["old"]):
            state = "contradicted"
        else:
            state = "open"
        if state == row["state"]:
            continue
        done[0] += state == "incorporated"
        done[1] += state == "contradicted"
        conn.execute(
            "UPDATE correction SET state = ?, seen = ?, at = ? WHERE iri = ? AND specimen = ? AND field = ?",
            (state, value, format_time(now), row["iri"], specimen, row["field"]),
        )
    return done[0], done[1]


def outcomes_of(conn: sqlite3.Connection, iri: str) -> list[dict[str, str | int]]:
    """The values of a statement and what became of them."""
    rows = conn.execute("SELECT * FROM correction WHERE iri = ? ORDER BY specimen, field", (iri,))
    return [dict(row) for row in rows]


def hand_out(conn: sqlite3.Connection, since: int) -> tuple[list[sqlite3.Row], int]:
    """Values with a number after ``since``, and the number to ask from next time; in a write transaction."""
    rows = conn.execute(
        """SELECT c.*, v.pipeline, v.score, v.by, v.at AS decided, v.maker, v.medium,
                  coalesce((SELECT r.published FROM record r WHERE r.iri = c.iri AND r.state = 'active'), 0) AS public
           FROM correction c JOIN review v ON v.iri = c.iri WHERE c.seq > ? ORDER BY c.seq, c.iri, c.field""",
        (since,),
    ).fetchall()
    following = max(since, last_seq(conn), _said(conn), *(row["seq"] for row in rows))
    conn.execute(
        "INSERT INTO meta VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value", (SAID, str(following))
    )
    return rows, following


def fields_of(conn: sqlite3.Connection, specimen: str) -> dict[str, str] | None:
    """The institution's own row of a specimen, as received: term -> text; None when there is none."""
    row = conn.execute(
        "SELECT body FROM source_row WHERE iri = ? AND state = 'present' ORDER BY source LIMIT 1", (specimen,)
    ).fetchone()
    return None if row is None else {str(key): str(value) for key, value in json.loads(row["body"])["fields"].items()}


def is_same(one: str, other: str) -> bool:
    """Whether two values are the same but for blanks and the way of writing accents."""
    return _plain(one) == _plain(other)


def _plain(text: str) -> str:
    return " ".join(unicodedata.normalize("NFC", text).split())


def _number(conn: sqlite3.Connection, seq: int | None) -> int:
    return max(seq if seq is not None else last_seq(conn) + 1, _said(conn) + 1)


def _said(conn: sqlite3.Connection) -> int:
    row = conn.execute("SELECT value FROM meta WHERE key = ?", (SAID,)).fetchone()
    return 0 if row is None else int(row["value"])
