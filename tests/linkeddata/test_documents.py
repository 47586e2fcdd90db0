"""Canonical bytes, envelopes, pipelines, jobs, descriptors, licences, selections, outputs."""

import base64
import json
from dataclasses import replace
from datetime import timedelta

import pytest
from conftest import NOW
from hypothesis import given, settings
from hypothesis import strategies as st

from federation.identity import KeyRing, SigningKey
from linkeddata.access import AccessClass
from linkeddata.canon import canonical_bytes
from linkeddata.envelope import JOB_SPEC, NODE_DESCRIPTOR, open_envelope, parse_envelope, seal
from linkeddata.errors import CanonError, DocumentError, EnvelopeError, OutputRefused, SelectionError, SignatureInvalid
from linkeddata.job import Emit, JobSpec, JobStep, parse_job_spec
from linkeddata.licences import normalise_licence
from linkeddata.outputs import parse_output
from linkeddata.pipeline import work_key
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


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=80))
def test_any_licence_text_gets_an_answer(text: str) -> None:
    found = normalise_licence(text)
    assert (found.access is AccessClass.OPEN) == found.is_known


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
    for text in ("2026-11-24", "2026-11-24T10:00:00", "2026-11-24T10:00:00.5Z", "2026-13-01T00:00:00Z", ""):
        with pytest.raises(DocumentError):
            parse_time(text)
