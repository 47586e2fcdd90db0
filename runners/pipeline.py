"""The port between a worker and what it runs: every pipeline is one class with these members.

A worker makes one instance, asks it to ``load``, runs its references, and then hands it upright images one by one.
"""

import hashlib
import importlib.metadata
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from linkeddata.json_strict import Json
from linkeddata.pipeline import Environment, PipelineManifest

Pixels = np.ndarray[Any, np.dtype[np.uint8]]
"""(height, width, 3), RGB, upright."""
Upstream = Mapping[str, dict[str, Json]]
"""Output contract -> the result on the same image that a composed pipeline takes; empty for the others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """A small image whose result is known."""

    name: str
    pixels: Pixels
    deviation: Callable[[dict[str, Json]], float]
    """How far a result is from the expected one; 0 is equal, compared with the manifest's tolerance."""
    upstream: Upstream = field(default_factory=dict)
    """What a composed pipeline is given for this image."""


class Pipeline(Protocol):
    """What a worker runs."""

    def manifest(self) -> PipelineManifest:
        """What it is. Cheap: imports no heavy library."""
        ...

    def load(self) -> Environment:
        """Loads models and libraries; returns on what they really run.

        Raises:
            PipelineUnavailable: something is missing.
        """
        ...

    def run(self, pixels: Pixels, parameters: Mapping[str, Json], upstream: Upstream) -> dict[str, Json]:
        """The body of the output contract, without the member ``image``.

        Args:
            pixels: the upright image.
            parameters: of the job, where the manifest allows them.
            upstream: results of the pipelines that the manifest ``needs``, by output contract.
        """
        ...

    def references(self) -> Sequence[Reference]:
        """Images with known results, run at every start of a worker."""
        ...


def implementation_digest(*owners: object) -> str:
    """``sha256:`` over the source of the modules that make a result: the adapter and the decoder."""
    sha = hashlib.sha256()
    for owner in owners:
        module = sys.modules[type(owner).__module__] if not inspect.ismodule(owner) else owner
        sha.update(inspect.getsource(module).encode())
    return "sha256:" + sha.hexdigest()


def pinned(*names: str) -> tuple[str, ...]:
    """``name==version`` of installed distributions; missing ones are left out."""
    found: list[str] = []
    for name in names:
        try:
            found.append(f"{name}=={importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return tuple(found)


def base_versions(*names: str) -> dict[str, str]:
    """Versions of the interpreter and of distributions, for an environment."""
    versions = {"python": ".".join(str(part) for part in sys.version_info[:3])}
    for item in pinned(*names):
        name, _, version = item.partition("==")
        versions[name] = version
    return versions


def decimal(value: float, digits: int = 3) -> str:
    """A number as documents hold it."""
    return f"{value:.{digits}f}"
