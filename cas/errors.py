"""What can go wrong with bytes by hash.

::

    CasError
    ├── ContentIdError   the name is malformed (the caller's fault; nothing was looked up)
    ├── BlobNotFound     no such bytes here
    │   └── BlobWithdrawn  they were withdrawn: never given out, never taken in again
    ├── BlobChanged      the file behind an adopted blob is no longer the one that was indexed
    ├── BlobRefused      the bytes offered are not what was promised, or too many
    ├── VolumeProblem    a whole tree of files is not there (a drive not mounted?); nothing was changed
    └── StoreFailed      the disk said no (full, I/O error); nothing was stored
"""


class CasError(Exception):
    """Base of everything this package raises."""


class ContentIdError(CasError, ValueError):
    """A text is not a content id."""


class BlobNotFound(CasError, LookupError):
    """No such bytes in this store."""


class BlobWithdrawn(BlobNotFound):
    """These bytes were withdrawn for ever; the message may be shown to staff only (``cas.withdrawn``)."""


class BlobChanged(CasError):
    """An adopted file is gone or was changed; its bytes are never served under the old id."""


class BlobRefused(CasError):
    """Bytes offered exceed their limit or do not have the digest that was promised."""


class VolumeProblem(CasError):
    """The root of a volume is missing or empty: a drive that is not mounted, never a mass deletion."""


class StoreFailed(CasError):
    """The disk refused; what was being stored is not stored."""
