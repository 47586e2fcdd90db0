"""``vasculum tier``: moving own copies to another disk or a bucket, and bringing them back."""

import json
import os
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import click

from cas.errors import ContentIdError, TierFailed
from cas.ids import ContentId, parse_content_id
from cas.tiering import Tiering
from node.cli.errors import CommandFailed, UserError
from node.cli.store_work import RATE_OPTION, opened, reading, size_text
from node.folder import NodeFolder
from node.services.tiers import open_tiering, prepare, rule_of

NODE = click.argument("node_dir", type=click.Path(path_type=Path, file_okay=False))
IDS = click.argument("ids", metavar="[ID]...", nargs=-1)


@click.group(epilog="Example: vasculum tier move hortus/ --to archive --go")
def tier() -> None:
    """Keep own copies on another disk or in a bucket; their ids stay, and they come back when they are asked for."""


@tier.command(
    epilog="""\b
Examples:
  vasculum tier move hortus/                       what the rules of node.toml would move
  vasculum tier move hortus/ --go                  move it
  vasculum tier move hortus/ ID --to archive --go  move one image"""
)
@NODE
@IDS
@click.option("--to", "name", default=None, metavar="TIER", help="Which tier; without it every tier with rules.")
@click.option("--all", "is_all", is_flag=True, help="Every own copy, whatever the rules say.")
@click.option("--go", is_flag=True, help="Do it; without it nothing is moved.")
@RATE_OPTION
@click.option("--json", "as_json", is_flag=True, help="One JSON object per image.")
def move(
    node_dir: Path, ids: tuple[str, ...], name: str | None, is_all: bool, go: bool, rate: float | None, as_json: bool
) -> None:
    """Move own copies of NODE_DIR into a tier: copied, read back whole, and only then removed here.

    Files that were adopted are never moved or touched. The node may serve meanwhile.
    Ctrl-C and even a kill are safe: the same command goes on where it stopped.
    """
    with opened(node_dir) as node:
        tiering = _tiering(node)
        names = [_known(tiering, name)] if name is not None else list(tiering.tiers)
        if not names:
            raise UserError("node.toml names no tier: write [tiers.archive] with a path or a bucket")
        if (ids or is_all) and len(names) > 1:
            raise UserError(f"to which tier? --to {names[0]}")
        damaged = 0
        for target in names:
            todo = list(_chosen(node, tiering, target, ids, is_all=is_all))
            if go:
                damaged += _move(node, tiering, target, todo, rate, as_json=as_json)
            else:
                _say_plan(todo, target, as_json=as_json)
    if not go and not as_json:
        click.echo("a dry run: nothing was moved; --go moves it")
    if damaged:
        raise CommandFailed(f"{damaged} are damaged here and were not moved: vasculum scrub, then repair")


def _move(
    node: NodeFolder, tiering: Tiering, target: str, todo: list[tuple[ContentId, int]], rate: float | None, *,
    as_json: bool,
) -> int:  # fmt: skip
    """Moves them; returns how many are damaged."""
    moved = moved_bytes = damaged = 0
    try:
        if todo:
            prepare(tiering, node.blobs, target)
        with reading(f"to {target}", sum(size for _, size in todo), rate, node.settings) as took:
            for cid, size in todo:
                outcome = tiering.move(cid, target, took=partial(took, ""))
                if outcome == "moved":
                    moved, moved_bytes = moved + 1, moved_bytes + size
                elif outcome == "damaged":
                    damaged += 1
                    click.echo(f"  {cid.hex} does not have its hash any more", err=True)
                elif outcome == "kept-by-address":
                    click.echo(f"  {cid.hex} is a copy of a remote image: `vasculum fetch` looks after it", err=True)
                if as_json:
                    click.echo(json.dumps({"id": str(cid), "size": size, "tier": target, "outcome": outcome}))
    except TierFailed as error:
        raise CommandFailed(f"{error}; {moved} were moved before, the same command goes on") from error
    if not as_json:
        click.echo(f"{moved} images moved to {target} ({size_text(moved_bytes)})")
    return damaged


@tier.command(epilog="Example: vasculum tier restore hortus/ ID")
@NODE
@IDS
@click.option("--all", "is_all", is_flag=True, help="Everything that has no active copy, such as before a tier goes.")
@RATE_OPTION
@click.option("--json", "as_json", is_flag=True, help="One JSON object per image.")
def restore(node_dir: Path, ids: tuple[str, ...], is_all: bool, rate: float | None, as_json: bool) -> None:
    """Bring images of NODE_DIR back from their tier now; without an ID, those that somebody is waiting for.

    The copy in the tier stays: it is a second copy, and archiving the image again costs one reading.
    """
    failed = 0
    with opened(node_dir) as node:
        tiering = _tiering(node)
        if is_all:
            todo = [copy.id for copy in tiering.copies() if not copy.is_active]
        elif ids:
            todo = [_parse(text) for text in ids]
        else:
            todo = [item.id for item in tiering.restores()]
        todo = list(dict.fromkeys(todo))
        for cid in todo:
            if not any(tiering.copies(cid)):
                raise UserError(f"{cid} is in no tier: vasculum tier list {node_dir}")
        with reading("restore", sum(node.blobs.index.size_of(cid) or 0 for cid in todo), rate, node.settings) as took:
            for cid in todo:
                try:
                    tiering.ask_again(cid)
                    name, problem = tiering.restore(cid, took=partial(took, "")), ""
                except TierFailed as error:
                    name, problem, failed = "", str(error), failed + 1
                if as_json:
                    click.echo(json.dumps({"id": str(cid), "from": name, "problem": problem}, ensure_ascii=False))
                elif problem:
                    click.echo(f"{cid.hex}: not restored: {problem}", err=True)
                else:
                    click.echo(f"{cid.hex}: restored from {name}")
    if failed:
        raise CommandFailed(f"{failed} of {len(todo)} could not be restored; the same command tries again")
    if not todo and not as_json:
        click.echo("nothing waits to be restored")


