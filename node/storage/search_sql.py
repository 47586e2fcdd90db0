"""A selection as SQL over the search tables. Pure but for the function that it asks a connection to know.

Invariants:
- Values are bound, never written into the text; names of columns come from a fixed table.
- SQL's own third truth value carries "no value": a condition on a record without one is NULL, and so is its negation.
- Every word of a full-text query is quoted: no input is an error of the full-text engine.
- Lists of alternatives are written as balanced trees: no selection that was accepted is too deep for the engine.
"""

# ruff: noqa: S608 - names of tables and columns come from fixed tables, values are bound
import functools
import sqlite3
import unicodedata
from dataclasses import dataclass, field
from typing import Any, Final

from linkeddata.event_dates import span_of_date
from linkeddata.geometry import Area, parse_area
from linkeddata.licences import normalise_licence
from linkeddata.search_terms import SEARCH_PARAMETERS, Kind
from linkeddata.selection import (
    All,
    Annotated,
    Condition,
    Either,
    Equals,
    Known,
    Leaf,
    Like,
    Not,
    Selection,
    Span,
    Unknown,
    Within,
    Words,
    all_of,
    key_of,
    leaves,
)
from node.access import Viewer

COLUMNS: Final[dict[str, tuple[str, ...]]] = {
    "scientificName": ("scientific_name", "canonical_name"), "scientificNameAuthorship": ("name_authorship",),
    "taxonRank": ("taxon_rank",), "kingdom": ("kingdom",), "phylum": ("phylum",), "class": ("class",),
    "order": ('"order"',), "family": ("family",), "genus": ("genus",), "specificEpithet": ("specific_epithet",),
    "infraspecificEpithet": ("infraspecific_epithet",), "typeStatus": ("type_status",),
    "identifiedBy": ("identified_by",), "continent": ("continent",), "country": ("country", "country_or_code"),
    "countryCode": ("country_code",), "stateProvince": ("state_province",), "county": ("county",),
    "locality": ("locality",), "decimalLatitude": ("latitude",), "decimalLongitude": ("longitude",),
    "coordinateUncertaintyInMeters": ("uncertainty",), "elevation": ("elevation",), "geometry": ("latitude",),
    "hasCoordinate": ("latitude",), "year": ("year",), "month": ("month",), "eventDate": ("first_day",),
    "recordedBy": ("recorded_by",), "recordNumber": ("record_number",), "institutionCode": ("institution_code",),
    "collectionCode": ("collection_code",), "catalogNumber": ("catalog_number",), "occurrenceId": ("occurrence_id",),
    "basisOfRecord": ("basis_of_record",), "sex": ("sex",), "lifeStage": ("life_stage",), "license": ("license",),
    "mediaType": ("media_type",), "hasImage": ("has_image",), "localAccess": ("access",), "localSource": ("source",),
}  # fmt: skip
"""Parameter -> columns of specimen_facet; a value fits when it is in any of them, and all are empty or none is."""
ACCESS: Final = {"open": 0, "restricted": 1, "private": 2}
_INDEXED: Final = frozenset(
    {
        "kingdom", "family", "genus", "country", "scientificName", "stateProvince", "year", "recordedBy",
        "catalogNumber", "occurrenceId", "institutionCode", "typeStatus",
    }
)  # fmt: skip
MAX_TOKENS: Final = 32
"""Words of one full-text query; more is not a question but a document."""
PUBLIC: Final = "f.n > 0"
"""What anybody may find (``node.storage.search_index`` numbers private specimens below zero)."""


@dataclass(slots=True)
class Query:
    """A growing piece of SQL: its bound values."""

    params: dict[str, Any] = field(default_factory=dict)
    walks: bool = False
    """It goes along all records until a page is full, so that each is best asked by itself."""

    def bind(self, value: Any) -> str:
        """Its name in the text."""
        name = f"p{len(self.params)}"
        self.params[name] = value
        return f":{name}"


def fts_query(text: str) -> str:
    """A full-text query in which every word is a literal; empty when there is no word in it.

    A word of at least two letters that ends in ``*`` stands for its beginnings.
    """
    words = [word for word in unicodedata.normalize("NFC", text).replace("\0", " ").split() if _is_word(word)]
    return " ".join(_quoted(word) for word in words[:MAX_TOKENS])


def add_functions(conn: sqlite3.Connection) -> None:
    """Makes ``in_area`` known to a connection, once, when it is opened."""
    known = functools.lru_cache(maxsize=16)(parse_area)

    def in_area(wkt: str, longitude: float | None, latitude: float | None) -> bool | None:
        if longitude is None or latitude is None:
            return None
        return known(wkt).contains(longitude, latitude)

    conn.create_function("in_area", 3, in_area, deterministic=True)


