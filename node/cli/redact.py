"""``vasculum images redact``: pictures of sensitive specimens with their labels blacked out, looked at and approved."""

import json
import re
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from cas.errors import ContentIdError
from cas.ids import parse_content_id
from linkeddata.errors import SelectionError
from node.access import STAFF
from node.cli.errors import CommandFailed, UserError
from node.cli.person import person
from node.cli.saved_selections import WHERE_OPTION, chosen
from node.cli.store_work import opened
from node.folder import NodeFolder
from node.services.read_labels import read_labels
from node.services.redactions import CannotMake, Looked, Redactions, look_at, sensitive_images
from node.storage.search_media import select_media
from runners.errors import PipelineUnavailable

SEEN_CHARS: Final = 16
"""Of the digest of what is covered, in the name of a preview: 64 bits tell any two apart."""
_PREVIEW: Final = re.compile(rf"([0-9a-f]{{64}})\.([0-9a-f]{{{SEEN_CHARS}}})\.jpg\Z")


@click.command(epilog="Example: vasculum images redact hortus/ --read --preview look/")
@click.argument("node_dir", type=click.Path(path_type=Path, file_okay=False))
@WHERE_OPTION
@click.option("--id", "ids", multiple=True, metavar="ID", help="Only this image (content id); may be repeated.")
@click.option("--read", "do_read", is_flag=True, help="First read labels and codes that were not read yet, here.")
@click.option(
    "--preview", type=click.Path(path_type=Path, file_okay=False), default=None,
    help="Write the pictures that would be given out into this folder, to be looked at.",
)  # fmt: skip
@click.option(
    "--approve", type=click.Path(path_type=Path, file_okay=False, exists=True), default=None,
    help="Approve every picture that lies in this folder: remove those that show too much before.",
)  # fmt: skip
@click.option("--take-back", is_flag=True, help="End what was approved.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per image.")
def redact(
    node_dir: Path, where: str, ids: tuple[str, ...], do_read: bool, preview: Path | None, approve: Path | None,
    take_back: bool, as_json: bool,
) -> None:  # fmt: skip
    """Cover the labels on pictures of sensitive specimens: what would be covered, and why not.

    Nothing is given out before a person has looked at the pictures of --preview and approved them with --approve, and
    only while [images] sensitive_images in node.toml is "redacted". Only pictures whose labels this node has read, and
    where it is sure of every line, can be covered at all.
    """
    if sum((preview is not None, approve is not None, take_back)) > 1:
        raise UserError("say one of --preview, --approve and --take-back")
    with opened(node_dir) as node, closing(Redactions(node.settings, node.database, node.blobs)) as service:
        images = _chosen(node, where, ids)
        if take_back:
            if not where and not ids:
                raise UserError("say with --where or --id whose approval ends (--where 'hasImage=true': of all)")
            count = service.take_back(images, by=person(), now=_now())
            click.echo(json.dumps({"takenBack": count}) if as_json else f"{count} approvals ended")
            return
        problems: list[str] = []
        if do_read:
            problems += _read(node, images)
        if approve is not None:
            problems += _approve(service, approve, set(images), as_json=as_json)
        settled = service.settle(now=_now())
        problems += settled.problems
        with node.database.reader(limit_s=None) as conn:
            looked = list(look_at(conn, images, node.settings))
        written = _preview(service, preview, looked, problems) if preview is not None else {}
        for item in looked:
            _say(item, written.get(item.image), as_json=as_json)
        for problem in problems:
            click.echo(f"warning: {problem}", err=True)
        if not as_json:
            _sum_up(looked, preview)


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


