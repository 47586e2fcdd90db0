"""IIIF Image API 3.0: ``/iiif/3/{sha256 hex}``, level 2, with mirroring and WebP.

What was asked is understood by ``linkeddata.iiif_image``; what may be seen is decided by ``node.access`` (the door
IMAGE); pictures come from ``node.services.images``. A whole tile of an open picture that was looked at in the last
minute is answered in the event loop: one read from memory, no image library, no thread.

Invariants:
- Private and absent pictures get the same answers, also to requests that are wrong.
- Who may see a picture up to some size is offered a picture of that size: its ``info.json``, its regions and tiles are
  those of the smaller one, so no set of tiles shows more.
- ``immutable`` only for open bytes at full size; what others would not get is never stored by caches.
- Whole pictures carry what their record says about rights; tiles carry nothing.
- Every answer may be read by pages of other origins (CORS), and none is ever interpreted as a page.
"""

import asyncio
import hashlib
import json
from typing import Final
from urllib.parse import unquote

from aiohttp import web

from cas.errors import BlobArchived, BlobChanged, BlobNotFound, BlobWithdrawn, CasError, ContentIdError, StoreFailed
from cas.ids import ContentId, parse_content_id
from linkeddata.iiif_image import (
    IiifRequestError,
    Rendering,
    Target,
    confined_size,
    parse_target,
    resolve,
)
from linkeddata.iiif_info import CONTEXT, PROFILE_LINK, info_document
from linkeddata.rights_packet import put_in
from node.access import ANONYMOUS, Viewer, Visibility
from node.services.derived import THUMBNAIL_PX
from node.services.images import ImageService, PicturesBusy, PictureUnusable
from node.web.iiif_shown import Shown, WarmPicture, WarmPictures, WarmTile, look
from node.web.keys import BLOBS, CLOCK, DATABASE, REMOTE, SETTINGS
from node.web.problem import Problem, not_found
from node.web.refusals import not_here, withheld
from node.web.remote import need_of_bytes
from node.web.viewer import viewer_of
from runners.pyramid_file import PyramidDamaged

PREFIX: Final = "/iiif/3/"
IMAGES: Final = web.AppKey("images", ImageService)
MOST_TILES: Final = 4096
"""Addresses of tiles of one picture that are understood once; a sheet of 60 megapixels has 350 tiles of 512 pixels."""
_TYPES: Final = {"jpg": "image/jpeg", "png": "image/png", "webp": "image/webp"}
_CORS: Final = {"Access-Control-Allow-Origin": "*"}
_CC: Final = "https://creativecommons.org/"


WARM_PICTURES: Final = web.AppKey("warm_pictures", WarmPictures)


def routes() -> list[web.RouteDef]:
    """The routes of this module."""
    return [web.get(PREFIX + "{path:.*}", image_api), web.options(PREFIX + "{path:.*}", preflight)]


async def preflight(request: web.Request) -> web.StreamResponse:  # noqa: ARG001
    """Pages of other origins may read whatever is given out here."""
    headers = {**_CORS, "Access-Control-Allow-Methods": "GET, HEAD, OPTIONS", "Access-Control-Allow-Headers": "*"}
    return web.Response(status=204, headers=headers)


async def image_api(request: web.Request) -> web.StreamResponse:
    """Everything below the prefix."""
    try:
        return await _answer(request)
    except Problem as problem:
        problem.headers.update(_CORS)
        raise
    except web.HTTPRedirection as redirect:
        redirect.headers.update(_CORS)
        raise


async def _answer(request: web.Request) -> web.StreamResponse:
    raw = request.raw_path.partition("?")[0].removeprefix(PREFIX)
    viewer = viewer_of(request)
    warm = request.app[WARM_PICTURES].find(raw[:64]) if viewer == ANONYMOUS else None
    if warm is not None:
        tile = warm.tiles.get(raw[64:])
        found = None if tile is None else _tile(request, warm, tile)
        if found is not None:
            return found
    try:
        target = parse_target(raw)
    except IiifRequestError as error:
        _check_id(raw.partition("/")[0])
        raise _wrong(error) from error
    cid = _identifier(target)
    if target.kind == "base":
        raise web.HTTPSeeOther(f"{request.app[SETTINGS].origin}{PREFIX}{cid.hex}/info.json")
    version = None
    if warm is None:
        version = request.app[WARM_PICTURES].version()
        shown = await _look_up(request, cid, viewer)
    else:
        shown = warm.shown
    if target.kind == "info":
        return _info(request, shown)
    try:
        rendering = resolve(target.image, width=shown.width, height=shown.height, max_area=shown.max_area)
    except IiifRequestError as error:
        raise _wrong(error) from error
    headers = _headers(request, shown, rendering)
    if _is_known(request, headers["ETag"]):
        kept = ("ETag", "Cache-Control", "Vary", "Link", "Access-Control-Allow-Origin")
        return web.Response(status=304, headers={name: headers[name] for name in kept if name in headers})
    if warm is not None:
        _remember_tile(warm, target.raw_rest, rendering, headers)
    data = await _make(request, shown, rendering, warm, version)
    return web.Response(body=data, headers=headers)


