"""``vasculum reindex``: rebuilds the search tables, which are derived, and tidies the database."""

from pathlib import Path

import click
import sqlite_utils

from node.cli.errors import UserError
from node.config import ConfigError, load_settings
from node.storage.db import Database, DatabaseError
from node.storage.search_index import reindex as rebuild


@click.command(epilog="Example: vasculum reindex hortus/")
@click.argument("node_dir", type=click.Path(path_type=Path, file_okay=False))
def reindex(node_dir: Path) -> None:
    """Rebuild the search tables of NODE_DIR from its records. Safe at any time, also beside a running server."""
    try:
        settings = load_settings(node_dir)
        database = Database.open(settings.database_path)
    except (ConfigError, DatabaseError) as error:
        raise UserError(str(error)) from error
    try:
        with database.transaction() as conn:
            count = rebuild(conn)
    finally:
        database.close()
    # Administration is what sqlite-utils is for: optimise the full-text index and refresh the planner's statistics.
    tables = sqlite_utils.Database(settings.database_path)
    try:
        tables["specimen_text"].optimize()  # type: ignore[union-attr, unused-ignore]
        tables.analyze()
    finally:
        tables.close()
    click.echo(f"{count} specimens indexed")
