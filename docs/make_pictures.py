"""The pictures of docs/pipelines: each pipeline's first reference image (made, not photographed) with what it finds.

``python docs/make_pictures.py [NAME ..]``, from the root of the repository; without names all that come with a node.
"""

import sys
from pathlib import Path

from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.accuracy.gallery import draw_regions
from linkeddata.outputs import parse_output
from linkeddata.outputs.contracts import HIDDEN_STEPS, STEPS
from runners.catalogue import BUILT_IN, make_pipeline

FOLDER = Path(__file__).parent / "pipelines"
SIDE_PX = 760


def main() -> None:
    for name in sys.argv[1:] or [name for name in STEPS if name not in HIDDEN_STEPS]:
        pipeline = make_pipeline(BUILT_IN[name])
        pipeline.load()
        reference = pipeline.references()[0]
        body = pipeline.run(reference.pixels, {}, reference.upstream)
        height, width = reference.pixels.shape[:2]
        output = parse_output(STEPS[name], {**body, "image": {"width": width, "height": height}})
        picture = draw_regions(Image.fromarray(reference.pixels), output.regions(), side_px=SIDE_PX)
        picture.quantize(64).save(FOLDER / f"{name}.png", optimize=True)


if __name__ == "__main__":
    main()
