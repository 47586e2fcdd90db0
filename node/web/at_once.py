"""Open bytes that were just read, answered before the web framework begins: the head of the request is compared, the
file is opened, checked and read, and head and body leave in one write.

Only for the plainest request there is, which is nearly all of them: ``GET /cas/sha256/{hex}`` of an anonymous client,
one request at a time, no condition, at most a range. Everything else goes to the framework; with the whole connection
from then on, unless what came was surely one whole request without a body: two readers never share a stream of bytes
of which one has seen a part. A front that sends the bytes itself (``node.web.accel``) is told here which file it is.

Invariants:
- The answer has the status, the headers and the bytes that ``node.web.blobs`` gives; a test compares them.
- What may be answered is decided there: this module knows only places that ``node.web.warm`` keeps, as long as it does.
- The file is opened anew and checked each time, and again after it was read.
- Nothing waits: what is not in memory is left to the framework.

It leaves out: TLS, HTTP/2 (a front server has them), everything that is not the bytes of a file, and the access log:
whoever wants every request logged does without it (``node.cli.serve``).

Two private names of aiohttp's connection are read, because it says nowhere else that it is idle and when it closes
an idle connection. A test fails when a new version has them no more; nothing is answered wrongly then, only slower.
"""

import asyncio
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal

from aiohttp.helpers import rfc822_formatted_time
from aiohttp.http import SERVER_SOFTWARE

from cas.errors import CasError
from node.web.accel import headers_for_front, is_plain
from node.web.ranges import ByteAnswer, decide_bytes
from node.web.warm import WarmPlace, WarmPlaces

AT_ONCE_BYTES: Final = 262_144
"""Larger answers are sent while they are read, which the framework does."""
MOST_HEAD_BYTES: Final = 2048
MOST_PLANS: Final = 512
"""Different sets of headers that are remembered: a client sends the same ones with every request."""
_START: Final = b"GET /cas/sha256/"
_VERSION: Final = b" HTTP/1.1\r\n"
_HEX_END: Final = len(_START) + 64
_HEAD_BEGIN: Final = _HEX_END + len(_VERSION)
_LINE: Final = re.compile(r"([A-Za-z0-9-]{1,64}):[ \t]*([\x21-\x7e][\x20-\x7e]*)\Z")
_PLAIN: Final = frozenset(
    ("accept", "accept-encoding", "accept-language", "connection", "dnt", "host", "range", "referer", "user-agent",
     "sec-fetch-dest", "sec-fetch-mode", "sec-fetch-site", "sec-fetch-user", "sec-ch-ua", "sec-ch-ua-mobile",
     "sec-ch-ua-platform", "upgrade-insecure-requests", "priority", "via", "x-forwarded-for", "x-forwarded-host",
     "x-forwarded-proto", "x-node-accel")
)  # fmt: skip
"""Headers that decide nothing here, or what a ``Plan`` says. Any other (a cookie, a condition, a signature) is for the
framework."""
_FRAMING: Final = re.compile(
    rb"\n(?:content-length|transfer-encoding|upgrade|expect|connection(?![ \t]*:[ \t]*keep-alive\r\n))[ \t]*:",
    re.IGNORECASE,
)
"""Headers by which more may follow than a head, or something else than the next request."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What the headers of a request ask for."""

    wanted: str | None
    """The range, as it was written."""
    forwarded: str | None = None
    """For whom a front asks."""
    announced: str = ""
    """What a front says that it is."""


