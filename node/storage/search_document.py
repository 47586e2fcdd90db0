"""What a specimen's document says to the search tables: values for their columns, and its words. Pure.

Only the public document is read, so what was withheld from it is not here either.

It leaves out: the tables (``node.storage.search_index``), what machines read from images, media.
"""

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from linkeddata.event_dates import span_of_event

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
class SearchDocument:
    """Of one specimen."""

    columns: dict[str, Any]
    """Column of specimen_facet -> value; every document has the same columns in the same order."""
    words: str
    """Every text in it, but for our own words and addresses; NFC."""


def read_document(body: dict[str, Any]) -> SearchDocument:
    """Reads a specimen's document."""
    members: list[tuple[str, Any]] = []
    _collect(body, members)
    first: dict[str, Any] = {}
    for key, value in members:
        if value is not None and value != "":
            first.setdefault(key, value)
    words = [
        value if value.isascii() else unicodedata.normalize("NFC", value)
        for key, value in members
        if type(value) is str and key not in _NOT_WORDS and not value.startswith(("http://", "https://"))
    ]
    return SearchDocument(_columns(first), "\n".join(words))


def walk(value: Any) -> Iterator[tuple[str, Any]]:
    """Every plain member of a document with its key, in the order of its canonical bytes.

    Not what stands in lists of plain values (codes).
    """
    members: list[tuple[str, Any]] = []
    _collect(value, members)
    return iter(members)


def decimal_of(value: Any) -> float | None:
    """A number that is written as a decimal; None when it is none."""
    text = "" if value is None else str(value).strip()
    return float(text) if _DECIMAL.match(text) else None


def _collect(value: Any, members: list[tuple[str, Any]]) -> None:
    if isinstance(value, dict):
        for key in sorted(value):  # as in its canonical bytes, whoever made it
            item = value[key]
            if type(item) is str or not isinstance(item, (dict, list)):
                members.append((key, item))
            elif key != "@context":
                _collect(item, members)
    elif isinstance(value, list):
        for item in value:
            _collect(item, members)


def _columns(first: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {column: _text(first.get(term)) for column, term in _TERMS.items()}
    found["canonical_name"] = _text(first.get("vasculum:canonicalName")) or _canonical(found)
    country, code = _text(first.get("dwc:country")), found["country_code"]
    found["country"], found["country_or_code"] = country or code, code or country
    latitude, longitude = (decimal_of(first.get(f"dwc:decimal{name}")) for name in ("Latitude", "Longitude"))
    is_place = latitude is not None and longitude is not None and abs(latitude) <= 90 and abs(longitude) <= 180
    found["latitude"], found["longitude"] = (latitude, longitude) if is_place else (None, None)
    found["uncertainty"] = decimal_of(first.get("dwc:coordinateUncertaintyInMeters"))
    found["elevation"] = decimal_of(first.get("dwc:minimumElevationInMeters"))
    found["year"], found["month"], found["first_day"], found["last_day"] = _dates(first)
    return found


def _dates(first: dict[str, Any]) -> tuple[int | None, int | None, str | None, str | None]:
    """Year, month, first and last day."""
    text = str(first.get("dwc:eventDate", "")).strip()
    span = span_of_event(text)
    year, month = _whole(first.get("dwc:year"), 4), _whole(first.get("dwc:month"), 2)
    if month is not None and not 1 <= month <= 12:
        month = None
    if span is None:
        if year is None and _YEAR_FIRST.match(text):  # 1901-00-00
            year = int(text[:4])
        return year, month, None, None
    begin, end = span
    if year is None and begin[:4] == end[:4]:
        year = int(begin[:4])
    if month is None and begin[:7] == end[:7]:
        month = int(begin[5:7])
    return year, month, begin, end


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


def _text(value: Any) -> str | None:
    if value is None:
        return None
    text = value if type(value) is str else str(value)
    return (text if text.isascii() else unicodedata.normalize("NFC", text)).strip() or None


def _whole(value: Any, digits: int) -> int | None:
    text = "" if value is None else str(value).strip()
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= digits else None
