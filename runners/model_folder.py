"""A plugged model: a folder with ``model.onnx``, the names of its classes and ``pipeline.toml``: how to use it.

Owns: reading and checking ``pipeline.toml``. docs/how-to-pipelines.md shows one.

Invariants:
- An unknown key, a wrong type or a missing file is an error that names it and says what to write.
- Nothing outside the folder is read, whatever the file says; sizes are limited before anything is read whole.
- Nothing is run here; numbers are decimal texts, so that they go into documents as they are.

It leaves out: what stands in the model (``runners.onnx_file``), running it (``runners.pipelines.plugged``).
"""

import contextlib
import hashlib
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path, PurePosixPath
from typing import IO, Any, Final, Literal

from linkeddata.outputs import CONTRACTS
from linkeddata.outputs.classes import MAX_CLASS_CHARS, MAX_CLASSES, MAX_VOCABULARY
from linkeddata.pipeline import Weight
from runners.errors import PipelineUnavailable

SETTINGS: Final = "pipeline.toml"
MAX_SETTINGS_BYTES: Final = 262_144
MAX_LABELS_BYTES: Final = 2_097_152
MAX_MODEL_BYTES: Final = 1_073_741_824
"""1 GiB: ten times the largest image classifier in use; a worker would not have the memory for more."""
MAX_REFERENCE_BYTES: Final = 8_388_608
MAX_REFERENCES: Final = 16
MAX_SIDE_PX: Final = 2048
"""Of the model's input."""
Resize = Literal["squash", "crop", "letterbox"]
"""``squash``: both sides to the input size; ``crop``: the shorter side, then the middle; ``letterbox``: the longer
side, the rest black."""
Scores = Literal["softmax", "sigmoid", "none"]
"""How numbers become scores; ``none``: they are scores already."""


class ModelFolderError(PipelineUnavailable):
    """The folder cannot be used; the message says what to change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelInput:
    """What the model takes."""

    width: int
    height: int
    layout: Literal["NCHW", "NHWC"]
    channels: Literal["RGB", "BGR"]
    resize: Resize
    scale: Decimal
    """Values of 0 to 255 are divided by it, before ``mean`` and ``std``."""
    mean: tuple[Decimal, Decimal, Decimal]
    std: tuple[Decimal, Decimal, Decimal]
    crop_to: str
    """Output contract of another pipeline: what lies outside of the regions that it found is not looked at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelOutput:
    """What comes out of it."""

    layer: str
    """Name of the output; empty: it has one."""
    scores: Scores
    yes: Decimal
    """From this score on a class holds."""
    no: Decimal
    """Up to this score one does not; between the two it cannot be told."""
    top: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelReference:
    """An image with the scores that the model gave where it was trained."""

    image: Path
    scores: Mapping[str, Decimal]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFolder:
    """A model with everything that is said about it."""

    path: Path
    name: str
    version: str
    title: str
    licence: str
    for_images: str
    """For which images it was made, in a sentence."""
    sha256: str
    """Of ``model.onnx``, hex, as stated."""
    labels: tuple[str, ...]
    input: ModelInput
    output: ModelOutput
    references: tuple[ModelReference, ...]
    tolerance: Decimal
    labels_file: Path

    @property
    def model(self) -> Path:
        """The model's file."""
        return self.path / "model.onnx"

    def read_model(self) -> bytes:
        """The bytes of the model, which are those that ``sha256`` names.

        Raises:
            ModelFolderError: they are not.
        """
        data = read_limited(self.model, MAX_MODEL_BYTES, within=self.path)
        self.check_hash("hash://sha256/" + hashlib.sha256(data).hexdigest())
        return data

    def check_hash(self, cid: str) -> None:
        """Whether this is the model that the settings name (``hash://sha256/..``).

        Raises:
            ModelFolderError: it is another file.
        """
        if cid != "hash://sha256/" + self.sha256:
            raise ModelFolderError(
                f"{self.name}: model.onnx is not the file that {SETTINGS} names: "
                f"its sha256 is {cid.rpartition('/')[2]}, not {self.sha256}"
            )

    def weight(self, path: Path) -> Weight:
        """A file of the folder by content."""
        sha, size = hashlib.sha256(), 0
        with open_limited(path, MAX_MODEL_BYTES, within=self.path) as stream:
            while piece := stream.read(1_048_576):
                sha.update(piece)
                size += len(piece)
        return Weight(name=path.name, id="hash://sha256/" + sha.hexdigest(), size_bytes=size)


def read_model_folder(path: Path) -> ModelFolder:
    """A folder as the operator put it there.

    Raises:
        ModelFolderError: with what to change.
    """
    raw = read_limited(path / SETTINGS, MAX_SETTINGS_BYTES, within=path)
    try:
        document = tomllib.loads(raw.decode("utf-8"), parse_float=Decimal)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ModelFolderError(f"{path / SETTINGS}: {error}") from error
    return _Reader(path, document).folder()


