"""``vasculum requests``: jobs that wait for a person of the institution."""

import json
import shlex
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from linkeddata.times import format_time
from node.cli.errors import CommandFailed
from node.cli.node_database import open_database
from node.cli.person import person
from node.cli.researchers import FOLDER
from node.cli.store_work import size_text
from node.services import requests as service
from node.services.requests import HeldRequest, RequestError

REQUEST = click.argument("request_id", metavar="ID")


@click.group(epilog="Example: vasculum requests list hortus/ ; vasculum requests approve hortus/ 1a2b3c4d")
def requests() -> None:
    """Jobs of researchers that wait for a decision."""


@requests.command("list", epilog="Example: vasculum requests list hortus/ --json")
@FOLDER
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_requests(folder: Path, as_json: bool) -> None:
    """List requests that wait."""
    with open_database(folder) as database, database.reader() as conn:
        found = [service.show(conn, job) for job in service.held(conn)]
    if as_json:
        click.echo(json.dumps([_document(item) for item in found], ensure_ascii=False))
        return
    for item in found:
        click.echo(
            f"{item.job.id[:12]}  {item.job.images} images  {','.join(step.output for step in item.spec.steps)}  "
            f"{item.job.requester_name or item.job.requester_kid} ({item.standing})  "
            f"until {format_time(item.job.expires)}"
        )
    if not found:
        click.echo("nothing waits", err=True)


@requests.command(epilog="Example: vasculum requests show hortus/ 1a2b3c4d")
@FOLDER
@REQUEST
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show(folder: Path, request_id: str, as_json: bool) -> None:
    """Show everything about a request."""
    with open_database(folder) as database, database.reader() as conn:
        found = _find(conn, request_id)
    if as_json:
        click.echo(json.dumps(_document(found), ensure_ascii=False))
        return
    for name, text in _lines(found):
        click.echo(f"{name:14} {text}")
    click.echo(
        f"\nTo let exactly this run: vasculum requests approve {shlex.quote(str(folder))} {found.job.id[:12]} "
        f"--snapshot {found.job.snapshot_digest}",
        err=True,
    )


@requests.command(epilog="Example: vasculum requests approve hortus/ 1a2b3c4d --reason 'agreed by mail'")
@FOLDER
@REQUEST
@click.option("--reason", default="", help="For the requester and the files.")
@click.option("--snapshot", default=None, help="The snapshot digest you were shown; another one is not approved.")
def approve(folder: Path, request_id: str, reason: str, snapshot: str | None) -> None:
    """Let a request run: the images and pipelines of its snapshot, and nothing else."""
    _decide(folder, request_id, reason, snapshot, is_approved=True)


@requests.command(epilog="Example: vasculum requests refuse hortus/ 1a2b3c4d --reason 'the sheets are on loan'")
@FOLDER
@REQUEST
@click.option("--reason", required=True, help="For the requester and the files.")
@click.option("--snapshot", default=None, help="The snapshot digest you were shown.")
def refuse(folder: Path, request_id: str, reason: str, snapshot: str | None) -> None:
    """End a request; the requester is told the reason."""
    _decide(folder, request_id, reason, snapshot, is_approved=False)


def _decide(folder: Path, request_id: str, reason: str, snapshot: str | None, *, is_approved: bool) -> None:
    act = service.approve if is_approved else service.refuse
    with open_database(folder) as database:
        try:
            with database.transaction() as conn:
                job = service.find_request(conn, request_id)
                act(
                    conn, job.id, by=person(), reason=reason, snapshot=snapshot or job.snapshot_digest,
                    now=datetime.now(UTC),
                )  # fmt: skip
        except RequestError as error:
            raise CommandFailed(str(error)) from error
    word = "approved" if is_approved else "refused"
    click.echo(f"{word}: {job.id[:12]}, {job.images} images, snapshot {job.snapshot_digest}")


def _find(conn: Any, request_id: str) -> HeldRequest:
    try:
        return service.show(conn, service.find_request(conn, request_id))
    except RequestError as error:
        raise CommandFailed(str(error)) from error


def _lines(found: HeldRequest) -> list[tuple[str, str]]:
    """The request as a person reads it."""
    job, spec = found.job, found.spec
    return [
        ("request", job.id),
        ("requester", f"{job.requester_name or 'no name given'}, key {job.requester_kid} ({found.standing})"),
        ("purpose", job.purpose or "not stated"),
        ("steps", ", ".join(step.output for step in spec.steps)),
        ("pipelines", ", ".join(step.pipeline for step in job.steps)),
        ("selection", spec.selection.to_text() or "everything"),
        ("question", spec.emit.match if spec.emit else "everything that is read"),
        ("gets", {"record": "a row per image", "count": "numbers only", "boolean": "whether there is any"}[
            spec.granularity
        ]),
        ("publishes", "asks for public annotations" if spec.publish else "nothing"),
        ("images", f"{job.images} ({size_text(job.size_bytes)}): "
         + (", ".join(f"{number} {label}" for label, number in found.access.items()) or "none")),
        ("for example", ", ".join(found.examples) or "-"),
        ("why it waits", "; ".join(job.reasons)),
        ("rule", job.rule),
        ("snapshot", job.snapshot_digest),
        ("asked", format_time(job.created)),
        ("waits until", format_time(job.expires)),
    ]  # fmt: skip


def _document(found: HeldRequest) -> dict[str, Any]:
    job = found.job
    return {
        "id": job.id, "jobSpec": job.spec_id, "status": job.status, "approval": job.approval,
        "requester": job.requester_name, "key": job.requester_kid, "standing": found.standing, "purpose": job.purpose,
        "steps": [step.output for step in found.spec.steps], "pipelines": [step.pipeline for step in job.steps],
        "selection": found.spec.selection.to_json(),
        "match": None if found.spec.emit is None else found.spec.emit.match,
        "granularity": found.spec.granularity, "publish": found.spec.publish, "images": job.images,
        "bytes": job.size_bytes, "access": found.access, "examples": list(found.examples),
        "snapshot": job.snapshot_digest,
        "reasons": list(job.reasons), "rule": job.rule, "created": format_time(job.created),
        "expires": format_time(job.expires),
    }  # fmt: skip
