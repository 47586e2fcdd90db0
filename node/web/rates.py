"""Counting what an address, its neighbours, a session and everybody together take: pure, time is an argument.

Meters are leaky: a meter says until when what was taken so far is paid for, and may run ahead by one period (a minute
of requests, a day of bytes). So nothing is reset at midnight, and a meter is one number.

Invariants:
- Memory is fixed: the counters used last are kept, and one that is dropped forgives what it had counted.
- A refusal charges nothing.

It leaves out: who asks, and what is answered (``node.web.limits``).
"""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

MINUTE_S: Final = 60.0
DAY_S: Final = 86_400.0
MOST_COUNTERS: Final = 20_000
"""About 6 MB in all."""


class Counter:
    """What one party takes."""

    __slots__ = ("bytes_until", "requests_until", "running")

    def __init__(self) -> None:
        self.requests_until = 0.0
        self.bytes_until = 0.0
        self.running = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """What one party may take; 0: as much as it likes."""

    requests_per_minute: int = 0
    bytes_per_day: int = 0
    concurrent: int = 0

    def times(self, factor: int) -> "Allowance":
        """So many times as much."""
        return Allowance(
            requests_per_minute=self.requests_per_minute * factor, bytes_per_day=self.bytes_per_day * factor,
            concurrent=self.concurrent * factor,
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Excess:
    """Why a request is refused."""

    what: str
    """In words, with the limit."""
    retry_after_s: float


class Rates:
    """The counters of everybody with one allowance."""

    __slots__ = ("_allowance", "_byte_s", "_counters", "_request_s", "is_off", "most")

    def __init__(self, allowance: Allowance, *, most: int = MOST_COUNTERS) -> None:
        self._allowance = allowance
        self._request_s = MINUTE_S / allowance.requests_per_minute if allowance.requests_per_minute else 0.0
        self._byte_s = DAY_S / allowance.bytes_per_day if allowance.bytes_per_day else 0.0
        self._counters: OrderedDict[str, Counter] = OrderedDict()
        self.is_off = allowance == Allowance()
        self.most = most

    def __len__(self) -> int:
        return len(self._counters)

    def counter(self, key: str) -> Counter:
        """The counter of a party, which is now the one used last."""
        counters = self._counters
        found = counters.get(key)
        if found is not None:
            counters.move_to_end(key)
            return found
        found = counters[key] = Counter()
        if len(counters) > self.most:
            counters.popitem(last=False)
        return found

    def excess(self, counter: Counter, now: float) -> Excess | None:
        """What one more request would exceed; None when it may come."""
        allowance = self._allowance
        if counter.requests_until - now > MINUTE_S - self._request_s and self._request_s:
            wait = counter.requests_until - now - (MINUTE_S - self._request_s)
            return Excess(what=f"{allowance.requests_per_minute} requests a minute", retry_after_s=wait)
        if counter.bytes_until - now > DAY_S:
            what = f"{allowance.bytes_per_day / 1e9:.1f} GB a day"
            return Excess(what=what, retry_after_s=counter.bytes_until - now - DAY_S)
        if allowance.concurrent and counter.running >= allowance.concurrent:
            return Excess(what=f"{allowance.concurrent} requests at a time", retry_after_s=1.0)
        return None

    def begin(self, counter: Counter, now: float) -> None:
        """A request that was not refused begins."""
        until = counter.requests_until
        counter.requests_until = (until if until > now else now) + self._request_s
        counter.running += 1

    def end(self, counter: Counter, now: float, sent_bytes: int) -> None:
        """It ended."""
        counter.running -= 1
        if sent_bytes and self._byte_s:
            until = counter.bytes_until
            counter.bytes_until = (until if until > now else now) + self._byte_s * sent_bytes
