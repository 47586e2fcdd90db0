"""Which keys speak for a node, from one descriptor to the next. Pure.

Trust on first use per origin, then continuity.

Invariants:
- A descriptor is signed by one of its own signing keys, and every key id in it is the id of the key beside it.
- It is for the origin it was asked from (or pinned under); an http origin only on loopback and only where allowed.
- A sequence number never goes back; the same number with other content is refused.
- New signing keys are signed by a pinned signing key, or by the pinned recovery key;
  anything else is "the key changed".
- The recovery key itself changes only with its own signature: a stolen signing key cannot lock the owner out.

It leaves out: fetching, storing pins, and telling a person.
"""

import base64
import binascii
import ipaddress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal
from urllib.parse import urlsplit

from federation.errors import DescriptorRefused
from federation.identity import AnyKey, kid_of, parse_kid
from federation.plain_text import has_control
from linkeddata.canon import digest_text
from linkeddata.descriptor import NodeDescriptor, parse_node_descriptor
from linkeddata.envelope import NODE_DESCRIPTOR, Envelope, open_envelope
from linkeddata.errors import DocumentError
from linkeddata.json_strict import Json, as_object, get_int, get_str, get_strings

CLOCK_TOLERANCE: Final = timedelta(minutes=5)
"""Clocks of institutions that keep no time service differ by minutes; a descriptor lives for days."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pin:
    """What is remembered of an origin."""

    origin: str
    signing: frozenset[str]
    recovery: frozenset[str]
    seq: int
    digest: str

    def to_json(self) -> dict[str, Json]:
        """For a file or table of ours."""
        return {
            "origin": self.origin,
            "signing": sorted(self.signing),
            "recovery": sorted(self.recovery),
            "seq": self.seq,
            "digest": self.digest,
        }


def parse_pin(value: Json) -> Pin:
    """The reverse of ``Pin.to_json``."""
    document = as_object(value, "a pin")
    return Pin(
        origin=get_str(document, "origin"),
        signing=frozenset(get_strings(document, "signing", max_items=20)),
        recovery=frozenset(get_strings(document, "recovery", max_items=20)),
        seq=get_int(document, "seq", low=0, high=2**53 - 1),
        digest=get_str(document, "digest"),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownNode:
    """A descriptor that was found good, and the pin to remember."""

    descriptor: NodeDescriptor
    pin: Pin
    continuity: Literal["first", "same", "updated", "recovered"]


def verify_descriptor(
    envelope: Envelope,
    *,
    origin: str,
    pin: Pin | None,
    now: datetime,
    insecure_loopback: bool,
    may_be_expired: bool = False,
) -> KnownNode:
    """A pulled or cached envelope as a node that is known.

    Args:
        envelope: as received.
        origin: from where it was asked, or under which it is kept.
        pin: what is remembered of that origin; None the first time.
        now: the time.
        insecure_loopback: whether http loopback origins are acceptable here.
        may_be_expired: for showing an old cache; never for sending something.

    Raises:
        DescriptorRefused: with the reason.
    """
    # 1. Signed by whoever signed; parsed only then.
    try:
        verified = open_envelope(envelope, payload_type=NODE_DESCRIPTOR, verifier=AnyKey())
        descriptor = parse_node_descriptor(verified.value)
        digest = digest_text(verified.value)
    except DocumentError as error:
        raise DescriptorRefused(f"not a good descriptor: {error}") from error
    if has_control(verified.value):
        raise DescriptorRefused("the descriptor holds control characters")
    # 2. For this origin.
    if descriptor.origin != origin:
        raise DescriptorRefused(f"the descriptor is for {descriptor.origin}, not for {origin}")
    check_origin(origin, insecure_loopback=insecure_loopback and descriptor.insecure_loopback)
    # 3. Self-signed, and its key ids are what they say.
    for key in descriptor.keys:
        if not _is_key(key.kid, key.public_key):
            raise DescriptorRefused(f"the key id {key.kid[:60]} is not the id of the key beside it")
    signing = frozenset(key.kid for key in descriptor.keys if key.purpose == "sign")
    recovery = frozenset(key.kid for key in descriptor.keys if key.purpose == "recovery")
    if not signing.intersection(verified.kids):
        raise DescriptorRefused("the descriptor is not signed by one of its own keys")
    # 4. In its time.
    if descriptor.issued > now + CLOCK_TOLERANCE:
        raise DescriptorRefused("the descriptor was issued in the future (is a clock wrong?)")
    if descriptor.expires <= now and not may_be_expired:
        raise DescriptorRefused("the descriptor has expired")
    # 5. Continuity.
    continuity = _continuity(pin, descriptor.seq, digest, signing, recovery, frozenset(verified.kids))
    new = Pin(origin=origin, signing=signing, recovery=recovery, seq=descriptor.seq, digest=digest)
    return KnownNode(descriptor=descriptor, pin=new, continuity=continuity)


def check_origin(origin: str, *, insecure_loopback: bool) -> None:
    """Refuses an origin that is neither https nor an allowed loopback one.

    Raises:
        DescriptorRefused: with the reason.
    """
    parts = urlsplit(origin)
    if parts.scheme == "https":
        return
    try:
        is_loopback = ipaddress.ip_address(parts.hostname or "").is_loopback
    except ValueError:
        is_loopback = False
    if not (parts.scheme == "http" and is_loopback and insecure_loopback):
        raise DescriptorRefused("a node's origin is https (http only for trials on one machine: insecure_loopback)")


def _continuity(
    pin: Pin | None, seq: int, digest: str, signing: frozenset[str], recovery: frozenset[str], kids: frozenset[str]
) -> Literal["first", "same", "updated", "recovered"]:
    if pin is None:
        return "first"
    if seq < pin.seq:
        raise DescriptorRefused(f"its sequence number went back from {pin.seq} to {seq}")
    if seq == pin.seq:
        if digest != pin.digest:
            raise DescriptorRefused(f"two different descriptors carry the sequence number {seq}")
        return "same"
    by_recovery = bool(kids & pin.recovery)
    if not by_recovery and not kids & pin.signing:
        raise DescriptorRefused("the key changed, and neither the old key nor the recovery key signed the change")
    if recovery != pin.recovery and pin.recovery and not by_recovery:
        raise DescriptorRefused("the recovery key changed without its own signature")
    return "recovered" if by_recovery and not signing & pin.signing else "updated"


def _is_key(kid: str, public_key: str) -> bool:
    try:
        raw = base64.urlsafe_b64decode(public_key + "=" * (-len(public_key) % 4))
        parse_kid(kid)
    except (binascii.Error, ValueError, DocumentError):
        return False
    return kid_of(raw) == kid
