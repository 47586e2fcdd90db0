"""IIIF Presentation 3.0 and Content Search 2.0 over HTTP: ``/iiif/presentation/3/..`` and ``/iiif/search/2/..``.

Invariants:
- Everybody gets the same documents, staff too: they say what may be said to anybody, so they can be kept by caches and
  handed on. Staff see more on the pages.
- Each medium is asked for three times: may its record be known, may its pixels be seen, may what was read from it.
  A medium whose record must not be known is not counted, listed or named.
- Lists are in the order of ids and are cut by the beginning of the id, so an address stays right while a node grows.

It leaves out: the documents (``linkeddata.presentation``, ``linkeddata.content_search``), the pictures.
"""

import hashlib
import json
import sqlite3
from collections.abc import Awaitable, Callable, Mapping
from functools import wraps
from typing import Any, Final

from aiohttp import web

from cas.ids import ContentId
from linkeddata.content_search import MAX_QUERY_CHARS, Question, build_search_page
from linkeddata.iiif_image import offered_size, parse_target, resolve
from linkeddata.presentation import (
    CONTEXT,
    CollectionItem,
    Place,
    Publisher,
    ShownMedium,
    ShownRegion,
    ShownSpecimen,
    build_annotation_page,
    build_canvas,
    build_collection,
    build_manifest,
    parse_px_per_mm,
    place_of,
)
from node.access import ANONYMOUS, Door, decide
from node.config import ImagesSection, Settings
from node.storage import records
from node.storage.facts import medium_facts, record_facts, shown_instead
from node.storage.records import StoredRecord
from node.web.iiif import IMAGES
from node.web.keys import BLOBS, DATABASE, SETTINGS
from node.web.negotiate import JSON_LD, quality
from node.web.overlays import overlays_of, scale_of
from node.web.pages import called
from node.web.problem import Problem, not_found
from node.web.ranges import decide_bytes
from node.web.records_api import sections_of

PAGE: Final = 250
"""Manifests in one collection; more are cut by the next letter of their ids. Viewers draw the whole list."""
MOST_MEDIA: Final = 200
"""Canvases in one manifest; a specimen with more pictures says how many are left out."""
ALPHABET: Final = "234567abcdefghijklmnopqrstuvwxyz"
"""Letters of ids, in their order."""
MAX_START: Final = 1_000_000
_ID: Final = "{id:[a-z2-7]{16}}"
_MEDIUM: Final = "{medium:[a-z2-7]{16}}"
_SPECIMEN: Final = "/iiif/presentation/3/specimen/" + _ID
_WHOLE: Final = parse_target("x/full/max/0/default.jpg").image
_NAMES: Final = {
    "scientific_name": "ods:specimenName", "genus": "dwc:genus", "family": "dwc:family",
    "institution_code": "dwc:institutionCode", "catalog_number": "dwc:catalogNumber",
}  # fmt: skip
"""Column of the search tables -> term; what a list names specimens by."""
_UNSHOWN: Final = "the file cannot be read at the moment"
_AWAY: Final = "no copy of it is here at the moment"
_REDACTED: Final = "the taxon is sensitive, and labels tell the place"
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def routes() -> list[web.RouteDef]:
    """The routes of this module."""
    return [
        web.get(f"{_SPECIMEN}/manifest", manifest),
        web.get(f"{_SPECIMEN}/canvas/{_MEDIUM}", canvas),
        web.get(f"{_SPECIMEN}/canvas/{_MEDIUM}/annotations", annotations),
        web.get("/iiif/presentation/3/collection", collection),
        web.get("/iiif/presentation/3/collection/{prefix:[a-z2-7]{1,16}}", collection),
        web.get(f"/iiif/search/2/specimen/{_ID}", search),
    ]


