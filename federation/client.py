"""One question to many nodes: finding them, asking them, watching them, collecting what they say.

The decisions are elsewhere (``dispatch``, ``merge``, ``continuity``); this module sends, waits and checks answers.

Invariants:
- The JobSpec is signed once and goes only to the nodes of its audience.
- Before anything is sent to a node, its descriptor is fetched from its own origin and checked against what was
  remembered: a registry can leave nodes out, but not slip in keys.
- Every page of results is signed by a key of the node's descriptor, names the job and the node, and speaks only of
  media and specimens under the node's own origin: **what one origin says about another's ids is refused**.
- After every step the handle is saved, so that Ctrl-C or a crash loses nothing; the job itself runs on at the nodes.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from cas.errors import ContentIdError
from cas.ids import parse_content_id
from federation.continuity import KnownNode, Pin, verify_descriptor
from federation.dispatch import (
    AnswerWasBad,
    AskPage,
    AskStatus,
    CancelWanted,
    Event,
    Instruction,
    JobUnknown,
    NodeCourse,
    NotReached,
    PageSeen,
    Patience,
    Rest,
    SendCancel,
    StatusSeen,
    Submit,
    WasRefused,
    begin,
    handle,
)
from federation.errors import AnswerRefused, DescriptorRefused, TransportError
from federation.http_signatures import sign_request
from federation.identity import KeyRing, SigningKey
from federation.plain_text import has_control, without_control
from federation.registry import ListedNode, parse_node_list
from federation.status import JobStatus, parse_status
from federation.transport import Answer, OutgoingRequest, Transport
from linkeddata.descriptor import MAX_BYTES as MAX_DESCRIPTOR_BYTES
from linkeddata.envelope import JOB_SPEC, RESULT_PAGE, Envelope, open_envelope, parse_envelope
from linkeddata.errors import DocumentError
from linkeddata.job import GRANULARITIES, JobSpec, ResultPage, ResultRow, parse_job_spec, parse_result_page
from linkeddata.json_strict import as_object, get_list, get_object, get_str, get_strings, parse_json

DESCRIPTOR_PATH: Final = "/.well-known/vasculum/node.json"
MAX_LIST_BYTES: Final = 64 * 1024 * 1024
"""5,000 descriptors of 12 kB."""
MAX_PAGE_BYTES: Final = 4 * 1024 * 1024
_TRY_LATER: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
_PAGE_ROWS: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientPorts:
    """What the client needs from outside."""

    transport: Transport
    key: SigningKey
    clock: Callable[[], datetime]
    nonce: Callable[[], str]
    """128 random bits, base64url."""
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    insecure_loopback: bool = False
    timeout_s: float = 30.0


# ---------------------------------------------------------------------- finding nodes
async def list_registry(ports: ClientPorts, registry: str) -> tuple[ListedNode, ...]:
    """What a registry knows; the envelopes are unverified.

    Raises:
        TransportError: it cannot be reached.
        DescriptorRefused: what it answers is not a registry's list.
    """
    answer = await ports.transport.send(
        OutgoingRequest(
            method="GET", url=f"{registry.rstrip('/')}/nodes", timeout_s=ports.timeout_s, max_bytes=MAX_LIST_BYTES
        )
    )
    if answer.status != 200:
        raise TransportError(f"the registry answered {answer.status}")
    try:
        return parse_node_list(parse_json(answer.body, max_bytes=MAX_LIST_BYTES))
    except DocumentError as error:
        raise DescriptorRefused(f"the registry's answer is not good: {error}") from error


async def fetch_descriptor(ports: ClientPorts, origin: str, pin: Pin | None) -> tuple[KnownNode, Envelope]:
    """A node's descriptor from its own origin, checked.

    Raises:
        TransportError: it cannot be reached.
        DescriptorRefused: it cannot be believed.
    """
    answer = await ports.transport.send(
        OutgoingRequest(
            method="GET", url=origin + DESCRIPTOR_PATH, timeout_s=ports.timeout_s, max_bytes=2 * MAX_DESCRIPTOR_BYTES
        )
    )
    if answer.status != 200:
        raise TransportError(f"the node answered {answer.status} when asked for its descriptor")
    try:
        envelope = parse_envelope(answer.body, max_bytes=2 * MAX_DESCRIPTOR_BYTES)
    except DocumentError as error:
        raise DescriptorRefused(f"not a good descriptor: {error}") from error
    known = verify_descriptor(
        envelope, origin=origin, pin=pin, now=ports.clock(), insecure_loopback=ports.insecure_loopback
    )
    return known, envelope


async def recover_jobs(ports: ClientPorts, origin: str) -> list[tuple[JobStatus, Envelope, JobSpec]]:
    """The jobs of this key that a node knows, each with its specification, checked against our own signature.

    Raises:
        TransportError: the node cannot be reached.
        AnswerRefused, DocumentError: what it answers cannot be believed.
    """
    answer = await _signed(ports, "GET", f"{origin}/jobs?limit=1000")
    if answer.status != 200:
        raise TransportError(f"the node answered {answer.status} when asked for jobs")
    document = as_object(parse_json(answer.body, max_bytes=MAX_PAGE_BYTES), "a job list")
    found: list[tuple[JobStatus, Envelope, JobSpec]] = []
    for item in get_list(document, "jobs", max_items=1000):
        status = parse_status(item)
        if not _is_plain_id(status.job_id) or has_control(item):
            raise AnswerRefused("a status that cannot be believed")
        answer = await _signed(ports, "GET", f"{origin}/jobs/{status.job_id}/specification")
        if answer.status != 200:
            continue
        envelope = parse_envelope(answer.body, max_bytes=MAX_PAGE_BYTES)
        verified = open_envelope(envelope, payload_type=JOB_SPEC, verifier=KeyRing.of([ports.key.kid]))
        spec = parse_job_spec(verified.value)
        if spec.id != status.job_spec or origin not in spec.audience:
            raise AnswerRefused("the specification of another job")
        found.append((status, envelope, spec))
    return found


# ---------------------------------------------------------------------- the job
@dataclass(slots=True, kw_only=True)
class FederatedJob:
    """A job at all its nodes. ``save`` is called after every change.

    Example:
        >>> job = FederatedJob(spec=spec, envelope=seal(..), courses={..}, keys={..})
        >>> await run(job, ports, save=handle_file.write)
    """

    spec: JobSpec
    envelope: Envelope
    courses: dict[str, NodeCourse]
    keys: dict[str, tuple[str, ...]]
    """Origin -> signing keys of its descriptor when the job was sent."""
    pipelines: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Origin -> pipeline digests it offered; rows must name one of them."""

    @property
    def has_ended(self) -> bool:
        """Every node's course is at its end."""
        return all(course.has_ended for course in self.courses.values())


