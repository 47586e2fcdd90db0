"""Directories of tags: of TIFF files (also BigTIFF) and of EXIF blocks, which are built alike.

Invariants:
- Pure, and bounded: directories, entries and values have limits, and no directory is read twice.
- Every place is checked against the size of the file; what does not fit is ``BadTags``.

Source: TIFF 6, BigTIFF, EXIF 2.32.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, Literal

Read = Callable[[int, int], bytes]
MOST_DIRECTORIES: Final = 500
MOST_ENTRIES: Final = 4096
ORIENTATION: Final = 0x0112
_SIZES: Final = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
"""Type -> bytes of one value."""
_POINTERS: Final[dict[int, Literal["tags", "gps"]]] = {
    0x8769: "tags", 0x8825: "gps", 0xA005: "tags", 0x014A: "tags",
}  # fmt: skip


class BadTags(ValueError):
    """A directory cannot be read; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """Where the value of a tag stands."""

    type: int
    count: int
    offset: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Directory:
    """One directory."""

    kind: Literal["tags", "gps"]
    tags: dict[int, Entry]
    read: Read
    order: Literal["little", "big"]

    def value(self, tag: int, most: int) -> bytes:
        """The bytes of a value.

        Raises:
            BadTags: it is longer than ``most``, of an unknown type, or not all there.
        """
        entry = self.tags[tag]
        size = _SIZES.get(entry.type, 0) * entry.count
        if size > most or (entry.count and not size):
            raise BadTags(f"the value of tag {tag:#06x} is too long or of an unknown type")
        found = self.read(entry.offset, size)
        if len(found) < size:
            raise BadTags(f"the value of tag {tag:#06x} reaches beyond the file")
        return found

    def numbers(self, tag: int, most: int = 64) -> list[int]:
        """Whole numbers of a value."""
        width = _SIZES.get(self.tags[tag].type, 0)
        data = self.value(tag, most * 8)
        return [int.from_bytes(data[at : at + width], self.order) for at in range(0, len(data), width or 1)]


def directories_of(read: Read, size: int) -> Iterator[Directory]:
    """All directories of a file or block, following every pointer to others.

    Raises:
        BadTags: something is not as it must be.
    """
    head = read(0, 16)
    if head[:2] not in (b"II", b"MM"):
        raise BadTags("it does not begin as a TIFF file")
    order: Literal["little", "big"] = "little" if head[:2] == b"II" else "big"
    version = int.from_bytes(head[2:4], order)
    if version not in (42, 43):
        raise BadTags("it does not begin as a TIFF file")
    is_big = version == 43
    first = int.from_bytes(head[8:16] if is_big else head[4:8], order)
    waiting: list[tuple[int, Literal["tags", "gps"]]] = [(first, "tags")]
    seen: set[int] = set()
    while waiting:
        offset, kind = waiting.pop()
        if offset in seen:
            raise BadTags("directories point at each other")
        seen.add(offset)
        if len(seen) > MOST_DIRECTORIES:
            raise BadTags("there are too many directories")
        directory, following = _directory(read, size, offset, kind, order, is_big=is_big)
        yield directory
        if following and kind == "tags":
            waiting.append((following, "tags"))
        for tag, what in _POINTERS.items():
            if tag in directory.tags and kind == "tags":
                waiting += [(place, what) for place in directory.numbers(tag)]


def orientation_of(block: bytes) -> int:
    """EXIF orientation of a block, 1 to 8; 1 when it says none. Raises ``BadTags``."""
    first = next(directories_of(lambda offset, count: block[offset : offset + count], len(block)))
    if ORIENTATION not in first.tags:
        return 1
    found = first.numbers(ORIENTATION)[:1]
    return found[0] if found and 1 <= found[0] <= 8 else 1


def orientation_block(orientation: int) -> bytes:
    """An EXIF block (without its name) that says nothing but the orientation."""
    entry = ORIENTATION.to_bytes(2) + (3).to_bytes(2) + (1).to_bytes(4) + orientation.to_bytes(2) + b"\0\0"
    return b"MM\0*" + (8).to_bytes(4) + (1).to_bytes(2) + entry + b"\0\0\0\0"


def _directory(
    read: Read, size: int, offset: int, kind: Literal["tags", "gps"], order: Literal["little", "big"], *, is_big: bool
) -> tuple[Directory, int]:
    counted, length, inline, pointer = (8, 20, 8, 8) if is_big else (2, 12, 4, 4)
    if not 8 <= offset < size:
        raise BadTags("a directory lies beyond the file")
    count = int.from_bytes(read(offset, counted), order)
    if count > MOST_ENTRIES:
        raise BadTags("a directory has too many entries")
    data = read(offset + counted, count * length + pointer)
    if len(data) < count * length:
        raise BadTags("a directory reaches beyond the file")
    tags: dict[int, Entry] = {}
    for number in range(count):
        at = number * length
        tag, form = (int.from_bytes(data[at + skip : at + skip + 2], order) for skip in (0, 2))
        values = int.from_bytes(data[at + 4 : at + length - inline], order)
        is_inside = _SIZES.get(form, 0) * values <= inline
        place = int.from_bytes(data[at + length - inline : at + length], order)
        tags[tag] = Entry(
            type=form, count=values,
            offset=offset + counted + at + length - inline if is_inside else place,
        )  # fmt: skip
    following = int.from_bytes(data[count * length :], order)
    return Directory(kind=kind, tags=tags, read=read, order=order), following
