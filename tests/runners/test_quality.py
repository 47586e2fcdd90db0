"""Quality on made sheets that were made worse on purpose: what is worse is measured as worse, and the reason says what."""

import random

import cv2
import numpy as np
import pytest
from PIL import Image

from linkeddata.errors import OutputRefused
from linkeddata.outputs import Quality, parse_output
from node.demo import drawing
from runners.pipelines.quality import Quality as QualityPipeline


@pytest.fixture(scope="module")
def sheet() -> np.ndarray:
    rng = random.Random(3)
    image = Image.new("RGB", (900, 1100), (240, 236, 224))
    drawing.draw_plant(image, (200, 120, 420, 560), rng)
    text = drawing.LabelText(
        heading="Herbarium of a made place", lines=("Carex montana L.", "on chalk, 430 m, 1907", "leg. Nobody")
    )
    drawing.draw_label(image, (500, 820, 360, 220), text, rng)
    drawing.draw_label(image, (40, 820, 360, 220), text, rng)
    return np.asarray(image)


def judge(pixels: np.ndarray) -> Quality:
    body = QualityPipeline().run(np.ascontiguousarray(pixels), {}, {})
    output = parse_output("quality/1", {**body, "image": {"width": pixels.shape[1], "height": pixels.shape[0]}})
    assert isinstance(output, Quality)
    assert set(output.reasons) == {name for name, verdict in output.verdicts.items() if verdict == "poor"}
    return output


def test_more_blur_is_less_sharp(sheet: np.ndarray) -> None:
    values = [float(judge(sheet).measures["sharpness"])]
    values += [float(judge(cv2.GaussianBlur(sheet, (0, 0), sigma)).measures["sharpness"]) for sigma in (0.7, 1.5, 3, 6)]
    assert values == sorted(values, reverse=True)
    worst = judge(cv2.GaussianBlur(sheet, (0, 0), 6))
    assert worst.verdicts["sharpness"] == "poor"
    assert "blurred" in worst.answer(None).reason


def test_light(sheet: np.ndarray) -> None:
    means = [float(judge((sheet * share).astype(np.uint8)).measures["mean"]) for share in (1.0, 0.6, 0.3, 0.1)]
    assert means == sorted(means, reverse=True)
    assert judge((sheet * 0.1).astype(np.uint8)).reasons["exposure"] == "too dark"
    assert judge(np.clip(sheet.astype(int) + 120, 0, 255).astype(np.uint8)).reasons["clipping"]
    assert judge(sheet).verdicts["exposure"] == "good"


@pytest.mark.parametrize("degrees", [-6.0, 0.0, 1.0, 4.0])
def test_skew(sheet: np.ndarray, degrees: float) -> None:
    framed = cv2.copyMakeBorder(sheet, 200, 200, 200, 200, cv2.BORDER_CONSTANT, value=(40, 40, 44))
    middle = (framed.shape[1] / 2, framed.shape[0] / 2)
    turned = cv2.warpAffine(
        framed, cv2.getRotationMatrix2D(middle, -degrees, 1.0), framed.shape[1::-1], borderValue=(40, 40, 44)
    )
    output = judge(turned)
    assert abs(float(output.measures["skew"]) - degrees) < 0.6
    assert output.verdicts["skew"] == ("poor" if abs(degrees) > 2 else "good")


def test_text_that_runs_upright(sheet: np.ndarray) -> None:
    assert judge(sheet).verdicts["orientation"] == "good"
    assert "quarter" in judge(np.rot90(sheet)).reasons["orientation"]
    plain = judge(np.full((700, 700, 3), 230, dtype=np.uint8))
    assert "orientation" not in plain.verdicts
    assert any("orientation is not known" in doubt for doubt in plain.doubts)


def test_what_is_cut_off(sheet: np.ndarray) -> None:
    assert judge(sheet).verdicts["border"] == "good"
    leaf = np.full((600, 700, 3), 240, dtype=np.uint8)
    leaf[200:, 150:600] = (70, 90, 40)
    assert "cut off" in judge(leaf).reasons["border"]


@pytest.mark.parametrize("shape", [(1, 1), (1, 700), (226, 90), (700, 2)])
def test_odd_images(shape: tuple[int, int]) -> None:
    for pixels in (np.zeros((*shape, 3), np.uint8), np.random.default_rng(2).integers(0, 256, (*shape, 3), np.uint8)):
        assert judge(pixels).measures["megapixels"]


def test_results_from_before_there_were_reasons() -> None:
    body = {"image": {"width": 9, "height": 9}, "measures": {}, "verdicts": {"size": "poor"}, "doubts": []}
    output = parse_output("quality/1", body)
    assert output.answer(None).reason == "poor: size"
    for reasons in ({"size": 3}, {"sharpness": "why"}, {"size": "x" * 121}):
        with pytest.raises(OutputRefused):
            parse_output("quality/1", {**body, "reasons": reasons})
