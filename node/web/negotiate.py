"""Which form a client wants: a page for browsers, data for programs (RFC 9110 section 12.5.1, q-values)."""

from typing import Final

from aiohttp import web

JSON_LD: Final = "application/ld+json"
_DATA: Final = ("application/ld+json", "application/json", "application/problem+json")
MAX_ACCEPT_CHARS: Final = 1000


def wants_html(request: web.Request) -> bool:
    """Whether a page is preferred over data; data wins ties and absence, because programs forget to ask."""
    accept = request.headers.get("Accept", "")[:MAX_ACCEPT_CHARS]
    html = quality(accept, "text/html")
    return html > 0 and html > max(quality(accept, kind, default=0.0) for kind in _DATA)


def quality(accept: str, media_type: str, *, default: float = 0.0) -> float:
    """The q-value that an Accept header gives a media type; the most specific range counts."""
    best: tuple[int, float] = (-1, default)
    kind = media_type.split("/", 1)[0]
    for part in accept.split(","):
        name, *parameters = (item.strip() for item in part.split(";"))
        value = 1.0
        for parameter in parameters:
            if parameter.startswith("q="):
                try:
                    value = min(1.0, max(0.0, float(parameter[2:])))
                except ValueError:
                    value = 0.0
        specific = {media_type: 2, f"{kind}/*": 1, "*/*": 0}.get(name.lower())
        if specific is not None and specific > best[0]:
            best = (specific, value if specific else min(value, 0.1))
    return best[1]
