"""Comparing a tree of files with what is indexed of it, without reading the files.

Two ordered streams are merged: the tree, walked in the order of its paths, and the rows of the index in the same order.
Memory does not grow with the tree, only with what is different.

Invariants:
- A file that is gone changes no row. Nothing is forgotten but a path whose file was found again under another one.
- When more than one file in a hundred is not what it was, nothing is changed at all: it is the volume.
- A changed file keeps its row, whose identity no longer fits: its old id is not served.

It leaves out: records; hashing what is new (an ingest does, or ``cas.store.adopt_many``).
"""

import os
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Final

from cas.durable import hash_descriptor
from cas.errors import BlobRefused, VolumeProblem
from cas.files import is_same, open_inside, root_problem
from cas.ids import ContentId
from cas.index import Location, VolumeRow, to_location
from cas.pace import Took, TookOf
from cas.scrub import is_too_many
from cas.store import AdoptFailure, AdoptResult, BlobStore
from cas.walk import SeenFile, seen_file, walk_states

_PAGE: Final = 20_000
_PATH, _SIZE, _MTIME_NS, _INO, _CHECKED = range(5)
"""Columns of ``_raw_rows``."""
RACY_NS: Final = 2_000_000_000
"""A file written less than this before it was hashed may have been written again in the same tick of the clock."""


@dataclass(slots=True, kw_only=True)
class ScanReport:
    """What a scan found."""

    volume: str
    unchanged: int = 0
    touched: int = 0
    """Only time or inode differ; the bytes are the same, and the row was brought up to date."""
    moved: list[tuple[str, str]] = field(default_factory=list)
    """(old path, new path)."""
    changed: list[str] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)
    """In quarantine, and read again just now: still not what they were."""
    healed: list[str] = field(default_factory=list)
    """Were in quarantine, and are what they were again: somebody put them back."""
    new: list[SeenFile] = field(default_factory=list)
    vanished: list[str] = field(default_factory=list)
    unreadable: list[tuple[str, str]] = field(default_factory=list)


def scan(store: BlobStore, volume: str, *, now: datetime, accept: bool = False, took: Took | None = None) -> ScanReport:
    """Compares a volume with its index and brings moved and touched files up to date.

    Args:
        store: that holds the volume.
        volume: its name.
        now: for rows that are brought up to date.
        accept: go on although more than one file in a hundred differs.
        took: told how many bytes were read of files that have to be (touched ones); may wait.

    Raises:
        VolumeProblem: the root is missing or empty, or too much differs; nothing was changed.
        BlobRefused: there is no such volume.
    """
    tree = store.volume(volume)
    problem = root_problem(tree)
    if problem is not None:
        raise VolumeProblem(problem)
    report = ScanReport(volume=volume)
    odd: list[tuple[Location, SeenFile]] = []
    gone: list[Location] = []
    known = _raw_rows(store, volume)
    by_inode, is_racy = tree.identity == "inode", _Racy()
    bad = {item["path"] for item in store.index.select("SELECT path FROM quarantine WHERE volume = ?", volume)}
    row, count = next(known, None), 0
    for path, state in walk_states(tree.root, report.unreadable):
        while row is not None and row[_PATH] < path:
            gone.append(to_location(row))
            count, row = count + 1, next(known, None)
        if row is None or row[_PATH] != path:
            report.new.append(seen_file(path, state))
            continue
        if (
            row[_SIZE] == state.st_size
            and row[_MTIME_NS] == state.st_mtime_ns
            and (not by_inode or row[_INO] == state.st_ino)
            and not is_racy(row[_CHECKED], row[_MTIME_NS])
            and path not in bad
        ):
            report.unchanged += 1
        else:
            odd.append((to_location(row), seen_file(path, state)))
        count, row = count + 1, next(known, None)
    while row is not None:
        gone.append(to_location(row))
        count, row = count + 1, next(known, None)
    moved = _find_moved(tree, gone, report)
    # Racy files and those in quarantine are as they were, as far as can be told; they are only read again.
    differ = sum(not _same(item, seen, by_inode=by_inode) for item, seen in odd)
    if not accept and is_too_many(differ + len(gone) - len(moved), count):
        raise VolumeProblem(
            f"volume {volume}: of {count} indexed files {differ} differ and {len(gone) - len(moved)} are gone; nothing"
            ' was changed (another tree is mounted? a network drive renumbers: identity = "size+mtime";'
            " right as it is: --accept)"
        )
    _settle_odd(store, tree, odd, bad, report, now, took)
    _move_rows(store, volume, moved)
    report.moved = [(old.path, new.path) for old, new in moved]
    old_paths = {old.path for old, _ in moved}
    report.vanished = [item.path for item in gone if item.path not in old_paths]
    return report


