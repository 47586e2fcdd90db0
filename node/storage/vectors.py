"""Vectors of images and of regions in one append-only file, with exact search by two stages.

Owns the files ``vectors/<pipeline>.vec``: a head of 4,096 bytes, then records of one size, each with the SHA-256 of its
image, the box of its region (zeros: the whole image), its class as a number, how many rows its image has in all, a
checksum, and a unit vector of 16-bit floats.

Invariants:
- ``add`` returns after the rows are on disk; a kill at any moment loses nothing that it has returned for.
- A record counts only when its checksum fits. What was torn at the end is cut when the file is opened to be written;
  a record that is damaged elsewhere is dead, is counted, and is made again by ``vasculum reindex``.
- ``wipe`` overwrites: the vector of a withdrawn image is gone from the file, not only marked. One that is interrupted
  leaves a record that does not fit its checksum, which is as dead.
- Several processes may read; one at a time writes (a lock on the file). A reader sees rows that others added when it
  asks to, and never one that was wiped: what is found is compared with the file again.
- Exact: the best of the candidates are ranked by the stored vectors themselves; candidates are the rows whose signs
  differ least from those of the question, many more than are asked for.

Memory: dimensions / 8 bytes per row for the signs and 5 bytes beside them; vectors stay in the file (page cache).

It leaves out: who may see what (``node.services.similar``), where vectors come from (``runners.pipelines.embed``).
"""

import contextlib
import fcntl
import mmap
import os
import struct
import threading
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import numpy as np

from linkeddata.canon import canonical_bytes
from linkeddata.errors import DocumentError
from linkeddata.json_strict import as_object, get_int, get_str, parse_json

Floats = np.ndarray[Any, np.dtype[np.float32]]
Rows = np.ndarray[Any, np.dtype[np.int64]]
Flags = np.ndarray[Any, np.dtype[np.bool_]]
Box = tuple[int, int, int, int]

HEAD_BYTES: Final = 4096
RECORD_HEAD_BYTES: Final = 64
CHUNK_ROWS: Final = 16_384
"""Rows of one block of signs in memory: the memory grows by this much at a time."""
BLOCK_ROWS: Final = 16_384
"""Rows compared at a time: what they need stays in the second cache of a processor."""
OPEN_ROWS: Final = 1024
"""Rows read and checked at a time when a file is opened."""
MIN_CANDIDATES: Final = 2000
CANDIDATES_SHARE: Final = 0.012
"""Of the rows that may be found; ``benchmarks/bench_similar.py``: recall@10 is above 0.99 on hard made vectors."""
RANK_ROWS: Final = 512
"""Rows ranked at a time, which bounds the memory of the second stage."""
_LIVE: Final = 1
_WIPED: Final = 2
WHOLE: Final = (0, 0, 0, 0)
_MAGIC: Final = "vasculum vectors 1"


class VectorsDamaged(Exception):
    """The file is not one of ours, or its head does not fit; ``vasculum reindex`` makes it again."""


class VectorsReplaced(Exception):
    """Another process made the file anew; open it again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VectorRow:
    """A vector to be kept."""

    image: str
    """SHA-256 of the image, hex."""
    vector: Floats
    """(dimensions,), any length but zero; kept as a unit vector."""
    box: Box = WHOLE
    """[x, y, width, height] of a region in pixels of the upright image; zeros: the whole image."""
    kind: int = 0
    """Class of a region, 1 to 255, whose meaning the asker knows; 0: none."""
    siblings: int = 0
    """How many rows its image has in all, up to 255: fewer were torn by a kill. 0: it is the only one."""

    @property
    def key(self) -> tuple[str, Box]:
        """There is one vector for each."""
        return self.image, self.box


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A row, and how near it is."""

    row: int
    image: str
    box: Box
    score: float
    """Cosine, -1 to 1."""
    kind: int = 0
    """As it was added."""


