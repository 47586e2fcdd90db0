"""``label-text/1``: lines of text on labels, read by PP-OCRv6 through rapidocr and ONNX Runtime.

The models lie inside the rapidocr wheel; nothing is fetched. Full resolution up to ``maxSide``, because labels on a
whole sheet are small; small images are enlarged, because the detector was trained on larger letters.
Printed and typed text is read nearly without error; handwriting mostly is not, so lines of low confidence are
marked ``uncertain``, and an image on which much is uncertain is not called readable: then what was not found can
still be there.
Where much of the text stands on its side, the image is read a second time, turned; boxes stay on the upright image.

It leaves out: joining lines to labels (``linkeddata.label_blocks``), handwriting models; lines of text that must be
turned the other way (270 degrees) are read but listed from the last to the first.
"""

import hashlib
import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

import runners.decode
from linkeddata.json_strict import Json
from linkeddata.outputs import MAX_LINE_CHARS, MAX_LINES, MAX_TEXT_CHARS
from linkeddata.pipeline import Environment, PipelineManifest, Weight
from runners.errors import PipelineUnavailable
from runners.pipeline import Pixels, Reference, Upstream, base_versions, decimal, implementation_digest, pinned

MODELS: Final = ("PP-OCRv6_det_small.onnx", "PP-OCRv6_rec_small.onnx", "ch_ppocr_mobile_v2.0_cls_mobile.onnx")
LIBRARIES: Final = ("rapidocr", "onnxruntime", "onnxruntime-gpu", "opencv-python-headless", "numpy", "pillow")
MAX_SIDE: Final = 2800
"""Longer side at which text is looked for, pixels: between speed and the small print of 20-megapixel sheets."""
ENLARGE_TO_PX: Final = 2400
ENLARGE_MAX: Final = 2.0
ENLARGE_MIN: Final = 1.2
"""Small images are enlarged up to twice, to at most 2,400 pixels: measured on 59 images with transcribed labels it
raised the share of printed words found (five letters or more, one wrong letter allowed) from 0.889 to 0.974."""
KEEP_SCORE: Final = 0.4
"""Lines below are noise: leaf veins and ruler marks."""
PRINT_SCORE: Final = 0.8
"""Printed lines that are right score above 0.9 nearly always; cursive ones below 0.75."""
READABLE_SHARE: Final = 0.7
"""Share of characters in confident lines from which an image counts as read."""
SMALL_LINE_PX: Final = 9
"""Line height under which letters have too few pixels to tell apart."""
SIDEWAYS_SHARE: Final = 0.25
"""Share of letters in boxes that stand on their side from which an image is read a second time, turned by 90 degrees:
measured on the same 59 images it finds 94 instead of 74 of the 101 words on turned labels; one image in eight is read
twice."""
SIDEWAYS_RATIO: Final = 1.5
SAME_LINE: Final = 0.5
"""Share of the smaller box that two readings of one line have in common."""
MAX_RUN: Final = 100
"""Characters without a blank in one line; the output contract refuses longer ones."""


