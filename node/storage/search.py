"""Finding specimens: the same selection language for people, jobs and exports.

Invariants:
- What a stranger may not find is no hit, in no count and no facet (``node.storage.search_index`` says how).
- Pages follow each other by the number of the last hit (or its value and number): what is inserted or removed between
  two pages neither repeats nor hides another hit.
- How many records could not be decided for want of a value is counted with every answer.
- A text read by a machine is shown with who read it, and when its image was replaced since, that too.

It leaves out: similarity, other nodes.
"""

# ruff: noqa: S608 - names of columns come from fixed tables, values are bound
import base64
import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from linkeddata.access import AccessClass
from linkeddata.coverage import NoValue
from linkeddata.errors import DocumentError, SelectionError
from linkeddata.evidence import REPLACED
from linkeddata.json_strict import Json, parse_json
from linkeddata.search_terms import SEARCH_PARAMETERS, TEXTUAL, Kind, find_parameter
from linkeddata.selection import All, Annotated, Condition, Selection, Words, leaves
from node.access import Viewer
from node.storage.search_columns import SearchColumns
from node.storage.search_sql import (
    COLUMNS,
    PUBLIC,
    Query,
    fts_query,
    has_words,
    marks,
    shown_flags,
    split_words,
    where,
    without_value,
)

SORTS: Final[dict[str, str]] = {
    "scientificName": "scientific_name", "catalogNumber": "catalog_number", "recordedBy": "recorded_by",
    "recordNumber": "record_number", "year": "year", "eventDate": "first_day", "country": "country",
    "family": "family",
}  # fmt: skip
"""What hits may be sorted by -> column; ``-year`` sorts downwards; records without a value come last."""
RELEVANCE: Final = "relevance"
MAX_RANKED: Final = 5000
"""Hits of a full-text query that are ranked: the work of ranking grows with their number."""
FACETS: Final = tuple(
    name
    for name, item in SEARCH_PARAMETERS.items()
    if (item.kind in (*TEXTUAL, Kind.WHOLE) and name in COLUMNS and not item.is_local) or item.kind is Kind.FLAG
)
MAX_FACETS: Final = 8
MANY: Final = 50
"""When more than one in so many fits, a page is found sooner along the numbers than by an index and a sort."""
MAX_FACET_VALUES: Final = 100
MARKS_PER_HIT: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class MarkedText:
    """What a machine marked in an image of a hit, and which did."""

    annotation: str
    kind: str
    text: str
    score: float | None
    pipeline: str
    pipeline_name: str
    is_replaced: bool = False
    """The image that it was read from was replaced by another since."""

    def to_json(self) -> dict[str, Json]:
        """For an answer."""
        found: dict[str, Json] = {
            "annotation": self.annotation, "class": self.kind, "pipeline": self.pipeline, "by": self.pipeline_name,
        }  # fmt: skip
        if self.text:
            found["text"] = self.text
        if self.score is not None:
            found["score"] = f"{self.score:.4f}".rstrip("0").rstrip(".")
        if self.is_replaced:
            found["status"] = REPLACED
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """One specimen found."""

    iri: str
    body: dict[str, Any]
    access: AccessClass
    medium: str | None
    """IRI of its first medium."""
    marks: tuple[MarkedText, ...] = ()
    """Marks that made it a hit, the first few."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facet:
    """Values of one parameter among the hits, most frequent first."""

    field: str
    counts: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which part of an answer is wanted, and in which order."""

    limit: int
    after: str = ""
    sort: str = ""
    facets: tuple[str, ...] = ()
    facet_limit: int = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchPage:
    """Some hits, how many there are in all, and where the next page begins (None: nowhere)."""

    hits: tuple[Hit, ...]
    total: int
    next: str | None
    no_value: tuple[NoValue, ...] = ()
    facets: tuple[Facet, ...] = ()
    ranked: int | None = None
    """Of how many hits the best are shown; None: they are not ranked."""


