"""What the benchmarks share: repeated timings in one run, and a table of ratios with their spread."""

import statistics
import time
from collections.abc import Callable


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
