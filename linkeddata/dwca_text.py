"""The cells of one table of an archive, as exports really write them.

Invariants:
- Streaming: at most one row is held, and a row has a limit.
- A line ends at ``\\n`` (or at ``\\r`` in a file that has no ``\\n``), nowhere else:
  U+0085, U+2028 and a stray ``\\r`` inside a value cut nothing.
- A byte that is not in the stated encoding repairs its own cell only, as windows-1252.
- How the file ended is known afterwards: inside quotes or in the middle of its last row means that it was cut off.

It leaves out: what the columns mean (``linkeddata.dwca``).
"""

import csv
import io
import re
from collections.abc import Iterator
from typing import IO, Final

from linkeddata.dwca_meta import DwcaError, Table

MAX_ROW_CHARS: Final = 4_000_000
"""Longest line and longest value: a label text has thousands of characters, a footprint may have a million;
a file without line ends would fill the memory."""
_STRAY_CR: Final = re.compile(r"\r(?!\n?\Z)")


class TableReader:
    """Reads one table; iterate once, then ask how it went."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self.short_rows = 0
        """Rows with fewer cells than meta.xml says; they are filled up with empty ones."""
        self.repaired_rows = 0
        """Rows with bytes outside the stated encoding."""
        self.blank_rows = 0
        """Rows without any value; they are left out."""
        self.ends_early = ""
        """Why the file must have been cut off; empty when it was not."""
        self._header_width = 0
        self._open_quote = False

    def read(self, raw: IO[bytes]) -> Iterator[list[str]]:
        """Every row, filled up to the width that meta.xml says.

        Raises:
            DwcaError: this is not a table in this encoding.
        """
        watched = _LastByte(raw)
        width, last_width = self._table.width, -1
        try:
            for cells in self._cells(watched):
                if not any(cell.strip() for cell in cells):
                    self.blank_rows += 1
                    continue
                last_width = len(cells)
                if last_width < width:
                    self.short_rows += 1
                    cells = [*cells, *[""] * (width - last_width)]
                yield self._repair(cells)
        except (UnicodeError, LookupError) as error:
            raise DwcaError(f"{self._table.location} is not text in {self._table.encoding[:40]}: {error}") from error
        if self._open_quote:
            self.ends_early = "its last value is never closed by a quote"
        elif last_width >= 0 and watched.last not in (b"\n", b"\r") and self._is_cut(last_width):
            self.ends_early = "its last row is cut off"

    def _is_cut(self, last_width: int) -> bool:
        """Whether a last row of so many cells, without a line end, is a cut one (and not just written short)."""
        width = self._table.width
        if last_width < max(2, width // 2) and last_width < width:
            return True
        others_are_short = self.short_rows > int(last_width < width)
        return not others_are_short and last_width < max(width, self._header_width)

    def _cells(self, raw: io.RawIOBase) -> Iterator[list[str]]:
        table = self._table
        encoding = "utf-8-sig" if table.encoding.lower().replace("-", "").replace("_", "") == "utf8" else table.encoding
        buffered = io.BufferedReader(raw, 1 << 16)
        head = buffered.peek(1 << 16)
        newline = "\r" if b"\n" not in head and b"\r" in head[:-1] else "\n"
        lines = _Lines(io.TextIOWrapper(buffered, encoding, errors="surrogateescape", newline=newline))
        rows = self._quoted(lines) if table.quote else self._plain(lines)
        for number, cells in enumerate(rows):
            if number < table.header_lines:
                self._header_width = len(cells)
            else:
                yield cells

    def _plain(self, lines: "_Lines") -> Iterator[list[str]]:
        for line in lines:
            yield line.rstrip("\r\n").split(self._table.delimiter)

    def _quoted(self, lines: "_Lines") -> Iterator[list[str]]:
        csv.field_size_limit(MAX_ROW_CHARS)  # the library's own limit (128 KiB) is shorter than real footprints
        reader = csv.reader(
            (_STRAY_CR.sub(" ", line) for line in lines), delimiter=self._table.delimiter, quotechar=self._table.quote
        )
        try:
            for cells in reader:
                # The reader asks for a further line only while a quote is open: a row that comes after the last line
                # was asked for in vain is one whose quote was never closed.
                self._open_quote = lines.is_exhausted
                yield cells
        except csv.Error as error:
            raise DwcaError(f"{self._table.location}, line {reader.line_num}: {error}") from error

    def _repair(self, cells: list[str]) -> list[str]:
        if "".join(cells).isascii() or not any(map(_is_broken, cells)):
            return cells
        self.repaired_rows += 1
        return [
            cell.encode("utf-8", "surrogateescape").decode("cp1252", "replace") if _is_broken(cell) else cell
            for cell in cells
        ]


class _Lines:
    """Lines with a limit; knows when there are no more."""

    def __init__(self, text: io.TextIOWrapper) -> None:
        self._text = text
        self.is_exhausted = False

    def __iter__(self) -> Iterator[str]:
        while line := self._text.readline(MAX_ROW_CHARS):
            if len(line) >= MAX_ROW_CHARS:
                raise DwcaError(f"a line has more than {MAX_ROW_CHARS} characters: is this a table?")
            yield line.replace("\0", "") if "\0" in line else line
        self.is_exhausted = True


class _LastByte(io.RawIOBase):
    """A stream that remembers its last byte, so that a cut-off file can be told from one without a final newline."""

    def __init__(self, raw: IO[bytes]) -> None:
        self._raw = raw
        self.last = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "memoryview[int]") -> int:  # type: ignore[override]
        data = self._raw.read(len(buffer))
        buffer[: len(data)] = data  # type: ignore[assignment, unused-ignore]
        if data:
            self.last = data.rstrip(b"\0")[-1:] or data[-1:]  # UTF-16 ends its lines with 0A 00
        return len(data)


def _is_broken(text: str) -> bool:
    return any("\udc80" <= char <= "\udcff" for char in text)