def _tile(request: web.Request, warm: WarmPicture, tile: WarmTile) -> web.Response | None:
    """A whole tile that lies in memory; None when it does not."""
    if "If-None-Match" in request.headers:
        return None
    try:
        data = warm.pyramid.tile(*tile.place, at_once=True)
    except PyramidDamaged:
        request.app[WARM_PICTURES].forget(warm.shown.picture.cid.hex)
        return None
    return None if data is None else web.Response(body=data, headers=tile.headers)


def _remember_tile(warm: WarmPicture, rest: str, rendering: Rendering, headers: dict[str, str]) -> None:
    if not warm.pyramid.has_jpeg_tiles:
        return
    place = rendering.aligned_tile(warm.shown.width, warm.shown.height, warm.pyramid.tile_px)
    if place is not None:
        if len(warm.tiles) >= MOST_TILES:
            warm.tiles.clear()
        warm.tiles[rest] = WarmTile(place=place, headers=headers)


async def _make(
    request: web.Request, shown: Shown, rendering: Rendering, warm: WarmPicture | None, version: tuple[int, int] | None
) -> bytes:
    images, picture = request.app[IMAGES], shown.picture
    try:
        if shown.is_whole and _is_thumbnail(shown, rendering):
            return put_in(await images.thumbnail(picture), shown.packet)
        place = None
        if shown.is_whole:
            place = rendering.aligned_tile(shown.width, shown.height, images.derived.tile_px)
        tile = None if place is None else await images.tile(picture, place)
        pyramid = warm.pyramid if warm is not None else await images.pyramid(picture)
        if warm is None:
            request.app[WARM_PICTURES].keep(shown, pyramid, version)
        if tile is not None:
            return tile
        data = await images.cut(picture, rendering, offered=(shown.width, shown.height), known=pyramid)
        if not images.derived.is_open(picture.cid, pyramid):
            request.app[WARM_PICTURES].forget(picture.cid.hex)  # it was damaged and made anew, or has left the cache
        return put_in(data, shown.packet)
    except PictureUnusable as error:
        raise Problem(422, "not-an-image", "No picture can be made of these bytes", str(error)) from error
    except PicturesBusy as error:
        raise Problem(503, "busy", "Not now", f"{error}.", headers={"Retry-After": "5"}) from error
    except BlobArchived:
        raise  # who gets here may see them: 202, and they are brought back
    except BlobWithdrawn as error:
        raise await not_here(request, picture.cid, viewer_of(request)) from error
    except BlobNotFound as error:
        problem = await need_of_bytes(request, picture.cid, viewer_of(request))
        raise problem or await not_here(request, picture.cid, viewer_of(request)) from error
    except BlobChanged as error:
        detail = "The file behind this id was changed or is gone; no picture is made of it."
        raise Problem(404, "changed", "These bytes are not here any more", detail) from error
    except (StoreFailed, CasError) as error:
        raise Problem(
            503, "not-readable", "Cannot be read now", "The disk refused.", headers={"Retry-After": "60"}
        ) from error


def _is_thumbnail(shown: Shown, rendering: Rendering) -> bool:
    size = (rendering.width, rendering.height)
    return (
        rendering.is_whole
        and max(size) == THUMBNAIL_PX
        and max(shown.width, shown.height) > THUMBNAIL_PX
        and size == confined_size(shown.width, shown.height, THUMBNAIL_PX)
        and (rendering.mirror, rendering.rotation, rendering.quality, rendering.format) == (False, 0, "default", "jpg")
    )


