"""``vasculum init``: makes a folder a node."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import click

from linkeddata.licences import normalise_licence
from node.cli.errors import UserError
from node.setup import NewNode, SetupError, create_node


@click.command(
    epilog='Example: vasculum init hortus/ --name "Hortus" --public-url https://images.example.org --policy reading'
)
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option("--name", prompt="Name of the institution or collection", help="The name people see.")
@click.option(
    "--public-url",
    prompt="Address under which others will reach this node (https://..)",
    help="Start of every identifier this node mints; it does not change later.",
)
@click.option(
    "--licence",
    default=None,
    help='Licence of images that state none, e.g. "CC BY 4.0"; empty: such images never leave.',
)
@click.option("--contact", default="", help="Whom to write to; shown on pages of restricted images.")
@click.option(
    "--policy",
    type=click.Choice(["closed", "reading", "open"]),
    default="closed",
    show_default=True,
    help="What researchers may ask: nothing, reading by enrolled researchers, or every pipeline.",
)
@click.option("--source", default="collection", show_default=True, help="Name of the first source.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=8080, show_default=True, help="Port to listen on.")
@click.option("--registry", "registries", multiple=True, help="A registry that shall index this node (repeatable).")
@click.option("--insecure-loopback", is_flag=True, help="A trial on one machine: allow http://127.0.0.1:PORT.")
def init(
    folder: Path,
    name: str,
    public_url: str,
    licence: str | None,
    contact: str,
    policy: Literal["closed", "reading", "open"],
    source: str,
    host: str,
    port: int,
    registries: tuple[str, ...],
    insecure_loopback: bool,
) -> None:
    """Make FOLDER a node: settings with comments, keys, an empty database.

    Prints a recovery key once. Keep it on paper or offline:
    with it a lost or stolen node key can be replaced, without it the node has to start anew.
    """
    if licence is None:
        licence = click.prompt(
            "Licence of images that state none (for example CC BY 4.0; empty: such images never leave)",
            default="",
            show_default=False,
        )
    if licence and not normalise_licence(licence).is_known:
        raise UserError(
            f"the licence {licence!r} is not in the table of docs/reference-licences.md; write e.g. CC BY 4.0"
        )
    try:
        made = create_node(
            folder,
            NewNode(
                name=name,
                public_url=public_url.rstrip("/"),
                policy=policy,
                licence=licence,
                contact=contact,
                source=source,
                host=host,
                port=port,
                registries=registries,
                insecure_loopback=insecure_loopback,
            ),
            now=datetime.now(UTC),
        )
    except SetupError as error:
        raise UserError(str(error)) from error
    click.echo(f"{made.folder} is a node now.")
    click.echo(f"  settings       {made.folder / 'node.toml'}")
    click.echo(f"  key            {made.kid}")
    click.echo(f"  policy         {policy}")
    click.echo(f"  images without a stated licence: {licence or 'restricted, their bytes never leave'}")
    click.echo("")
    click.echo("Recovery key. Write it down or print it; it is stored nowhere on this machine:")
    click.echo(f"  {made.recovery_key}")
    click.echo("")
    click.echo(f"Next: vasculum ingest {made.folder} PATH ; vasculum serve {made.folder}")
