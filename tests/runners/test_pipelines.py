"""The reading pipelines on pictures whose content is known."""

import random
from types import SimpleNamespace

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
    output = check("label-text/1", reader.run(sheet, {}, {}), sheet)
    assert isinstance(output, LabelText)
    assert output.readable
    lines = [TextLine(text=line.text, score=float(line.score), box=line.box) for line in output.lines]
    [match] = match_lines(parse_match('"Herbarium Martii"'), lines)
    x, y, w, h = match.box
    assert 480 <= x and x + w <= 945 and 515 <= y and y + h <= 745


@pytest.mark.parametrize("quarters", [1, pytest.param(3, marks=pytest.mark.long)])
def test_a_sheet_photographed_sideways_is_read_where_it_is(
    sheet: np.ndarray, reader: LabelTextPipeline, quarters: int
) -> None:
    """No EXIF flag says so: the pixels themselves lie on their side."""
    turned = np.ascontiguousarray(np.rot90(sheet, quarters))
    output = check("label-text/1", reader.run(turned, {}, {}), turned)
    assert isinstance(output, LabelText)
    lines = [TextLine(text=line.text, score=float(line.score), box=line.box) for line in output.lines]
    [match] = match_lines(parse_match('"Herbarium Martii"'), lines)
    mask = np.zeros(sheet.shape[:2], dtype=bool)
    mask[515:745, 475:945] = True
    mask = np.rot90(mask, quarters)
    x, y, w, h = match.box
    assert h > 2 * w
    assert mask[y : y + h, x : x + w].all()
    assert len({line.text for line in output.lines}) == len(output.lines), "a line was read twice"
    if quarters == 1:
        text = " ".join(line.text for line in output.lines)
        assert text.index("Herbarium") < text.index("campestre") < text.index("1907")


class Scripted:
    """A reader whose two readings are given: of the image as it is, and of the image turned clockwise."""

    def __init__(self, upright: list[tuple[tuple[int, int, int, int], str, float]], turned: list[object]) -> None:
        self.upright, self.turned, self.shapes = upright, turned, []

    def __call__(self, picture: np.ndarray) -> SimpleNamespace:
        self.shapes.append(picture.shape[:2])
        found = self.upright if len(self.shapes) == 1 else self.turned
        boxes = [[[x, y], [x + w, y], [x + w, y + h], [x, y + h]] for (x, y, w, h), _, _ in found]
        return SimpleNamespace(boxes=boxes, txts=[item[1] for item in found], scores=[item[2] for item in found])


def scripted(upright: list[object], turned: list[object]) -> tuple[dict[str, object], Scripted]:
    pipeline, reader = LabelTextPipeline(), Scripted(upright, turned)  # type: ignore[arg-type]
    pipeline._readers = {2800: reader}
    body = pipeline.run(np.zeros((2000, 2500, 3), dtype=np.uint8), {}, {})
    return body, reader


def test_text_on_its_side_is_read_again_turned_and_keeps_its_place() -> None:
    """On a sheet 2500 wide and 2000 high, the turned point (X, Y) is the point (Y, 2000 - X)."""
    standing = [
        ((100, 500, 40, 600), "HERBARIVM VASCVLVM", 0.7),
        ((220, 700, 40, 400), "leg. A. Example 1907", 0.95),
        ((900, 50, 500, 40), "a flat line", 0.9),
    ]
    turned = [
        ((900, 100, 600, 40), "HERBARIUM VASCULUM", 0.98),  # the same line, read better
        ((900, 160, 500, 40), "Quercus robur L.", 0.97),  # one that was overlooked
        ((1910, 900, 40, 500), "flat there is tall here", 0.99),  # what lies flat was read the first time
    ]
    body, reader = scripted(standing, turned)
    assert reader.shapes == [(2000, 2500), (2500, 2000)]
    assert [(line["text"], line["box"]) for line in body["lines"]] == [
        ("a flat line", [900, 50, 500, 40]),
        ("HERBARIUM VASCULUM", [100, 500, 40, 600]),
        ("Quercus robur L.", [160, 600, 40, 500]),
        ("leg. A. Example 1907", [220, 700, 40, 400]),
    ]


def test_a_few_letters_on_their_side_are_not_worth_a_second_reading() -> None:
    flat = [((100, 100 + 60 * number, 900, 40), "a long flat line of text", 0.9) for number in range(10)]
    body, reader = scripted([*flat, ((2000, 300, 40, 400), "ruler 10 cm", 0.9), ((2200, 300, 20, 80), "12", 0.9)], [])
    assert len(reader.shapes) == 1
    assert len(body["lines"]) == 12


def test_an_empty_sheet_is_not_called_read(reader: LabelTextPipeline) -> None:
    pixels = np.asarray(drawing.paper(600, 400, random.Random(1)))
    output = check("label-text/1", reader.run(pixels, {}, {}), pixels)
    assert isinstance(output, LabelText)
    assert not output.readable
    assert output.doubts


def test_barcodes_are_read_and_only_they(sheet: np.ndarray) -> None:
    pipeline = Barcode()
    pipeline.load()
    output = check("barcode/1", pipeline.run(sheet, {}, {}), sheet)
    assert isinstance(output, Barcodes)
    assert [(code.symbology, code.payload) for code in output.codes] == [("Code128", "HEX 100037")]
    pixels = np.asarray(drawing.paper(600, 400, random.Random(1)))
    assert pipeline.run(pixels, {}, {})["codes"] == []


def test_quality_tells_sharp_from_blurred(sheet: np.ndarray) -> None:
    import cv2

    pipeline = QualityPipeline()
    pipeline.load()
    sharp = check("quality/1", pipeline.run(sheet, {}, {}), sheet)
    blurred = check("quality/1", pipeline.run(cv2.GaussianBlur(sheet, (0, 0), 6), {}, {}), sheet)
    assert isinstance(sharp, Quality)
    assert isinstance(blurred, Quality)
    assert (sharp.verdicts["sharpness"], blurred.verdicts["sharpness"]) == ("good", "poor")


@pytest.mark.parametrize("make", [LabelTextPipeline, Barcode, QualityPipeline])
def test_manifests_are_stable_and_references_conform(make: type) -> None:
    from runners.engine import conforms

    assert make().manifest().digest == make().manifest().digest
    pipeline = make()
    pipeline.load()
    deviations = {
        item.name: f"{item.deviation(pipeline.run(item.pixels, {}, {})):.6f}" for item in pipeline.references()
    }
    assert deviations
    assert conforms(pipeline.manifest(), deviations), deviations
    assert not conforms(pipeline.manifest(), {"x": "0.99"})
