"""Jobs as documents: what a researcher asks, and the pages of results a node answers with.

A JobSpec is signed by the researcher and addressed to named nodes (the audience): a node that is not named refuses it,
so a specification cannot be replayed elsewhere. What is *emitted* (predicate and projection over results) is not part
of the work key: asking for another word computes nothing anew.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Literal

from linkeddata.errors import DocumentError
from linkeddata.json_strict import (
    Json,
    as_object,
    extra_members,
    get_bool,
    get_int,
    get_list,
    get_object,
    get_str,
    get_strings,
)
from linkeddata.matching import parse_match
from linkeddata.outputs import CONTRACTS
from linkeddata.outputs.contracts import NOT_RELEASED
from linkeddata.outputs.shape import Answer
from linkeddata.selection import Selection, check_portable, parse_selection
from linkeddata.times import format_time, parse_time

ANSWERS: Final[tuple[Answer, ...]] = ("yes", "no", "cannot tell")
Granularity = Literal["boolean", "count", "record"]
GRANULARITIES: Final[tuple[Granularity, ...]] = ("boolean", "count", "record")
"""From coarse to fine (after GA4GH Beacon v2); a node may answer coarser than asked and says so."""
MAX_AUDIENCE: Final = 1000
MAX_STEPS: Final = 8
MAX_IMAGES: Final = 1_000_000
_JOB_ID = re.compile(r"urn:uuid:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class JobStep:
    """One output contract, and which pipelines for it are accepted (none named: the node's own)."""

    output: str
    digests: tuple[str, ...] = ()
    parameters: Mapping[str, Json] = field(default_factory=dict)

    def to_json(self) -> dict[str, Json]:
        """For the specification."""
        return {"output": self.output, "digests": list(self.digests), "parameters": dict(self.parameters)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Emit:
    """What is given out of a step's results: those whose text matches."""

    step: str
    match: str

    def to_json(self) -> dict[str, Json]:
        """For the specification."""
        return {"step": self.step, "match": self.match}


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSpec:
    """One question to many nodes."""

    id: str
    issued: datetime
    expires: datetime
    requester_kid: str
    requester_name: str
    audience: tuple[str, ...]
    steps: tuple[JobStep, ...]
    selection: Selection
    first: int | None = None
    emit: Emit | None = None
    granularity: Granularity = "record"
    purpose: str = ""
    publish: bool = False
    reuse: Literal["exact", "conformant"] = "conformant"
    extra: Mapping[str, Json] = field(default_factory=dict)
    """Members of a newer version; they survive."""

    def to_json(self) -> dict[str, Json]:
        """The document that is signed."""
        document: dict[str, Json] = {
            **self.extra,
            "type": "vasculum:JobSpec",
            "schemaVersion": 1,
            "id": self.id,
            "issued": format_time(self.issued),
            "expires": format_time(self.expires),
            "requester": {"kid": self.requester_kid, "name": self.requester_name},
            "audience": list(self.audience),
            "kind": "infer",
            "steps": [step.to_json() for step in self.steps],
            "selection": self.selection.to_json(),
            "granularity": self.granularity,
            "purpose": self.purpose,
            "publish": self.publish,
            "reuse": self.reuse,
        }
        if self.first is not None:
            document["first"] = self.first
        if self.emit is not None:
            document["emit"] = self.emit.to_json()
        return document


_SPEC_MEMBERS: Final = frozenset(
    {
        "type", "schemaVersion", "id", "issued", "expires", "requester", "audience", "kind", "steps", "selection",
        "granularity", "purpose", "publish", "reuse", "first", "emit",
    }
)  # fmt: skip


def parse_job_spec(value: Json) -> JobSpec:
    """A verified payload as a specification.

    Raises:
        DocumentError: it says something a specification must not.
    """
    document = as_object(value, "a job specification")
    if document.get("type") != "vasculum:JobSpec" or document.get("schemaVersion") != 1:
        raise DocumentError("not a job specification of schemaVersion 1")
    if document.get("kind") != "infer":
        raise DocumentError("this node computes jobs of kind infer only")
    identifier = get_str(document, "id", max_chars=60)
    if not _JOB_ID.match(identifier):
        raise DocumentError("id must be urn:uuid:.. in lower case")
    requester = get_object(document, "requester")
    steps = tuple(_step(item) for item in get_list(document, "steps", max_items=MAX_STEPS))
    if not steps or len({step.output for step in steps}) != len(steps):
        raise DocumentError("steps must name at least one output contract, each once")
    granularity = get_str(document, "granularity", max_chars=20)
    if granularity not in GRANULARITIES:
        raise DocumentError("granularity is boolean, count or record")
    reuse = get_str(document, "reuse", max_chars=20)
    if reuse not in ("exact", "conformant"):
        raise DocumentError("reuse is exact or conformant")
    audience = get_strings(document, "audience", max_items=MAX_AUDIENCE, max_chars=300)
    selection = parse_selection(get_object(document, "selection"))
    check_portable(selection)
    if not audience:
        raise DocumentError("audience must name the nodes that are asked")
    return JobSpec(
        id=identifier,
        issued=parse_time(get_str(document, "issued", max_chars=30)),
        expires=parse_time(get_str(document, "expires", max_chars=30)),
        requester_kid=get_str(requester, "kid", max_chars=120),
        requester_name=get_str(requester, "name", max_chars=200, default=""),
        audience=audience,
        steps=steps,
        selection=selection,
        first=get_int(document, "first", low=1, high=MAX_IMAGES) if "first" in document else None,
        emit=_emit(document["emit"], steps) if "emit" in document else None,
        granularity=granularity,
        purpose=get_str(document, "purpose", max_chars=1000, default=""),
        publish=get_bool(document, "publish", default=False),
        reuse="exact" if reuse == "exact" else "conformant",
        extra=extra_members(document, _SPEC_MEMBERS),
    )


def _step(value: Json) -> JobStep:
    step = as_object(value, "a step")
    output = get_str(step, "output", max_chars=60)
    if output in NOT_RELEASED:
        raise DocumentError(f"results of {output} stay in the node: no job may ask for them")
    if output not in CONTRACTS:
        raise DocumentError(f"unknown output contract {output!r}: known are {', '.join(CONTRACTS)}")
    digests = get_strings(step, "digests", max_items=50, max_chars=80, optional=True)
    if any(not _DIGEST.match(item) for item in digests):
        raise DocumentError("digests are sha256:.. with 64 hex digits")
    parameters = as_object(step.get("parameters", {}), "parameters")
    if len(parameters) > 20 or any(isinstance(item, float | dict | list) for item in parameters.values()):
        raise DocumentError("parameters are at most 20 texts, whole numbers or booleans")
    return JobStep(output=output, digests=digests, parameters=parameters)


def _emit(value: Json, steps: tuple[JobStep, ...]) -> Emit:
    emit = as_object(value, "emit")
    found = Emit(step=get_str(emit, "step", max_chars=60), match=get_str(emit, "match", max_chars=300))
    if found.step not in {step.output for step in steps}:
        raise DocumentError("emit names a step that the job does not have")
    parse_match(found.match)
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultRow:
    """What one step said about one image."""

    specimen: str
    medium: str
    image: str
    """``hash://sha256/..``."""
    step: str
    pipeline: str
    environment: str
    conformance: str
    """``pass``, ``fail``, or ``none`` where nothing ran."""
    answer: Answer
    reason: str
    matches: tuple[Mapping[str, Json], ...] = ()
    values: Mapping[str, Json] = field(default_factory=dict)

    def to_json(self) -> dict[str, Json]:
        """For a result page."""
        return {
            "specimen": self.specimen,
            "medium": self.medium,
            "image": self.image,
            "step": self.step,
            "pipeline": self.pipeline,
            "environment": self.environment,
            "conformance": self.conformance,
            "answer": self.answer,
            "reason": self.reason,
            "matches": [dict(item) for item in self.matches],
            "values": dict(self.values),
        }


def found_in(row: ResultRow) -> tuple[str, str]:
    """What was found, as one text, and its score: matches, else what the step gives without a question."""
    if row.matches:
        best = row.matches[0]
        return " | ".join(str(item.get("text", "")) for item in row.matches), str(best.get("score", ""))
    values = row.values
    for name, member in (("codes", "payload"), ("lines", "text"), ("classes", "name")):
        items = values.get(name)
        if isinstance(items, list):
            said = [item for item in items if isinstance(item, dict) and item.get("holds", True) is not False]
            return " | ".join(str(item.get(member, "")) for item in said), ""
    kind, scores = values.get("kind"), values.get("scores")
    if isinstance(kind, str):
        return kind, str(scores.get(kind, "")) if isinstance(scores, dict) else ""
    for name in ("measures", "counts"):
        measured = values.get(name)
        if isinstance(measured, dict):
            return _in_words(measured), ""
    return _in_words({name: value for name, value in values.items() if name != "score"}), str(values.get("score", ""))


def _in_words(values: Mapping[str, Json]) -> str:
    """Texts and whole numbers with their names; lists (boxes, matrices) are for programs."""
    said = ((name, value) for name, value in values.items() if isinstance(value, str | int))
    return ", ".join(f"{name} {value}" for name, value in said)


def parse_result_row(value: Json) -> ResultRow:
    """A row of a (verified) result page.

    Raises:
        DocumentError: the node that signed it broke the form.
    """
    row = as_object(value, "a row")
    answer = next((item for item in ANSWERS if item == row.get("answer")), None)
    if answer is None:
        raise DocumentError("answer is yes, no or cannot tell")
    matches = tuple(as_object(item, "a match") for item in get_list(row, "matches", max_items=500))
    for match in matches:
        get_str(match, "text", max_chars=2000)
    return ResultRow(
        specimen=get_str(row, "specimen"),
        medium=get_str(row, "medium"),
        image=get_str(row, "image", max_chars=100),
        step=get_str(row, "step", max_chars=60),
        pipeline=get_str(row, "pipeline", max_chars=80),
        environment=get_str(row, "environment", max_chars=80),
        conformance=get_str(row, "conformance", max_chars=20),
        answer=answer,
        reason=get_str(row, "reason", max_chars=600),
        matches=matches,
        values=get_object(row, "values"),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class StepCounts:
    """Answers of one step, with the denominator."""

    step: str
    yes: int = 0
    no: int = 0
    cannot_tell: int = 0
    pending: int = 0
    reasons: Mapping[str, int] = field(default_factory=dict)
    """Why it could not be told -> how often."""

    @property
    def total(self) -> int:
        """Images asked about."""
        return self.yes + self.no + self.cannot_tell + self.pending

    def to_json(self) -> dict[str, Json]:
        """For statuses and result pages."""
        return {
            "step": self.step,
            "yes": self.yes,
            "no": self.no,
            "cannotTell": self.cannot_tell,
            "pending": self.pending,
            "reasons": dict(self.reasons),
        }


def parse_step_counts(value: Json) -> StepCounts:
    """Counts as a node stated them."""
    counts = as_object(value, "counts")
    limit = 10 * MAX_IMAGES
    reasons = get_object(counts, "reasons")
    if len(reasons) > 500:
        raise DocumentError("more than 500 reasons")
    return StepCounts(
        step=get_str(counts, "step", max_chars=60),
        yes=get_int(counts, "yes", low=0, high=limit),
        no=get_int(counts, "no", low=0, high=limit),
        cannot_tell=get_int(counts, "cannotTell", low=0, high=limit),
        pending=get_int(counts, "pending", low=0, high=limit),
        reasons={key[:200]: get_int(reasons, key, low=0, high=limit) for key in reasons},
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultPage:
    """Some rows of a job at one node; signed by the node."""

    job: str
    node: str
    granularity: Granularity
    rows: tuple[ResultRow, ...]
    counts: tuple[StepCounts, ...]
    next: int | None
    """Ordinal after which the next page begins; None: this is the last."""

    def to_json(self) -> dict[str, Json]:
        """The document that is signed."""
        return {
            "type": "vasculum:ResultPage",
            "schemaVersion": 1,
            "job": self.job,
            "node": self.node,
            "granularity": self.granularity,
            "rows": [row.to_json() for row in self.rows],
            "counts": [item.to_json() for item in self.counts],
            "next": self.next,
        }


def parse_result_page(value: Json) -> ResultPage:
    """A verified payload as a page.

    Raises:
        DocumentError: the node that signed it broke the form.
    """
    page = as_object(value, "a result page")
    if page.get("type") != "vasculum:ResultPage" or page.get("schemaVersion") != 1:
        raise DocumentError("not a result page of schemaVersion 1")
    granularity = get_str(page, "granularity", max_chars=20)
    if granularity not in GRANULARITIES:
        raise DocumentError("granularity is boolean, count or record")
    return ResultPage(
        job=get_str(page, "job", max_chars=60),
        node=get_str(page, "node", max_chars=300),
        granularity=granularity,
        rows=tuple(parse_result_row(item) for item in get_list(page, "rows", max_items=1000)),
        counts=tuple(parse_step_counts(item) for item in get_list(page, "counts", max_items=MAX_STEPS)),
        next=get_int(page, "next", low=0, high=100 * MAX_IMAGES) if page.get("next") is not None else None,
    )
