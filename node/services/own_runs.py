"""Runs of the institution's own: pipelines over its images, by a command, by themselves for new images, or anew.

A run is kept as jobs of at most ``RUN_IMAGES`` images that nobody but staff sees. So it is durable, goes on after a
kill, is cancelled, counted and taken back like any job; a command that is interrupted only stops watching.

Invariants:
- Private images and sensitive taxa are run over too: results stay inside, and the doors ask again at every reading.
- Researchers come first: units of a run are queued behind those of all jobs; a job that wants one moves it forward.
- One job of a run is in the queue at a time per pipeline: no transaction and no queue grows with the collection.
- Results become statements that wait for a person. Those of an older version of the same pipeline that wait are
  superseded by the new ones, never erased; one that a person accepted stands until the new one is accepted.

It leaves out: the command (``node.cli.pipelines``), computing (``runners.engine``), deciding
(``node.services.review``).
"""

import hashlib
import json
import sqlite3
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from linkeddata.json_strict import Json
from linkeddata.pipeline import PipelineManifest
from linkeddata.selection import Selection
from linkeddata.times import format_time, parse_time
from node.access import STAFF
from node.config import Settings
from node.services import new_bytes
from node.services.job_spec import OWN_RUN
from node.storage import jobs as store
from node.storage.db import Database
from node.storage.jobs import NO_IMAGE, NOT_FETCHED, JobRow, PlannedStep, SnapshotRow
from node.storage.search_media import SelectedMedium, select_media

