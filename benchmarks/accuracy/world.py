"""The real images and what the pipelines say about them; the parts of a report.

Every image goes through a real worker process: decoder, walls and output contract included. A pipeline that takes the
results of others (``needs``) gets them from this world, which runs each pipeline once.

``Section`` is what a module of this package returns from ``section(world)``: rows for the table, notes, and pictures for
the gallery (regions drawn over the image).
"""

import asyncio
import csv
import hashlib
import json
import os
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from linkeddata.outputs import STEPS, Output, Region, parse_output
from linkeddata.pipeline import PipelineManifest
from runners.catalogue import Catalogue
from runners.composition import complete
from runners.engine import make_pipeline_manifest
from runners.errors import ImageRefused, RunnerError
from runners.workers import Worker, WorkerSettings

WORKERS = 2
COLLECTIONS = ("herbarium", "insects", "zoology")
NAMES = {contract: name for name, contract in STEPS.items()}
TRUTH = Path(__file__).parents[1] / "truth"
"""Our own truth tables, keyed by SHA-256 of the image: numbers and classes, no pictures."""


@dataclass(frozen=True, kw_only=True)
class Image:
    """One real image."""

    collection: str
    path: Path
    sha256: str

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def group(self) -> str:
        """The source set: images of one set resemble each other."""
        return self.path.name.partition("__")[0]


@dataclass(frozen=True, kw_only=True)
class Result:
    """What came of one image: a body, or the reason why there is none."""

    body: dict[str, Any] | None
    output: Output | None
    reason: str = ""
    seconds: float = 0.0
    """Of the processor."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table."""

    what: str
    reached: str
    must: str = ""
    is_met: bool | None = None
    """None: nothing is asked of it."""


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One picture of the gallery: regions over an image."""

    image: Image
    caption: str
    regions: Sequence[Region] = ()
    is_good: bool | None = None


@dataclass(kw_only=True)
class Section:
    """What is said about one pipeline."""

    pipeline: str
    rows: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)


class File:
    """An open file as a worker takes it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> Self:
        self.fd = os.open(self._path, os.O_RDONLY)
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.fd)


class World:
    """The images and the results; every pipeline runs once over all of them."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self._results: dict[str, dict[str, Result]] = {}

    @cached_property
    def images(self) -> list[Image]:
        return [
            Image(collection=name, path=path, sha256=hashlib.sha256(path.read_bytes()).hexdigest())
            for name in COLLECTIONS
            for path in sorted((self.data / name / "images").iterdir())
        ]

    def truth(self, name: str) -> list[dict[str, str]]:
        """A table that came with the images: ``barcodes``, ``labels``, ``rulers``, ``charts``."""
        return table(self.data / "truth" / f"{name}.tsv")

    def own_truth(self, name: str) -> list[dict[str, str]]:
        """One of our own tables."""
        return table(TRUTH / f"{name}.tsv")

    def results(self, pipeline: str) -> dict[str, Result]:
        """By file name."""
        if pipeline not in self._results:
            manifest = self._manifest(pipeline)
            upstream = {contract: self.results(NAMES[contract]) for contract in manifest.needs}
            self._results[pipeline] = asyncio.run(self._run(pipeline, manifest, upstream))
        return self._results[pipeline]

    def timing(self, pipeline: str) -> str:
        """How long one image took, in words."""
        seconds = [result.seconds for result in self.results(pipeline).values() if result.body is not None]
        if not seconds:
            return "no image was read"
        return f"median {statistics.median(seconds):.2f} s, longest {max(seconds):.2f} s of the processor per image"

    def _manifest(self, pipeline: str) -> PipelineManifest:
        """Completed with the digests of what it takes the results of."""
        known, left = dict[str, PipelineManifest](), [pipeline]
        while left:
            name = left.pop()
            if name not in known:
                [entry] = Catalogue.of((name,)).entries
                known[name] = make_pipeline_manifest(entry)
                left += [NAMES[contract] for contract in known[name].needs]
        return complete(pipeline, known)

    async def _run(
        self, pipeline: str, manifest: PipelineManifest, upstream: Mapping[str, Mapping[str, Result]]
    ) -> dict[str, Result]:
        [entry] = Catalogue.of((pipeline,)).entries
        waiting = sorted(self.images, key=lambda image: -image.path.stat().st_size)
        results: dict[str, Result] = {}

        async def work() -> None:
            worker = Worker(entry, manifest, WorkerSettings())
            await worker.start()
            try:
                while waiting:
                    image = waiting.pop(0)
                    with File(image.path) as file:
                        results[image.name] = await one(worker, file, image.name)
            finally:
                await worker.stop()

        async def one(worker: Worker, file: File, name: str) -> Result:
            taken = {contract: results[name] for contract, results in upstream.items()}
            for contract, result in taken.items():
                if result.body is None:
                    return Result(body=None, output=None, reason=f"{contract}: {result.reason}")
            bodies = {contract: json.dumps(result.body).encode() for contract, result in taken.items()}
            try:
                done = await worker.run(file, {}, bodies)
            except ImageRefused as error:
                return Result(body=None, output=None, reason=str(error))
            except RunnerError as error:
                return Result(body=None, output=None, reason=f"failed: {error}")
            return Result(body=done.body, output=parse_output(manifest.output, done.body), seconds=done.seconds)

        await asyncio.gather(*(work() for _ in range(WORKERS)))
        return results


def table(path: Path) -> list[dict[str, str]]:
    """A TSV without quoting."""
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE))


def found_data() -> Path | None:
    """Where the real images are; None: nowhere."""
    data = Path(os.environ.get("VASCULUM_SHARED", Path(__file__).parents[3] / "shared")) / "data"
    return data if data.is_dir() else None


def share(part: int, of: int) -> str:
    """``13 of 14``."""
    return f"{part} of {of}"


def by_sha(rows: Sequence[Mapping[str, str]]) -> dict[str, Mapping[str, str]]:
    """Rows of one of our own tables by image."""
    return {row["sha256"]: row for row in rows}
