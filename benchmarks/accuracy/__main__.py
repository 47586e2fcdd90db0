"""How right the pipelines are on the real specimen images in ../shared/data: one table, and a gallery of overlays.

``python -m benchmarks.accuracy [--only barcode,scale] [--out FOLDER] [--json]``; needs the images (environment variable
VASCULUM_SHARED or ../shared). Exit code 1 when something that must be reached is not.
"""

import argparse
import dataclasses
import importlib
import json
import sys
from pathlib import Path

from benchmarks.accuracy import gallery
from benchmarks.accuracy.world import Section, World, found_data

SECTIONS = {
    "barcode": "benchmarks.accuracy.barcode",
    "quality": "benchmarks.accuracy.quality",
    "label-text": "benchmarks.accuracy.label_text",
    "segment": "benchmarks.accuracy.segment",
    "embed": "benchmarks.accuracy.embed",
    "kind": "benchmarks.accuracy.kind",
    "duplicates": "benchmarks.accuracy.duplicates",
    "chart": "benchmarks.accuracy.chart",
    "scale": "benchmarks.accuracy.scale",
    "objects": "benchmarks.accuracy.objects",
    "traits": "benchmarks.accuracy.traits",
    "embed-objects": "benchmarks.accuracy.embed_objects",
}
"""Pipeline -> the module that judges it."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.accuracy", description=__doc__.partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--only", metavar="PIPELINES", help=f"of {', '.join(SECTIONS)}, with commas")
    parser.add_argument(
        "--out", type=Path, default=Path("accuracy-gallery"), help="folder of the gallery (accuracy-gallery)"
    )
    arguments = parser.parse_args()
    names = arguments.only.split(",") if arguments.only else list(SECTIONS)
    unknown = [name for name in names if name not in SECTIONS]
    if unknown:
        parser.error(f"no section {unknown[0]!r}: known are {', '.join(SECTIONS)}")
    data = found_data()
    if data is None:
        print("did not run: there are no specimen images (set VASCULUM_SHARED to the folder that holds data/)")
        return 0
    world = World(data)
    sections: list[Section] = []
    for name in names:
        print(f"{name} ..", file=sys.stderr, flush=True)
        sections.append(importlib.import_module(SECTIONS[name]).section(world))
    first = gallery.write(arguments.out, sections)
    if arguments.json:
        print(json.dumps({item.pipeline: [dataclasses.asdict(row) for row in item.rows] for item in sections}))
    else:
        show(world, sections)
        print(f"\ngallery: {first}")
    return int(any(row.is_met is False for section in sections for row in section.rows))


def show(world: World, sections: list[Section]) -> None:
    """The table for people."""
    print(f"{len(world.images)} images\n")
    cells = [("pipeline", "what", "reached", "must", "")]
    for section in sections:
        for row in section.rows:
            verdict = {True: "met", False: "MISSED", None: ""}[row.is_met]
            cells.append((section.pipeline, row.what, row.reached, row.must, verdict))
    widths = [max(len(line[column]) for line in cells) for column in range(5)]
    for line in cells:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    for section in sections:
        for note in section.notes:
            print(f"{section.pipeline}: {note}")


if __name__ == "__main__":
    sys.exit(main())
