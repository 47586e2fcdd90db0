"""The words of the selection language: which parameters there are, what each means, and how each is compared.

Names are GBIF's (gbif-api, OccurrenceSearchParameter) where GBIF has one; in predicates they may also be written as
there, ``CATALOG_NUMBER``. Taxa travel as name, rank and authority, never as keys of one checklist.

Invariants:
- Every parameter has one kind, and the kind alone says which values and comparisons it takes.
- A parameter whose name begins with ``local`` means something at one node only.

It leaves out: the tree of conditions (``linkeddata.selection``) and columns of databases.
"""

import difflib
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from linkeddata.errors import SelectionError


class Kind(StrEnum):
    """How values of a parameter are compared."""

    TEXT = "text"
    """Equal, letters A to Z without regard to case."""
    VOCABULARY = "vocabulary"
    """Like text; ``PRESERVED_SPECIMEN`` is PreservedSpecimen."""
    LICENCE = "licence"
    """Any spelling that docs/reference-licences.md knows."""
    WHOLE = "whole number"
    NUMBER = "number"
    DATE = "date"
    """Year, month or day; a record fits when its whole time lies inside."""
    BOOLEAN = "true or false"
    GEOMETRY = "geometry"
    WORDS = "words"
    ANNOTATION = "annotation"
    FLAG = "flag"
    """A record has any number of them; it never lacks a value: having none is an answer."""


RANGED: Final = frozenset({Kind.WHOLE, Kind.NUMBER, Kind.DATE})
"""Kinds that take ``a,b``."""
TEXTUAL: Final = frozenset({Kind.TEXT, Kind.VOCABULARY, Kind.LICENCE})
"""Kinds that take patterns (``~``)."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter."""

    name: str
    kind: Kind
    term: str
    """Darwin Core or other term; empty where several stand behind it."""

    @property
    def gbif(self) -> str:
        """The name in predicates, ``CATALOG_NUMBER``."""
        return re.sub(r"(?<=[a-z])(?=[A-Z])|\.", "_", self.name).upper()

    @property
    def is_local(self) -> bool:
        """It means something at one node only."""
        return self.name.startswith("local")


