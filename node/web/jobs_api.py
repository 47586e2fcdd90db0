"""Jobs over HTTP: OGC API - Processes 1.0 (core, job list, dismiss), asynchronous only.

Bodies follow the schemas of the approved 1.0 text; extra members are described in ``federation.status``.
Deviations, stated: inputs by reference are not resolved (request forgery); there is no synchronous execution;
the results of a job come in signed pages (``after``, ``limit``).

Invariants:
- A request with a body is signed by the researcher; so is every question about a job (staff come by session).
- A job of somebody else and a job that never was are answered by the same 404.
- No input gives a 5xx.
"""

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

from aiohttp import web

from federation.errors import RequestRejected
from federation.status import STATES, State
from linkeddata.errors import DocumentError
from linkeddata.json_strict import Json, as_object, get_object, parse_json
from node.services.job_rules import FEDERATED_JOB, PROCESSES, JobNotTaken, OfferedPipeline
from node.services.jobs import MAX_PAGE_ROWS, PAGE_ROWS
from node.web.keys import JOBS, SETTINGS
from node.web.signed import viewer_of

_CONF: Final = "http://www.opengis.net/spec/ogcapi-processes-1/1.0/conf/"
_EXCEPTION: Final = "http://www.opengis.net/def/exceptions/ogcapi-processes-1/1.0/"
_REL: Final = "http://www.opengis.net/def/rel/ogc/1.0/"
_OGC_KINDS: Final = frozenset({"no-such-process", "no-such-job", "result-not-ready"})
_ENVELOPE_TYPE: Final = "application/vnd.dsse.envelope.v1+json"
MAX_SPEC_BYTES: Final = 262_144
"""A specification for a thousand nodes has about 60 kB."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def routes() -> list[web.RouteDef]:
    """The routes of this module."""
    return [
        web.get("/conformance", _guarded(conformance)),
        web.get("/processes", _guarded(processes)),
        web.get("/processes/{process}", _guarded(process)),
        web.post("/processes/{process}/execution", _guarded(execute)),
        web.get("/jobs", _guarded(job_list)),
        web.get("/jobs/{job}", _guarded(job_status)),
        web.delete("/jobs/{job}", _guarded(dismiss)),
        web.get("/jobs/{job}/results", _guarded(results)),
        web.get("/jobs/{job}/specification", _guarded(specification)),
    ]


def problem(
    status: int, kind: str, title: str, detail: str = "", *, headers: Mapping[str, str] | None = None, **members: Json
) -> web.Response:
    """An RFC 9457 problem."""
    address = (_EXCEPTION if kind in _OGC_KINDS else "/problems/") + kind
    document: dict[str, Json] = {"type": address, "title": title, "status": status, "detail": detail[:2000], **members}
    return web.json_response(document, status=status, content_type="application/problem+json", headers=headers)


def _guarded(handler: Handler) -> Handler:
    async def guarded(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except JobNotTaken as error:
            headers = {"Retry-After": str(error.retry_after_s)} if error.retry_after_s else None
            return problem(
                error.status,
                error.kind,
                error.title,
                "; ".join(error.reasons),
                headers=headers,
                reasons=list(error.reasons),
                rule=error.rule,
            )
        except RequestRejected as error:
            return problem(401, "not-authentic", "The request is not authentic", str(error))
        except DocumentError as error:
            return problem(400, "bad-request", "The request cannot be understood", str(error))

    guarded.__doc__ = handler.__doc__
    guarded.__name__ = getattr(handler, "__name__", "guarded")
    return guarded


# ---------------------------------------------------------------------- what there is
async def conformance(request: web.Request) -> web.Response:  # noqa: ARG001 - the signature is aiohttp's
    """``GET /conformance``."""
    return web.json_response(
        {"conformsTo": [_CONF + name for name in ("core", "ogc-process-description", "json", "job-list", "dismiss")]}
    )


async def processes(request: web.Request) -> web.Response:
    """``GET /processes``."""
    limit = _int(request, "limit", default=10, low=1, high=10_000)
    origin = request.app[SETTINGS].origin
    summaries = [_summary(name, offer, origin) for name, offer in _offered(request).items()][:limit]
    links = [{"href": f"{origin}/processes", "rel": "self", "type": "application/json"}]
    return web.json_response({"processes": summaries, "links": links})


async def process(request: web.Request) -> web.Response:
    """``GET /processes/{id}``."""
    name = request.match_info["process"]
    offered = _offered(request)
    if name not in offered:
        return _no_process(name)
    return web.json_response(_description(name, offered[name], request.app[SETTINGS].origin))


# ---------------------------------------------------------------------- jobs
async def execute(request: web.Request) -> web.Response:
    """``POST /processes/{id}/execution``: registers a job and answers 201 with its status."""
    body = await _body(request)
    viewer = await viewer_of(request, body)
    if viewer.kid is None:
        raise RequestRejected("sign the request with a researcher's key (RFC 9421, tag vasculum-v1)")
    name = request.match_info["process"]
    if name not in _offered(request):
        return _no_process(name)
    document = as_object(parse_json(body, max_bytes=MAX_SPEC_BYTES), "the execution request")
    response = document.get("response", "raw")
    if response not in ("raw", "document"):
        raise DocumentError("response is raw or document")
    if "subscriber" in document:
        raise DocumentError("subscriber: callbacks are not offered")
    value = as_object(get_object(document, "inputs").get("jobSpec"), "inputs.jobSpec")
    if "href" in value:
        raise DocumentError("inputs.jobSpec: inputs by reference are not fetched, send the value")
    submitted = await request.app[JOBS].submit(
        get_object(value, "value"), sender_kid=viewer.kid, response=str(response), process_id=name
    )
    origin = request.app[SETTINGS].origin
    headers = {"Location": f"{origin}/jobs/{submitted.status.job_id}", "Cache-Control": "no-store"}
    if "respond-async" in request.headers.get("Prefer", ""):
        headers["Preference-Applied"] = "respond-async"
    return web.json_response(submitted.status.to_json(origin=origin), status=201, headers=headers)


async def job_list(request: web.Request) -> web.Response:
    """``GET /jobs``: the jobs of the one who asks."""
    viewer = await viewer_of(request)
    limit = _int(request, "limit", default=100, low=1, high=10_000)
    wanted = request.query.getall("status", [])
    statuses: list[State] = [state for state in STATES if state in ",".join(wanted).split(",")]
    if wanted and not statuses:
        raise DocumentError(f"status is one of {', '.join(STATES)}")
    found = await request.app[JOBS].list_jobs(
        viewer, process_id=request.query.get("processID"), statuses=statuses, limit=limit
    )
    origin = request.app[SETTINGS].origin
    links = [{"href": f"{origin}/jobs", "rel": "self", "type": "application/json"}]
    return _private({"jobs": [item.to_json(origin=origin) for item in found], "links": links})


async def job_status(request: web.Request) -> web.Response:
    """``GET /jobs/{id}``."""
    viewer = await viewer_of(request)
    status = await request.app[JOBS].status(request.match_info["job"], viewer)
    if status is None:
        return _no_job()
    return _private(status.to_json(origin=request.app[SETTINGS].origin))


async def dismiss(request: web.Request) -> web.Response:
    """``DELETE /jobs/{id}``: cancels."""
    viewer = await viewer_of(request, await _body(request))
    status = await request.app[JOBS].cancel(request.match_info["job"], viewer)
    if status is None:
        return _no_job()
    return _private(status.to_json(origin=request.app[SETTINGS].origin))


async def results(request: web.Request) -> web.Response:
    """``GET /jobs/{id}/results?after=ORDINAL&limit=N``: one signed page."""
    viewer = await viewer_of(request)
    job_id = request.match_info["job"]
    after = _int(request, "after", default=0, low=0, high=2**53)
    limit = _int(request, "limit", default=PAGE_ROWS, low=1, high=MAX_PAGE_ROWS)
    page = await request.app[JOBS].results(job_id, viewer, after=after, limit=limit)
    job = await request.app[JOBS].job(job_id, viewer)
    if page is None or job is None:
        return _no_job()
    if job.response == "raw":
        return _private(page.to_json())
    return _private({"page": {"value": page.to_json(), "mediaType": _ENVELOPE_TYPE}})


async def specification(request: web.Request) -> web.Response:
    """``GET /jobs/{id}/specification``: the signed JobSpec as it came, so that a lost handle can be rebuilt."""
    viewer = await viewer_of(request)
    job = await request.app[JOBS].job(request.match_info["job"], viewer)
    return _no_job() if job is None else _private(parse_json(job.envelope, max_bytes=2 * MAX_SPEC_BYTES))


# ---------------------------------------------------------------------- helpers
def _offered(request: web.Request) -> dict[str, Sequence[OfferedPipeline]]:
    offers = list(request.app[JOBS].offers)
    found: dict[str, Sequence[OfferedPipeline]] = {}
    for name, output in PROCESSES.items():
        fitting = [offer for offer in offers if offer.manifest.output == output]
        if fitting:
            found[name] = fitting
    if offers:
        found[FEDERATED_JOB] = offers
    return found


def _summary(name: str, offers: Sequence[OfferedPipeline], origin: str) -> dict[str, Json]:
    federated = name == FEDERATED_JOB
    return {
        "id": name,
        "version": "1.0.0" if federated else offers[0].manifest.version,
        "title": "Several steps on the same images" if federated else offers[0].manifest.title,
        "description": "A signed job of one or more steps" if federated else offers[0].manifest.description,
        "jobControlOptions": ["async-execute", "dismiss"],
        "outputTransmission": ["value"],
        "links": [
            {"href": f"{origin}/processes/{name}", "rel": "self", "type": "application/json"},
            {"href": f"{origin}/processes/{name}/execution", "rel": f"{_REL}execute", "type": "application/json"},
        ],
        "pipelines": [offer.to_offer().to_json() for offer in offers],
    }


def _description(name: str, offers: Sequence[OfferedPipeline], origin: str) -> dict[str, Json]:
    envelope: dict[str, Json] = {
        "type": "object",
        "required": ["payloadType", "payload", "signatures"],
        "contentMediaType": _ENVELOPE_TYPE,
    }
    return {
        **_summary(name, offers, origin),
        "inputs": {
            "jobSpec": {
                "title": "A job specification in a DSSE envelope, signed by the researcher",
                "minOccurs": 1,
                "maxOccurs": 1,
                "schema": envelope,
            }
        },
        "outputs": {"page": {"title": "A page of result rows, signed by the node", "schema": envelope}},
    }


async def _body(request: web.Request) -> bytes:
    if request.content_length is not None and request.content_length > MAX_SPEC_BYTES:
        raise DocumentError(f"the body has more than {MAX_SPEC_BYTES} bytes")
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise DocumentError("a compressed body is not accepted")
    body = bytearray()
    async for chunk in request.content.iter_chunked(65_536):
        body += chunk
        if len(body) > MAX_SPEC_BYTES:
            raise DocumentError(f"the body has more than {MAX_SPEC_BYTES} bytes")
    return bytes(body)


def _int(request: web.Request, name: str, *, default: int, low: int, high: int) -> int:
    text = request.query.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= 16 and low <= int(text) <= high):
        raise DocumentError(f"{name} is a whole number from {low} to {high}")
    return int(text)


def _private(document: dict[str, Any]) -> web.Response:
    return web.Response(
        text=json.dumps(document, ensure_ascii=False),
        content_type="application/json",
        headers={"Cache-Control": "no-store"},
    )


def _no_job() -> web.Response:
    return problem(404, "no-such-job", "No such job", "there is no such job, or it is not yours")


def _no_process(name: str) -> web.Response:
    return problem(404, "no-such-process", "No such process", f"this node does not offer the process {name[:60]!r}")
