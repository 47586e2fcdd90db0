"""MIDS: how completely a specimen is digitised, by the official maps of TDWG.

Minimum Information about a Digital Specimen, https://www.tdwg.org/community/cd/mids/; the maps (SSSOM, mapping set
version 1 of 2026-01-12, CC0) lie in ``linkeddata/data/mids`` unchanged and say which term of a Darwin Core Archive
answers which element of which level.

How a map is read:
- An element is there when one of its terms has a value (``skos:narrowMatch``, ``skos:exactMatch``), or all terms of
  one ``object_match_field`` have (``owl:intersectionOf``).
- Values in ``semapv:RegexRemoval`` (``unknown:undigitized``, ``incertae sedis``) are no values.
- Levels are cumulative; a record without the elements of MIDS 0 has no level.

It leaves out: maps for ABCD and DwC-DP; elements that only people can judge.
"""

import csv
import importlib.resources
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

BIOLOGY: Final = "biology"
GEOLOGY: Final = "geology"
PALEONTOLOGY: Final = "paleontology"
LEVELS: Final = (0, 1, 2, 3)
GBIF_TERMS: Final = "http://rs.gbif.org/terms/1.0/"
_GEOLOGICAL: Final = ("mineral", "rock", "meteorite", "geolog", "gem")


@dataclass(slots=True)
class _Element:
    """One element: single terms that answer it, and groups of terms that do together."""

    level: int
    terms: dict[str, frozenset[str]] = field(default_factory=dict)
    """Term -> values that count for nothing."""
    groups: list[tuple[str, ...]] = field(default_factory=list)
    by_media: bool = False
    """Whether a row of a multimedia extension answers it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MidsResult:
    """The level (None: not even MIDS 0), and what is missing for the next one."""

    level: int | None
    missing: tuple[str, ...]


class Mids:
    """The maps of three disciplines."""

    def level(self, fields: Mapping[str, str], *, has_media: bool) -> MidsResult:
        """Computes the level.

        Args:
            fields: term (``dwc:country``) -> value.
            has_media: whether the specimen has an image with an address or a file.
        """
        reached: int | None = None
        there = {term: value.lower() for term, text in fields.items() if (value := text.strip())}
        for level, elements in enumerate(self._levels[discipline_of(fields)]):
            missing = tuple(name for name, element in elements if not _is_there(element, there, has_media))
            if missing:
                return MidsResult(level=reached, missing=missing)
            reached = level
        return MidsResult(level=reached, missing=())

    @cached_property
    def _levels(self) -> Mapping[str, tuple[tuple[tuple[str, _Element], ...], ...]]:
        """Elements of each level, by discipline."""
        maps = {name: _read(name) for name in (BIOLOGY, GEOLOGY, PALEONTOLOGY)}
        return {
            discipline: tuple(
                tuple((name, element) for name, element in elements.items() if element.level == level)
                for level in LEVELS
            )
            for discipline, elements in maps.items()
        }


def discipline_of(fields: Mapping[str, str]) -> str:
    """Which map applies: by basisOfRecord, then by what the material is."""
    if fields.get("dwc:basisOfRecord", "").replace(" ", "").lower() == "fossilspecimen":
        return PALEONTOLOGY
    kind = " ".join(fields.get(f"dwc:{term}", "") for term in ("materialEntityType", "discipline")).lower()
    return GEOLOGY if any(word in kind for word in _GEOLOGICAL) else BIOLOGY


def _is_there(element: _Element, there: Mapping[str, str], has_media: bool) -> bool:
    """Whether an element is answered by what is there: term -> value in lower case, none of them empty."""
    if element.by_media and has_media:
        return True
    for term, nothing in element.terms.items():
        if term in there and there[term] not in nothing:
            return True
    return any(all(term in there for term in group) for group in element.groups)


def _read(discipline: str) -> dict[str, _Element]:
    place = importlib.resources.files("linkeddata") / "data" / "mids" / f"mids_dwc-a_{discipline}_1.sssom.tsv"
    found: dict[str, _Element] = {}
    for row in csv.DictReader(place.read_text("utf-8").splitlines(), delimiter="\t"):
        name = row["sssom:subject_id"].removeprefix("mids:")
        element = found.setdefault(name, _Element(level=int(row["sssom:subject_category"].removeprefix("mids:MIDS"))))
        if row["sssom:object_category"].endswith(":Multimedia"):
            element.by_media = True
        elif row["sssom:predicate_id"] == "owl:intersectionOf":
            together = row["sssom:object_match_field"]
            if together:
                element.groups.append(tuple(together.split("|")))
        else:
            nothing = (part.strip().lower() for part in row["semapv:RegexRemoval"].split("|"))
            term = row["sssom:object_id"].replace("gbif:", GBIF_TERMS)  # archives name these by the whole address
            element.terms[term] = frozenset(part for part in nothing if part)
    return found
