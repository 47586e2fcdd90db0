"""``vasculum gc``: bytes that nobody names any more."""

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn

from cas.errors import CasError
from cas.garbage import Garbage, GarbageReport
from node.cli.errors import CommandFailed, UserError
from node.config import ConfigError
from node.folder import open_folder
from node.services.check import check_remote
from node.services.roots import named_digests
from node.services.tiers import open_tiering
from node.storage.db import DatabaseError


@click.command(
    epilog="""\b
Examples:
  vasculum gc hortus/                        what could go, and what waits
  vasculum gc hortus/ --delete               remove what nobody has named for 30 days"""
)
@click.argument("node_dir", type=click.Path(path_type=Path, file_okay=False))
@click.option("--delete", is_flag=True, help="Remove what is due; without it nothing but the memory of it changes.")
@click.option(
    "--grace", "grace_days", type=click.IntRange(1, 3650), default=30, show_default=True, metavar="DAYS",
    help="How long bytes must have been unnamed, in every run since.",
)  # fmt: skip
@click.option("--even-most", is_flag=True, help="Go ahead although more than half of the store would go.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per unnamed blob, then one with the counts.")
def gc(node_dir: Path, delete: bool, grace_days: int, even_most: bool, as_json: bool) -> None:
    """Find bytes in NODE_DIR that no record, version, result or pin names; with --delete remove old ones.

    A run remembers since when bytes are unnamed. Only copies of the node's own are ever removed;
    files that were adopted stay where they are. The node may serve and ingest meanwhile.
    Ctrl-C is safe: the same command goes on where it stopped.
    """
    console = Console(stderr=True)
    try:
        with (
            open_folder(node_dir) as node,
            Progress(
                SpinnerColumn(), TextColumn("{task.description}"), console=console, disable=not console.is_terminal
            ) as bar,
        ):
            task = bar.add_task("who names what")
            garbage = Garbage(
                node.blobs, now=datetime.now(UTC), grace=timedelta(days=grace_days),
                progress=lambda done: bar.update(task, description=f"{done:,} removed"),
                tiering=open_tiering(node.settings, node.blobs, clock=lambda: datetime.now(UTC), environ=os.environ),
            )  # fmt: skip
            forgotten = sum(1 for _ in check_remote(node.database, node.blobs, fix=delete))
            garbage.mark(
                named_digests(
                    node.database,
                    progress=lambda table, rows: bar.update(
                        task, description=f"who names what: {table}, {rows:,} rows"
                    ),
                )
            )
            if as_json:
                for item in garbage.unnamed():
                    click.echo(
                        json.dumps({"id": str(item.id), "size": item.size, "since": item.since, "due": item.is_due})
                    )
            report = garbage.sweep(delete=delete, even_most=even_most)
    except KeyboardInterrupt:
        raise CommandFailed("stopped; what is removed is removed, the same command goes on from here") from None
    except ConfigError as error:
        raise UserError(str(error)) from error
    except (DatabaseError, CasError) as error:
        raise CommandFailed(str(error)) from error
    _say(report, grace_days, forgotten, deleted=delete, as_json=as_json)
    if report.problems:
        raise CommandFailed(f"{len(report.problems)} problem(s), see above")


def _say(report: GarbageReport, grace_days: int, forgotten: int, *, deleted: bool, as_json: bool) -> None:
    if as_json:
        click.echo(
            json.dumps(
                {
                    "unnamed": report.unnamed, "adopted": report.adopted, "waiting": report.waiting, "due": report.due,
                    "dueBytes": report.due_bytes, "removed": report.removed, "removedBytes": report.removed_bytes,
                    "rowsDropped": report.rows_dropped, "addressesForgotten": forgotten if deleted else 0,
                    "problems": list(report.problems),
                }
            )
        )  # fmt: skip
        return
    click.echo(
        f"{report.unnamed} blobs are named by nobody: {report.adopted} are files of yours (never touched), "
        f"{report.waiting} wait for {grace_days} days to pass, {report.due} are due ({report.due_bytes / 1e6:.1f} MB)"
    )
    if deleted:
        click.echo(
            f"removed {report.removed} blobs ({report.removed_bytes / 1e6:.1f} MB) "
            f"and {report.rows_dropped} rows of adopted files that are gone"
        )
    elif report.due:
        click.echo("a dry run: nothing was removed; --delete removes what is due")
    if forgotten:
        click.echo(f"{forgotten} addresses that no record names any more{' were forgotten' if deleted else ''}")
    for text in report.problems:
        click.echo(f"  {text}", err=True)
