"""Withdrawn bytes: marked for ever, taken out of every table of the index, refused at every door.

Order of a withdrawal, so that a kill at any point leaves the bytes closed and the work can be taken up again:

1. ``withdraw``: one transaction sets the mark, deletes every row about the bytes and notes what is left to remove.
2. ``erase``: removes the files of the store's own (the owned copy, copies in quarantine), durably.
3. ``close``: forgets what was noted. From here on nothing in the index names the bytes.
4. ``clean``: the caller has rewritten the database files, so that no free page remembers them either.

Invariants:
- The table keeps a keyed hash of the id, never the id, except in ``pending`` between 1 and 3.
- Rows about bytes and their mark are never there together: ``BlobIndex.record`` and ``withdraw`` are transactions
  that see each other, so the way to bytes that are here asks nothing more than before.
- Adopted files are not touched.
- The addresses of the bytes are kept as keyed hashes, too (``withdrawn_url``), and are never asked again.

It leaves out: what was made from the bytes, and copies in tiers (``node.services.withdraw`` removes them before 3).
"""

import hashlib
import json
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

from cas.ids import ContentId
from cas.index import WITHDRAWAL_KEY, BlobIndex, withdrawal_mark

State = Literal["marked", "closed", "clean"]
_TABLES: Final = ("blob", "location", "leaf_table", "block", "quarantine", "pin", "unnamed", "tier_location", "restore",
                  "used", "remote", "remote_former", "remote_dropping")  # fmt: skip
"""Every table with a column ``sha``. ``listed`` goes by path."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Withdrawal:
    """What is known about withdrawn bytes: not their id."""

    at: str
    reason: str
    told: bool
    """Whether everybody may know of it; otherwise the bytes look as if they had never been here."""
    state: State


@dataclass(frozen=True, slots=True, kw_only=True)
class Unfinished:
    """What is left to remove of a withdrawal that has begun."""

    id: ContentId
    kept: tuple[str, ...]
    """Paths of copies in quarantine."""
    places: tuple[tuple[str, str], ...]
    """(volume, path) where the bytes lay; an empty volume is the store's own tree."""
    tiers: tuple[tuple[str, str], ...]
    """(tier, key) of copies elsewhere."""
    urls: tuple[str, ...]
    """Addresses they were fetched from."""


class Withdrawals:
    """The table ``withdrawn`` of one index; thread-safe, blocking."""

    def __init__(self, index: BlobIndex) -> None:
        self._index = index
        self._key: bytes | None = None

    def find(self, cid: ContentId) -> Withdrawal | None:
        """What is known about the withdrawal of these bytes; None when they were not withdrawn."""
        key = self._known_key()
        if key is None:
            return None
        rows = self._index.select("SELECT * FROM withdrawn WHERE mark = ?", withdrawal_mark(key, cid.digest))
        return _withdrawal(rows[0]) if rows else None

    def among(self, cids: Iterable[ContentId]) -> set[bytes]:
        """Which of these (by digest) were withdrawn; costs one question while nothing was."""
        if self._known_key() is None:
            return set()
        return {cid.digest for cid in cids if self.find(cid) is not None}

    def every(self) -> list[Withdrawal]:
        """All withdrawals, oldest first."""
        return [_withdrawal(row) for row in self._index.select("SELECT * FROM withdrawn ORDER BY at, mark")]

    def unfinished(self) -> list[Unfinished]:
        """Withdrawals that were begun and not closed."""
        rows = self._index.select("SELECT pending FROM withdrawn WHERE state = 'marked'")
        return [_unfinished(row["pending"]) for row in rows]

    @property
    def has_any(self) -> bool:
        """Whether anything was ever withdrawn."""
        return self._known_key() is not None

    def is_barred(self, url: str) -> bool:
        """Whether what lies at this address was withdrawn."""
        key = self._known_key()
        return key is not None and bool(
            self._index.select("SELECT 1 FROM withdrawn_url WHERE mark = ?", _url_mark(key, url))
        )

    def bar(self, url: str, *, new_key: bytes) -> None:
        """An address gave bytes that were withdrawn: it is forgotten and never asked again."""
        with self._index.transaction() as conn:
            _bar(conn, [url], _own_key(conn, new_key))

    def withdraw(
        self, cid: ContentId, *, reason: str, told: bool, at: str, new_key: bytes, urls: Iterable[str] = ()
    ) -> Unfinished:
        """Marks the bytes and deletes every row about them; again, it says what is still left to remove.

        Args:
            cid: the bytes.
            reason: shown to whoever asks, when ``told``.
            told: see ``Withdrawal``.
            at: the time, as text.
            new_key: 32 random bytes; the key of this index if it has none yet.
            urls: addresses of the bytes that records know; those that the index knows need not be named.

        Raises:
            StoreFailed: the disk refused; nothing was changed.
        """
        with self._index.transaction() as conn:
            key = _own_key(conn, new_key)
            mark = withdrawal_mark(key, cid.digest)
            _bar(conn, urls, key)
            row = conn.execute("SELECT state, pending FROM withdrawn WHERE mark = ?", (mark,)).fetchone()
            if row is not None and row["state"] == "marked":
                return _unfinished(row["pending"])
            todo = _collect(conn, cid)
            _bar(conn, todo.urls, key)
            conn.execute("PRAGMA secure_delete=ON")
            for table in _TABLES:
                conn.execute(f"DELETE FROM {table} WHERE sha = ?", (cid.digest,))  # noqa: S608 - a fixed list
            conn.executemany("DELETE FROM listed WHERE volume = ? AND path = ?", todo.places)
            if row is None:
                conn.execute(
                    "INSERT INTO withdrawn VALUES (?, ?, ?, ?, 'marked', ?)",
                    (mark, at, reason, int(told), _pending(todo)),
                )
            else:
                conn.execute(
                    "UPDATE withdrawn SET state = 'marked', pending = ? WHERE mark = ?", (_pending(todo), mark)
                )
        return todo

    def close(self, cid: ContentId) -> None:
        """Everything noted has been removed: forgets it."""
        key = self._known_key()
        if key is not None:
            with self._index.transaction() as conn:
                conn.execute("PRAGMA secure_delete=ON")
                conn.execute(
                    "UPDATE withdrawn SET state = 'closed', pending = '' WHERE mark = ? AND state = 'marked'",
                    (withdrawal_mark(key, cid.digest),),
                )

    def clean(self) -> None:
        """The database files were rewritten after every closed withdrawal."""
        with self._index.transaction() as conn:
            conn.execute("UPDATE withdrawn SET state = 'clean' WHERE state = 'closed'")

    def _known_key(self) -> bytes | None:
        if self._key is None:
            rows = self._index.select("SELECT value FROM fact WHERE name = ?", WITHDRAWAL_KEY)
            self._key = bytes.fromhex(rows[0]["value"]) if rows else None
        return self._key