def split_words(selection: Selection) -> tuple[Words | None, Selection]:
    """The full-text part of a selection, when it has one beside the rest, and the rest."""
    items = selection.tree.items if isinstance(selection.tree, All) else (selection.tree,)
    words = next((item for item in items if isinstance(item, Words) and fts_query(item.text)), None)
    if words is None:
        return None, selection
    return words, Selection(tree=all_of(item for item in items if item is not words))


def where(selection: Selection, viewer: Viewer, query: Query, *, is_counted: bool = False) -> str:
    """The condition on ``specimen_facet f``; what the viewer may not find does not fit.

    ``is_counted``: no page is asked for, so an index on values is better than the order of numbers.
    """
    parts = [] if viewer.is_staff else [f"+{PUBLIC}" if is_counted and selection.tree != All() else PUBLIC]
    words, others = split_words(selection)
    if words is not None and not viewer.is_staff and _has_index(others):
        # Along the index of the other condition, looking into the list of texts; the engine would guess the reverse.
        parts += [condition(others.tree, viewer, query), "+" + condition(words, viewer, query)]
    elif selection.tree != All():
        parts.append(condition(selection.tree, viewer, query))
    return " AND ".join(parts) or "1"


def _has_index(selection: Selection) -> bool:
    """Whether one of its conditions is answered by an index on values."""
    items = selection.tree.items if isinstance(selection.tree, All) else (selection.tree,)
    options = [item.items if isinstance(item, Either) else (item,) for item in items]
    return any(all(isinstance(leaf, Equals) and leaf.key in _INDEXED for leaf in some) for some in options)


def without_value(selection: Selection, viewer: Viewer) -> list[tuple[tuple[str, ...], str, dict[str, Any]]]:
    """For each condition of the selection that may lack values: its parameters, and which records fit all the others
    but cannot be decided by it.
    """
    items = selection.tree.items if isinstance(selection.tree, All) else (selection.tree,)
    found: list[tuple[tuple[str, ...], str, dict[str, Any]]] = []
    for number, item in enumerate(items):
        keys = tuple(dict.fromkeys(key_of(leaf) for leaf in leaves(item) if may_be_undecided(leaf)))
        if not keys:
            continue
        query = Query()
        others = Selection(tree=all_of(other for at, other in enumerate(items) if at != number))
        parts = [] if viewer.is_staff else [f"+{PUBLIC}"]
        words, rest = split_words(others)
        if words is not None and not viewer.is_staff:
            parts.append("+" + condition(words, viewer, query))
            others = rest
        if others.tree != All():
            parts.append(condition(others.tree, viewer, query))
        is_plain = len(keys) == 1 and all(key_of(leaf) == keys[0] and may_be_undecided(leaf) for leaf in leaves(item))
        parts.append(f"f.{COLUMNS[keys[0]][0]} IS NULL" if is_plain else f"({condition(item, viewer, query)}) IS NULL")
        found.append((keys, " AND ".join(parts), query.params))
    return found


def condition(item: Condition, viewer: Viewer, query: Query) -> str:
    """One condition as an SQL expression, in brackets where it needs them."""
    match item:
        case All():
            return _joined("AND", [condition(part, viewer, query) for part in item.items]) if item.items else "1"
        case Either():
            return _either(item, viewer, query)
        case Not():
            return f"NOT ({condition(item.item, viewer, query)})"
        case _:
            return _leaf(item, viewer, query)


def has_words(name: str) -> str:
    """Whether the text of one ``annotation_mark k`` has the words of a bound full-text query."""
    return f"EXISTS (SELECT 1 FROM annotation_text t WHERE t.rowid = k.id AND t.body MATCH {name})"


def marks(item: Annotated, viewer: Viewer, query: Query, *, is_one: bool = False) -> str:
    """Which rows of ``annotation_mark k`` fit; ``is_one``: they are few, each of them is asked."""
    parts = [] if viewer.is_staff else ["k.is_public = 1"]
    if item.classes:
        parts.append(f"k.class IN ({', '.join(query.bind(value) for value in item.classes)})")
    if item.pipelines:
        names = ", ".join(query.bind(value) for value in item.pipelines)
        parts.append(f"(k.pipeline IN ({names}) OR k.pipeline_name IN ({names}))")
    if item.score_min:
        parts.append(f"k.score >= {query.bind(float(item.score_min))}")
    if item.text:
        words = fts_query(item.text)
        name = query.bind(words)
        among = f"k.id IN (SELECT rowid FROM annotation_text WHERE annotation_text MATCH {name})"
        parts.append((has_words(name) if is_one else among) if words else "0")
    return " AND ".join(parts) or "1"


