"""Reading tiles out of a pyramid without an image library: an index of offsets, one ``pread`` per tile.

A pyramid is a TIFF that ``runners.libvips`` wrote: one page per level, JPEG tiles whose tables stand once per page. A
tile is answered as those tables and the tile's own bytes, which together are a JPEG file. To the right and below, the
picture is continued by its last pixels, so that every level is exactly half of the one before, and no edge of the
picture falls into a block of JPEG, which would blur it. Small pictures are kept as one page without loss.

Invariants:
- Every offset and length is compared with the size of the file before it is used; nothing is believed because the node
  wrote it, since the process that wrote it had a stranger's file in its hands.
- The index is bounded: so many levels, entries and tiles as the size of the picture asks for, not more.
- A file that is not exactly what was expected is ``PyramidDamaged``; whoever asked makes it anew.
- The descriptor lives as long as somebody holds the object, so an evicted file can still be read to its end.

It leaves out: decoding, and every kind of TIFF but this one.
"""

import os
import struct
import sys
from array import array
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from linkeddata.iiif_image import level_sizes

SMALL_PX: Final = 1024
"""Up to here on both sides no pyramid is worth it."""
_BLOCK_PX: Final = 16
"""JPEG with halved colours works in blocks of so many pixels."""
_MOST_TAGS: Final = 64
_MOST_TABLE_BYTES: Final = 65_536
_TYPES: Final = {3: (2, "H"), 4: (4, "I"), 16: (8, "Q")}
"""TIFF types of whole numbers: SHORT, LONG and LONG8."""
_WIDTH, _HEIGHT, _COMPRESSION, _TILE_WIDTH, _TILE_HEIGHT, _OFFSETS, _COUNTS, _TABLES = (
    256, 257, 259, 322, 323, 324, 325, 347,
)  # fmt: skip
JPEG: Final = 7
DEFLATE: Final = (8, 32946)


class PyramidDamaged(Exception):
    """The file is not the pyramid that was expected."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """One page: a picture cut into tiles."""

    width: int
    height: int
    columns: int
    offsets: "array[int]"
    counts: "array[int]"
    tables: bytes
    """The head of every tile; empty where tiles are not JPEG."""


class PyramidFile:
    """An opened pyramid; thread-safe, as it only uses ``pread``."""

    def __init__(self, fd: int, *, tile_px: int, levels: list[Level], size: int) -> None:
        self.fd = fd
        self.tile_px = tile_px
        self.levels = levels
        self.size = size
        """Bytes of the file."""

    @classmethod
    def open(cls, path: Path, *, width: int, height: int, tile_px: int) -> Self:
        """Opens what must be the pyramid of a picture of this size, with such tiles.

        Raises:
            OSError: it is not there, or the disk failed.
            PyramidDamaged: it is something else.
        """
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            size = os.fstat(fd).st_size
            levels = read_index(fd, size, tile_px=tile_px, sizes=page_sizes(width, height, tile_px))
            return cls(fd, tile_px=tile_px, levels=levels, size=size)
        except BaseException:
            os.close(fd)
            raise

    @property
    def has_jpeg_tiles(self) -> bool:
        """Whether ``tile`` gives JPEG files."""
        return bool(self.levels[0].tables)

    def tile(self, level: int, column: int, row: int, *, at_once: bool = False) -> bytes | None:
        """The tile as a JPEG file.

        Args:
            level: 0 is the whole picture.
            column: from the left.
            row: from the top.
            at_once: answer None rather than wait for the disk.

        Raises:
            PyramidDamaged: it is no JPEG.
            OSError: the disk failed.
        """
        page = self.levels[level]
        number = row * page.columns + column
        offset, count = page.offsets[number], page.counts[number]
        head = len(page.tables) - 2
        out = bytearray(head + count - 2)
        # The tile's own first two bytes (start of image) are read onto the last two of the tables (end of image).
        out[:head] = page.tables[:head]
        view = memoryview(out)[head:]
        try:
            got = os.preadv(self.fd, [view], offset + 2, os.RWF_NOWAIT if at_once else 0)
        except BlockingIOError:
            return None
        except OSError:
            if at_once:
                return None  # a file system that does not say "not in memory"
            raise
        if got != count - 2:
            if at_once:
                return None
            raise PyramidDamaged("a tile ends early")
        if out[-2:] != b"\xff\xd9":
            raise PyramidDamaged("a tile is no JPEG")
        return bytes(out)

    def __del__(self) -> None:
        fd, self.fd = getattr(self, "fd", -1), -1
        if fd >= 0:
            os.close(fd)


def page_sizes(width: int, height: int, tile_px: int) -> list[tuple[int, int]]:
    """The sizes of the pages that a picture is kept in, continued to the right and below."""
    if max(width, height) <= SMALL_PX:
        return [(-(-width // tile_px) * tile_px, -(-height // tile_px) * tile_px)]
    count = len(level_sizes(width, height, tile_px))
    step = _BLOCK_PX << (count - 1)
    width, height = -(-width // step) * step, -(-height // step) * step
    return [(width >> level, height >> level) for level in range(count)]


def read_index(fd: int, size: int, *, tile_px: int, sizes: list[tuple[int, int]]) -> list[Level]:
    """The pages of the file, which must have these sizes; see ``PyramidFile.open``."""
    magic = _read(fd, 0, 4, size)
    if magic == b"II*\0":
        reader, first = _Classic(fd, size), struct.unpack("<I", _read(fd, 4, 4, size))[0]
    elif magic == b"II+\0":
        reader, first = _Big(fd, size), struct.unpack("<Q", _read(fd, 8, 8, size))[0]
    else:
        raise PyramidDamaged("not a TIFF in little-endian order")
    levels: list[Level] = []
    at = first
    while at:
        if len(levels) == len(sizes):
            raise PyramidDamaged("more levels than the picture can have")
        tags, at = reader.directory(at)
        levels.append(_level(reader, tags, tile_px, sizes[len(levels)]))
    if len(levels) != len(sizes):
        raise PyramidDamaged(f"{len(levels)} levels where {len(sizes)} are expected")
    return levels


class _Classic:
    """Directories of a TIFF with 32-bit offsets."""

    entry, count_size, inline, head = "<HHI", 2, 4, "<H"

    def __init__(self, fd: int, size: int) -> None:
        self.fd, self.size = fd, size

    def directory(self, at: int) -> tuple[dict[int, tuple[int, int, bytes]], int]:
        """(tag -> type, count, the bytes of value or offset), and where the next directory is."""
        (count,) = struct.unpack(self.head, _read(self.fd, at, self.count_size, self.size))
        if not 0 < count <= _MOST_TAGS:
            raise PyramidDamaged(f"a directory with {count} entries")
        width = struct.calcsize(self.entry) + self.inline
        data = _read(self.fd, at + self.count_size, count * width + self.inline, self.size)
        tags: dict[int, tuple[int, int, bytes]] = {}
        for number in range(count):
            part = data[number * width : (number + 1) * width]
            tag, kind, length = struct.unpack_from(self.entry, part)
            tags[tag] = (kind, length, part[-self.inline :])
        following = int.from_bytes(data[-self.inline :], "little")
        return tags, following

    def numbers(self, entry: tuple[int, int, bytes] | None, expected: int) -> "array[int]":
        """The whole numbers of an entry, which must be so many."""
        if entry is None or entry[0] not in _TYPES or entry[1] != expected:
            raise PyramidDamaged("an entry is missing, or of another kind than expected")
        width, code = _TYPES[entry[0]]
        found: array[int] = array(code)
        if found.itemsize != width:  # pragma: no cover - no such machine is known
            raise PyramidDamaged("this machine has other integers")
        found.frombytes(self.bytes_of(entry, width * expected))
        if sys.byteorder == "big":  # pragma: no cover
            found.byteswap()
        return found

    def bytes_of(self, entry: tuple[int, int, bytes], length: int) -> bytes:
        """The bytes of an entry's value."""
        if length <= self.inline:
            return entry[2][:length]
        return _read(self.fd, int.from_bytes(entry[2], "little"), length, self.size)


