"""Trees of conditions for property tests, over few values so that they often fit something."""

from hypothesis import strategies as st

from linkeddata.geometry import Area
from linkeddata.selection import (
    All,
    Annotated,
    Condition,
    Equals,
    Known,
    Like,
    Not,
    Span,
    Unknown,
    Within,
    Words,
    all_of,
    either_of,
)

TEXTS = {
    "kingdom": ("Plantae", "Animalia", "fungi"), "family": ("Fabaceae", "Poaceae", "Müllerae"),
    "country": ("Brazil", "BR", "Peru", "DE"), "locality": ("Rio de Janeiro", "Rio Negro", "O'Hara 50% _x", "-"),
    "scientificName": ("Acacia alba L.", "Acacia alba", "Poa annua", "Poa annua L."), "recordedBy": ("Martius", "Spix"),
    "catalogNumber": ("B 1", "B 2", "=1+1", "*"),
}  # fmt: skip
VOCABULARY = {
    "basisOfRecord": ("PRESERVED_SPECIMEN", "PreservedSpecimen", "fossil specimen"),
    "typeStatus": ("HOLOTYPE", "Isotype"),
}
WHOLES = {"year": ("1817", "1820", "1900", "2001"), "month": ("1", "5", "12")}
NUMBERS = {"decimalLatitude": ("-10", "0", "47.5"), "decimalLongitude": ("-60.25", "0", "10")}
DATES = ("1817", "1820-05", "1900-01-31", "1900-02", "2001")
LICENCES = ("CC BY 4.0", "https://creativecommons.org/licenses/by/4.0/", "CC0")
FLAGS = ("ZERO_COORDINATE", "RECORDED_DATE_INVALID", "LICENSE_MISSING", "RANK_INVALID")
WORDS = ("martius", "rio", "hortus", "label", "Hort*", "O'Hara", '"', "rio hortus")
SQUARES = ((-70.0, -20.0, -50.0, 0.0), (0.0, 0.0, 20.0, 60.0), (170.0, -10.0, 300.0, 10.0))


def square(west: float, south: float, east: float, north: float) -> Area:
    """A rectangle."""
    return Area((((((west, south), (east, south), (east, north), (west, north), (west, south))),),))


def _pairs(table: dict[str, tuple[str, ...]]) -> st.SearchStrategy[tuple[str, str]]:
    return st.sampled_from([(key, value) for key, values in table.items() for value in values])


def _span(table: dict[str, tuple[str, ...]]) -> st.SearchStrategy[Span]:
    def make(key: str) -> st.SearchStrategy[Span]:
        points = st.tuples(st.sampled_from([None, *table[key]]), st.sampled_from([None, *table[key]]))
        return st.tuples(points, st.booleans(), st.booleans()).map(lambda parts: _ordered(key, *parts))

    return st.sampled_from(sorted(table)).flatmap(make)


def _ordered(key: str, ends: tuple[str | None, str | None], above: bool, below: bool) -> Span:
    low, high = ends
    if low is None and high is None:
        low = "1817" if key in ("year", "eventDate") else "1"
    if low is not None and high is not None:
        order = DATES.index if key == "eventDate" else float
        low, high = sorted((low, high), key=order)  # type: ignore[arg-type]
    return Span(key, low, high, low is not None and above, high is not None and below)


ANNOTATED = st.builds(
    Annotated,
    classes=st.sampled_from([("label-text",), ("barcode",), ("label-text", "barcode")]),
    text=st.sampled_from(["", "hortus", "martii"]),
    pipelines=st.sampled_from([(), ("reader",), ("sha256:" + "0" * 64,)]),
    score_min=st.sampled_from(["", "0", "0.5", "0.95"]),
)
LEAVES: st.SearchStrategy[Condition] = st.one_of(
    _pairs(TEXTS).map(lambda pair: Equals(*pair)),
    _pairs({**VOCABULARY, **WHOLES, **NUMBERS}).map(lambda pair: Equals(*pair)),
    st.sampled_from(LICENCES).map(lambda value: Equals("license", value)),
    st.sampled_from(DATES).map(lambda value: Equals("eventDate", value)),
    st.tuples(st.sampled_from(["hasCoordinate", "hasImage"]), st.sampled_from(["true", "false"])).map(
        lambda pair: Equals(*pair)
    ),
    st.tuples(
        st.sampled_from(["locality", "scientificName", "country"]),
        st.sampled_from(["Rio*", "*a*", "?iO *", "*%*", "*_x", "B?", "*"]),
    ).map(lambda pair: Like(*pair)),
    _span(WHOLES), _span(NUMBERS), _span({"eventDate": DATES}),
    st.sampled_from(FLAGS).map(lambda value: Equals("issue", value)),
    st.sampled_from(["country", "year", "eventDate", "recordedBy", "typeStatus", "issue"]).map(Known),
    st.sampled_from(["country", "year", "locality", "license", "issue"]).map(Unknown),
    st.sampled_from(SQUARES).map(lambda box: Within(square(*box))),
    st.sampled_from(WORDS).map(Words),
    ANNOTATED,
)  # fmt: skip
TREES: st.SearchStrategy[Condition] = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=4).map(all_of),
        st.lists(inner, min_size=1, max_size=4).map(either_of),
        inner.map(Not),
    ),
    max_leaves=8,
) | st.just(All())
