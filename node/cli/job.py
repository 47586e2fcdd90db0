"""``vasculum job``: one question to many nodes, and what became of it."""

import asyncio
import json
import random
import shlex
import sys
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal, Self

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from federation import client
from federation.client import FederatedJob
from federation.dispatch import NodeCourse, Patience, progress_of
from federation.handle import Handle, HandleError, load_handle, save_handle
from federation.http_transport import HttpTransport
from federation.identity import SigningKey
from federation.merge import MergedAnswer, merge
from linkeddata.envelope import JOB_SPEC, seal
from linkeddata.errors import DocumentError
from linkeddata.job import Emit, JobSpec, JobStep
from linkeddata.matching import parse_match
from linkeddata.outputs.contracts import MATCHED
from linkeddata.selection import Selection, check_portable
from linkeddata.times import format_time
from node.cli import job_output
from node.cli.errors import CommandFailed, UserError
from node.cli.job_plan import Plan, accepted_digests, outputs_of, plan_nodes
from node.cli.job_recover import rebuild_handles
from node.cli.key import KEY_OPTION
from node.cli.nodes import NODE_OPTION, REGISTRY_OPTION, look
from node.cli.research import check_address, load_key, make_ports, state_folder
from node.cli.saved_selections import SELECTION_OPTION, WHERE_OPTION, chosen

LIFETIME = timedelta(days=14)
"""How long a job may wait for a person before it has to be asked again."""
HANDLE_ARGUMENT = click.argument("handle", required=False)


@click.group(epilog="Example: vasculum job submit label-text --registry URL --where kingdom=Plantae --match 'Martii~1'")
def job() -> None:
    """One question to many nodes. Images stay where they are; answers come to you."""


