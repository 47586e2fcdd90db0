"""Moving owned bytes between tiers: ``active`` (the store's own tree) and others (``cas.tier``). The id stays.

A move, in an order that a kill at any point survives:

1. A row of ``tier_location`` without a time says what will be tried. From here on a withdrawal knows of the copy.
2. The bytes are copied, hashed on the way, made durable and read back (``Tier.put``).
3. The row gets its time: now the copy counts.
4. One transaction deletes the row of the active copy and its file; it looks again that 3 holds.

After 1 or 2 the bytes are active as before, and the same move goes on. After 3 they lie in both places.
In 4 the file can be gone while the row is there (killed before the commit): then the bytes are read from the tier, the
next move or ``fsck --fix`` takes the row away, and a restore brings the file back.

A restore copies the other way through ``put_stream`` and leaves the copy in the tier where it is: a second copy, and
archiving the bytes again costs one reading. What is asked for stands in the table ``restore`` until it is done; what
failed stands there with the reason, and is tried again.

Invariants:
- The active copy goes only after the copy in the tier was read whole and had the hash, in the same move.
- Adopted files are never moved or touched; bytes of ``remote`` addresses are a cache and are not archived.
- Whatever changes what lies in a tier holds ``lock``, blob by blob: move, gc, fsck, withdrawal.
- Withdrawn bytes go nowhere: the row of step 1 and the confirmation of step 3 are refused by their mark.

It leaves out: which adapter a name stands for, when rules are applied (``node.services.tiers``).
"""

import contextlib
import fcntl
import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final, Literal

from cas.durable import sync_folder
from cas.errors import BlobChanged, BlobNotFound, BlobRefused, BlobWithdrawn, TierFailed
from cas.ids import ContentId
from cas.index import OWNED, WITHDRAWAL_KEY, withdrawal_mark
from cas.store import BlobStore
from cas.tier import CHUNK_BYTES, Tier, checked, key_of, tier_volume

PAGE: Final = 500
MOST_ASKED: Final = 1000
"""Restores that wait at a time: strangers may ask, and each one costs a copy."""
RETRY_AFTER: Final = timedelta(hours=1)
"""A bucket that could not be reached is asked again after this time."""

