"""Similarity search: how near to exact, how much faster, in how much memory.

The vectors are made, and made to be hard: overlapping clusters in 64 dimensions, turned into all dimensions, with
noise, so that the tenth nearest is hardly nearer than the hundredth. "Exact" is a plain product of the question with
all vectors of the same file, in 32-bit floats, block by block. Both run in this process, one after the other.

``bench_similar.py [ROWS DIMENSIONS [QUESTIONS]]``: 1,000,000 512 30 when nothing is said.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from node.storage.vectors import HEAD_BYTES, RECORD_HEAD_BYTES, VectorFile, VectorRow

SEED = 20261126
K = 10
SWEEP = (1000, 2000, 4000, 8000, 16_000)
EXACT_ROWS = 2000
"""Of one product: a block that stays in the cache is the fastest."""


def made(count: int, dimensions: int, rng: np.random.Generator, frame: np.ndarray, centres: np.ndarray) -> np.ndarray:
    near = centres[rng.integers(0, len(centres), count)] + rng.standard_normal((count, 64), np.float32)
    rows = near @ frame + 0.35 * rng.standard_normal((count, dimensions), np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def anonymous_mb() -> float:
    text = Path("/proc/self/status").read_text()
    return int(next(line for line in text.splitlines() if line.startswith("RssAnon")).split()[1]) / 1024


def exact(stored: np.ndarray, asked: np.ndarray) -> tuple[list[list[int]], float, float]:
    """The true neighbours; seconds by the clock and of CPU for one question."""
    answers = []
    wall, cpu = time.perf_counter(), time.process_time()
    for question in asked:
        scores = np.empty(len(stored), np.float32)
        for start in range(0, len(stored), EXACT_ROWS):
            scores[start : start + EXACT_ROWS] = stored[start : start + EXACT_ROWS].astype(np.float32) @ question
        answers.append(np.argpartition(-scores, K)[:K].tolist())
    return answers, (time.perf_counter() - wall) / len(asked), (time.process_time() - cpu) / len(asked)


def main() -> None:
    given = [int(item) for item in sys.argv[1:4]]
    rows, dimensions, questions = (given + [1_000_000, 512, 30][len(given) :])[:3]
    if len(sys.argv) > 4:
        ask(Path(sys.argv[4]), rows, dimensions, questions)
        return
    rng = np.random.default_rng(SEED)
    frame, centres = world(rng, dimensions)
    with tempfile.TemporaryDirectory(prefix="bench-similar-") as folder:
        path = Path(folder) / "made.vec"
        file = VectorFile.open(path, dimensions=dimensions, pipeline="sha256:made")
        started = time.process_time()
        for start in range(0, rows, 20_000):
            count = min(20_000, rows - start)
            part = made(count, dimensions, rng, frame, centres)
            ids = rng.bytes(32 * count)
            file.add([VectorRow(image=ids[32 * n : 32 * n + 32].hex(), vector=part[n]) for n in range(count)])
        file.close()
        print(
            f"{rows:,} x {dimensions}: made and added in {time.process_time() - started:.0f} s of CPU, "
            f"{path.stat().st_size / 1e6:,.0f} MB",
            flush=True,
        )
        subprocess.run([sys.executable, __file__, str(rows), str(dimensions), str(questions), str(path)], check=True)


def ask(path: Path, rows: int, dimensions: int, questions: int) -> None:
    """In a process of its own, so that its memory is that of asking."""
    print(f"memory before the file is opened (Python and numpy): {anonymous_mb():.0f} MB")
    started = time.process_time()
    opened = VectorFile.open_to_read(path, dimensions=dimensions, pipeline="sha256:made")
    assert opened is not None
    print(f"opened (every checksum looked at) in {time.process_time() - started:.1f} s of CPU")
    rng = np.random.default_rng(SEED)
    frame, centres = world(rng, dimensions)
    asked = made(questions, dimensions, np.random.default_rng(SEED + 1), frame, centres)
    for question in asked:
        opened.search(question, K)
    print(f"memory beside the page cache: {anonymous_mb():.0f} MB", flush=True)
    record = np.dtype([("head", "u1", RECORD_HEAD_BYTES), ("vector", "<f2", dimensions)])
    stored = np.memmap(path, dtype=record, mode="r", offset=HEAD_BYTES, shape=(rows,))["vector"]
    exact(stored, asked[:1])
    truth, exact_wall, exact_cpu = exact(stored, asked)
    print(f"exact: {exact_wall * 1000:.0f} ms a question ({exact_cpu * 1000:.0f} ms of CPU)", flush=True)
    for candidates in (None, *SWEEP):
        found: list[list[int]] = []
        wall, cpu = time.perf_counter(), time.process_time()
        for question in asked:
            found.append([item.row for item in opened.search(question, K, candidates=candidates)])
        our_wall, our_cpu = time.perf_counter() - wall, time.process_time() - cpu
        recall = np.mean([len(set(a) & set(b)) / K for a, b in zip(found, truth, strict=True)])
        print(
            f"two stages, {'as the node asks' if candidates is None else f'{candidates:,} candidates'}: "
            f"recall@{K} {recall:.4f}, {our_cpu / questions * 1000:.1f} ms of CPU a question; "
            f"{exact_cpu * questions / our_cpu:.1f} times as fast by CPU, {exact_wall * questions / our_wall:.1f} by the clock",
            flush=True,
        )


def world(rng: np.random.Generator, dimensions: int) -> tuple[np.ndarray, np.ndarray]:
    frame = np.linalg.qr(rng.standard_normal((dimensions, 64)))[0].T.astype(np.float32)
    return frame, 0.8 * rng.standard_normal((2000, 64), np.float32)


if __name__ == "__main__":
    main()
