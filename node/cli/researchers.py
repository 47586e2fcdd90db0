"""``vasculum researchers``: whose jobs this node's policy counts as enrolled."""

import json
from datetime import UTC, datetime
from pathlib import Path

import click

from federation.identity import is_kid
from linkeddata.times import format_time
from node.cli.errors import CommandFailed, UserError
from node.cli.node_database import open_database
from node.storage import people

FOLDER = click.argument("folder", metavar="NODE_DIR", type=click.Path(path_type=Path, file_okay=False))


@click.group(epilog="Example: vasculum researchers add hortus/ ed25519:.. --name 'R. Researcher'")
def researchers() -> None:
    """Researchers who are enrolled at a node, by their key ids."""


@researchers.command(epilog="Example: vasculum researchers add hortus/ ed25519:.. --name 'R. Researcher, Leiden'")
@FOLDER
@click.argument("kid", metavar="KEY_ID")
@click.option("--name", required=True, help="Who it is.")
@click.option("--note", default="", help="How you know; for your colleagues.")
def add(folder: Path, kid: str, name: str, note: str) -> None:
    """Enrol a key, or bring a revoked one back. Make sure that it is theirs: ask for it on another way than e-mail."""
    if not is_kid(kid):
        raise UserError("a key id is what `vasculum key show` prints: ed25519: and 43 characters")
    if not name.strip() or len(name) > 200 or len(note) > 1000 or not (name + note).isprintable():
        raise UserError("the name is one line of 1 to 200 characters, the note one of at most 1000")
    with open_database(folder) as database, database.transaction() as conn:
        people.enrol(conn, kid, name, note=note, now=datetime.now(UTC))
    click.echo(f"{name} is enrolled: {kid}")


@researchers.command("list", epilog="Example: vasculum researchers list hortus/ --json")
@FOLDER
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_researchers(folder: Path, as_json: bool) -> None:
    """List everybody whose key was entered."""
    with open_database(folder) as database, database.reader() as conn:
        found = people.listing(conn)
    if as_json:
        lines = [
            {
                "kid": item.kid, "name": item.name, "state": item.state, "enrolled": format_time(item.enrolled),
                "revoked": None if item.revoked is None else format_time(item.revoked), "note": item.note,
            }
            for item in found
        ]  # fmt: skip
        click.echo(json.dumps(lines, ensure_ascii=False))
        return
    for item in found:
        click.echo(f"{item.state:9} {item.kid}  {item.name}" + (f"  ({item.note})" if item.note else ""))
    if not found:
        click.echo("nobody is enrolled", err=True)


@researchers.command(epilog="Example: vasculum researchers revoke hortus/ ed25519:..")
@FOLDER
@click.argument("kid", metavar="KEY_ID")
def revoke(folder: Path, kid: str) -> None:
    """Revoke a key: its jobs are refused from now on, and its results are not given out any more."""
    with open_database(folder) as database, database.transaction() as conn:
        changed = people.revoke(conn, kid, now=datetime.now(UTC))
    if not changed:
        raise CommandFailed(f"{kid} is not enrolled")
    click.echo(f"revoked: {kid}")
