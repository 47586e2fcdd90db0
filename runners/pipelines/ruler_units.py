"""What a row of ticks means: millimetres, fractions of an inch, or nobody can tell.

Two kinds of evidence are taken, and nothing else:

- **lengths**: every tick has its rank (on a metric scale each fifth and tenth is longer, on an inch scale each second,
  fourth, eighth), so the pattern of lengths along the row says the unit and which multiple of it the step is;
- **a divided unit**: on museum cards only the first unit is divided; into ten on a centimetre scale, into eight or
  sixteen on an inch scale.

A row whose pattern fits both, or neither, has no unit. Lengths are in pixels of the picture given.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np

from runners.pipeline import Pixels
from runners.pipelines.ruler_chains import Chain, Vectors

MM_PER_INCH: Final = 25.4
MIN_EXPLAINED: Final = 0.7
"""Share of the variance of tick lengths that a pattern must explain."""
MIN_IN_RANK: Final = 0.8
"""Share of the longer ticks that must be as long as their rank says; strokes that are no ruler agree by chance only."""
FIGURE_CONTRAST: Final = 0.1
"""Step of brightness, in contrasts of a tick, that counts as a stroke of a figure."""
MIN_RANK_STEP: Final = 0.1
"""Each rank must be longer than the one below it by this share of the difference between the longest and shortest;
without this a scale of sixteenths also fits one of eighths."""
MARGIN: Final = 0.75
"""A pattern of the other system may explain at most this share of what the best one explains."""
MIN_PROMINENCE: Final = 2.0
"""How far the amplitude of the number of parts must stand above that of every other number."""
COUNTED_PROMINENCE: Final = 1.2
"""The same where the parts are also seen as ticks, one by one."""
MAX_PARTS: Final = 24
MIN_UNITS: Final = 4
"""Plain units beside a divided one."""
SAMPLES_PER_PX: Final = 2.0
MAX_SAMPLES: Final = 24_000
SMOOTHED: Final = 0.15
"""Running mean along the ticks, in lengths of a tick: ink has gaps."""
OUTWARD: Final = 3.4
"""How far beyond the row longer ticks are followed, in lengths of a tick."""

Unit = Literal["mm", "in"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pattern:
    """Ranks of the ticks of one period."""

    name: str
    unit: Unit
    step_mm: float
    ranks: tuple[int, ...]
    min_periods: float
    """How much of it must be in view, so that nothing longer can hide."""


def _binary(parts: int) -> tuple[int, ...]:
    ranks = []
    for number in range(parts):
        rank, rest = 1, number
        while rest % 2 == 0 and rank < parts.bit_length():
            rank, rest = rank + 1, rest // 2
        ranks.append(rank)
    return tuple(ranks)


PATTERNS: Final = (
    Pattern(name="1 mm", unit="mm", step_mm=1.0, ranks=(3, 1, 1, 1, 1, 2, 1, 1, 1, 1), min_periods=1.5),
    Pattern(name="1 mm, tens", unit="mm", step_mm=1.0, ranks=(2, 1, 1, 1, 1, 1, 1, 1, 1, 1), min_periods=2.1),
    Pattern(
        name="0.5 mm", unit="mm", step_mm=0.5, ranks=(4, 1, 2, 1, 2, 1, 2, 1, 2, 1, 3, 1, 2, 1, 2, 1, 2, 1, 2, 1),
        min_periods=1.1,
    ),
    Pattern(name="1/8 in", unit="in", step_mm=MM_PER_INCH / 8, ranks=_binary(8), min_periods=1.6),
    Pattern(name="1/16 in", unit="in", step_mm=MM_PER_INCH / 16, ranks=_binary(16), min_periods=1.3),
    Pattern(name="1/32 in", unit="in", step_mm=MM_PER_INCH / 32, ranks=_binary(32), min_periods=1.2),
)  # fmt: skip
DIVISIONS: Final[dict[int, tuple[Unit, float]]] = {10: ("mm", 10.0), 8: ("in", MM_PER_INCH), 16: ("in", MM_PER_INCH)}
"""Parts of a divided unit -> what the unit is, in mm."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A row of ticks with its unit."""

    px_per_mm: float
    unit: Unit
    how: str
    """``1 mm``, ``1/16 in``, .. or ``divided cm``, ``divided in``."""
    score: float
    """0 to 1: how clear the evidence is."""
    ticks: int
    bend: float
    """Relative difference of the scale between the two halves of the row."""
    corners: Vectors
    """(4, 2), around the ticks."""


