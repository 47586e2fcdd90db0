"""Which images a selection covers: what a job runs on, and how much that is.

It leaves out: who may run what on them (``node.services.job_rules``).
"""

# ruff: noqa: S608 - names of columns come from fixed tables, values are bound
import sqlite3
from dataclasses import dataclass

from linkeddata.access import AccessClass
from linkeddata.coverage import Covered
from linkeddata.selection import Selection
from node.access import Viewer
from node.storage.search import check_viewer, count, count_no_value
from node.storage.search_index import HAS_IMAGE
from node.storage.search_sql import Query, where


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectedMedium:
    """A medium that a selection covers, with what the policy needs to know about it."""

    medium: str
    specimen: str
    image: str
    """SHA-256 of the bytes, hex; empty: they lie elsewhere and were never fetched."""
    size_bytes: int
    access: AccessClass
    """The strictest over everything that uses these bytes."""
    sensitive: bool


def covered(conn: sqlite3.Connection, selection: Selection, viewer: Viewer) -> Covered:
    """Records, images (each once) and bytes that a job of this viewer would cover."""
    sizes: dict[str, int] = {}
    for item in select_media(conn, selection, viewer):
        sizes[item.image or item.medium] = item.size_bytes
    return Covered(
        records=count(conn, selection, viewer), images=len(sizes), size_bytes=sum(sizes.values()),
        no_value=count_no_value(conn, selection, viewer),
    )  # fmt: skip


def select_media(
    conn: sqlite3.Connection, selection: Selection, viewer: Viewer, *, first: int | None = None
) -> list[SelectedMedium]:
    """Media of the specimens that fit, in a stable order; private ones only for staff.

    Media without bytes are left out, unless they lie elsewhere and can be fetched.
    """
    check_viewer(selection, viewer)
    query = Query()
    text = where(selection, viewer, query)
    rows = conn.execute(
        f"""SELECT ms.medium, f.iri AS specimen, coalesce(m.image, '') AS image,
                   coalesce(m.size_bytes, 0) AS size_bytes,
                   (SELECT max(max(o.access, coalesce((SELECT max(r.access) FROM medium_specimen s2
                            JOIN record r ON r.iri = s2.specimen WHERE s2.medium = o.iri), 0)))
                    FROM medium o WHERE o.image = m.image OR o.iri = m.iri
                      OR o.iri IN (SELECT v.medium FROM medium_variant v WHERE v.image = m.image)) AS access,
                   (SELECT max(max(o.sensitive, coalesce((SELECT max(r.sensitive) FROM medium_specimen s2
                            JOIN record r ON r.iri = s2.specimen WHERE s2.medium = o.iri), 0)))
                    FROM medium o WHERE o.image = m.image OR o.iri = m.iri
                      OR o.iri IN (SELECT v.medium FROM medium_variant v WHERE v.image = m.image)) AS sensitive
            FROM specimen_facet f
            JOIN medium_specimen ms ON ms.specimen = f.iri
            JOIN medium m ON m.iri = ms.medium
            WHERE {text} AND m.state = 'active' AND {HAS_IMAGE}
            ORDER BY f.iri, ms.ordinal, ms.medium""",
        query.params,
    )
    chosen: list[SelectedMedium] = []
    for row in rows:
        if row["access"] == AccessClass.PRIVATE and not viewer.is_staff:
            continue
        chosen.append(
            SelectedMedium(
                medium=row["medium"], specimen=row["specimen"], image=row["image"], size_bytes=row["size_bytes"],
                access=AccessClass(row["access"]), sensitive=bool(row["sensitive"]),
            )
        )  # fmt: skip
        if first is not None and len(chosen) >= first:
            break
    return chosen
