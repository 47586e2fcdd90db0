"""Reading the labels and codes of pictures of sensitive specimens, on this machine, so that they can be covered.

Jobs of researchers never compute on such pictures. Here the institution's own staff have the same pipelines run over
them in worker processes behind walls; what is read stays in the journal, for staff to see over the picture.

Invariants:
- A result is kept only when the pipeline does on this machine what it should, and of bytes that bear the id.
- What was read already by the same pipeline in the same environment is not read again.
- Nothing of it is published: an annotation of a sensitive picture is closed to everybody (``node.access``).

It leaves out: what is covered (``linkeddata.redaction``).
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime

from cas.errors import CasError
from cas.ids import ContentId
from linkeddata.pipeline import WorkUnit
from node.folder import NodeFolder
from node.storage.journal import is_done, keep_result
from runners.catalogue import Catalogue, Entry
from runners.decode import Limits
from runners.engine import conforms, make_pipeline_manifest
from runners.errors import PipelineUnavailable, RunnerError
from runners.workers import Worker, WorkerSettings

PIPELINES = ("label-text", "barcode")


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelsRead:
    """What became of it."""

    read: int
    known: int
    """Results that were there before."""
    problems: tuple[str, ...]


def read_labels(
    node: NodeFolder, images: Sequence[str], *, clock: Callable[[], datetime],
    catalogue: Catalogue | None = None, progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> LabelsRead:  # fmt: skip
    """Runs the pipelines over pictures (SHA-256, hex), one after the other; blocking. Safe to interrupt.

    Raises:
        PipelineUnavailable: a pipeline cannot run on this machine, or does not do what it should.
    """
    if not images:
        return LabelsRead(read=0, known=0, problems=())
    work = _Work(node, clock, catalogue or Catalogue.of(PIPELINES), progress)
    return asyncio.run(work.run(images))


@dataclass(slots=True)
class _Work:
    node: NodeFolder
    clock: Callable[[], datetime]
    catalogue: Catalogue
    progress: Callable[[int, int], None]

    async def run(self, images: Sequence[str]) -> LabelsRead:
        read = known = done = 0
        problems: list[str] = []
        total = len(images) * len(self.catalogue.entries)
        for entry in self.catalogue.entries:
            async with self._worker(entry) as (worker, environment):
                for image in images:
                    unit = WorkUnit(
                        parameters=worker.manifest.parameters,
                        output=worker.manifest.output,
                        pipeline=worker.manifest.digest,
                        environment=environment,
                        image=image,
                    )
                    with self.node.database.reader() as conn:
                        is_known = is_done(conn, unit)
                    if is_known:
                        known += 1
                    elif why := await self._read(worker, unit):
                        problems.append(f"{image}: {entry.name}: {why}")
                    else:
                        read += 1
                    done += 1
                    self.progress(done, total)
        return LabelsRead(read=read, known=known, problems=tuple(problems))

    @asynccontextmanager
    async def _worker(self, entry: Entry) -> AsyncIterator[tuple[Worker, str]]:
        settings = self.node.settings
        limits = Limits(max_pixels=settings.images.max_pixels, max_file_bytes=settings.images.max_file_bytes)
        manifest = make_pipeline_manifest(entry)
        timeout_s, memory_mib = float(settings.jobs.unit_timeout_s), settings.jobs.worker_memory_mib
        worker = Worker(entry, manifest, WorkerSettings(unit_timeout_s=timeout_s, memory_mib=memory_mib, limits=limits))
        try:
            ready = await worker.start()
            if not conforms(manifest, dict(ready.deviations)):
                raise PipelineUnavailable(f"{entry.name} does not read its reference images here as it should")
            if settings.jobs.require_isolation and not ready.is_isolated:
                raise PipelineUnavailable(f"{entry.name} cannot be walled in here ([jobs] require_isolation)")
            yield worker, ready.environment.digest
        finally:
            await worker.stop()

    async def _read(self, worker: Worker, unit: WorkUnit) -> str:
        """Why it could not be read; empty: it was."""
        if worker.pid is None:
            await worker.start()  # the last picture ended it
        try:
            with self.node.blobs.open_blob(ContentId.from_hex(unit.image)) as blob:
                result = await worker.run(blob, unit.parameters)
                blob.check_unchanged()
        except (CasError, OSError) as error:
            return f"its bytes cannot be read now: {error}"
        except RunnerError as error:
            return str(error)
        body = json.dumps(result.body, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()
        with self.node.database.transaction() as conn:
            if conn.execute("SELECT 1 FROM medium WHERE image = ?", (unit.image,)).fetchone() is None:
                return "it was withdrawn meanwhile"
            kept = keep_result(conn, unit, body, result.seconds, now=self.clock())
        return "" if kept else "a job has it in hand at the moment: try again"
