"""``vasculum reindex``: rebuilds the search tables, which are derived, beside a running server."""

import secrets
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from node.cli.errors import CommandFailed
from node.cli.node_database import open_database
from node.services.reindex import RebuildOvertaken, rebuild


@click.command(epilog="Example: vasculum reindex hortus/")
@click.argument("node_dir", type=click.Path(path_type=Path, file_okay=False))
def reindex(node_dir: Path) -> None:
    """Rebuild the search tables of NODE_DIR from its records. Safe at any time, also beside a running server.

    The tables are built beside those in use, which go on answering, and take over at once. Needs as much room on the
    disk as they take. Ctrl-C is safe: nothing has changed then.
    """
    columns = (
        TextColumn("specimens"),
        BarColumn(),
        TextColumn("{task.completed:,}/{task.total:,}"),
        TimeElapsedColumn(),
    )
    with open_database(node_dir) as database, Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=0)
        try:
            count = rebuild(
                database,
                token=secrets.token_hex(8),
                progress=lambda done, total: bar.update(task, completed=done, total=total),
            )
        except RebuildOvertaken as error:
            raise CommandFailed(str(error)) from error
    click.echo(f"{count} specimens indexed")