def _either(item: Either, viewer: Viewer, query: Query) -> str:
    """Alternatives; comparisons of one parameter share one list."""
    by_key: dict[str, list[str]] = {}
    flags: list[str] = []
    parts: list[str] = []
    for option in item.items:
        kind = SEARCH_PARAMETERS[option.key].kind if isinstance(option, Equals) else None
        if isinstance(option, Equals) and kind is Kind.FLAG:
            flags.append(option.value)
        elif isinstance(option, Equals) and kind in (Kind.TEXT, Kind.VOCABULARY):
            by_key.setdefault(option.key, []).extend(spellings(option))
        else:
            parts.append(condition(option, viewer, query))
    parts += [_in(key, values, query) for key, values in by_key.items()]
    parts += [_flagged(flags, viewer, query)] if flags else []
    return _joined("OR", parts)


def _leaf(leaf: Leaf, viewer: Viewer, query: Query) -> str:
    match leaf:
        case Equals("issue", value):
            return _flagged([value], viewer, query)
        case Known("issue"):
            return _flagged([], viewer, query)
        case Unknown("issue"):
            return f"NOT {_flagged([], viewer, query)}"
        case Equals():
            return _equals(leaf, query)
        case Like():
            pattern = query.bind(_like_pattern(leaf.pattern))
            return _any(leaf.key, lambda column: f"f.{column} LIKE {pattern} ESCAPE '\\'")
        case Span():
            return _span(leaf, query)
        case Known():
            return f"f.{COLUMNS[leaf.key][0]} IS NOT NULL"
        case Unknown():
            return f"f.{COLUMNS[leaf.key][0]} IS NULL"
        case Within():
            return _within(leaf.area, query)
        case Words():
            return _words(leaf.text, viewer, query)
        case Annotated():
            return f"f.n IN (SELECT k.n FROM annotation_mark k WHERE {marks(leaf, viewer, query)})"


def shown_flags(viewer: Viewer) -> str:
    """Which rows of ``record_issue i`` the viewer may know: those of the public document, or all of them."""
    return "1" if viewer.is_staff else "i.is_public = 1"


def _flagged(flags: list[str], viewer: Viewer, query: Query) -> str:
    """Has one of these flags; of none named: any."""
    if query.walks:
        return f"EXISTS (SELECT 1 FROM record_issue i WHERE i.iri = f.iri AND {_with_flags(flags, viewer, query)})"
    return f"f.iri IN (SELECT i.iri FROM record_issue i WHERE {_with_flags(flags, viewer, query)})"


def flagged_numbers(flags: list[str], viewer: Viewer, query: Query) -> str:
    """A statement that gives the numbers of records with one of these flags, perhaps several times."""
    return f"""SELECT f.n FROM record_issue i CROSS JOIN specimen_facet f ON f.iri = i.iri
               WHERE {_with_flags(flags, viewer, query)}"""


def _with_flags(flags: list[str], viewer: Viewer, query: Query) -> str:
    named = f" AND i.code IN ({', '.join(query.bind(flag) for flag in dict.fromkeys(flags))})" if flags else ""
    return shown_flags(viewer) + named


def _within(area: Area, query: Query) -> str:
    """The rectangle around it first: an index knows that."""
    south, north = area.latitudes
    west, east = area.longitudes
    parts = [f"f.latitude BETWEEN {query.bind(south)} AND {query.bind(north)}"]
    if west >= -180 and east <= 180:
        parts.append(f"f.longitude BETWEEN {query.bind(west)} AND {query.bind(east)}")
    parts.append(f"in_area({query.bind(area.to_wkt())}, f.longitude, f.latitude)")
    return f"({' AND '.join(parts)})"


def _equals(leaf: Equals, query: Query) -> str:
    kind = SEARCH_PARAMETERS[leaf.key].kind
    if leaf.key == "hasImage":
        return f"f.has_image = {query.bind(int(leaf.value == 'true'))}"
    if kind is Kind.BOOLEAN:
        return f"f.latitude IS {'NOT ' if leaf.value == 'true' else ''}NULL"
    if leaf.key == "localAccess":
        return f"f.access = {query.bind(ACCESS.get(leaf.value.lower(), -1))}"
    if kind is Kind.WHOLE:
        return f"f.{COLUMNS[leaf.key][0]} = {query.bind(int(leaf.value))}"
    if kind is Kind.NUMBER:
        return f"f.{COLUMNS[leaf.key][0]} = {query.bind(float(leaf.value))}"
    if kind is Kind.DATE:
        return _span(Span(leaf.key, leaf.value, leaf.value), query)
    return _in(leaf.key, spellings(leaf), query)


