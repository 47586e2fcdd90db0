"""``vasculum repair``: good bytes for a damaged image, from another copy here or from another node."""

import asyncio
import json
import os
import tempfile
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import click

from cas.errors import BlobRefused, CasError, ContentIdError, TierFailed
from cas.ids import ContentId, parse_content_id
from cas.leaves import LeafTable, leaf_table
from cas.repair import Repaired, damaged_places, good_copy, read_chunks, recheck
from cas.repair import repair as store_good_bytes
from cas.tier import TIER_VOLUME
from cas.tiering import Tiering
from federation.errors import FederationError
from federation.safe_fetch import FetchLimits, SafeFetcher
from node.cli.errors import CommandFailed, UserError
from node.cli.store_work import opened, reading, size_text
from node.folder import NodeFolder
from node.services.peer_repair import assemble, damaged_copies
from node.services.tiers import open_tiering
from node.services.withdraw import derived_files


@click.command(
    epilog="""\b
Examples:
  vasculum repair hortus/ ID                                   from another copy here or in a tier
  vasculum repair hortus/ ID --from https://images.example.org from another node that holds the same image
  vasculum repair hortus/ ID --from https://one.example.org --from https://two.example.org  from either, part by part
  vasculum repair hortus/ ID --file /mnt/safe/sheet.jpg        from a backup of the file"""
)
@click.argument("node_dir", type=click.Path(path_type=Path, file_okay=False))
@click.argument("content_id", metavar="ID")
@click.option(
    "--from", "peers", multiple=True, metavar="URL", help="Address of a node that has these bytes; may be repeated."
)
@click.option(
    "--file",
    "path",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="A file with these bytes: a backup.",
)
@click.option("--write-adopted", is_flag=True, help="Also write the institution's damaged file anew (kept beside it).")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def repair(
    node_dir: Path, content_id: str, peers: tuple[str, ...], path: Path | None, write_adopted: bool, as_json: bool
) -> None:
    """Give the damaged image ID of NODE_DIR good bytes. They are stored only if they have exactly this hash.

    A copy is kept in the node. The institution's own file is written only with --write-adopted; the damaged one is then
    kept beside it with the ending .damaged.
    """
    try:
        cid = parse_content_id(content_id)
    except ContentIdError as error:
        raise UserError(f"{content_id!r} is not a content id: {error}") from error
    with opened(node_dir) as node:
        size = node.blobs.index.size_of(cid)
        if size is None:
            raise UserError(f"{cid} is not an image of this node")
        healed = recheck(node.blobs, cid, now=datetime.now(UTC))
        local = good_copy(node.blobs, cid)
        if healed and not damaged_places(node.blobs, cid):
            done = Repaired(id=cid, source="the file itself, which is good again", owned=False)
        elif path is not None:
            done = store_good_bytes(
                node.blobs, cid, read_chunks(path), source=str(path), now=datetime.now(UTC), write_adopted=write_adopted
            )
        elif local is not None and not (peers and write_adopted):
            done = store_good_bytes(
                node.blobs, cid, read_chunks(local), source=str(local), now=datetime.now(UTC),
                write_adopted=write_adopted,
            )  # fmt: skip
        elif peers:
            done = _from_peers(node, cid, peers, size, write_adopted=write_adopted)
        elif any(node.blobs.index.in_tiers(cid)):
            done = _from_tier(node, cid)
        else:
            raise CommandFailed(
                f"no good copy of {cid.hex} is here: name a node that has one with --from URL,"
                " or a file of a backup with --file PATH"
            )
        rewritten = _rewrite_in_tiers(node, cid)
        for made in derived_files(node.settings, cid):
            made.unlink(missing_ok=True)  # it may have been made from the damaged bytes; it is made again when needed
        left = [
            f"{volume}:{path}" for volume, path in damaged_places(node.blobs, cid) if not volume.startswith(TIER_VOLUME)
        ]
    if as_json:
        found = {"id": str(cid), "source": done.source, "written": done.written, "healed": healed, "stillDamaged": left,
                 "tiers": rewritten}  # fmt: skip
        click.echo(json.dumps(found, ensure_ascii=False))
        return
    kept = ", kept in the node" if done.owned else ""
    click.echo(f"{cid.hex}: {size_text(size)} good bytes from {done.source}{kept}")
    for name in healed:
        click.echo(f"  good again: {name}")
    for name in done.written:
        click.echo(f"  written anew: {name} (the damaged one is kept as .damaged)")
    for name in left:
        click.echo(
            f"  your file is still damaged: {name}. The node gives out its own copy. Put the file back from your backup"
            " and run this command again, or let it be written with --write-adopted"
        )
    for name in rewritten:
        click.echo(f"  written anew: the damaged copy in tier {name}")


