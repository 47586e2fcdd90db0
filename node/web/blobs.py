"""Bytes over HTTP: ``/cas/sha256/{hex}`` and the aliases that lead there.

Own handler: aiohttp's FileResponse replaces our entity tag by one of its own, answers 416 to several ranges and
serves ``.gz`` siblings. One visit to a thread asks the database, opens the file and reads a small answer; the loop
itself never waits for a disk, so a network drive that hangs holds up those who ask for its files and nobody else.
What a thread has just read is answered without it (``node.web.warm``). Larger answers are read block by block.

Invariants:
- ``node.access`` decides; private and absent bytes get the same 404.
- The file is checked when it is opened and again after its last byte was read; a changed file is never served under
  the old id: nothing is sent, or the connection ends before the answer is complete.
- Bytes that a front server sends (``node.web.accel``) are decided and checked here all the same.
- Only open bytes are cacheable by others; images are never interpreted as anything else (nosniff, sandbox).
"""

import asyncio
import base64
import contextlib
import logging
import sqlite3
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from cas.errors import BlobArchived, BlobChanged, BlobNotFound, CasError, ContentIdError, StoreFailed
from cas.ids import ContentId, parse_content_id
from cas.reader import BlobReader
from cas.store import BlobStore
from node.access import ANONYMOUS, Door, Viewer, Visibility, decide
from node.storage.db import Database
from node.storage.facts import bytes_facts
from node.web.accel import headers_for_front, is_asked
from node.web.at_once import AT_ONCE_BYTES
from node.web.keys import BLOBS, CARE, CLOCK, DATABASE, REMOTE, SETTINGS, TIERS
from node.web.limits import BESIDE, LIMITS
from node.web.pages import SECURITY
from node.web.problem import Problem
from node.web.ranges import ByteAnswer, decide_bytes
from node.web.refusals import not_here, withheld
from node.web.remote import need_of_bytes
from node.web.sending import send_blob
from node.web.viewer import viewer_of
from node.web.warm import WarmPlace, WarmPlaces

