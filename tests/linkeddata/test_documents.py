"""Canonical bytes, envelopes, pipelines, jobs, descriptors, licences, selections, outputs."""

import base64
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import rfc8785
from conftest import NOW
from hypothesis import given, settings
from hypothesis import strategies as st

from federation.identity import KeyRing, SigningKey
from linkeddata.access import AccessClass
from linkeddata.canon import canonical_bytes
from linkeddata.envelope import JOB_SPEC, NODE_DESCRIPTOR, open_envelope, parse_envelope, seal
from linkeddata.errors import CanonError, DocumentError, EnvelopeError, OutputRefused, SelectionError, SignatureInvalid
from linkeddata.job import Emit, JobSpec, JobStep, parse_job_spec
from linkeddata.json_strict import Json
from linkeddata.licences import TABLE, normalise_licence
from linkeddata.outputs import parse_output
from linkeddata.pipeline import work_key
from linkeddata.search_terms import SEARCH_PARAMETERS, TEXTUAL
from linkeddata.selection import Selection, parse_selection, parse_where
from linkeddata.times import format_time, parse_time

KEY = SigningKey.from_seed(b"k" * 32)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


def spec(**changes: object) -> JobSpec:
    base = JobSpec(
        id="urn:uuid:00000000-0000-4000-8000-000000000001", issued=NOW, expires=NOW + timedelta(hours=1),
        requester_kid=KEY.kid, requester_name="R", audience=("https://a.example",),
        steps=(JobStep(output="label-text/1"),), selection=parse_where("kingdom=Plantae"), first=5,
        emit=Emit(step="label-text/1", match="Martii~1"),
    )  # fmt: skip
    return replace(base, **changes)  # type: ignore[arg-type]


PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.text(st.characters(exclude_categories=("Cs",))),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(st.characters(exclude_categories=("Cs",)), max_size=4), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(PLAIN)
def test_canonical_bytes_are_those_of_the_reference_implementation(document: Json) -> None:
    assert canonical_bytes(document) == rfc8785.dumps(document)


def test_keys_beyond_ascii_are_sorted_by_utf16_units_and_lone_surrogates_refused() -> None:
    document: Json = {"\U0001f600": 1, "\ufb33": 2, "\u007f": '\u007f\u2028\x1f"\\/'}
    assert canonical_bytes(document) == rfc8785.dumps(document)
    for bad in ({"a": "\ud800"}, {"a": 2**53}, {"a": float("nan")}, {"\ud800": 1}):
        with pytest.raises(CanonError):
            canonical_bytes(bad)


def test_canonical_bytes_ignore_the_order_of_members_and_refuse_floats() -> None:
    assert canonical_bytes({"b": 1, "a": [True, None, "ä"]}) == '{"a":[true,null,"ä"],"b":1}'.encode()
    with pytest.raises(CanonError, match="float"):
        canonical_bytes({"a": [1.0]})
    with pytest.raises(CanonError):
        canonical_bytes({"a": 2**60})


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(TEXT, st.integers(-1000, 1000) | TEXT | st.lists(TEXT, max_size=3), max_size=6))
def test_a_sealed_document_opens_unchanged_and_only_as_its_kind(document: dict[str, object]) -> None:
    envelope = parse_envelope(json.dumps(seal(document, payload_type=JOB_SPEC, signers=[KEY]).to_json()))
    ring = KeyRing.of([KEY.kid])
    assert open_envelope(envelope, payload_type=JOB_SPEC, verifier=ring).value == document
    with pytest.raises(EnvelopeError, match="expected a"):
        open_envelope(envelope, payload_type=NODE_DESCRIPTOR, verifier=ring)


@pytest.mark.parametrize("change", ["payload", "type", "signature", "key", "none", "junk"])
def test_a_changed_envelope_does_not_open(change: str) -> None:
    document = seal({"a": 1}, payload_type=JOB_SPEC, signers=[KEY]).to_json()
    ring, kind = KeyRing.of([KEY.kid]), JOB_SPEC
    if change == "payload":
        document["payload"] = base64.b64encode(b'{"a":2}').decode()
    elif change == "type":
        document["payloadType"] = kind = NODE_DESCRIPTOR
    elif change == "signature":
        document["signatures"][0]["sig"] = base64.b64encode(b"\0" * 64).decode()
    elif change == "key":
        ring = KeyRing.of([SigningKey.from_seed(b"o" * 32).kid])
    elif change == "none":
        document["signatures"] = []
    else:
        document["signatures"][0]["sig"] = "%%%"
    with pytest.raises((EnvelopeError, SignatureInvalid)):
        open_envelope(parse_envelope(json.dumps(document)), payload_type=kind, verifier=ring)


