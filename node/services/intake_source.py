"""Where rows and files come from: an archive, ABCD documents, a plain table with its mapping, or images; read once
into a spool.

The spool is a temporary SQLite database, so that memory stays flat and the archive is read once: the plan is made
from it, and the same rows are then applied.
"""

import hashlib
import json
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, Final

from linkeddata.abcd import ENDING, AbcdDocuments, find_documents
from linkeddata.archive_files import ArchiveFiles, FolderFiles, open_files
from linkeddata.dwca import Archive, read_archive, read_tables
from linkeddata.dwca_meta import DwcaError
from linkeddata.eml import MAX_EML_BYTES, read_eml
from linkeddata.file_match import FileMatch, FileRule, is_image_name, match_file
from linkeddata.ingest_plan import Keys
from linkeddata.plain_tables import PlainFiles, is_plain_table, mapping_path, open_plain, read_mapping
from linkeddata.source import SourceMedia, SourceRow, media_of, row_of
from linkeddata.spool import open_spool

MAX_NOTES_PER_CODE: Final = 1000
"""Findings of one kind that are kept one by one; of more, only how many there are."""
_ROWS_AT_ONCE: Final = 500
BYTES_AT_ONCE: Final = 8_000_000
"""Of rows as received: a row may have 4 million characters, and memory has to hold those that are written together."""
UNCHANGED: Final = 0
CHANGED: Final = 1
NEW: Final = 2
_WITH_STATE: Final = "LEFT JOIN known k ON k.key = r.key"
_STATE: Final = "(CASE WHEN k.key IS NULL THEN 2 WHEN k.digest = r.digest THEN 0 ELSE 1 END)"
_TRIPLET: Final = ("dwc:institutionCode", "dwc:collectionCode", "dwc:catalogNumber")


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """Something noticed."""

    key: str
    code: str
    message: str


@dataclass(slots=True)
class Notes:
    """Everything noticed, bounded."""

    items: list[Note] = field(default_factory=list)
    _counts: Counter[str] = field(default_factory=Counter)

    def add(self, key: str, code: str, message: str) -> None:
        """Keeps one."""
        self._counts[code] += 1
        if self._counts[code] <= MAX_NOTES_PER_CODE:
            self.items.append(Note(key=key, code=code, message=message))

    def close(self) -> None:
        """Says how many were not kept."""
        for code, count in self._counts.items():
            if count > MAX_NOTES_PER_CODE:
                self.items.append(
                    Note(key="", code=code, message=f"and {count - MAX_NOTES_PER_CODE} more of this kind")
                )


@dataclass(frozen=True, slots=True)
class Standing:
    """A row that is as it was."""

    key: str
    catalog_number: str
    media: tuple[SourceMedia, ...]


