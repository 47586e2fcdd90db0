"""What the metadata inside a picture file tells: where it was taken, with which camera, by whom, and what else travels.

Looks at EXIF, XMP, IPTC (alone and inside Photoshop resources), comments, embedded previews and whatever stands behind
the end of the picture, in JPEG, PNG, WebP and TIFF files.

Invariants:
- Pure, and bounded whatever a file says: directories, entries, chunks and text that are looked at have limits.
- It never raises about the content of a file: what cannot be understood tells ``UNREADABLE``, and whoever decides
  must take that for the worst.
- Pixels are not looked at; nor are colour profiles (they name a make of display or scanner at most).

Sources: EXIF 2.32, TIFF 6, XMP part 3, IPTC-IIM 4.2, PNG 3, WebP container specification, JPEG (ITU-T T.81, B.1).

It leaves out: whether the file is given out (``node.access``), and files without it (``linkeddata.public_original``).
"""

import re
import zlib
from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import Final, Literal

from linkeddata.jpeg_parts import APP0, COM, PictureFormError, parts_of, real_end
from linkeddata.tiff_tags import BadTags, Directory, directories_of

Read = Callable[[int, int], bytes]
"""(offset, count) -> at most so many bytes of the file."""
MOST_JPEG_BYTES: Final = 256 << 20
"""A JPEG of 400 megapixels in noise has 200 MB."""
MOST_CHUNKS: Final = 1_000_000
MOST_TEXT_BYTES: Final = 4 << 20


class Luggage(StrEnum):
    """One kind of thing that the metadata of a file tells."""

    POSITION = "position"
    PLACE = "place"
    SERIAL = "serial number"
    PERSON = "person"
    PREVIEW = "preview"
    TEXT = "text"
    MAKER_NOTE = "maker note"
    OTHER = "other"
    TRAILER = "trailer"
    """Something stands behind the end of the picture."""
    UNREADABLE = "unreadable"
    """Metadata that could not be understood."""


WithheldFor = Literal["nothing", "places", "all"]
"""For which luggage an original is not given out, as ``node.toml`` says."""
TELLS_PLACES: Final = frozenset({Luggage.POSITION, Luggage.PLACE, Luggage.TRAILER, Luggage.UNREADABLE})
"""What tells where a picture was taken, or may."""
_XMP: Final = (
    (Luggage.POSITION, re.compile(rb"GPS|Latitude|Longitude|geo:lat|geo:long", re.IGNORECASE)),
    (Luggage.PLACE, re.compile(
        rb"[:<](City|State|Country|CountryCode|CountryName|ProvinceState|Sublocation|WorldRegion|Location\w*|locality"
        rb"|verbatimLocality|municipality|county|stateProvince|country)\b", re.IGNORECASE)),
    (Luggage.SERIAL, re.compile(rb"Serial|ImageUniqueID", re.IGNORECASE)),
    (Luggage.PERSON, re.compile(rb"OwnerName|:creator\b|CreatorContactInfo|PersonInImage|PersonDisplayName|:Artist\b"
                                rb"|CaptionWriter", re.IGNORECASE)),
    (Luggage.PREVIEW, re.compile(rb"Thumbnails|xmpGImg|GImage:Data|GDepth:Data|GCamera:", re.IGNORECASE)),
    (Luggage.TEXT, re.compile(rb":(description|title|subject|Headline|UserComment|Instructions)\b")),
)  # fmt: skip
_TAGS: Final = {
    0xA420: Luggage.SERIAL, 0xA431: Luggage.SERIAL, 0xA435: Luggage.SERIAL, 0xC62F: Luggage.SERIAL,
    0xA430: Luggage.PERSON, 0x013B: Luggage.PERSON, 0x9C9D: Luggage.PERSON,
    0x010E: Luggage.TEXT, 0x010D: Luggage.TEXT, 0x013C: Luggage.TEXT, 0x9286: Luggage.TEXT, 0x9C9B: Luggage.TEXT,
    0x9C9C: Luggage.TEXT, 0x9C9E: Luggage.TEXT, 0x9C9F: Luggage.TEXT,
    0x927C: Luggage.MAKER_NOTE,
}  # fmt: skip
_IPTC: Final = {
    (2, 26): Luggage.PLACE, (2, 27): Luggage.PLACE, (2, 90): Luggage.PLACE, (2, 92): Luggage.PLACE,
    (2, 95): Luggage.PLACE, (2, 100): Luggage.PLACE, (2, 101): Luggage.PLACE,
    (2, 80): Luggage.PERSON, (2, 118): Luggage.PERSON, (2, 122): Luggage.PERSON,
    (2, 5): Luggage.TEXT, (2, 25): Luggage.TEXT, (2, 40): Luggage.TEXT, (2, 105): Luggage.TEXT, (2, 120): Luggage.TEXT,
    (8, 202): Luggage.PREVIEW,
}  # fmt: skip
_PNG_PICTURE: Final = frozenset(
    b"IHDR PLTE IDAT IEND tRNS cHRM gAMA sBIT sRGB iCCP cICP mDCV cLLI bKGD pHYs hIST sPLT tIME acTL fcTL fdAT".split()
)
_PNG_TEXT: Final = frozenset({b"tEXt", b"zTXt", b"iTXt"})
_PNG_HARMLESS: Final = frozenset({b"Software", b"Copyright", b"Creation Time", b"date:create", b"date:modify"})
_WEBP_PICTURE: Final = frozenset({b"VP8X", b"VP8 ", b"VP8L", b"ALPH", b"ICCP", b"ANIM", b"ANMF"})


