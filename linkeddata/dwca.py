"""Darwin Core Archives, read as they are: streaming, driven by meta.xml, forgiving about form, strict about harm.

Yields one ``SourceRow`` per specimen with its media. What is odd but readable becomes a finding; what cannot be read
is one ``DwcaError``. Only Occurrence (or MaterialEntity) rows are specimens; in an archive whose core is an Event or
a Taxon they are taken from the Occurrence extension, and inherit what the core row says and they do not.

Media come from Simple Multimedia, from Audiovisual Core and from ``dwc:associatedMedia``
(``linkeddata.dwca_media``); those of an event are media of each of its specimens, unless they name one.

Memory stays flat whatever an archive holds: rows that must be found by their core id wait in a temporary SQLite file,
and extensions that nobody asks for are never opened.

It leaves out: other extensions; the EML beyond its title.
"""

import codecs
import csv
import io
import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from linkeddata.archive_files import ArchiveFiles, open_files
from linkeddata.canon import digest_text
from linkeddata.dwca_media import (
    ARCHIVAL_MASTER,
    OF_MEDIA,
    is_medium,
    merge_media,
    pair_masters,
    read_medium,
    read_named_media,
)
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
from linkeddata.dwca_text import MAX_ROW_CHARS, TableReader
from linkeddata.source import SourceMedia, SourceRow
from linkeddata.spool import open_spool

_NOT_TABLES: Final = (".xml", ".md", ".pdf", ".html", ".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp")
_REFERS: Final = ("dwc:occurrenceID", "ac:associatedSpecimenReference")
"""Terms of a media row of an event that say which of its specimens is meant."""
_USED_AT_ONCE: Final = 1000
_SPOOL: Final = """
CREATE TABLE media (id INTEGER PRIMARY KEY, core TEXT, body TEXT, used INTEGER NOT NULL DEFAULT 0);
CREATE TABLE core_row (core TEXT PRIMARY KEY, body TEXT);
"""

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
    ends_early: bool = False
    """Set while reading: a table that was read is cut off."""
    rows_read: int = 0
    _used: list[int] = field(default_factory=list)
    """Media rows that specimens have, not yet marked."""

    def rows(self, source: str, *, key_columns: Sequence[str] = (), note: Note) -> Iterator[SourceRow]:
        """Every specimen, once. A row without an id is noted and kept under its content; repeated ids are not noticed.

        Raises:
            DwcaError: a table cannot be read.
        """
        self._spool_media(note)
        is_core = self.specimens is self.description.core
        of_media = [column.term for column in self.specimens.columns if column.term.startswith(OF_MEDIA)]
        if not is_core:
            self._spool_core(note)
        for number, (core_id, own) in enumerate(self._read(self.specimens, note), start=1):
            self.rows_read = number
            fields = own if is_core else {**self._core_of(core_id), **own}
            key = row_key(fields, core_id if is_core else None, key_columns)
            if not key:
                # Nothing is dropped: the row is known by its content until the institution gives it an id.
                key = "row:" + digest_text(dict(fields))[7:31]
                note(
                    key, "empty-id", f"row {number} of {self.specimens.location} has no id; any change makes it another"
                )
            media = self._media_of(core_id or key, fields, is_core=is_core)
            for term in of_media:
                fields.pop(term, None)
            yield SourceRow(source=source, key=key, fields=fields, media=media)

    def orphan_media(self) -> int:
        """Media rows whose core id no specimen has; ask after reading."""
        self._mark_used()
        return int(self.spool.execute("SELECT count(*) FROM media WHERE used = 0").fetchone()[0])

    def _spool_media(self, note: Note) -> None:
        for table in self.media_tables:
            self.spool.executemany("INSERT INTO media (core, body) VALUES (?, ?)", self._image_rows(table, note))
        self.spool.execute("CREATE INDEX media_core ON media (core)")

    def _image_rows(self, table: Table, note: Note) -> Iterator[tuple[str, str]]:
        skipped = 0
        for core_id, terms in self._read(table, note):
            if is_medium(terms):
                yield core_id or "", json.dumps(terms)
            else:
                skipped += 1
        if skipped:
            note("", "media-not-image", f"{skipped} rows of {table.location} are no images or have no address")

    def _mark_used(self) -> None:
        self.spool.executemany("UPDATE media SET used = 1 WHERE id = ?", [(number,) for number in self._used])
        self._used.clear()

    def _spool_core(self, note: Note) -> None:
        rows = ((core_id or "", json.dumps(fields)) for core_id, fields in self._read(self.description.core, note))
        self.spool.executemany("INSERT OR IGNORE INTO core_row VALUES (?, ?)", rows)

    def _core_of(self, core_id: str | None) -> dict[str, str]:
        row = self.spool.execute("SELECT body FROM core_row WHERE core = ?", (core_id or "",)).fetchone()
        return json.loads(row[0]) if row else {}

    def _media_of(self, core_id: str, fields: dict[str, str], *, is_core: bool) -> tuple[SourceMedia, ...]:
        found: list[SourceMedia] = []
        rows: list[tuple[int, str]] = []
        if self.media_tables:
            rows = self.spool.execute("SELECT id, body FROM media WHERE core = ? ORDER BY id", (core_id,)).fetchall()
        for number, body in rows:
            terms: dict[str, str] = json.loads(body)
            named = next((terms[term] for term in _REFERS if terms.get(term)), "")
            if not is_core and named and named != fields.get("dwc:occurrenceID"):
                continue
            medium = read_medium(terms)
            if medium is not None:
                self._used.append(number)
                found.append(medium)
        if len(self._used) >= _USED_AT_ONCE:
            self._mark_used()
        found += pair_masters(fields.get(ARCHIVAL_MASTER, ""), read_named_media(fields))
        return merge_media(found)

    def _read(self, table: Table, note: Note) -> Iterator[tuple[str | None, dict[str, str]]]:
        reader = TableReader(table)
        columns = [(column.term, column.index, column.default) for column in table.columns]
        with self.files.open(table.location) as raw:
            for cells in reader.read(raw):
                fields: dict[str, str] = {}
                for term, index, default in columns:
                    value = "" if index is None else cells[index].strip()
                    if value:
                        fields[term] = value
                    elif default:
                        fields[term] = default
                yield (cells[table.id_index].strip() if table.id_index is not None else None), fields
        if reader.ends_early:
            self.ends_early = True
            note("", "ends-early", f"{table.location} was cut off: {reader.ends_early}")
        for count, code, text in (
            (0 if reader.ends_early else reader.short_rows, "short-rows", "have fewer cells than meta.xml says"),
            (reader.blank_rows, "blank-rows", "are blank and were left out"),
            (reader.repaired_rows, "encoding-repaired", f"are not {table.encoding}: read as windows-1252"),
        ):
            if count:
                note("", code, f"{count} rows of {table.location} {text}")


