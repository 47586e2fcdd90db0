"""Tiles, thumbnails and pyramids of a made 60-megapixel sheet: a node, IIPImage behind nginx, libvips for each tile.

Needs the Debian packages iipimage-server, spawn-fcgi, nginx-light, wrk and libvips-tools. Every row is measured in turns
in one run; beside the rate stands the processor time of the server's processes per request.
"""

import functools
import json
import os
import random
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import numpy as np
from PIL import Image, ImageDraw

from benchmarks.bench_serve import free_port
from benchmarks.measure import in_turns, show_timings
from cas.ids import ContentId
from linkeddata.iiif_image import level_sizes
from runners.decode import Limits
from runners.pictures import Decoder

WIDTH, HEIGHT = 6700, 9000
TURNS = int(os.environ.get("BENCH_TURNS", "3"))
SECONDS = int(os.environ.get("BENCH_SECONDS", "4"))
TILES, REGIONS = 50_000, 2_000
CODE = str(Path(__file__).parent.parent)
IIPSRV = "/usr/lib/iipimage-server/iipsrv.fcgi"
NGINX = """
worker_processes 2; pid {root}/nginx.pid; error_log {root}/error.log; daemon off;
events {{ worker_connections 512; }}
http {{ access_log off; keepalive_requests 1000000;
  client_body_temp_path {root}/t1; proxy_temp_path {root}/t2; fastcgi_temp_path {root}/t3; uwsgi_temp_path {root}/t4; scgi_temp_path {root}/t5;
  upstream iip {{ server 127.0.0.1:{one}; server 127.0.0.1:{two}; }}
  server {{ listen 127.0.0.1:{port};
    location / {{ fastcgi_pass iip; fastcgi_param QUERY_STRING $query_string; fastcgi_param REQUEST_METHOD $request_method;
      fastcgi_param CONTENT_TYPE $content_type; fastcgi_param REQUEST_URI $request_uri; fastcgi_param HTTP_HOST $http_host; }} }} }}
"""
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
        await NodeSite(runner, "127.0.0.1", int(sys.argv[2]), answers=app[AT_ONCE]).start()
        print("ready", flush=True)
        await asyncio.Event().wait()
asyncio.run(main())
"""
ENCODER = """
import asyncio, os, sys
os.environ["VIPS_CONCURRENCY"] = "1"
from concurrent.futures import ThreadPoolExecutor
import pyvips
from aiohttp import web
pyvips.cache_set_max(0)
pool = ThreadPoolExecutor(2)
def cut(level, x, y, w, h):
    return pyvips.Image.tiffload(sys.argv[1], page=level).crop(x, y, w, h).jpegsave_buffer(Q=85, keep="none")
async def tile(request):
    where = [int(request.match_info[name]) for name in ("level", "x", "y", "w", "h")]
    data = await asyncio.get_running_loop().run_in_executor(pool, cut, *where)
    return web.Response(body=data, content_type="image/jpeg")
