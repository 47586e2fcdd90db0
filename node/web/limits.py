"""Limits for strangers: how much an address, its neighbours, a session and everybody together may take.

Invariants:
- Who asks by an address is counted by it (IPv6: by its /64), and more widely by its block (/24, IPv6 /48), so that
  neither one visitor nor one network can take everything. Staff are counted by session, researchers' keys beside that.
- ``X-Forwarded-For`` is believed only from a front that ``[server] trusted_proxies`` names, and only the last address
  in it that is not such a front: what a visitor writes there himself changes nothing.
- Requests of this machine that no trusted front forwards cannot be told apart (a front that is not named?): they have
  no limit per address, only those of everybody.
- Refusals come after a second, so that asking again at once wins nothing and costs little.
- Health checks are never refused.

It leaves out: the counting (``node.web.rates``), the line (``node.web.gate``), how many jobs a key may have.
"""

import asyncio
import contextlib
import ipaddress
import math
import socket
import time
from collections.abc import Callable
from functools import lru_cache
from typing import Final

from aiohttp import web

from node.config import LimitsSection
from node.web.gate import Gate
from node.web.problem import Handler, Problem
from node.web.rates import Allowance, Counter, Excess, Rates
from node.web.viewer import SESSION

BLOCK_FACTOR: Final = 8
"""A block of addresses may take so many times what one address may: a campus, not a person."""
REFUSAL_DELAY_S: Final = 1.0
MOST_DELAYED: Final = 1000
"""Refusals that are held back at a time; more are sent at once."""
LONGEST_WAIT_S: Final = 30.0
FREE_PATHS: Final = frozenset(("/healthz", "/readyz", "/robots.txt"))
OTHER_WAYS: Final = (
    "For work on many images send a job (/processes); for everything that is new ask /changes, which pages by number."
)
_MOST_FORWARDED_CHARS: Final = 400
"""Of X-Forwarded-For, from its end: what a front appends stands there, what stands before was never believed."""


