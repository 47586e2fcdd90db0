"""Who may cause a fetch of a remote image, and what is said to whoever asks for one that is not here.

Invariants:
- Staff and accepted jobs may. Strangers may only where ``[remote] anonymous_may_fetch`` says so: of what they may see
  (the caller has asked ``node.access``), from a line that is full for them much earlier, one address once an hour.
- Only addresses of records get into the line; a failed one is left alone until its time has come.
- Nobody waits here: an address gets into the line, the answer says to come again.

It leaves out: fetching (``node.services.remote_media``), HTTP (``node.web.remote``).
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal

from cas.ids import ContentId
from cas.remote import parse_stamp
from node.config import Settings
from node.services.publish_remote import media_at
from node.services.remote_media import RemoteMedia
from node.storage.db import Database

MOST_WANTED: Final = 10_000
"""Addresses in the line: at a second each, three hours."""
MOST_WANTED_ANONYMOUS: Final = 100
"""The line is full for strangers much earlier: what staff and jobs need comes first."""
ANONYMOUS_AGAIN: Final = timedelta(hours=1)
"""How soon strangers may cause a second fetch of an address, so that they cannot make a small budget turn over."""
RETRY_AFTER_S: Final = 5
"""A fetch takes a second or two, and its host may have others before it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """What is answered to somebody who may see an image that is not here."""

    kind: Literal["being-fetched", "elsewhere", "not-fetched", "busy", "replaced"]
    detail: str
    retry_after_s: int = 0


class RemoteNeeds:
    """Needs of one node; thread-safe, blocking."""

    def __init__(
        self, settings: Settings, database: Database, media: RemoteMedia, *, clock: Callable[[], datetime]
    ) -> None:
        self._settings = settings
        self._db = database
        self._media = media
        self._bytes = media.bytes
        self._clock = clock

    def of_medium(self, iri: str, *, is_staff: bool) -> Need | None:
        """Somebody who may see this medium asks for it; None when it is no remote one."""
        with self._db.reader() as conn:
            row = conn.execute("SELECT * FROM medium WHERE iri = ? AND state = 'active'", (iri,)).fetchone()
        return None if row is None or not self._media.is_remote(row) else self._need(row["locator"], is_staff=is_staff)

    def of_bytes(self, cid: ContentId, *, is_staff: bool) -> Need | None:
        """The same for somebody who may see the bytes of this id."""
        if not self._media.sources:
            return None
        for source in self._bytes.sources_of(cid):
            with self._db.reader() as conn:
                rows = media_at(conn, source.url, self._media.sources)
            if any(self._media.is_remote(row) for row in rows):
                return self._need(source.url, is_staff=is_staff)
        if self._bytes.former_sources(cid):
            return Need(kind="replaced", detail="The source now holds other bytes; this version of the image is gone.")
        return None

    def of_job(self, media: Iterable[str]) -> int:
        """A job that was accepted covers these media (IRIs), which were never fetched; returns how many wait now."""
        count = 0
        for iri in media:
            with self._db.reader() as conn:
                row = conn.execute("SELECT * FROM medium WHERE iri = ? AND state = 'active'", (iri,)).fetchone()
            if row is None or not self._media.is_remote(row):
                continue
            if self._media.is_left_alone(self._bytes.find(row["locator"])):
                continue
            if not self._bytes.want(row["locator"], now=self._clock(), most=MOST_WANTED):
                break
            count += 1
        return count

    def _need(self, url: str, *, is_staff: bool) -> Need:
        now, known = self._clock(), self._bytes.find(url)
        if not is_staff and not self._settings.remote.anonymous_may_fetch:
            return Need(kind="elsewhere", detail=f"No copy of this image is here at the moment. It lies at {url}")
        if known is not None and self._media.is_left_alone(known):
            again = parse_stamp(known.not_before) or now
            return Need(
                kind="not-fetched",
                detail=f"The image could not be fetched: {known.reason}. It lies at {url}",
                retry_after_s=_seconds(again - now),
            )
        fetched = None if known is None or known.wanted or is_staff else parse_stamp(known.fetched)
        if fetched is not None and now - fetched < ANONYMOUS_AGAIN:
            left = _seconds(fetched + ANONYMOUS_AGAIN - now)
            return Need(kind="busy", detail="This image was fetched not long ago.", retry_after_s=left)
        if not self._bytes.want(url, now=now, most=MOST_WANTED if is_staff else MOST_WANTED_ANONYMOUS):
            return Need(kind="busy", detail="Many images are being fetched already.", retry_after_s=60)
        return Need(
            kind="being-fetched",
            detail="The image lies elsewhere and is being fetched: ask again soon.",
            retry_after_s=RETRY_AFTER_S,
        )


def _seconds(left: timedelta) -> int:
    return max(1, int(left.total_seconds()) + 1)
