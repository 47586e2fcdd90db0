"""The publication log for harvesters.

``/changes`` is stateless, dense and keyset-paged: a harvester keeps the last ``seq`` it has seen and asks for what
came after; nothing expires, nothing is skipped, and an empty page means it is up to date.
"""

import json
from typing import Any, Final

from aiohttp import web

from node.storage.records import changes_since, last_seq
from node.web.keys import DATABASE, SETTINGS
from node.web.problem import Problem

CHANGES_PAGE: Final = 250
"""Harvesters slow down with larger pages (linked-data clients parse them whole)."""
MAX_CHANGES_PAGE: Final = 1000


def routes() -> list[web.RouteDef]:
    """The routes of this module."""
    return [web.get("/changes", changes)]


async def changes(request: web.Request) -> web.StreamResponse:
    """The publication log after ``since``."""
    since = _number(request, "since", 0, 0, 2**53)
    limit = _number(request, "limit", CHANGES_PAGE, 1, MAX_CHANGES_PAGE)
    entries, newest = await request.app[DATABASE].read(
        lambda conn: (changes_since(conn, since, limit=limit), last_seq(conn))
    )
    origin = request.app[SETTINGS].origin
    last = entries[-1].seq if entries else since
    document: dict[str, Any] = {
        "type": "vasculum:Changes",
        "origin": origin,
        "since": since,
        "last": newest,
        "items": [entry.to_json() for entry in entries],
        "next": f"{origin}/changes?since={last}&limit={limit}",
        "more": last < newest,
    }
    return web.Response(
        text=json.dumps(document, ensure_ascii=False),
        content_type="application/json",
        headers={"Access-Control-Allow-Origin": "*", "Cache-Control": "no-cache"},
    )


def _number(request: web.Request, name: str, default: int, low: int, high: int) -> int:
    text = request.query.get(name)
    if text is None or text == "":
        return default
    if not text.isascii() or not text.isdecimal() or len(text) > 16 or not low <= int(text) <= high:
        raise Problem(400, "bad-request", f"{name} cannot be used", f"{name} is a whole number from {low} to {high}.")
    return int(text)
