"""The parts of a JPEG file, in their order: markers, their segments, and the picture data behind each start of a scan.

Invariants:
- Pure. The parts lie one behind the other, from the first marker to the end of the picture; nothing is decoded.
- A file whose parts do not follow the standard is refused (``PictureFormError``), never guessed at.

Source: ITU-T T.81, B.1.
"""

import re
from dataclasses import dataclass
from typing import Final

SOI: Final = 0xD8
EOI: Final = 0xD9
SOS: Final = 0xDA
APP0: Final = 0xE0
COM: Final = 0xFE
_MOST_PARTS: Final = 100_000
_NEXT: Final = re.compile(rb"\xff+[^\x00\xd0-\xd7\xff]", re.DOTALL)
"""In picture data: the next marker that does not belong to it."""
_ALONE: Final = frozenset({0x01, *range(0xD0, 0xD8), SOI, EOI})
"""Markers without a segment."""


class PictureFormError(ValueError):
    """The file is not built as its kind must be; the message says what."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A marker with what belongs to it, as places in the file."""

    marker: int
    start: int
    body: int
    """Where what stands in the segment begins."""
    stop: int
    """Where the segment ends; of a scan: its picture data."""


def parts_of(data: bytes) -> list[Part]:
    """All parts; the last is the end of the picture.

    Raises:
        PictureFormError: the file is built in another way.
    """
    if not data.startswith(b"\xff\xd8"):
        raise PictureFormError("it does not begin as a JPEG file")
    found = [Part(marker=SOI, start=0, body=2, stop=2)]
    at = 2
    while len(found) < _MOST_PARTS:
        start = at
        while data[at : at + 1] == b"\xff":
            at += 1
        if at == start or at >= len(data):
            raise PictureFormError("a part does not begin with a marker")
        marker = data[at]
        at += 1
        if marker == EOI:
            found.append(Part(marker=marker, start=start, body=at, stop=at))
            return found
        if marker in _ALONE or marker < 0xC0:
            raise PictureFormError(f"marker {marker:#x} does not belong there")
        length = int.from_bytes(data[at : at + 2], "big")
        if length < 2 or at + length > len(data):
            raise PictureFormError("a segment reaches beyond the file")
        body, at = at + 2, at + length
        if marker == SOS:
            at = _end_of_scan(data, at, is_first=all(part.marker != SOS for part in found))
        found.append(Part(marker=marker, start=start, body=body, stop=at))
    raise PictureFormError("it has too many parts")


def real_end(data: bytes) -> int:
    """Where the file ends without zeros that fill it up."""
    return len(data.rstrip(b"\0"))


def _end_of_scan(data: bytes, start: int, *, is_first: bool) -> int:
    """Where the next marker is that does not belong to the picture data.

    Most files have one scan up to the end of the picture. Whether nothing else stands in it is counted, which takes a
    fifth of the time of looking at each marker.
    """
    if is_first:
        end = data.find(b"\xff\xd9", start)
        marks = data.count(b"\xff", start, end) - data.count(b"\xff\x00", start, end) if end >= 0 else -1
        if marks > 0:
            marks -= sum(data.count(bytes((0xFF, restart)), start, end) for restart in range(0xD0, 0xD8))
        if marks == 0:
            return end
    following = _NEXT.search(data, start)
    if following is None:
        raise PictureFormError("the picture has no end")
    return following.start()
