"""Annotations in the database: which statement about which image is current, and what a stricter class undoes.

Invariants:
- At most one annotation per (medium, claim) is current; a newer one supersedes, nothing is erased by it. The claim is
  the output contract; several classifiers may say something about one image, so with ``classes/1`` it is the contract
  and the name of the pipeline.
- When bytes stop being open, every public annotation made from them is withdrawn in the same transaction, also one that
  was carried over to other bytes of the same picture.

It leaves out: building the documents (``linkeddata.records``) and deciding what may be
published (``node.services.jobs``).
"""

import sqlite3
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from cas.ids import ContentId
from linkeddata.access import AccessClass
from linkeddata.records import build_tombstone
from linkeddata.times import format_time
from node.storage import records
from node.storage.claims import claim
from node.storage.facts import bytes_facts
from node.storage.search_index import index_specimen

CLAIM: Final = claim("a")
"""Of an annotation ``a``: what it is about, as text; ``claim_of`` says it of one that is not there yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AnnotationRow:
    """How an annotation hangs on image, pipeline and job."""

    iri: str
    medium: str
    image: str
    output: str
    pipeline: str
    environment: str
    work_key: str
    job: str | None


def claim_of(conn: sqlite3.Connection, output: str, pipeline: str) -> str:
    """What a statement of a pipeline (digest) under a contract is about."""
    return str(
        conn.execute(f"SELECT {CLAIM} FROM (SELECT ? AS output, ? AS pipeline) a", (output, pipeline)).fetchone()[0]  # noqa: S608
    )


def add(conn: sqlite3.Connection, row: AnnotationRow, *, now: datetime) -> None:
    """Makes this the current annotation of its medium and claim; publish the record before."""
    conn.execute(
        f"""UPDATE annotation AS a SET state = 'superseded'
            WHERE medium = ? AND {CLAIM} = ? AND state = 'current' AND iri <> ?""",  # noqa: S608 - a constant
        (row.medium, claim_of(conn, row.output, row.pipeline), row.iri),
    )
    conn.execute(
        "INSERT OR REPLACE INTO annotation VALUES (?, ?, ?, ?, ?, ?, ?, ?, 'current', ?)",
        (
            row.iri, row.medium, row.image, row.output, row.pipeline, row.environment, row.work_key, row.job,
            format_time(now),
        ),
    )  # fmt: skip
    reindex_medium(conn, row.medium)


def step_back(conn: sqlite3.Connection, iri: str) -> None:
    """This annotation is not the current one any more; the best that stood before it and is still public is again."""
    row = conn.execute("SELECT medium, output, pipeline, state FROM annotation WHERE iri = ?", (iri,)).fetchone()
    if row is None:
        return
    if row["state"] == "current":
        conn.execute("UPDATE annotation SET state = 'superseded' WHERE iri = ?", (iri,))
        conn.execute(
            f"""UPDATE annotation SET state = 'current' WHERE iri = (
                 SELECT a.iri FROM annotation a JOIN record r ON r.iri = a.iri JOIN review v ON v.iri = a.iri
                 JOIN medium m ON m.iri = a.medium
                 WHERE a.medium = ? AND {CLAIM} = ? AND a.iri <> ? AND a.state = 'superseded' AND r.state = 'active'
                   AND a.image = m.image AND v.superseded_by IS NULL
                 ORDER BY v.state = 'accepted' DESC, a.created DESC, a.iri LIMIT 1)""",  # noqa: S608 - a constant
            (row["medium"], claim_of(conn, row["output"], row["pipeline"]), iri),
        )
    reindex_medium(conn, row["medium"])


def mark_evidence_replaced(conn: sqlite3.Connection, medium: str, image: str) -> int:
    """Marks annotations of a medium that rest on other bytes than ``image`` (hex); returns how many."""
    return conn.execute(
        "UPDATE annotation SET state = 'evidence replaced' WHERE medium = ? AND image <> ? AND state = 'current'",
        (medium, image),
    ).rowcount


def revive(conn: sqlite3.Connection, medium: str, image: str) -> list[str]:
    """A medium shows ``image`` (hex) again: the best annotation of each claim on it is current; returns all of them.

    To be called after ``mark_evidence_replaced``.
    """
    rows = conn.execute(
        f"SELECT iri, {CLAIM} AS claim FROM annotation a WHERE medium = ? AND image = ?",  # noqa: S608 - a constant
        (medium, image),
    ).fetchall()
    conn.execute(
        "UPDATE annotation SET state = 'superseded' WHERE medium = ? AND image = ? AND state = 'evidence replaced'",
        (medium, image),
    )
    for said in sorted({row["claim"] for row in rows}):
        conn.execute(
            f"""UPDATE annotation SET state = 'current' WHERE iri = (
                 SELECT a.iri FROM annotation a JOIN record r ON r.iri = a.iri LEFT JOIN review v ON v.iri = a.iri
                 WHERE a.medium = ?1 AND {CLAIM} = ?2 AND a.image = ?3 AND r.state = 'active'
                   AND v.superseded_by IS NULL
                 ORDER BY v.state = 'accepted' DESC, a.created DESC, a.iri LIMIT 1)
               AND NOT EXISTS (SELECT 1 FROM annotation a WHERE a.medium = ?1 AND {CLAIM} = ?2 AND a.state = 'current')
            """,  # noqa: S608 - a constant
            (medium, said, image),
        )
    return [row["iri"] for row in rows]


def enforce_class(conn: sqlite3.Connection, image: str, *, now: datetime) -> int:
    """Withdraws public annotations of these bytes (hex) when they are no longer open; returns how many.

    To be called in the transaction that makes a user of the bytes stricter or adds a stricter user.
    """
    facts = bytes_facts(conn, ContentId.from_hex(image))
    if facts.exists and facts.access is AccessClass.OPEN and not facts.sensitive:
        return 0
    rows = conn.execute(
        """SELECT a.iri, a.medium FROM annotation a JOIN record r ON r.iri = a.iri
           WHERE (a.image = ?1 OR a.work_key IN (SELECT work_key FROM unit WHERE image = ?1))
             AND r.state = 'active' AND r.published = 1""",
        (image,),
    ).fetchall()
    for row in rows:
        body = build_tombstone(iri=row["iri"], kind="annotation", reason="withdrawn by the institution", at=now)
        records.tombstone(conn, row["iri"], body, now=now)
    for medium in {row["medium"] for row in rows}:
        reindex_medium(conn, medium)
    return len(rows)


def reindex_medium(conn: sqlite3.Connection, medium: str) -> None:
    """Brings the search tables of every specimen on a medium up to date."""
    for row in conn.execute("SELECT specimen FROM medium_specimen WHERE medium = ?", (medium,)).fetchall():
        index_specimen(conn, row["specimen"])
