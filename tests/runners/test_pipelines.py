"""The reading pipelines on pictures whose content is known."""

import random

import numpy as np
import pytest

from linkeddata.matching import TextLine, match_lines, parse_match
from linkeddata.outputs import Barcodes, LabelText, Quality, parse_output
from node.demo import drawing
from node.demo.drawing import LabelText as Label
from runners.pipelines.barcode import Barcode
from runners.pipelines.label_text import LabelText as LabelTextPipeline
from runners.pipelines.quality import Quality as QualityPipeline


def check(contract: str, body: dict[str, object], pixels: np.ndarray) -> object:
    return parse_output(contract, {**body, "image": {"width": pixels.shape[1], "height": pixels.shape[0]}})


@pytest.fixture(scope="module")
def sheet() -> np.ndarray:
    rng = random.Random(5)
    image = drawing.paper(1000, 800, rng)
    drawing.draw_label(
        image, (480, 520, 460, 220), Label(heading="Herbarium Martii", lines=("Acer campestre L.", "leg. 1907")), rng
    )
    drawing.draw_barcode(image, 60, 60, "HEX 100037", "Hortus")
    return np.asarray(image)


@pytest.fixture(scope="module")
def reader() -> LabelTextPipeline:
    made = LabelTextPipeline()
    made.load()
    return made


def test_typed_labels_are_read_where_they_are(sheet: np.ndarray, reader: LabelTextPipeline) -> None:
    output = check("label-text/1", reader.run(sheet, {}), sheet)
    assert isinstance(output, LabelText)
    assert output.readable
    lines = [TextLine(text=line.text, score=float(line.score), box=line.box) for line in output.lines]
    [match] = match_lines(parse_match('"Herbarium Martii"'), lines)
    x, y, w, h = match.box
    assert 480 <= x and x + w <= 945 and 515 <= y and y + h <= 745


def test_an_empty_sheet_is_not_called_read(reader: LabelTextPipeline) -> None:
    pixels = np.asarray(drawing.paper(600, 400, random.Random(1)))
    output = check("label-text/1", reader.run(pixels, {}), pixels)
    assert isinstance(output, LabelText)
    assert not output.readable
    assert output.doubts


def test_barcodes_are_read_and_only_they(sheet: np.ndarray) -> None:
    pipeline = Barcode()
    pipeline.load()
    output = check("barcode/1", pipeline.run(sheet, {}), sheet)
    assert isinstance(output, Barcodes)
    assert [(code.symbology, code.payload) for code in output.codes] == [("Code128", "HEX 100037")]
    pixels = np.asarray(drawing.paper(600, 400, random.Random(1)))
    assert pipeline.run(pixels, {})["codes"] == []


def test_quality_tells_sharp_from_blurred(sheet: np.ndarray) -> None:
    import cv2

    pipeline = QualityPipeline()
    pipeline.load()
    sharp = check("quality/1", pipeline.run(sheet, {}), sheet)
    blurred = check("quality/1", pipeline.run(cv2.GaussianBlur(sheet, (0, 0), 6), {}), sheet)
    assert isinstance(sharp, Quality)
    assert isinstance(blurred, Quality)
    assert (sharp.verdicts["sharpness"], blurred.verdicts["sharpness"]) == ("good", "poor")


@pytest.mark.parametrize("make", [LabelTextPipeline, Barcode, QualityPipeline])
def test_manifests_are_stable_and_references_conform(make: type) -> None:
    from runners.engine import conforms

    assert make().manifest().digest == make().manifest().digest
    pipeline = make()
    pipeline.load()
    deviations = {item.name: f"{item.deviation(pipeline.run(item.pixels, {})):.6f}" for item in pipeline.references()}
    assert deviations
    assert conforms(pipeline.manifest(), deviations), deviations
    assert not conforms(pipeline.manifest(), {"x": "0.99"})
