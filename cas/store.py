"""The blob store: owned bytes in a shard tree, adopted bytes where the institution keeps them.

Owned: ``owned/ab/cd/<hex>``, written by ``cas.durable``. Adopted: never copied, never changed, never deleted;
a row says by what the file is recognised (size, mtime, inode), and every open checks it on the opened descriptor.

Invariants:
- Bytes are never given out under an id when their file is no longer the one that was hashed.
- What ``put_*`` and ``adopt*`` have returned or yielded survives a power cut.
- A file that is gone or a volume that is empty changes no row: it is reported, and comes back with its mount.
- Withdrawn bytes (``cas.withdrawn``) are neither given out nor taken in, whatever way they come.
- Leftovers of interrupted copies are swept only by a store that is the only one open on its folder.

It leaves out: scrub, repair, tiers, garbage collection (modules beside it), access rights, media types.
"""

import contextlib
import fcntl
import os
import stat as stat_module
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Final, Literal, Self

from cas.batches import ChunkPace, in_groups, map_in_threads
from cas.durable import BUFFER_BYTES, ShardTree, Sync, Written, hash_descriptor, sync_folder, write_blob
from cas.errors import (
    BlobArchived,
    BlobChanged,
    BlobNotFound,
    BlobRefused,
    BlobWithdrawn,
    StoreFailed,
    VolumeProblem,
)
from cas.files import (
    FEWEST_FILES,
    SAMPLED_FILES,
    edited,
    inode_problem,
    is_same,
    open_inside,
    root_problem,
    sample_problem,
)
from cas.ids import ContentId
from cas.index import OWNED, BlobIndex, Identity, Location, VolumeRow
from cas.pace import Took
from cas.reader import BlobPlace, BlobReader
from cas.results import AdoptFailure, AdoptResult, BlobStat, PutResult
from cas.tier import tier_volume
from cas.withdrawn import Unfinished, Withdrawals

MAX_BLOB_BYTES: Final = 1 << 42
"""4 TiB: larger than any file this is for; stops an endless stream."""
GROUP_FILES: Final = 256
"""Files whose rows share one commit; a commit costs milliseconds, a small file less than one."""
GROUP_BYTES: Final = 256 << 20
"""Bytes after which a group is committed all the same: bounds what an interrupted adoption hashes again (0.2 s)."""

LOOKS: Final = 4
WITHDRAWN: Final = "these bytes were withdrawn and are not taken in or given out again"