def search(
    conn: sqlite3.Connection, selection: Selection, viewer: Viewer, *, limit: int, after: str = ""
) -> SearchPage:
    """Specimens that fit, in their stable order, from ``after`` on."""
    return look(conn, selection, viewer, Wanted(limit=limit, after=after))


def look(
    conn: sqlite3.Connection,
    selection: Selection,
    viewer: Viewer,
    wanted: Wanted,
    *,
    columns: SearchColumns | None = None,
) -> SearchPage:
    """A page of what fits, with counts.

    Args:
        conn: inside a transaction; with ``columns``, one in which nothing was read yet.
        selection: what is asked.
        viewer: who asks.
        wanted: which part of the answer.
        columns: of the same database, in memory; without them, or when they cannot tell, the tables are asked.

    Raises:
        SelectionError: an unknown order, facet or page, or a parameter that is for staff.
    """
    check_viewer(selection, viewer)
    facets = tuple(_facet_name(name) for name in wanted.facets)
    if len(facets) > MAX_FACETS:
        raise SelectionError(f"at most {MAX_FACETS} facets in one question")
    is_ranked = wanted.sort == RELEVANCE and selection.q is not None
    known = None
    if columns is not None:
        after = _read_cursor(wanted.after, "")[1] if wanted.after and not wanted.sort else None
        page = (after, wanted.limit + 1) if not wanted.sort else (None, MAX_RANKED) if is_ranked else None
        most = min(wanted.facet_limit, MAX_FACET_VALUES)
        known = columns.count(conn, selection, viewer, facets=facets, facet_limit=most, page=page)
    if known is None:
        total, counted = _facets(conn, selection, viewer, facets, wanted.facet_limit)
        no_value = count_no_value(conn, selection, viewer)
    else:
        total, no_value = known.total, tuple(NoValue(keys=keys, count=number) for keys, number in known.no_value)
        counted = tuple(Facet(field=name, counts=found) for name, found in zip(facets, known.facets, strict=True))
    if is_ranked:
        rows = _best(conn, selection, viewer, wanted.limit, among=None if known is None else known.numbers)
        following = None
    elif known is not None and not wanted.sort:
        rows, following = _numbered(conn, known.numbers, viewer, wanted.limit)
    else:
        rows, following = _page(conn, selection, viewer, wanted, total)
    return SearchPage(
        hits=tuple(_hit(conn, row, selection, viewer) for row in rows),
        total=total,
        next=following,
        no_value=no_value,
        facets=counted,
        ranked=min(total, MAX_RANKED) if is_ranked else None,
    )


def count(conn: sqlite3.Connection, selection: Selection, viewer: Viewer) -> int:
    """How many specimens fit."""
    check_viewer(selection, viewer)
    if selection.tree == All():
        total = int(conn.execute("SELECT count(*) FROM specimen_facet").fetchone()[0])
        hidden = int(conn.execute("SELECT count(*) FROM specimen_facet WHERE n < 0").fetchone()[0])
        return total if viewer.is_staff else total - hidden
    query = Query()
    words, others = split_words(selection)
    if words is not None and others.tree == All() and not viewer.is_staff:
        text = f"SELECT count(*) FROM specimen_text WHERE {_matching(words, query, 'specimen_text')}"
    else:
        text = f"SELECT count(*) FROM specimen_facet f WHERE {where(selection, viewer, query, is_counted=True)}"
    return int(conn.execute(text, query.params).fetchone()[0])


def count_no_value(conn: sqlite3.Connection, selection: Selection, viewer: Viewer) -> tuple[NoValue, ...]:
    """For each condition: how many records fit the others and cannot be decided by it; only those with any."""
    found = [
        NoValue(
            keys=keys,
            count=int(conn.execute(f"SELECT count(*) FROM specimen_facet f WHERE {text}", params).fetchone()[0]),
        )
        for keys, text, params in without_value(selection, viewer)
    ]
    return tuple(item for item in found if item.count)


