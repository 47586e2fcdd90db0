"""The course of one job at one node, seen from the researcher: a state machine without I/O.

``handle(course, event) -> (course, instruction)``: the shell (``federation.client``) carries the instruction out and
reports what happened as the next event. A course can be written to a file and taken up again by another process.

::

    to submit --Accepted--> watching --finished--> collecting --last page--> done
        |  Refused -> refused        |  held: watching, slower       | (more pages)
        |  NotReached: again, later  |  NotReached: again, later     |
        +--AnswerWasBad, or not reached for too long--> failed <-----+
    any --CancelWanted--> cancelling --Dismissed--> cancelled

Invariants:
- Every path ends: retries are bounded by time without any answer, pages by the number of rows the node announced.
- A job is submitted again only with the same specification; nodes answer a repeated one with the same job.
- An answer that cannot be believed ends the course with the reason; it is never asked again and never mixed in.
"""

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final, Literal, TypeAlias, assert_never

from federation.status import JobStatus, parse_status
from linkeddata.job import ResultRow, StepCounts, parse_result_row, parse_step_counts
from linkeddata.json_strict import Json, as_object, get_int, get_list, get_str, get_strings
from linkeddata.times import format_time, parse_time

Phase = Literal["to submit", "watching", "collecting", "done", "refused", "failed", "cancelling", "cancelled"]
PHASES: Final[tuple[Phase, ...]] = (
    "to submit", "watching", "collecting", "done", "refused", "failed", "cancelling", "cancelled",
)  # fmt: skip
ENDED: Final = frozenset({"done", "refused", "failed", "cancelled"})
FIRST_PAUSE_S: Final = 0.5
LONGEST_PAUSE_S: Final = 30.0
WATCH_PAUSE_S: Final = 1.0
HELD_PAUSE_S: Final = 15.0
"""A held job waits for a person: asking every second only loads the node."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long a node may be silent."""

    submit_s: float = 20.0
    """A node that cannot be reached at all: reported, and the others go on."""
    watch_s: float = 600.0
    """A node that was reached once may restart or lose its network for this long."""


# ---------------------------------------------------------------------- what happened
@dataclass(frozen=True, slots=True, kw_only=True)
class StatusSeen:
    """The node answered a submission or a question with a status."""

    status: JobStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class WasRefused:
    """The node will not take the job."""

    reasons: tuple[str, ...]
    rule: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PageSeen:
    """A verified page of results."""

    rows: tuple[ResultRow, ...]
    counts: tuple[StepCounts, ...]
    granularity: str
    next: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class NotReached:
    """No answer, or one that says try later."""

    reason: str
    retry_after_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerWasBad:
    """An answer that cannot be believed."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JobUnknown:
    """The node does not know the job (any more): it was restored from a backup, or it is not the node it was."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelWanted:
    """The researcher gives the job up."""


Event: TypeAlias = StatusSeen | WasRefused | PageSeen | NotReached | AnswerWasBad | JobUnknown | CancelWanted


# ---------------------------------------------------------------------- what to do
@dataclass(frozen=True, slots=True, kw_only=True)
class Submit:
    """Send the specification."""

    after_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class AskStatus:
    """Ask how far it is."""

    after_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class AskPage:
    """Fetch the page after this ordinal (None: the first)."""

    after: int | None
    after_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SendCancel:
    """Ask the node to stop."""

    after_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Rest:
    """Nothing more to do."""


Instruction: TypeAlias = Submit | AskStatus | AskPage | SendCancel | Rest


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeCourse:
    """Where the job stands at one node."""

    origin: str
    name: str
    phase: Phase = "to submit"
    job_id: str = ""
    status: JobStatus | None = None
    reasons: tuple[str, ...] = ()
    rule: str = ""
    silent_since: datetime | None = None
    tries: int = 0
    was_lost: bool = False
    """The node once forgot the job, and it was sent again."""
    after: int | None = None
    rows: tuple[ResultRow, ...] = ()
    counts: tuple[StepCounts, ...] = ()
    granularity: str = ""

    @property
    def has_ended(self) -> bool:
        """No instruction but ``Rest`` will follow."""
        return self.phase in ENDED

    @property
    def is_held(self) -> bool:
        """Waits for a person at the node."""
        return self.phase == "watching" and self.status is not None and self.status.approval == "waiting"


def begin(course: NodeCourse) -> Instruction:
    """What to do first, or after the course was read back from a file."""
    match course.phase:
        case "to submit":
            return Submit()
        case "watching":
            return AskStatus()
        case "collecting":
            return AskPage(after=course.after)
        case "cancelling":
            return SendCancel()
        case _:
            return Rest()


def handle(
    course: NodeCourse, event: Event, *, now: datetime, patience: Patience | None = None
) -> tuple[NodeCourse, Instruction]:
    """What follows from an event. Events that come after the end change nothing."""
    if course.has_ended:
        return course, Rest()
    match event:
        case StatusSeen(status=status):
            return _status(_heard(course), status)
        case PageSeen():
            return _page(_heard(course), event)
        case WasRefused(reasons=reasons, rule=rule):
            return replace(_heard(course), phase="refused", reasons=reasons, rule=rule), Rest()
        case AnswerWasBad(reason=reason):
            return _failed(course, f"its answer cannot be believed: {reason}")
        case JobUnknown():
            if course.phase == "cancelling":
                return replace(course, phase="cancelled"), Rest()
            if course.was_lost:
                return _failed(course, "it does not know the job")
            return replace(course, phase="to submit", was_lost=True, rows=(), after=None), Submit()
        case CancelWanted():
            if course.phase == "to submit":
                return replace(course, phase="cancelled", reasons=("cancelled before it was sent",)), Rest()
            return replace(course, phase="cancelling"), SendCancel()
        case NotReached():
            return _silence(course, event, now, patience or Patience())
        case _:
            assert_never(event)