@dataclass(slots=True, kw_only=True)
class Intake:
    """Everything one ingest reads."""

    source: str
    kind: str
    """``archive`` or ``images``."""
    root: Path | None
    """Folder whose files are adopted in place; None for a zip, whose images are copied into the store."""
    names: frozenset[str]
    """Image files, relative to the root (or inside the zip)."""
    spool: sqlite3.Connection
    notes: list[Note]
    ends_early: bool
    title: str = ""
    """Of the dataset, from its EML or its ABCD metadata; may be empty."""
    _files: ArchiveFiles

    def set_known(self, rows: Iterable[tuple[str, str]], media: Iterable[tuple[str, str]]) -> None:
        """What the node has of this source: (key, digest) of rows, (key, medium) of files of media.

        Everything below compares with it.
        """
        self.spool.executescript("DELETE FROM known; DELETE FROM known_medium;")
        self.spool.executemany("INSERT INTO known VALUES (?, ?)", rows)
        self.spool.executemany("INSERT INTO known_medium VALUES (?, ?)", media)

    def keys(self) -> Keys:
        """Keys of the first rows, by what they are against what is known."""
        by_state: dict[int, list[str]] = {NEW: [], CHANGED: [], UNCHANGED: []}
        for key, state in self.spool.execute(
            f"SELECT r.key, {_STATE} FROM row r {_WITH_STATE} WHERE r.is_first ORDER BY r.number"  # noqa: S608
        ):
            by_state[state].append(key)
        return Keys(new=by_state[NEW], changed=by_state[CHANGED], unchanged=by_state[UNCHANGED])

    def vanished_keys(self) -> list[str]:
        """Known rows that did not come."""
        return self._column("SELECT key FROM known k WHERE NOT EXISTS (SELECT 1 FROM row r WHERE r.key = k.key)")

    def duplicate_keys(self) -> list[str]:
        """Keys of rows that stood before in the archive, as often as they stand again."""
        return self._column("SELECT key FROM row WHERE NOT is_first ORDER BY number")

    def contents(self) -> str:
        """Digest of everything that came."""
        sha = hashlib.sha256()
        for key, digest in self.spool.execute("SELECT key, digest FROM row ORDER BY number"):
            sha.update(repr((key, digest)).encode())
        return sha.hexdigest()

    def vanished_media(self) -> tuple[list[str], int]:
        """Known media with a file that no row names, by the first such key, and how many are known."""
        keys = self._column(
            """SELECT min(key) FROM known_medium k WHERE NOT EXISTS (SELECT 1 FROM shows s WHERE s.media = k.key)
               GROUP BY medium ORDER BY 1"""
        )
        return keys, int(self.spool.execute("SELECT count(DISTINCT medium) FROM known_medium").fetchone()[0])

    def twins(self, keys: Iterable[str]) -> dict[str, str]:
        """Key -> what a row would be recognised by under another key."""
        return {
            key: self.spool.execute("SELECT twin FROM row WHERE key = ? AND is_first", (key,)).fetchone()[0]
            for key in keys
        }

    def _column(self, sql: str, *parameters: object) -> list[str]:
        return [row[0] for row in self.spool.execute(sql, parameters)]

    def rows_to_look_at(self, *, whole: bool = False) -> Iterator[tuple[SourceRow | Standing, int]]:
        """The first row of every key with what it is; of an unchanged one what is needed to look at its media.

        Of most rows of most exports nothing is to do, and reading them all would be most of the work. ``whole`` gives
        every row.
        """
        standing = "0" if whole else f"state = {UNCHANGED}"
        rows = self.spool.execute(
            f"""SELECT key, state, CASE WHEN {standing} THEN NULL ELSE body END, catalog, media
                FROM (SELECT r.number, r.key, r.body, r.catalog, r.media, {_STATE} AS state
                      FROM row r {_WITH_STATE} WHERE r.is_first) ORDER BY number"""  # noqa: S608 - constants
        )
        for key, state, body, number, media in rows:
            if body is not None:
                yield row_of(body), state
            else:
                yield Standing(key, number, media_of(media) if media else ()), state

    def rows(self) -> Iterator[SourceRow]:
        """The first row of every key, in the order of the archive."""
        for (body,) in self.spool.execute("SELECT body FROM row WHERE is_first ORDER BY number"):
            yield row_of(body)

    def row(self, key: str) -> SourceRow | None:
        """The first row with this key."""
        found = self.spool.execute("SELECT body FROM row WHERE key = ? AND is_first", (key,)).fetchone()
        return None if found is None else row_of(found[0])

    def specimens_of(self, media_key: str) -> list[str]:
        """Keys of all specimens that a medium shows, in the order of the archive."""
        found = self.spool.execute(
            "SELECT specimen FROM shows WHERE media = ? GROUP BY specimen ORDER BY min(rowid)", (media_key,)
        )
        return [key for (key,) in found]

    def duplicate_numbers(self) -> list[tuple[str, str]]:
        """(key, catalogue number) of rows that share institution, collection and number with one of another key."""
        found = self.spool.execute(
            """SELECT key, twin FROM row WHERE is_first AND twin IN
               (SELECT twin FROM row WHERE is_first AND twin <> '' GROUP BY twin HAVING count(*) > 1) ORDER BY number"""
        )
        return [(key, twin.rsplit("|", 1)[-1]) for key, twin in found]

    def locate(self, medium: SourceMedia, catalog_number: str, rules: tuple[FileRule, ...]) -> FileMatch:
        """Where the bytes of a medium are."""
        return match_file(medium.locator, catalog_number, rules=rules, names=self.names)

    def open_file(self, name: str) -> IO[bytes]:
        """A stream of an image in the folder or inside the zip.

        Raises:
            DwcaError: it must not be read.
        """
        return self._files.open(name)

    def size_of(self, name: str) -> int:
        """Bytes of an image."""
        return self._files.size_of(name)


