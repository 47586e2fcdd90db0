"""Ingest: from what an institution has to records, blobs and an entry in the publication log.

Order of every batch, and what a crash leaves: the bytes are hashed and durable first, then one transaction publishes
records, media, search rows and source rows together. Killed anywhere, at worst some bytes are known that no record
uses yet; running the same ingest again goes on where it stopped, because finished rows are unchanged.

Invariants:
- Nothing is written before the plan is made; a plan behind the brake is stored and waits for ``--accept-plan``.
- The same archive again changes nothing, and says so. Same bytes twice are one blob and two media.
- A row that stands as it was is not written: ``last_seen`` of a row is when it last came with something new.
- When settings that decide what records say have changed, every record is looked at again.
- One bad image is a finding about that image; the rest goes on.
- What was made from bytes that become stricter, or from bytes that were replaced, is withdrawn or marked in the same
  transaction.

It leaves out: talking to people (``node.cli.ingest``), fetching (handed in), schedules, what is kept about runs
(``node.services.ingest_ledger``).
"""

import importlib.metadata
import json
import sqlite3
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Final

from cas.scan import rehome
from cas.store import BlobStore
from linkeddata.checks import Checker
from linkeddata.file_match import FileMatch, compile_rules
from linkeddata.ingest_plan import IngestPlan, plan_from
from linkeddata.sensitive_taxa import SensitiveTaxa
from linkeddata.source import SourceMedia, SourceRow
from linkeddata.variants import group_media
from node.config import Settings, SourceSettings
from node.services.derived import remove_of_closed
from node.services.exposures import Published, has_news, left_out, published_files
from node.services.ingest_ledger import Finding, IngestLedger, PlanHeld
from node.services.ingest_report import IngestReport, Matched
from node.services.ingest_rules import rules_digest
from node.services.intake_bytes import (
    ELSEWHERE,
    WITHDRAWN_CODE,
    ByteIntake,
    Fetch,
    MediumBytes,
    same_images,
    volume_home,
)
from node.services.intake_source import BYTES_AT_ONCE, NEW, Intake, Standing
from node.services.prepare_ahead import preparer
from node.services.prepare_row import PreparedRow, RowRules
from node.services.public_originals import PublicOriginals, keep
from node.services.publish_medium import RowContext, withdraw_medium
from node.services.publish_new import NewRow, publish_new_rows, with_free_iris
from node.services.publish_row import publish_row, withdraw_row
from node.services.remote_rules import why_never_fetched
from node.storage import issues, records
from node.storage.db import Database
from runners.decode import Limits

BATCH_ROWS: Final = 100
"""Rows that share one transaction: what a crash makes an ingest do again."""
FETCH_BATCH_ROWS: Final = 10
"""The same while media are fetched, which takes seconds each."""
TEXT_BATCHES: Final = 10
"""So many times more rows share a transaction when no file is read for them: writing them takes a third of a second."""
_KEYS_AT_ONCE: Final = 500
MAX_ORPHANS_NOTED: Final = 1000

Progress = Callable[[int, int], None]
"""(rows done, rows in all)."""


class IngestStopped(Exception):
    """Whoever runs the ingest ends it between two batches; what is done is done."""


@dataclass(slots=True)
class _Rows:
    """Rows that share a transaction."""

    rows: list[SourceRow | Standing] = field(default_factory=list)
    new: set[str] = field(default_factory=set)
    """Keys of those that are not known as present."""
    others: int = 0
    """Further rows, which are as they were and have no media."""
    located: dict[str, FileMatch] = field(default_factory=dict)
    """Where media are, by media key."""

    def __len__(self) -> int:
        return len(self.rows) + self.others


