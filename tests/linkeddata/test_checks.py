"""Checks of records: every flag fires where it should and nowhere else, and no input breaks them."""

import string
import sys
from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linkeddata.checks import Checker
from linkeddata.countries import Countries
from linkeddata.issue_dates import read_date
from linkeddata.issue_taxa import BASES, TYPES, rank_of
from linkeddata.issues import ACROSS_RECORDS, FLAGS
from linkeddata.mids import Mids
from linkeddata.names import NameParser, load
from linkeddata.sensitive import generalise
from linkeddata.source import SourceMedia

TODAY = date(2026, 11, 24)
GOOD = {
    "dwc:basisOfRecord": "PreservedSpecimen", "dcterms:license": "CC0", "dwc:scientificName": "Acer campestre L.",
    "dwc:genus": "Acer", "dwc:specificEpithet": "campestre", "dwc:taxonRank": "species", "dwc:country": "Germany",
    "dwc:countryCode": "DE", "dwc:decimalLatitude": "52.5", "dwc:decimalLongitude": "13.4",
    "dwc:eventDate": "1901-05-02", "dwc:year": "1901", "dwc:month": "5", "dwc:day": "2",
    "dcterms:modified": "2024-01-01T10:00:00Z", "dwc:dateIdentified": "1950",
    "dwc:coordinateUncertaintyInMeters": "100", "dwc:coordinatePrecision": "0.01",
    "dwc:minimumElevationInMeters": "30", "dwc:maximumElevationInMeters": "40", "dwc:typeStatus": "Isotype",
    "dwc:individualCount": "1",
}  # fmt: skip
CHECKER = Checker()  # its caches change nothing, and outlines take a quarter of a second to load


def codes(media: tuple[SourceMedia, ...] = (), **changed: str) -> set[str]:
    fields = dict(GOOD)
    for name, value in changed.items():
        term = name if ":" in name else ("dcterms:" if name in ("license", "modified") else "dwc:") + name
        fields[term] = value
    return set(CHECKER.check({k: v for k, v in fields.items() if v}, today=TODAY, media=media).codes)


CASES: list[tuple[str, dict[str, str]]] = [
    ("RECORDED_DATE_INVALID", {"eventDate": "1901-02-30"}),
    ("RECORDED_DATE_INVALID", {"eventDate": "Wed Mar 24 00:00:00 CET 1937", "year": "", "month": "", "day": ""}),
    ("RECORDED_DATE_INVALID", {"eventDate": "", "month": "13"}),
    ("RECORDED_DATE_INVALID", {"eventDate": "1901-05-02/1900-01-01"}),
    ("RECORDED_DATE_UNLIKELY", {"eventDate": "2099-01-01", "year": "", "month": "", "day": ""}),
    ("RECORDED_DATE_UNLIKELY", {"eventDate": "", "year": "1066", "month": "", "day": ""}),
    ("RECORDED_DATE_MISMATCH", {"year": "1902"}),
    ("RECORDED_DATE_MISMATCH", {"month": "2", "day": "5"}),
    ("RECORDED_DATE_MISMATCH", {"startDayOfYear": "123"}),
    ("IDENTIFIED_DATE_INVALID", {"dateIdentified": "last week"}),
    ("IDENTIFIED_DATE_UNLIKELY", {"dateIdentified": "1650"}),
    ("GEOREFERENCED_DATE_INVALID", {"georeferencedDate": "2015-13"}),
    ("GEOREFERENCED_DATE_UNLIKELY", {"georeferencedDate": "2115"}),
    ("MODIFIED_DATE_INVALID", {"modified": "yesterday"}),
    ("MODIFIED_DATE_UNLIKELY", {"modified": "1900-01-01"}),
    ("COORDINATE_INVALID", {"decimalLatitude": "52°30'"}),
    ("COORDINATE_INVALID", {"decimalLongitude": ""}),
    ("COORDINATE_OUT_OF_RANGE", {"decimalLatitude": "525"}),
    ("ZERO_COORDINATE", {"decimalLatitude": "0", "decimalLongitude": "0.0"}),
    ("PRESUMED_SWAPPED_COORDINATE", {"decimalLatitude": "13.4", "decimalLongitude": "52.5"}),
    ("PRESUMED_NEGATED_LATITUDE", {"decimalLatitude": "-52.5"}),
    ("PRESUMED_NEGATED_LONGITUDE", {"decimalLongitude": "-13.4"}),
    ("COUNTRY_COORDINATE_MISMATCH", {"decimalLatitude": "40", "decimalLongitude": "-100"}),
    ("COUNTRY_INVALID", {"country": "Atlantis"}),
    ("COUNTRY_INVALID", {"countryCode": "Germany"}),
    ("COUNTRY_MISMATCH", {"country": "France"}),
    ("COORDINATE_UNCERTAINTY_METERS_INVALID", {"coordinateUncertaintyInMeters": "0"}),
    ("COORDINATE_PRECISION_INVALID", {"coordinatePrecision": "10"}),
    ("ELEVATION_NON_NUMERIC", {"minimumElevationInMeters": "ca. 30 m"}),
    ("ELEVATION_UNLIKELY", {"maximumElevationInMeters": "30000"}),
    ("ELEVATION_MIN_MAX_SWAPPED", {"minimumElevationInMeters": "400"}),
    ("DEPTH_NON_NUMERIC", {"minimumDepthInMeters": "deep"}),
    ("DEPTH_UNLIKELY", {"minimumDepthInMeters": "-5"}),
    ("DEPTH_MIN_MAX_SWAPPED", {"minimumDepthInMeters": "9", "maximumDepthInMeters": "3"}),
    ("BASIS_OF_RECORD_INVALID", {"basisOfRecord": "specimen?"}),
    ("BASIS_OF_RECORD_INVALID", {"basisOfRecord": ""}),
    ("TYPE_STATUS_INVALID", {"typeStatus": "nice one"}),
    ("SUSPECTED_TYPE", {"typeStatus": "possible holotype"}),
    ("INDIVIDUAL_COUNT_INVALID", {"individualCount": "many"}),
    ("RANK_INVALID", {"taxonRank": "sort of"}),
    ("UNPARSABLE", {"scientificName": "12345", "genus": "", "specificEpithet": ""}),
    ("PARTIALLY_PARSABLE", {"scientificName": "Acer campestre L. ; see notes 12345"}),
    ("TAXON_RANK_MISMATCH", {"taxonRank": "family"}),
    ("TAXON_RANK_MISMATCH", {"taxonRank": "var."}),
    ("NAME_PARTS_MISMATCH", {"genus": "Quercus"}),
    ("NAME_PARTS_MISMATCH", {"specificEpithet": "alba"}),
    ("LICENSE_MISSING", {"license": ""}),
    ("LICENSE_NOT_RECOGNISED", {"license": "ask the curator"}),
]


