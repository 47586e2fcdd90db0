"""Remote images over HTTP: what is answered when one is not here (``node.services.remote_needs`` decides)."""

import asyncio
from typing import Final

from aiohttp import web

from cas.errors import StoreFailed
from cas.ids import ContentId
from node.access import Viewer
from node.services.remote_needs import Need
from node.web.keys import NEEDS
from node.web.problem import Problem

_ANSWERS: Final[dict[str, tuple[int, str]]] = {
    "being-fetched": (202, "The image is being fetched"),
    "elsewhere": (404, "The image lies elsewhere"),
    "not-fetched": (404, "The image could not be fetched"),
    "busy": (503, "Not now"),
    "replaced": (410, "The source now holds other bytes"),
}


async def need_of_medium(request: web.Request, iri: str, viewer: Viewer) -> Problem | None:
    """The answer to somebody who may see a medium whose image is not here; None when it is no remote one."""
    try:
        need = await asyncio.to_thread(request.app[NEEDS].of_medium, iri, is_staff=viewer.is_staff)
    except StoreFailed:
        return _refused()
    return None if need is None else _problem(need)


async def need_of_bytes(request: web.Request, cid: ContentId, viewer: Viewer) -> Problem | None:
    """The same by the id of the bytes."""
    try:
        need = await asyncio.to_thread(request.app[NEEDS].of_bytes, cid, is_staff=viewer.is_staff)
    except StoreFailed:
        return _refused()
    return None if need is None else _problem(need)


def _problem(need: Need) -> Problem:
    status, title = _ANSWERS[need.kind]
    headers = {"Retry-After": str(need.retry_after_s)} if need.retry_after_s else {}
    if need.kind == "being-fetched":
        headers["Refresh"] = headers["Retry-After"]  # a browser asks again by itself
    return Problem(status, need.kind, title, need.detail, headers=headers)


def _refused() -> Problem:
    return Problem(503, "not-readable", "Cannot be read now", "The disk refused.", headers={"Retry-After": "60"})
