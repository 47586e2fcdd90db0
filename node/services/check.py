"""Checking what the node says against the bytes it has: records without an image, previews of images that are gone."""

from collections.abc import Iterator

from cas.check import Finding
from cas.errors import ContentIdError
from cas.ids import ContentId
from cas.store import BlobStore
from node.config import Settings
from node.storage.db import Database

PAGE = 1_000


def check_records(database: Database, blobs: BlobStore) -> Iterator[Finding]:
    """Media whose newest bytes are in no place of the store."""
    last = ""
    while True:
        with database.reader(limit_s=None) as conn:
            rows = conn.execute(
                """SELECT iri, image FROM medium WHERE image IS NOT NULL AND state = 'active' AND iri > ?
                   ORDER BY iri LIMIT ?""",
                (last, PAGE),
            ).fetchall()
        if not rows:
            return
        for row in rows:
            if blobs.index.size_of(ContentId.from_hex(row["image"])) is None:
                yield Finding(
                    code="image-missing", place=row["iri"],
                    text=f"its image {row['image']} is not in the store: ingest again, or vasculum repair",
                )  # fmt: skip
        last = rows[-1]["iri"]


def check_previews(settings: Settings, blobs: BlobStore, *, fix: bool) -> Iterator[Finding]:
    """Small pictures of images that are gone; they can always be made again."""
    for path in sorted(settings.derived_path.glob("preview-*/*/*.jpg")):
        try:
            is_known = blobs.index.size_of(ContentId.from_hex(path.stem)) is not None
        except ContentIdError:
            continue
        if not is_known:
            if fix:
                path.unlink(missing_ok=True)
            yield Finding(
                code="preview-left", place=str(path), is_fixed=fix,
                text="a small picture of an image that is gone: --fix removes it",
            )  # fmt: skip
