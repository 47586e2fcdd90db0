"""``vasculum serve``: runs a node until it is told to stop."""

import asyncio
import logging
import signal
from datetime import UTC, datetime
from pathlib import Path

import click
from aiohttp import web

from node.app import HEARTBEAT, build_application
from node.cli.errors import CommandFailed, UserError
from node.config import ConfigError
from node.folder import FolderBusy, NodeFolder, open_folder, serve_lock
from node.services.withdraw import finish_begun, withdrawals_to_clean
from node.setup import check_origin
from node.storage.db import DatabaseError
from node.web.listen import NodeSite, answers_of
from runners.catalogue import Catalogue
from runners.errors import PipelineUnavailable


@click.command(epilog="Example: vasculum serve hortus/")
@click.argument("node_dir", type=click.Path(path_type=Path, file_okay=False))
@click.option("--verbose", is_flag=True, help="Log every request.")
def serve(node_dir: Path, verbose: bool) -> None:
    """Serve NODE_DIR: records, open images, search, and jobs by its policy. Ctrl-C or SIGTERM ends it cleanly."""
    logging.basicConfig(
        level=logging.INFO if verbose else logging.WARNING, format="%(asctime)s %(levelname)s %(name)s %(message)s"
    )
    try:
        with open_folder(node_dir) as folder, serve_lock(folder.settings.lock_path):
            with folder.database.reader() as conn:
                wrong = check_origin(conn, folder.settings.origin)
            if wrong:
                raise UserError(wrong)
            folder.blobs.sweep_staging()
            finish_begun(folder, now=datetime.now(UTC))
            if waiting := withdrawals_to_clean(folder):
                click.echo(
                    f"warning: the node's files still hold remains of {waiting} withdrawn images: "
                    f"stop it and run `vasculum withdraw {node_dir} --finish`",
                    err=True,
                )
            for problem in folder.blobs.volume_problems():
                click.echo(f"warning: {problem}", err=True)
            asyncio.run(_serve(folder))
    except (ConfigError, DatabaseError, FolderBusy, PipelineUnavailable) as error:
        raise UserError(str(error)) from error
    except OSError as error:
        raise CommandFailed(f"cannot serve: {error.strerror or error}") from error


async def _serve(folder: NodeFolder) -> None:
    settings = folder.settings
    app = build_application(folder, catalogue=Catalogue.of(settings.jobs.pipelines), clock=lambda: datetime.now(UTC))
    access_log = logging.getLogger("vasculum.access")
    runner = web.AppRunner(app, access_log=access_log, handle_signals=False)
    click.echo(f"{settings.node.name}: starting (workers load their models) ..")
    await runner.setup()
    try:
        site = NodeSite(runner, settings.server.host, settings.server.port, answers=answers_of(app, access_log))
        await site.start()
        app[HEARTBEAT].begin()
        click.echo(f"{settings.node.name}: serving {settings.origin} on {settings.server.host}:{settings.server.port}")
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        await stop.wait()
        click.echo("stopping")
    finally:
        await runner.cleanup()
