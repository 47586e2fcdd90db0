"""The engine: takes units from the journal, gives them to workers, records what came of them.

Invariants:
- Executed at least once, counted once: a result is recorded under the attempt's fencing token only.
- Before a unit starts, its access is asked for again (``gate``); a withheld unit never reaches a worker.
- A composed pipeline is offered once those it takes the results of are; its unit starts when theirs have ended.
- A dying or hanging worker fails the one unit it was at; what it had not begun goes back to the queue unharmed.
- No error of a hook or of the journal ends the engine: it is logged, the units go back, and work goes on after a pause.
- After SIGKILL nothing needs repair: the next start takes back what the dead process held.

It leaves out: who may ask (``federation.policy``), what results mean (``linkeddata.answers``), other machines.
"""

import asyncio
import contextlib
import json
import logging
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Final, Literal

from cas.errors import BlobArchived, CasError, TierFailed
from linkeddata.pipeline import ConformanceReport, Environment, PipelineManifest, WorkUnit
from runners.catalogue import Catalogue, Entry, make_pipeline
from runners.composition import complete, refusal_of, upstream_names
from runners.errors import BeyondLimits, ImageRefused, PipelineUnavailable, UnitFailed, WorkerDied
from runners.journal import FailureKind, Journal, Leased
from runners.workers import OpenImage, Worker, WorkerSettings

IDLE_S: Final = 2.0
"""How often an idle slot looks for work that nobody announced (queued by another process)."""
RESTART_PAUSE_S: Final = 1.0
RESTART_PAUSE_MAX_S: Final = 60.0
RETRY_PAUSE_S: Final = 30.0
"""Before a pipeline that could not start at all is tried again: a busy machine, memory that was short."""
RETRY_PAUSE_MAX_S: Final = 1800.0
log = logging.getLogger("vasculum.engine")


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """A pipeline that runs on this node, and how well."""

    manifest: PipelineManifest
    environment: Environment
    conformance: ConformanceReport
    is_isolated: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSettings:
    """How the engine works."""

    workers: int = 1
    """Processes per pipeline."""
    batch: int = 4
    """Units a slot takes at a time."""
    lease_s: float = 600.0
    worker: WorkerSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineHooks:
    """What the engine asks of the node around it."""

    open_image: Callable[[str], AbstractContextManager[OpenImage]]
    """Opens the bytes with this SHA-256 (hex); blocking; raises CasError. ``BlobArchived`` says that they
    will come by themselves: the unit waits."""
    gate: Callable[[WorkUnit], Awaitable[str | None]]
    """The reason to withhold a unit now, or None."""
    on_finished: Callable[[str], Awaitable[None]]
    """Called with the work key after a unit's end was recorded."""
    clock: Callable[[], datetime]


