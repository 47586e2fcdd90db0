"""``vasculum withdraw``: takes an image back, with everything that was made from it."""

import json
import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import click

from cas.errors import ContentIdError, StoreFailed
from cas.ids import ContentId, parse_content_id
from node.cli.errors import CommandFailed, UserError
from node.config import ConfigError
from node.folder import FolderBusy, NodeFolder, ingest_lock, open_folder
from node.services import withdraw as service
from node.services.purge import drop_derived, purge_waits
from node.services.withdraw import WithdrawalPlan
from node.storage.db import DatabaseError

REMAINS: Final = """\
Not reached by this command, and still holding it: backups made before (`vasculum backup`), snapshots and backups of
the disk, other variants of the image under other ids, and what others have copied; peers and harvesters are told by
the publication log. Blocks that the disk has freed are overwritten when the disk needs them."""


@click.command(
    epilog="Example: vasculum withdraw hortus/ hash://sha256/2cf24d.. --reason 'shows a person, at their request'"
)
@click.argument("node_dir", type=click.Path(path_type=Path, file_okay=False))
@click.argument("image", metavar="[ID]", required=False)
@click.option("--reason", help="Shown to everybody who asks for the image, if they could see that it was here.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Say what would go, and change nothing.")
@click.option("--list", "is_list", is_flag=True, help="List withdrawals: when and why. Their ids are not kept.")
@click.option("--finish", is_flag=True, help="Take up what was interrupted, and clean the files of the node.")
@click.option("--json", "as_json", is_flag=True, help="Print what was done (or the list) as JSON.")
def withdraw(
    node_dir: Path, image: str | None, reason: str | None, yes: bool, dry_run: bool, is_list: bool, finish: bool,
    as_json: bool,
) -> None:  # fmt: skip
    """Withdraw the image ID (any spelling of a content id, or the address of a medium) from NODE_DIR.

    Its bytes and everything made from them are removed: records, previews, read text, annotations, results, search.
    A file that was adopted stays where it is; it is never served and never taken in again.
    The node may keep serving. At the end the databases are rewritten, so that no free page remembers; this takes about
    a second per 50 MB and twice the size of the databases as free space. There is no way back.
    """
    with _opened(node_dir) as folder:
        if is_list:
            _show_list(folder, as_json=as_json)
        elif finish:
            count, pending = 0, ""
            try:
                count = service.finish_begun(folder, now=datetime.now(UTC))
            except service.WithdrawalPending as error:
                pending = str(error)
            waiting = service.withdrawals_to_clean(folder)
            purging = purge_waits(folder.database)
            if purging:
                drop_derived(folder)
            held = _clean(folder, quiet=as_json) if waiting or purging else ""
            facts = {"finished": count, "cleaned": 0 if held else waiting, "held": held, "pending": pending}
            _report({**facts, **({"purged": not held} if purging else {})}, as_json=as_json)
            _fail_when_pending(pending)
        else:
            _withdraw(folder, image, reason, yes=yes, dry_run=dry_run, as_json=as_json)


def _withdraw(
    folder: NodeFolder, image: str | None, reason: str | None, *, yes: bool, dry_run: bool, as_json: bool
) -> None:
    if image is None:
        raise UserError("which image? Give its content id, or the address of its medium (--list shows earlier ones)")
    cid = _parse(folder, image)
    known = folder.blobs.withdrawals.find(cid)
    plan = service.plan_withdrawal(folder, cid)
    if known is None and plan.is_empty:
        raise UserError(f"{cid} is not here: there is nothing to withdraw")
    if known is not None and known.state != "marked" and plan.is_empty:
        held = _clean(folder, quiet=as_json) if service.withdrawals_to_clean(folder) else ""
        _report({"id": str(cid), "already": known.at, "reason": known.reason, "held": held}, as_json=as_json)
        return
    if dry_run:
        _report({**_facts(plan), "dryRun": True}, as_json=as_json)
        return
    reason = (reason or (known.reason if known else "")).strip()
    if not reason or len(reason) > 500 or not reason.isprintable():
        raise UserError("--reason TEXT is needed: one line that may be shown to everybody, up to 500 characters")
    if not yes and not as_json:
        for line in _lines(_facts(plan)):
            click.echo(line)
        click.confirm("There is no way back. Withdraw it?", abort=True)
    pending = ""
    with ingest_lock(folder.settings.folder):
        try:
            service.withdraw(folder, plan, reason=reason, now=datetime.now(UTC), new_key=secrets.token_bytes(32))
        except service.WithdrawalPending as error:
            pending = str(error)
    held = _clean(folder, quiet=as_json)
    _report({**_facts(plan), "reason": reason, "cleaned": not held, "held": held, "pending": pending}, as_json=as_json)
    if not as_json:
        click.echo(REMAINS)
    _fail_when_pending(pending)


