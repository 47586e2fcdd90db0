"""How much a selection covers, and about how many records it cannot be decided; as documents."""

from dataclasses import dataclass
from typing import Final

from linkeddata.errors import DocumentError
from linkeddata.json_strict import Json, as_object, get_int, get_list, get_object, get_strings

MAX_COUNT: Final = 2**53 - 1
MAX_CONDITIONS: Final = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class NoValue:
    """Records that fit all other conditions and have no value for these parameters."""

    keys: tuple[str, ...]
    count: int

    def to_json(self) -> dict[str, Json]:
        """For an answer."""
        return {"keys": list(self.keys), "count": self.count}

    def to_text(self) -> str:
        """For people."""
        return f"{self.count:,} more have no {' or '.join(self.keys)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Covered:
    """How much a selection covers."""

    records: int
    images: int | None = None
    """Each once; None: not counted."""
    size_bytes: int | None = None
    no_value: tuple[NoValue, ...] = ()

    def to_json(self) -> dict[str, Json]:
        """For programs."""
        return {
            "records": self.records, "images": self.images, "bytes": self.size_bytes,
            "noValue": [item.to_json() for item in self.no_value],
        }  # fmt: skip


def parse_no_value(value: dict[str, Json], member: str = "noValue") -> tuple[NoValue, ...]:
    """The list of a node's answer; absent: a node of before, which counts none.

    Raises:
        DocumentError: it is not such a list.
    """
    return tuple(
        NoValue(
            keys=get_strings(as_object(item, member), "keys", max_items=100, max_chars=60),
            count=get_int(as_object(item, member), "count", low=0, high=MAX_COUNT),
        )
        for item in get_list(value, member, max_items=MAX_CONDITIONS, optional=True)
    )


def parse_search_coverage(value: Json) -> Covered:
    """What a node's search answered, as far as it says how much there is.

    Raises:
        DocumentError: it does not say.
    """
    answer = as_object(value, "a search answer")
    records = get_int(answer, "total", low=0, high=MAX_COUNT)
    if "covers" not in answer:
        return Covered(records=records, no_value=parse_no_value(answer))
    covers = get_object(answer, "covers")
    if get_int(covers, "records", low=0, high=MAX_COUNT) != records:
        raise DocumentError("a search answer contradicts itself")
    return Covered(
        records=records,
        images=get_int(covers, "images", low=0, high=MAX_COUNT),
        size_bytes=get_int(covers, "bytes", low=0, high=MAX_COUNT),
        no_value=parse_no_value(answer),
    )
