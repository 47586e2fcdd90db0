"""Who looks: set once per request by the session middleware, anonymous otherwise."""

from dataclasses import dataclass
from typing import Final

from aiohttp import web

from node.access import ANONYMOUS, Viewer


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A staff session of this request."""

    digest: str
    csrf: str


VIEWER: Final = web.RequestKey("viewer", Viewer)
SESSION: Final = web.RequestKey("session", Session)


def viewer_of(request: web.Request) -> Viewer:
    """The viewer of this request."""
    found = request.get(VIEWER)
    return found if isinstance(found, Viewer) else ANONYMOUS


def session_of(request: web.Request) -> Session | None:
    """The staff session of this request."""
    found = request.get(SESSION)
    return found if isinstance(found, Session) else None
