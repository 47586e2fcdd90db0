"""The composition root: builds every adapter of a node and the application that serves it. Nothing else does.

Start: folder opened -> engine started (workers loaded, reference images run) -> routes -> periodic ticks.
End: the reverse, by ``cleanup_ctx``; SIGKILL at any point is met at the next start.
"""

import asyncio
import contextlib
import logging
import os
import secrets
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Final

from aiohttp import web
from apscheduler.jobstores.memory import MemoryJobStore
from apscheduler.schedulers.asyncio import AsyncIOScheduler

from cas.durable import hash_descriptor
from cas.errors import BlobArchived, BlobChanged, BlobNotFound, CasError, StoreFailed
from cas.ids import ContentId
from cas.scrub import doubt
from federation.http_transport import HttpTransport
from linkeddata.pipeline import WorkUnit
from node.folder import NodeFolder
from node.services.care import Care, follow_identities
from node.services.derived import remove_of_closed
from node.services.descriptor import DescriptorService
from node.services.embedder import Embedder
from node.services.images import ImageService
from node.services.job_rules import OfferedPipeline
from node.services.jobs import JobService
from node.services.own_runs import RunTarget, take_due
from node.services.own_work import OwnWork
from node.services.own_work import enqueue as enqueue_own_work
from node.services.redactions import Redactions, Settled
from node.services.registry_ping import Heartbeat, registry_ping
from node.services.remote_media import RemoteMedia
from node.services.remote_needs import RemoteNeeds
from node.services.retract import finish_begun as finish_retractions
from node.services.schedule import Schedule
from node.services.similar import REGIONS, Similarity, embedding_digest, embedding_entry, regions_digest
from node.services.tiers import TierWork, open_tiering
from node.services.withdraw import WithdrawalPending, finish_begun
from node.storage.journal import SqliteJournal
from node.storage.people import forget_nonces
from node.web import (
    blobs,
    descriptor_api,
    iiif,
    ipfs,
    job_pages,
    jobs_api,
    listing_api,
    pages,
    records_api,
    review_pages,
    search_api,
    session,
    similar_api,
)
from node.web.at_once import AtOnce
from node.web.boundary import boundary_middleware, is_our_host
from node.web.iiif_shown import WarmPictures
from node.web.keys import (
    BLOBS,
    CARE,
    CLOCK,
    DATABASE,
    ENGINE,
    ENVIRONMENT,
    IDENTITY,
    JOBS,
    NEEDS,
    PREVIEWS,
    REMOTE,
    SETTINGS,
    TIERS,
)
from node.web.limits import LIMITS, VisitorLimits, limits_middleware, sending_begins
from node.web.listen import AT_ONCE
from node.web.negotiate import wants_html
from node.web.presentation import routes as presentation_routes
from node.web.previews import Previews
from node.web.private_channel import private_channel_middleware
from node.web.problem import Handler, problem_middleware
from node.web.similar_api import MAX_PICTURE_BYTES
from node.web.warm import WarmPlaces
from runners.catalogue import Catalogue
from runners.decode import Limits
from runners.engine import Engine, EngineHooks, EngineSettings
from runners.workers import OpenImage, WorkerSettings

JOBS_TICK_S: Final = 2
"""How soon a decision made on the command line is acted upon."""
OWN_WORK_TICK_S: Final = 2
"""How soon a vector can be found after its image was looked at."""
FOLLOW_PAUSE: Final = 10.0
"""So many times as long as comparing vectors with results took, it is left alone."""
PICTURE_S: Final = 30.0
"""The longest a visitor's picture is looked at."""
MAX_SENT_PIXELS: Final = 100_000_000
"""Of a visitor's picture; the largest sheets have 60 million."""
NONCES_TICK_S: Final = 300
CARE_TICK_S: Final = 60
REDACTIONS_TICK_S: Final = 300
"""How soon pictures with blacked out labels follow what is known; the doors do not wait for it."""
REMOTE_TICK_S: Final = 1
"""How soon a need that another process noted is looked at."""
FETCH_END_S: Final = 1.0
"""How long the end of a node waits for each fetch under way: killing one harms nothing."""
FETCHES: Final = 4
"""Remote images fetched at a time, each from another host; threads of their own, so that visitors need not wait."""
CARE_SLICE_S: Final = 50.0
"""How long bytes are read again in the background before it is asked anew what is due."""
SOURCES_TICK_S: Final = 60
"""How often it is asked whether a source is due (``node.services.schedule`` says when)."""
PING_TICK_S: Final = 2
"""How often the heartbeat looks whether a registry is due (``node.services.registry_ping`` says when)."""
FOLDER: Final = web.AppKey("folder", NodeFolder)
HEARTBEAT: Final = web.AppKey("heartbeat", Heartbeat)
OWN_WORK: Final = web.AppKey("own-work", OwnWork)
SCHEDULE: Final = web.AppKey("schedule", Schedule)
PENDING_PAUSE_S: Final = 60.0
"""Between attempts to remove a withdrawn copy from a tier that could not be reached."""
log = logging.getLogger("vasculum")


