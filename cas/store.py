"""The blob store: owned bytes in a shard tree, adopted bytes where the institution keeps them.

Owned: ``owned/ab/cd/<hex>``, written by ``cas.durable``. Adopted: never copied, never changed, never deleted;
a row says by what the file is recognised (size, mtime, inode), and every open checks it on the opened descriptor.

Invariants:
- Bytes are never given out under an id when their file is no longer the one that was hashed.
- What ``put_*`` and ``adopt*`` have returned or yielded survives a power cut.
- A file that is gone or a volume that is empty changes no row: it is reported, and comes back with its mount.

It leaves out: scrub, repair, tiers, garbage collection (a later layer), access rights, media types.
"""

import concurrent.futures
import hashlib
import os
import stat as stat_module
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Final, Literal, Self, TypeVar

from cas.durable import BUFFER_BYTES, Sync, owned_path, write_blob
from cas.errors import BlobChanged, BlobNotFound, BlobRefused, StoreFailed
from cas.ids import ContentId
from cas.index import OWNED, BlobIndex, Identity, Location, VolumeRow

A = TypeVar("A")
B = TypeVar("B")

MAX_BLOB_BYTES: Final = 1 << 42
"""4 TiB: larger than any file this is for; stops an endless stream."""
GROUP_FILES: Final = 256
"""Files whose rows share one commit; bounds what an interrupted adoption hashes again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PutResult:
    """Bytes that are stored now."""

    id: ContentId
    size: int
    is_new: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class AdoptResult:
    """A file that is indexed now."""

    relpath: str
    id: ContentId
    size: int
    outcome: Literal["new", "unchanged", "changed", "moved"]
    previous: ContentId | None = None
    """What lay at this path before, when it has changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdoptFailure:
    """A file that could not be indexed, and why."""

    relpath: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobStat:
    """What is known without opening."""

    size: int
    kind: Literal["owned", "adopted"]
    volume: str
    relpath: str


class BlobReader:
    """An opened blob whose identity was checked; a context manager."""

    def __init__(self, cid: ContentId, fd: int, size: int, path: Path) -> None:
        self.id = cid
        self.fd = fd
        self.size = size
        self.path = path

    def pread(self, offset: int, length: int) -> bytes:
        """Up to ``length`` bytes from ``offset``; shorter only at the end."""
        parts: list[bytes] = []
        while length > 0:
            part = os.pread(self.fd, length, offset)
            if not part:
                break
            parts.append(part)
            offset += len(part)
            length -= len(part)
        return b"".join(parts)

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


