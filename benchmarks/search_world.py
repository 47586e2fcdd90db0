"""A made collection for the benchmark of searching: skewed like real ones, the same for the same seed.

A record has about 2.7 kB; one in ten has an annotation with three regions. Nothing here reads or writes outside of the
database that it is given.
"""

import bisect
import itertools
import json
import random
import sqlite3
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from linkeddata.access import AccessClass
from linkeddata.canon import canonical_bytes
from linkeddata.licences import normalise_licence
from linkeddata.records import build_specimen

NOW = datetime(2026, 1, 1, tzinfo=UTC)
STAMP = "2026-01-01T00:00:00Z"
ORIGIN = "https://bench.example"
COUNTRIES = ("Brazil", "Germany", "Peru", "Mexico", "France", "Spain", "China", "India", "Kenya", "Japan", "Chile", "Norway",
             "Cuba", "Congo", "Iran", "Nepal", "Fiji", "Oman", "Mali", "Togo", "Laos", "Peru-Brazil", "Ghana", "Samoa")  # fmt: skip


def name(number: int, end: str) -> str:
    """A word that is always the same for a number."""
    parts = ("ba", "ce", "di", "fo", "gu", "la", "me", "ni", "po", "ru", "sa", "te", "vi", "xo", "zu")
    text = ""
    number += 15
    while number:
        number, rest = divmod(number, 15)
        text += parts[rest]
    return text.capitalize() + end


class Skewed:
    """Draws numbers below ``count``, the k-th about 1 / (k + 1) as often as the first."""

    def __init__(self, count: int) -> None:
        self._ends = list(itertools.accumulate(1 / (number + 1) for number in range(count)))

    def draw(self, rng: random.Random) -> int:
        """A number."""
        return bisect.bisect(self._ends, rng.random() * self._ends[-1])


FAMILIES, SPECIES, COLLECTORS, WORDS, PLACES, LANDS = (
    Skewed(150), Skewed(60), Skewed(3000), Skewed(20_000), Skewed(8_000), Skewed(len(COUNTRIES))
)  # fmt: skip


