"""Searching compared with an oracle that evaluates trees over plain dictionaries and knows nothing of SQL."""

import re
import sqlite3
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from search_world import Region, Truth, open_database, publish, random_truths
from selection_trees import TREES

from linkeddata.licences import normalise_licence
from linkeddata.selection import (
    All,
    Annotated,
    Condition,
    Either,
    Equals,
    Known,
    Like,
    Not,
    Selection,
    Span,
    Unknown,
    Within,
    Words,
    parse_where,
)
from node.access import ANONYMOUS, STAFF, Viewer
from node.storage.db import connect
from node.storage.search import Facet, Wanted, look
from node.storage.search_columns import SearchColumns
from node.storage.search_media import covered

Answer = bool | None
TRUTHS = random_truths(150, seed=5)


@pytest.fixture(scope="module")
def conn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sqlite3.Connection]:
    database = open_database(tmp_path_factory.mktemp("oracle") / "node.sqlite")
    with database.transaction() as writing:
        for truth in TRUTHS:
            publish(writing, truth)
    with database.reader(limit_s=None) as reading:
        yield reading
    database.close()


@pytest.fixture(scope="module")
def columns(conn: sqlite3.Connection) -> SearchColumns:
    """Of the same database, in memory."""
    (_, _, path) = conn.execute("PRAGMA database_list").fetchone()
    found = SearchColumns(lambda: connect(Path(path), read_only=True))
    found.load()
    return found


# ---------------------------------------------------------------------- the oracle
def fold(text: str) -> str:
    return "".join(char.lower() if char.isascii() else char for char in text)


def bare(text: str) -> str:
    return fold(text).replace("_", "").replace(" ", "")


def number(text: str | None) -> float | None:
    return float(text) if text and re.fullmatch(r"-?\d+(\.\d+)?", text) else None


def place(truth: Truth) -> tuple[float, float] | None:
    x, y = number(truth.fields.get("dwc:decimalLongitude")), number(truth.fields.get("dwc:decimalLatitude"))
    return None if x is None or y is None or abs(y) > 90 else (x, y)


DAYS = {
    "1817": ("1817-01-01", "1817-12-31"), "1820": ("1820-01-01", "1820-12-31"), "1820-05": ("1820-05-01", "1820-05-31"),
    "1820-05-02/1820-06-01": ("1820-05-02", "1820-06-01"), "1900-01-31": ("1900-01-31", "1900-01-31"),
    "1900-02": ("1900-02-01", "1900-02-28"), "2001": ("2001-01-01", "2001-12-31"),
}  # fmt: skip


def values(truth: Truth, key: str) -> list[str]:
    """Texts that count as the value."""
    found = truth.fields
    term = {"occurrenceId": "dwc:occurrenceID", "license": "dcterms:license"}.get(key, f"dwc:{key}")
    if key == "scientificName":
        name, author = found["dwc:scientificName"], found.get("dwc:scientificNameAuthorship", "")
        return [name, name.removesuffix(author).strip()] if author else [name]
    if key == "country":
        return [found[name] for name in ("dwc:country", "dwc:countryCode") if name in found]
    if key == "license":
        uri = normalise_licence(found.get(term)).uri
        return [] if uri is None else [uri]
    return [found[term]] if found.get(term, "").strip() else []


def whole(truth: Truth, key: str) -> int | None:
    said = number(truth.fields.get(f"dwc:{key}"))
    if said is not None and key == "month" and not 1 <= said <= 12:
        said = None
    days = DAYS.get(truth.fields.get("dwc:eventDate", ""))
    if said is None and days is not None:
        begin, end = days
        cut = 4 if key == "year" else 7
        said = float(begin[5:7] if key == "month" else begin[:4]) if begin[:cut] == end[:cut] else None
    return None if said is None else int(said)


def words(text: str) -> list[str]:
    plain = "".join(char for char in unicodedata.normalize("NFKD", text.casefold()) if not unicodedata.combining(char))
    return re.findall(r"\w+", plain.replace("_", " "))


def has_words(asked: str, text: str) -> bool:
    there = words(text)
    for word in asked.split():
        parts = words(word)
        if not parts:
            continue
        last = parts.pop()
        fits = [
            at
            for at in range(len(there) - len(parts))
            if there[at : at + len(parts)] == parts
            and (there[at + len(parts)].startswith(last) if word.endswith("*") else there[at + len(parts)] == last)
        ]
        if not fits:
            return False
    return True


def may_see(region: Region, viewer: Viewer) -> bool:
    return region.is_public or viewer.is_staff


def flags(truth: Truth, viewer: Viewer) -> set[str]:
    return {flag for flag, is_public in truth.flags.items() if is_public or viewer.is_staff}