def test_signatures_that_others_add_change_nothing() -> None:
    sealed = seal({"a": 1}, payload_type=JOB_SPEC, signers=[KEY]).to_json()
    good, bad = sealed["signatures"][0], {"keyid": KEY.kid, "sig": base64.b64encode(b"\0" * 64).decode()}
    stranger = SigningKey.from_seed(b"o" * 32)
    strange = seal({"a": 1}, payload_type=JOB_SPEC, signers=[stranger]).to_json()["signatures"][0]
    sealed["signatures"] = [bad, strange, good, good]
    opened = open_envelope(parse_envelope(sealed), payload_type=JOB_SPEC, verifier=KeyRing.of([KEY.kid]))
    assert opened.kids == (KEY.kid,)


@pytest.mark.parametrize("document", [{}, {"signatures": 1}, {"signatures": [{"keyid": 1}]}, [], "x", 7])
def test_a_malformed_envelope_is_an_envelope_error(document: object) -> None:
    with pytest.raises(EnvelopeError):
        parse_envelope(json.dumps(document))


def test_a_job_specification_survives_writing_and_reading_with_what_it_does_not_know() -> None:
    document = {**spec().to_json(), "futureMember": {"x": [1, 2]}}
    parsed = parse_job_spec(document)
    assert parsed.to_json() == document
    assert parsed.emit is not None
    assert parsed.selection.terms == (("kingdom", ("Plantae",)),)


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("id", "urn:uuid:x"), ("issued", "yesterday"), ("audience", []), ("steps", []), ("kind", "train"),
        ("granularity", "all"), ("first", 0), ("first", 1.5), ("publish", "yes"), ("reuse", "any"),
        ("steps", [{"output": "secret/1"}]), ("steps", [{"output": "label-text/1", "digests": ["x"]}]),
        ("selection", {"colour": ["green"]}), ("emit", {"step": "barcode/1", "match": "x"}),
        ("emit", {"step": "label-text/1", "match": "***"}), ("schemaVersion", 2), ("requester", "me"),
        ("steps", [{"output": "label-text/1"}, {"output": "label-text/1"}]),
        ("steps", [{"output": "label-text/1", "parameters": {"a": {"b": 1}}}]),
    ],
)  # fmt: skip
def test_a_wrong_specification_is_one_clear_error(member: str, value: object) -> None:
    with pytest.raises(DocumentError) as caught:
        parse_job_spec({**spec().to_json(), member: value})
    assert "\n" not in str(caught.value)


def test_work_keys_depend_on_everything_that_changes_a_result_and_on_nothing_else() -> None:
    base = work_key("sha256:p", {"a": 1}, ("00",), "sha256:e")
    assert work_key("sha256:p", {"a": 1}, ("00",), "sha256:e") == base
    others = {
        work_key("sha256:q", {"a": 1}, ("00",), "sha256:e"), work_key("sha256:p", {"a": 2}, ("00",), "sha256:e"),
        work_key("sha256:p", {"a": 1}, ("01",), "sha256:e"), work_key("sha256:p", {"a": 1}, ("00",), "sha256:f"),
    }  # fmt: skip
    assert base not in others
    assert len(others) == 4