class Strip:
    """The picture around one chain, straightened: rows along the ticks, columns along the ruler."""

    def __init__(self, grey: Pixels, chain: Chain) -> None:
        import cv2

        self.chain = chain
        self.axis = chain.axis
        self.along = np.array([chain.axis[1], -chain.axis[0]])
        centre = chain.points.mean(axis=0)
        position = (chain.points - centre) @ self.axis
        self.step, start = (float(value) for value in np.polyfit(chain.index, position, 1))
        self.origin = centre + start * self.axis
        first, last = np.quantile(chain.starts, 0.5), np.quantile(chain.ends, 0.5)
        self.first, self.last = float(first), float(last)
        self.length = max(2.0, self.last - self.first)
        self.low = -1.6 * self.step
        self.high = (int(chain.index[-1]) + 1.6) * self.step
        per_px = min(SAMPLES_PER_PX, MAX_SAMPLES / (self.high - self.low))
        self.columns = np.arange(self.low, self.high, 1 / per_px)
        beyond = OUTWARD * self.length
        self.row_step = max(0.5, self.length / 24)
        self.rows = np.arange(self.first - beyond, self.last + beyond, self.row_step)
        grid = (
            self.origin[None, None, :]
            + self.columns[None, :, None] * self.axis[None, None, :]
            + self.rows[:, None, None] * self.along[None, None, :]
        ).astype(np.float32)
        self.pixels = cv2.remap(
            grey, grid[:, :, 0], grid[:, :, 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        ).astype(np.float64)
        self.inside = (
            (grid[:, :, 0] >= 0)
            & (grid[:, :, 1] >= 0)
            & (grid[:, :, 0] <= grey.shape[1] - 1)
            & (grid[:, :, 1] <= grey.shape[0] - 1)
        )

    def band(self, low: float = 0.15, high: float = 0.85) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Rows between two fractions of the tick."""
        return (self.rows >= self.first + low * self.length) & (self.rows <= self.first + high * self.length)

    def profile(self, rows: np.ndarray[Any, np.dtype[np.bool_]]) -> Vectors:
        """Mean brightness along the ruler."""
        mean: Vectors = self.pixels[rows].mean(axis=0)
        return mean

    def at(self, profile: Vectors, places: Vectors) -> Vectors:
        """Values of a profile at places along the ruler, pixels."""
        return np.interp(places, self.columns, profile)

    def corners(self, low: float, high: float) -> Vectors:
        """Of the rectangle around the ticks, between two places along the ruler."""
        return np.array(
            [
                self.origin + place * self.axis + row * self.along
                for place, row in ((low, self.first), (high, self.first), (high, self.last), (low, self.last))
            ]
        )


def read_chain(grey: Pixels, chain: Chain, others: Sequence[Chain] = ()) -> Reading | None:
    """The unit of a chain, where the picture says it clearly.

    ``others`` are the further chains of the picture: one inside the divided unit counts its parts a second time.
    """
    strip = Strip(grey, chain)
    if strip.band().sum() < 2:
        return None
    ticks = _ticks(strip)
    if ticks is None:
        return None
    return _by_lengths(strip, ticks) or _by_divided_unit(strip, ticks, others)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ticks:
    """Ticks found again in the strip."""

    sign: float
    """1 for bright ticks, -1 for dark ones."""
    contrast: float
    numbers: Vectors
    """Their places in steps, whole numbers."""
    places: Vectors
    """Pixels along the ruler."""
    step: float
    start: float
    bend: float
    residual: float


def _ticks(strip: Strip) -> _Ticks | None:
    """Sub-pixel places of the ticks, from the brightness along the row."""
    profile = strip.profile(strip.band())
    step = strip.step
    chain = strip.chain
    numbers = np.arange(-1, int(chain.index[-1]) + 2, dtype=np.float64)
    phases = np.arange(-0.5, 0.5, 1 / max(8.0, min(64.0, 2 * step)))
    folded = np.median(
        strip.at(profile, ((numbers[:, None] + phases[None, :]) * step).ravel()).reshape(len(numbers), -1), axis=0
    )
    middle = float(np.median(folded))
    sign = 1.0 if folded.max() - middle >= middle - folded.min() else -1.0
    peak = sign * (folded - middle)
    contrast = float(peak.max())
    if contrast < 4.0:
        return None
    centre = float(phases[int(np.argmax(peak))])
    width = float((peak > 0.5 * contrast).mean())
    if width > 0.6:
        return None
    reach = min(0.35 * step, max(1.5, width * step))
    window = np.arange(-reach, reach + 1e-9, 1 / (2 * SAMPLES_PER_PX))
    own = (chain.points - strip.origin) @ strip.axis
    guess = np.interp(numbers, chain.index.astype(np.float64), own) + centre * step
    guess[0], guess[-1] = guess[1] - step, guess[-2] + step
    values = sign * strip.at(profile, (guess[:, None] + window[None, :]).ravel()).reshape(len(numbers), -1)
    floor = np.quantile(values, 0.3, axis=1, keepdims=True)
    weights = np.clip(values - floor, 0, None)
    weights = np.where(weights > 0.4 * weights.max(axis=1, keepdims=True), weights, 0)
    seen = weights.max(axis=1) > 0.35 * contrast
    if seen.sum() < 6:
        return None
    offset = (weights * window).sum(axis=1)[seen] / weights.sum(axis=1)[seen]
    where, which = guess[seen] + offset, numbers[seen]
    for _ in range(3):
        slope, start = np.polyfit(which, where, 1)
        off = np.abs(where - start - slope * which)
        keep = off <= max(0.15, 3 * float(np.median(off)))
        if keep.all() or keep.sum() < 6:
            break
        where, which = where[keep], which[keep]
    slope, start = (float(value) for value in np.polyfit(which, where, 1))
    curve = np.polyfit(which, where, 2)
    residual = float(np.sqrt(np.mean((where - np.polyval(curve, which)) ** 2))) / slope
    half = len(which) // 2
    bend = (
        abs(float(np.polyfit(which[:half], where[:half], 1)[0] / np.polyfit(which[half:], where[half:], 1)[0]) - 1)
        if half >= 4
        else 0.0
    )
    return _Ticks(
        sign=sign, contrast=contrast, numbers=which, places=where, step=slope, start=start, bend=bend,
        residual=residual,
    )  # fmt: skip


def _by_lengths(strip: Strip, ticks: _Ticks) -> Reading | None:
    if len(ticks.numbers) < 11 or ticks.residual > 0.06 or _is_skipping(strip, ticks):
        return None
    numbers = np.arange(0, int(strip.chain.index[-1]) + 1)
    best: tuple[float, Pattern, float] | None = None
    for sign, shift in ((ticks.sign, 0.0), (-ticks.sign, 0.5)):  # where ticks are as wide as gaps, either may be either
        places = np.asarray(ticks.start + ticks.step * (numbers + shift), dtype=np.float64)
        for side in _lengths(strip, sign, ticks.step, places):
            found = _best_pattern(side.lengths)
            if found is None or (best is not None and found[0] <= best[0]):
                continue
            if found[1].unit == "in":
                certainty = _figures(strip, side, ticks.step, places, found[1], found[3], ticks.contrast)
                found = (found[0] * certainty, *found[1:])
            if found[0] >= MIN_EXPLAINED and (best is None or found[0] > best[0]):
                best = found[:3]
    if best is None:
        return None
    places = np.asarray(ticks.start + ticks.step * numbers, dtype=np.float64)
    share, pattern, rival = best
    return Reading(
        px_per_mm=ticks.step / pattern.step_mm,
        unit=pattern.unit,
        how=pattern.name,
        score=min(1.0, share * (1 - 0.5 * rival / share)),
        ticks=len(ticks.numbers),
        bend=ticks.bend,
        corners=strip.corners(float(places[0]), float(places[-1])),
    )


def _is_skipping(strip: Strip, ticks: _Ticks) -> bool:
    """Whether there are ticks between the ticks, in any band of rows."""
    inside = (strip.columns >= ticks.places[0]) & (strip.columns <= ticks.places[-1])
    places = strip.columns[inside]
    waves = np.exp(-2j * np.pi * np.arange(1, 13)[:, None] * places[None, :] / ticks.step)
    for low in np.arange(-0.75, 1.5, 0.25):
        rows = strip.band(low, low + 0.25)
        if not rows.any():
            continue
        values = strip.profile(rows)[inside]
        values = values - values.mean()
        powers = np.abs(waves @ values) / len(values)
        if powers[1:].max() > 0.06 * ticks.contrast and powers[0] < 0.85 * powers[1:].max():
            return True
    return False


@dataclass(frozen=True, slots=True, kw_only=True)
class _Side:
    """One side of a row, onto which longer ticks reach out."""

    lengths: Vectors
    rows: np.ndarray[Any, np.dtype[np.int64]]
    """Of the strip, from the middle of the ticks outwards."""


def _lengths(strip: Strip, sign: float, step: float, places: Vectors) -> Iterator[_Side]:
    """How far each tick goes from its middle, pixels, to either side."""
    half = 0.5 * step
    thick = max(1 / SAMPLES_PER_PX, 0.15 * step)
    columns = np.arange(-thick, thick + 1e-9, 0.5)
    contrast = np.empty((len(strip.rows), len(places)))
    for number, row in enumerate(strip.pixels):
        on = strip.at(row, (places[:, None] + columns[None, :]).ravel()).reshape(len(places), -1).mean(axis=1)
        off = (strip.at(row, places - half) + strip.at(row, places + half)) / 2
        contrast[number] = sign * (on - off)
    middle = strip.band(0.3, 0.7)
    own = np.median(contrast[middle], axis=0)
    typical = float(np.median(own))
    if typical <= 2:
        return
    width = max(1, round(SMOOTHED * strip.length / strip.row_step))
    smooth = np.apply_along_axis(np.convolve, 0, contrast, np.full(width, 1 / width), "same")
    share = smooth / np.maximum(own, 0.35 * typical)
    inner = int(np.flatnonzero(middle)[len(np.flatnonzero(middle)) // 2])
    every = np.arange(len(strip.rows))
    for rows in (every[inner:], every[inner::-1]):
        reached = np.minimum.accumulate(np.where(share[rows] > 0.4, 1.0, 0.0), axis=0).sum(axis=0)
        yield _Side(lengths=reached * strip.row_step, rows=rows)


def _best_pattern(lengths: Vectors) -> tuple[float, Pattern, float, int] | None:
    """Share explained, pattern, share of the best rival, place of the first tick in the pattern."""
    explained = [(pattern, *_explained(lengths, pattern)) for pattern in PATTERNS]
    best: tuple[float, Pattern, float, int] | None = None
    for pattern, share, shift in explained:
        if len(lengths) < pattern.min_periods * len(pattern.ranks) or share < MIN_EXPLAINED:
            continue
        rival = max(
            (
                other_share
                for other, other_share, _ in explained
                if other.unit != pattern.unit or (other is not pattern and other_share > share)
            ),
            default=0.0,
        )
        if rival <= MARGIN * share and (best is None or share > best[0]):
            best = (share, pattern, rival, shift)
    return best


def _figures(
    strip: Strip, side: _Side, step: float, places: Vectors, pattern: Pattern, shift: int, contrast: float
) -> float:
    """How sure it is, 0 to 1, that the longest ticks are whole units, by the figures that stand beside them.

    On many scales the inch is hardly longer than the half, so sixteenths look like eighths: then only every second of
    the longest ticks has a figure. Without figures nothing is sure.
    """
    period = len(pattern.ranks)
    from_middle = np.abs(side.rows - side.rows[0]) * strip.row_step
    rows = side.rows[from_middle > np.median(side.lengths)]
    if len(rows) < 3:
        return 0.0
    offset = (strip.columns[:-1] - places[0]) / step
    is_beside = np.abs(offset - np.round(offset)) > 0.3
    is_beyond = from_middle[from_middle > np.median(side.lengths)] > side.lengths.max() + 2 * strip.row_step
    strokes = np.abs(np.diff(strip.pixels[rows], axis=1)) > FIGURE_CONTRAST * contrast
    ink = (strokes & (is_beside[None, :] | is_beyond[:, None])).sum(axis=0)
    tops = [place for number, place in enumerate(places) if (number + shift) % period == 0]
    mids = [place for number, place in enumerate(places) if (number + shift) % period == period // 2]

    def near(place: float) -> float:
        return float(ink[np.abs(strip.columns[:-1] - place) <= 0.22 * period * step].sum())

    figures, plain = [near(place) for place in tops], [near(place) for place in mids]
    if len(figures) < 2 or not plain or np.median(figures) < max(12.0, 2 * float(np.median(plain))):
        return 0.0
    even, odd = float(np.mean(figures[::2])), float(np.mean(figures[1::2]))
    return 0.0 if min(even, odd) < 0.3 * max(even, odd) else 1.0


def _explained(lengths: Vectors, pattern: Pattern) -> tuple[float, int]:
    """Share of the variance of the lengths that the ranks explain, and in which place; 0 if longer is not longer."""
    total = float(((lengths - lengths.mean()) ** 2).sum())
    if total < 1e-9 or float(np.ptp(lengths)) < 1.0:
        return 0.0, 0
    ranks = np.array(pattern.ranks)
    best, place = 0.0, 0
    for shift in range(len(ranks)):
        rank = ranks[(np.arange(len(lengths)) + shift) % len(ranks)]
        groups = [lengths[rank == value] for value in sorted(set(rank.tolist()))]
        if len(groups) < 2:
            continue
        means = [float(np.median(group)) for group in groups]
        if min(np.diff(means)) < max(1.0, MIN_RANK_STEP * (means[-1] - means[0])):
            continue
        if _in_rank(lengths, rank, means) < MIN_IN_RANK:
            continue
        within = sum(float(((group - group.mean()) ** 2).sum()) for group in groups)
        if 1 - within / total > best:
            best, place = 1 - within / total, shift
    return best, place


def _in_rank(lengths: Vectors, rank: np.ndarray[Any, np.dtype[np.int64]], means: list[float]) -> float:
    """Share of the ticks above the lowest rank whose length is nearest to that of their own rank."""
    nearest = np.abs(lengths[:, None] - np.array(means)[None, :]).argmin(axis=1)
    own = np.searchsorted(np.unique(rank), rank)
    longer = own > 0
    return float((nearest == own)[longer].mean()) if longer.any() else 0.0


def _by_divided_unit(strip: Strip, ticks: _Ticks, others: Sequence[Chain]) -> Reading | None:
    if ticks.residual > 0.03 or ticks.bend > 0.04:
        return None
    found: list[tuple[int, int, float, float]] = []
    loud: set[int] = set()
    last = int(strip.chain.index[-1])
    finest = int(min(MAX_PARTS, ticks.step * 0.49))
    for low, high in ((0.1, 0.9), (0.1, 0.5), (0.5, 0.9)):
        profile = strip.profile(strip.band(low, high))
        here, powers = [], []
        for unit in range(-1, last + 1):
            parts, prominence, power = _division(strip, profile, ticks.start + unit * ticks.step, ticks.step, finest)
            if 0 <= unit < last:
                powers.append(power)
            if parts not in DIVISIONS or power < 0.1 * ticks.contrast or prominence < COUNTED_PROMINENCE:
                continue
            if _is_counted(strip, ticks, unit, parts, others):
                prominence += MIN_PROMINENCE
            if prominence >= MIN_PROMINENCE:
                here.append((unit, parts, prominence, power))
        usual = float(np.median(powers))
        here = [item for item in here if item[3] > 5 * usual]
        noisy = {number for number, power in enumerate(powers) if power > 0.06 * ticks.contrast}
        if here and (not found or max(item[2] for item in here) > max(item[2] for item in found)):
            found, loud = here, noisy
    votes = {item[1] for item in found}
    if len(votes) != 1:
        return None
    runs = _plain_runs([number for number, *_ in found], last, loud)
    if not runs:
        return None
    first_unit, last_unit = runs
    system, millimetres = DIVISIONS[votes.pop()]
    prominence = max(item[2] for item in found)
    inside = (ticks.numbers >= first_unit) & (ticks.numbers <= last_unit)
    if inside.sum() < MIN_UNITS:
        return None
    step, start = (float(value) for value in np.polyfit(ticks.numbers[inside], ticks.places[inside], 1))
    return Reading(
        px_per_mm=step / millimetres,
        unit=system,
        how="divided cm" if system == "mm" else "divided in",
        score=min(1.0, 0.4 + 0.1 * prominence),
        ticks=int(inside.sum()),
        bend=ticks.bend,
        corners=strip.corners(start + first_unit * step, start + last_unit * step),
    )


def _is_counted(strip: Strip, ticks: _Ticks, unit: int, parts: int, others: Sequence[Chain]) -> bool:
    """Whether a chain of its own lies in the unit, with the step that its parts must have."""
    begin = ticks.start + unit * ticks.step
    for other in others:
        if abs(other.step * parts / ticks.step - 1) > 0.04 or other.count < 0.7 * parts:
            continue
        off = other.points - strip.origin
        along, beside = off @ strip.axis, off @ strip.along
        inside = (along > begin - 0.2 * ticks.step) & (along < begin + 1.2 * ticks.step)
        if inside.all() and np.all((beside > strip.first - strip.length) & (beside < strip.last + strip.length)):
            return True
    return False


def _plain_runs(divided: list[int], last: int, loud: set[int]) -> tuple[int, int] | None:
    """First and last tick of the divided unit and the longest run of plain units beside it, if that is long enough."""
    best: tuple[int, int] | None = None
    for unit in divided:
        low = high = unit
        while low - 1 >= 0 and low - 1 not in loud:
            low -= 1
        while high + 1 < last and high + 1 not in loud:
            high += 1
        for run in ((low, unit + 1), (unit, high + 1)):
            if run[1] - run[0] > MIN_UNITS and (best is None or run[1] - run[0] > best[1] - best[0]):
                best = run
    return best


def _division(strip: Strip, profile: Vectors, begin: float, step: float, finest: int) -> tuple[int, float, float]:
    """Into how many parts a unit is divided, the amplitude of that number against the next best one, and itself."""
    if begin < strip.columns[0] or begin + step > strip.columns[-1] or finest < 8:
        return 0, 0.0, 0.0
    samples = 240
    values = strip.at(profile, begin + (np.arange(samples) + 0.5) / samples * step)
    ends = np.minimum(np.arange(samples) + 0.5, samples - 0.5 - np.arange(samples))
    window = np.clip(ends / (samples / 10) - 0.4, 0, 1)
    values = (values - np.average(values, weights=window)) * window
    amplitude = np.abs(np.fft.rfft(values))[: finest + 1] / (samples / 4)
    parts = int(np.argmax(amplitude[3:])) + 3
    if parts % 2 == 0 and parts >= 16 and amplitude[parts // 2] > 0.35 * amplitude[parts]:
        parts //= 2
    rivals = [number for number in range(3, finest + 1) if min(number % parts, -number % parts) > 1]
    rival = float(amplitude[rivals].max()) if rivals else float("inf")
    return parts, float(amplitude[parts]) / max(rival, 1e-6), float(amplitude[parts])
