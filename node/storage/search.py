"""Finding specimens: the same selection language for people, jobs and exports.

Owns the tables specimen_facet and specimen_text, which are derived from records and can be rebuilt at any time.

Invariants:
- Only the public projection is indexed, plus the text of published annotations;
  what was withheld from a record can therefore not be found by any query.
- Private specimens are found by staff only; a job of an outsider never selects their media.
- Every word of a full-text query is quoted: no input is an error of the full-text engine.

It leaves out: ranking beyond what FTS5 offers, similarity, other nodes.
"""

import json
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from linkeddata.access import AccessClass
from linkeddata.selection import Selection
from node.access import Viewer

COLUMNS: Final[dict[str, str]] = {
    "scientificName": "scientific_name",
    "kingdom": "kingdom",
    "phylum": "phylum",
    "class": "class",
    "order": '"order"',
    "family": "family",
    "genus": "genus",
    "country": "country",
    "countryCode": "country_code",
    "stateProvince": "state_province",
    "locality": "locality",
    "recordedBy": "recorded_by",
    "recordNumber": "record_number",
    "catalogNumber": "catalog_number",
    "institutionCode": "institution_code",
    "collectionCode": "collection_code",
    "basisOfRecord": "basis_of_record",
    "typeStatus": "type_status",
    "license": "license",
    "occurrenceId": "occurrence_id",
}
"""GBIF parameter name -> column of specimen_facet."""
_SOURCES: Final[dict[str, str]] = {
    "scientificName": "dwc:scientificName",
    "kingdom": "dwc:kingdom",
    "phylum": "dwc:phylum",
    "class": "dwc:class",
    "order": "dwc:order",
    "family": "dwc:family",
    "genus": "dwc:genus",
    "country": "dwc:country",
    "countryCode": "dwc:countryCode",
    "stateProvince": "dwc:stateProvince",
    "locality": "dwc:locality",
    "recordedBy": "dwc:recordedBy",
    "recordNumber": "dwc:recordNumber",
    "catalogNumber": "dwc:catalogNumber",
    "institutionCode": "dwc:institutionCode",
    "collectionCode": "dwc:collectionCode",
    "basisOfRecord": "dwc:basisOfRecord",
    "typeStatus": "dwc:typeStatus",
    "license": "dcterms:license",
    "occurrenceId": "dwc:occurrenceID",
}
MAX_TOKENS: Final = 32
"""Words of one full-text query; more is not a question but a document."""
MAX_TEXT_BYTES: Final = 200_000
"""Text indexed per specimen; a label has hundreds of characters, this bounds a hostile record."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """One specimen found."""

    iri: str
    body: dict[str, Any]
    access: AccessClass
    medium: str | None
    """IRI of its first medium."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchPage:
    """Some hits, how many there are in all, and where the next page begins (None: nowhere)."""

    hits: tuple[Hit, ...]
    total: int
    next: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectedMedium:
    """A medium that a selection covers, with what the policy needs to know about it."""

    medium: str
    specimen: str
    image: str
    """SHA-256 of the bytes, hex; empty: they lie elsewhere and were never fetched."""
    size_bytes: int
    access: AccessClass
    """The strictest over everything that uses these bytes."""
    sensitive: bool


HAS_IMAGE: Final = """(m.image IS NOT NULL OR (m.problem IS NULL
  AND (m.locator LIKE 'http://%' OR m.locator LIKE 'https://%')))"""
"""Of a medium ``m``: there are bytes, here or at an address."""


def search(
    conn: sqlite3.Connection, selection: Selection, viewer: Viewer, *, limit: int, after: str = ""
) -> SearchPage:
    """Specimens that fit, in the stable order of their IRIs, from after ``after`` on."""
    where, params = _where(selection, viewer)
    total = int(conn.execute(f"SELECT count(*) FROM specimen_facet f WHERE {where}", params).fetchone()[0])  # noqa: S608
    rows = conn.execute(
        f"""SELECT f.iri, f.access, r.body,
                   (SELECT ms.medium FROM medium_specimen ms JOIN medium m ON m.iri = ms.medium
                    WHERE ms.specimen = f.iri AND m.state = 'active' AND (m.access < :private OR :staff)
                    ORDER BY ms.ordinal LIMIT 1) AS medium
            FROM specimen_facet f JOIN record r ON r.iri = f.iri
            WHERE {where} AND f.iri > :after ORDER BY f.iri LIMIT :limit""",  # noqa: S608 - columns from a fixed table
        {**params, "after": after, "limit": limit + 1, "private": int(AccessClass.PRIVATE), "staff": viewer.is_staff},
    ).fetchall()
    hits = tuple(
        Hit(iri=row["iri"], body=json.loads(row["body"]), access=AccessClass(row["access"]), medium=row["medium"])
        for row in rows[:limit]
    )
    return SearchPage(hits=hits, total=total, next=hits[-1].iri if len(rows) > limit else None)


