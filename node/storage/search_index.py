"""The search tables: what is published about each specimen, in columns, words and marked regions.

Owns the tables specimen_facet, specimen_text, annotation_mark, annotation_text and search_dirty. All but the last are
derived from record, medium and annotation and can be rebuilt at any time.

Invariants:
- Only the public projection is indexed. What was withheld from a record can therefore not be found by any query.
- Text read from images is in specimen_text only when its annotation is public; annotation_text holds all, each with a
  mark that says whether it is.
- What was read from an image that was replaced is found until the same contract says something about the new one.
- The number of a private specimen is below zero, of any other above: one comparison hides what is private.
- A specimen keeps its number while it is indexed, also through a rebuild, so pages stay where they are.
- While a rebuild is on, every specimen that changes is noted, and indexed again before the new tables take over.

It leaves out: asking (``node.storage.search``), running a rebuild beside a server (``node.services.reindex``).
"""

# ruff: noqa: S608 - names of tables and columns come from fixed tables, values are bound
import json
import re
import sqlite3
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from linkeddata.access import AccessClass
from linkeddata.event_dates import span_of_event

MAX_TEXT_BYTES: Final = 200_000
"""Text indexed per specimen; a label has hundreds of characters, this bounds a hostile record."""
MAX_MARKS: Final = 2000
"""Regions indexed per specimen, for the same reason."""
TABLES: Final = ("specimen_facet", "specimen_text", "annotation_mark", "annotation_text")
HAS_IMAGE: Final = """(m.image IS NOT NULL OR (m.problem IS NULL
  AND (m.locator LIKE 'http://%' OR m.locator LIKE 'https://%')))"""
"""Of a medium ``m``: there are bytes, here or at an address."""
_TERMS: Final[dict[str, str]] = {
    "scientific_name": "dwc:scientificName", "name_authorship": "dwc:scientificNameAuthorship",
    "taxon_rank": "dwc:taxonRank", "kingdom": "dwc:kingdom", "phylum": "dwc:phylum", "class": "dwc:class",
    '"order"': "dwc:order", "family": "dwc:family", "genus": "dwc:genus", "specific_epithet": "dwc:specificEpithet",
    "infraspecific_epithet": "dwc:infraspecificEpithet", "type_status": "dwc:typeStatus",
    "identified_by": "dwc:identifiedBy", "continent": "dwc:continent", "country_code": "dwc:countryCode",
    "state_province": "dwc:stateProvince", "county": "dwc:county", "locality": "dwc:locality",
    "recorded_by": "dwc:recordedBy", "record_number": "dwc:recordNumber", "institution_code": "dwc:institutionCode",
    "collection_code": "dwc:collectionCode", "catalog_number": "dwc:catalogNumber",
    "occurrence_id": "dwc:occurrenceID", "basis_of_record": "dwc:basisOfRecord", "sex": "dwc:sex",
    "life_stage": "dwc:lifeStage", "license": "dcterms:license",
}  # fmt: skip
"""Column of specimen_facet -> term, where the value is taken as it stands."""
_NOT_WORDS: Final = frozenset(
    {
        "@type", "@id", "ods:status", "ods:identifierStatus", "ods:physicalSpecimenIDType", "vasculum:accessClass",
        "vasculum:term", "dcterms:title", "dwc:relationshipOfResource", "dcterms:created", "dcterms:modified",
    }
)  # fmt: skip
"""Our own words in a specimen document: "Preferred" or "open" would find every specimen."""
_YEAR_FIRST: Final = re.compile(r"[0-9]{4}(-|\Z)", re.ASCII)
_DECIMAL: Final = re.compile(r"[+-]?[0-9]{1,9}(\.[0-9]{1,20})?\Z", re.ASCII)


@dataclass(frozen=True, slots=True)
class Mark:
    """One region that a machine marked, or a whole result without regions."""

    annotation: str
    kind: str
    text: str
    score: float | None
    pipeline: str
    pipeline_name: str
    is_public: bool


