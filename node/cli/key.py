"""``vasculum key``: the key of a researcher."""

import json
from pathlib import Path

import click

from federation.errors import KeyFileError
from federation.identity import SigningKey
from node.cli.errors import UserError
from node.cli.research import default_key_path, load_key

KEY_OPTION = click.option(
    "--key",
    "key_path",
    type=click.Path(path_type=Path, dir_okay=False),
    envvar="VASCULUM_KEY",
    help="Your key file (default ~/.config/vasculum/researcher.key, or VASCULUM_KEY).",
)


@click.group(epilog="Example: vasculum key new")
def key() -> None:
    """Your key as a researcher: it signs what you ask, and your results open only to it."""


@key.command(epilog="Example: vasculum key new ; vasculum key new --key project.key")
@KEY_OPTION
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def new(key_path: Path | None, as_json: bool) -> None:
    """Make a new key. An existing one is never overwritten."""
    path = key_path or default_key_path()
    made = SigningKey.create()
    try:
        made.save(path)
    except KeyFileError as error:
        raise UserError(str(error)) from error
    if as_json:
        click.echo(json.dumps({"kid": made.kid, "path": str(path)}))
        return
    click.echo(f"Your key id, to give to institutions: {made.kid}")
    click.echo(f"The secret is in {path} (mode 0600). Keep a copy: without it your results cannot be fetched.")
    click.echo(f"An institution enrols you with: vasculum researchers add NODE_DIR {made.kid} --name 'Your Name'")


@key.command(epilog="Example: vasculum key show")
@KEY_OPTION
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show(key_path: Path | None, as_json: bool) -> None:
    """Print your key id (not the secret)."""
    found = load_key(key_path)
    if as_json:
        click.echo(json.dumps({"kid": found.kid, "path": str(key_path or default_key_path())}))
    else:
        click.echo(found.kid)
