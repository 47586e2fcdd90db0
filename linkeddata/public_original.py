"""A picture file without what its metadata tells, and with every bit of the picture: the *public original*.

Nothing is decoded or compressed anew. Of a JPEG the tables and the picture data stay byte for byte, of PNG and WebP the
chunks that make the picture; the colour profile stays, and so does the orientation, in an EXIF block that holds nothing
else. What the record says about rights and credit is written in as XMP.

Invariants:
- Pure. Only what is known to belong to the picture is kept: whatever is unknown goes.
- What comes out is looked at again like a file that came in, and must tell nothing.
- What cannot be done without loss is not done (``NotLossless``, with the reason).

It leaves out: which files need it (``linkeddata.luggage``), where it is kept and who gets it (``node``).
"""

import struct
import zlib
from typing import Final

from linkeddata.jpeg_parts import APP0, COM, EOI, SOI, PictureFormError, parts_of
from linkeddata.luggage import MOST_JPEG_BYTES, luggage_of
from linkeddata.rights_packet import put_in
from linkeddata.tiff_tags import BadTags, orientation_block, orientation_of

MOST_BYTES: Final = MOST_JPEG_BYTES
"""The file is in memory while this is done."""
_PNG_START: Final = b"\x89PNG\r\n\x1a\n"
_PNG_KEPT: Final = frozenset(b"IHDR PLTE IDAT IEND tRNS cHRM gAMA sBIT sRGB iCCP cICP mDCV cLLI bKGD pHYs".split())
_WEBP_KEPT: Final = frozenset({b"VP8 ", b"VP8L", b"ALPH", b"ICCP"})
_WEBP_EXIF: Final = 0x08
_WEBP_ANIMATION: Final = 0x02
_EXIF_NAME: Final = b"Exif\0\0"


class NotLossless(ValueError):
    """No public original can be made without loss; the message says why."""


def public_original(data: bytes, packet: bytes) -> bytes:
    """The file without its luggage, and with this XMP packet.

    Args:
        data: the file, at most ``MOST_BYTES``.
        packet: what the record says about rights (``linkeddata.rights_packet``); may be empty.

    Raises:
        NotLossless: with the reason.
    """
    bare = bare_picture(data)
    left = luggage_of(bare)
    if left:
        raise NotLossless(f"something that tells more is left: {', '.join(sorted(left))}")
    return put_in(bare, packet)


def bare_picture(data: bytes) -> bytes:
    """The file with nothing in it but the picture, its colour profile, its resolution and which side is up.

    Args:
        data: the file, at most ``MOST_BYTES``.

    Raises:
        NotLossless: with the reason.
    """
    try:
        if data.startswith(b"\xff\xd8"):
            return _jpeg(data)
        if data.startswith(_PNG_START):
            return _png(data)
        if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
            return _webp(data)
    except PictureFormError as error:
        raise NotLossless(f"the file is not built as its format demands: {error}") from error
    if data[:2] in (b"II", b"MM"):
        raise NotLossless("in TIFF files metadata and picture are woven into each other; a JPEG or PNG copy has none")
    raise NotLossless("files of this format are not taken apart")


def _orientation(block: bytes) -> int:
    try:
        return orientation_of(block)
    except BadTags as error:
        raise NotLossless("its EXIF block cannot be read, so which side is up is not known") from error


def _jpeg(data: bytes) -> bytes:
    orientation: int | None = None
    kept: list[bytes] = []
    for part in parts_of(data):
        body = data[part.body : part.stop]
        if part.marker == APP0 and body.startswith(b"JFIF\0") and len(body) >= 14 and not kept:
            kept.append(_segment(APP0, body[:12] + b"\0\0"))  # without its small picture
        elif part.marker == 0xE1 and body.startswith(_EXIF_NAME[:5]):
            if orientation is None:
                orientation = _orientation(body[6:])
        elif _belongs_to_picture(part.marker, body):
            kept.append(b"\xff" + data[_after_fill(data, part.start) : part.stop])
    head = len(kept) > 0 and kept[0].startswith(b"\xff\xe0")
    turned = [] if orientation in (None, 1) else [_segment(0xE1, _EXIF_NAME + orientation_block(orientation or 1))]
    return b"\xff\xd8" + b"".join([*kept[:head], *turned, *kept[head:]])


def _belongs_to_picture(marker: int, body: bytes) -> bool:
    if marker == SOI:
        return False  # written anew
    if marker == 0xE2:
        return body.startswith(b"ICC_PROFILE\0")
    if marker == 0xEE:
        return body.startswith(b"Adobe")
    return marker == EOI or not (APP0 <= marker <= APP0 + 15 or marker == COM)


def _after_fill(data: bytes, start: int) -> int:
    while data[start] == 0xFF:
        start += 1
    return start


def _segment(marker: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def _png(data: bytes) -> bytes:
    kept: list[bytes] = [_PNG_START]
    at = len(_PNG_START)
    while True:
        if at + 12 > len(data):
            raise PictureFormError("it ends before its end")
        length, kind = int.from_bytes(data[at : at + 4]), data[at + 4 : at + 8]
        if at + 12 + length > len(data):
            raise PictureFormError("a chunk reaches beyond the file")
        if kind in _PNG_KEPT:
            kept.append(data[at : at + 12 + length])
        elif kind == b"acTL":
            raise NotLossless("it has several pictures")
        elif kind == b"eXIf":
            orientation = _orientation(data[at + 8 : at + 8 + length])
            if orientation != 1:
                kept.append(_chunk(b"eXIf", orientation_block(orientation)))
        elif not kind[0] & 0x20:
            raise NotLossless("it has a part that is needed for the picture and not known here")
        at += 12 + length
        if kind == b"IEND":
            return b"".join(kept)


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _webp(data: bytes) -> bytes:
    end = 8 + int.from_bytes(data[4:8], "little")
    kept: list[bytes] = []
    block = b""
    at = 12
    while at < end:
        kind, length = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        stop = at + 8 + length + (length & 1)
        if length + 8 + at > min(end, len(data)):
            raise PictureFormError("a chunk reaches beyond the file")
        if kind == b"VP8X":
            if length < 10 or kept:
                raise PictureFormError("its head is not as it must be")
            if data[at + 8] & _WEBP_ANIMATION:
                raise NotLossless("it has several pictures")
            kept.append(data[at:stop])
        elif kind in _WEBP_KEPT:
            kept.append(data[at : at + 8 + length] + b"\0" * (length & 1))
        elif kind == b"EXIF":
            orientation = _orientation(data[at + 8 : at + 8 + length].removeprefix(_EXIF_NAME))
            if orientation != 1:
                turned = orientation_block(orientation)
                block = b"EXIF" + struct.pack("<I", len(turned)) + turned
        at = stop
    if not kept:
        raise PictureFormError("there is no picture in it")
    if kept[0][:4] == b"VP8X":
        flags = kept[0][8] & ~(0x04 | _WEBP_EXIF) | (_WEBP_EXIF if block else 0)
        kept[0] = kept[0][:8] + bytes([flags]) + kept[0][9:]
    elif block:
        raise NotLossless("it says which side is up where nothing reads it")
    body = b"WEBP" + b"".join(kept) + block
    return b"RIFF" + struct.pack("<I", len(body)) + body