async def run(
    job: FederatedJob,
    ports: ClientPorts,
    *,
    save: Callable[[FederatedJob], None],
    patience: Patience | None = None,
    stop_when: Callable[[NodeCourse], bool] | None = None,
) -> None:
    """Follows the job at all nodes at once until it has ended everywhere.

    Args:
        job: changed in place.
        ports: the outside.
        save: called after every change of a course.
        patience: how long silence is borne.
        stop_when: a node is left alone once this says so of its course.
    """

    async def follow(origin: str) -> None:
        instruction: Instruction = begin(job.courses[origin])
        while not isinstance(instruction, Rest):
            if instruction.after_s > 0:
                await ports.sleep(instruction.after_s)
            event = await carry_out(job, origin, instruction, ports)
            course, instruction = handle(job.courses[origin], event, now=ports.clock(), patience=patience)
            job.courses[origin] = course
            save(job)
            if stop_when is not None and stop_when(course):
                return

    async with asyncio.TaskGroup() as group:
        for origin in job.courses:
            group.create_task(follow(origin))


async def cancel(job: FederatedJob, ports: ClientPorts, *, save: Callable[[FederatedJob], None]) -> None:
    """Gives the job up at every node where it has not ended."""
    for origin, course in job.courses.items():
        job.courses[origin], _ = handle(course, CancelWanted(), now=ports.clock())
    save(job)
    await run(job, ports, save=save, patience=Patience(watch_s=20.0))


