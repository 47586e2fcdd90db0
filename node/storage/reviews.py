"""Statements that people decide on: what is known about each, which wait, and the log of what staff did.

Owns the tables review, review_finding and staff_action.

Invariants:
- One row per statement, public or not, with the document from which its public record is made.
- ``staff_action`` is append-only: an entry for every decision, with who, when and about what, in the transaction of the
  decision itself.
- What waits: pending, not replaced, not retracted, of an image that its medium still shows.

It leaves out: deciding (``node.services.review``), the public record (``node.storage.records``).
"""

import json
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

from linkeddata.annotation_checks import CheckFinding
from linkeddata.canon import canonical_bytes
from linkeddata.json_strict import Json
from linkeddata.statement import Decision, Summary
from linkeddata.times import format_time

Maker = Literal["machine", "person"]
LIVE: Final = """v.retraction IS NULL AND v.superseded_by IS NULL
  AND EXISTS (SELECT 1 FROM medium m WHERE m.iri = v.medium AND m.state = 'active' AND m.image = v.image)"""
"""Of a row ``v``: it can be decided on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewRow:
    """A statement with what was decided about it."""

    iri: str
    maker: Maker
    medium: str
    image: str
    output: str
    pipeline: str
    environment: str
    work_key: str
    job: str | None
    document: dict[str, Any]
    score: int | None
    """Thousandths."""
    label: str
    asked: bool
    state: Decision
    by: str | None
    at: str | None
    reason: str
    supersedes: str | None
    superseded_by: str | None
    retraction: int | None
    created: str

    @property
    def id(self) -> str:
        """The last part of its IRI."""
        return self.iri.rpartition("/")[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class NewStatement:
    """What comes to be."""

    iri: str
    maker: Maker
    medium: str
    image: str
    output: str
    pipeline: str
    environment: str
    work_key: str
    job: str | None
    document: Mapping[str, Json]
    summary: Summary
    asked: bool
    supersedes: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Which statements are meant, when they are not named one by one."""

    pipeline: str | None = None
    output: str | None = None
    label: str | None = None
    """The class of all their regions."""
    min_score: int | None = None
    """Thousandths; a statement without a score never fits."""
    max_score: int | None = None
    job: str | None = None
    finding: str | None = None
    """A code of a finding."""

    def to_json(self) -> dict[str, Any]:
        """For the log and the samples: what is given."""
        names = {"pipeline": self.pipeline, "output": self.output, "class": self.label, "minScore": self.min_score,
                 "maxScore": self.max_score, "job": self.job, "finding": self.finding}  # fmt: skip
        return {name: value for name, value in names.items() if value is not None}

    @property
    def is_empty(self) -> bool:
        """Whether it says nothing."""
        return not self.to_json()


def add(conn: sqlite3.Connection, new: NewStatement, findings: Sequence[CheckFinding], *, now: datetime) -> None:
    """Keeps a statement that came to be, pending, with what its checks found."""
    conn.execute(
        """INSERT INTO review (iri, maker, medium, image, output, pipeline, environment, work_key, job, document, score,
             class, asked, state, supersedes, created)
           VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'pending', ?, ?)""",
        (
            new.iri, new.maker, new.medium, new.image, new.output, new.pipeline, new.environment, new.work_key, new.job,
            canonical_bytes(dict(new.document)), new.summary.score, new.summary.label, int(new.asked), new.supersedes,
            format_time(now),
        ),
    )  # fmt: skip
    conn.executemany(
        "INSERT OR IGNORE INTO review_finding VALUES (?, ?, ?, ?)",
        [(new.iri, item.code, item.message[:300], int(item.blocks)) for item in findings],
    )


def get(conn: sqlite3.Connection, iri: str) -> ReviewRow | None:
    """The statement with this IRI."""
    row = conn.execute("SELECT * FROM review WHERE iri = ?", (iri,)).fetchone()
    return None if row is None else _row(row)


def findings_of(conn: sqlite3.Connection, iri: str) -> list[CheckFinding]:
    """What the checks found about a statement; what blocks it first."""
    rows = conn.execute("SELECT * FROM review_finding WHERE iri = ? ORDER BY blocks DESC, code, message", (iri,))
    return [CheckFinding(code=row["code"], message=row["message"], blocks=bool(row["blocks"])) for row in rows]


def find(
    conn: sqlite3.Connection, rule: Rule, *, state: Decision | None, after: str = "", limit: int = 100,
    sample: int | None = None, only_live: bool = False,
) -> list[ReviewRow]:  # fmt: skip
    """Statements that fit, by IRI; those that wait are live, whatever ``only_live`` says."""
    where, params = _where(rule, state, only_live=only_live)
    if sample is not None:
        where += " AND v.iri IN (SELECT iri FROM review_sample_item WHERE sample = :sample)"
    rows = conn.execute(
        f"SELECT v.* FROM review v WHERE {where} AND v.iri > :after ORDER BY v.iri LIMIT :limit",  # noqa: S608 - our words
        {**params, "after": after, "limit": limit, "sample": sample},
    )
    return [_row(row) for row in rows.fetchall()]


