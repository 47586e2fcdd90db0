"""Pipelines that misbehave on purpose; they exist in tests only."""

import base64
import os
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from linkeddata.pipeline import Environment, PipelineManifest
from runners.catalogue import Entry

HERE = str(Path(__file__).parent)


class _Base:
    name = "base"
    output = "quality/1"

    def manifest(self) -> PipelineManifest:
        return PipelineManifest(
            output=self.output, name=self.name, version="0.0.1", title=self.name, description="for tests", runtime="builtin",
            implementation="sha256:" + self.name.encode().hex().ljust(64, "0")[:64],
        )  # fmt: skip

    def load(self) -> Environment:
        return Environment(versions={"python": "test"}, execution_provider="cpu", precision="none", device_class="cpu")

    def references(self) -> Sequence[object]:
        return ()

    def run(
        self, pixels: np.ndarray, parameters: Mapping[str, object], upstream: Mapping[str, object]
    ) -> dict[str, object]:
        return {"measures": {"sum": str(int(pixels.sum()) % 1000)}, "verdicts": {}, "doubts": []}


class Plain(_Base):
    """Works."""

    name = "plain"


class Crashing(_Base):
    """Dies on images whose first pixel is dark."""

    name = "crashing"

    def run(
        self, pixels: np.ndarray, parameters: Mapping[str, object], upstream: Mapping[str, object]
    ) -> dict[str, object]:
        if int(pixels[0, 0, 0]) < 40:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().run(pixels, parameters, upstream)


class Hanging(_Base):
    """Never answers on images whose first pixel is dark."""

    name = "hanging"

    def run(
        self, pixels: np.ndarray, parameters: Mapping[str, object], upstream: Mapping[str, object]
    ) -> dict[str, object]:
        while int(pixels[0, 0, 0]) < 40:
            time.sleep(0.05)
        return super().run(pixels, parameters, upstream)


class Babbling(_Base):
    """Breaks its output contract."""

    name = "babbling"

    def run(
        self, pixels: np.ndarray, parameters: Mapping[str, object], upstream: Mapping[str, object]
    ) -> dict[str, object]:
        return {"measures": {"pixels": "A" * 5000}, "verdicts": {}, "doubts": []}


class Huge(_Base):
    """Answers with more than a result may hold."""

    name = "huge"

    def run(
        self, pixels: np.ndarray, parameters: Mapping[str, object], upstream: Mapping[str, object]
    ) -> dict[str, object]:
        return {"measures": {str(n): "1" for n in range(400_000)}, "verdicts": {}, "doubts": []}


class Smuggling(_Base):
    """Puts more into its answer than its contract names."""

    name = "smuggling"

    def run(
        self, pixels: np.ndarray, parameters: Mapping[str, object], upstream: Mapping[str, object]
    ) -> dict[str, object]:
        return {**super().run(pixels, parameters, upstream), "pixels": base64.b64encode(pixels.tobytes()).decode()}


class Chatty(_Base):
    """Refuses every image with a reason that holds its pixels."""

    name = "chatty"

    def run(
        self, pixels: np.ndarray, parameters: Mapping[str, object], upstream: Mapping[str, object]
    ) -> dict[str, object]:
        from runners.errors import ImageRefused

        raise ImageRefused("too dark\n\x1b[31m " + base64.b64encode(pixels.tobytes()).decode())


class Raising(_Base):
    """Fails inside a library on images whose first pixel is dark, as an inference session without memory does."""

    name = "raising"

    def run(
        self, pixels: np.ndarray, parameters: Mapping[str, object], upstream: Mapping[str, object]
    ) -> dict[str, object]:
        if int(pixels[0, 0, 0]) < 40:
            raise RuntimeError("BFC arena: " + base64.b64encode(pixels.tobytes()).decode())
        return super().run(pixels, parameters, upstream)


class Hungry(_Base):
    """Wants more memory than there is for images whose first pixel is dark, and would not give it back."""

    name = "hungry"
    is_full = False

    def run(
        self, pixels: np.ndarray, parameters: Mapping[str, object], upstream: Mapping[str, object]
    ) -> dict[str, object]:
        if self.is_full or int(pixels[0, 0, 0]) < 40:
            self.is_full = True
            np.ones(1 << 44, dtype=np.uint8)
        return super().run(pixels, parameters, upstream)


