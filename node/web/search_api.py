"""``/search``: specimens that fit, for people and programs, in the form that is wanted.

Invariants:
- The same checked selection stands behind every form of question and every form of answer.
- An answer says how many records fit in all, how many could not be decided for want of a value, and where it goes on.
- A question that takes too long is stopped and answered with what to do instead; it holds no thread.
- Nothing in a table is a formula for a spreadsheet.

It leaves out: reading questions (``node.web.search_question``), finding (``node.storage.search``).
"""

import csv
import io
import sqlite3
from typing import Any, Final
from urllib.parse import urlencode

from aiohttp import web

from linkeddata.coverage import Covered
from linkeddata.spreadsheet import inert
from node.access import Door, Viewer, decide
from node.storage.facts import medium_facts, shown_instead_of_medium
from node.storage.search import Hit, SearchPage, look
from node.storage.search_document import walk
from node.storage.search_media import covered
from node.web.keys import DATABASE, SETTINGS
from node.web.negotiate import JSON_LD, wants_html
from node.web.pages import called_runs, render
from node.web.problem import Problem
from node.web.search_question import Question, read_body, read_query
from node.web.viewer import viewer_of

LIMIT_S: Final = 2.0
"""A question of a page of hits that needs longer is asked too widely for a page."""
SHOWN_FACETS: Final = ("family", "country", "typeStatus", "institutionCode")
"""On the page for people."""
COLUMNS: Final = (
    "dwc:occurrenceID", "dwc:institutionCode", "dwc:collectionCode", "dwc:catalogNumber", "dwc:basisOfRecord",
    "dwc:scientificName", "dwc:scientificNameAuthorship", "dwc:taxonRank", "dwc:kingdom", "dwc:family", "dwc:genus",
    "dwc:typeStatus", "dwc:country", "dwc:countryCode", "dwc:stateProvince", "dwc:locality", "dwc:decimalLatitude",
    "dwc:decimalLongitude", "dwc:eventDate", "dwc:year", "dwc:recordedBy", "dwc:recordNumber", "dcterms:license",
    "dwc:dataGeneralizations", "dwc:informationWithheld",
)  # fmt: skip
"""Of the table, after ``id``, ``medium`` and ``access``; headings are the local names."""


def routes() -> list[web.RouteDef]:
    """The routes of this module."""
    return [web.get("/search", search_page), web.post("/search", search_body)]


async def search_page(request: web.Request) -> web.StreamResponse:
    """Specimens that fit parameters in the address."""
    return await _answer(request, read_query(request))


async def search_body(request: web.Request) -> web.StreamResponse:
    """Specimens that fit a predicate in the body."""
    if request.content_type != "application/json":
        raise Problem(415, "not-json", "JSON is wanted", "Send Content-Type: application/json and a predicate.")
    return await _answer(request, read_body(await request.read()))


async def _answer(request: web.Request, question: Question) -> web.StreamResponse:
    form = question.form or ("html" if wants_html(request) else "jsonld" if _wants_jsonld(request) else "json")
    viewer = viewer_of(request)
    page, shown, covers = await _look(request, question, viewer, form)
    origin = request.app[SETTINGS].origin
    following = None
    if page.next is not None and question.pairs is not None:
        following = urlencode([*question.pairs, ("after", page.next)])
    headers = {"Vary": "Accept, Cookie", "Access-Control-Allow-Origin": "*"}
    if following is not None:
        headers["Link"] = f'<{origin}/search?{following}>; rel="next"'
    if form == "html":
        return render(request, "search.html", _page_context(page, question, shown, following, origin))
    if form == "csv":
        headers["Content-Disposition"] = 'attachment; filename="search.csv"'
        return web.Response(text=_table(page), content_type="text/csv", charset="utf-8", headers=headers)
    if form == "jsonld":
        return web.json_response(_graph(page), content_type=JSON_LD, headers=headers)
    document = _document(page)
    document["next"] = f"{origin}/search?{following}" if following is not None else None
    if page.next is not None and question.pairs is None:
        document["after"] = page.next
    if covers is not None:
        document["covers"] = {"records": covers.records, "images": covers.images, "bytes": covers.size_bytes}
    return web.json_response(document, headers=headers)


async def begin_to_load(app: web.Application) -> None:
    """When the process starts: columns of a large collection come into memory."""
    await app[DATABASE].read(app[DATABASE].columns.prepare)


