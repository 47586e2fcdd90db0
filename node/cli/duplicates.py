"""``vasculum duplicates``: images of a node that show the same thing."""

import json
import sqlite3
from pathlib import Path
from typing import Any

import click

from linkeddata.selection import All
from node.access import STAFF
from node.cli.node_database import open_database
from node.cli.saved_selections import WHERE_OPTION, chosen
from node.services.duplicates import fingerprints, pairs, shared_images
from node.services.similar import selected_images


@click.command(epilog="Example: vasculum duplicates hortus/ --where family=Fabaceae")
@click.argument("node_dir", type=click.Path(path_type=Path, file_okay=False))
@WHERE_OPTION
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def duplicates(node_dir: Path, where: str, as_json: bool) -> None:
    """List images of NODE_DIR that show the same: one image on several media or records, copies, cuts, further scans.

    Copies, cuts and scans are found among images that the pipeline `duplicates` has looked at; "re-scan" is a question
    to you, not a finding. Nothing is changed.
    """
    selection = chosen(where, None)
    with open_database(node_dir) as database, database.reader(limit_s=None) as conn:
        images = None if selection.tree == All() else selected_images(conn, selection, STAFF)
        known = fingerprints(conn, images)
        shared = shared_images(conn, images)
        found = list(pairs(known))
        without = _count(conn) - len(fingerprints(conn))
        named = {image: _media(conn, image) for pair in found for image in (pair.first, pair.second)}
    items: list[dict[str, Any]] = [
        {
            "verdict": "same bytes" if len(item.media) > 1 else "several records",
            "images": [item.image],
            "media": list(item.media),
            "specimens": list(item.specimens),
        }
        for item in shared
    ]
    items += [
        {
            "verdict": pair.relation.verdict, "images": [pair.first, pair.second], "bits": pair.relation.bits,
            "turned": pair.relation.turned, "part": pair.relation.part, "cut": pair.relation.cut_is,
            "media": [*named[pair.first], *named[pair.second]],
        }
        for pair in found
    ]  # fmt: skip
    if as_json:
        click.echo(json.dumps({"items": items, "compared": len(known), "withoutFingerprints": max(0, without)}))
        return
    for item in items:
        bits = f"  {item['bits']} bits" if "bits" in item else ""
        part = f"  the {item['cut']} is {float(item['part']):.0%} of the other" if item.get("part") else ""
        click.echo(f"{item['verdict']}{bits}{part}")
        for medium in item["media"]:
            click.echo(f"  {medium}")
        for specimen in item.get("specimens", ()):
            click.echo(f"    of {specimen}")
    click.echo(f"{len(items)} found; {len(known):,} images compared")
    if without > 0:
        click.echo(
            f"note: {without:,} images have no fingerprints: name duplicates in [jobs] pipelines and let the node run",
            err=True,
        )


def _count(conn: sqlite3.Connection) -> int:
    row = conn.execute("SELECT count(DISTINCT image) FROM medium WHERE state = 'active' AND image IS NOT NULL")
    return int(row.fetchone()[0])


def _media(conn: sqlite3.Connection, image: str) -> list[str]:
    rows = conn.execute("SELECT iri FROM medium WHERE image = ? AND state = 'active' ORDER BY iri", (image,))
    return [row["iri"] for row in rows]
