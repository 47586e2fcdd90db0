"""What decodes to the picture of a file, as one digest: equal digests are the same pixels, whatever the metadata says.

Nothing is decoded. Of a JPEG the tables and the picture data count, of PNG and WebP the chunks that make the picture,
of a TIFF the strips or tiles with every tag but those known to be metadata; the orientation and the colour profile
count everywhere, the resolution nowhere.

Invariants:
- Pure, and bounded: no more is read than the file holds, once.
- It errs on one side: whatever is not known to be metadata counts, so a picture that was compressed or written anew is
  another one. What cannot be understood has no digest.

It leaves out: whether two different encodings show the same pixels; what follows from it (``node.services.new_bytes``).
"""

import hashlib
from collections.abc import Callable, Iterable
from typing import Final

from linkeddata.jpeg_parts import PictureFormError
from linkeddata.public_original import MOST_BYTES, NotLossless, bare_picture
from linkeddata.tiff_tags import BadTags, Directory, directories_of

Read = Callable[[int, int], bytes]
"""(offset, count) -> at most so many bytes of the file."""
_CHUNK_BYTES: Final = 1 << 20
_MOST_PIECES: Final = 1 << 20
_MOST_TAG_BYTES: Final = 16 << 20
"""A colour profile of a scanner has a megabyte or two."""
_JFIF_BODY: Final = 6
_JFIF_END: Final = 20
"""Where the JFIF segment of a bare picture ends, which is always its first and of one length."""
_PNG_HEAD: Final = 8
_RIFF_HEAD: Final = 12
_PLACES: Final = {273: 279, 324: 325}
"""TIFF tags that say where strips or tiles stand -> tags that say how long they are."""
_METADATA: Final = frozenset(
    {
        269, 270, 271, 272, 282, 283, 285, 296, 305, 306, 315, 316, 330, 700, 18246, 18249, 33432, 33723, 34377, 34665,
        34853, 36867, 36868, 37500, 40965, 50341, 59932, 288, 289, *range(0x9C9B, 0x9CA0),
    }
)  # fmt: skip
"""TIFF tags that say nothing about pixels: names, times, makers, resolution, EXIF, XMP, IPTC, Photoshop, padding, and
where directories stand, whose content counts by itself."""


def picture_digest(read: Read, size: int) -> str:
    """SHA-256 (hex) of what decodes to the picture; empty when it cannot be told.

    Args:
        read: gives bytes of the file.
        size: of the file, bytes.
    """
    try:
        if read(0, 2) in (b"II", b"MM"):
            return _tiff(read, size)
        return "" if size > MOST_BYTES else _bare(bare_picture(read(0, size)))
    except (NotLossless, PictureFormError, BadTags):
        return ""


def _bare(data: bytes) -> str:
    """Of a file without metadata: everything but the resolution."""
    if data.startswith(b"\xff\xd8"):
        resolution = slice(_JFIF_BODY, _JFIF_END) if data[2:4] == b"\xff\xe0" else slice(2, 2)
        view = memoryview(data)
        return _sha((view[: resolution.start], view[resolution.stop :]))
    return _sha(_png_chunks(data) if data.startswith(b"\x89PNG") else _webp_chunks(data))


def _png_chunks(data: bytes) -> Iterable[bytes]:
    at = _PNG_HEAD
    while at < len(data):
        stop = at + 12 + int.from_bytes(data[at : at + 4])
        if data[at + 4 : at + 8] != b"pHYs":
            yield data[at:stop]
        at = stop


def _webp_chunks(data: bytes) -> Iterable[bytes]:
    """Without the head of the extended form, which files get with their first metadata; but whether alpha counts."""
    at, alpha = _RIFF_HEAD, b""
    while at < len(data):
        kind, length = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        stop = at + 8 + length + (length & 1)
        if kind == b"VP8X":
            alpha = bytes([data[at + 8] & 0x10])
        else:
            yield (alpha if kind == b"ALPH" else b"") + data[at:stop]
        at = stop


def _sha(pieces: Iterable[bytes | memoryview]) -> str:
    sha = hashlib.sha256()
    for piece in pieces:
        sha.update(piece)
    return sha.hexdigest()


def _tiff(read: Read, size: int) -> str:
    sha = hashlib.sha256()
    left = size
    pictures = 0
    for directory in directories_of(read, size):
        places = next((tag for tag in _PLACES if tag in directory.tags), None)
        if places is None or directory.kind != "tags":
            continue
        pictures += 1
        sha.update(f"picture {directory.order}\n".encode())
        for tag in sorted(directory.tags.keys() - _METADATA - _PLACES.keys()):
            value = directory.value(tag, _MOST_TAG_BYTES)
            sha.update(f"{tag} {directory.tags[tag].type} {len(value)}\n".encode() + value)
        left = _hash_pieces(sha, directory, places, read, left)
    return sha.hexdigest() if pictures else ""


def _hash_pieces(sha: "hashlib._Hash", directory: Directory, places: int, read: Read, left: int) -> int:
    """Adds the strips or tiles of a picture; returns how many bytes of the file may still be read."""
    if _PLACES[places] not in directory.tags:
        raise BadTags("it does not say how long its strips are")
    offsets = directory.numbers(places, _MOST_PIECES)
    lengths = directory.numbers(_PLACES[places], _MOST_PIECES)
    if len(offsets) != len(lengths):
        raise BadTags("places and lengths of its strips do not fit")
    for offset, length in zip(offsets, lengths, strict=True):
        left -= length
        if left < 0:
            raise BadTags("its strips are more than the file")
        for at in range(offset, offset + length, _CHUNK_BYTES):
            wanted = min(_CHUNK_BYTES, offset + length - at)
            data = read(at, wanted)
            if len(data) < wanted:
                raise BadTags("a strip reaches beyond the file")
            sha.update(data)
    return left