def find_luggage(read: Read, size: int) -> frozenset[Luggage]:
    """Everything that the metadata of a file tells.

    Args:
        read: gives bytes of the file.
        size: of the file, bytes.
    """
    head = read(0, 16)
    try:
        if head.startswith(b"\xff\xd8"):
            if size > MOST_JPEG_BYTES:
                return frozenset({Luggage.UNREADABLE})
            return frozenset(_jpeg(read(0, size)))
        if head.startswith(b"\x89PNG\r\n\x1a\n"):
            return frozenset(_png(read, size))
        if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
            return frozenset(_webp(read, size))
        if head[:2] in (b"II", b"MM"):
            return frozenset(_tags(read, size, is_file=True))
    except (PictureFormError, BadTags):
        pass
    return frozenset({Luggage.UNREADABLE})


def luggage_of(data: bytes) -> frozenset[Luggage]:
    """The same of a file in memory."""
    return find_luggage(lambda offset, count: data[offset : offset + count], len(data))


def is_withheld(found: Iterable[Luggage] | None, withheld_for: WithheldFor) -> bool:
    """Whether a file with this luggage stays; None: nobody has looked at it, which is taken for the worst."""
    if withheld_for == "nothing":
        return False
    if found is None:
        return True
    kinds = set(found)
    return bool(kinds) if withheld_for == "all" else bool(kinds & TELLS_PLACES)


# ---------------------------------------------------------------------- containers
def _jpeg(data: bytes) -> set[Luggage]:
    found: set[Luggage] = set()
    joined: dict[str, bytes] = {}
    parts = parts_of(data)
    for part in parts:
        body = data[part.body : part.stop]
        if part.marker == COM:
            found |= _text(body)
        elif APP0 <= part.marker <= APP0 + 15:
            found |= _application(part.marker, body, joined)
    found |= _photoshop(joined.get("photoshop", b"")) | _xmp(joined.get("xmp", b""))
    if real_end(data) > parts[-1].stop:
        found.add(Luggage.TRAILER)
    return found