@dataclass(slots=True)
class _Withdrawing:
    """When withdrawals that wait for a tier are looked at again (monotonic seconds)."""

    not_before: float = 0.0


WITHDRAWING: Final = web.AppKey("withdrawing", _Withdrawing)


def build_application(
    folder: NodeFolder, *, catalogue: Catalogue, clock: Callable[[], datetime], boot: str | None = None
) -> web.Application:
    """The application of one node; start it with an aiohttp runner."""
    settings = folder.settings
    app = web.Application(
        middlewares=[
            private_channel_middleware, boundary_middleware, problem_middleware, session.session_middleware,
            limits_middleware, _html_jobs_middleware,
        ],
        client_max_size=settings.server.max_body_bytes,
    )  # fmt: skip
    app.on_response_prepare.append(pages.set_headers)
    app.on_response_prepare.append(sending_begins)
    app[LIMITS] = VisitorLimits(settings.limits, settings.server.trusted_proxies)
    app[SETTINGS] = settings
    app[DATABASE] = folder.database
    app[BLOBS] = folder.blobs
    app[FOLDER] = folder
    app[WITHDRAWING] = _Withdrawing()
    app[blobs.WARM] = warm = WarmPlaces(folder.database, folder.blobs)
    app[session.SESSIONS] = session.Sessions(folder.database)
    app[IDENTITY] = folder.key
    app[CLOCK] = clock
    app[ENVIRONMENT] = pages.make_environment()
    follow_identities(settings, folder.blobs)
    app[CARE] = care = Care(folder.blobs, settings, clock=clock, monotonic=time.monotonic)
    app[REMOTE] = remote = RemoteMedia(settings, folder.database, folder.blobs, clock=clock, wait=time.sleep)
    app[NEEDS] = needs = RemoteNeeds(settings, folder.database, remote, clock=clock)
    app[PREVIEWS] = Previews(settings, folder.blobs, read=care.served)
    app[iiif.IMAGES] = ImageService(settings, folder.blobs, read=care.served)
    app[iiif.WARM_PICTURES] = WarmPictures(folder.database, folder.blobs.closings)
    app[TIERS] = tiers = TierWork(
        folder.blobs,
        open_tiering(settings, folder.blobs, clock=clock, environ=os.environ),
        settings,
        clock=clock,
        monotonic=time.monotonic,
    )
    app[AT_ONCE] = AtOnce(
        warm,
        is_our_host=lambda host: is_our_host(host, settings.origin),
        headers_of=blobs.public_headers,
        take=app[LIMITS].take_at_once,
        served=care.served,
        accel=settings.server.accel,
        is_front=app[LIMITS].is_front,
    )
    engine, jobs = _build_jobs(folder, catalogue, clock, care, needs, remote, tiers, boot or secrets.token_hex(8))
    app[ENGINE] = engine
    app[JOBS] = jobs
    app[similar_api.SIMILAR] = Similarity(folder.database, settings, embedding_digest(catalogue))
    app[similar_api.SIMILAR_REGIONS] = Similarity(
        folder.database, settings, regions_digest(catalogue), contract=REGIONS
    )
    app[similar_api.EMBEDDER] = Embedder(
        embedding_entry(catalogue),
        WorkerSettings(
            unit_timeout_s=PICTURE_S, memory_mib=settings.jobs.worker_memory_mib,
            limits=Limits(
                max_pixels=min(settings.images.max_pixels, MAX_SENT_PIXELS), max_file_bytes=MAX_PICTURE_BYTES
            ),
        ),
    )  # fmt: skip
    app[OWN_WORK] = OwnWork()
    app[SCHEDULE] = Schedule(folder, clock=clock)
    app[HEARTBEAT] = Heartbeat(settings.federation.registries)
    app[descriptor_api.DESCRIPTOR] = DescriptorService(
        database=folder.database, settings=settings, identity=folder.key, offers=lambda: _offers(engine), clock=clock
    )
    for module in (
        pages,
        blobs,
        ipfs,
        iiif,
        records_api,
        listing_api,
        search_api,
        similar_api,
        jobs_api,
        descriptor_api,
        job_pages,
        review_pages,
    ):
        app.add_routes(module.routes())
    app.add_routes(presentation_routes())
    app.on_startup.append(search_api.begin_to_load)
    app.cleanup_ctx.append(_run_engine)
    app.cleanup_ctx.append(_run_pictures)
    app.cleanup_ctx.append(_run_similarity)
    app.cleanup_ctx.append(_run_ticks)
    if remote.sources:
        app.cleanup_ctx.append(_run_fetches)
    return app


