"""The review for staff: ``/review`` with what waits, ``/review/{id}`` with one statement, and the forms that decide.

Invariants:
- Staff only; everybody else gets the same 403, whatever is asked. Nothing here is kept by a cache.
- Forms carry the session's CSRF value and come from our own pages (``node.web.session``).
- The pages are complete without scripts; ``review.js`` adds keys.
- The picture comes through the doors that staff have anyway: the preview, and over it, in the pixels of the scan, the
  part that the statement is about. Where the image service cannot give that, the preview is still there.
"""

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode

from aiohttp import web

from linkeddata.statement import StatedRegion, measures_of, regions_of
from node.access import STAFF
from node.services import review, review_rules
from node.services.review import ReviewError
from node.storage import corrections, reviews
from node.storage.reviews import ReviewRow, Rule
from node.web.keys import CLOCK, DATABASE, SETTINGS
from node.web.pages import render
from node.web.problem import Problem, not_found
from node.web.records_api import SpecimenName, specimen_names
from node.web.session import person_of, read_form
from node.web.viewer import Session, session_of, viewer_of

CROP_PX: Final = 1200
"""Longest side of a crop: twice the width of the column, for dense screens."""
SHOWN: Final = 12
"""Statements on a page; each has a picture."""
MARGIN: Final = 0.06
"""Of the image, around what was found: enough to see where on the sheet it is."""
MAX_REASON_CHARS: Final = 300
_ID: Final = "{id:[a-z2-7]{16,64}}"
_FILTERS: Final = ("state", "pipeline", "output", "class", "min_score", "max_score", "job", "finding", "sample")


