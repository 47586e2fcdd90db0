"""``vasculum du``: what a node holds, where, and what a setting would cost."""

import json
import os
import shutil
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import click

from cas.remote import RemoteBytes
from cas.tier import tier_volume
from cas.usage import PlaceUsage, usage
from node.cli.store_work import opened, size_text
from node.folder import NodeFolder
from node.services.forecast import Forecast, Holdings, forecast
from node.services.holdings import bytes_of, count_holdings, hash_bytes_s
from node.services.tiers import open_tiering


@click.command(epilog="Example: vasculum du hortus/ --forecast")
@click.argument("node_dir", type=click.Path(path_type=Path, file_okay=False))
@click.option("--forecast", "ahead", is_flag=True, help="What each setting would cost, before it is turned on.")
@click.option(
    "--scrub-days",
    type=click.IntRange(min=1),
    metavar="DAYS",
    help="Forecast a scrub of so many days. [default: node.toml]",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def du(node_dir: Path, ahead: bool, scrub_days: int | None, as_json: bool) -> None:
    """Say how many bytes NODE_DIR holds: volumes, own copies, what was derived, databases.

    With --forecast: how many TB and core-days the scrub, leaf tables, previews, pyramids, each pipeline, an archive
    tier and a backup would cost, from the node's own counts and measurements. Nothing is turned on.
    """
    if scrub_days is not None and not ahead:
        raise click.UsageError("--scrub-days belongs to --forecast")
    with opened(node_dir) as node:
        if ahead:
            _say_forecast(node, scrub_days, as_json=as_json)
        else:
            _say_usage(node, as_json=as_json)


def _places(node: NodeFolder) -> list[PlaceUsage]:
    """Owned bytes, volumes and tiers, each with where it is."""
    tiering = open_tiering(node.settings, node.blobs, clock=lambda: datetime.now(UTC), environ=os.environ)
    where = {tier_volume(name): tier.where for name, tier in tiering.tiers.items()}
    return [replace(item, root=where.get(item.name, item.root)) for item in usage(node.blobs)]


def _say_usage(node: NodeFolder, *, as_json: bool) -> None:
    places, settings = _places(node), node.settings
    folders = {
        "databases": [settings.database_path, settings.blobs_path / "index.sqlite"],
        "derived": [settings.derived_path],
        "quarantine": [settings.blobs_path / "bad"],
    }
    parts = {name: sum(map(bytes_of, paths)) for name, paths in folders.items()}
    remote, budget = RemoteBytes(node.blobs).usage(), settings.remote.budget_gib << 30
    free = shutil.disk_usage(settings.folder).free
    if as_json:
        volumes = [_usage_json(item) for item in places]
        cached = {
            "addresses": remote.addresses, "copies": remote.copies, "bytes": remote.bytes, "budget": budget,
            "waiting": remote.waiting, "failing": remote.failing,
        }  # fmt: skip
        click.echo(json.dumps({"volumes": volumes, **parts, "free": free, "remote": cached}, ensure_ascii=False))
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


def _usage_json(item: PlaceUsage) -> dict[str, object]:
    return {
        "name": item.name or "owned", "root": item.root, "files": item.files, "bytes": item.bytes,
        "listed": item.listed, "listedBytes": item.listed_bytes, "quarantined": item.quarantined,
    }  # fmt: skip


def _say_forecast(node: NodeFolder, scrub_days: int | None, *, as_json: bool) -> None:
    settings = node.settings
    held, rate = count_holdings(node.database, node.blobs, settings), hash_bytes_s(node.blobs)
    days = scrub_days or settings.care.scrub_days or 90
    costs = forecast(held, settings, hash_bytes_s=rate, scrub_days=days)
    if as_json:
        found = {"holdings": _holdings_json(held), "hashBytesPerSecond": rate, "forecasts": list(map(_json, costs))}
        click.echo(json.dumps(found, ensure_ascii=False))
        return
    click.echo(
        f"{held.images:,} images of {figure(held.pixels / 1e6)} megapixels; {held.blobs:,} files,"
        f" {size_text(held.blob_bytes)} in all"
    )
    if rate is None:
        click.echo("no image can be read here, so nothing could be measured: see vasculum volume list")
    for cost in costs:
        click.echo(f"\n{cost.setting}: {cost.what}")
        click.echo(
            f"  {figure(cost.bytes / 1e12)} TB more on disk ({size_text(cost.bytes)}),"
            f" {figure(cost.core_days)} core-days ({_time(cost.core_s)})"
        )
        for sentence in cost.how:
            click.echo(f"  - {sentence}")
        if cost.warning:
            click.echo(f"  WARNING: {cost.warning}")


def figure(value: float) -> str:
    """Three digits that count, without an exponent: 1,230 or 0.0000123."""
    return f"{value:,.0f}" if value >= 1000 else f"{Decimal(f'{value:.3g}'):f}"


def _time(core_s: float) -> str:
    for unit, seconds in (("days", 86_400), ("hours", 3600), ("minutes", 60)):
        if core_s >= 2 * seconds:
            return f"{core_s / seconds:,.0f} {unit} of one core"
    return f"{core_s:.3g} seconds of one core"


def _holdings_json(held: Holdings) -> dict[str, object]:
    return {
        "images": held.images, "pixels": held.pixels, "jpegBytes": held.jpeg_bytes, "files": held.blobs,
        "bytes": held.blob_bytes, "readByScrub": dict(held.place_bytes), "largeWithoutLeafTable": held.large,
    }  # fmt: skip


def _json(cost: Forecast) -> dict[str, object]:
    return {
        "setting": cost.setting, "what": cost.what, "bytes": cost.bytes, "coreDays": cost.core_days,
        "how": list(cost.how), "warning": cost.warning or None,
    }  # fmt: skip