class _Big(_Classic):
    """The same with 64-bit offsets."""

    entry, count_size, inline, head = "<HHQ", 8, 8, "<Q"


def _level(reader: _Classic, tags: dict[int, tuple[int, int, bytes]], tile_px: int, size: tuple[int, int]) -> Level:
    def one(tag: int) -> int:
        return reader.numbers(tags.get(tag), 1)[0]

    if (one(_WIDTH), one(_HEIGHT)) != size or (one(_TILE_WIDTH), one(_TILE_HEIGHT)) != (tile_px, tile_px):
        raise PyramidDamaged("a level of another size than expected")
    columns, rows = -(-size[0] // tile_px), -(-size[1] // tile_px)
    offsets = reader.numbers(tags.get(_OFFSETS), columns * rows)
    counts = reader.numbers(tags.get(_COUNTS), columns * rows)
    for offset, count in zip(offsets, counts, strict=True):
        if count < 4 or offset + count > reader.size:
            raise PyramidDamaged("a tile lies outside of the file")
    compression = one(_COMPRESSION)
    if compression in DEFLATE:
        return Level(width=size[0], height=size[1], columns=columns, offsets=offsets, counts=counts, tables=b"")
    entry = tags.get(_TABLES)
    if compression != JPEG or entry is None or not 4 <= entry[1] <= _MOST_TABLE_BYTES:
        raise PyramidDamaged("tiles of another kind than expected")
    tables = reader.bytes_of(entry, entry[1])
    if tables[:2] != b"\xff\xd8" or tables[-2:] != b"\xff\xd9":
        raise PyramidDamaged("the tables are no JPEG")
    return Level(width=size[0], height=size[1], columns=columns, offsets=offsets, counts=counts, tables=tables)


def _read(fd: int, at: int, length: int, size: int) -> bytes:
    if at < 0 or at + length > size:
        raise PyramidDamaged("an offset lies outside of the file")
    data = os.pread(fd, length, at)
    if len(data) != length:
        raise PyramidDamaged("the file is shorter than it was")
    return data
