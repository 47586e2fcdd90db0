"""Withdrawing an image: its bytes and everything made from them, and then the remains in the node's files.

The order, and what a kill leaves at each point:

1. The mark in the blob index: from here on no door gives the bytes out and no ingest takes them in.
2. One transaction in the database (``node.storage.forget``): records, text, results, search.
3. Files: the owned copy, copies in quarantine, previews and whatever else is derived, staging; then copies in tiers.
   A tier that cannot be reached leaves the withdrawal pending: everything else is done, and it is tried again.
4. ``close``: the index forgets the id. Until then ``finish_begun`` (any later run, and a serving node by itself)
   takes up 2 and 3 again.
5. ``clean``: both databases are rewritten (VACUUM) and their logs emptied, because deleted rows live on in free pages,
   in the middle of pages and in the write-ahead log. Costs a rewrite of the files, so it can be done later and once
   for many withdrawals; until then ``withdrawals_to_clean`` says how many wait.

It leaves out: backups and what others have copied (``node.cli.withdraw`` says so), asking people.
"""

import contextlib
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from cas.errors import StoreFailed, TierFailed
from cas.ids import ContentId
from cas.remote import RemoteBytes
from cas.withdrawn import Unfinished
from linkeddata.times import format_time
from node.access import ANONYMOUS, Door, decide
from node.config import Settings
from node.folder import FolderBusy, NodeFolder, is_served, withdraw_lock
from node.services.similar import wipe_vectors
from node.services.tiers import open_tiering
from node.storage import redactions
from node.storage.db import connect
from node.storage.facts import bytes_facts
from node.storage.forget import Traces, find_traces, forget
from node.storage.luggage import made_from
from node.storage.records import TO_PURGE

BESIDE_SERVER_BYTES: Final = 1 << 30
"""A database larger than this is not rewritten beside a server: its writers would wait longer than they do."""
CHECKPOINT_S: Final = 20
"""How long readers of a running server are waited for; their reads end after five seconds."""
OPTIMIZE: Final = (
    "INSERT INTO specimen_text (specimen_text) VALUES ('optimize')",
    "INSERT INTO annotation_text (annotation_text) VALUES ('optimize')",
)
"""Merges the full-text indexes: deleted words stay in their segments until then."""
Say = Callable[[str], None]


class WithdrawalPending(Exception):
    """A copy lies in a tier that cannot be reached; everything else is removed. The message says which and why."""