# ---------------------------------------------------------------------- submit
@job.command(
    epilog="Example: vasculum job submit label-text,barcode --registry URL --where 'kingdom=Plantae' "
    "--match 'Martii~1' --first 50"
)
@click.argument("steps")
@REGISTRY_OPTION
@NODE_OPTION
@WHERE_OPTION
@SELECTION_OPTION
@click.option("--match", default=None, help="Text to look for; WORD~1 allows one mistake; words mean all of them.")
@click.option("--first", type=click.IntRange(1), default=None, help="Only so many images at each node.")
@click.option(
    "--granularity",
    type=click.Choice(["record", "count", "boolean"]),
    default="record",
    show_default=True,
    help="What to ask for: rows, numbers only, or just whether there is any.",
)
@click.option("--purpose", default="", help="What it is for; people who decide read it.")
@click.option("--name", default="", help="Your name, as people who decide read it.")
@click.option("--publish", is_flag=True, help="Ask the nodes to publish the results as annotations.")
@click.option("--exact", is_flag=True, help="Reuse earlier results of exactly the same environment only.")
@click.option("--yes", is_flag=True, help="Send without asking.")
@click.option("--no-wait", is_flag=True, help="Return once the job is sent.")
@click.option(
    "--handle", "handle_path", type=click.Path(path_type=Path), default=None, help="Where to keep the handle."
)
@click.option("--timeout", "timeout_s", type=click.FloatRange(1, 600), default=30.0, show_default=True,
              help="Seconds to wait for one answer of a node.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@KEY_OPTION
def submit(
    steps: str,
    registries: tuple[str, ...],
    origins: tuple[str, ...],
    where: str,
    saved: str | None,
    match: str | None,
    first: int | None,
    granularity: Literal["record", "count", "boolean"],
    purpose: str,
    name: str,
    publish: bool,
    exact: bool,
    yes: bool,
    no_wait: bool,
    handle_path: Path | None,
    timeout_s: float,
    as_json: bool,
    key_path: Path | None,
) -> None:
    """Send a job with STEPS to all nodes that can do it: label-text, barcode, scale, ..; several with commas.

    `vasculum nodes` lists what each of them offers; embed and duplicates stay at the nodes.
    classes:NAME is the model of that name which nodes have plugged in.

    Shows each node's policy, pipeline versions and how many specimens it would look at, and asks before sending.
    """
    key = load_key(key_path)
    outputs = outputs_of(steps)
    selection = chosen(where, saved)
    try:
        check_portable(selection)
        if match is not None:
            parse_match(match)
    except DocumentError as error:
        raise UserError(str(error)) from error
    if not registries and not origins:
        raise UserError("say whom to ask: --registry URL (or VASCULUM_REGISTRY), or --node URL")
    places = tuple(check_address(item) for item in registries)
    named = tuple(check_address(item) for item in origins)
    plan = asyncio.run(_plan(key, places, named, outputs, selection, timeout_s=timeout_s))
    console = Console(stderr=True)
    plan.show(console)
    if not plan.asked:
        raise CommandFailed("there is no node to ask" + (": " + "; ".join(plan.problems) if plan.problems else ""))
    accepted = accepted_digests(steps, plan)
    if not yes:
        if not sys.stdin.isatty():
            raise UserError("nothing was sent: look at the list above and add --yes")
        click.confirm(f"Send the job to {len(plan.asked)} nodes?", abort=True, default=True, err=True)
    now = datetime.now(UTC)
    spec = JobSpec(
        id=f"urn:uuid:{uuid.uuid4()}",
        issued=now.replace(microsecond=0),
        expires=(now + LIFETIME).replace(microsecond=0),
        requester_kid=key.kid,
        requester_name=name,
        audience=tuple(plan.asked),
        steps=tuple(JobStep(output=output, digests=accepted.get(output, ())) for output in outputs),
        selection=selection,
        first=first,
        emit=None if match is None else Emit(step=_text_step(outputs), match=match),
        granularity=granularity,
        purpose=purpose,
        publish=publish,
        reuse="exact" if exact else "conformant",
    )
    found = Handle(
        job=plan.to_job(spec, key), not_asked=plan.not_asked, registries=places, question=selection.to_text()
    )
    path = handle_path or state_folder() / "jobs" / f"{now:%Y%m%d-%H%M%S}-{spec.id[9:17]}.json"
    _save(found, path)
    click.echo(f"handle: {path}", err=True)
    _follow(found, path, key, timeout_s=timeout_s, no_wait=no_wait)
    _report(found, path, as_json=as_json)


async def _plan(
    key: SigningKey,
    registries: tuple[str, ...],
    origins: tuple[str, ...],
    outputs: tuple[str, ...],
    selection: Selection,
    *,
    timeout_s: float,
) -> Plan:
    async with HttpTransport() as transport:
        ports = make_ports(transport, key, (*registries, *origins), timeout_s=timeout_s)
        return await plan_nodes(ports, registries=registries, origins=origins, outputs=outputs, selection=selection)


def _text_step(outputs: Sequence[str]) -> str:
    for preferred in MATCHED:
        if preferred in outputs:
            return preferred
    raise UserError(
        "--match needs a step that reads text or names classes: label-text, barcode, kind, objects or classes:NAME"
    )


# ---------------------------------------------------------------------- watch, cancel
@job.command(epilog="Example: vasculum job watch ; vasculum job watch 20261124-101500-1a2b3c4d")
@HANDLE_ARGUMENT
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--held", "wait_for_held", is_flag=True, help="Also wait for nodes where a person decides.")
@KEY_OPTION
def watch(handle: str | None, as_json: bool, wait_for_held: bool, key_path: Path | None) -> None:
    """Follow a job until it has ended; HANDLE is a file, part of its name, or nothing for the newest."""
    path = find_handle(handle)
    found, key = _load(path), load_key(key_path)
    _follow(found, path, key, wait_for_held=wait_for_held)
    _report(found, path, as_json=as_json)


@job.command(epilog="Example: vasculum job cancel")
@HANDLE_ARGUMENT
@KEY_OPTION
def cancel(handle: str | None, key_path: Path | None) -> None:
    """Give a job up at every node where it has not ended."""
    path = find_handle(handle)
    found, key = _load(path), load_key(key_path)

    async def run() -> None:
        async with HttpTransport() as transport:
            ports = make_ports(transport, key, tuple(found.job.courses))
            await client.cancel(found.job, ports, save=lambda _: _save(found, path))

    asyncio.run(run())
    for course in found.job.courses.values():
        click.echo(f"{course.name} {course.origin}: {course.phase}")


# ---------------------------------------------------------------------- results
@job.command(epilog="Example: vasculum job results --format csv --answer yes > found.csv")
@HANDLE_ARGUMENT
@click.option(
    "--format", "form", type=click.Choice(["table", "json", "ndjson", "csv"]), default="table", show_default=True
)
@click.option(
    "--answer", "answers", multiple=True, type=click.Choice(["yes", "no", "cannot tell"]), help="Only these answers."
)
@click.option("--step", default=None, help="Only this step, e.g. label-text/1.")
@click.option("--with-failing", is_flag=True, help="Also rows of pipelines that did not conform where they ran.")
@click.option("--match", default=None, help="Ask the same nodes again with another text; nothing is computed anew.")
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
@KEY_OPTION
def results(
    handle: str | None,
    form: str,
    answers: tuple[str, ...],
    step: str | None,
    with_failing: bool,
    match: str | None,
    as_json: bool,
    key_path: Path | None,
) -> None:
    """Print what the nodes answered; each row names node, image, pipeline digest and environment."""
    path = find_handle(handle)
    found = _load(path)
    if match is not None:
        found, path = _ask_again(found, path, match, load_key(key_path))
    elif not found.job.has_ended:
        _follow(found, path, load_key(key_path), patience=Patience(submit_s=5, watch_s=5), once=True)
    answer = _merged(found)
    rows = job_output.choose(answer, answers=answers, step=step, with_failing=with_failing)
    if as_json or form == "json":
        click.echo(job_output.to_json(answer, rows))
    elif form == "ndjson":
        for line in job_output.to_ndjson(rows):
            click.echo(line)
    elif form == "csv":
        click.echo(job_output.to_csv(rows), nl=False)
    else:
        console = Console() if sys.stdout.isatty() else Console(width=max(job_output.WIDE, Console().width))
        job_output.print_table(console, rows, job_output.names_of(answer))
        job_output.print_summary(console, answer)


def _ask_again(found: Handle, path: Path, match: str, key: SigningKey) -> tuple[Handle, Path]:
    try:
        parse_match(match)
    except DocumentError as error:
        raise UserError(str(error)) from error
    from dataclasses import replace

    old = found.job
    now = datetime.now(UTC).replace(microsecond=0)
    spec = replace(
        old.spec,
        id=f"urn:uuid:{uuid.uuid4()}",
        issued=now,
        expires=now + LIFETIME,
        emit=Emit(step=_text_step([item.output for item in old.spec.steps]), match=match),
    )
    again = Handle(
        job=FederatedJob(
            spec=spec,
            envelope=seal(spec.to_json(), payload_type=JOB_SPEC, signers=[key]),
            courses={
                origin: NodeCourse(origin=origin, name=course.name)
                for origin, course in old.courses.items()
                if old.keys.get(origin)
            },
            keys=dict(old.keys),
            pipelines=dict(old.pipelines),
        ),
        not_asked=found.not_asked,
        registries=found.registries,
        question=found.question,
    )
    new_path = path.with_name(f"{now:%Y%m%d-%H%M%S}-{spec.id[9:17]}.json")
    _save(again, new_path)
    click.echo(f"handle: {new_path}", err=True)
    _follow(again, new_path, key)
    return again, new_path


@job.command(epilog="Example: vasculum job recover --registry https://registry.example.org")
@REGISTRY_OPTION
@NODE_OPTION
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@KEY_OPTION
def recover(registries: tuple[str, ...], origins: tuple[str, ...], as_json: bool, key_path: Path | None) -> None:
    """Rebuild lost handles: every node is asked for the jobs of your key."""
    key = load_key(key_path)
    finding = look(registries, origins)

    async def run() -> tuple[list[Handle], list[str]]:
        async with HttpTransport() as transport:
            return await rebuild_handles(make_ports(transport, key, tuple(finding.nodes)), finding)

    handles, problems = asyncio.run(run())
    lines: list[dict[str, Any]] = []
    for found in handles:
        spec = found.job.spec
        path = state_folder() / "jobs" / f"{spec.issued:%Y%m%d-%H%M%S}-{spec.id[9:17]}.json"
        is_new = not path.exists()
        if is_new:
            _save(found, path)
        lines.append({"handle": path.stem, "path": str(path), "nodes": list(found.job.courses), "isNew": is_new})
    if as_json:
        click.echo(json.dumps({"jobs": lines, "problems": [*finding.problems, *problems]}, ensure_ascii=False))
        return
    for line in lines:
        click.echo(f"{line['handle']}  {len(line['nodes'])} nodes  {'rebuilt' if line['isNew'] else 'was there'}")
    for problem in (*finding.problems, *problems):
        click.echo(f"note: {problem}", err=True)


@job.command("list", epilog="Example: vasculum job list --json")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_jobs(as_json: bool) -> None:
    """List the jobs whose handles are kept here."""
    folder = state_folder() / "jobs"
    lines: list[dict[str, Any]] = []
    for path in sorted(folder.glob("*.json")):
        try:
            found = load_handle(path)
        except HandleError as error:
            click.echo(f"note: {error}", err=True)
            continue
        phases: dict[str, int] = {}
        for course in found.job.courses.values():
            label = "held" if course.is_held else course.phase
            phases[label] = phases.get(label, 0) + 1
        lines.append(
            {
                "handle": path.stem,
                "path": str(path),
                "issued": format_time(found.job.spec.issued),
                "steps": [step.output for step in found.job.spec.steps],
                "where": found.question,
                "match": None if found.job.spec.emit is None else found.job.spec.emit.match,
                "nodes": phases,
            }
        )
    if as_json:
        click.echo(json.dumps(lines, ensure_ascii=False))
        return
    for line in lines:
        states = ", ".join(f"{number} {phase}" for phase, number in line["nodes"].items())
        click.echo(f"{line['handle']}  {','.join(line['steps'])}  {line['match'] or line['where']!r}  {states}")
    if not lines:
        click.echo("no jobs are kept here", err=True)


@job.command(epilog="Example: vasculum job sample -n 20")
@HANDLE_ARGUMENT
@click.option("-n", "number", type=click.IntRange(1, 10_000), default=20, show_default=True, help="How many rows.")
@click.option("--seed", type=int, default=1, show_default=True, help="The same seed draws the same rows.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def sample(handle: str | None, number: int, seed: int, as_json: bool) -> None:
    """Draw yes, no and cannot-tell rows, to check by hand how far the answer can be trusted."""
    answer = _merged(_load(find_handle(handle)))
    drawn = draw_sample(answer, number, seed)
    if as_json:
        click.echo(json.dumps([row.to_json() for row in drawn], ensure_ascii=False))
        return
    for row in drawn:
        text, _ = job_output.found_text(row)
        click.echo(f"{row.row.answer:12} {row.row.step:14} {row.row.medium}  {(text or row.row.reason)[:100]}")


def draw_sample(answer: MergedAnswer, number: int, seed: int) -> list[Any]:
    """Rows of each answer in turn, at random within it, until there are ``number``."""
    dice = random.Random(seed)  # noqa: S311 - a sample, not a secret
    groups = [[row for row in answer.rows if row.row.answer == kind] for kind in ("yes", "no", "cannot tell")]
    for group in groups:
        group.sort(key=lambda row: (row.row.medium, row.row.step))
        dice.shuffle(group)
    drawn: list[Any] = []
    while len(drawn) < number and any(groups):
        for group in groups:
            if group and len(drawn) < number:
                drawn.append(group.pop())
    return drawn


# ---------------------------------------------------------------------- shared
def find_handle(text: str | None) -> Path:
    """A handle by path, by part of its name, or the newest."""
    if text is not None and Path(text).is_file():
        return Path(text)
    known = sorted((state_folder() / "jobs").glob("*.json"), key=lambda path: (path.stat().st_mtime_ns, path.name))
    fitting = [path for path in known if text is None or text in path.stem]
    if not fitting:
        raise UserError(
            "no job is kept here" if text is None else f"there is no handle {text!r}: see `vasculum job list`"
        )
    if text is not None and len(fitting) > 1:
        raise UserError(f"{text!r} fits several handles: {', '.join(path.stem for path in fitting[:5])}")
    return fitting[-1]


def _spelled(path: Path) -> str:
    """A handle as `find_handle` finds it again: its name where handles are kept, else its whole path."""
    return path.stem if path.parent == state_folder() / "jobs" else shlex.quote(str(path.absolute()))


def _load(path: Path) -> Handle:
    try:
        return load_handle(path)
    except HandleError as error:
        raise UserError(str(error)) from error


def _save(found: Handle, path: Path) -> None:
    try:
        save_handle(found, path)
    except HandleError as error:
        raise CommandFailed(str(error)) from error


def _merged(found: Handle) -> MergedAnswer:
    return merge(found.job.courses.values(), found.not_asked, granularity=found.job.spec.granularity)


def _follow(
    found: Handle,
    path: Path,
    key: SigningKey,
    *,
    timeout_s: float = 30.0,
    no_wait: bool = False,
    wait_for_held: bool = False,
    once: bool = False,
    patience: Patience | None = None,
) -> None:
    if key.kid != found.job.spec.requester_kid:
        raise UserError(f"this job was signed with another key: {found.job.spec.requester_kid}")

    def stop_when(course: NodeCourse) -> bool:
        if no_wait:
            return course.phase != "to submit"
        if once:
            return course.phase != "collecting"
        return course.is_held and not wait_for_held

    async def run(bars: "_Bars") -> None:
        async with HttpTransport() as transport:
            ports = make_ports(transport, key, tuple(found.job.courses), timeout_s=timeout_s)

            def save(state: FederatedJob) -> None:
                bars.show(state)
                _save(found, path)

            await client.run(found.job, ports, save=save, patience=patience, stop_when=stop_when)

    try:
        with _Bars(found.job) as bars:
            asyncio.run(run(bars))
    except KeyboardInterrupt:
        _save(found, path)
        click.echo(
            f"the job goes on at the nodes; take it up again with: vasculum job watch {_spelled(path)}", err=True
        )
        raise


def _report(found: Handle, path: Path, *, as_json: bool) -> None:
    answer = _merged(found)
    if as_json:
        click.echo(
            json.dumps({"handle": str(path), "jobSpec": found.job.spec.id, **answer.to_json()}, ensure_ascii=False)
        )
        return
    job_output.print_summary(Console(), answer)
    if answer.working or answer.held:
        click.echo(f"follow it with: vasculum job watch {_spelled(path)}", err=True)
    if answer.rows:
        click.echo(f"rows: vasculum job results {_spelled(path)}", err=True)


class _Bars:
    """A progress bar per node, on standard error."""

    def __init__(self, state: FederatedJob) -> None:
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.completed:.0f}/{task.total:.0f}"),
            TextColumn("{task.fields[said]}", markup=False),
            TimeElapsedColumn(),
            console=Console(stderr=True),
        )
        self._tasks: dict[str, TaskID] = {
            origin: self._progress.add_task(course.name[:30], total=1, said=course.phase)
            for origin, course in state.courses.items()
        }

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def show(self, state: FederatedJob) -> None:
        """Brings the bars up to date."""
        for origin, course in state.courses.items():
            now = progress_of(course)
            said: str = "held" if course.is_held else course.phase
            if now.answers:
                first = now.answers[0]
                said = f"{first.yes} yes, {first.no} no, {first.cannot_tell} cannot tell  {said}"
            self._progress.update(self._tasks[origin], total=max(now.total, 1), completed=now.done, said=said)
