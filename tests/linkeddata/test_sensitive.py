"""The list of sensitive taxa: how it is written, which rows fall under it, and what is then still said."""

from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from linkeddata.sensitive import PlaceWords, generalise
from linkeddata.sensitive_list import SensitiveListError, check_rule, parse_sensitive_list
from linkeddata.sensitive_taxa import SensitiveRule, SensitiveTaxa, listed_words


def species(value: str, **more: object) -> SensitiveRule:
    return SensitiveRule(term="dwc:scientificName", value=value, **{"category": 2, **more})  # type: ignore[arg-type]


def category(fields: Mapping[str, str], *rules: SensitiveRule) -> int | None:
    found = SensitiveTaxa.of(rules).find(fields)
    return found.category if found else None


LADY = "Cypripedium calceolus"
SAME = (
    "Cypripedium calceolus", "Cypripedium calceolus L.", "CYPRIPEDIUM CALCEOLUS", "cypripedium calceolus l.",
    "Cypripedium cf. calceolus L.", "Cypripedium aff. calceolus", "Cypripedium ×calceolus", "Cypripedium x calceolus",
    "×Cypripedium calceolus", "xCypripedium calceolus", "Cypripedium calceolus?", "Cypripedium (Sub) calceolus",
    "Cypripedium_calceolus", "Cypripedium\u00a0calceolus", "Cypri\u00adpedium calceolus", "Cypripédium calcéolus",
    "Cypripedium calceolus var. alpinum", "Cypripedium calceolus L. subsp. alpinum (Mill.) X.",
    "Cypripedium calceolus × Cypripedium macranthos", "Cypripedium macranthos × Cypripedium calceolus",
    "Cypripedium macranthos × C. calceolus", "Cypripedium macranthos x C. calceolus",
)  # fmt: skip
OTHER = ("Cypripedium calceoloides", "Cypripedium", "Orchis calceolus", "", "Calceolus Cypripedium",
         "Cypripedium macranthos var. calceolus")  # fmt: skip


@pytest.mark.parametrize("listed", [LADY, "Cypripedium calceolus L.", "CYPRIPEDIUM CALCEOLUS", "cypripedium calceolus"])
def test_a_species_is_found_however_it_is_written(listed: str) -> None:
    for name in SAME:
        assert category({"dwc:scientificName": name}, species(listed)) == 2, name
    for name in OTHER:
        assert category({"dwc:scientificName": name}, species(listed)) is None, name


@pytest.mark.parametrize(
    "fields",
    [
        {"dwc:genus": "Cypripedium", "dwc:specificEpithet": "calceolus"},
        {"dwc:genericName": "Cypripedium", "dwc:specificEpithet": "calceolus"},
        {"dwc:scientificName": "Orchis L.", "dwc:acceptedNameUsage": "Cypripedium calceolus L."},
        {"dwc:scientificName": "Orchis", "dwc:verbatimIdentification": "(det. as Cypripedium calceolus, 1901)"},
        {"dwc:scientificName": "Orchis", "dwc:previousIdentifications": "Orchis sp. | Cypripedium calceolus L."},
        {"dwc:scientificName": "Fagus", "dwc:associatedTaxa": "with Cypripedium calceolus and Abies"},
    ],
)
def test_every_term_that_may_hold_a_name_is_read(fields: dict[str, str]) -> None:
    genus = SensitiveRule(term="dwc:genus", value="Cypripedium", category=3)
    assert category(fields, species(LADY)) == 2
    assert category(fields, genus) == 3
    assert category(fields, species(LADY), genus) == 2
    assert category(fields, SensitiveRule(term="dwc:genus", value="Ophrys", category=1)) is None


def test_authors_between_species_and_variety_do_not_hide_it() -> None:
    rule = species("Orchis militaris L. subsp. stevenii (Rchb.f.) X.")
    for name in (
        "Orchis militaris subsp. stevenii",
        "Orchis militaris L. ssp. stevenii (Rchb. f.) B.",
        "Orchis militaris stevenii",
    ):
        assert category({"dwc:scientificName": name}, rule) == 2, name
    assert category({"dwc:scientificName": "Orchis militaris L."}, rule) is None


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ("Orchis militaris L. f. ex Hook.", "orchis militaris"), ("Abies alba Mill. f. pendula", "abies alba pendula"),
        ("Poa alpina de Vries", "poa alpina"), ("Isoëtes lacustris", "isoetes lacustris"), ("× Orchiaceras", "orchiaceras"),
        ("Aconitum napellus agg.", "aconitum napellus"), ("Carex flava-nigra Auct. non L.", "carex flava-nigra"),
        ("ORCHIS MILITARIS SUBSP. STEVENII", "orchis militaris stevenii"), ("Orchis (Sub) mas L.", "orchis mas"),
    ],
)  # fmt: skip
def test_what_of_a_listed_name_counts(written: str, words: str) -> None:
    assert listed_words(written) == tuple(words.split())


