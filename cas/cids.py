"""CIDs in the bases that people meet, parsed strictly to codec and digest; and the base58 of peer ids.

Accepted: CIDv1 with SHA-256 in base32 (``b..``, upper case ``B..``), base16 (``f..``), base58btc (``z..``), and CIDv0
(``Qm..``), which is dag-pb. One spelling per base: what does not print as it was written is refused.

It leaves out: other hash functions, other versions, what lies behind a CID. No dependency: this is asked per request.
"""

import base64
import re
from typing import Final

from cas.errors import ContentIdError

RAW: Final = 0x55
DAG_PB: Final = 0x70
_CODECS: Final = {RAW: "raw", DAG_PB: "dag-pb"}
_SHA256: Final = bytes((0x12, 0x20))
_BASE58: Final = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_VALUES: Final = {letter: number for number, letter in enumerate(_BASE58)}
_BASE32 = re.compile(r"[a-z2-7]{58}\Z")
_TO_DIGITS: Final = str.maketrans("abcdefghijklmnopqrstuvwxyz234567", "0123456789abcdefghijklmnopqrstuv")
"""From the letters of base32 to the digits that ``int(.., 32)`` reads, which is five times as fast as ``base64``."""
MAX_CHARS: Final = 80
"""The longest that is accepted is base16: 73 characters."""


def parse_cid(text: str) -> tuple[int, bytes]:
    """Codec and SHA-256 digest of a CID.

    Raises:
        ContentIdError: with the reason.
    """
    if not text.isascii() or not 2 <= len(text) <= MAX_CHARS:
        raise ContentIdError("not a CID")
    if len(text) == 46 and text.startswith("Qm"):
        raw = from_base58(text)
        if len(raw) != 34 or not raw.startswith(_SHA256):
            raise ContentIdError("not a CIDv0 with sha2-256")
        return DAG_PB, raw[2:]
    raw = _from_base32(text[1:]) if text[0] == "b" else _decode(text)
    if len(raw) != 36 or raw[0] != 1 or raw[2:4] != _SHA256:
        raise ContentIdError("only CIDv1 with a sha2-256 digest of 32 bytes is accepted")
    if raw[1] not in _CODECS:
        raise ContentIdError("only the codecs raw and dag-pb are accepted")
    if text[0] != "b" and _encode(text[0], raw) != text:
        raise ContentIdError("the CID is not in its canonical form")
    return raw[1], raw[4:]


def base58(data: bytes) -> str:
    """Base58 with bitcoin's alphabet."""
    value = int.from_bytes(data)
    letters = []
    while value:
        value, rest = divmod(value, 58)
        letters.append(_BASE58[rest])
    zeros = len(data) - len(data.lstrip(b"\0"))
    return "1" * zeros + "".join(reversed(letters))


def from_base58(text: str) -> bytes:
    """The bytes; ``ContentIdError`` when a letter does not belong there."""
    value = 0
    for letter in text:
        if letter not in _VALUES:
            raise ContentIdError("the base58 part of the CID is malformed")
        value = value * 58 + _VALUES[letter]
    zeros = len(text) - len(text.lstrip("1"))
    return b"\0" * zeros + value.to_bytes((value.bit_length() + 7) // 8)


def _decode(text: str) -> bytes:
    base, body = text[0], text[1:]
    if base == "B":
        return _from_base32(body.lower())  # printed again afterwards, as every spelling but the usual one
    if base == "f":
        try:
            return bytes.fromhex(body)
        except ValueError as error:
            raise ContentIdError("the CID is malformed") from error
    if base == "z":
        return from_base58(body)
    raise ContentIdError("this base of CIDs is not accepted: use base32 (b..), base16 (f..) or base58btc (z..)")


def _from_base32(body: str) -> bytes:
    """36 bytes: 58 letters hold two bits more, which are zero in the one canonical form."""
    if not _BASE32.match(body):
        raise ContentIdError("the CID is malformed: expected 58 letters of base32")
    value = int(body.translate(_TO_DIGITS), 32)
    if value & 3:
        raise ContentIdError("the CID is not in its canonical form")
    return (value >> 2).to_bytes(36)


def _encode(base: str, raw: bytes) -> str:
    if base == "B":
        return base + base64.b32encode(raw).decode().rstrip("=")
    return base + (raw.hex() if base == "f" else base58(raw))
