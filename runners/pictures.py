"""Picture processes seen from the parent: start, ask, time out, replace. Blocking; used from threads.

Invariants:
- The parent opens the files; a process is handed descriptors and sees nothing else of the collection.
- Nothing it says is believed: lengths are bounded, JSON is parsed strictly, reasons are cut to a plain sentence.
- A process that ends, hangs or babbles costs the one picture it was at; others that it had at hand are asked for again.
- At most so many pictures are worked on at a time; the callers bound how many wait.

It leaves out: what is asked for, where results are kept, who may see them (``node.services``).
"""

import contextlib
import os
import queue
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from linkeddata.errors import DocumentError
from linkeddata.json_strict import Json, as_object, parse_json
from runners.decode import Limits
from runners.errors import BeyondLimits, ImageRefused, RunnerError, UnitFailed, WorkerDied
from runners.picture_wire import HEAD, MAX_ANSWER_BYTES, MAX_SAID_BYTES, READY
from runners.workers import plain_reason

DECODER_MEMORY_MIB: Final = 4096
"""A 400-megapixel picture takes 1.2 GB as RGB and as much again while it is turned upright."""
CUTTER_MEMORY_MIB: Final = 1536
"""Cutting out of a pyramid takes the region, not the picture."""
DECODE_CPU_S: Final = 120
"""Processor seconds of one picture: 400 megapixels take about 10."""
DECODE_S: Final = 180.0
START_S: Final = 60.0
"""Starting takes 0.4 s here; a cold disk or a busy machine takes far longer."""
ENDING_S: Final = 0.2
CUT_S: Final = 30.0
CUTS_PER_PROCESS: Final = 5_000
"""After so many a process is replaced, whatever it may have gathered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """An answer."""

    facts: dict[str, Json]
    body: bytes


class _EndedBeforehand(WorkerDied):
    """The process itself ended, not the child that was at this picture."""


@dataclass(slots=True)
class _Process:
    """One picture process."""

    mode: Literal["fork", "stay"]
    limits: Limits
    memory_mib: int
    popen: "subprocess.Popen[bytes] | None" = None
    control: socket.socket | None = None
    generation: int = 0
    """Counts starts."""
    answered: int = 0
    guard: threading.Lock = field(default_factory=threading.Lock)

    def ask(self, request: dict[str, Any], files: Sequence[int], timeout_s: float) -> Said:
        """Asks once.

        Raises:
            ImageRefused, BeyondLimits, UnitFailed: as it said.
            WorkerDied: it ended, hung or babbled.
        """
        import json

        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with ours:
            with theirs:
                generation = self._send(json.dumps(request).encode(), [theirs.fileno(), *files])
            try:
                data = _receive(ours, time.monotonic() + timeout_s)
            except TimeoutError as error:
                self.stop(generation)
                raise WorkerDied(f"no answer within {timeout_s:g} s") from error
        if not data and not self._is_running(generation):
            self.stop(generation)
            raise _EndedBeforehand("the picture process was ended")
        return _said(data)

    def stop(self, generation: int | None = None) -> None:
        """Ends it at once, if it is still the one of this generation."""
        with self.guard:
            if generation is None or generation == self.generation:
                self._end()

    @property
    def pid(self) -> int | None:
        """Process id while it runs."""
        return None if self.popen is None else self.popen.pid

    def _is_running(self, generation: int) -> bool:
        """Whether the one of this generation has not ended; waits a moment for one that is about to."""
        popen = self.popen
        if popen is None or generation != self.generation:
            return False
        try:
            popen.wait(ENDING_S)
        except subprocess.TimeoutExpired:
            return True
        return False

    def _send(self, message: bytes, files: list[int]) -> int:
        with self.guard:
            for is_last in (False, True):
                if self.popen is None:
                    self._start()
                assert self.control is not None
                try:
                    socket.send_fds(self.control, [message], files)
                except OSError as error:
                    self._end()
                    if is_last:
                        raise WorkerDied("the picture process ended") from error
                else:
                    return self.generation
        raise AssertionError  # pragma: no cover - the loop returns or raises

    def _start(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        environment = {
            name: os.environ[name] for name in ("PATH", "LANG", "TZ", "LD_LIBRARY_PATH") if name in os.environ
        }
        environment |= {"PYTHONPATH": _CODE_FOLDER, "HOME": "/nonexistent", "PYTHONDONTWRITEBYTECODE": "1",
                        "VIPS_BLOCK_UNTRUSTED": "1", "VIPS_DISC_THRESHOLD": "100g",
                        "MALLOC_ARENA_MAX": "2"}  # fmt: skip
        arguments = [
            sys.executable, "-P", "-m", "runners.picture_process", str(theirs.fileno()), self.mode,
            str(self.memory_mib), str(DECODE_CPU_S), str(self.limits.max_pixels), str(self.limits.max_file_bytes),
        ]  # fmt: skip
        with theirs:
            self.popen = subprocess.Popen(
                arguments, env=environment, pass_fds=(theirs.fileno(),), stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/",
            )  # fmt: skip
        self.control = ours
        self.generation += 1
        self.answered = 0
        ours.settimeout(START_S)
        try:
            is_ready = ours.recv(16) == READY
        except OSError:
            is_ready = False
        if not is_ready:
            self._end()
            raise UnitFailed("picture processes do not start here: vasculum doctor says more")

    def _end(self) -> None:
        if self.control is not None:
            self.control.close()
            self.control = None
        if self.popen is not None:
            with contextlib.suppress(ProcessLookupError):
                self.popen.send_signal(signal.SIGKILL)
            self.popen.wait()
            self.popen = None


class Decoder:
    """Opens files of strangers: pyramids and thumbnails of pictures, each in a process of its own."""

    def __init__(self, limits: Limits, *, memory_mib: int = DECODER_MEMORY_MIB, timeout_s: float = DECODE_S) -> None:
        self._process = _Process("fork", limits, memory_mib)
        self._timeout_s = timeout_s

    def write_pyramid(self, image_fd: int, out_fd: int, *, tile_px: int) -> tuple[int, int]:
        """Writes the pyramid of an open picture into an open, empty file; returns width and height.

        Raises:
            ImageRefused: the picture cannot be used (BeyondLimits: at this node).
            UnitFailed: it did not work this time.
            WorkerDied: the decoder ended over it.
        """
        return self._write({"do": "pyramid", "tile": tile_px}, image_fd, out_fd)

    def write_redacted(
        self, image_fd: int, out_fd: int, *, boxes: Sequence[tuple[int, int, int, int]]
    ) -> tuple[int, int]:
        """Writes an open picture as a JPEG with black boxes into an open, empty file; returns width and height.

        Raises like ``write_pyramid``.
        """
        return self._write({"do": "redact", "boxes": [list(box) for box in boxes]}, image_fd, out_fd)

    def _write(self, request: dict[str, Any], image_fd: int, out_fd: int) -> tuple[int, int]:
        said = self._ask(request, (image_fd, out_fd))
        width, height = said.facts.get("width"), said.facts.get("height")
        if not isinstance(width, int) or not isinstance(height, int):
            raise WorkerDied("the decoder answered something else")
        return width, height

    def thumbnail(self, image_fd: int, *, longest_px: int) -> bytes:
        """A small JPEG of an open picture; raises like ``write_pyramid``."""
        body = self._ask({"do": "thumbnail", "longest": longest_px}, (image_fd,)).body
        if not body.startswith(b"\xff\xd8"):
            raise WorkerDied("the decoder answered something else")
        return body

    def close(self) -> None:
        """Ends the process."""
        self._process.stop()

    @property
    def pid(self) -> int | None:
        """Of the process that forks; None before the first request."""
        return self._process.pid

    def _ask(self, request: dict[str, Any], files: tuple[int, ...]) -> Said:
        try:
            return self._process.ask(request, files, self._timeout_s)
        except _EndedBeforehand:  # because of another picture, or by somebody: not this picture's fault
            if len(files) > 1:
                os.ftruncate(files[1], 0)
                os.lseek(files[1], 0, os.SEEK_SET)
            return self._process.ask(request, files, self._timeout_s)


class Cutters:
    """Cuts regions out of pyramids, in a fixed number of processes."""

    def __init__(self, count: int, *, memory_mib: int = CUTTER_MEMORY_MIB, timeout_s: float = CUT_S) -> None:
        self._timeout_s = timeout_s
        self._all = [_Process("stay", Limits(), memory_mib) for _ in range(count)]
        self._free: queue.LifoQueue[_Process] = queue.LifoQueue()  # the one that runs is asked again
        for process in self._all:
            self._free.put(process)

    def cut(self, fd: int, request: dict[str, Any]) -> bytes:
        """The encoded region; waits for a free process.

        Args:
            fd: of the pyramid.
            request: as ``runners.picture_process`` has it, without "do".

        Raises:
            ImageRefused: the pyramid cannot be read.
            UnitFailed, WorkerDied: it did not work this time.
        """
        with self._one() as process:
            said = process.ask({"do": "cut", **request}, (fd,), self._timeout_s)
            process.answered += 1
            if process.answered >= CUTS_PER_PROCESS:
                process.stop()
        if not said.body:
            raise WorkerDied("the picture process answered nothing")
        return said.body

    @property
    def pids(self) -> list[int]:
        """Of the processes that run."""
        return [process.pid for process in self._all if process.pid is not None]

    def close(self) -> None:
        """Ends the processes."""
        for process in self._all:
            process.stop()

    @contextlib.contextmanager
    def _one(self) -> Iterator[_Process]:
        process = self._free.get()
        try:
            yield process
        except WorkerDied:
            process.stop()
            raise
        finally:
            self._free.put(process)


def check_decoder() -> str:
    """Makes a pyramid of a picture of one pixel; empty, or why that does not work here. Blocking, about 0.5 s."""
    parts = (
        (b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(b"\0abc")),
        (b"IEND", b""),
    )
    picture = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in parts
    )
    decoder = Decoder(Limits())
    source, out = os.memfd_create("picture"), os.memfd_create("pyramid")
    try:
        os.write(source, picture)
        return "" if decoder.write_pyramid(source, out, tile_px=256) == (1, 1) else "it says another size"
    except (RunnerError, OSError) as error:
        return str(error)
    finally:
        decoder.close()
        os.close(source)
        os.close(out)


def _receive(reply: socket.socket, deadline: float) -> bytearray:
    """Everything up to the end of the stream."""
    data = bytearray()
    while True:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        reply.settimeout(left)
        try:
            part = reply.recv(1 << 20)
        except ConnectionError:
            return data
        if not part:
            return data
        data += part
        if len(data) > MAX_ANSWER_BYTES:
            raise WorkerDied("the picture process answers without end")


def _said(data: bytearray) -> Said:
    if len(data) < HEAD.size:
        raise WorkerDied("the picture process ended")
    text_length, body_length = HEAD.unpack_from(data)
    if text_length > MAX_SAID_BYTES or len(data) != HEAD.size + text_length + body_length:
        raise WorkerDied("the picture process ended in the middle of its answer")
    try:
        facts = as_object(parse_json(bytes(data[HEAD.size : HEAD.size + text_length])), "the answer")
    except DocumentError as error:
        raise WorkerDied(f"the picture process babbled: {error}") from error
    if "beyond" in facts:
        raise BeyondLimits(plain_reason(facts["beyond"]))
    if "refused" in facts:
        raise ImageRefused(plain_reason(facts["refused"]))
    if "failed" in facts:
        raise UnitFailed(plain_reason(facts["failed"]))
    return Said(facts=facts, body=bytes(memoryview(data)[HEAD.size + text_length :]))


_CODE_FOLDER: Final = str(Path(__file__).resolve().parent.parent)
