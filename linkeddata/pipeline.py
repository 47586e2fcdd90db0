"""Pipelines as documents: what one computes, from what, with which digest; and where it ran.

The digest of a pipeline covers its manifest, its weights, the digests of upstream pipelines and an implementation
digest (adapter source and pinned versions of the libraries that touch pixels): equal digests mean equal intent.
The environment says on what it really ran, and a conformance report says how close to the reference it came there.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from linkeddata.canon import canonical_bytes, digest_text
from linkeddata.json_strict import Json
from linkeddata.times import format_time


@dataclass(frozen=True, slots=True, kw_only=True)
class Weight:
    """A model file by content."""

    name: str
    id: str
    """``hash://sha256/..``."""
    size_bytes: int

    def to_json(self) -> dict[str, Json]:
        """For the manifest."""
        return {"name": self.name, "id": self.id, "sizeBytes": self.size_bytes}


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineManifest:
    """What a pipeline is."""

    output: str
    """Output contract, ``label-text/1``."""
    name: str
    version: str
    title: str
    description: str
    runtime: Literal["builtin", "onnx", "torch"]
    decode_mode: Literal["full", "header"] = "full"
    """``full``: every pixel decoded, nothing shrunk on load (shrinking changes pixels)."""
    weights: tuple[Weight, ...] = ()
    libraries: tuple[str, ...] = ()
    """``name==version`` of libraries that touch pixels."""
    parameters: Mapping[str, Json] = field(default_factory=dict)
    """Defaults; a job may set those named here and no others."""
    needs: tuple[str, ...] = ()
    """Output contracts of the pipelines whose results on the same image it takes."""
    upstream: tuple[str, ...] = ()
    """Digests of those pipelines on this node, in the order of ``needs``."""
    vocabulary: tuple[str, ...] = ()
    """Of a classifier: every class that it may name."""
    tolerance: str = "0"
    """Largest deviation from the reference outputs at which an environment conforms, decimal."""
    implementation: str
    """``sha256:`` of the adapter's source."""

    def to_json(self) -> dict[str, Json]:
        """The manifest as published."""
        return {
            "type": "vasculum:Pipeline",
            "schemaVersion": 1,
            "output": self.output,
            "name": self.name,
            "version": self.version,
            "title": self.title,
            "description": self.description,
            "runtime": self.runtime,
            "decodeMode": self.decode_mode,
            "weights": [item.to_json() for item in self.weights],
            "libraries": list(self.libraries),
            "parameters": dict(self.parameters),
            **({"needs": list(self.needs)} if self.needs else {}),
            "upstream": list(self.upstream),
            **({"vocabulary": list(self.vocabulary)} if self.vocabulary else {}),
            "tolerance": self.tolerance,
            "implementation": self.implementation,
        }

    @property
    def digest(self) -> str:
        """``sha256:..`` of everything above."""
        return digest_text(self.to_json())


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """On what a worker runs."""

    versions: Mapping[str, str]
    execution_provider: str
    precision: str
    device_class: str

    def to_json(self) -> dict[str, Json]:
        """As published."""
        return {
            "versions": dict(self.versions),
            "executionProvider": self.execution_provider,
            "precision": self.precision,
            "deviceClass": self.device_class,
        }

    @property
    def digest(self) -> str:
        """``sha256:..`` of everything above."""
        return digest_text(self.to_json())


@dataclass(frozen=True, slots=True, kw_only=True)
class ConformanceReport:
    """What the reference images gave in an environment."""

    pipeline: str
    environment: str
    verdict: Literal["pass", "fail"]
    deviations: Mapping[str, str]
    """Reference name -> deviation, decimal; what is measured is the pipeline's to say."""
    at: datetime

    def to_json(self) -> dict[str, Json]:
        """As published, signed by the node."""
        return {
            "type": "vasculum:ConformanceReport",
            "schemaVersion": 1,
            "pipeline": self.pipeline,
            "environment": self.environment,
            "verdict": self.verdict,
            "deviations": dict(self.deviations),
            "at": format_time(self.at),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkUnit:
    """Ordered inputs (an image, results of other units over it) x one pipeline, with parameters, in an environment."""

    output: str
    pipeline: str
    environment: str
    image: str
    """SHA-256 of the image, hex."""
    parameters: Mapping[str, Json] = field(default_factory=dict)
    upstream: tuple[str, ...] = ()
    """Work keys of the units whose results it takes, in the order of the manifest's ``needs``."""

    @property
    def key(self) -> str:
        """The work key: 64 hex digits; equal keys are computed once.

        It covers the inputs: the image, and the keys of the units upstream, which cover their environments.
        """
        return work_key(self.pipeline, self.parameters, (self.image, *self.upstream), self.environment)


def work_key(pipeline: str, parameters: Mapping[str, Json], inputs: tuple[str, ...], environment: str) -> str:
    """SHA-256 (hex) over pipeline digest, parameters, ordered inputs and environment digest."""
    document: Json = [pipeline, dict(parameters), list(inputs), environment]
    return hashlib.sha256(canonical_bytes(document)).hexdigest()