@pytest.mark.parametrize(
    ("text", "label", "access"),
    [
        ("http://creativecommons.org/licenses/by/4.0/", "CC BY 4.0", AccessClass.OPEN),
        ("https://creativecommons.org/licenses/by-nc/4.0/legalcode", "CC BY-NC 4.0", AccessClass.OPEN),
        ("cc-by", "CC BY", AccessClass.OPEN),
        ("CC0", "CC0 1.0", AccessClass.OPEN),
        ("Attribution 4.0 International (CC BY 4.0)", "CC BY 4.0", AccessClass.OPEN),
        ("", "none stated", AccessClass.RESTRICTED),
        ("CC_BY_NC_4_0", "CC BY-NC 4.0", AccessClass.OPEN),
        ("creativecommons.org/licenses/by-sa/3.0/de/", "CC BY-SA 3.0", AccessClass.OPEN),
        ("https://creativecommons.org/licenses/by-nc/4.0/?ref=chooser-v1", "CC BY-NC 4.0", AccessClass.OPEN),
        ("CC BY 4.0 (https://creativecommons.org/licenses/by/4.0/)", "CC BY 4.0", AccessClass.OPEN),
        ("CC0 1.0 Universal (CC0 1.0) Public Domain Dedication", "CC0 1.0", AccessClass.OPEN),
        (
            "This work is licensed under a Creative Commons Attribution Non Commercial (CC-BY-NC) 4.0 License.",
            "CC BY-NC 4.0",
            AccessClass.OPEN,
        ),
        ("https://creativecommons.org/licenses/sampling+/1.0/", "not recognised", AccessClass.RESTRICTED),
        ("https://evil.example/creativecommons.org/licenses/by/4.0/", "not recognised", AccessClass.RESTRICTED),
        ("https://evil.example@creativecommons.org/licenses/by/4.0/", "not recognised", AccessClass.RESTRICTED),
        ("This image is not licensed under CC BY 4.0", "not recognised", AccessClass.RESTRICTED),
        ("CC BY 4.0 except the labels", "not recognised", AccessClass.RESTRICTED),
        ("CC BY 4.0 or CC0", "not recognised", AccessClass.RESTRICTED),
        ("CC BY 3.0 CC BY 4.0", "not recognised", AccessClass.RESTRICTED),
        ("by", "not recognised", AccessClass.RESTRICTED),
        ("attribution", "not recognised", AccessClass.RESTRICTED),
        ("0", "not recognised", AccessClass.RESTRICTED),
        ("CC BY 9.9", "not recognised", AccessClass.RESTRICTED),
        ("CC0 4.0", "not recognised", AccessClass.RESTRICTED),
        ("ODbL", "not recognised", AccessClass.RESTRICTED),
        ("All rights reserved", "not recognised", AccessClass.RESTRICTED),
        ("not in the public domain", "not recognised", AccessClass.RESTRICTED),
        ("http://creativecommons.org.evil.example/licenses/by/4.0/", "not recognised", AccessClass.RESTRICTED),
        ("GPL-3.0", "not recognised", AccessClass.RESTRICTED),
        ("x" * 1000, "not recognised", AccessClass.RESTRICTED),
    ],
)
def test_licences_open_only_when_the_table_knows_them(text: str, label: str, access: AccessClass) -> None:
    found = normalise_licence(text)
    assert (found.label, found.access) == (label, access)
    assert found.verbatim == text


def test_every_spelling_in_the_licence_table_and_every_address_is_read_as_its_row_says() -> None:
    for label, base, only, spellings in TABLE:
        version = only or "4.0"
        path = base.removeprefix("https://")
        addresses = [
            start + path + version + end
            for start in ("https://", "http://", "https://www.", "")
            for end in ("", "/", "/legalcode", "/deed.en", "/legalcode.txt", "/#", "/de/")
        ]
        for address in addresses:
            found = normalise_licence(address)
            assert (found.label, found.uri) == (f"{label} {version}", f"{base}{version}/"), address
        for text in spellings:
            found = normalise_licence(text)
            assert (found.label.removesuffix(" " + found.label.rsplit(" ", 1)[-1]) == label) or found.label == label, (
                text
            )
            assert found.uri is not None
            assert found.uri.startswith(base)
            assert normalise_licence(text.upper()).label == found.label
            assert normalise_licence(found.uri).uri == found.uri


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=80))
def test_any_licence_text_gets_an_answer(text: str) -> None:
    found = normalise_licence(text)
    assert (found.access is AccessClass.OPEN) == found.is_known


PLAIN = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)
NAMES = sorted(name for name, item in SEARCH_PARAMETERS.items() if item.kind in TEXTUAL)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(NAMES), PLAIN), max_size=6), st.none() | PLAIN)
def test_any_selection_survives_text_and_json(pairs: list[tuple[str, str]], q: str | None) -> None:
    selection = Selection.from_pairs([*pairs, *([] if q is None else [("q", q)])])
    assert parse_where(selection.to_text()) == selection
    assert parse_selection(json.loads(json.dumps(selection.to_json()))) == selection


def test_an_empty_list_of_values_does_not_select_everything() -> None:
    with pytest.raises(SelectionError, match="empty"):
        parse_selection({"kingdom": []})


