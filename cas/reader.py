"""An opened blob, and what remembers by what its file was recognised."""

import os
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from cas.errors import BlobChanged
from cas.ids import ContentId


class BlobReader:
    """An opened blob whose identity was checked; a context manager.

    A file that is overwritten in place keeps its descriptor, so a reader that must not pass on other bytes asks
    ``check_unchanged`` after its last read.
    """

    def __init__(
        self, cid: ContentId, fd: int, size: int, path: Path, *, is_same: Callable[[os.stat_result], bool]
    ) -> None:
        self.id = cid
        self.fd = fd
        self.size = size
        self.path = path
        self._is_same = is_same

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

    def check_unchanged(self) -> None:
        """Raises ``BlobChanged`` when the file was written to since it was indexed."""
        if not self._is_same(os.fstat(self.fd)):
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
