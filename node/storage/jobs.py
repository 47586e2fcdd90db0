"""Jobs in the database: what was asked, the snapshot of what it covers, what was decided, and the answers so far.

Owns the tables job, job_unit, pipeline and request_decision (``unit`` is the journal's).

Invariants:
- A job and its whole snapshot are written in one transaction, before anything is answered.
- An answer is stored per row of the snapshot when its unit ends; counts are sums of rows, never counted up.
- What became private or sensitive since is withheld at every reading: such rows count as "cannot tell".

It leaves out: deciding (``federation.policy``), evaluating results (``linkeddata.answers``), computing (the journal).
"""

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from federation.status import Approval, State
from linkeddata.canon import canonical_bytes, digest_text
from linkeddata.coverage import NoValue, parse_no_value
from linkeddata.outputs.shape import Answer
from linkeddata.pipeline import ConformanceReport, PipelineManifest, WorkUnit
from linkeddata.times import format_time, parse_time

WITHHELD_LATER: Final = "withheld by the institution"
NOT_FETCHED: Final = "not fetched yet: the image lies elsewhere; it is being fetched now, send the job again later"
NO_IMAGE: Final = "0" * 64
"""Stands where the id of a withdrawn image stood, or will stand once the image is fetched; no bytes have this hash."""
SENSITIVE: Final = "withheld: the specimen is of a sensitive taxon"
_HIDDEN: Final = """
  coalesce((SELECT max(CASE WHEN m.access >= 2 OR coalesce(r.access, 0) >= 2 THEN 2
                            WHEN m.sensitive = 1 OR coalesce(r.sensitive, 0) = 1 THEN 1 ELSE 0 END)
            FROM (SELECT iri FROM medium WHERE image = ju.image
                  UNION SELECT iri FROM medium_version WHERE image = ju.image
                  UNION SELECT iri FROM medium WHERE iri = ju.medium AND ju.image = printf('%064d', 0)) AS u
            JOIN medium m ON m.iri = u.iri
            LEFT JOIN medium_specimen ms ON ms.medium = m.iri LEFT JOIN record r ON r.iri = ms.specimen), 2)
"""
"""0 may be given out, 1 sensitive by now, 2 private or gone by now; the strictest over all users of the bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedStep:
    """A step as it will run here."""

    output: str
    name: str
    pipeline: str
    environment: str
    parameters: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        """For the column ``steps``."""
        return {
            "output": self.output, "name": self.name, "pipeline": self.pipeline, "environment": self.environment,
            "parameters": dict(self.parameters),
        }  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotRow:
    """One image of one step."""

    ordinal: int
    step: str
    specimen: str
    medium: str
    image: str
    withheld: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRow:
    """A job as stored."""

    id: str
    spec_id: str
    envelope: bytes
    spec_digest: str
    requester_kid: str
    requester_name: str
    purpose: str
    process_id: str
    response: str
    steps: tuple[PlannedStep, ...]
    status: State
    decision: str
    approval: Approval
    reasons: tuple[str, ...]
    rule: str
    publish: bool
    snapshot_digest: str
    images: int
    size_bytes: int
    no_value: tuple[NoValue, ...]
    enqueued: bool
    message: str
    created: datetime
    started: datetime | None
    finished: datetime | None
    updated: datetime
    expires: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultSource:
    """Everything from which one result row is made."""

    ordinal: int
    step: str
    specimen: str
    medium: str
    image: str
    withheld: str | None
    hidden: int
    answer: Answer | None
    answer_reason: str | None
    state: str | None
    reason: str | None
    body: bytes | None
    pipeline: str | None
    environment: str | None
    conformance: str | None


def snapshot_digest(steps: Sequence[PlannedStep], rows: Iterable[SnapshotRow]) -> str:
    """The digest that an approval is bound to: which images, which pipelines."""
    return digest_text(
        {
            "steps": [[step.output, step.pipeline, dict(step.parameters)] for step in steps],
            "units": [[row.step, row.medium, row.specimen, row.image, row.withheld or ""] for row in rows],
        }
    )


def insert(conn: sqlite3.Connection, job: JobRow, rows: Iterable[SnapshotRow]) -> None:
    """Writes a new job with its snapshot."""
    conn.execute(
        """INSERT INTO job (id, spec_id, envelope, spec_digest, requester_kid, requester_name, purpose,
             process_id, response, steps, status, decision, approval, reasons, rule, publish, snapshot_digest,
             images, bytes, no_value, enqueued, message, created, started, finished, updated, expires)
           VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)""",
        (
            job.id, job.spec_id, job.envelope, job.spec_digest, job.requester_kid, job.requester_name, job.purpose,
            job.process_id, job.response, json.dumps([step.to_json() for step in job.steps]), job.status, job.decision,
            job.approval, json.dumps(list(job.reasons)), job.rule, int(job.publish), job.snapshot_digest, job.images,
            job.size_bytes, _no_value(job), int(job.enqueued), job.message, format_time(job.created),
            _text(job.started), _text(job.finished), format_time(job.updated), format_time(job.expires),
        ),
    )  # fmt: skip
    conn.executemany(
        "INSERT INTO job_unit (job_id, ordinal, step, specimen, medium, image, withheld, answer, reason) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            (
                job.id, row.ordinal, row.step, row.specimen, row.medium, row.image, row.withheld,
                "cannot tell" if row.withheld else None, row.withheld,
            )
            for row in rows
        ),
    )  # fmt: skip


def get(conn: sqlite3.Connection, job_id: str) -> JobRow | None:
    """The job of this id."""
    row = conn.execute("SELECT * FROM job WHERE id = ?", (job_id,)).fetchone()
    return None if row is None else _job(row)


def find(
    conn: sqlite3.Connection,
    *,
    requester_kid: str | None = None,
    decision: str | None = None,
    process_id: str | None = None,
    statuses: Sequence[str] = (),
    limit: int = 100,
) -> list[JobRow]:
    """Jobs, newest first; each condition only where it is given."""
    clauses, params = ["1"], dict[str, Any](limit=limit)
    for column, value in (("requester_kid", requester_kid), ("decision", decision), ("process_id", process_id)):
        if value is not None:
            clauses.append(f"{column} = :{column}")
            params[column] = value
    if statuses:
        marks = ", ".join(f":s{number}" for number in range(len(statuses)))
        clauses.append(f"status IN ({marks})")
        params.update({f"s{number}": status for number, status in enumerate(statuses)})
    where = " AND ".join(clauses)
    rows = conn.execute(f"SELECT * FROM job WHERE {where} ORDER BY created DESC, id LIMIT :limit", params)  # noqa: S608
    return [_job(row) for row in rows.fetchall()]


def open_jobs_of(conn: sqlite3.Connection, requester_kid: str) -> int:
    """How many jobs of a requester are not finished."""
    row = conn.execute(
        "SELECT count(*) FROM job WHERE requester_kid = ? AND status IN ('accepted', 'running')", (requester_kid,)
    ).fetchone()
    return int(row[0])


def set_state(
    conn: sqlite3.Connection,
    job_id: str,
    *,
    now: datetime,
    status: State | None = None,
    decision: str | None = None,
    approval: Approval | None = None,
    message: str | None = None,
    reasons: Sequence[str] | None = None,
    started: bool = False,
    finished: bool = False,
) -> None:
    """Changes what is given; ``updated`` always."""
    stamp = format_time(now)
    given = {"status": status, "decision": decision, "approval": approval, "message": message}
    changes: dict[str, Any] = {"updated": stamp, **{name: value for name, value in given.items() if value is not None}}
    if reasons is not None:
        changes["reasons"] = json.dumps(list(reasons))
    if finished:
        changes["finished"] = stamp
    assignments = ", ".join(f"{column} = :{column}" for column in changes)
    if started:
        assignments += ", started = coalesce(started, :updated)"
    conn.execute(f"UPDATE job SET {assignments} WHERE id = :id", {**changes, "id": job_id})  # noqa: S608 - own columns


def units_to_enqueue(conn: sqlite3.Connection, job_id: str) -> list[SnapshotRow]:
    """Rows of the snapshot that are to be computed and are not linked to work yet."""
    rows = conn.execute(
        "SELECT * FROM job_unit WHERE job_id = ? AND withheld IS NULL AND work_key IS NULL ORDER BY ordinal", (job_id,)
    )
    return [_snapshot(row) for row in rows.fetchall()]


def snapshot_rows(conn: sqlite3.Connection, job_id: str) -> list[SnapshotRow]:
    """The whole snapshot."""
    rows = conn.execute("SELECT * FROM job_unit WHERE job_id = ? ORDER BY ordinal", (job_id,))
    return [_snapshot(row) for row in rows.fetchall()]


def not_fetched(conn: sqlite3.Connection, job_id: str) -> list[str]:
    """Media of the snapshot (IRIs) whose image was never fetched."""
    rows = conn.execute(
        "SELECT DISTINCT medium FROM job_unit WHERE job_id = ? AND withheld = ? ORDER BY medium", (job_id, NOT_FETCHED)
    )
    return [row["medium"] for row in rows.fetchall()]


def link_units(conn: sqlite3.Connection, job_id: str, links: Sequence[tuple[int, str]]) -> None:
    """Links rows of the snapshot to units of work by (ordinal, work key); every unit is in the journal then."""
    conn.executemany(
        "UPDATE job_unit SET work_key = ? WHERE job_id = ? AND ordinal = ?",
        [(work_key, job_id, ordinal) for ordinal, work_key in links],
    )
    conn.execute("UPDATE job SET enqueued = 1 WHERE id = ?", (job_id,))


def cancel_units(conn: sqlite3.Connection, job_id: str, *, now: datetime) -> int:
    """Takes units out of the queue that only this job wanted, with those whose results only they would have taken;
    returns how many. What runs may end.
    """
    cancelled = 0
    while True:  # once more for each step of composition: what is taken by a cancelled unit is wanted by nobody
        keys = [
            row["work_key"]
            for row in conn.execute(
                """WITH RECURSIVE mine (work_key) AS (
                     SELECT work_key FROM job_unit WHERE job_id = :job AND work_key IS NOT NULL
                     UNION SELECT n.upstream FROM unit_need n JOIN mine ON mine.work_key = n.work_key)
                   SELECT u.work_key FROM mine JOIN unit u ON u.work_key = mine.work_key WHERE u.state = 'queued'
                     AND NOT EXISTS (SELECT 1 FROM job_unit o JOIN job j ON j.id = o.job_id
                                     WHERE o.work_key = u.work_key AND o.job_id <> :job
                                       AND j.status IN ('accepted', 'running'))
                     AND NOT EXISTS (SELECT 1 FROM unit_need n JOIN unit d ON d.work_key = n.work_key
                                     WHERE n.upstream = u.work_key AND d.state IN ('queued', 'leased'))""",
                {"job": job_id},
            ).fetchall()
        ]
        if not keys:
            return cancelled
        conn.executemany(
            "UPDATE unit SET state = 'cancelled', finished = ? WHERE work_key = ?",
            [(format_time(now), key) for key in keys],
        )
        cancelled += len(keys)


def conformance(conn: sqlite3.Connection, pipeline: str, environment: str) -> str | None:
    """The verdict on a pipeline in an environment; None when it never ran there."""
    row = conn.execute(
        "SELECT verdict FROM conformance WHERE pipeline = ? AND environment = ?", (pipeline, environment)
    ).fetchone()
    return None if row is None else str(row[0])


def keep_conformance(conn: sqlite3.Connection, report: ConformanceReport, signed: bytes) -> None:
    """Keeps a signed conformance report; a newer one for the same pair replaces it."""
    conn.execute(
        "INSERT OR REPLACE INTO conformance VALUES (?, ?, ?, ?, ?)",
        (report.pipeline, report.environment, report.verdict, signed, format_time(report.at)),
    )


def knows_pipelines(conn: sqlite3.Connection, digests: Sequence[str]) -> bool:
    """Whether the manifests of all of these are kept."""
    wanted = set(digests)
    known = conn.execute(
        "SELECT count(*) FROM pipeline WHERE manifest IS NOT NULL AND digest IN (SELECT value FROM json_each(?))",
        (json.dumps(sorted(wanted)),),
    ).fetchone()
    return int(known[0]) == len(wanted)


def keep_pipeline(conn: sqlite3.Connection, manifest: PipelineManifest, *, now: datetime) -> None:
    """Keeps a manifest under its digest, which results cite for good."""
    conn.execute(
        """INSERT INTO pipeline VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (digest) DO UPDATE
           SET manifest = excluded.manifest, version = excluded.version WHERE pipeline.manifest IS NULL""",
        (
            manifest.digest, manifest.name, manifest.version, manifest.output, canonical_bytes(manifest.to_json()),
            format_time(now),
        ),
    )  # fmt: skip


def conforming_unit(conn: sqlite3.Connection, unit: WorkUnit) -> str | None:
    """The environment of a finished unit that may be reused for this one: the same, or one that conformed.

    It differs in nothing else: with its environment this unit would have its work key.
    """
    rows = conn.execute(
        """SELECT u.work_key, u.environment FROM unit u
           LEFT JOIN conformance c ON c.pipeline = u.pipeline AND c.environment = u.environment
           WHERE u.image = ? AND u.pipeline = ? AND u.state = 'done' AND (u.environment = ? OR c.verdict = 'pass')
           ORDER BY u.environment = ? DESC, u.work_key""",
        (unit.image, unit.pipeline, unit.environment, unit.environment),
    ).fetchall()
    same = (row["environment"] for row in rows if replace(unit, environment=row["environment"]).key == row["work_key"])
    return next(same, None)


def counts(conn: sqlite3.Connection, job_id: str, *, for_staff: bool) -> list[sqlite3.Row]:
    """Rows (step, answer or NULL, reason, state, hidden, number), hidden ones for staff as others."""
    hidden = "0" if for_staff else _HIDDEN
    return conn.execute(
        f"""SELECT step, answer, reason, state, hidden > 0 AS hidden, count(*) AS number FROM (
              SELECT ju.step, ju.answer, ju.reason, {hidden} AS hidden,
                     CASE WHEN ju.withheld IS NOT NULL THEN 'withheld' ELSE coalesce(u.state, 'queued') END AS state
              FROM job_unit ju LEFT JOIN unit u ON u.work_key = ju.work_key WHERE ju.job_id = ?)
            GROUP BY step, answer, reason, state, hidden > 0""",  # noqa: S608 - a constant
        (job_id,),
    ).fetchall()


def result_sources(
    conn: sqlite3.Connection, job_id: str, *, after: int, limit: int, for_staff: bool
) -> list[ResultSource]:
    """Rows of the snapshot after an ordinal, with what the journal knows about them."""
    hidden = "0" if for_staff else _HIDDEN
    rows = conn.execute(
        f"""SELECT ju.job_id, ju.ordinal, ju.step, ju.specimen, ju.medium, ju.image, ju.withheld, ju.answer,
                   ju.reason AS answer_reason, {hidden} AS hidden, u.state, u.reason AS unit_reason, u.body,
                   u.pipeline, u.environment, c.verdict
            FROM job_unit ju LEFT JOIN unit u ON u.work_key = ju.work_key
            LEFT JOIN conformance c ON c.pipeline = u.pipeline AND c.environment = u.environment
            WHERE ju.job_id = ? AND ju.ordinal > ? ORDER BY ju.ordinal LIMIT ?""",  # noqa: S608 - a constant
        (job_id, after, limit),
    ).fetchall()
    return [
        ResultSource(
            ordinal=row["ordinal"], step=row["step"], specimen=row["specimen"], medium=row["medium"],
            image=row["image"], withheld=row["withheld"], hidden=row["hidden"], answer=row["answer"],
            answer_reason=row["answer_reason"], state=row["state"],
            reason=row["unit_reason"],
            body=row["body"], pipeline=row["pipeline"], environment=row["environment"], conformance=row["verdict"],
        )
        for row in rows
    ]  # fmt: skip


def unanswered(conn: sqlite3.Connection, work_key: str | None, job_id: str | None = None) -> list[sqlite3.Row]:
    """Rows whose unit has ended but which have no answer yet: of one unit, or of one job, or of all."""
    return conn.execute(
        """SELECT ju.job_id, ju.ordinal, ju.step, ju.medium, ju.image, u.state, u.reason, u.body, u.work_key
           FROM job_unit ju JOIN unit u ON u.work_key = ju.work_key
           WHERE ju.answer IS NULL AND u.state IN ('done', 'failed', 'withheld', 'cancelled')
             AND (:key IS NULL OR ju.work_key = :key) AND (:job IS NULL OR ju.job_id = :job)""",
        {"key": work_key, "job": job_id},
    ).fetchall()


def has_unanswered(conn: sqlite3.Connection) -> bool:
    """Whether any unit has ended without its rows knowing it (a crash came in between)."""
    row = conn.execute(
        """SELECT 1 FROM job j JOIN job_unit ju ON ju.job_id = j.id JOIN unit u ON u.work_key = ju.work_key
           WHERE j.status = 'running' AND ju.answer IS NULL
             AND u.state IN ('done', 'failed', 'withheld', 'cancelled') LIMIT 1"""
    ).fetchone()
    return row is not None


def set_answer(conn: sqlite3.Connection, job_id: str, ordinal: int, answer: str, reason: str) -> None:
    """Stores the answer of one row."""
    conn.execute(
        "UPDATE job_unit SET answer = ?, reason = ? WHERE job_id = ? AND ordinal = ?",
        (answer, reason or None, job_id, ordinal),
    )


def has_open_rows(conn: sqlite3.Connection, job_id: str) -> bool:
    """Whether any row of the snapshot has no answer yet."""
    row = conn.execute("SELECT 1 FROM job_unit WHERE job_id = ? AND answer IS NULL LIMIT 1", (job_id,)).fetchone()
    return row is not None


def record_decision(
    conn: sqlite3.Connection, job_id: str, *, decision: str, by: str, reason: str, snapshot: str, now: datetime
) -> None:
    """Keeps what a person decided."""
    conn.execute(
        "INSERT INTO request_decision (job_id, decision, by, reason, snapshot_digest, at) VALUES (?, ?, ?, ?, ?, ?)",
        (job_id, decision, by, reason, snapshot, format_time(now)),
    )


def _snapshot(row: sqlite3.Row) -> SnapshotRow:
    return SnapshotRow(
        ordinal=row["ordinal"], step=row["step"], specimen=row["specimen"], medium=row["medium"], image=row["image"],
        withheld=row["withheld"],
    )  # fmt: skip


def _job(row: sqlite3.Row) -> JobRow:
    return JobRow(
        id=row["id"], spec_id=row["spec_id"], envelope=bytes(row["envelope"]), spec_digest=row["spec_digest"],
        requester_kid=row["requester_kid"], requester_name=row["requester_name"], purpose=row["purpose"],
        process_id=row["process_id"], response=row["response"],
        steps=tuple(PlannedStep(**item) for item in json.loads(row["steps"])),
        status=row["status"], decision=row["decision"], approval=row["approval"],
        reasons=tuple(json.loads(row["reasons"])), rule=row["rule"], publish=bool(row["publish"]),
        snapshot_digest=row["snapshot_digest"], images=row["images"], size_bytes=row["bytes"],
        no_value=parse_no_value({"noValue": json.loads(row["no_value"])}),
        enqueued=bool(row["enqueued"]), message=row["message"], created=parse_time(row["created"]),
        started=_time(row["started"]), finished=_time(row["finished"]), updated=parse_time(row["updated"]),
        expires=parse_time(row["expires"]),
    )  # fmt: skip


def _no_value(job: JobRow) -> str:
    return json.dumps([item.to_json() for item in job.no_value])


def _text(moment: datetime | None) -> str | None:
    return None if moment is None else format_time(moment)


def _time(text: str | None) -> datetime | None:
    return None if text is None else parse_time(text)
