"""What looks alike: the node's files of vectors, kept in step with the results of ``embed``, and asked.

Owns ``data/vectors/<pipeline>.vec`` (``node.storage.vectors``) for the embedding pipelines that this program comes
with: one file of whole images (``embed``), one of their regions (``embed-objects``), each a ``Similarity``.

Invariants:
- The database is the authority: a vector is there because a unit of its contract is done, and goes with it. What a kill
  left undone, or done to some regions of an image only, is made up by ``follow``, at every start and every few seconds;
  ``rebuild`` makes the file anew.
- A vector, of a region too, has the access class of its image: whoever may not see an image's pixels gets neither the
  image nor its score, and cannot learn whether there is one. The classes are asked at the moment of the question, in
  the same view of the database as the selection.
- The vectors of a withdrawn image are overwritten by the withdrawal itself (``wipe_vectors``).

It leaves out: HTTP (``node.web.similar_api``), making vectors of uploads (``node.services.embedder``).
"""

import logging
import sqlite3
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from cas.ids import ContentId
from linkeddata.errors import DocumentError
from linkeddata.json_strict import parse_json
from linkeddata.outputs import Output, parse_output
from linkeddata.outputs.embed import DIMENSIONS, Embedding
from linkeddata.outputs.embed_objects import EmbeddedObjects
from linkeddata.outputs.objects import KINDS
from linkeddata.selection import All, Selection
from node.access import Door, Viewer, decide
from node.config import Settings
from node.services.cluster import Neighbour
from node.storage.db import Database
from node.storage.facts import bytes_facts, record_facts
from node.storage.search import check_viewer
from node.storage.search_index import HAS_IMAGE
from node.storage.search_sql import Query, where
from node.storage.vectors import WHOLE, Box, Flags, Floats, Found, VectorFile, VectorRow, VectorsReplaced, rebuild
from runners.catalogue import Catalogue, Entry
from runners.engine import make_pipeline_manifest, read_manifests
from runners.errors import PipelineUnavailable

IMAGES: Final = "embed/1"
REGIONS: Final = "embed-objects/1"
BATCH: Final = 500
"""Vectors added at a time: 1.3 MB, and one wait for the disk."""
FIRST_LOOK: Final = 200
"""Nearest rows whose access is asked first; eight times as many follow while too few may be seen."""
log = logging.getLogger("vasculum.similar")


@dataclass(frozen=True, slots=True, kw_only=True)
class Near:
    """One image that looks alike, as this viewer may see it."""

    medium: str
    """IRI."""
    specimens: tuple[str, ...]
    """IRIs of those that the viewer may see."""
    image: str
    """SHA-256, hex."""
    box: Box
    """Of a region; zeros: the whole image."""
    kind: str
    """Class of a region (``linkeddata.outputs.objects.KINDS``); empty for a whole image."""
    score: float
    """Cosine, -1 to 1."""


