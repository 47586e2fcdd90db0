"""Typed settings from parsed TOML: dataclasses are filled table by table, and every mistake names its key.

Owns: which types a setting may have (text, whole number, true or false, choices, lists, tables, named tables).

Invariants:
- An unknown key is an error that names the nearest known key; a wrong type names the key and what was expected.

It leaves out: which settings there are and what they may say (``node.config``).
"""

import difflib
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from types import UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints


class ConfigError(Exception):
    """The settings cannot be used; the message names the key and says what to write."""


def nearest(key: str, known: tuple[str, ...] | list[str]) -> str:
    """A hint at the known key that looks most like this one; empty when none does."""
    close = difflib.get_close_matches(key, known, n=1, cutoff=0.6)
    return f" (did you mean {close[0]}?)" if close else ""


def build(kind: type[Any], table: Mapping[str, Any], where: str) -> Any:
    """A dataclass from a table; ``where`` is its full name, for messages.

    Raises:
        ConfigError: a key is unknown, missing, or of a wrong type.
    """
    hints = get_type_hints(kind)
    known = {item.name for item in fields(kind)}
    values: dict[str, Any] = {}
    for key, value in table.items():
        label = f"{where}.{key}" if where else key
        if key not in known or (key == "folder" and not isinstance(value, Path)) or (not where and key == "listed"):
            raise ConfigError(f"node.toml: unknown key {label}{nearest(key, sorted(known - {'folder', 'listed'}))}")
        values[key] = _convert(hints[key], value, label)
    required = [item.name for item in fields(kind) if item.name not in values and _has_no_default(item)]
    if required:
        raise ConfigError(f"node.toml: {where or 'the file'} lacks {', '.join(required)}")
    return kind(**values)


def _shown(choice: str | bool) -> str:
    return str(choice).lower() if isinstance(choice, bool) else choice or '""'


def _has_no_default(item: Any) -> bool:
    from dataclasses import MISSING

    return item.default is MISSING and item.default_factory is MISSING


def _convert(hint: Any, value: Any, label: str) -> Any:
    origin = get_origin(hint)
    if isinstance(hint, type) and hasattr(hint, "__dataclass_fields__"):
        if not isinstance(value, Mapping):
            raise ConfigError(f"node.toml: {label} must be a table")
        return build(hint, value, label)
    if origin is Literal:
        if not any(value == item and type(value) is type(item) for item in get_args(hint)):
            choices = ", ".join(_shown(item) for item in get_args(hint))
            raise ConfigError(f"node.toml: {label} must be one of {choices}")
        return value
    if origin is tuple:
        if not isinstance(value, list):
            raise ConfigError(f"node.toml: {label} must be a list")
        return tuple(_convert(get_args(hint)[0], item, label) for item in value)
    if origin is UnionType:
        return _convert(next(item for item in get_args(hint) if item is not type(None)), value, label)
    if origin is not None:  # Mapping[str, SourceSettings]
        if not isinstance(value, Mapping):
            raise ConfigError(f"node.toml: {label} must be a table")
        return {str(name): _convert(get_args(hint)[1], item, f"{label}.{name}") for name, item in value.items()}
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        names = {str: "text in quotes", int: "a whole number", bool: "true or false", Path: "a path"}
        raise ConfigError(f"node.toml: {label} must be {names.get(hint, hint.__name__)}")
    return value
