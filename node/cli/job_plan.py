"""Whom to ask: every known node is asked, or not asked for a stated reason; shown before anything is sent."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table
from rich.text import Text

from federation.client import ClientPorts, FederatedJob
from federation.dispatch import NodeCourse
from federation.errors import FederationError
from federation.identity import SigningKey
from federation.merge import NotAsked
from federation.registry import matches_summary
from federation.search import ask_coverage
from linkeddata.coverage import Covered
from linkeddata.envelope import JOB_SPEC, seal
from linkeddata.job import JobSpec
from linkeddata.outputs.contracts import HIDDEN_STEPS, NOT_RELEASED, STEPS
from linkeddata.selection import Selection
from node.cli.errors import UserError
from node.cli.research import Found, NodeCache, find_nodes, refresh

PLUGGED = "classes:"
"""Before the name of a model that nodes have plugged in."""
TAKES_NONE = ("refuse: everything else",)
"""The readable form of an empty policy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A node that will be asked, its descriptor fresh from its origin."""

    found: Found
    covers: Covered | None
    """How much its public search finds for the selection; None: it does not say."""

    @property
    def specimens(self) -> int | None:
        """How many its public search finds for the selection."""
        return None if self.covers is None else self.covers.records


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Who is asked, who is not and why, who could not be reached."""

    asked: dict[str, Asked]
    not_asked: tuple[NotAsked, ...]
    unreachable: dict[str, tuple[str, str]]
    """Origin -> (name, why)."""
    problems: tuple[str, ...]
    outputs: tuple[str, ...]

    def show(self, console: Console) -> None:
        """What each node would look at, runs and allows; what several have in common stands once."""
        groups: dict[tuple[tuple[str, ...], tuple[str, ...]], list[Asked]] = {}
        for item in self.asked.values():
            offers = tuple(
                f"{offer.name} {offer.version}, conformance {offer.conformance}, {offer.digest[:19]}.."
                for offer in item.found.descriptor.pipelines
                if offer.output in self.outputs
            )
            groups.setdefault((offers, item.found.descriptor.policy.rules), []).append(item)
        for (offers, rules), items in groups.items():
            for item in items:
                number = "an unknown number of" if item.specimens is None else f"{item.specimens:,}"
                console.print(
                    f"{item.found.descriptor.name}  {item.found.origin}  would look at {number} "
                    f"specimen{'' if item.specimens == 1 else 's'}",
                    style="bold", markup=False, highlight=False, soft_wrap=True,
                )  # fmt: skip
                for line in _extent(item.covers):
                    console.print(f"  {line}", markup=False, highlight=False, soft_wrap=True)
            table = Table(show_header=False, box=None, padding=(0, 1, 0, 2))
            for label, lines in (("computes", offers), ("policy", rules)):
                for number_of_line, line in enumerate(lines):
                    table.add_row(label if number_of_line == 0 else "", Text(line))
            console.print(table, highlight=False)
        for skipped in self.not_asked:
            console.print(
                f"not asked: {skipped.name} {skipped.origin}: {skipped.rule} (summary {skipped.summary_age_s} s old)",
                markup=False, highlight=False,
            )  # fmt: skip
        for origin, (name, why) in self.unreachable.items():
            console.print(f"not reached: {name} {origin}: {why}", markup=False, highlight=False)
        for problem in self.problems:
            console.print(f"note: {problem}", markup=False, highlight=False)

    def to_job(self, spec: JobSpec, key: SigningKey) -> FederatedJob:
        """The job to run, with a failed course for each node that could not be reached."""
        courses = {
            origin: NodeCourse(origin=origin, name=item.found.descriptor.name) for origin, item in self.asked.items()
        }
        for origin, (name, why) in self.unreachable.items():
            courses[origin] = NodeCourse(origin=origin, name=name, phase="failed", reasons=(f"not reached: {why}",))
        return FederatedJob(
            spec=spec,
            envelope=seal(spec.to_json(), payload_type=JOB_SPEC, signers=[key]),
            courses=courses,
            keys={origin: tuple(sorted(item.found.pin.signing)) for origin, item in self.asked.items()},
            pipelines={
                origin: tuple(offer.digest for offer in item.found.descriptor.pipelines)
                for origin, item in self.asked.items()
            },
        )


def _extent(covers: Covered | None) -> list[str]:
    if covers is None:
        return []
    lines = [item.to_text() for item in covers.no_value]
    if covers.images is not None and covers.size_bytes is not None:
        lines.insert(0, f"{covers.images:,} images, {covers.size_bytes / 1e6:,.1f} MB")
    return lines


