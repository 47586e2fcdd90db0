"""Rights and credit inside a picture file: the XMP packet, and putting it into JPEG, PNG and WebP files.

Derived pictures lose all metadata, because it tells where and with what device they were taken. What the record says
about rights is written back, so that a picture that travels on still says whose it is and what may be done with it.

Invariants:
- Only what the public record says goes in.
- Only the container is touched; pixels stay as they are. Files that are not what they should be are returned unchanged.

Source: XMP specification part 3 (storage in files); PNG 1.2 (iTXt); WebP container specification (VP8X, "XMP ").
"""

import struct
import zlib
from dataclasses import dataclass
from typing import Final
from xml.sax.saxutils import escape, quoteattr

_JPEG_NAME: Final = b"http://ns.adobe.com/xap/1.0/\0"
_PNG_START: Final = b"\x89PNG\r\n\x1a\n"
_IHDR_END: Final = 33
"""Signature, and the first chunk, which always is IHDR."""
_MOST_TEXT: Final = 2000
_WEBP_XMP: Final = 0x04
_WEBP_ALPHA: Final = 0x10


@dataclass(frozen=True, slots=True, kw_only=True)
class Rights:
    """What a public record says about the rights in a picture; empty: nothing."""

    licence: str = ""
    """Address of the licence."""
    terms: str = ""
    """What the institution wrote."""
    holder: str = ""
    source: str = ""
    """Address of the record."""

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to say."""
        return not (self.licence or self.terms or self.holder)


def rights_packet(rights: Rights) -> bytes:
    """The XMP packet; empty when there is nothing to say."""
    if rights.is_empty:
        return b""
    parts: list[str] = []
    if rights.licence:
        address = quoteattr(_plain(rights.licence))
        parts.append(f"<cc:license rdf:resource={address}/>")
        parts.append(f"<xmpRights:WebStatement>{escape(_plain(rights.licence))}</xmpRights:WebStatement>")
    if rights.terms or rights.licence:
        text = escape(_plain(rights.terms or rights.licence))
        parts.append(f"<xmpRights:UsageTerms>{_alternatives(text)}</xmpRights:UsageTerms>")
    if rights.holder:
        holder = escape(_plain(rights.holder))
        parts.append(f"<dc:rights>{_alternatives(holder)}</dc:rights><photoshop:Credit>{holder}</photoshop:Credit>")
    if rights.source:
        parts.append(f"<dc:source>{escape(_plain(rights.source))}</dc:source>")
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about=""'
        ' xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:xmpRights="http://ns.adobe.com/xap/1.0/rights/"'
        ' xmlns:photoshop="http://ns.adobe.com/photoshop/1.0/" xmlns:cc="http://creativecommons.org/ns#">'
        f'{"".join(parts)}</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="r"?>'
    ).encode()


def put_in(picture: bytes, packet: bytes) -> bytes:
    """The picture with this packet in it; as it was when the packet is empty or the format is another."""
    if not packet:
        return picture
    if picture.startswith(b"\xff\xd8"):
        return _in_jpeg(picture, packet)
    if picture.startswith(_PNG_START):
        chunk = b"iTXt" + b"XML:com.adobe.xmp\0\0\0\0\0" + packet
        whole = struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
        return picture[:_IHDR_END] + whole + picture[_IHDR_END:]
    if picture[:4] == b"RIFF" and picture[8:12] == b"WEBP":
        return _in_webp(picture, packet)
    return picture


def _in_jpeg(picture: bytes, packet: bytes) -> bytes:
    data = _JPEG_NAME + packet
    if len(data) > 65_533:
        return picture
    at = 2
    if picture[2:4] == b"\xff\xe0":  # JFIF must stay first
        at += 2 + int.from_bytes(picture[4:6], "big")
    return picture[:at] + b"\xff\xe1" + struct.pack(">H", len(data) + 2) + data + picture[at:]


def _in_webp(picture: bytes, packet: bytes) -> bytes:
    kind = picture[12:16]
    body = picture[12:]
    if kind == b"VP8X":
        flags = picture[20] | _WEBP_XMP
        body = picture[12:20] + bytes([flags]) + picture[21:]
    elif kind == b"VP8 ":
        width, height = (value & 0x3FFF for value in struct.unpack_from("<HH", picture, 26))
        body = _extended(width, height, 0) + body
    elif kind == b"VP8L":
        bits = int.from_bytes(picture[21:25], "little")
        has_alpha = bool(bits >> 28 & 1)
        body = _extended((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1, _WEBP_ALPHA * has_alpha) + body
    else:
        return picture
    body += b"XMP " + struct.pack("<I", len(packet)) + packet + b"\0" * (len(packet) & 1)
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def _extended(width: int, height: int, flags: int) -> bytes:
    sizes = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return b"VP8X" + struct.pack("<I", 10) + bytes([flags | _WEBP_XMP, 0, 0, 0]) + sizes


def _alternatives(text: str) -> str:
    return f'<rdf:Alt><rdf:li xml:lang="x-default">{text}</rdf:li></rdf:Alt>'


def _plain(text: str) -> str:
    """Without characters that XML does not allow, and not longer than a sentence or two."""
    return "".join(char if char >= " " and char not in "\ufffe\uffff" else " " for char in text)[:_MOST_TEXT]