_T, _V, _A = Kind.TEXT, Kind.VOCABULARY, Kind.ANNOTATION
_ALL: Final = (
    Parameter("q", Kind.WORDS, ""),
    Parameter("scientificName", _T, "dwc:scientificName"),
    Parameter("scientificNameAuthorship", _T, "dwc:scientificNameAuthorship"),
    Parameter("taxonRank", _T, "dwc:taxonRank"),
    Parameter("kingdom", _T, "dwc:kingdom"),
    Parameter("phylum", _T, "dwc:phylum"),
    Parameter("class", _T, "dwc:class"),
    Parameter("order", _T, "dwc:order"),
    Parameter("family", _T, "dwc:family"),
    Parameter("genus", _T, "dwc:genus"),
    Parameter("specificEpithet", _T, "dwc:specificEpithet"),
    Parameter("infraspecificEpithet", _T, "dwc:infraspecificEpithet"),
    Parameter("typeStatus", _V, "dwc:typeStatus"),
    Parameter("identifiedBy", _T, "dwc:identifiedBy"),
    Parameter("continent", _V, "dwc:continent"),
    Parameter("country", _T, "dwc:country"),
    Parameter("countryCode", _T, "dwc:countryCode"),
    Parameter("stateProvince", _T, "dwc:stateProvince"),
    Parameter("county", _T, "dwc:county"),
    Parameter("locality", _T, "dwc:locality"),
    Parameter("decimalLatitude", Kind.NUMBER, "dwc:decimalLatitude"),
    Parameter("decimalLongitude", Kind.NUMBER, "dwc:decimalLongitude"),
    Parameter("coordinateUncertaintyInMeters", Kind.NUMBER, "dwc:coordinateUncertaintyInMeters"),
    Parameter("elevation", Kind.NUMBER, "dwc:minimumElevationInMeters"),
    Parameter("hasCoordinate", Kind.BOOLEAN, ""),
    Parameter("geometry", Kind.GEOMETRY, ""),
    Parameter("year", Kind.WHOLE, "dwc:year"),
    Parameter("month", Kind.WHOLE, "dwc:month"),
    Parameter("eventDate", Kind.DATE, "dwc:eventDate"),
    Parameter("recordedBy", _T, "dwc:recordedBy"),
    Parameter("recordNumber", _T, "dwc:recordNumber"),
    Parameter("institutionCode", _T, "dwc:institutionCode"),
    Parameter("collectionCode", _T, "dwc:collectionCode"),
    Parameter("catalogNumber", _T, "dwc:catalogNumber"),
    Parameter("occurrenceId", _T, "dwc:occurrenceID"),
    Parameter("basisOfRecord", _V, "dwc:basisOfRecord"),
    Parameter("sex", _V, "dwc:sex"),
    Parameter("lifeStage", _V, "dwc:lifeStage"),
    Parameter("license", Kind.LICENCE, "dcterms:license"),
    Parameter("mediaType", _V, "dcterms:type"),
    Parameter("hasImage", Kind.BOOLEAN, "vasculum:hasImage"),
    Parameter("issue", Kind.FLAG, "vasculum:issue"),
    Parameter("annotation.class", _A, "vasculum:class"),
    Parameter("annotation.text", _A, "vasculum:text"),
    Parameter("annotation.pipeline", _A, "vasculum:pipeline"),
    Parameter("scoreMin", _A, "vasculum:score"),
    Parameter("localAccess", _T, "vasculum:accessClass"),
    Parameter("localSource", _T, ""),
)
SEARCH_PARAMETERS: Final[dict[str, Parameter]] = {item.name: item for item in _ALL}
"""By name, in the order in which people read them."""
_ALIASES: Final = {"occurrenceID": "occurrenceId", "licence": "license", "OCCURRENCEID": "occurrenceId"}
_BY_GBIF: Final = {item.gbif: item.name for item in _ALL}
_INSTEAD: Final[dict[str, str]] = {
    **dict.fromkeys(
        (
            "taxonKey", "kingdomKey", "phylumKey", "classKey", "orderKey", "familyKey", "genusKey", "speciesKey",
            "acceptedTaxonKey", "subgenusKey", "usageKey",
        ),
        "keys mean a taxon in one checklist only; write the name, such as family=Fabaceae or "
        "scientificName with taxonRank and scientificNameAuthorship",
    ),
    **dict.fromkeys(
        ("datasetKey", "publishingOrg", "installationKey", "networkKey"),
        "a node does not know GBIF's keys; institutionCode and collectionCode say whose it is",
    ),
    "offset": "pages are asked for with after=, as the answer's next says",
    "gadmGid": "areas are asked for with country, stateProvince, county or geometry",
    "geoDistance": "areas are asked for with geometry=POLYGON((..))",
    "hasGeospatialIssue": "ask for flags, such as issue=COUNTRY_COORDINATE_MISMATCH issue=ZERO_COORDINATE",
}  # fmt: skip
"""What people who know GBIF ask for, and what to ask here."""


def find_parameter(name: str) -> Parameter:
    """The parameter of this name, in GBIF's way of writing queries or predicates.

    Raises:
        SelectionError: there is none; the message names the nearest.
    """
    known = SEARCH_PARAMETERS.get(_ALIASES.get(name) or _BY_GBIF.get(name) or name)
    if known is not None:
        return known
    instead = _INSTEAD.get(name) or _INSTEAD.get(_camel(name))
    if instead is not None:
        raise SelectionError(f"{name} is not a search parameter here: {instead}")
    close = difflib.get_close_matches(name[:60], SEARCH_PARAMETERS, n=1, cutoff=0.5)
    if not close:
        close = difflib.get_close_matches(_camel(name[:60]), SEARCH_PARAMETERS, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]}?" if close else "known are " + ", ".join(SEARCH_PARAMETERS)
    raise SelectionError(f"unknown search parameter {name[:60]!r}: {hint}")


def _camel(name: str) -> str:
    first, *rest = name.lower().split("_")
    return first + "".join(part.capitalize() for part in rest)
