"""Fetching an address that somebody else named, without being used against our own network.

Used for registry pulls (an origin in a ping) and for media that a source knows only by URL.

Invariants:
- https only, to public addresses only, on the ports allowed; http only to a literal loopback address,
  and only where the owner switched ``insecure_loopback`` on.
- The address that was checked is the address that is connected to: one resolution, by our own resolver, and the
  peer of the connection is checked again. A name that resolves to one bad address among good ones is refused.
- Every redirect (at most 3) is a new address and is checked like the first; none leads from outside to loopback.
- No credentials, no cookies, no proxy from the environment, no decompression; caps on bytes, time and type.

It leaves out: what the bytes mean, and retrying.
"""

import asyncio
import ipaddress
import re
import socket
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from federation.errors import AnswerTooLarge, FetchRefused, TransportError

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolve = Callable[[str, int], Awaitable[list[str]]]
"""(host, port) -> textual addresses."""
MAX_REDIRECTS: Final = 3
"""http -> https does not count here (http is refused); a moved file needs one, a CDN two."""
MAX_URL_CHARS: Final = 2000
_CHUNK_BYTES: Final = 65_536
_ALLOWED = re.compile(r"[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=%]+\Z")
_HOST = re.compile(r"(?=.{1,253}\Z)([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\Z")
_EMBEDS_V4: Final = tuple(
    ipaddress.ip_network(text)
    for text in (
        "::/96",  # v4-compatible (RFC 4291, deprecated)
        "::ffff:0:0/96",  # v4-mapped
        "::ffff:0:0:0/96",  # v4-translated (RFC 2765)
        "64:ff9b::/96",  # NAT64 (RFC 6052)
        "64:ff9b:1::/48",  # NAT64, local use (RFC 8215)
        "2001::/32",  # Teredo
        "2002::/16",  # 6to4
    )
)
"""IPv6 forms that carry an IPv4 address: the way around a check of IPv4 ranges. No museum serves from one."""
_NEVER: Final = tuple(
    ipaddress.ip_network(text)
    for text in ("100.64.0.0/10", "192.0.0.0/24", "198.18.0.0/15", "fc00::/7", "fec0::/10", "100::/64", "2001:db8::/32")
)
"""Carrier-grade NAT, protocol assignments, benchmarking, unique local, site local, discard, documentation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchLimits:
    """Caps for one fetch."""

    max_bytes: int = 4_194_304
    timeout_s: float = 30.0
    ports: frozenset[int] = frozenset({443, 8443})
    """Ports for https outside loopback: the usual two, so that a fetch cannot speak to mail or databases."""
    content_types: tuple[str, ...] = ()
    """Accepted media types, or prefixes ending in ``/``; empty: any."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedUrl:
    """An address that may be asked, before its name is resolved."""

    url: URL
    host: str
    port: int
    is_loopback: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """What came back."""

    url: str
    """After redirects."""
    status: int
    content_type: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


def is_public_address(text: str) -> bool:
    """Whether an address is on the public internet: no private, loopback, link-local, CGNAT, ULA or disguised one."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    if getattr(address, "scope_id", None):
        return False
    if any(address in network for network in (*_EMBEDS_V4, *_NEVER) if network.version == address.version):
        return False
    return (
        address.is_global
        and not address.is_multicast
        and not address.is_reserved
        and not address.is_unspecified
        and not address.is_private
        and not address.is_loopback
        and not address.is_link_local
    )


def is_address_text(text: str) -> bool:
    """Whether a text is no longer than an address may be and holds only characters of addresses."""
    return len(text) <= MAX_URL_CHARS and _ALLOWED.match(text) is not None


def check_url(text: str, *, insecure_loopback: bool, limits: FetchLimits | None = None) -> CheckedUrl:
    """An address that may be asked.

    Raises:
        FetchRefused: with the reason.
    """
    limits = limits or FetchLimits()
    if not is_address_text(text):
        raise FetchRefused("the address is too long or holds characters that do not belong there")
    try:
        url = URL(text, encoded=True)
        port, host = url.port, url.raw_host
    except (ValueError, IndexError) as error:
        raise FetchRefused("the address is malformed") from error
    if url.user is not None or url.password is not None or "@" in url.raw_authority:
        raise FetchRefused("an address with credentials is not fetched")
    if not host or not port:
        raise FetchRefused("the address has no host")
    host = host.lower()
    literal = _literal(host)
    is_loopback = literal is not None and literal.is_loopback and literal.version == 4
    if url.scheme == "http":
        if not (insecure_loopback and is_loopback):
            raise FetchRefused("only https is fetched")
    elif url.scheme != "https":
        raise FetchRefused(f"only https is fetched, not {url.scheme[:20] or 'an address without a scheme'}")
    if is_loopback and insecure_loopback:
        return CheckedUrl(url=url.with_fragment(None), host=host, port=port, is_loopback=True)
    if literal is not None and not is_public_address(str(literal)):
        raise FetchRefused("the address is not on the public internet")
    if literal is None:
        if not _HOST.match(host) or "." not in host:
            raise FetchRefused("the host name is not a public one")
        last = host.rsplit(".", 1)[1]
        if last.isdigit() or last.startswith("0x") or last in ("localhost", "local", "internal", "onion", "arpa"):
            raise FetchRefused("the host name is not a public one")
    if port not in limits.ports:
        raise FetchRefused(f"port {port} is not among those that are fetched from")
    return CheckedUrl(url=url.with_fragment(None), host=host, port=port, is_loopback=False)


def _literal(host: str) -> IPAddress | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


async def system_resolve(host: str, port: int) -> list[str]:
    """The system's resolver."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(item[4][0]) for item in found]