async def carry_out(job: FederatedJob, origin: str, instruction: Instruction, ports: ClientPorts) -> Event:
    """Sends what an instruction says and turns the answer, whatever it is, into an event."""
    course = job.courses[origin]
    try:
        match instruction:
            case Submit():
                answer = await _signed(ports, "POST", f"{origin}/processes/{_process(job.spec)}/execution", _body(job))
                return _after_submit(answer, job.spec)
            case AskStatus():
                answer = await _signed(ports, "GET", f"{origin}/jobs/{course.job_id}")
                return _after_status(answer, job.spec, course.job_id)
            case SendCancel():
                answer = await _signed(ports, "DELETE", f"{origin}/jobs/{course.job_id}")
                return _after_status(answer, job.spec, course.job_id)
            case AskPage(after=after):
                query = f"?limit={_PAGE_ROWS}" + ("" if after is None else f"&after={after}")
                answer = await _signed(ports, "GET", f"{origin}/jobs/{course.job_id}/results{query}")
                return _after_page(answer, job, origin)
            case Rest():
                raise AssertionError("nothing is to be carried out")
    except TransportError as error:
        return NotReached(reason=str(error))
    except (AnswerRefused, DocumentError) as error:
        return AnswerWasBad(reason=str(error))


def check_page(page: ResultPage, job: FederatedJob, origin: str) -> None:
    """Refuses a page that says what this node cannot know or must not say.

    Raises:
        AnswerRefused: with what is wrong.
    """
    if page.job != job.spec.id:
        raise AnswerRefused("a page of another job")
    if has_control([item.to_json() for item in page.counts]):
        raise AnswerRefused("counts with control characters")
    if page.node != origin:
        raise AnswerRefused(f"a page of {page.node[:100]}")
    if GRANULARITIES.index(page.granularity) > GRANULARITIES.index(job.spec.granularity):
        raise AnswerRefused("finer than what was asked for")
    steps = {step.output: step for step in job.spec.steps}
    if {item.step for item in page.counts} - set(steps):
        raise AnswerRefused("counts of a step that was not asked for")
    for row in page.rows:
        _check_row(row, steps, origin)
        accepted = steps[row.step].digests or job.pipelines.get(origin, ())
        if accepted and row.pipeline not in accepted:
            raise AnswerRefused("a row of a pipeline that was not accepted")


def _check_row(row: ResultRow, steps: Collection[str], origin: str) -> None:
    prefix = origin + "/"
    if not (row.specimen.startswith(prefix) and row.medium.startswith(prefix)):
        raise AnswerRefused("a row about something that is not this node's")
    if row.step not in steps:
        raise AnswerRefused("a row of a step that was not asked for")
    try:
        parse_content_id(row.image)
    except ContentIdError as error:
        raise AnswerRefused("a row without a good image id") from error
    if row.answer == "yes" and row.conformance not in ("pass", "fail", "none"):
        raise AnswerRefused("a row without a statement of conformance")
    if has_control(row.to_json()):
        raise AnswerRefused("a row with control characters")
    for match in row.matches:
        box = match.get("box")
        if box is not None and not (
            isinstance(box, list)
            and len(box) == 4
            and all(isinstance(item, int) and not isinstance(item, bool) and 0 <= item <= 1_000_000 for item in box)
        ):
            raise AnswerRefused("a match outside of any image")


# ---------------------------------------------------------------------- sending
async def _signed(ports: ClientPorts, method: str, url: str, body: bytes = b"") -> Answer:
    headers = sign_request(
        ports.key,
        method=method,
        url=url,
        body=body,
        content_type="application/json",
        now=ports.clock(),
        nonce=ports.nonce(),
    )
    if method == "POST":
        headers["Prefer"] = "respond-async"
    return await ports.transport.send(
        OutgoingRequest(
            method=method, url=url, headers=headers, body=body, timeout_s=ports.timeout_s, max_bytes=MAX_PAGE_BYTES
        )
    )


