"""What a node computes for itself: pipelines whose results never leave it run over every image by themselves.

``embed``, ``embed-objects`` and ``duplicates`` serve searching and care of the collection; no job may ask for them.
When ``[jobs] pipelines`` names one, its units are queued behind everything that researchers wait for, a few at a time,
for every image whose bytes are here, whatever its access class: results are looked at only by whom the image is open
to. What they take (``objects``) is computed for them on the same images, and released only with a job that asks for it
and may have it.

Invariants:
- Idempotent: a unit that is known is not queued again, but for those that failed in a way that passes.
- An image that lies in an archive is left alone: nothing is brought back for this.
- The walk over the images goes on where it was; a restart begins anew, and finds what is done.

It leaves out: running (``runners.engine``), what results are used for (``node.services.similar``).
"""

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Final

from linkeddata.outputs.contracts import NOT_RELEASED
from linkeddata.pipeline import WorkUnit
from node.services.job_rules import OfferedPipeline
from node.services.job_units import is_runnable, plan_unit
from node.storage import journal

BATCH: Final = 5000
"""Images looked at in one step: about a tenth of a second when all are known."""
MOST_QUEUED: Final = 50
"""Units of one pipeline that wait at a time: what researchers ask comes between."""
TURN: Final = 1_000_000_000
"""Behind every unit of a job: a job's first image has turn 0."""
REST_STEPS: Final = 15
"""Steps without a look after a walk that found nothing: half a minute, which new images wait at most then."""


class OwnWork:
    """The walk of one node over its images; used by one task."""

    def __init__(self) -> None:
        self._last: dict[str, str] = {}
        self._rest: dict[str, int] = {}
        self._found: dict[str, bool] = {}
        self.seen_version: int | None = None
        """Of the database, when the vectors last followed it (``Database.version``)."""
        self.follow_not_before = 0.0
        """Monotonic seconds."""

    def due(self, offers: Sequence[OfferedPipeline]) -> tuple[OfferedPipeline, ...]:
        """Pipelines to look at in this step: the first of each contract, not earlier versions that still run."""
        chosen: list[OfferedPipeline] = []
        seen: set[str] = set()
        for offer in offers:
            if offer.manifest.output not in NOT_RELEASED or offer.manifest.output in seen:
                continue
            seen.add(offer.manifest.output)
            rest = self._rest.get(offer.digest, 0)
            if rest > 0:
                self._rest[offer.digest] = rest - 1
            else:
                chosen.append(offer)
        return tuple(chosen)

    def missing(
        self, conn: sqlite3.Connection, offer: OfferedPipeline, is_here: Callable[[str], bool] = lambda _: True
    ) -> list[str]:
        """The next images (SHA-256, hex) without a unit of this pipeline; moves on. Reads only."""
        queued = conn.execute(
            "SELECT count(*) FROM unit WHERE state = 'queued' AND pipeline = ? AND environment = ?",
            (offer.digest, offer.environment),
        ).fetchone()[0]
        if queued >= MOST_QUEUED:
            return []
        rows = conn.execute(
            """SELECT DISTINCT image FROM medium INDEXED BY medium_image
               WHERE image > ? AND state = 'active' ORDER BY image LIMIT ?""",
            (self._last.get(offer.digest, ""), BATCH),
        ).fetchall()
        found: list[str] = []
        for row in rows:
            if not _is_known(conn, offer, row["image"]) and is_here(row["image"]):
                found.append(row["image"])
                if len(found) == MOST_QUEUED - queued:
                    break
        if len(found) == MOST_QUEUED - queued:
            self._last[offer.digest] = found[-1]
        elif len(rows) == BATCH:
            self._last[offer.digest] = rows[-1]["image"]
        else:  # the end: from the beginning again, after a rest when there was nothing
            self._last[offer.digest] = ""
            if not found and not self._found.get(offer.digest):
                self._rest[offer.digest] = REST_STEPS
            self._found[offer.digest] = False
        if found:
            self._found[offer.digest] = True
        return found


def enqueue(
    conn: sqlite3.Connection, offer: OfferedPipeline, offers: Mapping[str, OfferedPipeline], images: Sequence[str], *,
    now: datetime,
) -> int:  # fmt: skip
    """Queues the units of a pipeline over images (SHA-256, hex), in a write transaction; returns how many are new."""
    if not is_runnable(offer.digest, offers):
        return 0
    units = [
        (TURN, unit)
        for image in images
        for unit in plan_unit(
            conn, offer.digest, image, offer.manifest.parameters, offers, is_conformant_enough=True
        ).in_order
    ]
    return journal.enqueue(conn, units, now=now)


def stays_here(conn: sqlite3.Connection, unit: WorkUnit) -> bool:
    """Whether a unit is the node's own work: its results never leave the node, or one that waits for it is such."""
    if unit.output in NOT_RELEASED:
        return True
    row = conn.execute(
        f"""WITH RECURSIVE above (work_key) AS (
             VALUES (?)
             UNION SELECT n.work_key FROM unit_need n JOIN above ON n.upstream = above.work_key)
           SELECT 1 FROM above JOIN unit u ON u.work_key = above.work_key
           WHERE u.output IN ({",".join("?" * len(NOT_RELEASED))}) AND u.state IN ('queued', 'leased') LIMIT 1""",  # noqa: S608 - question marks
        (unit.key, *sorted(NOT_RELEASED)),
    ).fetchone()
    return row is not None


def _is_known(conn: sqlite3.Connection, offer: OfferedPipeline, image: str) -> bool:
    """Done, waiting, or refused for good; in any environment, because one vector of an image is enough."""
    row = conn.execute(
        """SELECT 1 FROM unit WHERE image = ? AND output = ? AND pipeline = ?
             AND (state IN ('queued', 'leased', 'done')
                  OR (state = 'failed' AND failure_kind IN ('permanent', 'limit')))
           LIMIT 1""",
        (image, offer.manifest.output, offer.digest),
    ).fetchone()
    return row is not None
