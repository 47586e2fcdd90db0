"""The file for the collection system: accepted values, keyed by the institution's own ids.

Columns are those of ``[[corrections.columns]]`` in node.toml, or all of them. The file is for the institution: it says
what its own rows say, also of specimens that are not public, and who decided.

It leaves out: which values there are and what becomes of them (``node.storage.corrections``), cells that spreadsheets
would carry out (``node.sheet_files``).
"""

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass

from node.config import CORRECTION_FIELDS, Settings
from node.storage import corrections


@dataclass(frozen=True, slots=True, kw_only=True)
class CorrectionTable:
    """What goes into the file."""

    heading: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    documents: tuple[dict[str, str], ...]
    """The same by field name, for ``--json``."""
    following: int
    """What to ask with ``--since`` next time."""


def export_table(conn: sqlite3.Connection, settings: Settings, *, since: int) -> CorrectionTable:
    """Values with a number after ``since``; in a write transaction, because the last number is remembered."""
    found, following = corrections.hand_out(conn, since)
    columns = [(column.field, column.name or column.field) for column in settings.corrections.columns]
    columns = columns or [(name, name) for name in CORRECTION_FIELDS]
    documents = []
    rows = []
    for row in found:
        own = corrections.fields_of(conn, row["specimen"]) or {}
        said = _said(conn, row, own, settings.origin)
        documents.append(said)
        rows.append(tuple(said[field] if field in said else own.get(field, "") for field, _ in columns))
    return CorrectionTable(
        heading=tuple(name for _, name in columns), rows=tuple(rows), documents=tuple(documents), following=following
    )


def _said(conn: sqlite3.Connection, row: sqlite3.Row, own: Mapping[str, str], origin: str) -> dict[str, str]:
    source = conn.execute(
        "SELECT source, key FROM source_row WHERE iri = ? ORDER BY source LIMIT 1", (row["specimen"],)
    ).fetchone()
    name = row["iri"].rpartition("/")[2]
    return {
        "occurrenceID": own.get("dwc:occurrenceID", ""), "catalogNumber": own.get("dwc:catalogNumber", ""),
        "institutionCode": own.get("dwc:institutionCode", ""), "collectionCode": own.get("dwc:collectionCode", ""),
        "source": source["source"] if source else "", "key": source["key"] if source else "",
        "field": row["field"].partition(":")[2], "old": row["old"], "new": row["new"],
        "evidence": row["iri"] if row["public"] else f"{origin}/review/{name}",
        "pipeline": row["pipeline"], "score": "" if row["score"] is None else f"{row['score'] / 1000:.3f}",
        "reviewer": row["by"] or "", "date": (row["decided"] or row["at"])[:10],
        "status": "accepted" if row["state"] == "open" else row["state"], "annotation": row["iri"],
        "number": str(row["seq"]),
    }  # fmt: skip
