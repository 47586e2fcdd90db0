"""``vasculum review``: statements about images that wait for a person."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, TypeVar

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from linkeddata.statement import measures_of, regions_of, said_of
from node.cli.errors import CommandFailed, UserError
from node.cli.node_database import open_database
from node.cli.person import person
from node.cli.say import say
from node.config import ConfigError, Settings, load_settings
from node.services import requests as job_requests
from node.services import review as service
from node.services import review_rules
from node.services.annotate import take_results
from node.services.requests import RequestError
from node.services.review import ReviewError
from node.services.review_rules import RuleOutcome, Sample
from node.storage import corrections, reviews
from node.storage.db import Database
from node.storage.reviews import ReviewRow, Rule

NODE_DIR = click.argument("node_dir", type=click.Path(path_type=Path, file_okay=False))
JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
TAKE_ROWS = 200
F = TypeVar("F", bound=Callable[..., Any])


def rule_options(command: F) -> F:
    """The options that say which statements are meant."""
    for option in (
        click.option("--finding", default=None, metavar="CODE", help="With this finding, as label-unknown."),
        click.option("--job", default=None, metavar="ID", help="Made by this job."),
        click.option("--max-score", type=float, default=None, help="Every score at most this at the weakest region."),
        click.option("--min-score", type=float, default=None, help="Every region scores at least this, 0 to 1."),
        click.option("--class", "label", default=None, metavar="NAME", help="Every region is of this class."),
        click.option("--output", default=None, metavar="CONTRACT", help="As label-text/1."),
        click.option("--pipeline", default=None, metavar="DIGEST", help="Of this pipeline; its beginning is enough."),
    ):  # fmt: skip
        command = option(command)
    return command


@click.group(epilog="Example: vasculum review list hortus/ ; vasculum review accept hortus/ k3j5x7q2")
def review() -> None:
    """Look at what machines said about your images: accept, reject, correct."""


@review.command("list", epilog="Example: vasculum review list hortus/ --state pending --min-score 0.9")
@NODE_DIR
@click.option("--state", type=click.Choice(["pending", "accepted", "rejected"]), default="pending", show_default=True)
@click.option("--sample", type=int, default=None, help="Only statements of this sample.")
@click.option("--limit", type=click.IntRange(1, 100_000), default=50, show_default=True)
@rule_options
@JSON
def list_statements(
    node_dir: Path, state: Literal["pending", "accepted", "rejected"], sample: int | None, limit: int, as_json: bool,
    **given: Any,
) -> None:  # fmt: skip
    """List statements, by default those that wait."""
    with open_database(node_dir) as database, database.reader(limit_s=None) as conn:
        rule = _rule(conn, **given)
        found = reviews.find(conn, rule, state=state, sample=sample, limit=limit)
        total = reviews.count(conn, rule, state=state, sample=sample)
        documents = [_document(conn, row, brief=True) for row in found]
    if as_json:
        click.echo(json.dumps({"total": total, "statements": documents}, ensure_ascii=False))
        return
    for item in documents:
        notes = f"  [{', '.join(note['code'] for note in item['findings'])}]" if item["findings"] else ""
        say(f"{item['id']}  {item['output']}  {item['score'] or '-':5}  {item['class'] or '-'}  {item['text']}{notes}")
    click.echo(f"{len(found)} of {total} {state}", err=True)


@review.command(epilog="Example: vasculum review show hortus/ k3j5x7q2")
@NODE_DIR
@click.argument("statement", metavar="ID")
@JSON
def show(node_dir: Path, statement: str, as_json: bool) -> None:
    """Show everything about a statement: regions, findings, decisions, values for the collection."""
    settings = _settings(node_dir)
    with open_database(node_dir) as database, database.reader() as conn:
        try:
            found = _document(conn, service.find_statement(conn, settings.origin, statement), brief=False)
        except ReviewError as error:
            raise CommandFailed(str(error)) from error
    if as_json:
        click.echo(json.dumps(found, ensure_ascii=False))
        return
    for name in (
        "iri",
        "state",
        "by",
        "at",
        "reason",
        "public",
        "medium",
        "output",
        "pipeline",
        "score",
        "class",
        "job",
    ):
        if found[name] not in (None, ""):
            say(f"{name:10} {found[name]}")
    for number, line in enumerate(found["regions"], 1):
        say(f"line {number:<5} {line['text']}  {line['score']} {line['class']} {line['box']}")
    for name, value in found["measures"].items():
        say(f"measure    {name} {value}")
    for doubt in found["doubts"]:
        say(f"doubt      {doubt}")
    for note in found["findings"]:
        say(f"finding    {note['code']}: {note['message']}")
    for value in found["values"]:
        old, new = (value[name].replace("\n", " / ") for name in ("old", "new"))
        say(f"value      {value['field']}: {old or '(none)'} -> {new} ({value['state']})")
    for entry in found["log"]:
        click.echo(f"log        {entry['at']} {entry['by']}: {entry['action']}")


@review.command(epilog="Example: vasculum review accept hortus/ k3j5x7q2 ; vasculum review accept hortus/ --sample 3")
@NODE_DIR
@click.argument("statements", metavar="[ID]..", nargs=-1)
@click.option("--sample", type=int, default=None, help="By the rule of this sample, which is decided to the end.")
@click.option("--reason", default="", help="For the log.")
@rule_options
@JSON
def accept(
    node_dir: Path, statements: tuple[str, ...], sample: int | None, reason: str, as_json: bool, **given: Any
) -> None:
    """Accept statements: those named, or all that wait and fit a rule."""
    _decide(node_dir, "accepted", statements, sample, reason, given, as_json=as_json)


@review.command(epilog="Example: vasculum review reject hortus/ k3j5x7q2 --reason 'a shadow'")
@NODE_DIR
@click.argument("statements", metavar="[ID]..", nargs=-1)
@click.option("--sample", type=int, default=None, help="By the rule of this sample, which is decided to the end.")
@click.option("--reason", default="", help="For the log.")
@rule_options
@JSON
def reject(
    node_dir: Path, statements: tuple[str, ...], sample: int | None, reason: str, as_json: bool, **given: Any
) -> None:
    """Reject statements: those named, or all that wait and fit a rule. What was public becomes a tombstone."""
    _decide(node_dir, "rejected", statements, sample, reason, given, as_json=as_json)


@review.command(epilog="Example: vasculum review correct hortus/ k3j5x7q2 --line 2 'Herbarium Martii'")
@NODE_DIR
@click.argument("statement", metavar="ID")
@click.option(
    "--line", "lines", type=(int, str), multiple=True, help="Number and right text; an empty text removes it."
)
@click.option("--field", "values", type=(str, str), multiple=True, help="Term and right value, as dwc:country Brazil.")
@click.option("--specimen", default=None, metavar="IRI", help="Whose value, when the image shows several specimens.")
@click.option("--reason", default="", help="For the log.")
@JSON
def correct(
    node_dir: Path, statement: str, lines: tuple[tuple[int, str], ...], values: tuple[tuple[str, str], ...],
    specimen: str | None, reason: str, as_json: bool,
) -> None:  # fmt: skip
    """Correct a statement: a new one, accepted, takes its place; the old one stays and says so."""
    settings = _settings(node_dir)
    with open_database(node_dir) as database:
        try:
            with database.transaction() as conn:
                found = service.find_statement(conn, settings.origin, statement)
                done = service.correct(
                    conn, settings, found.iri, texts=dict(lines), values=dict(values), specimen=specimen, by=person(),
                    reason=reason, now=_now(),
                )  # fmt: skip
        except ReviewError as error:
            raise CommandFailed(str(error)) from error
    if as_json:
        click.echo(json.dumps({"iri": done.iri, "seq": done.seq, "hidden": done.hidden_because}))
    else:
        click.echo(f"corrected: {done.iri}" + (f" (not public: {done.hidden_because})" if done.hidden_because else ""))


@review.command(epilog="Example: vasculum review take hortus/ --job 1a2b3c4d")
@NODE_DIR
@click.option("--job", required=True, metavar="ID", help="Whose results.")
@JSON
def take(node_dir: Path, job: str, as_json: bool) -> None:
    """Take the results of a job that did not ask for publication into the review. Nothing becomes public by it."""
    settings, total, after = _settings(node_dir), 0, 0
    with open_database(node_dir) as database:
        try:
            with database.reader() as conn:
                found = job_requests.find_request(conn, job.rpartition("/")[2])
        except RequestError as error:
            raise CommandFailed(str(error)) from error
        position: int | None = after
        while position is not None:
            with database.transaction() as conn:
                made, position = take_results(
                    conn, origin=settings.origin, labels=frozenset(settings.review.labels), job=found, after=position,
                    limit=TAKE_ROWS, now=_now(),
                )  # fmt: skip
            total += made
    click.echo(json.dumps({"job": found.id, "taken": total}) if as_json else f"{total} new statements wait")


@review.command(
    epilog="Example: vasculum review sample hortus/ --size 50 --seed 7 --pipeline sha256:1f0c.. --min-score 0.9"
)
@NODE_DIR
@click.option("--size", type=click.IntRange(1, review_rules.MAX_SAMPLE), default=None, help="How many to look at.")
@click.option("--seed", type=int, default=None, help="The same seed over the same statements draws the same.")
@click.option("--show", "number", type=int, default=None, help="Show a sample that was drawn, with its estimate.")
@rule_options
@JSON
def sample(node_dir: Path, size: int | None, seed: int | None, number: int | None, as_json: bool, **given: Any) -> None:
    """Draw a random sample from what waits and fits a rule; decide on each; the estimate says how good the rule is.

    Without --size: list the samples. Deciding on a statement of the sample, here or on the page /review, is a verdict.
    """
    with open_database(node_dir) as database:
        try:
            if size is not None:
                if seed is None:
                    raise UserError("--seed NUMBER is needed: it goes into the log, so that the draw can be repeated")
                with database.transaction() as conn:
                    rule = _rule(conn, **given)
                    found = [review_rules.draw_sample(conn, rule, size=size, seed=seed, by=person(), now=_now())]
            else:
                with database.reader() as conn:
                    found = (
                        review_rules.list_samples(conn) if number is None else [review_rules.get_sample(conn, number)]
                    )
        except ReviewError as error:
            raise CommandFailed(str(error)) from error
        with database.reader() as conn:
            look = [_document(conn, row, brief=True) for row in _open_of(conn, found)] if len(found) == 1 else []
    if as_json:
        click.echo(
            json.dumps({"samples": [_sample_document(item) for item in found], "open": look}, ensure_ascii=False)
        )
        return
    for item in found:
        click.echo(
            f"sample {item.id}: {item.size} of {item.population}, seed {item.seed}, rule "
            f"{json.dumps(item.rule, ensure_ascii=False)}\n"
            f"  precision {item.precision.to_text()}; {len(item.open)} open"
        )
    for statement in look:
        say(f"  {statement['id']}  {statement['score'] or '-':5}  {statement['text']}")
    if look:
        click.echo(f"look at them on the page /review?sample={found[0].id}, or with `vasculum review show`", err=True)


def _decide(
    node_dir: Path, decision: Literal["accepted", "rejected"], statements: tuple[str, ...], sample: int | None,
    reason: str, given: dict[str, Any], *, as_json: bool,
) -> None:  # fmt: skip
    settings = _settings(node_dir)
    with open_database(node_dir) as database:
        try:
            with database.reader() as conn:
                rule = _rule(conn, **given)
            if statements and (sample is not None or not rule.is_empty):
                raise UserError("name statements, or give a rule: not both")
            if not statements:
                if sample is None:
                    raise UserError("which? Name statements, or give --sample NUMBER: a rule needs a decided sample "
                                    "(`vasculum review sample --help`)")  # fmt: skip
                if rule.is_empty:
                    with database.reader() as conn:
                        rule = _rule_of(review_rules.get_sample(conn, sample))
                outcome = _apply_rule(database, rule, decision, sample, reason, quiet=as_json)
                said = {"decided": outcome.decided, "public": outcome.public, "action": outcome.action,
                        "sample": _sample_document(outcome.sample)}  # fmt: skip
                text = (f"{decision} by rule: {outcome.decided} statements; precision "
                        f"{outcome.sample.precision.to_text()}, from sample {sample}")  # fmt: skip
            else:
                done = []
                with database.transaction() as conn:
                    for name in statements:
                        row = service.find_statement(conn, settings.origin, name)
                        done.append(service.decide_on(conn, row.iri, decision, by=person(), reason=reason, now=_now()))
                said = {"decided": [{"iri": item.iri, "seq": item.seq, "hidden": item.hidden_because} for item in done]}
                text = "\n".join(
                    f"{decision}: {item.iri}"
                    + (
                        f" (not public: {item.hidden_because})"
                        if decision == "accepted" and item.hidden_because
                        else ""
                    )
                    for item in done
                )
        except ReviewError as error:
            raise CommandFailed(str(error)) from error
    click.echo(json.dumps(said, ensure_ascii=False) if as_json else text)


def _apply_rule(
    database: Database, rule: Rule, decision: Literal["accepted", "rejected"], sample: int, reason: str, *, quiet: bool
) -> RuleOutcome:  # fmt: skip
    console = Console(stderr=True)
    with Progress(
        TextColumn("decide"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=console,
        disable=quiet or not console.is_terminal,
    ) as bar:  # fmt: skip
        task = bar.add_task("statements", total=None)
        return review_rules.decide_by_rule(
            database, rule, decision, sample=sample, by=person(), reason=reason, clock=_now,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )  # fmt: skip


def _open_of(conn: Any, samples: list[Sample]) -> list[ReviewRow]:
    rows = [reviews.get(conn, iri) for iri in samples[0].open]
    return [row for row in rows if row is not None]


def _rule(
    conn: Any, *, pipeline: str | None, output: str | None, label: str | None, min_score: float | None,
    max_score: float | None, job: str | None, finding: str | None,
) -> Rule:  # fmt: skip
    for name, score in (("--min-score", min_score), ("--max-score", max_score)):
        if score is not None and not 0 <= score <= 1:
            raise UserError(f"{name} is a number from 0 to 1")
    if pipeline is not None:
        rows = conn.execute(
            "SELECT DISTINCT pipeline FROM review WHERE substr(pipeline, 1, length(:text)) = :text LIMIT 2",
            {"text": pipeline},
        ).fetchall()
        if len(rows) != 1:
            raise ReviewError(
                f"no statement was made by {pipeline}" if not rows else f"{pipeline} fits several pipelines"
            )
        pipeline = rows[0]["pipeline"]
    try:
        job = None if job is None else job_requests.find_request(conn, job.rpartition("/")[2]).id
    except RequestError as error:
        raise ReviewError(str(error)) from error
    return Rule(
        pipeline=pipeline, output=output, label=label, job=job, finding=finding,
        min_score=None if min_score is None else round(min_score * 1000),
        max_score=None if max_score is None else round(max_score * 1000),
    )  # fmt: skip


def _rule_of(found: Sample) -> Rule:
    given: dict[str, Any] = found.rule
    return Rule(
        pipeline=given.get("pipeline"), output=given.get("output"), label=given.get("class"), job=given.get("job"),
        finding=given.get("finding"), min_score=given.get("minScore"), max_score=given.get("maxScore"),
    )  # fmt: skip


def _document(conn: Any, row: ReviewRow, *, brief: bool) -> dict[str, Any]:
    regions = regions_of(row.document)
    said: dict[str, Any] = {
        "id": row.id, "iri": row.iri, "state": row.state, "output": row.output, "pipeline": row.pipeline,
        "score": "" if row.score is None else f"{row.score / 1000:.3f}", "class": row.label, "medium": row.medium,
        "job": row.job, "text": said_of(row.document)[:100],
        "findings": [{"code": item.code, "message": item.message, "blocks": item.blocks}
                     for item in reviews.findings_of(conn, row.iri)],
    }  # fmt: skip
    if brief:
        return said
    return {
        **said, "measures": dict(measures_of(row.document)), "doubts": row.document.get("vasculum:doubt", []),
        "by": row.by, "at": row.at, "reason": row.reason, "supersedes": row.supersedes,
        "supersededBy": row.superseded_by, "retraction": row.retraction,
        "public": "yes" if service.is_public(conn, row.iri) else f"no: {service.hidden_because(conn, row)}",
        "regions": [{"text": item.text, "score": item.score, "class": item.label, "box": list(item.box)}
                    for item in regions],
        "values": corrections.outcomes_of(conn, row.iri), "log": reviews.actions_about(conn, row.iri),
    }  # fmt: skip


def _sample_document(found: Sample) -> dict[str, Any]:
    return {
        "id": found.id, "rule": found.rule, "seed": found.seed, "size": found.size, "population": found.population,
        "open": len(found.open), "right": found.precision.right, "decided": found.precision.decided,
        "precision": round(found.precision.estimate, 4), "low": round(found.precision.low, 4),
        "high": round(found.precision.high, 4), "by": found.by, "at": found.at,
    }  # fmt: skip


def _settings(node_dir: Path) -> Settings:
    try:
        return load_settings(node_dir)
    except ConfigError as error:
        raise UserError(str(error)) from error


def _now() -> datetime:
    return datetime.now(UTC)
