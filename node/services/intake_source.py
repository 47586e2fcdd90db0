"""Where rows and files come from: an archive (zip or folder) or a plain folder of images; read once into a spool.

The spool is a temporary SQLite database, so that memory stays flat and the archive is read once: the plan is made
from it, and the same rows are then applied.
"""

import json
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, Final

from linkeddata.archive_files import ArchiveFiles, FolderFiles, open_files
from linkeddata.dwca import Archive, open_archive
from linkeddata.dwca_meta import DwcaError
from linkeddata.eml import MAX_EML_BYTES, read_eml
from linkeddata.file_match import FileMatch, FileRule, is_image_name, match_file
from linkeddata.ingest_plan import IncomingRow
from linkeddata.source import SourceMedia, SourceRow

MAX_NOTES_PER_CODE: Final = 1000
"""Findings of one kind that are kept one by one; of more, only how many there are."""
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
    """Of the dataset, from its EML; may be empty."""
    _files: ArchiveFiles

    def incoming(self) -> list[IncomingRow]:
        """Key, digest and twin of every row, duplicates included, in the order of the archive."""
        rows = self.spool.execute("SELECT key, digest, twin FROM row ORDER BY number")
        return [IncomingRow(key=key, digest=digest, twin=twin) for key, digest, twin in rows]

    def rows(self) -> Iterator[SourceRow]:
        """The first row of every key, in the order of the archive."""
        for (body,) in self.spool.execute("SELECT body FROM row WHERE is_first ORDER BY number"):
            yield _row(body)

    def row(self, key: str) -> SourceRow | None:
        """The first row with this key."""
        found = self.spool.execute("SELECT body FROM row WHERE key = ? AND is_first", (key,)).fetchone()
        return None if found is None else _row(found[0])

    def specimens_of(self, media_key: str) -> list[str]:
        """Keys of all specimens that a medium shows, in the order of the archive."""
        found = self.spool.execute(
            "SELECT specimen FROM shows WHERE media = ? GROUP BY specimen ORDER BY min(rowid)", (media_key,)
        )
        return [key for (key,) in found]

    def media_keys(self) -> set[str]:
        """Keys of all media that the rows name."""
        return {key for (key,) in self.spool.execute("SELECT DISTINCT media FROM shows")}

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


@contextmanager
def open_intake(path: Path, source: str, *, key_columns: tuple[str, ...] = ()) -> Iterator[Intake]:
    """Reads an archive, or a folder of images, into a spool.

    Raises:
        DwcaError: it can be read as neither; one clear line.
    """
    spool = sqlite3.connect("")
    spool.executescript(
        """CREATE TABLE row (number INTEGER PRIMARY KEY, key TEXT, digest TEXT, twin TEXT, body TEXT,
             is_first INTEGER NOT NULL);
           CREATE INDEX row_key ON row (key);
           CREATE TABLE shows (media TEXT, specimen TEXT);"""
    )
    notes = Notes()
    try:
        if path.is_dir() and not _holds_table(path):
            with open_files(path) as files:
                yield _read_images(path, files, source, spool, notes)
            return
        with open_archive(path) as archive:
            for row in archive.rows(source, key_columns=key_columns, note=notes.add):
                _add(spool, row)
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


def _holds_table(path: Path) -> bool:
    inside = [item for item in path.iterdir() if item.is_dir()]
    if (path / "meta.xml").exists() or (len(inside) == 1 and (inside[0] / "meta.xml").exists()):
        return True
    names = [item.name.lower() for item in path.iterdir() if item.is_file()]
    return any(name.endswith((".csv", ".txt", ".tsv")) and "readme" not in name for name in names)


def _read_images(path: Path, files: ArchiveFiles, source: str, spool: sqlite3.Connection, notes: Notes) -> Intake:
    """One specimen per file name; files that differ only in their ending (master and access copy) are its media."""
    names = sorted(name for name in files.names if is_image_name(name))
    if not names:
        raise DwcaError(f"{path} holds neither a Darwin Core Archive nor images (JPEG, PNG, TIFF, WebP)")
    grouped: dict[str, list[str]] = {}
    for name in names:
        grouped.setdefault(name.rsplit(".", 1)[0], []).append(name)
    for key, members in grouped.items():
        fields = {"dwc:catalogNumber": PurePosixPath(key).name, "dwc:basisOfRecord": "PreservedSpecimen"}
        media = tuple(SourceMedia(key=name, locator=name) for name in members)
        _add(spool, SourceRow(source=source, key=key, fields=fields, media=media))
    _finish(spool, files, notes)
    return Intake(
        source=source, kind="images", root=path, names=frozenset(names), spool=spool, notes=notes.items,
        ends_early=False, _files=files,
    )  # fmt: skip


def _read_title(archive: Archive, notes: Notes) -> str:
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


def _add(spool: sqlite3.Connection, row: SourceRow) -> None:
    parts = [row.fields.get(term, "") for term in _TRIPLET]
    twin = "|".join(parts) if parts[2] else ""
    is_first = spool.execute("SELECT 1 FROM row WHERE key = ?", (row.key,)).fetchone() is None
    spool.execute(
        "INSERT INTO row (key, digest, twin, body, is_first) VALUES (?, ?, ?, ?, ?)",
        (row.key, row.digest, twin, json.dumps(row.to_json(), ensure_ascii=False), is_first),
    )
    if is_first:
        spool.executemany("INSERT INTO shows VALUES (?, ?)", [(medium.key, row.key) for medium in row.media])


def _finish(spool: sqlite3.Connection, files: ArchiveFiles, notes: Notes) -> None:
    spool.execute("CREATE INDEX shows_media ON shows (media, specimen)")
    if files.unnamable:
        message = (
            f"files left out: {files.unnamable}; their names are not UTF-8, so no record can name them (rename them)"
        )
        notes.add("", "unnamable-files", message)
    notes.close()


def _row(body: str) -> SourceRow:
    document = json.loads(body)
    return SourceRow(
        source=document["source"],
        key=document["key"],
        fields=document["fields"],
        media=tuple(
            SourceMedia(
                key=item["key"], locator=item["locator"], format=item["format"], title=item["title"],
                licence=item["licence"], rights_holder=item["rightsHolder"], fields=item["fields"],
            )
            for item in document["media"]
        ),
    )  # fmt: skip
