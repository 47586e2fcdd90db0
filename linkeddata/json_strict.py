"""The only door for JSON from outside.

Invariants:
- Refused: more than ``max_bytes``, deeper than ``max_depth``, duplicate keys, NaN and Infinity, integers beyond
  64 bit, numbers that overflow, lone surrogates, anything but UTF-8, a byte order mark, text after the value.
- Whatever the bytes are, the answer is a value or ``JsonInputError``; never another exception.
- The time is linear in the size of the input, also for input that is not JSON.

It leaves out: what the values mean. The ``get_*`` helpers read members of known type and say where they are wrong.

Example:
    >>> parse_json(b'{"a": [1, 2]}')
    {'a': [1, 2]}
"""

import json
import re
from collections.abc import Mapping
from typing import Any, Final, NoReturn

from linkeddata.errors import DocumentError, JsonInputError

Json = Any
"""dict[str, Json] | list[Json] | str | int | float | bool | None, as parsed; typed at the edge of this package."""
MAX_BYTES: Final = 1_048_576
"""The largest document anyone has reason to send: a result page of 500 rows is about 300 kB."""
MAX_DEPTH: Final = 32
"""Our deepest document nests 9 levels; the limit keeps recursion far from the interpreter's."""
MAX_INT: Final = 2**63 - 1
_STRUCTURE = re.compile(rb'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)|[\[{\]}]', re.DOTALL)
"""A whole string, or a bracket outside of strings. A string that is never closed reaches to the end: the pattern never
goes back (possessive), because an open quotation mark followed by many escaped ones would otherwise cost hours."""


def parse_json(data: bytes | str, *, max_bytes: int = MAX_BYTES, max_depth: int = MAX_DEPTH) -> Json:
    """Bytes from outside as a value.

    Raises:
        JsonInputError: with the reason in one line.
    """
    if isinstance(data, str):
        try:
            data = data.encode("utf-8")
        except UnicodeEncodeError as error:
            raise JsonInputError("the text holds a lone surrogate") from error
    if len(data) > max_bytes:
        raise JsonInputError(f"the document has {len(data)} bytes, {max_bytes} are allowed")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise JsonInputError(f"not UTF-8 at byte {error.start}") from error
    if text.startswith("\ufeff"):
        raise JsonInputError("begins with a byte order mark")
    _check_depth(data, max_depth)
    try:
        value = json.loads(
            text,
            object_pairs_hook=_unique,
            parse_constant=_refuse_constant,
            parse_int=_bounded_int,
            parse_float=_finite_float,
        )
    except json.JSONDecodeError as error:
        raise JsonInputError(f"not JSON: {error.msg} at line {error.lineno} column {error.colno}") from error
    except RecursionError as error:
        raise JsonInputError("nested too deeply") from error
    _check_strings(value)
    return value


def _check_depth(data: bytes, limit: int) -> None:
    depth = 0
    for found in _STRUCTURE.finditer(data):
        first = data[found.start()]
        if first in b"[{":
            depth += 1
            if depth > limit:
                raise JsonInputError(f"nested more than {limit} levels deep")
        elif first in b"]}":
            depth -= 1


def _unique(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    found: dict[str, Json] = {}
    for key, value in pairs:
        if key in found:
            raise JsonInputError(f"the member {key[:60]!r} stands twice")
        found[key] = value
    return found


def _refuse_constant(name: str) -> NoReturn:
    raise JsonInputError(f"{name} is not JSON")


def _bounded_int(text: str) -> int:
    if len(text) > 20:
        raise JsonInputError("an integer has more than 64 bit")
    value = int(text)
    if not -MAX_INT - 1 <= value <= MAX_INT:
        raise JsonInputError("an integer has more than 64 bit")
    return value


def _finite_float(text: str) -> float:
    if len(text) > 60:
        raise JsonInputError("a number has more than 60 characters")
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise JsonInputError("a number is too large")
    return value


def _check_strings(value: Json) -> None:
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, str):
            _no_surrogate(item)
        elif isinstance(item, dict):
            for key in item:
                _no_surrogate(key)
            pending.extend(item.values())
        elif isinstance(item, list):
            pending.extend(item)


def _no_surrogate(text: str) -> None:
    if not text.isascii() and any("\ud800" <= char <= "\udfff" for char in text):
        raise JsonInputError("a string holds a lone surrogate")


# ---------------------------------------------------------------------- reading members of known type
def as_object(value: Json, where: str) -> dict[str, Json]:
    """``value`` if it is an object."""
    if not isinstance(value, dict):
        raise DocumentError(f"{where} must be an object")
    return value


def get_str(document: Mapping[str, Json], key: str, *, max_chars: int = 2000, default: str | None = None) -> str:
    """A member that must be text of at most ``max_chars`` characters."""
    value = document.get(key, default)
    if not isinstance(value, str):
        raise DocumentError(f"{key} must be text" if key in document else f"{key} is missing")
    if len(value) > max_chars:
        raise DocumentError(f"{key} is longer than {max_chars} characters")
    return value


def get_int(document: Mapping[str, Json], key: str, *, low: int, high: int) -> int:
    """A member that must be an integer from ``low`` to ``high``."""
    value = document.get(key)
    if not isinstance(value, int) or isinstance(value, bool):
        raise DocumentError(f"{key} must be a whole number")
    if not low <= value <= high:
        raise DocumentError(f"{key} must be {low} to {high}")
    return value


def get_bool(document: Mapping[str, Json], key: str, *, default: bool) -> bool:
    """A member that is true or false, or absent."""
    value = document.get(key, default)
    if not isinstance(value, bool):
        raise DocumentError(f"{key} must be true or false")
    return value


def get_list(document: Mapping[str, Json], key: str, *, max_items: int, optional: bool = False) -> list[Json]:
    """A member that must be a list of at most ``max_items`` items."""
    value = document.get(key, [] if optional else None)
    if not isinstance(value, list):
        raise DocumentError(f"{key} must be a list")
    if len(value) > max_items:
        raise DocumentError(f"{key} has {len(value)} items, {max_items} are allowed")
    return value


def get_strings(
    document: Mapping[str, Json], key: str, *, max_items: int, max_chars: int = 2000, optional: bool = False
) -> tuple[str, ...]:
    """A member that must be a list of texts."""
    items = get_list(document, key, max_items=max_items, optional=optional)
    for item in items:
        if not isinstance(item, str) or len(item) > max_chars:
            raise DocumentError(f"{key} must be a list of texts of at most {max_chars} characters")
    return tuple(items)


def get_object(document: Mapping[str, Json], key: str) -> dict[str, Json]:
    """A member that must be an object."""
    if key not in document:
        raise DocumentError(f"{key} is missing")
    return as_object(document[key], key)


def extra_members(document: Mapping[str, Json], known: frozenset[str]) -> dict[str, Json]:
    """Members this version does not know; they survive reading and writing."""
    return {key: value for key, value in document.items() if key not in known}
