"""What can go wrong with bytes by hash.

::

    CasError
    ├── ContentIdError   the name is malformed (the caller's fault; nothing was looked up)
    ├── BlobNotFound     no such bytes here
    │   ├── BlobWithdrawn  they were withdrawn: never given out, never taken in again
    │   └── BlobArchived   they lie in another tier and can be restored
    ├── BlobChanged      the file behind an adopted blob is no longer the one that was indexed
    ├── BlobRefused      the bytes offered are not what was promised, or too many
    ├── VolumeProblem    a whole tree of files is not there (a drive not mounted?); nothing was changed
    ├── TierFailed       a tier (another disk, a bucket) cannot be used now; what it holds is not known
    └── StoreFailed      the disk said no (full, I/O error); nothing was stored
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cas.ids import ContentId


class CasError(Exception):
    """Base of everything this package raises."""


class ContentIdError(CasError, ValueError):
    """A text is not a content id."""


class BlobNotFound(CasError, LookupError):
    """No such bytes in this store."""


class BlobWithdrawn(BlobNotFound):
    """These bytes were withdrawn for ever; the message may be shown to staff only (``cas.withdrawn``)."""


class BlobArchived(BlobNotFound):
    """These bytes lie in another tier; whoever may see them can have them restored (``cas.tiering``)."""

    def __init__(self, cid: "ContentId") -> None:
        super().__init__(f"{cid} is in the archive and has to be restored first")
        self.id = cid


class BlobChanged(CasError):
    """An adopted file is gone or was changed; its bytes are never served under the old id."""


class BlobRefused(CasError):
    """Bytes offered exceed their limit or do not have the digest that was promised."""


class VolumeProblem(CasError):
    """The root of a volume is missing or empty: a drive that is not mounted, never a mass deletion."""


class StoreFailed(CasError):
    """The disk refused; what was being stored is not stored."""


class TierFailed(CasError):
    """A tier cannot be used now, or does not hold what it was given; the message is for the institution's people."""