_SUFFIXES: Final = {"image/jpeg": ".jpg", "image/png": ".png", "image/tiff": ".tif", "image/webp": ".webp"}
"""Formats that are named to browsers, with the suffix of a saved file; everything else is a download."""
WARM: "web.AppKey[WarmPlaces]" = web.AppKey("warm", WarmPlaces)
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
    for_front = (
        is_asked(request.headers, request.method, request.app[SETTINGS].server.accel)
        and request.app[LIMITS].comes_from_front(request)
    )  # fmt: skip
    wanted = _Wanted(cid=cid, viewer=viewer_of(request), request=request, for_front=for_front)
    known = request.app[WARM].find(cid.hex) if wanted.viewer == ANONYMOUS else None
    found = None if known is None else _find_warm(known, wanted)
    if found is None:
        found = await _find_in_thread(wanted)
    with found.blob:
        headers = _headers(found)
        if request.method == "GET":
            request.app[CARE].served(found.blob.place.volume, found.answer.length)
        if for_front and found.answer.length and found.answer.status == (206 if "Range" in request.headers else 200):
            request[BESIDE] = found.answer.length
            return web.Response(
                headers=headers_for_front(found.blob.place, headers, is_range=found.answer.status == 206)
            )
        if found.body is not None or request.method == "HEAD" or found.answer.length == 0:
            return _whole(request, found, headers)
        return await _stream(request, found.blob, found.answer, headers)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wanted:
    cid: ContentId
    viewer: Viewer
    request: web.Request
    for_front: bool = False
    """Whether the front server sends what is found."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """An opened blob that this viewer may see, and what to send of it."""

    blob: BlobReader
    answer: ByteAnswer
    media_type: str
    is_public: bool
    body: bytes | bytearray | None
    """What to send, when it was small enough to be read at once."""
    is_local: bool = False
    """Whether the next request may be answered without a thread."""


class _NotKept(BlobNotFound):
    """This viewer may see the bytes, and no copy is here."""


def _find_warm(known: WarmPlace, wanted: _Wanted) -> _Found | None:
    """Answers from memory, in the loop; None when that cannot be done at once, or something is wrong."""
    request = wanted.request
    try:
        blob = known.place.open()
    except (OSError, CasError):
        return None
    answer = decide_bytes(request.headers, size=blob.size, etag=_etag(blob.id), method=request.method)
    body = None
    if request.method == "GET" and answer.length <= AT_ONCE_BYTES and not wanted.for_front:
        body = blob.pread_at_once(answer.offset, answer.length)
        if body is None or not blob.is_unchanged():
            blob.close()
            return None
    return _Found(blob=blob, answer=answer, media_type=known.media_type, is_public=True, body=body)


async def _find_in_thread(wanted: _Wanted) -> _Found:
    """The long way; raises the answer when it is a refusal."""
    app, cid = wanted.request.app, wanted.cid
    version = app[WARM].version()
    try:
        found = await asyncio.get_running_loop().run_in_executor(None, _find, app[DATABASE], app[BLOBS], wanted)
    except _NotKept as error:
        problem = await need_of_bytes(wanted.request, cid, wanted.viewer)
        raise problem or await not_here(wanted.request, cid, wanted.viewer) from error
    except BlobArchived:
        raise  # who gets here may see them: 202, and they are brought back
    except BlobNotFound as error:
        raise await not_here(wanted.request, cid, wanted.viewer) from error
    except BlobChanged as error:
        problem = await need_of_bytes(wanted.request, cid, wanted.viewer)
        if problem is not None:
            raise problem from error
        log.warning("%s: %s", cid, error)
        detail = "The file behind this id was changed or is gone; it is never served under the old id."
        raise Problem(404, "changed", "These bytes are not here any more", detail) from error
    except (StoreFailed, OSError) as error:
        log.error("%s: %s", cid, error)  # noqa: TRY400 - the reason is the message
        detail = "The disk refused."
        raise Problem(503, "not-readable", "Cannot be read now", detail, headers={"Retry-After": "60"}) from error
    if isinstance(found, Visibility):
        raise withheld(found, app[SETTINGS], cid)
    if found.is_public and found.is_local and version is not None:
        app[WARM].keep(found.blob.place, media_type=found.media_type, version=version)
    return found


def _find(database: Database, store: BlobStore, wanted: _Wanted) -> _Found | Visibility:
    """Decides, opens and reads a small answer; blocking. A ``Visibility`` is the refusal."""
    cid, request = wanted.cid, wanted.request
    with database.reader() as conn:
        facts = bytes_facts(conn, cid)
        images = wanted.request.app[SETTINGS].images

        def ask(who: Viewer) -> Visibility:
            return decide(
                who, Door.ORIGINAL, facts, anonymous_max_px=images.anonymous_max_px,
                shows_redacted=images.shows_redacted, withheld_for=images.originals_withheld_for,
            )  # fmt: skip

        seen = ask(wanted.viewer)
        if seen.absent:
            raise BlobNotFound(cid)
        if not seen.allowed:
            return seen
        media_type = "image/jpeg" if facts.is_redacted else _format(conn, cid)
    try:
        blob = store.open_blob(cid)
    except BlobNotFound as error:
        if type(error) is not BlobNotFound:  # withdrawn, archived, and whatever else has a reason of its own
            raise
        raise _NotKept(cid) from error
    try:
        is_remote = request.app[REMOTE].bytes.note_use(cid, now=request.app[CLOCK]())
        request.app[TIERS].saw(cid)  # warm bytes come by here once a minute: answers from memory need not say it
        answer = decide_bytes(request.headers, size=blob.size, etag=_etag(cid), method=request.method)
        body = None
        if request.method == "GET" and answer.length <= AT_ONCE_BYTES and not wanted.for_front:
            body = blob.pread(answer.offset, answer.length)
            blob.check_unchanged()
        return _Found(
            blob=blob,
            answer=answer,
            media_type=media_type,
            # One with blacked out labels may be replaced by another: nobody else keeps it.
            is_public=ask(ANONYMOUS).allowed and not facts.is_redacted,
            body=body,
            # The use of remote bytes must be seen, so they are not answered from memory.
            is_local=not is_remote
            and (body is not None or wanted.for_front)
            and blob.pread_at_once(answer.offset, min(1, answer.length)) is not None,
        )
    except BaseException:
        blob.close()
        raise


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


def _format(conn: sqlite3.Connection, cid: ContentId) -> str:
    """What the file was recognised as when it was ingested."""
    row = conn.execute(
        """WITH wanted (image) AS (SELECT ?1 UNION SELECT image FROM public_original WHERE public = ?1)
           SELECT format FROM medium WHERE format <> '' AND image IN (SELECT image FROM wanted)
           UNION ALL SELECT format FROM medium_variant WHERE format <> '' AND image IN (SELECT image FROM wanted)
           LIMIT 1""",
        (cid.hex,),
    ).fetchone()
    return row["format"] if row and row["format"] in _SUFFIXES else "application/octet-stream"


def _etag(cid: ContentId) -> str:
    return f'"sha256-{cid.hex}"'


def _headers(found: _Found) -> dict[str, str]:
    return headers_of(
        found.blob.id, found.blob.size, found.answer, media_type=found.media_type, is_public=found.is_public
    )


def headers_of(cid: ContentId, size: int, answer: ByteAnswer, *, media_type: str, is_public: bool) -> dict[str, str]:
    """The headers of an answer with bytes, or about them."""
    headers = {
        "ETag": _etag(cid),
        "Accept-Ranges": "bytes",
        "Cache-Control": "public, max-age=31536000, immutable" if is_public else "private, no-store",
        "Repr-Digest": f"sha-256=:{base64.b64encode(cid.digest).decode()}:",
        "Link": f'</cas/sha256/{cid.hex}>; rel="canonical"',
        "Content-Security-Policy": "default-src 'none'; sandbox",
        "X-Content-Type-Options": "nosniff",
    }
    if is_public:
        headers["Access-Control-Allow-Origin"] = "*"
    if answer.status in (412, 416):
        headers["Cache-Control"] = "no-store"  # the answer to these conditions, not to this address
    if answer.status == 416:
        headers["Content-Range"] = f"bytes */{size}"
    if answer.status in (200, 206):
        headers["Content-Type"] = media_type
        suffix = _SUFFIXES.get(media_type)
        kind = "attachment" if suffix is None else "inline"
        headers["Content-Disposition"] = f'{kind}; filename="{cid.hex}{suffix or ".bin"}"'
    if answer.status == 206:
        headers["Content-Range"] = f"bytes {answer.offset}-{answer.offset + answer.length - 1}/{size}"
    return headers


def public_headers(known: WarmPlace, answer: ByteAnswer) -> dict[str, str]:
    """Every header of an answer with open bytes that is given without the framework."""
    place = known.place
    own = headers_of(place.id, place.size, answer, media_type=known.media_type, is_public=True)
    return {**SECURITY, **own}


def _whole(request: web.Request, found: _Found, headers: dict[str, str]) -> web.Response:
    if request.method == "HEAD" and found.answer.status == 200:
        headers["Content-Length"] = str(found.answer.length)
        return web.Response(headers=headers)
    return web.Response(status=found.answer.status, headers=headers, body=found.body)


async def _stream(
    request: web.Request, blob: BlobReader, answer: ByteAnswer, headers: dict[str, str]
) -> web.StreamResponse:
    response = web.StreamResponse(status=answer.status, headers=headers)
    response.content_length = answer.length
    # A client that goes away in the middle is no event worth a line in the log, let alone a traceback per image.
    with contextlib.suppress(ConnectionError):
        await response.prepare(request)
        await send_blob(request, response, blob, answer.offset, answer.length)
    return response
