"""Earlier versions of pipelines: what they gave when they were current they give today, under the digest they had."""

import io
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import NOW
from engine_bench import Bench, plain
from PIL import Image
from pipelines_for_tests import entry

from cas.store import BlobStore
from linkeddata.outputs import STEPS
from linkeddata.outputs.contracts import PREVIOUS_STEPS
from linkeddata.pipeline import WorkUnit
from runners.catalogue import BUILT_IN, PREVIOUS, Catalogue, make_pipeline
from runners.decode import Limits, decode_upright

RELEASED = {"quality@1.0.0": "sha256:b9c3ec8a2da394a66b7bb7ce2efba60ab93619231f5d19f1698aef9cf03b49ff"}
"""Implementation digests, as they were released."""
GAVE: dict[str, dict[str, dict[str, Any]]] = {
    "quality@1.0.0": {
        "noise": {
            "measures": {
                "sharpness": "48273.89",
                "mean": "127.52",
                "white": "0.0000",
                "black": "0.0000",
                "megapixels": "0.120",
            },
            "poor": ["size"],
        },
        "sixteen bits": {
            "measures": {
                "sharpness": "0.63",
                "mean": "127.50",
                "white": "0.0078",
                "black": "0.0078",
                "megapixels": "0.128",
            },
            "poor": ["sharpness"],
        },
        "transparent": {
            "measures": {
                "sharpness": "12180.34",
                "mean": "201.37",
                "white": "0.0216",
                "black": "0.0000",
                "megapixels": "0.120",
            },
            "poor": ["size"],
        },
        "turned": {
            "measures": {
                "sharpness": "48273.89",
                "mean": "127.52",
                "white": "0.0000",
                "black": "0.0000",
                "megapixels": "0.120",
            },
            "poor": ["size"],
        },
    }
}
"""What the version said about each made image when it was current."""


def made_images() -> dict[str, bytes]:
    """Lossless, so that no encoder of tomorrow changes them; each takes another way through the decoder."""
    rng = np.random.default_rng(1)
    noise = rng.integers(0, 256, (300, 400, 3), dtype=np.uint8)
    deep = (np.linspace(0, 65535, 640 * 200).reshape(200, 640)).astype(np.uint16)
    clear = np.dstack([noise, np.tile((np.arange(400) % 256).astype(np.uint8), (300, 1))[:, :, None]])
    exif = Image.Exif()
    exif[0x0112] = 6
    images = {
        "noise": Image.fromarray(noise), "sixteen bits": Image.fromarray(deep), "transparent": Image.fromarray(clear),
    }  # fmt: skip
    found: dict[str, bytes] = {}
    for name, image in images.items():
        out = io.BytesIO()
        image.save(out, "PNG")
        found[name] = out.getvalue()
    out = io.BytesIO()
    images["noise"].save(out, "PNG", exif=exif)
    return {**found, "turned": out.getvalue()}


def test_every_earlier_version_is_frozen_and_known_by_one_name() -> None:
    assert PREVIOUS.keys() == PREVIOUS_STEPS.keys() == RELEASED.keys() == GAVE.keys()
    for name, target in PREVIOUS.items():
        manifest = make_pipeline(target).manifest()
        base, _, version = name.partition("@")
        assert (manifest.name, manifest.version, manifest.output) == (base, version, PREVIOUS_STEPS[name])
        assert manifest.implementation == RELEASED[name]
        assert base in STEPS
        assert base in BUILT_IN


@pytest.mark.parametrize("name", sorted(GAVE))
def test_an_earlier_version_gives_what_it_gave(name: str) -> None:
    pipeline = make_pipeline(PREVIOUS[name])
    pipeline.load()
    for image, data in made_images().items():
        body = pipeline.run(decode_upright(io.BytesIO(data), len(data), Limits()), {}, {})
        gave = GAVE[name][image]
        assert sorted(key for key, verdict in body["verdicts"].items() if verdict == "poor") == gave["poor"]
        assert body["measures"].keys() == gave["measures"].keys()
        for key, value in gave["measures"].items():
            assert float(body["measures"][key]) == pytest.approx(float(value), rel=1e-4, abs=1e-4), (image, key)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[BlobStore]:
    made = BlobStore.open(tmp_path / "blobs")
    yield made
    made.close()


async def test_both_versions_of_a_pipeline_run_beside_each_other(store: BlobStore) -> None:
    """Named first or not, the earlier one comes last: it is taken only by who asks for its digest."""
    made = Bench(store, Catalogue.of(("quality@1.0.0", "plain"), extra=(entry("Plain"),)))
    await made.start()
    try:
        assert [offer.manifest.name for offer in made.engine.offers] == ["plain", "quality"]
        image = store.put_bytes(plain(90), now=NOW).id.hex
        units = [
            WorkUnit(
                output="quality/1", pipeline=offer.manifest.digest, environment=offer.environment.digest, image=image
            )
            for offer in made.engine.offers
        ]
        await made.journal.enqueue(list(enumerate(units)), now=datetime.now(UTC))
        made.engine.wake()
        await made.wait(2)
        assert all(status is not None and status.state == "done" for status in map(made.journal.status, (
            unit.key for unit in units
        )))  # fmt: skip
    finally:
        await made.stop()


async def test_a_version_that_is_still_the_current_one_is_not_offered_twice(store: BlobStore) -> None:
    current = make_pipeline(BUILT_IN["quality"]).manifest().digest
    frozen = make_pipeline(PREVIOUS["quality@1.0.0"]).manifest().digest
    made = Bench(store, Catalogue.of(("quality", "quality@1.0.0")))
    await made.start()
    try:
        names = [offer.manifest.version for offer in made.engine.offers]
        if current == frozen:
            assert names == ["1.0.0"]
            assert "it is what quality is now" in made.engine.problems["quality@1.0.0"]
        else:
            assert names[-1] == "1.0.0"
            assert len(names) == 2
    finally:
        await made.stop()
