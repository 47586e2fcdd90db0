"""``classes/1`` from a model that an operator plugged in: a folder with an ONNX classifier (``runners.model_folder``).

Nothing in the folder is believed. The bytes of the model are those that ``pipeline.toml`` names, they are looked
through (``runners.onnx_file``) before the runtime sees them, and the runtime sees them behind the walls: a worker of a
plugged model puts them up before it loads. No library of custom operators is ever registered, no second file is read.

It leaves out: detection and segmentation models, batches, providers other than the processor.
"""

import io
import json
from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import numpy as np

import runners.decode
from linkeddata.errors import DocumentError
from linkeddata.json_strict import Json
from linkeddata.outputs import parse_output
from linkeddata.outputs.shape import Box
from linkeddata.pipeline import Environment, PipelineManifest
from runners.decode import Limits, decode_upright
from runners.errors import ImageRefused, PipelineUnavailable
from runners.model_folder import (
    MAX_REFERENCE_BYTES,
    SETTINGS,
    ModelFolder,
    ModelReference,
    read_limited,
    read_model_folder,
)
from runners.onnx_file import ModelFacts, NotAModel, read_model, refusals
from runners.pipeline import Pixels, Reference, Upstream, base_versions, decimal, implementation_digest, pinned

LIBRARIES: Final = ("onnxruntime", "onnxruntime-gpu", "opencv-python-headless", "numpy", "pillow")
REFERENCE_LIMITS: Final = Limits(max_pixels=25_000_000, max_file_bytes=MAX_REFERENCE_BYTES)
MARGIN: Final = 0.05
"""Around what another pipeline found, as a share of its longer side: classifiers are trained with some background."""


