"""What the metadata of files tells, their public originals, and by what a picture is recognised, in the database.

Invariants:
- An image without a row was not looked at; whoever decides takes that for the worst.
- The id of a public original stays known for as long as the file is: newer rights make another one beside it.

It leaves out: looking and making (``node.services.public_originals``).
"""

import json
import sqlite3
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from linkeddata.luggage import Luggage
from linkeddata.times import format_time

FORM: Final = 1
"""Goes up when files are looked at in another way; older rows then count as not looked at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LuggageRow:
    """What is known about one file. Ids are SHA-256 in hex."""

    image: str
    tells: frozenset[Luggage]
    public: str | None = None
    public_bytes: int | None = None
    public_packet: str | None = None
    """Digest of the rights that are written in the public original."""
    reason: str | None = None
    """Why there is no public original, when one was wanted."""
    picture: str | None = None
    """Digest of what decodes to the picture (``linkeddata.picture_digest``); empty: there is none; None: not looked."""


def get(conn: sqlite3.Connection, image: str) -> LuggageRow | None:
    """What is known about a file; None when nobody looked, or only in an older way."""
    row = conn.execute("SELECT * FROM luggage WHERE image = ? AND form = ?", (image, FORM)).fetchone()
    if row is None:
        return None
    return LuggageRow(
        image=image, tells=frozenset(Luggage(item) for item in json.loads(row["tells"])), public=row["public"],
        public_bytes=row["public_bytes"], public_packet=row["public_packet"], reason=row["reason"],
        picture=row["picture"],
    )  # fmt: skip


def put(conn: sqlite3.Connection, row: LuggageRow, *, now: datetime) -> None:
    """Keeps what was found."""
    conn.execute(
        "INSERT OR REPLACE INTO luggage VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            row.image, FORM, json.dumps(sorted(row.tells)), row.public, row.public_bytes, row.public_packet, row.reason,
            row.picture,
        ),
    )  # fmt: skip
    if row.public is not None:
        conn.execute(
            "INSERT OR IGNORE INTO public_original VALUES (?, ?, ?)", (row.public, row.image, format_time(now))
        )


def source_of(conn: sqlite3.Connection, public: str) -> str | None:
    """The file that a public original was made from."""
    row = conn.execute("SELECT image FROM public_original WHERE public = ?", (public,)).fetchone()
    return None if row is None else str(row["image"])


def shared_picture(conn: sqlite3.Connection, image: str, other: str) -> str | None:
    """The digest of the picture that two files have in common: only their metadata differs; None when they differ."""
    row = conn.execute(
        """SELECT one.picture FROM luggage one JOIN luggage two ON two.picture = one.picture
           WHERE one.image = ? AND two.image = ? AND one.picture <> ''""",
        (image, other),
    ).fetchone()
    return None if row is None else str(row["picture"])


def made_from(conn: sqlite3.Connection, image: str) -> tuple[str, ...]:
    """Every public original of a file."""
    rows = conn.execute("SELECT public FROM public_original WHERE image = ? ORDER BY public", (image,))
    return tuple(row["public"] for row in rows)


def forget(conn: sqlite3.Connection, image: str) -> None:
    """Removes what is known about a file, and about a public original of this id."""
    conn.execute("DELETE FROM luggage WHERE image = ?", (image,))
    conn.execute("DELETE FROM public_original WHERE image = ?1 OR public = ?1", (image,))
    conn.execute(
        "UPDATE luggage SET public = NULL, public_bytes = NULL, public_packet = NULL WHERE public = ?", (image,)
    )