class VisitorLimits:
    """The counters and the line of one process; used by the event loop only."""

    def __init__(
        self,
        settings: LimitsSection,
        trusted_proxies: tuple[str, ...],
        *,
        clock_s: Callable[[], float] = time.monotonic,
        refusal_delay_s: float = REFUSAL_DELAY_S,
    ) -> None:
        one = Allowance(
            requests_per_minute=settings.requests_per_minute, bytes_per_day=settings.bytes_per_day,
            concurrent=settings.concurrent,
        )  # fmt: skip
        everybody = Allowance(
            requests_per_minute=settings.all_requests_per_minute, bytes_per_day=settings.all_bytes_per_day,
            concurrent=settings.all_concurrent,
        )  # fmt: skip
        self._addresses, self._blocks = Rates(one), Rates(one.times(BLOCK_FACTOR))
        self._known = Rates(Allowance(requests_per_minute=settings.known_requests_per_minute))
        self._all, self._everybody = Rates(everybody), Counter()
        self._gate = Gate(settings.at_work, clock_s) if settings.at_work else None
        self._trusted = frozenset(ipaddress.ip_network(item, strict=False) for item in trusted_proxies)
        self._peers = lru_cache(maxsize=1024)(self._is_trusted)
        self._forwarded = lru_cache(maxsize=8192)(self._read_forwarded)
        self._clock_s = clock_s
        self._refusal_delay_s = refusal_delay_s
        self._delayed = 0

    def visitor(self, request: web.Request) -> tuple[str, str] | None:
        """The address that asks and its block; None when visitors cannot be told apart."""
        peer = peer_of(request)
        if not peer:
            return None
        if not self._trusted or not self._peers(peer):
            return keys_of(peer)
        forwarded = ",".join(request.headers.getall("X-Forwarded-For", ()))
        if len(forwarded) > _MOST_FORWARDED_CHARS:
            forwarded = forwarded[-_MOST_FORWARDED_CHARS:].partition(",")[2]
        return self._forwarded(peer, forwarded)

    def comes_from_front(self, request: web.Request) -> bool:
        """Whether a front server that the settings name has sent this request."""
        return self.is_front(peer_of(request))

    def charge_key(self, kid: str) -> None:
        """Counts a request that a key has signed.

        Raises:
            Problem: 429.
        """
        if not self._known.is_off:
            self._begin([(self._known, self._known.counter("key " + kid))], self._clock_s())
            self._known.counter("key " + kid).running -= 1

    async def serve_known(self, request: web.Request, handler: Handler, session: str) -> web.StreamResponse:
        """A request of staff: counted by session, and first in line."""
        rates = [(self._known, self._known.counter("session " + session))]
        await self._admit(rates, "a session")
        if self._gate is not None:
            self._gate.person_came()
        try:
            return await handler(request)
        finally:
            if self._gate is not None:
                self._gate.person_left()
            _end(rates, self._clock_s(), 0)

    async def serve_anonymous(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """A request of anybody."""
        rates = [(self._all, self._everybody)]
        visitor = self.visitor(request)
        if visitor is not None:
            rates.append((self._addresses, self._addresses.counter(visitor[0])))
            rates.append((self._blocks, self._blocks.counter(visitor[1])))
        await self._admit(rates, "one address" if visitor is not None else "all visitors")
        sent = 0
        try:
            place = None if self._gate is None else await self._enter(self._gate, request)
            try:
                if request.transport is None:
                    return web.Response(status=503)  # the client left the line: nobody to answer
                response = await handler(request)
            finally:
                if place is not None:
                    place.give_back()
            sent = _length(request, response)
            return response
        finally:
            _end(rates, self._clock_s(), sent)

    def is_front(self, peer: str) -> bool:
        """Whether the settings name this address as a front server."""
        return bool(peer and self._trusted and self._peers(peer))

    def take_at_once(self, peer: str, forwarded: str | None, length: int) -> bool:
        """Counts a request that is answered without any waiting; False when it must go the usual way, uncounted.

        ``forwarded`` is its header X-Forwarded-For, which only a front may send here.
        """
        is_front = self.is_front(peer)
        if not peer or is_front != (forwarded is not None) or len(forwarded or "") > _MOST_FORWARDED_CHARS:
            return False
        rates = [(self._all, self._everybody)]
        visitor = keys_of(peer) if forwarded is None else self._forwarded(peer, forwarded)
        if visitor is not None:
            rates.append((self._addresses, self._addresses.counter(visitor[0])))
            rates.append((self._blocks, self._blocks.counter(visitor[1])))
        now = self._clock_s()
        for rate, counter in rates:
            if not rate.is_off and rate.excess(counter, now) is not None:
                return False
        if self._gate is not None:
            if not self._gate.try_enter():
                return False
            self._gate.leave()
        for rate, counter in rates:
            rate.begin(counter, now)
            rate.end(counter, now, length)
        return True

    async def _enter(self, gate: Gate, request: web.Request) -> "Place":
        if not gate.try_enter():
            try:
                async with asyncio.timeout(LONGEST_WAIT_S):
                    await gate.enter()
            except TimeoutError as error:
                raise _busy() from error
        place = Place(gate)
        request[PLACE] = place
        return place

    async def _admit(self, rates: list[tuple[Rates, Counter]], whose: str) -> None:
        try:
            self._begin(rates, self._clock_s(), whose)
        except Problem:
            if self._delayed < MOST_DELAYED:
                self._delayed += 1
                try:
                    await asyncio.sleep(self._refusal_delay_s)
                finally:
                    self._delayed -= 1
            raise

    def _begin(self, rates: list[tuple[Rates, Counter]], now: float, whose: str = "a key") -> None:
        for rate, counter in rates:
            excess = None if rate.is_off else rate.excess(counter, now)
            if excess is not None:
                if rate is self._all and "at a time" in excess.what:
                    raise _busy()
                raise _too_much(excess, "all visitors" if rate is self._all else whose)
        for rate, counter in rates:
            rate.begin(counter, now)

    def _read_forwarded(self, peer: str, forwarded: str) -> tuple[str, str] | None:
        for text in reversed(forwarded.split(",")):
            address = _bare(text.strip())
            if not address:
                continue
            if not _is_address(address):
                return f"unreadable from {peer}", f"unreadable from {peer}"
            if not self._peers(address):
                return keys_of(address, forwarded=True)
        return None

    def _is_trusted(self, text: str) -> bool:
        try:
            address = ipaddress.ip_address(text)
        except ValueError:
            return False
        return any(address in network for network in self._trusted)


class Place:
    """A place at work that is given back once: when the answer is ready, or when its first bytes leave."""

    __slots__ = ("_gate",)

    def __init__(self, gate: Gate) -> None:
        self._gate: Gate | None = gate

    def give_back(self) -> None:
        """Safe to repeat."""
        gate, self._gate = self._gate, None
        if gate is not None:
            gate.leave()


LIMITS: Final = web.AppKey("limits", VisitorLimits)
PLACE: Final = web.RequestKey("place", Place)
PEER: Final = web.RequestKey("peer", str)
"""Who is at the other end of a connection that another process of this node has accepted."""
BESIDE: Final = web.RequestKey("beside", int)
"""Bytes of an answer that do not go through the framework: the front sends them, or the kernel."""


def peer_of(request: web.Request) -> str:
    """The address at the other end of the connection; empty when there is none."""
    return request.get(PEER) or request.remote or ""


@web.middleware
async def limits_middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Counts, refuses, or lets wait."""
    if request.path in FREE_PATHS:
        return await handler(request)
    session = request.get(SESSION)
    limits = request.app[LIMITS]
    if session is not None:
        return await limits.serve_known(request, handler, session.digest)
    return await limits.serve_anonymous(request, handler)


async def sending_begins(request: web.Request, response: web.StreamResponse) -> None:  # noqa: ARG001 - a signal
    """A long answer gives its place at work back before it is sent."""
    place = request.get(PLACE)
    if place is not None:
        place.give_back()


@lru_cache(maxsize=8192)
def keys_of(text: str, *, forwarded: bool = False) -> tuple[str, str] | None:
    """An address and its block as keys; None for this machine, unless a trusted front says so."""
    with contextlib.suppress(OSError):
        packed = socket.inet_pton(socket.AF_INET, text)
        if packed[0] == 127 and not forwarded:
            return None
        return text, text.rpartition(".")[0]
    try:
        packed = socket.inet_pton(socket.AF_INET6, text.partition("%")[0])
    except OSError:
        return text, text
    if packed[:12] == b"\0" * 10 + b"\xff\xff":  # an IPv4 address in IPv6 clothes
        return keys_of(socket.inet_ntop(socket.AF_INET, packed[12:]), forwarded=forwarded)
    if packed == b"\0" * 15 + b"\1" and not forwarded:
        return None
    return packed[:8].hex(), packed[:6].hex()


def _bare(text: str) -> str:
    """An address without brackets and port."""
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0] if text.count(":") == 1 else text


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _length(request: web.Request, response: web.StreamResponse) -> int:
    if request.method == "HEAD":
        return 0
    beside: int = request.get(BESIDE, 0)
    if response.prepared:
        return response.body_length + beside
    return (response.content_length or 0) + beside


def _end(rates: list[tuple[Rates, Counter]], now: float, sent: int) -> None:
    for rate, counter in rates:
        rate.end(counter, now, sent)


def _too_much(excess: Excess, whose: str) -> Problem:
    seconds = max(1, math.ceil(excess.retry_after_s))
    return Problem(
        429, "too-many-requests", "Too much at once",
        f"This node gives {whose} at most {excess.what}; ask again in {seconds} s. {OTHER_WAYS}",
        headers={"Retry-After": str(seconds)},
    )  # fmt: skip


def _busy() -> Problem:
    detail = f"More visitors than this node can answer at a time are waiting; ask again in 10 s. {OTHER_WAYS}"
    return Problem(503, "busy", "Too many visitors", detail, headers={"Retry-After": "10"})
