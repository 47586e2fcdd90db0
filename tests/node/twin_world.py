"""Two nodes that differ only in the precise place, and the label text, of their sensitive specimens.

Everything else is the same, the secrets that key ids included, so that answers can be compared byte for byte.
"""

import re
import shutil
import sqlite3
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp.test_utils import TestClient, TestServer
from conftest import NOW, ingest, jpeg
from federation_world import ENVIRONMENT, MANIFEST, Clock, SmallNode, make_spec, signed
from redact_world import approve, derivative_of, keep, sensitive_images, settle, text_of
from web_world import KINDS, SETTINGS, Secret, World, fill

from cas.ids import ContentId
from federation.identity import SigningKey
from linkeddata.job import JobStep
from linkeddata.json_strict import parse_json
from node.access import Viewer
from node.app import build_application
from node.config import load_settings
from node.folder import NodeFolder, open_folder
from node.services.job_rules import OfferedPipeline
from node.services.jobs import JobService
from node.services.protect_known import protect_known
from runners.catalogue import Catalogue

TERMS = (
    "occurrenceID", "basisOfRecord", "institutionCode", "catalogNumber", "scientificName", "kingdom", "family", "recordedBy",
    "recordNumber", "eventDate", "year", "month", "day", "verbatimEventDate", "eventTime", "country", "countryCode",
    "stateProvince", "county", "municipality", "island", "waterBody", "higherGeography", "locality", "verbatimLocality",
    "verbatimLabel", "decimalLatitude", "decimalLongitude", "geodeticDatum", "verbatimCoordinates", "verbatimLatitude",
    "verbatimLongitude", "minimumElevationInMeters", "maximumElevationInMeters", "verbatimElevation",
    "minimumDepthInMeters", "maximumDepthInMeters", "habitat", "eventID", "fieldNumber", "fieldNotes", "locationID",
    "locationRemarks", "georeferenceRemarks", "georeferenceSources", "footprintWKT", "occurrenceRemarks", "eventRemarks",
    "organismRemarks", "associatedOccurrences", "associatedMedia", "dynamicProperties", "informationWithheld",
    "dataGeneralizations", "preparations", "rightsHolder", "identificationRemarks", "vernacularName", "sex", "samplingProtocol",
)  # fmt: skip
"""Columns of the archive; what is not listed as kept must not be told."""
SAME = {"basisOfRecord", "institutionCode", "catalogNumber", "scientificName", "kingdom", "family", "year", "country",
        "countryCode", "stateProvince", "occurrenceID", "eventDate", "decimalLatitude", "decimalLongitude", "geodeticDatum",
        "month", "day"}  # fmt: skip
EXTRAS = ("cat1", "cat2", "cat3", "cat4", "remote")
LIST = (
    "name,category,reason\nPlanta una,1,\nPlanta bina,2,dug up\nPlanta terna,3,\nPlanta quaterna,4,\nPlanta remota,2,\n"
)
TWIN_SETTINGS = (
    SETTINGS + '[limits]\nrequests_per_minute = 0\nbytes_per_day = 0\n[protection]\ntaxa_file = "taxa.csv"\n'
)
RESEARCHER = SigningKey.from_seed(b"r" * 32)


@dataclass(frozen=True, kw_only=True)
class Side:
    """What one of the twins keeps to itself."""

    secret: Secret
    cells: dict[str, tuple[str, str]]
    """Coordinates per extra specimen, in the same cell on both sides."""
    month: str
    """The collector's diary tells where they were."""


ONE = Side(
    secret=Secret(place="Kwyzvalley", latitude="47.1234", read="Vombatlabel"), month="05",
    cells={"cat1": ("47.1", "11.2"), "cat2": ("47.1234", "11.2345"), "cat3": ("47.1234", "11.2345"),
           "cat4": ("47.12341", "11.23449"), "remote": ("47.14", "11.24")},
)  # fmt: skip
OTHER = Side(
    secret=Secret(place="Brumfjord", latitude="-12.9876", read="Quokkasign"), month="11",
    cells={"cat1": ("-33.7", "151.9"), "cat2": ("47.0987", "11.1567"), "cat3": ("47.1187", "11.2301"),
           "cat4": ("47.12339", "11.23351"), "remote": ("47.06", "11.16")},
)  # fmt: skip


