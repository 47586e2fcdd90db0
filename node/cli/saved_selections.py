"""Selections that people gave a name: one small file each, in the folder where a researcher's handles lie.

Invariants:
- A file is written whole or not at all.
- What is read back is checked again: the file may be of a newer version, or edited.
"""

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

import click

from linkeddata.errors import DocumentError
from linkeddata.json_strict import as_object, get_object, get_str, parse_json
from linkeddata.selection import Selection, parse_selection, parse_where
from linkeddata.times import format_time, parse_time
from node.cli.errors import UserError
from node.cli.research import state_folder

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,59}\Z", re.ASCII)
WHERE_OPTION = click.option(
    "--where", default="", help="Which specimens, e.g. 'kingdom=Plantae year=1800,1900 q=brazil', or a GBIF predicate."
)
SELECTION_OPTION = click.option("--selection", "saved", default=None, help="A selection saved under this name.")


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedSelection:
    """A selection with its name."""

    name: str
    selection: Selection
    saved: datetime


def chosen(where: str, saved: str | None) -> Selection:
    """The selection of a command that takes ``--where`` or ``--selection``."""
    if saved is not None:
        if where:
            raise UserError("say --where or --selection, not both")
        return load(saved).selection
    try:
        return parse_where(where)
    except DocumentError as error:
        raise UserError(str(error)) from error


def save(item: SavedSelection, *, replace: bool) -> Path:
    """Writes it; returns where.

    Raises:
        UserError: the name is taken or is none.
    """
    path = _path(item.name)
    if path.exists() and not replace:
        raise UserError(f"there is a selection {item.name} already: --replace overwrites it")
    document = {"name": item.name, "saved": format_time(item.saved), "selection": item.selection.to_json()}
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(f".{os.getpid()}.new")
    fresh.write_text(json.dumps(document, ensure_ascii=False, indent=1) + "\n", "utf-8")
    fresh.replace(path)
    return path


def load(name: str) -> SavedSelection:
    """The selection of this name.

    Raises:
        UserError: there is none, or its file cannot be read.
    """
    path = _path(name)
    try:
        document = as_object(parse_json(path.read_bytes()), "a saved selection")
        return SavedSelection(
            name=name,
            selection=parse_selection(get_object(document, "selection")),
            saved=parse_time(get_str(document, "saved", max_chars=30)),
        )
    except FileNotFoundError:
        known = ", ".join(names()) or "none"
        raise UserError(f"there is no selection {name} (saved are: {known})") from None
    except (OSError, DocumentError) as error:
        raise UserError(f"{path}: {error}") from error


def remove(name: str) -> None:
    """Forgets it.

    Raises:
        UserError: there is none.
    """
    try:
        _path(name).unlink()
    except FileNotFoundError:
        raise UserError(f"there is no selection {name}") from None


def names() -> Iterator[str]:
    """All names, in order."""
    for path in sorted(_folder().glob("*.json")):
        if _NAME.match(path.stem):
            yield path.stem


def _path(name: str) -> Path:
    if not _NAME.match(name):
        raise UserError(f"{name[:60]!r} is not a name: lower-case letters, digits, dots, dashes; at most 60")
    return _folder() / f"{name}.json"


def _folder() -> Path:
    return state_folder() / "selections"
