"""``vasculum staff``: lets people of the institution log in on the pages of their node."""

from datetime import UTC, datetime
from pathlib import Path

import click

from node.cli.errors import UserError
from node.cli.person import person
from node.config import ConfigError, load_settings
from node.storage.db import Database, DatabaseError
from node.web.session import make_token


@click.group()
def staff() -> None:
    """Let staff log in on the node's pages."""


@staff.command(epilog="Example: vasculum staff token hortus/")
@click.argument("node_dir", type=click.Path(path_type=Path, file_okay=False))
@click.option("--name", default=None, help="Who logs in: stands in the log of decisions. Default: your user name.")
def token(node_dir: Path, name: str | None) -> None:
    """Print a login address that works once, for ten minutes."""
    who = person() if name is None else name.strip()
    if not who or len(who) > 80 or not who.isprintable():
        raise UserError("--name is one line of up to 80 characters")
    try:
        settings = load_settings(node_dir)
        database = Database.open(settings.database_path)
    except (ConfigError, DatabaseError) as error:
        raise UserError(str(error)) from error
    try:
        with database.transaction() as conn:
            made = make_token(conn, now=datetime.now(UTC), name=who)
    finally:
        database.close()
    click.echo(f"{settings.origin}/login?token={made}")
