"""Exposures of a specimen: which of its files are one medium, which one that is, and what becomes of one that was two.

Owns the table medium_variant: the files of a medium beside the one that is processed (which is its row in ``medium``).

Invariants:
- Files are one exposure only when every specimen that shows one of them shows all, and says the same about them.
- A medium keeps its IRI: whichever of its files is named again finds it. A file that was not processed claims its
  medium only when the processed one is named by no row any more.
- Two media that turn out to be one exposure become the one whose file is processed; the other leaves a tombstone that
  names it, and what was said about it moves there.

Everything here happens inside the caller's transaction. It leaves out: what makes files variants
(``linkeddata.variants``), the document (``node.services.publish_medium``).
"""

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from cas.ids import ContentId
from linkeddata.records import build_tombstone
from linkeddata.source import SourceMedia, SourceRow
from linkeddata.variants import Group, Policy, Seen, called, confirm, group_media, is_same_shape, processed
from node.services import new_bytes
from node.services.intake_bytes import MediumBytes, known_bytes
from node.services.prepare_row import Rows
from node.storage import records

ONE_EXPOSURE: Final = "another file of the same exposure has its own record: both are files of one"


@dataclass(frozen=True, slots=True)
class Exposure:
    """Files of one exposure, by media key: first the one that is processed."""

    keys: tuple[str, ...]

    @property
    def key(self) -> str:
        """Of the file that is processed."""
        return self.keys[0]


def exposures_of(
    conn: sqlite3.Connection,
    row: SourceRow,
    rows: Rows,
    media: Mapping[str, MediumBytes],
    policy: Policy,
    *,
    agreed: dict[Group, bool],
) -> list[Exposure]:
    """The exposures of a row, in the order in which it names them.

    Args:
        conn: for what is known of its media.
        row: of the source.
        rows: all of them.
        media: bytes that came now, by key; of others what is known counts.
        policy: of the source.
        agreed: what was found about groups of these rows before; filled here.
    """
    together: dict[str, Exposure] = {}
    by_key = {item.key: item for item in row.media}
    for group in group_media(row.media, policy):
        if group not in agreed:
            agreed[group] = _is_agreed(group, rows, policy)
        if not agreed[group]:
            continue
        seen = {key: seen_of(bytes_of(conn, row.source, key, media), by_key[key]) for key in group.keys}
        keys = confirm(group, seen)
        if len(keys) > 1:
            seen = {key: seen[key] for key in keys}
            first = processed(seen, before=_processed_before(conn, row.source, keys))
            exposure = Exposure((first, *(key for key in keys if key != first)))
            together.update(dict.fromkeys(keys, exposure))
    return list(dict.fromkeys(together.get(item.key) or Exposure((item.key,)) for item in row.media))


def left_out(
    conn: sqlite3.Connection, source: str, media: Sequence[SourceMedia], policy: Policy
) -> list[tuple[str, str]]:
    """Files of a published row that it states to be of one exposure, and that are not: (key, why)."""
    found: list[tuple[str, str]] = []
    by_key = {item.key: item for item in media}
    for group in group_media(media, policy):
        if not group.is_stated:
            continue
        seen = {key: seen_of(bytes_of(conn, source, key, {}), by_key[key]) for key in group.keys}
        kept = confirm(group, seen)
        largest = max(kept, key=lambda key: seen[key].pixels)
        size = f"{seen[largest].width}x{seen[largest].height}"
        found += [
            (key, f"{seen[key].width}x{seen[key].height} pixels, {largest} has {size}")
            for key in group.keys
            if key not in kept
        ]
    return found


def part_variants(conn: sqlite3.Connection, medium: str, width: int | None, height: int | None) -> list[ContentId]:
    """The processed file has new bytes of this size: files of another shape are of the exposure no more.

    The next ingest makes them media of their own. Returns the ids of their bytes.
    """
    now_shown = Seen(width=width, height=height)
    rows = conn.execute("SELECT * FROM medium_variant WHERE medium = ? AND width > 0", (medium,)).fetchall()
    parted = [
        row
        for row in rows
        if now_shown.pixels and not is_same_shape(Seen(width=row["width"], height=row["height"]), now_shown)
    ]
    conn.executemany(
        "DELETE FROM medium_variant WHERE source = ? AND key = ?", [(row["source"], row["key"]) for row in parted]
    )
    return [ContentId.from_hex(row["image"]) for row in parted if row["image"]]


