"""An extra process of a node: ``python -m node.reader_main FOLDER PORT``, started by the core and by nobody else.

It ends when its standard input ends (the core is gone, however it went), or on SIGTERM; what it is answering is
finished first. On its standard output it says ``ready``, then what visitors were sent, volume by volume.
"""

import asyncio
import json
import logging
import os
import signal
import sys
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from aiohttp import web

from cas.store import BlobStore
from node.config import Settings, load_settings
from node.reader_app import ToldCare, build_reader_application
from node.storage.db import Database
from node.web.keys import CARE
from node.web.listen import NodeSite, answers_of, server_log
from node.web.private_channel import channel_path
from runners.sandbox import die_with_parent

DRAIN_S: Final = 20.0
"""How long answers under way may take when the process is asked to end."""
TELL_S: Final = 1.0


def main() -> None:
    """Serves until told to end."""
    folder, port = Path(sys.argv[1]), int(sys.argv[2])
    die_with_parent(signal.SIGTERM)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C: the core says when
    level = logging.INFO if "--verbose" in sys.argv[3:] else logging.WARNING
    logging.basicConfig(level=level, format=f"%(asctime)s %(levelname)s %(name)s [{os.getpid()}] %(message)s")
    settings = load_settings(folder)
    with ExitStack() as stack:
        database = Database.open_to_read(settings.database_path)
        stack.callback(database.close)
        store = BlobStore.open_to_read(settings.blobs_path)
        stack.callback(store.close)
        core = stack.enter_context(channel_path(settings.channel_path))
        asyncio.run(_serve(settings, database, store, core, port))


async def _serve(settings: Settings, database: Database, store: BlobStore, core: Path, port: int) -> None:
    app = build_reader_application(settings, database, store, clock=lambda: datetime.now(UTC), core=core)
    access_log = logging.getLogger("vasculum.access")
    runner = web.AppRunner(
        app, access_log=access_log, handle_signals=False, shutdown_timeout=DRAIN_S, logger=server_log()
    )
    await runner.setup()
    try:
        site = NodeSite(runner, settings.server.host, port, answers=answers_of(app, access_log), is_shared=True)
        await site.start()
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, stop.set)
        transport, _ = await loop.connect_read_pipe(lambda: _UntilEnd(stop), sys.stdin)
        telling = asyncio.create_task(_tell(app), name="tell")
        await stop.wait()
        telling.cancel()
        transport.close()
    finally:
        await runner.cleanup()


class _UntilEnd(asyncio.Protocol):
    """Sets an event when the pipe ends."""

    def __init__(self, stop: asyncio.Event) -> None:
        self._stop = stop

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the signature is asyncio's
        self._stop.set()


async def _tell(app: web.Application) -> None:
    """Says what was sent, once a second, and only when there is something to say."""
    care = app[CARE]
    assert isinstance(care, ToldCare)
    _say("ready")
    while True:
        await asyncio.sleep(TELL_S)
        told = care.take_told()
        if told:
            _say(json.dumps(told))


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
