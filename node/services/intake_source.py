"""Where rows and files come from: an archive (zip or folder) or a plain folder of images; read once into a spool.

The spool is a temporary SQLite database, so that memory stays flat and the archive is read once: the plan is made
from it, and the same rows are then applied.
"""

import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from linkeddata.archive_files import ArchiveFiles, FolderFiles, open_files
from linkeddata.dwca import open_archive
from linkeddata.dwca_meta import DwcaError
from linkeddata.file_match import FileMatch, FileRule, is_image_name, match_file
from linkeddata.ingest_plan import IncomingRow
from linkeddata.source import SourceMedia, SourceRow

_TRIPLET: Final = ("dwc:institutionCode", "dwc:collectionCode", "dwc:catalogNumber")


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """Something noticed."""

    key: str
    code: str
    message: str


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
    _files: ArchiveFiles

    def incoming(self) -> list[IncomingRow]:
        """Key, digest and twin of every row, duplicates included, in the order of the archive."""
        rows = self.spool.execute("SELECT key, digest, twin FROM row ORDER BY number")
        return [IncomingRow(key=key, digest=digest, twin=twin) for key, digest, twin in rows]

    def rows(self) -> Iterator[SourceRow]:
        """The first row of every key, in the order of the archive."""
        cursor = self.spool.execute(
            "SELECT body FROM row WHERE number IN (SELECT min(number) FROM row GROUP BY key) ORDER BY number"
        )
        for (body,) in cursor:
            yield _row(body)

    def specimens_of(self, media_key: str) -> list[str]:
        """Keys of all specimens that a medium shows."""
        found = self.spool.execute("SELECT DISTINCT specimen FROM shows WHERE media = ? ORDER BY rowid", (media_key,))
        return [key for (key,) in found]

    def locate(self, medium: SourceMedia, catalog_number: str, rules: tuple[FileRule, ...]) -> FileMatch:
        """Where the bytes of a medium are."""
        return match_file(medium.locator, catalog_number, rules=rules, names=self.names)

    def open_member(self, name: str) -> IO[bytes]:
        """A stream of an image inside a zip."""
        return self._files.open(name)

    def size_of(self, name: str) -> int:
        """Bytes of an image file in a folder."""
        return (self.root / name).stat().st_size if self.root is not None else 0


@contextmanager
def open_intake(path: Path, source: str, *, key_columns: tuple[str, ...] = ()) -> Iterator[Intake]:
    """Reads an archive, or a folder of images, into a spool.

    Raises:
        DwcaError: it can be read as neither; one clear line.
    """
    spool = sqlite3.connect("")
    spool.execute("CREATE TABLE row (number INTEGER PRIMARY KEY, key TEXT, digest TEXT, twin TEXT, body TEXT)")
    spool.execute("CREATE TABLE shows (media TEXT, specimen TEXT)")
    notes: list[Note] = []
    try:
        if path.is_dir() and not _holds_table(path):
            yield _read_images(path, source, spool, notes)
            return
        with open_archive(path) as archive:
            for row in archive.rows(
                source,
                key_columns=key_columns,
                note=lambda key, code, message: notes.append(Note(key=key, code=code, message=message)),
            ):
                _add(spool, row)
            orphans = archive.orphan_media()
            if orphans:
                notes.append(
                    Note(key="", code="orphan-media-rows", message=f"{orphans} media rows belong to no specimen")
                )
            _index(spool)
            files = archive.files
            _note_unnamable(notes, files.unnamable)
            yield Intake(
                source=source, kind="archive", root=files.root if isinstance(files, FolderFiles) else None,
                names=frozenset(name for name in files.names if is_image_name(name)), spool=spool, notes=notes,
                ends_early=archive.ends_early, _files=files,
            )  # fmt: skip
    finally:
        spool.close()


def _note_unnamable(notes: list[Note], count: int) -> None:
    if count:
        message = f"files left out: {count}; their names are not UTF-8, so no record can name them (rename them)"
        notes.append(Note(key="", code="unnamable-files", message=message))


def _holds_table(path: Path) -> bool:
    inside = [item for item in path.iterdir() if item.is_dir()]
    if (path / "meta.xml").exists() or (len(inside) == 1 and (inside[0] / "meta.xml").exists()):
        return True
    names = [item.name.lower() for item in path.iterdir() if item.is_file()]
    return any(name.endswith((".csv", ".txt", ".tsv")) and "readme" not in name for name in names)


def _read_images(path: Path, source: str, spool: sqlite3.Connection, notes: list[Note]) -> Intake:
    names: list[str] = []
    for folder, _, files in os.walk(path):
        names.extend(
            (Path(folder) / name).relative_to(path).as_posix() for name in files
            if is_image_name(name) and not name.startswith(".")
        )  # fmt: skip
    found = len(names)
    names = [name for name in names if name.encode("utf-8", "ignore").decode() == name]
    _note_unnamable(notes, found - len(names))
    if not names:
        raise DwcaError(f"{path} holds neither a Darwin Core Archive nor images (JPEG, PNG, TIFF, WebP)")
    for name in sorted(names):
        stem = Path(name).stem
        medium = SourceMedia(key=name, locator=name)
        fields = {"dwc:catalogNumber": stem, "dwc:basisOfRecord": "PreservedSpecimen"}
        _add(spool, SourceRow(source=source, key=name.rsplit(".", 1)[0], fields=fields, media=(medium,)))
    _index(spool)
    context = open_files(path)
    return Intake(
        source=source, kind="images", root=path, names=frozenset(names), spool=spool, notes=notes, ends_early=False,
        _files=context.__enter__(),  # a folder holds nothing open
    )  # fmt: skip


def _add(spool: sqlite3.Connection, row: SourceRow) -> None:
    parts = [row.fields.get(term, "") for term in _TRIPLET]
    twin = "|".join(parts) if parts[2] else ""
    spool.execute(
        "INSERT INTO row (key, digest, twin, body) VALUES (?, ?, ?, ?)",
        (row.key, row.digest, twin, json.dumps(row.to_json(), ensure_ascii=False)),
    )
    spool.executemany("INSERT INTO shows VALUES (?, ?)", [(medium.key, row.key) for medium in row.media])


def _index(spool: sqlite3.Connection) -> None:
    spool.execute("CREATE INDEX row_key ON row (key)")
    spool.execute("CREATE INDEX shows_media ON shows (media)")


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
