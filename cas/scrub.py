"""Reading everything again, oldest first, because damage leaves no trace in a file's name, size or time.

Invariants:
- A place counts as checked only after its bytes were read whole and hashed to their id; durable before it is said.
- A damaged place goes into quarantine before it is reported: its bytes are not given out from then on. Damaged owned
  bytes are kept in ``bad/``; the institution's own files are never touched.
- A file that was edited (its size or time differs) is reported as changed, not as damaged. When many files of a volume
  are not what they were, it is the volume: that is said once, and nothing of it is changed.
- Resumes by construction: what is due is asked of the index.

It leaves out: getting good bytes (``cas.repair``), who runs it and when.
"""

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Final, Literal

from cas.durable import hash_descriptor, owned_path, sync_folder
from cas.errors import BlobRefused, StoreFailed
from cas.files import is_same, open_inside, root_problem
from cas.ids import ContentId
from cas.index import OWNED, Location, VolumeRow, to_location
from cas.pace import Took
from cas.store import BlobStore
from cas.unixfs import LEAF_BYTES, leaf_digests

Verdict = Literal["good", "damaged", "unreadable", "changed", "missing", "volume"]
GROUP_PLACES: Final = 64
GROUP_BYTES: Final = 64 << 20
"""How much is read before it is noted as checked: what an interrupted scrub reads again."""
FEW_FILES: Final = 8
"""So many odd files are files; more of them, and more than one in a hundred, are a volume problem."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScrubResult:
    """What reading one place found."""

    volume: str
    """Empty: owned bytes."""
    path: str
    id: ContentId
    size: int
    verdict: Verdict
    reason: str = ""
    damage: tuple[tuple[int, int], ...] = ()
    """Offset and length of the damaged parts, where a leaf table tells; empty: somewhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quarantined:
    """A place whose bytes are damaged."""

    volume: str
    path: str
    id: ContentId
    found: str
    reason: str
    kept_at: str
    """Where damaged owned bytes are kept, relative to the store; empty: the file lies where it was."""
    damage: str


