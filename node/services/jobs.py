"""Jobs of researchers at this node: taking them, watching them, releasing their results.

The order for a submission: envelope verified, addressed to us, in its time, steps planned, selection snapshotted,
policy asked, everything written durably, only then answered; accepted units go into the journal right after.

Invariants:
- The same specification again is the same job; another one under the same id is a conflict. Nobody can take
  another's id, because a job's id here is derived from requester and specification id.
- A job is visible to its submitter and to staff; to everybody else it is not there.
- Nothing but the stored snapshot is ever computed; an approval is bound to the snapshot's digest.
- What became private or sensitive in between is not computed (``gate``) and not released (``results``).
- Reuse of a finished unit looks like any other unit: no count, row or message says that somebody asked before.
- Every step is idempotent: ``poll`` finishes whatever a crash left half done.

It leaves out: HTTP (``node.web.jobs_api``), computing (``runners.engine``), publishing (``node.services.annotate``).
"""

import asyncio
import logging
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from cas.ids import ContentId
from federation.identity import AnyKey, SigningKey
from federation.plain_text import has_control
from federation.status import JobStatus, State, StepStatus
from linkeddata.answers import answer_of, cannot_tell
from linkeddata.canon import canonical_bytes
from linkeddata.coverage import NoValue
from linkeddata.envelope import CONFORMANCE_REPORT, JOB_SPEC, RESULT_PAGE, Envelope, open_envelope, parse_envelope, seal
from linkeddata.errors import DocumentError
from linkeddata.job import Granularity, JobSpec, ResultPage, ResultRow, StepCounts, parse_job_spec
from linkeddata.json_strict import Json, parse_json
from linkeddata.outputs import UnitAnswer, parse_output
from linkeddata.pipeline import WorkUnit
from node.access import Door, Viewer, decide
from node.config import Settings
from node.services import job_rules, own_runs, retract
from node.services.annotate import keep_result, publish_result
from node.services.job_rules import JobNotTaken, OfferedPipeline
from node.services.job_spec import OWN_RUN, spec_of
from node.services.job_units import is_runnable, plan_unit, with_upstream
from node.services.own_work import stays_here
from node.storage import jobs as store
from node.storage import journal, people
from node.storage.db import Database, DatabaseError
from node.storage.facts import bytes_facts
from node.storage.jobs import JobRow, ResultSource
from node.storage.search import count_no_value
from node.storage.search_media import SelectedMedium, select_media

LOG = logging.getLogger(__name__)
PAGE_ROWS: Final = 200
"""Rows of one result page: about 150 kB with matches, far less than a client's limit."""
MAX_PAGE_ROWS: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Submitted:
    """A job that is registered, and whether this call did it."""

    status: JobStatus
    is_new: bool