class LabelText:
    """The adapter."""

    def manifest(self) -> PipelineManifest:
        """What it is; hashes the three model files (about 32 MB)."""
        folder = _model_folder()
        weights = tuple(
            Weight(
                name=name,
                id="hash://sha256/" + hashlib.sha256((folder / name).read_bytes()).hexdigest(),
                size_bytes=(folder / name).stat().st_size,
            )
            for name in MODELS
        )
        return PipelineManifest(
            output="label-text/1",
            name="label-text",
            version="1.0.0",
            title="Label text",
            description="Text lines of labels, PP-OCRv6 small, full resolution up to maxSide pixels",
            runtime="onnx",
            weights=weights,
            libraries=pinned(*LIBRARIES),
            parameters={"maxSide": MAX_SIDE},
            tolerance="0.1",
            implementation=implementation_digest(self, runners.decode),
        )

    def load(self) -> Environment:
        """Loads the models; the environment names the execution provider that was really given."""
        try:
            from rapidocr import RapidOCR
        except ImportError as error:
            raise PipelineUnavailable(f"label-text: {error}") from error
        import cv2

        cv2.setNumThreads(1)
        self._readers: dict[int, Any] = {}
        self._make: Any = RapidOCR
        reader = self._reader(MAX_SIDE)
        reader(np.ascontiguousarray(_draw(REFERENCE_LINES)[:, :, ::-1]))  # the library loads its models at first use
        providers = _providers(reader)
        device = "cuda" if providers.startswith("CUDA") else "cpu"
        return Environment(
            versions=base_versions(*LIBRARIES), execution_provider=providers, precision="float32", device_class=device
        )

    def run(self, pixels: Pixels, parameters: Mapping[str, Json], upstream: Upstream) -> dict[str, Json]:  # noqa: ARG002
        """Reads one image."""
        height, width = pixels.shape[:2]
        side = parameters.get("maxSide", MAX_SIDE)
        if not isinstance(side, int) or not 500 <= side <= 8000:
            side = MAX_SIDE
        scale = min(ENLARGE_MAX, ENLARGE_TO_PX / max(height, width))
        picture = np.ascontiguousarray(pixels[:, :, ::-1])
        if scale > ENLARGE_MIN:
            import cv2

            picture = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
        else:
            scale = 1.0
        lines = [
            {"text": text, "score": score, "box": _box(corners, scale, width, height)}
            for corners, text, score in self._lines(picture, side)
        ]
        flat, standing = [_only(lines, is_standing=value) for value in (False, True)]
        if _letters(standing) > SIDEWAYS_SHARE * _letters(lines):
            turned = np.ascontiguousarray(np.rot90(picture, -1))
            again = [
                {"text": text, "score": score, "box": _box(_turned_back(corners, picture), scale, width, height)}
                for corners, text, score in self._lines(turned, side)
            ]
            standing = _without_doubles([*standing, *_only(again, is_standing=True)])
        lines = [*_reading_order(flat), *_turned_reading_order(standing)][:MAX_LINES]
        readable, doubts = _judge(lines)
        return {"lines": [_as_json(line) for line in _within(lines)], "readable": readable, "doubts": doubts}

    def references(self) -> Sequence[Reference]:
        """A typed label, drawn."""
        return (Reference(name="typed-label", pixels=_draw(REFERENCE_LINES), deviation=_distance),)

    def _lines(self, picture: Pixels, side: int) -> list[tuple[Any, str, float]]:
        result = self._reader(side)(picture)
        boxes = result.boxes if result.boxes is not None else ()
        found = zip(boxes, result.txts or (), result.scores or (), strict=True)
        cleaned = [(corners, _clean(text), float(score)) for corners, text, score in found]
        return [item for item in cleaned if item[1] and item[2] >= KEEP_SCORE]

    def _reader(self, side: int) -> Any:
        reader = self._readers.get(side)
        if reader is None:
            reader = self._make(
                params={
                    "Global.max_side_len": side,
                    "Global.log_level": "error",
                    "Global.text_score": KEEP_SCORE,
                    "EngineConfig.onnxruntime.intra_op_num_threads": 1,
                    "EngineConfig.onnxruntime.inter_op_num_threads": 1,
                }
            )
            self._readers = {side: reader}
        return reader


REFERENCE_LINES: Final = ("HERBARIUM VASCULUM", "Quercus robur L.", "leg. A. Example 1907")


def _model_folder() -> Path:
    spec = importlib.util.find_spec("rapidocr")
    if spec is None or spec.origin is None:
        raise PipelineUnavailable('label-text needs rapidocr: install "vasculum[cpu]"')
    return Path(spec.origin).parent / "models"


def _providers(reader: Any) -> str:
    """Execution providers of the recogniser's session as they are, not as they were asked for."""
    session = getattr(getattr(reader.text_rec, "session", None), "session", None)
    names = session.get_providers() if session is not None else []
    return ",".join(name.removesuffix("ExecutionProvider") for name in names) or "unknown"


def _clean(text: str) -> str:
    """Printable characters only, blanks squeezed, cut to what the output contract allows."""
    words = "".join(char if char.isprintable() else " " for char in text).split()
    parts = [word[start : start + MAX_RUN] for word in words for start in range(0, len(word), MAX_RUN)]
    return " ".join(parts)[:MAX_LINE_CHARS]


def _box(corners: Any, scale: float, width: int, height: int) -> tuple[int, int, int, int]:
    points = np.asarray(corners, dtype=np.float64) / scale
    left = int(min(max(points[:, 0].min(), 0), width - 1))
    top = int(min(max(points[:, 1].min(), 0), height - 1))
    right = int(min(max(points[:, 0].max(), left + 1), width))
    bottom = int(min(max(points[:, 1].max(), top + 1), height))
    return left, top, max(1, right - left), max(1, bottom - top)


