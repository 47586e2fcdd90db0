"""Darwin Core Archives, read as they are: streaming, driven by meta.xml, forgiving about form, strict about harm.

Yields one ``SourceRow`` per specimen with its media. What is odd but readable becomes a finding; what cannot be read
is one ``DwcaError``. Only Occurrence (or MaterialEntity) rows are specimens; in an archive whose core is an Event or
a Taxon they are taken from the Occurrence extension.

Media come from Simple Multimedia, from Audiovisual Core and from ``dwc:associatedMedia``; the same address with http
and https is one medium.

It leaves out: other extensions, the EML (its absence is no error).
"""

import codecs
import csv
import io
import re
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final

from linkeddata.archive_files import ArchiveFiles, open_files
from linkeddata.canon import digest_text
from linkeddata.dwca_meta import (
    AUDIOVISUAL,
    MATERIAL,
    OCCURRENCE,
    SIMPLE_MULTIMEDIA,
    ArchiveDescription,
    DwcaError,
    Table,
    describe_single,
    parse_meta,
)
from linkeddata.source import SourceMedia, SourceRow

MAX_LINE_CHARS: Final = 4_000_000
"""Longest line: a label text has thousands of characters; a file without line ends would fill the memory."""
_IMAGE_ENDINGS: Final = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp")
_IMAGE_TYPES: Final = ("", "stillimage", "image", "http://purl.org/dc/dcmitype/stillimage")
_HTTP = re.compile(r"https?://")

Note = Callable[[str, str, str], None]
"""(key, code, message): a finding."""


