"""``network-probe/1``: tries to open connections from inside a worker and says what became of each attempt.

It exists to prove the walls: on a node that enforces them every attempt ends with EPERM.
"""

import errno
import socket
from collections.abc import Mapping, Sequence

import runners.decode
from linkeddata.json_strict import Json
from linkeddata.pipeline import Environment, PipelineManifest
from runners.pipeline import Pixels, Reference, Upstream, base_versions, implementation_digest


class NetworkProbe:
    """The adapter."""

    def manifest(self) -> PipelineManifest:
        """What it is."""
        return PipelineManifest(
            output="network-probe/1",
            name="network-probe",
            version="1.0.0",
            title="Network probe",
            description="Tries to open TCP, UDP, Unix and DNS sockets; every attempt must fail",
            runtime="builtin",
            implementation=implementation_digest(self, runners.decode),
        )

    def load(self) -> Environment:
        """Nothing to load."""
        return Environment(versions=base_versions(), execution_provider="cpu", precision="none", device_class="cpu")

    def run(self, pixels: Pixels, parameters: Mapping[str, Json], upstream: Upstream) -> dict[str, Json]:  # noqa: ARG002
        """Tries every way out."""
        attempts: dict[str, Json] = {
            "tcp4": _open(socket.AF_INET, socket.SOCK_STREAM),
            "tcp6": _open(socket.AF_INET6, socket.SOCK_STREAM),
            "udp4": _open(socket.AF_INET, socket.SOCK_DGRAM),
            "unix": _open(socket.AF_UNIX, socket.SOCK_STREAM),
            "dns": _open(socket.AF_INET, socket.SOCK_DGRAM, port=53),
            "resolver": _resolve(),
        }
        return {"attempts": attempts, "doubts": []}

    def references(self) -> Sequence[Reference]:
        """None: what is measured is the machine."""
        return ()


def _open(family: int, kind: int, *, port: int | None = None) -> str:
    try:
        with socket.socket(family, kind) as opened:
            if port is not None:
                opened.connect(("127.0.0.1", port))
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, "error")
    return "opened"


def _resolve() -> str:
    try:
        socket.getaddrinfo("vasculum.invalid", 443)
    except socket.gaierror:
        return "failed"
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, "error")
    return "opened"