def exposure_with(
    conn: sqlite3.Connection,
    key: str,
    rows: Rows,
    media: Mapping[str, MediumBytes],
    policy: Policy,
    *,
    agreed: dict[Group, bool],
) -> Exposure:
    """The exposure that a file belongs to, as the rows that name it say."""
    row = next((row for row in map(rows.row, rows.specimens_of(key)) if row is not None), None)
    found = [] if row is None else exposures_of(conn, row, rows, media, policy, agreed=agreed)
    return next((item for item in found if key in item.keys), Exposure((key,)))


def bytes_of(conn: sqlite3.Connection, source: str, key: str, media: Mapping[str, MediumBytes]) -> MediumBytes:
    """What came of a file now; when nothing did, what is known of it, and what is wrong."""
    found = media.get(key)
    if found is not None and found.content_id is not None:
        return found
    row = known_file(conn, source, key)
    if row is None:
        return MediumBytes() if found is None else found
    known = known_bytes(row)
    if found is None or known.content_id is None:
        return known if found is None else found
    return MediumBytes(
        content_id=known.content_id, size_bytes=known.size_bytes, width=known.width, height=known.height,
        format=known.format, problem=found.problem,
    )  # fmt: skip


def known_file(conn: sqlite3.Connection, source: str, key: str) -> sqlite3.Row | None:
    """What is known of a file, whether it is the processed one of its medium or another."""
    for table in ("medium", "medium_variant"):
        row = conn.execute(f"SELECT * FROM {table} WHERE source = ? AND key = ?", (source, key)).fetchone()  # noqa: S608
        if row is not None:
            return row  # type: ignore[no-any-return]
    return None


@dataclass(frozen=True, slots=True)
class Published:
    """What was published of a file."""

    bytes: MediumBytes
    state: str
    """Of its medium."""


def published_files(conn: sqlite3.Connection, source: str, keys: Sequence[str]) -> dict[str, Published]:
    """What was published of files, by key; those that are not known are left out."""
    marks = _marks(keys)
    found: dict[str, Published] = {}
    for query in (
        f"""SELECT v.*, m.state FROM medium_variant v JOIN medium m ON m.iri = v.medium
            WHERE v.source = ? AND v.key IN ({marks})""",  # noqa: S608 - question marks
        f"SELECT * FROM medium WHERE source = ? AND key IN ({marks})",  # noqa: S608
    ):
        rows = conn.execute(query, (source, *keys))
        found.update({row["key"]: Published(known_bytes(row), row["state"]) for row in rows})
    return found


def has_news(published: Published | None, found: MediumBytes, *, barred: str) -> bool:
    """Whether the bytes of a file differ from what was published.

    Args:
        published: of the file; None: nothing.
        found: what came of it.
        barred: the code of bytes that were withdrawn: they are no news.
    """
    if published is None:
        return found.code != barred
    is_other = found.content_id is not None and published.bytes.content_id != found.content_id
    return published.state != "active" or is_other


def owner_of(conn: sqlite3.Connection, source: str, exposure: Exposure, rows: Rows) -> sqlite3.Row | None:
    """The medium that an exposure is, as its row in ``medium``; None: it is new."""
    found = _media_with(conn, source, exposure.keys)
    if found:
        return min(found, key=lambda row: (row["key"] != exposure.key, row["state"] != "active", row["key"]))
    claimed = conn.execute(
        f"""SELECT DISTINCT m.* FROM medium_variant v JOIN medium m ON m.iri = v.medium
            WHERE v.source = ? AND v.key IN ({_marks(exposure.keys)}) ORDER BY m.iri""",  # noqa: S608
        (source, *exposure.keys),
    ).fetchall()
    return next((row for row in claimed if not rows.specimens_of(row["key"])), None)


