"""What the benchmarks share: repeated timings in one run, and a table of ratios with their spread."""

import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass


def repeat(work: Callable[[], object], *, times: int, prepare: Callable[[], object] = lambda: None) -> list[float]:
    """Seconds of each of ``times`` runs."""
    found = []
    for _ in range(times):
        prepare()
        started = time.perf_counter()
        work()
        found.append(time.perf_counter() - started)
    return found


def show(title: str, rows: list[tuple[str, list[float], str]], *, base: str, higher_is_better: bool = False) -> None:
    """Prints median, spread and the ratio to ``base`` (1.00 is as good as it, more is better)."""
    print(f"\n{title}")
    reference = statistics.median(next(values for name, values, _ in rows if name == base))
    print(f"  {'what':<44} {'median':>10} {'min..max':>21} {'n':>3} {'of ' + base[:18]:>22}")
    for name, values, unit in rows:
        middle = statistics.median(values)
        ratio = middle / reference if higher_is_better else reference / middle
        spread = f"{min(values):.3f}..{max(values):.3f}"
        print(f"  {name:<44} {middle:>9.3f}{unit} {spread:>21} {len(values):>3} {ratio:>22.2f}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """One run: seconds on the clock, and processor seconds of this process and its children."""

    wall_s: float
    cpu_s: float


def in_turns(
    works: dict[str, Callable[[], None]],
    *,
    times: int,
    before: dict[str, Callable[[], None]] | None = None,
    between: Callable[[], None] = lambda: None,
) -> dict[str, list[Timing]]:
    """Each kind of work once per turn, so that a noisy minute falls on all of them.

    ``before`` (by name of the work) and ``between`` are outside the clock.
    """
    found: dict[str, list[Timing]] = {name: [] for name in works}
    for _ in range(times):
        for name, work in works.items():
            (before or {}).get(name, lambda: None)()
            cpu, started = _cpu_s(), time.perf_counter()
            work()
            found[name].append(Timing(wall_s=time.perf_counter() - started, cpu_s=_cpu_s() - cpu))
            between()
    return found


def show_timings(title: str, found: dict[str, list[Timing]], *, base: str) -> None:
    """Median, spread, processor seconds, and the ratio to ``base``: of the medians and of the best runs."""
    print(f"\n{title}")
    middle, best = statistics.median(item.wall_s for item in found[base]), min(item.wall_s for item in found[base])
    print(f"  {'what':<28} {'median s':>9} {'min..max':>15} {'n':>3} {'CPU s':>7} {'of base':>8} {'best of best':>13}")
    for name, items in found.items():
        walls = [item.wall_s for item in items]
        cpu = statistics.median(item.cpu_s for item in items)
        spread = f"{min(walls):.2f}..{max(walls):.2f}"
        print(
            f"  {name:<28} {statistics.median(walls):>9.3f} {spread:>15} {len(walls):>3} {cpu:>7.2f}"
            f" {middle / statistics.median(walls):>8.2f} {best / min(walls):>13.2f}",
            flush=True,
        )


def _cpu_s() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system
