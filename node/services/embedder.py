"""Vectors of pictures that somebody sends: made by a worker behind walls, from memory; the picture is dropped.

Invariants:
- A picture never touches the disk: it is an anonymous file in memory, whose descriptor the worker gets, and which is
  gone when the answer is there.
- The worker is like those of the engine (``runners.workers``): no network, bounded memory, its answer checked by the
  contract. It is started at the first picture and replaced when it ends.
- One picture at a time; few may wait.

It leaves out: what is done with the vector (``node.services.similar``).
"""

import asyncio
import contextlib
import os
from collections.abc import Iterator
from typing import Final, Self

from linkeddata.outputs.embed import read_vector
from runners.catalogue import Entry
from runners.engine import make_pipeline_manifest
from runners.errors import PipelineUnavailable, UnitFailed, WorkerDied
from runners.workers import Worker, WorkerSettings

MOST_WAITING: Final = 8
"""Pictures that wait or are at work; each is held in memory."""


class EmbedderBusy(Exception):
    """Too many pictures wait already."""


class Embedder:
    """One worker for pictures of visitors; used by the event loop only."""

    def __init__(self, entry: Entry, settings: WorkerSettings) -> None:
        self._entry = entry
        self._settings = settings
        self._worker: Worker | None = None
        self._turn = asyncio.Lock()
        self._waiting = 0

    @contextlib.contextmanager
    def place(self) -> Iterator[None]:
        """A place in the line, to be taken before a picture is received.

        Raises:
            EmbedderBusy: there is none.
        """
        if self._waiting >= MOST_WAITING:
            raise EmbedderBusy
        self._waiting += 1
        try:
            yield
        finally:
            self._waiting -= 1

    async def vector_of(self, picture: bytes) -> tuple[int, ...]:
        """1280 values, -127 to 127 (``linkeddata.outputs.embed``).

        Raises:
            ImageRefused: it cannot be decoded, or is beyond the limits.
            PipelineUnavailable: no worker can be started here.
            UnitFailed, WorkerDied: it did not work this time.
        """
        async with self._turn:
            worker = await self._ready()
            with _InMemory(picture) as image:
                done = await worker.run(image, {})
        return read_vector(str(done.body["vector"]))

    async def close(self) -> None:
        """Ends the worker."""
        if self._worker is not None:
            await self._worker.stop()
            self._worker = None

    async def _ready(self) -> Worker:
        if self._worker is None or self._worker.pid is None:
            manifest = await asyncio.to_thread(make_pipeline_manifest, self._entry)
            worker = Worker(self._entry, manifest, self._settings)
            ready = await worker.start()
            if not ready.is_isolated:
                await worker.stop()
                raise PipelineUnavailable("the workers of this node cannot be isolated, so it takes no pictures")
            self._worker = worker
        return self._worker


class _InMemory:
    """A picture as an open file without a name."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def __enter__(self) -> Self:
        self.fd = os.memfd_create("picture", os.MFD_CLOEXEC)
        view = memoryview(self._data)
        while view:
            view = view[os.write(self.fd, view) :]
        os.lseek(self.fd, 0, os.SEEK_SET)
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.fd)

    def check_unchanged(self) -> None:
        """Nobody else has it."""


__all__ = ["Embedder", "EmbedderBusy", "UnitFailed", "WorkerDied"]
