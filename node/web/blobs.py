"""Bytes over HTTP: ``/cas/sha256/{hex}`` and the aliases that lead there.

Own handler: aiohttp's FileResponse replaces our entity tag by one of its own, answers 416 to several ranges and
serves ``.gz`` siblings. Small pieces are read in the event loop (one pread from the page cache is faster than a
thread), larger ones in a thread, block by block.

Invariants:
- ``node.access`` decides; private and absent bytes get the same 404.
- The file was checked when it was opened; a changed file is never served under the old id.
- Only open bytes are cacheable by others; images are never interpreted as anything else (nosniff, sandbox).
"""

import asyncio
import base64
import logging
from typing import Final

from aiohttp import web

from cas.errors import BlobChanged, BlobNotFound, ContentIdError
from cas.ids import ContentId, parse_content_id
from cas.store import BlobReader
from node.access import Door, Viewer, decide
from node.storage.facts import bytes_facts
from node.web.keys import BLOBS, DATABASE, SETTINGS
from node.web.problem import Problem, not_found
from node.web.ranges import ByteAnswer, decide_bytes
from node.web.viewer import viewer_of

IN_LOOP_BYTES: Final = 262_144
BLOCK_BYTES: Final = 1_048_576
_FORMATS: Final = frozenset({"image/jpeg", "image/png", "image/tiff", "image/webp"})
log = logging.getLogger("vasculum.bytes")


def routes() -> list[web.RouteDef]:
    """The routes of this module."""
    return [
        web.get("/cas/sha256/{hex}", content),
        web.get("/{hex:[0-9a-fA-F]{64}}", alias),
        web.get("/hash://sha256/{hex:[0-9a-f]{64}}", alias),
        web.get("/hash:/sha256/{hex:[0-9a-f]{64}}", alias),
        web.get("/.well-known/ni/sha-256/{value}", alias_ni),
    ]


async def content(request: web.Request) -> web.StreamResponse:
    """The bytes with this id."""
    try:
        cid = ContentId.from_hex(request.match_info["hex"])
    except ContentIdError:
        return _redirect_alias(request.match_info["hex"])
    viewer = viewer_of(request)
    facts, media_type = await request.app[DATABASE].read(lambda conn: (bytes_facts(conn, cid), _format(conn, cid)))
    seen = decide(viewer, Door.BYTES, facts)
    if seen.absent:
        raise not_found()
    if not seen.allowed:
        contact = request.app[SETTINGS].node.contact
        detail = f"{seen.reason}. Ask: {contact}" if contact else f"{seen.reason}."
        raise Problem(403, "restricted", "This image does not leave the institution", detail)
    is_public = decide(Viewer(), Door.BYTES, facts).allowed
    try:
        blob = await asyncio.to_thread(request.app[BLOBS].open_blob, cid)
    except BlobNotFound as error:
        raise not_found() from error
    except BlobChanged as error:
        log.warning("%s: %s", cid, error)
        detail = "The file behind this id was changed or is gone; it is never served under the old id."
        raise Problem(404, "changed", "These bytes are not here any more", detail) from error
    with blob:
        return await _answer(request, blob, media_type, is_public=is_public)


async def alias(request: web.Request) -> web.StreamResponse:
    """Other spellings of the same id."""
    return _redirect_alias(request.match_info["hex"])


async def alias_ni(request: web.Request) -> web.StreamResponse:
    """RFC 6920 well-known address."""
    return _redirect_alias("ni:///sha-256;" + request.match_info["value"])


def _redirect_alias(text: str) -> web.StreamResponse:
    try:
        cid = parse_content_id(text)
    except ContentIdError as error:
        raise Problem(400, "bad-id", "Not a content id", str(error)) from error
    raise web.HTTPMovedPermanently(f"/cas/sha256/{cid.hex}")


def _format(conn: object, cid: ContentId) -> str:
    row = conn.execute(  # type: ignore[attr-defined]
        "SELECT format FROM medium WHERE image = ? AND format <> '' LIMIT 1", (cid.hex,)
    ).fetchone()
    return row["format"] if row and row["format"] in _FORMATS else "application/octet-stream"


async def _answer(request: web.Request, blob: BlobReader, media_type: str, *, is_public: bool) -> web.StreamResponse:
    etag = f'"sha256-{blob.id.hex}"'
    answer = decide_bytes(request.headers, size=blob.size, etag=etag)
    headers = {
        "ETag": etag,
        "Accept-Ranges": "bytes",
        "Cache-Control": "public, max-age=31536000, immutable" if is_public else "private, no-store",
        "Repr-Digest": f"sha-256=:{base64.b64encode(blob.id.digest).decode()}:",
        "Link": f'</cas/sha256/{blob.id.hex}>; rel="canonical"',
        "Content-Security-Policy": "default-src 'none'; sandbox",
        "X-Content-Type-Options": "nosniff",
    }
    if is_public:
        headers["Access-Control-Allow-Origin"] = "*"
    if answer.status in (304, 412, 416):
        if answer.status == 416:
            headers["Content-Range"] = f"bytes */{blob.size}"
        return web.Response(status=answer.status, headers=headers)
    headers["Content-Type"] = media_type
    if answer.status == 206:
        headers["Content-Range"] = f"bytes {answer.offset}-{answer.offset + answer.length - 1}/{blob.size}"
    if request.method == "HEAD":
        headers["Content-Length"] = str(answer.length)
        return web.Response(status=answer.status, headers=headers)
    if answer.length <= IN_LOOP_BYTES:
        return web.Response(status=answer.status, headers=headers, body=blob.pread(answer.offset, answer.length))
    return await _stream(request, blob, answer, headers)


async def _stream(
    request: web.Request, blob: BlobReader, answer: ByteAnswer, headers: dict[str, str]
) -> web.StreamResponse:
    response = web.StreamResponse(status=answer.status, headers=headers)
    response.content_length = answer.length
    await response.prepare(request)
    offset, left = answer.offset, answer.length
    while left:
        block = await asyncio.to_thread(blob.pread, offset, min(left, BLOCK_BYTES))
        if not block:
            # The file became shorter while it was sent: end the connection, so that nobody takes this for the whole.
            if request.transport is not None:
                request.transport.abort()
            break
        await response.write(block)
        offset += len(block)
        left -= len(block)
    await response.write_eof()
    return response
