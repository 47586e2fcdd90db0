"""The ``quality`` job through journal, workers and durable results, against a plain loop in two processes; one run."""

import asyncio
import concurrent.futures
import contextlib
import io
import multiprocessing
import random
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.measure import repeat, show
from cas.ids import ContentId
from cas.store import BlobStore
from linkeddata.pipeline import WorkUnit
from node.demo import drawing
from node.storage.db import Database
from node.storage.journal import SqliteJournal
from runners.catalogue import Catalogue
from runners.decode import Limits, decode_upright
from runners.engine import Engine, EngineHooks, EngineSettings
from runners.pipelines.quality import Quality
from runners.workers import WorkerSettings

IMAGES, TIMES = 120, 3
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def one(path: str) -> dict:  # type: ignore[type-arg]
    data = Path(path).read_bytes()
    return Quality().run(decode_upright(io.BytesIO(data), len(data), Limits()), {}, {})


def load() -> None:
    Quality().load()
    one_image = drawing.paper(64, 64, random.Random(1))
    assert one_image.size == (64, 64)


async def through_engine(root: Path, ids: list[ContentId], store: BlobStore, number: int) -> float:
    database = Database.open(root / f"n{number}.sqlite")
    journal, left, done = SqliteJournal(database), len(ids), asyncio.Event()

    async def gate(unit: WorkUnit) -> str | None:
        return None

    async def finished(key: str) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            done.set()

    engine = Engine(
        journal, Catalogue.of(("quality",)), EngineSettings(workers=2, batch=8, worker=WorkerSettings()),
        EngineHooks(
            open_image=lambda image: store.open_blob(ContentId.from_hex(image)), gate=gate, on_finished=finished,
            clock=lambda: datetime.now(UTC),
        ),
        boot="bench",
    )  # fmt: skip
    await engine.start()
    offer = engine.offers[0]
    warm = asyncio.create_task(engine.run())
    units = [
        WorkUnit(
            output="quality/1", pipeline=offer.manifest.digest, environment=offer.environment.digest, image=cid.hex
        )
        for cid in ids
    ]
    started = time.perf_counter()
    await journal.enqueue(list(enumerate(units)), now=NOW)
    engine.wake()
    await done.wait()
    spent = time.perf_counter() - started
    warm.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await warm
    await engine.aclose()
    database.close()
    return spent


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="bench-quality-") as name:
        root = Path(name)
        rng, paths = random.Random(1), []
        for number in range(IMAGES):
            path = root / f"{number}.jpg"
            drawing.paper(2000, 1500, rng).save(path, quality=90)
            paths.append(str(path))
        store = BlobStore.open(root / "blobs")
        ids = [store.put_file(Path(path), now=NOW).id for path in paths]
        context = multiprocessing.get_context("spawn")
        with concurrent.futures.ProcessPoolExecutor(2, mp_context=context, initializer=load) as pool:
            list(pool.map(one, paths[:8]))
            plain = repeat(lambda: list(pool.map(one, paths, chunksize=4)), times=TIMES)
            control = repeat(lambda: list(pool.map(one, paths, chunksize=4)), times=TIMES)
        ours = [asyncio.run(through_engine(root, ids, store, number)) for number in range(TIMES)]
        show(
            f"quality of {IMAGES} images of 3 megapixels, two processes each (ours: second worker starts within the time)",
            [
                ("plain loop", plain, "s"),
                ("the same again (control)", control, "s"),
                ("job: journal, walls, durable", ours, "s"),
            ],
            base="plain loop",
        )
        store.close()


if __name__ == "__main__":
    main()
