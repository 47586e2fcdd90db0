"""Who sends a request: the key that signed it (RFC 9421), or nobody.

Invariants:
- The address that a signature must cover is built from the configured public origin, never from a header.
- A nonce is remembered durably before anything else happens; a bad signature is 401, whatever was asked for,
  so that the answer says nothing about what exists.
"""

from aiohttp import web

from federation.errors import ReplayDetected, RequestRejected
from federation.http_signatures import ReplayGuard, is_signed, verify_request
from node.access import ANONYMOUS, Viewer
from node.storage.people import SqliteReplayGuard
from node.web.keys import CLOCK, DATABASE, SETTINGS
from node.web.limits import LIMITS
from node.web.viewer import VIEWER


async def signed_by(request: web.Request, body: bytes) -> str | None:
    """The key id that signed this request; None when it is not signed.

    Raises:
        RequestRejected: it is signed, but the signature is not good, or came before.
    """
    if not is_signed(request.headers):
        return None
    target = request.raw_path
    if not target.startswith("/") or target.startswith("//"):
        raise RequestRejected("the request target must be a path")
    verified = verify_request(
        method=request.method,
        url=request.app[SETTINGS].origin + target,
        header_lines=[(name.decode("latin-1"), value.decode("latin-1")) for name, value in request.raw_headers],
        body=body,
        now=request.app[CLOCK](),
    )
    guard: ReplayGuard = SqliteReplayGuard(request.app[DATABASE])
    request.app[LIMITS].charge_key(verified.kid)
    await guard.remember(verified.kid, verified.nonce, verified.expires)
    return verified.kid


async def viewer_of(request: web.Request, body: bytes = b"") -> Viewer:
    """The researcher who signed, else the staff session that a middleware found, else anybody."""
    kid = await signed_by(request, body)
    if kid is not None:
        return Viewer(kid=kid)
    found = request.get(VIEWER)
    return found if isinstance(found, Viewer) else ANONYMOUS


__all__ = ["ReplayDetected", "RequestRejected", "signed_by", "viewer_of"]