def _build_jobs(
    folder: NodeFolder,
    catalogue: Catalogue,
    clock: Callable[[], datetime],
    care: Care,
    needs: RemoteNeeds,
    remote: RemoteMedia,
    tiers: TierWork,
    boot: str,
) -> tuple[Engine, JobService]:
    settings = folder.settings
    jobs = JobService(
        database=folder.database,
        settings=settings,
        identity=folder.key,
        offers=lambda: _offers(engine),
        clock=clock,
        wake=lambda: engine.wake(),  # noqa: PLW0108 - the engine is made below
        want=needs.of_job,
    )

    def open_image(image: str) -> AbstractContextManager[OpenImage]:
        cid = ContentId.from_hex(image)
        try:
            blob = folder.blobs.open_blob(cid)
        except BlobArchived:
            tiers.ask_for_job(cid)
            raise
        except (BlobNotFound, BlobChanged):
            if not remote.bring_back(cid):
                raise
            blob = folder.blobs.open_blob(cid)
        try:
            remote.bytes.note_use(cid, now=clock())
            tiers.saw(cid)
            care.took_for_job(blob.place.volume, blob.size)
            if hash_descriptor(blob.fd)[0] != cid:  # a result cites this id: it may not come from damaged bytes
                doubt(folder.blobs, cid)
                raise BlobChanged("its bytes are damaged: they no longer give its id")
        except BaseException:
            blob.close()
            raise
        return blob

    async def gate(unit: WorkUnit) -> str | None:
        return await jobs.gate(unit)

    engine = Engine(
        SqliteJournal(folder.database),
        catalogue,
        EngineSettings(
            workers=settings.jobs.workers,
            batch=settings.jobs.batch,
            lease_s=float(settings.jobs.lease_s),
            worker=WorkerSettings(
                unit_timeout_s=float(settings.jobs.unit_timeout_s),
                memory_mib=settings.jobs.worker_memory_mib,
                limits=Limits(max_pixels=settings.images.max_pixels, max_file_bytes=settings.images.max_file_bytes),
            ),
        ),
        EngineHooks(open_image=open_image, gate=gate, on_finished=jobs.on_finished, clock=clock),
        boot=boot,
    )
    return engine, jobs


def _offers(engine: Engine) -> list[OfferedPipeline]:
    return [OfferedPipeline.of(offer) for offer in engine.offers]


async def _run_engine(app: web.Application) -> AsyncIterator[None]:
    engine = app[ENGINE]
    await engine.start()
    for name, problem in engine.problems.items():
        log.warning("pipeline %s is not offered: %s", name, problem)
    task = asyncio.create_task(engine.run(), name="engine")
    yield
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    await engine.aclose()  # also when the task was cancelled before it began


async def _run_similarity(app: web.Application) -> AsyncIterator[None]:
    yield
    await app[similar_api.EMBEDDER].close()
    for key in (similar_api.SIMILAR, similar_api.SIMILAR_REGIONS):
        await asyncio.to_thread(app[key].close)


async def _run_pictures(app: web.Application) -> AsyncIterator[None]:
    await asyncio.to_thread(_tidy_pictures, app)
    yield
    await asyncio.to_thread(app[iiif.IMAGES].close)


def _tidy_pictures(app: web.Application) -> None:
    """What killed processes left, and pictures whose images were closed by an ingest that was killed."""
    app[iiif.IMAGES].derived.sweep()
    remove_of_closed(app[SETTINGS], app[DATABASE])