def new_spool() -> sqlite3.Connection:
    """An empty spool: a temporary file that SQLite removes itself."""
    spool = open_spool()
    spool.executescript(
        """CREATE TABLE row (number INTEGER PRIMARY KEY, key TEXT, digest TEXT, twin TEXT, body BLOB,
             catalog TEXT, media TEXT, is_first INTEGER NOT NULL DEFAULT 1);
           CREATE TABLE shows (media TEXT, specimen TEXT, row INTEGER);
           CREATE TABLE known (key TEXT PRIMARY KEY, digest TEXT) WITHOUT ROWID;
           CREATE TABLE known_medium (key TEXT PRIMARY KEY, medium TEXT) WITHOUT ROWID;"""
    )
    return spool


@contextmanager
def open_intake(path: Path, source: str, *, key_columns: tuple[str, ...] = ()) -> Iterator[Intake]:
    """Reads an archive, or a folder of images, into a spool.

    Raises:
        DwcaError: it can be read as neither; one clear line.
    """
    spool = new_spool()
    notes = Notes()
    try:
        if path.is_dir() and not _holds_table(path):
            with open_files(path) as files:
                yield _read_images(path, files, source, spool, notes)
            return
        with _open_tables(path, notes) as archive:
            add_rows(spool, archive.rows(source, key_columns=key_columns, note=notes.add))
            orphans = archive.orphan_media()
            if orphans:
                notes.add("", "orphan-media-rows", f"{orphans} media rows belong to no specimen")
            title = _read_title(archive, notes)
            files = archive.files
            _finish(spool, files, notes)
            yield Intake(
                source=source, kind="archive", root=files.root if isinstance(files, FolderFiles) else None,
                names=frozenset(name for name in files.names if is_image_name(name)), spool=spool, notes=notes.items,
                ends_early=archive.ends_early, title=title, _files=files,
            )  # fmt: skip
    finally:
        spool.close()


@contextmanager
def _open_tables(path: Path, notes: Notes) -> Iterator[Archive | AbcdDocuments]:
    """An archive, ABCD documents, or a plain table with its mapping."""
    if path.is_file() and path.suffix.lower() == ENDING:
        yield AbcdDocuments(files=PlainFiles(path, None), names=(path.name,))
        return
    if not is_plain_table(path):
        with open_files(path) as files:
            documents = find_documents(files)
            if documents:
                yield AbcdDocuments(files=files, names=documents)
                return
            with read_archive(files, path) as archive:
                yield archive
        return
    with open_plain(path, read_mapping(path)) as (files, description, left_out):
        for name in left_out:
            notes.add("", "column-left-out", f"{name}: {mapping_path(path).name} gives it no term")
        with read_tables(files, description, description.core) as archive:
            yield archive


def _holds_table(path: Path) -> bool:
    inside = [item for item in path.iterdir() if item.is_dir()]
    if (path / "meta.xml").exists() or (len(inside) == 1 and (inside[0] / "meta.xml").exists()):
        return True
    names = [item.name.lower() for item in path.iterdir() if item.is_file()]
    if any(name.endswith(ENDING) for name in names):
        with open_files(path) as files:
            if find_documents(files):
                return True
    return any(name.endswith((".csv", ".txt", ".tsv")) and "readme" not in name for name in names)


