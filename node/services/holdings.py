"""What a node holds, counted for forecasts from its database, its index and its folder of previews.

No image is opened but those of the sample that tells how fast hashing is here.

It leaves out: what follows from the counts (``node.services.forecast``).
"""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from cas.durable import hash_descriptor
from cas.errors import CasError
from cas.ids import ContentId
from cas.store import BlobStore
from cas.unixfs import LEAF_BYTES
from node.config import Settings
from node.services.forecast import Holdings, Measured
from node.storage.db import Database

SAMPLE_BYTES: Final = 200_000_000
"""How much is read to measure how fast hashing is here; a second or so."""


def count_holdings(database: Database, store: BlobStore, settings: Settings) -> Holdings:
    """Counts everything a forecast depends on.

    Raises:
        StoreFailed: the index cannot be read.
    """
    images = _images(database)
    blobs, blob_bytes = store.counts()
    [large] = store.index.select(
        """SELECT count(*) AS files, coalesce(sum(size), 0) AS bytes, coalesce(sum((size + ?1 - 1) / ?1), 0) AS leaves
           FROM blob WHERE size > ?1 AND sha NOT IN (SELECT sha FROM leaf_table)""",
        LEAF_BYTES,
    )
    places = store.index.select("SELECT volume, count(*) AS files, sum(size) AS bytes FROM location GROUP BY volume")
    [listed] = store.index.select("SELECT count(*) AS files, coalesce(sum(size), 0) AS bytes FROM listed")
    return Holdings(
        images=images["images"], jpeg_bytes=images["jpeg_bytes"], pixels=images["pixels"],
        other_pixels=images["other_pixels"], unmeasured=images["unmeasured"], blobs=blobs, blob_bytes=blob_bytes,
        place_bytes={row["volume"]: row["bytes"] for row in places},
        owned=sum(row["files"] for row in places if not row["volume"]), large=large["files"],
        large_bytes=large["bytes"], leaves=large["leaves"], listed=listed["files"], listed_bytes=listed["bytes"],
        database_bytes=sum(map(bytes_of, (settings.database_path, settings.blobs_path / "index.sqlite"))),
        pipelines=_results(database), previews=_previews(settings),
    )  # fmt: skip


def hash_bytes_s(store: BlobStore) -> float | None:
    """How fast one core hashes: bytes a processor second over a sample of the images; None when none can be read."""
    read, began = 0, time.process_time()
    for cid in _sample(store):
        try:
            with store.open_blob(cid) as blob:
                read += hash_descriptor(blob.fd)[1]
        except (CasError, OSError):
            continue
        if read >= SAMPLE_BYTES:
            break
    took = time.process_time() - began
    return read / took if read and took > 0 else None


def bytes_of(path: Path) -> int:
    """Bytes of the files below a folder, or of a file with those beside it that begin with its name (WAL)."""
    if path.is_file():
        return sum(item.stat().st_size for item in path.parent.glob(path.name + "*") if item.is_file())
    return sum(item.stat().st_size for item in path.rglob("*") if item.is_file()) if path.is_dir() else 0


def _images(database: Database) -> dict[str, int]:
    with database.reader(limit_s=None) as conn:
        row = conn.execute(
            """SELECT count(*) AS images, coalesce(sum(iif(is_jpeg, bytes, 0)), 0) AS jpeg_bytes,
                      coalesce(sum(pixels), 0) AS pixels, coalesce(sum(iif(is_jpeg, 0, pixels)), 0) AS other_pixels,
                      coalesce(sum(pixels = 0), 0) AS unmeasured
               FROM (SELECT max(coalesce(size_bytes, 0)) AS bytes, max(coalesce(width * height, 0)) AS pixels,
                            max(coalesce(format, '') = 'image/jpeg') AS is_jpeg
                     FROM medium WHERE state = 'active' AND image IS NOT NULL GROUP BY image)"""
        ).fetchone()
    return dict(row)


def _results(database: Database) -> dict[str, Measured]:
    """By the name of the pipeline, which is that of its output without the version."""
    with database.reader(limit_s=None) as conn:
        rows = conn.execute(
            """SELECT output, count(*) AS count, avg(seconds) AS seconds, avg(length(body)) AS bytes FROM unit
               WHERE state = 'done' AND seconds IS NOT NULL GROUP BY output"""
        ).fetchall()
    return {
        row["output"].partition("/")[0]: Measured(count=row["count"], seconds=row["seconds"], bytes=row["bytes"])
        for row in rows
    }


def _previews(settings: Settings) -> Measured:
    sizes = [
        item.stat().st_size for item in settings.derived_path.glob(f"preview-{settings.images.preview_px}/*/*.jpg")
    ]
    return Measured(count=len(sizes), seconds=0.0, bytes=sum(sizes) / len(sizes) if sizes else 0.0)


def _sample(store: BlobStore) -> Iterator[ContentId]:
    """Up to 256 images, evenly over all hashes."""
    for number in range(256):
        rows = store.index.select("SELECT sha FROM blob WHERE sha >= ? ORDER BY sha LIMIT 1", bytes([number]))
        if rows:
            yield ContentId(rows[0]["sha"])