class BlobStore:
    """One store; thread-safe, blocking."""

    def __init__(self, folder: Path, index: BlobIndex, *, sync: Sync = os.fsync) -> None:
        self.folder = folder
        self._owned = folder / "owned"
        self._staging = folder / "staging"
        self._index = index
        self._sync = sync
        self._volumes = index.volumes()

    @classmethod
    def open(cls, folder: Path, *, sync: Sync = os.fsync) -> Self:
        """Opens or creates a store.

        Raises:
            StoreFailed: the folder or its index cannot be used.
        """
        try:
            for part in ("owned", "staging"):
                (folder / part).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreFailed(f"{folder} cannot be used: {error.strerror}") from error
        return cls(folder, BlobIndex.open(folder / "index.sqlite"), sync=sync)

    def close(self) -> None:
        """Closes the index."""
        self._index.close()

    # ------------------------------------------------------------------ owned
    def put_bytes(self, data: bytes, *, now: datetime, expected: ContentId | None = None) -> PutResult:
        """Stores these bytes durably."""
        return self.put_stream([data], now=now, max_bytes=MAX_BLOB_BYTES, expected=expected)

    def put_file(self, path: Path, *, now: datetime, max_bytes: int = MAX_BLOB_BYTES) -> PutResult:
        """Copies a file into the store durably."""
        with path.open("rb") as stream:
            return self.put_stream(iter(lambda: stream.read(BUFFER_BYTES), b""), now=now, max_bytes=max_bytes)

    def put_stream(
        self, chunks: Iterable[bytes], *, now: datetime, max_bytes: int, expected: ContentId | None = None
    ) -> PutResult:
        """Stores a stream durably; the same bytes again change nothing.

        Raises:
            BlobRefused: too many bytes or not the expected hash; nothing is stored.
            StoreFailed: the disk refused; nothing is stored.
        """
        location = self._write(chunks, max_bytes, expected)
        return self._record([location], now)[0]

    def put_files(
        self, paths: Iterable[Path], *, now: datetime, threads: int = 8
    ) -> Iterator[PutResult | AdoptFailure]:
        """Copies files; each is durable before it is yielded.

        Eight threads: their fsyncs share the filesystem's journal commits, which is what costs the time.
        """

        def copy(path: Path) -> tuple[str, Location | str]:
            try:
                with path.open("rb") as stream:
                    return str(path), self._write(iter(lambda: stream.read(BUFFER_BYTES), b""), MAX_BLOB_BYTES, None)
            except (OSError, BlobRefused, StoreFailed) as error:
                return str(path), str(error)

        with concurrent.futures.ThreadPoolExecutor(threads) as pool:
            for group in _in_groups(_bounded_map(pool, copy, paths, ahead=4 * threads), GROUP_FILES):
                good = [item for _, item in group if isinstance(item, Location)]
                yield from self._record(good, now)
                yield from (AdoptFailure(relpath=name, reason=item) for name, item in group if isinstance(item, str))

    def _write(self, chunks: Iterable[bytes], max_bytes: int, expected: ContentId | None) -> Location:
        cid, size, path = write_blob(
            chunks, root=self._owned, staging=self._staging, max_bytes=max_bytes, expected=expected, sync=self._sync
        )
        return _seen(OWNED, cid.hex, cid, path.stat(), size)

    def _record(self, locations: list[Location], now: datetime) -> list[PutResult]:
        known = {item.sha: self._index.size_of(ContentId(item.sha)) is not None for item in locations}
        if locations:
            self._index.record(locations, verified=now.isoformat())
        return [PutResult(id=ContentId(item.sha), size=item.size, is_new=not known[item.sha]) for item in locations]

    # ------------------------------------------------------------------ adopted
    def define_volume(self, name: str, root: Path, *, identity: Identity = "inode") -> None:
        """Names a tree of files that stay where they are."""
        if not name:
            raise ValueError("a volume needs a name")
        volume = VolumeRow(name=name, root=root.resolve(), identity=identity)
        self._index.set_volume(volume)
        self._volumes = {**self._volumes, name: volume}

    def adopt(self, volume: str, relpath: str, *, now: datetime) -> AdoptResult:
        """Indexes one file in place.

        Raises:
            BlobRefused: the path leaves the volume, or is not a regular file that can be read.
        """
        for result in self.adopt_many(volume, [relpath], now=now, threads=1):
            if isinstance(result, AdoptFailure):
                raise BlobRefused(f"{relpath}: {result.reason}")
            return result
        raise AssertionError("one path gives one result")

    def adopt_many(
        self, volume: str, relpaths: Iterable[str], *, now: datetime, threads: int = 2
    ) -> Iterator[AdoptResult | AdoptFailure]:
        """Indexes files in place; each is durable before it is yielded. Unchanged files are not read again.

        Two threads: hashing is the limit, and hashlib releases the interpreter lock.
        """
        root = self._volume(volume)

        def look(relpath: str) -> tuple[Location, AdoptResult] | AdoptFailure:
            try:
                return self._look(root, relpath)
            except (OSError, BlobRefused) as error:
                reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
                return AdoptFailure(relpath=relpath, reason=reason)

        with concurrent.futures.ThreadPoolExecutor(threads) as pool:
            for group in _in_groups(_bounded_map(pool, look, relpaths, ahead=32 * threads), GROUP_FILES):
                fresh = [
                    item[0] for item in group if not isinstance(item, AdoptFailure) and item[1].outcome != "unchanged"
                ]
                if fresh:
                    self._index.record(fresh, verified=now.isoformat())
                for item in group:
                    yield item if isinstance(item, AdoptFailure) else self._moved(root, item[1])

    def _look(self, volume: VolumeRow, relpath: str) -> tuple[Location, AdoptResult]:
        path = _inside(volume.root, relpath)
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            before = os.fstat(descriptor)
            if not stat_module.S_ISREG(before.st_mode):
                raise BlobRefused("not a regular file")
            known = self._index.at(volume.name, relpath)
            if known is not None and _is_same(known, before, volume.identity):
                cid = ContentId(known.sha)
                return known, AdoptResult(relpath=relpath, id=cid, size=known.size, outcome="unchanged")
            cid, size = _hash(descriptor)
            after = os.fstat(descriptor)
        finally:
            os.close(descriptor)
        if size != after.st_size or (before.st_mtime_ns, before.st_size) != (after.st_mtime_ns, after.st_size):
            raise BlobRefused("the file changed while it was read: try again when it is complete")
        previous = None if known is None or known.sha == cid.digest else ContentId(known.sha)
        location = _seen(volume.name, relpath, cid, after, size)
        outcome: Literal["new", "changed"] = "new" if previous is None else "changed"
        return location, AdoptResult(relpath=relpath, id=cid, size=size, outcome=outcome, previous=previous)

    def _moved(self, volume: VolumeRow, result: AdoptResult) -> AdoptResult:
        """Says *moved* when the same bytes were known at a path of this volume that is no longer there."""
        if result.outcome != "new":
            return result
        gone = [
            item.path
            for item in self._index.locations(result.id)
            if item.volume == volume.name and item.path != result.relpath and not (volume.root / item.path).exists()
        ]
        if not gone:
            return result
        self._index.forget([(volume.name, path) for path in gone])
        return AdoptResult(relpath=result.relpath, id=result.id, size=result.size, outcome="moved")

    def _volume(self, name: str) -> VolumeRow:
        volume = self._volumes.get(name)
        if volume is None:
            self._volumes = self._index.volumes()  # another process may have named it
            volume = self._volumes.get(name)
        if volume is None:
            raise BlobRefused(f"there is no volume {name!r}")
        return volume

    # ------------------------------------------------------------------ reading
    def stat(self, cid: ContentId) -> BlobStat | None:
        """What the index knows; None when the bytes are not here."""
        size = self._index.size_of(cid)
        if size is None:
            return None
        places = self._index.locations(cid)
        if not places:
            return None
        first = places[0]
        return BlobStat(
            size=size, kind="owned" if first.volume == OWNED else "adopted", volume=first.volume, relpath=first.path
        )

    def open_blob(self, cid: ContentId) -> BlobReader:
        """Opens the first place of these bytes that is still what was indexed.

        Raises:
            BlobNotFound: the bytes are not here.
            BlobChanged: they were, but no file is what it was.
        """
        places = self._index.locations(cid)
        if not places:
            raise BlobNotFound(f"{cid} is not here")
        reasons: list[str] = []
        for place in places:
            try:
                return self._open(cid, place)
            except (OSError, BlobChanged, BlobRefused) as error:
                reasons.append(str(error) if not isinstance(error, OSError) else f"{place.path}: {error.strerror}")
        raise BlobChanged("; ".join(reasons))

    def _open(self, cid: ContentId, place: Location) -> BlobReader:
        if place.volume == OWNED:
            path, identity = owned_path(self._owned, cid), "size+mtime"
        else:
            volume = self._volume(place.volume)
            path, identity = _inside(volume.root, place.path), volume.identity
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        found = os.fstat(descriptor)
        if not stat_module.S_ISREG(found.st_mode) or not _is_same(place, found, identity, owned=place.volume == OWNED):
            os.close(descriptor)
            raise BlobChanged(f"{place.path} was changed after it was indexed")
        return BlobReader(cid, descriptor, place.size, path)

    def verify(self, cid: ContentId) -> bool:
        """Reads the bytes and compares their hash: the only way to find damage that left no trace in the inode."""
        try:
            with self.open_blob(cid) as reader:
                return _hash(reader.fd)[0] == cid
        except (BlobNotFound, BlobChanged):
            return False

    def counts(self) -> tuple[int, int]:
        """(blobs, bytes)."""
        return self._index.counts()

    def all_ids(self) -> list[ContentId]:
        """Every blob, in the order of its hash."""
        return self._index.all_ids()

    def volume_problems(self) -> list[str]:
        """Volumes whose root is missing or empty: a drive that is not mounted, never a deletion."""
        problems: list[str] = []
        for volume in self._index.volumes().values():
            try:
                with os.scandir(volume.root) as entries:
                    empty = next(entries, None) is None
            except OSError as error:
                problems.append(f"volume {volume.name}: {volume.root} cannot be read ({error.strerror})")
            else:
                if empty:
                    problems.append(f"volume {volume.name}: {volume.root} is empty (is the drive mounted?)")
        return problems

    def sweep_staging(self) -> int:
        """Removes what an interrupted copy left behind; call it when no other process writes. Returns how many."""
        leftovers = list(self._staging.iterdir())
        for path in leftovers:
            path.unlink(missing_ok=True)
        return len(leftovers)


