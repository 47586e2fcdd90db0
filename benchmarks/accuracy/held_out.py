"""What networks that had not seen them said of the masked specimens, through the pipelines' own last steps.

The network that ships was trained on all of them, so it cannot be scored on them. Training writes ``.held-out.npz``;
``python -m benchmarks.accuracy.held_out NPZ`` turns it into ``truth/held_out.json``: bodies of ``segment/1`` by SHA-256
of the image, numbers only.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.accuracy.world import TRUTH, World, found_data
from runners.pipelines.segment import answer_of
from runners.pipelines.specimen_net import CLASSES, RIM, SPECIMEN

FILE = TRUTH / "held_out.json"
PLANES = ("specimen", "class", "score", "rim")


def bodies(stored: Any, sizes: dict[str, tuple[int, int]]) -> dict[str, Any]:
    """By pipeline and image."""
    found: dict[str, dict[str, Any]] = {"segment": {}}
    for sha256 in sorted({name.partition(".")[0] for name in stored.files}):
        specimen, kind, score, rim = (stored[f"{sha256}.{plane}"] for plane in PLANES)
        shares = np.zeros((len(CLASSES) + 1, *specimen.shape), np.float32)
        for number in range(len(CLASSES)):
            shares[number][kind == number] = score[kind == number] / np.float32(255)
        shares[SPECIMEN] = specimen / np.float32(255)
        shares[RIM] = rim / np.float32(255)
        width, height = sizes[sha256]
        found["segment"][sha256] = answer_of(shares, width, height) | {"image": {"width": width, "height": height}}
    return found


def main() -> int:
    data = found_data()
    if data is None or len(sys.argv) != 2:
        print(__doc__)
        return 2
    from PIL import Image

    sizes = {}
    for image in World(data).images:
        with Image.open(image.path) as opened:
            sizes[image.sha256] = opened.size
    with np.load(Path(sys.argv[1])) as stored:
        FILE.write_text(json.dumps(bodies(stored, sizes), separators=(",", ":")) + "\n", encoding="utf-8")
    print(f"{FILE}: {FILE.stat().st_size} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
