"""64 KiB and 5 MB images, and 64 KiB ranges of 5 MB, with wrk, in one run: nginx alone (twice), a node with one process
and with two, and a node behind nginx with the configuration that ships. Needs nginx and wrk (Debian)."""

import os
import random
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.measure import show
from cas.ids import ContentId

TIMES, SECONDS = int(os.environ.get("TIMES", "5")), 2
NGINX = """
worker_processes 2; pid {root}/nginx.pid; error_log {root}/error.log; daemon off;
events {{ worker_connections 512; }}
http {{ access_log off; sendfile on; tcp_nopush off; keepalive_requests 100000; open_file_cache max=1000;
  client_body_temp_path {root}/t1; proxy_temp_path {root}/t2; fastcgi_temp_path {root}/t3; uwsgi_temp_path {root}/t4; scgi_temp_path {root}/t5;
  server {{ listen 127.0.0.1:{port}; root {root}; }} }}
"""


FRONT = """
{user}worker_processes 2; pid {{root}}/nginx.pid; error_log {{root}}/error.log; daemon off;
events {{{{ worker_connections 512; }}}}
http {{{{ access_log off; keepalive_requests 100000;
  client_body_temp_path {{root}}/t1; proxy_temp_path {{root}}/t2; fastcgi_temp_path {{root}}/t3; uwsgi_temp_path {{root}}/t4; scgi_temp_path {{root}}/t5;
  include {{root}}/site.conf; }}}}
""".format(user="user root; " if os.geteuid() == 0 else "")


def free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wrk(address: str, *headers: str) -> float:
    """Requests per second with 16 connections."""
    sent = [part for header in headers for part in ("-H", header)]
    out = subprocess.run(
        ["wrk", "-t1", "-c16", f"-d{SECONDS}s", *sent, address], capture_output=True, text=True, check=True
    ).stdout
    assert "Non-2xx" not in out, out
    assert "Socket errors" not in out, out
    found = re.search(r"Requests/sec:\s+([\d.]+)", out)
    assert found is not None, out
    return float(found[1])


def cpu_s(root: int) -> float:
    """Processor seconds of a process and of everything below it."""
    parents: dict[int, list[int]] = {}
    seconds: dict[int, float] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                rest = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            parents.setdefault(int(rest[1]), []).append(int(entry.name))
            seconds[int(entry.name)] = (int(rest[11]) + int(rest[12])) / os.sysconf("SC_CLK_TCK")
    total, todo = 0.0, [root]
    while todo:
        pid = todo.pop()
        total += seconds.get(pid, 0.0)
        todo += parents.get(pid, [])
    return total


@dataclass
class Server:
    """One thing that serves."""

    process: "subprocess.Popen[bytes]"
    port: int
    helpers: "tuple[subprocess.Popen[bytes], ...]" = ()

    def cpu(self) -> float:
        return sum(cpu_s(item.pid) for item in (self.process, *self.helpers))


def make_node(root: Path, name: str, processes: int, accel: str) -> tuple[Path, int]:
    """A node over the images of the benchmark; its folder and port."""
    from node.folder import open_folder
    from node.services.ingest import Ingest
    from node.services.intake_source import open_intake
    from node.setup import NewNode, create_node

    port, now, folder = free_port(), datetime.now(UTC), root / name
    address = f"http://127.0.0.1:{free_port() if accel else port}"
    create_node(folder, NewNode(name=name, public_url=address, insecure_loopback=True, licence="CC0"), now=now)
    file = folder / "node.toml"
    server = f'[server]\nprocesses = {processes}\naccel = "{accel}"\n' + (
        'trusted_proxies = ["127.0.0.1"]\n' if accel else ""
    )
    text = re.sub(r"^port = .*$", f"port = {port}", file.read_text("utf-8"), flags=re.MULTILINE)
    text = re.sub(r"^pipelines = .*$", "pipelines = []", text, flags=re.MULTILINE)
    text = text.replace("[server]\n", server, 1) + "\n[limits]\nrequests_per_minute = 0\nbytes_per_day = 0\n"
    text += '\n[images]\noriginals_withheld_for = "nothing"\n'  # the files of this benchmark are no pictures
    file.write_text(text, "utf-8")
    with open_folder(folder) as opened, open_intake(root / "images", "collection") as intake:
        Ingest(opened.settings, opened.database, opened.blobs, intake, clock=lambda: now).run()
    return folder, port


