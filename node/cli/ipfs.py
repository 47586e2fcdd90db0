"""``vasculum ipfs``: hands open images to the institution's own IPFS daemon."""

from pathlib import Path

import click

from cas.errors import CasError, ContentIdError
from cas.ids import parse_content_id
from node.access import ANONYMOUS, Door, decide
from node.cli.errors import CommandFailed, UserError
from node.config import ConfigError
from node.folder import open_folder
from node.kubo import KuboFailed, add_raw
from node.storage.db import DatabaseError
from node.storage.facts import bytes_facts


@click.group()
def ipfs() -> None:
    """Hand open images to your own IPFS daemon (needs the extra "ipfs")."""


@ipfs.command(epilog="Example: vasculum ipfs announce hortus/ hash://sha256/.. --api /ip4/127.0.0.1/tcp/5001")
@click.argument("node_dir", type=click.Path(path_type=Path, file_okay=False))
@click.argument("content_id")
@click.option(
    "--api", default="/ip4/127.0.0.1/tcp/5001", show_default=True, help="Where the daemon listens (multiaddr)."
)
def announce(node_dir: Path, content_id: str, api: str) -> None:
    """Store the image CONTENT_ID in the daemon and pin it. Only open images up to 2 MiB."""
    try:
        cid = parse_content_id(content_id)
    except ContentIdError as error:
        raise UserError(str(error)) from error
    try:
        with open_folder(node_dir) as node:
            with node.database.reader() as conn:
                seen = decide(ANONYMOUS, Door.BYTES, bytes_facts(conn, cid))
            if not seen.allowed:
                raise UserError(seen.reason)
            with node.blobs.open_blob(cid) as blob:
                made = add_raw(api, cid, blob.pread(0, blob.size))
    except (ConfigError, DatabaseError) as error:
        raise UserError(str(error)) from error
    except (KuboFailed, CasError) as error:
        raise CommandFailed(str(error)) from error
    click.echo(f"ipfs://{made}")
