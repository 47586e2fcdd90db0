"""Signed HTTP requests: RFC 9421 with one strict profile, tag ``vasculum-v1``.

Covered: ``@method @authority @target-uri``, and with a body ``content-digest content-type`` (RFC 9530).
Parameters: created, expires (at most 120 s later), nonce (128 bit), keyid, tag; algorithm Ed25519 only.

Invariants:
- Scheme and authority come from the receiver's configured public address, never from a header: a request
  for one node cannot be used at another, and a proxy cannot rewrite where it was meant for.
- Exactly one signature, in one header line each; covered fields stand once.
- The signature is checked before the nonce is remembered, so that strangers cannot fill the table.

It leaves out: whether the key may do what is asked, and keeping nonces (``ReplayGuard`` is a port).
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Protocol

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from http_message_signatures import HTTPMessageSigner, HTTPMessageVerifier, HTTPSignatureKeyResolver, InvalidSignature
from http_message_signatures.algorithms import ED25519
from http_message_signatures.exceptions import HTTPMessageSignaturesException

from federation.errors import ReplayDetected, RequestRejected
from federation.identity import SigningKey, parse_kid
from linkeddata.errors import SignatureInvalid

TAG: Final = "vasculum-v1"
MAX_AGE: Final = timedelta(seconds=120)
"""Longest life of a signed request; nonces are kept a little longer."""
SKEW: Final = timedelta(seconds=30)
"""Clocks of institutions differ by this much and still work."""
NONCE_KEEP: Final = MAX_AGE + 2 * SKEW
_BASE: Final = ("@method", "@authority", "@target-uri")
_BODY: Final = ("content-digest", "content-type")
_NONCE = re.compile(r"[A-Za-z0-9_-]{22,64}\Z")
_ONCE: Final = frozenset({"signature", "signature-input", "content-digest", "content-type", "host"})
_MAX_SIGNATURE_HEADER: Final = 2048
"""One signature with our parameters has about 400 characters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedRequest:
    """Who signed, and under which nonce until when; made by ``verify_request`` only."""

    kid: str
    nonce: str
    expires: datetime
    """Until then the nonce must be remembered."""


class ReplayGuard(Protocol):
    """Remembers nonces, across restarts."""

    async def remember(self, kid: str, nonce: str, expires: datetime) -> None:
        """Returns once the pair is durably remembered until ``expires``.

        Raises:
            ReplayDetected: it was remembered already.
        """
        ...


class _Headers(dict[str, str]):
    """A mutable mapping that the library can write to."""


@dataclass(slots=True)
class _Message:
    method: str
    url: str
    headers: Any


class _Lines:
    """Header lines as received, duplicates kept."""

    def __init__(self, lines: Iterable[tuple[str, str]]) -> None:
        self._lines = list(lines)

    def items(self) -> list[tuple[str, str]]:
        return self._lines


class _SigningResolver(HTTPSignatureKeyResolver):  # type: ignore[misc, unused-ignore]
    def __init__(self, key: SigningKey) -> None:
        self._key = key

    def resolve_private_key(self, key_id: str) -> Ed25519PrivateKey:  # noqa: ARG002 - the signature is the library's
        return self._key.private_key

    def resolve_public_key(self, key_id: str) -> Ed25519PublicKey | None:
        raise NotImplementedError(key_id)


class _KidResolver(HTTPSignatureKeyResolver):  # type: ignore[misc, unused-ignore]
    def resolve_private_key(self, key_id: str) -> Ed25519PrivateKey:
        raise NotImplementedError(key_id)

    def resolve_public_key(self, key_id: str) -> Ed25519PublicKey | None:
        try:
            return parse_kid(key_id)
        except SignatureInvalid:
            return None


class _Verifier(HTTPMessageVerifier):  # type: ignore[misc, unused-ignore]
    """The library's verifier with a clock that is an argument."""

    max_clock_skew = SKEW

    def __init__(self, now: datetime) -> None:
        super().__init__(signature_algorithm=ED25519, key_resolver=_KidResolver())
        self._now = now

    def validate_created_and_expires(self, sig_input: Any, max_age: timedelta | None = None) -> None:
        params = sig_input.params
        if "created" not in params or "expires" not in params:
            raise InvalidSignature("created and expires are required")
        created = self._parse_integer_timestamp(params["created"], field_name="created")
        expires = self._parse_integer_timestamp(params["expires"], field_name="expires")
        if created > self._now + SKEW:
            raise InvalidSignature("created lies in the future")
        if expires <= created or expires - created > MAX_AGE:
            raise InvalidSignature("expires must be at most 120 s after created")
        if expires < self._now - SKEW:
            raise InvalidSignature("the signature has expired")
        if max_age is not None and created + max_age < self._now - SKEW:
            raise InvalidSignature("the signature is too old")


