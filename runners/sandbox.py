"""The walls around a worker process: no network, no new programs, bounded memory.

A worker has seen pixels that must not leave, so the kernel is told that this process may never again open a socket,
start a program, trace another process or mount anything. The rules hold for every thread and cannot be taken back.
The one way out is the socket pair to its parent, opened before.

Enforced by seccomp (through libseccomp). Where that is not there, ``report_isolation`` says so, ``vasculum doctor``
repeats it, and jobs on restricted images are refused.

It leaves out: hiding the file system (the worker runs as the node's user) and limiting processor time.
"""

import ctypes
import ctypes.util
import errno
import os
import resource
import signal
import socket
import sys
from dataclasses import dataclass
from typing import Final

DENIED: Final = (
    "socket", "connect", "bind", "listen", "accept", "accept4", "socketpair",
    "execve", "execveat", "ptrace", "process_vm_readv", "process_vm_writev", "pidfd_getfd",
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


def lock_down(*, memory_bytes: int | None) -> bool:
    """Puts the walls up around this process; returns whether the network is really closed.

    Args:
        memory_bytes: limit of the address space; None leaves it open (GPU drivers reserve far more than they use).
    """
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_NOFILE, 256)
    _limit(resource.RLIMIT_FSIZE, 0)
    if memory_bytes is not None:
        _limit(resource.RLIMIT_AS, memory_bytes)
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    _close_network()
    return not can_open_socket()


def die_with_parent() -> None:
    """Asks the kernel to kill this process when its parent ends, so that no worker outlives its node."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def can_open_socket() -> bool:
    """Whether this process can still open a TCP socket."""
    try:
        socket.socket(socket.AF_INET, socket.SOCK_STREAM).close()
    except PermissionError:
        return False
    return True


def report_isolation() -> IsolationReport:
    """Tries the walls in a forked child; this process stays as it is."""
    if sys.platform != "linux":
        return IsolationReport(is_enforced=False, text=f"workers cannot be isolated on {sys.platform}")
    if ctypes.util.find_library("seccomp") is None:
        return IsolationReport(
            is_enforced=False, text="libseccomp is missing, so workers could open connections (apt install libseccomp2)"
        )
    child = os.fork()
    if child == 0:  # pragma: no cover - the child never returns
        try:
            os._exit(0 if lock_down(memory_bytes=None) else 1)
        except BaseException:  # noqa: BLE001 - whatever it was, the walls do not stand
            os._exit(2)
    _, status = os.waitpid(child, 0)
    if os.waitstatus_to_exitcode(status) == 0:
        return IsolationReport(is_enforced=True, text="workers cannot open connections (seccomp)")
    return IsolationReport(
        is_enforced=False, text="the kernel does not enforce seccomp here: workers could open connections"
    )


def _close_network() -> None:
    try:
        import pyseccomp
    except (ImportError, OSError, RuntimeError):
        return
    try:
        rules = pyseccomp.SyscallFilter(pyseccomp.ALLOW)
        for name in DENIED:
            try:
                rules.add_rule(pyseccomp.ERRNO(errno.EPERM), name)
            except (ValueError, OSError, RuntimeError):
                continue  # a system call that this kernel or architecture does not have
        # clone3 passes its flags in memory, where a filter cannot look; libc falls back to clone.
        rules.add_rule(pyseccomp.ERRNO(errno.ENOSYS), "clone3")
        rules.load()
    except (OSError, RuntimeError):
        return


def _limit(kind: int, value: int) -> None:
    _, hard = resource.getrlimit(kind)
    ceiling = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(kind, (ceiling, ceiling))
