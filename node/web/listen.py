"""The socket of a node: plain requests for bytes are answered at once, everything else by the web framework."""

import asyncio
import logging
from typing import Final

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from node.web.at_once import AtOnce, AtOnceProtocol

AT_ONCE: Final = web.AppKey("at_once", AtOnce)
BACKLOG: Final = 512
"""Connections that wait to be accepted: a wave of clients, and no wave is refused by the kernel."""


class NodeSite(web.BaseSite):
    """Listens on one address; started and stopped by its runner like aiohttp's own sites."""

    def __init__(
        self, runner: web.AppRunner, host: str, port: int, *, answers: AtOnce | None, is_shared: bool = False
    ) -> None:
        """``answers`` is None when the framework is to see every request, for its access log."""
        super().__init__(runner, backlog=BACKLOG)
        self._host = host
        self.port = port
        """The real one once it was started with 0."""
        self._answers = answers
        self._is_shared = is_shared

    @property
    def name(self) -> str:
        """For the runner."""
        return f"http://{self._host}:{self.port}"

    async def start(self) -> None:
        """Listens. With ``is_shared`` several processes do so on the same port."""
        await super().start()
        framework = self._runner.server
        assert framework is not None

        def connect() -> asyncio.Protocol:
            return framework() if self._answers is None else AtOnceProtocol(framework(), self._answers)

        server = await asyncio.get_running_loop().create_server(
            connect,
            self._host,
            self.port,
            backlog=self._backlog,
            reuse_address=True,
            reuse_port=self._is_shared or None,
        )
        self._server = server
        self.port = int(server.sockets[0].getsockname()[1])


def answers_of(app: web.Application, access_log: logging.Logger) -> AtOnce | None:
    """What a site answers at once; None when every request is to be logged, which the framework does."""
    return None if access_log.isEnabledFor(logging.INFO) else app[AT_ONCE]


class BrokenRequests(logging.Filter):
    """Keeps requests that break HTTP out of the log: they are answered with 400, and with a traceback for each one
    a stranger could fill the disk.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is kept."""
        error = record.exc_info[1] if record.exc_info else None
        return not isinstance(error, HttpProcessingError)


def server_log() -> logging.Logger:
    """The logger for the framework's own errors."""
    log = logging.getLogger("vasculum.http")
    if not any(isinstance(item, BrokenRequests) for item in log.filters):
        log.addFilter(BrokenRequests())
    return log
