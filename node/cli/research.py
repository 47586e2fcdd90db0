"""What the researcher's commands share: the key, the ports, finding nodes, and a cache of what was found.

The cache remembers descriptors and pins, so that a registry that is down hides nobody and a changed key is noticed.
"""

import asyncio
import json
import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

from federation.client import ClientPorts, fetch_descriptor, list_registry
from federation.continuity import KnownNode, Pin, parse_pin, verify_descriptor
from federation.errors import DescriptorRefused, FederationError, KeyFileError, TransportError
from federation.identity import SigningKey
from federation.transport import Transport
from linkeddata.descriptor import NodeDescriptor
from linkeddata.envelope import Envelope, parse_envelope
from linkeddata.errors import DocumentError
from linkeddata.json_strict import as_object, get_bool, get_object, get_str, get_strings, parse_json
from linkeddata.times import format_time, parse_time
from node.cli.errors import UserError


def default_key_path() -> Path:
    """Where a researcher's key lies unless said otherwise."""
    base = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(base) / "vasculum" / "researcher.key"


def state_folder() -> Path:
    """Where handles and the cache lie."""
    base = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(base) / "vasculum"


def load_key(path: Path | None) -> SigningKey:
    """The researcher's key, or one line that says how to get one."""
    chosen = path or default_key_path()
    try:
        return SigningKey.load(chosen)
    except KeyFileError as error:
        hint = "" if chosen.exists() else ": make one with `vasculum key new`"
        raise UserError(f"{error}{hint}") from error


def check_address(url: str) -> str:
    """A node's or registry's address as an origin."""
    parts = urlsplit(url if "://" in url else f"https://{url}")
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/") or parts.query:
        raise UserError(f"{url!r} is not an address like https://images.example.org")
    if parts.scheme == "http" and not is_loopback(url):
        raise UserError(f"{url}: http is for trials on one machine only (http://127.0.0.1:PORT); write https://")
    return f"{parts.scheme}://{parts.netloc.lower()}"


def is_loopback(url: str) -> bool:
    """Whether this is http on this machine."""
    return url.startswith(("http://127.", "http://[::1]"))


