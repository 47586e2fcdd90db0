"""How much of the real specimen images in ../shared/data is read: barcodes found, character errors on label blocks.

``python benchmarks/accuracy_reading.py [--json]``; needs the images (environment variable VASCULUM_SHARED or ../shared).
Every image goes through a real worker process, walls and output contract included.

**In-sample**: the scales of ``barcode`` and the sizes of ``label-text`` were chosen on these same images, so the figures
say how well the pipelines do here, not how well they will do elsewhere. There is no second set to hold back.

How it counts:
- A barcode of truth/barcodes.tsv is found when its payload is read in its image. Further codes are listed, not judged
  (the table does not claim to be complete).
- A block of truth/labels.tsv is compared with the lines whose middle lies in its box, in the order they came.
  Errors are letters to insert, delete or replace; a block of which nothing was read counts with all its letters.
  ``strict`` compares as written, blanks squeezed; ``matched`` compares as searching does: case, accents and blanks apart.
- A word (five letters or more) is found when it stands in the text of its block with at most one wrong letter.
  One that stands nowhere in the text of an image called readable is missed *silently*: a search for it would be
  answered "no", which is wrong, instead of "cannot tell".
"""

import argparse
import asyncio
import contextlib
import csv
import json
import os
import re
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from rapidfuzz import fuzz
from rapidfuzz.distance import Levenshtein

from linkeddata.matching import normalise
from runners.catalogue import Catalogue
from runners.engine import make_pipeline_manifest
from runners.errors import ImageRefused
from runners.workers import Worker, WorkerSettings

WORKERS = 2
COLLECTIONS = ("herbarium", "insects", "zoology")


@dataclass
class Sum:
    """Errors over the blocks of one kind."""

    blocks: int = 0
    letters: int = 0
    edits: int = 0
    letters_matched: int = 0
    edits_matched: int = 0
    words: int = 0
    words_found: int = 0
    words_missed_silently: int = 0
    rates: list[float] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        return {
            "blocks": self.blocks,
            "letters": self.letters,
            "cer_strict": round(self.edits / max(1, self.letters), 4),
            "cer_matched": round(self.edits_matched / max(1, self.letters_matched), 4),
            "median_block_cer": round(statistics.median(self.rates), 4) if self.rates else None,
            "words": self.words,
            "words_found": self.words_found,
            "words_missed_silently": self.words_missed_silently,
        }


class File:
    """An open file as a worker takes it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> Self:
        self.fd = os.open(self._path, os.O_RDONLY)
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.fd)


async def read_all(name: str, files: Sequence[Path]) -> tuple[dict[str, dict[str, Any]], list[float]]:
    """Runs one pipeline over the files with two workers; bodies by file name, and seconds per image."""
    [entry] = Catalogue.of((name,)).entries
    manifest = make_pipeline_manifest(entry)
    waiting = sorted(files, key=lambda path: -path.stat().st_size)
    bodies: dict[str, dict[str, Any]] = {}
    seconds: list[float] = []

    async def work() -> None:
        worker = Worker(entry, manifest, WorkerSettings())
        await worker.start()
        try:
            while waiting:
                path = waiting.pop(0)
                with File(path) as image, contextlib.suppress(ImageRefused):
                    result = await worker.run(image, {})
                    bodies[path.name] = result.body
                    seconds.append(result.seconds)
        finally:
            await worker.stop()

    await asyncio.gather(*(work() for _ in range(WORKERS)))
    return bodies, seconds


def judge_codes(rows: Sequence[dict[str, str]], bodies: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Found, missed and further codes."""
    read = {(name, code["payload"]) for name, body in bodies.items() for code in body["codes"]}
    wanted = {(row["file"], row["payload"]) for row in rows}
    return {
        "found": len(wanted & read),
        "of": len(wanted),
        "missed": sorted(f"{name}: {payload}" for name, payload in wanted - read),
        "further": sorted(f"{name}: {payload}" for name, payload in read - wanted),
    }