@dataclass
class Twin:
    """One side, served."""

    side: Side
    world: World
    extras: World
    """The same node asked about the extra specimens: ``World`` keyed by their names."""
    settings_folder: Path
    swaps: list[tuple[str, str]] = field(default_factory=list)
    """What is the same thing under a name that is keyed by a secret or covers differing bytes -> how it is called here."""
    hashes: set[str] = field(default_factory=set)
    """Entity tags that are hashes of bodies."""
    answers: dict[str, str] = field(default_factory=dict)

    def plain(self, text: str) -> str:
        """A text without the names that must differ."""
        for name, called in self.swaps:
            text = text.replace(name, called)
        return re.sub(r"\b[0-9a-f]{40}\b", lambda found: "<hash>" if found[0] in self.hashes else found[0], text)


def write_extras(folder: Path, side: Side) -> Path:
    """An archive of five sensitive specimens, each term of which tells the place in its own way."""
    (folder / "images").mkdir(parents=True)
    place, lines, media = (
        side.secret.place,
        ["\t".join(TERMS)],
        ["coreid\ttype\tformat\tidentifier\ttitle\tdescription\tlicense\trightsHolder"],
    )
    for number, (name, taxon) in enumerate(zip(EXTRAS, ("una", "bina", "terna", "quaterna", "remota"), strict=True)):
        latitude, longitude = side.cells[name]
        row = {
            "occurrenceID": f"urn:e:{number}", "basisOfRecord": "PreservedSpecimen", "institutionCode": "X",
            "catalogNumber": f"E-{number}", "scientificName": f"Planta {taxon} L.", "kingdom": "Plantae", "family": "Testaceae",
            "year": "1901", "country": "Austria", "countryCode": "AT", "stateProvince": "Tirol",
            "eventDate": f"1901-{side.month}-02", "month": side.month, "day": side.month,
            "decimalLatitude": latitude, "decimalLongitude": longitude, "geodeticDatum": "WGS84",
            **{term: f"{place} {term}" for term in TERMS if term not in SAME},
            "associatedMedia": f"https://img.example/{place}/assoc-{number}.jpg",
        }  # fmt: skip
        lines.append("\t".join(row[term] for term in TERMS))
        where = f"https://img.example/{place}/{number}.jpg" if name == "remote" else f"images/{place}-{number}.jpg"
        if name != "remote":
            (folder / where).write_bytes(jpeg(50 + number))
        media.append(
            "\t".join(
                (
                    row["occurrenceID"],
                    "StillImage",
                    "image/jpeg",
                    where,
                    f"{place} title",
                    f"{place} seen",
                    "CC0",
                    f"Club of {place}",
                )
            )
        )
    (folder / "occurrence.txt").write_text("\n".join(lines) + "\n", "utf-8")
    (folder / "multimedia.txt").write_text("\n".join(media) + "\n", "utf-8")
    own = {"rightsHolder": "http://purl.org/dc/terms/"}
    core = "".join(
        f'<field index="{i}" term="{own.get(term, "http://rs.tdwg.org/dwc/terms/")}{term}"/>'
        for i, term in enumerate(TERMS)
    )
    extension = "".join(
        f'<field index="{i}" term="http://purl.org/dc/terms/{term}"/>'
        for i, term in enumerate(
            ("type", "format", "identifier", "title", "description", "license", "rightsHolder"), start=1
        )
    )
    form = 'encoding="UTF-8" fieldsTerminatedBy="\\t" linesTerminatedBy="\\n" fieldsEnclosedBy="" ignoreHeaderLines="1"'
    (folder / "meta.xml").write_text(
        f'<archive xmlns="http://rs.tdwg.org/dwc/text/"><core {form} rowType="http://rs.tdwg.org/dwc/terms/Occurrence">'
        f'<files><location>occurrence.txt</location></files><id index="0"/>{core}</core>'
        f'<extension {form} rowType="http://rs.gbif.org/terms/1.0/Multimedia"><files><location>multimedia.txt</location>'
        f'</files><coreid index="0"/>{extension}</extension></archive>',
        "utf-8",
    )
    return folder


