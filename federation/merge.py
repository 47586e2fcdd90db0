"""Many nodes' answers as one, with everything a reader needs to judge it. Pure.

Invariants:
- A node appears exactly once: among those that answered, are still working, were held, refused, failed or cancelled,
  or among those that were not asked (with the rule, and how old the summary was that decided).
- Rows of pipelines that did not conform where they ran stand apart, never among the others.
- Where nodes ran different pipeline digests for one step, that is said, with who ran which.
- Counts have denominators: yes + no + cannot tell + pending = images asked about.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from federation.dispatch import NodeCourse
from linkeddata.coverage import NoValue
from linkeddata.job import ResultRow, StepCounts
from linkeddata.json_strict import Json, as_object, get_str

NOT_CONFORMING: Final = "fail"


@dataclass(frozen=True, slots=True, kw_only=True)
class NotAsked:
    """A node that was known but not asked."""

    origin: str
    name: str
    rule: str
    summary_age_s: int
    """Age of the descriptor on which that was decided, seconds."""

    def to_json(self) -> dict[str, Json]:
        """For the answer and the handle file."""
        return {"origin": self.origin, "name": self.name, "rule": self.rule, "summaryAgeSeconds": self.summary_age_s}


def parse_not_asked(value: Json) -> NotAsked:
    """The reverse of ``NotAsked.to_json``."""
    document = as_object(value, "a node not asked")
    age = document.get("summaryAgeSeconds")
    return NotAsked(
        origin=get_str(document, "origin"),
        name=get_str(document, "name"),
        rule=get_str(document, "rule"),
        summary_age_s=age if isinstance(age, int) else 0,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeNote:
    """One node and why it stands where it stands."""

    origin: str
    name: str
    reasons: tuple[str, ...] = ()
    rule: str = ""

    def to_json(self) -> dict[str, Json]:
        """For the answer."""
        return {"origin": self.origin, "name": self.name, "reasons": list(self.reasons), "rule": self.rule}


@dataclass(frozen=True, slots=True, kw_only=True)
class MergedRow:
    """A row with the node it came from."""

    node: str
    row: ResultRow

    def to_json(self) -> dict[str, Json]:
        """For the answer."""
        return {"node": self.node, **self.row.to_json()}


@dataclass(frozen=True, slots=True, kw_only=True)
class MergedAnswer:
    """The answer of all nodes together."""

    rows: tuple[MergedRow, ...]
    out_of_tolerance: tuple[MergedRow, ...]
    counts: dict[str, tuple[StepCounts, ...]]
    """Node origin -> counts per step."""
    totals: tuple[StepCounts, ...]
    answered: tuple[NodeNote, ...]
    working: tuple[NodeNote, ...]
    held: tuple[NodeNote, ...]
    refused: tuple[NodeNote, ...]
    failed: tuple[NodeNote, ...]
    cancelled: tuple[NodeNote, ...]
    not_asked: tuple[NotAsked, ...]
    differing_versions: dict[str, dict[str, tuple[str, ...]]] = field(default_factory=dict)
    """Step -> pipeline digest -> origins; only steps with more than one digest."""
    coarser: tuple[NodeNote, ...] = ()
    """Nodes that answered coarser than asked."""
    no_value: dict[str, tuple[NoValue, ...]] = field(default_factory=dict)
    """Node origin -> records that the selection could not decide there for want of a value."""

    def to_json(self) -> dict[str, Json]:
        """Everything, for ``--format json``."""
        return {
            "rows": [row.to_json() for row in self.rows],
            "outOfTolerance": [row.to_json() for row in self.out_of_tolerance],
            "counts": {origin: [item.to_json() for item in counts] for origin, counts in self.counts.items()},
            "totals": [item.to_json() for item in self.totals],
            "asked": [
                note.origin
                for notes in (self.answered, self.working, self.held, self.refused, self.failed, self.cancelled)
                for note in notes
            ],
            "answered": [note.to_json() for note in self.answered],
            "working": [note.to_json() for note in self.working],
            "held": [note.to_json() for note in self.held],
            "refused": [note.to_json() for note in self.refused],
            "failed": [note.to_json() for note in self.failed],
            "cancelled": [note.to_json() for note in self.cancelled],
            "notAsked": [note.to_json() for note in self.not_asked],
            "differingVersions": {
                step: {digest: list(origins) for digest, origins in found.items()}
                for step, found in self.differing_versions.items()
            },
            "coarser": [note.to_json() for note in self.coarser],
            "noValue": {origin: [item.to_json() for item in found] for origin, found in self.no_value.items()},
        }


def merge(courses: Iterable[NodeCourse], not_asked: Iterable[NotAsked], *, granularity: str) -> MergedAnswer:
    """One answer from the courses of all nodes that were asked."""
    notes: dict[str, list[NodeNote]] = {
        name: [] for name in ("answered", "working", "held", "refused", "failed", "cancelled")
    }
    rows: list[MergedRow] = []
    apart: list[MergedRow] = []
    counts: dict[str, tuple[StepCounts, ...]] = {}
    coarser: list[NodeNote] = []
    no_value: dict[str, tuple[NoValue, ...]] = {}
    for course in courses:
        note = NodeNote(origin=course.origin, name=course.name, reasons=course.reasons, rule=course.rule)
        notes[_place(course)].append(note)
        if course.phase in ("failed", "refused"):
            continue
        stated = course.counts or (() if course.status is None else tuple(item.counts for item in course.status.steps))
        if stated:
            counts[course.origin] = stated
        if course.status is not None and course.status.no_value:
            no_value[course.origin] = course.status.no_value
        if course.granularity and course.granularity != granularity:
            coarser.append(
                NodeNote(origin=course.origin, name=course.name, reasons=(f"answered as {course.granularity}",))
            )
        for row in course.rows:
            (apart if row.conformance == NOT_CONFORMING else rows).append(MergedRow(node=course.origin, row=row))
    return MergedAnswer(
        rows=tuple(rows),
        out_of_tolerance=tuple(apart),
        counts=counts,
        totals=_totals(counts.values()),
        answered=tuple(notes["answered"]),
        working=tuple(notes["working"]),
        held=tuple(notes["held"]),
        refused=tuple(notes["refused"]),
        failed=tuple(notes["failed"]),
        cancelled=tuple(notes["cancelled"]),
        not_asked=tuple(not_asked),
        differing_versions=_versions(rows, apart),
        coarser=tuple(coarser),
        no_value=no_value,
    )


def _place(course: NodeCourse) -> str:
    match course.phase:
        case "done":
            return "answered"
        case "refused":
            return "refused"
        case "failed":
            return "failed"
        case "cancelled" | "cancelling":
            return "cancelled"
        case _:
            return "held" if course.is_held else "working"


def _totals(by_node: Iterable[tuple[StepCounts, ...]]) -> tuple[StepCounts, ...]:
    found: dict[str, StepCounts] = {}
    for counts in by_node:
        for item in counts:
            old = found.get(item.step, StepCounts(step=item.step))
            reasons = dict(old.reasons)
            for reason, number in item.reasons.items():
                reasons[reason] = reasons.get(reason, 0) + number
            found[item.step] = StepCounts(
                step=item.step,
                yes=old.yes + item.yes,
                no=old.no + item.no,
                cannot_tell=old.cannot_tell + item.cannot_tell,
                pending=old.pending + item.pending,
                reasons=reasons,
            )
    return tuple(found.values())


def _versions(*groups: list[MergedRow]) -> dict[str, dict[str, tuple[str, ...]]]:
    found: dict[str, dict[str, dict[str, None]]] = {}
    for group in groups:
        for item in group:
            found.setdefault(item.row.step, {}).setdefault(item.row.pipeline, {})[item.node] = None
    return {
        step: {digest: tuple(origins) for digest, origins in digests.items()}
        for step, digests in found.items()
        if len(digests) > 1
    }
