"""Content ids: every spelling leads back, nothing else does."""

import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from multiformats import CID

from cas.errors import ContentIdError
from cas.ids import ContentId, parse_content_id

IDS = st.binary(min_size=32, max_size=32).map(ContentId)
HELLO = ContentId.of(b"hello world")


def spellings(cid: ContentId) -> list[str]:
    bases = [str(CID(base, 1, "raw", ("sha2-256", cid.digest))) for base in ("base58btc", "base16", "base32upper")]
    annex = [f"SHA256E-s123--{cid.hex}.jpg", f"SHA256-s0--{cid.hex}"]
    plain = [str(cid), cid.hex, cid.hex.upper(), f"sha256:{cid.hex}", cid.to_cid(), cid.to_ni(), cid.to_sri()]
    return [*plain, *bases, *annex]


@given(IDS)
def test_every_spelling_leads_back(cid: ContentId) -> None:
    for text in spellings(cid):
        assert parse_content_id(text) == cid


@given(IDS)
def test_cids_agree_with_an_independent_implementation(cid: ContentId) -> None:
    theirs = CID.decode(cid.to_cid())
    assert (theirs.version, theirs.codec.name, theirs.hashfun.name, bytes(theirs.raw_digest)) == (
        1,
        "raw",
        "sha2-256",
        cid.digest,
    )
    assert str(CID("base32", 1, "raw", ("sha2-256", cid.digest))) == cid.to_cid()


def test_known_vectors() -> None:
    assert HELLO.to_cid() == "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e"
    assert str(HELLO) == "hash://sha256/b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9"


@settings(max_examples=300)
@given(IDS, st.integers(0, 6), st.data())
def test_a_changed_spelling_is_refused_or_names_something_else(cid: ContentId, kind: int, data: st.DataObject) -> None:
    text = spellings(cid)[kind]
    place = data.draw(st.integers(0, len(text) - 1))
    changed = text[:place] + data.draw(st.characters(exclude_characters=text[place])) + text[place + 1 :]
    try:
        found = parse_content_id(changed)
    except ContentIdError:
        return
    assert found != cid or changed.lower() == text.lower()


@pytest.mark.parametrize(
    "text",
    ["", "x", "a" * 63, "a" * 65, "g" * 64, "hash://sha256/" + "A" * 64, "hash://md5/" + "a" * 32, "sha256:" + "A" * 64,
     "ni:///sha-256;" + "A" * 42, "ni:///sha-256;" + "A" * 44, "sha256-AAAA", "bafkqaaa", "Qm" + "a" * 44, "b" + "a" * 58, "a" * 5000,
     HELLO.to_cid()[:-1] + "f", " " + HELLO.hex, HELLO.hex + "\n", "\u0661" * 64, HELLO.to_sri().rstrip("="),
     "sha256-" + base64.b64encode(b"x" * 31).decode()],
)  # fmt: skip
def test_anything_else_is_refused_with_a_reason(text: str) -> None:
    with pytest.raises(ContentIdError) as caught:
        parse_content_id(text)
    assert str(caught.value)


def test_a_digest_has_32_bytes() -> None:
    with pytest.raises(ContentIdError):
        ContentId(b"short")