class _CheckingResolver(AbstractResolver):
    """Resolves once, refuses names with any address that is not public, hands out exactly what was checked."""

    def __init__(self, resolve: Resolve) -> None:
        self._resolve = resolve
        self.checked: set[str] = set()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        try:
            addresses = await self._resolve(host, port)
        except OSError as error:
            raise TransportError(f"the name {host[:100]} is not known") from error
        if not addresses:
            raise TransportError(f"the name {host[:100]} has no address")
        for text in addresses:
            if not is_public_address(text):
                raise FetchRefused("the host name leads to an address that is not on the public internet")
        self.checked.update(addresses)
        return [
            ResolveResult(
                hostname=host,
                host=text,
                port=port,
                family=socket.AF_INET6 if ":" in text else socket.AF_INET,
                proto=socket.IPPROTO_TCP,
                flags=socket.AI_NUMERICHOST,
            )
            for text in dict.fromkeys(addresses)
            if family in (socket.AF_UNSPEC, socket.AF_INET6 if ":" in text else socket.AF_INET)
        ]

    async def close(self) -> None:
        """Nothing to close."""


class SafeFetcher:
    """Fetches addresses named by others.

    Example:
        >>> fetcher = SafeFetcher(limits=FetchLimits(max_bytes=65_536))
        >>> (await fetcher.get("https://images.example.org/.well-known/vasculum/node.json")).body
    """

    def __init__(
        self,
        *,
        limits: FetchLimits | None = None,
        insecure_loopback: bool = False,
        resolve: Resolve = system_resolve,
        user_agent: str = "vasculum",
    ) -> None:
        self._limits = limits or FetchLimits()
        self._insecure_loopback = insecure_loopback
        self._resolve = resolve
        self._user_agent = user_agent

    async def get(self, url: str) -> Fetched:
        """The body, whole.

        Raises:
            FetchRefused: this address, or one it redirects to, must not be asked, or the answer is of another type.
            TransportError: no answer, too slow, or too large.
        """
        body = bytearray()
        fetched = await self.stream(url, body.extend)
        return Fetched(
            url=fetched.url,
            status=fetched.status,
            content_type=fetched.content_type,
            body=bytes(body),
            headers=fetched.headers,
        )

    async def stream(
        self,
        url: str,
        sink: Callable[[bytes], object],
        *,
        if_none_match: str = "",
        if_modified_since: str = "",
        part: tuple[int, int] | None = None,
    ) -> Fetched:
        """Hands the body of a 200 answer to ``sink`` in pieces; the returned value has an empty body.

        Args:
            url: the address.
            sink: takes the pieces in order.
            if_none_match: the entity tag of what is known already; then the answer may be 304.
            if_modified_since: the same by time, as the server wrote it.
            part: offset and length of the bytes that are wanted; then the body of a 206 answer is handed on, too.

        Raises:
            FetchRefused, TransportError: as for ``get``; ``sink`` may have been given some pieces then.
        """
        conditions = {"If-None-Match": if_none_match, "If-Modified-Since": if_modified_since}
        headers = {
            name: value for name, value in conditions.items() if value and value.isascii() and value.isprintable()
        }
        if part is not None:
            headers["Range"] = f"bytes={part[0]}-{part[0] + part[1] - 1}"
        try:
            async with asyncio.timeout(self._limits.timeout_s):
                return await self._follow(url, sink, headers)
        except TimeoutError as error:
            raise TransportError(f"no complete answer within {self._limits.timeout_s:g} s") from error

    async def _follow(self, text: str, sink: Callable[[bytes], object], headers: Mapping[str, str]) -> Fetched:
        began_on_loopback: bool | None = None
        for _ in range(MAX_REDIRECTS + 1):
            target = check_url(text, insecure_loopback=self._insecure_loopback, limits=self._limits)
            if began_on_loopback is None:
                began_on_loopback = target.is_loopback
            elif target.is_loopback and not began_on_loopback:
                raise FetchRefused("a redirect leads to this machine")
            answer = await self._one(target, sink, headers)
            if isinstance(answer, Fetched):
                return answer
            text = answer
        raise FetchRefused(f"more than {MAX_REDIRECTS} redirects")

    async def _one(
        self, target: CheckedUrl, sink: Callable[[bytes], object], headers: Mapping[str, str]
    ) -> Fetched | str:
        resolver = _CheckingResolver(self._resolve)
        connector = aiohttp.TCPConnector(resolver=resolver, use_dns_cache=False, force_close=True, limit=1)
        try:
            async with (
                aiohttp.ClientSession(
                    connector=connector,
                    trust_env=False,
                    auto_decompress=False,
                    cookie_jar=aiohttp.DummyCookieJar(),
                    requote_redirect_url=False,
                ) as session,
                session.get(
                    target.url,
                    allow_redirects=False,
                    headers={**headers, "Accept-Encoding": "identity", "User-Agent": self._user_agent},
                    timeout=aiohttp.ClientTimeout(total=self._limits.timeout_s),
                ) as response,
            ):
                self._check_peer(target, response)
                if response.status in (301, 302, 303, 307, 308):
                    return _redirect(target, response.headers.get("Location", ""))
                return await self._read(target, response, sink, {200, 206} if "Range" in headers else {200})
        except (FetchRefused, TransportError):
            raise
        except aiohttp.ClientConnectorError as error:
            for cause in (error.__cause__, error.__context__, error.os_error):
                if isinstance(cause, TransportError):
                    raise cause from error
            raise TransportError(f"cannot connect: {error.os_error.strerror or error.os_error}") from error
        except (aiohttp.ClientError, ConnectionError, OSError, ValueError) as error:
            raise TransportError(" ".join(str(error).split())[:200] or type(error).__name__) from error

    def _check_peer(self, target: CheckedUrl, response: aiohttp.ClientResponse) -> None:
        connection: Any = response.connection
        transport = None if connection is None else connection.transport
        peer = None if transport is None else transport.get_extra_info("peername")
        if peer is None:
            return  # the answer was so short that the connection is released already; it was made to a checked address
        address = str(peer[0])
        if target.is_loopback:
            if not ipaddress.ip_address(address).is_loopback:
                raise FetchRefused("the connection went elsewhere")
        elif not is_public_address(address):
            raise FetchRefused("the connection went to an address that is not on the public internet")

    async def _read(
        self, target: CheckedUrl, response: aiohttp.ClientResponse, sink: Callable[[bytes], object], statuses: set[int]
    ) -> Fetched:
        kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if response.status in statuses:
            wanted = self._limits.content_types
            if wanted and not any(kind == item or (item.endswith("/") and kind.startswith(item)) for item in wanted):
                raise FetchRefused(f"the answer is of type {kind[:60] or 'unknown'}, expected {', '.join(wanted)}")
            if response.headers.get("Content-Encoding", "identity").lower() != "identity":
                raise FetchRefused("the answer is compressed although that was not asked for")
            length = response.headers.get("Content-Length", "")
            if length.isdigit() and int(length) > self._limits.max_bytes:
                raise AnswerTooLarge(f"the answer is larger than {self._limits.max_bytes} bytes")
            received = 0
            async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
                received += len(chunk)
                if received > self._limits.max_bytes:
                    raise AnswerTooLarge(f"the answer is larger than {self._limits.max_bytes} bytes")
                sink(chunk)
        return Fetched(
            url=str(target.url),
            status=response.status,
            content_type=kind,
            body=b"",
            headers={name.lower(): value for name, value in response.headers.items()},
        )


def _redirect(target: CheckedUrl, location: str) -> str:
    if not location or len(location) > MAX_URL_CHARS or not _ALLOWED.match(location):
        raise FetchRefused("a redirect leads nowhere")
    try:
        return str(target.url.join(URL(location, encoded=True)))
    except (ValueError, IndexError) as error:  # the library takes brackets without an end for a host
        raise FetchRefused("a redirect leads nowhere") from error
