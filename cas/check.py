"""Checking a store in both directions: every row has its bytes, every owned file has its row.

Invariants:
- Nothing is changed unless ``fix`` is asked for, and then only what loses nothing: a file whose hash is its name gets
  its row, leftovers of interrupted copies go, rows that say nothing go; any other file is moved to ``lost+found/``.
- A volume that is not there is one finding, not one for each of its files.
- Beside other processes: what somebody may be storing at this moment is not judged.

It leaves out: records (``node.services.check``), other tiers (``cas.tier_care``), reading everything regularly
(``cas.scrub``).
"""

import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from cas.durable import hash_descriptor, sync_folder
from cas.errors import BlobRefused, ContentIdError, StoreFailed
from cas.files import SAMPLED_FILES, is_same, open_inside, root_problem, sample_problem
from cas.ids import ContentId
from cas.index import OWNED, Location, VolumeRow, to_location
from cas.store import BlobStore

PAGE: Final = 2_000
IN_FLIGHT_S: Final = 3600.0
"""A file without a row that is younger than this may be on its way, when another process has the store open."""
LOST: Final = "lost+found"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is not as it should be."""

    code: str
    place: str
    text: str
    """What is wrong and what to do, in one line."""
    is_fixed: bool = False


class Check:
    """One check of one store."""

    def __init__(
        self,
        store: BlobStore,
        *,
        now: datetime,
        fix: bool = False,
        read: bool = False,
        progress: Callable[[int], None] = lambda _places: None,
    ) -> None:
        self._store = store
        self._now = now
        self._fix = fix
        self._read = read
        self._progress = progress
        self._owned = store.folder / "owned"
        self._alone = store.is_alone()
        self._done = 0

    def run(self) -> Iterator[Finding]:
        """Everything that is not as it should be; what was fixed is said, too."""
        yield from self._staging()
        yield from self._owned_both_ways()
        volumes = self._store.index.volumes()
        for name in self._names():
            yield from self._volume(name, volumes.get(name))
        yield from self._rows_among_themselves()

    # ------------------------------------------------------------------ owned files
    def _staging(self) -> Iterator[Finding]:
        if not self._alone:
            return
        left = sum(1 for _ in (self._store.folder / "staging").iterdir())
        if left:
            fixed = self._fix and self._store.sweep_staging() == left
            yield Finding(
                code="leftover", place="staging", is_fixed=fixed,
                text=f"{left} leftovers of interrupted copies: --fix removes them",
            )  # fmt: skip

    def _owned_both_ways(self) -> Iterator[Finding]:
        """Two streams in the order of the hash, merged: files of the tree and rows of the index."""
        rows = self._rows(OWNED)
        row = next(rows, None)
        for path in self._files():
            cid = _name_of(path, self._owned)
            if cid is None:
                yield self._stray(path)
                continue
            while row is not None and row.path < cid.hex:
                yield from self._check_owned(row, None)
                row = next(rows, None)
            if row is not None and row.path == cid.hex:
                yield from self._check_owned(row, path)
                row = next(rows, None)
            else:
                yield from self._without_row(path, cid)
        while row is not None:
            yield from self._check_owned(row, None)
            row = next(rows, None)

    def _check_owned(self, row: Location, path: Path | None) -> Iterator[Finding]:
        self._count()
        cid = ContentId(row.sha)
        try:
            found = (path or self._store.tree.path(cid)).stat()
        except OSError as error:
            # Looked at again: it may have been stored, moved away or swept since the row was read.
            # What a tier has was on its way there: ``cas.tier_care`` says it.
            stands = self._store.index.at(OWNED, row.path) == row and not self._store.index.in_tiers(cid)
            if stands and not self._is_quarantined(row):
                yield Finding(
                    code="bytes-missing", place=str(cid),
                    text=f"the owned copy cannot be found ({error.strerror}): vasculum repair, or store it again",
                )  # fmt: skip
            return
        if found.st_size != row.size:
            text = f"the owned copy has {found.st_size} bytes instead of {row.size}: vasculum scrub, then repair"
            yield Finding(code="size", place=str(cid), text=text)
        elif self._read and not self._is_quarantined(row):
            yield from self._hashed(str(cid), cid, lambda: os.open(self._store.tree.path(cid), os.O_RDONLY))

    def _without_row(self, path: Path, cid: ContentId) -> Iterator[Finding]:
        with contextlib.suppress(OSError):
            age_s = self._now.timestamp() - path.stat().st_mtime
            if (not self._alone and age_s < IN_FLIGHT_S) or self._store.index.at(OWNED, cid.hex) is not None:
                return
            if self._store.is_withdrawn(cid):
                if self._fix:
                    path.unlink()
                yield Finding(
                    code="withdrawn-file", place=str(path), is_fixed=self._fix,
                    text="a copy of bytes that were withdrawn: --fix removes it",
                )  # fmt: skip
            elif _hash_of(path) == cid:
                yield Finding(
                    code="file-without-row", place=str(path), is_fixed=self._fix and self._take_in(path, cid),
                    text="an owned file without a row: --fix puts it back into the index",
                )  # fmt: skip
            else:
                if self._fix:
                    self._put_away(path, cid)
                yield Finding(
                    code="torn-file", place=str(path), is_fixed=self._fix,
                    text=f"a file that is not what its name says, without a row: --fix moves it to {LOST}/",
                )  # fmt: skip

    def _take_in(self, path: Path, cid: ContentId) -> bool:
        """Gives a whole file its row; False when somebody removed it meanwhile."""
        with path.open("rb") as stream:
            self._store.tree.sync(stream.fileno())
            found = os.fstat(stream.fileno())
        sync_folder(path.parent, self._store.tree.sync)
        row = Location(
            volume=OWNED, path=cid.hex, sha=cid.digest, size=found.st_size, mtime_ns=found.st_mtime_ns,
            ino=found.st_ino, dev=found.st_dev,
        )  # fmt: skip
        try:
            self._store.index.record([row], verified=self._now.isoformat(), first=lambda _found: _must_exist(path))
        except StoreFailed:
            return False
        return True

    def _stray(self, path: Path) -> Finding:
        if self._fix:
            self._put_away(path, None)
        return Finding(
            code="stray-file", place=str(path), is_fixed=self._fix,
            text=f"a file that does not belong here: --fix moves it to {LOST}/",
        )  # fmt: skip

    def _put_away(self, path: Path, cid: ContentId | None) -> None:
        """Never deleted; inside a write transaction, so that whoever stores these bytes now puts them back."""
        lost = self._store.folder / LOST
        lost.mkdir(exist_ok=True)
        with self._store.index.transaction() as conn:
            if cid is None or not _has_row(conn, cid):
                os.replace(path, lost / f"{path.name}.{self._now:%Y%m%dT%H%M%S}")  # noqa: PTH105 - one rename
                sync_folder(path.parent, self._store.tree.sync)
                sync_folder(lost, self._store.tree.sync)

    def _files(self) -> Iterator[Path]:
        """Every file below ``owned``, in the order of its name: shards of two digits, twice."""
        for first in _entries(self._owned):
            if not first.is_dir(follow_symlinks=False):
                yield Path(first.path)
                continue
            for second in _entries(Path(first.path)):
                if not second.is_dir(follow_symlinks=False):
                    yield Path(second.path)
                    continue
                for entry in _entries(Path(second.path)):
                    yield Path(entry.path)

    # ------------------------------------------------------------------ adopted files
    def _volume(self, name: str, volume: VolumeRow | None) -> Iterator[Finding]:
        if volume is None:
            yield Finding(code="volume-unknown", place=name, text="rows of a volume that has no root: ingest it again")
            return
        problem = root_problem(volume) or sample_problem(volume, self._store.index.sample(name, SAMPLED_FILES))
        if problem is not None:
            yield Finding(code="volume", place=name, text=problem)
            return
        for row in self._rows(name):
            self._count()
            yield from self._check_adopted(volume, row)

    def _check_adopted(self, volume: VolumeRow, row: Location) -> Iterator[Finding]:
        place = f"{volume.name}:{row.path}"
        try:
            found = (volume.root / row.path).stat()
        except OSError as error:
            text = f"cannot be found ({error.strerror}): put it back, or vasculum ingest again"
            yield Finding(code="file-missing", place=place, text=text)
            return
        if not is_same(row, found, volume.identity):
            yield Finding(code="file-changed", place=place, text="was changed since it was indexed: ingest again")
        elif self._read:
            yield from self._hashed(place, ContentId(row.sha), lambda: open_inside(volume.root, row.path)[0])

    # ------------------------------------------------------------------ rows
    def _rows_among_themselves(self) -> Iterator[Finding]:
        lonely = """FROM blob WHERE NOT EXISTS (SELECT 1 FROM location l WHERE l.sha = blob.sha)
                    AND NOT EXISTS (SELECT 1 FROM tier_location t WHERE t.sha = blob.sha AND t.stored <> '')"""
        homeless = "FROM location WHERE NOT EXISTS (SELECT 1 FROM blob b WHERE b.sha = location.sha)"
        for sha in self._shas(f"SELECT sha {lonely} LIMIT 1000"):
            if self._fix:
                with self._store.index.transaction() as conn:
                    conn.execute(f"DELETE {lonely} AND sha = ?", (sha,))
            yield Finding(
                code="blob-without-place", place=str(ContentId(sha)), is_fixed=self._fix,
                text="a row about bytes that lie nowhere: --fix removes the row",
            )  # fmt: skip
        for sha in self._shas(f"SELECT DISTINCT sha {homeless} LIMIT 1000"):
            if self._fix:
                with self._store.index.transaction() as conn:
                    add = f"INSERT OR IGNORE INTO blob SELECT sha, size, '' {homeless} AND sha = ?"
                    conn.execute(add, (sha,))
            yield Finding(
                code="place-without-blob", place=str(ContentId(sha)), is_fixed=self._fix,
                text="a place of bytes that the index does not count: --fix adds them",
            )  # fmt: skip
        for row in self._store.index.select("SELECT volume, path, sha, reason FROM quarantine ORDER BY volume, path"):
            yield Finding(
                code="quarantined", place=f"{row['volume'] or 'own copy'}:{row['path']}",
                text=f"damaged ({row['reason']}): vasculum repair with the id {row['sha'].hex()}",
            )  # fmt: skip

    def _shas(self, sql: str) -> list[bytes]:
        return [row["sha"] for row in self._store.index.select(sql)]

    # ------------------------------------------------------------------ reading
    def _names(self) -> list[str]:
        """Volumes that have rows, a lookup each."""
        found, last = list[str](), ""
        while rows := self._store.index.select(
            "SELECT volume FROM location WHERE volume > ? ORDER BY volume LIMIT 1", last
        ):
            last = rows[0]["volume"]
            found.append(last)
        return found

    def _rows(self, volume: str) -> Iterator[Location]:
        last = ""
        while rows := self._store.index.select(
            "SELECT * FROM location WHERE volume = ? AND path > ? ORDER BY path LIMIT ?", volume, last, PAGE
        ):
            yield from map(to_location, rows)
            last = rows[-1]["path"]

    def _is_quarantined(self, row: Location) -> bool:
        return bool(
            self._store.index.select("SELECT 1 FROM quarantine WHERE volume = ? AND path = ?", row.volume, row.path)
        )

    def _hashed(self, place: str, cid: ContentId, open_fd: Callable[[], int]) -> Iterator[Finding]:
        try:
            descriptor = open_fd()
            try:
                actual = hash_descriptor(descriptor)[0]
            finally:
                os.close(descriptor)
        except (OSError, BlobRefused) as error:
            yield Finding(code="unreadable", place=place, text=f"cannot be read ({error}): look at the disk")
            return
        if actual != cid:
            yield Finding(code="damaged", place=place, text=f"reads as {actual.hex}: vasculum scrub, then repair")

    def _count(self) -> None:
        self._done += 1
        if self._done % 1000 == 0:
            self._progress(self._done)


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return sorted(entries, key=lambda entry: entry.name)


def _name_of(path: Path, root: Path) -> ContentId | None:
    try:
        cid = ContentId.from_hex(path.name)
    except ContentIdError:
        return None
    return cid if path == root / cid.hex[:2] / cid.hex[2:4] / cid.hex and path.is_file() else None


def _hash_of(path: Path) -> ContentId:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        return hash_descriptor(descriptor)[0]
    finally:
        os.close(descriptor)


def _has_row(conn: sqlite3.Connection, cid: ContentId) -> bool:
    return conn.execute("SELECT 1 FROM location WHERE volume = ? AND path = ?", (OWNED, cid.hex)).fetchone() is not None


def _must_exist(path: Path) -> None:
    path.stat()
