"""GBIF's predicate JSON (as in occurrence downloads and ``/occurrence/search/predicate``) as a tree, and back. Pure.

Types of GBIF: equals, in, and, or, not, lessThan, lessThanOrEquals, greaterThan, greaterThanOrEquals, range, like,
within, isNull, isNotNull. Two of ours: ``fullText`` (``q``) and ``annotation`` (one region fits all its members).
Keys may be written as GBIF does, ``CATALOG_NUMBER``, or like parameters, ``catalogNumber``.

It leaves out: ``geoDistance`` and ``matchCase`` (letters A to Z are compared without regard to case).
"""

from typing import Final

from linkeddata.errors import SelectionError
from linkeddata.geometry import parse_area
from linkeddata.json_strict import Json, as_object
from linkeddata.search_terms import SEARCH_PARAMETERS, Kind, Parameter, find_parameter
from linkeddata.selection import (
    MAX_DEPTH,
    MAX_TERMS,
    All,
    Annotated,
    Condition,
    Either,
    Equals,
    Known,
    Leaf,
    Like,
    Not,
    Span,
    Unknown,
    Within,
    Words,
    all_of,
    annotated,
    check_text,
    either_of,
    equals,
    like,
    span,
)

_ENDS: Final[dict[str, tuple[str, bool]]] = {
    "greaterThanOrEquals": ("low", False), "greaterThan": ("low", True),
    "lessThanOrEquals": ("high", False), "lessThan": ("high", True),
}  # fmt: skip
_MEMBERS: Final[dict[str, frozenset[str]]] = {
    "equals": frozenset({"key", "value", "matchCase"}), "in": frozenset({"key", "values", "matchCase"}),
    "and": frozenset({"predicates"}), "or": frozenset({"predicates"}), "not": frozenset({"predicate"}),
    **dict.fromkeys(_ENDS, frozenset({"key", "value"})), "range": frozenset({"key", "value"}),
    "like": frozenset({"key", "value", "matchCase"}), "within": frozenset({"geometry"}),
    "isNull": frozenset({"parameter", "key"}), "isNotNull": frozenset({"parameter", "key"}),
    "fullText": frozenset({"q"}), "annotation": frozenset({"class", "text", "pipeline", "scoreMin"}),
}  # fmt: skip
_BOUNDS: Final = {"gte": ("low", False), "gt": ("low", True), "lte": ("high", False), "lt": ("high", True)}


def parse_predicate(value: Json, depth: int = 1) -> Condition:
    """A predicate as a tree.

    Raises:
        SelectionError, DocumentError: with what to write instead.
    """
    if depth > MAX_DEPTH:
        raise SelectionError(f"a predicate nests at most {MAX_DEPTH} levels deep")
    given = as_object(value, "a predicate")
    kind = given.get("type")
    if not isinstance(kind, str) or kind not in _MEMBERS:
        shown = repr(kind[:40]) if isinstance(kind, str) else "missing"
        raise SelectionError(f"the type of a predicate is one of {', '.join(_MEMBERS)}; it is {shown}")
    extra = sorted(set(given) - _MEMBERS[kind] - {"type"})
    if extra:
        raise SelectionError(f"a predicate of type {kind} has no member {extra[0][:40]!r}")
    if given.get("matchCase"):
        raise SelectionError("matchCase is not offered: letters are compared without regard to case")
    if kind in ("and", "or"):
        items = _list(given, "predicates", kind)
        found = [parse_predicate(item, depth + 1) for item in items]
        if not found and (kind == "or" or depth > 1):
            raise SelectionError(f"predicates of {kind} is empty")
        return all_of(found) if kind == "and" else either_of(found)
    if kind == "not":
        return Not(parse_predicate(given.get("predicate"), depth + 1))
    return _leaf(kind, given)


def _leaf(kind: str, given: dict[str, Json]) -> Condition:
    match kind:
        case "within":
            text = _text(given.get("geometry"), "geometry")
            return Within(parse_area(text))
        case "fullText":
            return Words(_text(given.get("q"), "q"))
        case "annotation":
            return _region(given)
        case "isNull" | "isNotNull":
            parameter = _parameter(given.get("parameter", given.get("key")))
            return (Known if kind == "isNotNull" else Unknown)(parameter.name)
        case _:
            return _comparison(kind, given)


def _comparison(kind: str, given: dict[str, Json]) -> Condition:
    parameter = _parameter(given.get("key"))
    name = parameter.name
    if parameter.kind is Kind.GEOMETRY:
        raise SelectionError("areas are asked for with a predicate of type within")
    match kind:
        case "in":
            values = _list(given, "values", kind)
            if not values:
                raise SelectionError(f"values of {name} is empty")
            return either_of(equals(name, _text(item, name)) for item in values)
        case "equals":
            return equals(name, _text(given.get("value"), name))
        case "like":
            return like(name, _text(given.get("value"), name))
        case "range":
            return _range(name, given.get("value"))
        case _:
            end, is_open = _ENDS[kind]
            point = _text(given.get("value"), name)
            return _span(name, {end: (point, is_open)})


