"""A node whose every table knows one image, with words that can be looked for in every byte of its folder."""

import base64
import io
import json
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from conftest import NOW, ingest, jpeg, rows_of, write_archive
from PIL import Image

from cas.ids import ContentId
from linkeddata.access import AccessClass
from linkeddata.annotation import build_annotation
from linkeddata.annotation_checks import CheckFinding
from linkeddata.outputs import UnitAnswer, parse_output
from linkeddata.outputs.embed import DIMENSIONS
from linkeddata.statement import summarise
from node.folder import NodeFolder
from node.services import retract, review, review_rules
from node.services.similar import vectors_path
from node.storage import annotations, records, reviews
from node.storage.vectors import VectorFile, VectorRow

READ = "Qyxzlabelread"
NAME = "Wvqkfilename"
EXIF = "Jxqvexifnote"
SECOND = "images/twin-of-it.jpg"
STAMP = "2026-11-24T12:00:00Z"


def picture() -> bytes:
    """A JPEG with a note in its EXIF block."""
    image = Image.effect_noise((96, 64), 60).convert("RGB")
    exif = Image.Exif()
    exif[0x010E] = EXIF
    out = io.BytesIO()
    image.save(out, "JPEG", quality=85, exif=exif)
    return out.getvalue()


@dataclass(frozen=True, kw_only=True)
class Planted:
    """What was put in, and what must not be found afterwards."""

    cid: ContentId
    data: bytes
    medium: str
    specimen: str
    annotation: str
    archive: Path

    def needles(self) -> dict[str, bytes]:
        """What to look for."""
        slices = {
            "head": self.data[self.data.index(EXIF.encode()) :][:48],
            "middle": self.data[len(self.data) // 2 :][:48],
        }
        found = {"read text": READ.encode(), "folded text": READ.lower().encode(), "file name": NAME.encode(),
                 "EXIF": EXIF.encode(), "id": self.cid.hex.encode(), "digest": self.cid.digest}  # fmt: skip
        for name, part in slices.items():
            found[name] = part
            found[f"{name} as hex"] = part.hex().encode()
            for shift in range(3):
                found[f"{name} as base64 +{shift}"] = base64.b64encode(part[shift : shift + 36])
        return found


def plant(node: NodeFolder, folder: Path, *, owned: bool) -> Planted:
    """Ingests three specimens; the image of the second is in every table that can name it."""
    data, rows = picture(), rows_of(3)
    rows[1]["image"] = f"images/{NAME}.jpg|{SECOND}"
    archive = write_archive(folder, rows, images=lambda number: data if number == 1 else jpeg(number))
    if owned:
        archive = folder.with_suffix(".zip")
        with zipfile.ZipFile(archive, "w") as target:
            for item in sorted(folder.rglob("*")):
                target.write(item, item.relative_to(folder))
    ingest(node, archive)
    cid = ContentId.of(data)
    with node.database.transaction() as conn:
        media = [row["iri"] for row in conn.execute("SELECT iri FROM medium WHERE image = ? ORDER BY key", (cid.hex,))]
        specimen = conn.execute("SELECT iri FROM source_row WHERE key = 'urn:x:1'").fetchone()[0]
        annotation = _annotate(conn, node, media[0], cid)
        _work(conn, cid, media[0], specimen)
        conn.execute("INSERT INTO finding (source, key, code, message, at) VALUES ('collection', 'urn:x:1', 'x', ?, ?)",
                     (f"images/{NAME}.jpg: looked odd", STAMP))  # fmt: skip
        _retracted(conn, annotation)
    preview = node.settings.derived_path / "preview-1600" / cid.hex[:2] / f"{cid.hex}.jpg"
    preview.parent.mkdir(parents=True)
    preview.write_bytes(data[:400])
    for pipeline in ("sha256:" + "1" * 64, "sha256:" + "2" * 64):  # vectors, of an earlier pipeline too
        file = VectorFile.open(vectors_path(node.settings, pipeline), dimensions=DIMENSIONS, pipeline=pipeline)
        file.add(
            [
                VectorRow(image=cid.hex, vector=np.arange(1.0, DIMENSIONS + 1)),
                VectorRow(image="ab" * 32, vector=np.ones(DIMENSIONS)),
            ]
        )
        file.close()
    for number in range(30):  # traffic after it: freed pages, a log with old pages in it
        with node.database.transaction() as conn:
            conn.execute("INSERT OR REPLACE INTO meta VALUES ('traffic', ?)", ("x" * number * 300,))
    return Planted(cid=cid, data=data, medium=media[0], specimen=specimen, annotation=annotation, archive=archive)


def _annotate(conn, node: NodeFolder, medium: str, image: ContentId) -> str:  # type: ignore[no-untyped-def]
    iri = f"{node.settings.origin}/annotation/" + "q" * 16
    document = build_annotation(
        iri=iri, medium=medium, image=image, output=parse_output("label-text/1", json.loads(result())),
        contract="label-text/1", pipeline="sha256:" + "0" * 64, pipeline_name="label-text",
        environment="sha256:" + "1" * 64, conformance="pass", job="urn:uuid:x", answer=UnitAnswer(answer="yes"),
    )  # fmt: skip
    for body in (document, {**document, "rdfs:comment": "a second version"}):
        records.publish(
            conn, records.NewRecord(kind="annotation", iri=iri, body=body, access=AccessClass.OPEN), now=NOW
        )
    row = annotations.AnnotationRow(
        iri=iri, medium=medium, image=image.hex, output="label-text/1", pipeline="p", environment="e", work_key="w",
        job=None,
    )  # fmt: skip
    annotations.add(conn, row, now=NOW)
    statement = reviews.NewStatement(
        iri=iri, maker="machine", medium=medium, image=image.hex, output="label-text/1", pipeline="p", environment="e",
        work_key="w", job="job", document=document, summary=summarise(document), asked=True,
    )  # fmt: skip
    reviews.add(conn, statement, [CheckFinding(code="x", message=f"{READ} looks odd")], now=NOW)
    review_rules.draw_sample(conn, reviews.Rule(pipeline="p"), size=1, seed=1, by="anna", now=NOW)
    review.decide_on(conn, iri, "accepted", by="anna", reason=f"{READ} is right", now=NOW)
    return iri


def _retracted(conn, annotation: str) -> None:  # type: ignore[no-untyped-def]
    """A run that was taken back and brought back: its rows remember the image."""
    conn.execute("UPDATE job_unit SET answer = 'yes', reason = ? WHERE work_key = 'done'", (READ,))
    number = retract.begin_retraction(conn, retract.RunSelection(pipeline="p"), reason="x", by="anna", now=NOW)
    retract.begin_undo(conn, number, by="anna", now=NOW)
    while retract._step(conn, number, limit=10, now=NOW):
        pass


def result() -> bytes:
    """What a worker read."""
    line = {"text": READ, "score": "0.9", "box": [4, 6, 20, 10], "writing": "print"}
    return json.dumps(
        {"image": {"width": 96, "height": 64}, "readable": True, "doubts": [], "lines": [line]}
    ).encode()  # fmt: skip


def _work(conn, cid: ContentId, medium: str, specimen: str) -> None:  # type: ignore[no-untyped-def]
    for key, state in (("done", "done"), ("leased", "leased"), ("queued", "queued")):
        conn.execute(
            """INSERT INTO unit (work_key, output, pipeline, parameters, image, environment, state, attempt, body, created)
               VALUES (?, 'label-text/1', 'p', '{}', ?, 'e', ?, 1, ?, ?)""",
            (key, cid.hex, state, result() if state == "done" else None, STAMP),
        )
        conn.execute(
            """INSERT INTO job_unit (job_id, ordinal, step, work_key, specimen, medium, image)
               VALUES ('job', (SELECT coalesce(max(ordinal), 0) + 1 FROM job_unit), 'label-text/1', ?, ?, ?, ?)""",
            (key, specimen, medium, cid.hex),
        )


def remains(folder: Path, needles: dict[str, bytes]) -> list[str]:
    """Where in the files of a folder something is found: the names of the files too."""
    found = [f"{path.name} is named so ({name})" for path in folder.rglob("*") for name, text in needles.items()
             if text in path.name.encode()]  # fmt: skip
    for path in files_of(folder):
        data = path.read_bytes()
        found += [f"{path.relative_to(folder)}: {name}" for name, text in needles.items() if text in data]
    return found


def files_of(folder: Path) -> Iterator[Path]:
    """Every regular file below a folder."""
    return (path for path in sorted(folder.rglob("*")) if path.is_file())
