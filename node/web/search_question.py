"""What was asked of ``/search``: parameters in an address, or a JSON body as GBIF's predicate search takes it.

It leaves out: answering (``node.web.search_api``), the language itself (``linkeddata.selection``).
"""

from dataclasses import dataclass
from typing import Final

from aiohttp import web

from linkeddata.errors import SelectionError
from linkeddata.json_strict import Json, as_object, get_strings, parse_json
from linkeddata.predicates import parse_predicate
from linkeddata.search_terms import find_parameter
from linkeddata.selection import All, Selection, Words, all_of, check_text, parse_selection
from node.storage.search import MAX_FACET_VALUES, MAX_FACETS, Wanted

PAGE: Final = 24
MAX_PAGE: Final = 200
FORMS: Final = ("html", "json", "jsonld", "csv")
MAX_BODY_BYTES: Final = 256 * 1024
"""A list of a thousand long catalogue numbers."""
_OURS: Final = frozenset({"after", "limit", "sort", "facet", "facetLimit", "format", "covers"})
_MEMBERS: Final = frozenset(
    {"predicate", "selection", "q", "after", "limit", "sort", "facets", "facetLimit", "format", "covers"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A checked question."""

    selection: Selection
    wanted: Wanted
    form: str
    """One of ``FORMS``; empty: as the Accept header says."""
    covers: bool
    """Whether images and bytes are to be counted as well."""
    pairs: tuple[tuple[str, str], ...] | None
    """The address's parameters without the page, for the next one; None: it came as a body."""


def read_query(request: web.Request) -> Question:
    """The question in an address.

    Raises:
        SelectionError: with what to write instead.
    """
    pairs: list[tuple[str, str]] = []
    ours: dict[str, list[str]] = {}
    kept: list[tuple[str, str]] = []
    for key, value in request.query.items():
        name, mark, pattern = key.partition("~")
        if value == "" and mark and pattern:  # annotation.text~Martii
            key, value = f"{name}~", pattern
        if value == "":
            continue
        if key in _OURS:
            ours.setdefault(key, []).append(value)
        else:
            pairs.append((key, value))
        if key != "after":
            kept.append((key, value))
    for key in sorted(set(ours) - {"facet"}):
        if len(ours[key]) > 1:
            raise SelectionError(f"{key} stands more than once")
    one = {key: values[0] for key, values in ours.items()}
    covers = _flag(one.get("covers", "false"))
    facets = tuple(ours.get("facet", ()))
    return _question(Selection.from_pairs(pairs), one, facets, covers=covers, pairs=tuple(kept))


def read_body(data: bytes) -> Question:
    """The question in a JSON body: ``predicate`` or ``selection`` and what part of the answer is wanted.

    A body that is itself a predicate (it has a ``type``) is taken as one.

    Raises:
        SelectionError, DocumentError: with what to write instead.
    """
    document = as_object(parse_json(data, max_bytes=MAX_BODY_BYTES), "a search")
    if "type" in document:
        document = {"predicate": document}
    extra = sorted(set(document) - _MEMBERS)
    if extra:
        raise SelectionError(f"a search has no member {extra[0][:40]!r}; it has {', '.join(sorted(_MEMBERS))}")
    one: dict[str, str] = {
        key: _plain(document[key], key) for key in ("after", "limit", "sort", "facetLimit", "format") if key in document
    }
    facets = get_strings(document, "facets", max_items=MAX_FACETS, max_chars=60, optional=True)
    covers = document.get("covers", False)
    if not isinstance(covers, bool):
        raise SelectionError("covers is true or false")
    return _question(_selection(document), one, facets, covers=covers, pairs=None)


def _selection(document: dict[str, Json]) -> Selection:
    parts = []
    if document.get("predicate") is not None:
        parts.append(parse_predicate(document["predicate"]))
    if "selection" in document:
        parts.append(parse_selection(document["selection"]).tree)
    if "q" in document:
        q = _plain(document["q"], "q")
        check_text("q", q)
        parts.append(Words(q))
    return Selection.of(all_of(parts) if parts else All())


def _question(
    selection: Selection, one: dict[str, str], facets: tuple[str, ...], *, covers: bool,
    pairs: tuple[tuple[str, str], ...] | None,
) -> Question:  # fmt: skip
    form = one.get("format", "")
    if form and form not in FORMS:
        raise SelectionError(f"format is one of {', '.join(FORMS)}")
    names = tuple(dict.fromkeys(find_parameter(name).name for name in facets))
    wanted = Wanted(
        limit=number(one.get("limit", ""), "limit", PAGE, 1, MAX_PAGE), after=one.get("after", "")[:4000],
        sort=one.get("sort", ""), facets=names,
        facet_limit=number(one.get("facetLimit", ""), "facetLimit", 10, 1, MAX_FACET_VALUES),
    )  # fmt: skip
    return Question(selection=selection, wanted=wanted, form=form, covers=covers, pairs=pairs)


def number(text: str, name: str, default: int, low: int, high: int) -> int:
    """A parameter that is a whole number.

    Raises:
        SelectionError: it is not, or is out of its bounds.
    """
    if text == "":
        return default
    if not text.isascii() or not text.isdecimal() or len(text) > 16 or not low <= int(text) <= high:
        raise SelectionError(f"{name} is a whole number from {low} to {high}")
    return int(text)


def _plain(value: Json, name: str) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise SelectionError(f"{name} is a text or a whole number")
    return str(value)


def _flag(text: str) -> bool:
    if text not in ("true", "false"):
        raise SelectionError("covers is true or false")
    return text == "true"
