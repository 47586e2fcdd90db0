"""Dates of a record: whether they are dates at all, likely ones, and agree with each other.

ISO 8601 as Darwin Core asks for it: year, month or day, each also with a time, ordinal days, and intervals of two of
these, the second of which may be cut short (``2007-03-01/05-11``). Anything else is noted, not guessed.
"""

import calendar
import functools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final

from linkeddata.issues import Issue, issue

FIRST_YEAR: Final = 1600
"""GBIF: dates before it predate modern taxonomy."""
_DATE: Final = re.compile(
    r"(?P<year>\d{4})(?:-(?P<month>\d{2})(?:-(?P<day>\d{2}))?|-(?P<ordinal>\d{3}))?"
    r"(?:[T ](?P<time>\d{2}(?::?\d{2}){0,2}(?:[.,]\d{1,9})?)(?:Z|[+-]\d{2}(?::?\d{2})?)?)?",
    re.ASCII,
)
_TIME: Final = re.compile(r"(\d{2}):?(\d{2})?:?(\d{2})?", re.ASCII)
_SHORT_END: Final = re.compile(r"(?:(?P<month>\d{2})-)?(?P<day>\d{2})(?=\Z|[T ])", re.ASCII)


@dataclass(frozen=True, slots=True)
class Span:
    """From the first to the last day that a date may mean."""

    first: date
    last: date


@functools.lru_cache(maxsize=20_000)
def read_date(text: str) -> Span | None:
    """The span of a date or an interval; None when it is no date of the calendar or not ISO 8601."""
    first, slash, second = text.strip().partition("/")
    start = _read(first.strip())
    if start is None or not slash:
        return start
    end_text = second.strip()
    if end_text in ("", ".."):
        return start
    end = _read(_complete(first.strip(), end_text))
    return None if end is None or end.last < start.first else Span(start.first, max(start.last, end.last))


def check_dates(fields: Mapping[str, str], today: date) -> Iterator[Issue]:
    """Issues of all dates of a record."""
    span = None
    text = fields.get("dwc:eventDate", "")
    if text:
        span = read_date(text)
        if span is None:
            yield issue("RECORDED_DATE_INVALID", f"eventDate {text}")
        elif span.last.year < FIRST_YEAR or span.first > today + timedelta(days=1):
            yield issue("RECORDED_DATE_UNLIKELY", f"eventDate {text}")
    yield from _check_parts(fields, span, has_date=bool(text), today=today)
    for term, name, first_year in (
        ("dwc:dateIdentified", "IDENTIFIED", 1700), ("dwc:georeferencedDate", "GEOREFERENCED", 1700),
        ("dcterms:modified", "MODIFIED", 1970),
    ):  # fmt: skip
        value = fields.get(term, "")
        if value:
            yield from _check_one(term, value, name, first_year, today)


def _check_one(term: str, value: str, name: str, first_year: int, today: date) -> Iterator[Issue]:
    span = read_date(value)
    if span is None:
        yield issue(f"{name}_DATE_INVALID", f"{term.partition(':')[2]} {value}")
    elif span.last.year < first_year or span.first > today + timedelta(days=1):
        yield issue(f"{name}_DATE_UNLIKELY", f"{term.partition(':')[2]} {value}")


def _check_parts(fields: Mapping[str, str], span: Span | None, *, has_date: bool, today: date) -> Iterator[Issue]:
    """Year, month and day, and the days of the year: numbers, a date, the same as eventDate."""
    texts = {name: fields.get(f"dwc:{name}", "") for name in ("year", "month", "day")}
    said = ", ".join(f"{name} {text}" for name, text in texts.items() if text)
    if not said and not fields.get("dwc:startDayOfYear") and not fields.get("dwc:endDayOfYear"):
        return
    numbers = {name: _number(text) for name, text in texts.items() if text}
    if any(number is None for number in numbers.values()) or not _is_date(**numbers):
        yield issue("RECORDED_DATE_INVALID", said)
        return
    year, month, day = (numbers.get(name) for name in ("year", "month", "day"))
    if year is not None and not has_date and (year < FIRST_YEAR or year > today.year):
        yield issue("RECORDED_DATE_UNLIKELY", said)
    if span is None:
        return
    days = [_number(fields.get(f"dwc:{name}", "")) for name in ("startDayOfYear", "endDayOfYear")]
    is_one = (span.first.year, span.first.month) == (span.last.year, span.last.month)
    if (
        (year is not None and not span.first.year <= year <= span.last.year)
        or (month is not None and is_one and month != span.first.month)
        or (day is not None and span.first == span.last and day != span.first.day)
        or (days[0] is not None and span.first == span.last and days[0] != span.first.timetuple().tm_yday)
    ):
        if fields.get("dwc:startDayOfYear"):
            said = f"{said}, startDayOfYear {fields['dwc:startDayOfYear']}".removeprefix(", ")
        yield issue("RECORDED_DATE_MISMATCH", f"eventDate {fields.get('dwc:eventDate', '')}; {said}")


def _read(text: str) -> Span | None:
    found = _DATE.fullmatch(text)
    if found is None or not _is_time(found["time"]):
        return None
    year = int(found["year"])
    if found["ordinal"]:
        ordinal = int(found["ordinal"])
        if not year or not 1 <= ordinal <= (366 if calendar.isleap(year) else 365):
            return None
        day = date(year, 1, 1) + timedelta(days=ordinal - 1)
        return Span(day, day)
    month, day_ = (int(found[name]) if found[name] else None for name in ("month", "day"))
    if not _is_date(year=year, month=month, day=day_):
        return None
    last_month = month or 12
    last_day = day_ or calendar.monthrange(year, last_month)[1]
    return Span(date(year, month or 1, day_ or 1), date(year, last_month, last_day))


def _complete(start: str, end: str) -> str:
    """An end that was cut short takes year and month from the beginning."""
    short = _SHORT_END.match(end)
    if short is None:
        return end
    return start[:5] + (f"{short['month']}-" if short["month"] else start[5:8]) + short["day"] + end[short.end() :]


def _is_time(text: str | None) -> bool:
    found = _TIME.match(text or "00")
    if found is None:
        return False
    hour, minute, second = (int(part or 0) for part in found.groups())
    return hour <= 24 and minute <= 59 and second <= 60


def _is_date(*, year: int | None = None, month: int | None = None, day: int | None = None) -> bool:
    """Whether these can stand together; a missing year is taken as a leap year."""
    if year is not None and not 1 <= year <= 9999:
        return False
    if month is not None and not 1 <= month <= 12:
        return False
    longest = 31 if month is None else calendar.monthrange(year or 2000, month)[1]
    return day is None or 1 <= day <= longest


def _number(text: str) -> int | None:
    stripped = text.strip().removesuffix(".0")
    return int(stripped) if stripped.isascii() and stripped.isdecimal() and len(stripped) <= 4 else None
