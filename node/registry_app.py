"""The registry: an index of nodes, as an application of its own with ``registry.toml``.

It pulls signed descriptors from their origins and lists them. It holds no images and no results, signs for nobody,
and nobody has to trust it: every reader checks the descriptors.

Invariants:
- A ping names an origin and nothing more; what is listed comes from that origin itself, over ``federation.safe_fetch``.
- An origin is asked at most once a minute whatever strangers send, one question at a time, few at once in all.
- A bad answer never replaces a good entry.

It leaves out: what an entry is worth (``federation.registry``), starting and stopping (``node.cli.registry``).
"""

import asyncio
import html
import logging
import tomllib
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

from aiohttp import web
from apscheduler.schedulers.asyncio import AsyncIOScheduler

from federation.client import DESCRIPTOR_PATH
from federation.errors import DescriptorRefused, FederationError, FetchRefused
from federation.registry import (
    MAX_ENTRIES,
    MAX_LIST,
    Entry,
    after_failure,
    after_success,
    health,
    is_due,
    list_document,
)
from federation.safe_fetch import FetchLimits, SafeFetcher, check_url
from linkeddata.descriptor import MAX_BYTES, parse_node_descriptor
from linkeddata.envelope import parse_envelope
from linkeddata.errors import DocumentError
from linkeddata.json_strict import Json, as_object, get_str, parse_json
from linkeddata.times import format_time
from node.storage.registry_store import RegistryStore

LOG = logging.getLogger(__name__)
MIN_PAUSE: Final = timedelta(seconds=60)
"""Between two pulls of one origin that others ask for: one POST must not make us hammer somebody."""
PINGS_PER_MINUTE: Final = 30
"""Per address; a node sends four an hour."""
AT_ONCE: Final = 8
_REMEMBERED: Final = 10_000
_TICK_S: Final = 30
_JITTER_S: Final = 5
MAX_BODY_BYTES: Final = 4096
_CSP: Final = "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"


