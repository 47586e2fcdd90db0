"""Whether two machines find the same: every pipeline over every real image, written down here, compared with there.

``python -m benchmarks.another_machine record FILE [--data DIR] [--processes N] [--only NAMES]`` runs the built-in pipelines
over the images of a folder (``herbarium``, ``insects``, ``zoology``, as in the accuracy tables) and writes one file with
every body, the processor and the versions of the libraries. ``compare HERE THERE`` says of each pipeline how many results
are the same letter by letter, how many agree within the tolerance of its manifest, and which do not. Exit code 1: some.

Two results agree when both are refused, or when they give the same answer to *is there any?*, as many regions, each with
one of the other that has the same kind or text and overlaps it (IoU 0.9), scores, masks, vectors and measures within the
tolerance. Pipelines run in processes of this program, not behind the walls of a node: walls change no result.
"""

import argparse
import gzip
import importlib.metadata
import json
import multiprocessing
import platform
import sys
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.accuracy.world import NAMES, World, found_data
from linkeddata.outputs import Output, Region, parse_output
from linkeddata.outputs.contracts import HIDDEN_STEPS, STEPS
from runners.catalogue import Catalogue, make_pipeline
from runners.decode import Limits, decode_upright
from runners.errors import ImageRefused, RunnerError
from runners.pipeline import Pipeline
from runners.pipelines.embed import vector_of
from runners.pipelines.masks import from_body
from runners.pipelines.objects import overlap

LIBRARIES: Final = ("onnxruntime", "opencv-python-headless", "numpy", "pillow", "zxing-cpp", "rapidocr")
SAME_PLACE: Final = 0.9
_loaded: dict[str, Pipeline] = {}
"""Of one process, which serves many images."""


def order() -> list[str]:
    """Names of the pipelines, each behind those whose results it takes."""
    left = {name: _of(name).manifest().needs for name in STEPS if name not in HIDDEN_STEPS}
    done: list[str] = []
    while left:
        ready = sorted(name for name, needs in left.items() if all(NAMES[item] in done for item in needs))
        done += ready
        left = {name: needs for name, needs in left.items() if name not in ready}
    return done


def _of(name: str) -> Pipeline:
    [entry] = Catalogue.of((name,)).entries
    return make_pipeline(entry.target, entry.folder)


def run_all(path: Path, names: list[str]) -> dict[str, Any]:
    """Bodies by pipeline; a text where there is none."""
    results: dict[str, Any] = {}
    try:
        with path.open("rb") as stream:
            pixels = decode_upright(stream, path.stat().st_size, Limits())
    except (ImageRefused, RunnerError) as error:
        return dict.fromkeys(names, str(error))
    size = {"width": pixels.shape[1], "height": pixels.shape[0]}
    for name in names:
        if name not in _loaded:
            _loaded[name] = _of(name)
            _loaded[name].load()
        needs = _loaded[name].manifest().needs
        upstream = {contract: results[NAMES[contract]] for contract in needs}
        refused = next((body for body in upstream.values() if isinstance(body, str)), None)
        try:
            results[name] = refused or {**_loaded[name].run(pixels, {}, upstream), "image": size}
        except ImageRefused as error:
            results[name] = str(error)
    return results


def record(out: Path, data: Path, *, processes: int, names: list[str]) -> None:
    """Runs and writes."""
    images = sorted(World(data).images, key=lambda image: -image.path.stat().st_size)
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        futures = {image.sha256: pool.submit(run_all, image.path, names) for image in images}
        results = {sha256: future.result() for sha256, future in futures.items()}
    versions = {name: _version(name) for name in LIBRARIES}
    head = {"processor": _processor(), "python": platform.python_version(), "versions": versions}
    tolerances = {name: _of(name).manifest().tolerance for name in names}
    with gzip.open(out, "wt", encoding="utf-8") as stream:
        json.dump({"machine": head, "tolerances": tolerances, "results": results}, stream)
    print(f"{len(results)} images, {len(names)} pipelines: {out} ({out.stat().st_size / 1e6:.1f} MB)")


def compare(here: dict[str, Any], there: dict[str, Any]) -> int:
    """Prints; how many results do not agree."""
    for told, side in (("here", here), ("there", there)):
        print(f"{told}: {json.dumps(side['machine'])}")
    beyond = 0
    for name, tolerance in here["tolerances"].items():
        kinds: Counter[str] = Counter()
        shown: list[str] = []
        for sha256, results in here["results"].items():
            why = difference(name, results[name], there["results"][sha256][name], float(tolerance))
            kinds["same" if why is None else "agree" if not why else "differ"] += 1
            if why:
                shown.append(f"    {sha256[:12]}  {why}")
        beyond += kinds["differ"]
        print(f"{name:14} same {kinds['same']:3}  agree {kinds['agree']:3}  differ {kinds['differ']:3}  ({tolerance})")
        print("\n".join(shown), end="\n" if shown else "")
    return beyond