def fields_of(number: int, turn: int = 0) -> dict[str, str]:
    """What record ``number`` says; ``turn`` changes its label and year."""
    rng = random.Random(number)
    family, species = FAMILIES.draw(rng), SPECIES.draw(rng)
    genus = name(family * 100 + species // 6, "a")
    epithet = name(species, "ensis")
    country = COUNTRIES[LANDS.draw(rng)]
    fields = {
        "dwc:occurrenceID": f"urn:bench:{number}", "dwc:catalogNumber": f"B {number:09}", "dwc:institutionCode": "B",
        "dwc:collectionCode": rng.choice(("Herbarium", "Herbarium", "Types", "Fungi")),
        "dwc:basisOfRecord": "PreservedSpecimen", "dwc:kingdom": "Plantae" if family % 10 else "Fungi",
        "dwc:family": name(family, "aceae"), "dwc:genus": genus, "dwc:specificEpithet": epithet,
        "dwc:scientificName": f"{genus} {epithet} L.", "dwc:scientificNameAuthorship": "L.", "dwc:taxonRank": "species",
        "dwc:country": country, "dwc:stateProvince": name(LANDS.draw(rng) * 40 + len(country), "land"),
        "dwc:locality": f"{name(PLACES.draw(rng), '')} near {name(PLACES.draw(rng), 'stadt')}",
        "dwc:recordedBy": f"{name(COLLECTORS.draw(rng), '')}, A.", "dwc:recordNumber": str(rng.randrange(9000)),
    }  # fmt: skip
    if rng.random() < 0.9:
        year = int(rng.triangular(1780, 2020, 1930))
        fields["dwc:eventDate"] = f"{year}-{rng.randrange(1, 13):02}-{rng.randrange(1, 28):02}"
        fields["dwc:year"] = str(year)
    if rng.random() < 0.4:
        fields["dwc:decimalLatitude"] = f"{rng.gauss(0, 25) % 90:.4f}"
        fields["dwc:decimalLongitude"] = f"{rng.uniform(-180, 180):.4f}"
    if rng.random() < 0.03:
        fields["dwc:typeStatus"] = rng.choice(("holotype", "isotype", "isotype", "syntype"))
    rng = random.Random(number * 1000 + turn)
    fields["dwc:verbatimLabel"] = " ".join(name(WORDS.draw(rng), "") for _ in range(25))
    return fields


def iri_of(number: int) -> str:
    """Of a specimen; spread as real ones are, whose ids are hashes."""
    return f"{ORIGIN}/specimen/{(number * 7_919_990_011) % 10**15:015}"


def body_of(number: int, turn: int = 0) -> bytes:
    """The document, canonical."""
    document = build_specimen(
        iri=iri_of(number), fields=fields_of(number, turn), media=[], licence=normalise_licence("CC BY 4.0"),
        access=AccessClass.OPEN,
    )  # fmt: skip
    return canonical_bytes({**document, "ods:version": 1, "dcterms:created": STAMP, "dcterms:modified": STAMP})


def put_record(conn: sqlite3.Connection, number: int) -> None:
    """The record alone, without versions and log, which searching does not read."""
    access = 2 if number % 50 == 0 else number % 3 == 0
    row = ("specimen", body_of(number), "", int(access), STAMP)
    conn.execute(
        """INSERT INTO record (iri, id, kind, version, state, body, digest, access, source, created, modified, published)
           VALUES (?, ?, ?, 1, 'active', ?, ?, ?, 'herbarium', ?, ?, 1)""",
        (iri_of(number), iri_of(number)[-15:], *row, STAMP),
    )
    if number % 10 == 0:
        _annotate(conn, number)


def _annotate(conn: sqlite3.Connection, number: int) -> None:
    rng = random.Random(number + 5)
    iri, medium = (iri_of(number).replace("/specimen/", path) for path in ("/annotation/", "/media/"))
    regions: list[dict[str, Any]] = [
        {
            "vasculum:class": kind, "vasculum:score": f"{rng.random():.3f}",
            "vasculum:text": " ".join(name(WORDS.draw(rng), "") for _ in range(4)) if kind == "label" else "",
        }
        for kind in ("label", rng.choice(("stamp", "barcode")), "ruler")
    ]  # fmt: skip
    body = {
        "@id": iri, "vasculum:outputContract": "layout/1", "vasculum:pipeline": "sha256:" + "a" * 64,
        "dcterms:creator": {"schema:name": "layout"}, "vasculum:hasRegion": regions,
    }  # fmt: skip
    conn.execute("INSERT INTO medium_specimen VALUES (?, ?, 0)", (medium, iri_of(number)))
    conn.execute(
        """INSERT INTO record (iri, id, kind, version, state, body, digest, access, created, modified, published)
           VALUES (?, ?, 'annotation', 1, 'active', ?, '', 0, ?, ?, 1)""",
        (iri, iri[-15:], json.dumps(body).encode(), STAMP, STAMP),
    )
    conn.execute(
        "INSERT INTO annotation VALUES (?, ?, '', 'layout/1', ?, '', ?, NULL, 'current', ?)",
        (iri, medium, "sha256:" + "a" * 64, iri, STAMP),
    )


def change_record(conn: sqlite3.Connection, number: int, turn: int) -> str:
    """Other words on the label; returns the IRI, which is to be indexed."""
    conn.execute("UPDATE record SET body = ? WHERE iri = ?", (body_of(number, turn), iri_of(number)))
    return iri_of(number)


def questions(rng: random.Random, count: int) -> Sequence[dict[str, Any]]:
    """A mix of questions as people and pages ask them."""
    facets = ["family", "country", "typeStatus", "institutionCode"]

    def family() -> str:
        return f"family={name(FAMILIES.draw(rng), 'aceae')}"

    def country() -> str:
        return f"country={COUNTRIES[LANDS.draw(rng)]}"

    def years() -> str:
        first = rng.randrange(1790, 1990)
        return f"year={first},{first + rng.choice((0, 5, 20))}"

    def word() -> str:
        return name(WORDS.draw(rng), "").lower()

    def genus() -> str:
        return f"genus={name(FAMILIES.draw(rng) * 100 + SPECIES.draw(rng) // 6, 'a')}"

    def box() -> str:
        west, south = rng.randrange(-180, 170), rng.randrange(0, 80)
        return f"'geometry=POLYGON(({west} {south},{west + 10} {south},{west + 10} {south + 10},{west} {south + 10},{west} {south}))'"

    kinds = (
        (18, "facets", family), (12, "facets", country), (16, "facets", lambda: f"{family()} {country()}"),
        (14, "facets", lambda: f"{family()} {years()}"), (10, "facets", lambda: f"{country()} {years()}"),
        (10, "facets", genus), (8, "facets", lambda: f"{genus()} {country()}"),
        (8, "facets", lambda: f"'recordedBy={name(COLLECTORS.draw(rng), '')}, A.'"),
        (6, "facets", lambda: f"'catalogNumber=B {rng.randrange(count):09}'"), (4, "facets", lambda: f"typeStatus=HOLOTYPE {country()}"),
        (4, "facets", lambda: f"{family()} {family()} !{country()}"), (4, "facets", lambda: f"{box()} {family()}"),
        (4, "facets", lambda: f"{family()} hasCoordinate=true"), (2, "facets", lambda: f"kingdom=Fungi {country()}"),
        (2, "facets", lambda: f"annotation.class=stamp scoreMin=0.9 {family()}"), (2, "facets", years),
        (1, "facets", lambda: ""),
        (30, "text", lambda: f"q={word()}"), (24, "text", lambda: f"'q={word()} {word()}'"), (12, "text", lambda: f"q={word()} {family()}"),
        (6, "text", lambda: f"annotation.text~{word()}"), (3, "text", lambda: f"q={word()[:4]}* {country()}"),
    )  # fmt: skip
    found: list[dict[str, Any]] = []
    for number, kind, make in kinds:
        for _ in range(number):
            is_ranked = kind == "text" and rng.random() < 0.3
            found.append(
                {
                    "kind": kind, "where": make(), "facets": facets if kind == "facets" else [],
                    "sort": "relevance" if is_ranked else "",
                }
            )  # fmt: skip
    return [item if "q=" in item["where"] else {**item, "sort": ""} for item in found]
