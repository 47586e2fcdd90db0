"""How often the statements under a rule are right, estimated from a random sample.

The interval is Wilson's score interval (E. B. Wilson 1927, JASA 22: 209-212), which keeps its promise for small samples
and for shares near 0 and 1, where the textbook interval has no width at all.
"""

import math
from dataclasses import dataclass
from typing import Final

Z_95: Final = 1.959963984540054
"""The 0.975 quantile of the normal distribution: 95 of 100 such intervals hold the true share."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Precision:
    """An estimated share with its 95 % interval; 0 to 1."""

    right: int
    decided: int
    estimate: float
    low: float
    high: float

    def to_text(self) -> str:
        """As people read it."""
        if not self.decided:
            return "not known yet: nothing of the sample is decided"
        return (
            f"{self.estimate:.3f} (95 % interval {self.low:.3f} to {self.high:.3f}; "
            f"{self.right} of {self.decided} right)"
        )


def wilson(right: int, decided: int) -> Precision:
    """The share of ``right`` among ``decided``, with its interval; 0 to 1 when nothing is decided.

    Raises:
        ValueError: more are right than decided.
    """
    if not 0 <= right <= decided:
        raise ValueError(f"{right} of {decided} cannot be right")
    if decided == 0:
        return Precision(right=0, decided=0, estimate=0.0, low=0.0, high=1.0)
    share, z2 = right / decided, Z_95 * Z_95
    middle = (share + z2 / (2 * decided)) / (1 + z2 / decided)
    half = Z_95 * math.sqrt(share * (1 - share) / decided + z2 / (4 * decided * decided)) / (1 + z2 / decided)
    return Precision(
        right=right, decided=decided, estimate=share,
        low=0.0 if right == 0 else max(0.0, middle - half), high=1.0 if right == decided else min(1.0, middle + half),
    )  # fmt: skip
