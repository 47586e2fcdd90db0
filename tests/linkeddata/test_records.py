"""Public documents: two independent readers see the same graph; sensitive places are in none of them."""

import json
from datetime import timedelta

import pytest
import rdflib
from conftest import NOW, shared_folder
from hypothesis import given, settings
from hypothesis import strategies as st
from opends_shape import Shapes
from rdflib.compare import isomorphic

from cas.ids import ContentId
from linkeddata.access import AccessClass
from linkeddata.annotation import build_annotation
from linkeddata.answers import answer_of
from linkeddata.canon import canonical_bytes
from linkeddata.descriptor import Holdings, NodeDescriptor, NodeKey, PolicySummary, parse_node_descriptor
from linkeddata.errors import DocumentError
from linkeddata.job import Emit
from linkeddata.licences import normalise_licence
from linkeddata.outputs import UnitAnswer, parse_output
from linkeddata.rdf import serialise, to_graph, to_quads
from linkeddata.records import (
    PLACED_TERMS,
    MediumFacts,
    VariantFacts,
    build_medium,
    build_specimen,
    build_tombstone,
)
from linkeddata.sensitive import KEPT, generalise

IRI = "https://h.example/specimen/aaaaaaaaaaaaaaaa"
NOT_HERE = MediumFacts(content_id=None, width=None, height=None, format="", size_bytes=None)
VALUE = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=30)
FIELDS = st.dictionaries(
    st.sampled_from(sorted(PLACED_TERMS | {"dwc:oddTerm", "http://x.example/t"})), VALUE, max_size=12
)


def specimen(fields: dict[str, str]) -> dict[str, object]:
    return build_specimen(
        iri=IRI, fields=fields, media=["https://h.example/media/bbbbbbbbbbbbbbbb"], licence=normalise_licence("CC0"),
        access=AccessClass.OPEN, mids_level=1, issues=("LICENSE_MISSING",) if fields else (),
        canonical_name="Acer campestre" if "dwc:scientificName" in fields else "",
    )  # fmt: skip


def annotation() -> dict[str, object]:
    body = {
        "image": {"width": 100, "height": 50}, "readable": True, "doubts": ["faint"],
        "lines": [{"text": 'Hortus "x" <b>', "score": "0.98", "box": [1, 2, 10, 5], "writing": "print"}],
    }  # fmt: skip
    return build_annotation(
        iri="https://h.example/annotation/c", medium="https://h.example/media/b", image=ContentId.of(b"x"),
        output=parse_output("label-text/1", body), contract="label-text/1", pipeline="sha256:" + "0" * 64,
        pipeline_name="label-text 1.0.0", environment="sha256:" + "1" * 64, conformance="pass", job="urn:uuid:x",
        answer=UnitAnswer(answer="yes"),
    )  # fmt: skip


def medium(access: AccessClass, *, sensitive: bool = False) -> dict[str, object]:
    facts = MediumFacts(content_id=ContentId.of(b"x"), width=10, height=20, format="image/jpeg", size_bytes=3)
    return build_medium(
        iri="https://h.example/media/b", origin="https://h.example", specimens=[IRI], facts=facts,
        licence=normalise_licence("cc-by"), access=access, sensitive=sensitive,
        identifier="https://photos.example/secret-valley.jpg", title="Secret valley 7",
        variants=[
            VariantFacts(facts=facts, role="archival master", is_processed=True, stated="master of Secret valley 7"),
            VariantFacts(
                facts=NOT_HERE, role="access copy", is_processed=False, stated="Secret valley, small",
                source_address="https://photos.example/secret-valley-small.jpg",
            ),
        ],
    )  # fmt: skip


def assert_same_graph(document: dict[str, object]) -> None:
    theirs = rdflib.Graph()
    theirs.parse(data=json.dumps(document), format="json-ld")
    ours = to_graph([document])
    assert len(ours) > 3
    assert isomorphic(theirs, ours)


@settings(max_examples=25, deadline=None)
@given(FIELDS)
def test_rdflib_and_pyld_see_the_same_specimen(fields: dict[str, str]) -> None:
    document = specimen(fields)
    canonical_bytes(document)
    assert_same_graph(document)


