"""Killing children: at a random moment, or at the N-th write boundary, after they acknowledged something.

A child prints ``ack ..`` lines. ``boundary_code`` makes it count its own fsyncs, links, renames and commits and kill
itself at a given one; ``run_and_kill`` kills from outside.
"""

import os
import random
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
HANGS_S = 600.0
"""A child that takes longer hangs: many times what the slowest takes on a busy machine."""

BOUNDARY_CODE = """
import os, signal, sqlite3
_left = [int(os.environ.get("KILL_AT", "0"))]
def tick(name):
    if _left[0]:
        _left[0] -= 1
        if not _left[0]:
            os.kill(os.getpid(), signal.SIGKILL)
def wrap(module, name):
    real = getattr(module, name)
    def counted(*args, **options):
        tick(name)
        answer = real(*args, **options)
        tick(name)
        return answer
    setattr(module, name, counted)
for _name in ("link", "unlink", "rename", "replace"):
    wrap(os, _name)
class Counted(sqlite3.Connection):
    def execute(self, sql, *rest):
        if sql.startswith(("COMMIT", "BEGIN IMMEDIATE")):
            tick(sql)
            answer = super().execute(sql, *rest)
            tick(sql)
            return answer
        return super().execute(sql, *rest)
_connect = sqlite3.connect
sqlite3.connect = lambda *args, **options: _connect(*args, **{"factory": Counted, **options})
_fsync = os.fsync
def counting_fsync(descriptor):
    tick("fsync"); _fsync(descriptor); tick("fsync")
"""


@dataclass(slots=True)
class Kills:
    """What a suite of kills counted. Only children that died of SIGKILL count."""

    kills: int = 0
    after_an_acknowledgement: int = 0
    acknowledged: int = 0
    """Acknowledgements that were out before the kills."""
    problems: int = 0
    """Lost, torn, and what fsck finds after the restart."""

    def add(self, acks: int, status: int, problems: list[str]) -> None:
        assert problems == []
        self.problems += len(problems)
        if status == -signal.SIGKILL:
            self.kills += 1
            self.after_an_acknowledgement += acks > 0
            self.acknowledged += acks


def start(
    code: str, *arguments: str, kill_at: int = 0, before: tuple[str, ...] = (), is_fed: bool = False
) -> subprocess.Popen[bytes]:
    """Starts a child with this checkout and the tests on its path.

    Args:
        code: what it does.
        arguments: it gets.
        kill_at: the write boundary at which it kills itself; 0 is none.
        before: a command that runs it.
        is_fed: whether it has an input.
    """
    environment = {
        **os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "tests"))), "PYTHONUNBUFFERED": "1",
        "KILL_AT": str(kill_at),
    }  # fmt: skip
    return subprocess.Popen(
        [*before, sys.executable, "-P", "-c", BOUNDARY_CODE + code, *arguments],
        stdin=subprocess.PIPE if is_fed else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        env=environment,
    )


def finish(child: subprocess.Popen[bytes], *, timeout_s: float = HANGS_S) -> tuple[list[str], int]:
    """Acknowledgements and exit code of a child that ends by itself."""
    out, _ = child.communicate(timeout=timeout_s)
    return _acks(out), child.returncode


def kill_after_first_ack(
    child: subprocess.Popen[bytes], rng: random.Random, *, spread_s: float, least: int = 0
) -> tuple[list[str], int]:
    """Waits for the first acknowledgement (of numbers: of ``least`` or more), then a random moment, then SIGKILL;
    everything acknowledged until then.
    """
    assert child.stdout is not None
    out = b""
    while b"\n" not in out or (least and not any(ack == "all" or int(ack) >= least for ack in _acks(out)[-1:])):
        block = os.read(child.stdout.fileno(), 65_536)
        if not block:
            break
        out += block
    end = time.monotonic() + rng.uniform(0, spread_s)
    while (left := end - time.monotonic()) > 0:
        ready, _, _ = select.select([child.stdout], [], [], left)
        if ready:
            block = os.read(child.stdout.fileno(), 65_536)
            if not block:
                break
            out += block
    child.send_signal(signal.SIGKILL)
    out += child.stdout.read()
    child.stdout.close()
    child.wait()
    return _acks(out), child.returncode


def act_after_acks(
    child: subprocess.Popen[bytes], count: int | None, act: Callable[[], None]
) -> tuple[list[str], list[str]]:
    """Does something to a working child after so many acknowledgements, or (None) once it says that all is done.

    A child that says "all" waits for the end of its input.

    Returns:
        What it acknowledged before, and what it said while that was done or afterwards.
    """
    assert child.stdout is not None
    assert child.stdin is not None
    out = b""
    while (not out.endswith(b"all\n") and (count is None or len(_acks(out)) < count)) or _has_more(child):
        block = os.read(child.stdout.fileno(), 65_536)
        if not block:
            break
        out += block
    before = len(_acks(out))
    act()
    child.stdin.close()
    out += child.stdout.read()
    child.stdout.close()
    child.wait()
    acks = _acks(out)
    return acks[:before], acks[before:]


def _has_more(child: subprocess.Popen[bytes]) -> bool:
    return bool(select.select([child.stdout], [], [], 0)[0])


def _acks(out: bytes) -> list[str]:
    # A line without its end was being written when the child died: it was not yet said.
    whole = out[: out.rfind(b"\n") + 1]
    return [line.removeprefix("ack ") for line in whole.decode().splitlines() if line.startswith("ack ")]