class RegistryConfigError(Exception):
    """``registry.toml`` cannot be used; the message says what to write."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistrySettings:
    """Everything in ``registry.toml``, and its folder."""

    folder: Path
    name: str = "Registry"
    host: str = "127.0.0.1"
    port: int = 8090
    insecure_loopback: bool = False


TEMPLATE: Final = """\
# Settings of a Vasculum registry: an index of nodes. It holds no images and no results.
# Its name, as people see it.
name = "{name}"
# Where it listens. Put nginx or caddy with TLS in front.
host = "{host}"
port = {port}
# A trial on one machine: accept nodes at http://127.0.0.1:PORT.
insecure_loopback = {insecure}
"""


def load_registry_settings(folder: Path) -> RegistrySettings:
    """Reads ``folder/registry.toml``.

    Raises:
        RegistryConfigError: with what is wrong.
    """
    path = folder / "registry.toml"
    try:
        document = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise RegistryConfigError(f"{path} does not exist: run `vasculum registry init {folder}` first") from error
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RegistryConfigError(f"{path}: {error}") from error
    kinds: dict[str, type] = {"name": str, "host": str, "port": int, "insecure_loopback": bool}
    for key, value in document.items():
        if key not in kinds:
            raise RegistryConfigError(f"{path}: unknown key {key} (known are {', '.join(kinds)})")
        if type(value) is not kinds[key]:
            raise RegistryConfigError(f"{path}: {key} must be a {kinds[key].__name__}")
    settings = RegistrySettings(folder=folder.resolve(), **document)
    if settings.insecure_loopback and not settings.host.startswith("127."):
        raise RegistryConfigError('insecure_loopback binds to this machine only: set host = "127.0.0.1"')
    if not 0 <= settings.port <= 65535:
        raise RegistryConfigError("port must be 0 to 65535")
    return settings


class Registry:
    """Pulls and keeps."""

    def __init__(
        self,
        *,
        store: RegistryStore,
        fetcher: SafeFetcher,
        clock: Callable[[], datetime],
        name: str,
        insecure_loopback: bool,
    ) -> None:
        self._store = store
        self._fetcher = fetcher
        self._clock = clock
        self._insecure = insecure_loopback
        self.name = name
        self._locks: OrderedDict[str, asyncio.Lock] = OrderedDict()
        self._recent_failures: OrderedDict[str, tuple[datetime, str]] = OrderedDict()
        self._slots = asyncio.Semaphore(AT_ONCE)

    async def ping(self, origin: str) -> Entry:
        """Asks an origin for its descriptor, unless that was done within the last minute.

        Raises:
            FederationError: it could not be reached, or what it says cannot be believed.
        """
        lock = self._locks.setdefault(origin, asyncio.Lock())
        self._locks.move_to_end(origin)
        while len(self._locks) > _REMEMBERED:
            self._locks.popitem(last=False)
        async with lock:
            now = self._clock()
            entry = await asyncio.to_thread(self._store.get, origin)
            if entry is not None and now - entry.last_try < MIN_PAUSE and not entry.failures:
                return entry
            failed = self._recent_failures.get(origin)
            if failed is not None and now - failed[0] < MIN_PAUSE:
                raise FederationError(failed[1] + " (tried less than a minute ago)")
            if entry is None and await asyncio.to_thread(self._store.count) >= MAX_ENTRIES:
                raise FederationError("this registry is full")
            return await self._pull(origin, entry)

    async def _pull(self, origin: str, entry: Entry | None) -> Entry:
        try:
            async with self._slots:
                fetched = await self._fetcher.get(origin + DESCRIPTOR_PATH)
            if fetched.status != 200:
                raise DescriptorRefused(f"{origin} answered {fetched.status} when asked for its descriptor")
            if not fetched.url.startswith(origin + "/"):
                raise DescriptorRefused("the descriptor was served by another origin")
            envelope = parse_envelope(fetched.body, max_bytes=2 * MAX_BYTES)
            new = after_success(entry, envelope, origin, now=self._clock(), insecure=self._insecure)
        except (FederationError, DocumentError) as error:
            now = self._clock()
            self._recent_failures[origin] = (now, str(error))
            while len(self._recent_failures) > _REMEMBERED:
                self._recent_failures.popitem(last=False)
            if entry is not None:
                await asyncio.to_thread(self._store.put, after_failure(entry, str(error), now=now))
            raise FederationError(str(error)) from error
        self._recent_failures.pop(origin, None)
        await asyncio.to_thread(self._store.put, new)
        return new

    async def refresh(self) -> int:
        """Pulls every entry that is due; returns how many were tried."""
        now = self._clock()
        due = [
            entry for entry in await asyncio.to_thread(lambda: self._store.all(limit=MAX_ENTRIES)) if is_due(entry, now)
        ]

        async def one(entry: Entry) -> None:
            try:
                await self._pull(entry.origin, entry)
            except FederationError as error:
                LOG.info("%s: %s", entry.origin, error)

        for start in range(0, len(due), AT_ONCE):
            await asyncio.gather(*(one(entry) for entry in due[start : start + AT_ONCE]))
        return len(due)

    async def entries(self) -> list[Entry]:
        """What is listed."""
        return await asyncio.to_thread(lambda: self._store.all(limit=MAX_LIST))

    def now(self) -> datetime:
        """The registry's time."""
        return self._clock()


class Allowance:
    """So many requests a minute per address; a fixed number of addresses is remembered."""

    def __init__(self, clock: Callable[[], datetime], per_minute: int = PINGS_PER_MINUTE) -> None:
        self._clock = clock
        self._limit = per_minute
        self._used: OrderedDict[str, tuple[datetime, int]] = OrderedDict()

    def take(self, address: str) -> bool:
        """Whether one more is allowed now."""
        now = self._clock()
        began, used = self._used.get(address, (now, 0))
        if now - began >= timedelta(minutes=1):
            began, used = now, 0
        self._used[address] = (began, used + 1)
        self._used.move_to_end(address)
        while len(self._used) > _REMEMBERED:
            self._used.popitem(last=False)
        return used < self._limit