@pytest.mark.parametrize(("code", "changed"), CASES, ids=lambda item: item if isinstance(item, str) else None)
def test_every_flag_fires_for_what_it_is_about(code: str, changed: dict[str, str]) -> None:
    assert codes(**changed) - {code} <= {"COUNTRY_COORDINATE_MISMATCH"}
    assert code in codes(**changed)


def test_flags_of_images() -> None:
    good = SourceMedia(key="a", locator="https://x.example/a.jpg", format="image/jpeg")
    assert codes((good,)) == set()
    assert codes((SourceMedia(key="a", locator="a b.jpg"),)) == {"MEDIA_FORMAT_MISSING"}
    bad = SourceMedia(
        key="a",
        locator="https://x.example/a b.jpg",
        format="image/jpeg",
        licence="mine",
        fields={"dcterms:created": "x"},
    )
    found = CHECKER.check(GOOD, today=TODAY, media=(bad,))
    assert set(found.codes) == {"MULTIMEDIA_URI_INVALID", "LICENSE_NOT_RECOGNISED", "MULTIMEDIA_DATE_INVALID"}
    assert not any("x.example" in item.detail for item in found.issues)


def test_a_good_record_has_no_flag_and_every_flag_has_a_case() -> None:
    assert codes() == set()
    of_media = {"MEDIA_FORMAT_MISSING", "MULTIMEDIA_URI_INVALID", "MULTIMEDIA_DATE_INVALID"}
    assert FLAGS.keys() - {code for code, _ in CASES} - of_media == ACROSS_RECORDS
    for flag in FLAGS.values():
        assert flag.says.endswith(".") and flag.advice.endswith("."), flag.code


