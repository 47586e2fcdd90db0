"""What can go wrong between nodes, by whose fault it is.

::

    FederationError
    ├── KeyFileError          a key file or key text cannot be used (ours)
    ├── RequestRejected       an HTTP request is not authentic: who sent it, when, or what was changed (theirs)
    │   └── ReplayDetected    the same signed request came before
    ├── TransportError        the way there: not reachable, too slow, too large, cut off
    │   ├── AnswerTooLarge    more bytes than the limit
    │   └── FetchRefused      an address that must not be asked (private network, odd port, too many redirects)
    ├── DescriptorRefused     a node's descriptor does not belong to its origin, or breaks continuity (theirs)
    └── AnswerRefused         a node's answer to a job is not what it must be: signature, audience, range (theirs)
"""


class FederationError(Exception):
    """Something between nodes went wrong; the message is one line."""


class KeyFileError(FederationError):
    """A key file or key text cannot be used."""


class RequestRejected(FederationError):
    """A request is not authentic; the message is for logs, it gives nothing away and may be shown."""


class ReplayDetected(RequestRejected):
    """This signed request was received before."""


class TransportError(FederationError):
    """Another machine could not be asked; trying again later may help."""


class AnswerTooLarge(TransportError):
    """The answer has more bytes than the limit; trying again soon does not help."""


class FetchRefused(TransportError):
    """This address must not be asked; trying again does not help."""


class DescriptorRefused(FederationError):
    """A descriptor that cannot be believed."""


class AnswerRefused(FederationError):
    """An answer that cannot be believed."""
