"""Lists: search for people and programs, and the publication log for harvesters.

``/changes`` is stateless, dense and keyset-paged: a harvester keeps the last ``seq`` it has seen and asks for what
came after; nothing expires, nothing is skipped, and an empty page means it is up to date.
"""

import json
import sqlite3
from typing import Any, Final
from urllib.parse import urlencode

from aiohttp import web

from linkeddata.selection import Selection
from node.access import Door, decide
from node.storage.facts import medium_facts
from node.storage.records import changes_since, last_seq
from node.storage.search import Hit, search
from node.web.keys import DATABASE, SETTINGS
from node.web.negotiate import wants_html
from node.web.pages import called, render
from node.web.problem import Problem
from node.web.viewer import viewer_of

PAGE: Final = 24
MAX_PAGE: Final = 200
CHANGES_PAGE: Final = 250
"""Harvesters slow down with larger pages (linked-data clients parse them whole)."""
MAX_CHANGES_PAGE: Final = 1000
_PAGING: Final = frozenset({"after", "limit"})


def routes() -> list[web.RouteDef]:
    """The routes of this module."""
    return [web.get("/search", search_page), web.get("/changes", changes)]


async def search_page(request: web.Request) -> web.StreamResponse:
    """Specimens that fit GBIF-named parameters."""
    pairs = [(key, value) for key, value in request.query.items() if key not in _PAGING and value != ""]
    selection = Selection.from_pairs(pairs)
    limit = _number(request, "limit", PAGE, 1, MAX_PAGE)
    after = request.query.get("after", "")[:300]
    viewer = viewer_of(request)

    def look(conn: sqlite3.Connection) -> tuple[Any, dict[str, bool]]:
        page = search(conn, selection, viewer, limit=limit, after=after)
        shown = {
            hit.medium: _has_bytes(conn, hit.medium)
            and decide(viewer, Door.BYTES, medium_facts(conn, hit.medium)).allowed
            for hit in page.hits
            if hit.medium is not None
        }
        return page, shown

    page, shown = await request.app[DATABASE].read(look)
    next_query = None if page.next is None else urlencode([*pairs, ("limit", limit), ("after", page.next)])
    if wants_html(request):
        origin = request.app[SETTINGS].origin
        hits = [_card(hit, origin, shown) for hit in page.hits]
        context = {
            "hits": hits, "total": page.total, "next_query": next_query, "query": dict(pairs),
            "q": selection.q or "", "terms": [(key, value) for key, value in pairs if key != "q"],
        }  # fmt: skip
        return render(request, "search.html", context)
    document = {
        "total": page.total,
        "items": [
            {"id": hit.iri, "medium": hit.medium, "access": hit.access.label, "record": hit.body} for hit in page.hits
        ],
        "next": None if next_query is None else f"{request.app[SETTINGS].origin}/search?{next_query}",
    }
    return web.json_response(document, headers={"Access-Control-Allow-Origin": "*", "Vary": "Accept, Cookie"})


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


def _has_bytes(conn: sqlite3.Connection, medium: str) -> bool:
    """Not so for an image that lies elsewhere: a page of results must not cause fetches."""
    row = conn.execute("SELECT image FROM medium WHERE iri = ?", (medium,)).fetchone()
    return row is not None and row["image"] is not None


def _card(hit: Hit, origin: str, shown: dict[str, bool]) -> dict[str, Any]:
    return {
        "path": hit.iri.removeprefix(origin),
        "name": called(hit.body),
        "number": hit.body.get("dwc:catalogNumber", ""),
        "institution": hit.body.get("dwc:institutionCode", ""),
        "access": hit.access.label,
        "medium": hit.medium.removeprefix(origin) if hit.medium else None,
        "is_shown": bool(hit.medium and shown.get(hit.medium)),
    }


def _number(request: web.Request, name: str, default: int, low: int, high: int) -> int:
    text = request.query.get(name)
    if text is None or text == "":
        return default
    if not text.isascii() or not text.isdecimal() or len(text) > 16 or not low <= int(text) <= high:
        raise Problem(400, "bad-request", f"{name} cannot be used", f"{name} is a whole number from {low} to {high}.")
    return int(text)