def test_rdflib_and_pyld_see_the_same_media_annotations_and_tombstones() -> None:
    for document in (
        annotation(), medium(AccessClass.OPEN), medium(AccessClass.RESTRICTED, sensitive=True),
        build_tombstone(iri=IRI, kind="specimen", reason="gone", at=NOW),
    ):  # fmt: skip
        canonical_bytes(document)
        assert_same_graph(document)


def test_no_value_of_the_source_is_lost_or_invented() -> None:
    fields = {"dwc:scientificName": "Acer L.", "dwc:oddTerm": "kept", "http://x.example/t": "kept too", "dwc:sex": "f"}
    text = json.dumps(specimen(fields), ensure_ascii=False)
    for value in fields.values():
        assert value in text
    assert "dwc:country" not in text


def test_only_open_media_say_where_their_bytes_are() -> None:
    assert "ac:accessURI" in medium(AccessClass.OPEN)
    assert "ac:accessURI" not in medium(AccessClass.RESTRICTED)
    hidden = medium(AccessClass.OPEN, sensitive=True)
    assert "ac:accessURI" not in hidden
    assert "secret" not in json.dumps(hidden).lower()
    told = json.dumps(medium(AccessClass.OPEN))
    assert '"dcterms:title": "Secret valley 7"' in told
    assert '"ac:variantLiteral": "Secret valley, small"' in told
    assert "secret-valley-small.jpg" in told


def test_regions_are_whole_pixels_with_derived_fractions() -> None:
    region = annotation()["vasculum:hasRegion"][0]  # type: ignore[index]
    assert (region["vasculum:x"], region["vasculum:width"]) == (1, 10)
    assert region["ac:xFrac"] == "0.010000"
    assert region["oa:hasSelector"]["rdf:value"] == "xywh=pixel:1,2,10,5"


@pytest.mark.parametrize("form", ["turtle", "ntriples", "nquads", "rdfxml"])
def test_every_export_form_can_be_read_again(form: str) -> None:
    text = serialise([specimen({"dwc:scientificName": "Acer"}), annotation()], form)
    graph = rdflib.Dataset() if form == "nquads" else rdflib.Graph()
    graph.parse(data=text, format={"turtle": "turtle", "ntriples": "nt", "nquads": "nquads", "rdfxml": "xml"}[form])
    assert (None, None, rdflib.Literal("Acer")) in graph


@pytest.mark.parametrize(
    "document",
    [
        {"@context": "http://169.254.169.254/latest", "@id": "x:y"},
        {"@context": ["https://schema.org/"], "@id": "x:y"},
        {"@id": "x:y", "x:z": {"@context": "https://evil.example/c", "@id": "x:q"}},
    ],
)
def test_no_context_is_ever_fetched(document: dict[str, object]) -> None:
    with pytest.raises(DocumentError):
        to_quads(document)


def test_text_that_looks_like_a_blank_node_stays_text() -> None:
    graph = to_graph([specimen({"dwc:locality": "bei _:b0 ."}), specimen({"dwc:locality": 'and "_:b1" .'})])
    texts = {str(value) for value in graph.objects(None, rdflib.URIRef("http://rs.tdwg.org/dwc/terms/locality"))}
    assert texts == {"bei _:b0 .", 'and "_:b1" .'}


def test_blank_nodes_of_separate_documents_do_not_meet() -> None:
    one, other = annotation(), {**annotation(), "@id": "https://h.example/annotation/d"}
    assert len(to_graph([one, other])) == 2 * len(to_graph([one])) - len(
        list(to_graph([one]).predicate_objects(MEDIUM))
    )


MEDIUM = rdflib.URIRef("https://h.example/media/b")


def test_licences_places_of_bytes_and_related_records_are_links() -> None:
    graph = to_graph([medium(AccessClass.OPEN), specimen({})])
    for term in ("http://purl.org/dc/terms/license", "http://rs.tdwg.org/ac/terms/accessURI",
                 "http://rs.dissco.eu/opends/terms/relatedResourceURI"):  # fmt: skip
        values = list(graph.objects(None, rdflib.URIRef(term)))
        assert values
        assert all(isinstance(value, rdflib.URIRef) for value in values), term


