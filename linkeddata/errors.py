"""What can be wrong with a document.

::

    DocumentError           a document is not what it claims to be (its sender's fault)
    ├── JsonInputError      not acceptable JSON
    ├── CanonError          cannot be written canonically (floats, too large integers)
    ├── EnvelopeError       the envelope is malformed or of another kind
    │   └── SignatureInvalid   the signature does not fit
    ├── SelectionError      a search or selection cannot be understood
    ├── MatchError          a text query cannot be understood
    └── OutputRefused       a worker's result breaks its output contract
"""


class DocumentError(Exception):
    """A document is not what it claims to be; the message is one line and says where."""


class JsonInputError(DocumentError):
    """Bytes are not JSON that we accept."""


class CanonError(DocumentError):
    """A value has no canonical form here."""


class EnvelopeError(DocumentError):
    """An envelope is malformed or holds another kind of document."""


class SignatureInvalid(EnvelopeError):
    """No signature by a key that counts."""


class SelectionError(DocumentError):
    """A selection cannot be understood; the message names the nearest known parameter."""


class MatchError(DocumentError):
    """A text query cannot be understood."""


class OutputRefused(DocumentError):
    """A result is too large, of the wrong shape, or outside its image."""
