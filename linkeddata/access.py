"""Access classes: open bytes go to anyone, restricted ones never leave, private ones are as if they were not there."""

from collections.abc import Iterable
from enum import IntEnum

from linkeddata.errors import DocumentError


class AccessClass(IntEnum):
    """Ordered: the larger is the stricter."""

    OPEN = 0
    RESTRICTED = 1
    PRIVATE = 2

    @property
    def label(self) -> str:
        """``open``, ``restricted`` or ``private``."""
        return self.name.lower()


def parse_access_class(text: str) -> AccessClass:
    """The class of this label.

    Raises:
        DocumentError: there is none.
    """
    for item in AccessClass:
        if item.label == text:
            return item
    raise DocumentError(f"{text!r} is not an access class: open, restricted or private")


def strictest(classes: Iterable[AccessClass]) -> AccessClass:
    """The strictest of some classes; private when there are none, because nothing has been said."""
    found = list(classes)
    return max(found) if found else AccessClass.PRIVATE