def difference(name: str, one: Any, two: Any, tolerance: float) -> str | None:
    """None: the same letter by letter. Empty: they agree within the tolerance. Else what differs."""
    if one == two:
        return None
    if isinstance(one, str) or isinstance(two, str):
        return "one of the two is refused"
    left, right = (parse_output(STEPS[name], body) for body in (one, two))
    return _of_body(one, two, tolerance) or _of_output(left, right, tolerance)


def _of_body(one: dict[str, Any], two: dict[str, Any], tolerance: float) -> str:
    """What regions do not show: masks, fingerprints, vectors."""
    if "mask" in one:
        left, right = from_body(one["mask"]), from_body(two["mask"])
        either = int((left | right).sum())
        if left.shape != right.shape or (either and 1 - int((left & right).sum()) / either > tolerance):
            return "masks overlap too little"
    for first, second in zip(one.get("turned", []), two.get("turned", []), strict=False):
        bits = (int(first, 16) ^ int(second, 16)).bit_count()
        if bits > tolerance:
            return f"fingerprints are {bits} bits apart"
    ours, theirs = _vectors(one), _vectors(two)
    if len(ours) != len(theirs):
        return f"{len(ours)} and {len(theirs)} vectors"
    for left, right in zip(ours, theirs, strict=True):
        off = 1 - float(left @ right) / float(np.linalg.norm(left) * np.linalg.norm(right))
        if off > tolerance:
            return f"vectors are {off:.3f} apart"
    return ""


def _vectors(body: dict[str, Any]) -> list[Any]:
    texts = (
        [body["vector"]]
        if "vector" in body
        else [item["vector"] for item in body.get("objects", []) if "vector" in item]
    )
    return [np.asarray(vector_of(text), np.float64) for text in texts]


def _of_output(left: Output, right: Output, tolerance: float) -> str:
    answers = left.answer(None).answer, right.answer(None).answer
    if answers[0] != answers[1]:
        return f"answers {answers[0]} and {answers[1]}"
    ours, theirs = left.measured(), right.measured()
    if ours.keys() != theirs.keys():
        return f"measures {sorted(ours.keys() ^ theirs.keys())} are told once only"
    for key, text in ours.items():
        why = _of_number(key, text, theirs[key], tolerance)
        if why:
            return why
    return _of_regions(list(left.regions()), list(right.regions()), tolerance)


def _of_number(key: str, one: str, two: str, tolerance: float) -> str:
    try:
        left, right = float(one), float(two)
    except ValueError:
        return "" if one == two else f"{key} {one} and {two}"
    return "" if abs(left - right) <= tolerance * max(1.0, abs(left), abs(right)) else f"{key} {one} and {two}"


def _of_regions(ours: list[Region], theirs: list[Region], tolerance: float) -> str:
    if len(ours) != len(theirs):
        return f"{len(ours)} and {len(theirs)} regions"
    for region in ours:
        alike = [item for item in theirs if overlap(item.box, region.box) >= SAME_PLACE]
        if not alike:
            return f"nothing where {region.label!r} is"
        match = next((item for item in alike if _words(item) == _words(region)), None)
        if match is None:
            return f"{_words(region)!r} and {_words(alike[0])!r}"
        if region.score and match.score and abs(float(region.score) - float(match.score)) > tolerance:
            return f"scores {region.score} and {match.score}"
        theirs.remove(match)
    return ""


def _words(region: Region) -> str:
    """Kind or text, without the numbers that are compared as measures."""
    text = getattr(region, "text", "") or region.label or ""
    return str(text).split(",")[0]


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _read(path: str) -> dict[str, Any]:
    with gzip.open(path, "rt", encoding="utf-8") as stream:
        return dict(json.load(stream))


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.another_machine", description=__doc__.partition("\n")[0]
    )
    steps = parser.add_subparsers(dest="step", required=True)
    recording = steps.add_parser("record")
    recording.add_argument("out", type=Path)
    recording.add_argument("--data", type=Path)
    recording.add_argument("--processes", type=int, default=2)
    recording.add_argument("--only", default="")
    comparing = steps.add_parser("compare")
    comparing.add_argument("here")
    comparing.add_argument("there")
    arguments = parser.parse_args()
    if arguments.step == "compare":
        return int(compare(_read(arguments.here), _read(arguments.there)) > 0)
    data = arguments.data or found_data()
    if data is None:
        print("did not run: there are no specimen images (--data DIR)", file=sys.stderr)
        return 0
    names = [name for name in order() if not arguments.only or name in arguments.only.split(",")]
    record(arguments.out, data, processes=arguments.processes, names=names)
    return 0


if __name__ == "__main__":
    sys.exit(main())
