"""Half a minute of reading connects to nothing: ONNX Runtime would telephone home, were it not told before import.

The kernel ends the child at the first call of any thread that connects or sends, so an attempt cannot be overlooked: it
needs no name server, no packet and no luck. The child has no walls of a worker around it.
(``socket`` and ``bind`` alone are let through here: urllib3, which rapidocr imports, binds to ::1 once to see whether
the machine has IPv6. In a worker that has happened before the walls go up, and afterwards it is EPERM.)
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

SECONDS = 32
CHILD = """
import sys, time
import pyseccomp
rules = pyseccomp.SyscallFilter(pyseccomp.ALLOW)
rules.set_attr(pyseccomp.Attr.CTL_TSYNC, 1)
for name in ("connect", "sendto", "sendmsg", "sendmmsg", "io_uring_setup"):
    rules.add_rule(pyseccomp.KILL_PROCESS, name)
rules.load()

from runners.pipelines.label_text import LabelText, REFERENCE_LINES, _draw
pipeline = LabelText()
pipeline.load()
picture, read = _draw(REFERENCE_LINES), 0
end = time.monotonic() + float(sys.argv[1])
while time.monotonic() < end:
    assert pipeline.run(picture, {}, {})["lines"]
    read += 1
print(read)
"""


def read_for(seconds: float, home: Path, **extra: str) -> "subprocess.CompletedProcess[str]":
    environment = {"PATH": os.environ["PATH"], "HOME": str(home), "PYTHONPATH": str(ROOT), **extra}
    return subprocess.run(
        [sys.executable, "-P", "-c", CHILD, str(seconds)], env=environment, capture_output=True, text=True, timeout=900,
        check=False,
    )  # fmt: skip


@pytest.mark.fault
@pytest.mark.timeout(1200)
def test_half_a_minute_of_reading_connects_to_nothing_and_leaves_no_file(tmp_path: Path) -> None:
    done = read_for(SECONDS, tmp_path, ORT_DISABLE_TELEMETRY="1")
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout) >= 5
    assert list(tmp_path.rglob("*")) == []


@pytest.mark.fault
@pytest.mark.timeout(1200)
def test_twin_without_the_variable_is_caught(tmp_path: Path) -> None:
    """The same child, not told: it is ended at its first attempt. If this ends well, the test above proves nothing."""
    done = read_for(2 * SECONDS, tmp_path)
    assert done.returncode == -signal.SIGSYS, f"exit {done.returncode}: {done.stderr[-2000:]}"
    assert [path for path in tmp_path.rglob("*") if "Microsoft" in path.parts]


def test_the_worker_sets_the_variable_before_it_imports_anything_else() -> None:
    lines = (ROOT / "runners" / "worker.py").read_text("utf-8").split('"""')[2].strip().splitlines()
    code = [line for line in lines if line.strip()]
    assert code[0] == "import os"
    assert code[1].startswith('os.environ["ORT_DISABLE_TELEMETRY"] = "1"')
