"""The selection language: every spelling of a tree is read back as the same tree; areas and dates mean what they say."""

import itertools
import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from selection_trees import TREES

from linkeddata.errors import DocumentError, SelectionError
from linkeddata.event_dates import span_of_date, span_of_event
from linkeddata.geometry import Area, parse_area
from linkeddata.json_strict import parse_json
from linkeddata.predicates import parse_predicate, to_predicate
from linkeddata.search_terms import SEARCH_PARAMETERS, find_parameter
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
    check_portable,
    parse_selection,
    parse_where,
)


@settings(max_examples=300, deadline=None)
@given(TREES)
def test_every_spelling_of_a_tree_is_read_back(tree: Condition) -> None:
    selection = Selection.of(tree)
    text = json.dumps(to_predicate(tree), ensure_ascii=False)
    assert parse_predicate(parse_json(text)) == tree
    assert parse_selection(parse_json(json.dumps(selection.to_json(), ensure_ascii=False))) == selection
    assert parse_where(selection.to_text()) == selection
    pairs = selection.to_pairs()
    if pairs is not None:
        assert Selection.from_pairs(pairs) == selection


def test_parameters_mean_what_the_page_says() -> None:
    def tree(text: str) -> Condition:
        return parse_where(text).tree

    assert tree("") == All()
    assert tree("family=A") == Equals("family", "A")
    assert tree("family=A family=B") == Either((Equals("family", "A"), Equals("family", "B")))
    assert tree("family=A genus=B") == All((Equals("family", "A"), Equals("genus", "B")))
    assert tree("!family=A !family=B") == Not(Either((Equals("family", "A"), Equals("family", "B"))))
    assert tree("family=*") == Known("family")
    assert tree("!family=*") == Unknown("family")
    assert tree("locality~Rio*") == Like("locality", "Rio*") == tree("locality~=Rio*")
    assert tree("year=1900") == Equals("year", "1900")
    assert tree("year=1900,*") == Span("year", "1900", None)
    assert tree("eventDate=1900-05,1901") == Span("eventDate", "1900-05", "1901")
    assert tree("q=a q=b") == Words("a b")
    assert tree("annotation.class=stamp annotation.text~Martii scoreMin=0.8") == Annotated(
        classes=("stamp",), text="Martii", score_min="0.8"
    )
    assert tree("occurrenceID=x") == Equals("occurrenceId", "x")
    assert tree("geometry='POLYGON ((0 0, 1 0, 1 1, 0 0))'") == Within(parse_area("POLYGON((0 0,1 0,1 1,0 0))"))


