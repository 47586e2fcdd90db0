"""What the store says about bytes it has taken in, could not take in, or knows."""

from dataclasses import dataclass
from typing import Literal

from cas.ids import ContentId


@dataclass(frozen=True, slots=True, kw_only=True)
class PutResult:
    """Bytes that are stored now."""

    id: ContentId
    size: int
    is_new: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class AdoptResult:
    """A file that is indexed now."""

    relpath: str
    id: ContentId
    size: int
    outcome: Literal["new", "unchanged", "changed", "moved"]
    previous: ContentId | None = None
    """What lay at this path before, when it has changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdoptFailure:
    """A file that could not be indexed, and why."""

    relpath: str
    reason: str
    is_withdrawn: bool = False
    """Whether these very bytes were withdrawn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobStat:
    """What is known without opening."""

    size: int
    kind: Literal["owned", "adopted"]
    volume: str
    relpath: str
