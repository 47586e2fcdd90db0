"""Images of a node that show the same: one content id on several media, and pairs whose fingerprints are near.

Pairs are looked for with all hashes of one image against all others at a time; what is near is then judged by
``linkeddata.duplicates``. The time grows with the square of the number of images: 10,000 take 20 s of the processor,
100,000 half an hour.

It leaves out: deciding what to do about it, which is a curator's.
"""

import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from linkeddata.duplicates import AGAIN, CUT, SAME, Relation, compare
from linkeddata.json_strict import parse_json
from linkeddata.outputs import parse_output
from linkeddata.outputs.duplicates import Fingerprints

Words = np.ndarray[Any, np.dtype[np.uint64]]
_WORDS: Final = 4
"""Of 64 bits in a hash."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SameThing:
    """Two images, or one on several media."""

    first: str
    """SHA-256, hex."""
    second: str
    relation: Relation


def fingerprints(conn: sqlite3.Connection, images: frozenset[str] | None = None) -> dict[str, Fingerprints]:
    """The newest fingerprints of every image (or of these), by SHA-256."""
    kept: dict[str, Fingerprints] = {}
    for row in conn.execute(
        """SELECT u.image, u.body FROM unit u WHERE u.output = 'duplicates/1' AND u.state = 'done'
             AND EXISTS (SELECT 1 FROM medium m WHERE m.image = u.image AND m.state = 'active')
           ORDER BY u.finished, u.work_key"""
    ):
        if images is None or row["image"] in images:
            output = parse_output("duplicates/1", parse_json(bytes(row["body"])))
            if isinstance(output, Fingerprints):
                kept[row["image"]] = output
    return kept


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """One image that stands in several places."""

    image: str
    """SHA-256, hex."""
    media: tuple[str, ...]
    specimens: tuple[str, ...]


def shared_images(conn: sqlite3.Connection, images: frozenset[str] | None = None) -> list[Shared]:
    """Images on more than one active medium, or on a medium of more than one specimen (as a drawer is)."""
    found: list[Shared] = []
    for row in conn.execute(
        """SELECT m.image, group_concat(DISTINCT m.iri) AS media, group_concat(DISTINCT s.specimen) AS specimens
           FROM medium m LEFT JOIN medium_specimen s ON s.medium = m.iri
           WHERE m.state = 'active' AND m.image IS NOT NULL GROUP BY m.image
           HAVING count(DISTINCT m.iri) > 1 OR count(DISTINCT s.specimen) > 1 ORDER BY m.image"""
    ):
        if images is None or row["image"] in images:
            media, specimens = (tuple(sorted((row[name] or "").split(","))) for name in ("media", "specimens"))
            found.append(Shared(image=row["image"], media=media, specimens=specimens))
    return found


def pairs(prints: Mapping[str, Fingerprints]) -> Iterator[SameThing]:
    """Pairs of images that have to do with each other, in the order of their ids."""
    names = sorted(prints)
    if len(names) < 2:
        return
    whole = _words([prints[name].turned[0] for name in names])
    hashes = [_words([*prints[name].turned, *prints[name].cut]) for name in names]
    turns = len(prints[names[0]].turned)
    cuts = np.stack([item[turns:] for item in hashes])
    limits = np.array([max(SAME, AGAIN)] * turns + [CUT] * (len(hashes[0]) - turns))
    for number, name in enumerate(names[:-1]):
        rest = slice(number + 1, None)
        near = (_bits(hashes[number][:, None], whole[None, rest]) <= limits[:, None]).any(axis=0)
        near |= (_bits(cuts[rest], whole[number][None, None]) <= CUT).any(axis=1)
        for place in np.flatnonzero(near).tolist():
            other = names[number + 1 + place]
            relation = compare(prints[name], prints[other])
            if relation is not None:
                yield SameThing(first=name, second=other, relation=relation)


def _words(hashes: list[str]) -> Words:
    return np.array([[int(item[n : n + 16], 16) for n in range(0, 64, 16)] for item in hashes], dtype=np.uint64)


def _bits(one: Words, other: Words) -> np.ndarray[Any, np.dtype[np.uint16]]:
    return np.asarray(np.bitwise_count(one ^ other).sum(axis=-1, dtype=np.uint16))
