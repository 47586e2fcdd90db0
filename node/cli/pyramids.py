"""``vasculum pyramids``: what deep zoom is served from, made ahead, looked at, removed."""

import json
import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from node.cli.errors import CommandFailed
from node.cli.store_work import opened, size_text
from node.folder import NodeFolder
from node.services.images import ImageService
from node.services.make_pyramids import Made, make_pyramids, open_pictures

FOLDER = click.argument("node_dir", type=click.Path(path_type=Path, file_okay=False))


@click.group(epilog="Example: vasculum pyramids build hortus/")
def pyramids() -> None:
    """Pyramids of images, from which viewers zoom; a node makes them at the first zoom by itself."""


@pyramids.command(epilog="Example: vasculum pyramids build hortus/")
@FOLDER
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def build(node_dir: Path, as_json: bool) -> None:
    """Make the pyramids of all open images ahead; what is there stays. Safe to interrupt.

    A pyramid is about as large as its JPEG file and takes half a second for 60 megapixels.
    """
    with opened(node_dir) as node:
        there, problems = build_all(node)
    if as_json:
        click.echo(
            json.dumps({"there": there, "failed": [{"id": str(m.picture.cid), "why": m.problem} for m in problems]})
        )
        return
    click.echo(f"{there} open images have their pyramid")
    for made in problems:
        click.echo(f"  {made.picture.cid}: {made.problem}")


@pyramids.command(epilog="Example: vasculum pyramids show hortus/ --json")
@FOLDER
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def show(node_dir: Path, as_json: bool) -> None:
    """Say how many there are, what they take, and what they may take."""
    with opened(node_dir) as node, _service(node) as images:
        files = list((node.settings.derived_path / "pyramids").glob("*/*.tif"))
        used, budget = images.derived.used_bytes(), node.settings.images.pyramids_max_bytes
        tile = images.derived.tile_px
    if as_json:
        click.echo(json.dumps({"pyramids": len(files), "bytes": used, "maxBytes": budget, "tilePx": tile}))
        return
    click.echo(
        f"{len(files)} pyramids with tiles of {tile} pixels, {size_text(used)} of {size_text(budget)} with thumbnails"
    )


@pyramids.command(epilog="Example: vasculum pyramids clear hortus/")
@FOLDER
def clear(node_dir: Path) -> None:
    """Remove all pyramids and thumbnails; they are made again when somebody looks."""
    with opened(node_dir) as node:
        for kind in ("pyramids", "thumbnails"):
            shutil.rmtree(node.settings.derived_path / kind, ignore_errors=True)
    click.echo("removed; they are made again when somebody looks")


def build_all(node: NodeFolder) -> tuple[int, list[Made]]:
    """Makes all pyramids with a progress bar; how many are there, and what failed."""
    problems: list[Made] = []
    pictures = open_pictures(node.database)
    console = Console(stderr=True)
    with (
        _service(node) as images,
        Progress(
            TextColumn("pyramids"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=console,
            disable=not console.is_terminal,
        ) as bar,
    ):  # fmt: skip
        task = bar.add_task("pyramids", total=len(pictures))

        def progress(made: Made) -> None:
            bar.advance(task)
            if made.problem:
                problems.append(made)

        try:
            there, _ = make_pyramids(images, pictures, progress=progress)
        except KeyboardInterrupt:
            bar.stop()
            raise CommandFailed("stopped; what is done is done, the same command goes on from here") from None
    return there, problems


@contextmanager
def _service(node: NodeFolder) -> Iterator[ImageService]:
    with closing(ImageService(node.settings, node.blobs)) as images:
        yield images
