"""Times in documents: RFC 3339, UTC, whole seconds, ``Z``. One fixed form, because harvesters compare them as text."""

import re
from datetime import UTC, datetime

from linkeddata.errors import DocumentError

_FORM = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z\Z", re.ASCII)


def format_time(moment: datetime) -> str:
    """A moment in the one form; fractions of a second are cut.

    Raises:
        ValueError: the moment has no time zone, so nobody can say when it was.
    """
    if moment.tzinfo is None:
        raise ValueError("a moment without time zone cannot be written down")
    return moment.astimezone(UTC).replace(tzinfo=None, microsecond=0).isoformat() + "Z"


def parse_time(text: str) -> datetime:
    """The moment, UTC.

    Raises:
        DocumentError: the text is in another form.
    """
    if not _FORM.match(text):
        raise DocumentError(f"{text[:40]!r} is not a time like 2026-11-24T10:00:00Z")
    try:
        return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    except ValueError as error:
        raise DocumentError(f"{text!r} is not a time") from error
