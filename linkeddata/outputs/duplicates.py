"""``duplicates/1``: fingerprints of an image by which other pictures of the same thing are found.

Perceptual hashes (PDQ, 256 bit, 64 hex digits each): of the whole picture in its four turns and their mirror images,
and of its middle without the outer parts. Exactly these, so that nothing else can be carried.
They tell a little about the image and stay in the node (``linkeddata.outputs.contracts.NOT_RELEASED``);
``linkeddata.duplicates`` says what two of them have to do with each other.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from linkeddata.errors import OutputRefused
from linkeddata.json_strict import Json, get_int, get_strings
from linkeddata.outputs.shape import ImageSize, Region, UnitAnswer, read_doubts

TURNS: Final = 8
"""0, 90, 180, 270 degrees, then mirrored: upside down, left to right, along both diagonals."""
CUTS: Final = ("0.98", "0.96", "0.93", "0.90", "0.85", "0.80")
"""Part of each side that is left, the middle kept."""
MAX_QUALITY: Final = 100
_HASH: Final = re.compile(r"[0-9a-f]{64}\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fingerprints:
    """``duplicates/1``."""

    image: ImageSize
    turned: tuple[str, ...]
    """The hash of the picture, then of its turns and mirror images (``TURNS`` in all)."""
    cut: tuple[str, ...]
    """Hashes of its middle, in the order of ``CUTS``."""
    quality: int
    """0 to 100: how much there is to compare; below 50 a hash says little."""
    doubts: tuple[str, ...]

    def answer(self, query: str | None) -> UnitAnswer:  # noqa: ARG002
        """*yes*: there are fingerprints; what they are stays in the node."""
        return UnitAnswer(answer="yes")

    def regions(self) -> tuple[Region, ...]:
        """None: it is about the whole image."""
        return ()

    def measured(self) -> Mapping[str, str]:
        """How much there is to compare."""
        return {"quality": str(self.quality)}


def parse(document: dict[str, Json], image: ImageSize) -> Fingerprints:
    """A worker's body.

    Raises:
        DocumentError: it breaks the contract.
    """
    return Fingerprints(
        image=image,
        turned=_hashes(document, "turned", TURNS),
        cut=_hashes(document, "cut", len(CUTS)),
        quality=get_int(document, "quality", low=0, high=MAX_QUALITY),
        doubts=read_doubts(document),
    )


def _hashes(document: dict[str, Json], name: str, count: int) -> tuple[str, ...]:
    found = get_strings(document, name, max_items=count, max_chars=64)
    if len(found) != count or any(not _HASH.match(item) for item in found):
        raise OutputRefused(f"{name} is {count} times 64 hex digits")
    return found
