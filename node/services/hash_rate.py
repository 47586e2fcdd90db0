"""How fast files can be read and hashed here, measured on some of them."""

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path


def measure_hash_rate(paths: Iterable[Path], *, budget_bytes: int, clock_s: Callable[[], float]) -> float | None:
    """Bytes per second at which these files can be read and hashed here; None when there are none."""
    read, started = 0, clock_s()
    for path in paths:
        try:
            with path.open("rb") as stream:
                size = path.stat().st_size
                hashlib.file_digest(stream, "sha256")
        except OSError:
            continue
        read += size
        if read >= budget_bytes:
            break
    spent = clock_s() - started
    return read / spent if read and spent > 0 else None
