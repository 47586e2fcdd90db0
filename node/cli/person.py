"""Who runs a command, for the logs of what staff decided."""

import getpass


def person() -> str:
    """The user name, or ``unknown`` where the system has none for this user."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"
