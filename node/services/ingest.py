"""Ingest: from what an institution has to records, blobs and an entry in the publication log.

Order of every batch, and what a crash leaves: the bytes are hashed and durable first, then one transaction publishes
records, media, search rows and source rows together. Killed anywhere, at worst some bytes are known that no record
uses yet; running the same ingest again goes on where it stopped, because finished rows are unchanged.

Invariants:
- Nothing is written before the plan is made; a plan behind the brake is stored and waits for ``--accept-plan``.
- The same archive again changes nothing, and says so. Same bytes twice are one blob and two media.
- One bad image is a finding about that image; the rest goes on.
- What was made from bytes that become stricter, or from bytes that were replaced, is withdrawn or marked in the same
  transaction.

It leaves out: talking to people (``node.cli.ingest``), fetching (handed in), schedules.
"""

import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from cas.errors import CasError
from cas.ids import ContentId
from cas.store import AdoptFailure, BlobStore
from linkeddata.file_match import FileMatch, compile_rules
from linkeddata.ingest_plan import IngestPlan, KnownRow, make_plan
from linkeddata.source import SourceMedia, SourceRow
from linkeddata.times import format_time
from node.config import Settings, SourceSettings
from node.services.intake_source import Intake
from node.services.publish_row import MediumBytes, RowContext, publish_row, withdraw_row
from node.storage.db import Database
from runners.decode import Limits, read_header
from runners.errors import ImageRefused

BATCH_ROWS: Final = 100
"""Rows that share one transaction: what a crash makes an ingest do again."""

Progress = Callable[[int, int], None]
"""(rows done, rows in all)."""
Fetch = Callable[[str], bytes]
"""An address -> its bytes, within limits; raises OSError with the reason."""


class PlanHeld(Exception):
    """The brake is on; the message says why and how to go on."""

    def __init__(self, plan: IngestPlan, reason: str) -> None:
        super().__init__(reason)
        self.plan = plan


@dataclass(slots=True, kw_only=True)
class IngestReport:
    """What an ingest did."""

    source: str
    plan: IngestPlan
    new: int = 0
    changed: int = 0
    unchanged: int = 0
    tombstoned: int = 0
    media: int = 0
    media_replaced: int = 0
    files_missing: int = 0
    images_unreadable: int = 0
    orphan_files: int = 0
    findings: int = 0
    bytes_hashed: int = 0

    @property
    def is_unchanged(self) -> bool:
        """Whether nothing changed at all."""
        return not (self.new or self.changed or self.tombstoned or self.media_replaced)

    def counts(self) -> dict[str, int]:
        """For storage and ``--json``."""
        return {
            "new": self.new, "changed": self.changed, "unchanged": self.unchanged, "vanished": len(self.plan.vanished),
            "rekeyed": len(self.plan.rekeyed), "tombstoned": self.tombstoned, "media": self.media,
            "mediaReplaced": self.media_replaced, "filesMissing": self.files_missing,
            "imagesUnreadable": self.images_unreadable, "orphanFiles": self.orphan_files, "findings": self.findings,
            "bytesHashed": self.bytes_hashed,
        }  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Matched:
    """What a dry run says about files."""

    matched: int
    remote: int
    unmatched: tuple[str, ...]
    orphans: tuple[str, ...]
    bytes: int


