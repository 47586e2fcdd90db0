"""``vasculum selection``: selections with names, and how much they cover before anything runs."""

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from federation.http_transport import HttpTransport
from federation.search import ask_coverage
from linkeddata.coverage import Covered
from linkeddata.errors import SelectionError
from linkeddata.selection import Selection, check_portable
from linkeddata.times import format_time
from node.access import Viewer
from node.cli import saved_selections
from node.cli.errors import UserError
from node.cli.node_database import open_database
from node.cli.nodes import NODE_OPTION, REGISTRY_OPTION, look
from node.cli.saved_selections import WHERE_OPTION, SavedSelection
from node.storage.search_media import covered

FOLDER_OPTION = click.option(
    "--folder", type=click.Path(path_type=Path, file_okay=False), default=None,
    help="Also count in the node of this folder, on this machine.",
)  # fmt: skip
JSON_OPTION = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group(epilog="Example: vasculum selection save brazil --where 'country=BR year=1800,1900' --registry URL")
def selection() -> None:
    """Give selections names, and see how much they cover before anything runs."""


@selection.command(epilog="Example: vasculum selection save brazil --where 'country=BR hasImage=true' --folder hortus/")
@click.argument("name")
@WHERE_OPTION
@click.option("--replace", is_flag=True, help="Overwrite the selection of this name.")
@REGISTRY_OPTION
@NODE_OPTION
@FOLDER_OPTION
@JSON_OPTION
def save(
    name: str,
    where: str,
    replace: bool,
    registries: tuple[str, ...],
    origins: tuple[str, ...],
    folder: Path | None,
    as_json: bool,
) -> None:
    """Save what --where says under NAME; use it with `vasculum job submit --selection NAME`."""
    found = SavedSelection(name=name, selection=saved_selections.chosen(where, None), saved=datetime.now(UTC))
    counts = _count(found.selection, registries, origins, folder)
    saved_selections.save(found, replace=replace)
    _print(found, counts, as_json=as_json)


@selection.command(name="list", epilog="Example: vasculum selection list --json")
@JSON_OPTION
def list_saved(as_json: bool) -> None:
    """List saved selections."""
    found = [saved_selections.load(name) for name in saved_selections.names()]
    if as_json:
        click.echo(json.dumps([_document(item) for item in found], ensure_ascii=False))
        return
    for item in found:
        click.echo(f"{item.name}  {item.selection.to_text() or '(everything)'}")


@selection.command(epilog="Example: vasculum selection show brazil --node https://images.example.org")
@click.argument("name")
@REGISTRY_OPTION
@NODE_OPTION
@FOLDER_OPTION
@JSON_OPTION
def show(name: str, registries: tuple[str, ...], origins: tuple[str, ...], folder: Path | None, as_json: bool) -> None:
    """Show what NAME stands for and how many records, images and bytes it covers now."""
    found = saved_selections.load(name)
    _print(found, _count(found.selection, registries, origins, folder), as_json=as_json)


@selection.command(epilog="Example: vasculum selection remove brazil")
@click.argument("name")
def remove(name: str) -> None:
    """Forget NAME; jobs that used it are not touched."""
    saved_selections.remove(name)
    click.echo(f"{name} removed")


def _count(
    chosen: Selection, registries: tuple[str, ...], origins: tuple[str, ...], folder: Path | None
) -> dict[str, Covered | None]:
    """By node; what the public and jobs of researchers see."""
    counts: dict[str, Covered | None] = {}
    if folder is not None:
        with open_database(folder) as database, database.reader(limit_s=None) as conn:
            try:
                counts[str(folder)] = covered(conn, chosen, Viewer())
            except SelectionError as error:
                raise UserError(str(error)) from error
    if not registries and not origins:
        return counts
    nodes = list(look(registries, origins).nodes)

    async def ask() -> list[Covered | None]:
        async with HttpTransport() as transport:
            return list(await asyncio.gather(*(ask_coverage(transport, origin, chosen) for origin in nodes)))

    return {**counts, **dict(zip(nodes, asyncio.run(ask()), strict=True))}


def _document(item: SavedSelection) -> dict[str, Any]:
    return {
        "name": item.name, "where": item.selection.to_text(), "selection": item.selection.to_json(),
        "saved": format_time(item.saved),
    }  # fmt: skip


def _print(item: SavedSelection, counts: dict[str, Covered | None], *, as_json: bool) -> None:
    if as_json:
        covers = {where: None if found is None else found.to_json() for where, found in counts.items()}
        click.echo(json.dumps({**_document(item), "covers": covers}, ensure_ascii=False))
        return
    click.echo(f"{item.name}: {item.selection.to_text() or '(everything)'}")
    for where, found in counts.items():
        click.echo(f"{where}: {to_text(found)}")
    if not counts:
        click.echo("not counted: say where, with --registry URL, --node URL or --folder NODE_DIR")
    try:
        check_portable(item.selection)
    except SelectionError as error:
        click.echo(f"note: {error}", err=True)


def to_text(found: Covered | None) -> str:
    """What a node covers, for people."""
    if found is None:
        return "did not say"
    parts = [f"{found.records:,} specimens"]
    if found.images is not None:
        parts.append(f"{found.images:,} images")
    if found.size_bytes is not None:
        parts.append(f"{found.size_bytes / 1e6:,.1f} MB")
    return ", ".join(parts) + "".join(f"; {item.to_text()}" for item in found.no_value)
