"""Sources that a running node reads again by itself (``[sources.NAME] every_hours``).

Whether a source is due is computed from the database and the clock at every tick, so a tick that was lost, or a node
that was off for a week, changes nothing but the hour.

Invariants:
- A plan behind the brake is held here as on the command line: nothing is changed, it is kept and shown, and it waits
  for ``vasculum ingest --accept-plan``. The next turn plans anew: an export that was repaired goes ahead.
- Nothing is withdrawn by itself: what is missing from an archive is kept and noted (``--prune`` is for people).
- Settings are read anew at every turn: a longer list of sensitive taxa reaches what is public within a minute, held
  plan or not (``node.services.protect_known``).
- One ingest at a time per node; when a person's runs, the schedule waits.
"""

import json
import logging
import sqlite3
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final, Literal

from cas.errors import CasError
from linkeddata.dwca_meta import DwcaError
from linkeddata.times import format_time, parse_time
from node.config import ConfigError, Settings, load_settings
from node.folder import FolderBusy, NodeFolder, ingest_lock
from node.services.fetch_at_ingest import fetcher_of
from node.services.ingest import Ingest, IngestStopped
from node.services.ingest_ledger import PlanHeld
from node.services.intake_source import open_intake
from node.services.protect_known import is_protected, protect_known
from node.services.purge import purge, purge_waits
from node.services.withdraw import CleaningHeld
from node.storage.db import Database

RETRY: Final = timedelta(hours=1)
"""After a failure (a drive not mounted, an export half written) it is tried again so soon."""
SCHEDULE_PREFIX: Final = "schedule:"
"""In ``meta``: the last turn of a source, as JSON."""
log = logging.getLogger("vasculum.schedule")
State = Literal["done", "held", "failed", "stopped"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """What became of one turn of one source."""

    source: str
    at: datetime
    state: State
    text: str = ""
    """Why it was held or failed, or what it did."""
    plan: str = ""
    """Id of a plan that waits for a person."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingPlan:
    """A plan that a person has to accept."""

    id: str
    source: str
    created: str
    reason: str


def due_at(every_hours: int, *, done: datetime | None, last: Turn | None) -> datetime | None:
    """When a source is to be read again; None: at once.

    Args:
        every_hours: of its settings.
        done: when the last ingest that was finished began, by whomever.
        last: the last turn of the schedule.
    """
    every = timedelta(hours=every_hours)
    times = [] if done is None else [done + every]
    if last is not None and last.state in ("failed", "stopped") and (done is None or last.at >= done):
        times = [last.at + (min(every, RETRY) if last.state == "failed" else timedelta(0))]
    elif last is not None and last.state == "held":
        times.append(last.at + every)
    return max(times, default=None)


def waiting_plans(conn: sqlite3.Connection) -> list[WaitingPlan]:
    """Plans that wait for a person, newest first."""
    rows = conn.execute("SELECT * FROM ingest_plan WHERE accepted IS NULL ORDER BY created DESC, id").fetchall()
    return [
        WaitingPlan(
            id=row["id"], source=row["source"], created=row["created"], reason=json.loads(row["summary"])["reason"]
        )
        for row in rows
    ]


def last_turn(conn: sqlite3.Connection, source: str) -> Turn | None:
    """The last turn of a source; None when there was none."""
    row = conn.execute("SELECT value FROM meta WHERE key = ?", (SCHEDULE_PREFIX + source,)).fetchone()
    if row is None:
        return None
    found = json.loads(row["value"])
    return Turn(source=source, at=parse_time(found["at"]), state=found["state"], text=found["text"], plan=found["plan"])


class Schedule:
    """The schedule of one node. ``run_due`` blocks: call it in a thread, one at a time."""

    def __init__(self, folder: NodeFolder, *, clock: Callable[[], datetime]) -> None:
        self._folder = folder
        self._clock = clock
        self._ending = threading.Event()

    def stop(self) -> None:
        """Ends a turn that is running after its batch."""
        self._ending.set()

    def run_due(self) -> list[Turn]:
        """Protects what the list names now, then reads every source that is due."""
        settings = self._fresh()
        if settings is None:
            return []
        database = self._folder.database
        turns: list[Turn] = []
        if is_protected(settings, database) and not self.due(settings) and not purge_waits(database):
            return turns  # without the lock, which a person may want at this moment
        try:
            with ingest_lock(settings.folder):
                protect_known(settings, database, clock=self._clock)
                for name in self.due(settings):
                    if self._ending.is_set():
                        break
                    turn = self._turn(name, settings)
                    _keep(database, turn)
                    turns.append(turn)
                self._purge()
        except FolderBusy:
            log.info("another ingest is running: the schedule waits")
        return turns

    def due(self, settings: Settings) -> list[str]:
        """Names of the sources that are due."""
        now, found = self._clock(), []
        with self._folder.database.reader() as conn:
            for name, source in settings.sources.items():
                if not source.every_hours:
                    continue
                row = conn.execute(
                    "SELECT max(started) FROM ingest_run WHERE source = ? AND state = 'done'", (name,)
                ).fetchone()
                done = parse_time(row[0]) if row[0] else None
                at = due_at(source.every_hours, done=done, last=last_turn(conn, name))
                if at is None or at <= now:
                    found.append(name)
        return found

    def _fresh(self) -> Settings | None:
        """The settings as the file has them now; None when they cannot be used, which is said and changes nothing."""
        try:
            settings = load_settings(self._folder.settings.folder)
        except ConfigError as error:
            log.error("the schedule waits, because the settings cannot be read: %s", error)  # noqa: TRY400
            return None
        if settings.origin != self._folder.settings.origin:
            log.error("the schedule waits, because public_url in node.toml is not what this node was started with")
            return None
        return settings

    def _turn(self, name: str, settings: Settings) -> Turn:
        turn = Turn(source=name, at=self._clock(), state="done")
        source = settings.sources[name]
        try:
            with open_intake((settings.folder / source.path).resolve(), name, key_columns=source.key) as intake:
                work = Ingest(
                    settings, self._folder.database, self._folder.blobs, intake, clock=self._clock,
                    fetch=fetcher_of(settings) if source.fetch is True else None,
                )  # fmt: skip
                report = work.run(progress=self._progress)
        except PlanHeld as error:
            log.warning("source %s: the ingest waits for a person: %s", name, error)
            return replace(turn, state="held", text=str(error), plan=error.plan.id)
        except IngestStopped:
            return replace(turn, state="stopped", text="the node was stopped")
        except (DwcaError, CasError, OSError, sqlite3.Error) as error:
            log.error("source %s could not be read: %s", name, error)  # noqa: TRY400
            return replace(turn, state="failed", text=str(error)[:500])
        counts = f"{report.new} new, {report.changed} changed, {report.unchanged} unchanged"
        missing = len(report.plan.vanished)
        return replace(turn, text=f"{counts}{f', {missing} missing and kept' if missing else ''}")

    def _progress(self, done: int, total: int) -> None:
        if self._ending.is_set():
            raise IngestStopped(f"stopped after {done} of {total} rows")

    def _purge(self) -> None:
        try:
            purge(self._folder)
        except CleaningHeld as error:
            log.warning("what was said of taxa that are sensitive now is still in the files: %s", error)


def _keep(database: Database, turn: Turn) -> None:
    value = json.dumps({"at": format_time(turn.at), "state": turn.state, "text": turn.text, "plan": turn.plan})
    with database.transaction() as conn:
        conn.execute("INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)", (SCHEDULE_PREFIX + turn.source, value))


__all__ = ["Schedule", "Turn", "WaitingPlan", "due_at", "last_turn", "waiting_plans"]