def _application(marker: int, body: bytes, joined: dict[str, bytes]) -> set[Luggage]:
    """Of one APPn segment; what is spread over several is joined for later."""
    found: set[Luggage] = set()
    if marker == APP0:
        if not body.startswith(b"JFIF\0") or any(body[12:14]):
            found.add(Luggage.PREVIEW)
    elif marker == 0xE1 and body.startswith(b"Exif\0"):
        found = _in_bytes(body[6:])
    elif marker == 0xE1 and body.startswith(b"http://ns.adobe.com/xap/1.0/\0"):
        found = _xmp(body)
    elif marker == 0xE1 and body.startswith(b"http://ns.adobe.com/xmp/extension/\0"):
        joined["xmp"] = joined.get("xmp", b"") + body[75:]  # behind name, digest of 32 letters, two lengths
    elif marker == 0xED and body.startswith(b"Photoshop 3.0\0"):
        joined["photoshop"] = joined.get("photoshop", b"") + body[14:]
    elif marker == 0xE2 and body.startswith(b"MPF\0"):
        found.add(Luggage.PREVIEW)
    elif not ((marker == 0xE2 and body.startswith(b"ICC_PROFILE\0")) or (marker == 0xEE and body.startswith(b"Adobe"))):
        found.add(Luggage.OTHER)
    return found


def _png(read: Read, size: int) -> set[Luggage]:
    found: set[Luggage] = set()
    at = 8
    for _ in range(MOST_CHUNKS):
        head = read(at, 8)
        if len(head) < 8:
            raise PictureFormError("the file ends before its end")
        length, kind = int.from_bytes(head[:4], "big"), head[4:]
        if at + 12 + length > size:
            raise PictureFormError("a chunk reaches beyond the file")
        if kind in _PNG_TEXT:
            found |= _png_text(kind, read(at + 8, min(length, MOST_TEXT_BYTES)))
        elif kind == b"eXIf":
            found |= _in_bytes(read(at + 8, min(length, MOST_TEXT_BYTES)))
        elif kind not in _PNG_PICTURE:
            found.add(Luggage.OTHER)
        at += 12 + length
        if kind == b"IEND":
            return found | _behind(read, at, size)
    raise PictureFormError("too many chunks")


def _png_text(kind: bytes, body: bytes) -> set[Luggage]:
    keyword, _, rest = body.partition(b"\0")
    if keyword.lower().startswith(b"raw profile type"):
        return {Luggage.UNREADABLE}
    if keyword == b"XML:com.adobe.xmp":
        if kind != b"iTXt" or len(rest) < 2:
            return {Luggage.UNREADABLE}
        text = rest[2:].split(b"\0", 2)[-1]
        return _xmp(_inflated(text) if rest[0] else text)
    if keyword in _PNG_HARMLESS:
        return set()
    return {Luggage.PERSON} if keyword == b"Author" else {Luggage.TEXT}


def _inflated(data: bytes) -> bytes:
    try:
        text = zlib.decompressobj().decompress(data, MOST_TEXT_BYTES)
    except zlib.error as error:
        raise PictureFormError("text that cannot be unpacked") from error
    if len(text) >= MOST_TEXT_BYTES:
        raise PictureFormError("text without end")
    return text


def _webp(read: Read, size: int) -> set[Luggage]:
    found: set[Luggage] = set()
    end = 8 + int.from_bytes(read(4, 4), "little")
    if end > size:
        raise PictureFormError("the file ends before its end")
    at = 12
    for _ in range(MOST_CHUNKS):
        if at >= end:
            return found | _behind(read, end, size)
        head = read(at, 8)
        length, kind = int.from_bytes(head[4:], "little"), head[:4]
        if len(head) < 8 or at + 8 + length > end:
            raise PictureFormError("a chunk reaches beyond the file")
        if kind == b"EXIF":
            found |= _in_bytes(read(at + 8, min(length, MOST_TEXT_BYTES)).removeprefix(b"Exif\0\0"))
        elif kind == b"XMP ":
            found |= _xmp(read(at + 8, min(length, MOST_TEXT_BYTES)))
        elif kind not in _WEBP_PICTURE:
            found.add(Luggage.OTHER)
        at += 8 + length + (length & 1)
    raise PictureFormError("too many chunks")


def _behind(read: Read, at: int, size: int) -> set[Luggage]:
    """What stands behind the end; zeros are nothing."""
    if size - at > MOST_TEXT_BYTES or read(at, size - at).strip(b"\0"):
        return {Luggage.TRAILER}
    return set()


