"""The journal of work: which units there are, who has one, what came of it. The port, its rules, and one in memory.

Invariants, for every implementation (``tests/contracts`` holds them to it):
- A unit is known by its work key and exists once; enqueueing it again changes nothing while it is queued, leased or
  has a result. Results and deterministic refusals are kept; transient failures, refusals by a limit of the node,
  withheld and cancelled units are not results: enqueueing them again queues them again.
- A unit may take the results of other units (``WorkUnit.upstream``), which are in the journal before it. It is given
  out once all of them have ended, together with what came of each; nobody has to look again and again.
- Enqueueing a unit that is still queued with an earlier turn moves it forward.
- Leasing raises the attempt, and the attempt is a fencing token: what an older attempt brings is refused.
- What ``complete`` and ``fail`` have acknowledged with ``True`` survives a power cut (durable implementations).
- Units are given out in the order of their turn (their place within their job), so that a small job is not
  kept waiting by a large one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final, Literal, Protocol

from linkeddata.pipeline import WorkUnit

State = Literal["queued", "leased", "done", "failed", "withheld", "cancelled"]
FailureKind = Literal["permanent", "limit", "upstream", "transient", "waiting", "withheld"]
"""``permanent``: the same bytes will be refused again, a result. ``limit``: a setting or the memory of this node stands
in the way, which somebody may change: not tried again by itself, but by the next job that asks.
``upstream``: a result that it needs did not come to be, this time: like ``limit``.
``transient``: tried again soon. ``waiting``: the image is on its way from an archive, however long that takes: no
failure, tried again after a pause. ``withheld``: access."""
MAX_FAILURES: Final = 3
"""A unit that ended its worker three times is not tried again by itself: it would do so for ever."""
WAIT_FOR_IMAGE: Final = timedelta(seconds=15)
"""Pause before a unit whose image is on its way looks for it again: each look asks the index once."""
RETRY_AFTER: Final = timedelta(seconds=2)
"""Pause before a failed unit is tried again, doubled each time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Leased:
    """A unit given out for one attempt."""

    unit: WorkUnit
    attempt: int
    upstream: "Mapping[str, UnitStatus]" = field(default_factory=dict)
    """What came of the units that it takes results of, by output contract; all of them have ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitStatus:
    """How a unit stands."""

    state: State
    attempt: int
    failures: int = 0
    reason: str = ""
    failure_kind: FailureKind | None = None
    body: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AfterFailure:
    """What becomes of a unit that failed."""

    state: State
    failures: int
    retry_at: datetime | None
    reason: str


def decide_after_failure(kind: FailureKind, failures: int, reason: str, *, now: datetime) -> AfterFailure:
    """The rule for failed attempts; ``failures`` counts those before this one."""
    match kind:
        case "permanent" | "limit" | "upstream":
            return AfterFailure(state="failed", failures=failures, retry_at=None, reason=reason)
        case "withheld":
            return AfterFailure(state="withheld", failures=failures, retry_at=None, reason=reason)
        case "waiting":
            return AfterFailure(state="queued", failures=failures, retry_at=now + WAIT_FOR_IMAGE, reason=reason)
        case "transient":
            count = failures + 1
            if count >= MAX_FAILURES:
                return AfterFailure(state="failed", failures=count, retry_at=None, reason=f"{reason} ({count} times)")
            return AfterFailure(state="queued", failures=count, retry_at=now + RETRY_AFTER * 2**failures, reason=reason)


def is_settled(state: State, kind: FailureKind | None) -> bool:
    """Whether this is a result that may be used again: computed, or deterministically refused."""
    return state == "done" or (state == "failed" and kind == "permanent")


def not_enqueued(unit: WorkUnit, key: str) -> str:
    """What is said of a unit that takes the result of one that nobody queued."""
    return f"{unit.output}: the unit {key} that it takes the result of is not in the journal"


class Journal(Protocol):
    """What the engine needs."""

    async def enqueue(self, units: Sequence[tuple[int, WorkUnit]], *, now: datetime) -> int:
        """Queues units with their turns; returns how many are queued now that were not before.

        Raises:
            ValueError: a unit takes the result of one that is neither here nor before it in ``units``.
        """
        ...

    async def lease(
        self, pipeline: str, environment: str, *, limit: int, now: datetime, lease_s: float, boot: str
    ) -> list[Leased]:
        """Gives out up to ``limit`` queued units of a pipeline in an environment that wait for no other unit."""
        ...

    async def complete(self, key: str, attempt: int, body: bytes, seconds: float, *, now: datetime) -> bool:
        """Records a result; False when this attempt no longer counts."""
        ...

    async def fail(self, key: str, attempt: int, kind: FailureKind, reason: str, *, now: datetime) -> bool:
        """Records a failed attempt; False when this attempt no longer counts."""
        ...

    async def release(self, key: str, attempt: int, *, now: datetime) -> bool:
        """Puts a unit back that was not begun; False when this attempt no longer counts."""
        ...

    async def reclaim(self, boot: str, *, now: datetime) -> int:
        """Puts back what other boots hold and what is over its lease; returns how many."""
        ...


class MemoryJournal:
    """A journal that forgets: for tests, and the model that the durable one is compared with."""

    def __init__(self) -> None:
        self._units: dict[str, WorkUnit] = {}
        self._turns: dict[str, tuple[int, int]] = {}
        self._status: dict[str, UnitStatus] = {}
        self._leases: dict[str, tuple[str, datetime]] = {}
        self._not_before: dict[str, datetime] = {}
        self._count = 0

    def status(self, key: str) -> UnitStatus | None:
        """How a unit stands; None when it is not known."""
        return self._status.get(key)

    async def enqueue(self, units: Sequence[tuple[int, WorkUnit]], *, now: datetime) -> int:  # noqa: ARG002
        """See ``Journal``."""
        queued = 0
        for turn, unit in units:
            if missing := [key for key in unit.upstream if key not in self._status]:
                raise ValueError(not_enqueued(unit, missing[0]))
            old = self._status.get(unit.key)
            self._count += 1
            if old is not None and old.state == "queued" and turn < self._turns[unit.key][0]:
                self._turns[unit.key] = (turn, self._count)
            if old is not None and (old.state in ("queued", "leased") or is_settled(old.state, old.failure_kind)):
                continue
            self._units[unit.key], self._turns[unit.key] = unit, (turn, self._count)
            self._status[unit.key] = UnitStatus(state="queued", attempt=old.attempt if old else 0)
            self._not_before.pop(unit.key, None)
            queued += 1
        return queued

    async def lease(
        self, pipeline: str, environment: str, *, limit: int, now: datetime, lease_s: float, boot: str
    ) -> list[Leased]:
        """See ``Journal``."""
        waiting = [
            key
            for key, status in self._status.items()
            if status.state == "queued"
            and self._units[key].pipeline == pipeline
            and self._units[key].environment == environment
            and self._not_before.get(key, now) <= now
            and not self._waits(key)
        ]
        chosen = sorted(waiting, key=lambda key: (*self._turns[key], key))[:limit]
        for key in chosen:
            status = self._status[key]
            self._status[key] = replace(status, state="leased", attempt=status.attempt + 1)
            self._leases[key] = (boot, now + timedelta(seconds=lease_s))
        return [
            Leased(
                unit=self._units[key],
                attempt=self._status[key].attempt,
                upstream={self._units[name].output: self._status[name] for name in self._units[key].upstream},
            )
            for key in chosen
        ]

    async def complete(self, key: str, attempt: int, body: bytes, seconds: float, *, now: datetime) -> bool:  # noqa: ARG002
        """See ``Journal``."""
        if not self._holds(key, attempt):
            return False
        self._status[key] = replace(self._status[key], state="done", body=body, reason="", failure_kind=None)
        return True

    async def fail(self, key: str, attempt: int, kind: FailureKind, reason: str, *, now: datetime) -> bool:
        """See ``Journal``."""
        if not self._holds(key, attempt):
            return False
        after = decide_after_failure(kind, self._status[key].failures, reason, now=now)
        if kind == "upstream" and self._waits(key):
            after = replace(after, state="queued")
        self._status[key] = replace(
            self._status[key], state=after.state, failures=after.failures, reason=after.reason, failure_kind=kind
        )
        if after.retry_at is not None:
            self._not_before[key] = after.retry_at
        return True

    async def release(self, key: str, attempt: int, *, now: datetime) -> bool:  # noqa: ARG002
        """See ``Journal``."""
        if not self._holds(key, attempt):
            return False
        self._status[key] = replace(self._status[key], state="queued")
        return True

    async def reclaim(self, boot: str, *, now: datetime) -> int:
        """See ``Journal``."""
        count = 0
        for key, status in self._status.items():
            holder, until = self._leases.get(key, ("", now))
            if status.state == "leased" and (holder != boot or until < now):
                self._status[key] = replace(status, state="queued")
                count += 1
        return count

    def _waits(self, key: str) -> bool:
        return any(self._status[name].state in ("queued", "leased") for name in self._units[key].upstream)

    def _holds(self, key: str, attempt: int) -> bool:
        status = self._status.get(key)
        return status is not None and status.state == "leased" and status.attempt == attempt
