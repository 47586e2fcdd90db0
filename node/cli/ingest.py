"""``vasculum ingest``: takes an archive or a folder of images into a node."""

import itertools
import json
import shlex
import time
from datetime import UTC, datetime
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from cas.errors import CasError
from linkeddata.dwca_meta import DwcaError
from linkeddata.plain_tables import draft_mapping, is_plain_table, mapping_path
from node.cli.errors import CommandFailed, UserError
from node.cli.pyramids import build_all
from node.cli.say import say
from node.cli.store_work import size_text
from node.config import ConfigError, Settings
from node.folder import FolderBusy, NodeFolder, ingest_lock, open_folder
from node.services.fetch_at_ingest import fetcher_of
from node.services.hash_rate import measure_hash_rate
from node.services.ingest import Ingest
from node.services.ingest_ledger import PlanHeld
from node.services.ingest_report import IngestReport, Matched
from node.services.intake_source import Intake, open_intake
from node.services.protect_known import protect_known
from node.services.purge import purge
from node.services.withdraw import CleaningHeld
from node.storage.db import DatabaseError


@click.command(
    epilog="""\b
Examples:
  vasculum ingest hortus/ export/            an unpacked Darwin Core Archive
  vasculum ingest hortus/ export.zip --dry-run
  vasculum ingest hortus/ export.xml         ABCD, or a BioCASe response
  vasculum ingest hortus/ scans/ --source slides   a folder of images
  vasculum ingest hortus/ list.xlsx --guess-mapping   drafts list.xlsx.mapping.toml"""
)
@click.argument("node_dir", type=click.Path(path_type=Path, file_okay=False))
@click.argument("path", type=click.Path(path_type=Path), required=False)
@click.option("--source", default=None, help="Name of the source in node.toml; default: the only one there.")
@click.option("--dry-run", is_flag=True, help="Say what would happen and how long it takes; change nothing.")
@click.option("--accept-plan", default=None, metavar="ID", help="Go ahead with a plan that was held.")
@click.option("--prune", is_flag=True, help="Tombstone records that are no longer in the archive.")
@click.option("--fetch", "do_fetch", is_flag=True, help="Fetch media that are known only by their address.")
@click.option("--guess-mapping", is_flag=True, help="Draft the mapping of a plain table beside it; nothing else.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of text.")
def ingest(  # noqa: PLR0913, PLR0917, RUF100 - one argument per option
    node_dir: Path,
    path: Path | None,
    source: str | None,
    dry_run: bool,
    accept_plan: str | None,
    prune: bool,
    do_fetch: bool,
    guess_mapping: bool,
    as_json: bool,
) -> None:
    """Take PATH into NODE_DIR.

    PATH is a Darwin Core Archive (zip or folder), an ABCD document (XML; a folder or zip of them), a plain table
    (CSV, TSV, XLSX) with a mapping of its columns, or a folder of images.

    Images stay where they are and are indexed; those inside a zip are copied into the node.
    The same archive again changes nothing. Ctrl-C is safe: the same command goes on where it stopped.
    """
    try:
        with open_folder(node_dir) as node:
            name = _source_name(node.settings, source)
            settings = node.settings.sources.get(name)
            place = path or (node.settings.folder / settings.path if settings and settings.path else None)
            if place is None:
                raise UserError(f"say what to ingest: vasculum ingest {node_dir} PATH")
            if guess_mapping:
                _draft(place, node_dir, source)
                return
            with open_intake(place.resolve(), name, key_columns=settings.key if settings else ()) as intake:
                fetch = (
                    fetcher_of(node.settings) if do_fetch or (settings is not None and settings.fetch is True) else None
                )
                work = Ingest(
                    node.settings, node.database, node.blobs, intake, clock=lambda: datetime.now(UTC), fetch=fetch
                )
                if dry_run:
                    _say_dry_run(work, intake, as_json=as_json)
                else:
                    with ingest_lock(node.settings.folder):
                        protect_known(node.settings, node.database, clock=lambda: datetime.now(UTC))
                        _run(node_dir, work, intake, accept_plan, prune=prune, as_json=as_json)
                        if node.settings.images.pyramids == "ingest":
                            _build_pyramids(node, as_json=as_json)
                        _purge(node)
    except FolderBusy as error:
        raise CommandFailed(str(error)) from error
    except (ConfigError, DatabaseError, DwcaError) as error:
        raise UserError(str(error)) from error
    except PlanHeld as error:
        raise CommandFailed(
            f"nothing was changed: {error}. If that is right, run the same command with --accept-plan {error.plan.id}"
        ) from error
    except CasError as error:
        raise CommandFailed(str(error)) from error