def index_specimen(conn: sqlite3.Connection, iri: str) -> None:
    """Brings the search tables to what is published about this specimen now (also when it is gone)."""
    if conn.execute("SELECT 1 FROM meta WHERE key = 'search_rebuild'").fetchone() is not None:
        conn.execute("INSERT OR IGNORE INTO search_dirty VALUES (?)", (iri,))
    write(conn, iri)


def write(conn: sqlite3.Connection, iri: str, *, prefix: str = "") -> bool:
    """Like ``index_specimen``, for the tables whose names begin with ``prefix``; whether there is such a specimen."""
    old = conn.execute(f"SELECT n FROM {prefix}specimen_facet WHERE iri = ?", (iri,)).fetchone()
    found = conn.execute(
        "SELECT body, access, source FROM record WHERE iri = ? AND kind = 'specimen' AND state = 'active'", (iri,)
    ).fetchone()
    if found is None:
        if old is not None:
            _remove(conn, old[0], prefix)
        return False
    body = json.loads(found["body"])
    is_private = found["access"] >= AccessClass.PRIVATE
    if old is not None and (old[0] < 0) != is_private:
        _remove(conn, old[0], prefix)
        old = None
    n = old[0] if old is not None else _number(conn, iri, prefix, is_private=is_private)
    values = {
        **_columns(body), "n": n, "iri": iri, "access": found["access"], "source": found["source"],
        **_media_columns(conn, iri, is_private=is_private),
    }  # fmt: skip
    marks = list(_marks(conn, iri))
    read = [mark.text for mark in marks if mark.is_public and mark.text]
    text = "\n".join((*_texts(body), *read))[:MAX_TEXT_BYTES]
    conn.execute(
        f"INSERT OR REPLACE INTO {prefix}specimen_facet ({', '.join(values)}) VALUES ({', '.join('?' * len(values))})",
        tuple(values.values()),
    )
    _write_text(conn, n, text, prefix, is_new=old is None)
    _write_marks(conn, n, marks, prefix, is_new=old is None)
    return True


def reindex(conn: sqlite3.Connection) -> int:
    """Rebuilds the search tables in place, in the caller's transaction; returns how many specimens are in them."""
    known = {row[0] for row in conn.execute("SELECT iri FROM specimen_facet")}
    iris = [row[0] for row in conn.execute("SELECT iri FROM record WHERE kind = 'specimen' AND state = 'active'")]
    for table in ("specimen_text", "annotation_mark", "annotation_text"):
        conn.execute(f"DELETE FROM {table}")
    for iri in known - set(iris):
        conn.execute("DELETE FROM specimen_facet WHERE iri = ?", (iri,))
    for iri in iris:
        write(conn, iri)
    conn.execute("DELETE FROM meta WHERE key = 'search_stale'")
    return len(iris)


# ---------------------------------------------------------------------- writing
def _number(conn: sqlite3.Connection, iri: str, prefix: str, *, is_private: bool) -> int:
    table = f"{prefix}specimen_facet"
    if prefix:
        kept = conn.execute("SELECT n FROM specimen_facet WHERE iri = ?", (iri,)).fetchone()
        if (
            kept is not None
            and (kept[0] < 0) == is_private
            and not conn.execute(f"SELECT 1 FROM {table} WHERE n = ?", (kept[0],)).fetchone()
        ):
            return int(kept[0])
    names = ("specimen_facet", table) if prefix else (table,)
    ends = [
        conn.execute(f"SELECT coalesce({'min' if is_private else 'max'}(n), 0) FROM {name}").fetchone()[0]
        for name in names
    ]
    return int(min(0, *ends)) - 1 if is_private else int(max(0, *ends)) + 1


def _remove(conn: sqlite3.Connection, n: int, prefix: str) -> None:
    conn.execute(f"DELETE FROM {prefix}specimen_facet WHERE n = ?", (n,))
    conn.execute(f"DELETE FROM {prefix}specimen_text WHERE rowid = ?", (n,))
    _write_marks(conn, n, [], prefix, is_new=False)