def check_viewer(selection: Selection, viewer: Viewer) -> None:
    """Refuses what only staff may ask.

    Raises:
        SelectionError: it names the parameter.
    """
    if "localSource" in selection.local_keys and not viewer.is_staff:
        raise SelectionError("localSource can be asked by staff of the node only")
    if selection.staff_flags and not viewer.is_staff:
        raise SelectionError(f"{selection.staff_flags[0]} can be asked by staff of the node only")


# ---------------------------------------------------------------------- pages
_FIELDS: Final = """f.n, f.iri, f.access, r.body,
  (SELECT ms.medium FROM medium_specimen ms JOIN medium m ON m.iri = ms.medium
   WHERE ms.specimen = f.iri AND m.state = 'active' AND (m.access < 2 OR :staff)
   ORDER BY ms.ordinal LIMIT 1) AS medium"""


def _page(
    conn: sqlite3.Connection, selection: Selection, viewer: Viewer, wanted: Wanted, total: int
) -> tuple[list[sqlite3.Row], str | None]:
    query = Query({"staff": viewer.is_staff, "limit": wanted.limit + 1})
    words, others = split_words(selection)
    is_many = query.walks = total * MANY > _size(conn)
    is_text = words is not None and not wanted.sort and not viewer.is_staff and (is_many or others.tree == All())
    if words is not None and is_text:  # the full-text index yields hits one by one, in the order of their numbers
        tables = "specimen_text t CROSS JOIN specimen_facet f ON f.n = t.rowid"
        text = f"{_matching(words, query, 't')} AND {where(others, viewer, query)}"
    else:
        tables = "specimen_facet f" + (" NOT INDEXED" if is_many and not wanted.sort else "")
        text = where(selection, viewer, query)
    name = wanted.sort.removeprefix("-")
    if name and name not in SORTS:
        raise SelectionError(f"sort is one of {', '.join(SORTS)} (with - before it: downwards) or relevance (with q)")
    column = f"f.{SORTS[name]}" if name else ""
    sign, direction = ("<", "DESC") if wanted.sort.startswith("-") else (">", "ASC")
    if wanted.after:
        value, n = _read_cursor(wanted.after, wanted.sort)
        last = query.bind(n)
        if not column:
            text += f" AND {'t.rowid' if is_text else 'f.n'} > {last}"
        elif value is None:
            text += f" AND {column} IS NULL AND f.n > {last}"
        else:
            same = query.bind(value)
            text += f" AND ({column} IS NULL OR {column} {sign} {same} OR ({column} = {same} AND f.n > {last}))"
    order = f"{column} IS NULL, {column} {direction}, f.n" if column else "f.n"
    first_order = "t.rowid" if is_text else order
    chosen = f"SELECT f.n FROM {tables} WHERE {text} ORDER BY {first_order} LIMIT :limit"
    value_column = column or "NULL"
    rows = conn.execute(
        f"""SELECT {_FIELDS}, {value_column} AS sorted_by FROM specimen_facet f JOIN record r ON r.iri = f.iri
            WHERE f.n IN ({chosen}) ORDER BY {order}""",
        query.params,
    ).fetchall()
    if len(rows) <= wanted.limit:
        return rows, None
    kept = rows[: wanted.limit]
    return kept, _cursor(wanted.sort, kept[-1]["sorted_by"], kept[-1]["n"])


def _numbered(
    conn: sqlite3.Connection, numbers: tuple[int, ...], viewer: Viewer, limit: int
) -> tuple[list[sqlite3.Row], str | None]:
    """The page of these hits, one more than it holds among them when there are more."""
    rows = conn.execute(
        f"""SELECT {_FIELDS} FROM specimen_facet f JOIN record r ON r.iri = f.iri
            WHERE f.n IN (SELECT value FROM json_each(:numbers)) ORDER BY f.n""",
        {"numbers": json.dumps(numbers[:limit]), "staff": viewer.is_staff},
    ).fetchall()
    return rows, _cursor("", None, numbers[limit - 1]) if len(numbers) > limit else None


