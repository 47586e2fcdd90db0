"""A served node with one specimen of each kind: open, restricted, private, sensitive, and bytes shared by two."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from aiohttp.test_utils import TestClient, TestServer
from conftest import NOW, ingest, jpeg, rows_of, write_archive

from cas.ids import ContentId
from linkeddata.access import AccessClass
from linkeddata.annotation import build_annotation
from linkeddata.outputs import UnitAnswer, parse_output
from node.app import build_application
from node.folder import NodeFolder
from node.storage import annotations, records
from runners.catalogue import Catalogue

SECRET_PLACE = "Secretvalley"
READ_OPEN = "Openlabelword"
READ_HIDDEN = "Hiddenlabelword"
KINDS = ("open", "restricted", "private", "sensitive", "shared-open", "shared-private")
SETTINGS = """
[[sources.collection.rules]]
field = "country"
match = "Privatia"
access = "private"
[[sensitive]]
value = "Planta numero3"
category = 1
"""


@dataclass(frozen=True, kw_only=True)
class World:
    """What stands where."""

    node: NodeFolder
    client: TestClient  # type: ignore[type-arg]
    specimens: dict[str, str]
    media: dict[str, str]
    images: dict[str, str]
    files: dict[str, bytes]
    annotations: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class Secret:
    """What is not told of the sensitive specimen."""

    place: str = SECRET_PLACE
    latitude: str = "47.1234"
    read: str = READ_HIDDEN
    """What its label says."""
    tail: bytes = b""
    """Behind the end of its image: other bytes, the same picture."""


def fill(node: NodeFolder, folder: Path, *, secret: Secret = Secret()) -> dict[str, dict[str, str]]:
    """Ingests the six specimens and publishes annotations where a job could have."""
    rows = rows_of(6)
    rows[1]["licence"] = "all rights reserved"
    rows[2] |= {"country": "Privatia", "locality": SECRET_PLACE + " private"}
    rows[3] |= {
        "locality": secret.place + " sensitive", "decimalLatitude": secret.latitude, "verbatimLabel": secret.place,
    }  # fmt: skip
    rows[5] |= {"country": "Privatia"}
    ingest(node, write_archive(folder, rows, images=lambda number: jpeg(min(number, 4)) + secret.tail * (number == 3)))
    found: dict[str, dict[str, str]] = {"specimens": {}, "media": {}, "images": {}, "annotations": {}}
    with node.database.transaction() as conn:
        for number, kind in enumerate(KINDS):
            found["specimens"][kind] = conn.execute(
                "SELECT iri FROM source_row WHERE key = ?", (f"urn:x:{number}",)
            ).fetchone()[0]
            row = conn.execute("SELECT iri, image FROM medium WHERE locator = ?", (f"images/{number}.jpg",)).fetchone()
            found["media"][kind], found["images"][kind] = row["iri"], row["image"]
        for kind, word in (("open", READ_OPEN), ("restricted", READ_HIDDEN), ("sensitive", secret.read)):
            found["annotations"][kind] = _annotate(conn, node, found, kind, word)
    return found


def _annotate(conn, node: NodeFolder, found: dict[str, dict[str, str]], kind: str, word: str) -> str:  # type: ignore[no-untyped-def]
    """An annotation, as if a faulty job had published it with the class of its image."""
    iri = f"{node.settings.origin}/annotation/{kind[0] * 16}"
    image = ContentId.from_hex(found["images"][kind])
    body = {
        "image": {"width": 64, "height": 48}, "readable": True, "doubts": [],
        "lines": [{"text": word, "score": "0.9", "box": [4, 6, 20, 10], "writing": "print"}],
    }  # fmt: skip
    document = build_annotation(
        iri=iri, medium=found["media"][kind], image=image, output=parse_output("label-text/1", body),
        contract="label-text/1", pipeline="sha256:" + "0" * 64, pipeline_name="label-text", environment="sha256:" + "1" * 64,
        conformance="pass", job="urn:uuid:x", answer=UnitAnswer(answer="yes"),
    )  # fmt: skip
    access = {"open": AccessClass.OPEN, "restricted": AccessClass.RESTRICTED, "sensitive": AccessClass.RESTRICTED}[kind]
    records.publish(
        conn,
        records.NewRecord(kind="annotation", iri=iri, body=document, access=access, sensitive=kind == "sensitive"),
        now=NOW,
    )
    annotations.add(
        conn,
        annotations.AnnotationRow(
            iri=iri, medium=found["media"][kind], image=image.hex, output="label-text/1", pipeline="p", environment="e",
            work_key="w" + kind, job=None,
        ),
        now=NOW,
    )  # fmt: skip
    return iri


@asynccontextmanager
async def serving(node: NodeFolder, folder: Path) -> AsyncIterator[World]:
    """The world, served on a free port."""
    found = fill(node, folder)
    app = build_application(node, catalogue=Catalogue.of(()), clock=lambda: NOW)
    async with TestClient(TestServer(app)) as client:
        files = {kind: (folder / f"images/{number}.jpg").read_bytes() for number, kind in enumerate(KINDS)}
        yield World(node=node, client=client, files=files, **found)  # type: ignore[arg-type]
