"""``vasculum retract``: takes a whole run of a pipeline back, and brings it back again."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from linkeddata.errors import SelectionError
from linkeddata.selection import parse_where
from node.cli.errors import CommandFailed, UserError
from node.cli.node_database import open_database
from node.cli.person import person
from node.services import requests as job_requests
from node.services import retract as service
from node.services.requests import RequestError
from node.services.retract import RetractError, RetractionPlan, RunSelection
from node.storage.db import Database


@click.command(
    epilog="Example: vasculum retract hortus/ --pipeline sha256:1f0c.. --reason 'reads stamps as dates' --yes"
)
@click.argument("node_dir", type=click.Path(path_type=Path, file_okay=False))
@click.option("--pipeline", default=None, metavar="DIGEST", help="Of this pipeline; the beginning of it is enough.")
@click.option("--job", default=None, metavar="ID", help="Only what this job made.")
@click.option("--where", default=None, help="Only of specimens that fit, as in `vasculum search`.")
@click.option("--reason", default=None, help="Stands in the tombstones, which are public, and in the results.")
@click.option("--undo", type=int, default=None, metavar="NUMBER", help="Bring a retraction back.")
@click.option("--list", "is_list", is_flag=True, help="List retractions.")
@click.option("--yes", is_flag=True, help="Do it; without, only what would happen is said.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def retract(
    node_dir: Path, pipeline: str | None, job: str | None, where: str | None, reason: str | None, undo: int | None,
    is_list: bool, yes: bool, as_json: bool,
) -> None:  # fmt: skip
    """Take back everything that one pipeline made in NODE_DIR: statements, their public records, result rows.

    Without --yes nothing is changed. The node may keep serving. If the command is interrupted, the next one or the
    serving node finishes it. What people corrected stays; --undo brings the rest back as new versions.
    """
    with open_database(node_dir) as database:
        service.finish_begun(database, clock=_now)
        try:
            if is_list:
                _list(database, as_json=as_json)
            elif undo is not None:
                with database.transaction() as conn:
                    service.begin_undo(conn, undo, by=person(), now=_now())
                _carry_on(database, undo, quiet=as_json)
                _say({"retraction": undo, "state": "undone"}, f"retraction {undo} is undone", as_json=as_json)
            else:
                _retract(database, pipeline, job, where, reason, yes=yes, as_json=as_json)
        except (RetractError, RequestError, SelectionError) as error:
            raise CommandFailed(str(error)) from error


def _retract(
    database: Database, pipeline: str | None, job: str | None, where: str | None, reason: str | None, *, yes: bool,
    as_json: bool,
) -> None:  # fmt: skip
    if pipeline is None:
        raise UserError("which pipeline? --pipeline DIGEST (`vasculum review list NODE_DIR --json` shows digests)")
    with database.reader(limit_s=None) as conn:
        run = RunSelection(
            pipeline=_whole_digest(conn, pipeline),
            job=None if job is None else job_requests.find_request(conn, job.rpartition("/")[2]).id,
            where=None if where is None else parse_where(where),
        )
        plan = service.plan_retraction(conn, run)
    if not yes:
        _say({**_facts(run, plan), "dryRun": True}, _text(plan) + "\nnothing was changed; to do it, add --yes",
             as_json=as_json)  # fmt: skip
        return
    text = (reason or "").strip()
    if not text or len(text) > 300 or not text.isprintable():
        raise UserError("--reason TEXT is needed: one line that may be shown to everybody, up to 300 characters")
    with database.transaction() as conn:
        number = service.begin_retraction(conn, run, reason=text, by=person(), now=_now())
    _carry_on(database, number, quiet=as_json)
    said = f"{_text(plan)}\nretracted as number {number}; to bring it back: --undo {number}"
    _say({**_facts(run, plan), "retraction": number, "state": "retracted"}, said, as_json=as_json)


def _whole_digest(conn: Any, text: str) -> str:
    rows = conn.execute(
        """SELECT pipeline FROM review WHERE pipeline = :text OR substr(pipeline, 1, length(:text)) = :text
           UNION SELECT pipeline FROM unit WHERE pipeline = :text OR substr(pipeline, 1, length(:text)) = :text
           LIMIT 2""",
        {"text": text if text.startswith("sha256:") else f"sha256:{text}"},
    ).fetchall()
    if len(rows) != 1:
        raise RetractError(f"nothing here was made by {text}" if not rows else f"{text} fits several pipelines")
    return str(rows[0]["pipeline"])


def _carry_on(database: Database, number: int, *, quiet: bool) -> None:
    console = Console(stderr=True)
    with Progress(
        TextColumn("retract"), BarColumn(), MofNCompleteColumn(), console=console,
        disable=quiet or not console.is_terminal,
    ) as bar:  # fmt: skip
        task = bar.add_task("items", total=None)
        service.carry_on(
            database, number, clock=_now, progress=lambda done, total: bar.update(task, completed=done, total=total)
        )


def _list(database: Database, *, as_json: bool) -> None:
    with database.reader() as conn:
        found = service.list_retractions(conn)
    if as_json:
        click.echo(json.dumps(found, ensure_ascii=False))
        return
    for item in found:
        click.echo(
            f"{item['id']}  {item['state']}  {item['at']}  {item['pipeline'][:19]}  {item['statements']} statements, "
            f"{item['rows']} result rows  {item['by']}: {item['reason']}"
        )
    if not found:
        click.echo("nothing was retracted", err=True)


def _facts(run: RunSelection, plan: RetractionPlan) -> dict[str, Any]:
    return {
        "pipeline": run.pipeline, "job": run.job, "where": None if run.where is None else run.where.to_text(),
        "statements": plan.statements, "public": plan.public, "accepted": plan.accepted, "corrected": plan.corrected,
        "resultRows": plan.rows, "jobs": plan.jobs, "openUnits": plan.open_units,
        "composed": list(plan.composed),
    }  # fmt: skip


def _text(plan: RetractionPlan) -> str:
    lines = [
        f"{plan.statements} statements, {plan.public} of them public, {plan.accepted} accepted",
        f"{plan.rows} result rows of {plan.jobs} job(s) become 'cannot tell'",
    ]
    if plan.composed:
        lines.append(f"what {', '.join(plan.composed)} made of these results is covered too")
    if plan.corrected:
        lines.append(f"{plan.corrected} of the statements were corrected by a person: the corrections stay")
    if plan.open_units:
        lines.append(f"{plan.open_units} units are still to be computed and are not covered: end their jobs first")
    return "\n".join(lines)


def _say(document: dict[str, Any], text: str, *, as_json: bool) -> None:
    click.echo(json.dumps(document, ensure_ascii=False) if as_json else text)


def _now() -> datetime:
    return datetime.now(UTC)