def _draft(path: Path, node_dir: Path, source: str | None) -> None:
    """Writes the mapping of a plain table, unless there is one, and says the next command of this source."""
    target = mapping_path(path)
    if not is_plain_table(path):
        raise UserError(f"{path} is no table by itself: --guess-mapping reads .csv, .tsv, .txt and .xlsx")
    if target.exists():
        raise UserError(f"{target} is there already: edit it, or move it away")
    text = draft_mapping(path)
    target.write_text(text, "utf-8")
    left_out = text.count("# not recognised")
    click.echo(f"{target} was written: look it over" + (f" ({left_out} columns have no term yet)" if left_out else ""))
    words = [str(node_dir), str(path), *(("--source", source) if source is not None else ()), "--dry-run"]
    click.echo(f"then: vasculum ingest {shlex.join(words)}")


def _source_name(settings: Settings, given: str | None) -> str:
    if given is not None:
        if settings.sources and given not in settings.sources:
            known = ", ".join(settings.sources)
            raise UserError(f"node.toml has no source {given!r}: known are {known} (add a table [sources.{given}])")
        return given
    if len(settings.sources) > 1:
        raise UserError(f"node.toml has several sources: choose one with --source ({', '.join(settings.sources)})")
    return next(iter(settings.sources), "collection")


