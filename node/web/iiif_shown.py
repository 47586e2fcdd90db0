"""What one kind of viewer may see of a picture, and a short memory of open pictures that were just looked at.

Invariants:
- ``node.access`` decides (the door IMAGE); the size that is offered and what caches keep follow.
- Only what everybody may see at full size is remembered, for a minute, and not beyond the next commit of any process
  to the database or the next closing of bytes.

It leaves out: HTTP (``node.web.iiif``).
"""

import json
import sqlite3
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from cas.ids import ContentId
from linkeddata.access import AccessClass
from linkeddata.iiif_image import offered_size
from linkeddata.rights_packet import Rights, rights_packet
from node.access import ANONYMOUS, Door, Viewer, Visibility, decide
from node.config import Settings
from node.services.images import Picture
from node.storage.db import Database
from node.storage.facts import bytes_facts
from runners.pyramid_file import PyramidFile

KEPT_S: Final = 60.0
MOST_WARM: Final = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A picture as one kind of viewer may see it."""

    picture: Picture
    width: int
    height: int
    """Of the picture as it is offered."""
    max_area: int | None
    """No answer has more pixels; None where that makes no difference."""
    cache: str
    varies: bool
    """Others get another answer at the same address."""
    rights: Rights
    packet: bytes = field(repr=False)
    is_warm: bool = False
    """It may be answered from memory for a while."""

    @property
    def is_whole(self) -> bool:
        """It is offered as it is."""
        return (self.width, self.height) == (self.picture.width, self.picture.height)


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmPicture:
    """An open picture and its pyramid."""

    shown: Shown
    pyramid: PyramidFile
    version: tuple[int, int]
    until: float
    tiles: "dict[str, WarmTile]" = field(default_factory=dict)
    """By what stands behind the identifier in an address, as it was written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmTile:
    """Where a tile lies, and the headers of its answer."""

    place: tuple[int, int, int]
    headers: dict[str, str]


class WarmPictures:
    """Open pictures that were just looked at; used by the event loop only. As ``node.web.warm``, for pyramids."""

    def __init__(self, database: Database, closings: Callable[[], int]) -> None:
        self._database = database
        self._closings = closings
        self._found: OrderedDict[str, WarmPicture] = OrderedDict()

    def version(self) -> tuple[int, int] | None:
        """Of what decides who sees what; to be asked before facts are read."""
        version = self._database.version()
        return None if version is None else (version, self._closings())

    def find(self, hex_digits: str) -> WarmPicture | None:
        """What is known about this picture and still holds."""
        found = self._found.get(hex_digits)
        if found is None:
            return None
        if found.until < time.monotonic() or found.version != self.version():
            del self._found[hex_digits]
            return None
        return found

    def keep(self, shown: Shown, pyramid: PyramidFile, version: tuple[int, int] | None) -> None:
        """Remembers an open picture whose pyramid was just opened."""
        if version is None or not shown.is_warm:
            return
        hex_digits = shown.picture.cid.hex
        self._found[hex_digits] = WarmPicture(
            shown=shown, pyramid=pyramid, version=version, until=time.monotonic() + KEPT_S
        )
        self._found.move_to_end(hex_digits)
        if len(self._found) > MOST_WARM:
            self._found.popitem(last=False)

    def forget(self, hex_digits: str) -> None:
        """Its pyramid turned out to be damaged."""
        self._found.pop(hex_digits, None)


def look(conn: sqlite3.Connection, cid: ContentId, viewer: Viewer, settings: Settings) -> Shown | Visibility | str:
    """What may be shown; a refusal; or why there is no picture."""
    images, facts = settings.images, bytes_facts(conn, cid)

    def ask(who: Viewer) -> Visibility:
        return decide(
            who, Door.IMAGE, facts, anonymous_max_px=images.anonymous_max_px,
            restricted_thumbnail_px=images.restricted_thumbnail_px, sensitive_px=images.most_of_sensitive_px,
            shows_redacted=images.shows_redacted,
        )  # fmt: skip

    seen, public = ask(viewer), ask(ANONYMOUS)
    if not seen.allowed:
        return seen
    row = conn.execute(
        """SELECT * FROM (
             SELECT iri, width, height, coalesce(problem, '') AS problem, 0 AS age FROM medium WHERE image = :image
             UNION ALL SELECT iri, width, height, '', 1 FROM medium_version WHERE image = :image
             UNION ALL SELECT m.iri, m.width, m.height, coalesce(m.problem, ''), 2
               FROM public_original p JOIN medium m ON m.image = p.image WHERE p.public = :image
             UNION ALL SELECT m.iri, d.width, d.height, '', 2
               FROM redaction d JOIN medium m ON m.image = d.image WHERE d.derivative = :image
           ) ORDER BY width IS NULL, age, iri LIMIT 1""",
        {"image": cid.hex},
    ).fetchone()
    if row is None or not row["width"] or not row["height"]:
        return (row["problem"] if row is not None else "") or "the picture could not be read when it was taken in"
    width, height = offered_size(row["width"], row["height"], seen.max_px)
    is_limited = (width, height) != (row["width"], row["height"])
    limit = min(images.max_output_pixels, width * height)
    is_open = facts.access is AccessClass.OPEN and not facts.sensitive
    if not public.allowed or public.max_px != seen.max_px or not is_open:
        cache = "private, no-store"
    elif seen.max_px is None:
        cache = "public, max-age=31536000, immutable"
    else:
        cache = "public, max-age=86400"
    rights = _rights(conn, row["iri"])
    return Shown(
        picture=Picture(cid=cid, width=row["width"], height=row["height"]), width=width, height=height,
        max_area=limit if is_limited or limit < width * height else None, cache=cache,
        varies=public.max_px is not None, rights=rights, packet=rights_packet(rights),
        is_warm=viewer == ANONYMOUS and is_open and seen.max_px is None,
    )  # fmt: skip


def _rights(conn: sqlite3.Connection, iri: str) -> Rights:
    """What the public record of a medium says."""
    row = conn.execute("SELECT body FROM record WHERE iri = ? AND state = 'active'", (iri,)).fetchone()
    if row is None:
        return Rights()
    body: dict[str, Any] = json.loads(row["body"])
    return Rights(
        licence=str(body.get("dcterms:license", "")), terms=str(body.get("xmpRights:UsageTerms", "")),
        holder=str(body.get("dcterms:rightsHolder", "")), source=iri,
    )  # fmt: skip