@dataclass(slots=True, kw_only=True)
class Archive:
    """An opened archive."""

    files: ArchiveFiles
    description: ArchiveDescription
    specimens: Table
    media_tables: tuple[Table, ...]
    spool: sqlite3.Connection
    """Temporary table of media rows by core id: memory stays flat whatever the archive holds."""
    ends_early: bool = False
    """Set while reading: the last row of a table is cut off."""
    rows_read: int = 0
    _used: set[str] = field(default_factory=set)

    def rows(self, source: str, *, key_columns: Sequence[str] = (), note: Note) -> Iterator[SourceRow]:
        """Every specimen. Ids that are empty or repeated are noted; such rows are left out."""
        self._spool_media(note)
        for number, (core_id, fields) in enumerate(self._read(self.specimens, note), start=1):
            self.rows_read = number
            key = _key(fields, core_id, key_columns)
            if not key:
                # Nothing is dropped: the row is known by its content until the institution gives it an id.
                key = "row:" + digest_text(dict(fields))[7:31]
                note(
                    key, "empty-id", f"row {number} of {self.specimens.location} has no id; any change makes it another"
                )
            media = self._media_of(core_id or key, fields)
            yield SourceRow(source=source, key=key, fields=fields, media=tuple(media))

    def orphan_media(self) -> int:
        """Media rows whose core id no specimen has; ask after reading."""
        return int(self.spool.execute("SELECT count(*) FROM media WHERE used = 0").fetchone()[0])

    def _spool_media(self, note: Note) -> None:
        for table in self.media_tables:
            batch = (
                (core_id or "", number, "\x1f".join(f"{term}\x1e{value}" for term, value in fields.items()))
                for number, (core_id, fields) in enumerate(self._read(table, note))
            )
            self.spool.executemany("INSERT INTO media (core, number, body) VALUES (?, ?, ?)", batch)
        self.spool.execute("CREATE INDEX IF NOT EXISTS media_core ON media (core)")

    def _media_of(self, core_id: str, fields: dict[str, str]) -> list[SourceMedia]:
        found: dict[str, SourceMedia] = {}
        rows = self.spool.execute("SELECT id, body FROM media WHERE core = ? ORDER BY id", (core_id,)).fetchall()
        if rows:
            self.spool.execute("UPDATE media SET used = 1 WHERE core = ?", (core_id,))
        for _, body in rows:
            terms = dict(part.split("\x1e", 1) for part in body.split("\x1f") if "\x1e" in part)
            medium = _medium(terms)
            if medium is not None:
                found.setdefault(medium.key, medium)
        for locator in split_associated_media(fields.get("dwc:associatedMedia", "")):
            key = media_key(locator)
            found.setdefault(key, SourceMedia(key=key, locator=locator))
        return list(found.values())

    def _read(self, table: Table, note: Note) -> Iterator[tuple[str | None, dict[str, str]]]:
        width, repaired, short = table.width, 0, 0
        last_is_short = ends_with_newline = False
        with self.files.open(table.location) as raw:
            watched = _LastByte(raw)
            for cells in _cells(watched, table):
                last_is_short = len(cells) < width and len(cells) < max(2, width // 2)
                if len(cells) < width:
                    short += 1
                    cells = [*cells, *[""] * (width - len(cells))]
                cells, fixed = _repair(cells)
                repaired += fixed
                fields: dict[str, str] = {}
                for column in table.columns:
                    value = "" if column.index is None else cells[column.index].strip()
                    if not value and column.default is not None:
                        value = column.default
                    if value:
                        fields[column.term] = value
                core_id = cells[table.id_index].strip() if table.id_index is not None else None
                yield core_id, fields
            ends_with_newline = watched.last in (b"\n", b"\r", b"")
        if last_is_short and not ends_with_newline:
            self.ends_early = True
            note("", "ends-early", f"{table.location} ends in the middle of a row")
        elif short:
            note("", "short-rows", f"{short} rows of {table.location} have fewer cells than meta.xml says")
        if repaired:
            note(
                "",
                "encoding-repaired",
                f"{repaired} rows of {table.location} are not {table.encoding}: read as windows-1252",
            )


@contextmanager
def open_archive(path: Path) -> Iterator[Archive]:
    """Opens an archive.

    Raises:
        DwcaError: it cannot be read; one clear line.
    """
    with open_files(path) as files:
        description = _describe(files, path)
        specimens = _specimen_table(description)
        for table in (specimens, *description.extensions):
            if table.location not in files.names and table.row_type in (
                specimens.row_type, SIMPLE_MULTIMEDIA, AUDIOVISUAL,
            ):  # fmt: skip
                raise DwcaError(f"meta.xml names {table.location}, which is not in the archive")
            _check_encoding(table)
        media = tuple(item for item in description.extensions if item.row_type in (SIMPLE_MULTIMEDIA, AUDIOVISUAL))
        spool = sqlite3.connect("")  # a temporary file that SQLite removes itself
        try:
            spool.execute(
                "CREATE TABLE media (id INTEGER PRIMARY KEY, core TEXT, number INTEGER, body TEXT,"
                " used INTEGER NOT NULL DEFAULT 0)"
            )
            yield Archive(files=files, description=description, specimens=specimens, media_tables=media, spool=spool)
        finally:
            spool.close()


def media_key(locator: str) -> str:
    """What makes two media rows the same exposure: the address without its scheme."""
    return _HTTP.sub("", locator.strip())


def split_associated_media(text: str) -> list[str]:
    """Addresses in ``dwc:associatedMedia``: separated by |, or by ; or , where an address follows."""
    if not text.strip():
        return []
    return [part.strip() for part in re.split(r"\s*\|\s*|\s*[;,]\s*(?=https?://|$)", text) if part.strip()]


def _describe(files: ArchiveFiles, path: Path) -> ArchiveDescription:
    if "meta.xml" in files.names:
        with files.open("meta.xml") as stream:
            return parse_meta(stream.read(2_000_000))
    candidates = sorted(name for name in files.names if not name.lower().endswith((".xml", ".md", *_IMAGE_ENDINGS)))
    if len(candidates) != 1:
        listing = ", ".join(candidates[:4]) or "none"
        raise DwcaError(f"{path.name} has no meta.xml, so it must hold exactly one table; found: {listing}")
    with files.open(candidates[0]) as stream:
        first = io.TextIOWrapper(stream, "utf-8-sig", errors="replace", newline="").readline(MAX_LINE_CHARS)
    delimiter = max("\t,;|", key=first.count)
    header = next(csv.reader([first], delimiter=delimiter), [])
    return describe_single(candidates[0], header, delimiter=delimiter, quote='"', encoding="UTF-8")


def _specimen_table(description: ArchiveDescription) -> Table:
    for table in (description.core, *description.extensions):
        if table.row_type in (OCCURRENCE, MATERIAL):
            return table
    kind = description.core.row_type.rsplit("/", 1)[-1]
    raise DwcaError(f"the core is {kind} and there is no Occurrence extension: the archive holds no specimens")


def _check_encoding(table: Table) -> None:
    try:
        codecs.lookup(table.encoding)
    except LookupError as error:
        raise DwcaError(f"meta.xml names an encoding that does not exist: {table.encoding[:40]!r}") from error


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
            self.last = data[-1:]
        return len(data)


def _cells(raw: io.RawIOBase, table: Table) -> Iterator[list[str]]:
    encoding = "utf-8-sig" if table.encoding.lower().replace("-", "") == "utf8" else table.encoding
    text = io.TextIOWrapper(io.BufferedReader(raw), encoding, errors="surrogateescape", newline="")
    lines = _lines(text)
    for _ in range(table.header_lines):
        next(lines, None)
    if table.quote:
        reader = csv.reader(_strip_nul(lines), delimiter=table.delimiter, quotechar=table.quote)
        try:
            for cells in reader:
                if cells:
                    yield cells
        except csv.Error as error:
            raise DwcaError(f"{table.location}, line {reader.line_num}: {error}") from error
    else:
        for line in lines:
            stripped = line.rstrip("\r\n")
            if stripped:
                yield stripped.split(table.delimiter)


def _lines(text: io.TextIOWrapper) -> Iterator[str]:
    while line := text.readline(MAX_LINE_CHARS):
        if len(line) >= MAX_LINE_CHARS:
            raise DwcaError(f"a line has more than {MAX_LINE_CHARS} characters: is this a table?")
        yield line


def _strip_nul(lines: Iterator[str]) -> Iterator[str]:
    for line in lines:
        yield line.replace("\0", "") if "\0" in line else line


def _repair(cells: list[str]) -> tuple[list[str], bool]:
    """Cells with bytes that are not in the stated encoding, read as windows-1252 instead."""
    if all(cell.isascii() or not any("\udc80" <= char <= "\udcff" for char in cell) for cell in cells):
        return cells, False
    return [cell.encode("utf-8", "surrogateescape").decode("cp1252", "replace") for cell in cells], True


def _key(fields: dict[str, str], core_id: str | None, key_columns: Sequence[str]) -> str:
    if key_columns:
        parts = [fields.get(column if ":" in column else f"dwc:{column}", "") for column in key_columns]
        return "|".join(parts) if any(parts) else ""
    if fields.get("dwc:occurrenceID"):
        return fields["dwc:occurrenceID"]
    triplet = [fields.get(f"dwc:{name}", "") for name in ("institutionCode", "collectionCode", "catalogNumber")]
    if triplet[2]:
        return "|".join(triplet)
    return core_id or ""


def _medium(terms: dict[str, str]) -> SourceMedia | None:
    locator = terms.get("ac:accessURI") or terms.get("dcterms:identifier") or ""
    kind = (terms.get("dcterms:type") or "").strip().lower()
    if not locator or kind not in _IMAGE_TYPES:
        return None
    used = ("ac:accessURI", "dcterms:identifier", "dcterms:format", "dcterms:title", "dcterms:license",
            "dcterms:rightsHolder", "dcterms:type")  # fmt: skip
    return SourceMedia(
        key=media_key(locator),
        locator=locator,
        format=terms.get("dcterms:format", ""),
        title=terms.get("dcterms:title", ""),
        licence=terms.get("dcterms:license") or terms.get("xmpRights:UsageTerms") or terms.get("dcterms:rights") or "",
        rights_holder=terms.get("dcterms:rightsHolder", ""),
        fields={term: value for term, value in terms.items() if term not in used},
    )
