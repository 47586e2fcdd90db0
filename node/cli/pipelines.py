"""``vasculum pipelines``: what this node computes, running it over images, and looking at models before they run."""

import asyncio
import json
import secrets
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from linkeddata.errors import SelectionError
from linkeddata.outputs.contracts import HIDDEN_STEPS, NOT_RELEASED
from linkeddata.pipeline import PipelineManifest
from linkeddata.selection import Selection, parse_where
from node.cli.errors import CommandFailed, UserError
from node.config import ConfigError
from node.folder import FolderBusy, NodeFolder, is_served, open_folder, serve_lock
from node.services import new_bytes, own_runs
from node.services.own_runs import RunProgress, RunTarget
from node.storage.db import DatabaseError
from runners.catalogue import Catalogue, plugged
from runners.engine import conforms, make_pipeline_manifest, read_manifests
from runners.errors import PipelineUnavailable, WorkerDied
from runners.model_folder import ModelFolder, read_model_folder
from runners.pipelines.plugged import look_through
from runners.workers import Worker, WorkerSettings

CHECK_TIMEOUT_S: Final = 120.0
"""A classifier loads and answers its references in seconds; one that does not would hold up a node."""
LOOK_S: Final = 0.5
"""How often the progress of a run is read."""
RESUME: Final = "stopped watching; the run goes on where it is while the node serves, or with the same command"


@click.group()
def pipelines() -> None:
    """The pipelines of a node: what runs, running it over images, and models plugged in."""


# ---------------------------------------------------------------------- list
@pipelines.command("list", epilog="Example: vasculum pipelines list hortus/")
@click.argument("node_dir", type=click.Path(path_type=Path, file_okay=False))
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_pipelines(node_dir: Path, as_json: bool) -> None:
    """List the pipelines that NODE_DIR offers, and of how many images they have results."""
    with _opened(node_dir) as folder:
        found, problems = read_manifests(_catalogue(folder))
        with folder.database.reader(limit_s=None) as conn:
            images = conn.execute(
                "SELECT count(DISTINCT image) FROM medium WHERE state = 'active' AND image IS NOT NULL"
            ).fetchone()[0]
            waiting = len(new_bytes.pipeline_requests(conn, limit=1_000_000))
            rows = [_described(conn, name, manifest, folder) for name, manifest in found.items()]
    if as_json:
        document = {"images": images, "waiting": waiting, "pipelines": rows, "problems": problems}
        click.echo(json.dumps(document, ensure_ascii=False, indent=2))
        return
    for row in rows:
        needs = f", takes {', '.join(row['needs'])}" if row["needs"] else ""
        alone = ", by itself on new images" if row["onNewImages"] else ""
        click.echo(f"{row['name']} {row['version']}  {row['output']}{needs}{alone}")
        older = f", {row['older']} of an older version only" if row["older"] else ""
        waits = f", {row['queued']} queued" if row["queued"] else ""
        refused = f", {row['refused']} refused" if row["refused"] else ""
        click.echo(f"  results of {row['results']} of {images} images{older}{waits}{refused}  {row['digest'][:19]}..")
    for name, problem in problems.items():
        click.echo(f"{name}  cannot run: {problem}")
    if waiting:
        click.echo(f"{waiting} images are new, or were scanned again, and wait for [jobs] on_new_images")


def _described(conn: Any, name: str, manifest: PipelineManifest, folder: NodeFolder) -> dict[str, Any]:
    counts = own_runs.count_results(conn, RunTarget.of(manifest))
    return {
        "name": name, "version": manifest.version, "output": manifest.output, "title": manifest.title,
        "digest": manifest.digest, "needs": list(manifest.needs),
        "onNewImages": name in folder.settings.jobs.on_new_images, "results": counts.images, "older": counts.older,
        "queued": counts.queued, "refused": counts.refused,
    }  # fmt: skip


