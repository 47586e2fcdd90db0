"""Errors on HTTP: RFC 9457 problem+json for programs, a page for people, never a traceback.

::

    ConnectionResetError     the client went away
    Problem          raised by handlers: status, kind, title, detail
    DocumentError    400   the request cannot be understood
    BlobArchived     202   bytes that this viewer may see are brought back from another tier; 503 when that failed
    DatabaseError    503   the disk refuses; nothing was stored
    anything else    500   logged with an id that the answer repeats (a defect of ours)
"""

import logging
import secrets
import sqlite3
from collections.abc import Awaitable, Callable, Mapping

from aiohttp import web

from cas.errors import BlobArchived
from linkeddata.errors import DocumentError
from node.storage.db import DatabaseError
from node.web.negotiate import wants_html

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
log = logging.getLogger("vasculum.web")


class Problem(Exception):
    """An answer that is an error."""

    def __init__(
        self, status: int, kind: str, title: str, detail: str = "", *, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(title)
        self.status = status
        self.kind = kind
        self.title = title
        self.detail = detail
        self.headers = dict(headers or {})


def not_found() -> Problem:
    """The one answer for what is not here and for what must look as if it were not."""
    return Problem(404, "not-found", "Nothing is published here", "There is no such thing at this node.")


def problem_response(request: web.Request, problem: Problem) -> web.Response:
    """A problem as an answer, in the form the client wants."""
    if wants_html(request):
        from node.web.pages import render

        response = render(request, "problem.html", {"problem": problem}, status=problem.status)
        response.headers.update(problem.headers)
    else:
        document = {
            "type": f"/problems/{problem.kind}",
            "title": problem.title,
            "status": problem.status,
            "detail": problem.detail[:2000],
        }
        response = web.json_response(
            document, status=problem.status, content_type="application/problem+json", headers=problem.headers
        )
    response.headers.setdefault("Cache-Control", "no-store")
    return response


@web.middleware
async def problem_middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turns exceptions into problems."""
    try:
        return await handler(request)
    except Problem as problem:
        return problem_response(request, problem)
    except web.HTTPRedirection:
        raise
    except ConnectionError:
        raise  # the client went away: nobody to answer, nothing of ours to mend
    except web.HTTPException as error:
        if error.status == 404:
            return problem_response(request, not_found())
        headers = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
        return problem_response(
            request, Problem(error.status, "http", error.reason or "Not possible", error.text or "", headers=headers)
        )
    except DocumentError as error:
        return problem_response(request, Problem(400, "bad-request", "The request cannot be understood", str(error)))
    except BlobArchived as error:
        from node.web.refusals import being_restored

        return problem_response(request, await being_restored(request, error.id))
    except sqlite3.OperationalError as error:
        if "interrupted" in str(error):
            detail = "The question took too long; ask for less."
            return problem_response(request, Problem(503, "too-slow", "Too slow", detail, headers={"Retry-After": "5"}))
        return _unexpected(request, error)
    except DatabaseError as error:
        log.error("%s %r: %s", request.method, request.path, error)  # noqa: TRY400 - the reason is the message
        return problem_response(
            request, Problem(503, "not-stored", "Not stored", "The disk refused.", headers={"Retry-After": "60"})
        )
    except Exception as error:  # noqa: BLE001 - the last line of defence: logged, and the client gets an id
        return _unexpected(request, error)


def _unexpected(request: web.Request, error: Exception) -> web.Response:
    number = secrets.token_hex(6)
    log.error("defect %s at %s %r", number, request.method, request.path, exc_info=error)
    detail = f"This is a defect of the program. Its log names it {number}."
    return problem_response(request, Problem(500, "defect", "Something went wrong here", detail))