class PluggedModel:
    """The adapter; one instance per folder."""

    def __init__(self, folder: str) -> None:
        self._folder = read_model_folder(Path(folder))

    def manifest(self) -> PipelineManifest:
        """What it is; hashes the files of the folder. The settings are among the weights: they shape the result."""
        folder = self._folder
        weights = tuple(folder.weight(path) for path in (folder.model, folder.path / SETTINGS, folder.labels_file))
        folder.check_hash(weights[0].id)
        needs = (folder.input.crop_to,) if folder.input.crop_to else ()
        return PipelineManifest(
            output="classes/1",
            name=folder.name,
            version=folder.version,
            title=folder.title,
            description=f"A plugged classifier for {folder.for_images}; licence of the model: {folder.licence}",
            runtime="onnx",
            weights=weights,
            libraries=pinned(*LIBRARIES),
            needs=needs,
            vocabulary=folder.labels,
            tolerance=str(folder.tolerance),
            implementation=implementation_digest(self, runners.decode),
        )  # fmt: skip

    def load(self) -> Environment:
        """Looks the model through and loads it.

        Raises:
            PipelineUnavailable: with all reasons why it may not run, or does not fit what the settings say.
        """
        try:
            import onnxruntime
        except ImportError as error:
            raise PipelineUnavailable(f'{self._folder.name}: {error}: install "vasculum[cpu]"') from error
        data = self._folder.read_model()
        facts = look_through(self._folder, data)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 4
        try:
            self._session: Any = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        except MemoryError:
            raise
        except Exception as error:  # whatever the runtime raises over a file of somebody else
            why = "it needs more memory than a worker may use" if "bad_alloc" in str(error) else _first_line(error)
            raise PipelineUnavailable(f"{self._folder.name}: the runtime refuses the model: {why}") from error
        self._input = facts.inputs[0]
        self._output = self._folder.output.layer or facts.outputs[0].name
        return Environment(
            versions=base_versions(*LIBRARIES),
            execution_provider=",".join(
                name.removesuffix("ExecutionProvider") for name in self._session.get_providers()
            ),
            precision=self._input.element, device_class="cpu",
        )  # fmt: skip

    def run(self, pixels: Pixels, parameters: Mapping[str, Json], upstream: Upstream) -> dict[str, Json]:  # noqa: ARG002
        """Classifies one image."""
        height, width = pixels.shape[:2]
        box, doubts = (0, 0, width, height), list[Json]()
        if self._folder.input.crop_to:
            found = _box_of(self._folder.input.crop_to, upstream, width, height)
            if found is None:
                doubts.append(f"nothing was found by {self._folder.input.crop_to}, so the whole image was looked at")
            box = found or box
        x, y, w, h = box
        scores = self._scores(pixels[y : y + h, x : x + w])
        return {"box": list(box), **self._as_classes(scores, doubts)}

    def references(self) -> Sequence[Reference]:
        """The images of the folder; a part that another pipeline would find is the whole image there."""
        return tuple(self._reference(item) for item in self._folder.references)

    def _reference(self, item: ModelReference) -> Reference:
        data = read_limited(item.image, MAX_REFERENCE_BYTES, within=self._folder.path)
        try:
            pixels = decode_upright(io.BytesIO(data), len(data), REFERENCE_LIMITS)
        except ImageRefused as error:
            raise PipelineUnavailable(f"{self._folder.name}: {item.image.name}: {error}") from error

        def deviation(body: dict[str, Json]) -> float:  # noqa: ARG001 - the body holds the likeliest only
            got = self._scores(pixels)
            return max(
                abs(float(expected) - float(got[self._folder.labels.index(name)]))
                for name, expected in item.scores.items()
            )

        return Reference(name=item.image.name, pixels=pixels, deviation=deviation)

    def _scores(self, pixels: Pixels) -> Any:
        settings = self._folder
        value = prepare(pixels, settings)[np.newaxis].astype(self._input.element)
        [raw] = self._session.run([self._output], {self._input.name: value})
        numbers = np.asarray(raw, dtype=np.float64).reshape(-1)
        if numbers.size != len(settings.labels):
            raise PipelineUnavailable(
                f"{settings.name}: the output has {numbers.size} numbers, {settings.labels_file.name} has "
                f"{len(settings.labels)} classes"
            )
        if not np.isfinite(numbers).all():
            raise ImageRefused("the model gives no numbers for this image")
        if settings.output.scores == "softmax":
            powers = np.exp(numbers - numbers.max())
            return powers / powers.sum()
        if settings.output.scores == "sigmoid":
            return 1 / (1 + np.exp(-np.clip(numbers, -60, 60)))
        return np.clip(numbers, 0, 1)

    def _as_classes(self, scores: Any, doubts: list[Json]) -> dict[str, Json]:
        output, labels = self._folder.output, self._folder.labels
        order = sorted(range(len(labels)), key=lambda number: (-round(float(scores[number]), 3), number))
        exclusive = output.scores != "sigmoid"  # of exclusive classes only the likeliest can hold
        classes: list[Json] = []
        for place, number in enumerate(order[: output.top]):
            score = decimal(float(scores[number]))
            holds = Decimal(score) >= output.yes and (place == 0 or not exclusive)
            classes.append({"name": labels[number], "score": score, "holds": holds})
        rounded = [Decimal(decimal(float(score))) for score in scores]
        if exclusive:
            certain = max(rounded) >= output.yes
        else:
            certain = all(score >= output.yes or score <= output.no for score in rounded)
        if not certain:
            doubts.append(
                "no class is likely enough" if exclusive else "some classes can neither be seen nor ruled out"
            )
        return {"classes": classes, "certain": certain and not doubts, "doubts": doubts}


def look_through(folder: ModelFolder, data: bytes) -> ModelFacts:
    """What stands in the model, when it may run and fits what the settings say.

    Raises:
        PipelineUnavailable: with every reason, separated by semicolons.
    """
    try:
        facts = read_model(data)
    except NotAModel as error:
        raise PipelineUnavailable(f"{folder.name}: model.onnx cannot be used: {error}") from error
    problems = [*refusals(facts), *misfits(folder, facts)]
    if problems:
        raise PipelineUnavailable(f"{folder.name}: model.onnx cannot be used: {'; '.join(problems)}")
    return facts