def serve(folder: Path, port: int) -> Server:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent), "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "node.cli.main", "serve", str(folder)], stdout=subprocess.PIPE, env=environment
    )
    assert process.stdout is not None
    while b"serving" not in (line := process.stdout.readline()):
        assert line
    return Server(process, port)


def behind_nginx(root: Path, folder: Path, node: Server) -> Server:
    """The configuration that ships, made for this node."""
    from node.folder import open_folder
    from node.front import nginx_configuration

    with open_folder(folder) as opened:
        volumes = {name: row.root for name, row in opened.blobs.index.volumes().items()}
        text = nginx_configuration(opened.settings, volumes)
        port = int(opened.settings.origin.rpartition(":")[2])
    (root / "front").mkdir()
    (root / "front" / "site.conf").write_text(text)
    (root / "front" / "nginx.conf").write_text(FRONT.format(root=root / "front"))
    process = nginx(root / "front")
    return Server(process, port, (node.process,))


def nginx(root: Path) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(["nginx", "-c", str(root / "nginx.conf"), "-p", str(root)], stderr=subprocess.DEVNULL)


def main() -> None:
    missing = [name for name in ("nginx", "wrk") if not shutil.which(name)]
    if missing:
        print(f"not run: needs {', '.join(missing)} (Debian packages nginx-light, wrk)")
        return
    with tempfile.TemporaryDirectory(prefix="bench-serve-", dir="/tmp") as name:
        root = Path(name)
        root.chmod(0o755)
        (root / "images").mkdir()
        rng = random.Random(1)
        sizes = {"64 KiB": 65_536, "5 MB": 5_000_000}
        ids = {}
        for label, size in sizes.items():
            data = rng.randbytes(size)
            (root / "images" / f"{size}.jpg").write_bytes(data)
            ids[label] = ContentId.of(data)
        peer_port = free_port()
        (root / "nginx.conf").write_text(NGINX.format(root=root, port=peer_port))
        peer = Server(nginx(root), peer_port)
        servers = {"nginx, 2 workers": peer, "the same again (control)": peer}
        try:
            servers["node, 1 process"] = serve(*make_node(root, "one", 1, ""))
            servers["node, 2 processes"] = serve(*make_node(root, "two", 2, ""))
            folder, port = make_node(root, "behind", 1, "nginx")
            core = serve(folder, port)
            servers["node behind nginx (X-Accel)"] = behind_nginx(root, folder, core)
            time.sleep(4)  # the second process begins to listen
            part = "Range: bytes=2000000-2065535"
            for title, label, headers in (
                ("64 KiB whole", "64 KiB", ()), ("5 MB whole", "5 MB", ()), ("64 KiB of 5 MB", "5 MB", (part,)),
            ):  # fmt: skip
                measure(title, servers, f"{sizes[label]}.jpg", ids[label], headers)
        finally:
            for server in servers.values():
                for process in (server.process, *server.helpers):
                    process.terminate()
            for server in servers.values():
                for process in (server.process, *server.helpers):
                    process.wait()


def measure(title: str, servers: dict[str, Server], file: str, cid: ContentId, headers: tuple[str, ...]) -> None:
    """Every server once per turn, so that a noisy minute falls on all of them."""
    found: dict[str, list[float]] = {name: [] for name in servers}
    cpu: dict[str, list[float]] = {name: [] for name in servers}
    for turn in range(TIMES + 1):
        for name, server in servers.items():
            path = f"/images/{file}" if name.startswith(("nginx", "the same")) else f"/cas/sha256/{cid.hex}"
            before = server.cpu()
            rate = wrk(f"http://127.0.0.1:{server.port}{path}", *headers)
            if turn:  # the first turn warms up
                found[name].append(rate)
                cpu[name].append((server.cpu() - before) / (rate * SECONDS) * 1e6)
    show(
        f"{title}, 16 connections of wrk on the same cores, requests/s",
        [(name, rates, "/s") for name, rates in found.items()],
        base="nginx, 2 workers", higher_is_better=True,
    )  # fmt: skip
    for name, values in cpu.items():
        print(f"  {name:<44} {statistics.median(values):>9.0f} us of processor per request")


if __name__ == "__main__":
    main()