def _read_images(path: Path, files: ArchiveFiles, source: str, spool: sqlite3.Connection, notes: Notes) -> Intake:
    """One specimen per file name; files that differ only in their ending (master and access copy) are its media."""
    names = sorted(name for name in files.names if is_image_name(name))
    if not names:
        raise DwcaError(
            f"{path} holds neither a Darwin Core Archive nor ABCD documents nor images (JPEG, PNG, TIFF, WebP)"
        )
    grouped: dict[str, list[str]] = {}
    for name in names:
        grouped.setdefault(name.rsplit(".", 1)[0], []).append(name)
    add_rows(
        spool,
        (
            SourceRow(
                source=source, key=key,
                fields={"dwc:catalogNumber": PurePosixPath(key).name, "dwc:basisOfRecord": "PreservedSpecimen"},
                media=tuple(SourceMedia(key=name, locator=name) for name in members),
            )
            for key, members in grouped.items()
        ),
    )  # fmt: skip
    _finish(spool, files, notes)
    return Intake(
        source=source, kind="images", root=path, names=frozenset(names), spool=spool, notes=notes.items,
        ends_early=False, _files=files,
    )  # fmt: skip


def _read_title(archive: Archive | AbcdDocuments, notes: Notes) -> str:
    if isinstance(archive, AbcdDocuments):
        return archive.title
    stated = archive.description.metadata
    name = stated or next((item for item in sorted(archive.files.names) if item.lower() == "eml.xml"), "")
    if not name:
        return ""
    if name not in archive.files.names:
        notes.add("", "eml-missing", f"meta.xml names {name}, which is not in the archive")
        return ""
    with archive.files.open(name) as stream:
        eml = read_eml(stream.read(MAX_EML_BYTES + 1))
    if eml.finding:
        notes.add("", "eml-odd", f"{name} {eml.finding}")
    return eml.title


def add_rows(spool: sqlite3.Connection, rows: Iterable[SourceRow]) -> None:
    """Keeps all rows of an intake, once; of rows with one key the first counts."""
    for batch in _batches(enumerate(rows)):
        spool.executemany(
            "INSERT INTO row (number, key, digest, twin, body, catalog, media) VALUES (?, ?, ?, ?, ?, ?, ?)",
            [_spooled(number, row, data) for number, row, data in batch],
        )
        spool.executemany(
            "INSERT INTO shows VALUES (?, ?, ?)",
            [(medium.key, row.key, number) for number, row, _ in batch for medium in row.media],
        )
    spool.executescript(
        """CREATE INDEX row_key ON row (key);
           UPDATE row SET is_first = 0 WHERE key IN (SELECT key FROM row GROUP BY key HAVING count(*) > 1)
             AND number > (SELECT min(number) FROM row other WHERE other.key = row.key);
           DELETE FROM shows WHERE row IN (SELECT number FROM row WHERE NOT is_first);"""
    )


def _batches(rows: Iterable[tuple[int, SourceRow]]) -> Iterator[list[tuple[int, SourceRow, bytes]]]:
    """Rows with their canonical bytes, as many as may be held at once."""
    batch: list[tuple[int, SourceRow, bytes]] = []
    held = 0
    for number, row in rows:
        data = row.canonical
        batch.append((number, row, data))
        held += len(data)
        if len(batch) >= _ROWS_AT_ONCE or held >= BYTES_AT_ONCE:
            yield batch
            batch, held = [], 0
    if batch:
        yield batch


def _spooled(number: int, row: SourceRow, data: bytes) -> tuple[int, str, str, str, bytes, str, str | None]:
    digest = "sha256:" + hashlib.sha256(data).hexdigest()
    institution, collection, catalog = (row.fields.get(term, "") for term in _TRIPLET)
    twin = f"{institution}|{collection}|{catalog}" if catalog else ""
    media = json.dumps([item.to_json() for item in row.media]) if row.media else None
    return number, row.key, digest, twin, data, catalog, media


def _finish(spool: sqlite3.Connection, files: ArchiveFiles, notes: Notes) -> None:
    spool.execute("CREATE INDEX shows_media ON shows (media, specimen)")
    if files.unnamable:
        message = (
            f"files left out: {files.unnamable}; their names are not UTF-8, so no record can name them (rename them)"
        )
        notes.add("", "unnamable-files", message)
    notes.close()