class VectorFile:
    """One file of vectors, open."""

    def __init__(self, path: Path, descriptor: int, dimensions: int, *, is_writer: bool) -> None:
        self.path = path
        self.dimensions = dimensions
        self.damaged = 0
        """Records in the middle that do not fit their checksums."""
        self._fd = descriptor
        self._is_writer = is_writer
        self._type = np.dtype(
            [("crc", "<u4"), ("state", "u1"), ("kind", "u1"), ("siblings", "u1"), ("pad", "u1"), ("box", "<u4", 4),
             ("image", "u1", 32), ("number", "<u8"), ("vector", "<f2", dimensions)]
        )  # fmt: skip
        self._words = -(-dimensions // 64)
        self._codes: list[np.ndarray[Any, np.dtype[np.uint64]]] = []
        self._alive: list[Flags] = []
        self._prefixes: list[np.ndarray[Any, np.dtype[np.uint32]]] = []
        self._count = 0
        self._map: np.ndarray[Any, Any] | None = None
        self._guard = threading.RLock()

    # ------------------------------------------------------------------ opening
    @classmethod
    def open(cls, path: Path, *, dimensions: int, pipeline: str) -> Self:
        """Opens to add and to search; creates the file when it is not there.

        Raises:
            VectorsDamaged: it is of another kind.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            _create(path, _head(dimensions, pipeline))
        return cls._opened(path, dimensions, pipeline, is_writer=True)

    @classmethod
    def open_to_read(cls, path: Path, *, dimensions: int, pipeline: str) -> Self | None:
        """Opens to search; None when there is no file yet.

        Raises:
            VectorsDamaged: it is of another kind.
        """
        try:
            return cls._opened(path, dimensions, pipeline, is_writer=False)
        except FileNotFoundError:
            return None

    @classmethod
    def _opened(cls, path: Path, dimensions: int, pipeline: str, *, is_writer: bool) -> Self:
        descriptor = os.open(path, (os.O_RDWR if is_writer else os.O_RDONLY) | os.O_CLOEXEC)
        try:
            if os.pread(descriptor, HEAD_BYTES, 0) != _head(dimensions, pipeline):
                raise VectorsDamaged(f"{path} does not hold vectors of this pipeline: {_said(descriptor)}")
            made = cls(path, descriptor, dimensions, is_writer=is_writer)
            if is_writer:
                with made._writing():
                    made._cut_torn_end()
            made.refresh()
        except BaseException:
            os.close(descriptor)
            raise
        return made

    def close(self) -> None:
        """Closes; what was found stays valid."""
        with self._guard:
            self._map = None
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1

    @staticmethod
    def pipeline_of(path: Path) -> str:
        """The pipeline whose vectors a file holds.

        Raises:
            VectorsDamaged: its head cannot be read.
        """
        with path.open("rb") as stream:
            return _read_head(stream.read(HEAD_BYTES))[1]

    # ------------------------------------------------------------------ reading
    @property
    def rows(self) -> int:
        """Rows in the file, dead ones too."""
        return self._count

    @property
    def live(self) -> int:
        """Rows that can be found."""
        return sum(int(np.count_nonzero(part)) for part in self._alive)

    def is_replaced(self) -> bool:
        """Whether another file has taken this one's name."""
        try:
            there, ours = self.path.stat(), os.fstat(self._fd)
        except FileNotFoundError:
            return True
        return (there.st_ino, there.st_dev) != (ours.st_ino, ours.st_dev)

    def refresh(self) -> int:
        """Takes in rows that were added since, by whomever; returns how many rows there are."""
        with self._guard:
            item = self._type.itemsize
            total = max(0, (os.fstat(self._fd).st_size - HEAD_BYTES) // item)
            while total > self._count and not self._is_whole(total - 1):
                total -= 1  # in the writing by another process, or torn by its end
            if total <= self._count:
                return self._count
            for start in range(self._count, total, OPEN_ROWS):
                size = min(OPEN_ROWS, total - start) * item
                self._take_in(start, os.pread(self._fd, size, HEAD_BYTES + start * item))
            self._map = self._mapped(total)
            return self._count

    def live_keys(self) -> Iterator[tuple[str, Box]]:
        """Image and box of every row that can be found, in the order of the file."""
        for row in range(self._count):
            if self._alive_at(row):
                record = self.record(row)
                if record is not None:
                    yield record

    def images(self) -> dict[str, bool]:
        """Images (SHA-256, hex) with rows that can be found; whether all its rows are there."""
        missing: dict[str, int] = {}
        for row in range(self._count):
            record = self.record(row)
            if record is not None and self._map is not None:
                image = record[0]
                missing[image] = missing.get(image, max(1, int(self._map["siblings"][row]))) - 1
        return {image: count <= 0 for image, count in missing.items()}

    def kind(self, row: int) -> int:
        """The class of a row; 0: none, or a dead row."""
        return 0 if self.record(row) is None or self._map is None else int(self._map["kind"][row])

    def rows_of(self, image: str) -> list[int]:
        """Live rows of an image (SHA-256, hex), regions too."""
        wanted = _prefix(image)
        rows: list[int] = []
        for number, part in enumerate(self._prefixes):
            near = np.flatnonzero((part == wanted) & self._alive[number])
            for offset in near.tolist():
                row = number * CHUNK_ROWS + offset
                record = self.record(row)
                if record is not None and record[0] == image:
                    rows.append(row)
        return rows

    def vector(self, row: int) -> Floats | None:
        """The unit vector of a row; None when it is dead."""
        if self.record(row) is None or self._map is None:
            return None
        return np.asarray(self._map["vector"][row], dtype=np.float32)

    def mask_of(self, images: Sequence[str]) -> Flags:
        """Which rows may belong to one of these images: (rows,) true or false. To be compared with what is found."""
        wanted = np.sort(np.array([_prefix(image) for image in images], dtype=np.uint32))
        mask = np.zeros(self._count, np.bool_)
        if len(wanted):
            for number, part in enumerate(self._prefixes):
                start = number * CHUNK_ROWS
                used = part[: self._count - start]
                place = np.searchsorted(wanted, used)
                np.minimum(place, len(wanted) - 1, out=place)
                mask[start : start + len(used)] = wanted[place] == used
        return mask

    def search(
        self, vector: Floats, k: int, *, among: Flags | None = None, candidates: int | None = None
    ) -> list[Found]:
        """The nearest rows, nearest first.

        Args:
            vector: (dimensions,), any length but zero.
            k: how many at most.
            among: (rows,) which rows may be found; None: all.
            candidates: how many are ranked exactly; None: as many as recall@10 of 0.99 needs.
        """
        with self._guard:
            count, mapped = self._count, self._map
        if count == 0 or mapped is None or k < 1:
            return []
        question = _unit(np.asarray(vector, dtype=np.float32))
        rows = self._nearest_by_signs(question, count, among, max(k, candidates or 0), is_stated=candidates is not None)
        scores = np.empty(len(rows), np.float32)
        for start in range(0, len(rows), RANK_ROWS):
            part = rows[start : start + RANK_ROWS]
            scores[start : start + len(part)] = mapped["vector"][part].astype(np.float32) @ question
        order = np.lexsort((rows, -scores))
        found: list[Found] = []
        for place in order.tolist():
            record = self.record(int(rows[place]))
            if record is not None:
                image, box = record
                row = int(rows[place])
                found.append(Found(row=row, image=image, box=box, score=float(scores[place]), kind=self.kind(row)))
                if len(found) == k:
                    break
        return found

    def _nearest_by_signs(
        self, question: Floats, count: int, among: Flags | None, least: int, *, is_stated: bool
    ) -> Rows:
        """Row numbers of the candidates, ascending."""
        distances = np.empty(count, np.uint16)
        code = self._sign_words(question[None])[:, 0]
        words = np.empty(BLOCK_ROWS, np.uint64)
        bits = np.empty(BLOCK_ROWS, np.uint8)
        possible = 0
        far = np.uint16(self._words * 64 + 1)
        for number in range(-(-count // CHUNK_ROWS)):
            chunk, alive = self._codes[number], self._alive[number]
            for start in range(0, min(CHUNK_ROWS, count - number * CHUNK_ROWS), BLOCK_ROWS):
                first = number * CHUNK_ROWS + start
                size = min(BLOCK_ROWS, count - first)
                sums = distances[first : first + size]
                sums[:] = 0
                for word in range(self._words):
                    np.bitwise_xor(chunk[word, start : start + size], code[word], out=words[:size])
                    np.bitwise_count(words[:size], out=bits[:size])
                    np.add(sums, bits[:size], out=sums)
                usable = alive[start : start + size]
                if among is not None:
                    usable = usable & among[first : first + size]
                possible += int(np.count_nonzero(usable))
                sums[~usable] = far
        wanted = least if is_stated else max(least, MIN_CANDIDATES, int(possible * CANDIDATES_SHARE))
        if possible <= wanted:
            return np.flatnonzero(distances < far)
        reached = np.cumsum(np.bincount(distances, minlength=int(far)))
        limit = int(np.searchsorted(reached, wanted))
        return np.flatnonzero(distances <= limit)

    # ------------------------------------------------------------------ writing
    def add(self, rows: Sequence[VectorRow]) -> int:
        """Appends rows whose image and box have none yet; returns how many, when they are on disk.

        Raises:
            ValueError: a vector of other dimensions, of length zero, or with values that are no numbers.
            VectorsReplaced: the file was made anew meanwhile.
        """
        with self._guard, self._writing():
            self.refresh()
            near = np.flatnonzero(self.mask_of([item.image for item in rows])).tolist()
            known = {self.record(row) for row in near}
            fresh = {item.key: item for item in reversed(rows) if item.key not in known}
            if not fresh:
                return 0
            data = b"".join(self._packed(self._count + n, item) for n, item in enumerate(reversed(fresh.values())))
            end = HEAD_BYTES + self._count * self._type.itemsize
            try:
                _write_all(self._fd, data, end)
                os.fdatasync(self._fd)
            except OSError:
                with contextlib.suppress(OSError):
                    os.ftruncate(self._fd, end)
                raise
            self.refresh()
            return len(fresh)

    def wipe(self, image: str) -> int:
        """Overwrites the rows of an image; returns how many there were, when they are gone from the disk."""
        with self._guard, self._writing():
            self.refresh()
            rows = self.rows_of(image)
            for row in rows:
                _write_all(self._fd, self._blank(row), HEAD_BYTES + row * self._type.itemsize)
            if rows:
                os.fdatasync(self._fd)
            for row in rows:
                self._alive[row // CHUNK_ROWS][row % CHUNK_ROWS] = False
                self._codes[row // CHUNK_ROWS][:, row % CHUNK_ROWS] = 0
            return len(rows)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        if not self._is_writer:
            raise VectorsReplaced(f"{self.path} was opened to be read")
        fcntl.flock(self._fd, fcntl.LOCK_EX)
        try:
            if self.is_replaced():
                raise VectorsReplaced(f"{self.path} was made anew by another process")
            yield
        finally:
            fcntl.flock(self._fd, fcntl.LOCK_UN)

    def _packed(self, number: int, item: VectorRow) -> bytes:
        vector = np.asarray(item.vector, dtype=np.float32)
        if vector.shape != (self.dimensions,):
            raise ValueError(f"a vector has {self.dimensions} values, this one {vector.shape}")
        unit = _unit(vector).astype("<f2").tobytes()
        return _sealed(_LIVE, item.box, bytes.fromhex(item.image), number, unit, item.kind, item.siblings)

    def _blank(self, number: int) -> bytes:
        return _sealed(_WIPED, WHOLE, bytes(32), number, bytes(2 * self.dimensions))

    def _cut_torn_end(self) -> None:
        """Cuts what a kill left half-written behind the last whole record."""
        size = os.fstat(self._fd).st_size
        item = self._type.itemsize
        whole = max(0, (size - HEAD_BYTES) // item)
        while whole and not self._is_whole(whole - 1):
            whole -= 1
        if HEAD_BYTES + whole * item != size:
            os.ftruncate(self._fd, HEAD_BYTES + whole * item)
            os.fsync(self._fd)

    def _is_whole(self, row: int) -> bool:
        item = self._type.itemsize
        return _fits(os.pread(self._fd, item, HEAD_BYTES + row * item), row)

    # ------------------------------------------------------------------ the memory
    def _mapped(self, total: int) -> Any:
        mapped = mmap.mmap(self._fd, HEAD_BYTES + total * self._type.itemsize, prot=mmap.PROT_READ)
        mapped.madvise(mmap.MADV_RANDOM)
        return np.frombuffer(mapped, self._type, count=total, offset=HEAD_BYTES)

    def _take_in(self, start: int, data: bytes) -> None:
        """Checks records and keeps their signs and the beginnings of their image ids."""
        item = self._type.itemsize
        records = np.frombuffer(data, self._type)
        alive = np.zeros(len(records), np.bool_)
        for number in range(len(records)):
            record = data[number * item : (number + 1) * item]
            if _fits(record, start + number):
                alive[number] = record[4] == _LIVE
            else:
                self.damaged += 1
        codes = self._sign_words(records["vector"])
        prefixes = np.ascontiguousarray(records["image"][:, :4]).view("<u4")[:, 0]
        done = 0
        while done < len(records):
            number, offset = divmod(start + done, CHUNK_ROWS)
            if number == len(self._codes):
                self._codes.append(np.zeros((self._words, CHUNK_ROWS), np.uint64))
                self._alive.append(np.zeros(CHUNK_ROWS, np.bool_))
                self._prefixes.append(np.zeros(CHUNK_ROWS, np.uint32))
            size = min(len(records) - done, CHUNK_ROWS - offset)
            self._codes[number][:, offset : offset + size] = codes[:, done : done + size]
            self._alive[number][offset : offset + size] = alive[done : done + size]
            self._prefixes[number][offset : offset + size] = prefixes[done : done + size]
            done += size
        self._count = start + len(records)

    def _sign_words(self, vectors: np.ndarray[Any, Any]) -> np.ndarray[Any, np.dtype[np.uint64]]:
        """(rows, dimensions) as (words, rows): one bit per value, set when it is above zero."""
        bits = np.packbits(vectors > 0, axis=1)
        if bits.shape[1] != self._words * 8:
            bits = np.pad(bits, ((0, 0), (0, self._words * 8 - bits.shape[1])))
        return np.ascontiguousarray(np.ascontiguousarray(bits).view(np.uint64).T)

    def record(self, row: int) -> tuple[str, Box] | None:
        """Image and box as the file has them now; None when the row is dead."""
        with self._guard:
            if row >= self._count or self._map is None:
                return None
            record = self._map[row]
            if not self._alive_at(row):
                return None
            if record["state"] != _LIVE:  # wiped by another process
                self._alive[row // CHUNK_ROWS][row % CHUNK_ROWS] = False
                return None
            x, y, w, h = (int(item) for item in record["box"])
            return record["image"].tobytes().hex(), (x, y, w, h)

    def _alive_at(self, row: int) -> bool:
        return bool(self._alive[row // CHUNK_ROWS][row % CHUNK_ROWS])


def rebuild(path: Path, rows: Iterator[VectorRow], *, dimensions: int, pipeline: str) -> int:
    """Makes the file anew from rows and puts it in the place of the old one; returns how many rows.

    A kill leaves the old file as it was. Whoever has the old one open sees ``is_replaced``.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.new")
    beside.unlink(missing_ok=True)
    made = VectorFile.open(beside, dimensions=dimensions, pipeline=pipeline)
    try:
        batch: list[VectorRow] = []
        for item in rows:
            batch.append(item)
            if len(batch) == OPEN_ROWS:
                made.add(batch)
                batch = []
        made.add(batch)
        count = made.live
    finally:
        made.close()
    beside.replace(path)
    _sync_folder(path.parent)
    return count


def _head(dimensions: int, pipeline: str) -> bytes:
    text = canonical_bytes({"kind": _MAGIC, "dimensions": dimensions, "pipeline": pipeline})
    return text.ljust(HEAD_BYTES, b"\n")


def _read_head(data: bytes) -> tuple[int, str]:
    """Dimensions and pipeline."""
    try:
        document = as_object(parse_json(data), "the head")
        if get_str(document, "kind") != _MAGIC:
            raise VectorsDamaged("it is no file of vectors")
        return get_int(document, "dimensions", low=1, high=65_536), get_str(document, "pipeline")
    except DocumentError as error:
        raise VectorsDamaged("its head is damaged; `vasculum reindex` makes it again") from error


def _said(descriptor: int) -> str:
    """What the head of a file says, for people."""
    try:
        dimensions, pipeline = _read_head(os.pread(descriptor, HEAD_BYTES, 0))
    except VectorsDamaged as error:
        return str(error)
    return f"it holds {dimensions} dimensions of {pipeline[:24]}"


def _create(path: Path, head: bytes) -> None:
    """The file comes to be whole or not at all."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(beside, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        _write_all(descriptor, head, 0)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    with contextlib.suppress(FileExistsError):
        os.link(beside, path)
    beside.unlink()
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_all(descriptor: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written


def _sealed(state: int, box: Box, image: bytes, number: int, vector: bytes, kind: int = 0, siblings: int = 0) -> bytes:
    body = struct.pack("<BBBx4I32sQ", state, kind, siblings, *box, image, number) + vector
    return struct.pack("<I", zlib.crc32(body)) + body


def _fits(record: bytes, number: int) -> bool:
    """Whether the checksum fits and the record stands where it was written."""
    return (
        len(record) > RECORD_HEAD_BYTES
        and zlib.crc32(record[4:]) == int.from_bytes(record[:4], "little")
        and int.from_bytes(record[56:64], "little") == number
    )


def _unit(vector: Floats) -> Floats:
    length = float(np.linalg.norm(vector.astype(np.float64)))
    if not np.isfinite(length) or length == 0:
        raise ValueError("the vector has no direction: its length is zero, or not a number")
    return np.asarray(vector / np.float32(length), dtype=np.float32)


def _prefix(image: str) -> int:
    return int.from_bytes(bytes.fromhex(image[:8]), "little")
