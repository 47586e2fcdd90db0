"""``vasculum scrub`` and ``vasculum quarantine``: finding damage, and what was found."""

import json
import os
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import click

from cas.scrub import ScrubResult, due, quarantined
from cas.scrub import scrub as read_again
from cas.tier_care import due_in_tier, scrub_tier
from node.cli.errors import CommandFailed
from node.cli.store_work import RATE_OPTION, opened, reading, size_text
from node.services.tiers import open_tiering


@click.command(epilog="Example: vasculum scrub hortus/ --older-than 90 --rate 50")
@click.argument("node_dir", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--older-than", "days", type=click.IntRange(min=0), default=0, help="Only what was not read for so many days."
)
@RATE_OPTION
@click.option("--json", "as_json", is_flag=True, help="One JSON object per file that is not good.")
def scrub(node_dir: Path, days: int, rate: float | None, as_json: bool) -> None:
    """Read the images of NODE_DIR again and compare each with its hash, the longest unread first.

    Damaged images go into quarantine and are not given out until they are repaired. The institution's own files are
    never touched. Copies in tiers are read, too; those in a bucket are downloaded.
    Ctrl-C is safe: the same command goes on where it stopped.
    """
    counts: dict[str, int] = {}
    with opened(node_dir) as node:
        # What is read in this run is newer than its beginning, so that the run ends.
        older_than = datetime.now(UTC) - timedelta(days=days)
        places, size = due(node.blobs, older_than)
        with reading("scrub", size, rate, node.settings) as took:
            for found in read_again(
                node.blobs,
                clock=lambda: datetime.now(UTC),
                older_than=older_than,
                took=took,
            ):
                counts[found.verdict] = counts.get(found.verdict, 0) + 1
                if found.verdict != "good":
                    _say(found, as_json=as_json)
        tiering = open_tiering(node.settings, node.blobs, clock=lambda: datetime.now(UTC), environ=os.environ)
        for name in tiering.tiers:
            more, more_bytes = due_in_tier(node.blobs, name, older_than)
            places, size = places + more, size + more_bytes
            with reading(f"scrub of tier {name}", more_bytes, rate, node.settings) as took:
                for found in scrub_tier(
                    tiering,
                    node.blobs,
                    name,
                    clock=lambda: datetime.now(UTC),
                    older_than=older_than,
                    took=partial(took, ""),
                ):
                    counts[found.verdict] = counts.get(found.verdict, 0) + 1
                    if found.verdict != "good":
                        _say(found, as_json=as_json)
    odd = {name: count for name, count in counts.items() if name != "good"}
    if not as_json:
        told = ", ".join(f"{count} {_IN_WORDS.get(name, name)}" for name, count in odd.items())
        click.echo(
            f"{counts.get('good', 0)} of {places} files good ({size_text(size)})" + (f"; {told}" if told else "")
        )
    bad = counts.get("damaged", 0) + counts.get("unreadable", 0)
    if bad:
        raise CommandFailed(f"{bad} damaged: vasculum quarantine {node_dir} lists them, vasculum repair heals them")
    if counts.get("volume"):
        raise CommandFailed("a volume is not what was indexed, or a tier cannot be used; nothing of it was changed")


_IN_WORDS = {"volume": "volume(s) not read: see above"}


def _say(found: ScrubResult, *, as_json: bool) -> None:
    if as_json:
        click.echo(
            json.dumps(
                {
                    "verdict": found.verdict, "volume": found.volume, "path": found.path, "id": str(found.id),
                    "size": found.size, "reason": found.reason, "damage": found.damage,
                },
                ensure_ascii=False,
            )
        )  # fmt: skip
        return
    where = f"{found.volume}:{found.path}" if found.volume else f"owned {found.id.hex}"
    click.echo(f"{found.verdict:<10} {found.reason if found.verdict == 'volume' else f'{where}: {found.reason}'}")
    for offset, length in found.damage:
        click.echo(f"{'':<10} damaged bytes lie between {offset} and {offset + length}")


@click.command(epilog="Example: vasculum quarantine hortus/")
@click.argument("node_dir", type=click.Path(path_type=Path, file_okay=False))
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line.")
def quarantine(node_dir: Path, as_json: bool) -> None:
    """List damaged images of NODE_DIR: where, since when, and why."""
    with opened(node_dir) as node:
        found = quarantined(node.blobs)
    for item in found:
        if as_json:
            click.echo(
                json.dumps(
                    {
                        "id": str(item.id), "volume": item.volume, "path": item.path, "found": item.found,
                        "reason": item.reason, "keptAt": item.kept_at, "damage": item.damage,
                    },
                    ensure_ascii=False,
                )
            )  # fmt: skip
        else:
            where = f"{item.volume}:{item.path}" if item.volume else f"owned, kept at {item.kept_at}"
            click.echo(f"{item.id.hex}  {item.found[:10]}  {where}\n  {item.reason}")
    if not as_json:
        click.echo(
            f"{len(found)} damaged" + (f"; vasculum repair {node_dir} ID [--from URL] heals one" if found else "")
        )