def _fail_when_pending(pending: str) -> None:
    if pending:
        raise CommandFailed(
            f"a copy is still in a tier that cannot be reached ({pending}); the index keeps its id until then."
            " Nothing gives it out. A serving node goes on trying; by hand: the same command with --finish"
        )


def _parse(folder: NodeFolder, text: str) -> ContentId:
    origin = folder.settings.origin
    if text.startswith(("/media/", f"{origin}/media/")):
        iri = text if text.startswith(origin) else origin + text
        with folder.database.reader() as conn:
            row = conn.execute("SELECT image FROM medium WHERE iri = ?", (iri,)).fetchone()
        if row is None or row["image"] is None:
            raise UserError(f"{iri} is not a medium with an image here")
        return ContentId.from_hex(row["image"])
    try:
        return parse_content_id(text)
    except ContentIdError as error:
        raise UserError(f"{text!r} is no content id and no address of a medium here: {error}") from error


def _clean(folder: NodeFolder, *, quiet: bool) -> str:
    """Rewrites the databases; returns why not, or nothing."""
    try:
        service.clean(folder, say=(lambda _: None) if quiet else (lambda text: click.echo(text, err=True)))
    except service.CleaningHeld as error:
        return str(error)
    return ""


def _facts(plan: WithdrawalPlan) -> dict[str, Any]:
    traces = plan.traces
    return {
        "id": str(plan.id), "told": plan.told, "owned": plan.owned, "adopted": list(plan.adopted),
        "media": list(traces.media), "earlierVersionsOf": list(traces.earlier), "specimens": len(traces.specimens),
        "annotations": len(traces.annotations), "results": traces.units, "rowsOfJobs": traces.result_rows,
        "previews": len(plan.derived), "addresses": list(plan.addresses), "tiers": list(plan.tiers),
        "publicOriginals": [str(cid) for cid in plan.public_originals],
        "redacted": [str(cid) for cid in plan.redacted],
        "otherFiles": [str(cid) for cid in plan.other_files],
    }  # fmt: skip


def _report(facts: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(facts))
        return
    for line in _lines(facts):
        click.echo(line)


def _lines(facts: dict[str, Any]) -> Iterator[str]:
    if "finished" in facts:
        yield f"{facts['finished']} interrupted withdrawals finished, files cleaned of {facts['cleaned']}"
        if facts.get("purged"):
            yield "what was said of taxa before they became sensitive is in no file of the node any more"
    elif "already" in facts:
        yield f"{facts['id']} was withdrawn on {facts['already'][:10]}: {facts['reason']}"
    else:
        verb = "withdrawn" if "cleaned" in facts else "would go" if facts.get("dryRun") else "to be withdrawn"
        yield f"{verb}: {facts['id']}"
        yield (
            f"  {len(facts['media'])} media, {facts['annotations']} annotations, {facts['results']} results, "
            f"{facts['rowsOfJobs']} rows of jobs, {facts['previews']} previews; "
            f"{facts['specimens']} specimens get a version without it"
        )
        yield from (f"  {medium}" for medium in facts["media"])
        if facts["owned"]:
            yield "  the copy in the node is removed"
        yield from (f"  {public}, the public original, goes with it" for public in facts["publicOriginals"])
        yield from (f"  {covered}, the picture with blacked out labels, goes with it" for covered in facts["redacted"])
        yield from (
            f"  {other} is another file of the same exposure and stays: withdraw it, too, if the picture must go"
            for other in facts["otherFiles"]
        )
        yield from (f"  the copy in tier {name} is removed" for name in facts["tiers"])
        yield from (f"  {path} stays, and is never served or taken in again" for path in facts["adopted"])
        yield from (f"  {address} is never fetched again" for address in facts["addresses"])
        if not facts["told"]:
            yield "  only staff could see it: to others it looks as if it had never been here"
    if facts.get("held"):
        yield f"The files of the node still hold remains: {facts['held']}"
    elif facts.get("cleaned"):
        yield "The databases were rewritten: no page of them holds what was withdrawn."


def _show_list(folder: NodeFolder, *, as_json: bool) -> None:
    found = folder.blobs.withdrawals.every()
    if as_json:
        click.echo(
            json.dumps([{"at": item.at, "reason": item.reason, "told": item.told, "state": item.state}
                        for item in found])
        )  # fmt: skip
        return
    states = {"marked": "interrupted: run --finish", "closed": "files not cleaned yet: run --finish", "clean": "done"}
    for item in found:
        click.echo(f"{item.at}  {states[item.state]}  {item.reason}")
    if not found:
        click.echo("nothing was withdrawn")


@contextmanager
def _opened(node_dir: Path) -> Iterator[NodeFolder]:
    try:
        with open_folder(node_dir) as folder:
            yield folder
    except (ConfigError, FolderBusy) as error:
        raise UserError(str(error)) from error
    except (DatabaseError, StoreFailed) as error:
        raise CommandFailed(str(error)) from error
    except sqlite3.Error as error:
        raise CommandFailed(f"not finished: {error}; run the same command again") from error
