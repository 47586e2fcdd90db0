"""``embed/1``: 1280 numbers that say what an image looks like, as a quantised unit of one exact size.

The member ``vector`` holds 1280 signed bytes in base64 (RFC 4648, section 4), 1,708 characters, never more or fewer.
Nothing can be carried beside it: only the canonical spelling is taken, -128 does not occur, and the largest value is
127 or -127, which is what quantising leaves. The length of the vector is not carried; only directions are compared.

A vector tells much about its image: it has the image's access class and never leaves the node
(``linkeddata.outputs.contracts.NOT_RELEASED``).
"""

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from linkeddata.errors import OutputRefused
from linkeddata.json_strict import Json, get_str
from linkeddata.outputs.shape import ImageSize, Region, UnitAnswer, read_doubts

DIMENSIONS: Final = 1280
VECTOR_CHARS: Final = 1708
FULL: Final = 127


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedding:
    """``embed/1``."""

    image: ImageSize
    vector: str
    doubts: tuple[str, ...]

    def answer(self, query: str | None) -> UnitAnswer:  # noqa: ARG002
        """*yes*: there is one; what it is stays in the node."""
        return UnitAnswer(answer="yes")

    def regions(self) -> tuple[Region, ...]:
        """None: it is about the whole image."""
        return ()

    def measured(self) -> Mapping[str, str]:
        """None."""
        return {}

    def values(self) -> tuple[int, ...]:
        """The 1280 values, -127 to 127."""
        return read_vector(self.vector)


def parse(document: dict[str, Json], image: ImageSize) -> Embedding:
    """A worker's body.

    Raises:
        DocumentError: it breaks the contract.
    """
    text = get_str(document, "vector", max_chars=VECTOR_CHARS)
    read_vector(text)
    return Embedding(image=image, vector=text, doubts=read_doubts(document))


def read_vector(text: str) -> tuple[int, ...]:
    """The values behind a member ``vector``.

    Raises:
        OutputRefused: not exactly 1280 quantised values in their one spelling.
    """
    try:
        data = base64.b64decode(text, validate=True) if len(text) == VECTOR_CHARS else b""
    except (binascii.Error, ValueError):
        data = b""
    if len(data) != DIMENSIONS or base64.b64encode(data).decode() != text:
        raise OutputRefused(f"vector is {DIMENSIONS} signed bytes in base64, {VECTOR_CHARS} characters")
    values = tuple(byte - 256 if byte > FULL else byte for byte in data)
    if max(abs(value) for value in values) != FULL:
        raise OutputRefused(f"the largest value of a vector is {FULL} or -{FULL}: it is quantised to use all of a byte")
    return values


def write_vector(values: Sequence[int]) -> str:
    """1280 values from -127 to 127 as the member ``vector``."""
    return base64.b64encode(bytes(value & 0xFF for value in values)).decode()
