"""``/similar``: images that look like a stored one, a sent one or a vector; regions that look like one of an image.

Invariants:
- A sent picture is read into memory, handed to a worker behind walls, and dropped: it is neither stored nor logged.
- What a requester may not see is neither in the answer nor in its numbers; asking by the id of such an image is
  answered as its own page answers.
- Filters are those of ``/search``.

It leaves out: finding (``node.services.similar``), embedding (``node.services.embedder``).
"""

import json
import re
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from aiohttp import web

from cas.errors import ContentIdError
from cas.ids import ContentId, parse_content_id
from linkeddata.errors import SelectionError
from linkeddata.json_strict import Json, as_object, get_int, get_list, get_str, parse_json
from linkeddata.outputs.embed import VECTOR_CHARS, read_vector
from linkeddata.predicates import parse_predicate
from linkeddata.selection import All, Selection, all_of, parse_selection
from node.access import Door, Viewer, decide
from node.services.embedder import Embedder, EmbedderBusy
from node.services.similar import Near, Similarity
from node.storage import records
from node.storage.facts import bytes_facts, record_facts
from node.storage.vectors import WHOLE, Box, Floats
from node.web.keys import DATABASE, SETTINGS
from node.web.negotiate import wants_html
from node.web.pages import called, called_runs, render
from node.web.problem import Problem, not_found
from node.web.search_question import number
from node.web.viewer import viewer_of
from runners.errors import ImageRefused, PipelineUnavailable, UnitFailed, WorkerDied

SIMILAR: Final = web.AppKey("similar", Similarity)
SIMILAR_REGIONS: Final = web.AppKey("similar_regions", Similarity)
EMBEDDER: Final = web.AppKey("embedder", Embedder)
MAX_PICTURE_BYTES: Final = 32 * 1024 * 1024
"""A whole sheet as JPEG is 6 to 17 MB. For similarity 1,000 pixels are plenty, so send a small one."""
MAX_BODY_BYTES: Final = 256 * 1024
PICTURES: Final = ("image/jpeg", "image/png", "image/tiff", "image/webp")
PAGE: Final = 12
MAX_PAGE: Final = 100
LIMIT_S: Final = 4.0
_SIDE: Final = re.compile(r"[0-9]{1,6}\Z")
_MEMBERS: Final = frozenset({"id", "vector", "box", "predicate", "selection", "limit"})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    vector: Floats | None
    """(1280,); None: the image has none yet."""
    but: tuple[str, Box] | None = None
    """The image that was asked about, SHA-256 (hex), and the box of a region."""

    @property
    def is_region(self) -> bool:
        """Whether regions are asked for instead of images."""
        return self.but is not None and self.but[1] != WHOLE


def routes() -> list[web.RouteDef]:
    """The routes of this module."""
    return [web.get("/similar", similar_to_stored), web.post("/similar", similar_to_sent)]


async def similar_to_stored(request: web.Request) -> web.StreamResponse:
    """Images like a stored one: ``?id=`` a medium, specimen or content id; with ``box=``, regions like one of it."""
    query = list(request.query.items())
    if not any(key == "id" and value for key, value in query):
        raise Problem(
            400, "no-id", "Say what it should be similar to",
            "GET /similar?id=ID with the address of a medium or specimen of this node or a content id, "
            "or POST a picture, a vector or an id.",
        )  # fmt: skip
    wanted = next(value for key, value in query if key == "id" and value)[:400]
    limit, selection = _filters(request)
    asked = await _stored(request, wanted, _box(request.query["box"].split(",")) if "box" in request.query else WHOLE)
    return await _answer(request, asked, selection, limit, wanted)