def _write_text(conn: sqlite3.Connection, n: int, text: str, prefix: str, *, is_new: bool) -> None:
    if not is_new:
        known = conn.execute(f"SELECT body FROM {prefix}specimen_text WHERE rowid = ?", (n,)).fetchone()
        if known is not None and known[0] == text:
            return
        conn.execute(f"DELETE FROM {prefix}specimen_text WHERE rowid = ?", (n,))
    conn.execute(f"INSERT INTO {prefix}specimen_text (rowid, body) VALUES (?, ?)", (n, text))


def _write_marks(conn: sqlite3.Connection, n: int, marks: list[Mark], prefix: str, *, is_new: bool) -> None:
    if not is_new:
        ids = [row[0] for row in conn.execute(f"SELECT id FROM {prefix}annotation_mark WHERE n = ?", (n,))]
        for number in ids:
            conn.execute(f"DELETE FROM {prefix}annotation_text WHERE rowid = ?", (number,))
        conn.execute(f"DELETE FROM {prefix}annotation_mark WHERE n = ?", (n,))
    for mark in marks:
        number = conn.execute(
            f"INSERT INTO {prefix}annotation_mark (n, annotation, class, score, pipeline, pipeline_name, is_public) "
            "VALUES (?, ?, ?, ?, ?, ?, ?)",
            (n, mark.annotation, mark.kind, mark.score, mark.pipeline, mark.pipeline_name, int(mark.is_public)),
        ).lastrowid
        if mark.text:
            conn.execute(
                f"INSERT INTO {prefix}annotation_text (rowid, body) VALUES (?, ?)",
                (number, mark.text),
            )


# ---------------------------------------------------------------------- what a record says
def _columns(body: dict[str, Any]) -> dict[str, Any]:
    first: dict[str, Any] = {}
    for key, value in walk(body):
        if value not in (None, ""):
            first.setdefault(key, value)
    found: dict[str, Any] = {column: _text(first.get(term)) for column, term in _TERMS.items()}
    found["canonical_name"] = _text(first.get("vasculum:canonicalName")) or _canonical(found)
    country, code = _text(first.get("dwc:country")), found["country_code"]
    found["country"], found["country_or_code"] = country or code, code or country
    latitude, longitude = (_decimal(first.get(f"dwc:decimal{name}")) for name in ("Latitude", "Longitude"))
    if latitude is not None and longitude is not None and abs(latitude) <= 90 and abs(longitude) <= 180:
        found["latitude"], found["longitude"] = latitude, longitude
    found["uncertainty"] = _decimal(first.get("dwc:coordinateUncertaintyInMeters"))
    found["elevation"] = _decimal(first.get("dwc:minimumElevationInMeters"))
    found |= _dates(first)
    return found


def _dates(first: dict[str, Any]) -> dict[str, Any]:
    text = str(first.get("dwc:eventDate", "")).strip()
    span = span_of_event(text)
    year, month = _whole(first.get("dwc:year"), 4), _whole(first.get("dwc:month"), 2)
    if month is not None and not 1 <= month <= 12:
        month = None
    if span is None:
        if year is None and _YEAR_FIRST.match(text):  # 1901-00-00
            year = int(text[:4])
        return {"year": year, "month": month}
    begin, end = span
    if year is None and begin[:4] == end[:4]:
        year = int(begin[:4])
    if month is None and begin[:7] == end[:7]:
        month = int(begin[5:7])
    return {"year": year, "month": month, "first_day": begin, "last_day": end}


def _canonical(found: dict[str, Any]) -> str | None:
    """The name without its authors, where the record says what they are; for names that no parser took apart."""
    name, author = found["scientific_name"], found["name_authorship"]
    if name is None:
        return None
    if author and name.endswith(author):
        return str(name[: -len(author)].strip()) or str(name)
    parts = (found["genus"], found["specific_epithet"], found["infraspecific_epithet"])
    composed = " ".join(part for part in parts if part) if parts[0] and parts[1] else ""
    return composed if composed and str(name).startswith(composed) else str(name)


