"""What a submitted job comes to before anything is stored: checks, planned steps, snapshot, decision. Pure.

Order of checks: audience, times, steps, requester, snapshot, policy, isolation. The first that fails answers.

It leaves out: verifying signatures (before), storing (after).
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from federation.policy import Decision, Policy, RequestFacts, Rule, decide, policy_of
from linkeddata.access import AccessClass
from linkeddata.descriptor import PipelineOffer
from linkeddata.job import JobSpec, JobStep
from linkeddata.json_strict import Json
from linkeddata.outputs.contracts import HIDDEN_STEPS, NOT_RELEASED, STEPS
from linkeddata.pipeline import ConformanceReport, PipelineManifest
from node.config import PolicySection
from node.storage.jobs import NO_IMAGE, NOT_FETCHED, SENSITIVE, PlannedStep, SnapshotRow
from node.storage.search_media import SelectedMedium
from runners.engine import Offer

CLOCK_SKEW: Final = timedelta(minutes=5)
"""A researcher's laptop may be this wrong."""
MAX_LIFETIME: Final = timedelta(days=90)
"""A question older than a quarter is asked again rather than answered."""
MAX_OPEN_JOBS: Final = 20
MAX_OPEN_JOBS_UNENROLLED: Final = 3
"""What one key may have waiting or running: a loop in somebody's script must not fill the queue."""
FEDERATED_JOB: Final = "federated-job"
"""Process id of a job with several steps."""
PROCESSES: Final[dict[str, str]] = {
    name: contract for name, contract in STEPS.items() if name not in HIDDEN_STEPS and contract not in NOT_RELEASED
} | {"classes": "classes/1"}
"""OGC process id -> output contract; ``classes`` are the plugged models, told apart by their digests."""


class JobNotTaken(Exception):
    """The job is not registered.

    Attributes:
        status: HTTP status.
        kind: last part of the problem type.
        reasons: why, for the requester.
        rule: the rule of the policy that decided, when one did.
    """

    def __init__(
        self, status: int, kind: str, title: str, *, reasons: Sequence[str], rule: str = "", retry_after_s: int = 0
    ) -> None:
        super().__init__(f"{title}: {'; '.join(reasons)}")
        self.status = status
        self.kind = kind
        self.title = title
        self.reasons = tuple(reasons)
        self.rule = rule
        self.retry_after_s = retry_after_s


