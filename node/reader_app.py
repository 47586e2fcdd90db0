"""The application of an extra process: answers visitors from the databases, and writes nothing.

Invariants:
- Databases are opened so that SQLite refuses to write; the signing key is not read.
- What it answers itself is a list of routes (``_OWN``); a route that is new is the core's until it is written there.
- Bytes that were fetched, or may have to be, are the core's: their use is written down (``AskCore``).
- Archived bytes are the core's, which has them brought back; with tiers, so is the first use of bytes in a day.
- Of pictures it sends whole tiles of pyramids that are there; making, cutting and removing is the core's, and so is the
  first request of an hour for each picture, so that the core knows which pyramids are looked at.
- Staff and researchers are the core's: this process knows nobody, so it shows what anybody may see.

It leaves out: passing the rest on (``node.web.private_channel``), starting and ending (``node.reader_main``).
"""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Self

from aiohttp import web

from cas.ids import ContentId
from cas.store import BlobStore
from cas.used import MOST_SEEN
from node.config import Settings
from node.services.care import Care
from node.services.derived import TOUCH_S, DerivedPictures
from node.services.images import Picture
from node.storage.db import Database
from node.web import blobs, iiif, listing_api, pages, records_api, search_api
from node.web.at_once import AtOnce
from node.web.boundary import boundary_middleware, is_our_host
from node.web.iiif_shown import WarmPictures
from node.web.keys import BLOBS, CARE, CLOCK, DATABASE, ENVIRONMENT, NEEDS, REMOTE, SETTINGS, TIERS
from node.web.limits import LIMITS, VisitorLimits, limits_middleware, sending_begins
from node.web.listen import AT_ONCE
from node.web.private_channel import FORWARDER, AskCore, Forwarder, forwarding_middleware
from node.web.problem import problem_middleware
from node.web.warm import WarmPlaces
from runners.pyramid_file import PyramidDamaged, PyramidFile

_OWN: Final = frozenset(
    (
        blobs.content, blobs.alias, blobs.alias_ni, records_api.resolve, records_api.specimen, records_api.medium,
        records_api.media_of_bytes, records_api.annotation, search_api.search_page, listing_api.changes, pages.home,
        pages.static, pages.policy, pages.robots, pages.healthz, iiif.image_api,
    )
)  # fmt: skip
"""Handlers that only read the databases and files. Previews start processes and keep files: the core's."""


class ToldCare(Care):
    """Remembers what visitors were sent, for the core, which paces scrub and jobs by it."""

    def __init__(
        self, store: BlobStore, settings: Settings, *, clock: Callable[[], datetime], monotonic: Callable[[], float]
    ) -> None:
        super().__init__(store, settings, clock=clock, monotonic=monotonic)
        self._told: Counter[str] = Counter()

    def served(self, volume: str, count: int) -> None:
        """A visitor was sent bytes of this volume."""
        self._told[volume] += count

    def take_told(self) -> dict[str, int]:
        """What was sent since the last time."""
        found, self._told = dict(self._told), Counter()
        return found


class _CoreKnows:
    """Stands where the core has what lies elsewhere: uses and needs are written down, so the core answers."""

    def __init__(self, store: BlobStore) -> None:
        self._index = store.index

    @property
    def bytes(self) -> Self:
        """Where ``RemoteMedia`` has its table."""
        return self

    def note_use(self, cid: ContentId, *, now: datetime) -> bool:  # noqa: ARG002 - as ``cas.remote`` has it
        """Only of bytes that were never elsewhere."""
        if self._index.select("SELECT 1 FROM remote WHERE sha = ?", cid.digest):
            raise AskCore
        return False

    def of_bytes(self, cid: ContentId, *, is_staff: bool) -> None:  # noqa: ARG002 - as ``RemoteNeeds`` has it
        """What is not here may have to be fetched."""
        raise AskCore


