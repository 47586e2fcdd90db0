"""``vasculum cluster``: groups of images of a node that look alike."""

import json
import sys
from pathlib import Path
from typing import Any

import click

from linkeddata.selection import All
from node.access import STAFF
from node.cli.errors import CommandFailed, UserError
from node.cli.saved_selections import WHERE_OPTION, chosen
from node.config import ConfigError, load_settings
from node.services.cluster import NEIGHBOURS, REGIONS_THRESHOLD, THRESHOLD, groups
from node.services.similar import IMAGES, REGIONS, Similarity, embedding_digest, regions_digest
from node.storage.db import Database, DatabaseError
from runners.catalogue import Catalogue


@click.command(epilog="Example: vasculum cluster hortus/ --where family=Fabaceae --threshold 0.85")
@click.argument("node_dir", type=click.Path(path_type=Path, file_okay=False))
@WHERE_OPTION
@click.option(
    "--threshold", type=click.FloatRange(0.0, 1.0), show_default=f"{THRESHOLD}, with --regions {REGIONS_THRESHOLD}",
    help="Cosine from which two are alike.",
)  # fmt: skip
@click.option("--regions", is_flag=True, help="Objects on images (labels, charts, specimens) instead of whole images.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def cluster(node_dir: Path, where: str, threshold: float | None, regions: bool, as_json: bool) -> None:
    """Group images of NODE_DIR that look alike: each two joined are among the nearest of each other."""
    selection = chosen(where, None)
    try:
        settings = load_settings(node_dir)
        if not settings.database_path.exists():
            raise UserError(f"{settings.database_path} does not exist: was `vasculum init {node_dir}` run?")
        database = Database.open(settings.database_path)
    except ConfigError as error:
        raise UserError(str(error)) from error
    except DatabaseError as error:
        raise CommandFailed(str(error)) from error
    pipeline = regions_digest(Catalogue.of(())) if regions else embedding_digest(Catalogue.of(("embed",)))
    similarity = Similarity(database, settings, pipeline, contract=REGIONS if regions else IMAGES)
    try:
        similarity.follow()
        with database.reader(limit_s=None) as conn:
            near, media = similarity.neighbours(
                conn, STAFF, None if selection.tree == All() else selection, count=NEIGHBOURS,
                progress=_show if sys.stderr.isatty() else lambda _done, _total: None,
            )  # fmt: skip
    finally:
        similarity.close()
        database.close()
    if threshold is None:
        threshold = REGIONS_THRESHOLD if regions else THRESHOLD
    found = groups(near, threshold=threshold)
    if as_json:
        items: list[list[dict[str, Any]]] = [[media[name] for name in group] for group in found]
        click.echo(json.dumps({"groups": items, "compared": len(near), "threshold": f"{threshold:.3f}"}))
        return
    for number, group in enumerate(found, start=1):
        click.echo(f"group {number}: {len(group)}")
        for name in group:
            item = media[name]
            click.echo(f"  {item['medium']}{' ' + str(item['box']) + ' ' + item['class'] if item['box'] else ''}")
    noun, what = "group" if len(found) == 1 else "groups", "regions" if regions else "images"
    click.echo(f"{len(found)} {noun}; {len(near):,} {what} compared")
    if regions and not near:
        click.echo(
            "note: no region has a vector: name objects and embed-objects in [jobs] pipelines and let the node run",
            err=True,
        )


def _show(done: int, total: int) -> None:
    click.echo(f"\r{done:,} of {total:,}", nl=done == total, err=True)