class AtOnce:
    """Finds answers; used by the event loop only."""

    def __init__(
        self,
        warm: WarmPlaces,
        *,
        is_our_host: Callable[[str], bool],
        headers_of: Callable[[WarmPlace, ByteAnswer], dict[str, str]],
        take: Callable[[str, str | None, int], bool],
        served: Callable[[str, int], None],
        accel: Literal["", "nginx"],
        is_front: Callable[[str], bool],
    ) -> None:
        self._warm = warm
        self._is_our_host = is_our_host
        self._headers_of = headers_of
        self._take = take
        self._served = served
        self._accel = accel
        self._is_front = is_front
        self._plans: dict[bytes, Plan | None] = {}
        self._heads: dict[tuple[str, bool], tuple[WarmPlace, bytes]] = {}
        self._buffer = bytearray()

    def plan(self, data: bytes) -> Plan | None:
        """What these received bytes ask for, if they are one whole plain request and nothing more."""
        if not data.startswith(_START) or data[_HEX_END:_HEAD_BEGIN] != _VERSION:
            return None
        try:
            return self._plans[data[_HEAD_BEGIN:]]
        except KeyError:
            return self._remember(data[_HEAD_BEGIN:])

    def find(self, data: bytes, plan: Plan, peer: str) -> memoryview | None:
        """The whole answer to a plain request; None when the framework is to answer.

        It lies in a buffer that the next answer overwrites; whoever still needs it then says so (``keep``).
        """
        known = self._warm.find(data[len(_START) : _HEX_END].decode("ascii", "replace"))
        if known is None:
            return None
        size = known.place.size
        answer = (
            ByteAnswer(status=200, length=size)
            if plan.wanted is None
            else decide_bytes({"Range": plan.wanted}, size=size, etag="")
        )
        if answer.status not in (200, 206) or not answer.length:
            return None
        if plan.announced:
            return self._name_to_front(known, plan, peer, answer)
        if answer.length > AT_ONCE_BYTES:
            return None
        head = self._head(known, answer)
        if len(self._buffer) < len(head) + answer.length:
            self._buffer = bytearray(AT_ONCE_BYTES + MOST_HEAD_BYTES)
        found = _read(known, head, answer, memoryview(self._buffer))
        if found is None or not self._take(peer, plan.forwarded, answer.length):
            return None  # not counted: the framework counts it, and says what is too much
        self._served(known.place.volume, answer.length)
        return found

    def _name_to_front(self, known: WarmPlace, plan: Plan, peer: str, answer: ByteAnswer) -> memoryview | None:
        """Tells a front which file it is to send (``node.web.accel``)."""
        is_range = plan.wanted is not None
        if plan.announced != self._accel or not self._is_front(peer) or not is_plain(plan.wanted):
            return None
        if answer.status != (206 if is_range else 200):
            return None
        try:
            known.place.open().close()
        except (OSError, CasError):
            return None
        if not self._take(peer, plan.forwarded, answer.length):
            return None
        self._served(known.place.volume, answer.length)
        return memoryview(self._head(known, answer, for_front=True))

    def keep(self) -> None:
        """The last answer is still needed: the next one gets another buffer.

        Memory that was just in use is at hand; new memory is fetched page by page.
        """
        self._buffer = bytearray()

    def _remember(self, head: bytes) -> Plan | None:
        if len(self._plans) >= MOST_PLANS:
            self._plans.clear()
        plan = self._plans[head] = read_head(head, self._is_our_host) if len(head) <= MOST_HEAD_BYTES else None
        return plan

    def _head(self, known: WarmPlace, answer: ByteAnswer, *, for_front: bool = False) -> bytes:
        if answer.status == 206:
            return self._make_head(known, answer, for_front) + _date()
        key = (known.place.id.hex, for_front)
        kept = self._heads.get(key)
        if kept is None or kept[0] is not known:
            if len(self._heads) >= MOST_PLANS:
                self._heads.clear()
            kept = self._heads[key] = (known, self._make_head(known, answer, for_front))
        return kept[1] + _date()

    def _make_head(self, known: WarmPlace, answer: ByteAnswer, for_front: bool) -> bytes:
        headers = self._headers_of(known, answer)
        if not for_front:
            return _head_lines(answer.status, headers, answer.length)
        return _head_lines(200, headers_for_front(known.place, headers, is_range=answer.status == 206), 0)