def fits_region(asked: Annotated, region: Region) -> bool:
    return (
        (not asked.classes or region.kind in asked.classes)
        and (not asked.pipelines or bool({region.pipeline, region.name} & set(asked.pipelines)))
        and (not asked.score_min or float(region.score) >= float(asked.score_min))
        and (not asked.text or has_words(asked.text, region.text))
    )


def span_answer(leaf: Span, truth: Truth) -> Answer:
    if leaf.key == "eventDate":
        days = DAYS.get(truth.fields.get("dwc:eventDate", ""))
        if days is None:
            return None
        ends = {"1817": DAYS["1817"], "1820-05": DAYS["1820-05"], "1900-01-31": DAYS["1900-01-31"],
                "1900-02": DAYS["1900-02"], "2001": DAYS["2001"]}  # fmt: skip
        low, high = (None if end is None else ends[end] for end in (leaf.low, leaf.high))
        above = low is None or (days[0] > low[1] if leaf.above_low else days[0] >= low[0])
        below = high is None or (days[1] < high[0] if leaf.below_high else days[1] <= high[1])
        return above and below
    value: float | None
    if leaf.key in ("year", "month"):
        value = whole(truth, leaf.key)
    else:
        at = place(truth)
        value = None if at is None else at[1 if leaf.key == "decimalLatitude" else 0]
    if value is None:
        return None
    above = leaf.low is None or (value > float(leaf.low) if leaf.above_low else value >= float(leaf.low))
    below = leaf.high is None or (value < float(leaf.high) if leaf.below_high else value <= float(leaf.high))
    return above and below


def answer(item: Condition, truth: Truth, viewer: Viewer) -> Answer:
    match item:
        case All():
            found = [answer(part, truth, viewer) for part in item.items]
            return False if False in found else None if None in found else True
        case Either():
            found = [answer(part, truth, viewer) for part in item.items]
            return True if True in found else None if None in found else False
        case Not():
            inner = answer(item.item, truth, viewer)
            return None if inner is None else not inner
        case Equals("issue", value):
            return value in flags(truth, viewer)
        case Known("issue") | Unknown("issue"):
            return bool(flags(truth, viewer)) == isinstance(item, Known)
        case Equals(key, value):
            if key == "hasCoordinate":
                return (place(truth) is not None) == (value == "true")
            if key == "hasImage":
                return truth.has_image == (value == "true")
            if key in ("year", "month", "decimalLatitude", "decimalLongitude", "eventDate"):
                return span_answer(Span(key, value, value), truth)
            there = values(truth, key)
            if not there:
                return None
            if key in ("basisOfRecord", "typeStatus"):
                return (
                    fold(value) == fold(there[0])
                    or fold(value).replace("_", "") == fold(there[0])
                    or (fold(value).replace("_", " ") == fold(there[0]))
                )
            if key == "license":
                return there[0] == normalise_licence(value).uri
            return fold(value) in [fold(text) for text in there]
        case Like(key, pattern):
            there = values(truth, key)
            form = "".join({"*": ".*", "?": "."}.get(char, re.escape(char)) for char in fold(pattern))
            return None if not there else any(re.fullmatch(form, fold(text), re.DOTALL) for text in there)
        case Span():
            return span_answer(item, truth)
        case Known(key) | Unknown(key):
            if key == "year":
                known = whole(truth, key) is not None
            elif key == "eventDate":
                known = truth.fields.get("dwc:eventDate") in DAYS
            else:
                known = bool(values(truth, key))
            return known == isinstance(item, Known)
        case Within(area):
            at = place(truth)
            west, south = (min(point[axis] for point in area.polygons[0][0]) for axis in (0, 1))
            east, north = (max(point[axis] for point in area.polygons[0][0]) for axis in (0, 1))
            return (
                None
                if at is None
                else south <= at[1] <= north and any(west <= at[0] + turn <= east for turn in (-360, 0, 360))
            )
        case Words(text):
            if not words(text):
                return not text.strip()
            read = [region.text for region in truth.regions if may_see(region, viewer)]
            public = [region.text for region in truth.regions if region.is_public]
            return has_words(text, "\n".join([*truth.fields.values(), *public])) or any(
                has_words(text, part) for part in read
            )
        case Annotated():
            return any(fits_region(item, region) for region in truth.regions if may_see(region, viewer))


def undecided(tree: Condition, viewer: Viewer, seen: list[Truth]) -> int:
    """Records that fit all conditions but one, which cannot be decided."""
    items = tree.items if isinstance(tree, All) else (tree,)
    total = 0
    for truth in seen:
        found = [answer(item, truth, viewer) for item in items]
        total += found.count(None) == 1 and False not in found
    return total