def _heard(course: NodeCourse) -> NodeCourse:
    return replace(course, silent_since=None, tries=0)


def _status(course: NodeCourse, status: JobStatus) -> tuple[NodeCourse, Instruction]:
    course = replace(course, status=status, job_id=status.job_id, reasons=status.reasons, rule=status.rule)
    if status.status == "dismissed":
        return replace(course, phase="cancelled"), Rest()
    if course.phase == "cancelling":
        return (replace(course, phase="cancelled"), Rest()) if status.is_finished else (course, SendCancel(after_s=1.0))
    if status.status == "failed":
        if status.approval in ("refused", "expired"):
            why = status.reasons or (status.message,)
            return replace(course, phase="refused", reasons=why), Rest()
        return _failed(course, status.message or "the node says the job failed")
    if status.status == "successful":
        return replace(course, phase="collecting"), AskPage(after=course.after)
    pause = HELD_PAUSE_S if status.approval == "waiting" else WATCH_PAUSE_S
    return replace(course, phase="watching"), AskStatus(after_s=pause)


def _page(course: NodeCourse, page: PageSeen) -> tuple[NodeCourse, Instruction]:
    if page.next is not None and (not page.rows or (course.after is not None and page.next <= course.after)):
        return _failed(course, "its answer cannot be believed: the pages do not end")
    rows = (*course.rows, *page.rows)
    announced = 0 if course.status is None else course.status.images * max(1, len(course.status.steps))
    if len(rows) > announced:
        return _failed(course, "its answer cannot be believed: more rows than images asked about")
    course = replace(course, rows=rows, counts=page.counts, granularity=page.granularity, after=page.next)
    if page.next is not None:
        return course, AskPage(after=page.next)
    return replace(course, phase="done"), Rest()


def _silence(
    course: NodeCourse, event: NotReached, now: datetime, patience: Patience
) -> tuple[NodeCourse, Instruction]:
    since = course.silent_since or now
    tries = course.tries + 1
    limit = timedelta(seconds=patience.submit_s if course.phase == "to submit" else patience.watch_s)
    if now - since >= limit:
        return _failed(course, f"not reached: {event.reason}")
    pause = max(event.retry_after_s, min(FIRST_PAUSE_S * 2 ** min(tries - 1, 10), LONGEST_PAUSE_S))
    course = replace(course, silent_since=since, tries=tries)
    match course.phase:
        case "to submit":
            return course, Submit(after_s=pause)
        case "collecting":
            return course, AskPage(after=course.after, after_s=pause)
        case "cancelling":
            return course, SendCancel(after_s=pause)
        case _:
            return course, AskStatus(after_s=pause)


def _failed(course: NodeCourse, reason: str) -> tuple[NodeCourse, Instruction]:
    return replace(course, phase="failed", reasons=(reason,)), Rest()


# ---------------------------------------------------------------------- the form in a handle file
def course_to_json(course: NodeCourse) -> dict[str, Json]:
    """For the handle file."""
    return {
        "origin": course.origin,
        "name": course.name,
        "phase": course.phase,
        "jobID": course.job_id,
        "status": None if course.status is None else course.status.to_json(origin=course.origin),
        "reasons": list(course.reasons),
        "rule": course.rule,
        "silentSince": None if course.silent_since is None else format_time(course.silent_since),
        "wasLost": course.was_lost,
        "after": course.after,
        "rows": [row.to_json() for row in course.rows],
        "counts": [item.to_json() for item in course.counts],
        "granularity": course.granularity,
    }


def parse_course(value: Json) -> NodeCourse:
    """The reverse of ``course_to_json``.

    Raises:
        DocumentError: the file was changed by hand, or is from another version.
    """
    document = as_object(value, "a node of the job")
    text = get_str(document, "phase")
    phase: Phase = next((item for item in PHASES if item == text), "failed")
    silent = document.get("silentSince")
    return NodeCourse(
        origin=get_str(document, "origin"),
        name=get_str(document, "name"),
        phase=phase,
        job_id=get_str(document, "jobID"),
        status=None if document.get("status") is None else parse_status(document["status"]),
        reasons=get_strings(document, "reasons", max_items=100),
        rule=get_str(document, "rule"),
        silent_since=parse_time(silent) if isinstance(silent, str) else None,
        was_lost=document.get("wasLost") is True,
        after=get_int(document, "after", low=0, high=2**53) if document.get("after") is not None else None,
        rows=tuple(parse_result_row(item) for item in get_list(document, "rows", max_items=10_000_000)),
        counts=tuple(parse_step_counts(item) for item in get_list(document, "counts", max_items=100)),
        granularity=get_str(document, "granularity"),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Numbers for a progress bar."""

    done: int = 0
    total: int = 0
    answers: tuple[StepCounts, ...] = field(default=())


def progress_of(course: NodeCourse) -> Progress:
    """How far a node is, in units."""
    if course.status is None:
        return Progress()
    counts = tuple(step.counts for step in course.status.steps)
    total = course.status.images * len(course.status.steps)
    pending = sum(step.states.get("queued", 0) + step.states.get("leased", 0) for step in course.status.steps)
    if course.status.approval == "waiting" or (not course.status.is_finished and pending == 0 and total):
        pending = max(pending, total - sum(sum(step.states.values()) for step in course.status.steps))
    return Progress(done=max(0, total - pending), total=total, answers=counts)
