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
        command._help_option = None  # click keeps the option of whoever asked first
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
    rows = "\n".join(
        f"| {label} | {base} | {only or 'as stated'} | {', '.join(f'`{text}`' for text in spellings)} |"
        for label, base, only, spellings in TABLE
    )
    return (
        "# Licences\n\n"
        "A licence that this table knows makes the bytes of an image **open**; anything else, and nothing at all,\n"
        "keeps them **restricted**: they never leave, jobs may run on them at the institution.\n"
        "The text as it was stated is always kept. A version that is not stated is not invented.\n"
        "Non-commercial (NC) and no-derivatives (ND) licences allow showing the unchanged image, so such images are\n"
        "open too; what may be done with them beyond looking, the licence says, and the record carries it.\n\n"
        "| licence | address | version | for example |\n|---|---|---|---|\n" + rows + "\n\n"
        "## How a statement is read\n\n"
        "- Addresses at creativecommons.org count with http, https or neither, with or without `www.`, `legalcode`,\n"
        "  `deed.en`, a country, a question mark behind them, or a slash at the end.\n"
        "- Small and large letters, blanks, hyphens and underscores do not count; names may be long or short.\n"
        "- A statement that names its licence twice gets the conditions of both:\n"
        "  `Attribution Non Commercial (CC-BY-NC) 4.0` is CC BY-NC 4.0.\n"
        "- One word that is not part of a licence's name, and the statement is for people to read: not recognised.\n"
        "  So `CC BY 4.0 except the labels`, `not under CC BY` or a name in front keep the image restricted.\n"
        "- `by`, `attribution` or `0` alone are not recognised, nor are two different versions.\n"
        "- Licences made for data or software (ODbL, OGL, MIT, GPL) are not in the table: they say nothing sure about\n"
        "  images. Rights statements in prose are not in it either.\n\n"
        "## When the table does not fit\n\n"
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
