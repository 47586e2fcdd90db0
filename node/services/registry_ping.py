"""Telling registries that this node exists: at start and every 15 minutes. They then come and look."""

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from federation.errors import TransportError
from federation.transport import OutgoingRequest, Transport
from linkeddata.errors import DocumentError
from linkeddata.json_strict import as_object, get_str, parse_json

LOG = logging.getLogger(__name__)
PING_EVERY_S: Final = 900
"""How often to call ``registry_ping``; registries call a node stale after a day."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PingOutcome:
    """What a registry answered."""

    registry: str
    listed: bool
    detail: str


async def registry_ping(transport: Transport, *, origin: str, registries: Sequence[str]) -> list[PingOutcome]:
    """Asks every registry to look at ``origin``; never raises, the outcomes say what went wrong."""
    outcomes: list[PingOutcome] = []
    for registry in registries:
        outcome = await _ping(transport, origin, registry)
        if not outcome.listed:
            LOG.warning("registry %s: %s", registry, outcome.detail)
        outcomes.append(outcome)
    return outcomes


async def _ping(transport: Transport, origin: str, registry: str) -> PingOutcome:
    request = OutgoingRequest(
        method="POST",
        url=f"{registry.rstrip('/')}/ping",
        headers={"Content-Type": "application/json"},
        body=json.dumps({"origin": origin}).encode(),
        timeout_s=30,
        max_bytes=65_536,
    )
    try:
        answer = await transport.send(request)
        document = as_object(parse_json(answer.body), "an answer")
        if answer.status == 200:
            return PingOutcome(registry=registry, listed=True, detail=get_str(document, "health", default="listed"))
        return PingOutcome(registry=registry, listed=False, detail=get_str(document, "detail", default="refused"))
    except (TransportError, DocumentError) as error:
        return PingOutcome(registry=registry, listed=False, detail=str(error))
