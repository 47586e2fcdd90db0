"""Whose turn it is: anonymous requests wait in one line, and step back while a known person works with the node.

An event loop does what comes in the order in which it comes, so a thousand crawlers make everybody wait a thousand
turns. Here only a few anonymous requests are worked on at a time; the others wait without costing anything. While a
known person works with the node they are worked on one by one, with a pause after each as long as it took, and none
begins while a request of that person is being answered.

Invariants:
- First come, first served among the anonymous; nobody overtakes the line.
- A known person never waits here. The public never stops: a request of a known person holds it up for two seconds at
  most (a long download of staff does not).
- Only the work on an answer counts, not sending it to a slow client.

It leaves out: limits per address (``node.web.rates``), HTTP.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from typing import Final

PRESENT_S: Final = 60.0
"""How long after a request of a known person the public steps back."""
HOLD_S: Final = 2.0
MOST_PAUSE_S: Final = 0.05


class Gate:
    """One line; used by the event loop only."""

    def __init__(self, at_work: int, clock_s: Callable[[], float]) -> None:
        self._at_work = at_work
        self._clock_s = clock_s
        self._working = 0
        self._line: deque[asyncio.Future[None]] = deque()
        self._people = 0
        self._last_person = float("-inf")
        self._began = 0.0
        self._pause_until = 0.0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def waiting(self) -> int:
        """How many stand in the line."""
        return len(self._line)

    def try_enter(self) -> bool:
        """Whether a request may begin at once; then ``leave`` must follow."""
        now = self._clock_s()
        if self._line or self._working >= self._room(now):
            return False
        self._working += 1
        self._began = now
        return True

    async def enter(self) -> None:
        """Waits for the turn; then ``leave`` must follow. Safe to cancel."""
        turn = asyncio.get_running_loop().create_future()
        self._line.append(turn)
        self._go_on()
        try:
            await turn
        except BaseException:
            if turn.done() and not turn.cancelled():
                self.leave()
            else:
                with contextlib.suppress(ValueError):  # passed over already
                    self._line.remove(turn)
            raise

    def leave(self) -> None:
        """The work on an answer ended."""
        self._working -= 1
        now = self._clock_s()
        if now - self._last_person < PRESENT_S:
            self._pause_until = now + min(now - self._began, MOST_PAUSE_S)
        if self._line:
            self._go_on()

    def person_came(self) -> None:
        """A request of a known person begins."""
        self._people += 1
        self._last_person = self._clock_s()

    def person_left(self) -> None:
        """It was answered."""
        self._people -= 1
        if self._line:
            self._go_on()

    def _room(self, now: float) -> int:
        since = now - self._last_person
        if since > PRESENT_S:
            return self._at_work
        if now < self._pause_until or (self._people and since < HOLD_S):
            return 0
        return 1

    def _go_on(self) -> None:
        """Lets in who may come now, and looks again when the rest may."""
        now = self._clock_s()
        room = self._room(now)
        while self._line and self._working < room:
            turn = self._line.popleft()
            if not turn.done():
                self._working += 1
                self._began = now
                turn.set_result(None)
        if self._line and self._timer is None and now - self._last_person <= PRESENT_S:
            over = self._last_person + HOLD_S if self._people else 0.0
            wait = max(self._pause_until, over) - now
            if wait > 0:
                self._timer = asyncio.get_running_loop().call_later(wait, self._timer_over)

    def _timer_over(self) -> None:
        self._timer = None
        self._go_on()