class Engine:
    """Runs the pipelines of one node; one instance per process."""

    def __init__(
        self, journal: Journal, catalogue: Catalogue, settings: EngineSettings, hooks: EngineHooks, *, boot: str
    ) -> None:
        self._journal = journal
        self._catalogue = catalogue
        self._settings = settings
        self._hooks = hooks
        self._boot = boot
        self._offers: dict[str, Offer] = {}
        self._problems: dict[str, str] = {}
        self._first: dict[str, Worker] = {}
        self._manifests: dict[str, PipelineManifest] = {}
        self._reading = asyncio.Lock()
        self._wake = asyncio.Event()
        self._workers: set[Worker] = set()

    @property
    def offers(self) -> tuple[Offer, ...]:
        """Pipelines that are ready, in the order of the catalogue: the first that gives a contract is taken for it."""
        return tuple(self._offers[entry.name] for entry in self._catalogue.entries if entry.name in self._offers)

    @property
    def problems(self) -> dict[str, str]:
        """Pipelines that cannot run, and why."""
        return dict(self._problems)

    def wake(self) -> None:
        """Says that there may be new work."""
        old, self._wake = self._wake, asyncio.Event()  # whoever looked before this looks again; nobody clears it
        old.set()

    async def start(self) -> None:
        """Starts one worker per pipeline, runs its reference images, and takes back what a dead process held."""
        await self._journal.reclaim(self._boot, now=self._hooks.clock())
        await self._read_manifests()
        left = list(self._catalogue.entries)
        while left:  # what others take the results of comes first
            names = {entry.name for entry in left}
            ready = [entry for entry in left if not self._givers(entry) & (names - {entry.name})] or left
            await asyncio.gather(*(self._start_entry(entry) for entry in ready))
            left = [entry for entry in left if entry not in ready]

    async def run(self) -> None:
        """Works until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                for entry in self._catalogue.entries:
                    group.create_task(self._keep_running(entry, group), name=f"pipeline-{entry.name}")
                group.create_task(self._reclaim(), name="reclaim")
        finally:
            await self.aclose()

    async def aclose(self) -> None:
        """Ends every worker; leased units come back at the next start."""
        await asyncio.gather(*(worker.stop() for worker in list(self._workers)))
        self._workers.clear()

    async def _keep_running(self, entry: Entry, group: asyncio.TaskGroup) -> None:
        """Works on a pipeline's units; one that could not start is tried again, ever more rarely, until it can."""
        pause_s = RETRY_PAUSE_S
        while entry.name not in self._offers:
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, RETRY_PAUSE_MAX_S)
            try:
                await self._start_entry(entry)
            except Exception:
                log.exception("pipeline %s could not be started; it is tried again in %g s", entry.name, pause_s)
        for number in range(self._settings.workers):
            group.create_task(self._slot(entry, number), name=f"slot-{entry.name}-{number}")

    async def _start_entry(self, entry: Entry) -> None:
        worker: Worker | None = None
        try:
            manifest = await self._manifest_of(entry)
            worker = self._new_worker(entry, manifest)
            ready = await worker.start()
        except (PipelineUnavailable, WorkerDied, OSError) as error:
            self._problems[entry.name] = str(error)
            log.error("pipeline %s cannot run: %s", entry.name, error)  # noqa: TRY400 - the reason is the message
            if worker is not None:
                await worker.stop()
                self._workers.discard(worker)
            return
        self._problems.pop(entry.name, None)
        report = ConformanceReport(
            pipeline=manifest.digest,
            environment=ready.environment.digest,
            verdict="pass" if conforms(manifest, dict(ready.deviations)) else "fail",
            deviations=ready.deviations,
            at=self._hooks.clock(),
        )
        self._offers[entry.name] = Offer(
            manifest=manifest, environment=ready.environment, conformance=report, is_isolated=ready.is_isolated
        )
        self._first[entry.name] = worker

    async def _read_manifests(self) -> None:
        async with self._reading:
            for entry in self._catalogue.entries:
                if entry.name in self._manifests:
                    continue
                try:
                    self._manifests[entry.name] = await asyncio.to_thread(make_pipeline_manifest, entry)
                except (PipelineUnavailable, OSError) as error:
                    self._problems[entry.name] = str(error)

    def _in_order(self) -> dict[str, PipelineManifest]:
        """What is known of the pipelines, in the order of the catalogue: the first that gives a contract is taken."""
        return {
            entry.name: self._manifests[entry.name]
            for entry in self._catalogue.entries
            if entry.name in self._manifests
        }

    def _givers(self, entry: Entry) -> set[str]:
        try:
            return set(upstream_names(entry.name, self._in_order()).values())
        except (PipelineUnavailable, KeyError):
            return set()

    def _first_with(self, digest: str) -> str:
        """The first pipeline of the catalogue that has this digest: an earlier version may still be the current one."""
        for name in self._in_order():
            with contextlib.suppress(PipelineUnavailable):
                if complete(name, self._in_order()).digest == digest:
                    return name
        raise PipelineUnavailable("no pipeline has this digest")

    async def _manifest_of(self, entry: Entry) -> PipelineManifest:
        await self._read_manifests()
        if entry.name not in self._manifests:
            raise PipelineUnavailable(self._problems[entry.name])
        manifest = complete(entry.name, self._in_order())
        twin = self._first_with(manifest.digest)
        if twin != entry.name:
            raise PipelineUnavailable(f"it is what {twin} is now, byte for byte: it need not be named")
        offered = {offer.manifest.digest for offer in self._offers.values()}
        for contract, giver in upstream_names(entry.name, self._in_order()).items():
            if complete(giver, self._in_order()).digest not in offered:
                why = self._problems.get(giver, "it is not started yet")
                raise PipelineUnavailable(
                    f"{entry.name} needs {contract}, which {giver} gives, and that cannot run: {why}"
                )
        return manifest

    def _new_worker(self, entry: Entry, manifest: PipelineManifest) -> Worker:
        worker = Worker(entry, manifest, self._settings.worker)
        self._workers.add(worker)
        return worker

    async def _reclaim(self) -> None:
        while True:
            await asyncio.sleep(max(1.0, self._settings.lease_s / 4))
            try:
                if await self._journal.reclaim(self._boot, now=self._hooks.clock()):
                    self.wake()
            except Exception:
                log.exception("leases could not be looked through; it is tried again")

    async def _slot(self, entry: Entry, number: int) -> None:
        offer = self._offers[entry.name]
        worker = self._first[entry.name] if number == 0 else None
        pause_s = RESTART_PAUSE_S
        while True:
            leased: list[Leased] = []
            woken = self._wake
            try:
                leased = await self._journal.lease(
                    offer.manifest.digest,
                    offer.environment.digest,
                    limit=self._settings.batch,
                    now=self._hooks.clock(),
                    lease_s=self._settings.lease_s,
                    boot=self._boot,
                )
                if not leased:
                    await _sleep_until(woken)
                    continue
                if worker is None or worker.pid is None:
                    worker = await self._replace(entry, offer, worker)
                if worker is not None:
                    await self._run_batch(worker, leased)
                    pause_s = RESTART_PAUSE_S
                    continue
            except Exception:
                log.exception("pipeline %s: the engine could not go on; it tries again in %g s", entry.name, pause_s)
            await self._give_back(leased)
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, RESTART_PAUSE_MAX_S)

    async def _give_back(self, leased: list[Leased]) -> None:
        for item in leased:
            try:
                await self._journal.release(item.unit.key, item.attempt, now=self._hooks.clock())
            except Exception:
                log.exception("unit %s stays taken until its lease is over", item.unit.key)

    async def _replace(self, entry: Entry, offer: Offer, old: Worker | None) -> Worker | None:
        if old is not None:
            self._workers.discard(old)
        worker = self._new_worker(entry, offer.manifest)
        try:
            ready = await worker.start()
        except (PipelineUnavailable, WorkerDied) as error:
            log.error("pipeline %s: no worker could be started: %s", entry.name, error)  # noqa: TRY400
            await worker.stop()
            self._workers.discard(worker)
            return None
        if ready.environment.digest != offer.environment.digest or ready.pipeline != offer.manifest.digest:
            log.error("pipeline %s changed under the running node: restart it", entry.name)
            await worker.stop()
            self._workers.discard(worker)
            return None
        return worker

    async def _run_batch(self, worker: Worker, leased: list[Leased]) -> None:
        """Runs units one after the other; records each while the next one already runs."""
        recording: asyncio.Task[None] | None = None
        try:
            for item in leased:
                if worker.pid is None:
                    await self._journal.release(item.unit.key, item.attempt, now=self._hooks.clock())
                    continue
                outcome = await self._run_unit(worker, item)
                if recording is not None:
                    await recording
                recording = asyncio.create_task(self._record(item, outcome))
        finally:
            if recording is not None:
                await recording

    async def _run_unit(self, worker: Worker, item: Leased) -> "_Outcome":
        withheld = await self._hooks.gate(item.unit)
        if withheld is not None:
            return _Outcome(kind="withheld", reason=withheld)
        refusal = refusal_of(item.upstream)
        if refusal is not None:
            return _Outcome(kind=refusal[0], reason=refusal[1])
        upstream = {contract: status.body for contract, status in item.upstream.items() if status.body is not None}
        try:
            with await asyncio.to_thread(self._hooks.open_image, item.unit.image) as image:
                try:
                    result = await worker.run(image, item.unit.parameters, upstream)
                except (BeyondLimits, ImageRefused):
                    await asyncio.to_thread(image.check_unchanged)  # what was refused may have been other bytes
                    raise
                await asyncio.to_thread(image.check_unchanged)
        except BeyondLimits as error:
            return _Outcome(kind="limit", reason=str(error))
        except ImageRefused as error:
            return _Outcome(kind="permanent", reason=str(error))
        except BlobArchived:
            return _Outcome(kind="waiting", reason="the image is being brought back from the archive")
        except TierFailed as error:
            log.warning("image %s: %s", item.unit.image, error)
            return _Outcome(kind="transient", reason="the image could not be brought back from the archive")
        except CasError as error:
            log.warning("image %s: %s", item.unit.image, error)
            return _Outcome(kind="transient", reason="the image could not be opened: it was changed or is gone")
        except (UnitFailed, WorkerDied) as error:
            log.warning("unit %s: %s", item.unit.key, error)
            return _Outcome(kind="transient", reason=str(error))
        body = json.dumps(result.body, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()
        return _Outcome(kind="done", body=body, seconds=result.seconds)

    async def _record(self, item: Leased, outcome: "_Outcome") -> None:
        now, key = self._hooks.clock(), item.unit.key
        if outcome.kind == "done":
            counted = await self._journal.complete(key, item.attempt, outcome.body, outcome.seconds, now=now)
        else:
            counted = await self._journal.fail(key, item.attempt, outcome.kind, outcome.reason, now=now)
        if counted:
            if self._is_taken(item.unit.pipeline):
                self.wake()
            await self._hooks.on_finished(key)

    def _is_taken(self, pipeline: str) -> bool:
        """Whether another pipeline takes the results of this one: its units may be waiting for this moment."""
        return any(pipeline in offer.manifest.upstream for offer in self._offers.values())


async def _sleep_until(woken: asyncio.Event) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(IDLE_S):
            await woken.wait()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Outcome:
    kind: Literal["done"] | FailureKind
    reason: str = ""
    body: bytes = b""
    seconds: float = 0.0


def make_pipeline_manifest(entry: Entry) -> PipelineManifest:
    """The manifest of an entry, without loading models."""
    import sys

    for folder in entry.python_path:
        if folder not in sys.path:
            sys.path.append(folder)
    return make_pipeline(entry.target, entry.folder).manifest()


def read_manifests(catalogue: Catalogue) -> tuple[dict[str, PipelineManifest], dict[str, str]]:
    """Completed manifests by name, and why others have none; no model is loaded and nothing is started. Blocking."""
    known: dict[str, PipelineManifest] = {}
    problems: dict[str, str] = {}
    for entry in catalogue.entries:
        try:
            known[entry.name] = make_pipeline_manifest(entry)
        except (PipelineUnavailable, OSError) as error:
            problems[entry.name] = str(error)
    found: dict[str, PipelineManifest] = {}
    for name in known:
        try:
            found[name] = complete(name, known)
        except PipelineUnavailable as error:
            problems[name] = str(error)
    return found, problems


def conforms(manifest: PipelineManifest, deviations: dict[str, str]) -> bool:
    """Whether every reference image came out within the tolerance."""
    try:
        limit = Decimal(manifest.tolerance)
        return all(Decimal(value) <= limit for value in deviations.values())
    except InvalidOperation:
        return False
