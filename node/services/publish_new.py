"""Many rows that this node never heard of, published together: what ``publish_row`` does for one, in few statements.

Invariants:
- Only rows go this way whose media are new, without bytes and named by no other row: nothing has to be looked up,
  moved, withdrawn or made stricter for them. Every other row goes through ``publish_row``.
- The tables are the same afterwards as if each had gone through ``publish_row``.

Everything here happens inside the caller's transaction. It leaves out: what rows say (``node.services.prepare_row``).
"""

import sqlite3
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from linkeddata.access import AccessClass
from linkeddata.source import SourceRow
from linkeddata.times import format_time
from node.services.prepare_row import PreparedRow, is_address
from node.storage.new_records import known_iris, publish_new
from node.storage.search_index import NewSpecimen, index_new


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRow:
    """A row with what it says."""

    row: SourceRow
    prepared: PreparedRow
    problems: Sequence[str]
    """What is wrong with each of its media; empty: nothing."""


def with_free_iris(conn: sqlite3.Connection, rows: Collection[PreparedRow]) -> set[str]:
    """Keys of rows whose addresses, and those of their media, were never used. A key that was changed and changed back
    may have left its address to another record.
    """
    iris = {item.specimen.iri: item.key for item in rows}
    iris |= {medium.draft.iri: item.key for item in rows for medium in item.media}
    return {item.key for item in rows} - {iris[iri] for iri in known_iris(conn, list(iris))}


def publish_new_rows(conn: sqlite3.Connection, rows: Sequence[NewRow], *, run: int, now: datetime) -> None:
    """Publishes them, each medium before its specimen, in the order of the rows."""
    if not rows:
        return
    drafts = [draft for item in rows for draft in (*(m.draft for m in item.prepared.media), item.prepared.specimen)]
    publish_new(conn, drafts, now=now)
    stamp = format_time(now)
    conn.executemany(
        """INSERT INTO medium VALUES (?, ?, ?, NULL, '', NULL, NULL, NULL, ?, ?, 1, 'active', ?, ?, ?)""",
        [
            (
                medium.draft.iri, medium.draft.source, medium.key, int(medium.draft.access),
                int(medium.draft.sensitive), medium.locator, problem or None,
                int(medium.otherwise),
            )
            for item in rows for medium, problem in zip(item.prepared.media, item.problems, strict=True)
        ],
    )  # fmt: skip
    conn.executemany(
        "INSERT INTO medium_specimen VALUES (?, ?, ?)",
        [
            (medium.draft.iri, item.prepared.specimen.iri, ordinal)
            for item in rows
            for ordinal, medium in enumerate(item.prepared.media)
        ],
    )
    conn.executemany(
        """INSERT INTO source_row (source, key, digest, body, iri, state, first_seen, last_seen, run, mids)
           VALUES (?, ?, ?, ?, ?, 'present', ?, ?, ?, ?)""",
        [
            (
                item.row.source, item.row.key, item.row.digest, item.row.canonical, item.prepared.specimen.iri, stamp,
                stamp, run, item.prepared.mids,
            )
            for item in rows
        ],
    )  # fmt: skip
    conn.executemany(
        "INSERT OR REPLACE INTO record_issue VALUES (?, ?, ?, ?)",
        [
            (item.prepared.specimen.iri, code, detail, int(is_public))
            for item in rows
            for code, detail, is_public in item.prepared.issues
        ],
    )
    index_new(conn, [_for_search(item) for item in rows])


def _for_search(item: NewRow) -> NewSpecimen:
    specimen = item.prepared.specimen
    is_private = specimen.access is AccessClass.PRIVATE
    shown = [
        is_address(medium.locator) and not problem
        for medium, problem in zip(item.prepared.media, item.problems, strict=True)
        if is_private or medium.draft.access is not AccessClass.PRIVATE
    ]
    return NewSpecimen(
        iri=specimen.iri, access=specimen.access, source=specimen.source, document=item.prepared.search,
        has_media=bool(shown), has_image=any(shown),
    )  # fmt: skip