async def main():
    app = web.Application()
    app.add_routes([web.get("/{level}/{x}/{y}/{w}/{h}", tile)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", int(sys.argv[2])).start()
    print("ready", flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
"""
LUA = """
local paths = {{}}
for line in io.lines("{file}") do paths[#paths + 1] = line end
math.randomseed({seed})
request = function() return wrk.format("GET", paths[math.random(#paths)]) end
"""


def sheet(path: Path, width: int = WIDTH, height: int = HEIGHT) -> None:
    """Paper noise, leaves, a label, a ruler, colour patches."""
    rng = np.random.default_rng(1)
    noise = rng.normal(0, 5, (height, width)).astype(np.float32)
    image = Image.fromarray(np.clip(228 + noise, 0, 255).astype(np.uint8)).convert("RGB")
    draw = ImageDraw.Draw(image)
    for _ in range(260):
        x, y = int(rng.integers(300, width - 900)), int(rng.integers(300, height - 2500))
        a, b = int(rng.integers(80, 700)), int(rng.integers(80, 700))
        draw.ellipse((x, y, x + a, y + b), fill=tuple(int(v) for v in rng.integers((60, 80, 20), (140, 160, 90))))
    draw.rectangle((width - 2600, height - 1500, width - 300, height - 300), fill=(245, 242, 230))
    for line in range(12):
        draw.text(
            (width - 2500, height - 1450 + line * 90),
            f"Herbarium specimen {line} " * 6,
            fill=(20, 20, 20),
            font_size=60,
        )
    for number in range(24):
        left = 300 + number % 6 * 220
        top = height - 1300 + number // 6 * 220
        draw.rectangle((left, top, left + 200, top + 200), fill=tuple(int(v) for v in rng.integers(0, 255, 3)))
    image.save(path, quality=92)


@dataclass(frozen=True, kw_only=True)
class Server:
    name: str
    port: int
    processes: Callable[[], list[int]]
    path: Callable[[tuple[int, int, int, int, int]], str]
    """The address of (level, x, y, w, h), all in pixels of that level."""


def cpu_s(pids: Sequence[int]) -> float:
    found = 0.0
    for pid in pids:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        found += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return found


def with_children(pid: int) -> list[int]:
    """A process and all below it; a child stands at the thread that started it."""
    below: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            below += [int(item) for item in task.read_text().split()]
        except OSError:
            continue
    return [pid, *(item for child in below for item in with_children(child))]


def rss_mb(pids: Sequence[int]) -> float:
    return sum(
        int(found[1])
        for pid in pids
        if (found := re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text()))
    ) / 1000  # fmt: skip


def load(root: Path, server: Server, paths: list[str], *, seconds: int = SECONDS) -> tuple[float, float]:
    """Requests per second with 8 connections, and processor milliseconds of the server per request."""
    (root / "paths").write_text("\n".join(paths) + "\n")
    (root / "random.lua").write_text(LUA.format(file=root / "paths", seed=random.randrange(1 << 30)))
    before = cpu_s(server.processes())
    out = subprocess.run(
        ["wrk", "-t1", "-c8", f"-d{seconds}s", "-s", str(root / "random.lua"), f"http://127.0.0.1:{server.port}"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert "Non-2xx" not in out, f"{server.name}: {out}"
    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", out)[1])  # type: ignore[index]
    count = int(re.search(r"(\d+) requests in", out)[1])  # type: ignore[index]
    return rate, (cpu_s(server.processes()) - before) * 1000 / max(1, count)


def compare(root: Path, title: str, servers: list[Server], places: list[tuple[int, int, int, int, int]]) -> None:
    found: dict[str, list[tuple[float, float]]] = {server.name: [] for server in servers}
    for _ in range(TURNS):
        for server in servers:
            found[server.name].append(load(root, server, [server.path(place) for place in places]))
    base = statistics.median(rate for rate, _ in found[servers[0].name])
    print(f"\n{title}")
    print(f"  {'what':<42} {'requests/s':>11} {'min..max':>15} {'CPU ms':>8} {'ours to it':>11}")
    for name, items in found.items():
        rates = [rate for rate, _ in items]
        spread = f"{min(rates):.0f}..{max(rates):.0f}"
        middle = statistics.median(rates)
        cpu = statistics.median(item for _, item in items)
        print(f"  {name:<42} {middle:>11.0f} {spread:>15} {cpu:>8.3f} {base / middle:>11.2f}", flush=True)


def whole_tiles(tile: int) -> list[tuple[int, int, int, int, int]]:
    """Every tile of every level that does not hang over an edge."""
    return [
        (level, x, y, tile, tile)
        for level, (width, height) in enumerate(
            (WIDTH >> n, HEIGHT >> n) for n in range(len(level_sizes(WIDTH, HEIGHT, tile)))
        )
        for x in range(0, width - tile + 1, tile)
        for y in range(0, height - tile + 1, tile)
    ]


def any_offset(tile: int, count: int, *, seed: int = 3) -> list[tuple[int, int, int, int, int]]:
    rng = random.Random(seed)
    return [(0, rng.randrange(WIDTH - tile), rng.randrange(HEIGHT - tile), tile, tile) for _ in range(count)]


def iiif(place: tuple[int, int, int, int, int]) -> str:
    level, x, y, w, h = place
    return f"{x << level},{y << level},{w << level},{h << level}/{w},{h}/0/default.jpg"


class Bench:
    """One node, one IIPImage, one encoder, for tiles of one size."""

    def __init__(self, root: Path, picture: Path, tile: int) -> None:
        from node.folder import open_folder
        from node.services.ingest import Ingest
        from node.services.intake_source import open_intake
        from node.setup import NewNode, create_node

        self.root, self.tile = root / str(tile), tile
        self.root.mkdir()
        (self.root / "images").mkdir()
        shutil.copy(picture, self.root / "images" / "sheet.jpg")
        port, now = free_port(), datetime.now(UTC)
        create_node(
            self.root / "n",
            NewNode(name="N", public_url=f"http://127.0.0.1:{port}", insecure_loopback=True, licence="CC0"),
            now=now,
        )
        settings = (self.root / "n" / "node.toml").read_text()
        (self.root / "n" / "node.toml").write_text(f"{settings}\n[images]\ntile_px = {tile}\n")
        with open_folder(self.root / "n") as folder, open_intake(self.root / "images", "collection") as intake:
            Ingest(folder.settings, folder.database, folder.blobs, intake, clock=lambda: now).run()
        self.tiff = self.root / "peer.tif"
        vips_tiffsave(picture, self.tiff, tile)
        self.started: list[subprocess.Popen[bytes]] = []
        cid = ContentId.of(picture.read_bytes())
        ours = self._start([sys.executable, "-P", "-c", SERVER, str(self.root / "n"), str(port)])
        self.node = Server(
            name="node, one process", port=port, processes=lambda: with_children(ours.pid),
            path=lambda place: f"/iiif/3/{cid.hex}/{iiif(place)}",
        )  # fmt: skip
        peer_port, one, two = free_port(), free_port(), free_port()
        fcgi = [
            self._start(["spawn-fcgi", "-n", "-a", "127.0.0.1", "-p", str(item), "--", IIPSRV], ready=False)
            for item in (one, two)
        ]
        (self.root / "nginx.conf").write_text(NGINX.format(root=self.root, port=peer_port, one=one, two=two))
        nginx = self._start(["nginx", "-c", str(self.root / "nginx.conf"), "-p", str(self.root)], ready=False)
        self.iip = Server(
            name="IIPImage 1.1, two processes, nginx", port=peer_port,
            processes=lambda: [pid for item in (nginx, *fcgi) for pid in with_children(item.pid)],
            path=lambda place: f"/fcgi-bin/iipsrv.fcgi?IIIF={self.tiff}/{iiif(place)}",
        )  # fmt: skip
        encoder_port = free_port()
        encoder = self._start([sys.executable, "-P", "-c", ENCODER, str(self.tiff), str(encoder_port)])
        self.encoder = Server(
            name="aiohttp + libvips, two threads", port=encoder_port, processes=lambda: [encoder.pid],
            path=lambda place: "/" + "/".join(map(str, place)),
        )  # fmt: skip
        time.sleep(1)
        for server in (self.node, self.iip, self.encoder):
            self.check(server)

    def _start(self, command: list[str], *, ready: bool = True) -> "subprocess.Popen[bytes]":
        environment = {
            **os.environ, "PYTHONPATH": CODE, "MAX_IMAGE_CACHE_SIZE": "0", "JPEG_QUALITY": "85", "VERBOSITY": "0",
            "LOGFILE": str(self.root / "iip.log"), "MAX_CVT": "10000",
        }  # fmt: skip
        process = subprocess.Popen(command, stdout=subprocess.PIPE if ready else subprocess.DEVNULL, env=environment)
        if ready:
            assert process.stdout is not None
            assert process.stdout.readline(), command
        self.started.append(process)
        return process

    def check(self, server: Server) -> None:
        """The answer is the picture that was asked for."""
        import io

        with urllib.request.urlopen(
            f"http://127.0.0.1:{server.port}{server.path((1, self.tile, self.tile, self.tile, self.tile))}"
        ) as answer:
            found = Image.open(io.BytesIO(answer.read())).convert("RGB")
        assert found.size == (self.tile, self.tile), server.name
        side = self.tile * 2
        with Image.open(self.root / "images" / "sheet.jpg") as whole:
            wanted = whole.crop((side, side, 2 * side, 2 * side)).resize(found.size, Image.Resampling.BOX)
        apart = np.abs(np.asarray(found).astype(int) - np.asarray(wanted).astype(int)).mean()
        assert apart < 6, f"{server.name}: {apart}"

    def stop(self) -> None:
        for process in self.started:
            process.send_signal(signal.SIGTERM)
        for process in self.started:
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def memory(self) -> None:
        pids = self.node.processes
        load(self.root, self.node, [self.node.path(place) for place in any_offset(300, 50)], seconds=2)
        before, parts = rss_mb(pids()), {pid: rss_mb([pid]) for pid in pids()}
        done, started = 0, time.monotonic()
        paths = [self.node.path(place) for place in whole_tiles(self.tile)]
        while done < TILES:
            rate, _ = load(self.root, self.node, paths, seconds=SECONDS)
            done += int(rate * SECONDS)
        after_tiles = rss_mb(pids())
        fetch = urllib.request.urlopen
        rng = random.Random(5)
        for _ in range(REGIONS):
            w, h = rng.randrange(50, 1500), rng.randrange(50, 1500)
            x, y = rng.randrange(WIDTH - w), rng.randrange(HEIGHT - h)
            rest = f"{x},{y},{w},{h}/{rng.randrange(40, w)},/{rng.choice((0, 90, 180, 270))}/default.jpg"
            hex_part = self.node.path((0, 0, 0, 1, 1)).split("/")[3]
            with fetch(f"http://127.0.0.1:{self.node.port}/iiif/3/{hex_part}/{rest}") as answer:
                answer.read()
        after = rss_mb(pids())
        print(
            f"\nmemory of the node with its picture processes, {done:,} tiles and {REGIONS:,} odd regions"
            f" ({time.monotonic() - started:.0f} s)\n"
            f"  start {before:.0f} MB, after the tiles {after_tiles:.0f} MB, at the end {after:.0f} MB: growth {after - before:.1f} MB"
        )  # fmt: skip
        print("  by process:", ", ".join(f"{parts.get(pid, 0):.0f} -> {rss_mb([pid]):.0f}" for pid in pids()))


def vips_tiffsave(picture: Path, out: Path, tile: int) -> None:
    subprocess.run(
        ["vips", "tiffsave", f"{picture}[access=sequential]", str(out), "--tile", "--pyramid", "--compression", "jpeg",
         "--Q", "85", "--tile-width", str(tile), "--tile-height", str(tile), "--strip"],
        check=True,
    )  # fmt: skip


def builds(root: Path, picture: Path) -> None:
    decoder = Decoder(Limits())
    small = root / "small.jpg"
    sheet(small, 3900, 5200)

    def ours() -> None:
        with picture.open("rb") as source, (root / "ours.tif").open("w+b") as out:
            decoder.write_pyramid(source.fileno(), out.fileno(), tile_px=512)

    def thumbnail(path: Path) -> None:
        with path.open("rb") as source:
            decoder.thumbnail(source.fileno(), longest_px=400)

    def draft(path: Path) -> None:
        import io

        with Image.open(path) as image:
            image.draft("RGB", (400, 400))
            image.thumbnail((400, 400), Image.Resampling.LANCZOS)
            image.save(io.BytesIO(), "JPEG", quality=85)

    ours()
    show_timings(
        "pyramid of 60 megapixels, 512-px tiles (CPU of ours is in its own processes and not counted here)",
        in_turns({"vips tiffsave (command line)": lambda: vips_tiffsave(picture, root / "peer.tif", 512), "node's decoder": ours}, times=TURNS + 2),
        base="vips tiffsave (command line)",
    )  # fmt: skip
    print(
        f"  sizes: source {picture.stat().st_size / 1e6:.1f} MB, ours {(root / 'ours.tif').stat().st_size / 1e6:.1f} MB, vips {(root / 'peer.tif').stat().st_size / 1e6:.1f} MB"
    )
    for path, title in ((small, "20"), (picture, "60")):
        show_timings(
            f"thumbnail of 400 px straight from a JPEG of {title} megapixels",
            in_turns({"Pillow draft": functools.partial(draft, path), "node's decoder": functools.partial(thumbnail, path)}, times=TURNS + 4),
            base="Pillow draft",
        )  # fmt: skip
    decoder.close()


def main() -> None:
    missing = [name for name in ("nginx", "wrk", "spawn-fcgi", "vips") if not shutil.which(name)]
    if missing or not Path(IIPSRV).exists():
        print(
            f"not run: needs {', '.join(missing) or IIPSRV} (Debian packages iipimage-server, spawn-fcgi, nginx-light, wrk, libvips-tools)"
        )
        return
    parts = sys.argv[1:] or ["256", "512", "thumbnail", "memory", "build"]
    with tempfile.TemporaryDirectory(prefix="bench-tiles-", dir="/tmp") as name:
        root = Path(name)
        root.chmod(0o755)
        picture = root / "sheet.jpg"
        sheet(picture)
        print(
            json.dumps(
                {
                    "picture": f"{WIDTH} x {HEIGHT}",
                    "MB": round(picture.stat().st_size / 1e6, 1),
                    "turns": TURNS,
                    "seconds": SECONDS,
                }
            )
        )
        for tile in (256, 512):
            if not {str(tile), *(("thumbnail", "memory") if tile == 512 else ())} & set(parts):
                continue
            bench = Bench(root, picture, tile)
            try:
                everybody = [bench.node, bench.iip, bench.encoder]
                if str(tile) in parts:
                    compare(
                        root,
                        f"aligned {tile}-px tiles of all levels, random, no result cache",
                        everybody,
                        whole_tiles(tile),
                    )
                    compare(root, f"{tile}-px regions at any offset", everybody, any_offset(tile, 2000))
                if tile == 512 and "thumbnail" in parts:
                    thumbnails(root, bench)
                if tile == 512 and "memory" in parts:
                    bench.memory()
            finally:
                bench.stop()
        if "build" in parts:
            builds(root, picture)


def thumbnails(root: Path, bench: Bench) -> None:
    """399 px is cut out of the pyramid each time, 400 px is kept as a file."""
    from dataclasses import replace

    cut = replace(
        bench.node,
        name="node, from the pyramid (399 px)",
        path=lambda _: bench.node.path((0, 0, 0, 1, 1)).rsplit("/", 4)[0] + "/full/!399,399/0/default.jpg",
    )
    kept = replace(
        bench.node,
        name="node, kept as a file (400 px)",
        path=lambda _: bench.node.path((0, 0, 0, 1, 1)).rsplit("/", 4)[0] + "/full/!400,400/0/default.jpg",
    )
    peer = replace(bench.iip, path=lambda _: f"/fcgi-bin/iipsrv.fcgi?IIIF={bench.tiff}/full/!400,400/0/default.jpg")
    compare(root, "thumbnail of 400 px over HTTP", [cut, peer, kept], [(0, 0, 0, 1, 1)])


if __name__ == "__main__":
    main()