def test_synonyms_stand_in_the_list() -> None:
    rule = species(LADY, synonyms=("Calceolus alternifolius St.-Lag.", "Cypripedium boreale"))
    assert category({"dwc:scientificName": "Calceolus alternifolius"}, rule) == 2
    assert category({"dwc:scientificName": "Cypripedium boreale Salisb."}, rule) == 2


def test_higher_ranks() -> None:
    family = SensitiveRule(term="dwc:family", value="Orchidaceae", category=4)
    for fields in ({"dwc:family": "ORCHIDACEAE"}, {"dwc:family": "Orchidaceae Juss."},
                   {"dwc:higherClassification": "Plantae|Asparagales|Orchidaceae|Orchis"}):  # fmt: skip
        assert category(fields, family) == 4
    assert category({"dwc:family": "Poaceae", "dwc:scientificName": "Orchidaceae"}, family) is None


@pytest.mark.parametrize(
    ("region", "fields", "inside"),
    [
        ("", {"dwc:countryCode": "AT"}, True),
        ("DE", {"dwc:countryCode": "de"}, True), ("DE", {"dwc:countryCode": "AT"}, False),
        ("DE", {"dwc:country": "Germany"}, True),  # nothing to compare a code with: in doubt inside
        ("DE", {}, True), ("Germany", {"dwc:country": "GERMANY"}, True), ("Germany", {"dwc:country": "Austria"}, False),
        ("Germany", {"dwc:countryCode": "AT"}, True),
        ("DE | Germany", {"dwc:countryCode": "AT", "dwc:country": "Germany"}, True),
        ("DE | Germany", {"dwc:countryCode": "AT", "dwc:country": "Austria"}, False),
        ("AT/Tirol | AT/Tyrol", {"dwc:countryCode": "AT", "dwc:stateProvince": "tyrol"}, True),
        ("AT/Tirol", {"dwc:countryCode": "AT", "dwc:stateProvince": "Wien"}, False),
        ("AT/Tirol", {"dwc:countryCode": "AT"}, True), ("AT/Tirol", {"dwc:countryCode": "DE", "dwc:stateProvince": "Tirol"}, False),
        ("AT/Tirol | IT", {"dwc:countryCode": "IT", "dwc:stateProvince": "Toscana"}, True),
    ],
)  # fmt: skip
def test_a_region_excludes_only_rows_that_say_clearly_where_else_they_are(
    region: str, fields: dict[str, str], inside: bool
) -> None:
    found = category({"dwc:scientificName": LADY, **fields}, species(LADY, region=region))
    assert found == (2 if inside else None)


def test_the_strictest_rule_of_those_that_hold_here_counts() -> None:
    everywhere, here = species(LADY, category=4), species(LADY, category=1, region="AT")
    assert category({"dwc:scientificName": LADY, "dwc:countryCode": "DE"}, everywhere, here) == 4
    assert category({"dwc:scientificName": LADY, "dwc:countryCode": "AT"}, everywhere, here) == 1


LIST = """\ufeffname;rank;region;category;reason;synonyms
# a remark
Cypripedium calceolus L.;species;;2;dug up;Calceolus alternifolius | Cypripedium boreale

Orchidaceae;family;AT/Tirol;4;;
"""


def test_a_list_is_read() -> None:
    rules = parse_sensitive_list(LIST.encode(), "taxa.csv")
    assert rules == (
        SensitiveRule(
            term="dwc:scientificName", value="Cypripedium calceolus L.", category=2, reason="dug up",
            synonyms=("Calceolus alternifolius", "Cypripedium boreale"),
        ),
        SensitiveRule(term="dwc:family", value="Orchidaceae", category=4, region="AT/Tirol"),
    )  # fmt: skip
    assert parse_sensitive_list(b"name,category\r\n", "x") == ()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"", "empty: the first line must be"), (b"\xff\xfe", "not UTF-8"), (b"a\0b", "no text file"),
        (b"name\nOrchis mas\n", "column category is missing"), (b"name,category,regon\n", "unknown column 'regon'"),
        (b"name,name,category\n", "twice"), (b"name,category\nOrchis mas,5\n", "line 2: category must be 1, 2, 3 or 4, not '5'"),
        (b"name,category\nOrchis mas,two\n", "line 2: category"), (b"name,category\n,2\n", "line 2: '' is no name"),
        (b"name,category\nOrchis,2\n", "one word: write the whole name, or field genus"),
        (b"name,field,category\nOrchis mas,genus,2\n", "more than one word"),
        (b"name,field,category\nOrchis mas,tribe,2\n", "field must be one of"),
        (b"name,category,region\nOrchis mas,2,/Tirol\n", "which country is tirol in"),
        (b"name,category\nOrchis mas,2,x\n", "put quotes around"), (b'name,category\n"Orchis mas,2\n', "not readable as CSV"),
        (b"name,category\n" + b"x" * 400 + b",2\n", "longer than 300"),
        (b'name,category,reason\nOrchis mas,2,"a\nb"\n', "must be one line"),
    ],
)  # fmt: skip
def test_a_list_with_a_mistake_is_refused_with_what_to_do(text: bytes, says: str) -> None:
    with pytest.raises(SensitiveListError, match="taxa.csv") as caught:
        parse_sensitive_list(text, "taxa.csv")
    assert says in str(caught.value)


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_a_list_or_a_clear_error(data: bytes) -> None:
    try:
        parse_sensitive_list(b"name,category\n" + data, "x")
    except SensitiveListError as error:
        assert "\n" not in str(error)


