"""``vasculum nodes``: which nodes there are, what they allow, and what they compute."""

import asyncio
import json
from datetime import UTC, datetime

import click
from rich.console import Console
from rich.table import Table

from federation.http_transport import HttpTransport
from federation.identity import SigningKey
from linkeddata.times import format_time
from node.cli.errors import CommandFailed, UserError
from node.cli.research import Finding, NodeCache, check_address, find_nodes, make_ports

REGISTRY_OPTION = click.option(
    "--registry", "registries", multiple=True, envvar="VASCULUM_REGISTRY", help="Address of a registry (repeatable)."
)
NODE_OPTION = click.option("--node", "origins", multiple=True, help="Address of a node (repeatable).")


def look(registries: tuple[str, ...], origins: tuple[str, ...], *, timeout_s: float = 15.0) -> Finding:
    """Finds nodes for a command; fails when there is nowhere to look or nothing is found."""
    if not registries and not origins:
        raise UserError("say where to look: --registry URL (or VASCULUM_REGISTRY), or --node URL")
    where = tuple(check_address(item) for item in registries)
    named = tuple(check_address(item) for item in origins)

    async def run() -> Finding:
        async with HttpTransport() as transport:
            # Looking needs no signature, so a throw-away key stands in for the researcher's.
            ports = make_ports(transport, SigningKey.create(), (*where, *named), timeout_s=timeout_s)
            return await find_nodes(ports, registries=where, nodes=named, cache=NodeCache())

    return asyncio.run(run())


@click.command(epilog="Example: vasculum nodes --registry https://registry.example.org")
@REGISTRY_OPTION
@NODE_OPTION
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def nodes(registries: tuple[str, ...], origins: tuple[str, ...], as_json: bool) -> None:
    """List nodes with their policy, their pipelines and versions."""
    finding = look(registries, origins)
    now = datetime.now(UTC)
    if as_json:
        found = [
            {
                **item.descriptor.to_json(),
                "seen": format_time(item.seen),
                "health": item.health,
                "summaryAgeSeconds": int((now - item.seen).total_seconds()),
            }
            for item in finding.nodes.values()
        ]
        click.echo(json.dumps({"nodes": found, "problems": finding.problems}, ensure_ascii=False))
    else:
        _print(finding, now)
    if not finding.nodes:
        raise CommandFailed("no node was found" + (": " + "; ".join(finding.problems) if finding.problems else ""))


def _print(finding: Finding, now: datetime) -> None:
    console = Console()
    for item in finding.nodes.values():
        descriptor = item.descriptor
        age = int((now - item.seen).total_seconds())
        table = Table(title=f"{descriptor.name}  {item.origin}", title_justify="left", show_header=False, box=None)
        table.add_row("holds", f"{descriptor.holdings.specimens:,} specimens, {descriptor.holdings.media:,} images")
        table.add_row("seen", f"{age} s ago" + (f" ({item.health})" if item.health else ""))
        for place, offer in enumerate(descriptor.pipelines):
            table.add_row(
                "computes" if place == 0 else "",
                f"{offer.name} {offer.version} ({offer.output}), conformance {offer.conformance}, "
                f"{offer.digest[:19]}..",
            )
        for place, rule in enumerate(descriptor.policy.rules):
            table.add_row("policy" if place == 0 else "", rule)
        console.print(table, highlight=False, markup=False)
        console.print()
    for problem in finding.problems:
        click.echo(f"note: {problem}", err=True)
