"""Many records at once that were never said before: ``node.storage.records.publish`` for a thousand, in few statements.

Invariants:
- The rows are those that ``publish`` would have written, one after the other, in the same transaction.
- A draft is canonical but for its two times, which are set when it is published: whoever makes drafts ahead of the
  writer (another process) says nothing about when.

It leaves out: whether a record is new (the caller asks ``known_iris``), everything that only older versions need.
"""

import hashlib
import secrets
import sqlite3
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from linkeddata.access import AccessClass
from linkeddata.context import canonical_in_context
from linkeddata.times import format_time
from node.storage.records import Kind, NewRecord, last_seq

_NO_TIME: Final = "0000-00-00T00:00:00Z"
"""As long as every time that is written down."""
_CREATED: Final = b'"dcterms:created":"'
_MODIFIED: Final = b'"dcterms:modified":"'
_KEYS_AT_ONCE: Final = 500


@dataclass(frozen=True, slots=True)
class Draft:
    """The first version of a record, but for its times."""

    kind: Kind
    iri: str
    body: bytes
    access: AccessClass
    sensitive: bool
    source: str
    aliases: tuple[str, ...]


def draft(record: NewRecord) -> Draft:
    """Writes the first version of a record of a source. Pure."""
    body = canonical_in_context(
        {**record.body, "ods:version": 1, "dcterms:created": _NO_TIME, "dcterms:modified": _NO_TIME}
    )
    return Draft(
        record.kind, record.iri, body, record.access, record.sensitive, record.source or "",
        tuple(alias for alias in record.aliases if alias),
    )  # fmt: skip


def stamped(body: bytes, stamp: str) -> bytes:
    """A draft's body with its times. Quotes inside texts are escaped, so the two keys are found where they stand."""
    time = stamp.encode()
    created = body.index(_CREATED) + len(_CREATED)
    modified = body.index(_MODIFIED, created) + len(_MODIFIED)
    size = len(_NO_TIME)
    return body[:created] + time + body[created + size : modified] + time + body[modified + size :]


def known_iris(conn: sqlite3.Connection, iris: Sequence[str]) -> set[str]:
    """Those under which something is, or was, said."""
    found: set[str] = set()
    for start in range(0, len(iris), _KEYS_AT_ONCE):
        some = iris[start : start + _KEYS_AT_ONCE]
        rows = conn.execute(f"SELECT iri FROM record WHERE iri IN ({', '.join('?' * len(some))})", some)  # noqa: S608
        found.update(row[0] for row in rows)
    return found


def publish_new(conn: sqlite3.Connection, drafts: Collection[Draft], *, now: datetime) -> None:
    """Says them, in this order. None may have been said before (``known_iris``)."""
    stamp, seq = format_time(now), last_seq(conn)  # nobody else writes in this transaction
    records, versions, changes = [], [], []
    for item in drafts:
        data = stamped(item.body, stamp)
        digest, salt = hashlib.sha256(data).hexdigest(), secrets.token_bytes(16)
        is_public = item.access is not AccessClass.PRIVATE
        access, sensitive = int(item.access), int(item.sensitive)
        records.append(
            (
                item.iri, item.iri.rsplit("/", 1)[1], item.kind, data, digest, access, sensitive, item.source, stamp,
                stamp, int(is_public),
            )
        )  # fmt: skip
        versions.append((item.iri, digest, salt.hex(), stamp, access, sensitive))
        if is_public:
            seq += 1
            said = "sha256:" + hashlib.sha256(salt + data).hexdigest()
            changes.append((seq, item.iri, item.kind, stamp, said))
    conn.executemany(
        """INSERT INTO record
             (iri, id, kind, version, state, body, digest, access, sensitive, source, created, modified, published)
           VALUES (?, ?, ?, 1, 'active', ?, ?, ?, ?, ?, ?, ?, ?)""",
        records,
    )
    conn.executemany("INSERT INTO record_version VALUES (?, 1, x'', ?, ?, ?, ?, ?)", versions)
    conn.executemany("INSERT INTO change VALUES (?, ?, ?, 1, 'Create', ?, ?)", changes)
    conn.executemany(
        "INSERT OR IGNORE INTO record_alias VALUES (?, ?)",
        [(alias, item.iri) for item in drafts for alias in item.aliases],
    )
