"""64 KiB and 5 MB images, and 64 KiB ranges of 5 MB, from a node and from nginx, with wrk, in one run. Needs nginx and wrk (Debian)."""

import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.measure import show
from cas.ids import ContentId

TIMES, SECONDS = 3, 3
SERVER = """
import asyncio, sys
from datetime import UTC, datetime
from pathlib import Path
from aiohttp import web
from node.app import build_application
from node.folder import open_folder
from node.web.listen import AT_ONCE, NodeSite
from runners.catalogue import Catalogue
async def main():
    with open_folder(Path(sys.argv[1])) as folder:
        app = build_application(folder, catalogue=Catalogue.of(()), clock=lambda: datetime.now(UTC))
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        site = NodeSite(runner, "127.0.0.1", int(sys.argv[2]), answers=app[AT_ONCE])
        await site.start()
        print("ready", flush=True)
        await asyncio.Event().wait()
asyncio.run(main())
"""
NGINX = """
worker_processes 2; pid {root}/nginx.pid; error_log {root}/error.log; daemon off;
events {{ worker_connections 512; }}
http {{ access_log off; sendfile on; tcp_nopush off; keepalive_requests 100000; open_file_cache max=1000;
  client_body_temp_path {root}/t1; proxy_temp_path {root}/t2; fastcgi_temp_path {root}/t3; uwsgi_temp_path {root}/t4; scgi_temp_path {root}/t5;
  server {{ listen 127.0.0.1:{port}; root {root}; }} }}
"""


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
    found = re.search(r"Requests/sec:\s+([\d.]+)", out)
    assert found is not None, out
    return float(found[1])


def main() -> None:
    missing = [name for name in ("nginx", "wrk") if not shutil.which(name)]
    if missing:
        print(f"not run: needs {', '.join(missing)} (Debian packages nginx-light, wrk)")
        return
    from node.folder import open_folder
    from node.services.ingest import Ingest
    from node.services.intake_source import open_intake
    from node.setup import NewNode, create_node

    with tempfile.TemporaryDirectory(prefix="bench-serve-", dir="/tmp") as name:
        root = Path(name)
        root.chmod(0o755)
        (root / "images").mkdir()
        rng, now = random.Random(1), datetime.now(UTC)
        sizes = {"64 KiB": 65_536, "5 MB": 5_000_000}
        ids = {}
        for label, size in sizes.items():
            data = rng.randbytes(size)
            (root / "images" / f"{size}.jpg").write_bytes(data)
            ids[label] = ContentId.of(data)
        port, peer_port = free_port(), free_port()
        create_node(
            root / "n",
            NewNode(name="N", public_url=f"http://127.0.0.1:{port}", insecure_loopback=True, licence="CC0"),
            now=now,
        )
        with open_folder(root / "n") as folder, open_intake(root / "images", "collection") as intake:
            Ingest(folder.settings, folder.database, folder.blobs, intake, clock=lambda: now).run()
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
        ours = subprocess.Popen(
            [sys.executable, "-P", "-c", SERVER, str(root / "n"), str(port)], stdout=subprocess.PIPE, env=environment
        )
        (root / "nginx.conf").write_text(NGINX.format(root=root, port=peer_port))
        peer = subprocess.Popen(["nginx", "-c", str(root / "nginx.conf"), "-p", str(root)], stderr=subprocess.DEVNULL)
        try:
            assert ours.stdout is not None
            ours.stdout.readline()
            time.sleep(1)
            part = "Range: bytes=2000000-2065535"
            for title, label, headers in (
                ("64 KiB whole", "64 KiB", ()), ("5 MB whole", "5 MB", ()), ("64 KiB of 5 MB", "5 MB", (part,)),
            ):  # fmt: skip
                theirs, mine = (
                    f"http://127.0.0.1:{peer_port}/images/{sizes[label]}.jpg",
                    f"http://127.0.0.1:{port}/cas/sha256/{ids[label].hex}",
                )
                rows: dict[str, list[float]] = {"nginx, 2 workers": [], "the same again (control)": [], "node": []}
                for _ in range(TIMES):
                    for name, address in zip(rows, (theirs, theirs, mine), strict=True):
                        rows[name].append(wrk(address, *headers))
                show(
                    f"{title}, 16 connections, one process of ours, requests/s",
                    [(name, found, "/s") for name, found in rows.items()],
                    base="nginx, 2 workers", higher_is_better=True,
                )  # fmt: skip
        finally:
            ours.kill()
            peer.terminate()
            ours.wait()
            peer.wait()


if __name__ == "__main__":
    main()