def read_limited(path: Path, limit: int, *, within: Path) -> bytes:
    """A whole file of at most ``limit`` bytes; see ``open_limited``."""
    with open_limited(path, limit, within=within) as stream:
        return stream.read(limit + 1)


@contextlib.contextmanager
def open_limited(path: Path, limit: int, *, within: Path) -> Iterator[IO[bytes]]:
    """Opens a file of at most ``limit`` bytes: no device, no pipe, nothing outside of ``within``, links included.

    Raises:
        ModelFolderError: it is not there, is something else, or larger.
    """
    try:
        real = path.resolve(strict=True)
        if not real.is_file() or not real.is_relative_to(within.resolve(strict=True)):
            raise ModelFolderError(f"{path} must be a file in the folder of the model, and no link to another place")
        if real.stat().st_size > limit:
            raise ModelFolderError(f"{path} is larger than {limit} bytes")
        with real.open("rb") as stream:
            yield stream
    except OSError as error:
        raise ModelFolderError(f"{path} cannot be read: {error.strerror or error}") from error


class _Reader:
    """Reads the tables of one ``pipeline.toml``; every mistake names its key."""

    def __init__(self, path: Path, document: Mapping[str, Any]) -> None:
        self._path = path
        self._document = document

    def folder(self) -> ModelFolder:
        top = _Table(self._path, "", self._document, (
            "name", "version", "title", "licence", "kind", "for_images", "sha256", "labels", "tolerance", "input",
            "output", "references",
        ))  # fmt: skip
        name = top.text("name", pattern=r"[a-z][a-z0-9-]{0,39}", what="lower-case letters, digits and -")
        if name != self._path.name:
            raise top.wrong("name", f"must be the name of its folder, {self._path.name!r}")
        top.choice("kind", ("classification",))
        labels_file = self._inside(top, "labels", top.text("labels", default="labels.txt"))
        labels = self._labels(labels_file)
        references = tuple(
            self._reference(item, number, labels) for number, item in enumerate(top.tables("references"), 1)
        )
        if not references:
            raise top.wrong("references", "needs at least one image with the scores that the model must give")
        return ModelFolder(
            path=self._path, name=name,
            version=top.text("version", pattern=r"[0-9]+(\.[0-9]+){0,2}", what="a version such as 1.0.0"),
            title=top.text("title"), licence=top.text("licence"), for_images=top.text("for_images"),
            sha256=top.text("sha256", pattern=r"[0-9a-f]{64}", what="the SHA-256 of model.onnx, 64 hex digits"),
            labels=labels, input=self._input(top.table("input")), output=self._output(top.table("output")),
            references=references, tolerance=top.number("tolerance", low=0, high=1, default="0.01"),
            labels_file=labels_file,
        )  # fmt: skip

    def _inside(self, table: "_Table", key: str, text: str) -> Path:
        parts = PurePosixPath(text)
        if parts.is_absolute() or ".." in parts.parts or "\\" in text or not text:
            raise table.wrong(key, "must be a file inside the folder, without ..")
        return self._path.joinpath(*parts.parts)

    def _labels(self, path: Path) -> tuple[str, ...]:
        try:
            lines = read_limited(path, MAX_LABELS_BYTES, within=self._path).decode("utf-8").splitlines()
        except UnicodeDecodeError as error:
            raise ModelFolderError(f"{path}: not UTF-8: {error}") from error
        labels = tuple(line.strip() for line in lines if line.strip())
        if not 2 <= len(labels) <= MAX_VOCABULARY:
            raise ModelFolderError(f"{path}: needs 2 to {MAX_VOCABULARY} classes, one a line, in the output's order")
        for number, label in enumerate(labels, 1):
            if len(label) > MAX_CLASS_CHARS or not label.isprintable():
                raise ModelFolderError(f"{path}: class {number} has over {MAX_CLASS_CHARS} or unprintable characters")
        doubles = {label for label in labels if labels.count(label) > 1} if len(set(labels)) != len(labels) else set()
        if doubles:
            raise ModelFolderError(f"{path}: {min(doubles)!r} stands there twice")
        return labels

    def _input(self, table: "_Table") -> ModelInput:
        table.only(("width", "height", "layout", "channels", "resize", "scale", "mean", "std", "crop_to"))
        return ModelInput(
            width=table.whole("width", low=8, high=MAX_SIDE_PX), height=table.whole("height", low=8, high=MAX_SIDE_PX),
            layout=table.choice("layout", ("NCHW", "NHWC")), channels=table.choice("channels", ("RGB", "BGR")),
            resize=table.choice("resize", ("squash", "crop", "letterbox")),
            scale=table.number("scale", low=Decimal("0.001"), high=100_000, default="255"),
            mean=table.three("mean", "0"), std=table.three("std", "1", above=Decimal(0)),
            crop_to=table.choice("crop_to", ("", *CONTRACTS)),
        )  # fmt: skip

    def _output(self, table: "_Table") -> ModelOutput:
        table.only(("layer", "scores", "yes", "no", "top"))
        yes = table.number("yes", low=0, high=1, default="0.5")
        no = table.number("no", low=0, high=1, default=str(yes))
        if no > yes:
            raise table.wrong("no", "must not be larger than yes")
        return ModelOutput(
            layer=table.text("layer", default="", may_be_empty=True),
            scores=table.choice("scores", ("softmax", "sigmoid", "none")), yes=yes, no=no,
            top=table.whole("top", low=1, high=MAX_CLASSES, default=5),
        )  # fmt: skip

    def _reference(self, item: Any, number: int, labels: tuple[str, ...]) -> ModelReference:
        if number > MAX_REFERENCES:
            raise ModelFolderError(f"{self._path / SETTINGS}: more than {MAX_REFERENCES} references")
        table = _Table(self._path, f"references[{number}]", item, ("image", "scores"))
        scores = table.table("scores")
        unknown = sorted(set(scores.keys()) - set(labels))
        if unknown or not scores.keys():
            raise table.wrong("scores", f"{unknown[0]!r} is no class of the model" if unknown else "names no class")
        return ModelReference(
            image=self._inside(table, "image", table.text("image")),
            scores={name: scores.number(name, low=0, high=1) for name in scores.keys()},  # noqa: SIM118 - no mapping
        )


