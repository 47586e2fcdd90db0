"""The node descriptor: who a node is, which keys speak for it, what it offers and what it allows. Self-signed.

It is pulled from the node's own origin (or served from any mirror: the signature travels with it), expires within
30 days, and carries a sequence number that never goes back.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, Literal

from linkeddata.errors import DocumentError
from linkeddata.json_strict import (
    Json,
    as_object,
    extra_members,
    get_bool,
    get_int,
    get_list,
    get_object,
    get_str,
    get_strings,
)
from linkeddata.times import format_time, parse_time

MAX_BYTES: Final = 65_536
"""A registry holds thousands of descriptors; one that is larger than 64 KiB is not a description."""
MAX_LIFETIME: Final = timedelta(days=30)
_ORIGIN = re.compile(r"https?://(?:[a-z0-9.\-]+|\[[0-9a-f:]+\])(?::[1-9][0-9]{0,4})?\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeKey:
    """A public key and what it is for."""

    kid: str
    public_key: str
    """Ed25519, 32 bytes, base64url without padding."""
    purpose: Literal["sign", "recovery", "retired"]

    def to_json(self) -> dict[str, Json]:
        """For the descriptor."""
        return {"kid": self.kid, "publicKey": self.public_key, "purpose": self.purpose}


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineOffer:
    """A pipeline the node runs."""

    output: str
    name: str
    version: str
    digest: str
    environment: str
    conformance: str
    title: str = ""

    def to_json(self) -> dict[str, Json]:
        """For the descriptor."""
        return {
            "output": self.output,
            "name": self.name,
            "version": self.version,
            "title": self.title,
            "digest": self.digest,
            "environment": self.environment,
            "conformance": self.conformance,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Holdings:
    """What the node has, in numbers that are public."""

    specimens: int
    media: int
    digest: str
    kingdoms: Mapping[str, int]
    updated: datetime

    def to_json(self) -> dict[str, Json]:
        """For the descriptor."""
        return {
            "specimens": self.specimens,
            "media": self.media,
            "digest": self.digest,
            "kingdoms": dict(self.kingdoms),
            "updated": format_time(self.updated),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicySummary:
    """The node's policy, readable before anything is sent."""

    preset: str
    rules: tuple[str, ...]

    def to_json(self) -> dict[str, Json]:
        """For the descriptor."""
        return {"preset": self.preset, "rules": list(self.rules)}


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeDescriptor:
    """Everything a peer needs to know before it trusts or asks."""

    origin: str
    name: str
    seq: int
    issued: datetime
    expires: datetime
    keys: tuple[NodeKey, ...]
    pipelines: tuple[PipelineOffer, ...]
    policy: PolicySummary
    holdings: Holdings
    contact: str = ""
    insecure_loopback: bool = False
    software: str = "vasculum"
    extra: Mapping[str, Json] = field(default_factory=dict)

    def key(self, kid: str, *, purpose: str = "sign") -> NodeKey | None:
        """The key of this name and purpose."""
        return next((item for item in self.keys if item.kid == kid and item.purpose == purpose), None)

    def to_json(self) -> dict[str, Json]:
        """The document that is signed."""
        return {
            **self.extra,
            "type": "vasculum:NodeDescriptor",
            "schemaVersion": 1,
            "origin": self.origin,
            "name": self.name,
            "contact": self.contact,
            "seq": self.seq,
            "issued": format_time(self.issued),
            "expires": format_time(self.expires),
            "keys": [key.to_json() for key in self.keys],
            "endpoints": {
                "changes": "/changes",
                "search": "/search",
                "processes": "/processes",
                "jobs": "/jobs",
                "content": "/cas/sha256/",
            },
            "pipelines": [item.to_json() for item in self.pipelines],
            "policy": self.policy.to_json(),
            "holdings": self.holdings.to_json(),
            "insecureLoopback": self.insecure_loopback,
            "software": self.software,
        }


