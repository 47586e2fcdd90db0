"""``vasculum ipfs``: the parts of large files, and open images handed to the institution's own IPFS daemon."""

from datetime import UTC, datetime
from pathlib import Path

import click

from cas.errors import BlobChanged, BlobNotFound, CasError, ContentIdError
from cas.ids import parse_content_id
from cas.leaves import build_leaf_table, without_leaf_table
from node.access import ANONYMOUS, Door, decide
from node.cli.errors import CommandFailed, UserError
from node.cli.store_work import RATE_OPTION, opened, reading
from node.config import ConfigError
from node.folder import open_folder
from node.kubo import KuboFailed, add_raw
from node.storage.db import DatabaseError
from node.storage.facts import bytes_facts


@click.group()
def ipfs() -> None:
    """List the parts of large images for IPFS; hand open images to your own daemon (needs the extra "ipfs")."""


@ipfs.command(epilog="Example: vasculum ipfs index hortus/ --rate 50")
@click.argument("node_dir", type=click.Path(path_type=Path, file_okay=False))
@RATE_OPTION
def index(node_dir: Path, rate: float | None) -> None:
    """List the 1 MiB parts of every image above 1 MiB, which reads each of them once.

    Parts can then be asked for at /ipfs/, and scrub says which of them is damaged. Ctrl-C is safe.
    """
    made, failed = 0, []
    with opened(node_dir) as node:
        waiting = list(without_leaf_table(node.blobs))
        with reading("index", sum(size for _, size in waiting), rate, node.settings) as took:
            for cid, _ in waiting:
                try:
                    build_leaf_table(node.blobs, cid, now=datetime.now(UTC), took=took)
                    made += 1
                except (BlobChanged, BlobNotFound, OSError) as error:
                    failed.append(f"{cid.hex}: {error}")
    click.echo(f"{made} of {len(waiting)} files listed in parts")
    for text in failed[:10]:
        click.echo(f"  {text}")
    if failed:
        raise CommandFailed(f"{len(failed)} could not be read: vasculum scrub {node_dir} says why")


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
                seen = decide(
                    ANONYMOUS, Door.ORIGINAL, bytes_facts(conn, cid),
                    withheld_for=node.settings.images.originals_withheld_for,
                )  # fmt: skip
            if not seen.allowed:
                raise UserError(seen.reason)
            with node.blobs.open_blob(cid) as blob:
                made = add_raw(api, cid, blob.pread(0, blob.size))
    except (ConfigError, DatabaseError) as error:
        raise UserError(str(error)) from error
    except (KuboFailed, CasError) as error:
        raise CommandFailed(str(error)) from error
    click.echo(f"ipfs://{made}")
