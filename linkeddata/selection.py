"""The selection language: what people search for, what a job runs on, what an export holds.

One typed tree of conditions with four spellings: parameters in an address, ``--where`` on a command line, the
``selection`` member of a job, and GBIF's predicate JSON (``linkeddata.predicates``).

In parameters the same key again means *or*, different keys mean *and*; ``year=1900,1950`` is a range (``*`` leaves an
end open); ``*`` alone means that there is a value; ``!`` before a key negates; ``~`` in place of ``=`` is a pattern
(``*`` any text, ``?`` one character).

Invariants:
- Whatever is read is a checked tree in one normal form; every spelling of it is read back as an equal tree.
- A condition on a record without a value is neither true nor false, and neither is its negation (as in SQL, and at
  GBIF): who asks is told how many such records there are.

It leaves out: evaluating a tree (``node.storage.search_sql``).

Example:
    >>> parse_where("kingdom=Plantae year=1900,1950 'locality=Rio de Janeiro'").terms
    (('kingdom', ('Plantae',)), ('year', ('1900,1950',)), ('locality', ('Rio de Janeiro',)))
"""

import difflib
import re
import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Self

from linkeddata.errors import SelectionError
from linkeddata.event_dates import span_of_date
from linkeddata.geometry import Area, parse_area
from linkeddata.issues import ACROSS_RECORDS, FLAGS
from linkeddata.json_strict import Json, as_object, parse_json
from linkeddata.search_terms import RANGED, SEARCH_PARAMETERS, TEXTUAL, Kind, Parameter, find_parameter

