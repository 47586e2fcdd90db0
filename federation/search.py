"""Asking nodes' public searches: the request for a selection, and how much of it a node covers."""

import json
from urllib.parse import urlencode

from federation.errors import TransportError
from federation.transport import OutgoingRequest, Transport
from linkeddata.coverage import Covered, parse_search_coverage
from linkeddata.errors import DocumentError
from linkeddata.json_strict import parse_json
from linkeddata.selection import Selection

_LONGEST_ADDRESS = 2000
"""Longer ones are refused by some proxies; what does not fit travels as a body."""


def search_request(
    origin: str, selection: Selection, *, limit: int, covers: bool = False, timeout_s: float = 30.0
) -> OutgoingRequest:
    """An address while parameters can say it and it is short, else a body."""
    pairs = selection.to_pairs()
    ours = [("limit", str(limit)), *([("covers", "true")] if covers else [])]
    if pairs is not None:
        url = f"{origin}/search?{urlencode([*pairs, *ours])}"
        if len(url) <= _LONGEST_ADDRESS and all(value for _, value in pairs):
            return OutgoingRequest(method="GET", url=url, headers={"Accept": "application/json"}, timeout_s=timeout_s)
    document = {"selection": selection.to_json(), "limit": limit, "covers": covers}
    return OutgoingRequest(
        method="POST",
        url=f"{origin}/search",
        headers={"Accept": "application/json", "Content-Type": "application/json"},
        body=json.dumps(document, ensure_ascii=False).encode(),
        timeout_s=timeout_s,
    )


async def ask_coverage(
    transport: Transport, origin: str, selection: Selection, *, timeout_s: float = 30.0
) -> Covered | None:
    """How much a node covers by its public search; None when it does not say."""
    request = search_request(origin, selection, limit=1, covers=True, timeout_s=timeout_s)
    try:
        answer = await transport.send(request)
        if answer.status != 200:
            return None
        return parse_search_coverage(parse_json(answer.body, max_bytes=request.max_bytes))
    except (TransportError, DocumentError):
        return None
