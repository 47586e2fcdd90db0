"""How bytes are refused, in the same words at every door: not here, withdrawn, withheld.

Invariants:
- Withdrawn bytes are gone (410, with the reason) for everybody who may know that they were here, staff included;
  to others they look as if they had never been here.

It leaves out: the decision (``node.access``).
"""

import asyncio

from aiohttp import web

from cas.errors import StoreFailed
from cas.ids import ContentId
from node.access import Viewer, Visibility
from node.config import Settings
from node.services.tiers import FAILED_RETRY_S, RETRY_AFTER_S
from node.web.keys import BLOBS, TIERS
from node.web.problem import Problem, not_found


async def not_here(request: web.Request, cid: ContentId, viewer: Viewer) -> Problem:
    """The answer for bytes that no record or file was found for: 410 when they were withdrawn, else 404."""
    try:
        found = await asyncio.to_thread(request.app[BLOBS].withdrawals.find, cid)
    except StoreFailed:
        return Problem(503, "not-readable", "Cannot be read now", "The disk refused.", headers={"Retry-After": "60"})
    if found is None or not (found.told or viewer.is_staff):
        return not_found()
    detail = f"The institution withdrew this image on {found.at[:10]}: {found.reason}"
    return Problem(410, "withdrawn", "This image was withdrawn", detail)


async def being_restored(request: web.Request, cid: ContentId) -> Problem:
    """The answer for bytes that this viewer may see and that lie in the archive: they are asked for, come again."""
    try:
        asked = await asyncio.to_thread(request.app[TIERS].ask, cid)
    except StoreFailed:
        return Problem(503, "not-readable", "Cannot be read now", "The disk refused.", headers={"Retry-After": "60"})
    if asked is None:
        detail = "Many images are being brought back from the archive already; this one was not asked for yet."
        return Problem(503, "archive-busy", "Cannot be restored yet", detail, headers=_after(FAILED_RETRY_S))
    if asked.state == "failed":
        detail = (
            "The archive does not give it back at the moment. The institution's staff can see why; it is tried again."
        )
        return Problem(503, "not-restored", "Could not be restored", detail, headers=_after(FAILED_RETRY_S))
    detail = f"These {asked.size} bytes lie in the archive and were asked for on {asked.asked[:16]}. Ask again later."
    return Problem(202, "being-restored", "Being restored", detail, headers=_after(RETRY_AFTER_S))


def _after(seconds: int) -> dict[str, str]:
    return {"Retry-After": str(seconds)}


def withheld(seen: Visibility, settings: Settings, cid: ContentId) -> Problem:
    """The answer for bytes that are here and not for this viewer, with whom to ask or what to look at instead."""
    if seen.kind == "preview-only":
        detail = f"{seen.reason}. /media/sha256/{cid.hex} names its records; each has a preview.jpg."
        return Problem(403, seen.kind, "The original is not shown to everybody", detail)
    if seen.kind == "metadata-withheld":
        where = f"{settings.origin}/cas/sha256/{seen.instead}"
        detail = f"{seen.reason}. " + (
            f"The same picture without that metadata, bit by bit: {where}" if seen.instead
            else f"The picture itself is at {settings.origin}/iiif/3/{cid.hex}/info.json"
        )  # fmt: skip
        headers = {"Link": f'<{where}>; rel="alternate"'} if seen.instead else {}
        return Problem(403, seen.kind, "This file is not given out as it is", detail, headers=headers)
    contact = settings.node.contact
    detail = f"{seen.reason}. Ask: {contact}" if contact else f"{seen.reason}."
    return Problem(403, seen.kind, "This image does not leave the institution", detail)
