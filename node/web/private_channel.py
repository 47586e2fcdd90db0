"""Between the processes of one node: those that only read pass on to the core what they do not answer themselves.

The channel is a unix socket in a folder of the node that nobody else may enter (0700, the socket 0600).

Invariants:
- Only on this socket is the header believed that says who is at the other end of the first connection. The same header
  from the network means nothing, and a process that passes requests on overwrites it.
- A request is passed on as it came: method, target and headers byte for byte (they may be signed), the body while it
  arrives. Limits, sessions and signatures are looked at by the core, once.
- Whatever the reading application has no route for goes to the core, as does everything that is not GET or HEAD,
  that brings a cookie of staff, a signature or an authorization.
- When the core does not answer, the answer is 503; nothing is sent a second time.

It leaves out: which routes a reading process has (``node.reader_app``), starting processes (``node.processes``).
"""

import contextlib
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import aiohttp
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

from cas.errors import BlobArchived
from node.web.limits import PEER
from node.web.problem import Handler, Problem
from node.web.session import COOKIE

PEER_HEADER: Final = "X-Node-Peer"
SOCKET_NAME: Final = "core.sock"
_MOST_PATH_BYTES: Final = 100
"""The kernel takes 107; a longer one is reached through the descriptor of its folder."""
_OWN_HEADERS: Final = frozenset(
    ("connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te", "trailer",
     "transfer-encoding", "upgrade", "expect", PEER_HEADER.lower())
)  # fmt: skip
"""Of one connection (RFC 9110 section 7.6.1), not of the request."""
_MADE_HERE: Final = frozenset(("date", "server"))
CONNECT_S: Final = 5.0
SILENCE_S: Final = 180.0
"""The longest the core thinks about an answer: a preview of a very large image, after its turn has come."""


@contextlib.contextmanager
def private_folder(folder: Path) -> Iterator[Path]:
    """The folder of the channel, for us only; what a killed process left in it is gone.

    Yields:
        The path of the socket, short enough for the kernel.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fchmod(descriptor, 0o700)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(SOCKET_NAME, dir_fd=descriptor)
        yield _short(folder / SOCKET_NAME, descriptor)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(SOCKET_NAME, dir_fd=descriptor)
        os.close(descriptor)


async def serve_channel(runner: web.AppRunner, path: Path) -> None:
    """Listens on the socket; for the owner of the folder only."""
    await web.UnixSite(runner, str(path)).start()
    path.chmod(0o600)  # noqa: ASYNC240 - once, at the start


@contextlib.contextmanager
def channel_path(folder: Path) -> Iterator[Path]:
    """The path of the socket for a process that passes requests on.

    Raises:
        OSError: there is no such folder, or others may enter it.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        found = os.fstat(descriptor)
        if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o077:
            raise PermissionError(f"{folder} must belong to this user and to nobody else")
        yield _short(folder / SOCKET_NAME, descriptor)
    finally:
        os.close(descriptor)


def _short(path: Path, folder_descriptor: int) -> Path:
    if len(os.fsencode(path)) <= _MOST_PATH_BYTES:
        return path
    return Path(f"/proc/self/fd/{folder_descriptor}") / path.name


@web.middleware
async def private_channel_middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Of the core: believes on the private socket who the other end is."""
    connection = None if request.transport is None else request.transport.get_extra_info("socket")
    if connection is not None and connection.family == socket.AF_UNIX:
        request[PEER] = request.headers.get(PEER_HEADER, "")[:100]
    return await handler(request)


class AskCore(Exception):
    """A reading process has found on its way that only the core can answer; nothing was sent yet."""


class Forwarder:
    """Passes requests on to the core; one per reading process."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._session: aiohttp.ClientSession | None = None

    async def start(self) -> None:
        """Opens the connections' pool, in the running loop."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.UnixConnector(str(self._path), limit=0),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=SILENCE_S),
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
        )

    async def close(self) -> None:
        """Closes them."""
        if self._session is not None:
            await self._session.close()

    async def forward(self, request: web.Request) -> web.StreamResponse:
        """The core's answer, as it comes.

        Raises:
            Problem: 503, the core does not answer.
        """
        assert self._session is not None
        headers = _end_to_end(request.headers)
        headers[PEER_HEADER] = request.remote or ""
        body = request.content.iter_chunked(65_536) if request.body_exists else None
        try:
            async with self._session.request(
                request.method, URL(f"http://core{_target(request)}", encoded=True), headers=headers, data=body,
                allow_redirects=False,
            ) as answer:  # fmt: skip
                return await _pass_back(request, answer)
        except (aiohttp.ClientError, TimeoutError) as error:
            detail = "The process that does this node's work does not answer; ask again soon."
            raise Problem(503, "restarting", "Not now", detail, headers={"Retry-After": "5"}) from error


FORWARDER: Final = web.AppKey("forwarder", Forwarder)


@web.middleware
async def forwarding_middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Of a reading process: sends to the core what is not for here."""
    if is_for_core(request):
        return await request.app[FORWARDER].forward(request)
    try:
        return await handler(request)
    except (AskCore, BlobArchived):
        return await request.app[FORWARDER].forward(request)


def is_for_core(request: web.Request) -> bool:
    """Whether a request needs the core: a write, a person or a program that is known, a route that is not here."""
    return (
        request.method not in ("GET", "HEAD")
        or request.match_info.http_exception is not None
        or request.body_exists
        or "Signature" in request.headers
        or "Authorization" in request.headers
        or COOKIE in request.headers.get("Cookie", "")
    )


def _target(request: web.Request) -> str:
    """The target in origin form."""
    target = request.raw_path
    return target if target.startswith("/") else request.rel_url.raw_path_qs


def _end_to_end(headers: "CIMultiDict[str] | object") -> "CIMultiDict[str]":
    assert hasattr(headers, "items")
    pairs = [(str(name), str(value)) for name, value in headers.items()]
    named = {
        name.strip().lower() for key, value in pairs if key.lower() == "connection" for name in value.split(",")
    }  # fmt: skip
    return CIMultiDict(
        (name, value) for name, value in pairs if name.lower() not in _OWN_HEADERS and name.lower() not in named
    )


async def _pass_back(request: web.Request, answer: aiohttp.ClientResponse) -> web.StreamResponse:
    headers = _end_to_end(answer.headers)
    for name in _MADE_HERE:
        headers.popall(name, None)
    response = web.StreamResponse(status=answer.status, reason=answer.reason, headers=headers)
    try:
        await response.prepare(request)
        async for block in answer.content.iter_any():
            await response.write(block)
        await response.write_eof()
    except ConnectionError:
        pass  # the visitor went away
    except (aiohttp.ClientError, TimeoutError):
        if request.transport is not None:
            request.transport.abort()  # nobody may take this for the whole
    return response