def _best(
    conn: sqlite3.Connection, selection: Selection, viewer: Viewer, limit: int, *, among: Sequence[int] | None = None
) -> list[sqlite3.Row]:
    """The best by bm25 among the first hits; not paged, because a rank moves with every record that is added.

    ``among`` are the first hits, where they are known.
    """
    query = Query({"staff": viewer.is_staff, "limit": limit, "most": MAX_RANKED})
    words, others = split_words(selection)
    if words is None:
        return []
    inner = f"specimen_text t WHERE {_matching(words, query, 't')}"
    if viewer.is_staff:
        inner = inner.replace(" AND t.rowid > 0", "")
    if among is not None:
        last, numbers = query.bind(max(among, default=0)), query.bind(json.dumps(among))
        inner += f" AND t.rowid <= {last} AND +t.rowid IN (SELECT value FROM json_each({numbers}))"
    elif others.tree != All():
        inner += (
            f" AND +t.rowid IN (SELECT f.n FROM specimen_facet f WHERE {where(others, viewer, query, is_counted=True)})"
        )
    return conn.execute(
        f"""SELECT {_FIELDS} FROM
              (SELECT n, rank_ FROM
                (SELECT t.rowid AS n, bm25(specimen_text) AS rank_ FROM {inner} LIMIT :most)
               ORDER BY rank_, n LIMIT :limit) AS best
            JOIN specimen_facet f ON f.n = best.n JOIN record r ON r.iri = f.iri ORDER BY best.rank_, best.n""",
        query.params,
    ).fetchall()


def _matching(words: Words, query: Query, table: str) -> str:
    """Of a full-text table (or its short name): public rows with these words."""
    return f"specimen_text MATCH {query.bind(fts_query(words.text))} AND {table}.rowid > 0"


def _size(conn: sqlite3.Connection) -> int:
    """About how many specimens there are: numbers are dense but for what was removed."""
    row = conn.execute("SELECT coalesce(max(n), 0) FROM specimen_facet").fetchone()
    return int(row[0])


def _cursor(sort: str, value: Any, n: int) -> str:
    text = json.dumps([sort, value, n], ensure_ascii=False)
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _read_cursor(text: str, sort: str) -> tuple[str | int | None, int]:
    try:
        document = parse_json(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)), max_bytes=5000)
    except (ValueError, DocumentError) as error:
        raise SelectionError("after is not from an answer of this node: begin with the first page") from error
    if (
        not isinstance(document, list)
        or len(document) != 3
        or document[0] != sort
        or not isinstance(document[1], str | int | None)
        or not isinstance(document[2], int)
    ):
        raise SelectionError("after is from another question: begin with the first page")
    return document[1], document[2]


def _hit(conn: sqlite3.Connection, row: sqlite3.Row, selection: Selection, viewer: Viewer) -> Hit:
    return Hit(
        iri=row["iri"], body=json.loads(row["body"]), access=AccessClass(row["access"]), medium=row["medium"],
        marks=_marks_of(conn, row["n"], selection.tree, viewer),
    )  # fmt: skip


def _marks_of(conn: sqlite3.Connection, n: int, tree: Condition, viewer: Viewer) -> tuple[MarkedText, ...]:
    """Marks of a hit that the question asks for, or that hold a word of it."""
    found: dict[int, MarkedText] = {}
    for leaf in leaves(tree):
        query = Query({"n": n})
        if isinstance(leaf, Annotated):
            text = marks(leaf, viewer, query, is_one=True)
        elif isinstance(leaf, Words) and fts_query(leaf.text):
            words = " OR ".join(part for part in _parts(fts_query(leaf.text)))
            text = has_words(query.bind(words))
            text += "" if viewer.is_staff else " AND k.is_public = 1"
        else:
            continue
        rows = conn.execute(
            f"""SELECT k.*, (SELECT body FROM annotation_text t WHERE t.rowid = k.id) AS text,
                  (SELECT a.state FROM annotation a WHERE a.iri = k.annotation) AS state
                FROM annotation_mark k WHERE k.n = :n AND {text}
                ORDER BY k.score DESC, k.id LIMIT {MARKS_PER_HIT}""",
            query.params,
        )
        for row in rows:
            found[row["id"]] = MarkedText(
                annotation=row["annotation"], kind=row["class"], text=row["text"] or "", score=row["score"],
                pipeline=row["pipeline"], pipeline_name=row["pipeline_name"],
                is_replaced=row["state"] == "evidence replaced",
            )  # fmt: skip
    return tuple(found.values())[:MARKS_PER_HIT]


