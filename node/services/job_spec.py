"""The specification behind a stored job: what its requester signed, or what a run of the institution amounts to."""

from typing import Final

from linkeddata.envelope import parse_envelope
from linkeddata.job import JobSpec, JobStep, parse_job_spec
from linkeddata.json_strict import parse_json
from linkeddata.selection import parse_where
from node.storage.jobs import JobRow

OWN_RUN: Final = "own-run"
"""Process id of the jobs of ``node.services.own_runs``; a specification cannot name a process, so none asks for it."""


def spec_of(job: JobRow) -> JobSpec:
    """The specification of a job.

    Raises:
        DocumentError: what is stored is damaged.
    """
    if job.process_id == OWN_RUN:
        return JobSpec(
            id=job.spec_id, issued=job.created, expires=job.expires, requester_kid=job.requester_kid,
            requester_name=job.requester_name, audience=(), selection=parse_where(""), purpose=job.purpose,
            steps=tuple(JobStep(output=step.output, digests=(step.pipeline,)) for step in job.steps),
        )  # fmt: skip
    return parse_job_spec(parse_json(parse_envelope(job.envelope).payload))
