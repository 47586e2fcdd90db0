"""An entry of the publication log: that something was said, changed or withdrawn. Never what."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from linkeddata.json_strict import Json
from linkeddata.times import format_time


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One entry; ``seq`` is dense and assigned when it was published."""

    seq: int
    iri: str
    record_type: Literal["specimen", "medium", "annotation"]
    version: int
    op: Literal["Create", "Update", "Delete"]
    at: datetime
    digest: str
    """``sha256:`` of a secret salt and the body: proves nothing about content that was withdrawn."""

    def to_json(self) -> dict[str, Json]:
        """As served by ``/changes``."""
        return {
            "seq": self.seq,
            "type": self.op,
            "object": self.iri,
            "recordType": self.record_type,
            "version": self.version,
            "at": format_time(self.at),
            "digest": self.digest,
        }