class Nonconforming(_Base):
    """Its reference image does not come out."""

    name = "nonconforming"

    def references(self) -> Sequence[object]:
        from runners.pipeline import Reference

        return (Reference(name="r", pixels=np.zeros((4, 4, 3), np.uint8), deviation=lambda body: 1.0),)


class Unavailable(_Base):
    """Cannot load."""

    name = "unavailable"

    def load(self) -> Environment:
        from runners.errors import PipelineUnavailable

        raise PipelineUnavailable("its model is missing")


class Codes(_Base):
    """Gives a large result; refuses images whose first pixel is dark, and dies on those where it is black."""

    name = "codes"
    output = "barcode/1"

    def run(
        self, pixels: np.ndarray, parameters: Mapping[str, object], upstream: Mapping[str, object]
    ) -> dict[str, object]:
        from runners.errors import ImageRefused

        if int(pixels[0, 0, 0]) == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        if int(pixels[0, 0, 0]) < 40:
            raise ImageRefused("too dark for codes")
        code = {"symbology": "Code39", "box": [0, 0, 1, 1], "reader": "r"}
        payloads = [f"{number} " + "\u00e9 " * 140 for number in range(64)]
        return {"codes": [{**code, "payload": payload.strip()} for payload in payloads], "doubts": []}


class Tally(_Base):
    """Composed: counts what others found on the same image."""

    name = "tally"
    needs: tuple[str, ...] = ("barcode/1", "label-text/1")

    def manifest(self) -> PipelineManifest:
        return replace(super().manifest(), needs=self.needs)

    def references(self) -> Sequence[object]:
        from runners.pipeline import Reference

        found = {"barcode/1": {"codes": [1, 2]}, "label-text/1": {"lines": []}}
        return (
            Reference(
                name="two-codes", pixels=np.zeros((4, 4, 3), np.uint8), upstream=found,
                deviation=lambda body: abs(int(body["measures"]["found"]) - 2),
            ),
        )  # fmt: skip

    def run(
        self, pixels: np.ndarray, parameters: Mapping[str, object], upstream: Mapping[str, object]
    ) -> dict[str, object]:
        count = sum(len(body.get("codes", body.get("lines"))) for body in upstream.values())
        return {"measures": {"found": str(count), "taken": str(len(upstream))}, "verdicts": {}, "doubts": []}


class Lines(_Base):
    """Reads three lines on every image."""

    name = "lines"
    output = "label-text/1"

    def run(
        self, pixels: np.ndarray, parameters: Mapping[str, object], upstream: Mapping[str, object]
    ) -> dict[str, object]:
        line = {"score": "0.9", "box": [0, 0, 1, 1], "writing": "print"}
        lines = [{**line, "text": f"line {number}"} for number in range(3)]
        return {"lines": lines, "readable": True, "doubts": []}


class Ouroboros(Tally):
    """Needs its own result."""

    name = "ouroboros"
    needs = ("quality/1",)


class Leaking(_Base):
    """Hides pixels in the text it reads, within its output contract: what the relay of the demo must find."""

    name = "label-text"
    output = "label-text/1"

    def run(
        self, pixels: np.ndarray, parameters: Mapping[str, object], upstream: Mapping[str, object]
    ) -> dict[str, object]:
        data = pixels[: pixels.shape[0] // 16 * 16 : 16].tobytes()[:24_000]
        pieces = [base64.b64encode(data[at : at + 81]).decode() for at in range(0, 150 * 81, 81)]
        lines = [
            {"text": "Herbarium Martii " + piece, "score": "0.9", "box": [0, 0, 1, 1], "writing": "print"}
            for piece in pieces if piece
        ]  # fmt: skip
        return {"lines": lines, "readable": True, "doubts": []}


def entry(name: str) -> Entry:
    """The catalogue entry of one of these classes."""
    return Entry(name=globals()[name].name, target=f"pipelines_for_tests:{name}", python_path=(HERE,))
