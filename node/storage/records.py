"""Records and the publication log: what the node says, in which version, and in which order it said it.

Owns the tables record, record_version, record_alias, medium_specimen's readers and change.

Invariants:
- A record's body is the canonical bytes of its public projection; a new version exists only when they differ.
- The log is append-only and dense: a sequence number is assigned in the transaction that publishes, never before.
- A private record has no entry in the log; a record that becomes private is deleted outside and purged inside
  (its older bodies go too). Every entry's digest is salted, so that a tombstone proves nothing about lost content.
- Of a sensitive record only the newest version is kept: an older one may tell more. Where one was removed, a mark says
  that the files of the database may still remember it (``TO_PURGE``).
- The body of the newest version stands in ``record`` alone; ``record_version`` gets it when a newer one comes.
- IRIs are minted once per source key by a keyed hash, so that a re-ingest after a restore gives the same ones.

It leaves out: building documents (``linkeddata.records``), many new records at once
(``node.storage.new_records``), search (``node.storage.search``), who may see what.
"""

import hashlib
import hmac
import secrets
import sqlite3
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from linkeddata.access import AccessClass
from linkeddata.context import canonical_in_context
from linkeddata.json_strict import Json
from linkeddata.publication import Change
from linkeddata.times import format_time, parse_time

Kind = Literal["specimen", "medium", "annotation"]
_LETTERS: Final = "abcdefghijklmnopqrstuvwxyz234567"
PATHS: Final[dict[Kind, str]] = {"specimen": "specimen", "medium": "media", "annotation": "annotation"}
"""The first path segment of the IRI of each kind."""
_PAIRS: Final = [first + second for first in _LETTERS for second in _LETTERS]
VOLATILE: Final = ("ods:version", "dcterms:modified", "dcterms:created")
"""Members that the store itself sets; they decide nothing about whether a record has changed."""

