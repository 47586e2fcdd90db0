"""A node behind the shipped configurations of nginx and caddy, with the real programs, on free ports of this machine."""

import asyncio
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from aiohttp import web
from conftest import NOW, ingest, jpeg, rows_of, write_archive

from cas.ids import ContentId
from cas.reader import BlobPlace
from node.app import build_application
from node.folder import NodeFolder
from node.front import caddy_configuration, nginx_configuration
from node.web import accel
from node.web.listen import AT_ONCE, NodeSite
from runners.catalogue import Catalogue

ODD_NAMES = (
    "with space.jpg", "per%20cent%.jpg", "ümlaut 花.jpg", "hash#1.jpg", "what?.jpg", "plus+&;=.jpg", "quote'\".jpg",
    "back\\slash.jpg", "..dots..jpg", "new\nline.jpg", "$variable.jpg",
)  # fmt: skip
NGINX_MAIN = """\
{user}worker_processes 1; pid {root}/nginx.pid; error_log {root}/error.log; daemon off;
events {{ worker_connections 256; }}
http {{ access_log off; tcp_nopush on;
  client_body_temp_path {root}/t1; proxy_temp_path {root}/t2; fastcgi_temp_path {root}/t3; uwsgi_temp_path {root}/t4; scgi_temp_path {root}/t5;
  include {root}/vasculum.conf; }}
"""


def program(name: str) -> str | None:
    """Where nginx or caddy is: on the path, or in the environment of this interpreter (the extra ``peers``)."""
    beside = Path(sys.executable).parent / name
    return str(beside) if beside.is_file() else shutil.which(name) or shutil.which(name, path="/usr/sbin")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Fronts:
    """One node and the fronts that stand before it; each value is an origin."""

    node: NodeFolder
    app: web.Application
    bare: str
    folder: Path
    images: dict[str, str]
    """Hex by what it is: small, large, owned, empty, restricted, private, and each odd name."""
    data: dict[str, bytes]
    origins: dict[str, str] = field(default_factory=dict)
    handed_over: list[str] = field(default_factory=list)
    """Places that the node has told a front."""


def fill(node: NodeFolder, folder: Path) -> tuple[dict[str, str], dict[str, bytes]]:
    """Images of every kind, small and large, owned and adopted, with odd names."""
    kinds = ("small", "large", "owned", "restricted", "private", *ODD_NAMES)
    rows = rows_of(len(kinds))
    rows[3]["licence"] = "all rights reserved"
    rows[4]["country"] = "Privatia"
    data = {kind: jpeg(number) for number, kind in enumerate(kinds)}
    data["large"] += bytes(256 * 4000)
    ingest(node, write_archive(folder, rows, images=lambda number: data[kinds[number]]))
    odd = folder.parent / "odd files"
    odd.mkdir()
    node.blobs.define_volume("odd", odd)
    for number, kind in enumerate(kinds):
        if kind in ODD_NAMES and "\n" not in kind:
            (odd / kind).write_bytes(data[kind])
            node.blobs.adopt("odd", kind, now=NOW)
            node.blobs.index.forget([("collection", f"images/{number}.jpg")])
    node.blobs.put_bytes(data["owned"], now=NOW)
    return {kind: ContentId.of(data[kind]).hex for kind in kinds}, data


@asynccontextmanager
async def node_for_fronts(node: NodeFolder, folder: Path) -> AsyncIterator[Fronts]:
    """The node, told that a front on this machine may send bytes."""
    server = replace(node.settings.server, trusted_proxies=("127.0.0.1",), accel="nginx", port=free_port())
    node = replace(node, settings=replace(node.settings, server=server))
    images, data = fill(node, folder / "a")
    app = build_application(node, catalogue=Catalogue.of(()), clock=lambda: NOW)
    runner = web.AppRunner(app, access_log=None)
    found = Fronts(node, app, f"http://127.0.0.1:{server.port}", folder, images, data)

    address_of = accel.address_of

    def watched(place: BlobPlace) -> str:
        found.handed_over.append(address_of(place))
        return found.handed_over[-1]

    accel.address_of = watched
    await runner.setup()
    site = NodeSite(runner, "127.0.0.1", server.port, answers=app[AT_ONCE])
    await site.start()
    try:
        yield found
    finally:
        accel.address_of = address_of
        await runner.cleanup()


@asynccontextmanager
async def front(fronts: Fronts, kind: str, *, as_root: bool = True) -> AsyncIterator[str]:
    """``nginx`` (proxy only), ``accel`` (nginx that sends bytes) or ``caddy``; its origin."""
    port = free_port()
    root = fronts.folder / f"front-{kind}-{port}"
    root.mkdir()
    settings = fronts.node.settings
    settings = replace(
        settings,
        node=replace(settings.node, public_url=f"http://127.0.0.1:{port}"),
        server=replace(settings.server, accel="nginx" if kind == "accel" else ""),
    )
    if kind == "caddy":
        (root / "Caddyfile").write_text("{\n\tadmin off\n\tpersist_config off\n}\n" + caddy_configuration(settings))
        command = [program("caddy") or "caddy", "run", "--config", str(root / "Caddyfile"), "--adapter", "caddyfile"]
    else:
        volumes = {name: row.root for name, row in fronts.node.blobs.index.volumes().items()}
        (root / "vasculum.conf").write_text(nginx_configuration(settings, volumes), "utf-8")
        user = "user root;\n" if os.geteuid() == 0 and as_root else ""
        (root / "nginx.conf").write_text(NGINX_MAIN.format(root=root, user=user))
        command = [program("nginx") or "nginx", "-c", str(root / "nginx.conf"), "-p", str(root)]
    environment = {**os.environ, "HOME": str(root), "XDG_DATA_HOME": str(root), "XDG_CONFIG_HOME": str(root)}
    with (root / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
    try:
        await listening(port, process, root)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        await asyncio.to_thread(process.wait)


async def listening(port: int, process: "subprocess.Popen[bytes]", root: Path) -> None:
    """Returns when something answers on the port."""
    async with asyncio.timeout(300):
        while process.poll() is None:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.02)
                continue
            writer.close()
            await writer.wait_closed()
            return
    raise AssertionError((root / "log").read_text("utf-8", "replace"))