def select_media(
    conn: sqlite3.Connection, selection: Selection, viewer: Viewer, *, first: int | None = None
) -> list[SelectedMedium]:
    """Media of the specimens that fit, in a stable order; private ones only for staff.

    Media without bytes are left out, unless they lie elsewhere and can be fetched.
    """
    where, params = _where(selection, viewer)
    rows = conn.execute(
        f"""SELECT ms.medium, f.iri AS specimen, coalesce(m.image, '') AS image,
                   coalesce(m.size_bytes, 0) AS size_bytes,
                   (SELECT max(max(o.access, coalesce((SELECT max(r.access) FROM medium_specimen s2
                            JOIN record r ON r.iri = s2.specimen WHERE s2.medium = o.iri), 0)))
                    FROM medium o WHERE o.image = m.image OR o.iri = m.iri) AS access,
                   (SELECT max(max(o.sensitive, coalesce((SELECT max(r.sensitive) FROM medium_specimen s2
                            JOIN record r ON r.iri = s2.specimen WHERE s2.medium = o.iri), 0)))
                    FROM medium o WHERE o.image = m.image OR o.iri = m.iri) AS sensitive
            FROM specimen_facet f
            JOIN medium_specimen ms ON ms.specimen = f.iri
            JOIN medium m ON m.iri = ms.medium
            WHERE {where} AND m.state = 'active' AND {HAS_IMAGE}
            ORDER BY f.iri, ms.ordinal, ms.medium""",  # noqa: S608 - columns from a fixed table
        params,
    )
    chosen: list[SelectedMedium] = []
    for row in rows:
        if row["access"] == AccessClass.PRIVATE and not viewer.is_staff:
            continue
        chosen.append(
            SelectedMedium(
                medium=row["medium"], specimen=row["specimen"], image=row["image"], size_bytes=row["size_bytes"],
                access=AccessClass(row["access"]), sensitive=bool(row["sensitive"]),
            )
        )  # fmt: skip
        if first is not None and len(chosen) >= first:
            break
    return chosen


def index_specimen(conn: sqlite3.Connection, iri: str) -> None:
    """Brings the search tables to what is published about this specimen now (also when it is gone)."""
    conn.execute("DELETE FROM specimen_facet WHERE iri = ?", (iri,))
    conn.execute("DELETE FROM specimen_text WHERE iri = ?", (iri,))
    row = conn.execute(
        "SELECT body, access FROM record WHERE iri = ? AND kind = 'specimen' AND state = 'active'", (iri,)
    )
    found = row.fetchone()
    if found is None:
        return
    body = json.loads(found["body"])
    values = {name: _first(body, curie) for name, curie in _SOURCES.items()}
    has_image = conn.execute(
        f"""SELECT 1 FROM medium_specimen s JOIN medium m ON m.iri = s.medium
           WHERE s.specimen = ? AND m.state = 'active' AND {HAS_IMAGE} LIMIT 1""",  # noqa: S608 - a constant
        (iri,),
    ).fetchone()
    columns = ["iri", "access", "year", "has_image", *(COLUMNS[name] for name in values)]
    marks = ", ".join("?" * len(columns))
    conn.execute(
        f"INSERT INTO specimen_facet ({', '.join(columns)}) VALUES ({marks})",  # noqa: S608 - columns from a fixed table
        (iri, found["access"], _year(body), int(has_image is not None), *values.values()),
    )
    text = "\n".join((*_texts(body), *_annotation_texts(conn, iri)))[:MAX_TEXT_BYTES]
    conn.execute("INSERT INTO specimen_text (iri, body) VALUES (?, ?)", (iri, text))


