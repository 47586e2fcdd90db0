"""Copies, cuts and further scans, made from every picture; all other pairs are the pictures that are not the same.

The limits in ``linkeddata.duplicates`` were chosen with the distances of these pictures in view, so the figures promise
nothing for other collections. Pairs of labels of one layout are pairs of different things.
"""

from collections import Counter

import cv2
import numpy as np

from benchmarks.accuracy.world import Image, Row, Section, World, share
from linkeddata.duplicates import compare
from linkeddata.outputs import parse_output
from linkeddata.outputs.duplicates import Fingerprints
from runners.decode import Limits, decode_upright
from runners.pipelines.duplicates import Duplicates

MADE_AT_PX = 1600
EXPECTED = {
    "resized": "same picture",
    "compressed": "same picture",
    "turned": "same picture",
    "cut 2 %": "crop",
    "cut 5 %": "crop",
    "re-scan": "re-scan",
}


def section(world: World) -> Section:
    pipeline = Duplicates()
    pipeline.load()
    originals: list[tuple[Image, Fingerprints]] = []
    copies: list[tuple[str, Image, Fingerprints]] = []
    for image in world.images:
        with image.path.open("rb") as stream:
            pixels = decode_upright(stream, image.path.stat().st_size, Limits())
        originals.append((image, prints(pipeline, pixels)))
        for name, made in derivatives(pixels, int(image.sha256[:8], 16)).items():
            copies.append((name, image, prints(pipeline, made)))
    found = Section(pipeline="duplicates")
    known = {image.sha256: item for image, item in originals}
    tally: Counter[tuple[str, str]] = Counter()
    for name, image, item in copies:
        relation = compare(known[image.sha256], item)
        tally[name, relation.verdict if relation else "nothing"] += 1
    for name, verdict in EXPECTED.items():
        any_found = len(originals) - tally[name, "nothing"]
        must = 0.5 if name == "re-scan" else 0.9
        found.rows.append(
            Row(
                what=f"{name}: found",
                reached=f"{share(any_found, len(originals))}, as {verdict} {tally[name, verdict]}",
                must=f"{must:.0%}",
                is_met=any_found >= must * len(originals),
            )
        )
    false: Counter[str] = Counter()
    pairs = 0
    for number, (image, item) in enumerate(originals):
        for other, second in originals[number + 1 :]:
            pairs += 1
            relation = compare(item, second)
            if relation is not None:
                false[relation.verdict] += 1
                found.notes.append(
                    f"not the same, said {relation.verdict} ({relation.bits} bits): {image.name} and {other.name}"
                )
    certain = false["same picture"] + false["crop"]
    found.rows.append(
        Row(
            what=f"false same picture or crop among {pairs:,} pairs",
            reached=str(certain),
            must="0",
            is_met=certain == 0,
        )
    )
    found.rows.append(
        Row(
            what=f"false re-scan among {pairs:,} pairs",
            reached=str(false["re-scan"]),
            must="2",
            is_met=false["re-scan"] <= 2,
        )
    )
    return found


def prints(pipeline: Duplicates, pixels: np.ndarray) -> Fingerprints:
    body = {**pipeline.run(pixels, {}, {}), "image": {"width": pixels.shape[1], "height": pixels.shape[0]}}
    output = parse_output("duplicates/1", body)
    assert isinstance(output, Fingerprints)
    return output


def derivatives(pixels: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """What becomes of a picture."""
    rng = np.random.default_rng(seed)
    scale = min(1.0, MADE_AT_PX / max(pixels.shape[:2]))
    small = cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else pixels
    height, width = small.shape[:2]
    compressed = cv2.imdecode(
        cv2.imencode(".jpg", small[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 60])[1], cv2.IMREAD_COLOR
    )
    move = cv2.getRotationMatrix2D((width / 2, height / 2), rng.uniform(-1.2, 1.2), rng.uniform(0.96, 1.0))
    move[:, 2] += rng.uniform(-0.01, 0.01, 2) * (width, height)
    border = tuple(float(item) for item in np.median(small[:3].reshape(-1, 3), axis=0))
    moved = cv2.warpAffine(small, move, (width, height), borderValue=border)
    light = (moved / 255.0) ** rng.uniform(0.88, 1.14) * rng.uniform(0.95, 1.03, 3) * 255 + rng.normal(
        0, 4, (height, width, 1)
    )
    return {
        "resized": cv2.resize(small, (max(8, width * 6 // 10), max(8, height * 6 // 10)), interpolation=cv2.INTER_AREA),
        "compressed": np.ascontiguousarray(compressed[:, :, ::-1]),
        "turned": np.ascontiguousarray(np.rot90(small)),
        "cut 2 %": cut(small, 0.02),
        "cut 5 %": cut(small, 0.05),
        "re-scan": np.clip(light, 0, 255).astype(np.uint8),
    }


def cut(pixels: np.ndarray, part: float) -> np.ndarray:
    y, x = max(1, round(pixels.shape[0] * part)), max(1, round(pixels.shape[1] * part))
    return np.ascontiguousarray(pixels[y:-y, x:-x])