def move_volume(store: BlobStore, name: str, root: Path, *, accept: bool = False) -> tuple[int, list[str]]:
    """Says that the tree now lies at ``root``: (files found again, paths that were not).

    Files are recognised by path, size and time; every one is due for a scrub afterwards, which reads it.

    Raises:
        VolumeProblem: more than one file in a hundred is not there; nothing was changed.
        BlobRefused: there is no such volume.
    """
    old = store.volume(name)
    new = VolumeRow(name=name, root=root.resolve(), identity="size+mtime")
    problem = root_problem(new)
    if problem is not None:
        raise VolumeProblem(problem)
    missing = [row.path for row in _rows(store, name) if _stat_same(new, row) is None]
    [count] = store.index.select("SELECT count(*) FROM location WHERE volume = ?", name)
    if not accept and is_too_many(len(missing), int(count[0])):
        raise VolumeProblem(
            f"volume {name}: {len(missing)} of {count[0]} files are not below {new.root} as they were (first:"
            f" {missing[0]}); nothing was changed (right all the same: --accept)"
        )
    # Recognised by size and time until every row has its new inode: a stop in between leaves a volume that works.
    store.index.set_volume(new)
    found = 0
    group: list[tuple[int, int, str, str]] = []
    for row in _rows(store, name):
        state = _stat_same(new, row)
        if state is not None:
            group.append((state.st_ino, state.st_dev, name, row.path))
            found += 1
        if len(group) >= _PAGE:
            _renumber(store, group)
            group = []
    _renumber(store, group)
    store.index.set_volume(VolumeRow(name=name, root=new.root, identity=old.identity))
    return found, missing


def _move_rows(store: BlobStore, volume: str, moved: list[tuple[Location, SeenFile]]) -> None:
    if not moved:
        return
    with store.index.transaction() as conn:
        conn.executemany(
            # Only where the blob is still known: it may have been withdrawn while the tree was walked.
            """INSERT OR REPLACE INTO location (volume, path, sha, size, mtime_ns, ino, dev, checked)
               SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8 WHERE EXISTS (SELECT 1 FROM blob WHERE sha = ?3)""",
            # Recognised by its inode or its name, so the next scrub compares its hash before anything else.
            [(volume, new.path, old.sha, new.size, new.mtime_ns, new.ino, new.dev, "") for old, new in moved],
        )
        conn.executemany(
            "UPDATE OR REPLACE quarantine SET path = ? WHERE volume = ? AND path = ?",
            [(new.path, volume, old.path) for old, new in moved],
        )
        conn.executemany("DELETE FROM location WHERE volume = ? AND path = ?", [(volume, old.path) for old, _ in moved])


