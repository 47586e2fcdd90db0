"""Trains the network of ``segment`` and ``objects``, and measures it on specimens it has not seen.

Two steps. A base is trained on made pictures alone. From it, the network that ships is tuned on real and made pictures;
then one network per fold, without the fold's specimens (one sheet, and every n-th beetle), which says what it thinks of
those. Made pictures with a cut-out of a held-out specimen are left out of its fold.
Everything follows from the seed, the data and the numbers of steps, up to the order of additions of the device.
The same code runs on a CPU (hours) and on a GPU (minutes). ``python -m runners.training.segment`` is the same command.
"""

import argparse
import json
import multiprocessing
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from runners.training import network
from runners.training.examples import UNKNOWN, Example, cut_out, read_examples, read_labels
from runners.training.made_paper import Array
from runners.training.made_pictures import EDGE, Cutout, make_picture

SIDE: Final = 768
"""Longer side of a picture in training and at run time."""
CROP: Final = 512
WEIGHT_OF_CLASSES: Final = (0.6, 1.0, 1.0, 1.5, 1.2, 1.2, 2.5, 1.8, 0.7)


@dataclass(frozen=True, slots=True)
class Settings:
    """What a training follows from, beside the data."""

    seed: int = 6
    plain_pictures: int = 3000
    """Made pictures without real cut-outs, for the base."""
    mixed_pictures: int = 2600
    """Made pictures with real cut-outs."""
    batch: int = 24
    base_steps: int = 900
    tune_steps: int = 400
    folds: int = 9
    minutes: float = 0.0
    """When above 0, the numbers of steps are chosen so that all fits; they stand in the report."""
    processes: int = 1
    rate: float = 1.2e-3
    scored_pictures: int = 20
    """Made pictures, seen in no training, on which the network that ships is scored."""


@dataclass(slots=True)
class Report:
    """What came out."""

    settings: dict[str, Any] = field(default_factory=dict)
    torch: str = ""
    device: str = ""
    encoder_tensors: int = 0
    step_seconds: float = 0.0
    held_out: dict[str, dict[str, Any]] = field(default_factory=dict)
    made: dict[str, float] = field(default_factory=dict)
    trained_on: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Store:
    """Pictures on the device: (n, SIDE, SIDE, 4) bytes, the fourth being truth, each in the upper left corner."""

    pictures: Any
    sizes: Any
    sources: list[frozenset[int]]
    has_classes: Any


