"""The outermost check of every request: is it for this host, and is its address of a sane length?"""

from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

from aiohttp import web

from node.web.keys import SETTINGS
from node.web.problem import Handler, Problem, problem_response

MAX_TARGET_CHARS: Final = 8000


@web.middleware
async def boundary_middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuses requests for other hosts (DNS rebinding) and absurd targets, before anything looks at them."""
    problem: Problem | None = None
    if not is_our_host(request.host, request.app[SETTINGS].origin):
        problem = Problem(421, "wrong-host", "Not this host", "This node answers under its public address only.")
    elif len(request.raw_path) > MAX_TARGET_CHARS:
        problem = Problem(414, "too-long", "The address is too long", f"At most {MAX_TARGET_CHARS} characters.")
    if problem is not None:
        return problem_response(request, problem)
    return await handler(request)


def is_our_host(text: str, origin: str) -> bool:
    """Whether a Host header names this node: its public address, or this machine."""
    host = text.lower()
    if host == urlsplit(origin).netloc.lower():
        return True
    try:
        name = urlsplit(f"//{host}").hostname or ""
        return ip_address(name).is_loopback
    except ValueError:
        return False
