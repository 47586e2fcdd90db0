"""The status of a job at one node: OGC API - Processes 1.0 ``statusInfo`` with extra members of ours.

OGC's list of states is closed, so "waits for a person" is ``accepted`` with ``approval``.
Extra members: ``jobSpec``, ``approval``, ``reasons``, ``rule``, ``selection``, ``steps``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Literal

from linkeddata.coverage import NoValue, parse_no_value
from linkeddata.errors import DocumentError
from linkeddata.job import MAX_STEPS, StepCounts, parse_step_counts
from linkeddata.json_strict import Json, as_object, get_int, get_list, get_object, get_str, get_strings
from linkeddata.times import format_time, parse_time

State = Literal["accepted", "running", "successful", "failed", "dismissed"]
Approval = Literal["not needed", "waiting", "given", "refused", "expired"]
STATES: Final[tuple[State, ...]] = ("accepted", "running", "successful", "failed", "dismissed")
APPROVALS: Final[tuple[Approval, ...]] = ("not needed", "waiting", "given", "refused", "expired")
FINISHED: Final = frozenset({"successful", "failed", "dismissed"})
RESULTS_REL: Final = "http://www.opengis.net/def/rel/ogc/1.0/results"
_MAX_COUNT: Final = 10_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class StepStatus:
    """One step: which pipeline runs, how many units are in which state, and the answers so far."""

    pipeline: str
    counts: StepCounts
    states: Mapping[str, int] = field(default_factory=dict)
    """queued, leased, done, failed, withheld, cancelled -> units."""

    def to_json(self) -> dict[str, Json]:
        """For the status."""
        return {**self.counts.to_json(), "pipeline": self.pipeline, "states": dict(self.states)}


@dataclass(frozen=True, slots=True, kw_only=True)
class JobStatus:
    """What a node says about one job."""

    job_id: str
    """The node's id of the job."""
    job_spec: str
    """``urn:uuid:..`` of the specification."""
    process_id: str
    status: State
    progress: int
    message: str
    created: datetime
    updated: datetime
    started: datetime | None = None
    finished: datetime | None = None
    approval: Approval = "not needed"
    approval_expires: datetime | None = None
    reasons: tuple[str, ...] = ()
    rule: str = ""
    images: int = 0
    size_bytes: int = 0
    snapshot: str = ""
    no_value: tuple[NoValue, ...] = ()
    """Records that one condition of the selection could not decide, when the job was sent."""
    steps: tuple[StepStatus, ...] = ()

    @property
    def is_finished(self) -> bool:
        """No more work will be done."""
        return self.status in FINISHED

    def to_json(self, *, origin: str) -> dict[str, Json]:
        """The statusInfo."""
        address = f"{origin}/jobs/{self.job_id}"
        links: list[Json] = [{"href": address, "rel": "self", "type": "application/json"}]
        if self.status == "successful":
            links.append({"href": f"{address}/results", "rel": RESULTS_REL, "type": "application/json"})
        approval: dict[str, Json] = {"state": self.approval, "snapshot": self.snapshot}
        if self.approval_expires is not None:
            approval["expires"] = format_time(self.approval_expires)
        document: dict[str, Json] = {
            "jobID": self.job_id,
            "type": "process",
            "processID": self.process_id,
            "status": self.status,
            "progress": self.progress,
            "message": self.message,
            "created": format_time(self.created),
            "updated": format_time(self.updated),
            "links": links,
            "jobSpec": self.job_spec,
            "approval": approval,
            "reasons": list(self.reasons),
            "rule": self.rule,
            "selection": {
                "images": self.images,
                "bytes": self.size_bytes,
                "snapshot": self.snapshot,
                "noValue": [item.to_json() for item in self.no_value],
            },
            "steps": [step.to_json() for step in self.steps],
        }
        if self.started is not None:
            document["started"] = format_time(self.started)
        if self.finished is not None:
            document["finished"] = format_time(self.finished)
        return document


def parse_status(value: Json) -> JobStatus:
    """A node's statusInfo.

    Raises:
        DocumentError: it is not one.
    """
    document = as_object(value, "a status")
    approval = get_object(document, "approval")
    selection = get_object(document, "selection")
    return JobStatus(
        job_id=get_str(document, "jobID", max_chars=80),
        job_spec=get_str(document, "jobSpec", max_chars=60),
        process_id=get_str(document, "processID", max_chars=60),
        status=_state(get_str(document, "status", max_chars=20)),
        progress=get_int(document, "progress", low=0, high=100),
        message=get_str(document, "message", max_chars=600, default=""),
        created=parse_time(get_str(document, "created", max_chars=30)),
        updated=parse_time(get_str(document, "updated", max_chars=30)),
        started=_time(document, "started"),
        finished=_time(document, "finished"),
        approval=_approval(get_str(approval, "state", max_chars=20)),
        approval_expires=_time(approval, "expires"),
        reasons=get_strings(document, "reasons", max_items=50, max_chars=600),
        rule=get_str(document, "rule", max_chars=600, default=""),
        images=get_int(selection, "images", low=0, high=_MAX_COUNT),
        size_bytes=get_int(selection, "bytes", low=0, high=2**53 - 1),
        snapshot=get_str(selection, "snapshot", max_chars=100),
        no_value=parse_no_value(selection),
        steps=tuple(_step(item) for item in get_list(document, "steps", max_items=MAX_STEPS)),
    )


def _step(value: Json) -> StepStatus:
    document = as_object(value, "a step")
    states = get_object(document, "states")
    if len(states) > 20 or any(not isinstance(item, int) or isinstance(item, bool) for item in states.values()):
        raise DocumentError("states are counts by name")
    return StepStatus(
        pipeline=get_str(document, "pipeline", max_chars=80),
        counts=parse_step_counts(document),
        states={str(name)[:20]: int(count) for name, count in states.items()},
    )


def _state(text: str) -> State:
    for item in STATES:
        if item == text:
            return item
    raise DocumentError(f"status is one of {', '.join(STATES)}")


def _approval(text: str) -> Approval:
    for item in APPROVALS:
        if item == text:
            return item
    raise DocumentError(f"approval is one of {', '.join(APPROVALS)}")


def _time(document: Mapping[str, Json], key: str) -> datetime | None:
    return parse_time(get_str(document, key, max_chars=30)) if key in document else None