def test_selections_survive_text_and_json() -> None:
    selection = parse_where("kingdom=Plantae kingdom=Fungi year=1900,1950 'locality=Rio de Janeiro' q=acer")
    assert selection.terms[0] == ("kingdom", ("Plantae", "Fungi"))
    assert parse_where(selection.to_text()) == selection
    assert parse_selection(selection.to_json()) == selection
    assert parse_where("") == Selection()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("kingdm=Plantae", "did you mean kingdom"), ("Plantae", "not name=value"), ("year=soon", "year is a number"),
        ("year=1950,1900", "write 1900,1950"), ("year=١٩٠٠", "year is a number"),
        ("year=*,*", "at least one end"), ("taxonKey=5", "write the name"), ("offset=10", "after="),
        ("!hasImage~=t*", "no pattern"), ("locality~=*a*b*c*d*e*f*", "wildcards"), ("scoreMin=2", "0 to 1"),
        ("eventDate=May", "a year, a month or a day"), ("decimalLatitude=1e9", "such as -12.5"),
        ("'geometry=POINT(1 2)'", "POLYGON"), ("'geometry=POLYGON((0 0,1 1,0 1,2 2))'", "ends where it begins"),
        ("'geometry=POLYGON((0 0,0 100,1 1,0 0))'", "not a latitude"), ("annotation.class=", "needs a value"),
        ("'kingdom=x", "not closed"), ("hasImage=maybe", "true or false"), ("q=" + "x" * 400, "longer"),
    ],
)  # fmt: skip
def test_a_wrong_selection_says_what_to_write(text: str, says: str) -> None:
    with pytest.raises(SelectionError, match=says):
        parse_where(text)


def output(**changes: object) -> dict[str, object]:
    line = {"text": "Hortus", "score": "0.98", "box": [1, 2, 10, 5], "writing": "print"}
    base: dict[str, object] = {"image": {"width": 100, "height": 50}, "lines": [line], "readable": True, "doubts": []}
    return {**base, **changes}


@pytest.mark.parametrize(
    "body",
    [
        output(image={"width": 0, "height": 1}),
        output(lines=[{"text": "x", "score": "0.9", "box": [95, 2, 10, 5], "writing": "print"}]),
        output(lines=[{"text": "x", "score": "0.9", "box": [1, 2, 10], "writing": "print"}]),
        output(lines=[{"text": "x", "score": "0.98765", "box": [1, 2, 10, 5], "writing": "print"}]),
        output(lines=[{"text": "x", "score": 0.9, "box": [1, 2, 10, 5], "writing": "print"}]),
        output(lines=[{"text": "x\x00", "score": "0.9", "box": [1, 2, 10, 5], "writing": "print"}]),
        output(lines=[{"text": "A" * 130, "score": "0.9", "box": [1, 2, 10, 5], "writing": "print"}]),
        output(lines=[{"text": "x", "score": "0.9", "box": [1, 2, 10, 5], "writing": "print"}] * 500),
        output(lines=[{"text": "ab " * 99, "score": "0.9", "box": [1, 2, 10, 5], "writing": "print"}] * 100),
        output(lines=[{"text": "x\u202ey", "score": "0.9", "box": [1, 2, 10, 5], "writing": "print"}]),
        output(lines=[{"text": "x\u200by", "score": "0.9", "box": [1, 2, 10, 5], "writing": "print"}]),
        output(lines=[{"text": "x\u2028y", "score": "0.9", "box": [1, 2, 10, 5], "writing": "print"}]),
        output(lines=[{"text": "x", "score": "0.٩", "box": [1, 2, 10, 5], "writing": "print"}]),
        output(readable="yes"),
        output(doubts=["x" * 300]),
        [],
        None,
    ],
)
def test_a_result_that_breaks_its_contract_is_refused(body: object) -> None:
    with pytest.raises(OutputRefused):
        parse_output("label-text/1", body)


def test_a_good_result_is_typed_and_unknown_contracts_are_refused() -> None:
    assert parse_output("label-text/1", output()).lines[0].text == "Hortus"  # type: ignore[union-attr]
    with pytest.raises(OutputRefused, match="no output contract"):
        parse_output("pixels/1", output())


def test_times_have_one_form() -> None:
    assert parse_time(format_time(NOW)) == NOW
    for text in (
        "2026-11-24",
        "2026-11-24T10:00:00",
        "2026-11-24T10:00:00.5Z",
        "2026-13-01T00:00:00Z",
        "",
        "٢٠٢٦-11-24T10:00:00Z",
    ):
        with pytest.raises(DocumentError):
            parse_time(text)
    assert format_time(datetime(7, 1, 2, 3, 4, 5, 999, tzinfo=UTC)) == "0007-01-02T03:04:05Z"
    with pytest.raises(ValueError, match="time zone"):
        format_time(datetime(2026, 1, 1))
