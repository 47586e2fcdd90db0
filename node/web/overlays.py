"""What was read from an image, for drawing over it: published annotations, and for staff also unpublished results.

Regions are pixels of the upright image, as the annotation states them.
"""

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from linkeddata.errors import DocumentError
from linkeddata.outputs import parse_output
from linkeddata.outputs.contracts import NOT_RELEASED
from linkeddata.presentation import is_polygon, parse_px_per_mm
from linkeddata.statement import in_order, label_of, measures_of
from node.access import Door, Viewer, decide
from node.services.new_bytes import computed_for
from node.storage.facts import medium_facts, record_facts

_SCALE: Final = "vasculum:pixelsPerMillimetre"
_VALID: Final = ("current", "not published")
"""States of results that are about these bytes and that nobody has taken back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """A box and what was found in it."""

    x: int
    y: int
    width: int
    height: int
    text: str
    score: str
    label: str
    polygon: str = ""
    """Corners as ``x,y x,y x,y``, where the annotation states more than a box."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlay:
    """One result over one image."""

    contract: str
    pipeline: str
    environment: str
    job: str
    iri: str | None
    """None: a result that is not published."""
    path: str
    """Where the annotation is; empty: not published."""
    state: str
    regions: tuple[Region, ...]
    doubts: tuple[str, ...]
    measures: tuple[tuple[str, str], ...] = ()
    """Names and decimal texts."""
    px_per_mm: str = ""
    """Scale that the result measured; empty: it measured none."""


def overlays_of(conn: sqlite3.Connection, medium: str, image: str | None, viewer: Viewer) -> list[Overlay]:
    """Everything this viewer may see over the newest bytes of a medium."""
    found: list[Overlay] = []
    rows = conn.execute(
        """SELECT a.*, r.body FROM annotation a JOIN record r ON r.iri = a.iri
           WHERE a.medium = ? AND r.state = 'active' AND a.state <> 'superseded' ORDER BY a.output""",
        (medium,),
    ).fetchall()
    shown: set[str] = set()
    for row in rows:
        if not decide(viewer, Door.TEXT, record_facts(conn, row["iri"])).allowed:
            continue
        if not decide(viewer, Door.TEXT, medium_facts(conn, medium)).allowed:
            continue
        shown.add(row["work_key"])
        found.append(_published(row))
    if viewer.is_staff and image is not None:
        computed = [image, *computed_for(conn, image)]
        marks = ", ".join("?" * len(computed))
        units = conn.execute(
            f"""SELECT * FROM unit u WHERE u.image IN ({marks}) AND u.state = 'done' AND NOT EXISTS (
                  SELECT 1 FROM review v WHERE v.medium = ? AND v.work_key = u.work_key
                    AND (v.state = 'rejected' OR v.retraction IS NOT NULL OR v.superseded_by IS NOT NULL))
                ORDER BY u.output""",  # noqa: S608 - question marks
            (*computed, medium),
        )
        for row in units:
            if row["work_key"] not in shown:
                overlay = _unpublished(row)
                if overlay is not None:
                    found.append(overlay)
    return found


def scale_of(stated: str, overlays: Sequence[Overlay]) -> str:
    """Pixels per millimetre of a medium, decimal text: what the institution states, else what its node measured."""
    measured = (item.px_per_mm for item in overlays if item.state in _VALID and item.px_per_mm)
    return stated or next((text for text in measured if parse_px_per_mm(text) is not None), "")


def _published(row: sqlite3.Row) -> Overlay:
    body: dict[str, Any] = json.loads(row["body"])
    regions = tuple(
        Region(
            x=item["vasculum:x"], y=item["vasculum:y"], width=item["vasculum:width"], height=item["vasculum:height"],
            text=item.get("vasculum:text", ""), score=item.get("vasculum:score", ""),
            label=label_of(item),
            polygon=item["vasculum:polygon"] if is_polygon(item.get("vasculum:polygon")) else "",
        )
        for item in body.get("vasculum:hasRegion", [])
    )  # fmt: skip
    return Overlay(
        contract=row["output"], pipeline=row["pipeline"], environment=row["environment"], job=row["job"] or "",
        iri=row["iri"], path="/annotation/" + row["iri"].rpartition("/")[2], state=row["state"],
        regions=regions, doubts=tuple(body.get("vasculum:doubt", [])), measures=measures_of(body),
        px_per_mm=next((item[_SCALE] for item in body.get("vasculum:hasRegion", []) if _SCALE in item), ""),
    )  # fmt: skip


def _unpublished(row: sqlite3.Row) -> Overlay | None:
    try:
        output = parse_output(row["output"], json.loads(row["body"]))
    except DocumentError:
        return None
    regions = tuple(
        Region(
            x=item.box[0], y=item.box[1], width=item.box[2], height=item.box[3], text=item.text, score=item.score,
            label=item.label, polygon=item.polygon if is_polygon(item.polygon) else "",
        )
        for item in output.regions()
    )  # fmt: skip
    measures = in_order(row["output"], output.measured())
    if not regions and (not measures or row["output"] in NOT_RELEASED):
        return None
    return Overlay(
        contract=row["output"], pipeline=row["pipeline"], environment=row["environment"], job="", iri=None, path="",
        state="not published", regions=regions, doubts=output.doubts, measures=measures,
        px_per_mm=str(next((item.terms[_SCALE] for item in output.regions() if _SCALE in item.terms), "")),
    )  # fmt: skip
