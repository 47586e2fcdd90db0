"""Rows prepared ahead of the writer: here, or in a process beside it while the writer is busy.

Invariants:
- Answers come in the order in which rows were handed in, whichever way they are made.
- A process that ends, for whatever reason, costs time only: what it owes is prepared here, and so is everything after.
- Memory stays flat: at most ``ahead`` batches are under way.

It leaves out: what rows say (``node.services.prepare_row``), the frames (``node.services.prepare_process``).
"""

import logging
import os
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import date
from pathlib import Path
from typing import IO, Final, Protocol

from linkeddata.checks import Checker
from linkeddata.source import SourceRow
from node.services.prepare_process import receive_prepared, send_rows, send_rules
from node.services.prepare_row import PreparedRow, RowRules, prepare_row

Rows = Sequence[tuple[SourceRow, Sequence[str]]]
"""Rows, each with the keys of its media that have a problem."""
BATCHES_AHEAD: Final = 2
MANY_ROWS: Final = 5_000
"""A process takes a second of the processor to start; so many rows take about one and a half to prepare."""
_KEPT_VARIABLES: Final = ("PATH", "LANG", "LC_ALL", "TMPDIR")
_log = logging.getLogger(__name__)


class Preparer(Protocol):
    """Takes rows, gives what they say."""

    ahead: int
    """So many batches may be handed in before the first is taken."""

    def hand_in(self, rows: Rows, today: date) -> None:
        """Rows of one batch."""

    def take(self) -> list[PreparedRow]:
        """What the rows of the oldest batch say."""


class PreparerHere:
    """In this process, when it is taken."""

    def __init__(self, rules: RowRules, checker: Checker, salt: bytes) -> None:
        self.ahead = 0
        self._rules, self._checker, self._salt = rules, checker, salt
        self._waiting: deque[tuple[Rows, date]] = deque()

    def hand_in(self, rows: Rows, today: date) -> None:
        """Keeps them."""
        self._waiting.append((rows, today))

    def take(self) -> list[PreparedRow]:
        """Prepares the oldest batch."""
        rows, today = self._waiting.popleft()
        return [
            prepare_row(row, self._rules, self._checker, today=today, salt=self._salt, with_problem=problems)
            for row, problems in rows
        ]


class PreparerBeside:
    """In a process of its own."""

    def __init__(self, process: "subprocess.Popen[bytes]", here: PreparerHere, rules: RowRules, salt: bytes) -> None:
        self.ahead = BATCHES_AHEAD
        self._process: subprocess.Popen[bytes] | None = process
        self._here = here
        self._waiting: deque[tuple[Rows, date]] = deque()
        self._send(lambda stream: send_rules(stream, rules, salt))

    def hand_in(self, rows: Rows, today: date) -> None:
        """Sends them."""
        self._waiting.append((rows, today))
        self._send(lambda stream: send_rows(stream, rows, today))

    def take(self) -> list[PreparedRow]:
        """Waits for the answer to the oldest batch."""
        rows, today = self._waiting.popleft()
        if self._process is not None and self._process.stdout is not None:
            answer = receive_prepared(self._process.stdout)
            if answer is not None:
                return answer
            self._give_up()
        self._here.hand_in(rows, today)
        return self._here.take()

    def _send(self, write: Callable[[IO[bytes]], None]) -> None:
        if self._process is not None and self._process.stdin is not None:
            try:
                write(self._process.stdin)
            except OSError:
                self._give_up()

    def _give_up(self) -> None:
        _log.warning("the process that prepares rows ended; they are prepared in the ingest itself, which takes longer")
        self._process = None


@contextmanager
def preparer(rules: RowRules, checker: Checker, salt: bytes, *, rows: int) -> Iterator[Preparer]:
    """A preparer for about so many rows: a process beside this one when they are many and there is a second core."""
    here = PreparerHere(rules, checker, salt)
    if rows < MANY_ROWS or len(os.sched_getaffinity(0)) < 2:
        yield here
        return
    environment = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
    environment["PYTHONPATH"] = str(Path(__file__).resolve().parent.parent.parent)
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "node.services.prepare_process"], env=environment, stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd="/",
    )  # fmt: skip
    try:
        yield PreparerBeside(process, here, rules, salt)
    finally:
        process.kill()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                with suppress(OSError):  # what was not sent yet goes nowhere
                    stream.close()
        process.wait()
