"""``vasculum pipelines``: what this node computes by itself; plugged models looked at before they run."""

import asyncio
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from linkeddata.pipeline import PipelineManifest
from node.cli.errors import CommandFailed
from runners.catalogue import plugged
from runners.engine import conforms, make_pipeline_manifest
from runners.errors import PipelineUnavailable, WorkerDied
from runners.model_folder import ModelFolder, read_model_folder
from runners.pipelines.plugged import look_through
from runners.workers import Worker, WorkerSettings

CHECK_TIMEOUT_S = 120.0
"""A classifier loads and answers its references in seconds; one that does not would hold up a node."""


@click.group()
def pipelines() -> None:
    """The pipelines of a node: what runs, on what, and models plugged in."""


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
