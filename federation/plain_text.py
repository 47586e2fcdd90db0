"""Texts of others end up on terminals and pages: control characters, escape sequences above all, are kept out."""

import unicodedata
from collections.abc import Mapping

from linkeddata.json_strict import Json

_CONTROL = frozenset({"Cc", "Cs"})


def has_control(value: Json) -> bool:
    """Whether any text in a document, keys included, holds a control character."""
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, str):
            if not item.isprintable() and any(unicodedata.category(char) in _CONTROL for char in item):
                return True
        elif isinstance(item, Mapping):
            pending.extend(item.keys())
            pending.extend(item.values())
        elif isinstance(item, list | tuple):
            pending.extend(item)
    return False


def without_control(text: str, *, max_chars: int = 600) -> str:
    """A text made safe to show."""
    return "".join(char for char in text if unicodedata.category(char) not in _CONTROL)[:max_chars]
