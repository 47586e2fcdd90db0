"""Dates of events as spans of days: what a year, a month, a day or an interval covers. Pure.

Darwin Core writes dates as ISO 8601 (``1901``, ``1901-05``, ``1901-05-02``, ``1901-05-02T10:00``, ``a/b``). Everything
else ("May 1901") is not guessed at: such a date has no span.
"""

import calendar
import re
from typing import Final

_ISO: Final = re.compile(r"([0-9]{4})(?:-([0-9]{1,2})(?:-([0-9]{1,2})(?:[T ][0-9:.,Z+-]{1,30})?)?)?\Z", re.ASCII)
_DAY: Final = re.compile(r"[0-9]{1,2}\Z", re.ASCII)


def span_of_date(text: str) -> tuple[str, str] | None:
    """First and last day, ``YYYY-MM-DD`` each, of a year, month or day; None when it is none of these."""
    found = _ISO.match(text.strip())
    if found is None:
        return None
    year = int(found[1])
    month = int(found[2]) if found[2] else None
    day = int(found[3]) if found[3] else None
    if year < 1 or (month is not None and not 1 <= month <= 12):
        return None
    last_month = month or 12
    last = calendar.monthrange(year, last_month)[1]
    if day is not None and not 1 <= day <= last:
        return None
    return f"{year:04}-{month or 1:02}-{day or 1:02}", f"{year:04}-{last_month:02}-{day or last:02}"


def span_of_event(text: str) -> tuple[str, str] | None:
    """First and last day of a Darwin Core ``eventDate``, which may be an interval; None when it cannot be told."""
    first, slash, second = text.strip().partition("/")
    begin = span_of_date(first)
    if not slash or begin is None:
        return begin
    if _DAY.match(second):  # 1901-05-02/09
        second = f"{begin[0][:8]}{second}"
    end = span_of_date(second)
    return None if end is None or end[1] < begin[0] else (begin[0], end[1])
