"""The search tables: what is published about each specimen, in columns, words and marked regions.

Owns the tables specimen_facet, specimen_text, annotation_mark, annotation_text, search_dirty and
search_change. All but the last two are derived from record, medium and annotation and can be rebuilt at any time.

Invariants:
- Only the public projection is indexed. What was withheld from a record can therefore not be found by any query.
- Text read from images is in specimen_text only when its annotation is public; annotation_text holds all, each with a
  mark that says whether it is.
- What was read from an image that was replaced is found until something with the same claim is said about the new one.
- The number of a private specimen is below zero, of any other above: one comparison hides what is private.
- A specimen keeps its number while it is indexed, also through a rebuild, so pages stay where they are.
- While a rebuild is on, every specimen that changes is noted, and indexed again before the new tables take over.

It leaves out: what a document says (``node.storage.search_document``), asking (``node.storage.search``), running a
rebuild beside a server (``node.services.reindex``).
"""

# ruff: noqa: S608 - names of tables and columns come from fixed tables, values are bound
import json
import sqlite3
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from linkeddata.access import AccessClass
from node.storage.claims import claim
from node.storage.search_document import SearchDocument, decimal_of, read_document

MAX_TEXT_BYTES: Final = 200_000
"""Text indexed per specimen; a label has hundreds of characters, this bounds a hostile record."""
CHANGES_KEPT: Final = 50_000
"""Entries of the log of changes; whoever is further behind reads everything again."""
EVERYTHING: Final = (-(1 << 62), 1 << 62)
_FILLED: Final = "filled up to "
"""In ``meta``, followed by an IRI: how far tables that a migration left empty are filled again."""
MAX_MARKS: Final = 2000
"""Regions indexed per specimen, for the same reason."""
TABLES: Final = ("specimen_facet", "specimen_text", "annotation_mark", "annotation_text")
HAS_IMAGE: Final = """(m.image IS NOT NULL OR (m.problem IS NULL
  AND (m.locator LIKE 'http://%' OR m.locator LIKE 'https://%')))"""
