"""The extra processes of a node: started, watched, started again, ended by the core.

Invariants:
- They live no longer than the core: each holds the end of a pipe that closes with it, and the kernel is asked to end
  them with it.
- One that dies is started again after a pause that grows with every death (``restart_pause_s``); the others and the
  core go on. Connections that it had are lost, as with any crash.
- An end is orderly: they stop to listen, finish what they are answering, and are killed only when that takes too long.

It leaves out: what they serve (``node.reader_app``).
"""

import asyncio
import contextlib
import json
import logging
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from node.reader_main import DRAIN_S

LONGEST_PAUSE_S: Final = 60.0
HEALTHY_S: Final = 60.0
"""A process that lived so long has not died of its start: counting begins anew."""
_CODE_FOLDER: Final = str(Path(__file__).resolve().parents[1])
log = logging.getLogger("vasculum.processes")


def restart_pause_s(deaths: int) -> float:
    """Seconds before a process is started again that died so many times in a row."""
    return float(min(LONGEST_PAUSE_S, 0.5 * 2 ** min(deaths - 1, 10)))


class ReaderProcesses:
    """``count`` extra processes on one port; used by the event loop only."""

    def __init__(
        self, folder: Path, *, count: int, port: int, served: Callable[[str, int], None], verbose: bool = False
    ) -> None:
        self._command = [sys.executable, "-P", "-m", "node.reader_main", str(folder), str(port)]
        if verbose:
            self._command.append("--verbose")
        self._count = count
        self._served = served
        self._tasks: list[asyncio.Task[None]] = []
        self._running: dict[int, asyncio.subprocess.Process] = {}
        self._ready = asyncio.Semaphore(0)
        self._ending = asyncio.Event()

    @property
    def pids(self) -> list[int]:
        """Of those that run now."""
        return [process.pid for process in self._running.values()]

    async def start(self) -> None:
        """Starts them; they begin to listen when they are ready."""
        self._tasks = [
            asyncio.create_task(self._keep(number), name=f"reader-{number}") for number in range(self._count)
        ]

    async def all_ready(self) -> None:
        """Returns when as many processes as wanted have begun to listen."""
        for _ in range(self._count):
            await self._ready.acquire()

    async def stop(self) -> None:
        """Lets every one finish what it is answering, then ends it."""
        self._ending.set()
        for process in self._running.values():
            if process.stdin is not None:
                process.stdin.close()
        waiting = [asyncio.create_task(process.wait()) for process in self._running.values()]
        if waiting:
            _, late = await asyncio.wait(waiting, timeout=DRAIN_S + 5)
            for process in self._running.values() if late else ():
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, *waiting, return_exceptions=True)

    async def _keep(self, number: int) -> None:
        deaths = 0
        while not self._ending.is_set():
            began = time.monotonic()
            code = await self._run(number)
            if self._ending.is_set():
                return
            deaths = 1 if time.monotonic() - began > HEALTHY_S else deaths + 1
            pause = restart_pause_s(deaths)
            log.error("reading process %d ended (%s): started again in %.1f s", number + 2, code, pause)
            await asyncio.sleep(pause)

    async def _run(self, number: int) -> int | str:
        path = os.pathsep.join(filter(None, (_CODE_FOLDER, os.environ.get("PYTHONPATH", ""))))
        try:
            process = await asyncio.create_subprocess_exec(
                *self._command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
                env={**os.environ, "PYTHONPATH": path},
            )  # fmt: skip
        except OSError as error:
            return str(error)
        self._running[number] = process
        try:
            assert process.stdout is not None
            async for line in process.stdout:
                self._hear(line)
            return await process.wait()
        finally:
            del self._running[number]
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()

    def _hear(self, line: bytes) -> None:
        if line == b"ready\n":
            self._ready.release()
            return
        try:
            for volume, count in json.loads(line).items():
                self._served(str(volume), int(count))
        except (ValueError, AttributeError):
            log.warning("a reading process says %r", line[:200])
