"""An engine over a blob store and a journal in memory, with real workers: what tests of engine and pipelines share."""

import asyncio
import contextlib
import io
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime

import numpy as np
from conftest import NOW
from PIL import Image
from pipelines_for_tests import entry

from cas.ids import ContentId
from cas.store import BlobStore
from linkeddata.pipeline import WorkUnit
from runners.catalogue import Catalogue
from runners.decode import Limits
from runners.engine import Engine, EngineHooks, EngineSettings
from runners.journal import MemoryJournal
from runners.workers import WorkerSettings


def plain(level: int) -> bytes:
    """An image whose first pixel is dark (0) or light (200)."""
    out = io.BytesIO()
    Image.fromarray(np.full((8, 8, 3), level, dtype=np.uint8)).save(out, "PNG")
    return out.getvalue()


class Bench:
    """An engine over a blob store and a journal in memory."""

    def __init__(
        self,
        store: BlobStore,
        catalogue: Catalogue,
        *,
        timeout_s: float = 120,
        gate: Callable[[WorkUnit], str | None] = lambda unit: None,
        batch: int = 4,
        max_pixels: int = 1_000_000,
        journal: MemoryJournal | None = None,
    ) -> None:
        self.store, self.journal = store, journal or MemoryJournal()
        self.finished: asyncio.Queue[str] = asyncio.Queue()

        async def ask(unit: WorkUnit) -> str | None:
            return gate(unit)

        async def on_finished(key: str) -> None:
            self.finished.put_nowait(key)

        self.engine = Engine(
            self.journal, catalogue,
            EngineSettings(
                batch=batch, worker=WorkerSettings(unit_timeout_s=timeout_s, limits=Limits(max_pixels=max_pixels))
            ),
            EngineHooks(
                open_image=lambda image: store.open_blob(ContentId.from_hex(image)), gate=ask, on_finished=on_finished,
                clock=lambda: datetime.now(UTC),
            ),
            boot="test",
        )  # fmt: skip

    async def start(self) -> None:
        await self.engine.start()
        self.task = asyncio.create_task(self.engine.run())

    async def stop(self) -> None:
        self.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.task
        await self.engine.aclose()

    async def work(self, images: list[bytes]) -> list[WorkUnit]:
        offer = self.engine.offers[0]
        units = [
            WorkUnit(
                output=offer.manifest.output, pipeline=offer.manifest.digest, environment=offer.environment.digest,
                image=self.store.put_bytes(data, now=NOW).id.hex,
            )
            for data in images
        ]  # fmt: skip
        await self.journal.enqueue(list(enumerate(units)), now=datetime.now(UTC))
        self.engine.wake()
        return units

    async def wait(self, count: int, timeout_s: float = 300) -> None:
        async with asyncio.timeout(timeout_s):
            settled = 0
            while settled < count:
                key = await self.finished.get()
                status = self.journal.status(key)
                settled += status is not None and status.state != "queued"


@contextlib.asynccontextmanager
async def bench(store: BlobStore, *names: str, **options: object) -> AsyncIterator[Bench]:
    built_in = tuple(name for name in names if name[0].islower())
    catalogue = Catalogue.of(built_in, extra=tuple(entry(name) for name in names if name[0].isupper()))
    made = Bench(store, catalogue, **options)  # type: ignore[arg-type]
    await made.start()
    try:
        yield made
    finally:
        await made.stop()