REGISTRY = web.AppKey("registry", Registry)
ALLOWANCE = web.AppKey("allowance", Allowance)


def build_registry(
    settings: RegistrySettings, *, clock: Callable[[], datetime], fetcher: SafeFetcher | None = None
) -> web.Application:
    """The application: its routes, its store, its tick."""
    store = RegistryStore(settings.folder / "registry.sqlite")
    registry = Registry(
        store=store,
        fetcher=fetcher
        or SafeFetcher(
            limits=FetchLimits(max_bytes=2 * MAX_BYTES, timeout_s=15), insecure_loopback=settings.insecure_loopback
        ),
        clock=clock,
        name=settings.name,
        insecure_loopback=settings.insecure_loopback,
    )
    app = web.Application(client_max_size=MAX_BODY_BYTES)
    app[REGISTRY] = registry
    app[ALLOWANCE] = Allowance(clock)
    app.add_routes(
        [
            web.get("/", start_page),
            web.get("/nodes", nodes),
            web.post("/ping", ping),
            web.get("/healthz", healthz),
            web.get("/style.css", style),
        ]
    )

    async def lifetime(_: web.Application) -> AsyncIterator[None]:
        scheduler = AsyncIOScheduler()
        scheduler.add_job(
            registry.refresh, "interval", seconds=_TICK_S, coalesce=True, max_instances=1, misfire_grace_time=None,
            jitter=_JITTER_S,
        )  # fmt: skip
        scheduler.start()
        yield
        scheduler.shutdown(wait=False)
        await asyncio.to_thread(store.close)

    app.cleanup_ctx.append(lifetime)
    return app


async def nodes(request: web.Request) -> web.Response:
    """``GET /nodes``: signed descriptors with health."""
    registry = request.app[REGISTRY]
    document = list_document(await registry.entries(), name=registry.name, now=registry.now())
    return web.json_response(document, headers={"Access-Control-Allow-Origin": "*", "Cache-Control": "max-age=60"})


async def ping(request: web.Request) -> web.Response:
    """``POST /ping {"origin": ..}``: look at that origin."""
    if not request.app[ALLOWANCE].take(request.remote or ""):
        return _problem(429, "too-many-requests", "Too many pings", "try again in a minute", {"Retry-After": "60"})
    registry = request.app[REGISTRY]
    try:
        body = await request.read()
        origin = get_str(as_object(parse_json(body, max_bytes=MAX_BODY_BYTES), "a ping"), "origin", max_chars=300)
        _check_origin(origin, registry)
    except web.HTTPRequestEntityTooLarge:
        return _problem(413, "too-large", "Too large", f"a ping has at most {MAX_BODY_BYTES} bytes")
    except (DocumentError, FetchRefused) as error:
        return _problem(400, "bad-request", "This is no ping", str(error))
    try:
        entry = await registry.ping(origin)
    except FederationError as error:
        return _problem(422, "not-listed", "The node was not listed", str(error))
    return web.json_response(
        {
            "origin": origin,
            "health": health(entry.last_success, registry.now()),
            "lastSuccess": format_time(entry.last_success),
        }
    )


async def healthz(request: web.Request) -> web.Response:  # noqa: ARG001 - the signature is aiohttp's
    """The process answers."""
    return web.json_response({"status": "ok"})


