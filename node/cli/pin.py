"""``vasculum pin``: keeping bytes that no record names."""

import contextlib
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import click

from cas.errors import CasError, ContentIdError
from cas.ids import ContentId, parse_content_id
from cas.pins import add_pin, list_pins, remove_pin
from cas.store import BlobStore
from node.cli.errors import CommandFailed, UserError
from node.config import ConfigError
from node.folder import open_folder
from node.storage.db import DatabaseError

FOLDER = click.argument("node_dir", type=click.Path(path_type=Path, file_okay=False))
ID = click.argument("blob_id", metavar="ID")
NAME = click.option("--name", required=True, help="Why these bytes are kept: an exhibition, a paper.")


@click.group(epilog="Example: vasculum pin add hortus/ hash://sha256/.. --name exhibition-2027")
def pin() -> None:
    """Keep bytes that no record names; gc never removes them."""


@pin.command(epilog="Example: vasculum pin add hortus/ hash://sha256/.. --name exhibition-2027")
@FOLDER
@ID
@NAME
def add(node_dir: Path, blob_id: str, name: str) -> None:
    """Keep the bytes ID (any form of a content id)."""
    cid = _parse(blob_id)
    with _store(node_dir) as store:
        add_pin(store, cid, name, now=datetime.now(UTC))
    click.echo(f"{cid} is kept as {name!r}")


@pin.command(epilog="Example: vasculum pin remove hortus/ hash://sha256/.. --name exhibition-2027")
@FOLDER
@ID
@NAME
def remove(node_dir: Path, blob_id: str, name: str) -> None:
    """Take a pin away; the bytes stay until gc finds that nobody names them."""
    cid = _parse(blob_id)
    with _store(node_dir) as store:
        was_there = remove_pin(store, cid, name)
    if not was_there:
        raise UserError(f"{cid} has no pin {name!r}: vasculum pin list {node_dir}")
    click.echo(f"{cid} is no longer kept as {name!r}")


@pin.command("list", epilog="Example: vasculum pin list hortus/ --json")
@FOLDER
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line.")
def list_all(node_dir: Path, as_json: bool) -> None:
    """List every pin."""
    with _store(node_dir) as store:
        found = list_pins(store)
    for item in found:
        if as_json:
            click.echo(json.dumps({"id": str(item.id), "name": item.name, "made": item.made}, ensure_ascii=False))
        else:
            click.echo(f"{item.id}  {item.name}  since {item.made[:10]}")
    if not found:
        click.echo("nothing is pinned", err=True)


def _parse(text: str) -> ContentId:
    try:
        return parse_content_id(text)
    except ContentIdError as error:
        raise UserError(f"{text!r} is no content id: {error}") from error


@contextlib.contextmanager
def _store(node_dir: Path) -> Iterator[BlobStore]:
    try:
        with open_folder(node_dir) as node:
            yield node.blobs
    except ConfigError as error:
        raise UserError(str(error)) from error
    except (DatabaseError, CasError) as error:
        raise CommandFailed(str(error)) from error