def _reading_order(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows from top to bottom, within a row from left to right; a row is what shares half of its height."""
    rows: list[list[dict[str, Any]]] = []
    for line in sorted(lines, key=lambda item: item["box"][1] + item["box"][3] / 2):
        middle = line["box"][1] + line["box"][3] / 2
        last = rows[-1][-1]["box"] if rows else None
        if last is not None and abs(middle - (last[1] + last[3] / 2)) < 0.5 * min(last[3], line["box"][3]):
            rows[-1].append(line)
        else:
            rows.append([line])
    return [line for row in rows for line in sorted(row, key=lambda item: item["box"][0])]


def _only(lines: list[dict[str, Any]], *, is_standing: bool) -> list[dict[str, Any]]:
    """Lines that stand on their side, or those that do not; boxes of a few letters say nothing and lie flat."""
    return [
        line
        for line in lines
        if (len(line["text"]) > 3 and line["box"][3] > SIDEWAYS_RATIO * line["box"][2]) == is_standing
    ]


def _letters(lines: list[dict[str, Any]]) -> int:
    return sum(len(line["text"]) for line in lines)


def _turned_back(corners: Any, picture: Pixels) -> Any:
    """Corners on the picture turned clockwise, as corners on the picture."""
    points = np.asarray(corners, dtype=np.float64)
    return np.stack([points[:, 1], picture.shape[0] - points[:, 0]], axis=1)


def _without_doubles(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of two readings of one line the one with more letters that are sure."""
    kept: list[dict[str, Any]] = []
    for line in sorted(lines, key=lambda item: -item["score"] * len(item["text"])):
        if all(_overlap(line["box"], other["box"]) < SAME_LINE for other in kept):
            kept.append(line)
    return kept


def _overlap(one: tuple[int, int, int, int], two: tuple[int, int, int, int]) -> float:
    width = min(one[0] + one[2], two[0] + two[2]) - max(one[0], two[0])
    height = min(one[1] + one[3], two[1] + two[3]) - max(one[1], two[1])
    return max(0, width) * max(0, height) / min(one[2] * one[3], two[2] * two[3])


def _turned_reading_order(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The order in which standing lines are read once the image is turned clockwise."""
    seen = [{"line": line, "box": _turned_box(line["box"])} for line in lines]
    return [item["line"] for item in _reading_order(seen)]


def _turned_box(box: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
    x, y, w, h = box
    return -(y + h), x, h, w


def _within(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    total, kept = 0, []
    for line in lines:
        total += len(line["text"])
        if total > MAX_TEXT_CHARS:
            break
        kept.append(line)
    return kept


def _judge(lines: list[dict[str, Any]]) -> tuple[bool, list[Json]]:
    characters = sum(len(line["text"]) for line in lines)
    if characters == 0:
        return False, ["no text was found"]
    doubts: list[Json] = []
    sure = sum(len(line["text"]) for line in lines if line["score"] >= PRINT_SCORE)
    if sure < READABLE_SHARE * characters:
        doubts.append("much of the text is uncertain: handwriting or blur")
    heights = sorted(min(line["box"][2:]) for line in lines)  # of a line on its side, the width
    if heights[len(heights) // 2] < SMALL_LINE_PX:
        doubts.append("the text is too small to be read surely")
    return not doubts, doubts


def _as_json(line: dict[str, Any]) -> dict[str, Json]:
    return {
        "text": line["text"],
        "score": decimal(min(1.0, max(0.0, line["score"]))),
        "box": list(line["box"]),
        "writing": "print" if line["score"] >= PRINT_SCORE else "uncertain",
    }


def _draw(lines: Sequence[str]) -> Pixels:
    from PIL import Image, ImageDraw, ImageFont

    paper = Image.new("RGB", (760, 300), (243, 238, 222))
    pen, font = ImageDraw.Draw(paper), ImageFont.load_default(40)
    for number, line in enumerate(lines):
        pen.text((40, 30 + 80 * number), line, fill=(30, 26, 22), font=font)
    return np.asarray(paper)


def _distance(body: dict[str, Json]) -> float:
    """Share of wrong letters, blanks not counted (reading machines lose them)."""
    from rapidfuzz.distance import Levenshtein

    want = "".join(REFERENCE_LINES).replace(" ", "")
    have = "".join(line["text"] for line in body["lines"]).replace(" ", "")
    return Levenshtein.distance(want, have) / len(want)
