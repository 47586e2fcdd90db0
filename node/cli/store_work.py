"""What the commands over a node's bytes share: opening the node, progress, sizes in words."""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from cas.errors import BlobRefused, CasError, VolumeProblem
from cas.pace import Pace, TookOf
from node.cli.errors import CommandFailed, UserError
from node.config import ConfigError, Settings
from node.folder import NodeFolder, open_folder
from node.storage.db import DatabaseError

_MIB = 1 << 20
RATE_OPTION = click.option(
    "--rate", type=click.FloatRange(min=0, min_open=True), default=None, metavar="MIB_S", help="Most MiB per second."
)


@contextlib.contextmanager
def opened(node_dir: Path) -> Iterator[NodeFolder]:
    """The node, with every known failure turned into one line."""
    try:
        with open_folder(node_dir) as node:
            yield node
    except (ConfigError, DatabaseError, BlobRefused) as error:
        raise UserError(str(error)) from error
    except VolumeProblem as error:
        raise CommandFailed(str(error)) from error
    except CasError as error:
        raise CommandFailed(str(error)) from error


@contextlib.contextmanager
def reading(what: str, total: int | None, rate: float | None, settings: Settings) -> Iterator[TookOf]:
    """A progress bar over bytes, and the function that is told of each piece: volume (empty: none) and bytes.

    It waits for the rate of the command, and for ``max_read_mib_s`` of the volume.
    """

    def pace_of(mib_s: float) -> Pace:
        return Pace(mib_s * _MIB, clock=time.monotonic, wait=time.sleep)

    pace = pace_of(rate or 0)
    volumes = {name: pace_of(item.max_read_mib_s) for name, item in settings.volumes.items() if item.max_read_mib_s}
    console = Console(stderr=True)
    with Progress(
        TextColumn(what), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn(), console=console,
        disable=not console.is_terminal,
    ) as bar:  # fmt: skip
        task = bar.add_task(what, total=total)

        def took(volume: str, count: int) -> None:
            bar.advance(task, count)
            pace.took(count)
            if volume in volumes:
                volumes[volume].took(count)

        try:
            yield took
        except KeyboardInterrupt:
            bar.stop()
            raise CommandFailed("stopped; what is done is done, the same command goes on from here") from None


def size_text(count: float) -> str:
    """Bytes in words: 12.3 GB."""
    for unit in ("bytes", "kB", "MB", "GB", "TB"):
        if count < 1000 or unit == "TB":
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError("unreachable")
