"""Speed of the pipelines: processor time per image, decoding included, on made sheets of three sizes, in a real worker.

``bench_pipelines.py [PIPELINES]``: names with commas; all that come with a node when nothing is said.
A pipeline that takes results of others is timed without them; they are computed before.
"""

import asyncio
import io
import json
import random
import statistics
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.accuracy.world import File
from linkeddata.outputs.contracts import HIDDEN_STEPS, STEPS
from node.demo import drawing
from runners.catalogue import Catalogue
from runners.composition import complete
from runners.engine import make_pipeline_manifest
from runners.errors import RunnerError
from runners.workers import Worker, WorkerSettings

SIZES = ((800, 600), (2400, 1800), (6000, 4000))
TIMES = 5


def sheet(size: tuple[int, int]) -> bytes:
    rng = random.Random(7)
    small = drawing.paper(1200, 900, rng)
    drawing.draw_label(
        small,
        (640, 520, 480, 240),
        drawing.LabelText(heading="Herbarium", lines=("Acer campestre L.", "leg. 1907")),
        rng,
    )
    drawing.draw_barcode(small, 60, 60, "HEX 100037", "Hortus")
    out = io.BytesIO()
    small.resize(size).save(out, "JPEG", quality=88)
    return out.getvalue()


async def main() -> None:
    wanted = sys.argv[1].split(",") if len(sys.argv) > 1 else [name for name in STEPS if name not in HIDDEN_STEPS]
    names = list(STEPS)
    manifests = {
        name: make_pipeline_manifest(Catalogue.of((name,)).entries[0]) for name in names if name not in HIDDEN_STEPS
    }
    with tempfile.TemporaryDirectory(prefix="bench-pipelines-") as folder:
        paths = []
        for size in SIZES:
            path = Path(folder) / f"{size[0]}.jpg"
            path.write_bytes(sheet(size))
            paths.append((size, path))
        print(f"{'pipeline':14}" + "".join(f"{w * h / 1e6:>22.1f} MP" for w, h in SIZES))
        for name in wanted:
            cells = []
            for _, path in paths:
                try:
                    results: dict[str, bytes] = {}
                    for contract in manifests[name].needs:
                        giver = next(other for other, item in manifests.items() if item.output == contract)
                        results[contract] = json.dumps((await timed(giver, manifests, path, {}, 1))[1]).encode()
                    seconds, _ = await timed(name, manifests, path, results, TIMES)
                    cells.append(f"{seconds * 1000:.0f} ms, {1 / max(seconds, 1e-3):.1f}/s")
                except RunnerError as error:
                    cells.append(str(error)[:20])
            print(f"{name:14}" + "".join(f"{cell:>25}" for cell in cells), flush=True)


async def timed(name: str, manifests: dict, path: Path, upstream: dict[str, bytes], times: int) -> tuple[float, dict]:
    """Median processor seconds of one image, and its result."""
    worker = Worker(Catalogue.of((name,)).entries[0], complete(name, manifests), WorkerSettings())
    await worker.start()
    try:
        with File(path) as file:
            done = [await worker.run(file, {}, upstream) for _ in range(times)]
    finally:
        await worker.stop()
    return statistics.median(item.seconds for item in done), done[-1].body


if __name__ == "__main__":
    asyncio.run(main())