def make_ports(
    transport: Transport, key: SigningKey, addresses: Sequence[str], *, timeout_s: float = 30.0
) -> ClientPorts:
    """The client's ports; loopback http only where the addresses given are of that kind."""
    return ClientPorts(
        transport=transport,
        key=key,
        clock=lambda: datetime.now(UTC),
        nonce=lambda: secrets.token_urlsafe(16),
        insecure_loopback=any(is_loopback(item) for item in addresses),
        timeout_s=timeout_s,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A node that is known, and what is known of it."""

    origin: str
    descriptor: NodeDescriptor
    pin: Pin
    envelope: Envelope
    seen: datetime
    """When the descriptor came from its origin, as far as we know."""
    health: str = ""
    """As the registry sees it; empty without one."""


@dataclass(slots=True, kw_only=True)
class Finding:
    """What looking for nodes came to."""

    nodes: dict[str, Found] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cached:
    """One line of the cache."""

    pin: Pin
    envelope: Envelope
    seen: datetime
    registries: frozenset[str]
    direct: bool
    """Whether the origin itself gave it once: only then its keys are pinned."""


class NodeCache:
    """Descriptors and pins by origin, in one file."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path or state_folder() / "nodes.json"
        self.lines: dict[str, Cached] = {}
        try:
            document = as_object(parse_json(self._path.read_bytes(), max_bytes=2**28), "the cache")
            for origin, item in document.items():
                self.lines[origin] = Cached(
                    pin=parse_pin(get_object(item, "pin")),
                    envelope=parse_envelope(get_object(item, "descriptor")),
                    seen=parse_time(get_str(item, "seen")),
                    registries=frozenset(get_strings(item, "registries", max_items=100)),
                    direct=get_bool(item, "direct", default=False),
                )
        except (OSError, DocumentError, AttributeError):
            self.lines = {}

    def pin(self, origin: str) -> Pin | None:
        """What is remembered of an origin's keys."""
        line = self.lines.get(origin)
        return line.pin if line is not None and line.direct else None

    def remember(self, found: Found, *, registry: str | None = None) -> None:
        """Keeps a good descriptor; from a registry when one is named, else from the origin itself."""
        old = self.lines.get(found.origin)
        registries = (old.registries if old else frozenset()) | ({registry} if registry else frozenset())
        self.lines[found.origin] = Cached(
            pin=found.pin,
            envelope=found.envelope,
            seen=found.seen,
            registries=registries,
            direct=registry is None or (old is not None and old.direct),
        )

    def save(self) -> None:
        """Writes the file; a cache that cannot be written is no reason to stop."""
        document = {
            origin: {
                "pin": line.pin.to_json(),
                "descriptor": line.envelope.to_json(),
                "seen": format_time(line.seen),
                "registries": sorted(line.registries),
                "direct": line.direct,
            }
            for origin, line in self.lines.items()
        }
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            draft = self._path.with_name(f".{self._path.name}.{os.getpid()}")
            draft.write_text(json.dumps(document), encoding="utf-8")
            draft.replace(self._path)
        except OSError:
            return


async def find_nodes(
    ports: ClientPorts, *, registries: Sequence[str], nodes: Sequence[str], cache: NodeCache
) -> Finding:
    """Every node that the registries list or that is named; from the cache where a registry does not answer."""
    finding = Finding()
    for registry in registries:
        await _ask_registry(ports, registry, cache, finding)
    fetched = await asyncio.gather(*(refresh(ports, origin, cache) for origin in nodes), return_exceptions=True)
    for origin, outcome in zip(nodes, fetched, strict=True):
        if isinstance(outcome, Found):
            finding.nodes[origin] = outcome
        elif isinstance(outcome, FederationError):
            finding.problems.append(f"{origin}: {outcome}")
            cached = _from_cache(ports, origin, cache)
            if cached is not None:
                finding.nodes.setdefault(origin, cached)
        elif isinstance(outcome, BaseException):
            raise outcome
    cache.save()
    return finding


async def refresh(ports: ClientPorts, origin: str, cache: NodeCache) -> Found:
    """A node's descriptor from its own origin.

    Raises:
        FederationError: it cannot be reached or believed.
    """
    known, envelope = await fetch_descriptor(ports, origin, cache.pin(origin))
    found = _found(known, envelope, ports.clock())
    cache.remember(found)
    return found


async def _ask_registry(ports: ClientPorts, registry: str, cache: NodeCache, finding: Finding) -> None:
    try:
        listed = await list_registry(ports, registry)
    except (TransportError, DescriptorRefused) as error:
        known = [origin for origin, line in cache.lines.items() if registry in line.registries]
        finding.problems.append(f"registry {registry}: {error}; going on with {len(known)} nodes seen there before")
        for origin in known:
            cached = _from_cache(ports, origin, cache)
            if cached is not None:
                finding.nodes.setdefault(origin, cached)
        return
    for line in listed:
        try:
            known_node = verify_descriptor(
                line.envelope, origin=line.origin, pin=cache.pin(line.origin), now=ports.clock(),
                insecure_loopback=ports.insecure_loopback, may_be_expired=True,
            )  # fmt: skip
        except DescriptorRefused as error:
            finding.problems.append(f"{line.origin} (as {registry} lists it): {error}")
            continue
        found = Found(
            origin=line.origin, descriptor=known_node.descriptor, pin=known_node.pin, envelope=line.envelope,
            seen=line.last_success, health=line.health,
        )  # fmt: skip
        finding.nodes[line.origin] = found
        cache.remember(found, registry=registry)


def _from_cache(ports: ClientPorts, origin: str, cache: NodeCache) -> Found | None:
    line = cache.lines.get(origin)
    if line is None:
        return None
    try:
        known = verify_descriptor(
            line.envelope, origin=origin, pin=None, now=ports.clock(), insecure_loopback=ports.insecure_loopback,
            may_be_expired=True,
        )  # fmt: skip
    except DescriptorRefused:
        return None
    return _found(known, line.envelope, line.seen)


def _found(known: KnownNode, envelope: Envelope, seen: datetime) -> Found:
    return Found(
        origin=known.descriptor.origin, descriptor=known.descriptor, pin=known.pin, envelope=envelope, seen=seen
    )
