"""``vasculum du``: what a node holds, where, and what a setting would cost."""

import json
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click

from cas.durable import hash_descriptor
from cas.errors import CasError
from cas.ids import ContentId
from cas.remote import RemoteBytes
from cas.store import BlobStore
from cas.unixfs import LEAF_BYTES
from cas.usage import usage
from node.cli.store_work import opened, size_text

_SAMPLE_BYTES = 200_000_000
"""How much is read to measure how fast hashing is here; a second or so."""
_LEAF_ROW_BYTES = 330
"""A leaf in the index, with its share of everything around it (measured: 328 with files of 5 MB)."""
FORECASTS = ("scrub", "leaf-tables", "copy")


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """What something would cost."""

    what: str
    bytes: int
    core_days: float
    how: str


@click.command(epilog="Example: vasculum du hortus/ --forecast leaf-tables")
@click.argument("node_dir", type=click.Path(path_type=Path, file_okay=False))
@click.option("--forecast", type=click.Choice(FORECASTS), default=None, help="What this would cost, before it is done.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def du(node_dir: Path, forecast: str | None, as_json: bool) -> None:
    """Say how many bytes NODE_DIR holds: volumes, own copies, what was derived, databases.

    With --forecast: how many TB and core-days something costs, from a sample of this node's own images.
    """
    with opened(node_dir) as node:
        if forecast is not None:
            cost = _forecast(node.blobs, forecast)
            if as_json:
                click.echo(
                    json.dumps({"what": cost.what, "bytes": cost.bytes, "coreDays": cost.core_days, "how": cost.how})
                )
            else:
                click.echo(f"{cost.what}: {cost.bytes / 1e12:.4f} TB more, {cost.core_days:.4f} core-days")
                click.echo(f"  {cost.how}")
            return
        places = usage(node.blobs)
        settings = node.settings
        folders = {
            "databases": [settings.folder / "data" / "node.sqlite", settings.blobs_path / "index.sqlite"],
            "derived": [settings.derived_path],
            "quarantine": [settings.blobs_path / "bad"],
        }
        parts = {name: sum(_bytes_of(path) for path in paths) for name, paths in folders.items()}
        remote = RemoteBytes(node.blobs).usage()
        budget = settings.remote.budget_gib << 30
        free = shutil.disk_usage(settings.folder).free
    if as_json:
        click.echo(
            json.dumps(
                {
                    "volumes": [
                        {"name": item.name or "owned", "root": item.root, "files": item.files, "bytes": item.bytes,
                         "listed": item.listed, "listedBytes": item.listed_bytes, "quarantined": item.quarantined}
                        for item in places
                    ],
                    **parts, "free": free,
                    "remote": {"addresses": remote.addresses, "copies": remote.copies, "bytes": remote.bytes,
                               "budget": budget, "waiting": remote.waiting, "failing": remote.failing},
                },
                ensure_ascii=False,
            )
        )  # fmt: skip
        return
    for item in places:
        click.echo(f"{item.name or 'own copies':<14} {size_text(item.bytes):>12}  {item.files:>9,} files  {item.root}")
        if item.listed:
            click.echo(f"{'  listed':<14} {size_text(item.listed_bytes):>12}  {item.listed:>9,} files, not hashed")
    if remote.addresses:
        room = f"of {size_text(budget)}" if budget else "without a limit"
        click.echo(
            f"{'  remote':<14} {size_text(remote.bytes):>12}  {remote.copies:>9,} files, {room} (among the own copies)"
        )
    for name, count in parts.items():
        click.echo(f"{name:<14} {size_text(count):>12}")
    click.echo(f"{'free':<14} {size_text(free):>12}")


def _forecast(store: BlobStore, what: str) -> Forecast:
    _, size = store.counts()
    [row] = store.index.select(
        "SELECT count(*), coalesce(sum(size), 0) FROM blob WHERE size > ?1 AND sha NOT IN (SELECT sha FROM leaf_table)",
        LEAF_BYTES,
    )
    large, large_bytes = int(row[0]), int(row[1])
    rate = _hash_rate(store)
    days = 86_400.0
    if rate is None:
        return Forecast(
            what=what, bytes=0, core_days=0.0, how="no image can be read here, so nothing could be measured"
        )
    speed = f"hashing {rate / 1e6:,.0f} MB/s here, measured on this node's images"
    if what == "scrub":
        return Forecast(
            what="one scrub of everything",
            bytes=0,
            core_days=round(size / rate / days, 6),
            how=f"{size_text(size)}; {speed}",
        )
    if what == "copy":
        return Forecast(
            what="a copy of every image in the node", bytes=size, core_days=round(1.5 * size / rate / days, 6),
            how=f"{size_text(size)}, read, hashed and written (about half more than hashing); {speed}",
        )  # fmt: skip
    leaves = large_bytes // LEAF_BYTES + large
    return Forecast(
        what="leaf tables for IPFS", bytes=leaves * _LEAF_ROW_BYTES, core_days=round(2 * large_bytes / rate / days, 6),
        how=f"{large:,} files above 1 MiB without a table ({size_text(large_bytes)}), two hashes per byte; {speed}",
    )  # fmt: skip


def _hash_rate(store: BlobStore) -> float | None:
    """Bytes per second of one core over a sample of the images; None when none can be read."""
    read, began = 0, time.perf_counter()
    for cid in _sample(store):
        try:
            with store.open_blob(cid) as blob:
                read += hash_descriptor(blob.fd)[1]
        except (CasError, OSError):
            continue
        if read >= _SAMPLE_BYTES:
            break
    took = time.perf_counter() - began
    return read / took if read and took > 0 else None


def _sample(store: BlobStore) -> Iterator[ContentId]:
    """Up to 256 images, evenly over all hashes."""
    for number in range(256):
        rows = store.index.select("SELECT sha FROM blob WHERE sha >= ? ORDER BY sha LIMIT 1", bytes([number]))
        if rows:
            yield ContentId(rows[0]["sha"])


def _bytes_of(path: Path) -> int:
    if path.is_file():
        return sum(item.stat().st_size for item in path.parent.glob(path.name + "*") if item.is_file())
    return sum(item.stat().st_size for item in path.rglob("*") if item.is_file()) if path.is_dir() else 0
