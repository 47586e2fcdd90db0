"""IPFS: the trustless gateway ``/ipfs/{cid}`` and delegated routing ``/routing/v1/providers/{cid}``.

Trustless: what is sent are blocks, which the client checks against their CIDs (specification of 2026-03-05). A block
is a whole file of up to 2 MiB, a 1 MiB leaf of a larger one, or a joining block; nothing is stored twice.

Invariants:
- ``node.access`` decides, file by file. A leaf may go out if one file that may be seen holds it; bytes that are a
  whole file of their own here go by that file, and the strictest says no.
- No block is sent whose bytes do not have its digest: each is hashed before it goes. A file with a bad leaf is due for
  the next scrub, and an answer that has begun ends without its end.
- ``format=`` wins over ``Accept`` (IPIP-0523). Neither: 400, never guessed.

It leaves out: directories, names (IPNS), blocks above 2 MiB, which no client takes.
"""

import asyncio
import contextlib
import hashlib
import json
import logging
import re
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

from aiohttp import web

from cas.cids import DAG_PB, RAW, base58, parse_cid
from cas.errors import BlobArchived, BlobChanged, BlobNotFound, CasError, ContentIdError
from cas.ids import ContentId
from cas.leaves import MAX_BLOCK_BYTES, Block, find_blocks, leaf_table
from cas.reader import BlobReader
from cas.scrub import doubt
from cas.store import BlobStore
from cas.unixfs import Node, cid_bytes, cid_text
from linkeddata.json_strict import Json
from node.access import ANONYMOUS, Door, Viewer, Visibility, decide
from node.config import ImagesSection
from node.services.care import Care
from node.storage.facts import bytes_facts
from node.web.keys import BLOBS, CARE, DATABASE, IDENTITY, SETTINGS, TIERS
from node.web.problem import Problem
from node.web.ranges import decide_bytes
from node.web.refusals import not_here, withheld
from node.web.viewer import viewer_of

EMPTY_CID: Final = "bafkqaaa"
"""The identity CID of no bytes: clients ask for it to see whether a gateway is one."""
TOO_LARGE: Final = "block-too-large"
RAW_TYPE: Final = "application/vnd.ipld.raw"
CAR_TYPE: Final = "application/vnd.ipld.car"
_CACHED: Final = "public, max-age=29030400, immutable"
_NAME: Final = re.compile(r"[\w.() -]{1,200}\Z", re.ASCII)
_ENTITY_BYTES: Final = re.compile(r"(-?[0-9]{1,18}):(-?[0-9]{1,18}|\*)\Z")
log = logging.getLogger("vasculum.ipfs")