class JobService:
    """The use cases around jobs. Safe to call from the event loop; storage runs in threads."""

    def __init__(
        self,
        *,
        database: Database,
        settings: Settings,
        identity: SigningKey,
        offers: Callable[[], Sequence[OfferedPipeline]],
        clock: Callable[[], datetime],
        wake: Callable[[], object] = lambda: None,
        want: Callable[[Sequence[str]], object] = lambda _media: None,
    ) -> None:
        self._database = database
        self._settings = settings
        self._identity = identity
        self._offers = offers
        self._clock = clock
        self._wake = wake
        self._want = want
        self._wanted: list[str] = []
        self._policy = job_rules.policy_from(settings.policy)

    @property
    def offers(self) -> Sequence[OfferedPipeline]:
        """What this node computes, as of now."""
        return self._offers()

    # ------------------------------------------------------------------ taking a job
    async def submit(
        self, envelope_document: Json, *, sender_kid: str, response: str = "document", process_id: str | None = None
    ) -> Submitted:
        """Registers a job; returns after it is durable.

        Args:
            envelope_document: the DSSE envelope of a JobSpec, parsed JSON.
            sender_kid: the verified key of the HTTP request.
            response: ``raw`` or ``document`` (OGC), for the results.
            process_id: the process it was sent to; it must be the one of its steps, or ``federated-job``.

        Raises:
            JobNotTaken: with status, reasons and rule.
        """
        now = self._clock()
        envelope, spec = _open_spec(envelope_document)
        # 1. Who, for whom, when.
        job_rules.check_spec(spec, signer_kid=sender_kid, origin=self._settings.origin, now=now)
        expected = job_rules.process_of(spec)
        if process_id is not None and process_id not in (expected, job_rules.FEDERATED_JOB):
            raise JobNotTaken(
                400, "wrong-process", "Wrong process", reasons=[f"this job is for the process {expected}"]
            )
        # 2. The same again?
        job_id = job_rules.job_id_of(spec.requester_kid, spec.id)
        digest = str(ContentId.of(envelope.payload))
        known = await self._database.read(lambda conn: store.get(conn, job_id))
        if known is not None:
            return Submitted(status=await self._again(known, digest), is_new=False)
        # 3. Standing of the requester, cheap refusals first.
        standing = await self._database.read(lambda conn: people.standing(conn, spec.requester_kid))
        if standing == "revoked":
            raise JobNotTaken(403, "key-revoked", "Key revoked", reasons=["this node has revoked the requester's key"])
        if not self._policy.rules:
            job_rules.decide_job(
                self._policy, spec, job_rules.Snapshot(rows=(), images=0, size_bytes=0),
                is_enrolled=False, is_isolated=True, require_isolation=False,
            )  # fmt: skip
        await self._check_load(spec, is_enrolled=standing == "enrolled")
        offers = self._offers()
        steps = job_rules.plan_steps(spec, offers)
        known_offers = {offer.digest: offer for offer in offers}
        taken = {item for step in steps for item in with_upstream(step.pipeline, known_offers)}
        used = [offer for offer in offers if offer.digest in taken]
        # 4. What it covers, fixed now.
        media, no_value = await self._select(spec)
        snapshot = job_rules.take_snapshot(steps, media)
        # 5. Policy.
        decision = job_rules.decide_job(
            self._policy, spec, snapshot,
            is_enrolled=standing == "enrolled", is_isolated=all(step_offer.is_isolated for step_offer in used),
            require_isolation=self._settings.jobs.require_isolation,
        )  # fmt: skip
        held = decision.verdict == "held"
        job = JobRow(
            id=job_id, spec_id=spec.id, envelope=canonical_bytes(envelope.to_json()), spec_digest=digest,
            requester_kid=spec.requester_kid, requester_name=spec.requester_name, purpose=spec.purpose,
            process_id=expected, response=response, steps=steps, status="accepted",
            decision="held" if held else "accepted", approval="waiting" if held else "not needed",
            reasons=decision.reasons, rule=decision.rule, publish=spec.publish,
            snapshot_digest=store.snapshot_digest(steps, snapshot.rows), images=snapshot.images,
            size_bytes=snapshot.size_bytes, no_value=no_value, enqueued=False,
            message="waiting for approval by the collection" if held else "accepted",
            created=now, started=None, finished=None, updated=now,
            expires=min(spec.expires, _after(now, self._settings.policy.hold_expires_s)),
        )  # fmt: skip

        # 6. Durable before the answer.
        def write(conn: sqlite3.Connection) -> JobRow | None:
            earlier = store.get(conn, job_id)
            if earlier is None:
                store.insert(conn, job, snapshot.rows)
                if not held:
                    self._enqueue(conn, job, now=now)
            return earlier

        earlier = await self._database.write(write)
        if earlier is not None:
            return Submitted(status=await self._again(earlier, digest), is_new=False)
        await self._pass_on_wants()
        self._wake()
        status = await self.status(job_id, Viewer(kid=spec.requester_kid))
        if status is None:
            raise AssertionError("a job that was just written is there")
        return Submitted(status=status, is_new=True)

    async def _again(self, known: JobRow, digest: str) -> JobStatus:
        if known.spec_digest != digest:
            raise JobNotTaken(
                409,
                "job-conflict",
                "Another job has this id",
                reasons=["the same id was used for another specification"],
            )
        return await self._database.read(lambda conn: self._status(conn, known, for_staff=False))

    async def _check_load(self, spec: JobSpec, *, is_enrolled: bool) -> None:
        limit = job_rules.MAX_OPEN_JOBS if is_enrolled else job_rules.MAX_OPEN_JOBS_UNENROLLED
        if await self._database.read(lambda conn: store.open_jobs_of(conn, spec.requester_kid)) >= limit:
            raise JobNotTaken(
                429, "too-many-jobs", "Too many open jobs", reasons=[f"{limit} jobs of this key are open"],
                retry_after_s=60,
            )  # fmt: skip

    async def _select(self, spec: JobSpec) -> tuple[Sequence[SelectedMedium], tuple[NoValue, ...]]:
        viewer = Viewer(kid=spec.requester_kid)

        def read(conn: sqlite3.Connection) -> tuple[Sequence[SelectedMedium], tuple[NoValue, ...]]:
            media = select_media(conn, spec.selection, viewer, first=spec.first)
            return media, count_no_value(conn, spec.selection, viewer)

        try:
            return await self._database.read(read)
        except sqlite3.OperationalError as error:
            raise JobNotTaken(
                422, "selection-too-large", "Selection too large", reasons=["the selection takes too long: narrow it"]
            ) from error

    # ------------------------------------------------------------------ asking about a job
    async def status(self, job_id: str, viewer: Viewer) -> JobStatus | None:
        """How far a job is; None when there is none that this viewer may know of."""

        def read(conn: sqlite3.Connection) -> JobStatus | None:
            job = self._visible(conn, job_id, viewer)
            return None if job is None else self._status(conn, job, for_staff=viewer.is_staff)

        return await self._database.read(read)

    async def list_jobs(
        self, viewer: Viewer, *, process_id: str | None = None, statuses: Sequence[State] = (), limit: int = 100
    ) -> list[JobStatus]:
        """Jobs this viewer may know of, newest first."""
        if not viewer.is_staff and viewer.kid is None:
            return []

        def read(conn: sqlite3.Connection) -> list[JobStatus]:
            found = store.find(
                conn,
                requester_kid=None if viewer.is_staff else viewer.kid,
                process_id=process_id,
                statuses=statuses,
                limit=limit,
            )
            return [self._status(conn, job, for_staff=viewer.is_staff) for job in found]

        return await self._database.read(read)

    async def job(self, job_id: str, viewer: Viewer) -> JobRow | None:
        """The job as stored, for the pages of staff and submitter."""
        return await self._database.read(lambda conn: self._visible(conn, job_id, viewer))

    async def results(self, job_id: str, viewer: Viewer, *, after: int = 0, limit: int = PAGE_ROWS) -> Envelope | None:
        """A signed page of a finished job's rows; None when there is no such job for this viewer.

        Raises:
            JobNotTaken: 404 while the job is not finished, or the reason why it has no results.
        """

        def read(conn: sqlite3.Connection) -> ResultPage | None:
            job = self._visible(conn, job_id, viewer)
            if job is None:
                return None
            _check_ready(job)
            return self._page(conn, job, after=after, limit=min(limit, MAX_PAGE_ROWS), for_staff=viewer.is_staff)

        page = await self._database.read(read)
        if page is None:
            return None
        return seal(page.to_json(), payload_type=RESULT_PAGE, signers=[self._identity])

    async def cancel(self, job_id: str, viewer: Viewer) -> JobStatus | None:
        """Dismisses a job; a finished one stays as it is. None when there is none for this viewer."""
        now = self._clock()

        def write(conn: sqlite3.Connection) -> JobStatus | None:
            job = self._visible(conn, job_id, viewer)
            if job is None:
                return None
            if job.status in ("accepted", "running"):
                store.set_state(
                    conn, job_id, now=now, status="dismissed", message="cancelled by the requester", finished=True
                )
                store.cancel_units(conn, job_id, now=now)
                job = store.get(conn, job_id) or job
            return self._status(conn, job, for_staff=viewer.is_staff)

        return await self._database.write(write)

    # ------------------------------------------------------------------ what the engine calls
    async def gate(self, unit: WorkUnit) -> str | None:
        """Why this unit must not start now; None when it may."""

        def read(conn: sqlite3.Connection) -> str | None:
            facts = bytes_facts(conn, ContentId.from_hex(unit.image))
            if facts.exists and stays_here(conn, unit):
                return None  # its result stays here, and is looked at only by whom the image is open to
            seen = decide(Viewer(kid="any"), Door.JOB, facts)
            if seen.allowed or (facts.exists and own_runs.is_wanted(conn, unit.key)):
                return None
            return store.WITHHELD_LATER if seen.absent else seen.reason

        return await self._database.read(read)

    async def on_finished(self, work_key: str) -> None:
        """A unit ended: answers, progress and annotations follow. A failure here is logged; ``poll`` repeats it."""
        now = self._clock()
        try:
            await self._database.write(lambda conn: self._settle(conn, work_key, now=now))
        except (sqlite3.Error, DatabaseError, DocumentError):
            LOG.exception("settling a finished unit failed; it is repeated at the next poll")

    async def poll(self) -> None:
        """Takes up what others decided (command line) and what a crash left: call at start and every few seconds."""
        now = self._clock()
        offers = self._offers()
        if await self._database.read(lambda conn: self._has_work(conn, offers, now)):
            await self._database.write(lambda conn: self._poll(conn, offers, now))
            await self._pass_on_wants()
            self._wake()

    async def _pass_on_wants(self) -> None:
        """Images that an accepted job covers and that were never fetched: it counts them, a later job may read them."""
        wanted, self._wanted = self._wanted, []
        if wanted:
            await asyncio.to_thread(self._want, wanted)

    # ------------------------------------------------------------------ inside a transaction
    def _has_work(self, conn: sqlite3.Connection, offers: Sequence[OfferedPipeline], now: datetime) -> bool:
        """Whether ``_poll`` would change anything: an idle node does not write."""
        if any(
            offer.report is not None and store.conformance(conn, offer.digest, offer.environment) != offer.conformance
            for offer in offers
        ) or not store.knows_pipelines(conn, [offer.digest for offer in offers]):
            return True
        if store.has_unanswered(conn):
            return True
        for job in store.find(conn, statuses=("accepted", "running"), limit=1000):
            if job.decision == "held" and job.expires <= now:
                return True
            if job.decision != "accepted":
                continue
            if not store.has_open_rows(conn, job.id) or (not job.enqueued and own_runs.has_turn(conn, job)):
                return True
        return False

    def _poll(self, conn: sqlite3.Connection, offers: Sequence[OfferedPipeline], now: datetime) -> None:
        for offer in offers:
            self._keep_report(conn, offer)
            store.keep_pipeline(conn, offer.manifest, now=now)
        for job in store.find(conn, statuses=("accepted", "running"), limit=1000):
            if job.decision == "held" and job.expires <= now:
                store.set_state(
                    conn, job.id, now=now, status="failed", decision="refused", approval="expired", finished=True,
                    message="expired: nobody decided in time", reasons=["expired: nobody decided in time"],
                )  # fmt: skip
            elif job.decision == "accepted" and not job.enqueued and own_runs.has_turn(conn, job):
                self._enqueue(conn, job, now=now)
        self._settle(conn, None, now=now)

    def _keep_report(self, conn: sqlite3.Connection, offer: OfferedPipeline) -> None:
        if offer.report is not None and store.conformance(conn, offer.digest, offer.environment) != offer.conformance:
            signed = seal(offer.report.to_json(), payload_type=CONFORMANCE_REPORT, signers=[self._identity])
            store.keep_conformance(conn, offer.report, canonical_bytes(signed.to_json()))

    def _enqueue(self, conn: sqlite3.Connection, job: JobRow, *, now: datetime) -> None:
        offers = {offer.digest: offer for offer in self._offers()}
        outputs = {offer.manifest.output for offer in offers.values()}
        gone = [step for step in job.steps if step.pipeline not in offers and step.output in outputs]
        if gone:
            store.set_state(
                conn, job.id, now=now, status="failed", finished=True,
                message=f"{gone[0].output}: the pipeline this job was accepted for is not offered any more; ask again",
            )  # fmt: skip
            return
        if not all(is_runnable(step.pipeline, offers) for step in job.steps):
            return  # its workers are starting: poll() comes again
        spec = spec_of(job)
        steps = {step.output: step for step in job.steps}
        turn = own_runs.OWN_TURN if job.process_id == OWN_RUN else 0
        units: list[tuple[int, WorkUnit]] = []
        links: list[tuple[int, str]] = []
        for row in store.units_to_enqueue(conn, job.id):
            step = steps[row.step]
            plan = plan_unit(
                conn, step.pipeline, row.image, step.parameters, offers,
                is_conformant_enough=spec.reuse == "conformant",
            )  # fmt: skip
            units += [(turn + row.ordinal, unit) for unit in plan.in_order]
            links.append((row.ordinal, plan.unit.key))
        journal.enqueue(conn, units, now=now)
        self._wanted += store.not_fetched(conn, job.id)
        store.link_units(conn, job.id, links)
        store.set_state(conn, job.id, now=now, message="running" if units else "nothing to compute", started=True,
                        status="running")  # fmt: skip
        self._settle(conn, None, now=now, job_id=job.id)
        self._finish_if_done(conn, job.id, now=now)

    def _settle(
        self, conn: sqlite3.Connection, work_key: str | None, *, now: datetime, job_id: str | None = None
    ) -> None:
        specs: dict[str, JobSpec] = {}
        touched: dict[str, None] = {}
        for row in store.unanswered(conn, work_key, job_id):
            job = store.get(conn, row["job_id"])
            if job is None:
                continue
            spec = specs.setdefault(job.id, spec_of(job))
            answer = _evaluate(row["step"], row["state"], row["reason"], row["body"], spec)
            touched[job.id] = None
            if row["state"] == "done" and retract.is_retracted(conn, row["work_key"]):
                retract.withhold_row(
                    conn, job.id, row["ordinal"], row["work_key"], answer=answer.answer, reason=answer.reason
                )
                continue
            if spec.publish and row["state"] == "done":
                publish_result(
                    conn, origin=self._settings.origin, labels=frozenset(self._settings.review.labels), job=job,
                    ordinal=row["ordinal"], now=now,
                )  # fmt: skip
            elif job.process_id == OWN_RUN and row["state"] == "done":
                keep_result(
                    conn, origin=self._settings.origin, labels=frozenset(self._settings.review.labels), job=job,
                    ordinal=row["ordinal"], now=now,
                )  # fmt: skip
            store.set_answer(conn, job.id, row["ordinal"], answer.answer, answer.reason)
        for touched_id in touched:
            self._finish_if_done(conn, touched_id, now=now)
        if work_key is None and job_id is None:
            for job in store.find(conn, statuses=("running",), limit=1000):
                self._finish_if_done(conn, job.id, now=now)

    def _finish_if_done(self, conn: sqlite3.Connection, job_id: str, *, now: datetime) -> None:
        job = store.get(conn, job_id)
        if job is None or job.status != "running" or not job.enqueued or store.has_open_rows(conn, job_id):
            return
        store.set_state(conn, job_id, now=now, status="successful", message="finished", finished=True)

    def _visible(self, conn: sqlite3.Connection, job_id: str, viewer: Viewer) -> JobRow | None:
        job = store.get(conn, job_id)
        if job is None or viewer.is_staff:
            return job
        if viewer.kid is None or viewer.kid != job.requester_kid:
            return None
        return None if people.standing(conn, viewer.kid) == "revoked" else job

    def _status(self, conn: sqlite3.Connection, job: JobRow, *, for_staff: bool) -> JobStatus:
        spec = spec_of(job)
        states: dict[str, dict[str, int]] = {step.output: {} for step in job.steps}
        for row in store.counts(conn, job.id, for_staff=for_staff):
            per_step = states.setdefault(row["step"], {})
            state = "withheld" if row["hidden"] else row["state"]
            per_step[state] = per_step.get(state, 0) + row["number"]
        counts = {item.step: item for item in self._counts(conn, job, spec.granularity, for_staff=for_staff)}
        total = job.images * len(job.steps)
        open_units = sum(numbers.get("queued", 0) + numbers.get("leased", 0) for numbers in states.values())
        done = 100 if total == 0 else 100 * (total - open_units) // total
        return JobStatus(
            job_id=job.id, job_spec=job.spec_id, process_id=job.process_id, status=job.status,
            progress=100 if job.status == "successful" else 0 if job.decision == "held" else min(done, 99),
            message=job.message, created=job.created, updated=job.updated, started=job.started, finished=job.finished,
            approval=job.approval, approval_expires=job.expires if job.approval == "waiting" else None,
            reasons=job.reasons, rule=job.rule, images=job.images, size_bytes=job.size_bytes, no_value=job.no_value,
            snapshot=job.snapshot_digest,
            steps=tuple(
                StepStatus(
                    pipeline=step.pipeline,
                    counts=counts.get(step.output, StepCounts(step=step.output)),
                    states=states.get(step.output, {}),
                )
                for step in job.steps
            ),
        )  # fmt: skip

    def _counts(
        self, conn: sqlite3.Connection, job: JobRow, granularity: Granularity, *, for_staff: bool
    ) -> tuple[StepCounts, ...]:
        numbers: dict[str, dict[str | None, int]] = {step.output: {} for step in job.steps}
        reasons: dict[str, dict[str, int]] = {step.output: {} for step in job.steps}
        for row in store.counts(conn, job.id, for_staff=for_staff):
            answer = "cannot tell" if row["hidden"] else row["answer"]
            per_step = numbers.setdefault(row["step"], {})
            per_step[answer] = per_step.get(answer, 0) + row["number"]
            if answer == "cannot tell":
                later = row["hidden"] and row["state"] != "withheld"
                why = store.WITHHELD_LATER if later else row["reason"] or "no reason was given"
                per_reason = reasons.setdefault(row["step"], {})
                per_reason[why] = per_reason.get(why, 0) + row["number"]
        found = tuple(
            StepCounts(
                step=step, yes=per_step.get("yes", 0), no=per_step.get("no", 0),
                cannot_tell=per_step.get("cannot tell", 0), pending=per_step.get(None, 0), reasons=reasons[step],
            )
            for step, per_step in numbers.items()
        )  # fmt: skip
        return tuple(_as_boolean(item) for item in found) if granularity == "boolean" and not for_staff else found

    def _page(self, conn: sqlite3.Connection, job: JobRow, *, after: int, limit: int, for_staff: bool) -> ResultPage:
        spec = spec_of(job)
        rows: list[ResultRow] = []
        following: int | None = None
        if spec.granularity == "record" or for_staff:
            steps = {step.output: step for step in job.steps}
            position: int | None = after
            while position is not None and not rows:
                sources = store.result_sources(conn, job.id, after=position, limit=limit + 1, for_staff=for_staff)
                position = sources[limit - 1].ordinal if len(sources) > limit else None
                rows = [_row(source, steps[source.step], spec) for source in sources[:limit] if source.hidden < 2]
            following = position
        return ResultPage(
            job=job.spec_id, node=self._settings.origin, granularity=spec.granularity, rows=tuple(rows),
            counts=self._counts(conn, job, spec.granularity, for_staff=for_staff), next=following,
        )  # fmt: skip


