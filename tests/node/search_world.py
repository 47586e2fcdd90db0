"""Records for tests of searching, with what is true of each, kept apart from the database that is asked about them."""

import random
import sqlite3
from dataclasses import dataclass, field
from pathlib import Path

from conftest import NOW
from selection_trees import FLAGS, TEXTS

from linkeddata.access import AccessClass
from linkeddata.licences import normalise_licence
from linkeddata.records import build_specimen
from node.storage import issues, records
from node.storage.db import Database
from node.storage.search_index import index_specimen

ORIGIN = "https://x.example"
READER = "sha256:" + "0" * 64


@dataclass(frozen=True, slots=True)
class Region:
    """What a machine marked."""

    kind: str
    text: str
    score: str
    pipeline: str = READER
    name: str = "reader"
    is_public: bool = True


@dataclass(slots=True)
class Truth:
    """What is true of a specimen."""

    iri: str
    fields: dict[str, str]
    access: AccessClass
    has_image: bool
    regions: list[Region] = field(default_factory=list)
    flags: dict[str, bool] = field(default_factory=dict)
    """Flag -> whether it stands in the public document."""

    @property
    def is_private(self) -> bool:
        """Staff only."""
        return self.access is AccessClass.PRIVATE


def random_truths(count: int, seed: int) -> list[Truth]:
    """Made specimens with many gaps."""
    rng = random.Random(seed)

    def some(*values: str) -> str:
        return rng.choice(values) if rng.random() < 0.75 else ""

    found = []
    for number in range(count):
        name, author = rng.choice([("Acacia alba", "L."), ("Poa annua", "L."), ("Poa annua", "")])
        fields = {
            "dwc:scientificName": f"{name} {author}".strip(), "dwc:scientificNameAuthorship": author,
            "dwc:kingdom": some("Plantae", "Animalia", "Fungi"), "dwc:family": some("Fabaceae", "POACEAE", "Müllerae"),
            "dwc:country": some("Brazil", "Peru"), "dwc:countryCode": some("BR", "PE", "DE"),
            "dwc:locality": some("Rio de Janeiro", "rio negro", "O'Hara 50% _x", "-", "Ribeira"),
            "dwc:recordedBy": some("Martius", "Spix"), "dwc:catalogNumber": rng.choice(TEXTS["catalogNumber"]),
            "dwc:basisOfRecord": some("PreservedSpecimen", "FossilSpecimen", "Fossil specimen"),
            "dwc:typeStatus": some("holotype", "Isotype"), "dwc:year": some("1817", "1820", ""),
            "dwc:month": some("1", "5", "13", ""),
            "dwc:eventDate": some("1817", "1820-05", "1820-05-02/1820-06-01", "1900-01-31", "1900-02", "May 1820", "2001"),
            "dwc:decimalLatitude": some("-10", "0", "47.5", "95"), "dwc:decimalLongitude": some("-60.25", "0", "10", "179"),
            "dcterms:license": some("CC BY 4.0", "CC0", "mine"), "dwc:verbatimLabel": some("Martius rio", "hortus", "O'Hara"),
        }  # fmt: skip
        access = rng.choice([AccessClass.OPEN, AccessClass.OPEN, AccessClass.RESTRICTED, AccessClass.PRIVATE])
        regions = [
            Region(
                kind=rng.choice(["label-text", "barcode"]), text=rng.choice(["Hortus Martii", "label rio", "", "Martii"]),
                score=rng.choice(["0.2", "0.5", "0.9", "1"]), name=rng.choice(["reader", "other"]),
                pipeline=rng.choice([READER, "sha256:" + "1" * 64]), is_public=rng.random() < 0.6,
            )
            for _ in range(rng.choice([0, 0, 1, 2]))
        ]  # fmt: skip
        fields = {term: value for term, value in fields.items() if value}
        flags = {flag: rng.random() < 0.7 for flag in FLAGS if rng.random() < 0.3}
        iri = f"{ORIGIN}/specimen/{number:016}"
        found.append(Truth(iri, fields, access, has_image=rng.random() < 0.5, regions=regions, flags=flags))
    return found


def open_database(path: Path) -> Database:
    """An empty node database."""
    database = Database.open(path)
    with database.transaction() as conn:
        records.ensure_salts(conn)
    return database


def publish(conn: sqlite3.Connection, truth: Truth) -> None:
    """Puts the specimen, its image and what machines said about that into the database, and indexes it."""
    medium = truth.iri.replace("/specimen/", "/media/")
    body = build_specimen(
        iri=truth.iri, fields=truth.fields, media=[medium], access=truth.access,
        licence=normalise_licence(truth.fields.get("dcterms:license")),
    )  # fmt: skip
    records.publish(conn, records.NewRecord(kind="specimen", iri=truth.iri, body=body, access=truth.access), now=NOW)
    conn.execute(
        """INSERT OR REPLACE INTO medium (iri, source, key, image, size_bytes, access, version, problem)
           VALUES (?, 'c', ?, ?, 1000, ?, 1, ?)""",
        (
            medium, truth.iri, f"{int(truth.iri[-16:]):064x}" if truth.has_image else None, int(truth.access),
            None if truth.has_image else "gone",
        ),
    )  # fmt: skip
    conn.execute("INSERT OR IGNORE INTO medium_specimen VALUES (?, ?, 0)", (medium, truth.iri))
    for number, region in enumerate(truth.regions):
        iri = f"{truth.iri.replace('/specimen/', '/annotation/')}{number}"
        said = {"vasculum:text": region.text, "vasculum:score": region.score}
        document = {
            "@id": iri, "vasculum:outputContract": f"{region.kind}/1", "vasculum:pipeline": region.pipeline,
            "dcterms:creator": {"schema:name": region.name}, "vasculum:hasRegion": [said],
        }  # fmt: skip
        access = AccessClass.OPEN if region.is_public else AccessClass.RESTRICTED
        records.publish(conn, records.NewRecord(kind="annotation", iri=iri, body=document, access=access), now=NOW)
        conn.execute(
            "INSERT OR REPLACE INTO annotation VALUES (?, ?, '', ?, ?, '', ?, NULL, 'current', '')",
            (iri, medium, f"{region.kind}/{number}", region.pipeline, iri),
        )
    flags = [(flag, "as received", is_public) for flag, is_public in truth.flags.items()]
    issues.set_issues(conn, truth.iri, flags)
    index_specimen(conn, truth.iri)