@dataclass(frozen=True, slots=True)
class _Batch:
    """The same, with what is known of their media."""

    count: int
    """Of all rows."""
    todo: list[SourceRow]
    """Those that are published anew."""
    media: list[tuple[str, tuple[SourceMedia, ...]]]
    """(key, media) of all rows that have media."""
    located: Mapping[str, FileMatch]
    """By media key, like the next two."""
    found: Mapping[str, MediumBytes]
    known: Mapping[str, Published]
    """Published before."""
    unknown: Collection[str]
    """Keys of rows that this node never heard of."""


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
        batch_rows: int = BATCH_ROWS,
    ) -> None:
        self._settings = settings
        self._db = database
        self._blobs = blobs
        self._intake = intake
        self._clock = clock
        self._source = settings.sources.get(intake.source, SourceSettings())
        self._rules = compile_rules((rule.field, rule.match, rule.path) for rule in self._source.files)
        limits = Limits(max_pixels=settings.images.max_pixels, max_file_bytes=settings.images.max_file_bytes)
        self._home = volume_home(settings, intake.source, intake.root)
        on_need = self._why_never_fetched if self._source.fetch == "on-need" else None
        self._originals = PublicOriginals(settings, database, blobs)
        self._bytes = ByteIntake(blobs, intake, limits, fetch=fetch, home=self._home, on_need=on_need)
        self._checker = Checker()
        self._writer: sqlite3.Connection | None = None
        self._fetches = fetch is not None
        self._batch_rows = batch_rows if fetch is None else min(batch_rows, FETCH_BATCH_ROWS)
        self._taxa = SensitiveTaxa.of(settings.sensitive_rules)
        self._row_rules = RowRules.of(settings, self._source, self._taxa)
        rules = rules_digest(settings, self._source, version=importlib.metadata.version("vasculum"))
        self._ledger = IngestLedger(source=intake.source, place=str(intake.root or ""), rules=rules)

    def plan(self) -> IngestPlan:
        """Compares the intake with what is known. Writes nothing."""
        name, intake = self._intake.source, self._intake
        with self._db.reader(limit_s=None) as conn:
            intake.set_known(
                (
                    (row["key"], row["digest"])
                    for row in conn.execute(
                        "SELECT key, digest FROM source_row WHERE source = ? AND state = 'present'", (name,)
                    )
                ),
                (
                    (row["key"], row["iri"])
                    for row in conn.execute(
                        """SELECT key, iri FROM medium WHERE source = ?1 AND state = 'active'
                           UNION ALL SELECT v.key, m.iri FROM medium_variant v JOIN medium m ON m.iri = v.medium
                             WHERE v.source = ?1 AND m.state = 'active'""",
                        (name,),
                    )
                ),
            )
            gone = intake.vanished_keys()
            vanished = {key: _twin(_body_of(conn, name, key)) for key in gone}
        keys, (vanished_media, known_media) = intake.keys(), intake.vanished_media()
        new = intake.twins(keys.new) if vanished else {}
        duplicates, contents = intake.duplicate_keys(), intake.contents()

        def make(same_image: Mapping[str, str]) -> IngestPlan:
            return plan_from(
                keys, vanished=vanished, new=new, duplicates=duplicates, contents=contents,
                ends_early=intake.ends_early, vanished_media=vanished_media, known_media=known_media,
                same_image=same_image,
            )  # fmt: skip

        plan = make({})
        if plan.new and plan.vanished:
            found = self._same_images(plan)
            plan = make(found) if found else plan
        return replace(plan, tree_problem=self._tree_problem())

    def _tree_problem(self) -> str:
        root, configured = self._intake.root, self._settings.volumes.get(self._home.volume)
        if root is None:
            return ""
        top = root if configured is None else self._settings.folder / configured.root
        return self._blobs.tree_problem(self._home.volume, top) or ""

    @property
    def rules_changed(self) -> bool:
        """Whether settings that decide what records say differ from those that everything was published under."""
        with self._db.reader() as conn:
            return self._ledger.rules_followed(conn) != self._ledger.rules

    def match_files(self) -> Matched:
        """Which media rows have a file, which have only an address, which files nobody names."""
        used: set[str] = set()
        unmatched: list[str] = []
        remote = size = 0
        for row in self._intake.rows():
            for medium in row.media:
                where = self._locate(_number_of(row), medium)
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
            StoreFailed: the disk refused; what was done before stays.
        """
        plan = self.plan()
        reason = plan.brake_reason
        if reason is not None and accepted != plan.id:
            with self._db.transaction() as conn:
                self._ledger.hold(conn, plan, reason, now=self._clock())
            raise PlanHeld(plan, reason)
        report = IngestReport(source=self._intake.source, plan=plan)
        everything = self.rules_changed
        with self._db.transaction() as conn:
            run = self._ledger.begin(conn, plan, kind=self._intake.kind, title=self._intake.title, now=self._clock())
        if self._intake.root is not None:
            self._define_volume(self._intake.root)
        try:
            with self._db.bulk() as self._writer:
                used = self._apply(plan, run, report, everything=everything, progress=progress)
            self._writer = None
            orphans = sorted(self._intake.names - used)
            report.orphan_files = len(orphans)
            self._finish(plan, run, report, orphans, prune=prune)
        except (KeyboardInterrupt, IngestStopped):
            with self._db.transaction() as conn:
                self._ledger.break_off(conn, run, "stopped", now=self._clock())
            raise
        except Exception:
            with self._db.transaction() as conn:
                self._ledger.break_off(conn, run, "failed", now=self._clock())
            raise
        finally:
            remove_of_closed(self._settings, self._db)
        return report

    # ------------------------------------------------------------------ steps
    def _same_images(self, plan: IngestPlan) -> dict[str, str]:
        """New rows whose image has the bytes of a vanished row's image: the same specimen under another key."""
        vanished = set(plan.vanished)
        known: dict[str, tuple[int, str]] = {}
        shared: set[str] = set()
        with self._db.reader(limit_s=None) as conn:
            rows = conn.execute(
                """SELECT s.key, m.image, m.size_bytes FROM source_row s JOIN medium_specimen l ON l.specimen = s.iri
                   JOIN medium m ON m.iri = l.medium WHERE s.source = ? AND m.image IS NOT NULL""",
                (self._intake.source,),
            )
            for row in rows:
                if row["image"] in known or row["key"] not in vanished:
                    shared.add(row["image"])
                known[row["image"]] = (int(row["size_bytes"] or 0), row["key"])
        known = {image: value for image, value in known.items() if image not in shared}
        new = set(plan.new)
        candidates = (
            (row.key, where.relpath)
            for row in self._intake.rows() if row.key in new
            for where in (self._locate(_number_of(row), medium) for medium in row.media) if where.relpath is not None
        )  # fmt: skip
        return same_images(known, candidates, self._intake) if known else {}

    def _define_volume(self, root: Path) -> None:
        """Names the tree; files that were indexed under the source's own name move into a volume of node.toml."""
        home = self._home
        known = self._settings.volumes.get(home.volume)
        if known is None:
            self._blobs.define_volume(home.volume, root, identity=self._source.identity)
            return
        top = (self._settings.folder / known.root).resolve()
        self._blobs.define_volume(home.volume, top, identity=known.identity)
        earlier = self._blobs.index.volumes().get(self._intake.source)
        if earlier is not None and earlier.name != home.volume and earlier.root == root.resolve():
            rehome(self._blobs, earlier.name, home.volume, home.prefix)

    def _apply(
        self, plan: IngestPlan, run: int, report: IngestReport, *, everything: bool, progress: Progress | None
    ) -> set[str]:
        """Publishes batch by batch; returns the files that rows name."""
        total = len(plan.new) + len(plan.changed) + len(plan.unchanged) + len(plan.rekeyed)
        done = 0
        used: set[str] = set()
        with self._db.reader() as conn:
            salt = records.id_salt(conn)
        with preparer(self._row_rules, self._checker, salt, rows=len(plan.new)) as ahead:
            waiting: deque[_Batch] = deque()
            batches = self._stored_batches(plan, report, everything=everything)
            while True:
                while len(waiting) <= (0 if self._fetches else ahead.ahead) and (batch := next(batches, None)):
                    together = [row for row in batch.todo if self._is_alone(row, batch)]
                    rows = [
                        (row, [item.key for item in row.media if batch.found[item.key].problem]) for row in together
                    ]
                    ahead.hand_in(rows, self._clock().date())
                    waiting.append(batch)
                if not waiting:
                    return used
                batch = waiting.popleft()
                used.update(match.relpath for match in batch.located.values() if match.relpath is not None)
                self._publish(batch, ahead.take(), plan, run, report)
                done += batch.count
                if progress is not None:
                    progress(done, total)

    def _stored_batches(self, plan: IngestPlan, report: IngestReport, *, everything: bool) -> "Iterator[_Batch]":
        """Batches whose bytes are durable."""
        gone = self._gone_keys()
        for batch in self._batches(everything=everything):
            located = batch.located
            known = self._known_media(located)
            known_bytes = {key: item.bytes for key, item in known.items()}
            found = self._bytes.store(located, known_bytes, now=self._clock())
            report.bytes_hashed += sum(item.hashed_bytes for item in found.values())
            report.elsewhere += sum(item.code == ELSEWHERE for item in found.values())
            todo = [whole for row in batch.rows if (whole := self._if_to_publish(row, known, found)) is not None]
            unknown = batch.new - gone - plan.rekeyed.keys()
            media = [(row.key, row.media) for row in batch.rows if row.media]
            yield _Batch(len(batch), todo, media, located, found, known, unknown)

    def _if_to_publish(
        self, row: SourceRow | Standing, known: Mapping[str, Published], found: Mapping[str, MediumBytes]
    ) -> SourceRow | None:
        """The row, when it is published anew: one that stands is when bytes of its media differ from the published."""
        if isinstance(row, SourceRow):
            return row
        news = (has_news(known.get(item.key), found[item.key], barred=WITHDRAWN_CODE) for item in row.media)
        return self._intake.row(row.key) if any(news) else None

    def _is_alone(self, row: SourceRow, batch: "_Batch") -> bool:
        """Whether it is published without looking at anything else: it is new, its media are, and have no bytes."""
        keys = [medium.key for medium in row.media]
        return (
            row.key in batch.unknown
            and len(set(keys)) == len(keys)
            and not any(group.is_stated for group in group_media(row.media, self._source.variants))
            and all(
                key not in batch.known
                and batch.found[key].content_id is None
                and batch.found[key].code != WITHDRAWN_CODE
                and self._intake.specimens_of(key) == [row.key]
                for key in keys
            )
        )

    def _gone_keys(self) -> set[str]:
        """Keys that rows had before, which vanished or were withdrawn."""
        with self._db.reader(limit_s=None) as conn:
            rows = conn.execute(
                "SELECT key FROM source_row WHERE source = ? AND state <> 'present'", (self._intake.source,)
            )
            return {row["key"] for row in rows}

    def _batches(self, *, everything: bool) -> Iterator[_Rows]:
        """Rows that share a transaction: few while files are read or rows are huge, many for mere text."""
        incoming = self._intake.rows_to_look_at(whole=everything)
        while True:
            batch = _Rows()
            with_media = held = 0
            for row, state in incoming:
                if isinstance(row, SourceRow) or row.media:
                    batch.rows.append(row)
                else:
                    batch.others += 1
                if state == NEW:
                    batch.new.add(row.key)
                number = _number_of(row) if isinstance(row, SourceRow) else row.catalog_number
                located = {medium.key: self._locate(number, medium) for medium in row.media}
                batch.located.update(located)
                is_read = any(where.relpath is not None for where in located.values())
                with_media += is_read or (self._fetches and bool(located))
                held += len(row.canonical) if isinstance(row, SourceRow) else 0
                is_full = with_media >= self._batch_rows or len(batch) >= TEXT_BATCHES * self._batch_rows
                if is_full or held >= BYTES_AT_ONCE:
                    break
            if not len(batch):
                return
            yield batch

    def _locate(self, catalog_number: str, medium: SourceMedia) -> FileMatch:
        return self._intake.locate(medium, catalog_number, self._rules)

    def _why_never_fetched(self, url: str) -> str:
        return why_never_fetched(url, self._settings)

    def _known_media(self, keys: Iterable[str]) -> dict[str, Published]:
        found: dict[str, Published] = {}
        names = list(keys)
        with self._db.reader(limit_s=None) as conn:
            for start in range(0, len(names), _KEYS_AT_ONCE):
                found.update(published_files(conn, self._intake.source, names[start : start + _KEYS_AT_ONCE]))
        return found

    def _publish(
        self, batch: "_Batch", prepared: list[PreparedRow], plan: IngestPlan, run: int, report: IngestReport
    ) -> None:
        todo, found = batch.todo, batch.found
        by_key = {item.key: item for item in prepared}
        probed = {key: self._bytes.probe(found[key]) for row in todo for key in {medium.key for medium in row.media}}
        now = self._clock()
        looked = self._originals.look_at_rows(
            (row for row in todo if row.key not in by_key), probed, self._source, self._taxa, now=now
        )
        with self._db.transaction(on=self._writer) as conn:
            keep(conn, looked, now=now)
            context = self._context(plan, run, now, probed, batch.unknown)
            free = with_free_iris(conn, prepared)
            together: list[NewRow] = []
            findings: list[Finding] = []
            for row in todo:
                if row.key in free:
                    problems = [found[medium.key].problem for medium in row.media]
                    together.append(NewRow(row=row, prepared=by_key[row.key], problems=problems))
                    continue
                publish_new_rows(conn, together, run=run, now=now)
                together = []
                outcome = publish_row(conn, row, context)
                report.new += outcome.outcome == "new"
                report.changed += outcome.outcome == "changed"
                report.unchanged += outcome.outcome == "unchanged"
                report.media_replaced += outcome.media_replaced
                findings += [
                    Finding(key=row.key, code="variant-not-replaced", message=key) for key in outcome.left_behind
                ]
            publish_new_rows(conn, together, run=run, now=now)
            findings += list(self._of_media(conn, batch, probed))
            self._ledger.note(conn, findings, run, now=now)
        report.findings += len(findings)
        report.files_missing += sum(item.code in ("file-not-found", "not-fetched") for item in findings)
        report.images_unreadable += sum(item.code in ("image-unreadable", "file-unreadable") for item in findings)
        report.new += len(free)
        report.unchanged += batch.count - len(todo)
        report.media += sum(len(media) for _, media in batch.media)

    def _context(
        self,
        plan: IngestPlan,
        run: int,
        now: datetime,
        media: Mapping[str, MediumBytes],
        unknown: Collection[str] = (),
    ) -> RowContext:
        return RowContext(
            settings=self._settings, rules=self._row_rules, intake=self._intake, checker=self._checker,
            media=media, rekeyed=plan.rekeyed, run=run, now=now, unknown=unknown,
        )  # fmt: skip

    def _of_media(
        self, conn: sqlite3.Connection, batch: "_Batch", probed: Mapping[str, MediumBytes]
    ) -> Iterator[Finding]:
        """What is wrong with images of these rows, also of those that were published before."""
        for key, media in batch.media:
            for medium in media:
                state = probed.get(medium.key, batch.found[medium.key])
                problem, code = state.problem, state.code
                if not problem and medium.key not in probed and medium.key in batch.known:
                    problem, code = batch.known[medium.key].bytes.problem, "image-unreadable"
                if problem:
                    place = batch.located[medium.key].relpath or medium.locator
                    yield Finding(key=key, code=code, message=f"{place}: {problem}")
            for name, why in left_out(conn, self._intake.source, media, self._source.variants):
                yield Finding(key=key, code="variant-differs", message=f"{name}: {why}")

    def _finish(self, plan: IngestPlan, run: int, report: IngestReport, orphans: list[str], *, prune: bool) -> None:
        now, name = self._clock(), self._intake.source
        fate = "tombstoned" if prune else "kept (--prune withdraws it)"
        notes = [(note.key, note.code, note.message) for note in self._intake.notes]
        notes += [
            (key, "duplicate-id", "the id stands more than once; the first row counts") for key in plan.duplicates
        ]
        notes += [
            (new_key, "changed-id", f"was {old_key}; the record keeps its address")
            for new_key, old_key in plan.rekeyed.items()
        ]
        notes += [(key, "vanished", f"no longer in the archive; {fate}") for key in plan.vanished]
        notes += [("", "orphan-file", f"{item}: no media row names this file") for item in orphans[:MAX_ORPHANS_NOTED]]
        with self._db.transaction() as conn:
            context = self._context(plan, run, now, {})
            if prune:
                report.tombstoned += sum(withdraw_row(conn, key, context) for key in plan.vanished)
            for key, iri in self._dropped_media(conn):
                notes.append((key, "vanished-image", f"no row names this image any more; {fate}"))
                if prune:
                    report.tombstoned += withdraw_medium(conn, iri, now=now)
            if not report.is_unchanged:
                issues.find_across(conn, name, self._intake.duplicate_numbers())
            report.issues = sum(count for _, count in issues.count_issues(conn, name))
            findings = [Finding(key=key, code=code, message=message) for key, code, message in notes]
            self._ledger.note(conn, findings, run, now=now)
            report.findings += len(findings)
            self._ledger.close(conn, run, report, now=now)

    def _dropped_media(self, conn: sqlite3.Connection) -> list[tuple[str, str]]:
        """(key, IRI) of media that no row names any more, other than those of rows that are gone themselves."""
        rows = conn.execute(
            """SELECT key, iri FROM medium m WHERE source = ? AND state = 'active'
               AND NOT EXISTS (SELECT 1 FROM medium_specimen s WHERE s.medium = m.iri)""",
            (self._intake.source,),
        ).fetchall()
        return [(row["key"], row["iri"]) for row in rows if not self._intake.specimens_of(row["key"])]


def _number_of(row: SourceRow) -> str:
    return row.fields.get("dwc:catalogNumber", "")


def _body_of(conn: sqlite3.Connection, source: str, key: str) -> bytes:
    row = conn.execute("SELECT body FROM source_row WHERE source = ? AND key = ?", (source, key)).fetchone()
    return bytes(row["body"])


def _twin(body: bytes) -> str:
    fields = json.loads(body)["fields"]
    number = fields.get("dwc:catalogNumber", "")
    if not number:
        return ""
    return "|".join((fields.get("dwc:institutionCode", ""), fields.get("dwc:collectionCode", ""), number))