@dataclass(frozen=True, slots=True, kw_only=True)
class OfferedPipeline:
    """A pipeline this node runs, where it runs now."""

    manifest: PipelineManifest
    environment: str
    """``sha256:..``."""
    conformance: str = "none"
    """``pass`` or ``fail`` on the reference images, here."""
    is_isolated: bool = True
    """Whether its workers proved that they have no network."""
    report: ConformanceReport | None = None

    @property
    def digest(self) -> str:
        """The pipeline's digest."""
        return self.manifest.digest

    @classmethod
    def of(cls, offer: Offer) -> "OfferedPipeline":
        """From the engine's form."""
        return cls(
            manifest=offer.manifest,
            environment=offer.environment.digest,
            conformance=offer.conformance.verdict,
            is_isolated=offer.is_isolated,
            report=offer.conformance,
        )

    def to_offer(self) -> PipelineOffer:
        """For the descriptor."""
        return PipelineOffer(
            output=self.manifest.output,
            name=self.manifest.name,
            version=self.manifest.version,
            digest=self.digest,
            environment=self.environment,
            conformance=self.conformance,
            title=self.manifest.title,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What a job covers, fixed."""

    rows: tuple[SnapshotRow, ...]
    images: int
    size_bytes: int
    access: frozenset[str] = field(default_factory=frozenset)


def job_id_of(requester_kid: str, spec_id: str) -> str:
    """This node's id of a job: 32 hex digits that only this requester's specification of this id gives."""
    return hashlib.sha256(f"{requester_kid}\n{spec_id}".encode()).hexdigest()[:32]


def process_of(spec: JobSpec) -> str:
    """The OGC process id of a specification."""
    if len(spec.steps) == 1:
        output = spec.steps[0].output
        return next((name for name, contract in PROCESSES.items() if contract == output), FEDERATED_JOB)
    return FEDERATED_JOB


def policy_from(section: PolicySection) -> Policy:
    """``[policy]`` of ``node.toml`` as a policy."""
    rules = tuple(
        Rule(
            decide=rule.decide,
            requesters=rule.requesters,
            steps=rule.steps,
            access=rule.access,
            max_images=rule.max_images,
            granularity=rule.granularity,
            publish=rule.publish,
            reason=rule.reason,
        )
        for rule in section.rules
    )
    return policy_of(section.preset, rules)


def check_spec(spec: JobSpec, *, signer_kid: str, origin: str, now: datetime) -> None:
    """Refuses a specification that is for others, out of its time, or not by its signer.

    Raises:
        JobNotTaken: with why.
    """
    if spec.requester_kid != signer_kid:
        raise JobNotTaken(
            403, "not-the-requester", "Signed by another key", reasons=["the signer is not the requester it names"]
        )
    if origin not in spec.audience:
        raise JobNotTaken(
            403, "audience", "Not addressed to this node", reasons=[f"audience: the job is not addressed to {origin}"]
        )
    if spec.issued > now + CLOCK_SKEW:
        raise JobNotTaken(400, "job-times", "Issued in the future", reasons=["issued lies in the future"])
    if spec.expires <= now:
        raise JobNotTaken(403, "expired", "Expired", reasons=["the job specification has expired"])
    if not timedelta(0) < spec.expires - spec.issued <= MAX_LIFETIME:
        raise JobNotTaken(
            400, "job-times", "Times", reasons=[f"expires must be after issued, by at most {MAX_LIFETIME.days} days"]
        )


def plan_steps(spec: JobSpec, offers: Sequence[OfferedPipeline]) -> tuple[PlannedStep, ...]:
    """Which pipeline of this node runs each step.

    Raises:
        JobNotTaken: one is not offered, or does not take the parameters.
    """
    return tuple(_plan_step(step, offers) for step in spec.steps)


def _plan_step(step: JobStep, offers: Sequence[OfferedPipeline]) -> PlannedStep:
    same = [offer for offer in offers if offer.manifest.output == step.output]
    fitting = [offer for offer in same if not step.digests or offer.digest in step.digests]
    if not fitting:
        offered = ", ".join(offer.digest for offer in same) or "none"
        raise JobNotTaken(
            422,
            "pipeline-not-offered",
            "Pipeline not offered",
            reasons=[f"{step.output}: this node does not run an accepted pipeline (it offers {offered})"],
        )
    chosen = fitting[0]
    unknown = sorted(set(step.parameters) - set(chosen.manifest.parameters))
    if unknown:
        known = ", ".join(sorted(chosen.manifest.parameters)) or "none"
        raise JobNotTaken(
            422, "unknown-parameter", "Unknown parameter",
            reasons=[f"{step.output} has no parameter {unknown[0][:60]} (it has {known})"],
        )  # fmt: skip
    for name, value in step.parameters.items():
        _check_parameter(step.output, name, value, chosen.manifest.parameters[name])
    return PlannedStep(
        output=step.output,
        name=chosen.manifest.name,
        pipeline=chosen.digest,
        environment=chosen.environment,
        parameters={**chosen.manifest.parameters, **step.parameters},
    )


def _check_parameter(output: str, name: str, value: Json, default: Json) -> None:
    too_long = isinstance(value, str) and len(value) > 200
    if type(value) is not type(default) or too_long:
        raise JobNotTaken(
            422, "unknown-parameter", "Parameter of another type",
            reasons=[f"{output}: {name} must be like {default!r}"],
        )  # fmt: skip


def take_snapshot(steps: Sequence[PlannedStep], media: Sequence[SelectedMedium]) -> Snapshot:
    """The rows of a job: every step over every image, in order.

    Sensitive ones, and those that lie elsewhere and were never fetched, are there and are not computed: they count.
    """
    rows: list[SnapshotRow] = []
    for step in steps:
        for item in media:
            rows.append(
                SnapshotRow(
                    ordinal=len(rows) + 1,
                    step=step.output,
                    specimen=item.specimen,
                    medium=item.medium,
                    image=item.image or NO_IMAGE,
                    withheld=SENSITIVE if item.sensitive else None if item.image else NOT_FETCHED,
                )
            )
    sizes = {item.image: item.size_bytes for item in media}
    return Snapshot(
        rows=tuple(rows),
        images=len(media),
        size_bytes=sum(sizes.values()),
        access=frozenset(AccessClass(item.access).label for item in media),
    )


def decide_job(
    policy: Policy, spec: JobSpec, snapshot: Snapshot, *, is_enrolled: bool, is_isolated: bool, require_isolation: bool
) -> Decision:
    """What the policy says; restricted images need workers that provably have no network.

    Raises:
        JobNotTaken: refused, with rule and reasons.
    """
    decision = decide(
        policy,
        RequestFacts(
            requester_kid=spec.requester_kid,
            is_enrolled=is_enrolled,
            steps=tuple(step.output for step in spec.steps),
            access=snapshot.access,
            images=snapshot.images,
            granularity=spec.granularity,
            publish=spec.publish,
        ),
    )
    if decision.verdict == "refused":
        raise JobNotTaken(
            403, "refused-by-policy", "Refused by this node's policy", reasons=decision.reasons, rule=decision.rule
        )
    if require_isolation and not is_isolated and AccessClass.RESTRICTED.label in snapshot.access:
        raise JobNotTaken(
            403,
            "no-isolation",
            "Workers cannot be isolated",
            reasons=["the node cannot keep its workers off the network, so it runs no jobs on restricted images"],
            rule="[jobs] require_isolation",
        )
    return decision
