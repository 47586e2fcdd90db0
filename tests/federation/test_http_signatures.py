"""Signed requests: one good form, and many that are not."""

import base64
import hashlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from http_message_signatures import HTTPMessageSigner, HTTPSignatureKeyResolver
from http_message_signatures.algorithms import ED25519, HMAC_SHA256
from hypothesis import given, settings
from hypothesis import strategies as st

from federation.errors import ReplayDetected, RequestRejected
from federation.http_signatures import MAX_AGE, MemoryReplayGuard, is_signed, sign_request, verify_request
from federation.identity import SigningKey
from node.storage.db import Database
from node.storage.people import SqliteReplayGuard, forget_nonces

KEY = SigningKey.from_seed(b"k" * 32)
OTHER = SigningKey.from_seed(b"o" * 32)
NOW = datetime(2026, 11, 24, 10, 0, 0, tzinfo=UTC)
URL = "https://images.example.org/processes/label-text/execution?a=b%20c"
BODY = b'{"inputs": {}}'
NONCE = "A" * 22
Lines = list[tuple[str, str]]


def good(**changes) -> Lines:
    arguments = {"method": "POST", "url": URL, "body": BODY, "now": NOW, "nonce": NONCE, **changes}
    return list(sign_request(KEY, **arguments).items())


def check(lines: Lines, *, method="POST", url=URL, body=BODY, now=NOW):
    return verify_request(method=method, url=url, header_lines=lines, body=body, now=now)


def test_the_good_form_is_accepted() -> None:
    verified = check([("Host", "whatever.example"), ("X-Forwarded-Proto", "http"), *good()])
    assert verified.kid == KEY.kid
    assert verified.nonce == NONCE
    assert verified.expires > NOW + MAX_AGE


def test_the_handmade_form_of_these_tests_is_accepted_too() -> None:
    assert check(handmade()).kid == KEY.kid


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_a_request_without_a_body_needs_no_digest(method: str) -> None:
    lines = list(sign_request(KEY, method=method, url=URL, now=NOW, nonce=NONCE).items())
    assert {name.lower() for name, _ in lines} == {"signature", "signature-input"}
    assert check(lines, method=method, body=b"").kid == KEY.kid


@pytest.mark.parametrize("seconds", [-29, 0, 60, 89])
def test_clocks_may_differ_a_little(seconds: int) -> None:
    assert check(good(), now=NOW + timedelta(seconds=seconds)).kid == KEY.kid


def replaced(name: str, change: Callable[[str], str]) -> Lines:
    return [(key, change(value) if key.lower() == name else value) for key, value in good()]


def without(name: str) -> Lines:
    return [(key, value) for key, value in good() if key.lower() != name]


def digest(body: bytes, algorithm: str = "sha-256") -> str:
    return f"{algorithm}=:{base64.b64encode(hashlib.sha256(body).digest()).decode()}:"


class _Resolver(HTTPSignatureKeyResolver):
    def __init__(self, key):
        self.key = key

    def resolve_private_key(self, key_id):
        return self.key

    def resolve_public_key(self, key_id):
        raise NotImplementedError


def handmade(
    *, covered=("@method", "@authority", "@target-uri", "content-digest", "content-type"), algorithm=ED25519, key=None,
    created=NOW, expires=NOW + timedelta(seconds=60), nonce: str | None = NONCE, tag: str | None = "vasculum-v1",
    kid=KEY.kid, include_alg=False, method="POST",
) -> Lines:  # fmt: skip
    class Message:
        pass

    message = Message()
    message.method, message.url = method, URL
    message.headers = {"Content-Type": "application/json", "Content-Digest": digest(BODY)}
    HTTPMessageSigner(signature_algorithm=algorithm, key_resolver=_Resolver(key or KEY.private_key)).sign(
        message, key_id=kid, created=created, expires=expires, nonce=nonce, tag=tag, label="vasculum",
        include_alg=include_alg, covered_component_ids=covered, use_existing_digest=True,
    )  # fmt: skip
    return list(message.headers.items())


def drop_parameter(name: str) -> Lines:
    import re

    return replaced("signature-input", lambda value: re.sub(rf';{name}=("[^"]*"|\d+)', "", value))


