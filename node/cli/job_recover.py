"""Rebuilding lost handles from the researcher's key: the nodes still know the jobs it signed."""

from federation.client import ClientPorts, FederatedJob, recover_jobs
from federation.dispatch import NodeCourse
from federation.errors import FederationError
from federation.handle import Handle
from linkeddata.errors import DocumentError
from node.cli.research import Finding, NodeCache, refresh


async def rebuild_handles(ports: ClientPorts, finding: Finding) -> tuple[list[Handle], list[str]]:
    """One handle per specification found at any node, and what went wrong at which node."""
    cache = NodeCache()
    jobs: dict[str, FederatedJob] = {}
    problems: list[str] = []
    for origin in finding.nodes:
        try:
            found = await refresh(ports, origin, cache)
            known = await recover_jobs(ports, origin)
        except (FederationError, DocumentError) as error:
            problems.append(f"{origin}: {error}")
            continue
        for status, envelope, spec in known:
            job = jobs.setdefault(spec.id, FederatedJob(spec=spec, envelope=envelope, courses={}, keys={}))
            if job.envelope != envelope:
                problems.append(f"{origin}: another specification under the id {spec.id}")
                continue
            job.courses[origin] = NodeCourse(
                origin=origin, name=found.descriptor.name, phase="watching", job_id=status.job_id, status=status
            )
            job.keys[origin] = tuple(sorted(found.pin.signing))
            job.pipelines[origin] = tuple(step.pipeline for step in status.steps)
    return [Handle(job=job, question=job.spec.selection.to_text()) for job in jobs.values()], problems