def judge_blocks(rows: Sequence[dict[str, str]], bodies: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Error rates by kind of writing; turned blocks apart."""
    sums: dict[str, Sum] = {}
    for row in rows:
        kind = row["kind"] if row["turn_cw_deg"] == "0" else "turned"
        body = bodies.get(row["file"])
        total = sums.setdefault(kind, Sum())
        add(total, row["text"], text_in(body, row))
        if body is not None and body["readable"]:
            everything = matched(" ".join(line["text"] for line in body["lines"]))
            total.words_missed_silently += sum(not has_word(word, everything) for word in words_of(row["text"]))
    order = ("printed", "typed", "mixed", "handwritten", "turned")
    return {kind: sums[kind].to_json() for kind in order if kind in sums}


def add(total: Sum, truth: str, read: str) -> None:
    """Counts one block."""
    want, have = plain(truth), " ".join(read.split())
    edits = min(Levenshtein.distance(want, have), len(want))
    total.blocks += 1
    total.letters += len(want)
    total.edits += edits
    total.rates.append(edits / max(1, len(want)))
    want_matched, have_matched = matched(want), matched(have)
    total.letters_matched += len(want_matched)
    total.edits_matched += min(Levenshtein.distance(want_matched, have_matched), len(want_matched))
    words = words_of(truth)
    total.words += len(words)
    total.words_found += sum(has_word(word, have_matched) for word in words)


def plain(truth: str) -> str:
    """A transcription without its marks of doubt and line ends."""
    return " ".join(re.sub(r"\[(\?|\.\.\.|illegible)\]", "", truth).replace("|", " ").split())


def matched(text: str) -> str:
    """As searching compares."""
    return normalise(text).replace(" ", "")


def words_of(truth: str) -> list[str]:
    """Words of five letters or more."""
    return [matched(word) for word in re.findall(r"[^\W\d_]{5,}", plain(truth))]


def has_word(word: str, text: str) -> bool:
    """Whether the text holds the word with at most one wrong letter."""
    return bool(text) and fuzz.partial_ratio(word, text) / 100 >= 1 - 1.001 / len(word)


def text_in(body: dict[str, Any] | None, row: dict[str, str]) -> str:
    """The lines whose middle lies in the block's box."""
    if body is None:
        return ""
    x, y, w, h = (float(row[name]) for name in ("x", "y", "w", "h"))
    inside = []
    for line in body["lines"]:
        left, top, width, height = line["box"]
        if x <= left + width / 2 <= x + w and y <= top + height / 2 <= y + h:
            inside.append(line["text"])
    return " ".join(inside)


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE))


def main() -> int:
    parser = argparse.ArgumentParser(description="What the reading pipelines find on the real images")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--only", choices=("barcode", "label-text"))
    arguments = parser.parse_args()
    data = Path(os.environ.get("VASCULUM_SHARED", Path(__file__).parents[2] / "shared")) / "data"
    if not data.is_dir():
        print(f"did not run: there are no specimen images in {data} (set VASCULUM_SHARED)")
        return 0
    images = [path for name in COLLECTIONS for path in sorted((data / name / "images").iterdir())]
    answer: dict[str, Any] = {"images": len(images), "workers": WORKERS}
    for name in ("barcode", "label-text"):
        if arguments.only not in (None, name):
            continue
        started = time.monotonic()
        bodies, seconds = asyncio.run(read_all(name, images))
        timing = {
            "read": len(bodies),
            "wall_s": round(time.monotonic() - started, 1),
            "median_s_per_image": round(statistics.median(seconds), 2),
            "max_s_per_image": round(max(seconds), 2),
        }
        if name == "barcode":
            answer[name] = {**timing, **judge_codes(table(data / "truth" / "barcodes.tsv"), bodies)}
        else:
            blocks = judge_blocks(table(data / "truth" / "labels.tsv"), bodies)
            readable = sum(bool(body["readable"]) for body in bodies.values())
            answer[name] = {**timing, "called_readable": readable, "blocks": blocks}
    if arguments.json:
        print(json.dumps(answer, ensure_ascii=False))
    else:
        show(answer)
    return 0


def show(answer: dict[str, Any]) -> None:
    """The figures for people."""
    print(f"{answer['images']} images, {answer['workers']} workers; in-sample: settings were chosen on these images")
    if (codes := answer.get("barcode")) is not None:
        print(f"barcodes: {codes['found']} of {codes['of']} found, {len(codes['further'])} further; "
              f"{codes['wall_s']} s, median {codes['median_s_per_image']} s per image")  # fmt: skip
        for name in ("missed", "further"):
            for item in codes[name]:
                print(f"  {name}  {item}")
    if (text := answer.get("label-text")) is not None:
        print(f"label text: {text['wall_s']} s, median {text['median_s_per_image']} s per image, "
              f"longest {text['max_s_per_image']} s; called readable: {text['called_readable']}")  # fmt: skip
        print("  kind          blocks  letters  errors strict  as matched  median block  words found  missed silently")
        for kind, row in text["blocks"].items():
            print(f"  {kind:<12} {row['blocks']:>7} {row['letters']:>8} {row['cer_strict']:>14.3f} "
                  f"{row['cer_matched']:>11.3f} {row['median_block_cer']:>13.3f}  {row['words_found']:>4}/{row['words']:<4} "
                  f"{row['words_missed_silently']:>14}")  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