def scrub(
    store: BlobStore,
    *,
    clock: Callable[[], datetime],
    older_than: datetime,
    took: Callable[[str, int], None] | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Iterator[ScrubResult]:
    """Reads every place that was last checked before ``older_than``, the longest unchecked first.

    Args:
        store: to read.
        clock: the time.
        older_than: what was checked since then is left out.
        took: told the volume (empty: owned bytes) and how many bytes were read of it; may wait.
        should_stop: asked between files; what was read until then counts.

    Raises:
        StoreFailed: the index cannot be read or written.
    """
    _finish_quarantine(store)
    volumes = store.index.volumes()
    tallies = {name: _Tally(store, volume) for name, volume in volumes.items()}
    group: list[tuple[Location, ScrubResult]] = []
    size = 0
    for place in _due(store, older_than.isoformat()):
        if should_stop():
            break
        tally = tallies.get(place.volume)
        if tally is not None and tally.problem:
            if tally.is_news():
                yield _result(place, "volume", tally.problem)
            continue
        found = _look(store, volumes.get(place.volume), place, None if took is None else partial(took, place.volume))
        if tally is not None and found.verdict in ("changed", "missing"):
            tally.count_odd()
            if tally.problem:
                tally.is_news()
                yield _result(place, "volume", tally.problem)
                continue
        group.append((place, found))
        size += place.size
        if len(group) >= GROUP_PLACES or size >= GROUP_BYTES:
            yield from _settle(store, group, clock())
            group, size = [], 0
    yield from _settle(store, group, clock())


def due(store: BlobStore, older_than: datetime) -> tuple[int, int]:
    """How many places, and bytes, a scrub would read."""
    [row] = store.index.select(
        """SELECT count(*), coalesce(sum(size), 0) FROM location WHERE checked < ? AND NOT EXISTS (
             SELECT 1 FROM quarantine AS bad WHERE bad.volume = location.volume AND bad.path = location.path)""",
        older_than.isoformat(),
    )
    return int(row[0]), int(row[1])


def quarantined(store: BlobStore) -> list[Quarantined]:
    """Every damaged place, newest first."""
    return [
        Quarantined(
            volume=row["volume"], path=row["path"], id=ContentId(row["sha"]), found=row["found"],
            reason=row["reason"], kept_at=row["kept_at"], damage=row["damage"],
        )
        for row in store.index.select("SELECT * FROM quarantine ORDER BY found DESC, volume, path")
    ]  # fmt: skip


def doubt(store: BlobStore, cid: ContentId) -> None:
    """Makes these bytes the first that the next scrub reads: somebody saw that they are not what they should be."""
    with store.index.transaction() as conn:
        conn.execute("UPDATE location SET checked = '' WHERE sha = ?", (cid.digest,))


def put_in_quarantine(store: BlobStore, found: ScrubResult, *, now: datetime, place: Location | None = None) -> bool:
    """Closes a damaged place; damaged owned bytes are moved to ``bad/``, never deleted. False: it was healed meanwhile.

    Args:
        store: that holds it.
        found: what was read there.
        now: for the row.
        place: the row as it was when it was read; whoever stored the bytes again since has changed it.

    The file is moved inside a write transaction in which the quarantine still stands: who stores the same bytes at
    that moment commits his row, and lifts the quarantine, only with the good bytes in their place.
    """
    kept_at = f"bad/{found.id.hex}.{now:%Y%m%dT%H%M%S}" if found.volume == OWNED else ""
    damage = ", ".join(f"{offset}+{length}" for offset, length in found.damage)
    with store.index.transaction() as conn:
        row = conn.execute(
            "SELECT * FROM location WHERE volume = ? AND path = ? AND sha = ?",
            (found.volume, found.path, found.id.digest),
        ).fetchone()
        if row is None or (place is not None and to_location(row) != place):
            return False
        conn.execute(
            "INSERT OR REPLACE INTO quarantine VALUES (?, ?, ?, ?, ?, ?, ?)",
            (found.volume, found.path, found.id.digest, now.isoformat(), found.reason, kept_at, damage),
        )
    store.note_closing()
    if kept_at:
        try:
            _put_aside(store, found, kept_at)
        except OSError as error:
            raise StoreFailed(f"damaged bytes could not be put aside: {error.strerror or error}") from error
    return True


def _finish_quarantine(store: BlobStore) -> None:
    """Moves aside what a killed scrub left under its name."""
    for item in quarantined(store):
        if item.kept_at and owned_path(store.folder / "owned", item.id).exists():
            _put_aside(store, item, item.kept_at)


def _put_aside(store: BlobStore, found: ScrubResult | Quarantined, kept_at: str) -> None:
    (store.folder / "bad").mkdir(exist_ok=True)
    source = owned_path(store.folder / "owned", found.id)
    with store.index.transaction() as conn:
        stands = conn.execute(
            "SELECT 1 FROM quarantine WHERE volume = ? AND path = ? AND kept_at = ?",
            (found.volume, found.path, kept_at),
        ).fetchone()
        if stands is not None:
            with contextlib.suppress(FileNotFoundError):
                os.replace(source, store.folder / kept_at)  # noqa: PTH105 - one rename on one filesystem
                sync_folder(source.parent, os.fsync)
                sync_folder(store.folder / "bad", os.fsync)


class _Tally:
    """Odd files of one volume, and whether they are too many to be files."""

    def __init__(self, store: BlobStore, volume: VolumeRow) -> None:
        self._volume = volume
        [row] = store.index.select("SELECT count(*) FROM location WHERE volume = ?", volume.name)
        self._count, self._odd, self._said = int(row[0]), 0, False
        self.problem = root_problem(volume) or ""

    def count_odd(self) -> None:
        self._odd += 1
        if is_too_many(self._odd, self._count):
            self.problem = (
                f"volume {self._volume.name}: {self._odd} files below {self._volume.root} are not what was indexed"
                " (another tree is mounted there? moved: `vasculum volume moved`; edited on purpose: ingest again)"
            )

    def is_news(self) -> bool:
        news, self._said = not self._said, True
        return news


def is_too_many(odd: int, count: int) -> bool:
    """Whether so many odd files of so many are a problem of the volume: more than 1 %, and more than a few."""
    return odd > FEW_FILES and odd * 100 > count


def _due(store: BlobStore, before: str) -> Iterator[Location]:
    at: tuple[str, str, str] = ("", "", "")
    while True:
        rows = store.index.select(
            """SELECT * FROM location WHERE checked < ?1 AND (checked, volume, path) > (?2, ?3, ?4)
                 AND NOT EXISTS (SELECT 1 FROM quarantine AS bad
                                 WHERE bad.volume = location.volume AND bad.path = location.path)
               ORDER BY checked, volume, path LIMIT 500""",
            before, *at,
        )  # fmt: skip
        if not rows:
            return
        for row in rows:
            yield to_location(row)
        at = (rows[-1]["checked"], rows[-1]["volume"], rows[-1]["path"])


def _look(store: BlobStore, volume: VolumeRow | None, place: Location, took: Took | None) -> ScrubResult:
    if volume is None and place.volume != OWNED:
        return _result(place, "missing", "its volume is not known any more")
    try:
        return _read(store, volume, place, took)
    except FileNotFoundError:
        return _result(place, "missing", "there is no such file")
    except BlobRefused as error:
        return _result(place, "changed", str(error))
    except OSError as error:
        return _result(place, "unreadable", error.strerror or str(error))


def _read(store: BlobStore, volume: VolumeRow | None, place: Location, took: Took | None) -> ScrubResult:
    cid = ContentId(place.sha)
    if volume is None:
        path = owned_path(store.folder / "owned", cid)
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    else:
        descriptor, found = open_inside(volume.root, place.path)
        if not is_same(place, found, volume.identity):
            os.close(descriptor)
            return _result(place, "changed", "edited or replaced since it was indexed")
    try:
        actual, size = hash_descriptor(descriptor, took=took)
        if actual == cid:
            return _result(place, "good", "")
        if volume is not None and not is_same(place, os.fstat(descriptor), volume.identity):
            return _result(place, "changed", "written to while it was read")
        damage = _damaged_parts(store, cid, descriptor, size)
    finally:
        os.close(descriptor)
    reason = f"reads as {actual.hex}" + (f", {size} bytes instead of {place.size}" if size != place.size else "")
    return _result(place, "damaged", reason, damage)


def _damaged_parts(store: BlobStore, cid: ContentId, descriptor: int, size: int) -> tuple[tuple[int, int], ...]:
    """Which leaves are not what they were; () when there is no leaf table, or the size differs."""
    rows = store.index.select("SELECT leaves FROM leaf_table WHERE sha = ?", cid.digest)
    known = store.index.size_of(cid)
    if not rows or known != size:
        return ()
    leaves = rows[0]["leaves"]
    return tuple(
        (number * LEAF_BYTES, min(LEAF_BYTES, size - number * LEAF_BYTES))
        for number, digest in enumerate(leaf_digests(descriptor))
        if digest != leaves[number * 32 : number * 32 + 32]
    )


def _settle(store: BlobStore, group: Iterable[tuple[Location, ScrubResult]], now: datetime) -> Iterator[ScrubResult]:
    group = list(group)
    good = [(now.isoformat(), place.volume, place.path, place.sha) for place, found in group if found.verdict == "good"]
    if good:
        with store.index.transaction() as conn:
            conn.executemany("UPDATE location SET checked = ? WHERE volume = ? AND path = ? AND sha = ?", good)
    for place, found in group:
        if found.verdict not in ("damaged", "unreadable") or put_in_quarantine(store, found, now=now, place=place):
            yield found


def _result(place: Location, verdict: Verdict, reason: str, damage: tuple[tuple[int, int], ...] = ()) -> ScrubResult:
    return ScrubResult(
        volume=place.volume, path=place.path, id=ContentId(place.sha), size=place.size, verdict=verdict,
        reason=reason, damage=damage,
    )  # fmt: skip