ALL = ("@method", "@authority", "@target-uri", "content-digest", "content-type")
BAD: dict[str, Callable[[], Lines]] = {
    "not signed": lambda: [("Content-Type", "application/json")],
    "no signature": lambda: without("signature"),
    "no signature-input": lambda: without("signature-input"),
    "empty signature": lambda: replaced("signature", lambda value: ""),
    "garbage signature": lambda: replaced("signature", lambda value: "vasculum=:AAAA:"),
    "garbage headers": lambda: [("Signature", "\u00ff\u00fe;;;"), ("Signature-Input", "((((((")],
    "bytes of another signature": lambda: replaced(
        "signature", lambda value: "vasculum=:" + base64.b64encode(KEY.sign(b"x")).decode() + ":"
    ),
    "method not covered": lambda: handmade(covered=ALL[1:]),
    "authority not covered": lambda: handmade(covered=(ALL[0], *ALL[2:])),
    "target not covered": lambda: handmade(covered=(*ALL[:2], *ALL[3:])),
    "digest not covered": lambda: handmade(covered=(*ALL[:3], ALL[4])),
    "content type not covered": lambda: handmade(covered=ALL[:4]),
    "nothing covered": lambda: handmade(covered=()),
    "path covered instead of target": lambda: handmade(covered=("@method", "@authority", "@path", *ALL[3:])),
    "no created": lambda: drop_parameter("created"),
    "no expires": lambda: drop_parameter("expires"),
    "no nonce": lambda: handmade(nonce=None),
    "short nonce": lambda: handmade(nonce="A" * 21),
    "nonce with blanks": lambda: handmade(nonce="A " * 20),
    "very long nonce": lambda: handmade(nonce="A" * 65),
    "no tag": lambda: handmade(tag=None),
    "another tag": lambda: handmade(tag="vasculum-v2"),
    "no key id": lambda: drop_parameter("keyid"),
    "key id exchanged": lambda: replaced("signature-input", lambda value: value.replace(KEY.kid, OTHER.kid)),
    "key id is an address": lambda: handmade(kid="https://evil.example/key"),
    "key id of a weak point": lambda: handmade(kid="ed25519:" + "A" * 43),
    "signed by another key": lambda: handmade(key=OTHER.private_key),
    "algorithm hmac with the public key": lambda: handmade(
        algorithm=HMAC_SHA256, key=base64.urlsafe_b64decode(KEY.public_key_b64 + "="), include_alg=True
    ),
    "algorithm claimed otherwise": lambda: replaced("signature-input", lambda value: value + ';alg="hmac-sha256"'),
    "algorithm none": lambda: replaced("signature-input", lambda value: value + ';alg="none"'),
    "unknown parameter": lambda: replaced("signature-input", lambda value: value + ';x="y"'),
    "created in the future": lambda: handmade(created=NOW + timedelta(seconds=31), expires=NOW + timedelta(seconds=60)),
    "expired": lambda: handmade(created=NOW - timedelta(seconds=100), expires=NOW - timedelta(seconds=31)),
    "lives too long": lambda: handmade(expires=NOW + timedelta(seconds=121)),
    "expires before created": lambda: handmade(created=NOW, expires=NOW - timedelta(seconds=1)),
    "created as text": lambda: replaced(
        "signature-input", lambda value: value.replace(f"created={int(NOW.timestamp())}", 'created="now"')
    ),
    "created huge": lambda: replaced(
        "signature-input", lambda value: value.replace(f"created={int(NOW.timestamp())}", "created=999999999999999")
    ),
    "digest of another body": lambda: replaced("content-digest", lambda value: digest(b"other")),
    "digest by another algorithm": lambda: replaced("content-digest", lambda value: "md5=:AAAA:"),
    "digest removed": lambda: without("content-digest"),
    "content type changed": lambda: replaced("content-type", lambda value: "text/plain"),
    "content type twice": lambda: [*good(), ("content-type", "application/json")],
    "digest twice": lambda: [*good(), ("Content-Digest", digest(BODY))],
    "signature twice": lambda: [*good(), ("SIGNATURE", dict(good())["Signature"])],
    "signature-input twice": lambda: [*good(), ("signature-input", dict(good())["Signature-Input"])],
    "host twice": lambda: [("Host", "a"), ("host", "b"), *good()],
    "two signatures": lambda: [
        (key, value + ", second=" + value.split("=", 1)[1] if key.startswith("Signature") else value)
        for key, value in good()
    ],
    "a component covered twice": lambda: replaced(
        "signature-input", lambda value: value.replace('("@method"', '("@method" "@method"')
    ),
    "very long header": lambda: replaced("signature-input", lambda value: value + ' ;x="' + "y" * 5000 + '"'),
    "labels disagree": lambda: replaced("signature", lambda value: value.replace("vasculum=", "other=", 1)),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_not_the_good_form_is_rejected(name: str) -> None:
    with pytest.raises(RequestRejected):
        check(BAD[name]())


@pytest.mark.parametrize(
    "change",
    [
        {"method": "PUT"}, {"method": "DELETE"}, {"url": URL.replace("https", "http")},
        {"url": URL.replace("images.example.org", "other.example.org")}, {"url": URL + "&more=1"},
        {"url": URL.replace("label-text", "barcode")}, {"url": URL.replace("%20", "+")},
        {"url": URL.replace("?a", "/?a")},
        {"url": URL.replace("example.org", "example.org:8443")}, {"body": BODY + b" "}, {"body": b""}, {"body": b"{}"},
        {"now": NOW + timedelta(seconds=91)}, {"now": NOW - timedelta(seconds=31)}, {"now": NOW + timedelta(days=400)},
    ],
    ids=str,
)  # fmt: skip
def test_a_signature_is_good_for_one_request_only(change: dict) -> None:
    with pytest.raises(RequestRejected):
        check(good(), **change)


def test_a_body_cannot_be_added_to_a_request_signed_without_one() -> None:
    lines = list(sign_request(KEY, method="POST", url=URL, now=NOW, nonce=NONCE).items())
    with pytest.raises(RequestRejected):
        check(lines)
    with pytest.raises(RequestRejected):
        check([*lines, ("Content-Type", "application/json"), ("Content-Digest", digest(BODY))])


@settings(max_examples=150, deadline=None)
@given(signature=st.text(max_size=120), signed_input=st.text(max_size=200))
def test_any_headers_are_rejected_and_nothing_else_happens(signature: str, signed_input: str) -> None:
    with pytest.raises(RequestRejected):
        check([("signature", signature), ("signature-input", signed_input), ("content-type", "application/json")])


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_no_single_character_of_a_signed_request_may_change(data) -> None:
    lines = good()
    index = data.draw(st.integers(0, len(lines) - 1))
    name, value = lines[index]
    position = data.draw(st.integers(0, len(value) - 1))
    char = data.draw(st.characters(min_codepoint=33, max_codepoint=126))
    changed = value[:position] + char + value[position + 1 :]
    lines[index] = (name, changed)
    try:
        verified = check(lines)
    except RequestRejected:
        return
    # What is left: an equal spelling (the label is not signed, and base64 has unused bits).
    assert (verified.kid, verified.nonce) == (KEY.kid, NONCE)
    assert name.lower() == "signature" or changed == value


def test_a_request_says_whether_it_is_signed() -> None:
    assert is_signed(dict(good()))
    assert not is_signed({"Content-Type": "text/plain"})


async def test_a_nonce_counts_once() -> None:
    guard = MemoryReplayGuard()
    await guard.remember(KEY.kid, NONCE, NOW)
    await guard.remember(OTHER.kid, NONCE, NOW)
    with pytest.raises(ReplayDetected):
        await guard.remember(KEY.kid, NONCE, NOW)


async def test_nonces_survive_a_restart_and_are_forgotten_after_their_time(tmp_path: Path) -> None:
    for expected in (None, ReplayDetected):
        database = Database.open(tmp_path / "n.sqlite")
        guard = SqliteReplayGuard(database)
        if expected is None:
            await guard.remember(KEY.kid, NONCE, NOW + MAX_AGE)
        else:
            with pytest.raises(expected):
                await guard.remember(KEY.kid, NONCE, NOW + MAX_AGE)
            assert await database.write(lambda conn: forget_nonces(conn, now=NOW)) == 0
            assert await database.write(lambda conn: forget_nonces(conn, now=NOW + 2 * MAX_AGE)) == 1
            await guard.remember(KEY.kid, NONCE, NOW + MAX_AGE)
        database.close()
