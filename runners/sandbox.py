"""The walls around a worker process: no network, no new programs, bounded memory.

A worker has seen pixels that must not leave, so the kernel is told that this process may never again open a socket,
start a program, trace or signal another process or mount anything. The rules hold for every thread, also for those
that a library started before, and cannot be taken back. The one way out is the socket pair to its parent.

Enforced by seccomp (through libseccomp). Where that is not there, ``report_isolation`` says so, ``vasculum doctor``
repeats it, and jobs on restricted images are refused. ``python -P -m runners.sandbox`` is the self-test: exit code 0
when the walls stand.

It leaves out: hiding the file system (the worker runs as the node's user) and limiting processor time.
"""

import ctypes
import ctypes.util
import errno
import os
import resource
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

DENIED: Final = (
    "socket", "connect", "bind", "listen", "accept", "accept4", "socketpair",
    "execve", "execveat", "ptrace", "process_vm_readv", "process_vm_writev", "pidfd_open", "pidfd_getfd",
    "pidfd_send_signal", "rt_sigqueueinfo", "rt_tgsigqueueinfo",
    "mount", "umount2", "pivot_root", "chroot", "unshare", "setns", "open_by_handle_at",
    "io_uring_setup", "io_uring_enter", "io_uring_register", "bpf", "perf_event_open", "userfaultfd",
    "keyctl", "add_key", "request_key", "kexec_load", "init_module", "finit_module", "delete_module",
)  # fmt: skip
"""System calls answered with EPERM. io_uring is there because it can open sockets without ``socket``."""
_PR_SET_PDEATHSIG: Final = 1
_PR_SET_NO_NEW_PRIVS: Final = 38


@dataclass(frozen=True, slots=True, kw_only=True)
class IsolationReport:
    """Whether the walls stand on this machine."""

    is_enforced: bool
    text: str


def lock_down(*, memory_bytes: int | None, file_bytes: int = 0) -> bool:
    """Puts the walls up around this process; returns whether the network is really closed.

    Args:
        memory_bytes: limit of the address space; None leaves it open (GPU drivers reserve far more than they use).
        file_bytes: how large a file may become that this process was handed to write into.
    """
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_NOFILE, 256)
    _limit(resource.RLIMIT_FSIZE, file_bytes)
    if memory_bytes is not None:
        _limit(resource.RLIMIT_AS, memory_bytes)
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    _put_up_rules()
    return not can_open_socket() and are_all_threads_filtered()


def die_with_parent(number: signal.Signals = signal.SIGKILL) -> None:
    """Asks the kernel to end this process when its parent ends, so that no worker outlives its node."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)


def can_open_socket() -> bool:
    """Whether this process can still open a TCP socket; only a plain EPERM counts as closed."""
    try:
        socket.socket(socket.AF_INET, socket.SOCK_STREAM).close()
    except OSError as error:
        return error.errno != errno.EPERM
    return True


def are_all_threads_filtered() -> bool:
    """Whether the kernel filters the system calls of every thread of this process."""
    states = [
        line.split()[1]
        for task in Path("/proc/self/task").iterdir()
        for line in (task / "status").read_text("ascii", "replace").splitlines()
        if line.startswith("Seccomp:")
    ]
    return bool(states) and all(state == "2" for state in states)


def report_isolation() -> IsolationReport:
    """Tries the walls in a fresh interpreter; this process stays as it is. Blocking, about 0.1 s."""
    if sys.platform != "linux":
        return IsolationReport(is_enforced=False, text=f"workers cannot be isolated on {sys.platform}")
    if ctypes.util.find_library("seccomp") is None:
        return IsolationReport(
            is_enforced=False, text="libseccomp is missing, so workers could open connections (apt install libseccomp2)"
        )
    root = str(Path(__file__).resolve().parent.parent)
    try:
        code: int | None = subprocess.run(
            [sys.executable, "-P", "-m", "runners.sandbox"],
            env={"PYTHONPATH": root, "PATH": os.environ.get("PATH", os.defpath)},
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=60, check=False,
        ).returncode  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        code = None
    if code == 0:
        return IsolationReport(is_enforced=True, text="workers cannot open connections (seccomp)")
    return IsolationReport(
        is_enforced=False, text="the kernel does not enforce seccomp here: workers could open connections"
    )


def _put_up_rules() -> None:
    try:
        import pyseccomp
    except (ImportError, OSError, RuntimeError):
        return
    try:
        rules = pyseccomp.SyscallFilter(pyseccomp.ALLOW)
        # Without this the rules would hold for the calling thread only, and a library's pool would stay outside.
        rules.set_attr(pyseccomp.Attr.CTL_TSYNC, 1)
        for name in DENIED:
            _deny(rules, pyseccomp, name)
        # A worker may end itself, nobody else; and look at its own limits only.
        _deny(rules, pyseccomp, "kill", pyseccomp.Arg(0, pyseccomp.NE, os.getpid()))
        _deny(rules, pyseccomp, "tgkill", pyseccomp.Arg(0, pyseccomp.NE, os.getpid()))
        _deny(rules, pyseccomp, "tkill")
        _deny(rules, pyseccomp, "prlimit64", pyseccomp.Arg(0, pyseccomp.NE, 0))
        # clone3 passes its flags in memory, where a filter cannot look; libc falls back to clone.
        rules.add_rule(pyseccomp.ERRNO(errno.ENOSYS), "clone3")
        rules.load()
    except (OSError, RuntimeError, ValueError, AttributeError):
        return


def _deny(rules: Any, pyseccomp: Any, name: str, *conditions: Any) -> None:
    try:
        rules.add_rule(pyseccomp.ERRNO(errno.EPERM), name, *conditions)
    except (ValueError, OSError, RuntimeError):
        return  # a system call that this kernel or architecture does not have


def _limit(kind: int, value: int) -> None:
    _, hard = resource.getrlimit(kind)
    ceiling = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(kind, (ceiling, ceiling))


if __name__ == "__main__":
    sys.exit(0 if lock_down(memory_bytes=None) else 1)
