"""Pages of the jobs that researchers asked of this node, for staff."""

from collections.abc import Mapping
from typing import Any, Final

from aiohttp import web

from linkeddata.job import ResultRow, found_in, parse_result_page
from linkeddata.json_strict import parse_json
from node.services.job_rules import JobNotTaken
from node.services.job_spec import spec_of
from node.services.schedule import waiting_plans
from node.storage.jobs import JobRow
from node.web.keys import DATABASE, JOBS, SETTINGS
from node.web.pages import render
from node.web.problem import Problem, not_found
from node.web.records_api import SpecimenName, specimen_names
from node.web.viewer import viewer_of

SHOWN_ROWS = 200


def routes() -> list[web.RouteDef]:
    """The routes of this module."""
    return [web.get("/staff/jobs", job_list), web.get("/staff/jobs/{job}", job_page)]


async def job_list(request: web.Request) -> web.StreamResponse:
    """Every job, newest first."""
    viewer = _staff(request)
    jobs: list[dict[str, Any]] = []
    for status in await request.app[JOBS].list_jobs(viewer, process_id=None, statuses=(), limit=200):
        job = await request.app[JOBS].job(status.job_id, viewer)
        if job is not None:
            jobs.append(
                {
                    "id": job.id, "created": f"{job.created:%Y-%m-%d %H:%M} UTC",
                    "state": STATES.get(status.status, status.status),
                    "requester": job.requester_name or job.requester_kid, "decision": job.decision,
                    "images": status.images, "message": status.message,
                }
            )  # fmt: skip
    plans = await request.app[DATABASE].read(waiting_plans)
    placed = {name for name, source in request.app[SETTINGS].sources.items() if source.path}
    return render(request, "jobs.html", {"jobs": jobs, "plans": plans, "placed": placed})


async def job_page(request: web.Request) -> web.StreamResponse:
    """One job with its progress and, when it is done, its rows."""
    viewer = _staff(request)
    job_id = request.match_info["job"]
    status = await request.app[JOBS].status(job_id, viewer)
    job = await request.app[JOBS].job(job_id, viewer)
    if status is None or job is None:
        raise not_found()
    counts = [step.counts for step in status.steps]
    pending = sum(item.pending for item in counts)
    total = sum(item.total for item in counts)
    rows: list[dict[str, str]] = []
    if status.is_finished:
        try:
            envelope = await request.app[JOBS].results(job_id, viewer, limit=SHOWN_ROWS)
        except JobNotTaken:
            envelope = None
        if envelope is not None:
            page = parse_result_page(parse_json(envelope.payload))
            origin = request.app[SETTINGS].origin
            named = await request.app[DATABASE].read(
                lambda conn: specimen_names(conn, (row.specimen for row in page.rows), viewer, origin)
            )
            names = {item.path: item for item in named}
            rows = [_row(row, origin, names) for row in page.rows]
    context = {
        "job": {**_about(job), "state": _state(status.status, status.message), "is_finished": status.is_finished,
                "done": total - pending, "total": total},
        "counts": counts,
        "rows": rows,
    }  # fmt: skip
    return render(request, "job.html", context)


STATES: Final = {
    "accepted": "waiting", "running": "running", "successful": "finished", "failed": "failed", "dismissed": "cancelled",
}  # fmt: skip
"""OGC's states as people say them."""


def _state(status: str, message: str) -> str:
    """The state and, where it says more, the message."""
    said = STATES.get(status, status)
    return said if message in ("", said) else f"{said}: {message}"


def _staff(request: web.Request) -> Any:
    viewer = viewer_of(request)
    if not viewer.is_staff:
        raise Problem(403, "staff-only", "For staff of this institution", "Log in first: the page /login says how.")
    return viewer


def _about(job: JobRow) -> dict[str, Any]:
    spec = spec_of(job)
    return {
        "requester": job.requester_name or "somebody", "kid": job.requester_kid, "purpose": job.purpose,
        "created": f"{job.created:%Y-%m-%d %H:%M:%S} UTC", "decision": job.decision, "reasons": list(job.reasons),
        "selection": spec.selection.to_text(), "match": spec.emit.match if spec.emit else "",
    }  # fmt: skip


def _row(row: ResultRow, origin: str, names: Mapping[str, SpecimenName]) -> dict[str, Any]:
    found, _ = found_in(row)
    path = row.specimen.removeprefix(origin)
    name = names.get(path)
    return {
        "path": path, "runs": name.runs if name else (), "number": name.number if name else "",
        "step": row.step, "answer": row.answer,
        "what": found[:300] if row.answer == "yes" and found else row.reason or found[:300],
    }  # fmt: skip