def _body(job: FederatedJob) -> bytes:
    document = {"inputs": {"jobSpec": {"value": job.envelope.to_json()}}, "response": "document"}
    return json.dumps(document, separators=(",", ":")).encode()


def _process(spec: JobSpec) -> str:
    return spec.steps[0].output.partition("/")[0] if len(spec.steps) == 1 else "federated-job"


# ---------------------------------------------------------------------- understanding answers
def _after_submit(answer: Answer, spec: JobSpec) -> Event:
    if answer.status in (200, 201):
        return _status_event(answer, spec, None)
    if answer.status in _TRY_LATER:
        return _later(answer)
    reasons, rule = _problem(answer)
    return WasRefused(reasons=reasons, rule=rule)


def _after_status(answer: Answer, spec: JobSpec, job_id: str) -> Event:
    if answer.status == 200:
        return _status_event(answer, spec, job_id)
    if answer.status == 404:
        return JobUnknown()
    if answer.status == 401:
        return NotReached(reason="; ".join(_problem(answer)[0]))
    return _later(answer)


def _after_page(answer: Answer, job: FederatedJob, origin: str) -> Event:
    if answer.status == 200:
        document = as_object(parse_json(answer.body, max_bytes=MAX_PAGE_BYTES), "an answer")
        envelope = parse_envelope(get_object(get_object(document, "page"), "value"), max_bytes=MAX_PAGE_BYTES)
        verified = open_envelope(envelope, payload_type=RESULT_PAGE, verifier=KeyRing.of(job.keys.get(origin, ())))
        page = parse_result_page(verified.value)
        check_page(page, job, origin)
        return PageSeen(rows=page.rows, counts=page.counts, granularity=page.granularity, next=page.next)
    if answer.status == 404:
        return NotReached(reason="not ready") if b"result-not-ready" in answer.body else JobUnknown()
    if answer.status in (403, 409, 410):
        reasons, rule = _problem(answer)
        return WasRefused(reasons=reasons, rule=rule)
    return _later(answer)


def _status_event(answer: Answer, spec: JobSpec, job_id: str | None) -> Event:
    document = parse_json(answer.body, max_bytes=MAX_PAGE_BYTES)
    status = parse_status(document)
    if has_control(document):
        raise AnswerRefused("a status with control characters")
    if status.job_spec != spec.id or (job_id is not None and status.job_id != job_id):
        raise AnswerRefused("the status of another job")
    if not _is_plain_id(status.job_id):
        raise AnswerRefused("a job id that cannot be part of an address")
    if {step.counts.step for step in status.steps} - {step.output for step in spec.steps}:
        raise AnswerRefused("a status with steps that were not asked for")
    if spec.first is not None and status.images > spec.first:
        raise AnswerRefused("more images than were asked for")
    return StatusSeen(status=status)


def _is_plain_id(text: str) -> bool:
    return bool(text) and all(char.isascii() and (char.isalnum() or char in "-_") for char in text)


def _later(answer: Answer) -> NotReached:
    text = answer.headers.get("retry-after", "")
    wait = float(min(int(text), 300)) if text.isascii() and text.isdigit() and len(text) < 6 else 0.0
    return NotReached(reason=f"the node answered {answer.status}", retry_after_s=wait)


def _problem(answer: Answer) -> tuple[tuple[str, ...], str]:
    try:
        document = as_object(parse_json(answer.body, max_bytes=262_144), "a problem")
        reasons = get_strings(document, "reasons", max_items=50, max_chars=2000, optional=True)
        detail = get_str(document, "detail", max_chars=2000, default="")
        rule = get_str(document, "rule", max_chars=2000, default="")
    except DocumentError:
        return (f"the node answered {answer.status}",), ""
    return tuple(
        without_control(item) for item in reasons or (detail or f"the node answered {answer.status}",)
    ), without_control(rule)