@contextmanager
def open_archive(path: Path) -> Iterator[Archive]:
    """Opens an archive.

    Raises:
        DwcaError: it cannot be read; one clear line.
    """
    with open_files(path) as files, read_archive(files, path) as archive:
        yield archive


@contextmanager
def read_archive(files: ArchiveFiles, path: Path) -> Iterator[Archive]:
    """An archive whose files are open.

    Raises:
        DwcaError: it cannot be read; one clear line.
    """
    description = _describe(files, path)
    specimens = _specimen_table(description)
    media = tuple(item for item in description.extensions if item.row_type in (SIMPLE_MULTIMEDIA, AUDIOVISUAL))
    for table in {specimens.location: specimens, description.core.location: description.core,
                  **{item.location: item for item in media}}.values():  # fmt: skip
        if table.location not in files.names:
            raise DwcaError(f"meta.xml names {table.location}, which is not in the archive")
        _check_encoding(table)
    with read_tables(files, description, specimens, media) as archive:
        yield archive


@contextmanager
def read_tables(
    files: ArchiveFiles, description: ArchiveDescription, specimens: Table, media: tuple[Table, ...] = ()
) -> Iterator[Archive]:
    """An archive of tables that were described in some way.

    Raises:
        DwcaError: a table is in an encoding that does not exist.
    """
    _check_encoding(specimens)
    spool = open_spool()
    try:
        spool.executescript(_SPOOL)
        yield Archive(files=files, description=description, specimens=specimens, media_tables=media, spool=spool)
    finally:
        spool.close()


def _describe(files: ArchiveFiles, path: Path) -> ArchiveDescription:
    if "meta.xml" in files.names:
        with files.open("meta.xml") as stream:
            return parse_meta(stream.read(2_000_000))
    candidates = sorted(name for name in files.names if not name.lower().endswith(_NOT_TABLES))
    if len(candidates) != 1:
        listing = ", ".join(candidates[:4]) or "none"
        raise DwcaError(f"{path.name} has no meta.xml, so it must hold exactly one table; found: {listing}")
    with (
        files.open(candidates[0]) as stream,
        io.TextIOWrapper(stream, "utf-8-sig", errors="replace", newline="") as text,
    ):
        first = text.readline(MAX_ROW_CHARS)
    delimiter = max("\t,;|", key=first.count)
    header = _first_row(first, delimiter)
    return describe_single(candidates[0], header, delimiter=delimiter, quote='"', encoding="UTF-8")


def _first_row(line: str, delimiter: str) -> list[str]:
    try:
        return next(csv.reader([line], delimiter=delimiter), [])
    except csv.Error as error:
        raise DwcaError(f"the first line is no header: {error}") from error


def _specimen_table(description: ArchiveDescription) -> Table:
    for table in (description.core, *description.extensions):
        if table.row_type in (OCCURRENCE, MATERIAL):
            return table
    kind = description.core.row_type.rsplit("/", 1)[-1]
    raise DwcaError(f"the core is {kind} and there is no Occurrence extension: the archive holds no specimens")


def _check_encoding(table: Table) -> None:
    try:
        codecs.lookup(table.encoding)
    except (LookupError, ValueError) as error:
        raise DwcaError(f"an encoding is named that does not exist: {table.encoding[:40]!r}") from error


def row_key(fields: Mapping[str, str], core_id: str | None, key_columns: Iterable[str]) -> str:
    """What a row is known by: the chosen columns, else occurrenceID, else institution, collection and number, else the
    id of its core row; empty when it has none.
    """
    columns = [column if ":" in column else f"dwc:{column}" for column in key_columns]
    if columns:
        parts = [fields.get(column, "") for column in columns]
        return "|".join(parts) if any(parts) else ""
    if fields.get("dwc:occurrenceID"):
        return fields["dwc:occurrenceID"]
    triplet = [fields.get(f"dwc:{name}", "") for name in ("institutionCode", "collectionCode", "catalogNumber")]
    if triplet[2]:
        return "|".join(triplet)
    return core_id or ""
