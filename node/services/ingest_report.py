"""What one ingest did, and what a dry run says about files. Plain values; nothing is read or written here."""

from dataclasses import dataclass

from linkeddata.ingest_plan import IngestPlan


@dataclass(slots=True, kw_only=True)
class IngestReport:
    """What an ingest did."""

    source: str
    plan: IngestPlan
    new: int = 0
    changed: int = 0
    unchanged: int = 0
    tombstoned: int = 0
    media: int = 0
    media_replaced: int = 0
    elsewhere: int = 0
    """Images that lie at an address and are fetched at first need."""
    files_missing: int = 0
    images_unreadable: int = 0
    orphan_files: int = 0
    findings: int = 0
    issues: int = 0
    """Flags of records after this ingest, each counted once per record."""
    bytes_hashed: int = 0

    @property
    def is_unchanged(self) -> bool:
        """Whether nothing changed at all."""
        return not (self.new or self.changed or self.tombstoned or self.media_replaced)

    def counts(self) -> dict[str, int]:
        """For storage and ``--json``."""
        return {
            "new": self.new, "changed": self.changed, "unchanged": self.unchanged, "vanished": len(self.plan.vanished),
            "rekeyed": len(self.plan.rekeyed), "mediaVanished": len(self.plan.vanished_media),
            "tombstoned": self.tombstoned, "media": self.media, "mediaReplaced": self.media_replaced,
            "elsewhere": self.elsewhere, "filesMissing": self.files_missing, "imagesUnreadable": self.images_unreadable,
            "orphanFiles": self.orphan_files, "findings": self.findings,
            "issues": self.issues, "bytesHashed": self.bytes_hashed,
        }  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Matched:
    """What a dry run says about files."""

    matched: int
    remote: int
    unmatched: tuple[str, ...]
    orphans: tuple[str, ...]
    bytes: int