def iris(conn: sqlite3.Connection, rule: Rule, *, state: Decision) -> list[str]:
    """IRIs of all that fit, sorted; without what must never be public."""
    where, params = _where(rule, state, only_live=True)
    rows = conn.execute(
        f"""SELECT v.iri FROM review v WHERE {where}
            AND NOT EXISTS (SELECT 1 FROM review_finding f WHERE f.iri = v.iri AND f.blocks = 1)
            ORDER BY v.iri""",  # noqa: S608 - our words
        params,
    )
    return [row["iri"] for row in rows]


def count(conn: sqlite3.Connection, rule: Rule, *, state: Decision, sample: int | None = None) -> int:
    """How many fit."""
    where, params = _where(rule, state, only_live=False)
    if sample is not None:
        where += " AND v.iri IN (SELECT iri FROM review_sample_item WHERE sample = :sample)"
    found = conn.execute(f"SELECT count(*) FROM review v WHERE {where}", {**params, "sample": sample})  # noqa: S608
    return int(found.fetchone()[0])


def set_decision(
    conn: sqlite3.Connection, iri: str, state: Decision, *, by: str, reason: str, action: int, now: datetime
) -> None:
    """What was decided about a statement."""
    conn.execute(
        "UPDATE review SET state = ?, by = ?, at = ?, reason = ?, action = ? WHERE iri = ?",
        (state, by, format_time(now), reason, action, iri),
    )


def others_about(conn: sqlite3.Connection, medium: str, output: str, *, but: str) -> list[ReviewRow]:
    """What stands about the same image under the same contract."""
    rows = conn.execute(
        """SELECT v.* FROM review v JOIN medium m ON m.iri = v.medium
           WHERE v.medium = ? AND v.output = ? AND v.iri <> ? AND v.state <> 'rejected' AND v.superseded_by IS NULL
             AND v.retraction IS NULL AND v.image = m.image ORDER BY v.iri LIMIT 50""",
        (medium, output, but),
    )
    return [_row(row) for row in rows.fetchall()]


def of_older_versions(
    conn: sqlite3.Connection, *, pipeline: str, medium: str, output: str, image: str
) -> list[ReviewRow]:
    """What other versions of the same pipeline say about the same image and nobody corrected; accepted ones last."""
    rows = conn.execute(
        """SELECT v.* FROM review v JOIN pipeline p ON p.digest = v.pipeline JOIN pipeline q ON q.digest = ?
           WHERE v.medium = ? AND v.output = ? AND v.image = ? AND v.maker = 'machine' AND v.pipeline <> q.digest
             AND p.name = q.name AND v.superseded_by IS NULL AND v.retraction IS NULL
           ORDER BY v.state = 'accepted', v.created, v.iri""",
        (pipeline, medium, output, image),
    )
    return [_row(row) for row in rows.fetchall()]


def log_action(
    conn: sqlite3.Connection, *, by: str, action: str, subject: str, detail: Mapping[str, Any], now: datetime
) -> int:
    """Appends to the log of staff actions; returns the number of the entry."""
    found = conn.execute(
        "INSERT INTO staff_action (at, by, action, subject, detail) VALUES (?, ?, ?, ?, ?) RETURNING id",
        (format_time(now), by, action, subject, json.dumps(dict(detail), ensure_ascii=False, sort_keys=True)),
    ).fetchone()
    return int(found["id"])


def actions_about(conn: sqlite3.Connection, subject: str) -> list[dict[str, Any]]:
    """Entries of the log about a statement, a rule, a run; oldest first."""
    rows = conn.execute("SELECT * FROM staff_action WHERE subject = ? ORDER BY id", (subject,))
    return [{**dict(row), "detail": json.loads(row["detail"])} for row in rows]


def _where(rule: Rule, state: Decision | None, *, only_live: bool) -> tuple[str, dict[str, Any]]:
    clauses = [LIVE] if only_live or state == "pending" else ["1"]
    for column, operator, value in (
        ("v.state", "=", state), ("v.pipeline", "=", rule.pipeline), ("v.output", "=", rule.output),
        ("v.class", "=", rule.label), ("v.score", ">=", rule.min_score), ("v.score", "<=", rule.max_score),
        ("v.job", "=", rule.job),
    ):  # fmt: skip
        if value is not None:
            clauses.append(f"{column} {operator} :{column.partition('.')[2]}{'_low' if operator == '>=' else ''}")
    if rule.finding is not None:
        clauses.append("EXISTS (SELECT 1 FROM review_finding f WHERE f.iri = v.iri AND f.code = :finding)")
    params = {
        "state": state, "pipeline": rule.pipeline, "output": rule.output, "class": rule.label,
        "score_low": rule.min_score, "score": rule.max_score, "job": rule.job, "finding": rule.finding,
    }  # fmt: skip
    return " AND ".join(clauses), params


def _row(row: sqlite3.Row) -> ReviewRow:
    return ReviewRow(
        iri=row["iri"], maker=row["maker"], medium=row["medium"], image=row["image"], output=row["output"],
        pipeline=row["pipeline"], environment=row["environment"], work_key=row["work_key"], job=row["job"],
        document=json.loads(row["document"]), score=row["score"], label=row["class"], asked=bool(row["asked"]),
        state=row["state"], by=row["by"], at=row["at"], reason=row["reason"], supersedes=row["supersedes"],
        superseded_by=row["superseded_by"], retraction=row["retraction"], created=row["created"],
    )  # fmt: skip
