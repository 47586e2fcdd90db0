"""From a media row to a file: by its path, by the rules of ``[[sources.X.files]]``, or not at all.

Invariant: a result never leaves the folder; what a rule builds is checked like what an archive says.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final
from urllib.parse import unquote

from linkeddata.dwca_meta import DwcaError

IMAGE_ENDINGS: Final = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp")
MAX_SUBJECT_CHARS: Final = 2000
"""Addresses longer than this are not matched: regular expressions of people meet data of strangers here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRule:
    """``match`` on a field, and the path that follows from it."""

    field: str
    """``identifier`` (the locator of the media row) or ``catalogNumber``."""
    match: re.Pattern[str]
    path: str
    """Template: ``{0}`` the whole match, ``{1}`` or ``{name}`` its groups."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileMatch:
    """Where the bytes of a media row are."""

    relpath: str | None = None
    url: str | None = None


def match_file(locator: str, catalog_number: str, *, rules: Sequence[FileRule], names: frozenset[str]) -> FileMatch:
    """The file of a media row among ``names``; its address when there is no file; neither when there is none."""
    for rule in rules:
        subject = locator if rule.field == "identifier" else catalog_number
        found = rule.match.search(subject[:MAX_SUBJECT_CHARS])
        if found is not None:
            path = _fill(rule.path, found)
            if path is not None and path in names:
                return FileMatch(relpath=path)
    if not re.match(r"[a-zA-Z][a-zA-Z0-9+.-]*://", locator):
        for candidate in (locator, unquote(locator)):
            path = _safe(candidate.removeprefix("file:"))
            if path is not None and path in names:
                return FileMatch(relpath=path)
        return FileMatch()
    return FileMatch(url=locator) if locator.startswith(("http://", "https://")) else FileMatch()


def compile_rules(rules: Iterable[tuple[str, str, str]]) -> tuple[FileRule, ...]:
    """(field, match, path) as rules.

    Raises:
        DwcaError: a match is no regular expression.
    """
    compiled: list[FileRule] = []
    for field, match, path in rules:
        try:
            compiled.append(FileRule(field=field, match=re.compile(match), path=path))
        except re.error as error:
            raise DwcaError(f"match = {match!r} is not a regular expression: {error}") from error
    return tuple(compiled)


def is_image_name(name: str) -> bool:
    """Whether a file is called like an image."""
    return name.lower().endswith(IMAGE_ENDINGS)


def _fill(template: str, found: re.Match[str]) -> str | None:
    try:
        filled = template.format(found.group(0), *(group or "" for group in found.groups()), **_named(found))
    except (IndexError, KeyError, ValueError, AttributeError):
        return None
    return _safe(unquote(filled))


def _named(found: re.Match[str]) -> dict[str, str]:
    return {name: value or "" for name, value in found.groupdict().items()}


def _safe(text: str) -> str | None:
    path = PurePosixPath(text)
    if not text or path.is_absolute() or ".." in path.parts or "\0" in text:
        return None
    return path.as_posix()
