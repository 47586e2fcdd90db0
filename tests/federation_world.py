"""A small federation in one process: nodes served on loopback, and faults that can be switched."""

import asyncio
import contextlib
import json
import secrets
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from aiohttp import web

from cas.ids import ContentId
from federation.client import ClientPorts, FederatedJob, fetch_descriptor
from federation.dispatch import NodeCourse
from federation.errors import TransportError
from federation.identity import SigningKey
from federation.transport import Answer, OutgoingRequest, Transport
from linkeddata.access import AccessClass
from linkeddata.envelope import JOB_SPEC, seal
from linkeddata.job import Emit, JobSpec, JobStep
from linkeddata.pipeline import PipelineManifest, WorkUnit
from linkeddata.selection import parse_where
from node.access import Viewer
from node.config import Settings, parse_settings
from node.services.descriptor import DescriptorService
from node.services.job_rules import OfferedPipeline
from node.services.jobs import JobService
from node.storage import records
from node.storage.db import Database
from node.storage.journal import SqliteJournal
from node.storage.people import enrol
from node.storage.search_index import index_specimen
from node.web import descriptor_api, job_pages, jobs_api, listing_api, pages, search_api
from node.web import keys as web_keys
from node.web.keys import CLOCK, DATABASE, JOBS, SETTINGS
from node.web.limits import LIMITS, VisitorLimits
from node.web.problem import Problem
from node.web.viewer import SESSION, VIEWER, Session
from runners.composition import refusal_of

START = datetime(2026, 11, 24, 10, 0, 0, tzinfo=UTC)
ENVIRONMENT = "sha256:" + "e" * 64
MANIFEST = PipelineManifest(
    output="label-text/1",
    name="label-text",
    version="1.0.0",
    title="Text",
    description="Text",
    runtime="builtin",
    parameters={"language": "en"},
    implementation="sha256:" + "1" * 64,
)
BARCODE = PipelineManifest(
    output="barcode/1",
    name="barcode",
    version="1.0.0",
    title="Codes",
    description="Codes",
    runtime="builtin",
    implementation="sha256:" + "2" * 64,
)
QUALITY = PipelineManifest(
    output="quality/1",
    name="quality",
    version="1.0.0",
    title="Composed",
    description="Takes the results of two others",
    runtime="builtin",
    needs=("label-text/1", "barcode/1"),
    upstream=(MANIFEST.digest, BARCODE.digest),
    implementation="sha256:" + "3" * 64,
)
"""A composed one."""
STAINS, BRIGHTNESS = (
    PipelineManifest(
        output="classes/1", name=name, version="1.0.0", title=name, description="plugged", runtime="onnx",
        vocabulary=("dark", "bright"), implementation="sha256:" + "4" * 64,
    )
    for name in ("stains", "brightness")
)  # fmt: skip
"""Two plugged models."""