def misfits(folder: ModelFolder, facts: ModelFacts) -> list[str]:
    """Where the model is not what the settings say, one sentence each."""
    found: list[str] = []
    if len(facts.inputs) != 1:
        return [f"it has {len(facts.inputs)} inputs: a classifier takes one image"]
    [taken], wanted = facts.inputs, folder.input
    if taken.element not in ("float32", "float16", "float64", "uint8"):
        found.append(f"its input {taken.name!r} is of {taken.element}: an image is float32, float16, float64 or uint8")
    sides = (3, wanted.height, wanted.width) if wanted.layout == "NCHW" else (wanted.height, wanted.width, 3)
    expected = (1, *sides)
    if len(taken.shape) != 4 or any(
        isinstance(has, int) and has != want for has, want in zip(taken.shape, expected, strict=True)
    ):
        found.append(f"its input has the shape {_shape(taken.shape)}, the settings make {_shape(expected)}")
    names = [item.name for item in facts.outputs]
    if folder.output.layer and folder.output.layer not in names:
        found.append(f"it has no output {folder.output.layer!r}; it has {', '.join(names)[:200]}")
    elif not folder.output.layer and len(names) != 1:
        found.append(f"it has {len(names)} outputs ({', '.join(names)[:200]}): say with output.layer which one")
    else:
        given = next(item for item in facts.outputs if item.name == (folder.output.layer or item.name))
        last = given.shape[-1] if given.shape else "?"
        if isinstance(last, int) and last != len(folder.labels):
            found.append(
                f"its output {given.name!r} has {last} numbers, "
                f"{folder.labels_file.name} has {len(folder.labels)} classes"
            )
    return found


def prepare(pixels: Pixels, folder: ModelFolder) -> Any:
    """An image as the model takes it: (channels, height, width) or (height, width, channels), float64."""
    import cv2

    settings = folder.input
    height, width = pixels.shape[:2]
    if settings.resize == "squash":
        scale_x, scale_y = settings.width / width, settings.height / height
    else:
        choose = max if settings.resize == "crop" else min
        scale_x = scale_y = choose(settings.width / width, settings.height / height)
    size = max(1, round(width * scale_x)), max(1, round(height * scale_y))
    how = cv2.INTER_AREA if scale_x * scale_y < 1 else cv2.INTER_LINEAR
    picture = cv2.resize(np.ascontiguousarray(pixels), size, interpolation=how)
    picture = _fit(picture, settings.width, settings.height)
    if settings.channels == "BGR":
        picture = picture[:, :, ::-1]
    mean, std = (np.array([float(item) for item in three]) for three in (settings.mean, settings.std))
    if settings.channels == "BGR":
        mean, std = mean[::-1], std[::-1]
    value = (picture.astype(np.float64) / float(settings.scale) - mean) / std
    return np.ascontiguousarray(value.transpose(2, 0, 1) if settings.layout == "NCHW" else value)


def _fit(picture: Pixels, width: int, height: int) -> Pixels:
    """The middle of what is too large, black around what is too small."""
    high, wide = picture.shape[:2]
    top, left = max(0, (high - height) // 2), max(0, (wide - width) // 2)
    picture = picture[top : top + height, left : left + width]
    high, wide = picture.shape[:2]
    out = np.zeros((height, width, 3), dtype=np.uint8)
    top, left = (height - high) // 2, (width - wide) // 2
    out[top : top + high, left : left + wide] = picture
    return out


def _box_of(contract: str, upstream: Upstream, width: int, height: int) -> Box | None:
    """Around everything that another pipeline found; None when it found nothing."""
    try:
        regions = parse_output(contract, json.loads(json.dumps(upstream[contract]))).regions()
    except (DocumentError, KeyError):
        return None
    if not regions:
        return None
    left = min(region.box[0] for region in regions)
    top = min(region.box[1] for region in regions)
    right = max(region.box[0] + region.box[2] for region in regions)
    bottom = max(region.box[1] + region.box[3] for region in regions)
    margin = round(MARGIN * max(right - left, bottom - top))
    left, top = max(0, left - margin), max(0, top - margin)
    return left, top, min(width, right + margin) - left, min(height, bottom + margin) - top


def _shape(shape: Sequence[int | str]) -> str:
    return " x ".join(str(item) for item in shape) or "unknown"


def _first_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