def make_one(conn: sqlite3.Connection, source: str, exposure: Exposure, iri: str, *, now: datetime) -> None:
    """Media of which these were files become part of this one; to be called before its row is written."""
    others = _media_with(conn, source, exposure.keys) if len(exposure.keys) > 1 else []
    for row in others:
        if row["iri"] != iri:
            _absorb(conn, row, iri, now)
    conn.execute(
        f"DELETE FROM medium_variant WHERE source = ? AND key IN ({_marks(exposure.keys)})",  # noqa: S608
        (source, *exposure.keys),
    )


def write_variants(
    conn: sqlite3.Connection, source: str, iri: str, others: Iterable[tuple[SourceMedia, MediumBytes]]
) -> None:
    """The files of a medium beside the processed one are these."""
    conn.execute("DELETE FROM medium_variant WHERE medium = ?", (iri,))
    conn.executemany(
        """INSERT OR REPLACE INTO medium_variant
             (source, key, medium, image, format, width, height, size_bytes, locator, problem)
           VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)""",
        [
            (
                source, medium.key, iri, None if found.content_id is None else found.content_id.hex, found.format,
                found.width, found.height, found.size_bytes, medium.locator, found.problem or None,
            )
            for medium, found in others
        ],
    )  # fmt: skip


def seen_of(found: MediumBytes, medium: SourceMedia) -> Seen:
    """What is known of a file; one that cannot be read has no pixels."""
    is_here = found.content_id is not None and bool(found.width and found.height)
    return Seen(
        format=found.format if is_here else "", width=found.width if is_here else None,
        height=found.height if is_here else None, size_bytes=found.size_bytes, stated=called(medium),
    )  # fmt: skip


def _is_agreed(group: Group, rows: Rows, policy: Policy) -> bool:
    """Whether all specimens that show one of the files show all of them, and group them alike."""
    specimens = sorted(rows.specimens_of(group.keys[0]))
    if len(specimens) < 2 and all(rows.specimens_of(key) == specimens for key in group.keys[1:]):
        return True
    if any(sorted(rows.specimens_of(key)) != specimens for key in group.keys[1:]):
        return False
    shown_by = map(rows.row, specimens)
    return all(row is not None and group in group_media(row.media, policy) for row in shown_by)


def _processed_before(conn: sqlite3.Connection, source: str, keys: Sequence[str]) -> str | None:
    """The file that was processed until now, when these were not files of several media."""
    found = [row["key"] for row in _media_with(conn, source, keys)]
    return found[0] if len(found) == 1 else None


def _media_with(conn: sqlite3.Connection, source: str, keys: Sequence[str]) -> list[sqlite3.Row]:
    return conn.execute(
        f"SELECT * FROM medium WHERE source = ? AND key IN ({_marks(keys)}) ORDER BY iri",  # noqa: S608
        (source, *keys),
    ).fetchall()


def _absorb(conn: sqlite3.Connection, row: sqlite3.Row, iri: str, now: datetime) -> None:
    """A medium ends, because it is a file of another: what was said about it is said about that one."""
    body = build_tombstone(iri=row["iri"], kind="medium", reason=ONE_EXPOSURE, at=now, successor=iri)
    records.tombstone(conn, row["iri"], body, now=now)
    new_bytes.move_statements(conn, row["iri"], iri, now=now)
    conn.execute("UPDATE OR IGNORE record_alias SET iri = ? WHERE iri = ?", (iri, row["iri"]))
    conn.execute("DELETE FROM record_alias WHERE iri = ?", (row["iri"],))
    conn.execute("DELETE FROM medium_specimen WHERE medium = ?", (row["iri"],))
    conn.execute("DELETE FROM medium_variant WHERE medium = ?", (row["iri"],))
    # Its key is free for the other medium; jobs that named it still find what it was.
    conn.execute("UPDATE medium SET state = 'withdrawn', key = key || char(0) || iri WHERE iri = ?", (row["iri"],))


def _marks(keys: Sequence[str]) -> str:
    return ", ".join("?" * len(keys))