class AtOnceProtocol(asyncio.Protocol):
    """One connection: answers what it can, and leaves it to the framework for good when anything is doubtful.

    A request that cannot be answered at once goes to the framework; if it was surely one whole request without a body,
    the next one is looked at again when the framework has nothing left to do on this connection.
    """

    def __init__(self, framework: asyncio.Protocol, answers: AtOnce) -> None:
        self._framework = framework
        self._answers: AtOnce | None = answers
        self._transport: asyncio.Transport | None = None
        self._loop = asyncio.get_running_loop()
        self._peer = ""
        self._is_full = False
        self._was_handed_on = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See ``asyncio.Protocol``."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        peer = transport.get_extra_info("peername")
        self._peer = str(peer[0]) if isinstance(peer, tuple) else ""
        self._framework.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        """See ``asyncio.Protocol``."""
        if self._answers is not None:
            plan = self._answers.plan(data)
            if plan is None:
                if not is_one_request(data):
                    self._answers = None
            elif not self._is_full and self._is_idle():
                found = self._answers.find(data, plan, self._peer)
                if found is not None:
                    assert self._transport is not None
                    self._transport.write(found)
                    if self._transport.get_write_buffer_size():
                        self._answers.keep()
                    self._put_off_closing()
                    return
        self._was_handed_on = True
        self._framework.data_received(data)

    def _is_idle(self) -> bool:
        """Whether the framework waits for a next request. If aiohttp ceases to say so, it is never idle."""
        if not self._was_handed_on:
            return True
        waiter = getattr(self._framework, "_waiter", None)
        return waiter is not None and not waiter.done()

    def _put_off_closing(self) -> None:
        """The framework closes connections on which it hears nothing; this one is in use."""
        framework: Any = self._framework
        if hasattr(framework, "_next_keepalive_close_time"):
            framework._next_keepalive_close_time = self._loop.time() + framework.keepalive_timeout  # noqa: SLF001

    def pause_writing(self) -> None:
        """The client reads more slowly than it asks."""
        self._is_full = True
        self._framework.pause_writing()

    def resume_writing(self) -> None:
        """See ``asyncio.Protocol``."""
        self._is_full = False
        self._framework.resume_writing()

    def eof_received(self) -> bool | None:
        """See ``asyncio.Protocol``."""
        return self._framework.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """See ``asyncio.Protocol``."""
        self._framework.connection_lost(exc)


def read_head(head: bytes, is_our_host: Callable[[str], bool]) -> Plan | None:
    """What these header lines (with the empty line behind them) ask for; None when anything is unusual."""
    if not head.endswith(b"\r\n\r\n") or head.count(b"\r\n\r\n") != 1:
        return None
    found: dict[str, str] = {}
    for line in head[:-4].decode("latin-1").split("\r\n"):
        match = _LINE.match(line)
        name = match[1].lower() if match else ""
        if match is None or name not in _PLAIN or name in found:
            return None
        found[name] = match[2].rstrip()
    if found.get("connection", "keep-alive").lower() != "keep-alive" or not is_our_host(found.get("host", "")):
        return None
    return Plan(
        wanted=found.get("range"), forwarded=found.get("x-forwarded-for"), announced=found.get("x-node-accel", "")
    )


def is_one_request(data: bytes) -> bool:
    """Whether these bytes are the head of one request that has nothing but a head, in the strictest reading."""
    return (
        data.startswith((b"GET ", b"HEAD "))
        and data.endswith(b"\r\n\r\n")
        and data.count(b"\r\n\r\n") == 1
        and data.count(b"\n") == data.count(b"\r\n") == data.count(b"\r")
        and _FRAMING.search(data) is None
    )


def _date() -> bytes:
    return f"Date: {rfc822_formatted_time()}\r\n\r\n".encode()


def _head_lines(status: int, headers: dict[str, str], length: int) -> bytes:
    reason = "OK" if status == 200 else "Partial Content"
    lines = [f"HTTP/1.1 {status} {reason}", *(f"{name}: {value}" for name, value in headers.items())]
    lines += [f"Content-Length: {length}", f"Server: {SERVER_SOFTWARE}", ""]
    return "\r\n".join(lines).encode("ascii")


def _read(known: WarmPlace, head: bytes, answer: ByteAnswer, buffer: memoryview) -> memoryview | None:
    """Head and bytes at the beginning of a buffer; None when the file is not what it was, or not in memory."""
    out = buffer[: len(head) + answer.length]
    try:
        blob = known.place.open()
    except (OSError, CasError):
        return None
    with blob:
        out[: len(head)] = head
        try:
            count = os.preadv(blob.fd, [out[len(head) :]], answer.offset, os.RWF_NOWAIT)
        except OSError:
            return None
        return out if count == answer.length and blob.is_unchanged() else None
