"""Issues of a record: what each flag is called, what it says, and what to do about it.

Names are those of GBIF's OccurrenceIssue (gbif-api, ``org.gbif.api.vocabulary``) wherever GBIF has one for it; of its
NameUsageIssue for names; those that GBIF has not are marked ``is_ours``. ``docs/reference-findings.md`` is made from
this table.

It leaves out: finding them (``linkeddata.checks``); findings about archives and files, whose codes are in lower case.
"""

# ruff: noqa: E501 - a table whose cells are sentences

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Flag:
    """A kind of issue."""

    code: str
    says: str
    """What was seen, and why it matters."""
    advice: str
    """What the institution can do."""
    is_ours: bool = False
    """Whether GBIF has no flag for it."""


@dataclass(frozen=True, slots=True, order=True)
class Issue:
    """One issue of one record."""

    code: str
    detail: str
    """The values that led to it, as received; for staff only."""


_TABLE: Final[tuple[tuple[str, str, str, bool], ...]] = (
    # code, what was seen and why it matters, what to do, ours
    ("RECORDED_DATE_INVALID", "The collecting date is no date of the calendar, or not written as ISO 8601, so no search by year finds the record.", "Write eventDate as 1901-05-02, 1901-05, 1901, or 1901-05-02/1901-06-30; keep what the label says in verbatimEventDate.", False),
    ("RECORDED_DATE_UNLIKELY", "The collecting date lies in the future or before 1600.", "Look at the label; a century is often mistyped.", False),
    ("RECORDED_DATE_MISMATCH", "eventDate and year, month, day or the days of the year contradict each other.", "Correct the one that is wrong; day and month are often exchanged.", False),
    ("IDENTIFIED_DATE_INVALID", "dateIdentified is no date of the calendar, or not ISO 8601.", "Write it as 1987-03-01, or 1987.", False),
    ("IDENTIFIED_DATE_UNLIKELY", "dateIdentified lies in the future, or before 1700.", "Look at the determination label.", False),
    ("GEOREFERENCED_DATE_INVALID", "georeferencedDate is no date of the calendar, or not ISO 8601.", "Write it as 2015-03-01.", False),
    ("GEOREFERENCED_DATE_UNLIKELY", "georeferencedDate lies in the future, or before 1700.", "Correct it.", False),
    ("MODIFIED_DATE_INVALID", "dcterms:modified is no date of the calendar, or not ISO 8601.", "Let the export write it as 2024-03-01T12:00:00Z.", False),
    ("MODIFIED_DATE_UNLIKELY", "dcterms:modified lies in the future, or before 1970.", "Look at the clock and the export of the collection system.", False),
    ("COORDINATE_INVALID", "decimalLatitude or decimalLongitude is no number, or one of them is missing.", "Write decimal degrees with a point; keep other forms in verbatimCoordinates.", False),
    ("COORDINATE_OUT_OF_RANGE", "A latitude beyond 90 or a longitude beyond 180 degrees.", "Look for a missing decimal point, or metres of a national grid.", False),
    ("ZERO_COORDINATE", "Exactly 0, 0: in the sea off Africa, and nearly always an empty field.", "Leave both empty when the place is not georeferenced.", False),
    ("PRESUMED_SWAPPED_COORDINATE", "The point lies in the stated country once latitude and longitude are exchanged.", "Exchange them.", False),
    ("PRESUMED_NEGATED_LATITUDE", "The point lies in the stated country once the latitude changes its sign.", "South is negative: correct the sign.", False),
    ("PRESUMED_NEGATED_LONGITUDE", "The point lies in the stated country once the longitude changes its sign.", "West is negative: correct the sign.", False),
    ("COUNTRY_COORDINATE_MISMATCH", "The point lies in no place that the stated country reaches, nor within 200 nautical miles of its coast.", "Look at both; borders that moved since the collecting are a good reason to leave it.", False),
    ("COUNTRY_INVALID", "country or countryCode is no country that is known here.", "Use a code of ISO 3166-1 such as DE in countryCode; former countries belong in verbatimLocality or higherGeography.", False),
    ("COUNTRY_MISMATCH", "country and countryCode name different countries.", "Correct the one that is wrong.", False),
    ("COORDINATE_UNCERTAINTY_METERS_INVALID", "coordinateUncertaintyInMeters is no number above 0, or beyond 20,000 km.", "Write metres as a plain number; leave it empty when unknown.", False),
    ("COORDINATE_PRECISION_INVALID", "coordinatePrecision is no number between 0 and 1 (degrees).", "Write 0.01 for two decimals; a distance belongs in coordinateUncertaintyInMeters.", False),
    ("ELEVATION_NON_NUMERIC", "An elevation is no number.", "Write metres as a plain number; keep the label's words in verbatimElevation.", False),
    ("ELEVATION_UNLIKELY", "An elevation above 17,000 m or below -11,000 m.", "Look for feet, or a digit too many.", False),
    ("ELEVATION_MIN_MAX_SWAPPED", "The least elevation is above the greatest.", "Exchange them.", False),
    ("DEPTH_NON_NUMERIC", "A depth is no number.", "Write metres as a plain number.", False),
    ("DEPTH_UNLIKELY", "A depth below 0 or beyond 11,000 m.", "Depths are positive, in metres.", False),
    ("DEPTH_MIN_MAX_SWAPPED", "The least depth is greater than the greatest.", "Exchange them.", False),
    ("BASIS_OF_RECORD_INVALID", "basisOfRecord is missing or no word of the vocabulary.", "Use PreservedSpecimen, FossilSpecimen, LivingSpecimen, MaterialSample, MaterialEntity, MaterialCitation, HumanObservation, MachineObservation or Occurrence.", False),
    ("TYPE_STATUS_INVALID", "typeStatus is no word of the vocabulary of types.", "Use holotype, isotype, lectotype, paratype, syntype and their like; what is typified follows after 'of'.", False),
    ("SUSPECTED_TYPE", "typeStatus says that it is in doubt.", "Nothing, if it is.", False),
    ("INDIVIDUAL_COUNT_INVALID", "individualCount is no whole number from 0 on.", "Put other words into organismQuantity.", False),
    ("RANK_INVALID", "taxonRank is no rank that is known.", "Use species, subspecies, variety, form, genus, family and their like.", False),
    ("UNPARSABLE", "scientificName is not formed like a scientific name.", "Leave it empty when nothing is identified; put remarks into identificationRemarks.", False),
    ("PARTIALLY_PARSABLE", "Only the beginning of scientificName could be read as a name.", "Move remarks to identificationRemarks, doubts to identificationQualifier.", False),
    ("TAXON_RANK_MISMATCH", "taxonRank and what scientificName is formed like contradict each other.", "Correct the rank, or complete the name.", True),
    ("NAME_PARTS_MISMATCH", "genus, specificEpithet or infraspecificEpithet differ from those in scientificName.", "Correct the one that is wrong; they often stay behind after a new determination.", True),
    ("DUPLICATE_CATALOG_NUMBER", "Another record of this source has the same institution, collection and catalogue number.", "Give each specimen its own, or tell parts apart by a suffix.", True),
    ("IMAGE_OF_OTHER_RECORD", "Another record names the same image, or one with the same bytes.", "Right for several specimens on one sheet; otherwise a file was attached to the wrong record.", True),
    ("LICENSE_MISSING", "Neither the record nor the settings say under which licence its data may be used.", "Fill dcterms:license, or `license` of the source in node.toml.", True),
    ("LICENSE_NOT_RECOGNISED", "A licence is stated that docs/reference-licences.md does not know; the words are kept, and the bytes stay restricted.", "Use an address of Creative Commons.", True),
    ("MEDIA_FORMAT_MISSING", "An image without dcterms:format: GBIF leaves out media that have neither format nor type.", "Let the export write image/jpeg and its like.", True),
    ("MULTIMEDIA_URI_INVALID", "The address of an image has blanks or characters that no address may have.", "Encode them (%20), or give the path of a file.", False),
    ("MULTIMEDIA_DATE_INVALID", "dcterms:created of an image is no date of the calendar, or not ISO 8601.", "Write it as 2019-03-01.", False),
)  # fmt: skip
FLAGS: Final[Mapping[str, Flag]] = {
    code: Flag(code=code, says=says, advice=advice, is_ours=ours) for code, says, advice, ours in _TABLE
}
"""Every flag there is, in the order of the reference."""
ACROSS_RECORDS: Final = frozenset({"DUPLICATE_CATALOG_NUMBER", "IMAGE_OF_OTHER_RECORD"})
"""Flags that no record shows by itself: they are found over a whole source."""
MAX_DETAIL_CHARS: Final = 200
"""Of the values that a detail repeats: a flag points at a field, it does not copy it."""


def issue(code: str, detail: str) -> Issue:
    """An issue with a bounded detail; the code must be in the table."""
    return Issue(FLAGS[code].code, " ".join(detail.split())[:MAX_DETAIL_CHARS])
