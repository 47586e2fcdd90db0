"""Who looks: set once per request by the session middleware, anonymous otherwise."""

from typing import Final

from aiohttp import web

from node.access import ANONYMOUS, Viewer

KEY: Final = "viewer"


def viewer_of(request: web.Request) -> Viewer:
    """The viewer of this request."""
    found = request.get(KEY)
    return found if isinstance(found, Viewer) else ANONYMOUS
