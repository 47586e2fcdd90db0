"""Flags of specimen records, as the checks found them.

Owns the table record_issue. Public are the flags that stand in the public document; details are for staff.

It leaves out: what flags mean (``linkeddata.issues``), findings about archives and files (table finding).
"""

import sqlite3
from collections.abc import Iterable

from linkeddata.issues import ACROSS_RECORDS, Issue

_DUPLICATE_NUMBERS = """
INSERT OR IGNORE INTO record_issue
SELECT s.iri, 'DUPLICATE_CATALOG_NUMBER', 'catalogNumber ' || d.number, 0
FROM temp.duplicate_number d JOIN source_row s ON s.source = :source AND s.key = d.key AND s.state = 'present'
"""
_SHARED_IMAGES = """
INSERT OR IGNORE INTO record_issue
SELECT l.specimen, 'IMAGE_OF_OTHER_RECORD', 'an image is shown by ' || (
    SELECT count(DISTINCT o.specimen) FROM medium n JOIN medium_specimen o ON o.medium = n.iri
    WHERE n.image = m.image AND n.state = 'active') || ' records', 0
FROM medium m JOIN medium_specimen l ON l.medium = m.iri
WHERE m.source = :source AND m.image IS NOT NULL AND m.state = 'active' AND EXISTS (
    SELECT 1 FROM medium n JOIN medium_specimen o ON o.medium = n.iri
    WHERE n.image = m.image AND n.state = 'active' AND o.specimen <> l.specimen)
"""


def set_issues(
    conn: sqlite3.Connection, iri: str, issues: Iterable[tuple[str, str, bool]], *, is_new: bool = False
) -> None:
    """Replaces what is known of a record by itself; what was found across records stays until the ingest ends.

    Args:
        conn: inside a transaction.
        iri: of the record.
        issues: (flag, detail for staff, whether it stands in the public document).
        is_new: nothing is known of the record.
    """
    if not is_new:
        across = ", ".join(f"'{code}'" for code in sorted(ACROSS_RECORDS))
        conn.execute(f"DELETE FROM record_issue WHERE iri = ? AND code NOT IN ({across})", (iri,))  # noqa: S608
    conn.executemany(
        "INSERT OR REPLACE INTO record_issue VALUES (?, ?, ?, ?)",
        [(iri, code, detail, int(is_public)) for code, detail, is_public in issues],
    )


def drop_issues(conn: sqlite3.Connection, iri: str) -> None:
    """Of a record that is withdrawn."""
    conn.execute("DELETE FROM record_issue WHERE iri = ?", (iri,))


def find_across(conn: sqlite3.Connection, source: str, numbers: Iterable[tuple[str, str]]) -> int:
    """Flags that only a whole source shows; returns how many there are.

    Args:
        conn: inside a transaction.
        source: whose records.
        numbers: (row key, catalogue number) of rows whose institution, collection and number another row has too.
    """
    across = ", ".join(f"'{code}'" for code in sorted(ACROSS_RECORDS))
    conn.execute(
        f"DELETE FROM record_issue WHERE code IN ({across})"  # noqa: S608 - a fixed list
        " AND iri IN (SELECT iri FROM source_row WHERE source = ?)",
        (source,),
    )
    conn.execute("CREATE TEMP TABLE IF NOT EXISTS duplicate_number (key TEXT, number TEXT)")
    conn.execute("DELETE FROM temp.duplicate_number")
    conn.executemany("INSERT INTO temp.duplicate_number VALUES (?, ?)", numbers)
    count = conn.execute(_DUPLICATE_NUMBERS, {"source": source}).rowcount
    count += conn.execute(_SHARED_IMAGES, {"source": source}).rowcount
    conn.execute("DELETE FROM temp.duplicate_number")
    return count


def count_issues(conn: sqlite3.Connection, source: str | None = None) -> list[tuple[str, int]]:
    """(flag, records), the most frequent first."""
    rows = conn.execute(
        """SELECT code, count(*) AS n FROM record_issue
           WHERE :source IS NULL OR iri IN (SELECT iri FROM source_row WHERE source = :source)
           GROUP BY code ORDER BY n DESC, code""",
        {"source": source},
    )
    return [(row["code"], row["n"]) for row in rows]


def count_levels(conn: sqlite3.Connection, source: str | None = None) -> list[tuple[int | None, int]]:
    """(MIDS level, records) of what is present; None: not even MIDS 0."""
    rows = conn.execute(
        """SELECT mids, count(*) AS n FROM source_row
           WHERE state = 'present' AND (:source IS NULL OR source = :source) GROUP BY mids ORDER BY mids""",
        {"source": source},
    )
    return [(row["mids"], row["n"]) for row in rows]


def issues_of(conn: sqlite3.Connection, iri: str) -> list[Issue]:
    """Everything noticed about a record, for staff."""
    rows = conn.execute("SELECT code, detail FROM record_issue WHERE iri = ? ORDER BY code", (iri,))
    return [Issue(row["code"], row["detail"]) for row in rows]
