"""Canonical bytes of a document: RFC 8785 (JCS). The bytes that are signed, hashed and stored.

Floats are refused: two programs print the same float differently, so measured values are decimal strings.

Documents whose keys are ASCII, which all of ours are, go through the encoder of the standard library: it escapes as
RFC 8785 asks, and sorts by code points, which for such keys is the order of UTF-16 units. Everything else goes through
the reference implementation. A property test holds the two against each other.
"""

import hashlib
import json
from typing import Final

import rfc8785

from cas.ids import ContentId
from linkeddata.errors import CanonError
from linkeddata.json_strict import Json

_ENCODER: Final = json.JSONEncoder(
    ensure_ascii=False, sort_keys=True, separators=(",", ":"), check_circular=False, allow_nan=False
)
_MAX_INTEGER: Final = 2**53 - 1


def canonical_bytes(document: Json) -> bytes:
    """The canonical UTF-8 bytes.

    Raises:
        CanonError: the document holds a float, an integer beyond 2^53 or a lone surrogate.
    """
    is_plain = _look(document)
    try:
        if is_plain:
            return _ENCODER.encode(document).encode("utf-8")
        return rfc8785.dumps(document)  # type: ignore[no-any-return, unused-ignore]
    except (rfc8785.CanonicalizationError, UnicodeEncodeError) as error:
        raise CanonError(f"no canonical form: {error}") from error


def document_id(document: Json) -> ContentId:
    """The content id of the canonical bytes."""
    return ContentId(hashlib.sha256(canonical_bytes(document)).digest())


def digest_text(document: Json) -> str:
    """``sha256:<hex>`` of the canonical bytes: the form of digests inside documents."""
    return "sha256:" + hashlib.sha256(canonical_bytes(document)).hexdigest()


def _look(value: Json) -> bool:
    """Whether the standard encoder gives the canonical form of this; refuses floats."""
    is_plain = True
    pending: list[Json] = [value]
    while pending:
        item = pending.pop()
        kind = type(item)
        if kind is str or item is None or kind is bool:
            continue
        if isinstance(item, dict):
            try:
                is_plain = is_plain and all(map(str.isascii, item))
            except TypeError:  # a key that is no text
                is_plain = False
            pending.extend([inner for inner in item.values() if type(inner) is not str])
        elif isinstance(item, list | tuple):
            pending.extend(item)
        elif isinstance(item, float):
            raise CanonError("a float has no place in a signed document: write a decimal string")
        elif kind is not int or not -_MAX_INTEGER <= item <= _MAX_INTEGER:
            is_plain = False
    return is_plain