async def _run_ticks(app: web.Application) -> AsyncIterator[None]:
    """Periodic work; each tick is idempotent and lives from the database, so a lost one harms nobody."""
    scheduler = AsyncIOScheduler(
        jobstores={"default": MemoryJobStore()},
        job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None},
        timezone="UTC",
    )
    scheduler.add_job(_tick(app, _poll_jobs), "interval", seconds=JOBS_TICK_S)
    scheduler.add_job(_tick(app, _do_own_work), "interval", seconds=OWN_WORK_TICK_S)
    scheduler.add_job(_tick(app, _forget_nonces), "interval", seconds=NONCES_TICK_S)
    scheduler.add_job(_tick(app, _finish_withdrawals), "interval", seconds=JOBS_TICK_S)
    scheduler.add_job(_tick(app, _finish_retractions), "interval", seconds=JOBS_TICK_S)
    scheduler.add_job(_tick(app, _look_after_bytes), "interval", seconds=CARE_TICK_S)
    scheduler.add_job(_tick(app, _settle_redactions), "interval", seconds=REDACTIONS_TICK_S)
    scheduler.add_job(_tick(app, _run_pipelines), "interval", seconds=JOBS_TICK_S)
    scheduler.add_job(_tick(app, _ingest_sources), "interval", seconds=SOURCES_TICK_S)
    if app[SETTINGS].tiers:
        scheduler.add_job(_tick(app, _restore), "interval", seconds=JOBS_TICK_S)
        scheduler.add_job(_tick(app, _look_after_tiers), "interval", seconds=CARE_TICK_S)
    if app[SETTINGS].federation.registries:
        scheduler.add_job(_tick(app, ping_registries), "interval", seconds=PING_TICK_S)
    scheduler.start()
    await app[JOBS].poll()
    await _tick(app, _finish_retractions)()
    yield
    app[CARE].stop()
    app[SCHEDULE].stop()
    app[TIERS].stop()
    with contextlib.suppress(StoreFailed):
        await asyncio.to_thread(app[TIERS].used.flush)
    scheduler.shutdown(wait=False)


async def _run_fetches(app: web.Application) -> AsyncIterator[None]:
    """Fetches what somebody waits for; the line is in the index of the store, so nothing is lost with the process."""
    ending = threading.Event()

    def is_over() -> bool:
        return ending.is_set()

    def work() -> None:
        while not is_over():
            try:
                for outcome in app[REMOTE].work_off_line(is_over=is_over):
                    if outcome.kind == "failed":
                        log.warning("%s could not be fetched: %s", outcome.url, outcome.reason)
            except Exception:
                if not is_over():  # at the end the database is closed under a fetch: what it wanted stands in its row
                    log.exception("fetching failed; it goes on at its next turn")
            ending.wait(REMOTE_TICK_S)

    threads = [threading.Thread(target=work, name=f"fetch-{number}", daemon=True) for number in range(FETCHES)]
    for thread in threads:
        thread.start()
    yield
    ending.set()
    for thread in threads:  # a fetch that hangs is left to its time limit, or to the end of the process
        await asyncio.to_thread(thread.join, FETCH_END_S)


