"""Checking what the node says against the bytes it has: records without an image, previews of images that are gone."""

import sqlite3
from collections.abc import Iterator

from cas.check import Finding
from cas.errors import ContentIdError
from cas.ids import ContentId
from cas.remote import RemoteBytes
from cas.store import BlobStore
from node.config import Settings
from node.storage import redactions
from node.storage.db import Database

PAGE = 1_000


def check_records(database: Database, blobs: BlobStore) -> Iterator[Finding]:
    """Media whose newest bytes are in no place of the store, nor at an address from which they can be fetched again."""
    remote = RemoteBytes(blobs)
    last = ""
    while True:
        with database.reader(limit_s=None) as conn:
            rows = conn.execute(
                """SELECT iri, image FROM medium WHERE image IS NOT NULL AND state = 'active' AND iri > ?
                   ORDER BY iri LIMIT ?""",
                (last, PAGE),
            ).fetchall()
            end = rows[-1]["iri"] if len(rows) == PAGE else "\U0010ffff"
            others = conn.execute(
                """SELECT m.iri, v.image FROM medium_variant v JOIN medium m ON m.iri = v.medium
                   WHERE v.image IS NOT NULL AND m.state = 'active' AND m.iri > ? AND m.iri <= ? ORDER BY m.iri""",
                (last, end),
            ).fetchall()
        if not rows:
            return
        for row in (*rows, *others):
            cid = ContentId.from_hex(row["image"])
            if blobs.index.size_of(cid) is None and not remote.sources_of(cid):
                yield Finding(
                    code="image-missing", place=row["iri"],
                    text=f"its image {row['image']} is not in the store: ingest again, or vasculum repair",
                )  # fmt: skip
        last = rows[-1]["iri"]


def check_public_originals(database: Database, blobs: BlobStore) -> Iterator[Finding]:
    """Public originals whose bytes are in no place of the store."""
    with database.reader(limit_s=None) as conn:
        rows = conn.execute("SELECT image, public FROM luggage WHERE public IS NOT NULL ORDER BY image").fetchall()
    for row in rows:
        if blobs.index.size_of(ContentId.from_hex(row["public"])) is None:
            yield Finding(
                code="public-original-missing", place=row["image"],
                text=f"its public original {row['public']} is not in the store: vasculum images public-original",
            )  # fmt: skip


def check_redacted(database: Database, blobs: BlobStore) -> Iterator[Finding]:
    """Pictures with blacked out labels whose bytes are in no place of the store."""
    with database.reader(limit_s=None) as conn:
        rows = redactions.every(conn)
    for row in rows:
        if row.derivative is not None and blobs.index.size_of(ContentId.from_hex(row.derivative)) is None:
            yield Finding(
                code="redacted-missing", place=row.image,
                text=f"its picture with blacked out labels, {row.derivative}, is not in the store: run images redact",
            )  # fmt: skip


def check_remote(database: Database, blobs: BlobStore, *, fix: bool) -> Iterator[Finding]:
    """Addresses that no record names any more: nothing would be fetched from there again."""
    remote = RemoteBytes(blobs)
    last = ""
    while page := remote.every(last, PAGE):
        with database.reader(limit_s=None) as conn:
            orphans = [row.url for row in page if not _is_named(conn, row.url)]
        if fix:
            remote.forget(orphans)
        for url in orphans:
            yield Finding(
                code="address-left", place=url, is_fixed=fix,
                text="an address that no record names any more: --fix forgets it (its image, if here, is then for gc)",
            )  # fmt: skip
        last = page[-1].url


def _is_named(conn: sqlite3.Connection, url: str) -> bool:
    return (
        conn.execute(
            """SELECT 1 FROM record_alias a JOIN medium m ON m.iri = a.iri
               WHERE a.alias = ?1 AND m.locator = ?1 AND m.state = 'active'""",
            (url,),
        ).fetchone()
        is not None
    )


def check_previews(settings: Settings, blobs: BlobStore, *, fix: bool) -> Iterator[Finding]:
    """Previews, pyramids and thumbnails of images that are gone; they can always be made again. Those of remote images
    stay.
    """
    remote = RemoteBytes(blobs)
    kinds = ("preview-*", "pyramids", "thumbnails")
    for path in sorted(item for kind in kinds for item in settings.derived_path.glob(f"{kind}/*/*")):
        try:
            cid = ContentId.from_hex(path.name.partition(".")[0])
            is_known = blobs.index.size_of(cid) is not None or bool(remote.sources_of(cid))
        except ContentIdError:
            continue
        if not is_known:
            if fix:
                path.unlink(missing_ok=True)
            yield Finding(
                code="preview-left", place=str(path), is_fixed=fix,
                text="a picture made of an image that is gone: --fix removes it",
            )  # fmt: skip
