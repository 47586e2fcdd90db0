"""The selection language: what people search for, what a job runs on, what an export holds.

GBIF's parameter names (gbif-api, OccurrenceSearchParameter): the same key again means *or*, different keys mean *and*,
``year=1900,1950`` is a range.

Example:
    >>> parse_where("kingdom=Plantae year=1900,1950 'locality=Rio de Janeiro'").terms
    (('kingdom', ('Plantae',)), ('year', ('1900,1950',)), ('locality', ('Rio de Janeiro',)))
"""

import difflib
import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Self

from linkeddata.errors import SelectionError
from linkeddata.json_strict import Json, as_object

SEARCH_PARAMETERS: Final[dict[str, str]] = {
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
    "year": "dwc:year",
    "recordedBy": "dwc:recordedBy",
    "recordNumber": "dwc:recordNumber",
    "catalogNumber": "dwc:catalogNumber",
    "institutionCode": "dwc:institutionCode",
    "collectionCode": "dwc:collectionCode",
    "basisOfRecord": "dwc:basisOfRecord",
    "typeStatus": "dwc:typeStatus",
    "license": "dcterms:license",
    "occurrenceId": "dwc:occurrenceID",
    "hasImage": "vasculum:hasImage",
    "q": "",
}
"""Parameter -> term. ``q`` is full text."""
MAX_TERMS: Final = 40
MAX_VALUE_CHARS: Final = 300
"""Nobody types a longer value; each value is one comparison in the database."""
_YEAR = re.compile(r"(\d{1,4}|\*)(?:,(\d{1,4}|\*))?\Z", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Checked terms in the order given, and an optional full-text query."""

    terms: tuple[tuple[str, tuple[str, ...]], ...] = ()
    q: str | None = None

    def to_json(self) -> dict[str, Json]:
        """``{parameter: [values]}``."""
        document: dict[str, Json] = {name: list(values) for name, values in self.terms}
        if self.q is not None:
            document["q"] = [self.q]
        return document

    @classmethod
    def from_pairs(cls, pairs: Iterable[tuple[str, str]]) -> Self:
        """From parameter and value pairs, as in a query string.

        Raises:
            SelectionError: an unknown parameter (the nearest known one is named) or an impossible value.
        """
        values: dict[str, list[str]] = {}
        for name, value in pairs:
            _check(name, value)
            values.setdefault(name, []).append(value)
        if sum(len(items) for items in values.values()) > MAX_TERMS:
            raise SelectionError(f"a selection has at most {MAX_TERMS} terms")
        q = values.pop("q", None)
        return cls(
            terms=tuple((name, tuple(items)) for name, items in values.items()), q=None if q is None else " ".join(q)
        )

    def to_text(self) -> str:
        """The ``--where`` form; ``parse_where`` reads it back."""
        pairs = [f"{name}={value}" for name, values in self.terms for value in values]
        if self.q is not None:
            pairs.append(f"q={self.q}")
        return shlex.join(pairs)


def parse_where(text: str) -> Selection:
    """``name=value`` pairs separated by blanks; quotes for values with blanks; empty text selects everything.

    Raises:
        SelectionError: with what to write instead.
    """
    if len(text) > MAX_TERMS * MAX_VALUE_CHARS:
        raise SelectionError("the selection is too long")
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise SelectionError("a quotation mark is not closed") from error
    pairs: list[tuple[str, str]] = []
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            raise SelectionError(f"{word[:60]!r} is not name=value (full text: q=word)")
        pairs.append((name, value))
    return Selection.from_pairs(pairs)


def parse_selection(document: Json) -> Selection:
    """The JSON form of a selection.

    Raises:
        SelectionError, DocumentError: as ``Selection.from_pairs``.
    """
    pairs: list[tuple[str, str]] = []
    for name, values in as_object(document, "selection").items():
        if not isinstance(values, list) or not all(isinstance(item, str) for item in values):
            raise SelectionError(f"{name[:60]}: values are a list of texts")
        if not values:
            raise SelectionError(
                f"{name[:60]}: the list of values is empty; leave the parameter out to select everything"
            )
        pairs.extend((name, value) for value in values)
    return Selection.from_pairs(pairs)


def _check(name: str, value: str) -> None:
    if name not in SEARCH_PARAMETERS:
        close = difflib.get_close_matches(name[:60], SEARCH_PARAMETERS, n=1, cutoff=0.5)
        hint = f"did you mean {close[0]}?" if close else "known are " + ", ".join(SEARCH_PARAMETERS)
        raise SelectionError(f"unknown search parameter {name[:60]!r}: {hint}")
    if len(value) > MAX_VALUE_CHARS:
        raise SelectionError(f"the value of {name} is longer than {MAX_VALUE_CHARS} characters")
    if "\0" in value:
        raise SelectionError(f"the value of {name} holds a null character")
    if name == "year":
        _check_year(value)
    if name == "hasImage" and value.lower() not in ("true", "false"):
        raise SelectionError("hasImage is true or false")


def _check_year(value: str) -> None:
    found = _YEAR.match(value)
    if found is None or value == "*":
        raise SelectionError("year is a number or a range such as 1900,1950 or 1900,*")
    first, last = found.groups()
    if first.isdecimal() and last is not None and last.isdecimal() and int(first) > int(last):
        raise SelectionError(f"the range of years runs backwards: write {last},{first}")