TO_PURGE: Final = "to_purge"
"""In ``meta``: since when the files of the database may hold versions that were purged because they told a place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRecord:
    """What is to be said about ``iri``; version and times are set here."""

    kind: Kind
    iri: str
    body: dict[str, Json]
    access: AccessClass
    sensitive: bool = False
    source: str | None = None
    aliases: tuple[str, ...] = ()
    """Identifiers under which the record can also be found (occurrenceID, catalogue number, URI)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """What became of it."""

    iri: str
    version: int
    seq: int | None
    outcome: Literal["new", "changed", "unchanged"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRecord:
    """A record as it stands, or an older version of it."""

    iri: str
    id: str
    kind: Kind
    version: int
    state: Literal["active", "tombstone"]
    body: bytes
    digest: str
    access: AccessClass
    sensitive: bool
    created: datetime
    modified: datetime


def ensure_salts(conn: sqlite3.Connection) -> None:
    """Creates the node's secret salt for minting ids, once."""
    conn.execute("INSERT OR IGNORE INTO meta VALUES ('id_salt', ?)", (secrets.token_hex(32),))


def id_salt(conn: sqlite3.Connection) -> bytes:
    """The node's secret salt for minting ids.

    Raises:
        LookupError: there is none.
    """
    row = conn.execute("SELECT value FROM meta WHERE key = 'id_salt'").fetchone()
    if row is None:
        raise LookupError("the node's id salt is missing: run `vasculum init` or restore a backup")
    return bytes.fromhex(row[0])


def mint(salt: bytes, source: str, kind: Kind, key: str) -> str:
    """The id of the record for this source key: 16 letters, stable, and saying nothing about the key."""
    number = int.from_bytes(hmac.digest(salt, f"{kind}\0{source}\0{key}".encode(), "sha256")[:10], "big")
    return "".join([_PAIRS[number >> shift & 1023] for shift in range(70, -1, -10)])  # base32, in lower case


def mint_id(conn: sqlite3.Connection, source: str, kind: Kind, key: str) -> str:
    """``mint`` with the salt of this node."""
    return mint(id_salt(conn), source, kind, key)


def iri_of(origin: str, kind: Kind, record_id: str) -> str:
    """The IRI of a record of this node."""
    return f"{origin}/{PATHS[kind]}/{record_id}"


def publish(conn: sqlite3.Connection, record: NewRecord, *, now: datetime, tells_less: bool = True) -> Published:
    """Says ``record``: a new record, a new version, or nothing when nothing changed.

    Args:
        conn: in a write transaction.
        record: what to say.
        now: when.
        tells_less: an older version may have told what the new one does not; False where only bytes have other names.
    """
    stamp = format_time(now)
    old = conn.execute("SELECT * FROM record WHERE iri = ?", (record.iri,)).fetchone()
    _set_aliases(conn, record)
    if old is not None and old["state"] == "active" and _same(old, record):
        return Published(iri=record.iri, version=old["version"], seq=None, outcome="unchanged")
    version = 1 if old is None else old["version"] + 1
    body = dict(record.body)
    body["ods:version"] = version
    body["dcterms:created"] = stamp if old is None else old["created"]
    body["dcterms:modified"] = stamp
    data = canonical_in_context(body)
    digest = hashlib.sha256(data).hexdigest()
    is_public = record.access is not AccessClass.PRIVATE
    conn.execute(
        """INSERT INTO record
             (iri, id, kind, version, state, body, digest, access, sensitive, source, created, modified, published)
           VALUES (:iri, :id, :kind, :version, 'active', :body, :digest, :access, :sensitive, :source, :stamp, :stamp,
             :published)
           ON CONFLICT (iri) DO UPDATE SET version = :version, state = 'active', body = :body, digest = :digest,
             access = :access, sensitive = :sensitive, source = :source, modified = :stamp, published = :published""",
        {
            "iri": record.iri, "id": record.iri.rsplit("/", 1)[1], "kind": record.kind, "version": version,
            "body": data, "digest": digest, "access": int(record.access), "sensitive": int(record.sensitive),
            "source": record.source, "stamp": stamp, "published": int(is_public),
        },
    )  # fmt: skip
    salt = secrets.token_hex(16)
    stricter = old is not None and (int(record.access) > old["access"] or int(record.sensitive) > old["sensitive"])
    is_purged = stricter or record.sensitive
    if old is not None and not is_purged:
        _keep_body(conn, old)
    conn.execute(
        "INSERT INTO record_version VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (record.iri, version, b"", digest, salt, stamp, int(record.access), int(record.sensitive)),
    )
    was_public = old is not None and bool(old["published"])
    if is_purged:
        conn.execute("PRAGMA secure_delete=ON")
        purged = _purge_versions(conn, record.iri, keep=version)
        if purged and record.sensitive and tells_less:
            conn.execute("INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)", (TO_PURGE, stamp))
    seq: int | None = None
    if is_public:
        seq = _append(conn, record.iri, record.kind, version, "Update" if was_public else "Create", stamp, salt, data)
    elif was_public:
        seq = _append(conn, record.iri, record.kind, version, "Delete", stamp, salt, b"")
    return Published(iri=record.iri, version=version, seq=seq, outcome="new" if old is None else "changed")


def tombstone(conn: sqlite3.Connection, iri: str, body: dict[str, Json], *, now: datetime) -> Published | None:
    """Replaces an active record by a tombstone document; older bodies are purged. None when there is nothing to do."""
    old = conn.execute("SELECT * FROM record WHERE iri = ?", (iri,)).fetchone()
    if old is None or old["state"] == "tombstone":
        return None
    stamp, version = format_time(now), old["version"] + 1
    document = {**body, "ods:version": version, "dcterms:modified": stamp, "dcterms:created": old["created"]}
    data = canonical_in_context(document)
    digest, salt = hashlib.sha256(data).hexdigest(), secrets.token_hex(16)
    conn.execute(
        "UPDATE record SET version = ?, state = 'tombstone', body = ?, digest = ?, modified = ? WHERE iri = ?",
        (version, data, digest, stamp, iri),
    )
    conn.execute(
        "INSERT INTO record_version VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (iri, version, b"", digest, salt, stamp, old["access"], old["sensitive"]),
    )
    _purge_versions(conn, iri, keep=version)
    seq = _append(conn, iri, old["kind"], version, "Delete", stamp, salt, data) if old["published"] else None
    conn.execute("UPDATE record SET published = 0 WHERE iri = ?", (iri,))
    return Published(iri=iri, version=version, seq=seq, outcome="changed")


def get(conn: sqlite3.Connection, kind: Kind, record_id: str, *, version: int | None = None) -> StoredRecord | None:
    """The record of this kind and id as it stands, or one of its versions."""
    row = conn.execute("SELECT * FROM record WHERE kind = ? AND id = ?", (kind, record_id)).fetchone()
    return None if row is None else _stored(conn, row, version)


def get_by_iri(conn: sqlite3.Connection, iri: str, *, version: int | None = None) -> StoredRecord | None:
    """The record with this IRI as it stands, or one of its versions."""
    row = conn.execute("SELECT * FROM record WHERE iri = ?", (iri,)).fetchone()
    return None if row is None else _stored(conn, row, version)


def resolve(conn: sqlite3.Connection, identifier: str, *, limit: int = 20) -> list[str]:
    """IRIs of the active records known under an identifier of any kind (visibility is the caller's to ask).

    The address of a sensitive picture finds nothing: people name files after places.
    """
    rows = conn.execute(
        """SELECT iri FROM record WHERE iri = :any AND state = 'active'
           UNION SELECT a.iri FROM record_alias a JOIN record r ON r.iri = a.iri
                 WHERE a.alias = :any AND r.state = 'active' AND NOT (r.kind = 'medium' AND r.sensitive)
           LIMIT :limit""",
        {"any": identifier, "limit": limit},
    ).fetchall()
    return [row["iri"] for row in rows]


def changes_since(conn: sqlite3.Connection, seq: int, *, limit: int) -> list[Change]:
    """Entries of the publication log after ``seq``, oldest first."""
    rows = conn.execute("SELECT * FROM change WHERE seq > ? ORDER BY seq LIMIT ?", (seq, limit)).fetchall()
    return [
        Change(
            seq=row["seq"], iri=row["iri"], record_type=row["record_type"], version=row["version"], op=row["op"],
            at=parse_time(row["at"]), digest=row["digest"],
        )
        for row in rows
    ]  # fmt: skip


def last_seq(conn: sqlite3.Connection) -> int:
    """The newest sequence number; 0 when nothing was published yet."""
    return int(conn.execute("SELECT coalesce(max(seq), 0) FROM change").fetchone()[0])


def _same(old: sqlite3.Row, record: NewRecord) -> bool:
    if int(record.access) != old["access"] or int(record.sensitive) != old["sensitive"]:
        return False
    body = dict(record.body)
    body["ods:version"] = old["version"]
    body["dcterms:created"] = old["created"]
    body["dcterms:modified"] = old["modified"]
    return canonical_in_context(body) == bytes(old["body"])


def _set_aliases(conn: sqlite3.Connection, record: NewRecord) -> None:
    conn.executemany(
        "INSERT OR IGNORE INTO record_alias VALUES (?, ?)", [(alias, record.iri) for alias in record.aliases if alias]
    )


def _append(
    conn: sqlite3.Connection, iri: str, kind: str, version: int, op: str, stamp: str, salt: str, data: bytes
) -> int:
    digest = "sha256:" + hashlib.sha256(bytes.fromhex(salt) + data).hexdigest()
    seq = last_seq(conn) + 1  # nobody else writes in this transaction
    conn.execute("INSERT INTO change VALUES (?, ?, ?, ?, ?, ?, ?)", (seq, iri, kind, version, op, stamp, digest))
    return seq


def _keep_body(conn: sqlite3.Connection, old: sqlite3.Row) -> None:
    """What was the newest version becomes an older one."""
    conn.execute(
        "UPDATE record_version SET body = ? WHERE iri = ? AND version = ?", (old["body"], old["iri"], old["version"])
    )


def _purge_versions(conn: sqlite3.Connection, iri: str, *, keep: int) -> int:
    return conn.execute("DELETE FROM record_version WHERE iri = ? AND version <> ?", (iri, keep)).rowcount


def _stored(conn: sqlite3.Connection, row: sqlite3.Row, version: int | None) -> StoredRecord | None:
    body, digest, number, modified = row["body"], row["digest"], row["version"], row["modified"]
    if version is not None and version != row["version"]:
        old = conn.execute(
            "SELECT body, digest, created FROM record_version WHERE iri = ? AND version = ?", (row["iri"], version)
        ).fetchone()
        if old is None:
            return None
        body, digest, number, modified = old["body"], old["digest"], version, old["created"]
    return StoredRecord(
        iri=row["iri"], id=row["id"], kind=row["kind"], version=number, state=row["state"], body=bytes(body),
        digest=digest, access=AccessClass(row["access"]), sensitive=bool(row["sensitive"]),
        created=parse_time(row["created"]), modified=parse_time(modified),
    )  # fmt: skip
