"""Requests that wait for a person: showing them, approving, refusing.

An approval is for one snapshot: which images, which pipelines. It carries the digest of what was shown, and it is
refused when that is not what would run. The running server takes an approved job up at its next ``poll``.
"""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from linkeddata.job import JobSpec
from node.services.job_spec import spec_of
from node.storage import jobs as store
from node.storage import people
from node.storage.jobs import JobRow


class RequestError(Exception):
    """The request cannot be decided on as asked; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldRequest:
    """What a person needs to see to decide."""

    job: JobRow
    spec: JobSpec
    standing: people.Standing
    access: dict[str, int]
    """Class of the images -> how many."""
    examples: tuple[str, ...]
    """IRIs of the first specimens."""


def held(conn: sqlite3.Connection) -> list[JobRow]:
    """Requests that wait."""
    return [job for job in store.find(conn, decision="held", statuses=("accepted",), limit=1000)]  # noqa: C416


def find_request(conn: sqlite3.Connection, text: str) -> JobRow:
    """A job by its id, the beginning of it, or the id of its specification.

    Raises:
        RequestError: there is none, or there are several.
    """
    rows = conn.execute(
        """SELECT id FROM job WHERE id = :text OR spec_id = :text
             OR (length(:text) >= 6 AND substr(id, 1, length(:text)) = :text)""",
        {"text": text},
    ).fetchall()
    if len(rows) != 1:
        raise RequestError(f"there is no request {text!r}" if not rows else f"{text!r} fits several requests")
    found = store.get(conn, rows[0]["id"])
    if found is None:
        raise RequestError(f"there is no request {text!r}")
    return found


def show(conn: sqlite3.Connection, job: JobRow) -> HeldRequest:
    """Everything about a request."""
    rows = conn.execute(
        """SELECT CASE WHEN ju.withheld IS NOT NULL THEN 'withheld (sensitive)'
                       WHEN m.access = 0 THEN 'open' WHEN m.access = 1 THEN 'restricted'
                       ELSE 'private by now' END AS label,
                  count(DISTINCT ju.medium) AS number
           FROM job_unit ju JOIN medium m ON m.iri = ju.medium WHERE ju.job_id = ? GROUP BY label""",
        (job.id,),
    ).fetchall()
    examples = conn.execute(
        "SELECT DISTINCT specimen FROM job_unit WHERE job_id = ? ORDER BY ordinal LIMIT 5", (job.id,)
    ).fetchall()
    return HeldRequest(
        job=job,
        spec=spec_of(job),
        standing=people.standing(conn, job.requester_kid),
        access={row["label"]: row["number"] for row in rows},
        examples=tuple(row["specimen"] for row in examples),
    )


def approve(conn: sqlite3.Connection, job_id: str, *, by: str, reason: str, snapshot: str, now: datetime) -> None:
    """Lets a held job run, for exactly the snapshot that was shown.

    Raises:
        RequestError: it does not wait, has expired, or the snapshot is another one.
    """
    job = _waiting(conn, job_id, snapshot, now)
    if store.snapshot_digest(job.steps, store.snapshot_rows(conn, job_id)) != snapshot:
        raise RequestError("the stored snapshot is not the one that was shown: nothing was approved")
    if people.standing(conn, job.requester_kid) == "revoked":
        raise RequestError("the requester's key was revoked meanwhile: nothing was approved")
    store.record_decision(conn, job_id, decision="approve", by=by, reason=reason, snapshot=snapshot, now=now)
    store.set_state(
        conn, job_id, now=now, decision="accepted", approval="given", message="approved by the collection",
        reasons=_reasons("approved by the collection", reason),
    )  # fmt: skip


def refuse(conn: sqlite3.Connection, job_id: str, *, by: str, reason: str, snapshot: str, now: datetime) -> None:
    """Ends a held job; the requester is told the reason.

    Raises:
        RequestError: it does not wait.
    """
    _waiting(conn, job_id, snapshot, now)
    store.record_decision(conn, job_id, decision="refuse", by=by, reason=reason, snapshot=snapshot, now=now)
    store.set_state(
        conn, job_id, now=now, status="failed", decision="refused", approval="refused", finished=True,
        message="refused by the collection", reasons=_reasons("refused by the collection", reason),
    )  # fmt: skip


def _waiting(conn: sqlite3.Connection, job_id: str, snapshot: str, now: datetime) -> JobRow:
    job = store.get(conn, job_id)
    if job is None:
        raise RequestError(f"there is no request {job_id!r}")
    if job.decision != "held" or job.status != "accepted":
        raise RequestError(f"this request does not wait any more: it is {job.status} ({job.message})")
    if job.expires <= now:
        raise RequestError("this request has expired")
    if job.snapshot_digest != snapshot:
        raise RequestError("the request covers something else than what was shown: look at it again")
    return job


def _reasons(text: str, reason: str) -> Sequence[str]:
    return [f"{text}: {reason}" if reason else text]
