"""Worker processes seen from the parent: start, ask, time out, replace.

Invariants:
- A worker is a fresh interpreter (``-P``) with a clean environment and one inherited socket; it gets images as open
  descriptors, so it needs no access to the collection. Results that a composed pipeline takes come the same way, in a
  file in memory that nobody can write to any more.
- Nothing a worker says is believed: answers are bounded, parsed strictly and checked by their output contract, and
  only what the contract names is kept. Reasons are cut to a sentence of short words.
- One request is answered at a time. A worker that ends, hangs or babbles is killed; only the unit it was at fails.

It leaves out: which unit comes next (``runners.engine``) and what is remembered (``runners.journal``).
"""

import asyncio
import contextlib
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from types import MappingProxyType
from typing import Final, Protocol

from linkeddata.errors import DocumentError
from linkeddata.json_strict import Json, as_object, get_object, parse_json
from linkeddata.outputs import MAX_BODY_BYTES, Output, parse_output
from linkeddata.outputs.classes import check_vocabulary
from linkeddata.pipeline import Environment, PipelineManifest
from runners.catalogue import Entry
from runners.decode import Limits
from runners.errors import BeyondLimits, ImageRefused, PipelineUnavailable, UnitFailed, WorkerDied

START_TIMEOUT_S: Final = 600.0
"""Loading a model and running its references takes 3 s here; a cold disk or a busy machine takes far longer."""
MAX_REASON_CHARS: Final = 200
MAX_REASON_WORD: Final = 40
_RECEIVE_BYTES: Final = 262_144
_KEPT_VARIABLES: Final = (
    "PATH",
    "LANG",
    "LC_ALL",
    "TZ",
    "LD_LIBRARY_PATH",
    "CUDA_VISIBLE_DEVICES",
    "OPENBLAS_CORETYPE",
)
"""Variables a worker may see; no secrets, no proxies, no home folder."""


