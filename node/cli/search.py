"""``vasculum search``: the public records of many nodes, asked one by one and shown together."""

import asyncio
import json
from dataclasses import dataclass
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from federation.errors import TransportError
from federation.http_transport import HttpTransport
from federation.plain_text import without_control
from federation.search import search_request
from federation.transport import Transport
from linkeddata.coverage import NoValue, parse_no_value
from linkeddata.errors import DocumentError
from linkeddata.json_strict import Json, as_object, get_list, get_object, get_str, parse_json
from linkeddata.selection import Selection
from node.cli.errors import CommandFailed
from node.cli.nodes import NODE_OPTION, REGISTRY_OPTION, look
from node.cli.saved_selections import SELECTION_OPTION, chosen


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeHits:
    """What one node found."""

    origin: str
    name: str
    total: int = 0
    records: tuple[dict[str, Json], ...] = ()
    no_value: tuple[NoValue, ...] = ()
    problem: str = ""


@click.command(epilog="Example: vasculum search 'kingdom=Plantae q=martius' --registry https://registry.example.org")
@click.argument("where", default="")
@SELECTION_OPTION
@REGISTRY_OPTION
@NODE_OPTION
@click.option("--limit", type=click.IntRange(1, 100), default=10, show_default=True, help="Records of each node.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def search(
    where: str, saved: str | None, registries: tuple[str, ...], origins: tuple[str, ...], limit: int, as_json: bool
) -> None:
    """Search the public records of nodes; WHERE is written like that of `vasculum job submit`."""
    selection = chosen(where, saved)
    finding = look(registries, origins)
    found = asyncio.run(
        _ask_all({item.origin: item.descriptor.name for item in finding.nodes.values()}, selection, limit)
    )
    if as_json:
        lines = [
            {
                "node": hits.origin, "name": hits.name, "total": hits.total, "records": list(hits.records),
                "noValue": [item.to_json() for item in hits.no_value], "problem": hits.problem,
            }
            for hits in found
        ]  # fmt: skip
        click.echo(json.dumps({"nodes": lines, "problems": finding.problems}, ensure_ascii=False))
    else:
        _print(found)
        for problem in finding.problems:
            click.echo(f"note: {problem}", err=True)
    if not any(not hits.problem for hits in found):
        raise CommandFailed("no node answered")


async def _ask_all(nodes: dict[str, str], selection: Selection, limit: int) -> list[NodeHits]:
    async with HttpTransport() as transport:
        return list(
            await asyncio.gather(*(ask(transport, origin, name, selection, limit) for origin, name in nodes.items()))
        )


async def ask(transport: Transport, origin: str, name: str, selection: Selection, limit: int) -> NodeHits:
    """One node's answer; a node that does not answer well is a line with its problem."""
    request = search_request(origin, selection, limit=limit)
    try:
        answer = await transport.send(request)
        if answer.status != 200:
            return NodeHits(origin=origin, name=name, problem=f"answered {answer.status}")
        document = as_object(parse_json(answer.body, max_bytes=request.max_bytes), "an answer")
        total = document.get("total")
        no_value = parse_no_value(document)
        items = get_list(document, "results" if "results" in document else "items", max_items=1000)
        records = tuple(_record(item, origin) for item in items)
    except (TransportError, DocumentError) as error:
        return NodeHits(origin=origin, name=name, problem=str(error))
    return NodeHits(
        origin=origin, name=name, total=total if isinstance(total, int) else 0, records=records, no_value=no_value
    )


def _record(value: Json, origin: str) -> dict[str, Json]:
    item = as_object(value, "a hit")
    if not get_str(item, "id").startswith(origin + "/"):
        raise DocumentError("it lists a record that is not its own")
    get_object(item, "record")
    return item


def _print(found: list[NodeHits]) -> None:
    console = Console()
    table = Table()
    for name in ("node", "specimen", "name", "catalogue number"):
        table.add_column(name, overflow="fold")
    for hits in found:
        for item in hits.records:
            record: dict[str, Any] = item["record"]
            table.add_row(
                Text(without_control(hits.name)[:30]), Text(without_control(str(item["id"]))),
                Text(without_control(str(record.get("ods:specimenName", "")))),
                Text(without_control(str(record.get("dwc:catalogNumber", "")))),
            )  # fmt: skip
    if table.row_count:
        console.print(table)
    for hits in found:
        said = hits.problem or "; ".join([f"{hits.total:,} specimens", *(item.to_text() for item in hits.no_value)])
        console.print(f"{hits.name}  {hits.origin}: {said}", markup=False, highlight=False)
