"""``vasculum images``: which originals stay because of their metadata, and the public originals given out instead."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from cas.ids import ContentId
from linkeddata.luggage import is_withheld
from node.cli.errors import CommandFailed
from node.cli.redact import redact
from node.cli.store_work import opened
from node.folder import NodeFolder
from node.services.public_originals import PublicOriginals, keep, republish, telling, wanted_of_records
from node.storage import luggage

FOLDER = click.argument("node_dir", type=click.Path(path_type=Path, file_okay=False))


@click.group(epilog="Example: vasculum images withheld hortus/")
def images() -> None:
    """Originals whose metadata, or whose labels, tell too much, and what is given out instead."""


images.add_command(redact)


@images.command(epilog="Example: vasculum images withheld hortus/ --json")
@FOLDER
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line.")
def withheld(node_dir: Path, as_json: bool) -> None:
    """List the open images whose original file is not given out, with what it tells, for staff to look at.

    [images] originals_withheld_for in node.toml says what an original is withheld for.
    """
    with opened(node_dir) as node:
        count = 0
        for item in _withheld(node):
            count += 1
            if as_json:
                click.echo(json.dumps(item, ensure_ascii=False))
                continue
            instead = f"public original {item['publicOriginal']}" if item["publicOriginal"] else f"none: {item['why']}"
            click.echo(f"{item['id']}\n  tells {item['told'] or 'nothing that was looked at yet'}; {instead}")
    if not as_json:
        click.echo(f"{count} originals are withheld because of their metadata")


@images.command("public-original", epilog="Example: vasculum images public-original hortus/")
@FOLDER
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def make(node_dir: Path, as_json: bool) -> None:
    """Look at files that were not looked at yet, and make the public originals that are missing.

    Ingest does this by itself; this is for images of an older version, and for those that lay in an archive.
    Safe to interrupt: what is done is done.
    """
    with opened(node_dir) as node:
        looked, made, changed = _make_all(node)
    if as_json:
        click.echo(json.dumps({"looked": looked, "publicOriginals": made, "recordsChanged": changed}))
        return
    click.echo(f"{looked} images looked at, {made} public originals made, {changed} records changed")


def _withheld(node: NodeFolder) -> Iterator[dict[str, Any]]:
    withheld_for = node.settings.images.originals_withheld_for
    with node.database.reader(limit_s=None) as conn:
        for item in wanted_of_records(conn):
            row = luggage.get(conn, item.cid.hex)
            if not item.is_open or not is_withheld(None if row is None else row.tells, withheld_for):
                continue
            public = None if row is None else row.public
            yield {
                "id": str(item.cid),
                "tells": [] if row is None else sorted(row.tells),
                "told": "" if row is None else telling(row.tells),
                "publicOriginal": None if public is None else str(ContentId.from_hex(public)),
                "why": "" if public else (row.reason if row is not None and row.reason else "not looked at"),
            }


def _make_all(node: NodeFolder) -> tuple[int, int, int]:
    service = PublicOriginals(node.settings, node.database, node.blobs)
    with node.database.reader(limit_s=None) as conn:
        wanted = wanted_of_records(conn)
    looked = made = changed = 0
    console = Console(stderr=True)
    with Progress(
        TextColumn("images"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=console,
        disable=not console.is_terminal,
    ) as bar:  # fmt: skip
        try:
            for item in bar.track(wanted, description="images"):
                now = datetime.now(UTC).replace(microsecond=0)
                found = service.look([item], now=now)
                with node.database.transaction() as conn:
                    before = luggage.get(conn, item.cid.hex)
                    keep(conn, found, now=now)
                    changed += republish(conn, item.cid.hex, node.settings, now=now)
                looked += bool(found)
                made += sum(row.public is not None and (before is None or before.public != row.public) for row in found)
        except KeyboardInterrupt:
            bar.stop()
            raise CommandFailed("stopped; what is done is done, the same command goes on from here") from None
    return looked, made, changed
