"""Keys: one spelling, one algorithm, private files, and the weak points of the curve refused."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from federation.errors import KeyFileError
from federation.identity import AnyKey, KeyRing, SigningKey, is_kid, kid_of, parse_kid, verify_signature
from linkeddata.envelope import JOB_SPEC, RESULT_PAGE, open_envelope, parse_envelope, seal
from linkeddata.errors import EnvelopeError, SignatureInvalid

KEY = SigningKey.from_seed(b"k" * 32)
OTHER = SigningKey.from_seed(b"o" * 32)


def test_a_key_id_spells_the_key() -> None:
    assert KEY.kid == kid_of(parse_kid(KEY.kid).public_bytes_raw())
    assert KEY.kid == f"ed25519:{KEY.public_key_b64}"
    verify_signature(KEY.kid, b"data", KEY.sign(b"data"))


@pytest.mark.parametrize(
    "kid",
    [
        "", "ed25519:", "ed25519:" + "A" * 43, "ed25519:AQ" + "A" * 41, "rsa:" + KEY.public_key_b64,
        KEY.kid + "=", KEY.kid[:-1], KEY.kid.upper(), "ed25519:" + KEY.public_key_b64[:-1] + "/", KEY.kid + "\n",
        # points of small order: signatures over anything verify under them
        kid_of(bytes(32)), kid_of((1).to_bytes(32, "little")), kid_of((2**255 - 20).to_bytes(32, "little")),
        kid_of(bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a")),
        kid_of(bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05")),
        kid_of(bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85")),
        # the same point written differently (y + p)
        kid_of((2**255 - 19 + 1).to_bytes(32, "little")),
    ],
)  # fmt: skip
def test_what_is_no_key_id_is_refused(kid: str) -> None:
    assert not is_kid(kid)


def test_last_character_has_one_spelling() -> None:
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    spellings = [KEY.kid[:-1] + char for char in alphabet]
    good = [kid for kid in spellings if is_kid(kid) and parse_kid(kid) == parse_kid(KEY.kid)]
    assert good == [KEY.kid]


@settings(max_examples=50, deadline=None)
@given(data=st.binary(max_size=200), other=st.binary(max_size=200), signature=st.binary(min_size=64, max_size=64))
def test_only_the_signature_over_these_bytes_counts(data: bytes, other: bytes, signature: bytes) -> None:
    verify_signature(KEY.kid, data, KEY.sign(data))
    if data != other:
        with pytest.raises(SignatureInvalid):
            verify_signature(KEY.kid, other, KEY.sign(data))
    with pytest.raises(SignatureInvalid):
        verify_signature(KEY.kid, data, signature)
    with pytest.raises(SignatureInvalid):
        verify_signature(OTHER.kid, data, KEY.sign(data))


@settings(max_examples=30, deadline=None)
@given(text=st.text(max_size=80))
def test_any_text_is_a_key_id_or_refused(text: str) -> None:
    is_kid(text)
    is_kid("ed25519:" + text)


def test_a_key_file_is_private_and_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "node.key"
    KEY.save(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert SigningKey.load(path).kid == KEY.kid
    with pytest.raises(KeyFileError, match="never overwritten"):
        OTHER.save(path)
    path.chmod(0o644)
    with pytest.raises(KeyFileError, match="chmod 600"):
        SigningKey.load(path)


@pytest.mark.parametrize("damage", ["{}", "nonsense", '{"kid": "x", "secret": "y"}', "[]", "null", ""])
def test_a_damaged_key_file_is_one_line(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "k"
    path.write_text(damage)
    path.chmod(0o600)
    with pytest.raises(KeyFileError):
        SigningKey.load(path)


def test_a_key_file_whose_parts_disagree_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "k"
    path.write_text(json.dumps({"kid": OTHER.kid, "secret": KEY.secret_text()}))
    path.chmod(0o600)
    with pytest.raises(KeyFileError, match="damaged"):
        SigningKey.load(path)


@settings(max_examples=40, deadline=None)
@given(position=st.integers(24, 70), char=st.sampled_from("AZaz09-_"))
def test_a_mistyped_secret_is_noticed(position: int, char: str) -> None:
    text = KEY.secret_text()
    assert SigningKey.from_secret_text(text).kid == KEY.kid
    position = min(position, len(text) - 1)
    if text[position] != char:
        with pytest.raises(KeyFileError):
            SigningKey.from_secret_text(text[:position] + char + text[position + 1 :])


def test_a_secret_shows_in_no_representation() -> None:
    assert KEY.secret_text() not in repr(KEY)
    assert KEY.kid in repr(KEY)


def test_a_key_ring_counts_only_its_keys() -> None:
    envelope = seal({"a": 1}, payload_type=JOB_SPEC, signers=[KEY])
    assert open_envelope(envelope, payload_type=JOB_SPEC, verifier=KeyRing.of([KEY.kid])).kids == (KEY.kid,)
    assert open_envelope(envelope, payload_type=JOB_SPEC, verifier=AnyKey()).kids == (KEY.kid,)
    with pytest.raises(SignatureInvalid):
        open_envelope(envelope, payload_type=JOB_SPEC, verifier=KeyRing.of([OTHER.kid]))
    with pytest.raises(EnvelopeError):  # a document of one purpose never passes as another
        open_envelope(envelope, payload_type=RESULT_PAGE, verifier=AnyKey())


def test_an_envelope_whose_type_was_exchanged_does_not_verify() -> None:
    document = seal({"a": 1}, payload_type=JOB_SPEC, signers=[KEY]).to_json()
    document["payloadType"] = RESULT_PAGE
    with pytest.raises(SignatureInvalid):
        open_envelope(parse_envelope(document), payload_type=RESULT_PAGE, verifier=AnyKey())
