"""Opening a node's database for a command, beside a running server."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from node.cli.errors import CommandFailed, UserError
from node.config import ConfigError, load_settings
from node.storage.db import Database, DatabaseError


@contextlib.contextmanager
def open_database(folder: Path) -> Iterator[Database]:
    """The database of the node in ``folder``; errors become one line."""
    try:
        settings = load_settings(folder)
        if not settings.database_path.exists():
            raise UserError(f"{settings.database_path} does not exist: was `vasculum init {folder}` run?")
        database = Database.open(settings.database_path)
    except ConfigError as error:
        raise UserError(str(error)) from error
    except DatabaseError as error:
        raise CommandFailed(str(error)) from error
    try:
        yield database
    except DatabaseError as error:
        raise CommandFailed(str(error)) from error
    finally:
        database.close()
