"""``vasculum registry``: an index of nodes."""

import asyncio
import contextlib
import json
import signal
from datetime import UTC, datetime
from pathlib import Path

import click
from aiohttp import web

from node.cli.errors import CommandFailed, UserError
from node.registry_app import RegistryConfigError, build_registry, load_registry_settings, settings_text
from node.web.listen import server_log


@click.group(epilog="Example: vasculum registry init index/ ; vasculum registry serve index/")
def registry() -> None:
    """An index of nodes. It holds no images and no results, and nobody has to trust it."""


@registry.command(epilog='Example: vasculum registry init index/ --name "Herbaria of Europe"')
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option("--name", default="Registry", show_default=True, help="The name people see.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=8090, show_default=True, help="Port to listen on.")
@click.option(
    "--insecure-loopback", is_flag=True, help="A trial on one machine: accept nodes at http://127.0.0.1:PORT."
)
def init(folder: Path, name: str, host: str, port: int, insecure_loopback: bool) -> None:
    """Make FOLDER a registry."""
    path = folder / "registry.toml"
    if path.exists():
        raise UserError(f"{folder} is a registry already: nothing was changed")
    if any(char in name for char in '"\\\n\r') or not name.strip():
        raise UserError("the name is one line without quotation marks or backslashes")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(settings_text(name=name, host=host, port=port, insecure=insecure_loopback), encoding="utf-8")
        load_registry_settings(folder)
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}") from error
    except RegistryConfigError as error:
        path.unlink()
        raise UserError(str(error)) from error
    click.echo(f"{folder} is a registry now; start it with: vasculum registry serve {folder}")


@registry.command(epilog="Example: vasculum registry serve index/")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON line when it listens.")
def serve(folder: Path, as_json: bool) -> None:
    """Serve the registry in FOLDER until Ctrl-C."""
    try:
        settings = load_registry_settings(folder)
    except RegistryConfigError as error:
        raise UserError(str(error)) from error

    def announce(port: int) -> None:
        address = f"http://{settings.host}:{port}"
        if as_json:
            click.echo(json.dumps({"listening": address}))
        else:
            click.echo(f"{settings.name} listens on {address} (Ctrl-C ends it)")

    async def run() -> None:
        runner = web.AppRunner(
            build_registry(settings, clock=lambda: datetime.now(UTC)), access_log=None, logger=server_log()
        )
        await runner.setup()
        try:
            site = web.TCPSite(runner, settings.host, settings.port)
            await site.start()
            announce(int(runner.addresses[0][1]))
            stop = asyncio.Event()
            for name in (signal.SIGINT, signal.SIGTERM):
                with contextlib.suppress(NotImplementedError):
                    asyncio.get_running_loop().add_signal_handler(name, stop.set)
            await stop.wait()
        finally:
            await runner.cleanup()

    try:
        asyncio.run(run())
    except OSError as error:
        raise CommandFailed(f"cannot listen on {settings.host}:{settings.port}: {error.strerror or error}") from error
