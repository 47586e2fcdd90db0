"""What a registry knows, and when it asks again. Pure: pulling, storing and serving are done around it.

A registry pulls descriptors from their own origins. It can leave a node out or show an old descriptor;
it cannot make one up, because every reader checks the node's own signature.

Invariants:
- An entry's envelope is exactly what the origin served, found good by ``continuity.verify_descriptor``.
- A bad answer never replaces a good entry; it is counted and shown as its last problem.
- Health is a function of times: fresh (under 24 h since the last good pull), stale, lost (over 30 days).
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final, Literal

from federation.continuity import Pin, verify_descriptor
from federation.plain_text import without_control
from linkeddata.descriptor import MAX_BYTES, NodeDescriptor
from linkeddata.envelope import Envelope, parse_envelope
from linkeddata.errors import DocumentError
from linkeddata.json_strict import Json, as_object, get_list, get_object, get_str
from linkeddata.times import format_time, parse_time

Health = Literal["fresh", "stale", "lost"]
STALE_AFTER: Final = timedelta(hours=24)
LOST_AFTER: Final = timedelta(days=30)
PULL_EVERY: Final = timedelta(minutes=15)
"""10,000 nodes at this pace are 11 requests a second."""
MAX_PAUSE: Final = timedelta(hours=12)
MAX_ENTRIES: Final = 20_000
"""Far more institutions than there are herbaria (about 3,500); bounds what strangers can register."""
MAX_LIST: Final = 5000


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One node in the registry."""

    origin: str
    envelope: Envelope
    pin: Pin
    first_seen: datetime
    last_success: datetime
    last_try: datetime
    failures: int = 0
    """Since the last success."""
    problem: str = ""


def after_success(entry: Entry | None, envelope: Envelope, origin: str, *, now: datetime, insecure: bool) -> Entry:
    """The entry after the origin served this envelope.

    Raises:
        DescriptorRefused: it cannot be believed; use ``after_failure``.
    """
    known = verify_descriptor(
        envelope, origin=origin, pin=None if entry is None else entry.pin, now=now, insecure_loopback=insecure
    )
    return Entry(
        origin=origin,
        envelope=envelope,
        pin=known.pin,
        first_seen=now if entry is None else entry.first_seen,
        last_success=now,
        last_try=now,
    )


def after_failure(entry: Entry, problem: str, *, now: datetime) -> Entry:
    """The entry after a pull that failed or brought something that cannot be believed."""
    return replace(entry, last_try=now, failures=entry.failures + 1, problem=problem[:300])


def health(last_success: datetime, now: datetime) -> Health:
    """How fresh what is known is."""
    age = now - last_success
    if age >= LOST_AFTER:
        return "lost"
    return "stale" if age >= STALE_AFTER else "fresh"


def is_due(entry: Entry, now: datetime) -> bool:
    """Whether to pull again: every 15 minutes, ever more rarely while it fails, at most 12 hours apart."""
    pause = min(PULL_EVERY * (1 << min(entry.failures, 10)), MAX_PAUSE)
    return now - entry.last_try >= pause


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedNode:
    """One line of a registry's list, as a reader gets it: the envelope is still to be verified."""

    origin: str
    envelope: Envelope
    last_success: datetime
    health: str
    problem: str = ""

    def to_json(self) -> dict[str, Json]:
        """For the list."""
        return {
            "origin": self.origin,
            "descriptor": self.envelope.to_json(),
            "lastSuccess": format_time(self.last_success),
            "health": self.health,
            "problem": self.problem,
        }


def list_document(entries: list[Entry], *, name: str, now: datetime) -> dict[str, Json]:
    """What ``GET /nodes`` answers; lost nodes stay listed as lost."""
    return {
        "type": "vasculum:NodeList",
        "schemaVersion": 1,
        "registry": name,
        "at": format_time(now),
        "nodes": [
            ListedNode(
                origin=entry.origin,
                envelope=entry.envelope,
                last_success=entry.last_success,
                health=health(entry.last_success, now),
                problem=entry.problem,
            ).to_json()
            for entry in entries[:MAX_LIST]
        ],
    }


def parse_node_list(value: Json) -> tuple[ListedNode, ...]:
    """A registry's list; lines that are malformed are left out, so that one bad line hides no other node.

    Raises:
        DocumentError: it is no list at all.
    """
    document = as_object(value, "a registry's list")
    if document.get("type") != "vasculum:NodeList":
        raise DocumentError("this is not a registry's list of nodes")
    found: dict[str, ListedNode] = {}
    for item in get_list(document, "nodes", max_items=MAX_LIST):
        try:
            line = as_object(item, "a node")
            listed = ListedNode(
                origin=get_str(line, "origin", max_chars=300),
                envelope=parse_envelope(get_object(line, "descriptor"), max_bytes=2 * MAX_BYTES),
                last_success=parse_time(get_str(line, "lastSuccess", max_chars=30)),
                health=without_control(get_str(line, "health", max_chars=20)),
                problem=without_control(get_str(line, "problem", max_chars=300, default="")),
            )
        except DocumentError:
            continue
        found.setdefault(listed.origin, listed)
    return tuple(found.values())


def matches_summary(descriptor: NodeDescriptor, kingdoms: tuple[str, ...]) -> bool:
    """Whether the node's own summary leaves room for specimens of these kingdoms; unknown counts as room."""
    if not kingdoms or not descriptor.holdings.kingdoms:
        return True
    held = {name.casefold() for name, count in descriptor.holdings.kingdoms.items() if count > 0}
    named = sum(descriptor.holdings.kingdoms.values())
    return any(name.casefold() in held for name in kingdoms) or named < descriptor.holdings.specimens