class OpenImage(Protocol):
    """An opened image."""

    @property
    def fd(self) -> int:
        """Its descriptor."""
        ...

    def check_unchanged(self) -> None:
        """Raises ``CasError`` when the file was written to since it was indexed: what was read is not this image."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSettings:
    """How workers are kept."""

    unit_timeout_s: float = 120.0
    start_timeout_s: float = START_TIMEOUT_S
    memory_mib: int = 6144
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadyWorker:
    """What a worker said about itself when it was ready."""

    pipeline: str
    environment: Environment
    deviations: Mapping[str, str]
    is_isolated: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitBody:
    """A checked result."""

    body: dict[str, Json]
    seconds: float


class Worker:
    """One worker process."""

    def __init__(self, entry: Entry, manifest: PipelineManifest, settings: WorkerSettings) -> None:
        self.entry = entry
        self.manifest = manifest
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: socket.socket | None = None
        self._number = 0

    async def start(self) -> ReadyWorker:
        """Starts the process and waits until it is ready.

        Raises:
            PipelineUnavailable: the pipeline cannot run here.
            WorkerDied: the process ended before it was ready.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        environment = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
        environment |= {
            "ORT_DISABLE_TELEMETRY": "1",
            "HOME": "/nonexistent",
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONPATH": os.pathsep.join((*self.entry.python_path, *_own_path())),
        }
        orders = {
            "target": self.entry.target,
            "folder": self.entry.folder,
            "memoryMib": self._settings.memory_mib,
            "maxPixels": self._settings.limits.max_pixels,
            "maxFileBytes": self._settings.limits.max_file_bytes,
            "upstream": dict(zip(self.manifest.needs, self.manifest.upstream, strict=True)),
        }
        arguments = [sys.executable, "-P", "-m", "runners.worker", str(theirs.fileno()), json.dumps(orders)]
        try:
            self._process = subprocess.Popen(  # noqa: ASYNC220 - fork and exec, a few milliseconds
                arguments, env=environment, pass_fds=(theirs.fileno(),), stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/",
            )  # fmt: skip
        finally:
            theirs.close()
        self._channel = ours
        message = await self._receive(self._settings.start_timeout_s)
        if "unavailable" in message:
            await self.stop()
            raise PipelineUnavailable(str(message["unavailable"])[:500])
        try:
            return _ready(get_object(message, "ready"))
        except DocumentError as error:
            await self.stop()
            raise WorkerDied(f"the worker started wrongly: {error}") from error

    async def run(
        self, image: OpenImage, parameters: Mapping[str, Json], upstream: Mapping[str, bytes] = MappingProxyType({})
    ) -> UnitBody:
        """Runs one image.

        Args:
            image: opened.
            parameters: of the unit.
            upstream: checked bodies of the results that a composed pipeline takes, by output contract.

        Raises:
            ImageRefused: the image cannot be used (BeyondLimits: at this node); the worker is well.
            UnitFailed: it did not work this time; the worker is well.
            WorkerDied: the worker ended, hung or babbled, and is gone.
        """
        if self._channel is None:
            raise WorkerDied("the worker is not running")
        self._number += 1
        request = _dumps({"id": self._number, "parameters": dict(parameters)})
        handed = _in_memory(upstream) if self.manifest.needs else None
        try:
            socket.send_fds(self._channel, [request], [image.fd] if handed is None else [image.fd, handed])
        except OSError as error:
            await self.stop()
            raise WorkerDied("the worker ended") from error
        finally:
            if handed is not None:
                os.close(handed)
        message = await self._receive(self._settings.unit_timeout_s)
        if message.get("id") != self._number:
            await self.stop()
            raise WorkerDied("the worker answered something else")
        if "refused" in message:
            raise ImageRefused(plain_reason(message["refused"]))
        if message.get("last") is True:
            await self.stop()
        if "beyond" in message:
            raise BeyondLimits(plain_reason(message["beyond"]))
        if "failed" in message:
            raise UnitFailed(plain_reason(message["failed"]))
        body = message.get("body")
        if len(_dumps(body)) > MAX_BODY_BYTES:
            raise ImageRefused("the result is larger than a result may be")
        try:
            output = parse_output(self.manifest.output, body)
            check_vocabulary(output, self.manifest.vocabulary)
        except DocumentError as error:
            raise ImageRefused(plain_reason(f"the result was refused: {error}")) from error
        seconds = message.get("seconds")
        return UnitBody(body=checked_body(output), seconds=float(seconds) if isinstance(seconds, int | float) else 0.0)

    async def stop(self) -> None:
        """Ends the process at once; safe to repeat."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGKILL)
            process, self._process = self._process, None
            await asyncio.to_thread(process.wait)

    @property
    def pid(self) -> int | None:
        """Process id while it runs."""
        return None if self._process is None else self._process.pid

    async def _receive(self, timeout_s: float) -> dict[str, Json]:
        channel = self._channel
        if channel is None:
            raise WorkerDied("the worker is not running")
        try:
            async with asyncio.timeout(timeout_s):
                data = await asyncio.get_running_loop().sock_recv(channel, _RECEIVE_BYTES)
        except TimeoutError as error:
            await self.stop()
            raise WorkerDied(f"no answer within {timeout_s:g} s") from error
        except OSError as error:
            await self.stop()
            raise WorkerDied("the worker ended") from error
        except asyncio.CancelledError:
            await self.stop()
            raise
        if not data:
            code = self._process.poll() if self._process is not None else None
            await self.stop()
            raise WorkerDied("the worker ended" + (f" (exit {code})" if code else ""))
        try:
            return as_object(parse_json(data, max_bytes=_RECEIVE_BYTES), "the worker's message")
        except DocumentError as error:
            await self.stop()
            raise WorkerDied(f"the worker babbled: {error}") from error


def _in_memory(upstream: Mapping[str, bytes]) -> int:
    """A descriptor of a sealed file in memory: ``{contract: body}`` as JSON."""
    descriptor = os.memfd_create("upstream", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    members = (_dumps(contract) + b":" + body for contract, body in upstream.items())
    with os.fdopen(os.dup(descriptor), "wb") as stream:
        stream.write(b"{" + b",".join(members) + b"}")
    seals = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)
    return descriptor


def checked_body(output: Output) -> dict[str, Json]:
    """The body that says exactly this output and nothing beside it: members that no contract names are gone."""
    body: dict[str, Json] = json.loads(json.dumps(asdict(output)))
    return body


def plain_reason(said: Json) -> str:
    """A worker's reason as people may see it: one short line without long runs that could carry something else."""
    words = "".join(char if char.isprintable() else " " for char in str(said)).split()
    return " ".join(word[:MAX_REASON_WORD] for word in words)[:MAX_REASON_CHARS] or "no reason was given"


def _ready(document: dict[str, Json]) -> ReadyWorker:
    environment = get_object(document, "environment")
    deviations = get_object(document, "deviations")
    return ReadyWorker(
        pipeline=str(document.get("pipeline")),
        environment=Environment(
            versions={str(key): str(value) for key, value in get_object(environment, "versions").items()},
            execution_provider=str(environment.get("executionProvider"))[:200],
            precision=str(environment.get("precision"))[:40],
            device_class=str(environment.get("deviceClass"))[:40],
        ),
        deviations={str(key)[:100]: str(value)[:40] for key, value in deviations.items()},
        is_isolated=document.get("isolated") is True,
    )


def _dumps(value: Json) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")


def _own_path() -> tuple[str, ...]:
    """Where our packages lie, for the child's interpreter (``-P`` keeps its working folder out of the path)."""
    from pathlib import Path

    return (str(Path(__file__).resolve().parent.parent),)