# ---------------------------------------------------------------------- kinds of metadata
def _in_bytes(block: bytes) -> set[Luggage]:
    """Of an EXIF block; one that cannot be read says so and hides nothing of the rest."""
    try:
        return _tags(lambda offset, count: block[offset : offset + count], len(block), is_file=False)
    except BadTags:
        return {Luggage.UNREADABLE}


def _tags(read: Read, size: int, *, is_file: bool) -> set[Luggage]:
    found: set[Luggage] = set()
    for directory in directories_of(read, size):
        if directory.kind == "gps":
            if any(tag != 0 for tag in directory.tags):  # more than the version of the block
                found.add(Luggage.POSITION)
            continue
        if 0x0201 in directory.tags and not is_file:
            found.add(Luggage.PREVIEW)
        for tag in directory.tags:
            found |= _tag(directory, tag)
    return found


def _tag(directory: Directory, tag: int) -> set[Luggage]:
    inside = _BLOCKS.get(tag)
    if inside is not None:
        return inside(directory.value(tag, MOST_TEXT_BYTES))
    kind = _TAGS.get(tag)
    if kind is None:
        return set()
    return {kind} if kind is Luggage.MAKER_NOTE or _text(directory.value(tag, 65_536)) else set()


def _text(body: bytes) -> set[Luggage]:
    """Text, unless it is blank."""
    said = body.replace(b"\0", b"").strip()
    return {Luggage.TEXT} if said.removeprefix(b"ASCII").removeprefix(b"UNICODE").strip() else set()


def _xmp(packet: bytes) -> set[Luggage]:
    """By the names of properties; also in packets of two bytes per letter."""
    plain = packet.replace(b"\0", b"").removeprefix(b"http://ns.adobe.com/xap/1.0/")
    return {kind for kind, names in _XMP if names.search(_without_namespaces(plain))}


def _without_namespaces(packet: bytes) -> bytes:
    """Addresses of namespaces are not properties: ``xmlns:GPano="..."`` alone tells nothing."""
    return re.sub(rb"xmlns:\w{1,40}\s{0,8}=\s{0,8}(\"[^\"<>]{0,200}\"|'[^'<>]{0,200}')", b"", packet)


def _iptc(block: bytes) -> set[Luggage]:
    found: set[Luggage] = set()
    at = 0
    while at < len(block):
        if block[at] != 0x1C:
            return found if not block[at:].strip(b"\0") else found | {Luggage.UNREADABLE}
        if at + 5 > len(block):
            return found | {Luggage.UNREADABLE}
        length = int.from_bytes(block[at + 3 : at + 5], "big")
        if length & 0x8000 or at + 5 + length > len(block):
            return found | {Luggage.UNREADABLE}
        kind = _IPTC.get((block[at + 1], block[at + 2]))
        if kind is not None and length:
            found.add(kind)
        at += 5 + length
    return found


def _photoshop(block: bytes) -> set[Luggage]:
    found: set[Luggage] = set()
    at = 0
    while at + 12 <= len(block):
        if block[at : at + 4] not in (b"8BIM", b"MeSa", b"AgHg", b"PHUT", b"DCSR"):
            return found if not block[at:].strip(b"\0") else found | {Luggage.UNREADABLE}
        number = int.from_bytes(block[at + 4 : at + 6], "big")
        name = block[at + 6] + 1
        at += 6 + name + (name & 1)
        length = int.from_bytes(block[at : at + 4], "big")
        body = block[at + 4 : at + 4 + length]
        if len(body) < length:
            return found | {Luggage.UNREADABLE}
        if number in (0x0409, 0x040C):
            found.add(Luggage.PREVIEW)
        elif number in _RESOURCES:
            found |= _RESOURCES[number](body)
        at += 4 + length + (length & 1)
    return found


_BLOCKS: Final[dict[int, Callable[[bytes], set[Luggage]]]] = {0x02BC: _xmp, 0x83BB: _iptc, 0x8649: _photoshop}
"""Tags whose value is metadata of another kind."""
_RESOURCES: Final[dict[int, Callable[[bytes], set[Luggage]]]] = {
    0x0404: _iptc, 0x0422: _in_bytes, 0x0423: _in_bytes, 0x0424: _xmp,
}  # fmt: skip
"""The same of Photoshop resources."""
