"""An opened blob, and the place where it was found, by which it can be opened again."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from cas.errors import BlobChanged
from cas.ids import ContentId


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobPlace:
    """One file that holds a blob, and what it is recognised by."""

    id: ContentId
    size: int
    open_fd: Callable[[], int]
    """Opens the file; ``OSError`` or ``BlobRefused`` when it is not there any more."""
    is_same: Callable[[os.stat_result], bool]
    volume: str = ""
    """Name of the volume it lies in; empty: owned."""
    relpath: str = ""
    """Its path in the volume; empty when it is owned."""

    def open(self) -> "BlobReader":
        """Opens the file if it is still the one that was indexed; no index is asked.

        Raises:
            OSError, BlobRefused, BlobChanged: it is not.
        """
        reader = BlobReader(self, self.open_fd())
        try:
            reader.check_unchanged()
        except BaseException:
            reader.close()
            raise
        return reader


class BlobReader:
    """An opened blob whose identity was checked; a context manager.

    A file that is overwritten in place keeps its descriptor, so a reader that must not pass on other bytes asks
    ``check_unchanged`` after its last read.
    """

    def __init__(self, place: BlobPlace, fd: int) -> None:
        self.place = place
        self.fd = fd

    @property
    def id(self) -> ContentId:
        """The blob that was asked for."""
        return self.place.id

    @property
    def size(self) -> int:
        """Bytes of the whole."""
        return self.place.size

    def pread(self, offset: int, length: int) -> bytes:
        """Up to ``length`` bytes from ``offset``; shorter only at the end."""
        first = os.pread(self.fd, length, offset)
        if len(first) == length or not first:
            return first
        parts = [first]
        offset, length = offset + len(first), length - len(first)
        while length > 0 and (part := os.pread(self.fd, length, offset)):
            parts.append(part)
            offset += len(part)
            length -= len(part)
        return b"".join(parts)

    def pread_at_once(self, offset: int, length: int) -> bytearray | None:
        """Exactly these bytes if they lie in memory; None when reading them would wait, might wait, or fails.

        Only filesystems that promise it (local ones) are ever read this way: on a network drive the answer is None.
        """
        found = bytearray(length)
        try:
            count = os.preadv(self.fd, [found], offset, os.RWF_NOWAIT) if length else 0
        except OSError:
            return None
        return found if count == length else None

    def is_unchanged(self) -> bool:
        """Whether the file is still what was indexed, as far as its inode says."""
        return self.place.is_same(os.fstat(self.fd))

    def check_unchanged(self) -> None:
        """Raises ``BlobChanged`` when the file was written to since it was indexed."""
        if not self.is_unchanged():
            raise BlobChanged("the file was changed after it was indexed")

    def close(self) -> None:
        """Gives the descriptor back; safe to repeat."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