def test_a_rule_of_node_toml_is_checked_alike() -> None:
    with pytest.raises(SensitiveListError, match="one word"):
        check_rule(species("Orchis"), "[[sensitive]]")


ROW = {
    "dwc:scientificName": LADY, "dwc:country": "Austria", "dwc:stateProvince": "Tirol", "dwc:locality": "Geheimtal, Tirol",
    "dwc:decimalLatitude": "47.1234", "dwc:decimalLongitude": "11.6512", "dwc:catalogNumber": "X-1",
    "dwc:geodeticDatum": "WGS84",
}  # fmt: skip


def test_a_kept_term_that_repeats_the_place_is_left_out() -> None:
    repeats = {
        "dwc:occurrenceID": "urn:x:GEHEIMTAL:1", "dwc:preparations": "sheet from Geheim-tal", "dcterms:rightsHolder": "Verein Geheimtal",
        "dwc:dataGeneralizations": "Geheimtal left out", "dwc:typeStatus": "holotype, 47.1234", "dwc:year": "1901 Geheimtal",
        "dwc:geodeticDatum": "Geheimtal grid",
    }  # fmt: skip
    text = repr(generalise({**ROW, **repeats}, 2))
    assert "eheim" not in text
    assert "EHEIM" not in text
    assert "47.1234" not in text
    kept = generalise({**ROW, "dwc:preparations": "sheet, Tirol", "dwc:occurrenceID": "urn:x:1"}, 2)
    assert (kept["dwc:preparations"], kept["dwc:occurrenceID"]) == ("sheet, Tirol", "urn:x:1")


@pytest.mark.parametrize(("number", "step", "metres"), [(2, "0.1", "7900"), (3, "0.01", "790"), (4, "0.001", "79")])
def test_rounded_places_say_how_exact_they_are(number: int, step: str, metres: str) -> None:
    kept = generalise(ROW, number)
    assert kept["dwc:coordinatePrecision"] == step
    assert kept["dwc:coordinateUncertaintyInMeters"] == metres
    assert kept["dwc:geodeticDatum"] == "WGS84"
    assert f"rounded to {step} degree" in kept["dwc:dataGeneralizations"]
    rough = generalise({**ROW, "dwc:coordinateUncertaintyInMeters": "25000"}, number)
    assert rough["dwc:coordinateUncertaintyInMeters"] == "25000"
    assert "dwc:decimalLongitude" not in generalise({**ROW, "dwc:decimalLatitude": "?"}, number)
    assert generalise({**ROW, "dwc:decimalLatitude": "-0.00001"}, number)["dwc:decimalLatitude"].strip("0") == "."


def test_the_reason_of_the_list_is_said() -> None:
    assert generalise(ROW, 1, reason="collected for trade")["dwc:informationWithheld"].endswith("; collected for trade")


@settings(max_examples=100, deadline=None)
@given(
    st.integers(1, 4),
    st.dictionaries(
        st.sampled_from(["dwc:locality", "dwc:habitat", "dwc:eventID", "dwc:footprintWKT", "x:own", "dwc:fieldNumber",
                         "dwc:georeferenceRemarks", "dwc:verbatimElevation", "dwc:minimumElevationInMeters"]),
        st.text(max_size=20),
    ),
)  # fmt: skip
def test_rows_that_differ_in_the_place_give_the_same_fields(number: int, differing: dict[str, str]) -> None:
    one = {**ROW, **differing, "dwc:decimalLatitude": "47.12341", "dwc:decimalLongitude": "11.65119"}
    other = {**ROW, "dwc:locality": "Anderswo", "dwc:decimalLatitude": "47.12339", "dwc:decimalLongitude": "11.65121"}
    kept = {"dwc:catalogNumber": ""}  # whether a number repeats the place depends on the place
    assert generalise(one | kept, number) == generalise(other | kept, number)


def test_words_of_the_country_and_the_taxon_are_no_place() -> None:
    words = PlaceWords.of({**ROW, "dwc:locality": "Austria: Tirol, Cypripedium meadow at 12 km"})
    assert words.words == {"meadow", "47.1234", "11.6512"}