"""Of a medium ``m``: there are bytes, here or at an address."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewSpecimen:
    """A specimen that the tables do not hold yet, and in whose images no machine has marked anything."""

    iri: str
    access: AccessClass
    source: str
    document: SearchDocument
    has_media: bool
    """Whoever sees the specimen may know of one."""
    has_image: bool


@dataclass(frozen=True, slots=True)
class Mark:
    """One region that a machine marked, or a whole result without regions."""

    annotation: str
    kind: str
    text: str
    score: float | None
    pipeline: str
    pipeline_name: str
    is_public: bool


def index_specimen(conn: sqlite3.Connection, iri: str) -> None:
    """Brings the search tables to what is published about this specimen now (also when it is gone)."""
    if conn.execute("SELECT 1 FROM meta WHERE key = 'search_rebuild'").fetchone() is not None:
        conn.execute("INSERT OR IGNORE INTO search_dirty VALUES (?)", (iri,))
    write(conn, iri)


def index_new(conn: sqlite3.Connection, specimens: Iterable[NewSpecimen]) -> None:
    """The same as ``index_specimen`` for many at once that were never indexed, from what their documents say."""
    many = list(specimens)
    if conn.execute("SELECT 1 FROM meta WHERE key = 'search_rebuild'").fetchone() is not None:
        conn.executemany("INSERT OR IGNORE INTO search_dirty VALUES (?)", [(item.iri,) for item in many])
    lowest, highest = conn.execute(
        "SELECT coalesce((SELECT min(n) FROM specimen_facet), 0), coalesce((SELECT max(n) FROM specimen_facet), 0)"
    ).fetchone()
    lowest, highest = before = min(0, lowest), max(0, highest)
    rows, words = [], []
    columns: tuple[str, ...] = ()
    for item in many:
        is_private = item.access >= AccessClass.PRIVATE
        n = lowest - 1 if is_private else highest + 1
        lowest, highest = (n, highest) if is_private else (lowest, n)
        media_type = "StillImage" if item.has_media else None
        values = {
            **item.document.columns, "n": n, "iri": item.iri, "access": int(item.access), "source": item.source,
            "media_type": media_type, "has_image": int(item.has_image),
        }  # fmt: skip
        columns = tuple(values)
        rows.append(tuple(values.values()))
        words.append((n, item.document.words[:MAX_TEXT_BYTES]))
    if not rows:
        return
    conn.executemany(
        f"INSERT INTO specimen_facet ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})", rows
    )
    conn.executemany("INSERT INTO specimen_text (rowid, body) VALUES (?, ?)", words)
    if lowest < before[0]:
        note_changes(conn, lowest, before[0] - 1)
    if highest > before[1]:
        note_changes(conn, before[1] + 1, highest)


def note_changes(conn: sqlite3.Connection, low: int, high: int) -> None:
    """Writes down that specimens with these numbers (both included) changed, for who keeps columns in memory."""
    seq = conn.execute("INSERT INTO search_change (low, high) VALUES (?, ?)", (low, high)).lastrowid or 0
    if seq % 1000 == 0:
        conn.execute("DELETE FROM search_change WHERE seq <= ?", (seq - CHANGES_KEPT,))


def write(conn: sqlite3.Connection, iri: str, *, prefix: str = "") -> bool:
    """Like ``index_specimen``, for the tables whose names begin with ``prefix``; whether there is such a specimen."""
    old = conn.execute(f"SELECT n FROM {prefix}specimen_facet WHERE iri = ?", (iri,)).fetchone()
    found = conn.execute(
        "SELECT body, access, source FROM record WHERE iri = ? AND kind = 'specimen' AND state = 'active'", (iri,)
    ).fetchone()
    if found is None:
        if old is not None:
            _remove(conn, old[0], prefix)
        return False
    document = read_document(json.loads(found["body"]))
    is_private = found["access"] >= AccessClass.PRIVATE
    if old is not None and (old[0] < 0) != is_private:
        _remove(conn, old[0], prefix)
        old = None
    n = old[0] if old is not None else _number(conn, iri, prefix, is_private=is_private)
    values = {
        **document.columns, "n": n, "iri": iri, "access": found["access"], "source": found["source"],
        **_media_columns(conn, iri, is_private=is_private),
    }  # fmt: skip
    marks = list(_marks(conn, iri))
    read = [mark.text for mark in marks if mark.is_public and mark.text]
    text = "\n".join((document.words, *read))[:MAX_TEXT_BYTES]
    conn.execute(
        f"INSERT OR REPLACE INTO {prefix}specimen_facet ({', '.join(values)}) VALUES ({', '.join('?' * len(values))})",
        tuple(values.values()),
    )
    if not prefix:
        note_changes(conn, n, n)
    _write_text(conn, n, text, prefix, is_new=old is None)
    _write_marks(conn, n, marks, prefix, is_new=old is None)
    return True


def reindex(conn: sqlite3.Connection) -> int:
    """Rebuilds the search tables in place, in the caller's transaction; returns how many specimens are in them."""
    known = {row[0] for row in conn.execute("SELECT iri FROM specimen_facet")}
    iris = [row[0] for row in conn.execute("SELECT iri FROM record WHERE kind = 'specimen' AND state = 'active'")]
    for table in ("specimen_text", "annotation_mark", "annotation_text"):
        conn.execute(f"DELETE FROM {table}")
    for iri in known - set(iris):
        conn.execute("DELETE FROM specimen_facet WHERE iri = ?", (iri,))
    for iri in iris:
        write(conn, iri)
    note_changes(conn, *EVERYTHING)
    conn.execute("DELETE FROM meta WHERE key = 'search_stale'")
    return len(iris)


def refill(conn: sqlite3.Connection, limit: int) -> int | None:
    """Fills tables that a migration left empty, some specimens in each transaction of the caller.

    How far it came is kept in the same transaction, so whoever comes next goes on there.

    Returns:
        Specimens that were indexed; None when the tables are whole.
    """
    stale = conn.execute("SELECT value FROM meta WHERE key = 'search_stale'").fetchone()
    if stale is None:
        return None
    after = str(stale[0]).removeprefix(_FILLED) if str(stale[0]).startswith(_FILLED) else None
    if after is None:
        for table in TABLES:
            conn.execute(f"DELETE FROM {table}")
        note_changes(conn, *EVERYTHING)
    rows = conn.execute(
        "SELECT iri FROM record WHERE iri > ? AND kind = 'specimen' AND state = 'active' ORDER BY iri LIMIT ?",
        (after or "", limit),
    ).fetchall()
    for row in rows:
        write(conn, row["iri"])
    if len(rows) < limit:
        conn.execute("DELETE FROM meta WHERE key = 'search_stale'")
    else:
        conn.execute("UPDATE meta SET value = ? WHERE key = 'search_stale'", (_FILLED + rows[-1]["iri"],))
    return len(rows)


# ---------------------------------------------------------------------- writing
def _number(conn: sqlite3.Connection, iri: str, prefix: str, *, is_private: bool) -> int:
    table = f"{prefix}specimen_facet"
    if prefix:
        kept = conn.execute("SELECT n FROM specimen_facet WHERE iri = ?", (iri,)).fetchone()
        if (
            kept is not None
            and (kept[0] < 0) == is_private
            and not conn.execute(f"SELECT 1 FROM {table} WHERE n = ?", (kept[0],)).fetchone()
        ):
            return int(kept[0])
    names = ("specimen_facet", table) if prefix else (table,)
    ends = [
        conn.execute(f"SELECT coalesce({'min' if is_private else 'max'}(n), 0) FROM {name}").fetchone()[0]
        for name in names
    ]
    return int(min(0, *ends)) - 1 if is_private else int(max(0, *ends)) + 1