class Similarity:
    """The vectors of one node: of its images, or of regions of these."""

    def __init__(self, database: Database, settings: Settings, pipeline: str, *, contract: str = IMAGES) -> None:
        self._database = database
        self._contract = contract
        self.pipeline = pipeline
        """Digest of the embedding pipeline whose vectors these are."""
        self.path = vectors_path(settings, pipeline)
        self._guard = threading.Lock()
        self._file: VectorFile | None = None
        self._settled: tuple[int, ...] = ()
        """Of the results, when they were last compared with the rows."""
        self._empty: set[str] = set()
        """Images whose result gives no row: no object was found."""

    def close(self) -> None:
        """Closes the file."""
        with self._guard:
            self._drop()

    # ------------------------------------------------------------------ keeping step
    def follow(self) -> int:
        """Adds vectors of results that are not in the file, wipes those whose result is gone; returns how many.

        Blocking.
        """
        with self._guard:
            try:
                return self._follow()
            except VectorsReplaced:
                self._drop()
                return self._follow()

    def is_behind(self) -> bool:
        """Whether ``follow`` may have something to do: a sum over the results, not a comparison. Blocking."""
        with self._guard, self._database.reader(limit_s=None) as conn:
            found = tuple(conn.execute(_DONE_SUM[self._contract], (self.pipeline,)).fetchone())
            return (found != (0, 0) or self.path.exists()) and found != self._settled

    def _follow(self) -> int:
        with self._database.reader(limit_s=None) as conn:
            settled = tuple(conn.execute(_DONE_SUM[self._contract], (self.pipeline,)).fetchone())
            done = {row["image"] for row in conn.execute(_DONE_IMAGES[self._contract], (self.pipeline,))}
        if not done and not self.path.exists():
            return 0
        file = self._opened()
        known = file.images()
        gone = known.keys() - done
        for image in gone:
            file.wipe(image)
        self._empty &= done
        missing = sorted(image for image in done - self._empty if not known.get(image))
        for start in range(0, len(missing), BATCH):
            batch = missing[start : start + BATCH]
            with self._database.reader(limit_s=None) as conn:
                rows = list(self._vectors_of(conn, batch))
            file.add(rows)
            found = {row.image for row in rows}
            self._empty |= set(batch) - found
            with self._database.reader(limit_s=None) as conn:  # a withdrawal may have come between
                for image in sorted(found):
                    if not _is_done(conn, self._contract, self.pipeline, image):
                        file.wipe(image)
        self._settled = settled
        return len(missing) + len(gone)

    def rebuild(self) -> int:
        """Makes the file anew from the results; returns how many vectors. Blocking."""
        with self._guard:
            self._drop()
            with self._database.reader(limit_s=None) as conn:
                images = [row["image"] for row in conn.execute(_DONE_IMAGES[self._contract], (self.pipeline,))]

            def rows() -> Iterator[VectorRow]:
                for start in range(0, len(images), BATCH):
                    with self._database.reader(limit_s=None) as conn:
                        yield from self._vectors_of(conn, images[start : start + BATCH])

            if not images and not self.path.exists():
                return 0
            rebuild(self.path, rows(), dimensions=DIMENSIONS, pipeline=self.pipeline)
            self._follow()
            return self._opened().live

    def _vectors_of(self, conn: sqlite3.Connection, images: list[str]) -> Iterator[VectorRow]:
        for image in images:
            row = conn.execute(_DONE, (image, self._contract, self.pipeline)).fetchone()
            if row is None:
                continue
            try:
                yield from _rows_of(image, parse_output(self._contract, parse_json(bytes(row["body"]))))
            except DocumentError as error:
                log.error("the vectors of %s cannot be read: %s", image, error)  # noqa: TRY400 - the reason is the message

    # ------------------------------------------------------------------ asking
    def vector_of(self, image: str, box: Box = WHOLE) -> Floats | None:
        """The vector of a stored image (SHA-256, hex), or of a region of it.

        Blocking; asks nobody whether it may be seen.
        """
        with self._guard:
            file = self._readable()
            if file is None:
                return None
            for row in file.rows_of(image):
                if file.record(row) == (image, box):
                    return file.vector(row)
        return None

    def ask(
        self, conn: sqlite3.Connection, viewer: Viewer, vector: Floats, *, limit: int,
        selection: Selection | None = None, but: tuple[str, Box] | None = None,
    ) -> list[Near]:  # fmt: skip
        """The images (or regions) that look most alike among those that this viewer may see, nearest first. Blocking.

        Args:
            conn: a view of the database.
            viewer: who asks.
            vector: (1280,).
            limit: how many at most.
            selection: only images of these specimens.
            but: an image (SHA-256, hex) and box to leave out.

        Raises:
            SelectionError: the selection asks what only staff may ask.
        """
        with self._guard:
            file = self._readable()
            if file is None:
                return []
            among, allowed = self._chosen(conn, file, viewer, selection)
            visible: dict[str, tuple[Near, ...]] = {}
            count = FIRST_LOOK
            while True:
                found = file.search(vector, count, among=among)
                answer: list[Near] = []
                for item in found:
                    if (item.image, item.box) == but:
                        continue
                    if allowed is not None and item.image not in allowed:
                        continue
                    if item.image not in visible:
                        visible[item.image] = _shown(conn, viewer, item)
                    for near in visible[item.image]:
                        answer.append(replace(near, box=item.box, kind=_kind(item.kind), score=item.score))
                    if len(answer) >= limit:
                        return answer[:limit]
                if len(found) < count:
                    return answer
                count *= 8

    def _chosen(
        self, conn: sqlite3.Connection, file: VectorFile, viewer: Viewer, selection: Selection | None
    ) -> tuple[Flags | None, frozenset[str] | None]:
        if selection is None or selection.tree == All():
            return None, None
        images = selected_images(conn, selection, viewer)
        return file.mask_of(sorted(images)), images

    def neighbours(
        self, conn: sqlite3.Connection, viewer: Viewer, selection: Selection | None, *, count: int,
        progress: Callable[[int, int], None],
    ) -> tuple[dict[str, list[Neighbour]], dict[str, dict[str, Any]]]:  # fmt: skip
        """The nearest others of every image (or region) that this viewer may see. Blocking, and long.

        Returns:
            By name (image id and box) the others; by name the medium, image, box and class.
        """
        with self._guard:
            file = self._readable()
            if file is None:
                return {}, {}
            among, allowed = self._chosen(conn, file, viewer, selection)
            mask = np.zeros(file.rows, np.bool_)
            media: dict[str, dict[str, Any]] = {}
            visible: dict[str, tuple[Near, ...]] = {}
            for row in range(file.rows):
                record = file.record(row)
                if record is None:
                    continue
                image, box = record
                if (among is not None and not among[row]) or (allowed is not None and image not in allowed):
                    continue
                if image not in visible:
                    visible[image] = _shown(conn, viewer, Found(row=row, image=image, box=box, score=1.0))
                if visible[image]:
                    mask[row] = True
                    media[_name(image, box)] = {
                        "medium": visible[image][0].medium, "image": image,
                        "box": list(box) if box != WHOLE else None, "class": _kind(file.kind(row)) or None,
                    }  # fmt: skip
            near: dict[str, list[Neighbour]] = {}
            rows = np.flatnonzero(mask).tolist()
            for done, row in enumerate(rows, start=1):
                record, vector = file.record(row), file.vector(row)
                if record is not None and vector is not None:
                    near[_name(*record)] = [
                        Neighbour(name=_name(item.image, item.box), score=item.score)
                        for item in file.search(vector, count + 1, among=mask)
                        if item.row != row
                    ][:count]
                progress(done, len(rows))
            return near, media

    # ------------------------------------------------------------------ the file
    def _opened(self) -> VectorFile:
        if self._file is not None and self._file.is_replaced():
            self._drop()
        if self._file is None:
            self._file = VectorFile.open(self.path, dimensions=DIMENSIONS, pipeline=self.pipeline)
        self._file.refresh()
        return self._file

    def _readable(self) -> VectorFile | None:
        return self._opened() if self._file is not None or self.path.exists() else None

    def _drop(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def embedding_entry(catalogue: Catalogue) -> Entry:
    """The pipeline of a node that embeds; the one that comes with this program where its settings name none."""
    named = [entry for entry in catalogue.entries if entry.name == "embed"]
    return named[0] if named else Catalogue.of(("embed",)).entries[0]


def embedding_digest(catalogue: Catalogue) -> str:
    """Its digest."""
    return make_pipeline_manifest(embedding_entry(catalogue)).digest


def regions_digest(catalogue: Catalogue) -> str:
    """The same of the pipeline that embeds objects, with those that it takes."""
    for known in (catalogue, Catalogue.of(("objects", "embed-objects"))):
        found, _ = read_manifests(known)
        if "embed-objects" in found:
            return found["embed-objects"].digest
    raise PipelineUnavailable("embed-objects cannot be loaded")


def vectors_folder(settings: Settings) -> Path:
    """Where files of vectors lie, made again from results by ``vasculum reindex``."""
    return settings.folder / "data" / "vectors"


def vectors_path(settings: Settings, pipeline: str) -> Path:
    """Where the vectors of a pipeline lie."""
    return vectors_folder(settings) / f"{pipeline.removeprefix('sha256:')[:32]}.vec"


def wipe_vectors(settings: Settings, image: str) -> int:
    """Overwrites an image's rows in every file of vectors of a node, of earlier pipelines too; returns how many rows.

    For a withdrawal, beside a running server.
    """
    count = 0
    for path in sorted(vectors_folder(settings).glob("*.vec")):
        head = VectorFile.pipeline_of(path)
        file = VectorFile.open(path, dimensions=DIMENSIONS, pipeline=head)
        try:
            count += file.wipe(image)
        finally:
            file.close()
    return count


def selected_images(conn: sqlite3.Connection, selection: Selection, viewer: Viewer) -> frozenset[str]:
    """Images (SHA-256, hex) of the specimens that fit.

    Raises:
        SelectionError: it asks what only staff may ask.
    """
    check_viewer(selection, viewer)
    query = Query()
    text = where(selection, viewer, query)
    rows = conn.execute(
        f"""SELECT DISTINCT m.image FROM specimen_facet f
            JOIN medium_specimen ms ON ms.specimen = f.iri JOIN medium m ON m.iri = ms.medium
            WHERE {text} AND m.state = 'active' AND m.image IS NOT NULL AND {HAS_IMAGE}""",  # noqa: S608 - values are bound
        query.params,
    )
    return frozenset(row["image"] for row in rows)


def _name(image: str, box: Box) -> str:
    return image if box == WHOLE else f"{image} {' '.join(str(side) for side in box)}"


_DONE_IMAGES: Final = {
    contract: f"SELECT DISTINCT image FROM unit WHERE output = '{contract}' AND state = 'done' AND pipeline = ?"  # noqa: S608 - constants
    for contract in (IMAGES, REGIONS)
}
_DONE_SUM: Final = {
    contract: f"""SELECT count(*), coalesce(sum(unicode(image) + 17 * unicode(substr(image, 2, 1))
    + 289 * unicode(substr(image, 3, 1)) + 4913 * unicode(substr(image, 4, 1))), 0)
  FROM unit WHERE output = '{contract}' AND state = 'done' AND pipeline = ?"""  # noqa: S608 - constants
    for contract in (IMAGES, REGIONS)
}
"""Along the indexes ``unit_embedded`` and ``unit_embedded_objects``: by the contract as a constant in the text."""
_DONE: Final = """SELECT body FROM unit WHERE image = ? AND output = ? AND pipeline = ? AND state = 'done'
  ORDER BY finished, work_key LIMIT 1"""


def _is_done(conn: sqlite3.Connection, contract: str, pipeline: str, image: str) -> bool:
    return conn.execute(_DONE, (image, contract, pipeline)).fetchone() is not None


def _rows_of(image: str, output: Output) -> Iterator[VectorRow]:
    """The rows of a result."""
    if isinstance(output, Embedding):
        yield VectorRow(image=image, vector=np.array(output.values(), dtype=np.float32))
    if isinstance(output, EmbeddedObjects):
        for item in output.objects:
            yield VectorRow(
                image=image, vector=np.array(item.values(), dtype=np.float32), box=item.box,
                kind=KINDS.index(item.kind) + 1, siblings=len(output.objects),
            )  # fmt: skip


def _kind(number: int) -> str:
    """The class behind the number in a file of vectors."""
    return KINDS[number - 1] if 0 < number <= len(KINDS) else ""


def _shown(conn: sqlite3.Connection, viewer: Viewer, found: Found) -> tuple[Near, ...]:
    """The media of an image that this viewer may see, none when its pixels are not for them."""
    if not decide(viewer, Door.BYTES, bytes_facts(conn, ContentId.from_hex(found.image))).allowed:
        return ()
    rows = conn.execute(
        "SELECT iri FROM medium WHERE image = ? AND state = 'active' ORDER BY iri LIMIT 1", (found.image,)
    ).fetchall()
    return tuple(
        Near(
            medium=row["iri"], image=found.image, box=found.box, kind=_kind(found.kind), score=found.score,
            specimens=tuple(
                item["specimen"]
                for item in conn.execute(
                    "SELECT specimen FROM medium_specimen WHERE medium = ? ORDER BY ordinal, specimen", (row["iri"],)
                )
                if decide(viewer, Door.RECORD, record_facts(conn, item["specimen"])).allowed
            ),
        )
        for row in rows
        if decide(viewer, Door.RECORD, record_facts(conn, row["iri"])).allowed
    )  # fmt: skip
