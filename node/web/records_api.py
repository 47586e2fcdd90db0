"""Records over HTTP: ``/specimen``, ``/media`` and ``/annotation``, as JSON-LD or as pages; and previews.

Invariants:
- JSON-LD is served as the stored canonical bytes, with their digest as entity tag; nothing is rewritten per request.
- Private records, unknown ids and unknown versions get the same 404; withdrawn ones 410 with their tombstone.
- A restricted image's page shows a grey frame of true proportions, what may be said, why, and whom to ask.
"""

import asyncio
import json
import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

from aiohttp import web

from cas.errors import BlobArchived, BlobChanged, BlobNotFound, BlobWithdrawn, CasError, ContentIdError
from cas.ids import ContentId
from linkeddata.issues import FLAGS
from linkeddata.licences import normalise_licence
from node.access import ANONYMOUS, Door, Facts, Viewer, Visibility, decide
from node.config import Settings
from node.storage import records
from node.storage.facts import bytes_facts, medium_facts, record_facts, shown_instead
from node.storage.issues import issues_of
from node.storage.records import Kind, StoredRecord
from node.web.keys import CLOCK, DATABASE, PREVIEWS, REMOTE, SETTINGS
from node.web.negotiate import JSON_LD, wants_html
from node.web.overlays import Overlay, overlays_of, scale_of
from node.web.pages import called, called_runs, render
from node.web.previews import PreviewFailed
from node.web.problem import Problem, not_found
from node.web.refusals import not_here
from node.web.remote import need_of_medium
from node.web.viewer import viewer_of

_ID: Final = r"{id:[a-z2-7]{16}}"