async def _look(
    request: web.Request, question: Question, viewer: Viewer, form: str
) -> tuple[SearchPage, dict[str, bool], Covered | None]:
    wanted = question.wanted
    if form == "html" and not wanted.facets:
        from dataclasses import replace

        wanted = replace(wanted, facets=SHOWN_FACETS)

    database, shows_redacted = request.app[DATABASE], request.app[SETTINGS].images.shows_redacted

    def read(conn: sqlite3.Connection) -> tuple[SearchPage, dict[str, bool], Covered | None]:
        page = look(conn, question.selection, viewer, wanted, columns=database.columns)
        media = [hit.medium for hit in page.hits if hit.medium is not None] if form == "html" else []
        shown = {
            medium: (_has_bytes(conn, medium) and decide(viewer, Door.BYTES, medium_facts(conn, medium)).allowed)
            or (shows_redacted and shown_instead_of_medium(conn, medium) is not None)
            for medium in media
        }
        return page, shown, covered(conn, question.selection, viewer) if question.covers else None

    try:
        return await database.read(read, limit_s=LIMIT_S)
    except sqlite3.OperationalError as error:
        if "interrupted" not in str(error):
            raise
        raise Problem(
            503, "too-slow", "The search took too long",
            "Narrow it (a family, a country, a range of years), ask for fewer facets, or send it as a job: "
            "jobs may take their time.",
            headers={"Retry-After": "5"},
        ) from error  # fmt: skip


def _wants_jsonld(request: web.Request) -> bool:
    accept = request.headers.get("Accept", "")
    return JSON_LD in accept and "application/json" not in accept and request.query.get("format", "") == ""


# ---------------------------------------------------------------------- forms of answers
def _document(page: SearchPage) -> dict[str, Any]:
    document: dict[str, Any] = {
        "total": page.total,
        "noValue": [item.to_json() for item in page.no_value],
        "facets": [
            {"field": facet.field, "counts": [{"name": name, "count": count} for name, count in facet.counts]}
            for facet in page.facets
        ],
        "items": [
            {
                "id": hit.iri, "medium": hit.medium, "access": hit.access.label, "record": hit.body,
                "annotations": [mark.to_json() for mark in hit.marks],
            }
            for hit in page.hits
        ],
    }  # fmt: skip
    if page.ranked is not None:
        document["ranked"] = page.ranked
    return document


def _graph(page: SearchPage) -> dict[str, Any]:
    context = page.hits[0].body.get("@context", {}) if page.hits else {}
    graph = [{key: value for key, value in hit.body.items() if key != "@context"} for hit in page.hits]
    return {"@context": context, "@graph": graph}


def _table(page: SearchPage) -> str:
    """RFC 4180 with a header."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\r\n")
    writer.writerow(["id", "medium", "access", *(term.partition(":")[2] for term in COLUMNS)])
    for hit in page.hits:
        first: dict[str, str] = {}
        for key, value in walk(hit.body):
            first.setdefault(key, "" if value is None else str(value))
        cells = [hit.iri, hit.medium or "", hit.access.label, *(first.get(term, "") for term in COLUMNS)]
        writer.writerow([inert(cell) for cell in cells])
    return stream.getvalue()


def _page_context(
    page: SearchPage, question: Question, shown: dict[str, bool], following: str | None, origin: str
) -> dict[str, Any]:
    selection, pairs = question.selection, question.pairs or ()
    asked = [(key, value) for key, value in pairs if key not in ("limit", "facet", "facetLimit", "format", "covers")]
    taken = {key for key, _ in asked}
    return {
        "hits": [_card(hit, origin, shown) for hit in page.hits],
        "total": page.total,
        "next_query": following,
        "q": selection.q or "",
        "terms": [(key, value) for key, value in asked if key not in ("q", "sort")],
        "no_value": [(" or ".join(item.keys), item.count) for item in page.no_value],
        "facets": [
            (facet.field, [(name, count, urlencode([*asked, (facet.field, name)])) for name, count in facet.counts])
            for facet in page.facets
            if facet.counts and facet.field not in taken
        ],
        "csv_query": urlencode([*asked, ("format", "csv"), ("limit", "200")]),
        "json_query": urlencode([*asked, ("format", "json")]),
        "best_query": urlencode([*((key, value) for key, value in asked if key != "sort"), ("sort", "relevance")]),
        "ranked": page.ranked,
    }


def _card(hit: Hit, origin: str, shown: dict[str, bool]) -> dict[str, Any]:
    return {
        "path": hit.iri.removeprefix(origin),
        "runs": called_runs(hit.body),
        "number": hit.body.get("dwc:catalogNumber", ""),
        "institution": hit.body.get("dwc:institutionCode", ""),
        "access": hit.access.label,
        "medium": hit.medium.removeprefix(origin) if hit.medium else None,
        "is_shown": bool(hit.medium and shown.get(hit.medium)),
        "reads": [
            {
                "text": mark.text[:80] or mark.kind,
                "by": mark.pipeline_name or "a machine",
                "digest": mark.pipeline[:19],
                "is_replaced": mark.is_replaced,
            }
            for mark in hit.marks[:2]
        ],
    }


def _has_bytes(conn: sqlite3.Connection, medium: str) -> bool:
    """Not so for an image that lies elsewhere: a page of results must not cause fetches."""
    row = conn.execute("SELECT image FROM medium WHERE iri = ?", (medium,)).fetchone()
    return row is not None and row["image"] is not None
