"""Telling registries that this node exists: when it listens and every 15 minutes. They then come and look.

A registry that did not list the node is asked again soon, ever more rarely: the first ping of a node often meets a
front server or a registry that is itself still starting, and nobody should wait a quarter of an hour for that.
"""

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from federation.errors import TransportError
from federation.transport import OutgoingRequest, Transport
from linkeddata.errors import DocumentError
from linkeddata.json_strict import as_object, get_str, parse_json

LOG = logging.getLogger(__name__)
PING_EVERY: Final = timedelta(minutes=15)
"""To a registry that lists the node; registries call a node stale after a day."""
FIRST_PAUSE: Final = timedelta(seconds=5)
"""After a ping that was not followed by a listing; doubles up to ``PING_EVERY``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PingOutcome:
    """What a registry answered."""

    registry: str
    listed: bool
    detail: str


class Heartbeat:
    """Remembers when each registry is to be pinged again; lives in memory, because a ping too many harms nobody."""

    def __init__(self, registries: Sequence[str]) -> None:
        self._registries = tuple(registries)
        self._is_listening = False
        self._due: dict[str, datetime] = {}
        self._failures: dict[str, int] = {}

    def begin(self) -> None:
        """The node listens from now on; a registry that came before that would find nobody."""
        self._is_listening = True

    def due(self, now: datetime) -> list[str]:
        """The registries to ping now."""
        if not self._is_listening:
            return []
        return [registry for registry in self._registries if registry not in self._due or self._due[registry] <= now]

    def after(self, outcomes: Sequence[PingOutcome], *, now: datetime, jitter: float = 0.0) -> None:
        """Takes in what was answered; ``jitter`` (0 to 1) shortens the long pause by up to a fifth."""
        for outcome in outcomes:
            failures = 0 if outcome.listed else self._failures.get(outcome.registry, 0) + 1
            pause = PING_EVERY * (1 - jitter / 5)
            if failures:
                pause = min(FIRST_PAUSE * (1 << min(failures - 1, 10)), pause)
            self._failures[outcome.registry] = failures
            self._due[outcome.registry] = now + pause


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