# ---------------------------------------------------------------------- pure helpers
def _open_spec(document: Json) -> tuple[Envelope, JobSpec]:
    try:
        envelope = parse_envelope(document)
        verified = open_envelope(envelope, payload_type=JOB_SPEC, verifier=AnyKey())
        spec = parse_job_spec(verified.value)
        if has_control(verified.value):
            raise DocumentError("the specification holds control characters")
    except DocumentError as error:
        raise JobNotTaken(400, "bad-job-spec", "Not a good job specification", reasons=[str(error)]) from error
    if spec.requester_kid not in verified.kids:
        raise JobNotTaken(
            403,
            "not-the-requester",
            "Signed by another key",
            reasons=["the specification is not signed by its requester"],
        )
    return envelope, spec


def _check_ready(job: JobRow) -> None:
    if job.status == "successful":
        return
    if job.status in ("accepted", "running"):
        raise JobNotTaken(404, "result-not-ready", "Not finished", reasons=["the job is not finished"])
    if job.status == "dismissed":
        raise JobNotTaken(410, "dismissed", "Cancelled", reasons=["the job was cancelled"])
    kind = "refused-by-person" if job.approval == "refused" else "job-failed"
    raise JobNotTaken(403 if job.approval in ("refused", "expired") else 409, kind, "No results",
                      reasons=job.reasons or [job.message], rule=job.rule)  # fmt: skip


