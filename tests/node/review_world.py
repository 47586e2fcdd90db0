"""A node of real ingests whose jobs are computed from canned results, so that there is something to decide on."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from conftest import NOW, ingest, jpeg, rows_of, write_archive
from federation_world import ENVIRONMENT, MANIFEST, make_spec, signed

from federation.identity import SigningKey
from linkeddata.job import JobStep
from linkeddata.pipeline import PipelineManifest
from node.access import STAFF
from node.folder import NodeFolder
from node.services.job_rules import OfferedPipeline, job_id_of
from node.services.jobs import JobService
from node.storage import reviews
from node.storage.journal import SqliteJournal
from node.storage.people import enrol
from node.storage.reviews import ReviewRow, Rule

RESEARCHER = SigningKey.from_seed(b"r" * 32)
NEWER = PipelineManifest(
    output="label-text/1", name="label-text", version="2.0.0", title="Text", description="Text", runtime="builtin",
    implementation="sha256:" + "9" * 64,
)  # fmt: skip
CODES = PipelineManifest(
    output="barcode/1", name="barcode", version="1.0.0", title="Codes", description="Codes", runtime="builtin",
    implementation="sha256:" + "8" * 64,
)  # fmt: skip
ARCHIVE_ROWS = 6


def line(
    text: str, *, score: str = "0.950", box: Sequence[int] = (4, 6, 20, 10), writing: str = "print"
) -> dict[str, Any]:
    return {"text": text, "score": score, "box": list(box), "writing": writing}


def text_result(*lines: dict[str, Any], size: tuple[int, int] = (64, 48)) -> dict[str, Any]:
    image = {"width": size[0], "height": size[1]}
    return {"image": image, "lines": list(lines), "readable": True, "doubts": []}


def code_result(*payloads: str, symbology: str = "Code128") -> dict[str, Any]:
    codes = [
        {"symbology": symbology, "payload": item, "box": [4, 6, 30, 10], "reader": "zxing-cpp"} for item in payloads
    ]
    return {"image": {"width": 64, "height": 48}, "codes": codes, "doubts": []}


@dataclass
class ReviewWorld:
    """Specimens 0 to 5 (1 is restricted), and jobs over them."""

    node: NodeFolder
    folder: Path
    jobs: JobService
    offers: list[OfferedPipeline]
    now: datetime = NOW
    images: Callable[[int], bytes] = jpeg
    rows: list[dict[str, str]] = field(default_factory=list)
    count: int = 0

    def clock(self) -> datetime:
        return self.now

    def later(self, **spent: float) -> None:
        self.now += timedelta(**spent)

    def take_in(self, rows: Sequence[dict[str, str]] | None = None) -> None:
        """Ingests the archive, as it is or with other rows."""
        self.rows = [dict(row) for row in (self.rows if rows is None else rows)]
        ingest(self.node, write_archive(self.folder, self.rows, images=self.images))

    async def run_job(
        self, results: dict[int, dict[str, Any]], *, publish: bool = True, offer: PipelineManifest = MANIFEST,
        where: str = "kingdom=Plantae",
    ) -> str:  # fmt: skip
        """A job of one pipeline; ``results`` by number of the specimen; returns its id."""
        self.count += 1
        step = JobStep(output=offer.output, digests=(offer.digest,))
        spec = make_spec(
            RESEARCHER, [self.node.settings.origin], number=self.count, match=None, where=where, steps=(step,),
            now=self.now, publish=publish,
        )  # fmt: skip
        done = await self.jobs.submit(signed(spec, RESEARCHER).to_json(), sender_kid=RESEARCHER.kid)
        assert done.status.status in ("running", "successful"), done.status
        journal = SqliteJournal(self.node.database)
        leased = await journal.lease(offer.digest, ENVIRONMENT, limit=100, now=self.now, lease_s=60, boot="test")
        empty = text_result() if offer.output == "label-text/1" else code_result()
        for item in leased:
            body = json.dumps(results.get(self.number_of(item.unit.image), empty)).encode()
            assert await journal.complete(item.unit.key, item.attempt, body, 0.01, now=self.now)
            await self.jobs.on_finished(item.unit.key)
        return job_id_of(RESEARCHER.kid, spec.id)

    async def results(self, job_id: str) -> list[dict[str, Any]]:
        """The rows that the researcher gets."""
        envelope = await self.jobs.results(job_id, STAFF)
        assert envelope is not None
        found: list[dict[str, Any]] = json.loads(envelope.payload)["rows"]
        return found

    def number_of(self, image: str) -> int:
        with self.node.database.reader() as conn:
            row = conn.execute("SELECT locator FROM medium WHERE image = ?", (image,)).fetchone()
        return int(Path(row["locator"]).stem)

    def medium(self, number: int) -> str:
        with self.node.database.reader() as conn:
            row = conn.execute("SELECT iri FROM medium WHERE locator = ?", (f"images/{number}.jpg",)).fetchone()
        return str(row["iri"])

    def specimen(self, number: int) -> str:
        with self.node.database.reader() as conn:
            return str(conn.execute("SELECT iri FROM source_row WHERE key = ?", (f"urn:x:{number}",)).fetchone()["iri"])

    def statement(self, number: int, *, pipeline: str | None = None) -> ReviewRow:
        """The newest statement about the image of a specimen."""
        with self.node.database.reader() as conn:
            rows = conn.execute(
                """SELECT iri FROM review WHERE medium = ? AND (?2 IS NULL OR pipeline = ?2)
                   ORDER BY superseded_by IS NULL DESC, created DESC""",
                (self.medium(number), pipeline),
            ).fetchall()
            found = reviews.get(conn, rows[0]["iri"])
        assert found is not None
        return found

    def again(self, iri: str) -> ReviewRow:
        with self.node.database.reader() as conn:
            found = reviews.get(conn, iri)
        assert found is not None
        return found

    def findings(self, iri: str) -> list[str]:
        with self.node.database.reader() as conn:
            return [item.code for item in reviews.findings_of(conn, iri)]

    def waiting(self, **given: Any) -> int:
        with self.node.database.reader() as conn:
            return reviews.count(conn, Rule(**given), state="pending")

    def record(self, iri: str) -> tuple[str, int, dict[str, Any]] | None:
        """State, version and body of the public record."""
        with self.node.database.reader() as conn:
            row = conn.execute("SELECT state, version, body, published FROM record WHERE iri = ?", (iri,)).fetchone()
        return None if row is None else (row["state"], row["version"], json.loads(row["body"]))

    def log(self, iri: str) -> list[str]:
        """Operations of the publication log about a record."""
        with self.node.database.reader() as conn:
            return [row["op"] for row in conn.execute("SELECT op FROM change WHERE iri = ? ORDER BY seq", (iri,))]

    def finds(self, word: str) -> int:
        """How many specimens a full-text search finds."""
        from linkeddata.selection import parse_where
        from node.access import ANONYMOUS
        from node.storage.search import search

        with self.node.database.reader() as conn:
            return search(conn, parse_where(f"q={word}"), ANONYMOUS, limit=10).total


def review_world(
    make_node: Callable[..., NodeFolder],
    tmp_path: Path,
    *,
    settings: str = "",
    images: Callable[[int], bytes] = jpeg,
) -> ReviewWorld:
    """The world, with its first ingest done."""
    node = make_node(settings=settings, policy="open")
    offers = [
        OfferedPipeline(manifest=item, environment=ENVIRONMENT, conformance="pass", is_isolated=True)
        for item in (MANIFEST, NEWER, CODES)
    ]
    world = ReviewWorld(node=node, folder=tmp_path / "archive", jobs=None, offers=offers, images=images)  # type: ignore[arg-type]
    world.jobs = JobService(
        database=node.database, settings=node.settings, identity=node.key, offers=lambda: offers, clock=world.clock
    )
    with node.database.transaction() as conn:
        enrol(conn, RESEARCHER.kid, "R", note="", now=NOW)
    rows = rows_of(ARCHIVE_ROWS)
    rows[1]["licence"] = "all rights reserved"
    world.take_in(rows)
    return world
