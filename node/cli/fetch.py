"""``vasculum fetch``: fetches images that lie elsewhere, before somebody needs them."""

import json
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from cas.remote import RemoteRow
from node.cli.errors import CommandFailed, UserError
from node.cli.say import say
from node.cli.store_work import opened, size_text
from node.folder import NodeFolder
from node.services.remote_media import Outcome, RemoteMedia

_SHOWN = 20
"""Failures that are shown one by one; of more, only how many."""
_WORDS = {
    "fetched": "fetched", "replaced": "new at the source (a new version)", "unchanged": "still the same",
    "kept": "here already", "failed": "failed", "later": "left for later", "unknown": "named by no record",
    "barred": "withdrawn",
}  # fmt: skip


@click.command(
    epilog="""\b
Examples:
  vasculum fetch hortus/                     everything that is not here, as far as the budget goes
  vasculum fetch hortus/ --source herbarium --limit 100
  vasculum fetch hortus/ --check             ask the sources whether what is here is still what they hold"""
)
@click.argument("node_dir", type=click.Path(path_type=Path, file_okay=False))
@click.option("--source", default=None, help="Only images of this source.")
@click.option("--limit", type=click.IntRange(min=1), default=None, metavar="N", help="At most so many addresses.")
@click.option("--check", is_flag=True, help="Ask about images that are here; changed ones get a new version.")
@click.option("--again", is_flag=True, help="Also those that failed not long ago.")
@click.option("--failed", "show_failed", is_flag=True, help="Only list what could not be fetched, and why.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per address, then one with the counts.")
def fetch(
    node_dir: Path, source: str | None, limit: int | None, check: bool, again: bool, show_failed: bool, as_json: bool
) -> None:
    """Fetch images of NODE_DIR that lie elsewhere (sources with fetch = "on-need"), and keep copies within the budget.

    One request at a time and host, with a pause; hosts that ask to wait are left alone.
    Stops when the budget is used up: what is here is not dropped for what nobody asked for yet.
    Ctrl-C is safe: the same command goes on where it stopped. A serving node may fetch meanwhile.
    """
    with opened(node_dir) as node:
        remote = RemoteMedia(node.settings, node.database, node.blobs, clock=lambda: datetime.now(UTC), wait=time.sleep)
        _check_source(remote, node, source)
        if show_failed:
            _show_failed(remote, as_json=as_json)
            return
        counts: Counter[str] = Counter()
        size = 0
        failures: list[Outcome] = []
        urls, later = _due(remote, source, limit, check=check, again=again)
        console = Console(stderr=True)
        with Progress(
            TextColumn("fetch"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=console,
            disable=not console.is_terminal,
        ) as bar:  # fmt: skip
            task = bar.add_task("images", total=len(urls))
            try:
                for outcome in _until_full(remote, urls, check=check, again=again):
                    bar.advance(task)
                    counts[outcome.kind] += 1
                    size += outcome.size if outcome.kind in ("fetched", "replaced") else 0
                    if outcome.kind in ("failed", "later"):
                        failures.append(outcome)
                    if as_json:
                        click.echo(json.dumps(_json(outcome), ensure_ascii=False))
            except KeyboardInterrupt:
                bar.stop()
                raise CommandFailed("stopped; what is done is done, the same command goes on from here") from None
        left = len(urls) - sum(counts.values())
        counts["later"] += later
    _say(counts, size, left, failures, as_json=as_json)
    if counts["failed"]:
        raise CommandFailed(f"{counts['failed']} could not be fetched; they are tried again when they are needed")


def _due(
    remote: RemoteMedia, source: str | None, limit: int | None, *, check: bool, again: bool
) -> tuple[list[str], int]:
    """Addresses to ask, and how many failed not long ago and are left alone (these do not use up the limit)."""
    urls: list[str] = []
    later = 0
    for url in remote.addresses(source, kept=check):
        if not again and remote.is_left_alone(remote.bytes.find(url)):
            later += 1
            continue
        urls.append(url)
        if limit is not None and len(urls) >= limit:
            break
    return urls, later


def _check_source(remote: RemoteMedia, node: NodeFolder, source: str | None) -> None:
    if source is not None and source not in remote.sources:
        known = ", ".join(sorted(remote.sources)) or "none"
        raise UserError(f'{source!r} is no source with fetch = "on-need" in node.toml (there is: {known})')
    if not remote.sources:
        raise UserError(
            f'no source in {node.settings.folder / "node.toml"} says fetch = "on-need": nothing lies elsewhere'
        )


def _until_full(remote: RemoteMedia, urls: list[str], *, check: bool, again: bool) -> Iterator[Outcome]:
    """Ends with the fetch for which another copy had to go."""
    for outcome in remote.work(urls, check=check, again=again):
        yield outcome
        if outcome.dropped and not check:
            return


def _say(counts: Counter[str], size: int, left: int, failures: list[Outcome], *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({**{kind: counts[kind] for kind in _WORDS}, "bytes": size, "leftByBudget": left}))
        return
    parts = [f"{counts[kind]} {words}" for kind, words in _WORDS.items() if counts[kind]]
    click.echo(f"{', '.join(parts) or 'nothing to fetch'}; {size_text(size)}")
    if left:
        click.echo(f"  {left} not fetched: the budget is used up ([remote] budget_gib in node.toml)")
    for outcome in failures[:_SHOWN]:
        until = f", not before {outcome.until:%Y-%m-%d %H:%M} UTC" if outcome.until else ""
        say(f"  {outcome.url}: {outcome.reason}{until}")
    if len(failures) > _SHOWN:
        click.echo(f"  and {len(failures) - _SHOWN} more: --failed lists them")


def _show_failed(remote: RemoteMedia, *, as_json: bool) -> None:
    count = 0
    for row in _failed(remote):
        count += 1
        if as_json:
            click.echo(
                json.dumps(
                    {"url": row.url, "reason": row.reason, "failures": row.failures, "notBefore": row.not_before},
                    ensure_ascii=False,
                )
            )
        else:
            say(f"{row.url}: {row.reason} ({row.failures} times, not before {row.not_before[:16]})")
    if not count and not as_json:
        click.echo("nothing failed")


def _failed(remote: RemoteMedia) -> Iterator[RemoteRow]:
    last = ""
    while page := remote.bytes.every(last):
        yield from (row for row in page if row.failures)
        last = page[-1].url


def _json(outcome: Outcome) -> dict[str, object]:
    return {
        "url": outcome.url, "outcome": outcome.kind, "id": str(outcome.id) if outcome.id else None,
        "bytes": outcome.size, "reason": outcome.reason,
        "until": outcome.until.isoformat() if outcome.until else None, "media": list(outcome.media),
    }  # fmt: skip