@tier.command("list", epilog="Example: vasculum tier list hortus/ --json")
@NODE
@click.option("--images", is_flag=True, help="Every image in a tier, not only the sums.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line: tiers, images, restores that wait.")
def list_tiers(node_dir: Path, images: bool, as_json: bool) -> None:
    """List the tiers of NODE_DIR: where they are, what lies there, and what somebody is waiting for."""
    with opened(node_dir) as node:
        tiering = _tiering(node)
        sums: dict[str, list[int]] = {name: [0, 0, 0, 0] for name in tiering.tiers}
        for copy in tiering.copies():
            row = sums.setdefault(copy.tier, [0, 0, 0, 0])
            for at, count in enumerate((1, copy.size, not copy.is_active, copy.is_damaged)):
                row[at] += count
            if images and as_json:
                facts = {"id": str(copy.id), "tier": copy.tier, "size": copy.size, "stored": copy.stored}
                more = {"checked": copy.checked, "active": copy.is_active, "damaged": copy.is_damaged}
                click.echo(json.dumps({"kind": "image", **facts, **more}))
            elif images:
                state = "damaged" if copy.is_damaged else "also active" if copy.is_active else "archived"
                click.echo(f"{copy.id.hex}  {copy.tier}  {size_text(copy.size)}  {state}")
        for name, (count, size, archived, damaged) in sums.items():
            where = tiering.tiers[name].where if name in tiering.tiers else ""
            if as_json:
                facts = {"kind": "tier", "tier": name, "where": where, "images": count, "bytes": size}
                click.echo(json.dumps({**facts, "onlyHere": archived, "damaged": damaged}, ensure_ascii=False))
                continue
            click.echo(f"{name}  {where or 'not in node.toml any more'}")
            click.echo(f"  {count:,} images ({size_text(size)}), {archived:,} of them without an active copy")
            if damaged:
                click.echo(f"  {damaged} damaged: vasculum quarantine {node_dir}")
        waiting = tiering.restores()
    for item in waiting:
        if as_json:
            row_of = {"kind": "restore", "id": str(item.id), "state": item.state, "since": item.asked}
            click.echo(json.dumps({**row_of, "reason": item.reason}, ensure_ascii=False))
        else:
            click.echo(f"{item.id.hex}  {item.state} since {item.asked[:16]}  {item.reason}")
    if not sums and not as_json:
        click.echo("no tiers: write [tiers.archive] into node.toml", err=True)


def _tiering(node: NodeFolder) -> Tiering:
    return open_tiering(node.settings, node.blobs, clock=lambda: datetime.now(UTC), environ=os.environ)


def _known(tiering: Tiering, name: str) -> str:
    if name not in tiering.tiers:
        raise UserError(f"there is no tier {name!r} in node.toml; there is: {', '.join(tiering.tiers) or 'none'}")
    return name


def _chosen(
    node: NodeFolder, tiering: Tiering, name: str, ids: Iterable[str], *, is_all: bool
) -> Iterable[tuple[ContentId, int]]:
    settings = node.settings.tiers[name]
    for text in ids:
        cid = _parse(text)
        known = node.blobs.stat(cid)
        if known is None:
            raise UserError(f"{cid} is not an image of this node")
        if known.kind == "adopted":
            raise UserError(f"{cid} is a file of yours ({known.volume}:{known.relpath}): such files are never moved")
        yield cid, known.size
    if ids:
        return
    rule = rule_of(settings)
    if is_all:
        rule = type(rule)()
    elif not settings.moves_by_itself:
        return
    yield from tiering.candidates(rule)


def _say_plan(todo: list[tuple[ContentId, int]], name: str, *, as_json: bool) -> None:
    if as_json:
        for cid, size in todo:
            click.echo(json.dumps({"id": str(cid), "size": size, "tier": name, "outcome": "would move"}))
        return
    click.echo(f"{len(todo)} images ({size_text(sum(size for _, size in todo))}) would move to {name}")


def _parse(text: str) -> ContentId:
    try:
        return parse_content_id(text)
    except ContentIdError as error:
        raise UserError(f"{text!r} is no content id: {error}") from error
