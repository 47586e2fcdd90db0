"""What an institution sent, before it becomes a record. Private: none of this leaves the node as it is."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from linkeddata.canon import canonical_bytes
from linkeddata.json_strict import Json


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceMedia:
    """One media row of a specimen."""

    key: str
    """Stable within the source: decides whether this is the same exposure at the next ingest."""
    locator: str
    """Path relative to the archive, or URL, as received."""
    format: str = ""
    title: str = ""
    licence: str = ""
    rights_holder: str = ""
    fields: Mapping[str, str] = field(default_factory=dict)
    """Everything else, by term."""

    def to_json(self) -> dict[str, Json]:
        """For storage and for the row's digest."""
        return {
            "key": self.key,
            "locator": self.locator,
            "format": self.format,
            "title": self.title,
            "licence": self.licence,
            "rightsHolder": self.rights_holder,
            "fields": dict(self.fields),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceRow:
    """One specimen as received, with its media."""

    source: str
    key: str
    fields: Mapping[str, str]
    """Term (``dwc:country``, or a full IRI for terms without a prefix) -> text as received."""
    media: tuple[SourceMedia, ...] = ()
    known_bytes: bytes | None = field(default=None, repr=False, compare=False)
    """Canonical bytes of this row, when whoever made it has them already; a changed copy must not keep them."""

    def to_json(self) -> dict[str, Json]:
        """For storage."""
        return {
            "source": self.source,
            "key": self.key,
            "fields": dict(self.fields),
            "media": [item.to_json() for item in self.media],
        }

    @property
    def digest(self) -> str:
        """Decides whether the row has changed since the last ingest."""
        return "sha256:" + hashlib.sha256(self.canonical).hexdigest()

    @property
    def canonical(self) -> bytes:
        """The row as received, as it is stored."""
        return self.known_bytes if self.known_bytes is not None else canonical_bytes(self.to_json())


def row_of(body: bytes) -> SourceRow:
    """A row from its canonical bytes, which this program wrote."""
    document = json.loads(body)
    return SourceRow(
        source=document["source"], key=document["key"], fields=document["fields"], media=_media_of(document["media"]),
        known_bytes=body,
    )  # fmt: skip


def media_of(text: str) -> tuple[SourceMedia, ...]:
    """Media from a list of their ``to_json``, which this program wrote."""
    return _media_of(json.loads(text))


def _media_of(items: list[dict[str, Any]]) -> tuple[SourceMedia, ...]:
    return tuple(
        SourceMedia(
            key=item["key"], locator=item["locator"], format=item["format"], title=item["title"],
            licence=item["licence"], rights_holder=item["rightsHolder"], fields=item["fields"],
        )
        for item in items
    )  # fmt: skip