def test_what_is_not_known_is_left_out() -> None:
    empty = specimen({})
    assert not {"ods:specimenName", "ods:physicalSpecimenID", "ods:hasIdentifiers"} & set(empty)


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ("W 1234", "Local"), ("https://w.example/1", "Resolvable"), ("urn:catalog:W:1", "Global"),
        ("123e4567-e89b-12d3-a456-426614174000", "Global"),
    ],
)  # fmt: skip
def test_identifiers_say_how_far_they_reach(value: str, kind: str) -> None:
    assert specimen({"dwc:occurrenceID": value})["ods:physicalSpecimenIDType"] == kind


OWN = {"@context", "vasculum:accessClass", "vasculum:canonicalName", "vasculum:issue", "xmpRights:UsageTerms"}
ADDED_WHEN_PUBLISHED = {"dcterms:created", "dcterms:modified", "ods:version"}
NOT_OURS_TO_SAY = {"ods:normalisedPhysicalSpecimenID", "ods:sourceSystemID", "ods:organisationID"}
"""Given by DiSSCo, or by the settings of the node."""


@pytest.mark.real_data
def test_documents_have_the_shape_of_opends_but_for_what_is_listed_here() -> None:
    shapes = Shapes(shared_folder() / "standards" / "opends-schemas")
    as_received = {"day", "month", "year"}  # texts of the source stay texts: "1901?" is no number
    numbers = {"coordinatePrecision", "coordinateUncertaintyInMeters", "decimalLatitude", "decimalLongitude",
               "maximumDepthInMeters", "maximumElevationInMeters", "minimumDepthInMeters",
               "minimumElevationInMeters"}  # fmt: skip  # decimal texts, because documents are signed
    darwin_core = {"catalogNumber", "institutionCode", "institutionID", "occurrenceID", "recordNumber", "recordedBy",
                   "identifiedBy"}  # fmt: skip  # openDS says these through identifiers, agents and organisations
    allowed = {
        *(f"{name}: unknown" for name in OWN), *(f"{name}: missing" for name in ADDED_WHEN_PUBLISHED | NOT_OURS_TO_SAY),
        *(f"dwc:{name}: not a integer" for name in as_received), *(f"dwc:{name}: not a number" for name in numbers),
        *(f"dwc:{name}: unknown" for name in darwin_core),
    }  # fmt: skip
    found = shapes.deviations(specimen(dict.fromkeys(PLACED_TERMS, "1")), "digital-specimen.json")
    assert {item.rsplit("/", 1)[-1] for item in found} == allowed
    found = shapes.deviations(medium(AccessClass.OPEN), "digital-media.json")
    assert {item.rsplit("/", 1)[-1] for item in found} == {
        "@context: unknown", "ac:hasServiceAccessPoint: unknown",  # openDS knows one file of a medium
        "ac:hashFunction: unknown", "ac:hashValue: unknown", "dcterms:license: unknown",
        "vasculum:accessClass: unknown", "vasculum:contentId: unknown", "vasculum:sizeInBytes: unknown",
        "ods:sourceSystemID: missing", *(f"{name}: missing" for name in ADDED_WHEN_PUBLISHED),
    }  # fmt: skip
    found = shapes.deviations(annotation(), "annotation.json")
    assert {item for item in found if "vasculum:" not in item} == {
        "/@context: unknown", "/@type: not ods:Annotation", "/as:generator: missing", "/dcterms:issued: missing",
        "/oa:hasTarget/exif:PixelXDimension: unknown", "/oa:hasTarget/exif:PixelYDimension: unknown",
        *(f"/{name}: missing" for name in ADDED_WHEN_PUBLISHED),
    }  # fmt: skip


SECRET = {
    "dwc:locality": "Secret valley 7", "dwc:verbatimLabel": "Secret label", "dwc:decimalLatitude": "47.123456",
    "dwc:decimalLongitude": "11.654321", "dwc:recordNumber": "4711", "dwc:eventDate": "1901-05-17", "dwc:month": "5",
    "dwc:habitat": "secret bog", "dwc:someUnknownTerm": "secret hint", "dwc:county": "Secretshire",
}  # fmt: skip