def _own_key(conn: sqlite3.Connection, new_key: bytes) -> bytes:
    conn.execute("INSERT OR IGNORE INTO fact VALUES (?, ?)", (WITHDRAWAL_KEY, new_key.hex()))
    return bytes.fromhex(conn.execute("SELECT value FROM fact WHERE name = ?", (WITHDRAWAL_KEY,)).fetchone()[0])


def _bar(conn: sqlite3.Connection, urls: Iterable[str], key: bytes) -> None:
    conn.execute("PRAGMA secure_delete=ON")
    for url in urls:
        conn.execute("INSERT OR IGNORE INTO withdrawn_url VALUES (?)", (_url_mark(key, url),))
        conn.execute("DELETE FROM remote WHERE url = ?", (url,))
        conn.execute("DELETE FROM remote_former WHERE url = ?", (url,))


def _url_mark(key: bytes, url: str) -> bytes:
    return withdrawal_mark(key, b"url\0" + hashlib.sha256(url.encode("utf-8", "surrogatepass")).digest())


def _collect(conn: sqlite3.Connection, cid: ContentId) -> Unfinished:
    def pairs(sql: str) -> tuple[tuple[str, str], ...]:
        return tuple((row[0], row[1]) for row in conn.execute(sql, (cid.digest,)))

    return Unfinished(
        id=cid,
        kept=tuple(row[0] for row in conn.execute("SELECT kept_at FROM quarantine WHERE sha = ?", (cid.digest,))),
        places=tuple(
            dict.fromkeys(
                pairs("SELECT volume, path FROM location WHERE sha = ?")
                + pairs("SELECT volume, path FROM quarantine WHERE sha = ?")
            )
        ),
        tiers=pairs("SELECT tier, key FROM tier_location WHERE sha = ?"),
        urls=tuple(row[0] for row in conn.execute("SELECT url FROM remote WHERE sha = ?", (cid.digest,))),
    )


def _pending(todo: Unfinished) -> str:
    return json.dumps(
        {"sha": todo.id.hex, "kept": todo.kept, "places": todo.places, "tiers": todo.tiers, "urls": todo.urls}
    )


def _unfinished(text: str) -> Unfinished:
    found = json.loads(text)
    return Unfinished(
        id=ContentId.from_hex(found["sha"]),
        kept=tuple(found["kept"]),
        places=tuple((volume, path) for volume, path in found["places"]),
        tiers=tuple((tier, key) for tier, key in found["tiers"]),
        urls=tuple(found["urls"]),
    )


def _withdrawal(row: sqlite3.Row) -> Withdrawal:
    return Withdrawal(at=row["at"], reason=row["reason"], told=bool(row["told"]), state=row["state"])
