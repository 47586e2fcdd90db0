"""A relay that all traffic of the demo crosses: one listening address per node and registry.

The public address of every demo node *is* its relay, so its identifiers, the registry's pulls, the researcher's
questions and the results all pass here, outside the nodes. What passes is captured and searched (``node.demo.leaks``).
After the count the relay goes on without capturing, for people who open the pages.
"""

import asyncio
import contextlib
from dataclasses import dataclass, field
from typing import Final

from node.demo.leaks import LeakFinder

MAX_CAPTURE_BYTES: Final = 256 * 1024 * 1024
"""Of one connection and direction; a job's results are kilobytes, so more than this is a leak by itself."""
_BLOCK: Final = 65_536


@dataclass(slots=True)
class _Flow:
    name: str
    data: bytearray = field(default_factory=bytearray)
    passed: int = 0


class Relay:
    """Listens on loopback and passes everything on to fixed targets."""

    def __init__(self) -> None:
        self._flows: list[_Flow] = []
        self._servers: list[asyncio.Server] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_capturing = True

    async def open(self, name: str, target_port: int) -> int:
        """Starts to relay to ``127.0.0.1:target_port``; returns the port to use instead."""

        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            if task is not None:
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await self._pass(name, target_port, reader, writer)
            writer.close()

        server = await asyncio.start_server(accept, "127.0.0.1", 0)
        self._servers.append(server)
        return int(server.sockets[0].getsockname()[1])

    @property
    def bytes_passed(self) -> int:
        """Everything that has crossed, both ways, while capturing."""
        return sum(flow.passed for flow in self._flows)

    def stop_capturing(self) -> None:
        """From now on bytes only pass."""
        self._is_capturing = False

    def count_leaks(self, finder: LeakFinder) -> int:
        """Image bytes found in everything captured so far."""
        return sum(finder.count(bytes(flow.data)) for flow in self._flows)

    async def close(self) -> None:
        """Stops listening and ends every connection."""
        for server in self._servers:
            server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _pass(self, name: str, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._copy(f"to {name}", reader, there_writer))
                group.create_task(self._copy(f"from {name}", there_reader, writer))
        except* OSError:
            pass
        finally:
            there_writer.close()

    async def _copy(self, name: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        flow = _Flow(name)
        self._flows.append(flow)
        while block := await reader.read(_BLOCK):
            if self._is_capturing:
                flow.passed += len(block)
                if len(flow.data) < MAX_CAPTURE_BYTES:
                    flow.data += block
            writer.write(block)
            await writer.drain()
        with contextlib.suppress(OSError):
            writer.write_eof()
