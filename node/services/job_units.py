"""From an image and a pipeline to units of work: the unit itself, and those whose results it takes.

Invariants:
- Units that others take the results of come first, so that the journal knows them; each is there once.
- Whatever a unit takes was computed with the defaults of its pipeline, so that all who take it share one result.
- A finished unit of another environment is taken instead only where that environment conformed (``conformant``).

It leaves out: queueing (``node.storage.journal``), who may ask (``node.services.job_rules``).
"""

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from linkeddata.json_strict import Json
from linkeddata.pipeline import WorkUnit
from node.services.job_rules import OfferedPipeline
from node.storage import jobs as store


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitPlan:
    """A unit, and everything it takes."""

    unit: WorkUnit
    upstream: tuple[WorkUnit, ...] = ()
    """In an order in which they may be queued."""

    @property
    def in_order(self) -> tuple[WorkUnit, ...]:
        """All of them, the unit itself at the end."""
        return (*self.upstream, self.unit)


def with_upstream(digest: str, offers: Mapping[str, OfferedPipeline]) -> Iterator[str]:
    """The digest of a pipeline and of everything it takes; a digest may come twice."""
    yield digest
    if digest in offers:
        for needed in offers[digest].manifest.upstream:
            yield from with_upstream(needed, offers)


def is_runnable(digest: str, offers: Mapping[str, OfferedPipeline]) -> bool:
    """Whether this pipeline and everything it takes is offered now."""
    return all(item in offers for item in with_upstream(digest, offers))


def plan_unit(
    conn: sqlite3.Connection,
    digest: str,
    image: str,
    parameters: Mapping[str, Json],
    offers: Mapping[str, OfferedPipeline],
    *,
    is_conformant_enough: bool,
) -> UnitPlan:
    """The unit that computes a pipeline over an image, with the units upstream.

    Args:
        conn: to look for finished units.
        digest: of the pipeline; it and everything it takes is in ``offers``.
        image: SHA-256, hex.
        parameters: all of them.
        offers: what this node computes, by digest.
        is_conformant_enough: whether a finished unit of another environment that conformed may stand in.
    """
    offer = offers[digest]
    plans = [
        plan_unit(
            conn, needed, image, offers[needed].manifest.parameters, offers, is_conformant_enough=is_conformant_enough
        )
        for needed in offer.manifest.upstream
    ]
    unit = WorkUnit(
        output=offer.manifest.output, pipeline=digest, environment=offer.environment, image=image,
        parameters=parameters, upstream=tuple(plan.unit.key for plan in plans),
    )  # fmt: skip
    if is_conformant_enough:
        usable = store.conforming_unit(conn, unit)
        if usable is not None and usable != unit.environment:
            unit = replace(unit, environment=usable)
    return UnitPlan(unit=unit, upstream=_each_once([item for plan in plans for item in plan.in_order]))


def _each_once(units: Sequence[WorkUnit]) -> tuple[WorkUnit, ...]:
    return tuple({unit.key: unit for unit in units}.values())
