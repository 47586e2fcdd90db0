"""A node with one drawn herbarium sheet of known resolution, on which two marks have the places of two annotations."""

import io
import random
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from aiohttp.test_utils import TestClient, TestServer
from conftest import NOW, ingest, rows_of, write_archive
from PIL import Image, ImageDraw

from cas.ids import ContentId
from linkeddata.access import AccessClass
from linkeddata.annotation import build_annotation
from linkeddata.outputs import UnitAnswer, parse_output
from node.app import build_application
from node.demo import drawing
from node.folder import NodeFolder
from node.storage import annotations, records
from runners.catalogue import Catalogue

SIZE = (2000, 2800)
PX_PER_MM = 8
"""Resolution of the drawn sheet: twice that of the drawings."""
MARKS = ((300, 400, 240, 80), (1300, 2200, 160, 320))
"""Boxes of the two annotations; in the picture each is filled with one colour that stands nowhere else."""
COLOURS = ((255, 0, 255), (0, 255, 255))
PATCHES = 1000, 1600, 70
"""Where the colour chart begins, and how large a patch is."""
TERM = "https://w3id.org/vasculum/terms/pixelsPerMillimetre"


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """The served sheet."""

    node: NodeFolder
    client: TestClient  # type: ignore[type-arg]
    path: str
    """Of the page of its specimen."""
    medium: str
    annotation: str
    image: str

    def address(self, path: str = "") -> str:
        return f"http://127.0.0.1:{self.client.port}{path or self.path}"


def draw_sheet(size: tuple[int, int] = SIZE, *, orientation: int = 1, quality: int = 90) -> bytes:
    """The picture; with an EXIF orientation its pixels are stored turned, so that it looks the same."""
    rng = random.Random(7)
    half = drawing.paper(SIZE[0] // 2, SIZE[1] // 2, rng)
    drawing.draw_plant(half, (200, 250, 900, 1000), rng)
    drawing.draw_ruler(half, 60, 1250, 100)
    text = drawing.LabelText(heading="Herbarium Novum", lines=("Quercus robur L.", "leg. A. Collector 1901"))
    drawing.draw_label(half, (520, 1080, 440, 240), text, rng)
    image = half.resize(SIZE)
    drawing.draw_chart(image, *PATCHES)
    pen = ImageDraw.Draw(image)
    for (x, y, width, height), colour in zip(MARKS, COLOURS, strict=True):
        pen.rectangle((x, y, x + width - 1, y + height - 1), fill=colour)
    image = image.resize(size)
    exif = Image.Exif()
    exif[0x0112] = orientation
    turned = {1: None, 6: Image.Transpose.ROTATE_90}[orientation]
    out = io.BytesIO()
    (image if turned is None else image.transpose(turned)).save(out, "JPEG", quality=quality, exif=exif)
    return out.getvalue()


@asynccontextmanager
async def serving_sheet(
    node: NodeFolder,
    folder: Path,
    *,
    orientation: int = 1,
    scale: str = str(PX_PER_MM),
    factor: float = 1,
    at: socket.socket | None = None,
    licence: str = "CC0",
) -> AsyncIterator[Sheet]:
    """The sheet on a free port, or on a bound socket; ``factor``: how many times larger than drawn."""
    size = (round(SIZE[0] * factor), round(SIZE[1] * factor))
    archive = write_archive(
        folder, rows_of(1), licence=licence, images=lambda number: draw_sheet(size, orientation=orientation)
    )
    meta = (archive / "meta.xml").read_text("utf-8")
    (archive / "meta.xml").write_text(
        meta.replace("</extension>", f'<field index="5" term="{TERM}"/></extension>'), "utf-8"
    )
    lines = (archive / "multimedia.txt").read_text("utf-8").splitlines()
    (archive / "multimedia.txt").write_text(f"{lines[0]}\tscale\n{lines[1]}\t{scale}\n", "utf-8")
    ingest(node, archive)
    with node.database.transaction() as conn:
        specimen = conn.execute("SELECT iri FROM source_row").fetchone()["iri"]
        medium, image = conn.execute("SELECT iri, image FROM medium").fetchone()
        iri = f"{node.settings.origin}/annotation/{'b' * 16}"
        output = parse_output(
            "label-text/1",
            {
                "image": {"width": size[0], "height": size[1]}, "readable": True, "doubts": [],
                "lines": [
                    {"text": f"mark {number}", "score": "0.9", "box": [round(value * factor) for value in box], "writing": "print"}
                    for number, box in enumerate(MARKS, 1)
                ],
            },
        )  # fmt: skip
        document = build_annotation(
            iri=iri, medium=medium, image=ContentId.from_hex(image), output=output, contract="label-text/1",
            pipeline="sha256:" + "0" * 64, pipeline_name="label-text", environment="sha256:" + "1" * 64, conformance="pass",
            job="urn:uuid:x", answer=UnitAnswer(answer="yes"),
        )  # fmt: skip
        records.publish(
            conn, records.NewRecord(kind="annotation", iri=iri, body=document, access=AccessClass.OPEN), now=NOW
        )
        annotations.add(
            conn,
            annotations.AnnotationRow(
                iri=iri,
                medium=medium,
                image=image,
                output="label-text/1",
                pipeline="p",
                environment="e",
                work_key="w",
                job=None,
            ),
            now=NOW,
        )
    app = build_application(node, catalogue=Catalogue.of(()), clock=lambda: NOW)
    server = TestServer(app) if at is None else TestServer(app, socket_factory=lambda *_: at)
    async with TestClient(server) as client:
        yield Sheet(
            node=node, client=client, path=specimen.removeprefix(node.settings.origin), annotation=iri, image=image,
            medium=medium.removeprefix(node.settings.origin),
        )  # fmt: skip