def _parts(quoted: str) -> list[str]:
    """The words of ``fts_query``'s answer, each still quoted."""
    parts = quoted.split(' "')
    return [parts[0], *(f'"{part}' for part in parts[1:])]


# ---------------------------------------------------------------------- facets
def _facet_name(name: str) -> str:
    known = find_parameter(name).name
    if known not in FACETS:
        raise SelectionError(f"there is no facet {known}: there are {', '.join(FACETS)}")
    return known


def _facets(
    conn: sqlite3.Connection, selection: Selection, viewer: Viewer, names: tuple[str, ...], limit: int
) -> tuple[int, tuple[Facet, ...]]:
    """The number of hits and all facets over one walk along the hits; over everything, one walk along an index each."""
    if not names:
        return count(conn, selection, viewer), ()
    if selection.tree == All():
        return count(conn, selection, viewer), tuple(_facet_of_all(conn, viewer, name, limit) for name in names)
    query = Query({"limit": min(limit, MAX_FACET_VALUES)})
    words, others = split_words(selection)
    if words is not None and others.tree == All() and not viewer.is_staff:
        tables = "specimen_text t CROSS JOIN specimen_facet f ON f.n = t.rowid"
        text = _matching(words, query, "t")
    else:
        tables, text = "specimen_facet f", where(selection, viewer, query, is_counted=True)
    columns = ", ".join(
        f"f.{'iri' if name == 'issue' else COLUMNS[name][0]} AS c{number}" for number, name in enumerate(names)
    )
    parts = [
        f"""SELECT * FROM (SELECT {number} AS facet, i.code AS value, count(*) AS number
            FROM hits CROSS JOIN record_issue i ON i.iri = c{number} AND {shown_flags(viewer)}
            GROUP BY i.code ORDER BY number DESC, value LIMIT :limit)"""
        if name == "issue"
        else f"""SELECT * FROM (SELECT {number} AS facet, c{number} AS value, count(*) AS number FROM hits
            WHERE c{number} IS NOT NULL GROUP BY c{number} ORDER BY number DESC, value LIMIT :limit)"""
        for number, name in enumerate(names)
    ]
    parts.append("SELECT -1, NULL, count(*) FROM hits")
    rows = conn.execute(
        f"WITH hits AS MATERIALIZED (SELECT {columns} FROM {tables} WHERE {text}) " + " UNION ALL ".join(parts),
        query.params,
    ).fetchall()
    total = next(row["number"] for row in rows if row["facet"] == -1)
    return total, tuple(
        Facet(field=name, counts=tuple((str(row["value"]), row["number"]) for row in rows if row["facet"] == number))
        for number, name in enumerate(names)
    )


def _facet_of_all(conn: sqlite3.Connection, viewer: Viewer, name: str, limit: int) -> Facet:
    tables, column = "specimen_facet f", "i.code" if name == "issue" else f"f.{COLUMNS[name][0]}"
    if name == "issue":
        tables = f"record_issue i CROSS JOIN specimen_facet f ON f.iri = i.iri AND {shown_flags(viewer)}"
    rows = conn.execute(
        f"""SELECT {column} AS value, count(*) AS number FROM {tables}
            WHERE {"1" if viewer.is_staff else "+" + PUBLIC} AND {column} IS NOT NULL
            GROUP BY {column} ORDER BY number DESC, value LIMIT :limit""",
        {"limit": min(limit, MAX_FACET_VALUES)},
    )
    return Facet(field=name, counts=tuple((str(row["value"]), row["number"]) for row in rows))
