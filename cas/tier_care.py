"""Looking after copies in tiers: reading them again, and comparing what is there with what the index says.

A folder is read as it lies on its disk. A bucket is downloaded and hashed: nothing a service says about its own copy is
taken for a proof. That costs what the service asks for a download.

Invariants:
- A copy counts as checked only after it was read whole and hashed to its id.
- A tier that cannot be used is one finding, not one for each of its copies; nothing is concluded from it.
- ``fix`` loses nothing: rows that say nothing go, whole objects get their row; only copies of withdrawn bytes and
  leftovers of unfinished moves, whose bytes are active, are removed.

It leaves out: getting good bytes (``Tiering.rewrite``, ``Tiering.restore``).
"""

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Final

from cas.check import Finding
from cas.errors import BlobNotFound, BlobRefused, TierFailed
from cas.ids import ContentId
from cas.index import OWNED
from cas.scrub import ScrubResult, Verdict
from cas.store import BlobStore
from cas.tier import Tier, checked, id_of, key_of, tier_volume
from cas.tiering import Tiering, is_withdrawn

PAGE: Final = 500
GC_UNFINISHED: Final = "nobody names these bytes, and their removal was interrupted: vasculum gc --delete finishes it"


def scrub_tier(
    tiering: Tiering,
    store: BlobStore,
    name: str,
    *,
    clock: Callable[[], datetime],
    older_than: datetime,
    took: Callable[[int], None] = lambda _count: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Iterator[ScrubResult]:
    """Reads the copies of one tier that were last checked before ``older_than``, the longest unchecked first.

    Raises:
        StoreFailed: the index cannot be used.
    """
    tier = tiering.tiers[name]
    at: tuple[str, bytes] = ("", b"")
    while rows := store.index.select(
        """SELECT * FROM tier_location AS t
           WHERE tier = ?1 AND stored <> '' AND checked < ?2 AND (checked, sha) > (?3, ?4)
             AND NOT EXISTS (SELECT 1 FROM quarantine AS bad WHERE bad.volume = ?5 AND bad.path = t.key)
           ORDER BY checked, sha LIMIT ?6""",
        name, older_than.isoformat(), *at, tier_volume(name), PAGE,
    ):  # fmt: skip
        for row in rows:
            if should_stop():
                return
            cid, size = ContentId(row["sha"]), int(row["size"])
            verdict, reason = _read(tier, cid, size, took)
            if verdict == "good":
                with store.index.transaction() as conn:
                    conn.execute(
                        "UPDATE tier_location SET checked = ? WHERE sha = ? AND tier = ? AND stored = ?",
                        (clock().isoformat(), cid.digest, name, row["stored"]),
                    )
            elif verdict == "damaged":
                tiering.note_damage(cid, name, reason)
            yield ScrubResult(
                volume=tier_volume(name), path=key_of(cid), id=cid, size=size, verdict=verdict, reason=reason
            )
            if verdict == "volume":
                return
        at = (rows[-1]["checked"], rows[-1]["sha"])


def due_in_tier(store: BlobStore, name: str, older_than: datetime) -> tuple[int, int]:
    """How many copies, and bytes, a scrub of the tier would read."""
    [row] = store.index.select(
        """SELECT count(*), coalesce(sum(size), 0) FROM tier_location AS t
           WHERE tier = ? AND stored <> '' AND checked < ?
             AND NOT EXISTS (SELECT 1 FROM quarantine AS bad WHERE bad.volume = ? AND bad.path = t.key)""",
        name, older_than.isoformat(), tier_volume(name),
    )  # fmt: skip
    return int(row[0]), int(row[1])


def _read(tier: Tier, cid: ContentId, size: int, took: Callable[[int], None]) -> tuple[Verdict, str]:
    try:
        for _ in checked(cid, tier.read(cid), size=size, took=took):
            pass
    except (BlobRefused, BlobNotFound) as error:
        return "damaged", str(error)
    except TierFailed as error:
        return "volume", str(error)
    return "good", ""


class TierCheck:
    """One check of the tiers of a store, in both directions."""

    def __init__(self, store: BlobStore, tiering: Tiering, *, now: datetime, fix: bool, read: bool) -> None:
        self._store = store
        self._tiering = tiering
        self._now = now
        self._fix = fix
        self._read = read

    def run(self) -> Iterator[Finding]:
        """Everything that is not as it should be; what was fixed is said, too."""
        yield from self._half_moved()
        names = {row["tier"] for row in self._store.index.select("SELECT DISTINCT tier FROM tier_location")}
        for name in sorted(names | set(self._tiering.tiers)):
            if name not in self._tiering.tiers:
                text = "images lie in this tier, but node.toml does not say where it is: write [tiers.{0}] again"
                yield Finding(code="tier-unknown", place=tier_volume(name), text=text.format(name))
                continue
            try:
                yield from self._tier(name, self._tiering.tiers[name], is_used=name in names)
            except TierFailed as error:
                yield Finding(code="tier", place=tier_volume(name), text=f"cannot be checked: {error}")

    def _half_moved(self) -> Iterator[Finding]:
        """Killed in the last step of a move: the file is gone, its row is not, and a tier has the bytes."""
        last = ""
        while rows := self._store.index.select(
            """SELECT l.path, l.sha FROM location l JOIN tier_location t ON t.sha = l.sha AND t.stored <> ''
               WHERE l.volume = '' AND l.path > ? GROUP BY l.path ORDER BY l.path LIMIT ?""",
            last, PAGE,
        ):  # fmt: skip
            for row in rows:
                cid = ContentId(row["sha"])
                if not self._store.tree.path(cid).exists():
                    yield Finding(
                        code="half-moved", place=str(cid), is_fixed=self._fix and self._finish(cid),
                        text="its move into a tier was interrupted at the end: --fix finishes it",
                    )  # fmt: skip
            last = rows[-1]["path"]

    def _finish(self, cid: ContentId) -> bool:
        with self._store.index.transaction() as conn:
            if self._store.tree.path(cid).exists():
                return False
            conn.execute("DELETE FROM location WHERE volume = ? AND path = ?", (OWNED, cid.hex))
        return True

    def _tier(self, name: str, tier: Tier, *, is_used: bool) -> Iterator[Finding]:
        if not is_used and not _is_there(tier):
            return  # a tier that nothing was moved to yet may not be there yet
        rows = self._rows(name)
        row = next(rows, None)
        for key, size in tier.list():
            while row is not None and row[0] < key:
                yield from self._without_object(name, tier, row)
                row = next(rows, None)
            if row is not None and row[0] == key:
                yield from self._both(name, tier, row, size)
                row = next(rows, None)
            else:
                yield from self._without_row(name, tier, key, size)
        while row is not None:
            yield from self._without_object(name, tier, row)
            row = next(rows, None)

    def _rows(self, name: str) -> Iterator[tuple[str, int, str]]:
        last = b""
        while rows := self._store.index.select(
            "SELECT * FROM tier_location WHERE tier = ? AND sha > ? ORDER BY sha LIMIT ?", name, last, PAGE
        ):
            for row in rows:
                yield row["key"], int(row["size"]), row["stored"]
            last = rows[-1]["sha"]

    def _without_object(self, name: str, tier: Tier, row: tuple[str, int, str]) -> Iterator[Finding]:
        key, _, stored = row
        cid = id_of(key)
        if cid is None or self._is_moving(cid, name, stored):
            return
        if tier.stat(cid) is not None:
            return  # it came while the list was read
        place = f"{tier_volume(name)}:{key}"
        if not self._is_active(cid) and self._is_unnamed(cid):
            yield Finding(code="gc-unfinished", place=place, text=GC_UNFINISHED)
        elif not stored:
            yield Finding(
                code="move-unfinished", place=place, is_fixed=self._fix and self._forget(cid, name),
                text="a move that was interrupted before its copy was complete: --fix forgets it",
            )  # fmt: skip
        elif self._is_active(cid):
            yield Finding(
                code="tier-bytes-missing", place=place, is_fixed=self._fix and self._forget(cid, name),
                text="the copy is gone from the tier, the bytes are active: --fix forgets the copy",
            )  # fmt: skip
        else:
            yield Finding(
                code="tier-bytes-missing", place=place,
                text="the bytes are gone from the tier: bring them back there, or vasculum repair ID --from URL",
            )  # fmt: skip

    def _both(self, name: str, tier: Tier, row: tuple[str, int, str], size: int) -> Iterator[Finding]:
        key, wanted, stored = row
        cid = id_of(key)
        place = f"{tier_volume(name)}:{key}"
        if cid is None or self._is_moving(cid, name, stored):
            return
        if not stored and not self._is_active(cid):
            if self._is_unnamed(cid):
                yield Finding(code="gc-unfinished", place=place, text=GC_UNFINISHED)
            else:
                yield from self._without_row(name, tier, key, size)
        elif not stored:
            yield Finding(
                code="move-unfinished", place=place, is_fixed=self._fix and self._take_back(cid, name),
                text="a move that was interrupted: the bytes are active, --fix removes what lies in the tier",
            )  # fmt: skip
        elif size != wanted:
            text = f"has {size} bytes instead of {wanted}: vasculum scrub, then repair"
            yield Finding(code="tier-size", place=place, text=text)
        elif self._read and (problem := _read(tier, cid, wanted, lambda _count: None))[0] != "good":
            yield Finding(code="damaged", place=place, text=f"{problem[1]}: vasculum scrub, then repair")

    def _without_row(self, name: str, tier: Tier, key: str, size: int) -> Iterator[Finding]:
        cid = id_of(key)
        place = f"{tier_volume(name)}:{key}"
        if cid is None:
            text = "does not belong here: nothing of ours has such a name"
            yield Finding(code="tier-stray", place=place, text=text)
            return
        if self._store.index.select(
            "SELECT 1 FROM tier_location WHERE sha = ? AND tier = ? AND stored <> ''", cid.digest, name
        ):
            return  # it came meanwhile
        if self._store.is_withdrawn(cid):
            yield Finding(
                code="withdrawn-file", place=place, is_fixed=self._fix and self._take_back(cid, name),
                text="a copy of bytes that were withdrawn: --fix removes it",
            )  # fmt: skip
        elif _read(tier, cid, size, lambda _count: None)[0] == "good":
            yield Finding(
                code="tier-file-without-row", place=place, is_fixed=self._fix and self._take_in(cid, name, size),
                text="a whole copy that the index does not know: --fix puts it into the index",
            )  # fmt: skip
        else:
            yield Finding(code="tier-stray", place=place, text="is not what its name says: remove it by hand")

    def _is_moving(self, cid: ContentId, name: str, stored: str) -> bool:
        """Whether a move is at it just now: it holds the lock until the row has its time."""
        if stored:
            return False
        with self._tiering.lock():
            rows = self._store.index.select(
                "SELECT 1 FROM tier_location WHERE sha = ? AND tier = ? AND stored = ''", cid.digest, name
            )
        return not rows

    def _is_unnamed(self, cid: ContentId) -> bool:
        return bool(self._store.index.select("SELECT 1 FROM unnamed WHERE sha = ?", cid.digest))

    def _is_active(self, cid: ContentId) -> bool:
        return bool(self._store.index.locations(cid))

    def _forget(self, cid: ContentId, name: str) -> bool:
        with self._tiering.lock():
            if not self._is_active(cid) or self._tiering.tiers[name].stat(cid) is not None:
                return False
            self._tiering.remove(cid, name)
        return True

    def _take_back(self, cid: ContentId, name: str) -> bool:
        with self._tiering.lock():
            rows = self._store.index.select(
                "SELECT stored FROM tier_location WHERE sha = ? AND tier = ?", cid.digest, name
            )
            if rows and (rows[0]["stored"] or not self._is_active(cid)):
                return False
            self._tiering.remove(cid, name)
        return True

    def _take_in(self, cid: ContentId, name: str, size: int) -> bool:
        now = self._now.isoformat()
        with self._tiering.lock(), self._store.index.transaction() as conn:
            if is_withdrawn(conn, cid):
                return False
            conn.execute("INSERT OR IGNORE INTO blob VALUES (?, ?, ?)", (cid.digest, size, now))
            conn.execute(
                "INSERT OR REPLACE INTO tier_location VALUES (?, ?, ?, ?, ?, ?)",
                (cid.digest, name, key_of(cid), size, now, now),
            )
        return True


def _is_there(tier: Tier) -> bool:
    try:
        next(iter(tier.list()), None)
    except TierFailed:
        return False
    return True