_MEMBERS: Final = frozenset(
    {
        "type", "schemaVersion", "origin", "name", "contact", "seq", "issued", "expires", "keys", "endpoints",
        "pipelines", "policy", "holdings", "insecureLoopback", "software",
    }
)  # fmt: skip


def parse_node_descriptor(value: Json) -> NodeDescriptor:
    """A payload as a descriptor; whether its signature fits is for ``federation.continuity``.

    Raises:
        DocumentError: it is not one, or lives longer than 30 days.
    """
    document = as_object(value, "a node descriptor")
    if document.get("type") != "vasculum:NodeDescriptor" or document.get("schemaVersion") != 1:
        raise DocumentError("not a node descriptor of schemaVersion 1")
    origin = get_str(document, "origin", max_chars=300)
    if not _ORIGIN.match(origin):
        raise DocumentError("origin must be a web origin in lower case without a path")
    issued = parse_time(get_str(document, "issued", max_chars=30))
    expires = parse_time(get_str(document, "expires", max_chars=30))
    if not timedelta(0) < expires - issued <= MAX_LIFETIME:
        raise DocumentError("expires must be after issued, by at most 30 days")
    keys = tuple(_key(item) for item in get_list(document, "keys", max_items=20))
    if not any(key.purpose == "sign" for key in keys) or len({key.kid for key in keys}) != len(keys):
        raise DocumentError("keys must hold at least one signing key, each name once")
    holdings = get_object(document, "holdings")
    kingdoms = get_object(holdings, "kingdoms")
    if len(kingdoms) > 100:
        raise DocumentError("kingdoms has more than 100 names")
    policy = get_object(document, "policy")
    return NodeDescriptor(
        origin=origin,
        name=get_str(document, "name", max_chars=200),
        contact=get_str(document, "contact", max_chars=300, default=""),
        seq=get_int(document, "seq", low=1, high=2**53 - 1),
        issued=issued,
        expires=expires,
        keys=keys,
        pipelines=tuple(_offer(item) for item in get_list(document, "pipelines", max_items=100)),
        policy=PolicySummary(
            preset=get_str(policy, "preset", max_chars=40),
            rules=get_strings(policy, "rules", max_items=100, max_chars=600),
        ),
        holdings=Holdings(
            specimens=get_int(holdings, "specimens", low=0, high=2**40),
            media=get_int(holdings, "media", low=0, high=2**40),
            digest=get_str(holdings, "digest", max_chars=100),
            kingdoms={name[:100]: get_int(kingdoms, name, low=0, high=2**40) for name in kingdoms},
            updated=parse_time(get_str(holdings, "updated", max_chars=30)),
        ),
        insecure_loopback=get_bool(document, "insecureLoopback", default=False),
        software=get_str(document, "software", max_chars=100, default=""),
        extra=extra_members(document, _MEMBERS),
    )


def _key(value: Json) -> NodeKey:
    key = as_object(value, "a key")
    purpose = get_str(key, "purpose", max_chars=20)
    if purpose not in ("sign", "recovery", "retired"):
        raise DocumentError("purpose is sign, recovery or retired")
    return NodeKey(
        kid=get_str(key, "kid", max_chars=120),
        public_key=get_str(key, "publicKey", max_chars=60),
        purpose="sign" if purpose == "sign" else "recovery" if purpose == "recovery" else "retired",
    )


def _offer(value: Json) -> PipelineOffer:
    offer = as_object(value, "a pipeline")
    return PipelineOffer(
        output=get_str(offer, "output", max_chars=60),
        name=get_str(offer, "name", max_chars=60),
        version=get_str(offer, "version", max_chars=40),
        title=get_str(offer, "title", max_chars=200, default=""),
        digest=get_str(offer, "digest", max_chars=80),
        environment=get_str(offer, "environment", max_chars=80),
        conformance=get_str(offer, "conformance", max_chars=20),
    )
