"""``vasculum serve``: runs a node until it is told to stop."""

import asyncio
import contextlib
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
from node.processes import ReaderProcesses
from node.services.protect_known import protect_known
from node.services.purge import purge_waits
from node.services.withdraw import WithdrawalPending, finish_begun, withdrawals_to_clean
from node.setup import check_origin
from node.storage.db import DatabaseError
from node.web.keys import CARE
from node.web.listen import NodeSite, answers_of, server_log
from node.web.private_channel import private_folder, serve_channel
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
            try:
                finish_begun(folder, now=datetime.now(UTC))
            except WithdrawalPending as error:
                click.echo(f"warning: a withdrawn copy is not removed yet, it is tried again: {error}", err=True)
            if waiting := withdrawals_to_clean(folder):
                click.echo(
                    f"warning: the node's files still hold remains of {waiting} withdrawn images: "
                    f"stop it and run `vasculum withdraw {node_dir} --finish`",
                    err=True,
                )
            protect_known(folder.settings, folder.database, clock=lambda: datetime.now(UTC))
            if purge_waits(folder.database):
                click.echo(
                    "warning: the node's files still hold what was said of taxa before they became sensitive: "
                    f"stop it and run `vasculum withdraw {node_dir} --finish`",
                    err=True,
                )
            for problem in folder.blobs.volume_problems():
                click.echo(f"warning: {problem}", err=True)
            asyncio.run(_serve(folder, verbose=verbose))
    except (ConfigError, DatabaseError, FolderBusy, PipelineUnavailable) as error:
        raise UserError(str(error)) from error
    except OSError as error:
        raise CommandFailed(f"cannot serve: {error.strerror or error}") from error


async def _serve(folder: NodeFolder, *, verbose: bool) -> None:
    settings = folder.settings
    app = build_application(
        folder,
        catalogue=Catalogue.of(settings.jobs.pipelines, models=settings.models_path),
        clock=lambda: datetime.now(UTC),
    )
    access_log = logging.getLogger("vasculum.access")
    runner = web.AppRunner(app, access_log=access_log, handle_signals=False, logger=server_log())
    click.echo(f"{settings.node.name}: starting (workers load their models) ..")
    await runner.setup()
    server = settings.server
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(runner.cleanup)
        answers = answers_of(app, access_log)
        site = NodeSite(runner, server.host, server.port, answers=answers, is_shared=server.processes > 1)
        await site.start()
        if server.processes > 1:
            channel = stack.enter_context(private_folder(settings.channel_path))
            await serve_channel(runner, channel)
            others = ReaderProcesses(
                settings.folder, count=server.processes - 1, port=site.port, served=app[CARE].served, verbose=verbose
            )
            stack.push_async_callback(others.stop)  # before the core stops to answer them
            await others.start()
        app[HEARTBEAT].begin()
        extra = f" with {server.processes} processes" if server.processes > 1 else ""
        click.echo(f"{settings.node.name}: serving {settings.origin} on {server.host}:{site.port}{extra}")
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        await stop.wait()
        click.echo("stopping")
