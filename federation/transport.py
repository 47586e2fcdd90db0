"""The port through which a client talks to nodes and registries. HTTP is one adapter; tests bring another."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

MAX_ANSWER_BYTES: Final = 4_194_304
"""A result page of 500 rows has about 300 kB; ten times that is a broken or hostile node."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutgoingRequest:
    """What is sent; ``url`` is absolute and encoded, exactly as signed."""

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    timeout_s: float = 30.0
    max_bytes: int = MAX_ANSWER_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back, whole."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes


class Transport(Protocol):
    """Sends one request and brings one whole answer; never follows redirects, never retries."""

    async def send(self, request: OutgoingRequest) -> Answer:
        """The answer, of any status.

        Raises:
            TransportError: there was none: unreachable, too slow, cut off, or larger than ``max_bytes``.
        """
        ...