def outputs_of(steps: str) -> tuple[str, ...]:
    """``label-text,barcode`` as output contracts; ``classes:NAME`` is the model of that name, plugged in at a node."""
    names = _names(steps)
    outputs = tuple("classes/1" if name.startswith(PLUGGED) else STEPS.get(name, "") for name in names)
    if not names or "" in outputs or NOT_RELEASED.intersection(outputs) or len(set(outputs)) != len(outputs):
        offered = [name for name in STEPS if name not in HIDDEN_STEPS and STEPS[name] not in NOT_RELEASED]
        raise UserError(
            f"steps are {', '.join(offered)} and {PLUGGED}NAME of a plugged model, each once, separated by commas"
        )
    return outputs


def accepted_digests(steps: str, plan: "Plan") -> dict[str, tuple[str, ...]]:
    """By output contract, which pipelines are accepted: of plugged models those of the name that was asked for.

    Raises:
        UserError: none of the nodes that are asked offers it.
    """
    found: dict[str, tuple[str, ...]] = {}
    for name in _names(steps):
        if name.startswith(PLUGGED):
            model = name.removeprefix(PLUGGED)
            offers = [offer for item in plan.asked.values() for offer in item.found.descriptor.pipelines]
            plugged = [offer for offer in offers if offer.output == "classes/1"]
            digests = {offer.digest for offer in plugged if offer.name == model}
            if not digests:
                known = ", ".join(sorted({offer.name for offer in plugged})) or "none"
                raise UserError(f"no node that is asked has a model {model!r}: they have {known}")
            found["classes/1"] = tuple(sorted(digests))
    return found


def _names(steps: str) -> list[str]:
    return [name.strip() for name in steps.split(",") if name.strip()]


async def plan_nodes(
    ports: ClientPorts,
    *,
    registries: Sequence[str],
    origins: Sequence[str],
    outputs: tuple[str, ...],
    selection: Selection,
) -> Plan:
    """Looks for nodes, fetches each descriptor from its origin, and says who is asked."""
    cache = NodeCache()
    finding = await find_nodes(ports, registries=registries, nodes=origins, cache=cache)
    kingdoms = selection.values_needed("kingdom")
    asked: dict[str, Asked] = {}
    skipped: list[NotAsked] = []
    unreachable: dict[str, tuple[str, str]] = {}

    async def one(found: Found) -> None:
        rule = reason_not_to_ask(found, outputs, kingdoms, is_named=found.origin in origins)
        try:
            fresh = await refresh(ports, found.origin, cache)
        except FederationError as error:
            if rule is None:
                unreachable[found.origin] = (found.descriptor.name, str(error))
                return
            fresh = found
        rule = reason_not_to_ask(fresh, outputs, kingdoms, is_named=found.origin in origins)
        if rule is not None:
            age = max(0, int((ports.clock() - fresh.seen).total_seconds()))
            skipped.append(NotAsked(origin=fresh.origin, name=fresh.descriptor.name, rule=rule, summary_age_s=age))
            return
        covers = await ask_coverage(ports.transport, found.origin, selection, timeout_s=ports.timeout_s)
        asked[found.origin] = Asked(found=fresh, covers=covers)

    await asyncio.gather(*(one(found) for found in finding.nodes.values()))
    for origin in origins:
        if origin not in finding.nodes and origin not in unreachable:
            why = next((text for text in finding.problems if text.startswith(origin)), "not reached")
            unreachable[origin] = (origin, why.removeprefix(f"{origin}: "))
    cache.save()
    order = [origin for origin in finding.nodes if origin in asked]
    return Plan(
        asked={origin: asked[origin] for origin in order},
        not_asked=tuple(skipped),
        unreachable=unreachable,
        problems=tuple(finding.problems),
        outputs=outputs,
    )


def reason_not_to_ask(found: Found, outputs: Sequence[str], kingdoms: tuple[str, ...], *, is_named: bool) -> str | None:
    """Why a node is not asked; None when it is. A node that was named on the command line is asked in any case
    but the impossible one.
    """
    offered = {offer.output for offer in found.descriptor.pipelines}
    missing = [output for output in outputs if output not in offered]
    if missing:
        return f"it does not compute {', '.join(missing)}"
    if is_named:
        return None
    if found.descriptor.policy.rules == TAKES_NONE:
        return "its policy takes no jobs"
    if not matches_summary(found.descriptor, kingdoms):
        return f"by its summary it holds nothing of kingdom {', '.join(kingdoms)}"
    return None
