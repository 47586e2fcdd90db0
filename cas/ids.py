"""ContentId: the name of bytes, and the one place where such names are parsed and printed.

A content id is the SHA-256 digest of a whole file: 32 bytes.
Its canonical text is ``hash://sha256/<64 lower-case hex digits>``,
the form that Preston and contentid already use in biodiversity literature.

Invariants:
- ``parse_content_id(str(cid)) == cid``, and likewise for every alias this module prints.
- A parser accepts exactly one spelling per alias (bare hex may be upper case); anything else is refused with a reason.
- No dependency: this module is in the hot path of every request.

It leaves out: CIDs of chunked files (UnixFS), other hash functions, any idea of what the bytes are.

Example:
    >>> str(ContentId.of(b"hello world"))
    'hash://sha256/b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9'
"""

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass
from typing import Final, Self

from cas.cids import RAW, parse_cid
from cas.errors import ContentIdError

_PREFIX: Final = "hash://sha256/"
_HEX = re.compile(r"[0-9a-f]{64}\Z")
_CID: Final = re.compile(r"(?:b[a-z2-7]{58}|B[A-Z2-7]{58}|f01[0-9a-f]{70}|z[1-9A-Za-z]{48,50}|Qm[1-9A-Za-z]{44})\Z")
"""What looks like a CID: no other spelling has these lengths and beginnings."""
_ANNEX: Final = re.compile(r"SHA256E?-s[0-9]{1,19}--([0-9a-f]{64})(?:\.[A-Za-z0-9.]{1,20})?\Z")
_CIDV1_RAW_SHA256: Final = bytes((0x01, 0x55, 0x12, 0x20))
"""CIDv1, codec raw, multihash sha2-256 of 32 bytes (multiformats tables)."""


@dataclass(frozen=True, slots=True, order=True)
class ContentId:
    """The SHA-256 digest of some bytes."""

    digest: bytes
    """32 bytes."""

    def __post_init__(self) -> None:
        if len(self.digest) != 32:
            raise ContentIdError(f"a SHA-256 digest has 32 bytes, this one has {len(self.digest)}")

    @classmethod
    def of(cls, data: bytes) -> Self:
        """The id of these bytes."""
        return cls(hashlib.sha256(data).digest())

    @classmethod
    def from_hex(cls, text: str) -> Self:
        """Exactly 64 lower-case hex digits, or ``ContentIdError``."""
        if not _HEX.match(text):
            raise ContentIdError("expected 64 lower-case hex digits")
        return cls(bytes.fromhex(text))

    @property
    def hex(self) -> str:
        """64 lower-case hex digits."""
        return self.digest.hex()

    def __str__(self) -> str:
        return _PREFIX + self.digest.hex()

    def to_cid(self) -> str:
        """CIDv1, raw codec, base32 lower case (``bafkrei..``)."""
        return "b" + base64.b32encode(_CIDV1_RAW_SHA256 + self.digest).decode().lower().rstrip("=")

    def to_ni(self) -> str:
        """RFC 6920 name: ``ni:///sha-256;<base64url without padding>``."""
        return "ni:///sha-256;" + base64.urlsafe_b64encode(self.digest).decode().rstrip("=")

    def to_sri(self) -> str:
        """W3C Subresource Integrity form: ``sha256-<base64>``."""
        return "sha256-" + base64.b64encode(self.digest).decode()


def parse_content_id(text: str) -> ContentId:
    """Any accepted spelling of a content id.

    Accepts ``hash://sha256/HEX``, bare hex in any case, ``sha256:HEX``, ``ni:///sha-256;B64URL``,
    CIDv1 raw (base32 ``bafkrei..``, base16 ``f01551220..``, base58btc ``zb2rh..``), SRI ``sha256-B64`` and the keys of
    git-annex (``SHA256E-s123--HEX.jpg``; size and ending say nothing about the bytes).

    Raises:
        ContentIdError: with the reason; the text is not such a name.
    """
    if len(text) > 128:
        raise ContentIdError("no content id is longer than 128 characters")
    if text.startswith(_PREFIX):
        return ContentId.from_hex(text[len(_PREFIX) :])
    if text.startswith("sha256:"):
        return ContentId.from_hex(text[7:])
    if text.startswith("ni:///sha-256;"):
        return _from_base64(text[14:], urlsafe=True)
    if text.startswith("sha256-"):
        return _from_base64(text[7:], urlsafe=False)
    if _CID.match(text):
        return _from_cid(text)
    if text.startswith(("SHA256-", "SHA256E-")):
        return _from_annex_key(text)
    if len(text) == 64 and text.isascii() and text.lower() and _HEX.match(text.lower()):
        return ContentId.from_hex(text.lower())
    raise ContentIdError(
        "not a SHA-256 content id: expected 64 hex digits, hash://sha256/.., sha256:.., ni:///sha-256;..,"
        " a raw CIDv1 or sha256-.."
    )


def _from_base64(text: str, *, urlsafe: bool) -> ContentId:
    padded = text if not urlsafe else text + "=" * (-len(text) % 4)
    try:
        digest = base64.b64decode(padded, altchars=b"-_" if urlsafe else None, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ContentIdError("the base64 part is malformed") from error
    cid = ContentId(digest)
    if (cid.to_ni()[14:] if urlsafe else cid.to_sri()[7:]) != text:
        raise ContentIdError("the base64 part is not in its canonical form")
    return cid


def _from_cid(text: str) -> ContentId:
    codec, digest = parse_cid(text)
    if codec != RAW:
        raise ContentIdError(
            "this CID names blocks of a file (dag-pb), not its bytes: only CIDs with the codec raw are content ids"
        )
    return ContentId(digest)


def _from_annex_key(text: str) -> ContentId:
    found = _ANNEX.match(text)
    if found is None:
        raise ContentIdError("not a git-annex key with SHA256 or SHA256E")
    return ContentId.from_hex(found[1])