def train(data: Path, out: Path, *, encoder: Path | None, settings: Settings) -> Report:
    """Trains all; writes ``out`` (ONNX), and beside it ``.npz`` (weights), ``.json`` (report), ``.held-out.npz``.

    Raises:
        ValueError: no data.
    """
    import torch

    started = time.monotonic()
    out.parent.mkdir(parents=True, exist_ok=True)  # now, not when hours are over
    torch.manual_seed(settings.seed)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    examples = read_examples(data, SIDE)
    labels = read_labels(data, SIDE)
    report = Report(torch=str(torch.__version__), device=torch.cuda.get_device_name() if device == "cuda" else "cpu")
    report.trained_on = [item.sha256 for item in examples]
    report.labels = [sha256 for sha256, _ in labels]
    papers = [pixels for _, pixels in labels]
    _say(started, f"{len(examples)} masks, {len(labels)} labels, {device}")
    net = network.build()
    report.encoder_tensors = network.begin(net, encoder)
    net = net.to(device, memory_format=torch.channels_last)
    if settings.minutes:
        few = _made(replace(settings, processes=1), 3, 2, (), papers, device)
        report.step_seconds = _seconds_a_step(net, few, settings)
        _say(started, f"{report.step_seconds:.3f} s a step")
    plain = _made(settings, 0, settings.plain_pictures, (), papers, device)
    mixed = _made(settings, 1, settings.mixed_pictures, cut_out(examples), papers, device)
    real = _real(examples, device)
    _say(started, "pictures made")

    base_steps, tune_steps = settings.base_steps, settings.tune_steps
    if settings.minutes:
        left = settings.minutes * 60 - (time.monotonic() - started) - 1.5 * settings.folds - 18
        steps = int(left / report.step_seconds)
        base_steps = max(2, int(steps * 0.2))
        tune_steps = max(2, int((steps - base_steps) / (settings.folds + 1.5)))
    report.settings = asdict(settings) | {
        "base_steps": base_steps,
        "tune_steps": tune_steps,
        "side": SIDE,
        "crop": CROP,
    }
    _say(started, f"{report.step_seconds:.3f} s a step; {base_steps} steps for the base, {tune_steps} for a fold")

    everything = list(range(len(plain.sources)))
    base = _fit(net, [(plain, everything, 1.0)], base_steps, settings, settings.seed, settings.rate)
    _say(started, "base is trained")
    np.savez_compressed(out.with_suffix(".base.npz"), **network.to_arrays(base))  # type: ignore[arg-type]
    groups = _folds(examples, settings.folds)
    answers: dict[str, Array] = {}
    for number in (-1, *range(settings.folds)):
        held = set(groups[number]) if number >= 0 else set()
        mix = _mix(examples, mixed, real, held)
        steps = int(tune_steps * 1.5) if number < 0 else tune_steps
        tuned = _fit(_copy(base, device), mix, steps, settings, settings.seed + 100 + number, settings.rate * 0.5)
        if number < 0:
            weights = network.to_arrays(tuned)
            np.savez_compressed(out.with_suffix(".npz"), **weights)  # type: ignore[arg-type]
            report.made = _score_made(tuned, settings, papers, device)
            _say(started, f"network that ships: {report.made}")
        else:
            answers |= _ask(tuned, examples, sorted(held), number, report, device)
            if number in (settings.folds // 2, settings.folds - 1):
                np.savez_compressed(out.with_suffix(".held-out.npz"), **answers)  # type: ignore[arg-type]
            _say(
                started,
                f"fold {number}: "
                + ", ".join(
                    f"{examples[i].name[-8:]} {report.held_out[examples[i].sha256]['iou']}" for i in sorted(held)
                ),
            )
        out.with_suffix(".json").write_text(json.dumps(asdict(report), indent=1), encoding="utf-8")
    with np.load(out.with_suffix(".npz")) as stored:
        network.export({name: stored[name] for name in stored.files}, out)
    _say(started, "done")
    return report


def _say(started: float, text: str) -> None:
    sys.stderr.write(f"{time.monotonic() - started:7.1f} s  {text}\n")
    sys.stderr.flush()


def _folds(examples: Sequence[Example], count: int) -> list[list[int]]:
    """Each fold holds out one sheet (as long as there are any) and every n-th other specimen."""
    groups: list[list[int]] = [[] for _ in range(count)]
    for is_plant in (True, False):
        chosen = [index for index, item in enumerate(examples) if item.is_plant is is_plant]
        for place, index in enumerate(chosen):
            groups[place % count].append(index)
    return groups


def _one(
    index: int, *, seed: int, part: int, cutouts: Sequence[Cutout], labels: Sequence[Array]
) -> tuple[Array, tuple[int, int], frozenset[int]]:
    scene = make_picture(np.random.default_rng((seed, part, index)), SIDE, cutouts, labels)
    height, width = scene.classes.shape
    canvas = np.zeros((SIDE, SIDE, 4), np.uint8)
    canvas[:height, :width, :3] = scene.pixels
    canvas[:height, :width, 3] = scene.truth()
    return canvas, (height, width), frozenset(scene.sources)


def _made(
    settings: Settings, part: int, count: int, cutouts: Sequence[Cutout], labels: Sequence[Array], device: str
) -> Store:
    import torch

    make = partial(_one, seed=settings.seed, part=part, cutouts=cutouts, labels=labels)
    pictures = np.zeros((count, SIDE, SIDE, 4), np.uint8)
    sizes, sources = [], []

    def take(results: Iterator[tuple[Array, tuple[int, int], frozenset[int]]]) -> None:
        for index, (canvas, size, used) in enumerate(results):
            pictures[index] = canvas
            sizes.append(size)
            sources.append(used)

    if settings.processes > 1:
        # Fresh processes: forked ones would inherit locks of the threads of OpenCV and CUDA, and wait for ever.
        fresh = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(settings.processes, mp_context=fresh, initializer=_one_thread) as pool:
            take(pool.map(make, range(count), chunksize=max(1, count // (4 * settings.processes))))
    else:
        take(map(make, range(count)))
    ones = torch.ones(count, dtype=torch.bool, device=device)
    return Store(torch.from_numpy(pictures).to(device), torch.tensor(sizes, device=device), sources, ones)


def _one_thread() -> None:
    import cv2

    cv2.setNumThreads(1)


def _real(examples: Sequence[Example], device: str) -> Store:
    """Real pictures; where the class is unknown, 32 marks a specimen and 64 what is none."""
    import torch

    pictures = np.zeros((len(examples), SIDE, SIDE, 4), np.uint8)
    sizes = []
    for index, item in enumerate(examples):
        height, width = item.mask.shape
        truth = np.where(item.classes == UNKNOWN, np.where(item.mask > 0, 32, 64), item.classes)
        pictures[index, :height, :width, :3] = item.pixels
        pictures[index, :height, :width, 3] = truth
        sizes.append((height, width))
    known = torch.zeros(len(examples), dtype=torch.bool, device=device)
    return Store(
        torch.from_numpy(pictures).to(device),
        torch.tensor(sizes, device=device),
        [frozenset((i,)) for i in range(len(examples))],
        known,
    )


def _mix(
    examples: Sequence[Example], mixed: Store, real: Store, held: set[int]
) -> list[tuple[Store, list[int], float]]:
    allowed = [index for index, used in enumerate(mixed.sources) if not used & held]
    plants = [index for index, item in enumerate(examples) if item.is_plant and index not in held]
    others = [index for index, item in enumerate(examples) if not item.is_plant and index not in held]
    return [(mixed, allowed, 0.5), (real, plants, 0.3), (real, others, 0.2)]


def _copy(net: Any, device: str) -> Any:
    import copy

    import torch

    return copy.deepcopy(net).to(device, memory_format=torch.channels_last)


def _batch(mix: Sequence[tuple[Store, list[int], float]], size: int, generator: Any) -> tuple[Any, Any, Any]:
    """Random views: (n, 3, CROP, CROP) floats, truth bytes, and whether every class and rim is known."""
    import torch
    from torch.nn import functional

    device = mix[0][0].pictures.device

    def uniform(low: float, high: float, *shape: int) -> Any:
        return torch.rand(shape or (size,), generator=generator, device=device) * (high - low) + low

    def normal(*shape: int) -> Any:
        return torch.randn(shape, generator=generator, device=device)

    parts, sizes, known = [], [], []
    left = size
    for place, (store, allowed, share) in enumerate(mix):
        count = left if place == len(mix) - 1 else round(size * share)
        left -= count
        choice = torch.tensor(allowed, device=device)[
            torch.randint(len(allowed), (count,), generator=generator, device=device)
        ]
        parts.append(store.pictures[choice])
        sizes.append(store.sizes[choice])
        known.append(store.has_classes[choice])
    pictures, extent, has_classes = torch.cat(parts), torch.cat(sizes).float(), torch.cat(known)

    angle = torch.randint(4, (size,), generator=generator, device=device) * (torch.pi / 2) * (uniform(0, 1) < 0.5)
    angle = angle + normal(size) * 0.06 + (uniform(0, 1) < 0.15) * uniform(-0.6, 0.6)
    zoom = torch.exp(uniform(float(np.log(0.6)), float(np.log(1.5))))
    flip = torch.where(uniform(0, 1) < 0.5, -1.0, 1.0)
    stretch = torch.exp(normal(size) * 0.06)
    axis = (torch.arange(CROP, device=device) - (CROP - 1) / 2).float()
    ys, xs = torch.meshgrid(axis, axis, indexing="ij")
    cos, sin = (torch.cos(angle) / zoom)[:, None, None], (torch.sin(angle) / zoom)[:, None, None]
    u = (xs * cos - ys * sin) * flip[:, None, None] * stretch[:, None, None]
    v = xs * sin + ys * cos
    height, width = extent[:, 0], extent[:, 1]
    reach = CROP / zoom / 2
    free_x, free_y = (width / 2 - reach * 0.7).clamp(min=0), (height / 2 - reach * 0.7).clamp(min=0)
    x = u + (width / 2 + uniform(-1, 1) * free_x)[:, None, None]
    y = v + (height / 2 + uniform(-1, 1) * free_y)[:, None, None]

    def mirrored(value: Any, limit: Any) -> Any:
        limit = (limit - 1)[:, None, None]
        return limit - (torch.remainder(value, 2 * limit) - limit).abs()

    x, y = mirrored(x, width), mirrored(y, height)
    grid = torch.stack([(x * 2 + 1) / SIDE - 1, (y * 2 + 1) / SIDE - 1], -1)
    planes = pictures.permute(0, 3, 1, 2)
    pixels = functional.grid_sample(planes[:, :3].float(), grid, mode="bilinear", align_corners=False)
    truth = (
        functional.grid_sample(planes[:, 3:].float(), grid, mode="nearest", align_corners=False)[:, 0]
        .round()
        .to(torch.uint8)
    )

    gain = 1 + normal(size, 3, 1, 1) * 0.06
    light = torch.exp(normal(size, 1, 1, 1) * 0.16)
    grey = pixels.mean(1, keepdim=True)
    colour = (1 + normal(size, 1, 1, 1) * 0.25).clamp(0, 2)
    contrast = torch.exp(normal(size, 1, 1, 1) * 0.15)
    pixels = grey + (pixels - grey) * colour
    middle = pixels.mean((2, 3), keepdim=True)
    pixels = ((pixels - middle) * contrast + middle) * gain * light
    gamma = torch.exp(normal(size, 1, 1, 1) * 0.18)
    pixels = (pixels.clamp(0, 255) / 255) ** gamma * 255
    if float(uniform(0, 1, 1)) < 0.35:
        factor = float(uniform(0.3, 0.9, 1))
        small = functional.interpolate(pixels, scale_factor=factor, mode="bilinear", antialias=True)
        blurred = functional.interpolate(small, size=(CROP, CROP), mode="bilinear")
        pixels = torch.where((uniform(0, 1) < 0.6)[:, None, None, None], blurred, pixels)
    noise = normal(size, 3, CROP, CROP) * (uniform(0, 1) ** 2 * 9)[:, None, None, None]
    pixels = (pixels + noise).clamp(0, 255)
    return pixels.contiguous(memory_format=torch.channels_last), truth, has_classes


def _loss(logits: Any, truth: Any, has_classes: Any) -> Any:
    import torch
    from torch.nn import functional

    logits = logits.float()
    scores, rim = logits[:, :-1], logits[:, -1]
    truth = truth.long()
    classes = truth & 15
    unknown = truth >= 32
    specimen = torch.where(unknown, truth == 32, classes == 1)
    target = torch.where(unknown, torch.full_like(classes, -100), classes)
    weight = torch.tensor(WEIGHT_OF_CLASSES, device=logits.device)
    by_class = functional.cross_entropy(scores, target, weight=weight, ignore_index=-100)
    shares = torch.log_softmax(scores, 1)
    yes = shares[:, 1]
    no = torch.logsumexp(torch.cat([shares[:, :1], shares[:, 2:]], 1), 1)
    binary = -(torch.where(specimen, yes, no)).mean()
    chance = yes.exp()
    overlap = (chance * specimen).sum((1, 2))
    dice = 1 - (2 * overlap + 50) / (chance.sum((1, 2)) + specimen.sum((1, 2)) + 50)
    edge = ((truth & EDGE) > 0) & ~unknown
    by_rim = functional.binary_cross_entropy_with_logits(rim, edge.float(), reduction="none")
    by_rim = (by_rim * (1 + 4 * edge)).mean((1, 2)) * has_classes
    return by_class + binary + dice.mean() + 0.5 * by_rim.mean()


def _fit(
    net: Any, mix: Sequence[tuple[Store, list[int], float]], steps: int, settings: Settings, seed: int, rate: float
) -> Any:
    """Trains ``net`` and returns the running mean of its weights."""
    import copy

    import torch

    device = mix[0][0].pictures.device
    generator = torch.Generator(device=device).manual_seed(seed)
    encoder = [value for name, value in net.named_parameters() if name.startswith("_")]
    decoder = [value for name, value in net.named_parameters() if not name.startswith("_")]
    groups = [{"params": encoder, "lr": rate * 0.4}, {"params": decoder, "lr": rate}]
    optimiser = torch.optim.AdamW(groups, weight_decay=1e-2, fused=device.type == "cuda")
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, [rate * 0.4, rate], total_steps=max(2, steps), pct_start=0.15
    )
    mean = copy.deepcopy(net)
    means = [value for value in mean.state_dict().values() if value.dtype.is_floating_point]
    values = [value for value in net.state_dict().values() if value.dtype.is_floating_point]
    net.train()
    torch.backends.cudnn.benchmark = True
    for step in range(steps):
        pixels, truth, has_classes = _batch(mix, settings.batch, generator)
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            logits = net.logits(pixels)
        loss = _loss(logits, truth, has_classes)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 2.0)
        optimiser.step()
        schedule.step()
        keep = min(0.99, (1 + step) / (10 + step))
        with torch.no_grad():
            torch._foreach_lerp_(means, values, 1 - keep)
        if step % 50 == 0 or step == steps - 1:
            sys.stderr.write(f"    step {step} of {steps}: loss {float(loss.detach()):.4f}\n")
    return mean.eval()


def _seconds_a_step(net: Any, store: Store, settings: Settings) -> float:
    trial = _copy(net, str(store.pictures.device))
    quick = Settings(batch=settings.batch)
    everything = list(range(len(store.sources)))
    _fit(trial, [(store, everything, 1.0)], 6, quick, 0, 1e-4)
    begin = time.monotonic()
    _fit(trial, [(store, everything, 1.0)], 20, quick, 0, 1e-4)
    return (time.monotonic() - begin) / 20


def shares(net: Any, pixels: Array, device: str) -> np.ndarray[Any, np.dtype[np.float32]]:
    """What the network says of a picture, (10, h, w), as it will at run time."""
    import torch

    height, width = pixels.shape[:2]
    padded = np.pad(pixels, ((0, -height % 32), (0, -width % 32), (0, 0)), mode="edge")
    torch.backends.cudnn.benchmark = False  # every picture has a shape of its own
    with torch.no_grad():
        given = torch.from_numpy(padded).to(device).permute(2, 0, 1)[None].float()
        return np.asarray(net(given)[0, :, :height, :width].cpu().numpy(), np.float32)


def _ask(
    net: Any, examples: Sequence[Example], held: Sequence[int], number: int, report: Report, device: str
) -> dict[str, Array]:
    import cv2

    answers: dict[str, Array] = {}
    for index in held:
        item = examples[index]
        given = shares(net, item.pixels, device)
        turned = shares(net, np.ascontiguousarray(item.pixels[:, ::-1]), device)[:, :, ::-1]
        scores: dict[str, Any] = {"name": item.name, "fold": number}
        for name, value in (("iou", given), ("iou_flipped_too", (given + turned) / 2)):
            size = (item.full_mask.shape[1], item.full_mask.shape[0])
            full = cv2.resize(value[1], size, interpolation=cv2.INTER_LINEAR) >= 0.5
            truth = item.full_mask > 0
            scores[name] = round(float((full & truth).sum() / max(1, (full | truth).sum())), 4)
        report.held_out[item.sha256] = scores
        answers[item.sha256 + ".specimen"] = np.round(given[1] * 255).astype(np.uint8)
        answers[item.sha256 + ".class"] = given[:-1].argmax(0).astype(np.uint8)
        answers[item.sha256 + ".score"] = np.round(given[:-1].max(0) * 255).astype(np.uint8)
        answers[item.sha256 + ".rim"] = np.round(given[-1] * 255).astype(np.uint8)
    return answers


def _score_made(net: Any, settings: Settings, labels: Sequence[Array], device: str) -> dict[str, float]:
    """Means over made pictures that no training saw."""
    values, right, total = [], 0, 0
    for index in range(settings.scored_pictures):
        scene = make_picture(np.random.default_rng((settings.seed, 2, index)), SIDE, (), labels)
        given = shares(net, scene.pixels, device)
        chosen, truth = given[:-1].argmax(0), scene.classes
        right += int((chosen == truth).sum())
        total += truth.size
        if (truth == 1).any():
            both = (chosen == 1) | (truth == 1)
            values.append(float(((chosen == 1) & (truth == 1)).sum() / both.sum()))
    return {
        "iou": round(float(np.mean(values)), 4),
        "right_pixels": round(right / total, 4),
        "pictures": settings.scored_pictures,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line of the training."""
    parser = argparse.ArgumentParser(prog="runners.training.segment", description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--encoder", type=Path)
    defaults = Settings()
    for name, value in asdict(defaults).items():
        parser.add_argument("--" + name.replace("_", "-"), type=type(value), default=value)
    given = vars(parser.parse_args(arguments))
    data, out, encoder = given.pop("data"), given.pop("out"), given.pop("encoder")
    train(data, out, encoder=encoder, settings=Settings(**given))
    return 0


if __name__ == "__main__":
    sys.exit(main())
