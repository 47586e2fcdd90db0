"""Pictures behind walls: ``python -P -m runners.picture_process CONTROL MODE MEMORY_MIB CPU_S MAX_PIXELS MAX_BYTES``.

Reads requests from its control socket, one message each, with the descriptors it needs: first where the answer goes,
then the file to read, then (for a pyramid or a whole picture) the file to write. There are two modes:

- ``fork``: for files of strangers. Every request is answered by a child that was forked for it and ends with it: what a
  hostile file does in a decoder dies with that file, and touches no other. One child always waits for the next.
- ``stay``: for pyramids, which an own process wrote. Requests are answered one after the other.

An answer is a head of eight bytes (two lengths), a JSON object and, for pictures, bytes; then the end of the stream.
An answer without its end is none. Nothing is believed by the parent (``runners.pictures``) unchecked.

Requests (JSON): {"do": "pyramid", "tile": px}, {"do": "thumbnail", "longest": px},
                 {"do": "redact", "boxes": [[x, y, w, h], ..]},
                 {"do": "cut", "level": n, "box": [x, y, w, h], "size": [w, h], "mirror": bool, "turn": degrees,
                  "quality": name, "format": name}
Answers (JSON):  {"width": px, "height": px} or {} for done, {"refused": reason} or {"beyond": reason} (this file will
                 be refused again), {"failed": reason} (this time)
"""

import os

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # before numpy: a process that forks must have one thread
os.environ["OMP_NUM_THREADS"] = "1"

import contextlib
import gc
import json
import resource
import signal
import socket
import sys
from typing import Any, Final

from PIL import Image

from runners import libvips
from runners.decode import Limits, open_descriptor
from runners.errors import BeyondLimits, ImageRefused
from runners.picture_wire import HEAD, READY
from runners.sandbox import die_with_parent, lock_down

MAX_REQUEST_BYTES: Final = 65_536
MAX_WRITTEN_BYTES: Final = 8 * 1024**3
"""A pyramid is hardly larger than its picture; twice the largest picture file that may come."""
_TAKEN: Final = b"+"
_OVER: Final = b"-"
_FORK_THREADS: Final = 2
"""Threads of libvips for one picture: decoding is one of them, encoding tiles the other."""


def main() -> int:
    """Runs until the parent closes its end."""
    control = socket.socket(fileno=int(sys.argv[1]))
    is_forking, memory_mib, cpu_s = sys.argv[2] == "fork", int(sys.argv[3]), int(sys.argv[4])
    limits = Limits(max_pixels=int(sys.argv[5]), max_file_bytes=int(sys.argv[6]))
    die_with_parent()
    Image.init()
    libvips.prepare(concurrency=_FORK_THREADS if is_forking else 1)
    lock_down(memory_bytes=memory_mib * 1_048_576, file_bytes=MAX_WRITTEN_BYTES if is_forking else 0)
    control.send(READY)
    if is_forking:
        gc.collect()
        gc.freeze()  # children share what is there as long as nobody walks over it
        gc.disable()
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel takes children away when they end
        while _let_one_work(control, limits, cpu_s):
            pass
        return 0
    while True:
        data, descriptors, _, _ = socket.recv_fds(control, MAX_REQUEST_BYTES, 3)
        if not data:
            return 0
        _answer(json.loads(data), descriptors, limits)
        for descriptor in descriptors:
            os.close(descriptor)


def _let_one_work(control: socket.socket, limits: Limits, cpu_s: int) -> bool:
    """Forks a child that waits for a request, and comes back when it has one; False when there will be none."""
    told, tells = os.pipe()
    if os.fork() == 0:
        os.close(told)
        _child(control, tells, limits, cpu_s)
    os.close(tells)
    try:
        return os.read(told, 1) != _OVER  # nothing: the child ended before it had any, and the next one takes its place
    finally:
        os.close(told)


def _child(control: socket.socket, tells: int, limits: Limits, cpu_s: int) -> None:
    """One request, and the end of this process."""
    code = 1
    try:
        die_with_parent()
        libvips.warm_up()
        data, descriptors, _, _ = socket.recv_fds(control, MAX_REQUEST_BYTES, 3)
        control.close()  # whatever this picture does, the requests of others are out of its reach
        os.write(tells, _TAKEN if data else _OVER)
        os.close(tells)
        if data:
            resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s))
            _answer(json.loads(data), descriptors, limits)
        code = 0
    finally:
        os._exit(code)


def _answer(request: dict[str, Any], descriptors: list[int], limits: Limits) -> None:
    said, body = _do(request, descriptors[1:], limits)
    text = json.dumps(said, ensure_ascii=False).encode("utf-8", "replace")
    with socket.socket(fileno=os.dup(descriptors[0])) as reply, contextlib.suppress(ConnectionError):
        reply.sendall(HEAD.pack(len(text), len(body)) + text)
        reply.sendall(body)
        reply.shutdown(socket.SHUT_WR)  # nobody waits for this process to be taken apart


def _do(request: dict[str, Any], files: list[int], limits: Limits) -> tuple[dict[str, Any], bytes]:
    try:
        match request["do"]:
            case "pyramid":
                stream, size = open_descriptor(files[0])
                with stream:
                    header = libvips.write_pyramid(stream, size, files[1], limits=limits, tile_px=request["tile"])
                return {"width": header.width, "height": header.height}, b""
            case "redact":
                boxes = [(x, y, w, h) for x, y, w, h in request["boxes"]]
                stream, size = open_descriptor(files[0])
                with stream:
                    header = libvips.write_redacted(stream, size, files[1], limits=limits, boxes=boxes)
                return {"width": header.width, "height": header.height}, b""
            case "thumbnail":
                stream, size = open_descriptor(files[0])
                with stream:
                    return {}, libvips.thumbnail_of_file(stream, size, limits=limits, longest_px=request["longest"])
            case _:
                return {}, libvips.cut_out(files[0], _cut(request))
    except BeyondLimits as error:
        return {"beyond": str(error)[:500]}, b""
    except ImageRefused as error:
        return {"refused": str(error)[:500]}, b""
    except MemoryError:
        return {"beyond": "the picture needs more memory than a decoder may use"}, b""
    except OSError as error:
        return {"failed": f"the file could not be read or written: {error.strerror}"}, b""
    except Exception as error:  # noqa: BLE001 - whatever a library raises costs this picture, not the process
        return {"refused": f"the picture cannot be decoded ({type(error).__name__})"}, b""


def _cut(request: dict[str, Any]) -> libvips.Cut:
    x, y, w, h = request["box"]
    width, height = request["size"]
    return libvips.Cut(
        level=request["level"], box=(x, y, w, h), width=width, height=height, mirror=request["mirror"],
        rotation=request["turn"], quality=request["quality"], format=request["format"],
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