def twin_folders(node: NodeFolder, folder: Path) -> list[Path]:
    """Two copies of a new node: the same keys and the same salt for ids."""
    for name in ("one", "other"):
        shutil.copytree(node.settings.folder, folder / name)
        (folder / name / "taxa.csv").write_text(LIST, "utf-8")
        with (folder / name / "node.toml").open("a", encoding="utf-8") as stream:
            stream.write("\n" + TWIN_SETTINGS)
    return [folder / "one", folder / "other"]


@asynccontextmanager
async def serving_twin(
    home: Path, archives: Path, side: Side, *, with_jobs: bool = False, is_later: bool = False, redacted: bool = False
) -> AsyncIterator[Twin]:
    """Fills the node in ``home`` and serves it, if wanted after a researcher's jobs.

    ``redacted``: labels of the sensitive images were read, of other length on each side, and covered pictures approved.
    ``is_later``: the list names the extra specimens only after everything was public and the jobs had their answers.
    """
    if is_later:
        (home / "taxa.csv").write_text("name,category\n", "utf-8")
    with open_folder(home) as node:
        found = fill(node, archives / "base", secret=side.secret)
        extras = _extras(node, write_extras(archives / "extras", side))
        answers = await job_answers(node, found, extras, side) if with_jobs else {}
        if is_later:
            (home / "taxa.csv").write_text(LIST, "utf-8")
            protect_known(load_settings(home), node.database, clock=lambda: NOW)
            answers = await asked_again(node)
        if redacted:
            _redact(node, side)
        app = build_application(node, catalogue=Catalogue.of(()), clock=lambda: NOW)
        async with TestClient(TestServer(app)) as client:
            files = dict.fromkeys((*KINDS, *EXTRAS), b"")
            twin = Twin(
                side=side, settings_folder=home, answers=answers,
                world=World(node=node, client=client, files=files, **found),  # type: ignore[arg-type]
                extras=World(node=node, client=client, files=files, **extras),  # type: ignore[arg-type]
            )  # fmt: skip
            twin.swaps = list(_swaps(twin))
            yield twin


def _extras(node: NodeFolder, archive: Path) -> dict[str, dict[str, str]]:
    ingest(node, archive, source="extras")
    found: dict[str, dict[str, str]] = {"specimens": {}, "media": {}, "images": {}, "annotations": {}}
    with node.database.transaction() as conn:
        # What is wrong with a file may name it.
        conn.execute(
            """UPDATE medium SET problem = locator || ' is no image' WHERE source = 'extras'
               AND locator LIKE 'images/%-2.jpg'"""
        )
        for number, name in enumerate(EXTRAS):
            iri = conn.execute("SELECT iri FROM source_row WHERE key = ?", (f"urn:e:{number}",)).fetchone()["iri"]
            rows = conn.execute(
                """SELECT m.* FROM medium_specimen s JOIN medium m ON m.iri = s.medium WHERE s.specimen = ?
                   ORDER BY s.ordinal""",
                (iri,),
            ).fetchall()
            found["specimens"][name] = iri
            found["media"][name] = rows[0]["iri"]
            found["images"][name] = rows[0]["image"] or "0" * 64
    return found


