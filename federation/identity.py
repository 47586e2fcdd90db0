"""Keys: Ed25519, one per node and one per researcher.

A key id *is* the public key: ``ed25519:`` and the 32 bytes in base64url without padding (43 characters).
So a signature can be checked without looking a key up; whether a key *counts* is a separate question
(a node's descriptor, the table of researchers), asked through ``KeyRing``.

Invariants:
- One algorithm. The id names it, and nothing in a message can choose another.
- One spelling per key: an id that does not re-encode to itself, or a point of small order
  (for which signatures over everything verify), is no key id.
- Key files are created with mode 0600 and never overwritten; a file that others can read is refused.

It leaves out: which keys a node or researcher has (``federation.continuity``, enrolment in ``node``).
"""

import base64
import binascii
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from federation.errors import KeyFileError
from linkeddata.errors import SignatureInvalid

_PREFIX: Final = "ed25519:"
_SECRET_PREFIX: Final = "vasculum-secret-ed25519:"  # noqa: S105 - a label, not a secret
_MAX_FILE_BYTES: Final = 4096
_P: Final = 2**255 - 19
_SMALL_ORDER_Y: Final = frozenset(
    {
        0,
        1,
        _P - 1,
        2707385501144840649318225287225658788936804267575313519463743609750303402022,
        55188659117513257062467267217118295137698188065244968500265048394206261417927,
    }
)
"""y of the points of order 1, 2, 4 and 8 (RFC 7748 section 7 gives the reason to refuse them)."""


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode("ascii").rstrip("=")


def _unb64(text: str) -> bytes:
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError("not base64url") from error
    if _b64(data) != text:
        raise ValueError("not in its one canonical form")
    return data


def kid_of(public_key: bytes) -> str:
    """The key id of 32 public bytes."""
    return _PREFIX + _b64(public_key)


def parse_kid(kid: str) -> Ed25519PublicKey:
    """The public key that a key id spells.

    Raises:
        SignatureInvalid: it spells none.
    """
    if not kid.startswith(_PREFIX) or len(kid) != len(_PREFIX) + 43:
        raise SignatureInvalid("a key id is ed25519: and 43 characters")
    try:
        raw = _unb64(kid[len(_PREFIX) :])
        y = int.from_bytes(raw, "little") & ((1 << 255) - 1)
        if len(raw) != 32 or y >= _P or y in _SMALL_ORDER_Y:
            raise ValueError("not a usable point")
        return Ed25519PublicKey.from_public_bytes(raw)
    except ValueError as error:
        raise SignatureInvalid(f"the key id is no Ed25519 key: {error}") from error


def is_kid(text: str) -> bool:
    """Whether this is the id of a usable key."""
    try:
        parse_kid(text)
    except SignatureInvalid:
        return False
    return True