async def _look_up(request: web.Request, cid: ContentId, viewer: Viewer) -> Shown:
    """What this viewer may see of these bytes; raises the answer when that is nothing."""
    app = request.app
    settings = app[SETTINGS]
    found = await app[DATABASE].read(lambda conn: look(conn, cid, viewer, settings))
    if isinstance(found, Visibility):
        if found.absent:
            raise await not_here(request, cid, viewer)
        raise withheld(found, settings, cid)
    if isinstance(found, str):
        raise Problem(422, "not-an-image", "No picture can be made of these bytes", found)
    if await asyncio.to_thread(_note_use, request, cid):
        raise await not_here(request, cid, viewer)
    return found


def _note_use(request: web.Request, cid: ContentId) -> bool:
    """Whether the bytes were withdrawn; notes that they are of use, for images of other places."""
    request.app[REMOTE].bytes.note_use(cid, now=request.app[CLOCK]())
    return request.app[BLOBS].is_withdrawn(cid)


def _identifier(target: Target) -> ContentId:
    """The id; other spellings of it lead to the one that is used here."""
    try:
        return ContentId.from_hex(target.identifier)
    except ContentIdError:
        pass
    try:
        cid = parse_content_id(target.identifier)
    except ContentIdError as error:
        raise not_found() from error
    raise web.HTTPMovedPermanently(f"{PREFIX}{cid.hex}{target.raw_rest}")


def _check_id(raw: str) -> None:
    """What is no id at all is not found, whatever stands behind it."""
    try:
        parse_content_id(unquote(raw))
    except ContentIdError as error:
        raise not_found() from error


def _info(request: web.Request, shown: Shown) -> web.Response:
    licence = shown.rights.licence
    address = f"{request.app[SETTINGS].origin}{PREFIX}{shown.picture.cid.hex}"
    document = info_document(
        address=address, width=shown.width, height=shown.height, tile_px=request.app[IMAGES].derived.tile_px,
        max_area=shown.max_area, rights="http" + licence.removeprefix("https") if licence.startswith(_CC) else "",
    )  # fmt: skip
    body = json.dumps(document, ensure_ascii=False, indent=1).encode()
    wants_ld = "application/ld+json" in request.headers.get("Accept", "")
    etag = f'"{hashlib.sha256(body + (b"ld" if wants_ld else b"")).hexdigest()[:40]}"'
    headers = {
        **_CORS,
        "ETag": etag,
        "Cache-Control": "private, no-store" if "no-store" in shown.cache else "public, max-age=300",
        "Vary": "Accept, Cookie",
        "Link": f'<{PROFILE_LINK}>;rel="profile"',
        "Content-Type": f'application/ld+json;profile="{CONTEXT}"' if wants_ld else "application/json",
    }
    if not wants_ld:
        headers["Link"] += f', <{CONTEXT}>;rel="http://www.w3.org/ns/json-ld#context";type="application/ld+json"'
    if _is_known(request, etag):
        return web.Response(
            status=304, headers={name: text for name, text in headers.items() if name != "Content-Type"}
        )
    return web.Response(body=body, headers=headers)


def _headers(request: web.Request, shown: Shown, rendering: Rendering) -> dict[str, str]:
    cid, origin = shown.picture.cid, request.app[SETTINGS].origin
    what = f"{shown.width}x{shown.height}/{rendering.canonical}".encode() + shown.packet
    headers = {
        **_CORS,
        "ETag": f'"{cid.hex}.{request.app[IMAGES].derived.recipe}.{hashlib.sha256(what).hexdigest()[:24]}"',
        "Cache-Control": shown.cache,
        "Content-Type": _TYPES[rendering.format],
        "Link": f'<{PROFILE_LINK}>;rel="profile", <{origin}{PREFIX}{cid.hex}/{rendering.canonical}>;rel="canonical"',
        "Content-Security-Policy": "default-src 'none'; sandbox",
        "X-Content-Type-Options": "nosniff",
        "Cross-Origin-Resource-Policy": "cross-origin",
    }
    if shown.varies:
        headers["Vary"] = "Cookie"
    return headers


def _is_known(request: web.Request, etag: str) -> bool:
    """Whether the client has this answer already (RFC 9110, 13.1.2: weak comparison)."""
    wanted = request.headers.get("If-None-Match")
    if wanted is None:
        return False
    return any(item.strip().removeprefix("W/") in (etag, "*") for item in wanted.split(","))


def _wrong(error: IiifRequestError) -> Problem:
    return Problem(400, "bad-image-request", "Not a request of the IIIF Image API 3.0", f"{error}.")