class Clock:
    """Time that goes by when told to."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now

    def forward(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@dataclass
class SmallNode:
    """A node without an engine: ``work`` computes what is queued from ``texts``."""

    folder: Path
    settings: Settings
    database: Database
    key: SigningKey
    clock: Clock
    offers: list[OfferedPipeline]
    jobs: JobService
    descriptor: DescriptorService
    texts: dict[str, list[str]] = field(default_factory=dict)
    """Image hex -> lines."""
    computed: int = 0
    runner: web.AppRunner | None = None
    sock_port: int = 0

    @property
    def origin(self) -> str:
        return self.settings.origin

    def add_sheet(
        self,
        name: str,
        *,
        lines: Sequence[str] = (),
        kingdom: str = "Plantae",
        access: AccessClass = AccessClass.OPEN,
        sensitive: bool = False,
    ) -> str:
        """A specimen with one medium; returns the medium's IRI."""
        image = ContentId.of(f"{self.origin} {name}".encode())
        specimen, medium = f"{self.origin}/specimen/{name}", f"{self.origin}/media/{name}"
        self.texts[image.hex] = list(lines)
        with self.database.transaction() as conn:
            body = {"@id": specimen, "@type": "ods:DigitalSpecimen", "dwc:kingdom": kingdom, "dwc:catalogNumber": name}
            records.publish(
                conn,
                records.NewRecord(kind="specimen", iri=specimen, body=body, access=access, sensitive=sensitive),
                now=self.clock(),
            )
            records.publish(
                conn,
                records.NewRecord(kind="medium", iri=medium, body={"@id": medium}, access=access, sensitive=sensitive),
                now=self.clock(),
            )
            conn.execute(
                """INSERT INTO medium (iri, source, key, image, size_bytes, access, sensitive, version)
                   VALUES (?, 'test', ?, ?, 1000, ?, ?, 1)""",
                (medium, name, image.hex, int(access), int(sensitive)),
            )
            conn.execute(
                "INSERT INTO medium_version VALUES (?, 1, ?, 100, 100, '2026-01-01T00:00:00Z')", (medium, image.hex)
            )
            conn.execute("INSERT INTO medium_specimen VALUES (?, ?, 0)", (medium, specimen))
            index_specimen(conn, specimen)
        return medium

    def set_class(self, name: str, access: AccessClass, *, sensitive: bool = False) -> None:
        with self.database.transaction() as conn:
            conn.execute(
                "UPDATE medium SET access = ?, sensitive = ? WHERE key = ?", (int(access), int(sensitive), name)
            )

    def enrol(self, key: SigningKey, name: str = "R. Researcher") -> None:
        with self.database.transaction() as conn:
            enrol(conn, key.kid, name, note="", now=self.clock())

    async def work(self, *, limit: int = 1000, fail: Sequence[str] = ()) -> int:
        """Does what an engine does, with canned results; returns how many units ended."""
        journal, done = SqliteJournal(self.database), 0
        for offer in self.offers:
            leased = await journal.lease(
                offer.digest, offer.environment, limit=limit - done, now=self.clock(), lease_s=60, boot="test"
            )
            for item in leased:
                reason = await self.jobs.gate(item.unit)
                refusal = refusal_of(item.upstream)
                if reason is not None:
                    await journal.fail(item.unit.key, item.attempt, "withheld", reason, now=self.clock())
                elif refusal is not None:
                    await journal.fail(item.unit.key, item.attempt, *refusal, now=self.clock())
                elif item.unit.image in fail:
                    await journal.fail(item.unit.key, item.attempt, "permanent", "truncated file", now=self.clock())
                else:
                    self.computed += 1
                    body = json.dumps(self.result(item.unit)).encode()
                    await journal.complete(item.unit.key, item.attempt, body, 0.01, now=self.clock())
                await self.jobs.on_finished(item.unit.key)
                done += 1
        return done

    def result(self, unit: WorkUnit) -> dict[str, Any]:
        image = {"width": 100, "height": 100}
        if unit.output == "classes/1":
            classes = [{"name": "bright", "score": "0.900", "holds": True}]
            return {"image": image, "box": [0, 0, 100, 100], "classes": classes, "certain": True, "doubts": []}
        if unit.output == "quality/1":
            return {"image": image, "measures": {"taken": str(len(unit.upstream))}, "verdicts": {}, "doubts": []}
        if unit.output == "barcode/1":
            return {"image": image, "codes": [], "doubts": []}
        lines = [
            {"text": text, "score": "0.900", "box": [1, 1, 50, 10], "writing": "print"}
            for text in self.texts.get(unit.image, [])
        ]
        return {"image": image, "lines": lines, "readable": True, "doubts": []}

    def app(self) -> web.Application:
        app = web.Application()
        app[SETTINGS] = self.settings
        app[DATABASE] = self.database
        app[CLOCK] = self.clock
        app[JOBS] = self.jobs
        app[LIMITS] = VisitorLimits(self.settings.limits, self.settings.server.trusted_proxies)
        app[descriptor_api.DESCRIPTOR] = self.descriptor
        app.add_routes([*jobs_api.routes(), *descriptor_api.routes(), *listing_api.routes(), *search_api.routes()])
        return app

    async def serve(self) -> None:
        self.runner = web.AppRunner(self.app(), shutdown_timeout=0.1)
        await self.runner.setup()
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("127.0.0.1", self.sock_port))
        await web.SockSite(self.runner, sock).start()

    async def stop(self) -> None:
        if self.runner is not None:
            await self.runner.cleanup()
            self.runner = None


def page_app(node: SmallNode, *, is_staff: bool) -> web.Application:
    """The node with its pages, for somebody who is staff or not (how staff log in is tested elsewhere)."""

    @web.middleware
    async def somebody(request: web.Request, handler: Any) -> web.StreamResponse:
        request[VIEWER] = Viewer(is_staff=is_staff)
        if is_staff:
            request[SESSION] = Session(digest="d", csrf="c")
        try:
            return await handler(request)
        except Problem as problem:
            return web.Response(status=problem.status)

    app = node.app()
    app.middlewares.append(somebody)
    app[web_keys.ENVIRONMENT] = pages.make_environment()
    app.add_routes([*job_pages.routes(), *pages.routes()])
    app.on_response_prepare.append(pages.set_headers)
    return app


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def make_node(
    folder: Path,
    *,
    clock: Clock,
    preset: str = "open",
    rules: Sequence[dict[str, Any]] = (),
    port: int = 0,
    name: str = "Node",
    manifests: Sequence[PipelineManifest] = (MANIFEST, BARCODE),
    conformance: str = "pass",
    seed: int = 1,
    wake: Callable[[], object] = lambda: None,
) -> SmallNode:
    """A node in ``folder``; the same folder again is the node restarted."""
    settings = parse_settings(
        {
            "node": {"name": name, "public_url": f"http://127.0.0.1:{port or 8000}"},
            "federation": {"insecure_loopback": True},
            "policy": {"preset": preset, "rules": list(rules)},
        },
        folder,
    )
    database = Database.open(settings.database_path)
    with database.transaction() as conn:
        records.ensure_salts(conn)
    key = SigningKey.from_seed(bytes([seed]) * 32)
    offers = [OfferedPipeline(manifest=item, environment=ENVIRONMENT, conformance=conformance) for item in manifests]
    jobs = JobService(database=database, settings=settings, identity=key, offers=lambda: offers, clock=clock, wake=wake)
    descriptor = DescriptorService(
        database=database, settings=settings, identity=key, offers=lambda: offers, clock=clock
    )
    return SmallNode(
        folder=folder, settings=settings, database=database, key=key, clock=clock, offers=offers, jobs=jobs,
        descriptor=descriptor, sock_port=port,
    )  # fmt: skip