OWN_TURN: Final = 1_000_000_000
"""Added to the turns of a run: behind every job, whose turns are at most ``linkeddata.job.MAX_IMAGES`` a step."""
RUN_IMAGES: Final = 2_000
"""Images of one job of a run: a transaction of a tenth of a second, and a step of the progress."""
NEW_IMAGES: Final = 500
"""New images that are taken at a time."""
MAX_OPEN_NEW: Final = 4
"""Jobs for new images that may be unfinished; the others wait where they stand."""
BY_THEMSELVES: Final = "new images"
LAST_RERUN: Final = "last_rerun"
"""In ``meta``: when images with older results were last looked for."""
_EXPIRES: Final = timedelta(days=3650)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunTarget:
    """A pipeline as it would run now."""

    name: str
    version: str
    output: str
    digest: str
    parameters: Mapping[str, Json]

    @classmethod
    def of(cls, manifest: PipelineManifest) -> "RunTarget":
        """From a manifest that is completed."""
        return cls(
            name=manifest.name, version=manifest.version, output=manifest.output, digest=manifest.digest,
            parameters=manifest.parameters,
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class RunProgress:
    """How far jobs of a run are, in images."""

    total: int
    done: int
    failed: int
    """Of those done: refused, unreadable or withheld."""
    is_finished: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineCounts:
    """What there is of a pipeline."""

    images: int
    """That it has a result of, in this version."""
    older: int
    """That only an older version has a result of."""
    queued: int
    refused: int


# ---------------------------------------------------------------------- what a run covers
def choose_media(
    conn: sqlite3.Connection, target: RunTarget, where: Selection, *, only_older: bool
) -> list[SelectedMedium]:
    """Media of a selection that lack a result of this pipeline, in a stable order.

    Args:
        conn: to read.
        target: the pipeline.
        where: which specimens.
        only_older: only those that an older version of the pipeline has a result of.
    """
    older = older_digests(conn, target) if only_older else ()
    media = {item.medium: item for item in reversed(select_media(conn, where, STAFF))}
    return [
        item
        for item in reversed(media.values())
        if not is_done(conn, target, item.medium, item.image)
        and (not only_older or _has_result(conn, item.image, older))
    ]


def is_done(conn: sqlite3.Connection, target: RunTarget, medium: str, image: str) -> bool:
    """Whether this version was run for the institution over the image, or over a file of the same picture."""
    row = conn.execute(
        """SELECT 1 FROM unit u CROSS JOIN job_unit ju ON ju.work_key = u.work_key CROSS JOIN job j ON j.id = ju.job_id
           WHERE u.image IN (SELECT value FROM json_each(?)) AND u.pipeline = ? AND ju.medium = ? AND j.process_id = ?
             AND (u.state = 'done' OR (u.state = 'failed' AND u.failure_kind = 'permanent')) LIMIT 1""",
        (json.dumps([image, *new_bytes.computed_for(conn, image)]), target.digest, medium, OWN_RUN),
    ).fetchone()
    return row is not None


def older_digests(conn: sqlite3.Connection, target: RunTarget) -> tuple[str, ...]:
    """Digests under which a pipeline of this name and contract ran here before."""
    rows = conn.execute(
        "SELECT digest FROM pipeline WHERE name = ? AND output = ? AND digest <> ? ORDER BY digest",
        (target.name, target.output, target.digest),
    )
    return tuple(row["digest"] for row in rows.fetchall())


def count_results(conn: sqlite3.Connection, target: RunTarget) -> PipelineCounts:
    """Images with results, and what waits."""
    older = json.dumps(older_digests(conn, target))
    row = conn.execute(
        """SELECT count(DISTINCT CASE WHEN state = 'done' THEN image END) AS images,
                  count(DISTINCT CASE WHEN state IN ('queued', 'leased') THEN image END) AS queued,
                  count(DISTINCT CASE WHEN state = 'failed' THEN image END) AS refused
           FROM unit WHERE pipeline = ?""",
        (target.digest,),
    ).fetchone()
    only_older = conn.execute(
        """SELECT count(DISTINCT u.image) FROM unit u WHERE u.state = 'done'
             AND u.pipeline IN (SELECT value FROM json_each(?))
             AND NOT EXISTS (SELECT 1 FROM unit n WHERE n.image = u.image AND n.pipeline = ? AND n.state = 'done')""",
        (older, target.digest),
    ).fetchone()[0]
    return PipelineCounts(images=row["images"], older=only_older, queued=row["queued"], refused=row["refused"])


def _has_result(conn: sqlite3.Connection, image: str, digests: Sequence[str]) -> bool:
    row = conn.execute(
        """SELECT 1 FROM unit WHERE image = ? AND state = 'done'
             AND pipeline IN (SELECT value FROM json_each(?)) LIMIT 1""",
        (image, json.dumps(list(digests))),
    ).fetchone()
    return row is not None


# ---------------------------------------------------------------------- making and finding runs
def add_runs(
    conn: sqlite3.Connection, target: RunTarget, media: Sequence[SelectedMedium], *, purpose: str, name: str, kid: str,
    institution: str, now: datetime,
) -> list[str]:  # fmt: skip
    """Writes the jobs of a run; the serving node, or whoever runs the engine, takes them up.

    Args:
        conn: in a write transaction.
        target: the pipeline.
        media: what it covers.
        purpose: what staff see; runs of the same purpose and pipeline are one.
        name: makes the ids of the jobs, with pipeline and number.
        kid: key id of the node.
        institution: its name.
        now: when.

    Returns:
        Ids of the jobs, in their order.
    """
    made: list[str] = []
    for number, part in enumerate(_parts(media)):
        job_id = hashlib.sha256(f"{OWN_RUN}\n{target.digest}\n{name}\n{number}".encode()).hexdigest()[:32]
        rows = [
            SnapshotRow(
                ordinal=ordinal, step=target.output, specimen=item.specimen, medium=item.medium,
                image=item.image or NO_IMAGE, withheld=None if item.image else NOT_FETCHED,
            )
            for ordinal, item in enumerate(part, 1)
        ]  # fmt: skip
        step = PlannedStep(
            output=target.output, name=target.name, pipeline=target.digest, environment="",
            parameters=dict(target.parameters),
        )  # fmt: skip
        job = JobRow(
            id=job_id, spec_id=f"urn:uuid:{uuid.UUID(hex=job_id)}", envelope=b"{}", spec_digest=job_id,
            requester_kid=kid, requester_name=institution, purpose=purpose, process_id=OWN_RUN, response="document",
            steps=(step,), status="accepted", decision="accepted", approval="not needed",
            reasons=("a run of the institution",), rule=OWN_RUN, publish=False,
            snapshot_digest=store.snapshot_digest((step,), rows), images=len(part),
            size_bytes=sum(item.size_bytes for item in part), no_value=(), enqueued=False, message="accepted",
            created=now, started=None, finished=None, updated=now, expires=now + _EXPIRES,
        )  # fmt: skip
        store.insert(conn, job, rows)
        made.append(job_id)
    return made


def open_runs(conn: sqlite3.Connection, target: RunTarget, purpose: str) -> list[str]:
    """Unfinished jobs of a run that was begun before, oldest first."""
    rows = conn.execute(
        """SELECT id, steps FROM job WHERE status IN ('accepted', 'running') AND process_id = ? AND purpose = ?
           ORDER BY created, id""",
        (OWN_RUN, purpose),
    ).fetchall()
    return [row["id"] for row in rows if json.loads(row["steps"])[0]["pipeline"] == target.digest]


def stop_runs(conn: sqlite3.Connection, digests: Sequence[str] | None, *, now: datetime) -> int:
    """Dismisses unfinished runs, of all pipelines or of these; returns how many jobs. What was found stays."""
    rows = conn.execute(
        "SELECT id, steps FROM job WHERE status IN ('accepted', 'running') AND process_id = ?", (OWN_RUN,)
    ).fetchall()
    chosen = [row for row in rows if digests is None or json.loads(row["steps"])[0]["pipeline"] in digests]
    for row in chosen:
        store.set_state(conn, row["id"], now=now, status="dismissed", message="stopped", finished=True)
        store.cancel_units(conn, row["id"], now=now)
    return len(chosen)


def has_turn(conn: sqlite3.Connection, job: JobRow) -> bool:
    """Whether a job may be queued now: a run queues the next one when the one before it is finished."""
    if job.process_id != OWN_RUN:
        return True
    busy = conn.execute(
        "SELECT steps FROM job WHERE status = 'running' AND process_id = ? AND id <> ?", (OWN_RUN, job.id)
    ).fetchall()
    return all(json.loads(row["steps"])[0]["pipeline"] != job.steps[0].pipeline for row in busy)


def is_wanted(conn: sqlite3.Connection, work_key: str) -> bool:
    """Whether a run of the institution wants this unit, or the result of one that takes its result."""
    row = conn.execute(
        """WITH RECURSIVE above (work_key) AS (
             VALUES (:key)
             UNION SELECT n.work_key FROM unit_need n JOIN above ON n.upstream = above.work_key)
           SELECT 1 FROM above JOIN job_unit ju ON ju.work_key = above.work_key JOIN job j ON j.id = ju.job_id
           WHERE j.process_id = :own AND j.status = 'running' LIMIT 1""",
        {"key": work_key, "own": OWN_RUN},
    ).fetchone()
    return row is not None


def progress_of(conn: sqlite3.Connection, job_ids: Sequence[str]) -> RunProgress:
    """How far jobs of a run are together."""
    row = conn.execute(
        """SELECT count(*) AS total, coalesce(sum(ju.answer IS NOT NULL), 0) AS done,
                  coalesce(sum(ju.answer IS NOT NULL AND (u.state IS NULL OR u.state <> 'done')), 0) AS failed
           FROM job_unit ju LEFT JOIN unit u ON u.work_key = ju.work_key
           WHERE ju.job_id IN (SELECT value FROM json_each(?))""",
        (json.dumps(list(job_ids)),),
    ).fetchone()
    open_jobs = conn.execute(
        """SELECT count(*) FROM job
           WHERE id IN (SELECT value FROM json_each(?)) AND status IN ('accepted', 'running')""",
        (json.dumps(list(job_ids)),),
    ).fetchone()[0]
    return RunProgress(total=row["total"], done=row["done"], failed=row["failed"], is_finished=open_jobs == 0)


# ---------------------------------------------------------------------- by themselves
def take_due(
    database: Database, settings: Settings, targets: Sequence[RunTarget], *, kid: str, now: datetime
) -> int:  # fmt: skip
    """Begins what is to run by itself now (``[jobs] on_new_images``, ``rerun_hours``); returns how many images.

    Blocking; an idle node does not write.
    """
    wanted = [target for target in targets if target.name in settings.jobs.on_new_images]
    if not wanted:
        return 0
    with database.reader() as conn:
        is_due = _is_rerun_due(conn, settings.jobs.rerun_hours, now)
        if not is_due and not new_bytes.pipeline_requests(conn, limit=1):
            return 0
    with database.transaction() as conn:
        if is_due and queue_older(conn, wanted, limit=NEW_IMAGES, now=now) < NEW_IMAGES:
            conn.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (LAST_RERUN, format_time(now)))
        return take_waiting(conn, wanted, kid=kid, institution=settings.node.name, now=now)