def sign_request(
    key: SigningKey,
    *,
    method: str,
    url: str,
    body: bytes = b"",
    content_type: str | None = None,
    now: datetime,
    nonce: str,
    lifetime: timedelta = timedelta(seconds=60),
) -> dict[str, str]:
    """The headers to send with this request: signature, digest and content type.

    Args:
        key: who signs.
        method: upper case.
        url: absolute, exactly as it will be sent.
        body: exact bytes; empty for none.
        content_type: required with a body.
        now: the time of signing.
        nonce: 22 or more base64url characters that were never used before.
        lifetime: until the signature expires.
    """
    headers = _Headers()
    covered: tuple[str, ...] = _BASE
    if body:
        headers["Content-Type"] = content_type or "application/json"
        covered = _BASE + _BODY
    message = _Message(method=method, url=url, headers=headers)
    HTTPMessageSigner(signature_algorithm=ED25519, key_resolver=_SigningResolver(key)).sign(
        message,
        key_id=key.kid,
        created=now,
        expires=now + lifetime,
        nonce=nonce,
        tag=TAG,
        label="vasculum",
        include_alg=False,
        covered_component_ids=covered,
        body=body or None,
    )
    return dict(headers)


def is_signed(headers: Mapping[str, str]) -> bool:
    """Whether a request carries a signature at all, good or not."""
    return any(name.lower() in ("signature", "signature-input") for name in headers)


def verify_request(
    *, method: str, url: str, header_lines: Iterable[tuple[str, str]], body: bytes, now: datetime
) -> VerifiedRequest:
    """Checks one request; the caller then asks the ``ReplayGuard`` and whether the key may do this.

    Args:
        method: as received.
        url: the *configured* public origin and the path and query as received.
        header_lines: every header line, duplicates kept.
        body: exact bytes as received, before any decoding.
        now: the receiver's time.

    Raises:
        RequestRejected: with one line that says what is wrong.
    """
    # 1. Header lines: what is covered stands once; the signature headers stand once and are small.
    lines = [(name.lower(), value) for name, value in header_lines]
    seen: set[str] = set()
    for name, value in lines:
        if name in _ONCE:
            if name in seen:
                raise RequestRejected(f"the header {name} stands twice")
            seen.add(name)
        if name in ("signature", "signature-input") and len(value) > _MAX_SIGNATURE_HEADER:
            raise RequestRejected(f"the header {name} is too long")
    if "signature" not in seen or "signature-input" not in seen:
        raise RequestRejected("the request is not signed (RFC 9421 headers Signature-Input and Signature)")
    # 2. Signature, coverage, times, algorithm, body digest.
    required = _BASE + (_BODY if body else ())
    try:
        results = _Verifier(now).verify(
            _Message(method=method, url=url, headers=_Lines(lines)),
            max_age=MAX_AGE,
            expect_tag=TAG,
            require_components=required,
            body=body,
        )
    except HTTPMessageSignaturesException as error:
        raise RequestRejected(f"the signature is not good: {_one_line(error)}") from error
    except (ValueError, TypeError, KeyError, IndexError, OverflowError, RecursionError) as error:
        raise RequestRejected("the signature headers are malformed") from error
    # 3. Exactly one signature.
    if len(results) != 1:
        raise RequestRejected("exactly one signature is expected")
    # 4. The nonce.
    parameters = results[0].parameters
    nonce = parameters.get("nonce")
    if not isinstance(nonce, str) or not _NONCE.match(nonce):
        raise RequestRejected("a nonce of at least 128 bit (22 base64url characters) is required")
    created = datetime.fromtimestamp(int(parameters["created"]), tz=UTC)
    return VerifiedRequest(kid=str(parameters["keyid"]), nonce=nonce, expires=max(created, now) + NONCE_KEEP)


class MemoryReplayGuard:
    """Nonces in memory: for one process without restarts."""

    def __init__(self) -> None:
        self._seen: set[tuple[str, str]] = set()

    async def remember(self, kid: str, nonce: str, expires: datetime) -> None:  # noqa: ARG002 - the port has it
        """See ``ReplayGuard``."""
        if (kid, nonce) in self._seen:
            raise ReplayDetected("this request was received before")
        self._seen.add((kid, nonce))


def _one_line(error: Exception) -> str:
    text = str(error) or type(error).__name__
    return " ".join(text.split())[:200]