def _redact(node: NodeFolder, side: Side) -> None:
    with node.database.reader() as conn:
        images = [image for image in sensitive_images(conn) if not _has_problem(conn, image)]
    for image in images:
        # A longer word on one side, one line more on the other: the same blocks are covered.
        first = (4, 6, 10 + len(side.secret.read) // 2, 8)
        lines = [first, (4, 10, 12, 5)] if side is ONE else [first]
        keep(node, image, {**text_of(lines, size=(64, 48)), "doubts": []})
        approve(node, image)
    assert settle(node).made == len(images) == 4


def _has_problem(conn: sqlite3.Connection, image: str) -> bool:
    return conn.execute("SELECT 1 FROM medium WHERE image = ? AND problem <> ''", (image,)).fetchone() is not None


def _swaps(twin: Twin) -> Iterator[tuple[str, str]]:
    """Names of the same thing: ids that a keyed hash gives to a file name with the place in it, and digests over them."""
    node = twin.world.node
    with node.database.reader() as conn:
        for name, specimen in twin.extras.specimens.items():
            rows = conn.execute(
                "SELECT medium, ordinal FROM medium_specimen WHERE specimen = ? ORDER BY ordinal", (specimen,)
            ).fetchall()
            for row in rows:
                yield row["medium"].rsplit("/", 1)[1], f"<{name} medium {row['ordinal']}>"
        image = twin.world.images["sensitive"]
        cid = ContentId.from_hex(image)
        for form in (image, cid.to_cid(), cid.to_ni().rpartition(";")[2], image[:32]):
            yield form, "<image of the sensitive specimen>"
        for name, original in twin.extras.images.items():  # the id of a covered picture covers the name of its medium
            covered = derivative_of(node, original)
            if covered is not None:
                for form in (covered, covered[:32]):
                    yield form, f"<covered picture of {name}>"
        # What covers one of the names above differs with it: these are hashes of public bodies that are compared too.
        rows = conn.execute("SELECT iri, digest FROM record WHERE sensitive = 1 ORDER BY iri").fetchall()
        for row in rows:
            for form in (row["digest"], row["digest"][:16]):
                yield form, "<digest of a sensitive record>"
        for row in conn.execute("SELECT seq, digest FROM change ORDER BY seq"):
            yield row["digest"], f"<salted digest {row['seq']}>"


def small(node: NodeFolder, texts: dict[str, list[str]]) -> SmallNode:
    """The node with pipelines that give back what ``texts`` says (image hex -> lines)."""
    clock = Clock()
    clock.now = NOW
    offers = [OfferedPipeline(manifest=MANIFEST, environment=ENVIRONMENT, conformance="pass")]
    jobs = JobService(
        database=node.database, settings=node.settings, identity=node.key, offers=lambda: offers, clock=clock
    )
    return SmallNode(
        folder=node.settings.folder, settings=node.settings, database=node.database, key=node.key, clock=clock,
        offers=offers, jobs=jobs, descriptor=None, texts=texts,  # type: ignore[arg-type]
    )  # fmt: skip


async def job_answers(
    node: NodeFolder, found: dict[str, dict[str, str]], extras: dict[str, dict[str, str]], side: Side
) -> dict[str, str]:
    """What a researcher is told who asks for the words of both labels, in every granularity."""
    texts = {image: [side.secret.read] for image in (found["images"]["sensitive"], *extras["images"].values())}
    one = small(node, texts)
    one.enrol(RESEARCHER)
    number = 0
    for granularity in ("boolean", "count", "record"):
        for match in (f"{ONE.secret.read}~1", f"{OTHER.secret.read}~1", None):
            for where in ("kingdom=Plantae", "country=Austria"):
                number += 1
                spec = make_spec(
                    RESEARCHER, [one.origin], number=number, match=match, where=where, granularity=granularity, now=NOW,
                    steps=(JobStep(output="label-text/1"),),
                )  # fmt: skip
                await one.jobs.submit(signed(spec, RESEARCHER).to_json(), sender_kid=RESEARCHER.kid)
                await one.work()
    return await asked_again(node)


async def asked_again(node: NodeFolder) -> dict[str, str]:
    """What the researcher is told of all these jobs now."""
    one, viewer, answers = small(node, {}), Viewer(kid=RESEARCHER.kid), {}
    for listed in sorted(await one.jobs.list_jobs(viewer), key=lambda item: item.job_id):
        status = await one.jobs.status(listed.job_id, viewer)
        page = await one.jobs.results(listed.job_id, viewer)
        assert status is not None
        assert page is not None
        # The digest of the snapshot covers ids of media, which a keyed hash makes from their file names.
        said = f"{status}\n{parse_json(page.payload)}".replace(status.snapshot, "<digest of the snapshot>")
        answers[listed.job_id] = said
    return answers


def words_of(sides: Sequence[Side]) -> list[str]:
    """Whatever somebody might guess."""
    found = {word for side in sides for word in (side.secret.place, side.secret.read, side.month, side.secret.latitude)}
    found |= {number for side in sides for cell in side.cells.values() for number in cell}
    return sorted(found | {word.lower() for word in found} | {word[:4] + "*" for word in found})


def without_csrf(text: str) -> str:
    """Values that are drawn anew for each page."""
    return re.sub(r'(nonce-|nonce=")[\w+/=-]+', r"\1", text)