def _is_rerun_due(conn: sqlite3.Connection, hours: int, now: datetime) -> bool:
    """Whether older results are to be looked for: never while the last ones are still run over."""
    if not hours or _unfinished(conn):
        return False
    row = conn.execute("SELECT value FROM meta WHERE key = ?", (LAST_RERUN,)).fetchone()
    return row is None or parse_time(row["value"]) + timedelta(hours=hours) <= now


def _unfinished(conn: sqlite3.Connection) -> int:
    return int(
        conn.execute(
            "SELECT count(*) FROM job WHERE status IN ('accepted', 'running') AND process_id = ? AND purpose = ?",
            (OWN_RUN, BY_THEMSELVES),
        ).fetchone()[0]
    )


def take_waiting(
    conn: sqlite3.Connection, targets: Sequence[RunTarget], *, kid: str, institution: str, now: datetime
) -> int:
    """Makes jobs of the images that wait for the node's own pipelines; returns how many images were taken.

    An image is taken out of the line in the same transaction, so that a kill loses none and runs none twice.
    """
    if _unfinished(conn) >= MAX_OPEN_NEW * len(targets):
        return 0
    waiting = new_bytes.pipeline_requests(conn, limit=NEW_IMAGES)
    if waiting:
        name = f"{now.isoformat()} {waiting[0].medium} {waiting[0].image}"
        for target in targets:
            media = [
                medium
                for item in waiting
                if not is_done(conn, target, item.medium, item.image)
                and (medium := _as_selected(conn, item.medium, item.image)) is not None
            ]
            add_runs(
                conn, target, media, purpose=BY_THEMSELVES, name=name, kid=kid, institution=institution, now=now
            )  # fmt: skip
    new_bytes.pipelines_queued(conn, waiting)
    return len(waiting)


