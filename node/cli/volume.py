"""``vasculum volume`` and ``vasculum hash``: the trees of files that stay where they are."""

import json
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import click

from cas.scan import ScanReport, hash_listed, list_files, listed_files, move_volume, scan
from cas.store import AdoptFailure
from cas.tier import TIER_VOLUME
from cas.usage import usage
from node.cli.errors import CommandFailed
from node.cli.store_work import RATE_OPTION, opened, reading, size_text
from node.folder import NodeFolder
from node.services.care import follow_identities

NODE = click.argument("node_dir", type=click.Path(path_type=Path, file_okay=False))
_SHOWN = 10


@click.group()
def volume() -> None:
    """List, compare and move the trees of images that a node has indexed in place."""


@volume.command("list", epilog="Example: vasculum volume list hortus/")
@NODE
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line.")
def list_volumes(node_dir: Path, as_json: bool) -> None:
    """List the volumes of NODE_DIR: where they are, how many files are indexed, and what is wrong with them."""
    with opened(node_dir) as node:
        identities = {name: row.identity for name, row in node.blobs.index.volumes().items()}
        problems = node.blobs.volume_problems()
        for item in usage(node.blobs):
            if not item.name or item.name.startswith(TIER_VOLUME):
                continue
            wrong = [text for text in problems if text.startswith(f"volume {item.name}:")]
            if as_json:
                click.echo(
                    json.dumps(
                        {
                            "name": item.name, "root": item.root, "identity": identities.get(item.name, ""),
                            "files": item.files, "bytes": item.bytes, "unchecked": item.unchecked,
                            "quarantined": item.quarantined, "listed": item.listed, "problems": wrong,
                        },
                        ensure_ascii=False,
                    )
                )  # fmt: skip
                continue
            click.echo(f"{item.name}  {item.root}  {item.files:,} files, {size_text(item.bytes)}")
            if item.listed:
                click.echo(f"  {item.listed:,} more are listed and not hashed ({size_text(item.listed_bytes)})")
            if item.quarantined:
                click.echo(f"  {item.quarantined} in quarantine: vasculum quarantine {node_dir}")
            for text in wrong:
                click.echo(f"  {text}")


@volume.command("scan", epilog="Example: vasculum volume scan hortus/ herbarium")
@NODE
@click.argument("name")
@click.option("--accept", is_flag=True, help="Go on although more than one file in a hundred differs.")
@click.option("--list-only", is_flag=True, help="Note new files for hashing later (vasculum hash).")
@click.option("--variant", default="master", show_default=True, help="With --list-only: what kind of files they are.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def scan_volume(node_dir: Path, name: str, accept: bool, list_only: bool, variant: str, as_json: bool) -> None:
    """Compare volume NAME with its index without reading the files; say what moved, changed, vanished or is new.

    Files that moved keep their id. A file that changed keeps its row and is not served until the next ingest.
    """
    now = datetime.now(UTC)
    with opened(node_dir) as node:
        _define(node, name)
        with reading("scan", None, None, node.settings) as took:
            report = scan(node.blobs, name, now=now, accept=accept, took=partial(took, name))
        listed = list_files(node.blobs, name, report, variant=variant, now=now) if list_only else 0
    if as_json:
        click.echo(
            json.dumps(
                {
                    "volume": report.volume, "unchanged": report.unchanged, "touched": report.touched,
                    "moved": report.moved, "changed": report.changed, "new": [item.path for item in report.new],
                    "damaged": report.damaged, "healed": report.healed, "vanished": report.vanished,
                    "unreadable": report.unreadable, "listed": listed,
                },
                ensure_ascii=False,
            )
        )  # fmt: skip
        return
    _say(report, listed, variant)


def _define(node: NodeFolder, name: str) -> None:
    """A volume that node.toml names and nothing was indexed of yet; how files are recognised is as it says now."""
    follow_identities(node.settings, node.blobs)
    configured = node.settings.volumes.get(name)
    if configured is not None and name not in node.blobs.index.volumes():
        root = (node.settings.folder / configured.root).resolve()
        node.blobs.define_volume(name, root, identity=configured.identity)


def _say(report: ScanReport, listed: int, variant: str) -> None:
    click.echo(f"{report.volume}: {report.unchanged:,} unchanged")
    if report.touched:
        click.echo(f"  {report.touched} have a new time or inode and the same bytes: noted")
    for what, names in (
        ("moved and found again", [f"{old} -> {new}" for old, new in report.moved]),
        ("good again: put back, and out of quarantine", report.healed),
        ("damaged: still in quarantine", report.damaged),
        ("changed: not served under their old id; ingest again", report.changed),
        ("gone: their records stay, their bytes are not here", report.vanished),
        ("cannot be read", [f"{path} ({reason})" for path, reason in report.unreadable]),
        ("not indexed: no record names them", [item.path for item in report.new] if not listed else []),
    ):
        if names:
            more = f", .. {len(names) - _SHOWN} more (--json)" if len(names) > _SHOWN else ""
            click.echo(f"  {len(names)} {what}: {', '.join(names[:_SHOWN])}{more}")
    if listed:
        size = size_text(sum(item.size for item in report.new))
        click.echo(f"  {listed} new files listed as {variant} ({size}): vasculum hash hashes them")


@volume.command("moved", epilog="Example: vasculum volume moved hortus/ herbarium /mnt/new-disk/herbarium")
@NODE
@click.argument("name")
@click.argument("new_root", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--accept", is_flag=True, help="Go on although more than one file in a hundred is not there.")
def moved(node_dir: Path, name: str, new_root: Path, accept: bool) -> None:
    """Say that volume NAME now lies at NEW_ROOT (another disk, another mount point).

    Files are recognised by path, size and time. All of them are due for a scrub afterwards, which reads them.
    A volume of node.toml must have its new root there too.
    """
    with opened(node_dir) as node:
        configured = node.settings.volumes.get(name)
        if configured is not None and (node.settings.folder / configured.root).resolve() != new_root.resolve():
            raise CommandFailed(f'nothing was changed: first write root = "{new_root}" under [volumes.{name}]')
        found, missing = move_volume(node.blobs, name, new_root, accept=accept)
    click.echo(f"{name}: {found:,} files found below {new_root}; a scrub will read them again")
    if missing:
        click.echo(f"  {len(missing)} are not there as they were: {', '.join(missing[:_SHOWN])}")


@click.command("hash", epilog="Example: vasculum hash hortus/ --variant master --rate 50")
@NODE
@click.option("--variant", default="master", show_default=True, help="Which listed files.")
@RATE_OPTION
def hash_listed_files(node_dir: Path, variant: str, rate: float | None) -> None:
    """Hash files that were listed (vasculum volume scan --list-only). Ctrl-C is safe: the same command goes on."""
    done, failed = 0, []
    with opened(node_dir) as node:
        total = sum(size for _, _, size in listed_files(node.blobs, variant))
        with reading("hash", total, rate, node.settings) as took:
            for result in hash_listed(node.blobs, variant, now=datetime.now(UTC), took=took):
                if isinstance(result, AdoptFailure):
                    failed.append(f"{result.relpath}: {result.reason}")
                else:
                    done += 1
    click.echo(f"{done} files hashed ({size_text(total)} listed)")
    for text in failed[:_SHOWN]:
        click.echo(f"  {text}")
    if failed:
        raise CommandFailed(f"{len(failed)} files could not be hashed and stay listed")
