"""Sensitive specimens whose labels were read, and what is given out of them once a person approved it."""

import io
import json
import random
from collections.abc import Sequence
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from conftest import NOW, ingest, jpeg, rows_of, write_archive
from PIL import Image

from linkeddata.pipeline import WorkUnit
from node.demo import drawing
from node.folder import NodeFolder
from node.services.redactions import Redactions, Settled, look_at, sensitive_images
from node.storage.journal import keep_result

SENSITIVE = '[[sensitive]]\nvalue = "Planta numero0"\ncategory = 1\n'
REDACTED = '[images]\nsensitive_images = "redacted"\n'
WORDS = ("Kwyzvalley", "Brumfjord", "Quokkahill")
"""Where the plant grew, on two labels."""
SIZE = (900, 1200)
LABELS = ((420, 900, 440, 220), (60, 80, 420, 160))
BOXES = ((450, 920, 380, 40), (450, 970, 380, 40), (90, 95, 350, 40), (90, 140, 350, 40))


@cache
def sheet(words: tuple[str, ...] = WORDS) -> bytes:
    """A sheet with two typed labels, a plant, and coordinates in its metadata."""
    rng = random.Random(7)
    image = drawing.paper(*SIZE, rng)
    drawing.draw_plant(image, (200, 300, 500, 520), rng)
    lines = (f"near {words[1]}", "leg. A. Collector 1907")
    drawing.draw_label(image, LABELS[0], drawing.LabelText(heading=f"Flora of {words[0]}", lines=lines), rng)
    drawing.draw_label(image, LABELS[1], drawing.LabelText(heading="Revisio 1999", lines=(f"{words[2]} 800 m",)), rng)
    exif = Image.Exif()
    gps = exif.get_ifd(0x8825)
    gps[1], gps[2], gps[3], gps[4] = "N", (47.0, 12.0, 34.5), "E", (8.0, 5.0, 6.5)
    out = io.BytesIO()
    image.save(out, "JPEG", quality=92, exif=exif)
    return out.getvalue()


def filled(node: NodeFolder, folder: Path, *, licence: str = "CC BY 4.0", data: bytes | None = None) -> str:
    """Takes in three specimens, the first of which is sensitive; its image."""
    rows = rows_of(3, licence=licence)
    picture = sheet() if data is None else data
    ingest(node, write_archive(folder, rows, images=lambda number: jpeg(number) if number else picture))
    with node.database.reader() as conn:
        row = conn.execute("SELECT image FROM medium WHERE locator = 'images/0.jpg'").fetchone()
    return str(row["image"])


def text_of(boxes: Sequence[Sequence[int]], *, size: tuple[int, int] = SIZE, **changed: Any) -> dict[str, Any]:
    """A body of ``label-text/1``."""
    lines = [{"text": "Word", "score": "0.950", "box": list(box), "writing": "print"} for box in boxes]
    image = {"width": size[0], "height": size[1]}
    return {"image": image, "lines": lines, "readable": True, "doubts": [], **changed}


def keep(
    node: NodeFolder, image: str, body: dict[str, Any], *, output: str = "label-text/1", version: str = "1",
    at: datetime = NOW, parameters: dict[str, Any] | None = None,
) -> WorkUnit:  # fmt: skip
    """Keeps a result as if a pipeline had run."""
    unit = WorkUnit(
        output=output, pipeline=f"sha256:{version * 64}", environment="sha256:" + "e" * 64, image=image,
        parameters=parameters or {},
    )  # fmt: skip
    with node.database.transaction() as conn:
        assert keep_result(conn, unit, json.dumps(body).encode(), 1.0, now=at)
    return unit


def approve(node: NodeFolder, image: str) -> None:
    """A person has looked at what would be covered now, and is content."""
    service = Redactions(node.settings, node.database, node.blobs)
    with node.database.reader() as conn:
        [looked] = look_at(conn, [image], node.settings)
    assert looked.redaction is not None, looked.why
    done, problems = service.approve([(image, looked.redaction.digest)], by="staff", now=NOW)
    assert (done, problems) == ([image], [])


def settle(node: NodeFolder) -> Settled:
    """One turn."""
    service = Redactions(node.settings, node.database, node.blobs)
    try:
        return service.settle(now=NOW)
    finally:
        service.close()


def derivative_of(node: NodeFolder, image: str) -> str | None:
    """What is given out, by the table."""
    with node.database.reader() as conn:
        row = conn.execute("SELECT derivative FROM redaction WHERE image = ?", (image,)).fetchone()
    return None if row is None else row["derivative"]


def why_not(node: NodeFolder, image: str) -> str:
    """Why nothing is given out."""
    with node.database.reader() as conn:
        [looked] = look_at(conn, [image], node.settings)
    return looked.why


def given_out(node: NodeFolder, folder: Path) -> tuple[str, str]:
    """A sensitive image and its approved derivative."""
    image = filled(node, folder)
    keep(node, image, text_of(BOXES))
    approve(node, image)
    assert settle(node).made == 1
    found = derivative_of(node, image)
    assert found is not None
    return image, found


def pixels(data: bytes) -> "np.ndarray[Any, Any]":
    """Of a picture file."""
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))


__all__ = [
    "BOXES", "LABELS", "REDACTED", "SENSITIVE", "SIZE", "WORDS", "approve", "derivative_of", "filled", "given_out",
    "keep", "pixels", "sensitive_images", "settle", "sheet", "text_of", "why_not",
]  # fmt: skip