def queue_older(conn: sqlite3.Connection, targets: Sequence[RunTarget], *, limit: int, now: datetime) -> int:
    """Puts images into the line that only an older version of a pipeline has a result of; returns how many."""
    found: dict[tuple[str, str], None] = {}
    for target in targets:
        rows = conn.execute(
            """SELECT DISTINCT m.iri, m.image FROM unit u JOIN medium m ON m.image = u.image AND m.state = 'active'
               WHERE u.state = 'done' AND u.pipeline IN (SELECT value FROM json_each(:older))
                 AND NOT EXISTS (SELECT 1 FROM unit n WHERE n.image = u.image AND n.pipeline = :digest)
               ORDER BY m.iri LIMIT :limit""",
            {"older": json.dumps(older_digests(conn, target)), "digest": target.digest, "limit": limit},
        ).fetchall()
        found |= {(row["iri"], row["image"]): None for row in rows}
    new_bytes.queue_pipelines(conn, list(found)[:limit], reason="a new version of a pipeline", now=now)
    return len(found)


def _as_selected(conn: sqlite3.Connection, medium: str, image: str) -> SelectedMedium | None:
    row = conn.execute(
        """SELECT ms.specimen, coalesce(m.size_bytes, 0) AS size_bytes, m.access, m.sensitive
           FROM medium m JOIN medium_specimen ms ON ms.medium = m.iri
           WHERE m.iri = ? AND m.image = ? ORDER BY ms.ordinal, ms.specimen LIMIT 1""",
        (medium, image),
    ).fetchone()
    if row is None:
        return None
    return SelectedMedium(
        medium=medium, specimen=row["specimen"], image=image, size_bytes=row["size_bytes"], access=row["access"],
        sensitive=bool(row["sensitive"]),
    )  # fmt: skip


def _parts(media: Sequence[SelectedMedium]) -> Iterator[Sequence[SelectedMedium]]:
    for start in range(0, len(media), RUN_IMAGES):
        yield media[start : start + RUN_IMAGES]
