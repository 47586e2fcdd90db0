"""Sensitive taxa: what must not be said about where they grow, and how it is said that it is not said.

Follows Chapman 2020, "Current Best Practices for Generalizing Sensitive Species Occurrence Data" (GBIF):
category 1 no place, 2 to 0.1 degree, 3 to 0.01, 4 to 0.001; rounding, never randomising; the method goes into
``dwc:dataGeneralizations``, what exists and how to ask into ``dwc:informationWithheld``.

Invariant: generalising happens before anything is published or indexed, so no query can tell more than the record.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal, InvalidOperation
from typing import Final

DECIMALS: Final = {2: "0.1", 3: "0.01", 4: "0.001"}
"""Degrees kept, by category."""
WITHHELD: Final = frozenset(
    {
        "dwc:locality", "dwc:verbatimLocality", "dwc:verbatimLabel", "dwc:locationRemarks", "dwc:locationID",
        "dwc:municipality", "dwc:island", "dwc:waterBody", "dwc:habitat", "dwc:fieldNotes", "dwc:fieldNumber",
        "dwc:recordNumber", "dwc:verbatimCoordinates", "dwc:verbatimLatitude", "dwc:verbatimLongitude",
        "dwc:verbatimElevation", "dwc:minimumElevationInMeters", "dwc:maximumElevationInMeters",
        "dwc:minimumDepthInMeters", "dwc:maximumDepthInMeters", "dwc:footprintWKT", "dwc:footprintSRS",
        "dwc:georeferenceSources", "dwc:georeferenceRemarks", "dwc:verbatimEventDate", "dwc:eventRemarks",
        "dwc:occurrenceRemarks", "dwc:dynamicProperties", "dwc:associatedMedia", "dwc:county", "dwc:eventID",
        "dwc:higherGeography", "dwc:coordinatePrecision", "dwc:pointRadiusSpatialFit", "dwc:month", "dwc:day",
        "dwc:startDayOfYear", "dwc:endDayOfYear", "dwc:eventTime", "dwc:associatedOccurrences", "dwc:organismRemarks",
    }
)  # fmt: skip
"""Terms that tell the place, or let it be found through the collector's diary."""
KEPT: Final = frozenset(
    {
        "dwc:occurrenceID", "dwc:catalogNumber", "dwc:institutionCode", "dwc:collectionCode", "dwc:basisOfRecord",
        "dwc:scientificName", "dwc:scientificNameAuthorship", "dwc:kingdom", "dwc:phylum", "dwc:class", "dwc:order",
        "dwc:family", "dwc:genus", "dwc:specificEpithet", "dwc:taxonRank", "dwc:typeStatus", "dwc:identifiedBy",
        "dwc:country", "dwc:countryCode", "dwc:continent", "dwc:stateProvince", "dwc:year", "dwc:preparations",
        "dcterms:license", "dcterms:rightsHolder", "dwc:institutionID", "dwc:collectionID", "dwc:preservationType",
    }
)  # fmt: skip
"""The only terms that a sensitive record keeps as they are; a term we do not know may tell the place."""


_NAME_TERMS: Final = (
    "dwc:scientificName", "dwc:acceptedNameUsage", "dwc:originalNameUsage", "dwc:verbatimIdentification",
    "dwc:previousIdentifications", "dwc:species", "gbif:species", "http://rs.gbif.org/terms/1.0/species",
)  # fmt: skip
_QUALIFIERS: Final = frozenset({"cf.", "cf", "aff.", "aff", "x", "ssp.", "subsp.", "var.", "f.", "s.l.", "s.str."})


@dataclass(frozen=True, slots=True, kw_only=True)
class SensitiveRule:
    """A taxon whose places are not told."""

    term: str
    """``dwc:scientificName``, ``dwc:genus``, ..."""
    value: str
    category: int


def find_category(fields: Mapping[str, str], rules: Iterable[SensitiveRule]) -> int | None:
    """The strictest category that applies to a row; None when it is not sensitive.

    In doubt a row is sensitive: a place that was told cannot be taken back.
    - A scientific name matches with or without authorship or infraspecific part, in every term that holds a name,
      and with the signs of doubt and hybrids left out (``Cypripedium cf. calceolus``).
    - A genus matches its own term and the first word of every name.
    """
    names = _names(fields)
    found = [rule.category for rule in rules if _applies(rule, fields, names)]
    return min(found, default=None)


def _applies(rule: SensitiveRule, fields: Mapping[str, str], names: Iterable[tuple[str, ...]]) -> bool:
    want = _words(rule.value)
    if not want:
        return False
    if _words(fields.get(rule.term, "")) == want:
        return True
    return rule.term in ("dwc:scientificName", "dwc:genus") and any(name[: len(want)] == want for name in names)


def _names(fields: Mapping[str, str]) -> list[tuple[str, ...]]:
    composed = " ".join(
        fields.get(term, "") for term in ("dwc:genus", "dwc:specificEpithet", "dwc:infraspecificEpithet")
    )
    names = [_words(fields.get(term, "")) for term in _NAME_TERMS]
    return [name for name in (*names, _words(composed)) if name]


def _words(text: str) -> tuple[str, ...]:
    """Words of a name without what does not change which taxon is meant: marks of doubt, hybrid signs, subgenus."""
    stripped = (word.strip("?,;:[]\"'×†") for word in text.casefold().split())
    return tuple(word for word in stripped if word and word not in _QUALIFIERS and not word.startswith("("))


def generalise(fields: Mapping[str, str], category: int) -> dict[str, str]:
    """The fields that may be published.

    Category 1 also drops the state or province; coordinates are rounded by category; dates are cut to the year.
    """
    kept = {term: value for term, value in fields.items() if term in KEPT and value}
    if category == 1:
        kept.pop("dwc:stateProvince", None)
    date = fields.get("dwc:eventDate", "")
    if len(date) >= 4 and date[:4].isdecimal():
        kept["dwc:eventDate"] = date[:4]
    rounded = False
    step = DECIMALS.get(category)
    if step is not None:
        for term in ("dwc:decimalLatitude", "dwc:decimalLongitude"):
            value = _round(fields.get(term, ""), step)
            if value is not None:
                kept[term], rounded = value, True
    if rounded and step is not None:
        kept["dwc:coordinatePrecision"] = step
        if fields.get("dwc:geodeticDatum"):
            kept["dwc:geodeticDatum"] = fields["dwc:geodeticDatum"]
    said = fields.get("dwc:dataGeneralizations", "").strip()
    kept["dwc:dataGeneralizations"] = "; ".join(
        part
        for part in (
            said,
            f"coordinates rounded to {step} degree" if rounded else "",
            f"place and date generalised, category {category} of Chapman 2020",
        )
        if part
    )
    kept["dwc:informationWithheld"] = "place, label text, image and collecting details exist; ask the institution"
    return kept


def _round(text: str, step: str) -> str | None:
    try:
        value = Decimal(text.strip())
    except InvalidOperation:
        return None
    if not value.is_finite() or abs(value) > 360:
        return None
    return str(value.quantize(Decimal(step), rounding=ROUND_HALF_EVEN))
