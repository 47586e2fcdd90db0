"""A fetched image becomes what its media show: ids, versions, log, search, and marks on what rests on other bytes.

Everything here happens inside the caller's transaction.
"""

import json
import sqlite3
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime

from cas.ids import ContentId
from linkeddata.access import AccessClass
from linkeddata.luggage import WithheldFor
from linkeddata.records import MediumFacts, with_bytes, without_variant
from linkeddata.times import format_time
from node.services.exposures import part_variants
from node.services.intake_bytes import MediumBytes
from node.services.new_bytes import NEW, queue_pipelines, settle_new_bytes
from node.services.public_originals import public_original_of
from node.services.publish_medium import enforce_classes
from node.storage import annotations, records


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchedMedia:
    """What was published."""

    media: tuple[str, ...]
    """IRIs of media that have a new version."""
    replaced: int
    """Of these, media that had bytes of another picture before."""


def media_at(conn: sqlite3.Connection, url: str, sources: Collection[str]) -> list[sqlite3.Row]:
    """Active media of these sources that lie at an address."""
    rows = conn.execute(
        """SELECT DISTINCT m.* FROM record_alias a JOIN medium m ON m.iri = a.iri
           WHERE a.alias = ? AND m.locator = ? AND m.state = 'active' ORDER BY m.iri""",
        (url, url),
    ).fetchall()
    return [row for row in rows if row["source"] in sources]


def publish_fetched(
    conn: sqlite3.Connection,
    url: str,
    found: MediumBytes,
    *,
    origin: str,
    sources: Collection[str],
    has_other_home: Callable[[ContentId], bool],
    withheld_for: WithheldFor,
    queues: bool = False,
    now: datetime,
) -> FetchedMedia:
    """Gives the media at an address the bytes that it holds.

    A medium whose bytes came from elsewhere (a file that was found meanwhile) keeps them: ``has_other_home`` says
    whether an id is here and not because this address held it before. With ``queues`` an image that was never here
    waits for the node's pipelines.
    """
    assert found.content_id is not None
    image = found.content_id.hex
    changed: list[str] = []
    replaced = 0
    for row in media_at(conn, url, sources):
        before = row["image"]
        if before == image and row["problem"] is None:
            continue
        if before is not None and before != image and has_other_home(ContentId.from_hex(before)):
            continue
        parted = part_variants(conn, row["iri"], found.width, found.height)
        version = _publish(conn, row["iri"], found, origin=origin, withheld_for=withheld_for, now=now, without=parted)
        if version is None:
            continue
        conn.execute(
            """UPDATE medium SET image = ?, format = ?, width = ?, height = ?, size_bytes = ?, version = ?,
                 problem = NULL WHERE iri = ?""",
            (image, found.format, found.width, found.height, found.size_bytes, version, row["iri"]),
        )
        conn.execute(
            "INSERT OR REPLACE INTO medium_version VALUES (?, ?, ?, ?, ?, ?)",
            (row["iri"], version, image, found.width, found.height, format_time(now)),
        )
        if before is not None and before != image:
            outcome = settle_new_bytes(conn, row["iri"], before=before, after=image, now=now)
            replaced += outcome == "replaced"
            enforce_classes(conn, {before}, now=now)
        elif before is None and queues:
            queue_pipelines(conn, [(row["iri"], image)], reason=NEW, now=now)
        annotations.reindex_medium(conn, row["iri"])
        changed.append(row["iri"])
    if changed:
        enforce_classes(conn, {image}, now=now)
    return FetchedMedia(media=tuple(changed), replaced=replaced)


def close_media(
    conn: sqlite3.Connection, url: str, problem: str, *, origin: str, sources: Collection[str], now: datetime
) -> None:
    """The media at an address have no bytes and no address any more, and say why."""
    for row in media_at(conn, url, sources):
        version = _publish(conn, row["iri"], MediumBytes(), origin=origin, withheld_for="nothing", now=now)
        conn.execute(
            """UPDATE medium SET image = NULL, width = NULL, height = NULL, size_bytes = NULL, problem = ?,
                 version = coalesce(?, version) WHERE iri = ?""",
            (problem, version, row["iri"]),
        )
        annotations.reindex_medium(conn, row["iri"])


def _publish(
    conn: sqlite3.Connection,
    iri: str,
    found: MediumBytes,
    *,
    origin: str,
    withheld_for: WithheldFor,
    now: datetime,
    without: Collection[ContentId] = (),
) -> int | None:
    row = conn.execute("SELECT * FROM record WHERE iri = ? AND state = 'active'", (iri,)).fetchone()
    if row is None:
        return None
    access, sensitive = AccessClass(row["access"]), bool(row["sensitive"])
    body = {name: value for name, value in json.loads(row["body"]).items() if name not in records.VOLATILE}
    facts = MediumFacts(
        content_id=found.content_id, width=found.width, height=found.height, format=found.format,
        size_bytes=found.size_bytes, public_original=public_original_of(conn, found.content_id, withheld_for),
    )  # fmt: skip
    for cid in without:
        body = without_variant(body, cid)
    document = with_bytes(body, facts, origin=origin, access=access, sensitive=sensitive)
    published = records.publish(
        conn,
        records.NewRecord(
            kind="medium", iri=iri, body=document, access=access, sensitive=sensitive, source=row["source"]
        ),
        now=now,
    )
    return published.version