def routes() -> list[web.RouteDef]:
    """The routes of this module."""
    return [
        web.get("/specimen", resolve),
        web.get(f"/specimen/{_ID}", specimen),
        web.get("/media/sha256/{hex:[0-9a-f]{64}}", media_of_bytes),
        web.get(f"/media/{_ID}", medium),
        web.get(f"/media/{_ID}/preview.jpg", preview),
        web.get("/annotation/{id:[a-z2-7]{16,64}}", annotation),
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class MediumView:
    """A medium as a page shows it."""

    iri: str
    path: str
    width: int
    height: int
    image: str | None
    visibility: Visibility
    overlays: list[Overlay]
    access: str
    problem: str
    title: str
    licence: str
    licence_name: str
    px_per_mm: str
    """Resolution on the specimen, as stated; empty when it is not known."""
    original: str = ""
    """SHA-256 (hex) of the file that this viewer gets: of the image, or its public original; empty: neither."""
    is_redacted: bool = False
    """What is shown has its labels blacked out."""
    may_fetch: bool = False
    """Whether this viewer may cause it to be fetched."""
    elsewhere: str = ""
    """The address at which the image lies while none of its bytes were ever here; not said of what is withheld."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpecimenName:
    """A specimen as a link to it reads."""

    path: str
    name: str
    number: str
    runs: tuple[tuple[str, bool], ...]
    """The name in pieces, each with whether it stands in italics."""


async def resolve(request: web.Request) -> web.StreamResponse:
    """``?id=ANY``: the one visible record that any identifier names."""
    identifier = request.query.get("id", "")
    if not identifier or len(identifier) > 2000:
        raise Problem(400, "bad-request", "Which identifier?", "Ask as /specimen?id=IDENTIFIER.")
    viewer = viewer_of(request)

    def look(conn: sqlite3.Connection) -> list[str]:
        return [
            iri
            for iri in records.resolve(conn, identifier)
            if decide(viewer, Door.RECORD, record_facts(conn, iri)).allowed
        ]

    found = await request.app[DATABASE].read(look)
    if not found:
        raise not_found()
    if len(found) > 1:
        raise Problem(300, "ambiguous", "Several records have this identifier", "; ".join(found))
    raise web.HTTPSeeOther(found[0].removeprefix(request.app[SETTINGS].origin))


async def specimen(request: web.Request) -> web.StreamResponse:
    """A specimen."""
    return await _record(request, "specimen")


async def medium(request: web.Request) -> web.StreamResponse:
    """A medium."""
    return await _record(request, "medium")


async def annotation(request: web.Request) -> web.StreamResponse:
    """An annotation."""
    return await _record(request, "annotation")


async def media_of_bytes(request: web.Request) -> web.StreamResponse:
    """The visible media that use some bytes."""
    cid, viewer = ContentId.from_hex(request.match_info["hex"]), viewer_of(request)
    shows_redacted = request.app[SETTINGS].images.shows_redacted

    def look(conn: sqlite3.Connection) -> list[str]:
        rows = conn.execute(
            """WITH wanted (image) AS (SELECT ?1 UNION SELECT image FROM public_original WHERE public = ?1
                 UNION SELECT image FROM redaction WHERE derivative = ?1)
               SELECT iri FROM medium WHERE state = 'active' AND (image IN (SELECT image FROM wanted)
                 OR iri IN (SELECT medium FROM medium_variant WHERE image IN (SELECT image FROM wanted)))
               ORDER BY iri""",
            (cid.hex,),
        )
        if not decide(viewer, Door.RECORD, bytes_facts(conn, cid), shows_redacted=shows_redacted).allowed:
            return []
        return [row["iri"] for row in rows if decide(viewer, Door.RECORD, record_facts(conn, row["iri"])).allowed]

    found = await request.app[DATABASE].read(look)
    if not found:
        raise await not_here(request, cid, viewer)
    return web.json_response({"contentId": str(cid), "media": found})


async def preview(request: web.Request) -> web.StreamResponse:
    """A small picture of an open medium (or of any, for staff)."""
    record_id, viewer = request.match_info["id"], viewer_of(request)
    shows_redacted = request.app[SETTINGS].images.shows_redacted and not viewer.is_staff

    def look(conn: sqlite3.Connection) -> tuple[str, str | None, Visibility, bool]:
        found = records.get(conn, "medium", record_id)
        if found is None or found.state == "tombstone":
            return "", None, Visibility(allowed=False, absent=True), False
        facts = medium_facts(conn, found.iri)
        row = conn.execute("SELECT image FROM medium WHERE iri = ?", (found.iri,)).fetchone()
        instead = shown_instead(conn, row["image"]) if row is not None and shows_redacted else None
        if instead is not None:
            return found.iri, instead[0], decide(viewer, Door.BYTES, instead[1], shows_redacted=True), False
        is_public = decide(Viewer(), Door.BYTES, facts).allowed
        return found.iri, (row["image"] if row else None), decide(viewer, Door.BYTES, facts), is_public

    iri, image, seen, is_public = await request.app[DATABASE].read(look)
    if seen.absent or (seen.allowed and image is None):
        raise (await need_of_medium(request, iri, viewer) if seen.allowed else None) or not_found()
    if not seen.allowed or image is None:
        raise Problem(403, "restricted", "This image does not leave the institution", seen.reason + ".")
    longest_px = request.app[PREVIEWS].size_for(viewer)
    try:
        data = await request.app[PREVIEWS].get(ContentId.from_hex(image), longest_px)
    except BlobArchived:
        raise  # 202: brought back, and then there is a preview
    except BlobWithdrawn as error:
        raise await not_here(request, ContentId.from_hex(image), viewer) from error
    except (BlobNotFound, BlobChanged) as error:
        problem = await need_of_medium(request, iri, viewer)
        raise problem or Problem(404, "no-preview", "There is no preview", str(error)) from error
    except (CasError, PreviewFailed, ContentIdError) as error:
        raise Problem(404, "no-preview", "There is no preview", str(error)) from error
    await asyncio.to_thread(_note_use, request, ContentId.from_hex(image))
    cache = "public, max-age=86400" if is_public else "private, no-store"
    etag = f'"preview-{longest_px}-{image[:32]}"'
    if request.headers.get("If-None-Match") == etag:
        return web.Response(status=304, headers={"ETag": etag, "Cache-Control": cache})
    return web.Response(body=data, content_type="image/jpeg", headers={"ETag": etag, "Cache-Control": cache})


def _note_use(request: web.Request, cid: ContentId) -> None:
    request.app[REMOTE].bytes.note_use(cid, now=request.app[CLOCK]())


async def _record(request: web.Request, kind: Kind) -> web.StreamResponse:
    record_id, viewer, version = request.match_info["id"], viewer_of(request), _version(request)

    def look(conn: sqlite3.Connection) -> StoredRecord | None:
        found = records.get(conn, kind, record_id, version=version)
        if found is None:
            return None
        door = Door.TEXT if kind == "annotation" and found.state == "active" else Door.RECORD
        if not decide(viewer, door, record_facts(conn, found.iri)).allowed:
            return None
        return found

    found = await request.app[DATABASE].read(look)
    if found is None:
        raise not_found()
    if wants_html(request):
        return await _page(request, found, viewer)
    return _json_ld(request, found)


def _json_ld(request: web.Request, found: StoredRecord) -> web.Response:
    etag = f'"{found.digest}"'
    headers = {
        "ETag": etag,
        "Vary": "Accept, Cookie",
        "Cache-Control": "public, max-age=300" if found.access == 0 and not found.sensitive else "no-cache",
        "Access-Control-Allow-Origin": "*",
        "Link": _links(found),
    }
    if request.headers.get("If-None-Match") == etag and found.state == "active":
        return web.Response(status=304, headers=headers)
    status = 410 if found.state == "tombstone" else 200
    return web.Response(status=status, body=found.body, content_type=JSON_LD, headers=headers)


def _links(found: StoredRecord) -> str:
    """FAIR Signposting, level 1."""
    body: dict[str, Any] = json.loads(found.body)
    links = [f'<{found.iri}>; rel="cite-as"', f'<{found.iri}>; rel="describedby"; type="{JSON_LD}"']
    licence = body.get("dcterms:license")
    if isinstance(licence, str) and licence.startswith("https://"):
        links.append(f'<{quote(licence, safe=":/#?=&")}>; rel="license"')
    for item in body.get("ods:hasEntityRelationships", [])[:20]:
        target = item.get("dwc:relatedResourceID", "")
        if item.get("dwc:relationshipOfResource") == "hasDigitalMedia" and target.startswith("http"):
            links.append(f'<{quote(target, safe=":/#?=&")}>; rel="item"')
    return ", ".join(links)


def _version(request: web.Request) -> int | None:
    text = request.query.get("version")
    if text is None:
        return None
    if not text.isascii() or not text.isdecimal() or len(text) > 9:
        raise Problem(400, "bad-request", "Not a version", "A version is a whole number, as in ?version=2.")
    return int(text)


async def _page(request: web.Request, found: StoredRecord, viewer: Viewer) -> web.Response:
    body: dict[str, Any] = json.loads(found.body)
    status = 410 if found.state == "tombstone" else 200
    context: dict[str, Any] = {
        "record": found,
        "body": body,
        "path": found.iri.removeprefix(request.app[SETTINGS].origin),
    }
    if found.state == "tombstone":
        return render(request, "tombstone.html", context, status=status)
    if found.kind == "annotation":
        target = body["oa:hasTarget"]["@id"]
        context["target_path"] = target.removeprefix(request.app[SETTINGS].origin)
        return render(request, "annotation.html", context)
    context["media"] = await request.app[DATABASE].read(
        lambda conn: _media_views(conn, found, viewer, request.app[SETTINGS])
    )
    context["sections"] = sections_of(body)
    known = await request.app[DATABASE].read(lambda conn: issues_of(conn, found.iri)) if viewer.is_staff else []
    context["issues"] = issue_views(body, {item.code: item.detail for item in known})
    if found.kind == "medium":
        targets = [item["dwc:relatedResourceID"] for item in body.get("ods:hasEntityRelationships", [])]
        context["specimens"] = await request.app[DATABASE].read(
            lambda conn: specimen_names(conn, targets, viewer, request.app[SETTINGS].origin)
        )
    context["manifest"] = await request.app[DATABASE].read(lambda conn: _manifest_of(conn, found))
    return render(request, "specimen.html" if found.kind == "specimen" else "medium.html", context)


def issue_views(body: Mapping[str, Any], details: Mapping[str, str]) -> list[tuple[str, str, str, str]]:
    """(flag, what it says, what to do, values that led to it): those of the document, and those only staff know."""
    codes = sorted({*body.get("vasculum:issue", ()), *details} & FLAGS.keys())
    return [(code, FLAGS[code].says, FLAGS[code].advice, details.get(code, "")) for code in codes]


def specimen_names(conn: sqlite3.Connection, iris: Iterable[str], viewer: Viewer, origin: str) -> list[SpecimenName]:
    """What people call these specimens, in this order; those that the viewer may not see are left out."""
    found: list[SpecimenName] = []
    for iri in dict.fromkeys(iris):
        stored = records.get_by_iri(conn, iri)
        if stored is None or not decide(viewer, Door.RECORD, record_facts(conn, iri)).allowed:
            continue
        body: dict[str, Any] = json.loads(stored.body)
        name = "withdrawn" if stored.state == "tombstone" else called(body)
        runs = ((name, False),) if stored.state == "tombstone" else called_runs(body)
        number = body.get("dwc:catalogNumber", "")
        found.append(SpecimenName(path=iri.removeprefix(origin), name=name, number=number, runs=runs))
    return found


def _manifest_of(conn: sqlite3.Connection, found: StoredRecord) -> str:
    """Path of the IIIF manifest that everybody may have; empty when there is none."""
    if found.kind != "specimen" or not decide(ANONYMOUS, Door.RECORD, record_facts(conn, found.iri)).allowed:
        return ""
    rows = conn.execute(
        """SELECT m.iri FROM medium_specimen s JOIN medium m ON m.iri = s.medium
           WHERE s.specimen = ? AND m.state = 'active' AND m.width > 0""",
        (found.iri,),
    )
    if any(decide(ANONYMOUS, Door.RECORD, medium_facts(conn, row["iri"])).allowed for row in rows):
        return f"/iiif/presentation/3/specimen/{found.id}/manifest"
    return ""


def _media_views(conn: sqlite3.Connection, found: StoredRecord, viewer: Viewer, settings: Settings) -> list[MediumView]:
    origin, may_fetch = settings.origin, viewer.is_staff or settings.remote.anonymous_may_fetch
    shows_redacted = settings.images.shows_redacted and not viewer.is_staff
    if found.kind == "medium":
        rows = conn.execute("SELECT * FROM medium WHERE iri = ?", (found.iri,)).fetchall()
    else:
        rows = conn.execute(
            """SELECT m.* FROM medium_specimen s JOIN medium m ON m.iri = s.medium
               WHERE s.specimen = ? AND m.state = 'active' ORDER BY s.ordinal LIMIT 50""",
            (found.iri,),
        ).fetchall()
    views: list[MediumView] = []
    for row in rows:
        facts = medium_facts(conn, row["iri"])
        if not decide(viewer, Door.RECORD, facts).allowed:
            continue
        stored = records.get_by_iri(conn, row["iri"])
        body = json.loads(stored.body) if stored else {}
        instead = shown_instead(conn, row["image"]) if shows_redacted else None
        image, shown = instead or (row["image"], facts)
        overlays = overlays_of(conn, row["iri"], row["image"], viewer)
        views.append(
            MediumView(
                iri=row["iri"], path=row["iri"].removeprefix(origin),
                width=row["width"] or 4, height=row["height"] or 3,
                image=image, visibility=decide(viewer, Door.BYTES, shown, shows_redacted=shows_redacted),
                is_redacted=shown.is_redacted,
                overlays=overlays, access=facts.access.label,
                problem="" if facts.sensitive and not viewer.is_staff else row["problem"] or "",
                title=body.get("dcterms:title", ""),
                licence=body.get("dcterms:license", ""), elsewhere=_elsewhere(row), may_fetch=may_fetch,
                licence_name=normalise_licence(body.get("dcterms:license")).label,
                px_per_mm=scale_of(body.get("vasculum:pixelsPerMillimetre", ""), overlays),
                original=_original(shown, image, viewer, settings),
            )
        )  # fmt: skip
    return views


def _original(facts: Facts, image: str | None, viewer: Viewer, settings: Settings) -> str:
    images = settings.images
    seen = decide(
        viewer, Door.ORIGINAL, facts, anonymous_max_px=images.anonymous_max_px,
        withheld_for=images.originals_withheld_for, shows_redacted=images.shows_redacted,
    )  # fmt: skip
    return (image or "") if seen.allowed else (seen.instead or "")


def _elsewhere(row: sqlite3.Row) -> str:
    is_address = row["locator"].startswith(("http://", "https://"))
    return row["locator"] if is_address and row["image"] is None and row["problem"] is None else ""


SECTIONS: Final[tuple[tuple[str, tuple[tuple[str, str], ...]], ...]] = (
    (
        "Name",
        (
            ("Scientific name", "dwc:scientificName"), ("Vernacular name", "dwc:vernacularName"),
            ("Family", "dwc:family"), ("Order", "dwc:order"), ("Class", "dwc:class"), ("Kingdom", "dwc:kingdom"),
            ("Type status", "dwc:typeStatus"), ("Identified by", "dwc:identifiedBy"),
        ),
    ),
    (
        "Collecting",
        (
            ("Collector", "dwc:recordedBy"), ("Number", "dwc:recordNumber"), ("Date", "dwc:eventDate"),
            ("Date as written", "dwc:verbatimEventDate"), ("Country", "dwc:country"),
            ("State or province", "dwc:stateProvince"), ("Locality", "dwc:locality"),
            ("Latitude", "dwc:decimalLatitude"), ("Longitude", "dwc:decimalLongitude"), ("Habitat", "dwc:habitat"),
        ),
    ),
    (
        "Specimen",
        (
            ("Catalogue number", "dwc:catalogNumber"), ("Institution", "dwc:institutionCode"),
            ("Collection", "dwc:collectionCode"), ("Kind of record", "dwc:basisOfRecord"),
            ("Label as written", "dwc:verbatimLabel"), ("Occurrence ID", "dwc:occurrenceID"),
            ("MIDS level", "ods:midsLevel"),
            ("Generalised", "dwc:dataGeneralizations"), ("Withheld", "dwc:informationWithheld"),
        ),
    ),
    (
        "File",
        (
            ("Format", "dcterms:format"), ("Width", "exif:PixelXDimension"), ("Height", "exif:PixelYDimension"),
            ("Content id", "vasculum:contentId"), ("Title", "dcterms:title"),
            ("Original withheld", "vasculum:originalWithheld"),
        ),
    ),
    (
        "Rights",
        (
            ("Licence", "dcterms:license"), ("As stated", "xmpRights:UsageTerms"),
            ("Rights holder", "dcterms:rightsHolder"),
        ),
    ),
)  # fmt: skip


def sections_of(body: dict[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    """The document as readable sections: (title, [(label, value)])."""
    flat: dict[str, str] = {}
    pending: list[Any] = [body]
    while pending:
        item = pending.pop(0)
        if isinstance(item, dict):
            for key, value in item.items():
                if isinstance(value, str | int) and not isinstance(value, bool):
                    flat.setdefault(key, str(value))
                elif key not in ("@context", "vasculum:verbatim", "ods:hasIdentifiers", "ods:hasEntityRelationships"):
                    pending.append(value)
        elif isinstance(item, list):
            pending.extend(item)
    found: list[tuple[str, list[tuple[str, str]]]] = []
    for title, lines in SECTIONS:
        values = [(label, flat[term]) for label, term in lines if flat.get(term)]
        if values:
            found.append((title, values))
    return found