@pytest.mark.parametrize(
    "changed",
    [
        {"country": "Deutschland"}, {"country": "Allemagne"}, {"country": "DEU"}, {"countryCode": "de"},
        {"decimalLatitude": "54.5", "decimalLongitude": "7.5"},  # in the German Bight
        {"eventDate": "1901-05", "day": ""}, {"eventDate": "1901"}, {"eventDate": "1901-05-02T09:00+01:00"},
        {"eventDate": "1901-05-01/03", "day": ""}, {"eventDate": "1901-122"}, {"eventDate": "1901-04-01/1901-06-30"},
        {"typeStatus": "Holotype of Acer campestre L."}, {"typeStatus": "isotype; paratype"}, {"basisOfRecord": "preserved specimen"},
        {"taxonRank": "SPECIES"}, {"taxonRank": "unranked"}, {"genus": "Acer L."},
        {"scientificName": "Quercus robur x Q. petraea", "genus": "Quercus", "specificEpithet": "", "taxonRank": ""},
        {"scientificName": "Carex sp. 1", "genus": "Carex", "specificEpithet": ""},
        {"country": "USSR", "countryCode": ""},
    ],
)  # fmt: skip
def test_what_is_right_in_another_form_is_not_flagged(changed: dict[str, str]) -> None:
    assert codes(**changed) == set()


TERMS = sorted({*GOOD, "dwc:startDayOfYear", "dwc:kingdom", "dwc:minimumDepthInMeters", "dwc:infraspecificEpithet"})
NASTY = st.text(alphabet=string.printable + "äß×٣€\u202e\x00", max_size=24) | st.sampled_from(
    ["nan", "-inf", "1e999", "1_000", "٣", "²", "0000-00-00", "9999-12-31", "90", "-180", "1901-1-1", "∞", "ZZ", "×"]
)


@given(st.dictionaries(st.sampled_from(TERMS), NASTY), st.lists(NASTY, max_size=3))
def test_no_input_raises_and_every_result_is_in_the_table(fields: dict[str, str], texts: list[str]) -> None:
    media = tuple(SourceMedia(key=text, locator=text, licence=text, fields={"dcterms:created": text}) for text in texts)
    found = CHECKER.check(fields, today=TODAY, media=media)
    assert set(found.codes) <= FLAGS.keys()
    assert list(found.codes) == sorted(set(found.codes))
    assert all(len(item.detail) <= 200 for item in found.issues)
    assert found == CHECKER.check(fields, today=TODAY, media=media)
    assert found.mids.level in (None, 0, 1, 2, 3)


@given(st.dates(min_value=date(1000, 1, 1)), st.integers(0, 400))
def test_dates_of_the_calendar_are_read_as_what_they_are(first: date, days: int) -> None:
    last = min(date.max, first + timedelta(days=days)) if first.year < 9998 else first
    for text, begin, end in (
        (first.isoformat(), first, first),
        (f"{first:%Y-%m-%dT%H:%MZ}", first, first),
        (f"{first.isoformat()}/{last.isoformat()}", first, last),
        (f"{first.year:04d}-{first.timetuple().tm_yday:03d}", first, first),
        (f"{first.year:04d}", date(first.year, 1, 1), date(first.year, 12, 31)),
    ):
        span = read_date(text)
        assert span is not None, text
        assert (span.first, span.last) == (begin, end), text


@given(st.integers(1, 9999), st.integers(0, 99), st.integers(0, 99))
def test_a_date_is_read_exactly_when_the_calendar_has_it(year: int, month: int, day: int) -> None:
    try:
        date(year, month, day)
        exists = True
    except ValueError:
        exists = False
    assert (read_date(f"{year:04d}-{month:02d}-{day:02d}") is not None) == exists


POINTS = [
    ("DE", 52.5, 13.4), ("BR", -23.5, -46.6), ("AU", -33.9, 151.2), ("RU", 66.0, -175.0), ("FJ", -17.8, 178.0),
    ("US", 21.3, -157.8), ("GF", 4.9, -52.3), ("FR", 4.9, -52.3), ("SJ", 78.2, 15.6), ("AQ", -80.0, 0.0),
    ("NZ", -44.0, -176.5), ("XK", 42.6, 21.1), ("RS", 42.6, 21.1), ("ZA", -25.7, 28.2), ("LS", -29.6, 28.2),
]  # fmt: skip


@pytest.mark.parametrize(("code", "latitude", "longitude"), POINTS)
def test_points_lie_in_their_countries_and_not_far_away(code: str, latitude: float, longitude: float) -> None:
    countries = Countries()
    assert countries.may_lie_in(code, latitude, longitude) is True
    assert countries.may_lie_in("MN", latitude, longitude) is False
    assert countries.may_lie_in("VA" if code != "VA" else "SM", 0.5, 0.5) in (False, None)


def test_what_is_disputed_is_not_judged() -> None:
    countries = Countries()
    assert countries.may_lie_in("UA", 45.0, 34.1) is None
    assert countries.may_lie_in("RU", 45.0, 34.1) is None
    assert countries.may_lie_in("MA", 24.0, -13.0) is True
    assert countries.may_lie_in("QQ", 24.0, -13.0) is None