def test_predicates_as_gbif_writes_them_are_read() -> None:
    document = """{"type": "and", "predicates": [
      {"type": "equals", "key": "BASIS_OF_RECORD", "value": "PRESERVED_SPECIMEN", "matchCase": false},
      {"type": "in", "key": "COUNTRY", "values": ["BR", "PE"]},
      {"type": "not", "predicate": {"type": "equals", "key": "institutionCode", "value": "B"}},
      {"type": "greaterThanOrEquals", "key": "YEAR", "value": "1800"}, {"type": "lessThan", "key": "YEAR", "value": 1900},
      {"type": "range", "key": "DECIMAL_LATITUDE", "value": {"gte": -10.5, "lt": "2"}},
      {"type": "like", "key": "LOCALITY", "value": "*Rio*"}, {"type": "isNotNull", "parameter": "RECORDED_BY"},
      {"type": "isNull", "parameter": "TYPE_STATUS"}, {"type": "equals", "key": "HAS_COORDINATE", "value": true},
      {"type": "within", "geometry": "POLYGON((-80 -30,-30 -30,-30 5,-80 5,-80 -30))"}]}"""
    tree = parse_where(document).tree
    assert isinstance(tree, All)
    assert tree.items[:6] == (
        Equals("basisOfRecord", "PRESERVED_SPECIMEN"), Either((Equals("country", "BR"), Equals("country", "PE"))),
        Not(Equals("institutionCode", "B")), Span("year", "1800", None), Span("year", None, "1900", below_high=True),
        Span("decimalLatitude", "-10.5", "2", below_high=True),
    )  # fmt: skip
    assert tree.items[6:10] == (
        Like("locality", "*Rio*"), Known("recordedBy"), Unknown("typeStatus"), Equals("hasCoordinate", "true")
    )  # fmt: skip
    assert isinstance(tree.items[10], Within)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"type": "equals", "key": "COUNTY_", "value": "x"}', "did you mean county"),
        ('{"type": "equals", "key": "TAXON_KEY", "value": "5"}', "write the name"),
        ('{"type": "equal", "key": "COUNTRY", "value": "x"}', "one of equals, in"),
        ('{"type": "equals", "key": "COUNTRY", "value": "x", "matchCase": true}', "matchCase"),
        ('{"type": "equals", "key": "COUNTRY", "value": ["x"]}', "a text or a number"),
        ('{"type": "in", "key": "COUNTRY", "values": []}', "empty"),
        ('{"type": "or", "predicates": []}', "empty"),
        ('{"type": "equals", "key": "COUNTRY", "value": "x", "extra": 1}', "no member 'extra'"),
        ('{"type": "range", "key": "COUNTRY", "value": {"gte": "a"}}', "takes no range"),
        ('{"type": "range", "key": "YEAR", "value": {"gte": "1", "gt": "2"}}', "one low end"),
        ('{"type": "range", "key": "YEAR", "value": {}}', "at least one end"),
        ('{"type": "equals", "key": "YEAR", "value": "soon"}', "year is a number"),
        ('{"type": "equals", "key": "GEOMETRY", "value": "x"}', "type within"),
        ('{"type": "equals", "key": "Q", "value": "x"}', "type fullText"),
        ('{"type": "annotation"}', "class, text"),
        ('{"type": "annotation", "class": []}', "1 to"),
        ('{"type": "equals", "key": "YEAR", "value": 1, "key": "MONTH"}', "stands twice"),
        ('{"type": "not"}', "must be an object"),
        ('{"type": "not", "predicate": ' * 40 + "0" + "}" * 40, "levels deep"),
        ('{"type": "not", "predicate": ' * 14 + '{"type": "isNull", "key": "YEAR"}' + "}" * 14, "12 levels deep"),
        ('{"type": "in", "key": "COUNTRY", "values": [' + '"x",' * 1500 + '"x"]}', "at most 1000"),
        ("{" + " " * 100_001 + "}", "too long"),
    ],
)
def test_a_wrong_predicate_says_what_to_write(text: str, says: str) -> None:
    with pytest.raises(DocumentError, match=says):
        parse_where(text)


def test_a_selection_of_too_many_terms_is_refused() -> None:
    many = [("catalogNumber", str(number)) for number in range(1001)]
    with pytest.raises(SelectionError, match="at most 1000"):
        Selection.from_pairs(many)
    assert len(Selection.from_pairs(many[:1000]).terms[0][1]) == 1000


def test_local_keys_are_refused_in_jobs() -> None:
    for text in ("localSource=x", "!localSource=x", "family=A localAccess=open", "localSource~a*"):
        with pytest.raises(SelectionError, match="one node only"):
            check_portable(parse_where(text))
    check_portable(parse_where("family=A q=localSource"))


def test_flags_are_checked_and_those_for_staff_are_refused_in_jobs() -> None:
    assert parse_where("issue=zero_coordinate").tree == Equals("issue", "ZERO_COORDINATE")
    assert parse_where('{"type": "equals", "key": "ISSUE", "value": "ZERO_COORDINATE"}') == parse_where(
        "issue=ZERO_COORDINATE"
    )
    assert parse_where("!issue=*").tree == Unknown("issue")
    for text, says in (
        ("issue=ZERO_COORDINATES", "did you mean ZERO_COORDINATE"), ("issue=qqqq", "reference-findings"),
        ("issue~ZERO*", "takes no pattern"), ("issue=ZERO_COORDINATE,RANK_INVALID", "is none"),
        ("hasGeospatialIssue=true", "issue=COUNTRY_COORDINATE_MISMATCH"),
    ):  # fmt: skip
        with pytest.raises(SelectionError, match=says):
            parse_where(text)
    check_portable(parse_where("issue=ZERO_COORDINATE"))
    for text in ("issue=DUPLICATE_CATALOG_NUMBER", "family=A !issue=IMAGE_OF_OTHER_RECORD"):
        with pytest.raises(SelectionError, match="staff of a node only; a job"):
            check_portable(parse_where(text))


