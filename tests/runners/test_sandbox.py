"""The walls around a worker, tried from inside in processes of their own; twins without a wall show that the tries work."""

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import run_python

from runners.pipelines.network_probe import NetworkProbe, _open
from runners.sandbox import can_open_socket, report_isolation

OLD_THREAD = """
import socket, threading
go, done = threading.Event(), threading.Event()
outcome = []
def try_it():
    go.wait()
    try:
        socket.socket().close()
        outcome.append("opened")
    except PermissionError:
        outcome.append("EPERM")
    done.set()
threading.Thread(target=try_it, daemon=True).start()
{sabotage}
from runners.sandbox import lock_down
stands = lock_down(memory_bytes=None)
go.set()
done.wait()
print(stands, outcome[0])
"""
NO_TSYNC = """
import pyseccomp
pyseccomp.SyscallFilter.set_attr = lambda self, attr, value: None
"""
TRIES = """
import ctypes, os, resource, socket, sys
from runners.sandbox import lock_down
libc = ctypes.CDLL(None, use_errno=True)
left, right = socket.socketpair()
assert lock_down(memory_bytes=1 << 31)
def errno_of(work):
    try:
        return "done" if work() is not False else "refused"
    except PermissionError:
        return "EPERM"
    except OSError as error:
        return str(error.errno)
def call(number, *arguments):
    if libc.syscall(number, *arguments) == -1:
        raise OSError(ctypes.get_errno(), "")
tries = {
    "signal the parent": lambda: os.kill(os.getppid(), 0),
    "signal everybody": lambda: os.kill(-1, 0),
    "limits of the parent": lambda: resource.prlimit(os.getppid(), resource.RLIMIT_NOFILE),
    "own limits": lambda: resource.prlimit(0, resource.RLIMIT_NOFILE),
    "start a program": lambda: os.execv(sys.executable, [sys.executable, "-c", ""]),
    "trace the parent": lambda: call(101, 16, os.getppid(), 0, 0) if os.uname().machine == "x86_64" else call(117, 16, os.getppid(), 0, 0),
    "io_uring": lambda: call(425, 1, 0),
    "new socket pair": socket.socketpair,
    "own namespace": lambda: call(272, 0x40000000) if os.uname().machine == "x86_64" else call(97, 0x40000000),
    "write a file": lambda: open("/tmp/vasculum-walls", "wb", buffering=0).write(b"x"),
    "the way to the parent": lambda: left.send(b"x"),
}
for name, work in tries.items():
    print(name, "|", errno_of(work), flush=True)
"""


def output(code: str) -> str:
    child = run_python(code)
    out, _ = child.communicate(timeout=300)
    return out.decode()


def test_a_thread_from_before_the_walls_stands_behind_them_too() -> None:
    assert output(OLD_THREAD.format(sabotage="")).split() == ["True", "EPERM"]


def test_twin_without_rules_for_every_thread_is_noticed() -> None:
    """The old thread gets out, and the self-test says that the walls do not stand."""
    assert output(OLD_THREAD.format(sabotage=NO_TSYNC)).split() == ["False", "opened"]


def test_what_a_worker_may_not_do_and_the_little_it_must() -> None:
    found = dict(line.split(" | ") for line in output(TRIES).splitlines())
    allowed = {"own limits", "the way to the parent"}
    assert {name for name, outcome in found.items() if outcome == "done"} == allowed
    file_too_large = "27"
    assert found.pop("write a file") == file_too_large
    assert {outcome for name, outcome in found.items() if name not in allowed} == {"EPERM"}
    assert len(found) == 10


def test_the_probe_can_fail() -> None:
    """This process has no walls: the same tries succeed, so EPERM inside a worker means something."""
    import socket

    assert can_open_socket()
    assert _open(socket.AF_INET, socket.SOCK_STREAM) == "opened"
    assert _open(socket.AF_INET, socket.SOCK_DGRAM, port=53) == "opened"
    assert NetworkProbe().references() == ()


def test_doctor_is_told_when_the_walls_do_not_stand(monkeypatch: pytest.MonkeyPatch) -> None:
    assert report_isolation().is_enforced
    monkeypatch.setattr("ctypes.util.find_library", lambda name: None)
    report = report_isolation()
    assert not report.is_enforced
    assert "apt install libseccomp2" in report.text
    monkeypatch.undo()
    monkeypatch.setattr(sys, "executable", "/bin/false")
    assert not report_isolation().is_enforced


def test_the_self_test_leaves_its_caller_as_it_is() -> None:
    report_isolation()
    assert can_open_socket()
    state = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("Seccomp:")]
    outer = subprocess.run(["/bin/cat", "/proc/self/status"], capture_output=True, text=True, check=True).stdout
    assert state[0] in outer