def reindex(conn: sqlite3.Connection) -> int:
    """Rebuilds the search tables from the records; returns how many specimens are in them."""
    conn.execute("DELETE FROM specimen_facet")
    conn.execute("DELETE FROM specimen_text")
    iris = [row[0] for row in conn.execute("SELECT iri FROM record WHERE kind = 'specimen' AND state = 'active'")]
    for iri in iris:
        index_specimen(conn, iri)
    return len(iris)


def fts_query(text: str) -> str:
    """A full-text query in which every word is a literal; empty when there is no word in it."""
    words = [word for word in text.replace("\0", " ").split() if any(char.isalnum() for char in word)]
    return " ".join('"' + word.replace('"', '""')[:100] + '"' for word in words[:MAX_TOKENS])


def _where(selection: Selection, viewer: Viewer) -> tuple[str, dict[str, Any]]:
    clauses: list[str] = []
    params: dict[str, Any] = {}
    if not viewer.is_staff:
        clauses.append("f.access < :hidden")
        params["hidden"] = int(AccessClass.PRIVATE)
    for number, (name, values) in enumerate(selection.terms):
        either: list[str] = []
        for index, value in enumerate(values):
            mark = f"t{number}_{index}"
            if name == "year":
                low, high = _range(value)
                either.append(f"f.year BETWEEN :{mark}a AND :{mark}b")
                params[f"{mark}a"], params[f"{mark}b"] = low, high
            elif name == "hasImage":
                either.append(f"f.has_image = :{mark}")
                params[mark] = int(value.lower() in ("true", "1", "yes"))
            else:
                either.append(f"f.{COLUMNS[name]} = :{mark} COLLATE NOCASE")
                params[mark] = value
        clauses.append("(" + " OR ".join(either) + ")")
    if selection.q is not None:
        query = fts_query(selection.q)
        if query:
            clauses.append("f.iri IN (SELECT iri FROM specimen_text WHERE specimen_text MATCH :fts)")
            params["fts"] = query
        elif selection.q.strip():
            clauses.append("0")
    return " AND ".join(clauses) or "1", params


def _range(value: str) -> tuple[int, int]:
    low, comma, high = value.partition(",")
    if not comma:
        return int(low), int(low)
    return int(low) if low and low != "*" else -9999, int(high) if high and high != "*" else 9999


def _walk(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, item in value.items():
            if key == "@context":
                continue
            if isinstance(item, dict | list):
                yield from _walk(item)
            else:
                yield key, item
    elif isinstance(value, list):
        for item in value:
            yield from _walk(item)


def _first(body: dict[str, Any], curie: str) -> str | None:
    return next((str(value) for key, value in _walk(body) if key == curie and value not in (None, "")), None)


_NOT_WORDS = frozenset(
    {
        "@type", "@id", "ods:status", "ods:identifierStatus", "ods:physicalSpecimenIDType", "vasculum:accessClass",
        "vasculum:term", "dcterms:title", "dwc:relationshipOfResource", "dcterms:created", "dcterms:modified",
    }
)  # fmt: skip
"""Our own words in a specimen document: "Preferred" or "open" would find every specimen."""


def _texts(body: dict[str, Any]) -> Iterator[str]:
    for key, value in _walk(body):
        if isinstance(value, str) and key not in _NOT_WORDS and not value.startswith(("http://", "https://")):
            yield value


def _year(body: dict[str, Any]) -> int | None:
    text = _first(body, "dwc:year") or (_first(body, "dwc:eventDate") or "")[:4]
    return int(text) if text.isdecimal() and len(text) == 4 else None


def _annotation_texts(conn: sqlite3.Connection, specimen: str) -> Iterator[str]:
    rows = conn.execute(
        """SELECT r.body FROM annotation a JOIN record r ON r.iri = a.iri
           JOIN medium_specimen s ON s.medium = a.medium
           WHERE s.specimen = ? AND a.state = 'current' AND r.state = 'active' AND r.access = 0 AND r.sensitive = 0""",
        (specimen,),
    )
    for row in rows:
        for key, value in _walk(json.loads(row["body"])):
            if key in ("oa:value", "vasculum:text") and isinstance(value, str):
                yield value