def _tick(app: web.Application, work: Callable[[web.Application], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
    async def run() -> None:
        try:
            await work(app)
        except Exception:
            log.exception("a periodic task failed; it runs again at its next turn")

    return run


async def _poll_jobs(app: web.Application) -> None:
    await app[JOBS].poll()


async def _do_own_work(app: web.Application) -> None:
    """Queues what the node computes for itself, and takes vectors that came to be into their file."""
    work, database, blobs_here = app[OWN_WORK], app[DATABASE], app[BLOBS]
    offers = {offer.digest: offer for offer in _offers(app[ENGINE])}

    def is_here(image: str) -> bool:
        try:
            blobs_here.open_blob(ContentId.from_hex(image)).close()
        except CasError:
            return False
        return True

    for offer in work.due(tuple(offers.values())):
        images = await database.read(partial(work.missing, offer=offer, is_here=is_here))
        if images:
            queue = partial(enqueue_own_work, offer=offer, offers=offers, images=images, now=app[CLOCK]())
            await database.write(queue)
            app[ENGINE].wake()
    version = database.version()
    if (version is not None and version == work.seen_version) or time.monotonic() < work.follow_not_before:
        return  # nothing was written since, or the last comparison of a large collection is not long past
    started, is_behind = time.monotonic(), False
    for similarity in (app[similar_api.SIMILAR], app[similar_api.SIMILAR_REGIONS]):
        if await asyncio.to_thread(similarity.is_behind):
            is_behind = True
            await asyncio.to_thread(similarity.follow)
    if is_behind:
        work.follow_not_before = time.monotonic() + FOLLOW_PAUSE * (time.monotonic() - started)
    work.seen_version = version


async def _finish_withdrawals(app: web.Application) -> None:
    """A withdrawal whose command was killed is carried out by whoever finds it.

    One that waits for a tier does not wait here: who could not reach it a moment ago looks again after a minute.
    """
    if time.monotonic() < app[WITHDRAWING].not_before:
        return
    try:
        await asyncio.to_thread(finish_begun, app[FOLDER], now=app[CLOCK]())
    except WithdrawalPending as error:
        app[WITHDRAWING].not_before = time.monotonic() + PENDING_PAUSE_S
        log.error("a withdrawn copy is not removed yet: %s", error)  # noqa: TRY400 - the reason is the message


async def _ingest_sources(app: web.Application) -> None:
    """Sources that are due are read again; what the list of sensitive taxa names now is protected."""
    await asyncio.to_thread(app[SCHEDULE].run_due)


async def _finish_retractions(app: web.Application) -> None:
    """A retraction whose command was killed is carried out, or undone, by whoever finds it."""
    await asyncio.to_thread(finish_retractions, app[DATABASE], clock=app[CLOCK])


async def _run_pipelines(app: web.Application) -> None:
    """New images, and those that only an older version of a pipeline has seen, are run over by themselves."""
    targets = [RunTarget.of(offer.manifest) for offer in app[ENGINE].offers]
    done = await asyncio.to_thread(
        take_due, app[DATABASE], app[SETTINGS], targets, kid=app[IDENTITY].kid, now=app[CLOCK]()
    )
    if done:
        await app[JOBS].poll()


async def _forget_nonces(app: web.Application) -> None:
    now = app[CLOCK]()
    await app[DATABASE].write(lambda conn: forget_nonces(conn, now=now))


async def _look_after_bytes(app: web.Application) -> None:
    done = await asyncio.to_thread(app[CARE].run_slice, CARE_SLICE_S)
    for found in done.bad:
        if found.verdict in ("damaged", "unreadable", "volume"):
            place = f"{found.volume}:{found.path}" if found.volume else found.path
            log.error("%s: %s, %s; see `vasculum quarantine`", place, found.verdict, found.reason)


async def _settle_redactions(app: web.Application) -> None:
    """Pictures with blacked out labels are made, replaced or taken back, as the settings and readings say now."""

    def settle() -> Settled:
        with contextlib.closing(Redactions(app[SETTINGS], app[DATABASE], app[BLOBS])) as redactions:
            return redactions.settle(now=app[CLOCK]())

    for problem in (await asyncio.to_thread(settle)).problems:
        log.error("a picture with blacked out labels could not be made or taken back: %s", problem)


async def _restore(app: web.Application) -> None:
    done = await asyncio.to_thread(app[TIERS].run_restores)
    for problem in done.problems:
        log.error("%s; see `vasculum tier list`", problem)
    if done.moved:
        app[ENGINE].wake()


async def _look_after_tiers(app: web.Application) -> None:
    done = await asyncio.to_thread(app[TIERS].run_slice, CARE_SLICE_S)
    for found in done.bad:
        log.error("%s:%s: %s, %s; see `vasculum quarantine`", found.volume, found.path, found.verdict, found.reason)
    for problem in done.problems:
        log.error("%s", problem)


async def ping_registries(app: web.Application) -> None:
    """Tells every registry that is due that this node is there; each then pulls the descriptor itself."""
    heartbeat, clock = app[HEARTBEAT], app[CLOCK]
    due = heartbeat.due(clock())
    if not due:
        return
    async with HttpTransport() as transport:
        outcomes = await registry_ping(transport, origin=app[SETTINGS].origin, registries=due)
    heartbeat.after(outcomes, now=clock(), jitter=secrets.randbelow(1000) / 1000)


@web.middleware
async def _html_jobs_middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
    """A browser that asks for a job gets its page; programs get the OGC documents."""
    if request.method == "GET" and request.path.startswith("/jobs"):
        parts = request.path.strip("/").split("/")
        if parts[0] == "jobs" and len(parts) <= 2 and wants_html(request):
            raise web.HTTPSeeOther("/staff/" + "/".join(parts))
    return await handler(request)


__all__ = ["HEARTBEAT", "build_application", "ping_registries"]
