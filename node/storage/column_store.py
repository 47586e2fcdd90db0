"""Columns of specimens as arrays: which specimens fit a selection, and how often each value stands among them.

Invariants:
- A condition on a record without a value is neither true nor false (as in ``node.storage.search_sql``).
- What is private has arrays of its own, which are not even looked at for anybody but staff.
- Memory: about 70 bytes a specimen, and each text once.

It leaves out: following the tables (``node.storage.search_columns``); parameters whose values are almost all different
(numbers, localities), dates and patterns, which the tables answer; locks.
"""

# ruff: noqa: S608 - names of columns come from fixed tables, values are bound
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from linkeddata.search_terms import SEARCH_PARAMETERS, Kind
from linkeddata.selection import (
    All,
    Annotated,
    Condition,
    Either,
    Equals,
    Known,
    Not,
    Selection,
    Span,
    Unknown,
    Within,
    Words,
    key_of,
    leaves,
)
from node.access import Viewer
from node.storage.search_sql import (
    ACCESS,
    COLUMNS,
    Query,
    flagged_numbers,
    fts_query,
    marks,
    may_be_undecided,
    spellings,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Mask = NDArray[np.bool_]

SLICE: Final = 20_000
"""Rows that are taken in at once."""
MOST_IN_AREA: Final = 20_000
"""Points that are asked one by one whether they lie in an area."""
TEXTS: Final = (
    "kingdom", "phylum", "class", '"order"', "family", "genus", "type_status", "continent", "country", "country_code",
    "country_or_code", "state_province", "institution_code", "collection_code", "basis_of_record", "recorded_by",
    "license", "media_type",
)  # fmt: skip
WHOLES: Final = ("year", "month", "has_image", "access")
DECIMALS: Final = ("latitude", "longitude")
_ALL: Final = (*TEXTS, *WHOLES, *DECIMALS)


class CannotTell(Exception):
    """The columns do not hold what is asked for."""


@dataclass(frozen=True, slots=True)
class Counted:
    """What the columns say about a question."""

    total: int
    facets: tuple[tuple[tuple[str, int], ...], ...]
    """Of each facet asked for: (value, records), most frequent first."""
    no_value: tuple[tuple[tuple[str, ...], int], ...]
    """Of each condition that may lack values: its parameters, and how many records fit the others but not this."""
    numbers: tuple[int, ...]
    """Of the first hits after the given one, in their order."""


def is_held(leaf: Condition) -> bool:
    """Whether the columns can tell about a condition."""
    match leaf:
        case Words() | Annotated() | Within():
            return True
        case Equals() | Span() | Known() | Unknown():
            kind = SEARCH_PARAMETERS[leaf.key].kind
            return (
                kind is not Kind.DATE and leaf.key in COLUMNS and all(column in _ALL for column in COLUMNS[leaf.key])
            ) or kind is Kind.FLAG
        case _:
            return False


def is_facet(name: str) -> bool:
    """Whether the columns can count the values of a parameter."""
    return name in COLUMNS and COLUMNS[name][0] in (*TEXTS, *WHOLES)


def fold(text: str) -> str:
    """As NOCASE compares: letters A to Z."""
    return text.lower() if text.isascii() else "".join(char.lower() if char.isascii() else char for char in text)


@dataclass(slots=True)
class _Texts:
    """Each text of a column once; the code of none is 0."""

    codes: dict[str, int] = field(default_factory=dict)
    """By the text as it is spelt; texts that differ in case alone share a code."""
    spellings: list[str] = field(default_factory=lambda: [""])
    """By code."""

    def code(self, text: str) -> int:
        found = self.codes.get(text)
        if found is None:
            folded = fold(text)
            found = self.codes.get(folded)
            if found is None:
                found = self.codes[folded] = len(self.spellings)
                self.spellings.append(text)
            self.codes[text] = found
        return found

    def find(self, text: str) -> int:
        """-1: nothing has it."""
        return self.codes.get(fold(text), -1)


class _Part:
    """The specimens with numbers of one sign, at the places of their numbers."""

    def __init__(self, sign: int) -> None:
        import numpy as np

        self.sign = sign
        self.size = 0
        self.is_there: Mask = np.zeros(0, np.bool_)
        self.columns: dict[str, NDArray[Any]] = {
            **{name: np.zeros(0, np.int16) for name in (*TEXTS, *WHOLES)},
            **{name: np.zeros(0, np.float64) for name in DECIMALS},
        }

    def grow(self, size: int) -> None:
        """Places for numbers up to this one."""
        import numpy as np

        if size >= self.is_there.size:
            capacity = max(1024, size + 1 + size // 8)

            def longer(old: Any) -> Any:
                new = np.zeros(capacity, old.dtype)
                new[: old.size] = old
                return new

            self.is_there = longer(self.is_there)
            self.columns = {name: longer(old) for name, old in self.columns.items()}
        self.size = max(self.size, size + 1)

    def put(self, name: str, places: Any, values: Any) -> None:
        """Sets values of a column, which gets wider when they do not fit."""
        import numpy as np

        column = self.columns[name]
        if column.dtype == np.int16 and values.size and int(values.max()) > 32_000:
            column = self.columns[name] = column.astype(np.int32)
        column[places] = values


class ColumnStore:
    """All columns. Not for several threads at once."""

    def __init__(self) -> None:
        self.parts: tuple[_Part, _Part] | None = None
        self.texts = {name: _Texts() for name in TEXTS}

    # ------------------------------------------------------------------ filling
    def slices(self, conn: sqlite3.Connection) -> Iterator[list[tuple[Any, ...]]]:
        """All rows."""
        cursor = conn.cursor()
        cursor.row_factory = None
        cursor.execute(f"SELECT n, {', '.join(_ALL)} FROM specimen_facet")
        while rows := cursor.fetchmany(SLICE):
            yield rows

    def read(self, conn: sqlite3.Connection, low: int, high: int) -> list[tuple[Any, ...]]:
        """Rows with numbers from ``low`` to ``high`` as the tables have them now."""
        cursor = conn.cursor()
        cursor.row_factory = None
        return cursor.execute(
            f"SELECT n, {', '.join(_ALL)} FROM specimen_facet WHERE n BETWEEN ? AND ?", (low, high)
        ).fetchall()

    def replace(self, low: int, high: int, rows: list[tuple[Any, ...]]) -> None:
        """These rows are all that there is between two numbers."""
        for part in self._parts():
            first, last = (low, high) if part.sign > 0 else (-high, -low)
            part.is_there[max(first, 0) : max(last + 1, 0)] = False
        self.take(rows)

    def take(self, rows: list[tuple[Any, ...]]) -> None:
        """Rows (n and all columns)."""
        import numpy as np

        for part in self._parts():
            mine = [row for row in rows if row[0] * part.sign > 0]
            if not mine:
                continue
            numbers, *columns = zip(*mine, strict=True)
            places = np.abs(np.fromiter(numbers, np.int64, len(mine)))
            part.grow(int(places.max()))
            part.is_there[places] = True
            for name, values in zip(_ALL, columns, strict=True):
                if name in DECIMALS:
                    found = np.array([np.nan if value is None else value for value in values], np.float64)
                elif name in WHOLES:
                    found = np.array([0 if value is None else value + 1 for value in values], np.int32)
                else:
                    code = self.texts[name].code
                    found = np.array([0 if value is None else code(value) for value in values], np.int32)
                part.put(name, places, found)

    def _parts(self) -> tuple[_Part, _Part]:
        if self.parts is None:
            self.parts = (_Part(-1), _Part(1))
        return self.parts

    # ------------------------------------------------------------------ asking
    def count(
        self,
        conn: sqlite3.Connection,
        selection: Selection,
        viewer: Viewer,
        facets: Sequence[str],
        facet_limit: int,
        page: tuple[int | None, int] | None,
    ) -> Counted:
        """Answers; private specimens, whose numbers come first, for staff alone."""
        import numpy as np

        items = selection.tree.items if isinstance(selection.tree, All) else (selection.tree,)
        parts = self._parts() if viewer.is_staff else self._parts()[1:]
        asked = [_Asked(self, part, conn, viewer) for part in parts]
        total, numbers = 0, list[int]()
        names = [
            tuple(dict.fromkeys(key_of(leaf) for leaf in leaves(item) if may_be_undecided(leaf))) for item in items
        ]
        undecided = [0] * len(items)
        sums: list[Any] = [None] * len(facets)
        for one in asked:
            answers = [one.ask(item) for item in items]
            true = one.part.is_there[: one.part.size].copy()
            for answer in answers:
                true &= answer.true
            places = np.flatnonzero(true)
            total += int(places.size)
            for at in (at for at, keys in enumerate(names) if keys):
                unknown = answers[at].unknown & one.part.is_there[: one.part.size]
                for other in (*answers[:at], *answers[at + 1 :]):
                    unknown &= other.true
                undecided[at] += int(np.count_nonzero(unknown))
            for at, name in enumerate(facets):
                column = one.part.columns[COLUMNS[name][0]]
                found = np.bincount(column[places], minlength=0 if sums[at] is None else sums[at].size)
                if sums[at] is not None:
                    found[: sums[at].size] += sums[at]
                sums[at] = found
            if page is not None and len(numbers) < page[1]:
                numbers += _next(places, one.part.sign, page[0], page[1] - len(numbers))
        return Counted(
            total, tuple(self._facet(name, counts, facet_limit) for name, counts in zip(facets, sums, strict=True)),
            tuple((keys, count) for keys, count in zip(names, undecided, strict=True) if keys and count),
            tuple(numbers),
        )  # fmt: skip

    def _facet(self, name: str, counts: Any, limit: int) -> tuple[tuple[str, int], ...]:
        import numpy as np

        column = COLUMNS[name][0]
        if counts is None:
            return ()
        counts[:1] = 0  # no value is no value of a facet
        codes = np.flatnonzero(counts)
        if codes.size > limit:
            least = np.partition(counts[codes], codes.size - limit)[codes.size - limit]
            codes = codes[counts[codes] >= least]
        if column in WHOLES:
            found = [(int(code) - 1, int(counts[code])) for code in codes]
            return tuple((str(value), n) for value, n in sorted(found, key=lambda pair: (-pair[1], pair[0]))[:limit])
        spelt = self.texts[column].spellings
        named = [(spelt[code], int(counts[code])) for code in codes]
        return tuple(sorted(named, key=lambda pair: (-pair[1], fold(pair[0])))[:limit])


def _next(places: Any, sign: int, after: int | None, wanted: int) -> list[int]:
    """Numbers of the next hits after one, in the order of numbers."""
    import numpy as np

    if sign > 0:
        start = 0 if after is None or after < 0 else int(np.searchsorted(places, after, side="right"))
        return [int(place) for place in places[start : start + wanted]]
    end = places.size if after is None else int(np.searchsorted(places, -after, side="left"))
    return [-int(place) for place in places[max(0, end - wanted) : end][::-1]] if after is None or after < 0 else []


@dataclass(frozen=True, slots=True)
class _Answer:
    """Of a condition, for each place: whether it is true, and whether it cannot be told."""

    true: "Mask"
    unknown: "Mask"


class _Asked:
    """Conditions over one part."""

    def __init__(self, store: ColumnStore, part: _Part, conn: sqlite3.Connection, viewer: Viewer) -> None:
        self.part = part
        self._store, self._conn, self._viewer = store, conn, viewer

    def ask(self, item: Condition) -> _Answer:
        """Kleene's three values, as SQL has them."""
        match item:
            case All():
                found = [self.ask(part) for part in item.items]
                true, false = self._const(True), self._const(False)
                for one in found:
                    true &= one.true
                    false |= ~(one.true | one.unknown)
                return _Answer(true, ~(true | false))
            case Either():
                found = [self.ask(part) for part in item.items]
                true, unknown = self._const(False), self._const(False)
                for one in found:
                    true |= one.true
                    unknown |= one.unknown
                return _Answer(true, unknown & ~true)
            case Not():
                inner = self.ask(item.item)
                return _Answer(~(inner.true | inner.unknown), inner.unknown)
            case _:
                return self._leaf(item)

    def _leaf(self, leaf: Condition) -> _Answer:
        match leaf:
            case Equals("issue", flag):
                return self._sure(self._flagged([flag]))
            case Known("issue"):
                return self._sure(self._flagged([]))
            case Unknown("issue"):
                return self._sure(~self._flagged([]))
            case Equals():
                return self._equals(leaf)
            case Span():
                return self._span(leaf)
            case Known():
                return self._sure(~self._is_empty(COLUMNS[leaf.key][0]))
            case Unknown():
                return self._sure(self._is_empty(COLUMNS[leaf.key][0]))
            case Within():
                return self._within(leaf)
            case Words():
                return self._sure(self._words(leaf.text))
            case Annotated():
                query = Query()
                text = f"SELECT DISTINCT k.n FROM annotation_mark k WHERE {marks(leaf, self._viewer, query)}"
                return self._sure(self._numbered(text, query))
            case _:
                raise CannotTell

    def _flagged(self, flags: list[str]) -> "Mask":
        query = Query()
        return self._numbered(flagged_numbers(flags, self._viewer, query), query)

    def _equals(self, leaf: Equals) -> _Answer:
        import numpy as np

        kind, columns = SEARCH_PARAMETERS[leaf.key].kind, COLUMNS[leaf.key]
        if leaf.key == "hasImage":
            return self._sure(self._column("has_image") == int(leaf.value == "true") + 1)
        if kind is Kind.BOOLEAN:
            empty = self._is_empty("latitude")
            return self._sure(~empty if leaf.value == "true" else empty)
        if leaf.key == "localAccess":
            return self._sure(self._column("access") == ACCESS.get(leaf.value.lower(), -1) + 1)
        if kind is Kind.NUMBER:
            column = self._column(columns[0])
            return _Answer(column == float(leaf.value), np.isnan(column))
        if kind is Kind.WHOLE:
            column = self._column(columns[0])
            return _Answer(column == int(leaf.value) + 1, column == 0)
        values = spellings(leaf)
        name = columns[0]
        if leaf.key == "country":  # a code stands in one column, a name in the other
            name = "country_or_code" if all(len(value) == 2 for value in values) else "country"
        column, texts = self._column(name), self._store.texts[name]
        true = self._const(False)
        for code in {texts.find(value) for value in values} - {-1}:
            true |= column == code
        return _Answer(true, column == 0)

    def _span(self, leaf: Span) -> _Answer:
        import numpy as np

        name = COLUMNS[leaf.key][0]
        column = self._column(name)
        is_whole = SEARCH_PARAMETERS[leaf.key].kind is Kind.WHOLE
        unknown = column == 0 if is_whole else np.isnan(column)
        true = ~unknown
        for end, is_low, is_open in ((leaf.low, True, leaf.above_low), (leaf.high, False, leaf.below_high)):
            if end is not None:
                value = int(end) + 1 if is_whole else float(end)
                if is_low:
                    true &= column > value if is_open else column >= value
                else:
                    true &= column < value if is_open else column <= value
        return _Answer(true, unknown)

    def _within(self, leaf: Within) -> _Answer:
        import numpy as np

        south, north = leaf.area.latitudes
        west, east = leaf.area.longitudes
        y, x = self._column("latitude"), self._column("longitude")
        true = (y >= south) & (y <= north)
        if west >= -180 and east <= 180:
            true &= (x >= west) & (x <= east)
        places = np.flatnonzero(true)
        if places.size > MOST_IN_AREA:
            raise CannotTell
        for place in places:
            true[place] = leaf.area.contains(float(x[place]), float(y[place]))
        return _Answer(true, np.isnan(y))

    def _words(self, text: str) -> "Mask":
        words = fts_query(text)
        if not words:
            return self._const(not text.strip())
        query = Query()
        name = query.bind(words)
        found = self._numbered(f"SELECT rowid AS n FROM specimen_text WHERE specimen_text MATCH {name}", query)
        if self._viewer.is_staff:
            read = f"SELECT rowid FROM annotation_text WHERE annotation_text MATCH {name}"
            found |= self._numbered(f"SELECT k.n FROM annotation_mark k WHERE k.id IN ({read})", query)
        return found

    def _numbered(self, sql: str, query: Query) -> "Mask":
        """Places of the numbers that a statement gives; they come as one text, which costs a tenth of so many rows."""
        import numpy as np

        true = self._const(False)
        row = self._conn.execute(f"SELECT group_concat(n) FROM ({sql})", query.params).fetchone()
        if row[0]:
            numbers = np.fromstring(str(row[0]), np.int64, sep=",") * self.part.sign
            true[numbers[(numbers > 0) & (numbers < true.size)]] = True
        return true

    def _column(self, name: str) -> Any:
        return self.part.columns[name][: self.part.size]

    def _is_empty(self, name: str) -> "Mask":
        import numpy as np

        column = self._column(name)
        empty: Mask = np.isnan(column) if name in DECIMALS else column == 0
        return empty

    def _sure(self, true: "Mask") -> _Answer:
        return _Answer(true, self._const(False))

    def _const(self, value: bool) -> "Mask":
        import numpy as np

        return np.full(self.part.size, value, np.bool_)