# ---------------------------------------------------------------------- run and rerun
@pipelines.command(
    "run", epilog="Example: vasculum pipelines run hortus/ --pipeline label-text --where family=Fagaceae"
)
@click.argument("node_dir", type=click.Path(path_type=Path, file_okay=False))
@click.option("--pipeline", "names", multiple=True, metavar="NAME", help="This one; may be repeated. Without: all.")
@click.option("--where", default="", help="Only images of specimens that fit, as in `vasculum search`.")
@click.option("--detach", is_flag=True, help="Do not wait: a serving node does the work.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def run_pipelines(node_dir: Path, names: tuple[str, ...], where: str, detach: bool, as_json: bool) -> None:
    """Run pipelines over the images of NODE_DIR that they have no result of yet.

    What they find waits for a person (`vasculum review`); nothing of it is public before. Jobs of researchers go
    first. When the node serves, it does the work, and this command watches; else the command works itself.
    Ctrl-C ends the watching: the same command goes on, and so does the node.
    """
    _run(node_dir, names, where, only_older=False, detach=detach, as_json=as_json)


@pipelines.command("rerun", epilog="Example: vasculum pipelines rerun hortus/ label-text")
@click.argument("node_dir", type=click.Path(path_type=Path, file_okay=False))
@click.argument("name")
@click.option("--where", default="", help="Only images of specimens that fit, as in `vasculum search`.")
@click.option("--detach", is_flag=True, help="Do not wait: a serving node does the work.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def rerun_pipeline(node_dir: Path, name: str, where: str, detach: bool, as_json: bool) -> None:
    """Run pipeline NAME anew over images of NODE_DIR of which only an older version has a result.

    Statements of the older version that wait are superseded by the new ones; accepted ones stand until the new ones
    are accepted. Nothing is erased.
    """
    _run(node_dir, (name,), where, only_older=True, detach=detach, as_json=as_json)


@pipelines.command("stop", epilog="Example: vasculum pipelines stop hortus/")
@click.argument("node_dir", type=click.Path(path_type=Path, file_okay=False))
@click.option("--pipeline", "names", multiple=True, metavar="NAME", help="Only runs of this one; may be repeated.")
def stop_runs(node_dir: Path, names: tuple[str, ...]) -> None:
    """End the runs of NODE_DIR that are not finished. What they found stays."""
    with _opened(node_dir) as folder:
        digests = [target.digest for target in _targets(folder, names)] if names else None
        with folder.database.transaction() as conn:
            count = own_runs.stop_runs(conn, digests, now=_now())
    click.echo(f"{count} unfinished parts of runs are stopped")


@dataclass(frozen=True, kw_only=True)
class _Run:
    """A run of one pipeline, as it was begun or found."""

    target: RunTarget
    jobs: tuple[str, ...]
    images: int


def _run(
    node_dir: Path, names: tuple[str, ...], where: str, *, only_older: bool, detach: bool, as_json: bool
) -> None:  # fmt: skip
    try:
        selection = parse_where(where)
    except SelectionError as error:
        raise UserError(f"--where: {error}") from error
    with _opened(node_dir) as folder:
        runs = [_begin(folder, target, selection, only_older=only_older) for target in _targets(folder, names)]
        if not as_json:
            for run in runs:
                click.echo(f"{run.target.name} {run.target.version}: {run.images} images")
        jobs = [job for run in runs for job in run.jobs]
        if jobs and not detach:
            served = is_served(folder.settings.lock_path)
            try:
                _watch(folder, jobs, quiet=as_json) if served else _work(folder, runs, quiet=as_json)
            except KeyboardInterrupt:
                if not as_json:
                    click.echo(RESUME, err=True)
                raise
        with folder.database.reader(limit_s=None) as conn:
            ends = [(run, own_runs.progress_of(conn, run.jobs)) for run in runs]
    _say(ends, as_json=as_json, detached=detach)


def _begin(folder: NodeFolder, target: RunTarget, where: Selection, *, only_older: bool) -> _Run:
    """A run that was begun before with the same words goes on; else one is begun."""
    purpose = f"{'rerun' if only_older else 'run'} over {where.to_text() or 'all images'}"[:1000]
    with folder.database.transaction() as conn:
        jobs = own_runs.open_runs(conn, target, purpose)
        if not jobs:
            media = own_runs.choose_media(conn, target, where, only_older=only_older)
            jobs = own_runs.add_runs(
                conn, target, media, purpose=purpose, name=secrets.token_hex(8), kid=folder.key.kid,
                institution=folder.settings.node.name, now=_now(),
            )  # fmt: skip
        return _Run(target=target, jobs=tuple(jobs), images=own_runs.progress_of(conn, jobs).total)


def _say(ends: Sequence[tuple[_Run, RunProgress]], *, as_json: bool, detached: bool) -> None:
    if as_json:
        document = [{"pipeline": run.target.name, "digest": run.target.digest, **asdict(end)} for run, end in ends]
        click.echo(json.dumps(document, ensure_ascii=False, indent=2))
        return
    for run, end in ends:
        if not end.total:
            click.echo(f"{run.target.name}: nothing to do, every image has a result of this version")
        elif detached:
            click.echo(f"{run.target.name}: {end.total} images are queued")
        else:
            failed = f", {end.failed} without a result (`vasculum pipelines list` counts)" if end.failed else ""
            click.echo(f"{run.target.name}: {end.done} of {end.total} images are done{failed}")


def _watch(folder: NodeFolder, jobs: Sequence[str], *, quiet: bool) -> None:
    """Until the serving node has finished."""
    with _bar(quiet) as show:
        _follow(folder, jobs, show, threading.Event())


def _work(folder: NodeFolder, runs: Sequence[_Run], *, quiet: bool) -> None:
    """Does what a serving node does, but for visitors, until the run is finished."""
    try:
        with serve_lock(folder.settings.lock_path):
            asyncio.run(_work_async(folder, runs, quiet=quiet))
    except FolderBusy:
        _watch(folder, [job for run in runs for job in run.jobs], quiet=quiet)


async def _work_async(folder: NodeFolder, runs: Sequence[_Run], *, quiet: bool) -> None:
    from aiohttp import web

    from node.app import build_application
    from node.web.keys import ENGINE

    app = build_application(folder, catalogue=_only_what_runs(folder, runs), clock=_now)
    runner = web.AppRunner(app, handle_signals=False)
    if not quiet:
        click.echo("workers load their models ..")
    await runner.setup()
    ending = threading.Event()
    try:
        offered = {offer.manifest.digest for offer in app[ENGINE].offers}
        problems = app[ENGINE].problems
        missing = [run.target.name for run in runs if run.jobs and run.target.digest not in offered]
        if missing:
            raise CommandFailed(f"{missing[0]} cannot run: {problems.get(missing[0], 'its worker did not start')}")
        with _bar(quiet) as show:
            await asyncio.to_thread(_follow, folder, [job for run in runs for job in run.jobs], show, ending)
    finally:
        ending.set()
        await runner.cleanup()


def _follow(
    folder: NodeFolder, jobs: Sequence[str], show: Callable[[RunProgress], bool], ending: threading.Event
) -> None:  # fmt: skip
    while not ending.is_set():
        with folder.database.reader(limit_s=None) as conn:
            found = own_runs.progress_of(conn, jobs)
        if show(found):
            return
        ending.wait(LOOK_S)


@contextmanager
def _bar(quiet: bool) -> Iterator[Callable[[RunProgress], bool]]:
    """Yields what shows a progress and says whether it is the end."""
    console = Console(stderr=True)
    with Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
        console=console, disable=quiet or not console.is_terminal,
    ) as progress:  # fmt: skip
        task = progress.add_task("images", total=None)

        def show(found: RunProgress) -> bool:
            progress.update(task, completed=found.done, total=found.total)
            return found.is_finished

        yield show


# ---------------------------------------------------------------------- what all commands need
@contextmanager
def _opened(node_dir: Path) -> Iterator[NodeFolder]:
    try:
        with open_folder(node_dir) as folder:
            yield folder
    except (ConfigError, DatabaseError, PipelineUnavailable) as error:
        raise UserError(str(error)) from error


def _catalogue(folder: NodeFolder) -> Catalogue:
    return Catalogue.of(folder.settings.jobs.pipelines, models=folder.settings.models_path)


def _only_what_runs(folder: NodeFolder, runs: Sequence[_Run]) -> Catalogue:
    """The pipelines of these runs and those whose results they take, in every version: other workers stay off."""
    catalogue = _catalogue(folder)
    found, _ = read_manifests(catalogue)
    wanted, left = set[str](), [run.target.output for run in runs if run.jobs]
    while left:
        contract = left.pop()
        if contract not in wanted:
            wanted.add(contract)
            left += [need for item in found.values() if item.output == contract for need in item.needs]
    names = {name for name, manifest in found.items() if manifest.output in wanted}
    return Catalogue(entries=tuple(entry for entry in catalogue.entries if entry.name in names))


def _targets(folder: NodeFolder, names: tuple[str, ...]) -> list[RunTarget]:
    """The pipelines that are named, or all that the node offers in their newest version."""
    found, problems = read_manifests(_catalogue(folder))
    for name in names:
        if name in problems:
            raise CommandFailed(f"{name} cannot run: {problems[name]}")
        if name not in found:
            raise UserError(f"{name!r} is not offered here: [jobs] pipelines has {', '.join(found) or 'none'}")
    chosen = names or tuple(
        name
        for name, manifest in found.items()
        if "@" not in name and name not in HIDDEN_STEPS and manifest.output not in NOT_RELEASED
    )
    return [RunTarget.of(found[name]) for name in chosen]


def _now() -> datetime:
    return datetime.now(UTC)


# ---------------------------------------------------------------------- check
@dataclass(kw_only=True)
class _Found:
    """What a check found."""

    good: list[str] = field(default_factory=list)
    bad: list[str] = field(default_factory=list)
    manifest: PipelineManifest | None = None


@pipelines.command("check", epilog="Example: vasculum pipelines check hortus/models/stains")
@click.argument("model_dir", type=click.Path(path_type=Path, file_okay=False, exists=True))
@click.option("--memory-mib", type=click.IntRange(min=256), default=WorkerSettings().memory_mib, show_default=True,
              help="Memory that its worker gets, as [jobs] worker_memory_mib.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def check(model_dir: Path, memory_mib: int, as_json: bool) -> None:
    """Look through the model in MODEL_DIR, and run its reference images in a walled worker.

    Says in a line each what is wrong. The exit code is 0 when the model can be used.
    """
    found = asyncio.run(_check(model_dir.resolve(), memory_mib))
    if as_json:
        digest = None if found.manifest is None or found.bad else found.manifest.digest
        document: dict[str, Any] = {"usable": not found.bad, "found": found.good, "problems": found.bad}
        click.echo(json.dumps({**document, "digest": digest}, ensure_ascii=False, indent=2))
    else:
        for line in found.good:
            click.echo(f"ok      {line}")
        for line in found.bad:
            click.echo(f"wrong   {line}")
    if found.bad:
        raise CommandFailed(f"{model_dir} cannot be used")
    if not as_json:
        click.echo(f'it can be used: put "{model_dir.resolve().name}" into [jobs] pipelines of node.toml')


async def _check(model_dir: Path, memory_mib: int) -> _Found:
    found = _Found()
    try:
        folder = read_model_folder(model_dir)
        found.good.append(f"pipeline.toml: {folder.title} {folder.version}, {len(folder.labels)} classes")
        data = folder.read_model()
        found.good.append(f"model.onnx: {len(data):,} bytes, sha256 {folder.sha256[:16]}..")
    except PipelineUnavailable as error:
        found.bad.append(str(error))
        return found
    try:
        facts = look_through(folder, data)
    except PipelineUnavailable as error:
        found.bad += str(error).split("; ")
        return found
    names = sorted({name for _, name in facts.operators})
    found.good.append(f"opset {facts.opsets.get('', 0)}, {facts.nodes} nodes, operators {', '.join(names)[:200]}")
    await _run_references(folder, memory_mib, found)
    return found


async def _run_references(folder: ModelFolder, memory_mib: int, found: _Found) -> None:
    entry = plugged(folder.path)
    found.manifest = make_pipeline_manifest(entry)
    worker = Worker(entry, found.manifest, WorkerSettings(memory_mib=memory_mib, start_timeout_s=CHECK_TIMEOUT_S))
    try:
        ready = await worker.start()
    except (PipelineUnavailable, WorkerDied) as error:
        found.bad.append(f"it does not run: {error}")
        return
    finally:
        await worker.stop()
    if not ready.is_isolated:
        found.good.append("its worker is not walled in on this machine (see vasculum doctor)")
    for name, deviation in ready.deviations.items():
        line = f"{name}: differs by {float(deviation):.4f}, at most {folder.tolerance} is allowed"
        (found.good if conforms(found.manifest, {name: deviation}) else found.bad).append(line)