@settings(max_examples=150, deadline=None)
@given(TREES)
@example(parse_where("!country=Brazil").tree)
@example(parse_where("eventDate=1817,1820-05 !year=1820").tree)
def test_a_search_finds_what_the_oracle_finds(conn: sqlite3.Connection, tree: Condition) -> None:
    selection = Selection.of(tree)
    for viewer in (ANONYMOUS, STAFF):
        seen = [truth for truth in TRUTHS if viewer.is_staff or not truth.is_private]
        expected = {truth.iri for truth in seen if answer(tree, truth, viewer)}
        page = look(conn, selection, viewer, Wanted(limit=200, facets=("family", "issue")))
        assert {hit.iri for hit in page.hits} == expected
        assert page.total == len(expected)
        assert sum(item.count for item in page.no_value) == undecided(tree, viewer, seen)
        families: dict[str, int] = {}
        for truth in seen:
            family = truth.fields.get("dwc:family", "")
            if truth.iri in expected and family:
                families[fold(family)] = families.get(fold(family), 0) + 1
        assert {fold(name): number for name, number in page.facets[0].counts} == families
        found = Counter(flag for truth in seen if truth.iri in expected for flag in flags(truth, viewer))
        assert dict(page.facets[1].counts) == found


@settings(max_examples=150, deadline=None)
@given(TREES)
@example(parse_where("!country=Brazil").tree)
@example(parse_where("country=BR country=Peru year=1817,*").tree)
@example(parse_where("q=rio !basisOfRecord=FOSSIL_SPECIMEN").tree)
@example(parse_where("localAccess=private").tree)
def test_columns_in_memory_find_what_the_tables_find(
    conn: sqlite3.Connection, columns: SearchColumns, tree: Condition
) -> None:
    selection = Selection.of(tree)
    for viewer in (ANONYMOUS, STAFF):
        for facets in ((), ("family", "year"), ("country",)):
            by_tables = look(conn, selection, viewer, Wanted(limit=20, facets=facets))
            by_columns = look(conn, selection, viewer, Wanted(limit=20, facets=facets), columns=columns)
            assert replace(by_columns, facets=()) == replace(by_tables, facets=())
            for one, other in zip(by_columns.facets, by_tables.facets, strict=True):
                assert folded(one) == folded(other)
            if by_tables.next is not None:
                wanted = Wanted(limit=20, facets=facets, after=by_tables.next)
                assert (
                    look(conn, selection, viewer, wanted, columns=columns).hits
                    == look(conn, selection, viewer, wanted).hits
                )
        if selection.q is not None:
            best = Wanted(limit=20, sort="relevance")
            assert look(conn, selection, viewer, best, columns=columns) == look(conn, selection, viewer, best)


def folded(facet: Facet) -> list[tuple[str, int]]:
    """A group of spellings is shown by one of them."""
    return [(fold(name), number) for name, number in facet.counts]


@pytest.mark.parametrize(
    ("where", "is_held"),
    [
        ("family=Fabaceae", True), ("", True), ("country=BR year=1817,1820 !typeStatus=holotype", True),
        ("q=rio family=Fabaceae", True), ("annotation.class=barcode hasCoordinate=true", True),
        ("decimalLatitude=-20,0", True), ("catalogNumber=1", False), ("family~F*", False), ("eventDate=1817", False),
        ("issue=ZERO_COORDINATE", True), ("q=rio", False),
    ],
)  # fmt: skip
def test_which_questions_the_columns_answer(
    conn: sqlite3.Connection, columns: SearchColumns, where: str, is_held: bool
) -> None:
    assert (columns.count(conn, parse_where(where), ANONYMOUS) is not None) == is_held


@settings(max_examples=60, deadline=None)
@given(TREES)
def test_what_is_covered_is_counted(conn: sqlite3.Connection, tree: Condition) -> None:
    for viewer in (ANONYMOUS, STAFF):
        seen = [truth for truth in TRUTHS if viewer.is_staff or not truth.is_private]
        fitting = [truth for truth in seen if answer(tree, truth, viewer)]
        found = covered(conn, Selection.of(tree), viewer)
        images = sum(truth.has_image for truth in fitting)
        assert (found.records, found.images, found.size_bytes) == (len(fitting), images, images * 1000)


@settings(max_examples=60, deadline=None)
@given(TREES)
def test_pages_in_any_order_hold_each_hit_once(conn: sqlite3.Connection, tree: Condition) -> None:
    selection = Selection.of(tree)
    expected = {truth.iri for truth in TRUTHS if not truth.is_private and answer(tree, truth, ANONYMOUS)}
    for sort in ("", "year", "-year", "scientificName", "-catalogNumber"):
        found: list[str] = []
        after = ""
        for _ in range(len(TRUTHS)):
            page = look(conn, selection, ANONYMOUS, Wanted(limit=7, after=after, sort=sort))
            found += [hit.iri for hit in page.hits]
            if page.next is None:
                break
            after = page.next
        assert len(found) == len(set(found)), sort
        assert set(found) == expected, sort
