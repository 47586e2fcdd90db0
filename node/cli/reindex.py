"""``vasculum reindex``: rebuilds the search tables, which are derived, beside a running server."""

import secrets
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from node.cli.errors import CommandFailed
from node.cli.node_database import open_database
from node.config import load_settings
from node.services.reindex import RebuildOvertaken, rebuild
from node.storage.db import Database


@click.command(epilog="Example: vasculum reindex hortus/")
@click.argument("node_dir", type=click.Path(path_type=Path, file_okay=False))
def reindex(node_dir: Path) -> None:
    """Rebuild what NODE_DIR searches in: the search tables, and the files of vectors. Safe beside a running server.

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
        vectors = _vectors(node_dir, database)
    click.echo(f"{count} specimens indexed" + (f", {vectors:,} vectors" if vectors else ""))


def _vectors(node_dir: Path, database: Database) -> int:
    """The files of vectors, from the results of ``embed`` and ``embed-objects``; nothing where there are none."""
    from node.services.similar import IMAGES, REGIONS, Similarity, embedding_digest, regions_digest
    from runners.catalogue import Catalogue

    count, settings = 0, load_settings(node_dir)
    pipelines = {IMAGES: embedding_digest(Catalogue.of(("embed",))), REGIONS: regions_digest(Catalogue.of(()))}
    for contract, pipeline in pipelines.items():
        similarity = Similarity(database, settings, pipeline, contract=contract)
        try:
            count += similarity.rebuild()
        finally:
            similarity.close()
    return count