async def similar_to_sent(request: web.Request) -> web.StreamResponse:
    """Images like a sent picture, or like what a JSON body says."""
    if request.content_type == "application/json":
        return await _by_json(request)
    if request.content_type not in PICTURES:
        raise Problem(
            415, "not-a-picture", "A picture or JSON is wanted",
            f"Send Content-Type: one of {', '.join(PICTURES)} with the picture as the body, or application/json.",
        )  # fmt: skip
    limit, selection = _filters(request)
    embedder = request.app[EMBEDDER]
    try:
        with embedder.place():
            values = await embedder.vector_of(await _picture(request))
    except EmbedderBusy as error:
        raise Problem(
            503, "busy", "Other pictures are being looked at", "Try again in a few seconds.",
            headers={"Retry-After": "5"},
        ) from error  # fmt: skip
    except ImageRefused as error:
        raise Problem(422, "unreadable-picture", "The picture cannot be used", f"{error}.") from error
    except PipelineUnavailable as error:
        raise Problem(
            503, "no-embedding", "This node cannot look at pictures now", "Ask by the id of a stored image instead."
        ) from error
    except (UnitFailed, WorkerDied) as error:
        raise Problem(
            503, "failed", "Looking at the picture failed", "Try again; a smaller picture needs less.",
            headers={"Retry-After": "5"},
        ) from error  # fmt: skip
    return await _answer(request, _Asked(vector=np.array(values, dtype=np.float32)), selection, limit, "")


def _filters(request: web.Request) -> tuple[int, Selection]:
    """How many, and which, by the address."""
    limit = number(request.query.get("limit", ""), "limit", PAGE, 1, MAX_PAGE)
    pairs = [
        (key, value) for key, value in request.query.items() if value and key not in ("id", "box", "limit", "format")
    ]
    return limit, Selection.from_pairs(pairs)


async def _picture(request: web.Request) -> bytes:
    """The body, up to its limit (which is not that of other bodies)."""
    if request.content_length is not None and request.content_length > MAX_PICTURE_BYTES:
        raise _too_large()
    data = bytearray()
    async for chunk in request.content.iter_any():
        data += chunk
        if len(data) > MAX_PICTURE_BYTES:
            raise _too_large()
    if not data:
        raise Problem(400, "no-picture", "There is no picture", "Send the picture as the body of the request.")
    return bytes(data)


def _too_large() -> Problem:
    return Problem(
        413, "too-large", "The picture is too large",
        f"At most {MAX_PICTURE_BYTES:,} bytes; 1,000 pixels on the longer side are enough.",
    )  # fmt: skip


async def _by_json(request: web.Request) -> web.StreamResponse:
    document = as_object(parse_json(await request.read(), max_bytes=MAX_BODY_BYTES), "the question")
    extra = sorted(set(document) - _MEMBERS)
    if extra or ("id" in document) == ("vector" in document) or ("box" in document and "id" not in document):
        raise SelectionError(
            "a question has id (and box, for a region) or vector, and may have predicate, selection, limit"
            + (f"; not {extra[0][:40]!r}" if extra else "")
        )
    limit = get_int(document, "limit", low=1, high=MAX_PAGE) if "limit" in document else PAGE
    selection = _selection(document)
    if "id" in document:
        wanted = get_str(document, "id", max_chars=400)
        box = _box(get_list(document, "box", max_items=4)) if "box" in document else WHOLE
        return await _answer(request, await _stored(request, wanted, box), selection, limit, wanted)
    values = read_vector(get_str(document, "vector", max_chars=VECTOR_CHARS))
    return await _answer(request, _Asked(vector=np.array(values, dtype=np.float32)), selection, limit, "")


def _selection(document: Mapping[str, Json]) -> Selection:
    parts = []
    if document.get("predicate") is not None:
        parts.append(parse_predicate(document["predicate"]))
    if "selection" in document:
        parts.append(parse_selection(document["selection"]).tree)
    return Selection.of(all_of(parts) if parts else All())


def _box(sides: Sequence[Json]) -> Box:
    """x, y, width, height of a region."""
    numbers = tuple(int(side) for side in (str(item) for item in sides) if _SIDE.match(side))
    if len(numbers) != 4 or len(sides) != 4 or numbers[2] < 1 or numbers[3] < 1:
        raise SelectionError("box is x,y,width,height of a region in whole pixels, as an answer or a group names it")
    return numbers


async def _stored(request: web.Request, wanted: str, box: Box) -> _Asked:
    """The vector of a stored image, or of a region of it, that the viewer may see."""
    viewer, origin = viewer_of(request), request.app[SETTINGS].origin
    image, reason = await request.app[DATABASE].read(lambda conn: _image_of(conn, wanted, origin, viewer))
    if reason:
        raise Problem(403, "restricted", "This image is not compared for you", reason + ".")
    if image is None:
        raise not_found()
    similarity = request.app[SIMILAR if box == WHOLE else SIMILAR_REGIONS]
    vector = await request.app[DATABASE].read(lambda _: similarity.vector_of(image, box))
    return _Asked(vector=vector, but=(image, box))


