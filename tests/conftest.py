"""Fixtures that several parts share: fixed time, small made archives, a whole node in a temporary folder."""

import io
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from node.folder import NodeFolder, open_folder
from node.services.ingest import Ingest
from node.services.ingest_report import IngestReport
from node.services.intake_source import open_intake
from node.setup import NewNode, create_node

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
NOW = datetime(2026, 11, 24, 12, 0, 0, tzinfo=UTC)
ORIGIN = "http://127.0.0.1:8765"
ROOT = Path(__file__).parent.parent

FIGURES = pytest.StashKey[list[str]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[FIGURES] = []


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if config.stash[FIGURES]:
        terminalreporter.section("figures")
        for line in sorted(config.stash[FIGURES]):
            terminalreporter.write_line(line)


@pytest.fixture
def figures(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Notes what a fault suite counted; said at the end of the run, with the seconds since the test began."""
    began = time.monotonic()

    def note(what: str, **counts: int) -> None:
        said = ", ".join(f"{name.replace('_', ' ')} {count}" for name, count in counts.items())
        request.config.stash[FIGURES].append(f"{what}: {said}, {time.monotonic() - began:.0f} s")

    return note


def shared_folder() -> Path:
    """Where the real specimen images are, if they are."""
    return Path(os.environ.get("VASCULUM_SHARED", ROOT.parent / "shared"))


@pytest.fixture
def shared_data() -> Path:
    folder = shared_folder() / "data"
    assert folder.is_dir(), f"the tier real_data needs {folder}"
    return folder


def jpeg(seed: int, *, size: tuple[int, int] = (64, 48), orientation: int = 1) -> bytes:
    """A small JPEG that differs by seed."""
    pixels = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    exif = Image.Exif()
    exif[0x0112] = orientation
    out = io.BytesIO()
    image.save(out, "JPEG", quality=80, exif=exif)
    return out.getvalue()


OCCURRENCE_TERMS = (
    "occurrenceID", "basisOfRecord", "institutionCode", "collectionCode", "catalogNumber", "scientificName", "kingdom",
    "family", "recordedBy", "eventDate", "country", "locality", "verbatimLabel", "decimalLatitude", "decimalLongitude",
)  # fmt: skip


def write_archive(
    folder: Path,
    rows: Sequence[dict[str, str]],
    *,
    licence: str = "CC0",
    images: Callable[[int], bytes] | None = None,
) -> Path:
    """A Darwin Core Archive folder; each row may name ``image`` (a path) and ``licence``."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "images").mkdir(exist_ok=True)
    core = ["\t".join(OCCURRENCE_TERMS)]
    media = ["coreid\ttype\tformat\tidentifier\tlicense"]
    for number, row in enumerate(rows):
        core.append("\t".join(row.get(term, "") for term in OCCURRENCE_TERMS))
        for path in filter(None, row.get("image", "").split("|")):
            media.append(
                "\t".join((row["occurrenceID"], "StillImage", "image/jpeg", path, row.get("licence", licence)))
            )
            target = folder / path
            if not target.exists() and not path.startswith("http") and images is not None:
                target.write_bytes(images(number))
    (folder / "occurrence.txt").write_text("\n".join(core) + "\n", "utf-8")
    (folder / "multimedia.txt").write_text("\n".join(media) + "\n", "utf-8")
    fields = "".join(
        f'<field index="{i}" term="http://rs.tdwg.org/dwc/terms/{term}"/>' for i, term in enumerate(OCCURRENCE_TERMS)
    )
    form = 'encoding="UTF-8" fieldsTerminatedBy="\\t" linesTerminatedBy="\\n" fieldsEnclosedBy="" ignoreHeaderLines="1"'
    dc = "".join(
        f'<field index="{i}" term="http://purl.org/dc/terms/{term}"/>'
        for i, term in ((1, "type"), (2, "format"), (3, "identifier"), (4, "license"))
    )
    (folder / "meta.xml").write_text(
        f'<archive xmlns="http://rs.tdwg.org/dwc/text/"><core {form} rowType="http://rs.tdwg.org/dwc/terms/Occurrence">'
        f'<files><location>occurrence.txt</location></files><id index="0"/>{fields}</core>'
        f'<extension {form} rowType="http://rs.gbif.org/terms/1.0/Multimedia"><files><location>multimedia.txt</location>'
        f'</files><coreid index="0"/>{dc}</extension></archive>',
        "utf-8",
    )
    return folder


def rows_of(count: int, *, start: int = 0, **extra: str) -> list[dict[str, str]]:
    """Plain rows with one image each."""
    return [
        {
            "occurrenceID": f"urn:x:{number}", "basisOfRecord": "PreservedSpecimen", "institutionCode": "X",
            "collectionCode": "C", "catalogNumber": f"X-{number}", "scientificName": f"Planta numero{number}",
            "kingdom": "Plantae", "family": "Testaceae", "recordedBy": "A. Collector", "eventDate": "1901-05-02",
            "country": "Germany", "locality": f"Place {number}", "image": f"images/{number}.jpg", **extra,
        }
        for number in range(start, start + count)
    ]  # fmt: skip


@pytest.fixture
def make_node(tmp_path: Path) -> Iterator[Callable[..., NodeFolder]]:
    """Makes and opens nodes; ``settings`` is appended to node.toml."""
    stack = ExitStack()

    def make(name: str = "node", *, settings: str = "", policy: str = "reading", origin: str = ORIGIN) -> NodeFolder:
        folder = tmp_path / name
        create_node(
            folder,
            NewNode(
                name="Test node", public_url=origin, insecure_loopback=True, policy=policy, contact="ask@x.example"
            ),  # type: ignore[arg-type]
            now=NOW,
        )
        if settings:
            with (folder / "node.toml").open("a", encoding="utf-8") as stream:
                stream.write("\n" + settings)
        return stack.enter_context(open_folder(folder))

    yield make
    stack.close()


def ingest(node: NodeFolder, path: Path, *, source: str = "collection", **options: object) -> IngestReport:
    """Runs an ingest as the command does."""
    with open_intake(path, source) as intake:
        return Ingest(node.settings, node.database, node.blobs, intake, clock=lambda: NOW).run(**options)  # type: ignore[arg-type]


def run_python(code: str, *arguments: str, **options: object) -> subprocess.Popen[bytes]:
    """A child interpreter with this checkout on its path."""
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}", "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        [sys.executable, "-P", "-c", code, *arguments],
        stdout=subprocess.PIPE,
        env=environment,
        **options,  # type: ignore[call-overload]
    )
