"""Which pipelines exist, by name. Names lead to classes only when a worker loads them."""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from runners.errors import PipelineUnavailable
from runners.pipeline import Pipeline

BUILT_IN: Final[Mapping[str, str]] = {
    "label-text": "runners.pipelines.label_text:LabelText",
    "barcode": "runners.pipelines.barcode:Barcode",
    "quality": "runners.pipelines.quality:Quality",
    "segment": "runners.pipelines.segment:Segment",
    "embed": "runners.pipelines.embed:Embed",
    "kind": "runners.pipelines.kind:Kind",
    "duplicates": "runners.pipelines.duplicates:Duplicates",
    "chart": "runners.pipelines.chart:Chart",
    "scale": "runners.pipelines.scale:Scale",
    "objects": "runners.pipelines.objects:Objects",
    "traits": "runners.pipelines.traits:Traits",
    "embed-objects": "runners.pipelines.embed_objects:EmbedObjects",
    "network-probe": "runners.pipelines.network_probe:NetworkProbe",
}

PREVIOUS: Final[Mapping[str, str]] = {
    "quality@1.0.0": "runners.pipelines.quality_v1:Quality",
}
"""Earlier versions that still run, as ``name@version``: modules that are not changed any more, with the digest that the
version had. A release keeps the version before the current one; who asks for its digest gets it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One pipeline a node offers."""

    name: str
    target: str
    """``module:Class``."""
    python_path: tuple[str, ...] = ()
    """Folders a worker needs to find the module; empty for built-in pipelines."""
    folder: str = ""
    """Of a plugged model: handed to the class; empty for what comes with this program."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalogue:
    """The pipelines of one node."""

    entries: tuple[Entry, ...] = field(default=())

    @classmethod
    def of(cls, names: tuple[str, ...], *, models: Path | None = None, extra: tuple[Entry, ...] = ()) -> "Catalogue":
        """Pipelines by name: built-in ones, and plugged models.

        Args:
            names: in the order in which they are offered; earlier versions (``name@version``) come last.
            models: where plugged models lie, each in a folder of its name.
            extra: replaces or adds (used by tests).

        Raises:
            PipelineUnavailable: a name that is not known.
        """
        replaced = {entry.name: entry for entry in extra}
        entries: list[Entry] = []
        for name in sorted(names, key=lambda name: "@" in name):
            if name in replaced:
                entries.append(replaced.pop(name))
            elif name in BUILT_IN:
                entries.append(Entry(name=name, target=BUILT_IN[name]))
            elif name in PREVIOUS:
                entries.append(Entry(name=name, target=PREVIOUS[name]))
            elif models is not None and name and (models / name).is_dir():
                entries.append(plugged(models / name))
            else:
                known = ", ".join((*BUILT_IN, *PREVIOUS))
                raise PipelineUnavailable(f"there is no pipeline {name!r}: known are {known}")
        return cls(entries=(*entries, *replaced.values()))


def plugged(folder: Path) -> Entry:
    """The entry of a plugged model."""
    return Entry(name=folder.name, target="runners.pipelines.plugged:PluggedModel", folder=str(folder.absolute()))


def make_pipeline(target: str, folder: str = "") -> Pipeline:
    """An instance of ``module:Class``; with a folder, of the model in it.

    Raises:
        PipelineUnavailable: it cannot be imported, or the model cannot be used.
    """
    module, _, name = target.partition(":")
    try:
        made = getattr(importlib.import_module(module), name)
        pipeline: Pipeline = made(folder) if folder else made()
    except (ImportError, AttributeError) as error:
        raise PipelineUnavailable(f"{target} cannot be loaded: {error}") from error
    return pipeline
