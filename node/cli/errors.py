"""How commands fail: one line that says what to do, and an exit code.

::

    UserError (exit 2)     the command, its arguments or the settings must change
    CommandFailed (exit 1) the command was right, the work could not be done
"""

import click


class UserError(click.ClickException):
    """What was asked cannot be done as asked."""

    exit_code = 2


class CommandFailed(click.ClickException):
    """What was asked is right, but it failed."""

    exit_code = 1
