"""When an address may be asked again, and what an answer of its server means. Pure.

Invariants:
- What a second try cannot mend (refused addresses, 404, no image) is tried again after a day, not sooner.
- Everything else is tried again after 1, 4, 16, 64 minutes and so on, at most a day; what the server asks for in
  Retry-After counts for its whole host, at most a day.
"""

import email.utils
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final, Literal
from urllib.parse import urlsplit

from federation.errors import FetchRefused
from federation.safe_fetch import check_url, is_address_text
from node.config import Settings

FIRST_PAUSE: Final = timedelta(minutes=1)
LONGEST_PAUSE: Final = timedelta(days=1)
"""Also of what a server asks for: one that says "in a year" is not believed."""
FACTOR: Final = 4
_ORIGIN: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^/?#]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why an address did not give an image."""

    reason: str
    is_final: bool
    """Trying again soon is no use."""
    host_pause: timedelta = timedelta(0)
    """How long its server wants to be left alone."""


def why_never_fetched(url: str, settings: Settings) -> str:
    """The reason why an address is never fetched; empty when it may be."""
    # What is asked of a well-written address is asked of its host: a collection has a million on one host.
    origin = _ORIGIN.match(url) if is_address_text(url) else None
    return _why_never(url if origin is None else origin.group() + "/", settings.federation.insecure_loopback)


@lru_cache(maxsize=1024)
def _why_never(url: str, insecure_loopback: bool) -> str:
    try:
        check_url(url, insecure_loopback=insecure_loopback)
    except FetchRefused as error:
        return str(error)
    return ""


def host_of(url: str) -> str:
    """The host of an address: what is left alone after a fetch, and asked by one at a time."""
    return (urlsplit(url).hostname or "").lower()


def next_attempt(failure: Failure, *, failures: int, now: datetime) -> datetime:
    """When to try again after so many failures, this one included."""
    pause = LONGEST_PAUSE if failure.is_final else FIRST_PAUSE * FACTOR ** min(failures - 1, 8)
    return now + min(max(pause, failure.host_pause), LONGEST_PAUSE)


def judge_status(
    status: int, *, retry_after: str, asked_whether_changed: bool, now: datetime
) -> Failure | Literal["new", "unchanged"]:
    """What an HTTP status means for a fetch."""
    if status == 200:
        return "new"
    if status == 304 and asked_whether_changed:
        return "unchanged"
    pause = _retry_after(retry_after, now) if status in (429, 503) else timedelta(0)
    is_final = 400 <= status < 500 and status not in (408, 425, 429)
    return Failure(reason=f"the server answered {status}", is_final=is_final, host_pause=pause)


def _retry_after(text: str, now: datetime) -> timedelta:
    if text.isascii() and text.isdecimal():
        return min(timedelta(seconds=min(int(text[:9]), 86_400)), LONGEST_PAUSE)
    try:
        moment = email.utils.parsedate_to_datetime(text)
    except (ValueError, TypeError):
        return FIRST_PAUSE
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return min(max(moment - now, timedelta(0)), LONGEST_PAUSE)