def list_files(store: BlobStore, volume: str, report: ScanReport, *, variant: str, now: datetime) -> int:
    """Notes the new files of a scan for hashing later; returns how many."""
    rows = [
        (volume, seen.path, seen.size, seen.mtime_ns, seen.ino, seen.dev, variant, now.isoformat())
        for seen in report.new
    ]
    with store.index.transaction() as conn:
        conn.executemany("INSERT OR REPLACE INTO listed VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)
    return len(rows)


def listed_files(store: BlobStore, variant: str) -> Iterator[tuple[str, str, int]]:
    """Files that are listed and not hashed: (volume, path, bytes)."""
    at = ("", "")
    while True:
        rows = store.index.select(
            """SELECT volume, path, size FROM listed WHERE variant = ? AND (volume, path) > (?, ?)
               ORDER BY volume, path LIMIT 1000""",
            variant, *at,
        )  # fmt: skip
        if not rows:
            return
        for row in rows:
            yield row["volume"], row["path"], row["size"]
        at = (rows[-1]["volume"], rows[-1]["path"])


def hash_listed(
    store: BlobStore, variant: str, *, now: datetime, took: TookOf | None = None
) -> Iterator[AdoptResult | AdoptFailure]:
    """Hashes listed files and takes them into the index; each leaves the list when it is durable there."""
    by_volume: dict[str, list[str]] = {}
    for volume, path, _ in listed_files(store, variant):
        by_volume.setdefault(volume, []).append(path)
    for volume, paths in by_volume.items():
        for result in store.adopt_many(volume, paths, now=now, took=None if took is None else partial(took, volume)):
            if isinstance(result, AdoptResult):
                with store.index.transaction() as conn:
                    conn.execute("DELETE FROM listed WHERE volume = ? AND path = ?", (volume, result.relpath))
            yield result


def rehome(store: BlobStore, old: str, new: str, prefix: str) -> int:
    """Rows of a volume that lies inside another one move there; nothing is read. Returns how many."""
    with store.index.transaction() as conn:
        conn.execute(
            "UPDATE OR REPLACE quarantine SET volume = ?, path = ? || path WHERE volume = ?", (new, prefix, old)
        )
        count = conn.execute(
            "UPDATE OR REPLACE location SET volume = ?, path = ? || path WHERE volume = ?", (new, prefix, old)
        ).rowcount
        conn.execute("DELETE FROM volume WHERE name = ?", (old,))
    return int(count)


def _renumber(store: BlobStore, group: list[tuple[int, int, str, str]]) -> None:
    with store.index.transaction() as conn:
        conn.executemany("UPDATE location SET ino = ?, dev = ?, checked = '' WHERE volume = ? AND path = ?", group)


def _stat_same(volume: VolumeRow, row: Location) -> os.stat_result | None:
    try:
        state = os.stat(volume.root / row.path)  # noqa: PTH116 - beside os.scandir
    except OSError:
        return None
    return state if is_same(row, state, "size+mtime") else None


def _rows(store: BlobStore, volume: str) -> Iterator[Location]:
    return map(to_location, _raw_rows(store, volume))


def _raw_rows(store: BlobStore, volume: str) -> Iterator[sqlite3.Row]:
    """Rows as they come, with the columns that every file is compared by in front: making objects takes longer."""
    after = ""
    while True:
        rows = store.index.select(
            """SELECT path, size, mtime_ns, ino, checked, volume, sha, dev FROM location
               WHERE volume = ? AND path > ? ORDER BY path LIMIT ?""",
            volume, after, _PAGE,
        )  # fmt: skip
        yield from rows
        if len(rows) < _PAGE:
            return
        after = rows[-1]["path"]


def _same(row: Location, seen: SeenFile, *, by_inode: bool) -> bool:
    return row.size == seen.size and row.mtime_ns == seen.mtime_ns and (not by_inode or row.ino == seen.ino)


class _Racy:
    """Whether a file was so young when it was hashed that a later edit could not be told from its time."""

    def __init__(self) -> None:
        self._text, self._checked_ns = "", 0  # rows of one commit have the same time

    def __call__(self, checked: str, mtime_ns: int) -> bool:
        if not checked:
            return False
        if checked != self._text:
            self._text = checked
            self._checked_ns = int(datetime.fromisoformat(checked).timestamp() * 1_000_000_000)
        return 0 <= self._checked_ns - mtime_ns < RACY_NS


def _find_moved(tree: VolumeRow, gone: list[Location], report: ScanReport) -> list[tuple[Location, SeenFile]]:
    """Pairs of what is gone and what is new that are the same file; takes them out of ``report.new``.

    By inode, size and time where inodes hold; else by size, time and file name, if only one fits.
    """
    by_identity: dict[tuple[object, ...], list[Location]] = {}
    for item in gone:
        by_identity.setdefault(_identity(tree, item.ino, item.size, item.mtime_ns, item.path), []).append(item)
    moved: list[tuple[Location, SeenFile]] = []
    rest: list[SeenFile] = []
    for seen in report.new:
        candidates = by_identity.get(_identity(tree, seen.ino, seen.size, seen.mtime_ns, seen.path), [])
        if len(candidates) == 1:
            moved.append((candidates.pop(), seen))
        else:
            rest.append(seen)
    report.new = rest
    return moved


def _identity(tree: VolumeRow, ino: int, size: int, mtime_ns: int, path: str) -> tuple[object, ...]:
    if tree.identity == "inode":
        return (ino, size, mtime_ns)
    return (path.rpartition("/")[2], size, mtime_ns)


def _settle_odd(
    store: BlobStore,
    tree: VolumeRow,
    odd: list[tuple[Location, SeenFile]],
    bad: set[str],
    report: ScanReport,
    now: datetime,
    took: Took | None,
) -> None:
    """Reads files whose time, inode or size differ: the same bytes bring their row up to date, and end a quarantine."""
    fresh: list[Location] = []
    for row, seen in odd:
        if row.size != seen.size:
            report.changed.append(row.path)
            continue
        try:
            descriptor, before = open_inside(tree.root, row.path)
            try:
                cid, size = hash_descriptor(descriptor, took=took)
                after = os.fstat(descriptor)
            finally:
                os.close(descriptor)
        except (OSError, BlobRefused) as error:
            report.unreadable.append((row.path, getattr(error, "strerror", None) or str(error)))
            continue
        is_as_it_was = _same(row, seen, by_inode=tree.identity == "inode")
        if cid != ContentId(row.sha) or before.st_mtime_ns != after.st_mtime_ns:
            (report.damaged if row.path in bad and is_as_it_was else report.changed).append(row.path)
            continue
        if row.path in bad:
            report.healed.append(row.path)
        elif is_as_it_was:
            report.unchanged += 1  # so young when it was hashed that only its bytes could tell
        else:
            report.touched += 1
        fresh.append(
            Location(
                volume=row.volume, path=row.path, sha=row.sha, size=size, mtime_ns=after.st_mtime_ns, ino=after.st_ino,
                dev=after.st_dev,
            )
        )  # fmt: skip
    if fresh:
        store.index.record(fresh, verified=now.isoformat())