def routes() -> list[web.RouteDef]:
    """The routes of this module."""
    return [
        web.get("/ipfs/{cid}", gateway),
        web.get("/ipfs/{cid}/{path:.*}", no_path),
        web.get("/routing/v1/providers/{cid}", providers),
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Car:
    """Which blocks of a tree are asked for."""

    scope: str = "all"
    first: int = 0
    last: int | None = None
    """Byte range of the file, as asked for: negative counts from the end; None: to the end."""
    dups: bool = False

    def tag(self) -> str:
        text = f"{self.scope} {self.first} {self.last} {self.dups}"
        return hashlib.sha256(text.encode()).hexdigest()[:12]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """A block that this viewer may have, and whether everybody may."""

    block: Block
    is_public: bool


async def gateway(request: web.Request) -> web.StreamResponse:
    """``GET /ipfs/{cid}``: a block, or the tree below it as a CAR."""
    text = request.match_info["cid"]
    form = _form(request)
    car = _car_parameters(request) if form == "car" else None
    if text == EMPTY_CID:
        return _empty(request, car)
    codec, digest = _parse(text)
    viewer = viewer_of(request)
    place = await _find(request, viewer, codec, digest)
    name = cid_text(codec, digest)
    if car is None:
        return await _send_block(request, place, name, digest)
    return await _send_car(request, place, name, car, digest)


async def no_path(request: web.Request) -> web.StreamResponse:
    """Files have no paths below them."""
    _parse(request.match_info["cid"])
    if not request.match_info["path"]:
        raise web.HTTPMovedPermanently(f"/ipfs/{request.match_info['cid']}")
    raise Problem(404, "not-found", "No such path", "What this node holds are files; there is nothing below them.")


async def providers(request: web.Request) -> web.StreamResponse:
    """``GET /routing/v1/providers/{cid}`` (IPIP-0513): this node, if it gives the block to everybody; else nobody."""
    text = request.match_info["cid"]
    found: list[Json] = []
    if text != EMPTY_CID:
        codec, digest = _parse(text)
        places, _ = await asyncio.to_thread(_look, request, ANONYMOUS, codec, digest)
        found = [_provider(request)] if places else []
    headers = {
        "Cache-Control": f"public, max-age={300 if found else 15}",
        "Access-Control-Allow-Origin": "*",
        "Vary": "Accept",
    }
    if "application/x-ndjson" in request.headers.get("Accept", ""):
        body = "".join(json.dumps(item) + "\n" for item in found)
        return web.Response(text=body, content_type="application/x-ndjson", headers=headers)
    return web.json_response({"Providers": found}, headers=headers)


def peer_id(public_key: bytes) -> str:
    """The libp2p name of an Ed25519 key (identity multihash of its protobuf form)."""
    return base58(bytes((0x00, 0x24, 0x08, 0x01, 0x12, 0x20)) + public_key)


# ---------------------------------------------------------------------- what is asked for
def _parse(text: str) -> tuple[int, bytes]:
    try:
        return parse_cid(text)
    except ContentIdError as error:
        raise Problem(400, "bad-id", "Not a CID", str(error)) from error


def _form(request: web.Request) -> str:
    asked = request.query.get("format")
    if asked is not None:
        if asked not in ("raw", "car"):
            detail = "This gateway is trustless: format=raw gives a block, format=car the blocks of a file."
            raise Problem(400, "bad-format", "This format is not given", detail)
        return asked
    accept = request.headers.get("Accept", "")
    for item in accept.split(","):
        kind = item.split(";")[0].strip().lower()
        if kind == RAW_TYPE:
            return "raw"
        if kind == CAR_TYPE:
            return "car"
    detail = (
        f"This gateway is trustless: ask with format=raw or format=car, or with Accept: {RAW_TYPE} or {CAR_TYPE}."
        " The file itself is at /cas/sha256/, under its hash."
    )
    raise Problem(400, "bad-format", "Say which form", detail)


def _car_parameters(request: web.Request) -> _Car:
    options = _accept_options(request.headers.get("Accept", ""))
    version = request.query.get("car-version", options.get("version", "1"))
    order = request.query.get("car-order", options.get("order", "dfs"))
    dups = request.query.get("car-dups", options.get("dups", "n"))
    if version != "1" or order not in ("dfs", "unk") or dups not in ("y", "n"):
        raise Problem(400, "bad-format", "This kind of CAR is not given", "version=1, order=dfs, dups=y or dups=n.")
    scope = request.query.get("dag-scope", "all")
    if scope not in ("all", "entity", "block"):
        raise Problem(400, "bad-format", "Not a scope", "dag-scope is block, entity or all.")
    asked = request.query.get("entity-bytes")
    if asked is None:
        return _Car(scope=scope, dups=dups == "y")
    found = _ENTITY_BYTES.match(asked)
    if found is None:
        raise Problem(400, "bad-format", "Not a range", "entity-bytes is FROM:TO in bytes; TO may be *.")
    last = None if found[2] == "*" else int(found[2])
    # Only whole files are here, so that an entity is all of it; a range makes sense for both.
    return _Car(scope=scope, first=int(found[1]), last=last, dups=dups == "y")


def _accept_options(accept: str) -> dict[str, str]:
    for item in accept.split(","):
        kind, *rest = item.split(";")
        if kind.strip().lower() == CAR_TYPE:
            pairs = (part.partition("=") for part in rest)
            return {name.strip().lower(): value.strip().strip('"') for name, _, value in pairs}
    return {}


# ---------------------------------------------------------------------- where it is
async def _find(request: web.Request, viewer: Viewer, codec: int, digest: bytes) -> _Place:
    places, refused = await asyncio.to_thread(_look, request, viewer, codec, digest)
    if places:
        request.app[TIERS].saw(places[0].block.file)
        return places[0]
    cid = ContentId(digest)
    if refused is not None and refused.kind == TOO_LARGE:
        raise await _say_too_large(request, cid)
    if refused is not None:
        raise withheld(refused, request.app[SETTINGS], cid)
    if "only-if-cached" in request.headers.get("Cache-Control", "").lower():
        raise Problem(412, "not-here", "Not here", "This node does not hold the block, and asks nobody else.")
    if codec == RAW:
        raise await not_here(request, cid, viewer)
    raise Problem(404, "not-found", "Nothing is here", "Nothing is published under this name.")


def _look(request: web.Request, viewer: Viewer, codec: int, digest: bytes) -> tuple[list[_Place], Visibility | None]:
    """Places that this viewer may have, and a refusal that may be told; blocking."""
    app = request.app
    images = app[SETTINGS].images
    refused: Visibility | None = None
    places: list[_Place] = []
    with app[DATABASE].reader() as conn:
        for block in find_blocks(app[BLOBS], codec, digest):
            seen, is_public = _visible(conn, viewer, block.file, images)
            is_whole = codec == RAW and block.file.digest == digest
            if seen.allowed:
                places.append(_Place(block=block, is_public=is_public))
            elif is_whole:
                return [], None if seen.absent else seen
            elif not seen.absent and refused is None:
                refused = seen
    small = [item for item in places if item.block.size <= MAX_BLOCK_BYTES]
    if places and not small:
        return [], Visibility(allowed=False, kind=TOO_LARGE)
    return small, None if small else refused


def _visible(
    conn: sqlite3.Connection, viewer: Viewer, file: ContentId, images: ImagesSection
) -> tuple[Visibility, bool]:
    facts = bytes_facts(conn, file)

    def ask(who: Viewer) -> Visibility:
        return decide(
            who, Door.ORIGINAL, facts, anonymous_max_px=images.anonymous_max_px,
            withheld_for=images.originals_withheld_for,
        )  # fmt: skip

    return ask(viewer), ask(ANONYMOUS).allowed


async def _say_too_large(request: web.Request, cid: ContentId) -> Problem:
    """A file is asked for as one block, which no client would take: names the root of its parts, or has it made."""
    table = await asyncio.to_thread(leaf_table, request.app[BLOBS], cid)
    if table is not None:
        root = cid_text(DAG_PB, table.root)
        detail = f"Blocks of IPFS have at most 2 MiB. The same file in parts is /ipfs/{root} (format=car)."
        link = f'</ipfs/{root}>; rel="alternate"; type="{CAR_TYPE}"'
        return Problem(404, TOO_LARGE, "Too large for one block", detail, headers={"Link": link})
    is_coming = request.app[CARE].want_leaf_table(cid)
    detail = "Blocks of IPFS have at most 2 MiB. " + (
        "The parts of this file are being listed; ask again in a minute." if is_coming else "Ask again later."
    )
    return Problem(404, TOO_LARGE, "Too large for one block", detail, headers={"Retry-After": "120"})


# ---------------------------------------------------------------------- blocks
async def _send_block(request: web.Request, place: _Place, name: str, digest: bytes) -> web.StreamResponse:
    etag = f'"{name}.raw"'
    headers = _headers(request, place, name, etag) | {
        "Content-Type": RAW_TYPE,
        "Accept-Ranges": "bytes",
        "Content-Disposition": f'attachment; filename="{_file_name(request, name, "bin")}"',
    }
    answer = decide_bytes(request.headers, size=place.block.size, etag=etag, method=request.method)
    if answer.status == 416:  # the contract: never 416 for what a gateway may answer whole
        headers["Content-Range"] = f"bytes */{place.block.size}"
    if answer.status not in (200, 206) or request.method == "HEAD":
        if answer.status == 200:
            headers["Content-Length"] = str(place.block.size)
        return web.Response(status=answer.status, headers=headers)
    data = await asyncio.to_thread(_read_one, request.app[BLOBS], request.app[CARE], place.block, digest)
    if data is None:
        raise _damaged()
    if answer.status == 206:
        last = answer.offset + answer.length - 1
        headers["Content-Range"] = f"bytes {answer.offset}-{last}/{place.block.size}"
    body = data[answer.offset : answer.offset + answer.length]
    return web.Response(status=answer.status, headers=headers, body=body)


def _read_one(store: BlobStore, care: Care, block: Block, digest: bytes) -> bytes | None:
    """The bytes of a block, if they have its digest; blocking."""
    if block.node is not None:
        return block.node
    try:
        with store.open_blob(block.file) as blob:
            return _read_checked(store, care, blob, block.offset, block.size, digest)
    except BlobArchived:
        raise  # 202: they are brought back
    except (BlobChanged, BlobNotFound, OSError) as error:
        log.warning("%s: %s", block.file, error)
        return None


def _read_checked(
    store: BlobStore, care: Care, blob: BlobReader, offset: int, size: int, digest: bytes
) -> bytes | None:
    data = blob.pread(offset, size)
    care.served(blob.place.volume, len(data))
    if hashlib.sha256(data).digest() == digest:
        return data
    log.error("%s: the bytes at %d do not have their hash; the file is due for a scrub", blob.id, offset)
    with contextlib.suppress(CasError):
        doubt(store, blob.id)
    return None


def _damaged() -> Problem:
    detail = "The bytes that are here are not what they should be; they are not given out."
    return Problem(404, "changed", "These bytes are not here any more", detail)


# ---------------------------------------------------------------------- CAR
async def _send_car(request: web.Request, place: _Place, name: str, car: _Car, digest: bytes) -> web.StreamResponse:
    etag = f'W/"{name}.car.{car.tag()}"'
    headers = _headers(request, place, name, etag) | {
        "Content-Type": f"{CAR_TYPE}; version=1; order=dfs; dups={'y' if car.dups else 'n'}",
        "Accept-Ranges": "none",
        "Content-Disposition": f'attachment; filename="{_file_name(request, name, "car")}"',
    }
    if etag in (tag.strip() for tag in request.headers.get("If-None-Match", "").split(",")):
        return web.Response(status=304, headers=headers)
    store, care = request.app[BLOBS], request.app[CARE]
    nodes = await asyncio.to_thread(_tree_below, store, place.block, digest)
    chosen = list(_choose(nodes, car))
    root = cid_bytes(nodes[0].codec, digest)
    head = _car_header(root)
    length = len(head) + sum(_section_bytes(node) for node in chosen)
    if any(node.block is None for node in chosen):
        await asyncio.to_thread(_must_be_active, store, place.block.file)
    if request.method == "HEAD":
        return web.Response(headers=headers | {"Content-Length": str(length)})
    response = web.StreamResponse(headers=headers)
    response.content_length = length
    loop = asyncio.get_running_loop()
    with contextlib.suppress(ConnectionError):
        first = await loop.run_in_executor(None, _sections, store, care, place.block.file, chosen[:1])
        if first is None:
            raise _damaged()
        await response.prepare(request)
        await response.write(head + first)
        for node in chosen[1:]:
            section = await loop.run_in_executor(None, _sections, store, care, place.block.file, [node])
            if section is None:
                if request.transport is not None:
                    request.transport.abort()  # nobody may take this for the whole
                return response
            await response.write(section)
        await response.write_eof()
    return response


def _must_be_active(store: BlobStore, file: ContentId) -> None:
    """Raises ``BlobArchived`` before an answer begins that would break off; other troubles are met where they are."""
    try:
        store.open_blob(file).close()
    except BlobArchived:
        raise
    except (CasError, OSError):
        return


def _tree_below(store: BlobStore, block: Block, digest: bytes) -> list[Node]:
    """The block and everything below it, depth first; blocking."""
    if block.node is None:
        return [
            Node(
                codec=RAW, digest=digest, file_bytes=block.size, tree_bytes=block.size, offset=block.offset, block=None
            )
        ]  # fmt: skip
    table = leaf_table(store, block.file)
    if table is None:
        raise _damaged()
    tree = table.tree()
    at = next(number for number, node in enumerate(tree) if node.digest == digest and node.offset == block.offset)
    top = tree[at]
    end = top.offset + top.file_bytes
    below = [node for node in tree[at + 1 :] if top.offset <= node.offset < end]
    return [top, *below]


def _choose(nodes: list[Node], car: _Car) -> Iterator[Node]:
    """The blocks of the answer, in order: the root always, then those that hold a part of the range."""
    top = nodes[0]
    size = top.file_bytes
    first = max(0, size + car.first) if car.first < 0 else car.first
    last = size - 1 if car.last is None else size + car.last if car.last < 0 else car.last
    sent: set[bytes] = set()
    for number, node in enumerate(nodes):
        begin = node.offset - top.offset
        is_wanted = number == 0 or (
            car.scope != "block" and first <= last and begin <= last and first < begin + node.file_bytes
        )
        if is_wanted and (car.dups or node.digest not in sent):
            sent.add(node.digest)
            yield node


def _sections(store: BlobStore, care: Care, file: ContentId, nodes: Iterable[Node]) -> bytes | None:
    """CAR sections of these blocks; None when one is not what it should be; blocking."""
    out = bytearray()
    try:
        with contextlib.ExitStack() as stack:
            blob: BlobReader | None = None
            for node in nodes:
                data = node.block
                if data is None:
                    blob = blob or stack.enter_context(store.open_blob(file))
                    data = _read_checked(store, care, blob, node.offset, node.file_bytes, node.digest)
                    if data is None:
                        return None
                cid = cid_bytes(node.codec, node.digest)
                out += _varint(len(cid) + len(data)) + cid + data
    except (BlobChanged, BlobNotFound, OSError) as error:
        log.warning("%s: %s", file, error)
        return None
    return bytes(out)


def _section_bytes(node: Node) -> int:
    return len(_varint(36 + node.size)) + 36 + node.size


def _car_header(root: bytes) -> bytes:
    """CARv1: ``{"roots": [root], "version": 1}`` as DAG-CBOR, with its length in front."""
    link = b"\xd8\x2a\x58" + bytes((len(root) + 1,)) + b"\x00" + root
    body = b"\xa2\x65roots\x81" + link + b"\x67version\x01"
    return _varint(len(body)) + body


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


# ---------------------------------------------------------------------- heads
def _headers(request: web.Request, place: _Place, name: str, etag: str) -> dict[str, str]:
    headers = {
        "ETag": etag,
        "Cache-Control": _CACHED if place.is_public else "private, no-store",
        "X-Content-Type-Options": "nosniff",
        "X-Ipfs-Path": f"/ipfs/{request.match_info['cid']}",
        "X-Ipfs-Roots": name,
        "Vary": "Accept",
    }
    if place.is_public:
        headers["Access-Control-Allow-Origin"] = "*"
        headers["Access-Control-Expose-Headers"] = "Content-Length, Content-Range, X-Ipfs-Path, X-Ipfs-Roots"
    return headers


def _file_name(request: web.Request, name: str, ending: str) -> str:
    asked = request.query.get("filename", "")
    return asked if _NAME.match(asked) else f"{name}.{ending}"


def _empty(request: web.Request, car: _Car | None) -> web.Response:
    """The empty block, which is here by definition."""
    headers = {
        "Cache-Control": _CACHED, "X-Content-Type-Options": "nosniff", "Access-Control-Allow-Origin": "*",
        "X-Ipfs-Path": f"/ipfs/{EMPTY_CID}", "X-Ipfs-Roots": EMPTY_CID, "Vary": "Accept",
    }  # fmt: skip
    if car is not None:
        headers |= {"Content-Type": f"{CAR_TYPE}; version=1; order=dfs; dups={'y' if car.dups else 'n'}",
                    "ETag": f'W/"{EMPTY_CID}.car"', "Accept-Ranges": "none",
                    "Content-Disposition": f'attachment; filename="{EMPTY_CID}.car"'}  # fmt: skip
        return web.Response(body=_car_header(b"\x01\x55\x00\x00"), headers=headers)
    headers |= {"Content-Type": RAW_TYPE, "ETag": f'"{EMPTY_CID}.raw"',
                "Content-Disposition": f'attachment; filename="{_file_name(request, EMPTY_CID, "bin")}"'}  # fmt: skip
    return web.Response(body=b"", headers=headers)


def _provider(request: web.Request) -> dict[str, Json]:
    parts = urlsplit(request.app[SETTINGS].origin)
    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    try:
        kind = "ip6" if ip_address(host).version == 6 else "ip4"
    except ValueError:
        kind = "dns"
    address = f"/{kind}/{host}/tcp/{port}/{parts.scheme}"
    return {
        "Schema": "peer",
        "ID": peer_id(request.app[IDENTITY].public_key_bytes),
        "Addrs": [address],
        "Protocols": ["transport-ipfs-gateway-http"],
    }