class _Table:
    """One table, with readers for what may stand in it."""

    def __init__(self, path: Path, where: str, value: Any, keys: tuple[str, ...] | None = None) -> None:
        self._path, self._where = path, where
        if not isinstance(value, Mapping):
            raise ModelFolderError(f"{path / SETTINGS}: {where} must be a table")
        self._value: Mapping[str, Any] = value
        if keys is not None:
            self.only(keys)

    def keys(self) -> list[str]:
        return sorted(self._value)

    def only(self, keys: tuple[str, ...]) -> None:
        unknown = sorted(set(self._value) - set(keys))
        if unknown:
            raise self.wrong(unknown[0], f"is not known; known are {', '.join(keys)}")

    def wrong(self, key: str, why: str) -> ModelFolderError:
        return ModelFolderError(f"{self._path / SETTINGS}: {f'{self._where}.' if self._where else ''}{key} {why}")

    def table(self, key: str) -> "_Table":
        where = f"{self._where}.{key}" if self._where else key
        return _Table(self._path, where, self._value.get(key, {}))

    def tables(self, key: str) -> list[Any]:
        value = self._value.get(key, [])
        if not isinstance(value, list):
            raise self.wrong(key, f"must be tables, [[{key}]]")
        return value

    def text(
        self, key: str, *, default: str | None = None, pattern: str = "", what: str = "", may_be_empty: bool = False
    ) -> str:
        value = self._value.get(key, default)
        if not isinstance(value, str) or len(value) > 300 or not value.isprintable():
            raise self.wrong(key, "must be a text in quotes, of at most 300 characters")
        if not value.strip() and not may_be_empty:
            raise self.wrong(key, "is empty: say it")
        if pattern and not re.fullmatch(pattern, value):
            raise self.wrong(key, f"must be {what}")
        return value

    def choice(self, key: str, choices: tuple[Any, ...]) -> Any:
        value = self._value.get(key, choices[0])
        if value not in choices:
            raise self.wrong(key, f"must be one of {', '.join(repr(item) for item in choices)}")
        return value

    def whole(self, key: str, *, low: int, high: int, default: int | None = None) -> int:
        value = self._value.get(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise self.wrong(key, f"must be a whole number from {low} to {high}")
        return value

    def number(self, key: str, *, low: Decimal | int, high: Decimal | int, default: str | None = None) -> Decimal:
        return self._number(key, self._value.get(key, None if default is None else Decimal(default)), low, high)

    def three(self, key: str, default: str, *, above: Decimal | None = None) -> tuple[Decimal, Decimal, Decimal]:
        value = self._value.get(key, [Decimal(default)] * 3)
        if not isinstance(value, list) or len(value) != 3:
            raise self.wrong(key, "must be three numbers, for red, green and blue")
        found = [self._number(key, item, -100_000, 100_000) for item in value]
        if above is not None and any(item <= above for item in found):
            raise self.wrong(key, f"must be larger than {above}")
        return found[0], found[1], found[2]

    def _number(self, key: str, value: Any, low: Decimal | int, high: Decimal | int) -> Decimal:
        if isinstance(value, int) and not isinstance(value, bool):
            value = Decimal(value)
        if not isinstance(value, Decimal) or not value.is_finite() or not low <= value <= high:
            raise self.wrong(key, f"must be a number from {low} to {high}")
        return value
