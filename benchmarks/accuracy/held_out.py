"""What networks that had not seen them said of the masked specimens, through the pipelines' own last steps.

The network that ships was trained on all of them, so it cannot be scored on them. Training writes ``.held-out.npz``;
``python -m benchmarks.accuracy.held_out NPZ`` turns it into ``truth/held_out.json``: bodies by pipeline
and SHA-256 of the image, numbers only.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.accuracy.world import TRUTH, World, found_data
from runners.pipelines import objects, segment
from runners.pipelines.specimen_net import CLASSES, RIM, SPECIMEN

FILE = TRUTH / "held_out.json"
PLANES = ("specimen", "class", "score", "rim")


def bodies(stored: Any, images: dict[str, Any]) -> dict[str, Any]:
    """By pipeline and image."""
    found: dict[str, dict[str, Any]] = {"segment": {}, "objects": {}}
    for sha256 in sorted({name.partition(".")[0] for name in stored.files}):
        specimen, kind, score, rim = (stored[f"{sha256}.{plane}"] for plane in PLANES)
        shares = np.zeros((len(CLASSES) + 1, *specimen.shape), np.float32)
        for number in range(len(CLASSES)):
            shares[number][kind == number] = score[kind == number] / np.float32(255)
        shares[SPECIMEN] = specimen / np.float32(255)
        shares[RIM] = rim / np.float32(255)
        height, width = images[sha256].shape[:2]
        size = {"image": {"width": width, "height": height}}
        found["segment"][sha256] = segment.answer_of(shares, width, height) | size
        if width >= 600:  # the sheets: no boxes were drawn on the beetles
            found["objects"][sha256] = objects.answer_of(shares, images[sha256]) | size
    return found


def main() -> int:
    data = found_data()
    if data is None or len(sys.argv) != 2:
        print(__doc__)
        return 2
    from PIL import Image

    images = {}
    for image in World(data).images:
        if (image.path.parents[1] / "masks" / (image.path.stem + ".png")).exists():
            with Image.open(image.path) as opened:
                images[image.sha256] = np.asarray(opened.convert("RGB"))
    with np.load(Path(sys.argv[1])) as stored:
        FILE.write_text(json.dumps(bodies(stored, images), separators=(",", ":")) + "\n", encoding="utf-8")
    print(f"{FILE}: {FILE.stat().st_size} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
