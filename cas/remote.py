"""Remote bytes: kept here only as a copy of what lies at an address, within a budget, fetched again when needed.

Owns the tables ``remote``, ``remote_former``, ``remote_dropping`` and ``remote_host``.
An address has the id that its bytes had when they were last fetched; that id stays when the copy goes.

Invariants:
- Whether bytes are here is said by the table ``location`` alone; ``state`` only tells what became of an address.
- Room is made by taking away the copies that were used longest ago; copies that the source has replaced go first,
  pinned ones and those that the caller needs never.
- The row goes first and durably, then the file, in a write transaction in which no row names it; what a kill leaves
  in between is in ``remote_dropping`` and goes with the next call of ``make_room``.
- An address that holds other bytes now never changes what the old id means: the old id is noted in ``remote_former``.

It leaves out: addresses of withdrawn bytes (``cas.withdrawn``); the network, records and who may ask
(``node.services.remote_media``).
"""

import contextlib
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from cas.errors import BlobChanged, BlobNotFound, BlobRefused
from cas.ids import ContentId
from cas.index import OWNED
from cas.store import BlobStore

CANDIDATES: Final = 64
"""Copies that are looked at together when room is made."""
USED_AGAIN: Final = timedelta(hours=1)
"""How exactly the last use is known: a write per hour and image, not per request."""