def _inside(root: Path, relpath: str) -> Path:
    parts = PurePosixPath(relpath)
    if not relpath or parts.is_absolute() or ".." in parts.parts or "\0" in relpath:
        raise BlobRefused("the path leaves its folder")
    path = root / parts
    if not path.resolve().is_relative_to(root):
        raise BlobRefused("a link leads out of the folder")
    return path


def _hash(descriptor: int) -> tuple[ContentId, int]:
    sha, size, buffer = hashlib.sha256(), 0, bytearray(BUFFER_BYTES)
    view = memoryview(buffer)
    while count := os.preadv(descriptor, [buffer], size):
        sha.update(view[:count])
        size += count
    return ContentId(sha.digest()), size


def _seen(volume: str, path: str, cid: ContentId, found: os.stat_result, size: int) -> Location:
    return Location(
        volume=volume, path=path, sha=cid.digest, size=size, mtime_ns=found.st_mtime_ns, ino=found.st_ino,
        dev=found.st_dev,
    )  # fmt: skip


def _is_same(known: Location, found: os.stat_result, identity: str, *, owned: bool = False) -> bool:
    if known.size != found.st_size:
        return False
    if owned:
        return True  # nobody but this store writes there, under a name that is the hash; scrub finds damage
    return known.mtime_ns == found.st_mtime_ns and (identity != "inode" or known.ino == found.st_ino)


def _bounded_map(
    pool: concurrent.futures.Executor, work: Callable[[A], B], items: Iterable[A], *, ahead: int
) -> Iterator[B]:
    """Like ``pool.map``, in order, but takes only ``ahead`` items before their results are wanted."""
    waiting: deque[concurrent.futures.Future[B]] = deque()
    for item in items:
        waiting.append(pool.submit(work, item))
        if len(waiting) >= ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _in_groups(items: Iterable[A], size: int) -> Iterator[list[A]]:
    group: list[A] = []
    for item in items:
        group.append(item)
        if len(group) >= size:
            yield group
            group = []
    if group:
        yield group