def test_countries_are_known_by_code_and_by_name_in_many_languages() -> None:
    countries = Countries()
    for name in ("Brazil", "Brasil", "Brasilien", "BRÉSIL", " brazil ", "BR", "BRA"):
        assert countries.code_of(name) == "BR", name
    assert countries.code_of("Soviet Union") == ""
    assert countries.code_of("Atlantis") is None
    assert countries.is_code("BR") and not countries.is_code("BRA")


def test_flags_of_a_generalised_record_come_from_what_is_left_of_it() -> None:
    fields = {**GOOD, "dwc:decimalLatitude": "-52.5", "dwc:minimumElevationInMeters": "400", "dwc:day": "9"}
    inside = set(CHECKER.check(fields, today=TODAY).codes)
    assert {"PRESUMED_NEGATED_LATITUDE", "ELEVATION_MIN_MAX_SWAPPED", "RECORDED_DATE_MISMATCH"} <= inside
    assert CHECKER.check(generalise(fields, 1), today=TODAY).codes == ()


def test_names_are_taken_apart_by_the_library() -> None:
    names = NameParser()
    found = names.parse("Homo sapiens neanderthalensis King, 1864", "ZOOLOGICAL")
    assert (found.state, found.canonical, found.rank) == ("parsed", "Homo sapiens neanderthalensis", "SUBSPECIES")
    assert (found.genus, found.species, found.infraspecies) == ("Homo", "sapiens", "neanderthalensis")
    assert found.authorship == "King, 1864"
    assert names.parse("Tobacco mosaic virus").state == "not-a-name"
    assert names.parse("Allium sp. 1").state == "informal"
    assert names.parse("").state == names.parse("x" * 600).state == names.parse("unknown").state == "unparsable"


def test_the_wrong_library_of_the_same_name_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nameparser", string)
    with pytest.raises(ImportError, match="uninstall nameparser"):
        load()


def test_words_of_the_vocabularies() -> None:
    assert "preservedspecimen" in BASES and "holotype" in TYPES
    assert [rank_of(text) for text in ("Subsp.", "unranked", "", "kind")] == ["subspecies", "", "", None]


MIDS0 = {"dwc:catalogNumber": "B 1", "dwc:institutionCode": "B"}
MIDS1 = {
    **MIDS0, "dwc:scientificName": "Acer campestre", "dwc:preparations": "sheet", "dcterms:license": "CC0",
    "dcterms:modified": "2024-01-01",
}  # fmt: skip
MIDS2 = {
    **MIDS1, "dwc:country": "Germany", "dwc:decimalLatitude": "52", "dwc:decimalLongitude": "13", "dwc:recordedBy": "X",
    "dwc:eventDate": "1901", "dwc:recordNumber": "7",
}  # fmt: skip
MIDS3 = {
    **MIDS2, "dwc:locationID": "https://sws.geonames.org/1", "dwc:institutionID": "https://ror.org/1",
    "dwc:recordedByID": "https://orcid.org/1", "dwc:scientificNameID": "ipni:1", "dwc:identifiedByID": "https://orcid.org/2",
}  # fmt: skip


@pytest.mark.parametrize(("level", "fields"), [(None, {}), (0, MIDS0), (1, MIDS1), (2, MIDS2), (3, MIDS3)])
def test_mids_levels_are_cumulative(level: int | None, fields: dict[str, str]) -> None:
    mids = Mids()
    assert mids.level(fields, has_media=True).level == level
    for term in fields:
        less = mids.level({k: v for k, v in fields.items() if k != term}, has_media=True).level
        assert (less if less is not None else -1) <= (level if level is not None else -1)


def test_mids_asks_for_what_the_maps_say() -> None:
    mids = Mids()
    assert mids.level(MIDS2, has_media=False).missing == ("Media",)
    assert mids.level(MIDS2, has_media=False).level == 1
    assert mids.level({**MIDS2, "dwc:country": "unknown:undigitized"}, has_media=True).missing == (
        "QualitativeLocation",
    )
    assert mids.level({**MIDS1, "dwc:scientificName": "incertae sedis"}, has_media=True).missing == ("Name",)
    without = {k: v for k, v in MIDS2.items() if k != "dwc:decimalLongitude"}
    assert mids.level(without, has_media=True).missing == ("QuantitativeLocation",)
    fossil = {**MIDS1, "dwc:basisOfRecord": "FossilSpecimen"}
    assert mids.level(fossil, has_media=True).missing == ("Chronostratigraphy",)
    rock = {**MIDS2, "dwc:materialEntityType": "Mineral"}
    assert mids.level(rock, has_media=True).missing == ("StratigraphicContext",)
