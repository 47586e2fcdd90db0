"""Staff sessions: a one-time token from the command line becomes a cookie; forms carry a second secret.

Invariants:
- Only digests of tokens and cookies are stored. A token works once, for ten minutes; a session for twelve hours.
- Every request that changes something by session must come from our own pages: Sec-Fetch-Site or Origin says so, and
  the form repeats the session's CSRF value.
- The token travels in the fragment-free login address once and is exchanged by POST.
"""

import hashlib
import hmac
import secrets
import sqlite3
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Final

from aiohttp import web

from linkeddata.times import format_time
from node.access import STAFF
from node.storage.db import Database
from node.web.keys import CLOCK, SETTINGS
from node.web.problem import Problem
from node.web.viewer import SESSION, VIEWER, Session, session_of

COOKIE: Final = "vasculum_staff"
TOKEN_LIFETIME: Final = timedelta(minutes=10)
SESSION_LIFETIME: Final = timedelta(hours=12)
MAX_FORM_BYTES: Final = 4096
MOST_SESSIONS: Final = 256
"""Remembered at a time."""
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def make_token(conn: sqlite3.Connection, *, now: datetime, name: str = "") -> str:
    """A new one-time token for the person of this name; only its digest is kept."""
    token = secrets.token_urlsafe(32)
    conn.execute(
        "INSERT INTO staff_token (digest, created, expires, name) VALUES (?, ?, ?, ?)",
        (_digest(token), format_time(now), format_time(now + TOKEN_LIFETIME), name),
    )
    return token


def redeem_token(conn: sqlite3.Connection, token: str, *, now: datetime) -> tuple[str, str] | None:
    """Exchanges a token for (cookie, csrf); None when it is unknown, used or too old."""
    stamp = format_time(now)
    used = conn.execute(
        "UPDATE staff_token SET used = ? WHERE digest = ? AND used IS NULL AND expires > ?",
        (stamp, _digest(token), stamp),
    ).rowcount
    if used != 1:
        return None
    cookie, csrf = secrets.token_urlsafe(32), secrets.token_urlsafe(24)
    conn.execute(
        """INSERT INTO staff_session (digest, csrf, created, expires, name)
           SELECT ?, ?, ?, ?, name FROM staff_token WHERE digest = ?""",
        (_digest(cookie), csrf, stamp, format_time(now + SESSION_LIFETIME), _digest(token)),
    )
    conn.execute("DELETE FROM staff_session WHERE expires <= ?", (stamp,))
    conn.execute("DELETE FROM staff_token WHERE expires <= ?", (stamp,))
    return cookie, csrf


def person_of(conn: sqlite3.Connection, session: Session) -> str:
    """Who a staff session belongs to, for the log of what staff did: the name that its token was made for."""
    row = conn.execute("SELECT name FROM staff_session WHERE digest = ?", (session.digest,)).fetchone()
    name = row["name"] if row is not None else ""
    return name or f"staff session {session.digest[:8]}"


class Sessions:
    """Sessions that were just looked up, so that the next request of the same person needs no thread.

    What is remembered holds until the next commit to the database, whoever made it: a log-out ends it at once.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._version: int | None = None
        self._known: dict[str, tuple[str, str]] = {}

    async def csrf_of(self, digest: str, stamp: str) -> str | None:
        """The form secret of a session that is valid at this time; None when it is none."""
        version = self._database.version()
        if version is None or version != self._version or len(self._known) > MOST_SESSIONS:
            self._known, self._version = {}, version
        found = self._known.get(digest)
        if found is None:
            row = await self._database.read(
                lambda conn: conn.execute(
                    "SELECT csrf, expires FROM staff_session WHERE digest = ?", (digest,)
                ).fetchone()
            )
            if row is None:
                return None
            found = (row["csrf"], row["expires"])
            if version is not None and version == self._version:
                self._known[digest] = found
        return found[0] if found[1] > stamp else None


SESSIONS: Final = web.AppKey("sessions", Sessions)


@web.middleware
async def session_middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Recognises staff; refuses changes that do not come from our own pages."""
    cookie = request.cookies.get(COOKIE, "")
    if cookie:
        digest, stamp = _digest(cookie[:200]), format_time(request.app[CLOCK]())
        csrf = await request.app[SESSIONS].csrf_of(digest, stamp)
        if csrf is not None:
            if request.method not in ("GET", "HEAD") and not comes_from_here(request):
                raise Problem(403, "cross-site", "Refused", "This request does not come from a page of this node.")
            request[VIEWER] = STAFF
            request[SESSION] = Session(digest=digest, csrf=csrf)
    return await handler(request)


def comes_from_here(request: web.Request) -> bool:
    """Whether the browser says that one of our own pages sent this."""
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        return site in ("same-origin", "none")
    origin = request.headers.get("Origin")
    return origin is not None and origin in (request.app[SETTINGS].origin, f"{request.scheme}://{request.host}")


async def read_form(request: web.Request) -> dict[str, str]:
    """A small form with a right CSRF value.

    Raises:
        Problem: too large, malformed, or not ours.
    """
    if (request.content_length or 0) > MAX_FORM_BYTES:
        raise Problem(413, "too-large", "Too large", f"A form has at most {MAX_FORM_BYTES} bytes.")
    if request.body_exists and request.content_type != "application/x-www-form-urlencoded":
        raise Problem(415, "not-a-form", "Not a form", "Send the form as application/x-www-form-urlencoded.")
    try:
        posted = await request.post()
    except ValueError as error:
        raise Problem(400, "bad-request", "The form cannot be read", str(error)[:200]) from error
    form = {str(key): str(value) for key, value in posted.items() if isinstance(value, str)}
    session = session_of(request)
    if session is not None and not hmac.compare_digest(form.get("csrf", ""), session.csrf):
        raise Problem(403, "cross-site", "Refused", "The form is too old: load the page again.")
    return form


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()
