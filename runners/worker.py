"""The worker process: ``python -P -m runners.worker SOCKET ORDERS``, orders (what to run, within which limits) as JSON.

Loads one pipeline, puts up the walls (``runners.sandbox``), runs the reference images, and then answers requests
one by one until its parent goes away. A request is one message with the descriptor of one image; an answer is one
message. The worker opens no file of the collection and no connection; its parent believes nothing it says unchecked.

Messages (SOCK_SEQPACKET, JSON):
    from the worker: {"ready": {...}} or {"unavailable": reason}
    to it:           {"id": n, "parameters": {...}} with one descriptor; a composed pipeline gets a second one, of a
                     file in memory with the results it takes, {contract: body} as JSON: they do not fit in a message
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
from runners.composition import completed
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
    orders = json.loads(sys.argv[2])
    memory_mib = orders["memoryMib"]
    limits = Limits(max_pixels=orders["maxPixels"], max_file_bytes=orders["maxFileBytes"])
    die_with_parent()
    try:
        pipeline = make_pipeline(orders["target"], orders["folder"])
        manifest = completed(pipeline.manifest(), orders["upstream"])
        memory_bytes = memory_mib * 1_048_576 if memory_mib else None
        if orders["folder"]:  # a model of somebody else is not even loaded outside the walls
            is_isolated = lock_down(memory_bytes=memory_bytes)
            environment = pipeline.load()
        else:
            environment = pipeline.load()
            is_isolated = lock_down(memory_bytes=memory_bytes)
        deviations = _run_references(pipeline)
    except PipelineUnavailable as error:
        _send(channel, {"unavailable": str(error)[:500]})
        return 3
    except MemoryError:
        _send(
            channel, {"unavailable": f"it needs more than {memory_mib} MiB of memory, which is what a worker may use"}
        )
        return 3
    except Exception as error:  # noqa: BLE001 - whatever a library raises means that it cannot run here
        _send(channel, {"unavailable": f"it failed before its first image: {type(error).__name__}"})
        return 3
    ready = {
        "pipeline": manifest.digest,
        "environment": environment.to_json(),
        "deviations": deviations,
        "isolated": is_isolated,
    }
    _send(channel, {"ready": ready})
    while True:
        request, descriptors = _receive(channel)
        if request is None or not descriptors:
            return 0
        try:
            _send(channel, _answer(pipeline, request, descriptors, limits))
        finally:
            for descriptor in descriptors:
                os.close(descriptor)


def _run_references(pipeline: Pipeline) -> dict[str, str]:
    return {
        reference.name: f"{reference.deviation(pipeline.run(reference.pixels, {}, reference.upstream)):.6f}"
        for reference in pipeline.references()
    }


def _answer(pipeline: Pipeline, request: dict[str, Any], descriptors: list[int], limits: Limits) -> dict[str, Any]:
    started = time.process_time()  # what it costs: waiting for a busy machine is no work
    try:
        stream, size = open_descriptor(descriptors[0])
        with stream:
            pixels = decode_upright(stream, size, limits)
        upstream = _read_upstream(descriptors[1]) if len(descriptors) > 1 else {}
        body = pipeline.run(pixels, request["parameters"], upstream)
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


def _receive(channel: socket.socket) -> tuple[dict[str, Any] | None, list[int]]:
    data, descriptors, _, _ = socket.recv_fds(channel, MAX_REQUEST_BYTES, 2)
    return (json.loads(data) if data else None), list(descriptors)


def _read_upstream(descriptor: int) -> dict[str, Any]:
    size, data = os.fstat(descriptor).st_size, b""
    while len(data) < size and (piece := os.pread(descriptor, size - len(data), len(data))):
        data += piece
    found: dict[str, Any] = json.loads(data)
    return found


if __name__ == "__main__":
    sys.exit(main())
