"""``vasculum demo``: one question, three nodes, no image leaves."""

import asyncio
import json
import shutil
import signal
import tempfile
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from node.cli.errors import CommandFailed, UserError
from node.demo.run import Demo, DemoFailed, DemoResult, running_demo


@click.command(epilog="Example: vasculum demo --exit")
@click.option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False),
    default=None,
    help="Real collections instead of drawn ones.",
)
@click.option(
    "--keep", type=click.Path(path_type=Path, file_okay=False), default=None, help="Keep everything in this folder."
)
@click.option(
    "--exit", "do_exit", is_flag=True, help="End when the answer is there instead of leaving the nodes running."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object on the last line.")
def demo(data: Path | None, keep: Path | None, do_exit: bool, as_json: bool) -> None:
    """Run a registry, three institutions and one federated job on this machine.

    All traffic crosses a relay outside the nodes, which counts the image bytes that leave them.
    Without --data three small collections are drawn; with it, DATA/herbarium, DATA/insects and DATA/zoology are read.
    """
    if data is not None and not (data / "truth" / "labels.tsv").is_file():
        raise UserError(f"{data} does not hold collections with a truth folder")
    if keep is not None and keep.exists() and any(keep.iterdir()):
        raise UserError(f"{keep} is not empty")
    root = keep or Path(tempfile.mkdtemp(prefix="vasculum-demo-"))
    try:
        asyncio.run(_run(root.resolve(), data.resolve() if data else None, do_exit=do_exit, as_json=as_json))
    except DemoFailed as error:
        raise CommandFailed(str(error)) from error
    except KeyboardInterrupt:
        click.echo("stopped", err=True)
    finally:
        if keep is None:
            shutil.rmtree(root, ignore_errors=True)


async def _run(root: Path, data: Path | None, *, do_exit: bool, as_json: bool) -> None:
    def say(text: str) -> None:
        click.echo(text, err=as_json)

    async with running_demo(root, data=data, say=say, is_quiet=as_json) as course:
        result = await course.run()
        if as_json:
            click.echo(json.dumps(result.to_json(), ensure_ascii=False))
        else:
            _show(course, result)
        if not do_exit:
            for what, address in await course.pages(result):
                say(f"  {what}: {address}")
            say("\nThe nodes keep running. Ctrl-C ends them.")
            await _until_stopped()


async def _until_stopped() -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    await stop.wait()


def _show(course: Demo, result: DemoResult) -> None:
    console = Console(width=150 if not Console().is_terminal else None)
    question = course.truth.question if course.truth else ""
    table = Table(title=f"Answer to {question}", title_justify="left")
    for name in ("node", "specimen", "image", "matched text", "score"):
        table.add_column(name, overflow="fold")
    called = course.names
    for match in result.matches:
        specimen = Text(match["specimen"].rsplit("/", 1)[1], style=f"link {match['specimen']}")
        image = match["image"].removeprefix("hash://sha256/")[:12] + ".."
        table.add_row(
            Text(called.get(match["node"], match["node"])), specimen, image, Text(match["text"][:70]), match["score"]
        )
    console.print(table)
    judged = result.score
    console.print(
        f"against the truth: [b]{len(judged.found)} found, {len(judged.missed)} missed, {len(judged.false)} false[/b]"
        + (f", {len(judged.unjudged)} on images the truth says nothing about" if judged.unjudged else "")
    )
    for title, names in (("missed", judged.missed), ("false", judged.false), ("not judged", judged.unjudged)):
        if names:
            console.print(f"  {title}: {', '.join(names)}")
    extra = [code for code in result.codes if code["verdict"] == "extra"]
    console.print(f"barcodes: {result.codes_found} of {result.codes_known} known ones read, {len(extra)} more")
    for code in extra:
        console.print(f"  more: {code['symbology']} {code['payload']} ({code['file']})")
    console.print(
        f"{result.images} images, {result.units_done} units done, {result.units_failed} failed, "
        f"{result.annotations} public annotations, {result.seconds:.0f} s"
    )
    console.print(
        f"[b]image bytes that left any node: {result.image_bytes_left}[/b] "
        f"(searched in {result.bytes_passed:,} bytes of traffic, outside the nodes)"
    )
