"""Making pyramids ahead of the first visitor: which open images lack one, and making them one after the other.

It leaves out: how a pyramid is made and kept (``node.services.images``, ``node.services.derived``), talking to people.
"""

import sqlite3
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from cas.errors import BlobArchived, BlobNotFound, CasError
from cas.ids import ContentId
from node.access import ANONYMOUS, Door, decide
from node.services.images import ImageService, Picture, PicturesBusy, PictureUnusable
from node.storage.db import Database
from node.storage.facts import bytes_facts


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """What became of one picture."""

    picture: Picture
    problem: str = ""
    """Why there is no pyramid; empty: it is there."""


def open_pictures(database: Database) -> list[Picture]:
    """Every image that everybody may see, by its id."""
    with database.reader(limit_s=None) as conn:
        return list(_open(conn))


def make_pyramids(
    images: ImageService, pictures: Iterable[Picture], *, progress: Callable[[Made], None]
) -> tuple[int, int]:
    """Makes what is not there; returns how many were made or there, and how many failed. Safe to interrupt.

    Raises:
        CasError: the store cannot be read.
    """
    there = failed = 0
    for picture in pictures:
        try:
            images.make_pyramid(picture)
            made = Made(picture=picture)
        except BlobArchived:
            made = Made(picture=picture, problem="its file lies in the archive, and is not brought back for this")
        except (PictureUnusable, PicturesBusy, BlobNotFound) as error:
            made = Made(picture=picture, problem=str(error))
        except CasError as error:
            made = Made(picture=picture, problem=f"its file cannot be used: {error}")
        there, failed = there + (not made.problem), failed + bool(made.problem)
        progress(made)
    return there, failed


def _open(conn: sqlite3.Connection) -> Iterator[Picture]:
    rows = conn.execute(
        """SELECT image, max(width) AS width, max(height) AS height FROM medium
           WHERE image IS NOT NULL AND state = 'active' AND width IS NOT NULL AND height IS NOT NULL
           GROUP BY image ORDER BY image"""
    ).fetchall()
    for row in rows:
        cid = ContentId.from_hex(row["image"])
        if decide(ANONYMOUS, Door.BYTES, bytes_facts(conn, cid)).allowed:
            yield Picture(cid=cid, width=row["width"], height=row["height"])
