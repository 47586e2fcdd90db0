"""``embed-objects/1``: what each object on an image looks like, as the vector of ``embed/1`` of its crop.

Objects are those of ``objects/1``: the same boxes and kinds, and beside each a vector in the one form of
``linkeddata.outputs.embed``. A box stands once, so that image and box name a region.
At most 60 objects, as many as ``objects/1`` tells: of 1,708 characters for a vector and at most 110 for what stands
beside it, 60 take 110 kB, and a body may have 131 (``MAX_BODY_BYTES``).

A vector tells much about its image: it has the image's access class and never leaves the node
(``linkeddata.outputs.contracts.NOT_RELEASED``).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from linkeddata.errors import OutputRefused
from linkeddata.json_strict import Json, as_object, get_bool, get_list, get_str
from linkeddata.outputs.embed import VECTOR_CHARS, read_vector
from linkeddata.outputs.objects import KINDS, MAX_OBJECTS
from linkeddata.outputs.shape import Box, ImageSize, Region, UnitAnswer, read_box, read_choice, read_doubts

MAX_EMBEDDED: Final = MAX_OBJECTS


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddedObject:
    """One object and its vector."""

    kind: str
    """One of ``linkeddata.outputs.objects.KINDS``."""
    box: Box
    vector: str

    def values(self) -> tuple[int, ...]:
        """The 1280 values, -127 to 127."""
        return read_vector(self.vector)


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddedObjects:
    """``embed-objects/1``."""

    image: ImageSize
    objects: tuple[EmbeddedObject, ...]
    complete: bool
    """Whether every object of the image has a vector, as far as ``objects/1`` knows them."""
    doubts: tuple[str, ...]

    def answer(self, query: str | None) -> UnitAnswer:  # noqa: ARG002
        """*yes* where there is an object; the vectors stay in the node."""
        if self.objects:
            return UnitAnswer(answer="yes")
        return UnitAnswer(answer="cannot tell", reason="no object was found whose picture could be compared")

    def regions(self) -> tuple[Region, ...]:
        """Box and kind of each object, without its vector."""
        return tuple(Region(box=item.box, label=item.kind) for item in self.objects)

    def measured(self) -> Mapping[str, str]:
        """None."""
        return {}


def parse(document: dict[str, Json], image: ImageSize) -> EmbeddedObjects:
    """A worker's body.

    Raises:
        DocumentError: it breaks the contract.
    """
    found: dict[Box, EmbeddedObject] = {}
    for item in get_list(document, "objects", max_items=MAX_EMBEDDED):
        thing = as_object(item, "an object")
        box = read_box(thing, image)
        if box in found:
            raise OutputRefused("two objects have the same box")
        vector = get_str(thing, "vector", max_chars=VECTOR_CHARS)
        read_vector(vector)
        found[box] = EmbeddedObject(kind=read_choice(thing, "kind", KINDS), box=box, vector=vector)
    return EmbeddedObjects(
        image=image, objects=tuple(found.values()), complete=get_bool(document, "complete", default=False),
        doubts=read_doubts(document),
    )  # fmt: skip