def _media_columns(conn: sqlite3.Connection, iri: str, *, is_private: bool) -> dict[str, Any]:
    """Of media that whoever sees the specimen may know of."""
    row = conn.execute(
        f"""SELECT count(*) AS media, coalesce(max({HAS_IMAGE}), 0) AS has_image
            FROM medium_specimen s JOIN medium m ON m.iri = s.medium
            WHERE s.specimen = ? AND m.state = 'active' AND (m.access < ? OR ?)""",
        (iri, int(AccessClass.PRIVATE), is_private),
    ).fetchone()
    return {"media_type": "StillImage" if row["media"] else None, "has_image": row["has_image"]}


def _marks(conn: sqlite3.Connection, specimen: str) -> Iterator[Mark]:
    rows = conn.execute(
        """SELECT a.iri, r.body, (r.access = 0 AND r.sensitive = 0) AS is_public FROM annotation a
           JOIN record r ON r.iri = a.iri JOIN medium_specimen s ON s.medium = a.medium
           WHERE s.specimen = ? AND r.state = 'active' AND (a.state = 'current' OR (a.state = 'evidence replaced'
             AND a.iri = (SELECT b.iri FROM annotation b JOIN record q ON q.iri = b.iri AND q.state = 'active'
                          WHERE b.medium = a.medium AND b.output = a.output AND b.state <> 'superseded'
                          ORDER BY b.state = 'current' DESC, b.created DESC, b.iri LIMIT 1)))
           ORDER BY a.iri""",
        (specimen,),
    ).fetchall()
    left = MAX_MARKS
    for row in rows:
        body = json.loads(row["body"])
        creator = body.get("dcterms:creator")
        name = str(creator.get("schema:name", "")) if isinstance(creator, dict) else ""
        contract = str(body.get("vasculum:outputContract", "")).partition("/")[0] or "annotation"
        pipeline = str(body.get("vasculum:pipeline", ""))
        regions = body.get("vasculum:hasRegion") or _values(body)
        for region in (regions or [{}])[:left]:
            left -= 1
            yield Mark(
                row["iri"], str(region.get("vasculum:class") or contract),
                unicodedata.normalize("NFC", str(region.get("vasculum:text", "")))[:MAX_TEXT_BYTES],
                _decimal(region.get("vasculum:score")), pipeline, name, bool(row["is_public"]),
            )  # fmt: skip


def _values(body: dict[str, Any]) -> list[dict[str, Any]]:
    """Annotations that hold texts but no regions."""
    found = body.get("oa:hasBody")
    value = found.get("oa:value") if isinstance(found, dict) else None
    texts = value if isinstance(value, list) else [value]
    return [{"vasculum:text": text} for text in texts if isinstance(text, str)]


def walk(value: Any) -> Iterator[tuple[str, Any]]:
    """Every plain member of a document with its key, in order; not what stands in lists of plain values (codes)."""
    if isinstance(value, dict):
        for key, item in value.items():
            if key == "@context":
                continue
            if isinstance(item, dict | list):
                yield from walk(item)
            else:
                yield key, item
    elif isinstance(value, list):
        for item in value:
            yield from walk(item)


def _texts(body: dict[str, Any]) -> Iterator[str]:
    for key, value in walk(body):
        if isinstance(value, str) and key not in _NOT_WORDS and not value.startswith(("http://", "https://")):
            yield unicodedata.normalize("NFC", value)


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, dict | list):
        return None
    return unicodedata.normalize("NFC", str(value)).strip() or None


def _decimal(value: Any) -> float | None:
    text = "" if value is None else str(value).strip()
    return float(text) if _DECIMAL.match(text) else None


def _whole(value: Any, digits: int) -> int | None:
    text = "" if value is None else str(value).strip()
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= digits else None
