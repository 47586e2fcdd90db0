"""Canonical bytes, ids, digests, keys and signatures stay what they are, and are what the standards say."""

import hashlib
import json

import pytest
from make_vectors import FILE, made

from federation.identity import KeyRing
from linkeddata.envelope import JOB_SPEC, open_envelope, parse_envelope, pre_authentication_encoding
from linkeddata.job import parse_job_spec

STORED = json.loads(FILE.read_text("utf-8"))


@pytest.mark.parametrize("part", sorted(STORED))
def test_what_was_said_once_is_said_the_same_way(part: str) -> None:
    assert made()[part] == STORED[part]


def test_the_vectors_agree_with_the_standards_and_with_a_second_way_to_compute_them() -> None:
    """RFC 8785 sorts by UTF-16 units; the DSSE specification prints the encoding of its example."""
    order = next(item for item in STORED["canonical"] if item["name"] == "order of members")
    assert bytes.fromhex(order["bytes"]).decode() == '{"A":4,"a":1,"b":2,"€":3,"\U0001f600":5,"\ufb33":6}'
    for item in STORED["canonical"]:
        assert item["id"] == "hash://sha256/" + hashlib.sha256(bytes.fromhex(item["bytes"])).hexdigest()
    assert pre_authentication_encoding("http://example.com/HelloWorld", b"hello world") == (
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )


def test_the_stored_envelope_still_opens() -> None:
    envelope = parse_envelope(json.dumps(STORED["envelope"]["envelope"]))
    ring = KeyRing.of([envelope.signatures[0].kid])
    verified = open_envelope(envelope, payload_type=JOB_SPEC, verifier=ring)
    assert parse_job_spec(verified.value).to_json() == STORED["jobSpec"]
