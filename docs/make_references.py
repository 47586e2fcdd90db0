"""Writes docs/reference-cli.md, docs/reference-licences.md and docs/reference-configuration.md from the code.

A test compares: run ``python docs/make_references.py`` after changing a command, a setting or the licence table.
"""

import sys
from pathlib import Path

import click

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from linkeddata.licences import TABLE
from node.cli.main import COMMANDS, cli


def cli_reference() -> str:
    """Every command's help, as printed."""
    parts = ["# Commands\n\nGenerated from the program's own help.\n"]

    def add(command: click.Command, names: list[str], parent: click.Context | None) -> None:
        context = click.Context(command, info_name=names[-1], parent=parent, max_content_width=100, terminal_width=100)
        parts.append(f"## {' '.join(names)}\n\n```text\n{command.get_help(context).rstrip()}\n```\n")
        if isinstance(command, click.Group):
            for name in command.list_commands(context):
                inner = command.get_command(context, name)
                assert inner is not None
                add(inner, [*names, name], context)

    root = click.Context(cli, info_name="vasculum", help_option_names=["-h", "--help"])
    for name in COMMANDS:
        command = cli.get_command(root, name)
        assert command is not None
        add(command, ["vasculum", name], root)
    return "\n".join(parts)


def licence_reference() -> str:
    """The licence table."""
    rows = "\n".join(f"| {label} | {base} | {only or 'as stated'} |" for label, base, only, _ in TABLE)
    return (
        "# Licences\n\n"
        "A licence that this table knows makes the bytes of an image **open**; anything else, and nothing at all,\n"
        "keeps them **restricted**: they never leave, jobs may run on them at the institution.\n"
        "The text as it was stated is always kept. A version that is not stated is not invented.\n"
        "Non-commercial and no-derivatives licences allow showing the unchanged image, so such images are open too.\n\n"
        "Recognised are the Creative Commons addresses (http or https, with or without legalcode, deed or a slash) and\n"
        "the usual ways to write the name, such as `cc-by`, `CC BY 4.0` or `Attribution 4.0 International (CC BY 4.0)`.\n\n"
        "| licence | address | version |\n|---|---|---|\n" + rows + "\n\n"
        "For a whole source, `[sources.X] licence` in node.toml states the licence of images that state none, and\n"
        "`access` sets the class itself.\n"
    )


def configuration_reference() -> str:
    """node.toml, which is the reference, as a page."""
    text = (ROOT / "node.toml").read_text("utf-8")
    return (
        "# Settings: node.toml\n\n"
        "The file at the top of the repository is the reference: every key with its unit and default.\n"
        "An unknown key is an error that names the nearest known one.\n\n```toml\n" + text + "```\n\n"
        "`max_images` in a rule that accepts means *at most so many*; in a rule that holds or refuses it means *more than*.\n"
    )


PAGES = {
    "reference-cli.md": cli_reference,
    "reference-licences.md": licence_reference,
    "reference-configuration.md": configuration_reference,
}

if __name__ == "__main__":
    for name, make in PAGES.items():
        (ROOT / "docs" / name).write_text(make(), "utf-8")
