"""What must not be said about where a sensitive taxon grows, and how it is said that it is not said.

Follows Chapman 2020, "Current Best Practices for Generalizing Sensitive Species Occurrence Data" (GBIF):
category 1 no place, 2 to 0.1 degree, 3 to 0.01, 4 to 0.001; rounding, never randomising; the method goes into
``dwc:dataGeneralizations``, what exists and how to ask into ``dwc:informationWithheld``.

Invariants:
- Generalising happens before anything is published or indexed, so no query can tell more than the record.
- A term that we do not know may tell the place: only terms on a list are kept.
- A kept term that people fill freely is left out when it repeats a word of the place.
- Two rows that differ only below what their category tells give the same fields.

It leaves out: which rows are sensitive (``linkeddata.sensitive_taxa``), images and text read from them.
"""

import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal, InvalidOperation
from typing import Final

DECIMALS: Final = {2: "0.1", 3: "0.01", 4: "0.001"}
"""Degrees kept, by category."""
UNCERTAINTY_M: Final = {2: 7900, 3: 790, 4: 79}
"""Half the diagonal of a cell at the equator, in metres, rounded up: how far the point may be from where it was."""
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
        "dwc:recordedBy",
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
_REGIONS: Final = ("dwc:country", "dwc:countryCode", "dwc:continent", "dwc:stateProvince")
_TAXA: Final = (
    "dwc:scientificName", "dwc:scientificNameAuthorship", "dwc:kingdom", "dwc:phylum", "dwc:class", "dwc:order",
    "dwc:family", "dwc:genus", "dwc:specificEpithet",
)  # fmt: skip
_PLACES: Final = (
    "dwc:locality", "dwc:verbatimLocality", "dwc:municipality", "dwc:county", "dwc:island", "dwc:islandGroup",
    "dwc:waterBody", "dwc:locationID", "dwc:locationRemarks", "dwc:higherGeography", "dwc:eventID", "dwc:fieldNumber",
    "dwc:georeferenceRemarks", "dwc:verbatimCoordinates", "dwc:verbatimLatitude", "dwc:verbatimLongitude",
    "dwc:decimalLatitude", "dwc:decimalLongitude",
)  # fmt: skip
_FREE: Final = tuple(sorted(KEPT - {*_REGIONS, *_TAXA, "dwc:basisOfRecord", "dwc:year", "dwc:taxonRank"}))
_DATUM: Final = re.compile(r"(?i)(?:epsg:\d{4,5}|wgs[ _-]?\d{2}|nad[ _-]?\d{2}|etrs[ _-]?\d{2}|unknown)")
_MAX_UNCERTAINTY_M: Final = 20_000_000
MIN_WORD: Final = 4
"""Shorter words ("am", "km") stand in everything."""


@dataclass(frozen=True, slots=True)
class PlaceWords:
    """The words and numbers by which a row names its place: what must not come back in another of its terms."""

    words: frozenset[str]

    @classmethod
    def of(cls, fields: Mapping[str, str]) -> "PlaceWords":
        """Of a row as received; words of the country, the state and the taxon tell nothing and are left out."""
        told = {word for term in (*_REGIONS, *_TAXA) for word in _words(fields.get(term, ""))}
        found = {word for term in _PLACES for word in _words(fields.get(term, ""))}
        numbers = {
            fields.get(term, "").strip().lstrip("-+") for term in ("dwc:decimalLatitude", "dwc:decimalLongitude")
        }
        return cls(frozenset((found - told) | {number for number in numbers if len(number) >= MIN_WORD}))

    def are_in(self, text: str) -> bool:
        """Whether a text repeats one of them, also as a part of a longer word or with other signs between."""
        folded = _fold(text)
        squeezed = "".join(char for char in folded if char.isalnum())
        return any(word in folded or word in squeezed for word in self.words)

    def only_without(self, texts: Iterable[str]) -> list[str]:
        """Those of the texts that repeat none of them."""
        if not self.words:
            return list(texts)
        return [text for text in texts if not self.are_in(text)]


def generalise(fields: Mapping[str, str], category: int, *, reason: str = "") -> dict[str, str]:
    """The fields that may be published.

    Category 1 also drops the state or province; coordinates are rounded by category; dates are cut to the year.

    Args:
        fields: as received.
        category: of Chapman 2020.
        reason: of the list, said in ``dwc:informationWithheld``.
    """
    kept = {term: value for term, value in fields.items() if term in KEPT and value}
    place = PlaceWords.of(fields)
    for term in _FREE:
        if term in kept and place.are_in(kept[term]):
            del kept[term]
    if not re.fullmatch(r"\d{4}", kept.get("dwc:year", "0000"), re.ASCII):
        del kept["dwc:year"]
    if category == 1:
        kept.pop("dwc:stateProvince", None)
    date = fields.get("dwc:eventDate", "")
    if re.match(r"\d{4}(?!\d)", date, re.ASCII):
        kept["dwc:eventDate"] = date[:4]
    rounded = _add_rounded(kept, fields, category)
    said = fields.get("dwc:dataGeneralizations", "").strip()
    kept["dwc:dataGeneralizations"] = "; ".join(
        part
        for part in (
            "" if place.are_in(said) else said,
            f"coordinates rounded to {DECIMALS[category]} degree" if rounded else "",
            f"place and date generalised, category {category} of Chapman 2020",
        )
        if part
    )
    kept["dwc:informationWithheld"] = "; ".join(
        part for part in ("place, label text, image and collecting details exist; ask the institution", reason) if part
    )
    return kept


def _add_rounded(kept: dict[str, str], fields: Mapping[str, str], category: int) -> bool:
    """Coordinates rounded by category, with what says how exact they are; both or none."""
    step = DECIMALS.get(category)
    if step is None:
        return False
    pair = [_round(fields.get(term, ""), step) for term in ("dwc:decimalLatitude", "dwc:decimalLongitude")]
    if pair[0] is None or pair[1] is None:
        return False
    kept["dwc:decimalLatitude"], kept["dwc:decimalLongitude"] = pair[0], pair[1]
    kept["dwc:coordinatePrecision"] = step
    kept["dwc:coordinateUncertaintyInMeters"] = str(
        max(UNCERTAINTY_M[category], _metres(fields.get("dwc:coordinateUncertaintyInMeters", "")))
    )
    datum = fields.get("dwc:geodeticDatum", "").strip()
    if _DATUM.fullmatch(datum):
        kept["dwc:geodeticDatum"] = datum
    return True


def _metres(text: str) -> int:
    try:
        value = Decimal(text.strip())
    except InvalidOperation:
        return 0
    return min(int(value), _MAX_UNCERTAINTY_M) if value.is_finite() and value > 0 else 0


def _round(text: str, step: str) -> str | None:
    try:
        value = Decimal(text.strip())
    except InvalidOperation:
        return None
    if not value.is_finite() or abs(value) > 360:
        return None
    rounded = value.quantize(Decimal(step), rounding=ROUND_HALF_EVEN)
    return str(rounded.copy_abs() if rounded.is_zero() else rounded)


def _words(text: str) -> set[str]:
    found = re.findall(r"[^\W\d_]+|\d+", _fold(text))
    return {word for word in found if len(word) >= MIN_WORD and not word.isdecimal()}


def _fold(text: str) -> str:
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    return "".join(char for char in decomposed if not unicodedata.combining(char))
