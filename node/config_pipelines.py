"""Which pipelines ``[jobs]`` of ``node.toml`` may name: built-in ones, earlier versions, and models plugged in.

It leaves out: whether a model can be used (``runners.model_folder``, ``vasculum pipelines check``).
"""

import re
from pathlib import Path
from typing import Protocol

from linkeddata.outputs.contracts import PREVIOUS_STEPS, STEPS
from node.config_tables import ConfigError, nearest


class _Jobs(Protocol):
    @property
    def pipelines(self) -> tuple[str, ...]: ...

    @property
    def on_new_images(self) -> tuple[str, ...]: ...

    @property
    def rerun_hours(self) -> int: ...


def check_pipelines(jobs: _Jobs, models: Path) -> None:
    """Refuses names that lead nowhere.

    Args:
        jobs: the section.
        models: where models are plugged in, each in a folder of its name.

    Raises:
        ConfigError: with the nearest name that is known.
    """
    for name in jobs.pipelines:
        has_model = bool(re.fullmatch(r"[a-z][a-z0-9-]{0,39}", name)) and (models / name).is_dir()
        if name in STEPS and has_model:
            raise ConfigError(f"{models / name} has the name of a built-in pipeline: give it another")
        if name not in STEPS and name not in PREVIOUS_STEPS and not has_model:
            known = (*STEPS, *PREVIOUS_STEPS)
            raise ConfigError(
                f"[jobs] pipelines: {name!r} is not one of {', '.join(known)}{nearest(name, known)}, "
                f"and there is no model in {models / name}"
            )
    for name in jobs.on_new_images:
        if name not in jobs.pipelines or "@" in name:
            raise ConfigError(f"[jobs] on_new_images: {name!r} must stand in [jobs] pipelines too")
    if jobs.rerun_hours < 0:
        raise ConfigError("jobs.rerun_hours must be 0 (never by itself) or larger")