def _image_of(conn: sqlite3.Connection, wanted: str, origin: str, viewer: Viewer) -> tuple[str | None, str]:
    """The image behind an id, when its pixels are for this viewer; else why not, in words that may be said."""
    path = wanted.removeprefix(origin).lstrip("/")
    kind, _, record_id = path.partition("/")
    image: str | None = None
    facts = None
    if kind in ("medium", "media", "specimen") and record_id:
        found = records.get(conn, "specimen" if kind == "specimen" else "medium", record_id)
        if (
            found is None
            or found.state == "tombstone"
            or not decide(viewer, Door.RECORD, record_facts(conn, found.iri)).allowed
        ):
            return None, ""
        row = conn.execute(
            """SELECT m.iri, m.image FROM medium m LEFT JOIN medium_specimen s ON s.medium = m.iri
               WHERE (m.iri = ?1 OR s.specimen = ?1) AND m.state = 'active' AND m.image IS NOT NULL
                 AND (m.access < 2 OR ?2) ORDER BY s.ordinal, m.iri LIMIT 1""",
            (found.iri, viewer.is_staff),
        ).fetchone()
        if row is not None:
            image, facts = row["image"], bytes_facts(conn, ContentId.from_hex(row["image"]))
    else:
        try:
            cid = parse_content_id(wanted)
        except ContentIdError:
            return None, ""
        image, facts = cid.hex, bytes_facts(conn, cid)
    if image is None or facts is None:
        return None, ""
    seen = decide(viewer, Door.BYTES, facts)
    if seen.absent:
        return None, ""
    return (image, "") if seen.allowed else (None, seen.reason)


async def _answer(
    request: web.Request, asked: _Asked, selection: Selection, limit: int, wanted: str
) -> web.StreamResponse:
    similarity = request.app[SIMILAR_REGIONS if asked.is_region else SIMILAR]
    viewer = viewer_of(request)
    is_page = wants_html(request)

    def read(conn: sqlite3.Connection) -> list[dict[str, Any]]:
        if asked.vector is None:
            return []
        near = similarity.ask(conn, viewer, asked.vector, limit=limit, selection=selection, but=asked.but)
        return [_item(conn, item, is_page=is_page) for item in near]

    try:
        items = await request.app[DATABASE].read(read, limit_s=LIMIT_S)
    except sqlite3.OperationalError as error:
        if "interrupted" not in str(error):
            raise
        raise Problem(
            503, "too-slow", "The search took too long", "Narrow it: a family, a country, a range of years.",
            headers={"Retry-After": "5"},
        ) from error  # fmt: skip
    headers = {"Vary": "Accept, Cookie", "Cache-Control": "no-store" if viewer.is_staff else "no-cache"}
    if is_page:
        origin = request.app[SETTINGS].origin
        cards = [
            {
                **item, "path": (item["specimens"] or [item["medium"]])[0].removeprefix(origin),
                "medium_path": item["medium"].removeprefix(origin),
            }
            for item in items
        ]  # fmt: skip
        context = {
            "hits": cards, "wanted": wanted.removeprefix(origin), "has_vector": asked.vector is not None,
            "is_region": asked.is_region,
        }  # fmt: skip
        return render(request, "similar.html", context)
    headers["Access-Control-Allow-Origin"] = "*"
    document = {"pipeline": similarity.pipeline, "hasVector": asked.vector is not None, "items": items}
    return web.json_response(document, headers=headers)


def _item(conn: sqlite3.Connection, near: Near, *, is_page: bool) -> dict[str, Any]:
    body: dict[str, Any] = {}
    for iri in near.specimens[:1]:
        found = records.get_by_iri(conn, iri)
        body = json.loads(found.body) if found is not None else {}
    return {
        "medium": near.medium,
        "specimens": list(near.specimens),
        "image": str(ContentId.from_hex(near.image)),
        "box": list(near.box) if near.box != WHOLE else None,
        "class": near.kind or None,
        "score": f"{max(-1.0, min(1.0, near.score)):.3f}",
        "name": called(body) if body else "",
        "catalogNumber": str(body.get("dwc:catalogNumber", "")),
        "institutionCode": str(body.get("dwc:institutionCode", "")),
        **({"runs": called_runs(body) if body else ()} if is_page else {}),
    }
