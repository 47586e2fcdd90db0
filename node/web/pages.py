"""Pages: the template environment, the home page, static files, the start page's data for machines, log-in.

Invariants:
- Everything is rendered here with autoescape; no script from elsewhere, none inline; pages work without scripts.
- The content security policy is one constant, on every answer.
"""

import importlib.resources
import json
import re
from collections.abc import Mapping
from typing import Any, Final

import jinja2
from aiohttp import web
from markupsafe import Markup

from linkeddata.names import name_runs
from node.access import ANONYMOUS, Viewer
from node.services.job_rules import policy_from
from node.storage.records import last_seq
from node.web.keys import CLOCK, DATABASE, ENVIRONMENT, SETTINGS
from node.web.negotiate import JSON_LD, wants_html
from node.web.session import COOKIE, SESSION_LIFETIME, comes_from_here, read_form, redeem_token
from node.web.viewer import session_of, viewer_of

_UNSEEN: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
CSP: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
    "frame-ancestors 'none'; base-uri 'none'"
)
SECURITY: Final[Mapping[str, str]] = {
    "Content-Security-Policy": CSP,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
"""On every answer, unless it says something stricter."""
STATIC: Final[Mapping[str, str]] = {
    "vasculum.css": "text/css",
    "overlay.js": "text/javascript",
    "viewer.js": "text/javascript",
    "vendor/openseadragon-6.1.1.min.js": "text/javascript",
    "vendor/openseadragon-LICENSE.txt": "text/plain",
    "live.js": "text/javascript",
    "similar.js": "text/javascript",
    "review.js": "text/javascript",
    "icon.svg": "image/svg+xml",
}
"""Every static file there is; nothing else is looked for."""


def routes() -> list[web.RouteDef]:
    """The routes of this module."""
    return [
        web.get("/", home),
        web.get("/static/{name:.+}", static),
        web.get("/policy", policy),
        web.get("/login", login_form),
        web.post("/login", login),
        web.post("/logout", logout),
        web.get("/robots.txt", robots),
        web.get("/healthz", healthz),
        web.get("/readyz", readyz),
    ]


def make_environment() -> jinja2.Environment:
    """The template environment."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("node.web", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=shown,
    )
    environment.globals["called"] = called
    environment.globals["called_runs"] = called_runs
    return environment


def shown(value: object) -> object:
    """A value as it may stand on a page: control characters and marks that turn the direction of a line would change or
    hide what stands beside it, so a sign is shown in their place. Letters of scripts written from the right need none.
    """
    if not isinstance(value, str) or _UNSEEN.search(value) is None:
        return value
    plain = _UNSEEN.sub("\ufffd", value)
    return Markup(plain) if isinstance(value, Markup) else plain  # noqa: S704 - was markup before


def called(body: Mapping[str, Any]) -> str:
    """What people call a specimen: its name, or how far it is identified."""
    name = body.get("ods:specimenName")
    if isinstance(name, str) and name:
        return name
    for rank in ("dwc:genus", "dwc:family", "dwc:order", "dwc:class"):
        group = body.get(rank)
        if isinstance(group, str) and group:
            return f"{group}, not identified further"
    return "not identified"


def called_runs(body: Mapping[str, Any]) -> tuple[tuple[str, bool], ...]:
    """``called`` in pieces, each with whether it stands in italics."""
    whole = called(body)
    if body.get("ods:specimenName") == whole:
        return name_runs(whole, _canonical(body))
    genus = body.get("dwc:genus")
    return (
        name_runs(whole, genus) if isinstance(genus, str) and genus and whole.startswith(genus) else ((whole, False),)
    )


def _canonical(body: Mapping[str, Any]) -> str:
    """The name without authors, where the record has it."""
    identifications = body.get("ods:hasIdentifications")
    taxa = identifications[0].get("ods:hasTaxonIdentifications") if identifications else None
    found = taxa[0].get("vasculum:canonicalName") if taxa else None
    return found if isinstance(found, str) else ""


def render(request: web.Request, template: str, context: Mapping[str, Any], *, status: int = 200) -> web.Response:
    """A page."""
    settings, session = request.app[SETTINGS], session_of(request)
    text = (
        request.app[ENVIRONMENT]
        .get_template(template)
        .render(
            site=settings.node.name,
            origin=settings.origin,
            contact=settings.node.contact,
            is_loopback=settings.federation.insecure_loopback,
            viewer=viewer_of(request),
            csrf=session.csrf if session is not None else "",
            here=request.path,
            **context,
        )
    )
    response = web.Response(text=text, content_type="text/html", status=status)
    response.headers["Cache-Control"] = "no-store" if viewer_of(request).is_staff else "no-cache"
    response.headers["Vary"] = "Accept, Cookie"
    return response


async def set_headers(request: web.Request, response: web.StreamResponse) -> None:  # noqa: ARG001 - a signal
    """Security headers on every answer as it begins: errors, redirects and streams included."""
    for name, value in SECURITY.items():
        response.headers.setdefault(name, value)


async def home(request: web.Request) -> web.StreamResponse:
    """Who this is, what is here, what is new."""
    viewer = viewer_of(request)
    facts = await request.app[DATABASE].read(lambda conn: _home_facts(conn, viewer))
    settings = request.app[SETTINGS]
    if wants_html(request):
        return render(request, "home.html", facts)
    document = {
        "@context": {"@vocab": "https://schema.org/"},
        "@type": "Dataset",
        "@id": settings.origin + "/",
        "name": settings.node.name,
        "description": f"{facts['specimens']} digital specimens with {facts['images']} images at a Vasculum node.",
        "url": settings.origin + "/",
        "distribution": {
            "@type": "DataDownload",
            "encodingFormat": JSON_LD,
            "contentUrl": settings.origin + "/changes",
        },
    }
    return web.json_response(document, content_type=JSON_LD)


def _home_facts(conn: Any, viewer: Viewer) -> dict[str, Any]:
    hidden = 3 if viewer.is_staff else 2
    newest = conn.execute(
        """SELECT r.iri, r.body, r.modified, (SELECT m.iri FROM medium_specimen s JOIN medium m ON m.iri = s.medium
             WHERE s.specimen = r.iri AND m.access = 0 AND m.sensitive = 0 AND m.image IS NOT NULL AND m.problem IS NULL
             AND (SELECT max(max(o.access, o.sensitive)) FROM medium o WHERE o.image = m.image) = 0
             ORDER BY s.ordinal LIMIT 1) AS medium
           FROM record r WHERE r.kind = 'specimen' AND r.state = 'active' AND r.access < ?
           ORDER BY r.modified DESC, r.iri LIMIT 8""",
        (hidden,),
    ).fetchall()
    counts = conn.execute(
        """SELECT
             (SELECT count(*) FROM record WHERE kind = 'specimen' AND state = 'active' AND access < :h) AS specimens,
             (SELECT count(*) FROM medium WHERE state = 'active' AND image IS NOT NULL AND access < :h) AS images,
             (SELECT count(*) FROM medium WHERE state = 'active' AND image IS NOT NULL AND access = 0) AS open_images,
             (SELECT count(*) FROM record WHERE kind = 'annotation' AND state = 'active' AND access = 0)
               AS annotations""",
        {"h": hidden},
    ).fetchone()
    families = conn.execute(
        """SELECT family, count(*) AS n FROM specimen_facet AS f WHERE family IS NOT NULL AND (+f.n > 0 OR ? > 2)
           GROUP BY family ORDER BY n DESC, family LIMIT 12""",
        (hidden,),
    ).fetchall()
    return {
        **dict(counts),
        "changes": last_seq(conn),
        "newest": [{"iri": row["iri"], "body": json.loads(row["body"]), "medium": row["medium"]} for row in newest],
        "families": [(row["family"], row["n"]) for row in families],
    }


async def static(request: web.Request) -> web.StreamResponse:
    """A file that ships with the program."""
    name = request.match_info["name"]
    if name not in STATIC:
        raise web.HTTPNotFound
    data = (importlib.resources.files("node.web") / "static" / name).read_bytes()
    # What others made carries its version in its name.
    cache = "public, max-age=31536000, immutable" if name.startswith("vendor/") else "public, max-age=3600"
    return web.Response(body=data, content_type=STATIC[name], headers={"Cache-Control": cache})


async def policy(request: web.Request) -> web.StreamResponse:
    """The policy in plain words."""
    settings = request.app[SETTINGS]
    rules = list(policy_from(settings.policy).readable())
    return render(request, "policy.html", {"preset": settings.policy.preset, "rules": rules})


async def login_form(request: web.Request) -> web.StreamResponse:
    """Where staff exchange their token."""
    return render(request, "login.html", {"token": request.query.get("token", "")[:100], "failed": False})


async def login(request: web.Request) -> web.StreamResponse:
    """Exchanges a one-time token for a session."""
    from node.web.problem import Problem

    if not comes_from_here(request):
        raise Problem(403, "cross-site", "Refused", "This request does not come from a page of this node.")
    form, now = await read_form(request), request.app[CLOCK]()
    made = await request.app[DATABASE].write(lambda conn: redeem_token(conn, form.get("token", "")[:200], now=now))
    if made is None:
        return render(request, "login.html", {"token": "", "failed": True}, status=403)
    response = web.HTTPSeeOther("/staff/jobs")
    response.set_cookie(
        COOKIE, made[0], max_age=int(SESSION_LIFETIME.total_seconds()), httponly=True, samesite="Strict",
        secure=request.app[SETTINGS].origin.startswith("https://"), path="/",
    )  # fmt: skip
    raise response


async def logout(request: web.Request) -> web.StreamResponse:
    """Ends the session."""
    await read_form(request)
    session = session_of(request)
    if session is not None:
        digest = session.digest
        await request.app[DATABASE].write(
            lambda conn: conn.execute("DELETE FROM staff_session WHERE digest = ?", (digest,)).rowcount
        )
    response = web.HTTPSeeOther("/")
    response.del_cookie(COOKIE, path="/")
    raise response


ROBOTS: Final[Mapping[str, str]] = {
    "polite": "User-agent: *\nCrawl-delay: 5\nDisallow: /cas/\nDisallow: /ipfs/\nDisallow: /iiif/\nDisallow: /search\n"
    "Disallow: /jobs\nDisallow: /processes\nDisallow: /staff/\nDisallow: /login\n",
    "none": "User-agent: *\nDisallow: /\n",
    "all": "User-agent: *\nDisallow:\n",
}


async def robots(request: web.Request) -> web.StreamResponse:
    """What crawlers are asked to do; those who do not listen meet the limits."""
    text = ROBOTS[request.app[SETTINGS].server.robots]
    return web.Response(text=text, content_type="text/plain", headers={"Cache-Control": "public, max-age=86400"})


async def healthz(request: web.Request) -> web.Response:  # noqa: ARG001
    """The process answers."""
    return web.json_response({"status": "ok"})


async def readyz(request: web.Request) -> web.Response:
    """The node can work: the database answers."""
    seq = await request.app[DATABASE].read(last_seq)
    return web.json_response({"status": "ready", "lastChange": seq})


__all__ = ["ANONYMOUS", "CSP", "called", "make_environment", "render", "routes", "set_headers"]
