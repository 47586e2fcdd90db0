"""``vasculum similar``: images of many nodes that look like a picture, asked one by one and shown together."""

import asyncio
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlencode

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from federation.errors import TransportError
from federation.http_transport import HttpTransport
from federation.plain_text import without_control
from federation.transport import OutgoingRequest, Transport
from linkeddata.errors import DocumentError
from linkeddata.json_strict import Json, as_object, get_list, get_str, parse_json
from linkeddata.selection import Selection
from node.cli.errors import CommandFailed, UserError
from node.cli.nodes import NODE_OPTION, REGISTRY_OPTION, look
from node.cli.saved_selections import SELECTION_OPTION, chosen

TYPES: Final = {
    b"\xff\xd8\xff": "image/jpeg",
    b"\x89PNG": "image/png",
    b"II*\0": "image/tiff",
    b"MM\0*": "image/tiff",
    b"RIFF": "image/webp",
}
MAX_BYTES: Final = 32 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeImages:
    """What one node found."""

    origin: str
    name: str
    items: tuple[dict[str, Json], ...] = ()
    problem: str = ""


@click.command(
    epilog="Example: vasculum similar sheet.jpg --where 'family=Fabaceae' --registry https://registry.example.org"
)
@click.argument("picture", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--where", default="", help="Only images of these specimens; written like that of `vasculum search`.")
@SELECTION_OPTION
@REGISTRY_OPTION
@NODE_OPTION
@click.option("--limit", type=click.IntRange(1, 100), default=10, show_default=True, help="Images in all.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def similar(
    picture: Path, where: str, saved: str | None, registries: tuple[str, ...], origins: tuple[str, ...], limit: int,
    as_json: bool,
) -> None:  # fmt: skip
    """Find images that look like PICTURE. The nodes compute with it and drop it; scores are cosines, 1 is the same."""
    selection = chosen(where, saved)
    if selection.to_pairs() is None:
        raise UserError("--where has alternatives that an address cannot say: ask for each of them")
    data = _read(picture)
    finding = look(registries, origins)
    names = {item.origin: item.descriptor.name for item in finding.nodes.values()}
    found = asyncio.run(_ask_all(names, data, selection, limit))
    best = sorted(
        ((item, hits) for hits in found for item in hits.items),
        key=lambda pair: (-float(pair[0]["score"]), str(pair[0]["medium"])),
    )[:limit]
    problems = [*(f"{hits.name}: {hits.problem}" for hits in found if hits.problem), *finding.problems]
    if as_json:
        items = [{"node": hits.origin, **item} for item, hits in best]
        click.echo(json.dumps({"items": items, "problems": problems}, ensure_ascii=False))
    else:
        if not all(hits.problem for hits in found):
            _print(best)
        for problem in problems:
            click.echo(f"note: {without_control(problem)}", err=True)
    if all(hits.problem for hits in found):
        raise CommandFailed("no node found anything: see the notes" if found else "no node answered")


def _read(picture: Path) -> bytes:
    data = picture.read_bytes()
    if len(data) > MAX_BYTES:
        raise UserError(f"{picture} has {len(data):,} bytes; nodes take {MAX_BYTES:,}: send a smaller copy")
    if not any(data.startswith(start) for start in TYPES):
        raise UserError(f"{picture} is no JPEG, PNG, TIFF or WebP")
    return data


async def _ask_all(nodes: dict[str, str], data: bytes, selection: Selection, limit: int) -> list[NodeImages]:
    async with HttpTransport() as transport:
        return list(
            await asyncio.gather(
                *(ask(transport, origin, name, data, selection, limit) for origin, name in nodes.items())
            )
        )


async def ask(
    transport: Transport, origin: str, name: str, data: bytes, selection: Selection, limit: int
) -> NodeImages:  # fmt: skip
    """One node's answer; a node that does not answer well is a line with its problem."""
    kind = next(kind for start, kind in TYPES.items() if data.startswith(start))
    query = urlencode([*(selection.to_pairs() or []), ("limit", str(limit))])
    request = OutgoingRequest(
        method="POST", url=f"{origin}/similar?{query}", body=data,
        headers={"Content-Type": kind, "Accept": "application/json"},
    )  # fmt: skip
    try:
        answer = await transport.send(request)
        document = as_object(parse_json(answer.body, max_bytes=request.max_bytes), "an answer")
        if answer.status != 200:
            said = [text for key in ("title", "detail") if isinstance(text := document.get(key), str) and text]
            return NodeImages(origin=origin, name=name, problem=f"answered {answer.status}: {': '.join(said)[:300]}")
        items = tuple(_item(value, origin) for value in get_list(document, "items", max_items=100))
    except (TransportError, DocumentError) as error:
        return NodeImages(origin=origin, name=name, problem=str(error))
    return NodeImages(origin=origin, name=name, items=items)


def _item(value: Json, origin: str) -> dict[str, Json]:
    item = as_object(value, "a hit")
    if not get_str(item, "medium").startswith(origin + "/"):
        raise DocumentError("it lists an image that is not its own")
    score = get_str(item, "score", max_chars=8)
    try:
        in_range = -1 <= float(score) <= 1
    except ValueError:
        in_range = False
    if not in_range:
        raise DocumentError("a score is a decimal text from -1 to 1")
    return item


def _print(best: list[tuple[dict[str, Json], NodeImages]]) -> None:
    table = Table()
    for column in ("score", "node", "name", "number", "image"):
        table.add_column(column, overflow="fold")
    for item, hits in best:
        table.add_row(
            Text(str(item["score"])), Text(without_control(hits.name)[:30]),
            Text(without_control(str(item.get("name", "")))), Text(without_control(str(item.get("catalogNumber", "")))),
            Text(without_control(str(item["medium"]))),
        )  # fmt: skip
    if table.row_count:
        Console().print(table)
    else:
        click.echo("no image that may be shown looks like it")