async def start_page(request: web.Request) -> web.Response:
    """A page for people."""
    registry = request.app[REGISTRY]
    now = registry.now()
    lines = [_line(entry, now) for entry in await registry.entries()]
    body = _PAGE.format(name=html.escape(registry.name), count=len(lines), lines="\n".join(lines) or _NOBODY)
    headers = {"Content-Security-Policy": _CSP, "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}
    return web.Response(text=body, content_type="text/html", headers=headers)


async def style(request: web.Request) -> web.Response:  # noqa: ARG001 - the signature is aiohttp's
    """The page's style sheet."""
    return web.Response(text=_STYLE, content_type="text/css", headers={"Cache-Control": "max-age=3600"})


def _check_origin(origin: str, registry: Registry) -> None:
    checked = check_url(origin + "/", insecure_loopback=registry._insecure)  # noqa: SLF001 - one module
    if str(checked.url.origin()) != origin:
        raise FetchRefused("origin must be a web origin in lower case, without a path")


def _line(entry: Entry, now: datetime) -> str:
    try:
        descriptor = parse_node_descriptor(parse_json(entry.envelope.payload))
    except DocumentError:
        return ""
    state = health(entry.last_success, now)
    pipelines = ", ".join(sorted({offer.name for offer in descriptor.pipelines})) or "none"
    origin, name = html.escape(entry.origin, quote=True), html.escape(descriptor.name)
    return (
        f'<tr><td><a href="{origin}/" rel="noreferrer">{name}</a><br><small>{origin}</small></td>'
        f'<td class="n">{descriptor.holdings.specimens:,}</td><td class="n">{descriptor.holdings.media:,}</td>'
        f"<td>{html.escape(pipelines)}</td><td>{html.escape(descriptor.policy.preset)}</td>"
        f'<td><span class="{state}">{state}</span><br><small>{format_time(entry.last_success)}</small></td></tr>'
    )


def _problem(status: int, kind: str, title: str, detail: str, headers: dict[str, str] | None = None) -> web.Response:
    document: dict[str, Json] = {"type": f"/problems/{kind}", "title": title, "status": status, "detail": detail}
    return web.json_response(document, status=status, content_type="application/problem+json", headers=headers)


_PAGE: Final = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{name}</title><link rel="stylesheet" href="/style.css"></head><body><main>
<h1>{name}</h1>
<p>An index of natural-history collections that publish records and take processing jobs: {count} listed.
This registry holds no images and no results. What a node says here is signed by the node; check it there.</p>
<div class="scroll"><table>
<thead><tr><th>Node</th><th class="n">Specimens</th><th class="n">Images</th><th>Computes</th>
<th>Policy</th><th>Seen</th></tr></thead>
<tbody>
{lines}
</tbody></table></div>
<p>For programs: <a href="/nodes">the signed list</a>. For researchers:
<code>vasculum nodes --registry ADDRESS</code>.</p>
</main></body></html>
"""
_NOBODY: Final = '<tr><td colspan="6">No node has announced itself yet: <code>[federation] registries</code> in its \
<code>node.toml</code> names this address.</td></tr>'
_STYLE: Final = """
:root { --paper: #fbf9f4; --ink: #25291f; --soft: #5d6355; --line: #dcd8cb; --green: #2f5d3a; --amber: #8a5a00;
  --red: #8f2a1d; color-scheme: light dark; }
@media (prefers-color-scheme: dark) { :root { --paper: #171a16; --ink: #e9e8df; --soft: #a9af9f; --line: #363c32;
  --green: #9ccb95; --amber: #f0c36c; --red: #f19c8e; } }
html { font: 17px/1.55 Georgia, "Iowan Old Style", "Palatino Linotype", serif; background: var(--paper);
  color: var(--ink); }
body { margin: 0; }
main { max-width: 64rem; margin: 0 auto; padding: 1.6rem 1.25rem 3rem; }
h1 { font-size: 1.9rem; line-height: 1.2; font-weight: 600; }
p { max-width: 44rem; }
a { color: var(--green); text-underline-offset: .15em; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .95rem; }
th, td { text-align: left; padding: .5rem .75rem; border-bottom: 1px solid var(--line); vertical-align: top; }
th { color: var(--soft); font-weight: 500; }
.n { text-align: right; font-variant-numeric: tabular-nums; } small { color: var(--soft); white-space: nowrap; }
.fresh { color: var(--green); } .stale { color: var(--amber); } .lost { color: var(--red); }
"""


def settings_text(**values: Any) -> str:
    """The text of a new ``registry.toml``."""
    return TEMPLATE.format(
        name=values["name"],
        host=values["host"],
        port=values["port"],
        insecure="true" if values["insecure"] else "false",
    )
