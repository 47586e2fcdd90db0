"""The covered picture is read by our own reader of labels, which must find nothing of what it read before."""

import csv
import io
import re
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ingest, rows_of, write_archive
from PIL import Image
from rapidfuzz import fuzz
from redact_world import (
    REDACTED,
    SENSITIVE,
    WORDS,
    approve,
    derivative_of,
    filled,
    keep,
    pixels,
    settle,
    sheet,
    why_not,
)

from cas.ids import ContentId
from linkeddata import redaction
from node.cli.main import run
from node.demo import drawing
from node.folder import NodeFolder
from runners.pipelines.barcode import Barcode
from runners.pipelines.label_text import LabelText

Make = Callable[..., NodeFolder]
NUMBER = "HEX 100037"
ALIKE = 80
"""Of 100: so alike two words count as the same; a reading machine errs in one letter of five."""


@pytest.fixture(scope="module")
def reader() -> LabelText:
    made = LabelText()
    made.load()
    return made


@pytest.fixture(scope="module")
def code_reader() -> Barcode:
    made = Barcode()
    made.load()
    return made


@cache
def coded_sheet() -> bytes:
    """The common sheet with a barcode."""
    with Image.open(io.BytesIO(sheet())) as image:
        drawn = image.convert("RGB")
    drawing.draw_barcode(drawn, 560, 80, NUMBER, "Hortus")
    out = io.BytesIO()
    drawn.save(out, "JPEG", quality=92)
    return out.getvalue()


def read(reader: LabelText | Barcode, picture: "np.ndarray[Any, Any]") -> dict[str, Any]:
    size = {"width": picture.shape[1], "height": picture.shape[0]}
    return {"image": size, **reader.run(picture, {}, {})}


def found(words: Iterable[str], body: dict[str, Any]) -> list[str]:
    """Words that stand in what was read, or nearly."""
    text = " ".join(line["text"] for line in body["lines"]).lower()
    return [
        word for word in words if text and fuzz.partial_ratio(word.lower(), text) >= ALIKE and len(text) >= len(word)
    ]


def covered_picture(node: NodeFolder, image: str) -> "np.ndarray[Any, Any]":
    """What is given out after a person approved it."""
    approve(node, image)
    assert settle(node).made == 1
    made = derivative_of(node, image)
    assert made is not None
    with node.blobs.open_blob(ContentId.from_hex(made)) as blob:
        return pixels(blob.pread(0, blob.size))


@pytest.fixture(scope="module")
def body(reader: LabelText) -> dict[str, Any]:
    """What is read on the common sheet."""
    return read(reader, pixels(coded_sheet()))


@pytest.mark.long
def test_our_own_reader_finds_nothing_on_the_covered_picture(
    make_node: Make, tmp_path: Path, reader: LabelText, code_reader: Barcode, body: dict[str, Any]
) -> None:
    node = make_node(settings=REDACTED + SENSITIVE)
    image = filled(node, tmp_path / "a", data=coded_sheet())
    codes = read(code_reader, pixels(coded_sheet()))
    assert found(WORDS, body) == list(WORDS)
    assert [code["payload"] for code in codes["codes"]] == [NUMBER]
    keep(node, image, body)
    keep(node, image, codes, output="barcode/1", version="2")
    covered = covered_picture(node, image)
    again = read(reader, covered)
    assert found([*WORDS, "Collector", "Hortus", NUMBER], again) == []
    assert again["lines"] == []
    assert read(code_reader, covered)["codes"] == []


@pytest.mark.long
def test_a_box_that_is_forgotten_is_noticed(
    make_node: Make, tmp_path: Path, reader: LabelText, body: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = redaction.cover

    def careless(boxes: Any, width: int, height: int, *, areas: Any) -> Any:
        return plain(sorted(boxes, key=lambda box: box[1])[:-3], width, height, areas=areas)

    monkeypatch.setattr(redaction, "cover", careless)
    node = make_node(settings=REDACTED + SENSITIVE)
    image = filled(node, tmp_path / "a", data=coded_sheet())
    keep(node, image, body)
    assert found(WORDS, read(reader, covered_picture(node, image))) != []


SHEETS = (
    "aafc__specimen_005.jpg", "plantclef_kymillev__172695.jpg", "nybg_herbarium_comp__specimen3.jpg",
    "plantclef_kymillev__L__0059912.jpg",
)  # fmt: skip


@pytest.mark.real_data
@pytest.mark.timeout(1800)
def test_real_sheets(
    make_node: Make, tmp_path: Path, shared_data: Path, reader: LabelText, capsys: pytest.CaptureFixture[str]
) -> None:
    """Through the command, with its own worker processes: what can be covered holds no word of its labels."""
    rules = "".join(f'[[sensitive]]\nvalue = "Planta numero{number}"\ncategory = 1\n' for number in range(len(SHEETS)))
    node = make_node(settings=REDACTED + rules)
    files = [(shared_data / "herbarium/images" / name).read_bytes() for name in SHEETS]
    ingest(node, write_archive(tmp_path / "a", rows_of(len(SHEETS)), images=lambda number: files[number]))
    folder, look = str(node.settings.folder), tmp_path / "look"
    assert run(["images", "redact", folder, "--read", "--preview", str(look)]) == 0
    assert run(["images", "redact", folder, "--approve", str(look)]) == 0
    printed = capsys.readouterr()
    assert "warning" not in printed.err, printed.err
    with (shared_data / "truth/labels.tsv").open(encoding="utf-8") as stream:
        truth = list(csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE))
    covered = 0
    for name, data in zip(SHEETS, files, strict=True):
        image = ContentId.of(data).hex
        made = derivative_of(node, image)
        if made is None:
            assert "uncertain" in why_not(node, image) or "doubts" in why_not(node, image), name
            continue
        covered += 1
        words = {word for row in truth if row["file"] == name and row["kind"] == "printed"
                 for word in re.findall(r"[A-Za-z]{5,}", row["text"])}  # fmt: skip
        with node.blobs.open_blob(ContentId.from_hex(made)) as blob:
            body = read(reader, pixels(blob.pread(0, blob.size)))
        assert found(sorted(words), body) == [], name
    assert 2 <= covered < len(SHEETS), "some can be covered, and one has handwriting"