def _run(node_dir: Path, work: Ingest, intake: Intake, accept_plan: str | None, *, prune: bool, as_json: bool) -> None:
    console = Console(stderr=True)
    with Progress(
        TextColumn("ingest"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=console,
        disable=not console.is_terminal,
    ) as bar:  # fmt: skip
        task = bar.add_task("rows", total=None)
        try:
            report = work.run(
                accepted=accept_plan,
                prune=prune,
                progress=lambda done, total: bar.update(task, completed=done, total=total),
            )
        except KeyboardInterrupt:
            bar.stop()
            raise CommandFailed("stopped; what is done is done, the same command goes on from here") from None
    if as_json:
        click.echo(json.dumps({"source": report.source, "plan": report.plan.id, **report.counts()}))
        return
    _say(node_dir, intake, report)


def _build_pyramids(node: NodeFolder, *, as_json: bool) -> None:
    there, problems = build_all(node)
    if not as_json:
        click.echo(f"  {there} open images have their pyramid" + (f", {len(problems)} have none" if problems else ""))


def _purge(node: NodeFolder) -> None:
    try:
        purge(node, say=lambda text: click.echo(text, err=True))
    except CleaningHeld as error:
        click.echo(f"warning: what was said of taxa that are sensitive now is still in the files: {error}", err=True)


def _say(node_dir: Path, intake: Intake, report: IngestReport) -> None:
    if report.is_unchanged:
        click.echo(f"{intake.source}: no change ({report.unchanged} records, {report.media} images as they were)")
    else:
        click.echo(
            f"{intake.source}: {report.new} new, {report.changed} changed, {report.unchanged} unchanged records; "
            f"{report.media} images ({size_text(report.bytes_hashed)} hashed)"
        )
    kept = 0 if report.tombstoned else len(report.plan.vanished)
    for count, text in (
        (report.media_replaced, "images have new bytes: version 2, results on the old ones are marked"),
        (len(report.plan.rekeyed), "records have another key and keep their address"),
        (report.tombstoned, "records were withdrawn"),
        (0 if report.tombstoned else len(report.plan.vanished_media), "images are no longer named and were kept"),
        (kept, "records are no longer in the archive and were kept (--prune withdraws them)"),
        (report.elsewhere, "images lie elsewhere and are fetched when they are needed (vasculum fetch: now)"),
        (report.files_missing, "media rows without a file"),
        (report.images_unreadable, "images that cannot be read"),
        (report.orphan_files, "image files that no row names"),
    ):  # fmt: skip
        if count:
            click.echo(f"  {count} {text}")
    if report.findings:
        click.echo(f"  {report.findings} finding(s): vasculum findings {shlex.quote(str(node_dir))}")
    if report.issues:
        click.echo(f"  {report.issues} issue(s) of records (--summary counts them)")


def _say_dry_run(work: Ingest, intake: Intake, *, as_json: bool) -> None:
    plan, files = work.plan(), work.match_files()
    hours = _hours(intake, files)
    if as_json:
        click.echo(
            json.dumps(
                {
                    "plan": plan.id, "held": plan.brake_reason, "new": len(plan.new), "changed": len(plan.changed),
                    "unchanged": len(plan.unchanged), "vanished": len(plan.vanished), "rekeyed": len(plan.rekeyed),
                    "mediaVanished": len(plan.vanished_media), "rulesChanged": work.rules_changed,
                    "filesMatched": files.matched, "remote": files.remote, "unmatched": list(files.unmatched),
                    "orphanFiles": list(files.orphans), "bytes": files.bytes, "hours": hours,
                }
            )
        )  # fmt: skip
        return
    click.echo(f"{intake.source}: a dry run, nothing is changed")
    click.echo(
        f"  records      {len(plan.new)} new, {len(plan.changed)} changed, {len(plan.unchanged)} unchanged, "
        f"{len(plan.vanished)} vanished, {len(plan.rekeyed)} with another key"
    )
    if work.rules_changed:
        click.echo("  settings     changed since the last ingest: every record is looked at again")
    if plan.vanished_media:
        click.echo(f"  images       {len(plan.vanished_media)} that are known are no longer named")
    click.echo(f"  files        {files.matched} matched, {size_text(files.bytes)}")
    if files.remote:
        click.echo(f'  by address   {files.remote} media rows (--fetch, or fetch = "on-need" in node.toml)')
    _listing("without file", files.unmatched, "media rows")
    _listing("orphan files", files.orphans, "files that no row names")
    if hours is not None:
        click.echo(f"  time         {_time_text(hours)} of reading and hashing")
    for note in itertools.islice(intake.notes, 10):
        say(f"  finding      {note.code}: {note.message}")
    if plan.brake_reason:
        click.echo(
            f"  HELD         {plan.brake_reason}; to go ahead, the same command with --accept-plan {plan.id} "
            "instead of --dry-run"
        )


def _time_text(hours: float) -> str:
    """How long, as people say it."""
    if hours >= 1:
        return f"about {hours:.1f} hours"
    minutes = round(60 * hours)
    return f"about {minutes} minute{'' if minutes == 1 else 's'}" if minutes else "less than a minute"


def _listing(title: str, names: tuple[str, ...], what: str) -> None:
    if names:
        shown = ", ".join(names[:5]) + (", .." if len(names) > 5 else "")
        say(f"  {title:<12} {len(names)} {what}: {shown}")


def _hours(intake: Intake, files: Matched) -> float | None:
    if intake.root is None:
        return None
    paths = (intake.root / name for name in sorted(intake.names))
    rate = measure_hash_rate(paths, budget_bytes=50_000_000, clock_s=time.perf_counter)
    return None if rate is None else round(files.bytes / rate / 3600, 6)