def make_spec(
    requester: SigningKey,
    audience: Sequence[str],
    *,
    number: int = 1,
    match: str | None = "Martii~1",
    where: str = "kingdom=Plantae",
    steps: Sequence[JobStep] = (JobStep(output="label-text/1"),),
    now: datetime = START,
    **changes: Any,
) -> JobSpec:
    return JobSpec(
        id=f"urn:uuid:00000000-0000-4000-8000-{number:012x}",
        issued=now,
        expires=now + timedelta(days=14),
        requester_kid=requester.kid,
        requester_name="R. Researcher",
        audience=tuple(audience),
        steps=tuple(steps),
        selection=parse_where(where),
        emit=None if match is None else Emit(step="label-text/1", match=match),
        **changes,
    )


def signed(spec: JobSpec, key: SigningKey) -> Any:
    return seal(spec.to_json(), payload_type=JOB_SPEC, signers=[key])


@dataclass
class Faults:
    """What goes wrong with requests to one origin."""

    down: bool = False
    drop_answers: int = 0
    """The next so many requests arrive, but their answers are lost."""
    change: Callable[[OutgoingRequest, Answer], Answer] | None = None
    before: Callable[[OutgoingRequest], Any] | None = None


class FaultyTransport:
    """A transport with switches per origin, and a count of what was sent."""

    def __init__(self, inner: Transport) -> None:
        self.inner = inner
        self.faults: dict[str, Faults] = {}
        self.sent: list[tuple[str, str]] = []

    def at(self, origin: str) -> Faults:
        return self.faults.setdefault(origin, Faults())

    async def send(self, request: OutgoingRequest) -> Answer:
        self.sent.append((request.method, request.url))
        origin = "/".join(request.url.split("/")[:3])
        faults = self.at(origin)
        if faults.before is not None:
            result = faults.before(request)
            if result is not None:
                await result
        if faults.down:
            raise TransportError("cannot connect: connection refused")
        answer = await self.inner.send(request)
        if faults.drop_answers > 0:
            faults.drop_answers -= 1
            raise TransportError("the answer was cut off")
        return answer if faults.change is None else faults.change(request, answer)


def make_ports(
    transport: Transport,
    key: SigningKey,
    clock: Clock,
    nodes: Sequence[SmallNode] = (),
    lock: asyncio.Lock | None = None,
) -> ClientPorts:
    """Ports of a researcher; waiting lets the nodes work and time go by. Whoever holds ``lock`` may replace nodes."""
    turn = lock or asyncio.Lock()

    async def sleep(seconds: float) -> None:
        clock.forward(seconds)
        async with turn:
            for node in nodes:
                await node.jobs.poll()
                await node.work()

    return ClientPorts(
        transport=transport,
        key=key,
        clock=clock,
        nonce=lambda: secrets.token_urlsafe(16),
        sleep=sleep,
        insecure_loopback=True,
        timeout_s=120.0,
    )


async def make_job(spec: JobSpec, key: SigningKey, ports: ClientPorts, origins: Sequence[str]) -> FederatedJob:
    job = FederatedJob(spec=spec, envelope=signed(spec, key), courses={}, keys={})
    for origin in origins:
        job.courses[origin] = NodeCourse(origin=origin, name=origin)
        with contextlib.suppress(TransportError):
            known, _ = await fetch_descriptor(ports, origin, None)
            job.keys[origin] = tuple(known.pin.signing)
            job.pipelines[origin] = tuple(item.digest for item in known.descriptor.pipelines)
    return job


@contextlib.asynccontextmanager
async def serving(*nodes: SmallNode) -> AsyncIterator[None]:
    async with contextlib.AsyncExitStack() as stack:
        for node in nodes:
            stack.callback(node.database.close)
            await node.serve()
            stack.push_async_callback(node.stop)
        yield