class CleaningHeld(Exception):
    """The files were not rewritten; everything else is done. The message says what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WithdrawalPlan:
    """What a withdrawal would do."""

    id: ContentId
    traces: Traces
    told: bool
    adopted: tuple[str, ...]
    """Files of the institution that stay, and are never served or taken in again."""
    owned: bool
    derived: tuple[Path, ...]
    addresses: tuple[str, ...] = ()
    """Where the image lies elsewhere: never fetched again."""
    public_originals: tuple[ContentId, ...] = ()
    """Copies of it without its metadata, which go with it."""
    redacted: tuple[ContentId, ...] = ()
    """The picture of it with blacked out labels, which goes with it."""
    tiers: tuple[str, ...] = ()
    """Tiers that hold a copy."""
    other_files: tuple[ContentId, ...] = ()
    """Of the same exposure: they stay, and the next ingest takes them for an image of their own."""

    @property
    def is_empty(self) -> bool:
        """Whether nothing here knows these bytes."""
        return not (
            self.adopted or self.owned or self.tiers or self.traces.media or self.traces.earlier or self.derived
        )


def plan_withdrawal(folder: NodeFolder, cid: ContentId) -> WithdrawalPlan:
    """What is here of these bytes. Changes nothing."""
    with folder.database.reader(limit_s=None) as conn:
        traces = find_traces(conn, cid.hex)
        told = decide(ANONYMOUS, Door.RECORD, bytes_facts(conn, cid)).allowed
        public = [ContentId.from_hex(item) for item in made_from(conn, cid.hex)]
        covered = redactions.get(conn, cid.hex)
        others = [ContentId.from_hex(item) for item in _other_files(conn, cid.hex)]
        locators = [row[0] for row in conn.execute("SELECT locator FROM medium WHERE image = ?", (cid.hex,))]
    addresses = {item for item in locators if item.startswith(("http://", "https://"))}
    addresses |= {row.url for row in RemoteBytes(folder.blobs).sources_of(cid)}
    places = folder.blobs.places(cid)
    return WithdrawalPlan(
        id=cid,
        traces=traces,
        told=told,
        adopted=tuple(str(path) for path in places if path is not None),
        owned=None in places,
        derived=tuple(derived_files(folder.settings, cid)),
        addresses=tuple(sorted(addresses)),
        public_originals=tuple(public),
        redacted=(ContentId.from_hex(covered.derivative),) if covered is not None and covered.derivative else (),
        tiers=tuple(tier for _, tier, _ in folder.blobs.index.in_tiers(cid)),
        other_files=tuple(others),
    )


def _other_files(conn: sqlite3.Connection, image: str) -> list[str]:
    """SHA-256 (hex) of the other files of exposures that have these bytes as a file."""
    rows = conn.execute(
        """WITH media (iri) AS (SELECT iri FROM medium WHERE image = ?1 UNION
             SELECT medium FROM medium_variant WHERE image = ?1)
           SELECT image FROM medium WHERE iri IN (SELECT iri FROM media)
           UNION SELECT image FROM medium_variant WHERE medium IN (SELECT iri FROM media)""",
        (image,),
    )
    return sorted(row["image"] for row in rows if row["image"] not in (None, image))


def withdraw(folder: NodeFolder, plan: WithdrawalPlan, *, reason: str, now: datetime, new_key: bytes) -> None:
    """Steps 1 to 4. Safe to repeat after a kill at any point.

    Raises:
        FolderBusy: another withdrawal is running.
        StoreFailed, sqlite3.Error: the disk refused; what is done stays done, run it again.
        WithdrawalPending: a copy in a tier could not be removed; run it again, or leave it to the serving node.
    """
    with withdraw_lock(folder.settings.folder):
        for public in (
            *plan.public_originals,
            *plan.redacted,
        ):  # before the file that they were made from: a kill leaves none behind
            todo = folder.blobs.withdrawals.withdraw(
                public, reason=reason, told=plan.told, at=format_time(now), new_key=new_key, urls=()
            )
            _carry_out(folder, todo, now=now)
        todo = folder.blobs.withdrawals.withdraw(
            plan.id, reason=reason, told=plan.told, at=format_time(now), new_key=new_key, urls=plan.addresses
        )
        _carry_out(folder, todo, now=now)


def finish_begun(folder: NodeFolder, *, now: datetime) -> int:
    """Carries out withdrawals that were interrupted; returns how many. Does nothing while one is running.

    Raises:
        WithdrawalPending: some wait for a tier; all others are done.
    """
    if not folder.blobs.withdrawals.unfinished():
        return 0
    count = 0
    waiting: list[str] = []
    with contextlib.suppress(FolderBusy), withdraw_lock(folder.settings.folder):
        for todo in folder.blobs.withdrawals.unfinished():
            try:
                _carry_out(folder, todo, now=now)
                count += 1
            except WithdrawalPending as error:
                waiting.append(str(error))
    if waiting:
        raise WithdrawalPending("; ".join(dict.fromkeys(waiting)))
    return count


def withdrawals_to_clean(folder: NodeFolder) -> int:
    """How many withdrawals wait for ``clean``."""
    return sum(item.state != "clean" for item in folder.blobs.withdrawals.every())


def clean(folder: NodeFolder, *, say: Say = lambda _: None, beside_server_bytes: int = BESIDE_SERVER_BYTES) -> None:
    """Step 5: no byte of the node's files holds what was withdrawn.

    Raises:
        CleaningHeld: it was not done; the message says why and what to do.
    """
    settings = folder.settings
    files = [settings.database_path, settings.blobs_path / "index.sqlite"]
    size = sum(path.stat().st_size for path in files)
    again = f"`vasculum withdraw {settings.folder} --finish`"
    if size > beside_server_bytes and is_served(settings.lock_path):
        raise CleaningHeld(
            f"the databases have {size / 1e9:.1f} GB, and rewriting them would keep the running server from writing for"
            f" about {size / 50e6:.0f} s: stop the server and run {again}"
        )
    free = shutil.disk_usage(settings.database_path.parent).free
    if free < 2 * size:
        raise CleaningHeld(f"rewriting the databases needs {2 * size / 1e9:.1f} GB free: make room, then run {again}")
    for path in aside_copies(settings):
        say(f"removing {path.name}: an older copy of the database, which still holds it")
        path.unlink(missing_ok=True)
    folder.blobs.sweep_staging()
    try:
        with folder.database.transaction() as conn:
            conn.execute("PRAGMA secure_delete=ON")
            for statement in OPTIMIZE:
                conn.execute(statement)
        for path in files:
            say(f"rewriting {path.name} ({path.stat().st_size / 1e6:.1f} MB)")
            _rewrite(path)
    except sqlite3.OperationalError as error:
        raise CleaningHeld(f"{error}: stop the server or run {again} when it is less busy") from error
    folder.blobs.withdrawals.clean()
    with folder.database.transaction() as conn:
        conn.execute("DELETE FROM meta WHERE key = ?", (TO_PURGE,))


def derived_files(settings: Settings, cid: ContentId) -> Iterator[Path]:
    """Whatever lies below the folder of derived things under the id of these bytes."""
    root = settings.derived_path
    for pattern in (f"*/{cid.hex}*", f"*/{cid.hex[:2]}/{cid.hex}*", f"*/{cid.hex[:2]}/{cid.hex[2:4]}/{cid.hex}*"):
        yield from root.glob(pattern)


def aside_copies(settings: Settings) -> list[Path]:
    """Copies of the databases that a migration or an interrupted step put beside them."""
    folders = (settings.database_path.parent, settings.blobs_path)
    return [path for folder in folders for path in sorted(folder.glob("*.sqlite.before-schema-*"))]


def _carry_out(folder: NodeFolder, todo: Unfinished, *, now: datetime) -> None:
    known = folder.blobs.withdrawals.find(todo.id)
    if known is None:
        raise StoreFailed("a withdrawal that was begun has no mark: run `vasculum doctor`")
    names = [*(path for volume, path in todo.places if volume), *todo.urls]
    with folder.database.transaction() as conn:
        forget(conn, todo.id.hex, reason=known.reason, names=names, now=now)
    folder.blobs.erase(todo)
    wipe_vectors(folder.settings, todo.id.hex)
    for path in derived_files(folder.settings, todo.id):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    _remove_from_tiers(folder, todo, now=now)
    folder.blobs.withdrawals.close(todo.id)


def _remove_from_tiers(folder: NodeFolder, todo: Unfinished, *, now: datetime) -> None:
    """Every tier that ever had a row of these bytes; under the lock, so that no move is at them."""
    if not todo.tiers:
        return
    tiering = open_tiering(folder.settings, folder.blobs, clock=lambda: now, environ=os.environ)
    problems: list[str] = []
    with tiering.lock():
        for name, _ in todo.tiers:
            try:
                tiering.remove(todo.id, name)
            except TierFailed as error:
                problems.append(f"tier {name}: {error}")
    if problems:
        raise WithdrawalPending("; ".join(problems))


def _rewrite(path: Path) -> None:
    """VACUUM, then the write-ahead log into the file and its length to zero."""
    conn = connect(path)
    try:
        conn.execute("PRAGMA secure_delete=ON")
        conn.execute("VACUUM")
        conn.execute(f"PRAGMA busy_timeout={CHECKPOINT_S * 1000}")
        if conn.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
            raise sqlite3.OperationalError("readers hold on to the old state")
    finally:
        conn.close()


__all__ = [
    "CleaningHeld", "WithdrawalPending", "WithdrawalPlan", "aside_copies", "clean", "derived_files", "finish_begun",
    "plan_withdrawal", "withdraw", "withdrawals_to_clean",
]  # fmt: skip
