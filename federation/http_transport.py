"""``Transport`` over HTTP with aiohttp: time limits, size limits, no redirects, no proxies from the environment."""

import asyncio
from types import TracebackType
from typing import Self

import aiohttp
from yarl import URL

from federation.errors import TransportError
from federation.transport import Answer, OutgoingRequest

_CHUNK_BYTES = 65_536
_CONNECT_TIMEOUT_S = 10.0
"""A node that does not even accept a connection in this time is treated as down."""


class HttpTransport:
    """One connection pool; use as an async context manager."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            auto_decompress=False,
            trust_env=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            connector=aiohttp.TCPConnector(limit_per_host=4),
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def send(self, request: OutgoingRequest) -> Answer:
        """See ``Transport``."""
        if self._session is None:
            raise TransportError("the transport is closed")
        timeout = aiohttp.ClientTimeout(
            total=request.timeout_s, connect=min(_CONNECT_TIMEOUT_S, request.timeout_s), sock_read=request.timeout_s
        )
        try:
            async with self._session.request(
                request.method,
                URL(request.url, encoded=True),
                headers={"Accept-Encoding": "identity", **request.headers},
                data=request.body or None,
                timeout=timeout,
                allow_redirects=False,
            ) as response:
                body = bytearray()
                async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
                    body += chunk
                    if len(body) > request.max_bytes:
                        raise TransportError(f"the answer is larger than {request.max_bytes} bytes")
                headers = {name.lower(): value for name, value in response.headers.items()}
                return Answer(status=response.status, headers=headers, body=bytes(body))
        except TransportError:
            raise
        except TimeoutError as error:
            raise TransportError(f"no answer within {request.timeout_s:g} s") from error
        except (aiohttp.ClientError, ConnectionError, OSError, ValueError) as error:
            raise TransportError(_plain(error)) from error
        except asyncio.IncompleteReadError as error:
            raise TransportError("the answer was cut off") from error


def _plain(error: Exception) -> str:
    if isinstance(error, aiohttp.ClientConnectorError):
        return f"cannot connect: {error.os_error.strerror or error.os_error}"
    if isinstance(error, aiohttp.ClientPayloadError):
        return "the answer was cut off"
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "the connection was closed without an answer"
    return " ".join(str(error).split())[:200] or type(error).__name__
