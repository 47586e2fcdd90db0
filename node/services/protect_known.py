"""A list of sensitive taxa that became longer or stricter reaches what was published, without waiting for an archive.

An ingest applies the list too, but an ingest can be held by its brake, or be due next week. Here every row as it was
received is asked whether it is sensitive now, and those that are get their generalised version.

Invariants:
- Nothing is made less strict here: that waits for the next ingest.
- Rows stay as they were received, and so does the digest that decides whether they have changed.
- Once done for a list, it costs one look at the database; killed anywhere, it begins again.
"""

import importlib.metadata
import json
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime
from typing import Final

from linkeddata.canon import digest_text
from linkeddata.checks import Checker
from linkeddata.sensitive_taxa import SensitiveTaxa
from linkeddata.source import SourceRow, row_of
from node.config import Settings, SourceSettings
from node.services.prepare_row import RowRules
from node.services.publish_medium import RowContext
from node.services.publish_row import publish_row
from node.storage.db import Database

PROTECTED: Final = "protected_by"
"""In ``meta``: the digest of the list that every published row was asked about."""
BATCH_ROWS: Final = 200
"""Rows that share one transaction."""


class KnownRows:
    """The rows of a source as they were last received, in the place of an archive."""

    def __init__(self, conn: sqlite3.Connection, source: str) -> None:
        self.source = source
        self._conn = conn

    def row(self, key: str) -> SourceRow | None:
        """The row with this key; None when it is not there any more."""
        found = self._conn.execute(
            "SELECT body FROM source_row WHERE source = ? AND key = ? AND state = 'present'", (self.source, key)
        ).fetchone()
        return None if found is None else row_of(found["body"])

    def specimens_of(self, media_key: str) -> list[str]:
        """Keys of the rows that name a medium."""
        rows = self._conn.execute(
            """SELECT s.key FROM (SELECT iri FROM medium WHERE source = ?1 AND key = ?2
                 UNION SELECT medium FROM medium_variant WHERE source = ?1 AND key = ?2) m
               JOIN medium_specimen l ON l.medium = m.iri JOIN source_row s ON s.iri = l.specimen
               WHERE s.source = ?1 AND s.state = 'present' ORDER BY s.key""",
            (self.source, media_key),
        )
        return [row["key"] for row in rows]


def is_protected(settings: Settings, database: Database) -> bool:
    """Whether the list of the settings was already applied to everything that is known."""
    with database.reader() as conn:
        row = conn.execute("SELECT value FROM meta WHERE key = ?", (PROTECTED,)).fetchone()
    return row is not None and row["value"] == _digest(settings)


def protect_known(settings: Settings, database: Database, *, clock: Callable[[], datetime]) -> int:
    """Applies the list of the settings to every row that is known; returns how many records changed."""
    if is_protected(settings, database):
        return 0
    taxa, checker, changed = SensitiveTaxa.of(settings.sensitive_rules), Checker(), 0
    for source, keys in _sensitive_now(database, taxa):
        with database.transaction() as conn:
            changed += sum(_republish(conn, source, key, settings, taxa, checker, clock()) for key in keys)
    with database.transaction() as conn:
        conn.execute("INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)", (PROTECTED, _digest(settings)))
    return changed


def _digest(settings: Settings) -> str:
    version = importlib.metadata.version("vasculum")  # a newer program may find names that an older one did not
    return digest_text([version, *(repr(rule) for rule in settings.sensitive_rules)])


def _sensitive_now(database: Database, taxa: SensitiveTaxa) -> Iterator[tuple[str, list[str]]]:
    """Rows that fall under the list, in batches of one source."""
    if not taxa.rules:
        return
    with database.reader(limit_s=None) as conn:
        sources = [row["source"] for row in conn.execute("SELECT DISTINCT source FROM source_row ORDER BY source")]
    for source in sources:
        after = ""
        while True:
            with database.reader(limit_s=None) as conn:
                rows = conn.execute(
                    """SELECT key, body FROM source_row WHERE source = ? AND state = 'present' AND key > ?
                       ORDER BY key LIMIT ?""",
                    (source, after, BATCH_ROWS),
                ).fetchall()
            if not rows:
                break
            after = rows[-1]["key"]
            found = [row["key"] for row in rows if taxa.find(json.loads(row["body"])["fields"]) is not None]
            if found:
                yield source, found


def _republish(
    conn: sqlite3.Connection,
    source: str,
    key: str,
    settings: Settings,
    taxa: SensitiveTaxa,
    checker: Checker,
    now: datetime,
) -> bool:
    known = KnownRows(conn, source)
    row = known.row(key)
    if row is None:
        return False
    media = tuple(item for item in row.media if known.specimens_of(item.key))  # not those that were withdrawn
    stored = conn.execute("SELECT * FROM source_row WHERE source = ? AND key = ?", (source, key)).fetchone()
    context = RowContext(
        settings=settings, rules=RowRules.of(settings, settings.sources.get(source, SourceSettings()), taxa),
        intake=known, checker=checker, media={}, rekeyed={}, run=stored["run"] or 0, now=now,
    )  # fmt: skip
    outcome = publish_row(conn, replace(row, media=media, known_bytes=None), context)
    conn.execute(
        "UPDATE source_row SET digest = ?, body = ?, last_seen = ? WHERE source = ? AND key = ?",
        (stored["digest"], stored["body"], stored["last_seen"], source, key),
    )
    return outcome.outcome != "unchanged"
