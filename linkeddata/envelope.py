"""The one form of every signed document: a DSSE envelope over exact bytes.

Follows the Dead Simple Signing Envelope v1 (secure-systems-lab/dsse): the signature covers the payload type and
the payload bytes by PAE, so that a document of one kind can never pass as another, and nothing is re-serialised
before it is verified. The payload type is the *purpose*.

Invariants:
- ``open_envelope`` is the only maker of ``Verified``; a function that takes ``Verified[..]`` cannot be handed
  something unchecked.
- The payload is parsed only after its signature was found good.

It leaves out: keys and algorithms (``Signer`` and ``Verifier`` are implemented in ``federation.identity``).
"""

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Generic, Protocol, TypeVar

from linkeddata.canon import canonical_bytes
from linkeddata.errors import DocumentError, EnvelopeError, SignatureInvalid
from linkeddata.json_strict import MAX_BYTES, Json, get_list, get_str, parse_json

T = TypeVar("T")

NODE_DESCRIPTOR: Final = "application/vnd.vasculum.node-descriptor+json"
JOB_SPEC: Final = "application/vnd.vasculum.job-spec+json"
RESULT_PAGE: Final = "application/vnd.vasculum.result-page+json"
CONFORMANCE_REPORT: Final = "application/vnd.vasculum.conformance-report+json"
MAX_SIGNATURES: Final = 4
"""A key change is signed by two keys; more than four signatures only cost time to check."""


class Signer(Protocol):
    """Signs bytes with one key."""

    @property
    def kid(self) -> str:
        """Name of the key."""
        ...

    def sign(self, data: bytes) -> bytes:
        """The signature over ``data``."""
        ...


class Verifier(Protocol):
    """Knows which keys count."""

    def verify(self, kid: str, data: bytes, signature: bytes) -> None:
        """Returns when the signature is good.

        Raises:
            SignatureInvalid: unknown key or wrong signature.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """One signature and the name of its key."""

    kid: str
    sig: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """Exact payload bytes, their type, and signatures; not yet verified."""

    payload_type: str
    payload: bytes
    signatures: tuple[Signature, ...]

    def to_json(self) -> dict[str, Json]:
        """The DSSE JSON form."""
        return {
            "payloadType": self.payload_type,
            "payload": base64.b64encode(self.payload).decode(),
            "signatures": [{"keyid": item.kid, "sig": base64.b64encode(item.sig).decode()} for item in self.signatures],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified(Generic[T]):
    """A value whose signature was found good; made by ``open_envelope`` only."""

    value: T
    kids: tuple[str, ...]
    payload: bytes


def seal(document: Json, *, payload_type: str, signers: Sequence[Signer]) -> Envelope:
    """Signs the canonical bytes of a document."""
    payload = canonical_bytes(document)
    message = pre_authentication_encoding(payload_type, payload)
    return Envelope(
        payload_type=payload_type,
        payload=payload,
        signatures=tuple(Signature(kid=signer.kid, sig=signer.sign(message)) for signer in signers),
    )


def parse_envelope(source: bytes | str | Json, *, max_bytes: int = 2 * MAX_BYTES) -> Envelope:
    """The DSSE JSON form as an (unverified) envelope.

    Raises:
        JsonInputError: the bytes are no JSON that we accept.
        EnvelopeError: it is malformed.
    """
    value = parse_json(source, max_bytes=max_bytes) if isinstance(source, bytes | str) else source
    if not isinstance(value, dict):
        raise EnvelopeError("an envelope is a JSON object with payloadType, payload and signatures")
    try:
        return _envelope(value, max_bytes)
    except EnvelopeError:
        raise
    except DocumentError as error:
        raise EnvelopeError(f"envelope: {error}") from error


def _envelope(value: dict[str, Json], max_bytes: int) -> Envelope:
    signatures: list[Signature] = []
    for item in get_list(value, "signatures", max_items=MAX_SIGNATURES):
        if not isinstance(item, dict):
            raise EnvelopeError("a signature is an object with keyid and sig")
        signatures.append(
            Signature(
                kid=get_str(item, "keyid", max_chars=200), sig=_base64(get_str(item, "sig", max_chars=400), "sig")
            )
        )
    if not signatures:
        raise EnvelopeError("the envelope has no signature")
    return Envelope(
        payload_type=get_str(value, "payloadType", max_chars=200),
        payload=_base64(get_str(value, "payload", max_chars=max_bytes), "payload"),
        signatures=tuple(signatures),
    )


def open_envelope(envelope: Envelope, *, payload_type: str, verifier: Verifier) -> Verified[Json]:
    """The payload, after at least one good signature by a key that counts.

    Signatures by other keys, and bad ones, say nothing: anyone can add them to somebody else's envelope.
    ``Verified.kids`` names each key with a good signature once.

    Raises:
        EnvelopeError: another kind of document, or no good signature.
    """
    if envelope.payload_type != payload_type:
        raise EnvelopeError(f"expected a {payload_type}, got a {envelope.payload_type[:100]}")
    message = pre_authentication_encoding(envelope.payload_type, envelope.payload)
    good: list[str] = []
    failure: SignatureInvalid | None = None
    for item in envelope.signatures:
        try:
            verifier.verify(item.kid, message, item.sig)
        except SignatureInvalid as error:
            failure = error
        else:
            if item.kid not in good:
                good.append(item.kid)
    if not good:
        raise failure or SignatureInvalid("no signature")
    return Verified(value=parse_json(envelope.payload), kids=tuple(good), payload=envelope.payload)


def pre_authentication_encoding(payload_type: str, payload: bytes) -> bytes:
    """DSSE PAE: what is signed."""
    kind = payload_type.encode("utf-8")
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


def _base64(text: str, where: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise EnvelopeError(f"{where} is not base64") from error