def test_every_parameter_is_found_in_both_of_gbifs_ways() -> None:
    for name, item in SEARCH_PARAMETERS.items():
        assert find_parameter(name) is item
        assert find_parameter(item.gbif) is item
    assert len({item.gbif for item in SEARCH_PARAMETERS.values()}) == len(SEARCH_PARAMETERS)


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=60) | st.text("()POLYGNMUTI 0123456789.,-eE", max_size=80))
def test_any_text_as_area_or_selection_is_read_or_refused(text: str) -> None:
    for read in (parse_area, parse_where):
        try:
            read(text)
        except DocumentError:
            continue


POINTS = st.tuples(st.integers(-20, 20).map(float), st.integers(-20, 20).map(float))
RINGS = st.lists(POINTS, min_size=3, max_size=7).map(lambda points: (*points, points[0]))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.lists(RINGS, min_size=1, max_size=2), min_size=1, max_size=2))
def test_an_area_is_read_back_from_its_text(polygons: list[list[tuple[tuple[float, float], ...]]]) -> None:
    area = Area(tuple(tuple(rings) for rings in polygons))
    assert parse_area(area.to_wkt()) == area
    assert parse_area(area.to_wkt().replace(",", " , ").lower()) == area


@settings(max_examples=300, deadline=None)
@given(st.lists(st.floats(0, 2 * math.pi, allow_nan=False), min_size=3, max_size=8, unique=True), POINTS)
def test_a_point_is_inside_a_convex_area_as_its_sides_say(angles: list[float], point: tuple[float, float]) -> None:
    """All turns of a convex ring go one way: a point is inside when it lies left of every side."""
    corners = [(round(15 * math.cos(a), 3), round(15 * math.sin(a), 3)) for a in sorted(angles)]
    ring = (*corners, corners[0])
    if len(set(corners)) < 3:
        return
    sides = [
        (bx - ax) * (point[1] - ay) - (by - ay) * (point[0] - ax) for (ax, ay), (bx, by) in itertools.pairwise(ring)
    ]
    if min(abs(side) for side in sides) < 0.1:
        return  # nearly on a side: rounding decides
    inside = all(side > 0 for side in sides)
    assert Area(((ring,),)).contains(*point) == inside
    assert Area(((ring[::-1],),)).contains(*point) == inside


def test_holes_edges_several_polygons_and_the_180th_meridian() -> None:
    area = parse_area(
        "MULTIPOLYGON(((0 0,10 0,10 10,0 10,0 0),(4 4,6 4,6 6,4 6,4 4)),((170 0,190 0,190 10,170 10,170 0)))"
    )
    inside = [(1, 1), (0, 5), (10, 10), (4, 5), (175, 5), (180, 5), (-175, 5), (-180, 5)]
    outside = [(5, 5), (-1, 5), (11, 5), (-165, 5), (160, 5), (1, 11)]
    assert [area.contains(x, y) for x, y in inside] == [True] * len(inside)
    assert [area.contains(x, y) for x, y in outside] == [False] * len(outside)


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("1901", ("1901-01-01", "1901-12-31")), ("1904-02", ("1904-02-01", "1904-02-29")),
        ("1901-5-2", ("1901-05-02", "1901-05-02")), ("1901-05-02T10:00:00Z", ("1901-05-02", "1901-05-02")),
        ("1901-05-02/1901-06", ("1901-05-02", "1901-06-30")), ("1901-05-02/09", ("1901-05-02", "1901-05-09")),
        ("1901-02-30", None), ("1901-13", None), ("May 1901", None), ("", None), ("1902/1901", None), ("0000", None),
        ("1901/", None), ("١٩٠١", None),
    ],
)  # fmt: skip
def test_dates_of_events_are_spans_of_days(text: str, span: tuple[str, str] | None) -> None:
    assert span_of_event(text) == span
    if "/" not in text:
        assert span_of_date(text) == span


def test_values_that_a_record_must_have() -> None:
    assert parse_where("kingdom=Plantae kingdom=Fungi year=1900").values_needed("kingdom") == ("Plantae", "Fungi")
    for text in ("", "!kingdom=Plantae", "kingdom=*", "kingdom~P*", "kingdom=Plantae kingdom~F*", "year=1900"):
        assert parse_where(text).values_needed("kingdom") == ()
