"""Pipelines that take the results of others: which ones they take here, and what follows when one did not come to be.

A manifest names the output contracts it ``needs``; the node completes it with the digests of the pipelines that give
them here (``upstream``), so that its digest covers them.

Invariants:
- Pure. The first pipeline of the catalogue that gives a contract is the one that is taken.
- A pipeline that needs its own result, directly or around a corner, is refused with the names.
- A deterministic refusal upstream is a deterministic refusal downstream; what may pass upstream may pass downstream.

It leaves out: queueing (``runners.journal``), running (``runners.engine``).
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from linkeddata.pipeline import PipelineManifest
from runners.errors import PipelineUnavailable
from runners.journal import FailureKind, UnitStatus

MAX_NEEDS: Final = 8
"""Results that one pipeline takes; their bodies of 128 KiB each are handed to a worker at once."""


def completed(manifest: PipelineManifest, digests: Mapping[str, str]) -> PipelineManifest:
    """A manifest with the digests of what it takes, by output contract.

    Raises:
        PipelineUnavailable: one is missing.
    """
    missing = [contract for contract in manifest.needs if contract not in digests]
    if missing:
        raise PipelineUnavailable(f"{manifest.name} needs {missing[0]}, which no pipeline gives")
    return replace(manifest, upstream=tuple(digests[contract] for contract in manifest.needs))


def upstream_names(name: str, manifests: Mapping[str, PipelineManifest]) -> dict[str, str]:
    """By needed contract, the name of the pipeline that gives it: the first one of ``manifests``.

    Raises:
        PipelineUnavailable: none gives it, or there are too many.
    """
    manifest = manifests[name]
    if len(manifest.needs) > MAX_NEEDS:
        raise PipelineUnavailable(f"{name} needs {len(manifest.needs)} results; at most {MAX_NEEDS} can be handed over")
    found: dict[str, str] = {}
    for contract in manifest.needs:
        giver = next((other for other, item in manifests.items() if item.output == contract), None)
        if giver is None:
            raise PipelineUnavailable(
                f"{name} needs {contract}, which no pipeline of this node gives: "
                f"add one that does to [jobs] pipelines (usually {contract.partition('/')[0]})"
            )
        found[contract] = giver
    return found


def complete(
    name: str, manifests: Mapping[str, PipelineManifest], *, above: Sequence[str] = ()
) -> PipelineManifest:  # fmt: skip
    """The manifest of a pipeline with the digests of what it takes, and of what those take.

    Args:
        name: which.
        manifests: as the pipelines give them, by name, in the order of the catalogue.
        above: pipelines that this one is completed for.

    Raises:
        PipelineUnavailable: something it needs is missing, or it needs itself.
    """
    if name in above:
        raise PipelineUnavailable(f"{' needs '.join((*above, name))}: a pipeline cannot take its own result")
    givers = upstream_names(name, manifests)
    return completed(
        manifests[name],
        {
            contract: complete(giver, manifests, above=(*above, name)).digest
            for contract, giver in givers.items()
        },
    )  # fmt: skip


def refusal_of(upstream: Mapping[str, UnitStatus]) -> tuple[FailureKind, str] | None:
    """Why a unit cannot run with what came of the units it takes; None when all results are there."""
    for contract, status in upstream.items():
        if status.state == "done" and status.body is not None:
            continue
        reason = f"{contract}: {status.reason or status.state}"
        if status.state == "withheld":
            return "withheld", status.reason
        if status.state == "failed" and status.failure_kind == "permanent":
            return "permanent", reason
        if status.state == "failed" and status.failure_kind == "limit":
            return "limit", reason
        return "upstream", reason
    return None