MAX_TERMS: Final = 1000
"""Conditions of a selection; a list of catalogue numbers may be as long."""
MAX_VALUE_CHARS: Final = 300
"""Nobody types a longer value; each value is one comparison in the database."""
MAX_TEXT_CHARS: Final = 100_000
MAX_DEPTH: Final = 12
MAX_WILDCARDS: Final = 5
"""Each further one makes a comparison slower by the length of the text."""
_YEAR: Final = re.compile(r"[0-9]{1,4}\Z", re.ASCII)
_NUMBER: Final = re.compile(r"[+-]?[0-9]{1,9}(\.[0-9]{1,12})?\Z", re.ASCII)
_SCORE: Final = re.compile(r"(0(\.[0-9]{1,6})?|1(\.0{1,6})?)\Z", re.ASCII)
_KEY: Final = re.compile(r"(!?)([^=~!]+)(~=|~|=)(.*)\Z", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Equals:
    """The value of ``key`` is this."""

    key: str
    value: str


@dataclass(frozen=True, slots=True)
class Like:
    """The value of ``key`` fits a pattern of ``*`` and ``?``."""

    key: str
    pattern: str


@dataclass(frozen=True, slots=True)
class Span:
    """The value of ``key`` lies between two ends; None: that end is open."""

    key: str
    low: str | None
    high: str | None
    above_low: bool = False
    """The low end itself does not fit."""
    below_high: bool = False


@dataclass(frozen=True, slots=True)
class Known:
    """There is a value of ``key``."""

    key: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """There is no value of ``key``."""

    key: str


@dataclass(frozen=True, slots=True)
class Within:
    """The published coordinates lie in an area."""

    area: Area


@dataclass(frozen=True, slots=True)
class Words:
    """All words stand in the record or in text read from its public images."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Annotated:
    """One region that a machine marked fits all of these."""

    classes: tuple[str, ...] = ()
    """Any of them."""
    text: str = ""
    """All of its words."""
    pipelines: tuple[str, ...] = ()
    """Any of them, by name or digest."""
    score_min: str = ""
    """Decimal, 0 to 1."""


@dataclass(frozen=True, slots=True)
class All:
    """Every one of these; none at all: everything."""

    items: "tuple[Condition, ...]" = ()


@dataclass(frozen=True, slots=True)
class Either:
    """At least one of these."""

    items: "tuple[Condition, ...]"


@dataclass(frozen=True, slots=True)
class Not:
    """The contrary."""

    item: "Condition"


Leaf = Equals | Like | Span | Known | Unknown | Within | Words | Annotated
Condition = Leaf | All | Either | Not


def all_of(items: Iterable[Condition]) -> Condition:
    """The conjunction in normal form."""
    flat = [part for item in items for part in (item.items if isinstance(item, All) else (item,))]
    return flat[0] if len(flat) == 1 else All(tuple(flat))


def either_of(items: Iterable[Condition]) -> Condition:
    """The disjunction in normal form; of at least one."""
    flat = [part for item in items for part in (item.items if isinstance(item, Either) else (item,))]
    return flat[0] if len(flat) == 1 else Either(tuple(flat))


def leaves(condition: Condition) -> Iterator[Leaf]:
    """The conditions that are asked of records."""
    pending = [condition]
    while pending:
        item = pending.pop()
        if isinstance(item, All | Either):
            pending.extend(reversed(item.items))
        elif isinstance(item, Not):
            pending.append(item.item)
        else:
            yield item


def key_of(leaf: Leaf) -> str:
    """The parameter that a leaf is about."""
    match leaf:
        case Within():
            return "geometry"
        case Words():
            return "q"
        case Annotated():
            return "annotation"
        case _:
            return leaf.key


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """A checked tree of conditions."""

    tree: Condition = All()

    @classmethod
    def of(cls, tree: Condition) -> Self:
        """Checked for size.

        Raises:
            SelectionError: too many conditions, or too deep.
        """
        if sum(1 for _ in leaves(tree)) > MAX_TERMS:
            raise SelectionError(f"a selection has at most {MAX_TERMS} terms")
        if _depth(tree) > MAX_DEPTH:
            raise SelectionError(f"a selection nests at most {MAX_DEPTH} levels deep")
        return cls(tree=tree)

    @classmethod
    def from_pairs(cls, pairs: Iterable[tuple[str, str]]) -> Self:
        """From parameter and value pairs, as in a query string; a key may carry ``!`` before and ``~`` after it.

        Raises:
            SelectionError: an unknown parameter (the nearest known one is named) or an impossible value.
        """
        return cls.of(_tree_of(list(pairs)))

    @property
    def terms(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """Parameters with their values, without ``q``; empty when parameters cannot say it."""
        return tuple((name, values) for name, values in _grouped(self.to_pairs() or []) if name != "q")

    @property
    def q(self) -> str | None:
        """The full-text query, when there is one beside the other conditions."""
        items = self.tree.items if isinstance(self.tree, All) else (self.tree,)
        return next((item.text for item in items if isinstance(item, Words)), None)

    @property
    def local_keys(self) -> tuple[str, ...]:
        """Parameters in it that mean something at one node only."""
        keys = dict.fromkeys(key_of(leaf) for leaf in leaves(self.tree))
        return tuple(key for key in keys if key in SEARCH_PARAMETERS and SEARCH_PARAMETERS[key].is_local)

    @property
    def staff_flags(self) -> tuple[str, ...]:
        """Flags in it that no public document carries, so that nobody but staff gets an answer."""
        asked = (leaf.value for leaf in leaves(self.tree) if isinstance(leaf, Equals) and leaf.key == "issue")
        return tuple(flag for flag in asked if flag in ACROSS_RECORDS)

    def values_needed(self, key: str) -> tuple[str, ...]:
        """Values of which a record must have one; empty: it may have any."""
        for item in self.tree.items if isinstance(self.tree, All) else (self.tree,):
            options = item.items if isinstance(item, Either) else (item,)
            if all(isinstance(option, Equals) and option.key == key for option in options):
                return tuple(option.value for option in options if isinstance(option, Equals))
        return ()

    def to_pairs(self) -> list[tuple[str, str]] | None:
        """As parameters; None when only a predicate can say it."""
        found = _pairs_of(self.tree)
        if found is None:
            return None
        pairs = [(name, value) for name, values in _grouped(found) for value in values]
        try:
            return pairs if _tree_of(pairs) == self.tree else None
        except SelectionError:
            return None

    def to_json(self) -> dict[str, Json]:
        """``{parameter: [values]}``, or ``{"predicate": {..}}`` for what parameters cannot say."""
        from linkeddata.predicates import to_predicate

        pairs = self.to_pairs()
        if pairs is None:
            return {"predicate": to_predicate(self.tree)}
        return {name: list(values) for name, values in _grouped(pairs)}

    def to_text(self) -> str:
        """The ``--where`` form; ``parse_where`` reads it back."""
        import json

        pairs = self.to_pairs()
        if pairs is None:
            return json.dumps(self.to_json()["predicate"], ensure_ascii=False)
        return shlex.join(f"{name}={value}" for name, value in pairs)


def parse_where(text: str) -> Selection:
    """``name=value`` pairs separated by blanks, or a predicate in braces; empty text selects everything.

    Raises:
        SelectionError, DocumentError: with what to write instead.
    """
    if len(text) > MAX_TEXT_CHARS:
        raise SelectionError("the selection is too long")
    if text.lstrip().startswith("{"):
        from linkeddata.predicates import parse_predicate

        document = as_object(parse_json(text, max_bytes=4 * MAX_TEXT_CHARS), "a predicate")
        return Selection.of(parse_predicate(document.get("predicate", document) if len(document) == 1 else document))
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise SelectionError("a quotation mark is not closed") from error
    pairs: list[tuple[str, str]] = []
    for word in words:
        found = _KEY.match(word)
        if found is None:
            raise SelectionError(f"{word[:60]!r} is not name=value (full text: q=word)")
        pairs.append((found[1] + found[2] + ("" if found[3] == "=" else "~"), found[4]))
    return Selection.from_pairs(pairs)


def parse_selection(document: Json) -> Selection:
    """The JSON form of a selection.

    Raises:
        SelectionError, DocumentError: as ``Selection.from_pairs``.
    """
    given = as_object(document, "selection")
    if "predicate" in given:
        from linkeddata.predicates import parse_predicate

        if len(given) > 1:
            raise SelectionError("a selection is parameters or one predicate, not both")
        return Selection.of(parse_predicate(given["predicate"]))
    pairs: list[tuple[str, str]] = []
    for name, values in given.items():
        if not isinstance(values, list) or not all(isinstance(item, str) for item in values):
            raise SelectionError(f"{name[:60]}: values are a list of texts")
        if not values:
            raise SelectionError(
                f"{name[:60]}: the list of values is empty; leave the parameter out to select everything"
            )
        pairs.extend((name, value) for value in values)
    return Selection.from_pairs(pairs)


def check_portable(selection: Selection) -> None:
    """Refuses what means something at one node only.

    Raises:
        SelectionError: it names the parameter.
    """
    if selection.local_keys:
        raise SelectionError(f"{selection.local_keys[0]} means something at one node only; a job cannot ask it")
    if selection.staff_flags:
        raise SelectionError(f"{selection.staff_flags[0]} is told to staff of a node only; a job cannot ask it")


# ---------------------------------------------------------------------- leaves from values
def leaf_of(parameter: Parameter, value: str) -> Leaf:
    """What ``key=value`` says.

    Raises:
        SelectionError: the value is impossible; the message says what is.
    """
    name, kind = parameter.name, parameter.kind
    if kind is Kind.GEOMETRY:
        return Within(parse_area(value))
    if kind is Kind.WORDS:
        return Words(value)
    if kind is Kind.ANNOTATION:
        return _annotated(name, value)
    if value == "*" and kind is not Kind.BOOLEAN:
        return Known(name)
    if kind in RANGED and "," in value:
        low, _, high = value.partition(",")
        return span(name, None if low in ("", "*") else low, None if high in ("", "*") else high)
    return equals(name, value)


def equals(key: str, value: str) -> Equals:
    """A checked comparison."""
    kind = SEARCH_PARAMETERS[key].kind
    if kind is Kind.BOOLEAN:
        if value.lower() not in ("true", "false"):
            raise SelectionError(f"{key} is true or false")
        value = value.lower()
    elif kind in RANGED:
        _check_point(key, value)
    elif kind is Kind.FLAG:
        value = _check_flag(key, value)
    elif kind not in TEXTUAL:
        raise SelectionError(f"{key} cannot be compared for being equal")
    return Equals(key, value)


def like(key: str, pattern: str) -> Like:
    """A checked pattern."""
    if SEARCH_PARAMETERS[key].kind not in TEXTUAL:
        raise SelectionError(f"{key} takes no pattern: write {key}=value")
    if pattern.count("*") + pattern.count("?") > MAX_WILDCARDS:
        raise SelectionError(f"a pattern has at most {MAX_WILDCARDS} wildcards")
    return Like(key, pattern)


def span(key: str, low: str | None, high: str | None, *, above_low: bool = False, below_high: bool = False) -> Span:
    """A checked range."""
    if SEARCH_PARAMETERS[key].kind not in RANGED:
        raise SelectionError(f"{key} takes no range")
    if low is None and high is None:
        raise SelectionError(f"a range of {key} has at least one end; {key}=* asks whether there is a value")
    points = [_check_point(key, end) for end in (low, high) if end is not None]
    if len(points) == 2 and points[0] > points[1]:
        raise SelectionError(f"the range of {key}s runs backwards: write {high},{low}")
    return Span(key, low, high, above_low, below_high)


def check_text(name: str, value: str) -> None:
    """Refuses what no value is."""
    limit = MAX_TEXT_CHARS if name == "geometry" else MAX_VALUE_CHARS
    if len(value) > limit:
        raise SelectionError(f"the value of {name} is longer than {limit} characters")
    if "\0" in value:
        raise SelectionError(f"the value of {name} holds a null character")
    if any("\ud800" <= char <= "\udfff" for char in value):
        raise SelectionError(f"the value of {name} is not Unicode text")


def _check_point(key: str, value: str) -> float:
    kind = SEARCH_PARAMETERS[key].kind
    if kind is Kind.WHOLE:
        if not _YEAR.match(value):
            raise SelectionError(f"{key} is a number or a range such as 1900,1950 or 1900,*")
        return int(value)
    if kind is Kind.DATE:
        found = span_of_date(value)
        if found is None:
            raise SelectionError(f"{key} is a year, a month or a day (1901, 1901-05, 1901-05-02) or a range of them")
        return int(found[0].replace("-", ""))
    if not _NUMBER.match(value):
        raise SelectionError(f"{key} is a number such as -12.5 or a range such as -12.5,10")
    return float(value)


def _check_flag(key: str, value: str) -> str:
    flag = value.strip().upper()
    if flag not in FLAGS:
        close = difflib.get_close_matches(flag[:60], FLAGS, n=1, cutoff=0.5)
        hint = f"did you mean {close[0]}?" if close else "docs/reference-findings.md lists them"
        raise SelectionError(f"{key} is one of the flags of records; {value[:60]!r} is none: {hint}")
    return flag


def annotated(document: dict[str, tuple[str, ...]]) -> Annotated:
    """A checked condition on one region, from ``annotation.*`` and ``scoreMin`` with their values."""
    scores = document.get("scoreMin", ())
    if len(scores) > 1 or any(not _SCORE.match(score) for score in scores):
        raise SelectionError("scoreMin is one number from 0 to 1, such as 0.8")
    for name, values in document.items():
        if any(not value.strip() for value in values):
            raise SelectionError(f"{name} needs a value")
    return Annotated(
        classes=document.get("annotation.class", ()),
        text=" ".join(document.get("annotation.text", ())),
        pipelines=document.get("annotation.pipeline", ()),
        score_min=scores[0] if scores else "",
    )


def _annotated(name: str, value: str) -> Annotated:
    return annotated({name: (value,)})


# ---------------------------------------------------------------------- pairs
def _tree_of(pairs: list[tuple[str, str]]) -> Condition:
    if len(pairs) > MAX_TERMS:
        raise SelectionError(f"a selection has at most {MAX_TERMS} terms")
    groups: dict[str, tuple[list[Condition], list[Condition]]] = {}
    words: list[str] = []
    regions: dict[str, tuple[str, ...]] = {}
    for written, value in pairs:
        name = written.removeprefix("!")
        parameter = find_parameter(name.removesuffix("~"))
        check_text(parameter.name, value)
        is_negated = written.startswith("!")
        group = "annotation" if parameter.kind is Kind.ANNOTATION else parameter.name
        yes, no = groups.setdefault(group, ([], []))
        if parameter.kind is Kind.ANNOTATION and not is_negated:
            regions[parameter.name] = (*regions.get(parameter.name, ()), value)
        elif parameter.kind is Kind.WORDS and not is_negated:
            words.append(value)
        else:
            is_pattern = name.endswith("~") and parameter.kind in (*TEXTUAL, *RANGED, Kind.BOOLEAN, Kind.FLAG)
            leaf = like(parameter.name, value) if is_pattern else leaf_of(parameter, value)
            if is_negated and isinstance(leaf, Known):
                yes.append(Unknown(leaf.key))
            else:
                (no if is_negated else yes).append(leaf)
    found: list[Condition] = []
    for group, (yes, no) in groups.items():
        if group == "annotation" and regions:
            found.append(annotated(regions))
        elif group == "q" and words:
            found.append(Words(" ".join(words)))
        elif yes:
            found.append(either_of(yes))
        if no:
            found.append(Not(either_of(no)))
    return all_of(found)


def _pairs_of(tree: Condition) -> list[tuple[str, str]] | None:
    """Perhaps a spelling in parameters; whoever uses it reads it back to be sure."""
    pairs: list[tuple[str, str]] = []
    for item in tree.items if isinstance(tree, All) else (tree,):
        mark, inner = ("!", item.item) if isinstance(item, Not) else ("", item)
        for option in inner.items if isinstance(inner, Either) else (inner,):
            if isinstance(option, All | Either | Not):
                return None
            pairs += [(mark + name, value) for name, value in _leaf_pairs(option)]
    return pairs


def _leaf_pairs(leaf: Leaf) -> list[tuple[str, str]]:
    match leaf:
        case Equals():
            return [(leaf.key, leaf.value)]
        case Like():
            return [(leaf.key + "~", leaf.pattern)]
        case Span():
            return [(leaf.key, f"{leaf.low or '*'},{leaf.high or '*'}")]
        case Known():
            return [(leaf.key, "*")]
        case Unknown():
            return [("!" + leaf.key, "*")]
        case Within():
            return [("geometry", leaf.area.to_wkt())]
        case Words():
            return [("q", leaf.text)]
        case Annotated():
            return [
                *(("annotation.class", item) for item in leaf.classes),
                *([("annotation.text", leaf.text)] if leaf.text else []),
                *(("annotation.pipeline", item) for item in leaf.pipelines),
                *([("scoreMin", leaf.score_min)] if leaf.score_min else []),
            ]


def _grouped(pairs: list[tuple[str, str]]) -> list[tuple[str, tuple[str, ...]]]:
    found: dict[str, list[str]] = {}
    for name, value in pairs:
        found.setdefault(name, []).append(value)
    return [(name, tuple(values)) for name, values in found.items()]


def _depth(condition: Condition) -> int:
    match condition:
        case All() | Either():
            return 1 + max((_depth(item) for item in condition.items), default=0)
        case Not():
            return 1 + _depth(condition.item)
        case _:
            return 1