def _chosen(node: NodeFolder, where: str, ids: tuple[str, ...]) -> list[str]:
    """Pictures of sensitive specimens that are meant, SHA-256 in hex."""
    try:
        named = {parse_content_id(text).hex for text in ids}
    except ContentIdError as error:
        raise UserError(f"--id: {error}") from error
    with node.database.reader(limit_s=None) as conn:
        images = sensitive_images(conn)
        if where:
            try:
                fitting = {item.image for item in select_media(conn, chosen(where, None), STAFF)}
            except SelectionError as error:
                raise UserError(str(error)) from error
            images = [image for image in images if image in fitting]
    if named:
        images = [image for image in images if image in named]
        for image in sorted(named - set(images)):
            raise UserError(f"{image} is not the picture of a sensitive specimen here")
    return images


def _read(node: NodeFolder, images: list[str]) -> list[str]:
    console = Console(stderr=True)
    with Progress(
        TextColumn("reading"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=console,
        disable=not console.is_terminal,
    ) as bar:  # fmt: skip
        task = bar.add_task("reading", total=None)
        try:
            found = read_labels(
                node, images, clock=_now, progress=lambda done, total: bar.update(task, completed=done, total=total)
            )
        except PipelineUnavailable as error:
            raise CommandFailed(f"labels cannot be read on this machine: {error}") from error
        except KeyboardInterrupt:
            bar.stop()
            raise CommandFailed("stopped; what was read is kept, the same command goes on from here") from None
    return list(found.problems)


def _approve(service: Redactions, folder: Path, images: set[str], *, as_json: bool) -> list[str]:
    found = [match for path in sorted(folder.iterdir()) if (match := _PREVIEW.match(path.name)) is not None]
    if not found:
        raise UserError(f"{folder} holds no pictures that --preview wrote")
    done, problems = service.approve(
        [(match[1], match[2]) for match in found if match[1] in images], by=person(), now=_now()
    )
    if not as_json:
        click.echo(f"{len(done)} of {len(found)} pictures in {folder} are approved")
    return problems + [
        f"{match[1]}: not approved: it was not chosen, or no sensitive specimen has it any more (another file came?)"
        for match in found
        if match[1] not in images
    ]


def _preview(service: Redactions, folder: Path, looked: list[Looked], problems: list[str]) -> dict[str, str]:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    written: dict[str, str] = {}
    for item in looked:
        if item.redaction is None:
            continue
        path = folder / f"{item.image}.{item.redaction.digest[:SEEN_CHARS]}.jpg"
        try:
            path.write_bytes(service.picture(item.redaction))
        except CannotMake as error:
            problems.append(f"{item.image}: {error}")
            continue
        except OSError as error:
            raise CommandFailed(f"{path} cannot be written: {error.strerror}") from error
        written[item.image] = str(path)
    return written


def _say(item: Looked, preview: str | None, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(_document(item, preview), ensure_ascii=False))
        return
    click.echo(item.image)
    if item.redaction is not None:
        count = len(item.redaction.boxes)
        click.echo(f"  {count} block{'' if count == 1 else 's'} covered, {item.redaction.share:.0%} of the picture")
    if item.why:
        click.echo(f"  not given out: {item.why}")
    elif item.derivative:
        click.echo(f"  given out as {item.derivative}")
    else:
        click.echo("  approved, and not made yet")
    if preview:
        click.echo(f"  look at {preview}")


def _document(item: Looked, preview: str | None) -> dict[str, Any]:
    return {
        "image": item.image,
        "media": list(item.media),
        "covers": [list(box) for box in item.redaction.boxes] if item.redaction else [],
        "share": f"{item.redaction.share:.4f}" if item.redaction else None,
        "notGivenOut": item.why,
        "derivative": item.derivative,
        "preview": preview,
    }


def _sum_up(looked: list[Looked], preview: Path | None) -> None:
    able, out = sum(item.redaction is not None for item in looked), sum(item.derivative is not None for item in looked)
    click.echo(f"{len(looked)} pictures of sensitive specimens: {able} can be covered, {out} are given out")
    if preview is not None and able:
        click.echo(
            f"Look at every picture in {preview}, at full size. Remove those on which anything can be read, or that"
            f" show anything else that tells the place; then run the command with --approve {preview}"
        )