def _remove(conn: sqlite3.Connection, n: int, prefix: str) -> None:
    conn.execute(f"DELETE FROM {prefix}specimen_facet WHERE n = ?", (n,))
    conn.execute(f"DELETE FROM {prefix}specimen_text WHERE rowid = ?", (n,))
    if not prefix:
        note_changes(conn, n, n)
    _write_marks(conn, n, [], prefix, is_new=False)


def _write_text(conn: sqlite3.Connection, n: int, text: str, prefix: str, *, is_new: bool) -> None:
    if not is_new:
        known = conn.execute(f"SELECT body FROM {prefix}specimen_text WHERE rowid = ?", (n,)).fetchone()
        if known is not None and known[0] == text:
            return
        conn.execute(f"DELETE FROM {prefix}specimen_text WHERE rowid = ?", (n,))
    conn.execute(f"INSERT INTO {prefix}specimen_text (rowid, body) VALUES (?, ?)", (n, text))


def _write_marks(conn: sqlite3.Connection, n: int, marks: list[Mark], prefix: str, *, is_new: bool) -> None:
    if not is_new:
        ids = [row[0] for row in conn.execute(f"SELECT id FROM {prefix}annotation_mark WHERE n = ?", (n,))]
        for number in ids:
            conn.execute(f"DELETE FROM {prefix}annotation_text WHERE rowid = ?", (number,))
        conn.execute(f"DELETE FROM {prefix}annotation_mark WHERE n = ?", (n,))
    for mark in marks:
        number = conn.execute(
            f"INSERT INTO {prefix}annotation_mark (n, annotation, class, score, pipeline, pipeline_name, is_public) "
            "VALUES (?, ?, ?, ?, ?, ?, ?)",
            (n, mark.annotation, mark.kind, mark.score, mark.pipeline, mark.pipeline_name, int(mark.is_public)),
        ).lastrowid
        if mark.text:
            conn.execute(
                f"INSERT INTO {prefix}annotation_text (rowid, body) VALUES (?, ?)",
                (number, mark.text),
            )


def _media_columns(conn: sqlite3.Connection, iri: str, *, is_private: bool) -> dict[str, Any]:
    """Of media that whoever sees the specimen may know of."""
    row = conn.execute(
        f"""SELECT count(*) AS media, coalesce(max({HAS_IMAGE}), 0) AS has_image
            FROM medium_specimen s JOIN medium m ON m.iri = s.medium
            WHERE s.specimen = ? AND m.state = 'active' AND (m.access < ? OR ?)""",
        (iri, int(AccessClass.PRIVATE), is_private),
    ).fetchone()
    return {"media_type": "StillImage" if row["media"] else None, "has_image": row["has_image"]}


def _marks(conn: sqlite3.Connection, specimen: str) -> Iterator[Mark]:
    rows = conn.execute(
        f"""SELECT a.iri, r.body, (r.access = 0 AND r.sensitive = 0) AS is_public FROM annotation a
           JOIN record r ON r.iri = a.iri JOIN medium_specimen s ON s.medium = a.medium
           WHERE s.specimen = ? AND r.state = 'active' AND (a.state = 'current' OR (a.state = 'evidence replaced'
             AND a.iri = (SELECT b.iri FROM annotation b JOIN record q ON q.iri = b.iri AND q.state = 'active'
                          WHERE b.medium = a.medium AND {claim("b")} = {claim("a")} AND b.state <> 'superseded'
                          ORDER BY b.state = 'current' DESC, b.created DESC, b.iri LIMIT 1)))
           ORDER BY a.iri""",
        (specimen,),
    ).fetchall()
    left = MAX_MARKS
    for row in rows:
        body = json.loads(row["body"])
        creator = body.get("dcterms:creator")
        name = str(creator.get("schema:name", "")) if isinstance(creator, dict) else ""
        contract = str(body.get("vasculum:outputContract", "")).partition("/")[0] or "annotation"
        pipeline = str(body.get("vasculum:pipeline", ""))
        regions = body.get("vasculum:hasRegion") or _values(body)
        for region in (regions or [{}])[:left]:
            left -= 1
            yield Mark(
                row["iri"], str(region.get("vasculum:class") or contract),
                unicodedata.normalize("NFC", str(region.get("vasculum:text", "")))[:MAX_TEXT_BYTES],
                decimal_of(region.get("vasculum:score")), pipeline, name, bool(row["is_public"]),
            )  # fmt: skip


def _values(body: dict[str, Any]) -> list[dict[str, Any]]:
    """Annotations that hold texts but no regions."""
    found = body.get("oa:hasBody")
    value = found.get("oa:value") if isinstance(found, dict) else None
    texts = value if isinstance(value, list) else [value]
    return [{"vasculum:text": text} for text in texts if isinstance(text, str)]
