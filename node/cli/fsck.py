"""``vasculum fsck``: do index, files and records agree?"""

import itertools
import json
import os
from datetime import UTC, datetime
from pathlib import Path

import click
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn

from cas.check import Check, Finding
from cas.errors import CasError
from cas.tier_care import TierCheck
from node.cli.errors import CommandFailed, UserError
from node.config import ConfigError
from node.folder import open_folder
from node.services.check import check_previews, check_public_originals, check_records, check_redacted, check_remote
from node.services.tiers import open_tiering
from node.storage.db import DatabaseError


@click.command(
    epilog="""\b
Examples:
  vasculum fsck hortus/                      looks only; exit code 1 when something is wrong
  vasculum fsck hortus/ --fix                mends what can be mended without losing anything"""
)
@click.argument("node_dir", type=click.Path(path_type=Path, file_okay=False))
@click.option("--fix", is_flag=True, help="Mend what is safe to mend; unknown files go to lost+found, never away.")
@click.option("--read", is_flag=True, help="Read and hash every file, too: takes as long as the disk needs.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per finding.")
@click.pass_context
def fsck(ctx: click.Context, node_dir: Path, fix: bool, read: bool, as_json: bool) -> None:
    """Check that index, files and records of NODE_DIR agree, in both directions; one line per finding.

    Every row has its bytes, every file of the store has its row, every image of a record is here. Tiers are compared in
    both directions, too; one that cannot be reached is a finding.
    The exit code is 0 when nothing is wrong (or all of it was mended) and 1 otherwise.
    """
    console = Console(stderr=True)
    left = count = 0
    try:
        with (
            open_folder(node_dir) as node,
            Progress(
                SpinnerColumn(), TextColumn("{task.description}"), console=console, disable=not console.is_terminal
            ) as bar,
        ):
            task = bar.add_task("checking")
            tiering = open_tiering(node.settings, node.blobs, clock=lambda: datetime.now(UTC), environ=os.environ)
            check = Check(
                node.blobs, now=datetime.now(UTC), fix=fix, read=read,
                progress=lambda places: bar.update(task, description=f"{places:,} places"),
            )  # fmt: skip
            findings = itertools.chain(
                check.run(),
                TierCheck(node.blobs, tiering, now=datetime.now(UTC), fix=fix, read=read).run(),
                check_records(node.database, node.blobs),
                check_public_originals(node.database, node.blobs),
                check_redacted(node.database, node.blobs),
                check_remote(node.database, node.blobs, fix=fix),
                check_previews(node.settings, node.blobs, fix=fix),
            )
            for item in findings:
                count, left = count + 1, left + (not item.is_fixed)
                _say(item, as_json=as_json)
    except KeyboardInterrupt:
        raise CommandFailed("stopped; nothing is lost by that") from None
    except ConfigError as error:
        raise UserError(str(error)) from error
    except (DatabaseError, CasError) as error:
        raise CommandFailed(str(error)) from error
    if not as_json:
        click.echo(f"{count} finding(s), {count - left} mended" if count else "nothing is wrong")
    ctx.exit(1 if left else 0)


def _say(item: Finding, *, as_json: bool) -> None:
    if as_json:
        row = {"code": item.code, "place": item.place, "text": item.text, "fixed": item.is_fixed}
        click.echo(json.dumps(row, ensure_ascii=False))
    else:
        click.echo(f"{'mended  ' if item.is_fixed else ''}{item.code}  {item.place}: {item.text}")