class _CoreCounts:
    """Stands where the core notes on which day bytes were used: it answers the first request of a day for them."""

    def __init__(self, settings: Settings, clock: Callable[[], datetime]) -> None:
        self._is_needed = bool(settings.tiers)
        self._clock = clock
        self._day = ""
        self._known: set[bytes] = set()

    def saw(self, cid: ContentId) -> None:
        """As ``TierWork`` has it."""
        if not self._is_needed:
            return
        day = self._clock().date().isoformat()
        if day != self._day or len(self._known) > MOST_SEEN:
            self._day, self._known = day, set()
        if cid.digest not in self._known:
            self._known.add(cid.digest)
            raise AskCore


class _CoreMakesPictures:
    """Stands where the core makes pyramids and cuts regions out of them: whole tiles of those that are there."""

    def __init__(self, settings: Settings, store: BlobStore, monotonic: Callable[[], float]) -> None:
        self.derived = DerivedPictures(settings, store, may_write=False)
        self._monotonic = monotonic
        self._asked: dict[str, float] = {}

    async def pyramid(self, picture: Picture) -> PyramidFile:
        """As ``ImageService`` has it."""
        now = self._monotonic()
        if now - self._asked.get(picture.cid.hex, float("-inf")) > TOUCH_S:
            if len(self._asked) > MOST_SEEN:
                self._asked.clear()
            self._asked[picture.cid.hex] = now
            raise AskCore
        found = await asyncio.to_thread(self.derived.pyramid, picture.cid, width=picture.width, height=picture.height)
        if found is None:
            raise AskCore
        return found

    async def tile(self, picture: Picture, place: tuple[int, int, int]) -> bytes | None:
        """As ``ImageService`` has it."""
        pyramid = await self.pyramid(picture)
        if not pyramid.has_jpeg_tiles:
            raise AskCore
        try:
            return await asyncio.to_thread(pyramid.tile, *place)
        except (PyramidDamaged, OSError) as error:
            raise AskCore from error

    async def cut(self, *_: object, **__: object) -> bytes:
        """Only the core has the processes for it."""
        raise AskCore

    async def thumbnail(self, picture: Picture) -> bytes:  # noqa: ARG002 - as ``ImageService`` has it
        """The same."""
        raise AskCore


def build_reader_application(
    settings: Settings, database: Database, store: BlobStore, *, clock: Callable[[], datetime], core: Path
) -> web.Application:
    """The application; ``core`` is the socket of the process that does everything else."""
    app = web.Application(
        middlewares=[boundary_middleware, problem_middleware, forwarding_middleware, limits_middleware],
        client_max_size=settings.server.max_body_bytes,
    )
    app.on_response_prepare.append(pages.set_headers)
    app.on_response_prepare.append(sending_begins)
    app[LIMITS] = VisitorLimits(settings.limits, settings.server.trusted_proxies)
    app[SETTINGS] = settings
    app[DATABASE] = database
    app[BLOBS] = store
    app[CLOCK] = clock
    app[ENVIRONMENT] = pages.make_environment()
    app[blobs.WARM] = warm = WarmPlaces(database, store)
    app[CARE] = care = ToldCare(store, settings, clock=clock, monotonic=time.monotonic)
    app[AT_ONCE] = AtOnce(
        warm,
        is_our_host=lambda host: is_our_host(host, settings.origin),
        headers_of=blobs.public_headers,
        take=app[LIMITS].take_at_once,
        served=care.served,
        accel=settings.server.accel,
        is_front=app[LIMITS].is_front,
    )
    elsewhere: Any = _CoreKnows(store)
    app[REMOTE] = app[NEEDS] = elsewhere
    uses: Any = _CoreCounts(settings, clock)
    app[TIERS] = uses
    pictures: Any = _CoreMakesPictures(settings, store, time.monotonic)
    app[iiif.IMAGES] = pictures
    app[iiif.WARM_PICTURES] = WarmPictures(database, store.closings)
    app[FORWARDER] = Forwarder(core)
    for module in (pages, blobs, iiif, records_api, listing_api, search_api):
        app.add_routes([route for route in module.routes() if route.handler in _OWN])
    app.on_startup.append(search_api.begin_to_load)
    app.cleanup_ctx.append(_run_forwarder)
    return app


async def _run_forwarder(app: web.Application) -> AsyncIterator[None]:
    await app[FORWARDER].start()
    yield
    await app[FORWARDER].close()
