"""Bytes that the front server sends itself: the node decides, checks the file and names it (``X-Accel-Redirect``).

The front opens the file after the node has checked it. Between the two, some hundred microseconds, somebody may put
another file in its place: such a reader gets bytes that do not match the ``Repr-Digest`` beside them. The node itself
has no such gap (it reads from the descriptor that it has checked), so ``[server] accel`` is off unless asked for.

Invariants:
- Only a front that ``[server] trusted_proxies`` names and that announces itself (``X-Node-Accel: nginx``) is told
  where a file lies; the shipped configuration overwrites that header of every visitor.
- An address is built from the 64 hex digits of the id, or from the row of the index for a file of the institution.
  Nothing that a visitor has sent is in it.
- Only a GET for the whole or for one plain range is handed over. Conditions, several ranges and whatever else the
  front might understand otherwise than ``node.web.ranges`` is answered by the node.

It leaves out: the configuration of the front (``node.front``), which adds the headers that nginx drops on this way and
asks the node to send the bytes itself when it cannot read them.
"""

import re
from collections.abc import Mapping
from typing import Final, Literal
from urllib.parse import quote

from cas.reader import BlobPlace

ANNOUNCES: Final = "X-Node-Accel"
REDIRECT: Final = "X-Accel-Redirect"
OWNED_PREFIX: Final = "/_o/"
VOLUME_PREFIX: Final = "/_v/"
_CONDITIONS: Final = ("If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since", "If-Range")
_PLAIN_RANGE: Final = re.compile(r"bytes=(?:[0-9]{1,15}-[0-9]{0,15}|-[0-9]{1,15})\Z")
RENAMED_PREFIX: Final = "X-Node-"
RENAMED: Final = ("Cache-Control", "Content-Disposition", "Accept-Ranges")
"""Sent to nginx under other names: it would keep these also when it cannot read the file, and add those of the answer
that the node then gives (twice the same, or ``immutable`` on a 404)."""


def is_asked(headers: Mapping[str, str], method: str, accel: Literal["", "nginx"]) -> bool:
    """Whether this request may be handed over, if it comes from a trusted front."""
    if not accel or method != "GET" or headers.get(ANNOUNCES) != accel:
        return False
    return is_plain(headers.get("Range")) and not any(name in headers for name in _CONDITIONS)


def is_plain(wanted: str | None) -> bool:
    """Whether a front understands this range (None: the whole) exactly as this node does."""
    return wanted is None or _PLAIN_RANGE.match(wanted) is not None


def address_of(place: BlobPlace) -> str:
    """Where the front finds this file, as its configuration names places."""
    if not place.volume:
        digits = place.id.hex
        return f"{OWNED_PREFIX}{digits[:2]}/{digits[2:4]}/{digits}"
    return f"{VOLUME_PREFIX}{quote(place.volume, safe='')}/{quote(place.relpath)}"


def headers_for_front(place: BlobPlace, headers: Mapping[str, str], *, is_range: bool) -> dict[str, str]:
    """The headers of an answer without bytes that makes the front send them."""
    found = {RENAMED_PREFIX + name if name in RENAMED else name: value for name, value in headers.items()}
    found.pop("Content-Range", None)  # nginx makes it
    if not is_range:
        del found[RENAMED_PREFIX + "Accept-Ranges"]  # nginx makes it, but not beside a range
    found[REDIRECT] = address_of(place)
    return found