def _evaluate(step: str, state: str, reason: str | None, body: bytes | None, spec: JobSpec) -> UnitAnswer:
    if state != "done" or body is None:
        return cannot_tell(reason or state)
    try:
        output = parse_output(step, parse_json(bytes(body)))
    except DocumentError as error:
        return cannot_tell(f"the stored result is damaged: {error}")
    return answer_of(output, spec.emit, step=step)


def _row(source: ResultSource, step: store.PlannedStep, spec: JobSpec) -> ResultRow:
    if source.withheld is not None or source.hidden:
        answer = cannot_tell(source.withheld or store.WITHHELD_LATER)
    else:
        answer = _evaluate(source.step, source.state or "queued", source.reason, source.body, spec)
        if source.answer is not None and source.answer != answer.answer:
            # The unit was computed again for another job since; this job keeps the answer that it was given.
            answer = UnitAnswer(answer=source.answer, reason=source.answer_reason or "")
    ran = source.state == "done" and source.withheld is None and not source.hidden
    return ResultRow(
        specimen=source.specimen, medium=source.medium, image=str(ContentId.from_hex(source.image)), step=source.step,
        pipeline=source.pipeline or step.pipeline, environment=source.environment or step.environment,
        conformance=(source.conformance or "none") if ran else "none", answer=answer.answer,
        reason=answer.reason[:600], matches=answer.matches, values=answer.values,
    )  # fmt: skip


def _as_boolean(counts: StepCounts) -> StepCounts:
    """One answer for all images: yes if any; else cannot tell if any; else no."""
    return StepCounts(
        step=counts.step,
        yes=int(counts.yes > 0),
        no=int(counts.yes == 0 and counts.cannot_tell == 0 and counts.pending == 0),
        cannot_tell=int(counts.yes == 0 and counts.cannot_tell > 0 and counts.pending == 0),
        pending=int(counts.yes == 0 and counts.pending > 0),
    )


def _after(now: datetime, seconds: int) -> datetime:
    return now + timedelta(seconds=seconds)


__all__ = ["JobNotTaken", "JobService", "Submitted"]