Took = Callable[[int], None]
MoveOutcome = Literal["moved", "not-active", "damaged", "withdrawn", "kept-by-address"]
RestoreState = Literal["asked", "failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What is moved; every condition must hold. None: no condition."""

    older_than: timedelta | None = None
    """Stored here for at least so long (a restore begins it anew)."""
    unused: timedelta | None = None
    """Not asked for, and not stored, for at least so long."""
    larger_than: int = 0
    """More bytes than this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TierCopy:
    """A copy in a tier that counts."""

    id: ContentId
    tier: str
    size: int
    stored: str
    checked: str
    is_active: bool
    """Whether the store also has its own copy."""
    is_damaged: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Restore:
    """Bytes that somebody asked for."""

    id: ContentId
    asked: str
    """When it was asked for, or failed."""
    state: RestoreState
    reason: str
    size: int


class Tiering:
    """The tiers of one store; thread-safe, blocking."""

    def __init__(
        self,
        store: BlobStore,
        tiers: Mapping[str, Tier],
        *,
        clock: Callable[[], datetime],
        unlink: Callable[[Path], None] = os.unlink,
    ) -> None:
        self._store = store
        self._index = store.index
        self._clock = clock
        self._unlink = unlink
        self.tiers = tiers

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Held by whoever changes what lies in a tier, in any process; waits for the one blob another is at."""
        with tier_lock(self._store):
            yield

    # ------------------------------------------------------------------ looking
    def candidates(self, rule: Rule) -> Iterator[tuple[ContentId, int]]:
        """Active owned bytes that the rule fits, in the order of their hash; a page at a time."""
        now = self._clock()
        older = "~" if rule.older_than is None else (now - rule.older_than).isoformat()
        unused = "~" if rule.unused is None else (now - rule.unused).date().isoformat()
        last = ""
        while rows := self._index.select(
            """SELECT l.path, l.sha, l.size FROM location l JOIN blob b ON b.sha = l.sha
                 LEFT JOIN used u ON u.sha = l.sha
               WHERE l.volume = '' AND l.path > ?1 AND l.size > ?2 AND b.verified <= ?3
                 AND max(coalesce(u.day, ''), substr(b.verified, 1, 10)) <= ?4
                 AND NOT EXISTS (SELECT 1 FROM remote r WHERE r.sha = l.sha)
                 AND NOT EXISTS (SELECT 1 FROM quarantine q WHERE q.volume = '' AND q.path = l.path)
               ORDER BY l.path LIMIT ?5""",
            last, rule.larger_than if rule.larger_than else -1, older, unused, PAGE,
        ):  # fmt: skip
            for row in rows:
                yield ContentId(row["sha"]), int(row["size"])
            last = rows[-1]["path"]

    def copies(self, cid: ContentId | None = None) -> Iterator[TierCopy]:
        """Every copy in a tier that counts, or those of one blob."""
        last, tier = b"", ""
        while rows := self._index.select(
            """SELECT t.*, EXISTS (SELECT 1 FROM location l WHERE l.sha = t.sha AND l.volume = '') AS is_active,
                 EXISTS (SELECT 1 FROM quarantine q WHERE q.volume = ?1 || t.tier AND q.path = t.key) AS is_damaged
               FROM tier_location t WHERE t.stored <> '' AND (t.sha, t.tier) > (?2, ?3) AND (?4 = x'' OR t.sha = ?4)
               ORDER BY t.sha, t.tier LIMIT ?5""",
            tier_volume(""), last, tier, b"" if cid is None else cid.digest, PAGE,
        ):  # fmt: skip
            for row in rows:
                yield TierCopy(
                    id=ContentId(row["sha"]), tier=row["tier"], size=row["size"], stored=row["stored"],
                    checked=row["checked"], is_active=bool(row["is_active"]), is_damaged=bool(row["is_damaged"]),
                )  # fmt: skip
            last, tier = rows[-1]["sha"], rows[-1]["tier"]

    # ------------------------------------------------------------------ moving
    def move(self, cid: ContentId, name: str, *, took: Took = lambda _count: None) -> MoveOutcome:
        """Moves the store's own copy into a tier; goes on where an interrupted move stopped.

        Raises:
            TierFailed: the tier cannot be used; the bytes are active as before.
            StoreFailed: the index could not be written; the same call goes on.
        """
        tier = self._tier(name)
        with self.lock():
            if self._is_cached(cid):
                return "kept-by-address"
            size = self._intend(cid, name)
            if size is None:
                return "withdrawn" if self._store.is_withdrawn(cid) else "not-active"
            if not self._is_whole(cid, name, size, took):
                try:
                    tier.put(cid, self._active_chunks(cid, took), size=size)
                except (BlobRefused, BlobNotFound, BlobChanged):
                    self._give_up(cid, name)
                    return "damaged"
            if not self._confirm(cid, name):
                tier.delete(cid)
                return "withdrawn"
            return "moved" if self._drop_active(cid, name) else "not-active"

    def _tier(self, name: str) -> Tier:
        try:
            return self.tiers[name]
        except KeyError:
            raise TierFailed(f"there is no tier {name!r} in the settings") from None

    def _is_cached(self, cid: ContentId) -> bool:
        return bool(self._index.select("SELECT 1 FROM remote WHERE sha = ?", cid.digest))

    def _intend(self, cid: ContentId, name: str) -> int | None:
        """Step 1; the size of the active copy, None when there is none."""
        with self._index.transaction() as conn:
            row = conn.execute("SELECT size FROM location WHERE volume = ? AND path = ?", (OWNED, cid.hex)).fetchone()
            if row is None or is_withdrawn(conn, cid):
                return None
            conn.execute(
                "INSERT OR IGNORE INTO tier_location (sha, tier, key, size, stored) VALUES (?, ?, ?, ?, '')",
                (cid.digest, name, key_of(cid), row["size"]),
            )
            return int(row["size"])

    def _is_whole(self, cid: ContentId, name: str, size: int, took: Took) -> bool:
        """Whether the tier has a copy from before, read whole now."""
        rows = self._index.select(
            "SELECT 1 FROM tier_location WHERE sha = ? AND tier = ? AND stored <> ''", cid.digest, name
        )
        if not rows:
            return False
        try:
            for _ in checked(cid, self._tier(name).read(cid), size=size, took=took):
                pass
        except (BlobRefused, BlobNotFound) as error:
            self.note_damage(cid, name, str(error))
            return False
        return True

    def _active_chunks(self, cid: ContentId, took: Took) -> Iterator[bytes]:
        with self._store.open_blob(cid) as blob:
            offset = 0
            while chunk := blob.pread(offset, CHUNK_BYTES):
                took(len(chunk))
                yield chunk
                offset += len(chunk)

    def _give_up(self, cid: ContentId, name: str) -> None:
        """The active copy is damaged: it is not moved, and scrub looks at it first. A good copy of before stays."""
        with self._index.transaction() as conn:
            conn.execute("DELETE FROM tier_location WHERE sha = ? AND tier = ? AND stored = ''", (cid.digest, name))
            conn.execute("UPDATE location SET checked = '' WHERE sha = ? AND volume = ?", (cid.digest, OWNED))

    def _confirm(self, cid: ContentId, name: str) -> bool:
        """Step 3; False when the bytes were withdrawn meanwhile."""
        now = self._clock().isoformat()
        with self._index.transaction() as conn:
            conn.execute("DELETE FROM quarantine WHERE volume = ? AND path = ?", (tier_volume(name), key_of(cid)))
            return conn.execute(
                "UPDATE tier_location SET stored = ?, checked = ? WHERE sha = ? AND tier = ?",
                (now, now, cid.digest, name),
            ).rowcount == 1  # fmt: skip

    def _drop_active(self, cid: ContentId, name: str) -> bool:
        """Step 4."""
        with self._index.transaction() as conn:
            stands = conn.execute(
                "SELECT 1 FROM tier_location WHERE sha = ? AND tier = ? AND stored <> ''", (cid.digest, name)
            ).fetchone()
            if stands is None:
                return False
            conn.execute("DELETE FROM location WHERE volume = ? AND path = ?", (OWNED, cid.hex))
            path = self._store.tree.path(cid)
            with contextlib.suppress(FileNotFoundError):
                self._unlink(path)
                sync_folder(path.parent, self._store.tree.sync)
        return True

    # ------------------------------------------------------------------ restoring
    def ask(self, cid: ContentId) -> Restore | None:
        """Asks for bytes of a tier; again, it changes nothing. None: they are in no tier, or too many wait.

        Raises:
            StoreFailed: the index could not be written.
        """
        known = self.asked(cid)
        if known is not None:
            return known
        now = self._clock().isoformat()
        with self._index.transaction() as conn:
            waiting = conn.execute("SELECT count(*) FROM restore WHERE state = 'asked'").fetchone()[0]
            if waiting >= MOST_ASKED:
                return None
            conn.execute(
                """INSERT OR IGNORE INTO restore (sha, asked, state) SELECT ?1, ?2, 'asked'
                   WHERE EXISTS (SELECT 1 FROM tier_location WHERE sha = ?1 AND stored <> '')""",
                (cid.digest, now),
            )
        return self.asked(cid)

    def ask_again(self, cid: ContentId) -> Restore | None:
        """Like ``ask``; what failed is tried once more."""
        with self._index.transaction() as conn:
            conn.execute("DELETE FROM restore WHERE sha = ? AND state = 'failed'", (cid.digest,))
        return self.ask(cid)

    def asked(self, cid: ContentId) -> Restore | None:
        """How a restore stands; None when nobody asked, or it is done."""
        rows = self._index.select(
            "SELECT r.*, b.size FROM restore r JOIN blob b USING (sha) WHERE r.sha = ?", cid.digest
        )
        return _restore(rows[0]) if rows else None

    def due(self) -> list[ContentId]:
        """What is to be restored now: what was asked for, and what failed so long ago that it may work now."""
        before = (self._clock() - RETRY_AFTER).isoformat()
        rows = self._index.select(
            """SELECT sha FROM restore WHERE state = 'asked' OR (state = 'failed' AND asked <= ?)
               ORDER BY state, asked, sha LIMIT ?""",
            before, PAGE,
        )  # fmt: skip
        return [ContentId(row["sha"]) for row in rows]

    def restores(self) -> list[Restore]:
        """Everything that was asked for and is not done, the longest waiting first."""
        rows = self._index.select("SELECT r.*, b.size FROM restore r JOIN blob b USING (sha) ORDER BY asked, r.sha")
        return [_restore(row) for row in rows]

    def restore(self, cid: ContentId, *, took: Took = lambda _count: None) -> str:
        """Brings bytes back into the store from the first tier that has them whole; says from which.

        Raises:
            BlobNotFound: no tier has them.
            TierFailed: no tier that has them can be used, or every copy there is damaged; it is noted as failed.
            StoreFailed: the disk refused; what was asked for stays asked for.
        """
        found = list(self.copies(cid))
        if not found:
            raise BlobNotFound(f"{cid} is in no tier")
        reasons: list[str] = []
        for copy in found:
            if copy.is_damaged or copy.tier not in self.tiers:
                what = "its copy is damaged" if copy.is_damaged else "it is not in the settings"
                reasons.append(f"tier {copy.tier}: {what}")
                continue
            tier = self.tiers[copy.tier]
            try:
                self._store.put_stream(
                    checked(cid, tier.read(cid), size=copy.size, took=took), now=self._clock(), max_bytes=copy.size,
                    expected=cid,
                )  # fmt: skip
            except BlobWithdrawn:
                raise
            except (BlobRefused, BlobNotFound) as error:
                self.note_damage(cid, copy.tier, str(error))
                reasons.append(f"tier {copy.tier}: {error}")
            except TierFailed as error:
                reasons.append(str(error))
            else:
                self._done(cid)
                return copy.tier
        text = "; ".join(reasons)
        with self._index.transaction() as conn:
            conn.execute(
                "UPDATE restore SET state = 'failed', reason = ?, asked = ? WHERE sha = ?",
                (text, self._clock().isoformat(), cid.digest),
            )
        raise TierFailed(text)

    def _done(self, cid: ContentId) -> None:
        with self._index.transaction() as conn:
            conn.execute("DELETE FROM restore WHERE sha = ?", (cid.digest,))

    # ------------------------------------------------------------------ care
    def note_damage(self, cid: ContentId, name: str, reason: str) -> None:
        """Puts the copy in a tier into quarantine: it is not used until it is written anew."""
        with self._index.transaction() as conn:
            conn.execute(
                """INSERT OR REPLACE INTO quarantine SELECT ?1, key, sha, ?2, ?3, '', '' FROM tier_location
                   WHERE sha = ?4 AND tier = ?5""",
                (tier_volume(name), self._clock().isoformat(), reason, cid.digest, name),
            )

    def rewrite(self, cid: ContentId, name: str) -> None:
        """Writes the copy in a tier anew from the active one: the repair of a damaged one.

        Raises:
            TierFailed, BlobRefused, BlobNotFound, BlobChanged: that cannot be done now; nothing was changed.
        """
        tier = self._tier(name)
        with self.lock():
            size = self._index.size_of(cid)
            if size is None:
                raise BlobNotFound(f"{cid} is not here")
            tier.put(cid, self._active_chunks(cid, lambda _count: None), size=size)
            if not self._confirm(cid, name):
                tier.delete(cid)

    def must_answer(self, cid: ContentId, name: str) -> None:
        """Raises ``TierFailed`` when the tier cannot be used now."""
        self._tier(name).stat(cid)

    def remove(self, cid: ContentId, name: str) -> bool:
        """Removes what lies in a tier and then its row; says whether anything lay there. The caller holds ``lock``.

        Raises:
            TierFailed: the tier cannot be used; row and copy stay.
        """
        was_there = self._tier(name).delete(cid)
        with self._index.transaction() as conn:
            conn.execute("DELETE FROM tier_location WHERE sha = ? AND tier = ?", (cid.digest, name))
            conn.execute("DELETE FROM quarantine WHERE volume = ? AND path = ?", (tier_volume(name), key_of(cid)))
        return was_there


@contextlib.contextmanager
def tier_lock(store: BlobStore) -> Iterator[None]:
    """See ``Tiering.lock``."""
    descriptor = os.open(store.folder / "tiers.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def is_withdrawn(conn: sqlite3.Connection, cid: ContentId) -> bool:
    """Whether these bytes have the mark of a withdrawal, asked inside a transaction."""
    row = conn.execute("SELECT value FROM fact WHERE name = ?", (WITHDRAWAL_KEY,)).fetchone()
    if row is None:
        return False
    mark = withdrawal_mark(bytes.fromhex(row["value"]), cid.digest)
    return conn.execute("SELECT 1 FROM withdrawn WHERE mark = ?", (mark,)).fetchone() is not None


def _restore(row: sqlite3.Row) -> Restore:
    return Restore(
        id=ContentId(row["sha"]), asked=row["asked"], state=row["state"], reason=row["reason"], size=row["size"]
    )


__all__ = ["MoveOutcome", "Restore", "Rule", "TierCopy", "Tiering", "is_withdrawn", "tier_lock"]
