"""Which bytes are named by anything this node keeps: every SHA-256 in hex in any row of its database.

Deliberately generous: records in all versions, media, variants, annotations, work results, journals and jobs all name
bytes by 64 hex digits, alone or inside a document, and so will tables that are not invented yet.
A digest of something else keeps nothing alive that was not here anyway.

It leaves out: tables that only talk about bytes (``TALK``), and pins (they are in the index of the store).
"""

import re
from collections.abc import Callable, Iterator
from typing import Final

from node.storage.db import Database

TALK: Final = frozenset(
    {"finding", "record_issue", "ingest_plan", "nonce", "staff_token", "staff_session", "luggage", "public_original"}
)
"""Tables that mention bytes without a claim on them (public originals are named by records), or secrets' digests."""
_HEX = re.compile(rb"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")


def named_digests(
    database: Database, *, progress: Callable[[str, int], None] = lambda _table, _rows: None
) -> Iterator[bytes]:
    """The 32 bytes of everything that is named, with repetitions, table by table."""
    for table in _tables(database):
        with database.reader(limit_s=None) as conn:
            rows = conn.execute(f'SELECT * FROM "{table}"')  # noqa: S608 - names come from the schema
            for number, row in enumerate(rows, start=1):
                for value in row:
                    yield from _in_value(value)
                if number % 10_000 == 0:
                    progress(table, number)


def _tables(database: Database) -> list[str]:
    with database.reader(limit_s=None) as conn:
        rows = conn.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'table' ORDER BY name").fetchall()
    virtual = [row["name"] for row in rows if (row["sql"] or "").upper().startswith("CREATE VIRTUAL")]
    return [
        row["name"]
        for row in rows
        if row["name"] not in TALK
        and not row["name"].startswith("sqlite_")
        and not any(row["name"] == name or row["name"].startswith(f"{name}_") for name in virtual)
    ]


def _in_value(value: object) -> Iterator[bytes]:
    if isinstance(value, str):
        value = value.encode("utf-8", "replace")
    if isinstance(value, bytes) and len(value) >= 64:
        for found in _HEX.findall(value):
            yield bytes.fromhex(found.decode())