def _for_every_page(handler: Handler) -> Handler:
    """Lets scripts of other sites read the errors too: a viewer then says what is wrong."""

    @wraps(handler)
    async def answer(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except Problem as problem:
            problem.headers.setdefault("Access-Control-Allow-Origin", "*")
            raise

    return answer


@_for_every_page
async def manifest(request: web.Request) -> web.StreamResponse:
    """The manifest of a specimen."""
    shown = await _shown(request)
    return _answer(request, build_manifest(shown, _publisher(request.app[SETTINGS])))


@_for_every_page
async def canvas(request: web.Request) -> web.StreamResponse:
    """One canvas by itself."""
    shown = await _shown(request)
    document = build_canvas(shown, request.match_info["medium"], _publisher(request.app[SETTINGS]))
    if document is None:
        raise not_found()
    return _answer(request, document)


@_for_every_page
async def annotations(request: web.Request) -> web.StreamResponse:
    """What was read from one picture."""
    shown = await _shown(request)
    for medium in shown.media:
        if medium.id == request.match_info["medium"]:
            return _answer(request, build_annotation_page(shown, medium, request.app[SETTINGS].origin))
    raise not_found()


@_for_every_page
async def collection(request: web.Request) -> web.StreamResponse:
    """Specimens whose ids begin with some letters: a list of manifests, or of longer beginnings."""
    prefix, settings = request.match_info.get("prefix", ""), request.app[SETTINGS]
    is_away = _away_of(request)
    parts, items = await request.app[DATABASE].read(lambda conn: _listed(conn, settings, prefix, is_away))
    document = build_collection(prefix=prefix, parts=parts, items=items, publisher=_publisher(settings))
    return _answer(request, document)


@_for_every_page
async def search(request: web.Request) -> web.StreamResponse:
    """Words in what was read from the pictures of a specimen."""
    query, start = request.query, request.query.get("start", "0")
    if not start.isascii() or not start.isdecimal() or len(start) > 7 or int(start) > MAX_START:
        raise Problem(400, "bad-request", "start cannot be used", f"start is a whole number from 0 to {MAX_START}.")
    if len(query.get("q", "")) > MAX_QUERY_CHARS or len(query.get("motivation", "")) > MAX_QUERY_CHARS:
        raise Problem(400, "bad-request", "Too long a question", f"q has at most {MAX_QUERY_CHARS} characters.")
    question = Question(
        q=query.get("q", ""),
        motivation=query.get("motivation", ""),
        ignored=tuple(name for name in ("date", "user") if query.get(name)),
        start=int(start),
    )
    shown = await _shown(request)
    return _answer(request, build_search_page(shown, question, request.app[SETTINGS].origin))


def _publisher(settings: Settings) -> Publisher:
    return Publisher(origin=settings.origin, name=settings.node.name, organisation=settings.node.organisation)


async def _shown(request: web.Request) -> ShownSpecimen:
    """The specimen of this request as everybody may see it.

    Raises:
        Problem: it is not here, was withdrawn, or has no image that anybody may know of.
    """
    record_id, images = request.match_info["id"], request.app[SETTINGS].images
    is_away = _away_of(request)

    def look(conn: sqlite3.Connection) -> tuple[StoredRecord, list[ShownMedium], int] | None:
        found = records.get(conn, "specimen", record_id)
        if found is None or not decide(ANONYMOUS, Door.RECORD, record_facts(conn, found.iri)).allowed:
            return None
        if found.state == "tombstone":
            return found, [], 0
        return found, *_media(conn, found.iri, images, with_regions=True, is_away=is_away)

    looked = await request.app[DATABASE].read(look)
    if looked is None:
        raise not_found()
    found, media, missing = looked
    if found.state == "tombstone":
        raise Problem(410, "gone", "This specimen was withdrawn", f"What remains is at {found.iri}.")
    if not media:
        raise Problem(404, "no-images", "No image is published with this specimen", f"Its record is at {found.iri}.")
    return _specimen(found, media, missing)


def _away_of(request: web.Request) -> Callable[[sqlite3.Row], bool]:
    """Whether a row of the table ``medium`` is an image of another place that no visitor can look at now: its copy went
    to make room, nothing drawn from it is left, and visitors cause no fetch.
    """
    blobs, derived = request.app[BLOBS], request.app[IMAGES].derived
    may_fetch = request.app[SETTINGS].remote.anonymous_may_fetch

    def is_away(row: sqlite3.Row) -> bool:
        if may_fetch or row["image"] is None or not row["locator"].startswith(("http://", "https://")):
            return False
        cid = ContentId.from_hex(row["image"])
        return blobs.index.size_of(cid) is None and not derived.path("pyramids", cid).exists()

    return is_away


def _specimen(found: StoredRecord, media: list[ShownMedium], missing: int) -> ShownSpecimen:
    body: dict[str, Any] = json.loads(found.body)
    pairs = [(label, value) for title, lines in sections_of(body) if title != "File" for label, value in lines]
    if missing:
        pairs.append(("Images that are not here", str(missing)))
    event = _first(body.get("ods:hasEvents"))
    return ShownSpecimen(
        id=found.id, iri=found.iri, label=specimen_label(body), metadata=tuple(pairs), media=tuple(media),
        rights_holder=body.get("dcterms:rightsHolder", ""), event_date=event.get("dwc:eventDate", ""),
        place=_place(body, event),
    )  # fmt: skip


def _place(body: dict[str, Any], event: dict[str, Any]) -> Place | None:
    location = event.get("ods:hasLocation") or {}
    georeference = location.get("ods:hasGeoreference") or {}
    uncertainty = georeference.get("dwc:coordinateUncertaintyInMeters", "")
    notes = (
        body.get("dwc:dataGeneralizations", ""),
        f"Uncertainty: {uncertainty} m" if uncertainty else "",
    )
    names = (location.get("dwc:locality"), location.get("dwc:stateProvince"), location.get("dwc:country"))
    return place_of(
        georeference.get("dwc:decimalLatitude", ""), georeference.get("dwc:decimalLongitude", ""),
        datum=georeference.get("dwc:geodeticDatum", ""), label=", ".join(name for name in names if name),
        note=". ".join(note for note in notes if note),
    )  # fmt: skip


def specimen_label(body: Mapping[str, Any]) -> str:
    """Name and number of a specimen, as the pages write them."""
    name, number = called(body), body.get("dwc:catalogNumber") or ""
    institution = body.get("dwc:institutionCode") or ""
    code = "" if not institution or number.startswith(institution) else f"{institution} "
    return f"{name}, {code}{number}" if number else name


def _media(
    conn: sqlite3.Connection,
    specimen: str,
    images: ImagesSection,
    *,
    with_regions: bool,
    is_away: Callable[[sqlite3.Row], bool],
) -> tuple[list[ShownMedium], int]:
    """The media that everybody may know of, in their order, and how many of them have no size yet."""
    rows = conn.execute(
        """SELECT m.* FROM medium_specimen s JOIN medium m ON m.iri = s.medium
           WHERE s.specimen = ? AND m.state = 'active' ORDER BY s.ordinal, m.iri LIMIT ?""",
        (specimen, MOST_MEDIA),
    ).fetchall()
    shown: list[ShownMedium] = []
    missing = 0
    for row in rows:
        facts = medium_facts(conn, row["iri"])
        if not decide(ANONYMOUS, Door.RECORD, facts).allowed:
            continue
        stored = records.get_by_iri(conn, row["iri"])
        if stored is None or not row["width"] or not row["height"]:
            missing += 1
            continue
        instead = shown_instead(conn, row["image"]) if images.shows_redacted else None
        image, shown_facts = instead or (row["image"], facts)
        seen = decide(
            ANONYMOUS, Door.IMAGE, shown_facts, anonymous_max_px=images.anonymous_max_px,
            restricted_thumbnail_px=images.restricted_thumbnail_px, sensitive_px=images.most_of_sensitive_px,
            shows_redacted=images.shows_redacted,
        )  # fmt: skip
        went_away = seen.allowed and instead is None and is_away(row)
        is_shown = seen.allowed and image is not None and not row["problem"] and not went_away
        offered = offered_size(row["width"], row["height"], seen.max_px)
        whole = resolve(_WHOLE, width=offered[0], height=offered[1], max_area=images.max_output_pixels)
        if not seen.allowed:
            withheld = seen.reason
        elif not is_shown:
            withheld = _AWAY if went_away else _UNSHOWN
        elif instead is not None:
            withheld = _REDACTED
        elif offered != (row["width"], row["height"]):
            withheld = decide(ANONYMOUS, Door.BYTES, facts).reason or f"at most {seen.max_px} pixels are for everybody"
        else:
            withheld = ""
        body: dict[str, Any] = json.loads(stored.body)
        shown.append(
            ShownMedium(
                id=stored.id, iri=stored.iri, width=row["width"], height=row["height"],
                image=image if is_shown else None, offered=offered, largest=(whole.width, whole.height),
                withheld=withheld, is_redacted=shown_facts.is_redacted, title=body.get("dcterms:title", ""),
                licence=body.get("dcterms:license", ""),
                px_per_mm=parse_px_per_mm(_scale(conn, row, body, is_shown=is_shown)),
                regions=_regions(conn, row["iri"], row["image"]) if with_regions and is_shown else (),
            )
        )  # fmt: skip
    return shown, missing


def _scale(conn: sqlite3.Connection, row: sqlite3.Row, body: dict[str, Any], *, is_shown: bool) -> str:
    """What the institution states, else what a published result says of these bytes."""
    stated = str(body.get("vasculum:pixelsPerMillimetre", ""))
    if stated or not is_shown:
        return stated
    overlays = overlays_of(conn, row["iri"], row["image"], ANONYMOUS)
    return scale_of("", [item for item in overlays if item.iri is not None and item.state == "current"])


def _regions(conn: sqlite3.Connection, medium: str, image: str | None) -> tuple[ShownRegion, ...]:
    return tuple(
        ShownRegion(
            annotation=overlay.iri, number=number, text=region.text,
            box=(region.x, region.y, region.width, region.height), polygon=region.polygon,
        )
        for overlay in overlays_of(conn, medium, image, ANONYMOUS)
        if overlay.iri is not None and overlay.state == "current"
        for number, region in enumerate(overlay.regions, 1)
        if region.text
    )  # fmt: skip


def _listed(
    conn: sqlite3.Connection, settings: Settings, prefix: str, is_away: Callable[[sqlite3.Row], bool]
) -> tuple[list[str], list[CollectionItem]]:
    origin = settings.origin
    if _candidates(conn, origin, prefix, PAGE + 1)[PAGE:] and len(prefix) < 16:
        return [prefix + letter for letter in ALPHABET if _candidates(conn, origin, prefix + letter, 1)], []
    items: list[CollectionItem] = []
    for row in _candidates(conn, origin, prefix, PAGE):
        if not decide(ANONYMOUS, Door.RECORD, record_facts(conn, row["iri"])).allowed:
            continue
        media, _ = _media(conn, row["iri"], settings.images, with_regions=False, is_away=is_away)
        if media:
            name = specimen_label({term: row[column] for column, term in _NAMES.items()})
            first = next((medium for medium in media if medium.image is not None), None)
            items.append(CollectionItem(id=row["iri"].rpartition("/")[2], label=name, medium=first))
    return [], items


def _candidates(conn: sqlite3.Connection, origin: str, prefix: str, limit: int) -> list[sqlite3.Row]:
    """Public specimens with images of any class, whose ids begin with ``prefix``."""
    first = records.iri_of(origin, "specimen", prefix)
    return conn.execute(
        """SELECT iri, scientific_name, genus, family, institution_code, catalog_number FROM specimen_facet
           WHERE iri >= ? AND iri < ? AND access < 2 AND has_image = 1 ORDER BY iri LIMIT ?""",
        (first, first + "{", limit),  # "{" comes after "z"
    ).fetchall()


def _first(value: Any) -> dict[str, Any]:
    return value[0] if isinstance(value, list) and value and isinstance(value[0], dict) else {}


def _answer(request: web.Request, document: dict[str, Any]) -> web.Response:
    data = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
    accept = request.headers.get("Accept", "")
    is_plain = quality(accept, "application/json") > quality(accept, JSON_LD)
    etag = f'"{hashlib.sha256(data).hexdigest()[:40]}{"-json" if is_plain else ""}"'
    headers = {
        "ETag": etag, "Vary": "Accept", "Cache-Control": "public, max-age=300", "Access-Control-Allow-Origin": "*",
        "Content-Type": "application/json" if is_plain else f'{JSON_LD};profile="{CONTEXT}"',
    }  # fmt: skip
    status = decide_bytes(request.headers, size=len(data), etag=etag, method="HEAD").status
    return web.Response(status=status, body=data if status == 200 else None, headers=headers)