class NoRoom(BlobRefused):
    """The budget is taken by copies that must not go."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteRow:
    """What is known about an address."""

    url: str
    id: ContentId | None
    """Of the bytes that it held when it was last fetched."""
    size: int | None
    fetched: str
    etag: str
    modified: str
    state: str
    """``known``, ``kept`` or ``dropped`` (to make room)."""
    reason: str
    """Why the last attempt failed; empty when it did not."""
    failures: int
    not_before: str
    wanted: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteUsage:
    """How much is kept."""

    addresses: int
    copies: int
    bytes: int
    waiting: int
    failing: int


class RemoteBytes:
    """The remote bytes of one store; thread-safe, blocking. Every method raises ``StoreFailed``."""

    def __init__(self, store: BlobStore) -> None:
        self._store = store
        self._index = store.index

    # ------------------------------------------------------------------ asking
    def find(self, url: str) -> RemoteRow | None:
        """What is known about an address."""
        rows = self._index.select("SELECT * FROM remote WHERE url = ?", url)
        return _row(rows[0]) if rows else None

    def sources_of(self, cid: ContentId) -> list[RemoteRow]:
        """The addresses that hold these bytes, as far as is known."""
        return [_row(row) for row in self._index.select("SELECT * FROM remote WHERE sha = ? ORDER BY url", cid.digest)]

    def former_sources(self, cid: ContentId) -> list[str]:
        """Addresses that held these bytes once and hold others now."""
        return [
            row[0] for row in self._index.select("SELECT url FROM remote_former WHERE sha = ? ORDER BY url", cid.digest)
        ]

    def is_here(self, cid: ContentId) -> bool:
        """Whether there is a copy of whatever kind that can be opened."""
        try:
            self._store.open_blob(cid).close()
        except (BlobNotFound, BlobChanged):
            return False
        return True

    def wanted(self, now: datetime, most: int) -> list[str]:
        """Addresses that somebody waits for and that may be asked now, who came first first."""
        rows = self._index.select(
            "SELECT url FROM remote WHERE wanted <> '' AND not_before <= ? ORDER BY wanted, url LIMIT ?",
            stamp(now), most,
        )  # fmt: skip
        return [row["url"] for row in rows]

    def usage(self) -> RemoteUsage:
        """Counts, for people."""
        [row] = self._index.select(
            """SELECT count(*) AS addresses, coalesce(sum(wanted <> ''), 0) AS waiting,
                      coalesce(sum(failures > 0), 0) AS failing FROM remote"""
        )
        [kept] = self._index.select(f"SELECT count(*) AS copies, coalesce(sum(size), 0) AS bytes {_COPIES}")
        return RemoteUsage(
            addresses=row["addresses"], copies=kept["copies"], bytes=kept["bytes"], waiting=row["waiting"],
            failing=row["failing"],
        )  # fmt: skip

    def every(self, after: str = "", most: int = 1000) -> list[RemoteRow]:
        """Addresses in their order, a page at a time."""
        rows = self._index.select("SELECT * FROM remote WHERE url > ? ORDER BY url LIMIT ?", after, most)
        return [_row(row) for row in rows]

    # ------------------------------------------------------------------ noting
    def want(self, url: str, *, now: datetime, most: int) -> bool:
        """Puts an address into the line; False when ``most`` are in it already."""
        known = self.find(url)
        if known is not None and known.wanted:
            return True
        with self._index.transaction() as conn:
            if conn.execute("SELECT count(*) FROM remote WHERE wanted <> ''").fetchone()[0] >= most:
                return False
            conn.execute(
                "INSERT INTO remote (url, wanted) VALUES (?1, ?2) ON CONFLICT (url) DO UPDATE SET wanted = ?2",
                (url, stamp(now)),
            )
        return True

    def unwant(self, url: str) -> None:
        """Takes an address out of the line."""
        with self._index.transaction() as conn:
            conn.execute("UPDATE remote SET wanted = '' WHERE url = ?", (url,))

    def fetched(
        self, url: str, cid: ContentId, size: int, *, etag: str, modified: str, now: datetime
    ) -> ContentId | None:
        """These bytes are here durably and came from there; returns those that it held before, if others."""
        at = stamp(now)
        with self._index.transaction() as conn:
            row = conn.execute("SELECT sha FROM remote WHERE url = ?", (url,)).fetchone()
            before = row["sha"] if row is not None else None
            conn.execute(
                """INSERT INTO remote (url, sha, size, fetched, etag, modified, used, state)
                   VALUES (:url, :sha, :size, :at, :etag, :modified, :at, 'kept')
                   ON CONFLICT (url) DO UPDATE SET sha = :sha, size = :size, fetched = :at, etag = :etag,
                     modified = :modified, used = :at, state = 'kept', reason = '', failures = 0, not_before = '',
                     wanted = ''""",
                {"url": url, "sha": cid.digest, "size": size, "at": at, "etag": etag[:200], "modified": modified[:100]},
            )
            conn.execute("DELETE FROM remote_former WHERE sha = ? AND url = ?", (cid.digest, url))
            if before is None or before == cid.digest:
                return None
            conn.execute("INSERT OR REPLACE INTO remote_former VALUES (?, ?, ?)", (before, url, at))
        return ContentId(before)

    def unchanged(self, url: str, *, now: datetime) -> None:
        """The source says that it still holds the bytes that are here."""
        with self._index.transaction() as conn:
            conn.execute(
                "UPDATE remote SET fetched = ?, reason = '', failures = 0, not_before = '', wanted = '' WHERE url = ?",
                (stamp(now), url),
            )

    def failed(self, url: str, *, reason: str, not_before: datetime, keep_wanted: bool) -> None:
        """An attempt failed; when the next may be made. Whoever waits goes on waiting only if ``keep_wanted``."""
        with self._index.transaction() as conn:
            conn.execute("INSERT OR IGNORE INTO remote (url) VALUES (?)", (url,))
            conn.execute(
                """UPDATE remote SET reason = ?, failures = failures + 1, not_before = ?,
                     wanted = CASE WHEN ? THEN wanted ELSE '' END WHERE url = ?""",
                (reason[:300], stamp(not_before), keep_wanted, url),
            )

    def note_use(self, cid: ContentId, *, now: datetime) -> bool:
        """The bytes were asked for; a write at most once in an hour. Says whether they are remote ones at all."""
        rows = self._index.select("SELECT used FROM remote WHERE sha = ?", cid.digest)
        if not rows or max(row["used"] for row in rows) > stamp(now - USED_AGAIN):
            return bool(rows)
        with self._index.transaction() as conn:
            conn.execute("UPDATE remote SET used = ? WHERE sha = ?", (stamp(now), cid.digest))
        return True

    def forget(self, urls: Iterable[str]) -> int:
        """Addresses that no record names any more; their copies are then like any other own copy (``cas.garbage``)."""
        with self._index.transaction() as conn:
            return sum(conn.execute("DELETE FROM remote WHERE url = ?", (url,)).rowcount for url in urls)

    # ------------------------------------------------------------------ hosts
    def host_not_before(self, host: str) -> str:
        """Until when a host is left alone, as ``stamp`` writes it; empty: it may be asked."""
        rows = self._index.select("SELECT not_before FROM remote_host WHERE host = ?", host)
        return str(rows[0]["not_before"]) if rows else ""

    def leave_host(self, host: str, *, until: datetime, now: datetime) -> None:
        """Leaves a host alone for a while; forgets pauses that are over."""
        with self._index.transaction() as conn:
            conn.execute("DELETE FROM remote_host WHERE not_before <= ?", (stamp(now),))
            conn.execute("INSERT OR REPLACE INTO remote_host VALUES (?, ?)", (host, stamp(until)))

    # ------------------------------------------------------------------ room
    def make_room(self, budget: int, need: int, *, is_needed: Callable[[ContentId], bool]) -> list[ContentId]:
        """Takes copies away until ``need`` more bytes are within the budget; returns which.

        Args:
            budget: of all copies together, in bytes; 0: no limit.
            need: bytes that are about to be stored.
            is_needed: whether something else rests on this copy.

        Raises:
            NoRoom: what is left must not go.
            StoreFailed: the disk refused.
        """
        self._finish_dropping()
        dropped: list[ContentId] = []
        kept: set[bytes] = set()
        over = self._over(budget, need)
        while over > 0:
            rows = [row for row in self._oldest(len(kept)) if row["sha"] not in kept]
            if not rows:
                raise NoRoom(f"the budget of {budget} bytes is taken by copies that are pinned or needed")
            chosen: list[bytes] = []
            for row in rows:
                if over <= 0:
                    break
                if is_needed(ContentId(row["sha"])):
                    kept.add(row["sha"])
                    continue
                chosen.append(row["sha"])
                over -= row["size"]
            self._drop(chosen)
            dropped += [ContentId(sha) for sha in chosen]
            over = self._over(budget, need)
        return dropped

    def _over(self, budget: int, need: int) -> int:
        if budget == 0:
            return 0
        [row] = self._index.select(f"SELECT coalesce(sum(size), 0) {_COPIES}")
        return int(row[0]) + need - budget

    def _oldest(self, skip: int) -> list[sqlite3.Row]:
        return self._index.select(
            f"""SELECT sha, size, coalesce((SELECT max(used) FROM remote AS r WHERE r.sha = location.sha), '') AS last
                {_COPIES} AND sha NOT IN (SELECT sha FROM pin) ORDER BY last, sha LIMIT ?""",  # noqa: S608 - a constant
            CANDIDATES + skip,
        )

    def _drop(self, shas: Sequence[bytes]) -> None:
        """Rows first, durably; then the files."""
        with self._index.transaction() as conn:
            for sha in shas:
                conn.execute("INSERT OR IGNORE INTO remote_dropping VALUES (?)", (sha,))
                conn.execute("DELETE FROM location WHERE sha = ? AND volume = ?", (sha, OWNED))
                conn.execute("DELETE FROM quarantine WHERE sha = ? AND volume = ?", (sha, OWNED))
                conn.execute("UPDATE remote SET state = 'dropped' WHERE sha = ?", (sha,))
                places = "SELECT 1 FROM location WHERE sha = ?1 UNION ALL SELECT 1 FROM tier_location WHERE sha = ?1"
                if conn.execute(places, (sha,)).fetchone() is None:
                    for table in ("blob", "leaf_table", "block"):
                        conn.execute(f"DELETE FROM {table} WHERE sha = ?", (sha,))  # noqa: S608 - a fixed list
        self._store.note_closing()
        self._finish_dropping()

    def _finish_dropping(self) -> None:
        if not self._index.select("SELECT 1 FROM remote_dropping LIMIT 1"):
            return
        with self._index.transaction() as conn:
            for (sha,) in conn.execute("SELECT sha FROM remote_dropping").fetchall():
                if not conn.execute("SELECT 1 FROM location WHERE sha = ? AND volume = ?", (sha, OWNED)).fetchone():
                    with contextlib.suppress(FileNotFoundError):
                        self._store.tree.path(ContentId(sha)).unlink()
                conn.execute("DELETE FROM remote_dropping WHERE sha = ?", (sha,))


_COPIES: Final = """FROM location WHERE volume = ''
  AND sha IN (SELECT sha FROM remote WHERE sha IS NOT NULL UNION SELECT sha FROM remote_former)"""
"""Own copies of what lies or lay at an address."""


def stamp(moment: datetime) -> str:
    """A time as this module keeps it: in UTC, so that texts compare like times."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def parse_stamp(text: str) -> datetime | None:
    """What ``stamp`` wrote; None for an empty text."""
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%f%z") if text else None


def _row(row: sqlite3.Row) -> RemoteRow:
    return RemoteRow(
        url=row["url"], id=None if row["sha"] is None else ContentId(row["sha"]), size=row["size"],
        fetched=row["fetched"], etag=row["etag"], modified=row["modified"], state=row["state"], reason=row["reason"],
        failures=row["failures"], not_before=row["not_before"], wanted=row["wanted"],
    )  # fmt: skip