def _range(name: str, value: Json) -> Span:
    ends: dict[str, tuple[str, bool]] = {}
    for bound, point in as_object(value, "value of a range").items():
        if bound not in _BOUNDS:
            raise SelectionError("a range has the members gte, gt, lte, lt")
        if point is None:
            continue
        end, is_open = _BOUNDS[bound]
        if end in ends:
            raise SelectionError(f"a range of {name} has one {end} end")
        ends[end] = (_text(point, name), is_open)
    return _span(name, ends)


def _span(name: str, ends: dict[str, tuple[str, bool]]) -> Span:
    low, above = ends.get("low", (None, False))
    high, below = ends.get("high", (None, False))
    return span(name, low, high, above_low=above, below_high=below)


def _region(given: dict[str, Json]) -> Annotated:
    found: dict[str, tuple[str, ...]] = {}
    names = {"class": "annotation.class", "text": "annotation.text", "pipeline": "annotation.pipeline"}
    for member, value in given.items():
        if member == "type":
            continue
        name = names.get(member, member)
        items = value if isinstance(value, list) else [value]
        if not items or len(items) > MAX_TERMS:
            raise SelectionError(f"{member} of an annotation has 1 to {MAX_TERMS} values")
        found[name] = tuple(_text(item, name) for item in items)
    if not found:
        raise SelectionError("an annotation predicate has class, text, pipeline or scoreMin")
    return annotated(found)


def _parameter(name: Json) -> Parameter:
    if not isinstance(name, str):
        raise SelectionError("a predicate names its key, such as COUNTRY")
    parameter = find_parameter(name)
    if parameter.kind in (Kind.WORDS, Kind.ANNOTATION):
        instead = "fullText" if parameter.kind is Kind.WORDS else "annotation"
        raise SelectionError(f"{parameter.name} is asked for with a predicate of type {instead}")
    return parameter


def _text(value: Json, name: str) -> str:
    if isinstance(value, bool):
        value = "true" if value else "false"
    elif isinstance(value, int):
        value = str(value)
    elif isinstance(value, float):
        value = format(value, ".12f").rstrip("0").rstrip(".")
    if not isinstance(value, str):
        raise SelectionError(f"the value of {name} is a text or a number")
    check_text(name, value)
    return value


def _list(given: dict[str, Json], member: str, kind: str) -> list[Json]:
    items = given.get(member)
    if not isinstance(items, list):
        raise SelectionError(f"a predicate of type {kind} has a list {member}")
    if len(items) > MAX_TERMS:
        raise SelectionError(f"{member} has at most {MAX_TERMS} items")
    return items


def to_predicate(condition: Condition) -> dict[str, Json]:
    """A tree as a predicate; ``parse_predicate`` reads it back."""
    match condition:
        case All():
            return {"type": "and", "predicates": [to_predicate(item) for item in condition.items]}
        case Either():
            keys = {item.key if isinstance(item, Equals) else None for item in condition.items}
            if len(keys) == 1 and None not in keys:
                values: list[Json] = [item.value for item in condition.items if isinstance(item, Equals)]
                return {"type": "in", "key": _gbif(str(keys.pop())), "values": values}
            return {"type": "or", "predicates": [to_predicate(item) for item in condition.items]}
        case Not():
            return {"type": "not", "predicate": to_predicate(condition.item)}
        case _:
            return _leaf_json(condition)


def _leaf_json(leaf: Leaf) -> dict[str, Json]:
    match leaf:
        case Equals():
            return {"type": "equals", "key": _gbif(leaf.key), "value": leaf.value}
        case Like():
            return {"type": "like", "key": _gbif(leaf.key), "value": leaf.pattern}
        case Known():
            return {"type": "isNotNull", "parameter": _gbif(leaf.key)}
        case Unknown():
            return {"type": "isNull", "parameter": _gbif(leaf.key)}
        case Within():
            return {"type": "within", "geometry": leaf.area.to_wkt()}
        case Words():
            return {"type": "fullText", "q": leaf.text}
        case Annotated():
            members: dict[str, Json] = {
                "class": list(leaf.classes), "text": leaf.text, "pipeline": list(leaf.pipelines),
                "scoreMin": leaf.score_min,
            }  # fmt: skip
            return {"type": "annotation", **{name: value for name, value in members.items() if value}}
        case Span():
            bounds: dict[str, Json] = {}
            if leaf.low is not None:
                bounds["gt" if leaf.above_low else "gte"] = leaf.low
            if leaf.high is not None:
                bounds["lt" if leaf.below_high else "lte"] = leaf.high
            return {"type": "range", "key": _gbif(leaf.key), "value": bounds}


def _gbif(key: str) -> str:
    return SEARCH_PARAMETERS[key].gbif


__all__ = ["parse_predicate", "to_predicate"]
