"""Canonical bytes of a document: RFC 8785 (JCS). The bytes that are signed, hashed and stored.

Floats are refused: two programs print the same float differently, so measured values are decimal strings.
"""

import hashlib

import rfc8785

from cas.ids import ContentId
from linkeddata.errors import CanonError
from linkeddata.json_strict import Json


def canonical_bytes(document: Json) -> bytes:
    """The canonical UTF-8 bytes.

    Raises:
        CanonError: the document holds a float, an integer beyond 2^53 or a lone surrogate.
    """
    _refuse_floats(document)
    try:
        return rfc8785.dumps(document)  # type: ignore[no-any-return, unused-ignore]
    except (rfc8785.CanonicalizationError, UnicodeEncodeError) as error:
        raise CanonError(f"no canonical form: {error}") from error


def document_id(document: Json) -> ContentId:
    """The content id of the canonical bytes."""
    return ContentId(hashlib.sha256(canonical_bytes(document)).digest())


def digest_text(document: Json) -> str:
    """``sha256:<hex>`` of the canonical bytes: the form of digests inside documents."""
    return "sha256:" + hashlib.sha256(canonical_bytes(document)).hexdigest()


def _refuse_floats(value: Json) -> None:
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, float):
            raise CanonError("a float has no place in a signed document: write a decimal string")
        if isinstance(item, dict):
            pending.extend(item.values())
        elif isinstance(item, list | tuple):
            pending.extend(item)
