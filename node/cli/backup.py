"""``vasculum backup`` and ``vasculum restore``."""

from datetime import UTC, datetime
from pathlib import Path

import click

from node.backup import BackupError, make_backup, restore_backup
from node.cli.errors import CommandFailed, UserError
from node.config import ConfigError, load_settings


@click.command(epilog="Example: vasculum backup hortus/ /mnt/safe/hortus-2026-11-24.tar")
@click.argument("node_dir", type=click.Path(path_type=Path, file_okay=False))
@click.argument("target", type=click.Path(path_type=Path, dir_okay=False))
def backup(node_dir: Path, target: Path) -> None:
    """Write database, blob index, keys and settings of NODE_DIR to TARGET. No images.

    The node may keep running. The file holds the node's secret key: keep it where only you can read it.
    """
    try:
        report = make_backup(load_settings(node_dir), target, now=datetime.now(UTC))
    except ConfigError as error:
        raise UserError(str(error)) from error
    except BackupError as error:
        raise CommandFailed(str(error)) from error
    click.echo(f"{report.path}: {report.bytes:,} bytes, checked; holds {', '.join(report.members)}")


@click.command(epilog="Example: vasculum restore /mnt/safe/hortus-2026-11-24.tar hortus-new/")
@click.argument("source", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.argument("node_dir", type=click.Path(path_type=Path, file_okay=False))
def restore(source: Path, node_dir: Path) -> None:
    """Make NODE_DIR, a new folder, the node that SOURCE was made from.

    Adopted images are found again where they lie; owned ones must be copied back into data/blobs/owned.
    """
    try:
        members = restore_backup(source, node_dir, now=datetime.now(UTC))
    except BackupError as error:
        raise CommandFailed(str(error)) from error
    click.echo(f"{node_dir}: restored {', '.join(members)}; every digest was right")
    click.echo(
        f"Next: copy the own copies back into {node_dir}/data/blobs/owned, say where the institution's files lie if"
        f" they were restored, too (vasculum volume moved {node_dir} NAME FOLDER), then run vasculum doctor and"
        f" vasculum fsck {node_dir}"
    )