@pytest.mark.parametrize("category", [1, 2, 3, 4])
def test_a_sensitive_record_tells_nothing_finer_than_its_category(category: int) -> None:
    fields = {
        "dwc:scientificName": "Cypripedium calceolus L.",
        "dwc:country": "Austria",
        "dwc:stateProvince": "Tirol",
        **SECRET,
    }
    text = json.dumps(specimen(generalise(fields, category)), ensure_ascii=False)
    for hidden in ("Secret", "secret", "4711", "05-17", "47.123456", "11.654321"):
        assert hidden not in text
    assert "Austria" in text
    assert ("Tirol" in text) is (category > 1)
    assert "dwc:dataGeneralizations" in text
    assert "dwc:informationWithheld" in text
    assert {1: "47", 2: '"47.1"', 3: '"47.12"', 4: '"47.123"'}[category] in text or category == 1


@settings(max_examples=80, deadline=None)
@given(FIELDS, st.integers(1, 4))
def test_generalising_keeps_only_terms_on_the_list(fields: dict[str, str], category: int) -> None:
    allowed = KEPT | {
        "dwc:eventDate",
        "dwc:decimalLatitude",
        "dwc:decimalLongitude",
        "dwc:dataGeneralizations",
        "dwc:informationWithheld",
        "dwc:coordinatePrecision",
        "dwc:coordinateUncertaintyInMeters",
        "dwc:geodeticDatum",
    }
    assert set(generalise(fields, category)) <= allowed


def test_answers_are_yes_no_or_cannot_tell() -> None:
    def label(readable: bool, *texts: str, doubts: tuple[str, ...] = ()) -> object:
        return parse_output(
            "label-text/1",
            {
                "image": {"width": 100, "height": 50}, "readable": readable, "doubts": list(doubts),
                "lines": [{"text": text, "score": "0.9", "box": [1, 2, 10, 5], "writing": "print"} for text in texts],
            },
        )  # fmt: skip

    emit = Emit(step="label-text/1", match="Martii~1")
    ask = lambda output: answer_of(output, emit, step="label-text/1")  # noqa: E731
    assert ask(label(True, "Herb. Martii")).answer == "yes"
    assert ask(label(False, "Herb. Martii", doubts=("blur",))).answer == "yes"
    assert ask(label(True, "Hortus")).answer == "no"
    unread = ask(label(False, "scrawl", doubts=("much is uncertain",)))
    assert (unread.answer, unread.reason) == ("cannot tell", "much is uncertain")
    plain = answer_of(label(True, "Hortus"), None, step="label-text/1")  # type: ignore[arg-type]
    assert plain.values["lines"][0]["text"] == "Hortus"


def descriptor(**changes: object) -> dict[str, object]:
    made = NodeDescriptor(
        origin="https://h.example", name="H", seq=1, issued=NOW, expires=NOW + timedelta(days=7),
        keys=(NodeKey(kid="k", public_key="p", purpose="sign"),), pipelines=(),
        policy=PolicySummary(preset="closed", rules=()),
        holdings=Holdings(specimens=1, media=1, digest="d", kingdoms={"Plantae": 1}, updated=NOW),
    )  # fmt: skip
    return {**made.to_json(), **changes}


def test_a_descriptor_survives_with_what_it_does_not_know() -> None:
    document = descriptor(future={"a": 1})
    assert parse_node_descriptor(document).to_json() == document


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("origin", "https://H.example"), ("origin", "https://h.example/path"), ("origin", "ftp://h.example"), ("seq", 0),
        ("expires", "2027-11-24T12:00:00Z"), ("expires", "2026-11-24T12:00:00Z"), ("keys", []), ("schemaVersion", 2),
        ("pipelines", {}), ("holdings", []),
    ],
)  # fmt: skip
def test_a_wrong_descriptor_is_refused(member: str, value: object) -> None:
    with pytest.raises(DocumentError):
        parse_node_descriptor(descriptor(**{member: value}))