class BlobStore:
    """One store; thread-safe, blocking."""

    def __init__(self, folder: Path, index: BlobIndex, presence: int, *, sync: Sync = os.fsync) -> None:
        self.folder = folder
        self.index = index
        self._tree = ShardTree(folder / "owned", sync=sync)
        self._staging = folder / "staging"
        self._closings = str(folder / "closings")
        self.withdrawals = Withdrawals(index)
        self._presence = presence
        self._buffers = threading.local()

    @classmethod
    def open(cls, folder: Path, *, sync: Sync = os.fsync) -> Self:
        """Opens or creates a store.

        Raises:
            StoreFailed: the folder or its index cannot be used.
        """
        try:
            for part in ("owned", "staging"):
                (folder / part).mkdir(parents=True, exist_ok=True)
            presence = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StoreFailed(f"{folder} cannot be used: {error.strerror}") from error
        try:
            fcntl.flock(presence, fcntl.LOCK_SH)
            return cls(folder, BlobIndex.open(folder / "index.sqlite"), presence, sync=sync)
        except BaseException:
            os.close(presence)
            raise

    @classmethod
    def open_to_read(cls, folder: Path) -> Self:
        """Opens a store that another process of ours keeps: nothing can be stored through it.

        Raises:
            StoreFailed: there is no store, or it cannot be used.
        """
        try:
            presence = os.open(folder / "lock", os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            raise StoreFailed(f"{folder} cannot be used: {error.strerror}") from error
        try:
            fcntl.flock(presence, fcntl.LOCK_SH)
            return cls(folder, BlobIndex.open_to_read(folder / "index.sqlite"), presence)
        except BaseException:
            os.close(presence)
            raise

    def close(self) -> None:
        """Closes the index; safe to repeat."""
        if self._presence >= 0:
            os.close(self._presence)
            self._presence = -1
            self.index.close()

    @property
    def tree(self) -> ShardTree:
        """Where owned files lie; for the modules of this package that look after bytes."""
        return self._tree

    # ------------------------------------------------------------------ owned
    def put_bytes(self, data: bytes, *, now: datetime, expected: ContentId | None = None) -> PutResult:
        """Stores these bytes durably."""
        return self.put_stream([data], now=now, max_bytes=MAX_BLOB_BYTES, expected=expected)

    def put_file(self, path: Path, *, now: datetime, max_bytes: int = MAX_BLOB_BYTES) -> PutResult:
        """Copies a file into the store durably."""
        return self.put_stream(self._chunks(path), now=now, max_bytes=max_bytes)

    def put_stream(
        self, chunks: Iterable[bytes | memoryview], *, now: datetime, max_bytes: int, expected: ContentId | None = None
    ) -> PutResult:
        """Stores a stream durably; the same bytes again change nothing, and heal a damaged copy.

        Raises:
            BlobRefused: too many bytes or not the expected hash; nothing is stored.
            BlobWithdrawn: these bytes were withdrawn; nothing is stored.
            StoreFailed: the disk refused; nothing is stored.
        """
        [stored] = self._record([self._write(chunks, max_bytes, expected)], now)
        if stored is None:
            raise BlobWithdrawn(WITHDRAWN)
        return stored

    def put_files(
        self, paths: Iterable[Path], *, now: datetime, threads: int = 8
    ) -> Iterator[PutResult | AdoptFailure]:
        """Copies files; each is durable before it is yielded, in the order of ``paths``.

        Eight threads: their fsyncs share the filesystem's journal commits, which is what costs the time.
        """
        unsettled: set[Written] = set()

        def copy(path: Path) -> tuple[Path, Written | AdoptFailure]:
            try:
                written = self._write(self._chunks(path), MAX_BLOB_BYTES, None)
            except (OSError, BlobRefused, BlobWithdrawn, StoreFailed) as error:
                barred = isinstance(error, BlobWithdrawn)
                return path, AdoptFailure(relpath=str(path), reason=_reason(error), is_withdrawn=barred)
            unsettled.add(written)
            return path, written

        def work_of(item: tuple[Path, Written | AdoptFailure]) -> int:
            return item[1].size if isinstance(item[1], Written) else 0

        try:
            copied = map_in_threads(copy, paths, threads=threads, ahead=4 * threads)
            with contextlib.closing(copied):
                for group in in_groups(copied, most=GROUP_FILES, most_bytes=GROUP_BYTES, bytes_of=work_of):
                    written = [item for _, item in group if isinstance(item, Written)]
                    stored = iter(self._record(written, now))
                    unsettled.difference_update(written)
                    for path, item in group:
                        found = item if isinstance(item, AdoptFailure) else next(stored)
                        yield found or AdoptFailure(relpath=str(path), reason=WITHDRAWN, is_withdrawn=True)
        finally:
            for item in unsettled:
                item.settle()

    def _chunks(self, path: Path) -> Iterator[memoryview]:
        buffer = self._buffer()
        with path.open("rb", buffering=0) as stream:
            while count := stream.readinto(buffer):
                yield memoryview(buffer)[:count]

    def _write(self, chunks: Iterable[bytes | memoryview], max_bytes: int, expected: ContentId | None) -> Written:
        return write_blob(
            chunks, tree=self._tree, staging=self._staging, max_bytes=max_bytes, expected=expected,
            refuse=self._refuse_withdrawn,
        )  # fmt: skip

    def _record(self, written: list[Written], now: datetime) -> list[PutResult | None]:
        """Commits rows; None for bytes that were withdrawn since they were written, whose file goes again."""
        if not written:
            return []
        barred: set[bytes] = set()
        known = {item.id for item in written if self.index.size_of(item.id) is not None}

        def put_back(found: Sequence[Location]) -> None:
            shas = {item.sha for item in found}
            for item in written:
                if item.id.digest in shas:
                    item.put_back(self._tree)
                else:  # no row names it, and nobody can commit one now
                    barred.add(item.id.digest)
                    item.path.unlink(missing_ok=True)
                    sync_folder(item.path.parent, self._tree.sync)

        try:
            locations = [_seen(OWNED, item.id.hex, item.id, item.temporary.stat(), item.size) for item in written]
            self.index.record(locations, verified=now.isoformat(), first=put_back)
        except OSError as error:
            raise StoreFailed(f"not stored: {error.strerror or error}") from error
        finally:
            for item in written:
                item.settle()
        results: list[PutResult | None] = []
        for item in written:
            is_new = item.id not in known
            results.append(None if item.id.digest in barred else PutResult(id=item.id, size=item.size, is_new=is_new))
            known.add(item.id)
        return results

    # ------------------------------------------------------------------ adopted
    def define_volume(self, name: str, root: Path, *, identity: Identity = "inode") -> None:
        """Names a tree of files that stay where they are."""
        if not name:
            raise ValueError("a volume needs a name")
        self.index.set_volume(VolumeRow(name=name, root=root.resolve(), identity=identity))

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
        self,
        volume: str,
        relpaths: Iterable[str],
        *,
        now: datetime,
        threads: int = 2,
        took: Took | None = None,
    ) -> Iterator[AdoptResult | AdoptFailure]:
        """Indexes files in place; each is durable before it is yielded. Unchanged files are not read again.

        Two threads: hashing is the limit, and hashlib releases the interpreter lock.

        Raises:
            VolumeProblem: a file is missing, and so is everything else: the drive is not mounted.
        """
        tree = self.volume(volume)
        pace = ChunkPace()

        def look_at_all(chunk: list[str]) -> list[_Looked | AdoptFailure]:
            known = self.index.at_all(tree.name, chunk)
            return [self._look_or_say(tree, relpath, known.get(relpath), took) for relpath in chunk]

        looked = map_in_threads(look_at_all, pace.chunks(relpaths), threads=threads, ahead=8 * threads)
        with contextlib.closing(looked):
            files = (item for chunk in looked for item in chunk)
            for group in in_groups(files, most=GROUP_FILES, most_bytes=GROUP_BYTES, bytes_of=_work_of):
                pace.took(len(group), sum(map(_work_of, group)))
                group = self._without_withdrawn(group)
                seen = [item for item in group if isinstance(item, _Looked)]
                fresh = [item.hashed for item in seen if item.hashed is not None]
                if fresh:
                    replaced = [item.result.previous for item in seen if item.result.previous is not None]
                    self.index.record(fresh, verified=now.isoformat(), replaced=replaced)
                others = self.index.other_paths(tree.name, fresh)
                for item in group:
                    yield item if isinstance(item, AdoptFailure) else self._moved(tree, item.result, others)

    def _look_or_say(
        self, volume: VolumeRow, relpath: str, known: Location | None, took: Took | None
    ) -> "_Looked | AdoptFailure":
        try:
            return self._look(volume, relpath, known, took)
        except (OSError, BlobRefused) as error:
            problem = root_problem(volume) if isinstance(error, OSError) else None
            if problem is not None:
                raise VolumeProblem(problem) from error
            return AdoptFailure(relpath=relpath, reason=_reason(error))

    def _without_withdrawn(self, group: "list[_Looked | AdoptFailure]") -> "list[_Looked | AdoptFailure]":
        barred = self.withdrawals.among(
            item.result.id for item in group if isinstance(item, _Looked) and item.hashed is not None
        )
        if not barred:
            return group
        return [
            AdoptFailure(relpath=item.result.relpath, reason=WITHDRAWN, is_withdrawn=True)
            if isinstance(item, _Looked) and item.result.id.digest in barred
            else item
            for item in group
        ]

    def _look(self, volume: VolumeRow, relpath: str, known: Location | None, took: Took | None) -> "_Looked":
        descriptor, before = open_inside(volume.root, relpath)
        try:
            if known is not None and is_same(known, before, volume.identity):
                cid = ContentId(known.sha)
                return _Looked(None, AdoptResult(relpath=relpath, id=cid, size=known.size, outcome="unchanged"))
            cid, size = hash_descriptor(descriptor, self._buffer(), took=took)
            after = os.fstat(descriptor)
        finally:
            os.close(descriptor)
        if size != after.st_size or (before.st_mtime_ns, before.st_size) != (after.st_mtime_ns, after.st_size):
            raise BlobRefused("the file changed while it was read: try again when it is complete")
        previous = None if known is None else ContentId(known.sha)
        outcome: Literal["new", "unchanged", "changed"] = (
            "new" if previous is None else "unchanged" if previous == cid else "changed"
        )
        result = AdoptResult(
            relpath=relpath, id=cid, size=size, outcome=outcome, previous=previous if outcome == "changed" else None
        )
        return _Looked(_seen(volume.name, relpath, cid, after, size), result)

    def _moved(self, volume: VolumeRow, result: AdoptResult, others: Mapping[str, list[str]]) -> AdoptResult:
        """Says *moved* when the same bytes were known at a path of this volume that is no longer there."""
        if result.outcome != "new":
            return result
        gone = [path for path in others.get(result.relpath, ()) if _is_gone(volume.root / path)]
        if not gone:
            return result
        self.index.forget([(volume.name, path) for path in gone])
        return AdoptResult(relpath=result.relpath, id=result.id, size=result.size, outcome="moved")

    def volume(self, name: str) -> VolumeRow:
        """A named tree; ``BlobRefused`` when there is none of this name."""
        volume = self.index.volumes().get(name)
        if volume is None:
            raise BlobRefused(f"there is no volume {name!r}")
        return volume

    def _buffer(self) -> bytearray:
        """One read buffer per thread: filling a new one with zeros costs more than hashing a small file."""
        found: bytearray | None = getattr(self._buffers, "bytes", None)
        if found is None:
            found = self._buffers.bytes = bytearray(BUFFER_BYTES)
        return found

    # ------------------------------------------------------------------ reading
    def stat(self, cid: ContentId) -> BlobStat | None:
        """What the index knows; None when the bytes are not here."""
        places = self.index.locations(cid)
        if not places:
            archived = self.index.in_tiers(cid)
            if not archived:
                return None
            size, tier, key = archived[0]
            return BlobStat(size=size, kind="owned", volume=tier_volume(tier), relpath=key)
        first = places[0]
        kind: Literal["owned", "adopted"] = "owned" if first.volume == OWNED else "adopted"
        return BlobStat(size=first.size, kind=kind, volume=first.volume, relpath=first.path)

    def places(self, cid: ContentId) -> list[Path | None]:
        """Where the bytes lie: files of the institution, or None for the store's own copy. Opens nothing."""
        return [None if volume is None else volume.root / place.path for place, volume in self.index.places(cid)]

    def open_blob(self, cid: ContentId) -> BlobReader:
        """Opens the first place of these bytes that is still what was indexed.

        Raises:
            BlobNotFound: the bytes are not here.
            BlobWithdrawn: they were withdrawn.
            BlobArchived: no place here has them as they were, but a tier does.
            BlobChanged: they were, but no file is what it was.
            StoreFailed: the index cannot be read.
        """
        places = self.index.places(cid)
        for _ in range(LOOKS):
            try:
                return self._open_among(cid, places)
            except BlobChanged:  # so look bytes that move to a tier, come back or go between two questions to the index
                again, known = self.index.places(cid), self.index.size_of(cid)
                if again == places and known is not None and not self.index.in_tiers(cid):
                    raise
                places = again
        return self._open_among(cid, places)

    def _open_among(self, cid: ContentId, places: Sequence[tuple[Location, VolumeRow | None]]) -> BlobReader:
        if not places:
            self._refuse_withdrawn(cid)
            if self.index.size_of(cid) is None:
                raise BlobNotFound(f"{cid} is not here")
            if self.index.in_tiers(cid):
                raise BlobArchived(cid)
            raise BlobChanged("every copy that is here is damaged and in quarantine")
        reasons: list[str] = []
        for place, volume in places:
            try:
                found = self._place_owned(cid, place) if volume is None else _place_adopted(cid, place, volume)
                return found.open()
            except (OSError, BlobChanged, BlobRefused) as error:
                reasons.append(f"{place.path}: {_reason(error)}")
        if self.index.in_tiers(cid):
            raise BlobArchived(cid)
        raise BlobChanged("; ".join(reasons))

    def _place_owned(self, cid: ContentId, place: Location) -> BlobPlace:
        if place.volume != OWNED:
            raise BlobRefused(f"there is no volume {place.volume!r}")
        path, size = self._tree.path(cid), place.size

        def is_whole(found: os.stat_result) -> bool:
            # Nobody else writes there, under a name that is the hash; damage is found by reading (verify).
            return stat_module.S_ISREG(found.st_mode) and found.st_size == size

        def open_fd() -> int:
            return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW)

        return BlobPlace(id=cid, size=size, open_fd=open_fd, is_same=is_whole)

    # ------------------------------------------------------------------ withdrawn
    def is_withdrawn(self, cid: ContentId) -> bool:
        """Whether these bytes were withdrawn; ``withdrawals`` says when and why."""
        return self.withdrawals.find(cid) is not None

    def erase(self, todo: Unfinished) -> int:
        """Removes what a withdrawal left of the store's own files, durably; returns how many. Safe to repeat.

        Raises:
            StoreFailed: the disk refused; say so and call again.
        """
        removed = 0
        owned = self._tree.path(todo.id)
        try:
            for path in (owned, *(self.folder / item for item in todo.kept if item)):
                if self.folder not in path.parents:
                    continue  # a file of the institution: never ours to remove
                with contextlib.suppress(FileNotFoundError):
                    path.unlink()
                    sync_folder(path.parent, self._tree.sync)
                    removed += 1
        except OSError as error:
            raise StoreFailed(f"a withdrawn copy could not be removed: {error.strerror or error}") from error
        return removed

    def _refuse_withdrawn(self, cid: ContentId) -> None:
        if self.is_withdrawn(cid):
            raise BlobWithdrawn(WITHDRAWN)

    def closings(self) -> int:
        """A number that differs once bytes were closed (quarantine) by any process; for memories of open ones."""
        try:
            return os.stat(self._closings).st_size  # noqa: PTH116 - asked for every request
        except OSError:
            return 0

    def note_closing(self) -> None:
        """Says to every process that bytes were closed; ``StoreFailed`` when the disk refuses."""
        try:
            descriptor = os.open(self._closings, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.write(descriptor, b".")
            finally:
                os.close(descriptor)
        except OSError as error:
            raise StoreFailed(f"{self._closings} could not be written: {error.strerror}") from error

    def verify(self, cid: ContentId) -> bool:
        """Reads the bytes and compares their hash: the only way to find damage that left no trace in the inode."""
        try:
            with self.open_blob(cid) as reader:
                return hash_descriptor(reader.fd, self._buffer())[0] == cid
        except (BlobNotFound, BlobChanged, OSError):
            return False

    def counts(self) -> tuple[int, int]:
        """(blobs, bytes)."""
        return self.index.counts()

    def all_ids(self) -> list[ContentId]:
        """Every blob, in the order of its hash."""
        return self.index.all_ids()

    def volume_problems(self) -> list[str]:
        """What is wrong with volumes as a whole, in sentences: a drive that is not mounted, another tree in its place.

        Looks at the root and at up to 64 files of each volume; changes nothing.
        """
        problems: list[str] = []
        for volume in self.index.volumes().values():
            problem = root_problem(volume)
            if problem is None:
                sample = self.index.sample(volume.name, SAMPLED_FILES)
                problem = sample_problem(volume, sample) or inode_problem(volume, sample)
            if problem is not None:
                problems.append(problem)
        return problems

    def tree_problem(self, name: str, root: Path) -> str | None:
        """Says when more than half of a sample of a volume's files lie below ``root`` with another size or time.

        Then it is another tree, or all of it was edited: not for a program to decide.
        """
        known = self.index.volumes().get(name)
        if known is None:
            return None
        sample = self.index.sample(name, SAMPLED_FILES)
        count = edited(replace(known, root=root.resolve()), sample)
        if len(sample) < FEWEST_FILES or count * 2 <= len(sample):
            return None
        return (
            f"volume {name}: {count} of {len(sample)} sampled files below {root} have another size or time than when"
            " they were indexed (another tree is mounted there, or all of it was edited?)"
        )

    def sweep_staging(self) -> int:
        """Removes what interrupted copies left behind; returns how many files.

        Does nothing while another store, in this or another process, is open on the folder: it may be copying.
        """
        with self._alone() as is_alone:
            leftovers = list(self._staging.iterdir()) if is_alone else []
            for path in leftovers:
                path.unlink(missing_ok=True)
        return len(leftovers)

    def is_alone(self) -> bool:
        """Whether no other store, in this or another process, is open on the folder at this moment."""
        with self._alone() as is_alone:
            return is_alone

    @contextlib.contextmanager
    def _alone(self) -> Iterator[bool]:
        try:
            try:
                fcntl.flock(self._presence, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                yield True
        finally:
            fcntl.flock(self._presence, fcntl.LOCK_SH)  # also after a refusal, which gives the shared lock up


@dataclass(frozen=True, slots=True)
class _Looked:
    """What looking at one file found; ``hashed`` is None when it did not have to be read."""

    hashed: Location | None
    result: AdoptResult


def _work_of(item: _Looked | AdoptFailure) -> int:
    return item.hashed.size if isinstance(item, _Looked) and item.hashed is not None else 0


def _place_adopted(cid: ContentId, place: Location, volume: VolumeRow) -> BlobPlace:
    def is_unchanged(found: os.stat_result) -> bool:
        return is_same(place, found, volume.identity)

    def open_fd() -> int:
        return open_inside(volume.root, place.path)[0]

    return BlobPlace(
        id=cid, size=place.size, open_fd=open_fd, is_same=is_unchanged, volume=volume.name, relpath=place.path
    )


def _is_gone(path: Path) -> bool:
    try:
        path.stat()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return False


def _reason(error: Exception) -> str:
    return error.strerror if isinstance(error, OSError) and error.strerror else str(error)


def _seen(volume: str, path: str, cid: ContentId, found: os.stat_result, size: int) -> Location:
    return Location(
        volume=volume, path=path, sha=cid.digest, size=size, mtime_ns=found.st_mtime_ns, ino=found.st_ino,
        dev=found.st_dev,
    )  # fmt: skip


__all__ = ["MAX_BLOB_BYTES", "WITHDRAWN", "AdoptFailure", "AdoptResult", "BlobStat", "BlobStore", "PutResult"]