class SigningKey:
    """A private key. Implements ``linkeddata.envelope.Signer``."""

    __slots__ = ("_key", "_public")

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self._public = key.public_key().public_bytes_raw()

    @classmethod
    def create(cls) -> Self:
        """A new key from the system's random source."""
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def from_seed(cls, seed: bytes) -> Self:
        """The key of 32 secret bytes; the same seed gives the same key."""
        return cls(Ed25519PrivateKey.from_private_bytes(seed))

    @classmethod
    def from_secret_text(cls, text: str) -> Self:
        """The key that ``secret_text`` printed.

        Raises:
            KeyFileError: the text was mistyped.
        """
        text = text.strip()
        try:
            if not text.startswith(_SECRET_PREFIX):
                raise ValueError(f"it does not begin with {_SECRET_PREFIX}")
            raw = _unb64(text[len(_SECRET_PREFIX) :])
            if len(raw) != 36:
                raise ValueError("it has the wrong length")
            key = cls.from_seed(raw[:32])
            if binascii.crc32(raw[:32]).to_bytes(4, "big") != raw[32:]:
                raise ValueError("its check digits do not fit: a character was mistyped")
        except ValueError as error:
            raise KeyFileError(f"this is no secret key: {error}") from error
        return key

    @classmethod
    def load(cls, path: Path) -> Self:
        """Reads a key file.

        Raises:
            KeyFileError: it is missing, readable by others, or no key.
        """
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError as error:
            raise KeyFileError(f"{path} does not exist") from error
        except OSError as error:
            raise KeyFileError(f"{path} cannot be read: {error.strerror}") from error
        with os.fdopen(descriptor, "rb") as stream:
            mode = os.fstat(stream.fileno()).st_mode
            if mode & 0o077:
                raise KeyFileError(f"{path} can be read by others: run `chmod 600 {path}`")
            raw = stream.read(_MAX_FILE_BYTES)
        try:
            document = json.loads(raw)
            key = cls.from_secret_text(str(document["secret"]))
        except (ValueError, KeyError, TypeError) as error:
            raise KeyFileError(f"{path} is not a key file of this program") from error
        if document.get("kid") != key.kid:
            raise KeyFileError(f"{path} is damaged: its secret does not fit its key id")
        return key

    def save(self, path: Path) -> None:
        """Writes a new key file, durably, mode 0600.

        Raises:
            KeyFileError: the file exists already, or cannot be written.
        """
        text = json.dumps({"kid": self.kid, "secret": self.secret_text()}, indent=1) + "\n"
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except FileExistsError as error:
            raise KeyFileError(f"{path} exists already: a key is never overwritten") from error
        except OSError as error:
            raise KeyFileError(f"{path} cannot be written: {error.strerror}") from error
        with os.fdopen(descriptor, "w", encoding="ascii") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())

    @property
    def kid(self) -> str:
        """The key id; safe to show to anyone."""
        return kid_of(self._public)

    @property
    def public_key_bytes(self) -> bytes:
        """The public half, 32 bytes."""
        return self._public

    @property
    def public_key_b64(self) -> str:
        """The 32 public bytes, base64url without padding."""
        return _b64(self._public)

    @property
    def private_key(self) -> Ed25519PrivateKey:
        """For ``federation.http_signatures`` only."""
        return self._key

    def secret_text(self) -> str:
        """The secret with check digits, to print on paper."""
        seed = self._key.private_bytes_raw()
        return _SECRET_PREFIX + _b64(seed + binascii.crc32(seed).to_bytes(4, "big"))

    def sign(self, data: bytes) -> bytes:
        """The 64 bytes of the signature."""
        return self._key.sign(data)

    def __repr__(self) -> str:
        return f"SigningKey({self.kid})"


def verify_signature(kid: str, data: bytes, signature: bytes) -> None:
    """Returns when ``signature`` over ``data`` was made with the key that ``kid`` spells.

    Raises:
        SignatureInvalid: it was not.
    """
    key = parse_kid(kid)
    try:
        key.verify(signature, data)
    except InvalidSignature as error:
        raise SignatureInvalid(f"the signature by {kid} does not fit") from error


@dataclass(frozen=True, slots=True)
class KeyRing:
    """A ``Verifier`` for which only the listed keys count."""

    kids: frozenset[str] = field(default_factory=frozenset)

    @classmethod
    def of(cls, kids: Iterable[str]) -> Self:
        """A ring of these key ids."""
        return cls(frozenset(kids))

    def verify(self, kid: str, data: bytes, signature: bytes) -> None:
        """As ``verify_signature``, for listed keys only."""
        if kid not in self.kids:
            raise SignatureInvalid(f"the key {kid[:60]} does not count here")
        verify_signature(kid, data, signature)


@dataclass(frozen=True, slots=True)
class AnyKey:
    """A ``Verifier`` that shows who signed, whoever it was; the caller then asks whether that key counts."""

    def verify(self, kid: str, data: bytes, signature: bytes) -> None:
        """As ``verify_signature``."""
        verify_signature(kid, data, signature)