@dataclass(frozen=True, slots=True, kw_only=True)
class Crop:
    """A part of the image, in its pixels."""

    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A statement as the page shows it."""

    row: ReviewRow
    path: str
    medium_path: str
    specimens: Sequence[SpecimenName]
    width: int
    height: int
    crop: Crop
    closer: str
    """Address of the crop from the image service; empty when the image is not there any more."""
    regions: tuple[StatedRegion, ...]
    measures: Sequence[tuple[str, str]]
    doubts: Sequence[str]
    findings: Sequence[Any]
    score: str
    is_public: bool
    hidden_because: str
    is_open: bool
    """Whether it can be decided on."""


def routes() -> list[web.RouteDef]:
    """The routes of this module."""
    return [
        web.get("/review", queue),
        web.get(f"/review/{_ID}", statement),
        web.post(f"/review/{_ID}", decide),
    ]


async def queue(request: web.Request) -> web.StreamResponse:
    """What waits, or what was decided, with forms to decide."""
    _staff(request)
    rule, state, sample = _asked(request.query)
    after = request.query.get("after", "")
    origin = request.app[SETTINGS].origin

    def read(conn: sqlite3.Connection) -> dict[str, Any]:
        rows = reviews.find(
            conn, rule, state=state, after=f"{origin}/annotation/{after}" if after else "", limit=SHOWN + 1,
            sample=sample,
        )  # fmt: skip
        return {
            "items": [_shown(conn, row, origin) for row in rows[:SHOWN]],
            "next": rows[SHOWN - 1].id if len(rows) > SHOWN else "",
            "total": reviews.count(conn, rule, state=state, sample=sample),
            "runs": _runs(conn),
            "sample": None if sample is None else review_rules.get_sample(conn, sample),
        }

    try:
        found = await request.app[DATABASE].read(read)
    except ReviewError as error:
        raise Problem(404, "not-found", "There is no such sample", str(error)) from error
    given = {name: request.query[name] for name in _FILTERS if request.query.get(name)}
    more = f"/review?{urlencode({**given, 'after': found['next']})}" if found["next"] else ""
    return render(
        request, "review.html",
        {**found, "state": state, "given": given, "query": urlencode(given), "more": more, "states": _STATES},
    )  # fmt: skip


async def statement(request: web.Request) -> web.StreamResponse:
    """One statement with its decisions and its values, and the form to correct it."""
    _staff(request)
    origin = request.app[SETTINGS].origin
    iri = f"{origin}/annotation/{request.match_info['id']}"

    def read(conn: sqlite3.Connection) -> dict[str, Any] | None:
        row = reviews.get(conn, iri)
        if row is None:
            return None
        return {
            "item": _shown(conn, row, origin), "log": reviews.actions_about(conn, iri),
            "values": corrections.outcomes_of(conn, iri), "query": "",
        }  # fmt: skip

    found = await request.app[DATABASE].read(read)
    if found is None:
        raise not_found()
    return render(request, "statement.html", found)


async def decide(request: web.Request) -> web.StreamResponse:
    """A decision, from one of our forms."""
    session = _staff(request)
    form = await read_form(request)
    settings, now = request.app[SETTINGS], request.app[CLOCK]()
    iri = f"{settings.origin}/annotation/{request.match_info['id']}"
    what, reason = form.get("decision", ""), form.get("reason", "").strip()[:MAX_REASON_CHARS]
    if what not in ("accept", "reject", "correct"):
        raise Problem(400, "bad-request", "Which decision?", "Accept, reject or correct.")

    def write(conn: sqlite3.Connection) -> str:
        if reviews.get(conn, iri) is None:
            raise not_found()
        by = person_of(conn, session)
        if what == "correct":
            texts = {_number(form): form.get("text", "").strip()} if form.get("line") else {}
            values = {form["field"].strip(): form.get("value", "").strip()} if form.get("field") else {}
            done = review.correct(
                conn, settings, iri, texts=texts, values=values, specimen=form.get("specimen") or None, by=by,
                reason=reason, now=now,
            )  # fmt: skip
            return f"/review/{done.iri.rpartition('/')[2]}"
        review.decide_on(conn, iri, "accepted" if what == "accept" else "rejected", by=by, reason=reason, now=now)
        return f"/review?{form['query']}" if form.get("query") else "/review"

    try:
        place = await request.app[DATABASE].write(write)
    except ReviewError as error:
        raise Problem(409, "not-decided", "This cannot be decided so", str(error)) from error
    raise web.HTTPSeeOther(place)


_STATES: Final = ("pending", "accepted", "rejected")


def _number(form: Mapping[str, str]) -> int:
    text = form["line"].strip()
    if not text.isascii() or not text.isdecimal() or len(text) > 4:
        raise Problem(400, "bad-request", "Which line?", "A line is a whole number, as it stands before the text.")
    return int(text)


def _staff(request: web.Request) -> Session:
    session = session_of(request)
    if not viewer_of(request).is_staff or session is None:
        raise Problem(403, "staff-only", "For staff of this institution", "Log in first: the page /login says how.")
    return session


def _asked(query: Mapping[str, str]) -> tuple[Rule, Any, int | None]:
    state = query.get("state") or "pending"
    if state not in _STATES:
        raise Problem(400, "bad-request", "Which state?", "pending, accepted or rejected.")
    sample = query.get("sample") or None
    if sample is not None and not (sample.isascii() and sample.isdecimal() and len(sample) < 10):
        raise Problem(400, "bad-request", "Which sample?", "A sample is a whole number.")
    rule = Rule(
        pipeline=query.get("pipeline") or None, output=query.get("output") or None, label=query.get("class") or None,
        min_score=_score(query.get("min_score", "")), max_score=_score(query.get("max_score", "")),
        job=query.get("job") or None, finding=query.get("finding") or None,
    )  # fmt: skip
    return rule, state, None if sample is None else int(sample)


def _score(text: str) -> int | None:
    if not text:
        return None
    whole, _, rest = text.partition(".")
    if whole not in ("0", "1") or not (rest + "0").isdecimal() or not rest.isascii() or len(rest) > 3:
        raise Problem(400, "bad-request", "Which score?", "A score is a number from 0 to 1, as 0.9 or 0.95.")
    return min(1000, int(whole) * 1000 + int((rest + "000")[:3]))


def _runs(conn: sqlite3.Connection) -> list[dict[str, Any]]:
    """Pipelines with how much of theirs waits."""
    rows = conn.execute(
        f"""SELECT v.pipeline, v.output, count(*) AS number FROM review v WHERE v.state = 'pending' AND {reviews.LIVE}
            GROUP BY v.pipeline, v.output ORDER BY number DESC, v.pipeline LIMIT 20"""  # noqa: S608 - a constant
    )
    return [dict(row) for row in rows.fetchall()]


def _shown(conn: sqlite3.Connection, row: ReviewRow, origin: str) -> Shown:
    medium = conn.execute("SELECT width, height, image, state FROM medium WHERE iri = ?", (row.medium,)).fetchone()
    width, height = (medium["width"] or 4, medium["height"] or 3) if medium is not None else (4, 3)
    regions = regions_of(row.document)
    specimens = conn.execute(
        "SELECT specimen FROM medium_specimen WHERE medium = ? ORDER BY ordinal, specimen LIMIT 20", (row.medium,)
    ).fetchall()
    crop = crop_of(regions, width, height)
    is_there = medium is not None and medium["state"] == "active" and medium["image"] == row.image
    return Shown(
        row=row, path=f"/review/{row.id}", medium_path=row.medium.removeprefix(origin),
        specimens=specimen_names(conn, (item["specimen"] for item in specimens), STAFF, origin), width=width,
        height=height, crop=crop, closer=closer_of(row.image, crop) if is_there else "", regions=regions,
        measures=measures_of(row.document), doubts=row.document.get("vasculum:doubt", []),
        findings=reviews.findings_of(conn, row.iri), score="" if row.score is None else f"{row.score / 1000:.3f}",
        is_public=review.is_public(conn, row.iri), hidden_because=review.hidden_because(conn, row),
        is_open=is_there and row.superseded_by is None and row.retraction is None,
    )  # fmt: skip


def crop_of(regions: Sequence[StatedRegion], width: int, height: int) -> Crop:
    """The part of the image that holds all regions, with a margin; the whole image when there are none."""
    if not regions:
        return Crop(x=0, y=0, width=width, height=height)
    left = max(0, min(item.box[0] for item in regions) - int(MARGIN * width))
    top = max(0, min(item.box[1] for item in regions) - int(MARGIN * height))
    right = min(width, max(item.box[0] + item.box[2] for item in regions) + int(MARGIN * width))
    bottom = min(height, max(item.box[1] + item.box[3] for item in regions) + int(MARGIN * height))
    if right <= left or bottom <= top:  # regions outside the image: a check says so
        return Crop(x=0, y=0, width=width, height=height)
    return Crop(x=left, y=top, width=right - left, height=bottom - top)


def closer_of(image: str, crop: Crop) -> str:
    """Where the image service has this part of an image (SHA-256, hex), never larger than it is."""
    place = f"{crop.x},{crop.y},{crop.width},{crop.height}"
    return f"/iiif/3/{image}/{place}/!{min(CROP_PX, crop.width)},{min(CROP_PX, crop.height)}/0/default.jpg"
