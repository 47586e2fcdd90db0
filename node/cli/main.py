"""Entry point of ``vasculum``: finds the command, imports only its module, turns known errors into one line.

A traceback is a defect of the program, never an answer to bad input.
"""

import errno
import importlib
import os
import sqlite3
import sys
from typing import Any, Final

import click

from node.cli.errors import CommandFailed, UserError

COMMANDS: Final[dict[str, str]] = {
    "init": "node.cli.init:init",
    "ingest": "node.cli.ingest:ingest",
    "serve": "node.cli.serve:serve",
    "front": "node.cli.front:front",
    "doctor": "node.cli.doctor:doctor",
    "volume": "node.cli.volume:volume",
    "hash": "node.cli.volume:hash_listed_files",
    "scrub": "node.cli.scrub:scrub",
    "quarantine": "node.cli.scrub:quarantine",
    "repair": "node.cli.repair:repair",
    "tier": "node.cli.tier:tier",
    "du": "node.cli.du:du",
    "pyramids": "node.cli.pyramids:pyramids",
    "images": "node.cli.images:images",
    "backup": "node.cli.backup:backup",
    "restore": "node.cli.backup:restore",
    "reindex": "node.cli.reindex:reindex",
    "fetch": "node.cli.fetch:fetch",
    "fsck": "node.cli.fsck:fsck",
    "gc": "node.cli.gc:gc",
    "pin": "node.cli.pin:pin",
    "export": "node.cli.export:export",
    "duplicates": "node.cli.duplicates:duplicates",
    "cluster": "node.cli.cluster:cluster",
    "findings": "node.cli.findings:findings",
    "pipelines": "node.cli.pipelines:pipelines",
    "review": "node.cli.review:review",
    "retract": "node.cli.retract:retract",
    "corrections": "node.cli.corrections:corrections",
    "withdraw": "node.cli.withdraw:withdraw",
    "staff": "node.cli.staff:staff",
    "researchers": "node.cli.researchers:researchers",
    "requests": "node.cli.requests:requests",
    "registry": "node.cli.registry:registry",
    "key": "node.cli.key:key",
    "nodes": "node.cli.nodes:nodes",
    "search": "node.cli.search:search",
    "similar": "node.cli.similar:similar",
    "selection": "node.cli.selection:selection",
    "job": "node.cli.job:job",
    "id": "node.cli.ids:show_id",
    "train": "node.cli.train:train",
    "ipfs": "node.cli.ipfs:ipfs",
    "demo": "node.cli.demo:demo",
}
"""Command name -> module:object. In the order people meet them."""


class LazyGroup(click.Group):
    """Imports a command's module when the command is used, so that ``vasculum id`` does not load a web server."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - the signature is click's
        """All command names, in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """The command, imported now; None when there is none of this name."""
        target = COMMANDS.get(cmd_name)
        if target is None:
            return None
        module, _, name = target.partition(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="vasculum", prog_name="vasculum")
def cli() -> None:
    """Vasculum: a node beside a natural-history collection.

    \b
    An institution:  vasculum init hortus/ ; vasculum ingest hortus/ archive/ ; vasculum serve hortus/
    A researcher:    vasculum key new ; vasculum nodes --registry URL ; vasculum job submit label-text ..
    To see it work:  vasculum demo
    """


def main(args: list[str] | None = None) -> None:
    """Runs the command line; the process exits with 0, 1 (failed), 2 (asked wrongly) or 130 (Ctrl-C)."""
    from node.guard import FlatNameError, check_flat_names

    try:
        check_flat_names()
        code = run(args)
    except FlatNameError as error:
        click.echo(f"Error: {error}", err=True)
        code = 1
    sys.stdout.flush()
    sys.exit(code)


def run(args: list[str] | None = None) -> int:
    """Like ``main``, but returns the exit code; used by tests."""
    try:
        result: Any = cli.main(args=args, prog_name="vasculum", standalone_mode=False)
    except click.exceptions.Abort:
        click.echo("stopped", err=True)
        return 130
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except KeyboardInterrupt:
        click.echo("stopped", err=True)
        return 130
    except BrokenPipeError:
        # The reader of our output went away (`| head`): nothing to say, and nowhere to say it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (OSError, sqlite3.OperationalError) as error:
        if not _is_the_disk(error):
            raise
        click.echo(f"Error: the disk refused ({error}): make room, look at the disk, and run it again", err=True)
        return 1
    return result if isinstance(result, int) else 0


def _is_the_disk(error: OSError | sqlite3.OperationalError) -> bool:
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS)
    return error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY)


__all__ = ["COMMANDS", "CommandFailed", "UserError", "cli", "main", "run"]

if __name__ == "__main__":
    main()
