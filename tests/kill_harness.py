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
from pathlib import Path

ROOT = Path(__file__).parent.parent

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


def start(code: str, *arguments: str, kill_at: int = 0, before: tuple[str, ...] = ()) -> subprocess.Popen[bytes]:
    """Starts a child with this checkout and the tests on its path; ``before`` is a command that runs it."""
    environment = {
        **os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "tests"))), "PYTHONUNBUFFERED": "1",
        "KILL_AT": str(kill_at),
    }  # fmt: skip
    return subprocess.Popen(
        [*before, sys.executable, "-P", "-c", BOUNDARY_CODE + code, *arguments], stdout=subprocess.PIPE, env=environment
    )


def finish(child: subprocess.Popen[bytes], *, timeout_s: float = 120) -> tuple[list[str], int]:
    """Acknowledgements and exit code of a child that ends by itself."""
    out, _ = child.communicate(timeout=timeout_s)
    return _acks(out), child.returncode


def kill_after_first_ack(
    child: subprocess.Popen[bytes], rng: random.Random, *, spread_s: float
) -> tuple[list[str], int]:
    """Waits for the first acknowledgement, then a random moment, then SIGKILL; everything acknowledged until then."""
    assert child.stdout is not None
    out = b""
    while b"\n" not in out:
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


def _acks(out: bytes) -> list[str]:
    # A line without its end was being written when the child died: it was not yet said.
    whole = out[: out.rfind(b"\n") + 1]
    return [line.removeprefix("ack ") for line in whole.decode().splitlines() if line.startswith("ack ")]