def _in(key: str, values: list[str], query: Query) -> str:
    if key == "country":  # a code stands in one column, a name in the other: one index answers
        codes = [value for value in values if len(value) == 2]
        texts = [value for value in values if len(value) != 2]
        parts = [
            f"f.{column} IN ({', '.join(query.bind(value) for value in dict.fromkeys(some))})"
            for column, some in (("country", texts), ("country_or_code", codes))
            if some
        ]
        return _joined("OR", parts)
    if key == "localAccess":
        return f"f.access IN ({', '.join(query.bind(ACCESS.get(value.lower(), -1)) for value in values)})"
    either = ", ".join(query.bind(value) for value in dict.fromkeys(values))
    return _any(key, lambda column: f"f.{column} IN ({either})")


def _any(key: str, test: Any) -> str:
    parts = [test(column) for column in COLUMNS[key]]
    return parts[0] if len(parts) == 1 else f"({' OR '.join(parts)})"


def spellings(leaf: Equals) -> list[str]:
    """Texts that count as the value that is asked for."""
    value = unicodedata.normalize("NFC", leaf.value).strip()
    kind = SEARCH_PARAMETERS[leaf.key].kind
    if kind is Kind.VOCABULARY:  # PRESERVED_SPECIMEN, TYPE_SPECIES, NORTH_AMERICA
        return [value, value.replace("_", ""), value.replace("_", " ")]
    if kind is Kind.LICENCE:
        known = normalise_licence(value)
        return [value] if known.uri is None else [known.uri, value]
    return [value]


def _span(leaf: Span, query: Query) -> str:
    columns = COLUMNS[leaf.key] * 2
    low: Any = leaf.low
    high: Any = leaf.high
    match SEARCH_PARAMETERS[leaf.key].kind:
        case Kind.WHOLE:
            low, high = (None if end is None else int(end) for end in (low, high))
        case Kind.NUMBER:
            low, high = (None if end is None else float(end) for end in (low, high))
        case _:
            columns = ("first_day", "last_day")
            ends = [None if end is None else span_of_date(end) for end in (low, high)]
            # After 1901 is after its last day; before it is before its first.
            low = ends[0] and ends[0][1 if leaf.above_low else 0]
            high = ends[1] and ends[1][0 if leaf.below_high else 1]
    parts = []
    if low is not None:
        parts.append(f"f.{columns[0]} {'>' if leaf.above_low else '>='} {query.bind(low)}")
    if high is not None:
        parts.append(f"f.{columns[1]} {'<' if leaf.below_high else '<='} {query.bind(high)}")
    return f"({' AND '.join(parts)})"


def _words(text: str, viewer: Viewer, query: Query) -> str:
    words = fts_query(text)
    if not words:
        return "0" if text.strip() else "1"
    name = query.bind(words)
    found = f"f.n IN (SELECT rowid FROM specimen_text WHERE specimen_text MATCH {name})"
    if not viewer.is_staff:
        return found
    read = f"SELECT rowid FROM annotation_text WHERE annotation_text MATCH {name}"
    return f"({found} OR f.n IN (SELECT k.n FROM annotation_mark k WHERE k.id IN ({read})))"


def _joined(operator: str, parts: list[str]) -> str:
    """A balanced tree of brackets."""
    while len(parts) > 1:
        pairs = zip(parts[::2], [*parts[1::2], None], strict=False)
        parts = [left if right is None else f"({left} {operator} {right})" for left, right in pairs]
    return parts[0]


def may_be_undecided(leaf: Leaf) -> bool:
    """Whether a record may lack the value that this is about."""
    if isinstance(leaf, Equals | Like | Span):
        return SEARCH_PARAMETERS[leaf.key].kind not in (Kind.BOOLEAN, Kind.FLAG) and leaf.key != "localAccess"
    return isinstance(leaf, Within)


def _like_pattern(pattern: str) -> str:
    escaped = unicodedata.normalize("NFC", pattern)
    for char in "\\%_":
        escaped = escaped.replace(char, "\\" + char)
    return escaped.replace("*", "%").replace("?", "_")


def _is_word(word: str) -> bool:
    return any(char.isalnum() for char in word)


def _quoted(word: str) -> str:
    is_beginning = word.endswith("*") and sum(char.isalnum() for char in word) >= 2
    return '"' + word.rstrip("*").replace('"', '""')[:100] + '"' + ("*" if is_beginning else "")