class Ingest:
    """One ingest of one source."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        blobs: BlobStore,
        intake: Intake,
        *,
        clock: Callable[[], datetime],
        fetch: Fetch | None = None,
    ) -> None:
        self._settings = settings
        self._db = database
        self._blobs = blobs
        self._intake = intake
        self._clock = clock
        self._fetch = fetch
        self._source = settings.sources.get(intake.source, SourceSettings())
        self._rules = compile_rules((rule.field, rule.match, rule.path) for rule in self._source.files)

    def plan(self) -> IngestPlan:
        """Compares the intake with what is known."""
        with self._db.reader(limit_s=None) as conn:
            known = {
                row["key"]: KnownRow(digest=row["digest"], twin=_twin(row["body"]))
                for row in conn.execute(
                    "SELECT key, digest, body FROM source_row WHERE source = ? AND state = 'present'",
                    (self._intake.source,),
                )
            }
        return make_plan(known, self._intake.incoming(), ends_early=self._intake.ends_early)

    def match_files(self) -> Matched:
        """Which media rows have a file, which have only an address, which files nobody names."""
        used: set[str] = set()
        unmatched: list[str] = []
        remote = size = 0
        for row in self._intake.rows():
            for medium in row.media:
                where = self._locate(row, medium)
                if where.relpath is not None:
                    if where.relpath not in used:
                        size += self._intake.size_of(where.relpath)
                    used.add(where.relpath)
                elif where.url is not None:
                    remote += 1
                else:
                    unmatched.append(medium.locator)
        orphans = tuple(sorted(self._intake.names - used))
        return Matched(matched=len(used), remote=remote, unmatched=tuple(unmatched), orphans=orphans, bytes=size)

    def run(
        self, *, accepted: str | None = None, prune: bool = False, progress: Progress | None = None
    ) -> IngestReport:
        """Does it.

        Raises:
            PlanHeld: the brake is on and ``accepted`` is not this plan's id; nothing was changed.
        """
        plan = self.plan()
        self._hold_or_go(plan, accepted)
        report = IngestReport(source=self._intake.source, plan=plan)
        run = self._begin(plan)
        if self._intake.root is not None:
            self._blobs.define_volume(self._intake.source, self._intake.root, identity=self._source.identity)
        total = len(plan.new) + len(plan.changed) + len(plan.unchanged) + len(plan.rekeyed)
        done = 0
        used: set[str] = set()
        for batch in _batches(self._intake.rows(), BATCH_ROWS):
            located = {medium.key: self._locate(row, medium) for row in batch for medium in row.media}
            used.update(match.relpath for match in located.values() if match.relpath is not None)
            found = self._store_files(located, report)
            self._publish(batch, located, found, plan, run, report)
            done += len(batch)
            if progress is not None:
                progress(done, total)
        orphans = sorted(self._intake.names - used)
        report.orphan_files = len(orphans)
        self._finish(plan, run, report, orphans, prune=prune)
        return report

    # ------------------------------------------------------------------ steps
    def _hold_or_go(self, plan: IngestPlan, accepted: str | None) -> None:
        reason = plan.brake_reason
        if reason is None or accepted == plan.id:
            return
        now = format_time(self._clock())
        with self._db.transaction() as conn:
            conn.execute(
                "INSERT OR REPLACE INTO ingest_plan VALUES (?, ?, ?, ?, ?, NULL)",
                (plan.id, self._intake.source, str(self._intake.root or ""), now, json.dumps({"reason": reason})),
            )
        raise PlanHeld(plan, reason)

    def _begin(self, plan: IngestPlan) -> int:
        now = format_time(self._clock())
        with self._db.transaction() as conn:
            conn.execute(
                "UPDATE ingest_run SET state = 'stopped' WHERE source = ? AND state = 'running'", (self._intake.source,)
            )
            row = conn.execute(
                """INSERT INTO ingest_run (source, path, plan, started, state) VALUES (?, ?, ?, ?, 'running')
                   RETURNING id""",
                (self._intake.source, str(self._intake.root or ""), plan.id, now),
            ).fetchone()
            conn.execute("UPDATE ingest_plan SET accepted = ? WHERE id = ?", (now, plan.id))
            conn.execute("DELETE FROM finding WHERE source = ?", (self._intake.source,))
            conn.execute(
                "INSERT OR REPLACE INTO source (name, kind, path, last_ingest) VALUES (?, ?, ?, ?)",
                (self._intake.source, self._intake.kind, str(self._intake.root or ""), now),
            )
        return int(row[0])

    def _locate(self, row: SourceRow, medium: SourceMedia) -> FileMatch:
        return self._intake.locate(medium, row.fields.get("dwc:catalogNumber", ""), self._rules)

    def _store_files(self, located: Mapping[str, FileMatch], report: IngestReport) -> dict[str, MediumBytes]:
        """Makes the bytes of these media durable; by media key."""
        found: dict[str, MediumBytes] = {}
        by_path: dict[str, list[str]] = {}
        for key, where in located.items():
            if where.relpath is not None:
                by_path.setdefault(where.relpath, []).append(key)
            elif where.url is not None:
                found[key] = self._store_remote(where.url)
            else:
                found[key] = MediumBytes(problem="the file was not found", code="file-not-found")
        if self._intake.root is not None:
            for result in self._blobs.adopt_many(self._intake.source, by_path, now=self._clock()):
                if isinstance(result, AdoptFailure):
                    stored = MediumBytes(problem=f"the file cannot be used: {result.reason}", code="file-unreadable")
                else:
                    report.bytes_hashed += 0 if result.outcome == "unchanged" else result.size
                    stored = MediumBytes(content_id=result.id, size_bytes=result.size)
                for key in by_path[result.relpath]:
                    found[key] = stored
        else:
            for path, keys in by_path.items():
                stored = self._store_member(path)
                report.bytes_hashed += stored.size_bytes or 0
                for key in keys:
                    found[key] = stored
        return found

    def _store_member(self, name: str) -> MediumBytes:
        limit = self._settings.images.max_file_bytes
        try:
            with self._intake.open_member(name) as stream:
                chunks = iter(lambda: stream.read(1 << 20), b"")
                put = self._blobs.put_stream(chunks, now=self._clock(), max_bytes=limit)
        except CasError as error:
            return MediumBytes(problem=f"the file cannot be used: {error}", code="file-unreadable")
        return MediumBytes(content_id=put.id, size_bytes=put.size)

    def _store_remote(self, url: str) -> MediumBytes:
        if self._fetch is None:
            return MediumBytes(problem="known only by its address, which is not fetched", code="not-fetched")
        try:
            data = self._fetch(url)
        except OSError as error:
            return MediumBytes(problem=f"could not be fetched: {error}", code="not-fetched")
        put = self._blobs.put_bytes(data, now=self._clock())
        return MediumBytes(content_id=put.id, size_bytes=put.size)

    def _probe(self, stored: MediumBytes) -> MediumBytes:
        if stored.content_id is None:
            return stored
        limits = Limits(
            max_pixels=self._settings.images.max_pixels, max_file_bytes=self._settings.images.max_file_bytes
        )
        try:
            with self._blobs.open_blob(stored.content_id) as blob, open(blob.fd, "rb", closefd=False) as stream:
                header = read_header(stream, blob.size, limits)
        except (ImageRefused, CasError) as error:
            return MediumBytes(
                content_id=stored.content_id, size_bytes=stored.size_bytes, problem=str(error), code="image-unreadable"
            )
        return MediumBytes(
            content_id=stored.content_id, size_bytes=stored.size_bytes, width=header.width, height=header.height,
            format=header.media_type,
        )  # fmt: skip

    def _publish(
        self,
        batch: list[SourceRow],
        located: Mapping[str, FileMatch],
        found: Mapping[str, MediumBytes],
        plan: IngestPlan,
        run: int,
        report: IngestReport,
    ) -> None:
        todo = [row for row in batch if self._needs_work(row, found, plan)]
        probed = {key: self._probe(found[key]) for row in todo for key in {medium.key for medium in row.media}}
        now = self._clock()
        with self._db.transaction() as conn:
            context = RowContext(
                settings=self._settings, source=self._source, intake=self._intake, media=probed, run=run, now=now
            )
            for row in todo:
                outcome = publish_row(conn, row, context, old_key=plan.rekeyed.get(row.key))
                report.new += outcome.outcome == "new"
                report.changed += outcome.outcome == "changed"
                report.media_replaced += outcome.media_replaced
            for row in batch:
                conn.execute(
                    "UPDATE source_row SET last_seen = ?, run = ? WHERE source = ? AND key = ?",
                    (format_time(now), run, row.source, row.key),
                )
            self._note_media(conn, batch, found, probed, located, run, report, now)
        report.unchanged += len(batch) - len(todo)
        report.media += sum(len(row.media) for row in batch)

    def _needs_work(self, row: SourceRow, found: Mapping[str, MediumBytes], plan: IngestPlan) -> bool:
        """Whether a row, or the bytes of one of its media, differs from what was published."""
        if row.key in plan.rekeyed:
            return True
        with self._db.reader(limit_s=None) as conn:
            old = conn.execute(
                "SELECT digest, state FROM source_row WHERE source = ? AND key = ?", (row.source, row.key)
            ).fetchone()
            if old is None or old["digest"] != row.digest or old["state"] != "present":
                return True
            for medium in row.media:
                known = conn.execute(
                    "SELECT image FROM medium WHERE source = ? AND key = ?", (row.source, medium.key)
                ).fetchone()
                content_id = found[medium.key].content_id
                if known is None or known["image"] != (content_id.hex if content_id else known["image"]):
                    return True
                if content_id is not None and known["image"] is None:
                    return True
        return False

    def _note_media(
        self,
        conn: sqlite3.Connection,
        batch: Iterable[SourceRow],
        found: Mapping[str, MediumBytes],
        probed: Mapping[str, MediumBytes],
        located: Mapping[str, FileMatch],
        run: int,
        report: IngestReport,
        now: datetime,
    ) -> None:
        for row in batch:
            for medium in row.media:
                state = probed.get(medium.key, found[medium.key])
                problem, code = state.problem, state.code
                if not problem:
                    known = conn.execute(
                        "SELECT problem FROM medium WHERE source = ? AND key = ?", (row.source, medium.key)
                    ).fetchone()
                    problem, code = (known["problem"] or "", "image-unreadable") if known else ("", "")
                if problem:
                    report.files_missing += code in ("file-not-found", "not-fetched")
                    report.images_unreadable += code in ("image-unreadable", "file-unreadable")
                    place = located[medium.key].relpath or medium.locator
                    _note(conn, row.source, row.key, code, f"{place}: {problem}", run, now)
                    report.findings += 1

    def _finish(self, plan: IngestPlan, run: int, report: IngestReport, orphans: list[str], *, prune: bool) -> None:
        now = self._clock()
        with self._db.transaction() as conn:
            for note in self._intake.notes:
                _note(conn, self._intake.source, note.key, note.code, note.message, run, now)
            for key in plan.duplicates:
                _note(
                    conn,
                    self._intake.source,
                    key,
                    "duplicate-id",
                    "the id stands more than once; the first row counts",
                    run,
                    now,
                )
            for new_key, old_key in plan.rekeyed.items():
                _note(
                    conn,
                    self._intake.source,
                    new_key,
                    "changed-id",
                    f"was {old_key}; the record keeps its address",
                    run,
                    now,
                )
            for key in plan.vanished:
                text = (
                    "no longer in the archive; tombstoned" if prune else "no longer in the archive; kept (use --prune)"
                )
                _note(conn, self._intake.source, key, "vanished", text, run, now)
                if prune:
                    report.tombstoned += withdraw_row(conn, self._intake.source, key, now=now)
            for name in orphans[:1000]:
                _note(conn, self._intake.source, "", "orphan-file", f"{name}: no media row names this file", run, now)
            report.findings += (
                len(self._intake.notes) + len(plan.duplicates) + len(plan.rekeyed) + len(plan.vanished)
                + min(len(orphans), 1000)
            )  # fmt: skip
            conn.execute(
                "UPDATE ingest_run SET state = 'done', finished = ?, counts = ? WHERE id = ?",
                (format_time(now), json.dumps(report.counts()), run),
            )


def measure_hash_rate(paths: Iterable[Path], *, budget_bytes: int, clock_s: Callable[[], float]) -> float | None:
    """Bytes per second at which these files can be read and hashed here; None when there are none."""
    import hashlib

    read, started = 0, clock_s()
    for path in paths:
        with path.open("rb") as stream:
            read += path.stat().st_size
            hashlib.file_digest(stream, "sha256")
        if read >= budget_bytes:
            break
    spent = clock_s() - started
    return read / spent if read and spent > 0 else None


def content_ids_of(conn: sqlite3.Connection, source: str) -> list[ContentId]:
    """Every image a source uses now."""
    rows = conn.execute("SELECT DISTINCT image FROM medium WHERE source = ? AND image IS NOT NULL", (source,))
    return [ContentId.from_hex(row["image"]) for row in rows]


def _note(conn: sqlite3.Connection, source: str, key: str, code: str, message: str, run: int, now: datetime) -> None:
    conn.execute(
        "INSERT INTO finding (source, key, code, message, run, at) VALUES (?, ?, ?, ?, ?, ?)",
        (source, key, code, message[:500], run, format_time(now)),
    )


def _twin(body: bytes) -> str:
    fields = json.loads(body)["fields"]
    number = fields.get("dwc:catalogNumber", "")
    if not number:
        return ""
    return "|".join((fields.get("dwc:institutionCode", ""), fields.get("dwc:collectionCode", ""), number))


def _batches(rows: Iterator[SourceRow], size: int) -> Iterator[list[SourceRow]]:
    batch: list[SourceRow] = []
    for row in rows:
        batch.append(row)
        if len(batch) >= size:
            yield batch
            batch = []
    if batch:
        yield batch


__all__ = ["Fetch", "Ingest", "IngestReport", "Matched", "PlanHeld", "content_ids_of", "measure_hash_rate"]
