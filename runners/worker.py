"""The worker process: ``python -P -m runners.worker SOCKET TARGET MEMORY_MIB MAX_PIXELS MAX_FILE_BYTES``.

Loads one pipeline, puts up the walls (``runners.sandbox``), runs the reference images, and then answers requests
one by one until its parent goes away. A request is one message with the descriptor of one image; an answer is one
message. The worker opens no file of the collection and no connection; its parent believes nothing it says unchecked.

Messages (SOCK_SEQPACKET, JSON):
    from the worker: {"ready": {...}} or {"unavailable": reason}
    to it:           {"id": n, "parameters": {...}} with one descriptor
    from it:         {"id": n, "body": {...}, "seconds": s} (of the processor),
                     {"id": n, "refused": reason} (the same bytes will be refused again),
                     {"id": n, "beyond": reason} (a limit of this node) or
                     {"id": n, "failed": reason} (this time); with "last": true the worker wants to be replaced
"""

import os

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # before anything can import onnxruntime

import json
import socket
import sys
import time
from typing import Any, Final

from runners.catalogue import make_pipeline
from runners.decode import Limits, decode_upright, open_descriptor
from runners.errors import BeyondLimits, ImageRefused, PipelineUnavailable
from runners.pipeline import Pipeline
from runners.sandbox import die_with_parent, lock_down

MAX_REQUEST_BYTES: Final = 65_536
MAX_ANSWER_BYTES: Final = 180_000
"""Below the largest message a Unix socket takes by default (about 208 kB)."""


def main() -> int:
    """Runs until the parent closes its end; the exit code is 0 unless the pipeline cannot run."""
    channel = socket.socket(fileno=int(sys.argv[1]))
    target, memory_mib = sys.argv[2], int(sys.argv[3])
    limits = Limits(max_pixels=int(sys.argv[4]), max_file_bytes=int(sys.argv[5]))
    die_with_parent()
    try:
        pipeline = make_pipeline(target)
        manifest = pipeline.manifest()
        environment = pipeline.load()
        is_isolated = lock_down(memory_bytes=memory_mib * 1_048_576 if memory_mib else None)
        deviations = _run_references(pipeline)
    except PipelineUnavailable as error:
        _send(channel, {"unavailable": str(error)[:500]})
        return 3
    ready = {
        "pipeline": manifest.digest,
        "environment": environment.to_json(),
        "deviations": deviations,
        "isolated": is_isolated,
    }
    _send(channel, {"ready": ready})
    while True:
        request, descriptor = _receive(channel)
        if request is None or descriptor is None:
            return 0
        try:
            _send(channel, _answer(pipeline, request, descriptor, limits))
        finally:
            os.close(descriptor)


def _run_references(pipeline: Pipeline) -> dict[str, str]:
    return {
        reference.name: f"{reference.deviation(pipeline.run(reference.pixels, {}, reference.upstream)):.6f}"
        for reference in pipeline.references()
    }


def _answer(pipeline: Pipeline, request: dict[str, Any], descriptor: int, limits: Limits) -> dict[str, Any]:
    started = time.process_time()  # what it costs: waiting for a busy machine is no work
    try:
        stream, size = open_descriptor(descriptor)
        with stream:
            pixels = decode_upright(stream, size, limits)
        body = pipeline.run(pixels, request["parameters"], {})
    except BeyondLimits as error:
        return {"id": request["id"], "beyond": str(error)[:500]}
    except ImageRefused as error:
        return {"id": request["id"], "refused": str(error)[:500]}
    except MemoryError:
        # What this image has left behind may keep the next ones from fitting: a fresh worker takes over.
        return {"id": request["id"], "beyond": "the image needs more memory than a worker may use", "last": True}
    except OSError as error:
        return {"id": request["id"], "failed": f"the image could not be read from the disk: {error.strerror}"}
    except Exception as error:  # noqa: BLE001 - whatever a library raises costs this unit, not the worker
        return {"id": request["id"], "failed": f"the pipeline failed: {type(error).__name__}"}
    height, width = pixels.shape[:2]
    body["image"] = {"width": int(width), "height": int(height)}
    answer = {"id": request["id"], "body": body, "seconds": round(time.process_time() - started, 3)}
    if len(json.dumps(answer)) > MAX_ANSWER_BYTES:
        return {"id": request["id"], "refused": "the result is larger than its output contract allows"}
    return answer


def _send(channel: socket.socket, message: dict[str, Any]) -> None:
    channel.send(json.dumps(message, ensure_ascii=False).encode("utf-8", "replace"))


def _receive(channel: socket.socket) -> tuple[dict[str, Any] | None, int | None]:
    data, descriptors, _, _ = socket.recv_fds(channel, MAX_REQUEST_BYTES, 1)
    if not data:
        return None, None
    return json.loads(data), descriptors[0] if descriptors else None


if __name__ == "__main__":
    sys.exit(main())
