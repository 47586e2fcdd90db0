"""Which bytes a request gets: ranges and conditions of RFC 9110 (sections 13 and 14), decided without I/O.

- A single range is answered with 206; one that begins behind the end with 416.
- Several ranges, unknown units and malformed headers are ignored (200), as the standard allows (14.2).
- A range is only defined for GET: a HEAD gets the head of the whole (14.2: "MUST ignore").
- ``If-Range`` compares strongly, so a weak tag or a date never matches (13.1.5).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

_RANGE = re.compile(r"bytes=[ \t]*([0-9]{0,40})-([0-9]{0,40})\Z", re.IGNORECASE)
"""14.1: units are case-insensitive. 40 digits: beyond every file; more is taken for an attack on ``int``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ByteAnswer:
    """Status, and for 200 and 206 the slice."""

    status: int
    offset: int = 0
    length: int = 0


def decide_bytes(headers: Mapping[str, str], *, size: int, etag: str, method: str = "GET") -> ByteAnswer:
    """The answer to a GET or HEAD for ``size`` bytes with this strong entity tag (in quotes)."""
    match = headers.get("If-Match")
    if match is not None and not _names(match, etag, weak=False):
        return ByteAnswer(status=412)
    none_match = headers.get("If-None-Match")
    if none_match is not None and _names(none_match, etag, weak=True):
        return ByteAnswer(status=304)
    wanted = headers.get("Range")
    condition = headers.get("If-Range")
    if wanted is None or method != "GET" or (condition is not None and condition.strip() != etag):
        return ByteAnswer(status=200, length=size)
    return _decide_range(wanted.strip(), size)


def _decide_range(wanted: str, size: int) -> ByteAnswer:
    whole = ByteAnswer(status=200, length=size)
    found = _RANGE.match(wanted)
    if found is None or not (found[1] or found[2]):
        return whole
    if not found[1]:
        suffix = int(found[2])
        if suffix == 0 or size == 0:
            return ByteAnswer(status=416)
        return ByteAnswer(status=206, offset=max(0, size - suffix), length=min(suffix, size))
    first = int(found[1])
    last = int(found[2]) if found[2] else max(first, size - 1)
    if last < first:
        return whole
    if first >= size:
        return ByteAnswer(status=416)
    return ByteAnswer(status=206, offset=first, length=min(last, size - 1) - first + 1)


def _names(header: str, etag: str, *, weak: bool) -> bool:
    if header.strip() == "*":
        return True
    tags = [tag.strip() for tag in header.split(",")]
    return etag in tags or (weak and f"W/{etag}" in tags)