def _tiering(node: NodeFolder) -> Tiering:
    return open_tiering(node.settings, node.blobs, clock=lambda: datetime.now(UTC), environ=os.environ)


def _from_tier(node: NodeFolder, cid: ContentId) -> Repaired:
    try:
        name = _tiering(node).restore(cid)
    except TierFailed as error:
        raise CommandFailed(
            f"no good copy of {cid.hex} is here: {error}; name a node that has one with --from"
        ) from error
    return Repaired(id=cid, source=f"tier {name}", owned=True)


def _rewrite_in_tiers(node: NodeFolder, cid: ContentId) -> list[str]:
    """Damaged copies in tiers, written anew from the good one that is here now."""
    tiering = _tiering(node)
    done: list[str] = []
    for copy in list(tiering.copies(cid)):
        if copy.is_damaged:
            try:
                tiering.rewrite(cid, copy.tier)
                done.append(copy.tier)
            except CasError as error:
                click.echo(f"  the damaged copy in tier {copy.tier} stays: {error}", err=True)
    return done


def _from_peers(
    node: NodeFolder, cid: ContentId, peers: tuple[str, ...], size: int, *, write_adopted: bool
) -> Repaired:
    """Only the damaged megabytes where a leaf table says which they are; else whole, from the first that has it."""
    table = leaf_table(node.blobs, cid)
    if table is not None:
        return _by_leaves(node, table, peers, write_adopted=write_adopted)
    problems: list[str] = []
    for peer in peers:
        try:
            return _from_peer(node, cid, peer, size, write_adopted=write_adopted)
        except (CommandFailed, BlobRefused) as error:
            if len(peers) == 1:
                raise
            problems.append(str(error) if peer in str(error) else f"{peer}: {error}")
    raise CommandFailed("; ".join(problems))


def _by_leaves(node: NodeFolder, table: LeafTable, peers: tuple[str, ...], *, write_adopted: bool) -> Repaired:
    with (
        tempfile.TemporaryFile(dir=node.settings.folder / "data") as stream,
        damaged_copies(node.blobs, table) as copies,
        reading("repair", table.size, None, node.settings) as took,
    ):
        try:
            found = asyncio.run(
                assemble(
                    table, copies, peers, stream, took=partial(took, ""),
                    insecure_loopback=node.settings.federation.insecure_loopback,
                )
            )  # fmt: skip
        except OSError as error:
            raise CommandFailed(f"not repaired: {error.strerror or error}") from error
        if found.missing:
            raise CommandFailed(
                f"not repaired: {len(found.missing)} of {len(table.leaves)} parts of {table.id.hex} "
                f"could not be had from {', '.join(peers)}"
            )
        stream.seek(0)
        source = ", ".join(f"{name} ({count} of {len(table.leaves)} parts)" for name, count in found.fetched)
        return store_good_bytes(
            node.blobs, table.id, iter(lambda: stream.read(1 << 20), b""), source=source or "the damaged copies here",
            now=datetime.now(UTC), write_adopted=write_adopted,
        )  # fmt: skip


def _from_peer(node: NodeFolder, cid: ContentId, peer: str, size: int, *, write_adopted: bool) -> Repaired:
    address = f"{peer.rstrip('/')}/cas/sha256/{cid.hex}"
    fetcher = SafeFetcher(
        limits=FetchLimits(max_bytes=size, timeout_s=3600.0),
        insecure_loopback=node.settings.federation.insecure_loopback,
    )
    staging = node.settings.folder / "data"
    with tempfile.TemporaryFile(dir=staging) as stream, reading("repair", size, None, node.settings) as took:

        def sink(piece: bytes) -> None:
            stream.write(piece)
            took("", len(piece))

        try:
            answer = asyncio.run(fetcher.stream(address, sink))
        except FederationError as error:
            raise CommandFailed(f"{address}: {error}") from error
        except OSError as error:
            raise CommandFailed(f"not repaired: {error.strerror or error}") from error
        if answer.status != 200:
            raise CommandFailed(f"{address} answered {answer.status}: it does not give out these bytes")
        stream.seek(0)
        chunks = iter(lambda: stream.read(1 << 20), b"")
        return store_good_bytes(
            node.blobs, cid, chunks, source=peer, now=datetime.now(UTC), write_adopted=write_adopted
        )
