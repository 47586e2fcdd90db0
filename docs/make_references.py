"""Writes docs/reference-cli.md, -licences.md, -configuration.md and docs/samples from the code.

A test compares: run ``python docs/make_references.py`` after changing a command, a setting or the licence table.
What a setting means is taken from the comments of ``node.toml``, what it defaults to from ``node.config``.
"""

import dataclasses
import re
import sys
from pathlib import Path
from typing import Any, Final, Literal, get_args, get_origin, get_type_hints

import click

ROOT: Final = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

UNITS: Final = {
    "_bytes": "bytes",
    "bytes_per_day": "bytes a day",
    "requests_per_minute": "requests a minute",
    "_gib": "GiB (1,073,741,824 bytes)",
    "_mib": "MiB (1,048,576 bytes)",
    "_mib_s": "MiB per second",
    "_days": "days",
    "_s": "seconds",
    "_px": "pixels",
    "_pixels": "pixels",
}
"""How the end of a key tells its unit."""
SECTIONS: Final = (
    ("node", "[node]", "NodeSection"),
    ("server", "[server]", "ServerSection"),
    ("limits", "[limits]", "LimitsSection"),
    ("federation", "[federation]", "FederationSection"),
    ("images", "[images]", "ImagesSection"),
    ("care", "[care]", "CareSection"),
    ("remote", "[remote]", "RemoteSection"),
    ("jobs", "[jobs]", "JobsSection"),
    ("policy", "[policy]", "PolicySection"),
    ("policy.rules", "[[policy.rules]]", "PolicyRule"),
    ("review", "[review]", "ReviewSection"),
    ("corrections", "[corrections]", "CorrectionsSection"),
    ("corrections.columns", "[[corrections.columns]]", "CorrectionColumn"),
    ("volumes.scans", "[volumes.NAME]", "VolumeSettings"),
    ("tiers.archive", "[tiers.NAME]", "TierSettings"),
    ("sources.herbarium", "[sources.NAME]", "SourceSettings"),
    ("sources.herbarium.files", "[[sources.NAME.files]]", "FileRule"),
    ("sources.herbarium.rules", "[[sources.NAME.rules]]", "AccessRule"),
    ("protection", "[protection]", "ProtectionSection"),
    ("sensitive", "[[sensitive]]", "SensitiveTaxon"),
)
"""Where a table stands in node.toml, its heading in the page, its class in ``node.config``."""
PLAIN: Final = {
    "server.port": "The port it listens on.",
    "limits.requests_per_minute": "Of one address (IPv6: a /64). A person who turns pages makes about 100, "
    "a reading room behind one address some hundred. "
    "0 here and below: no limit. With several processes each counts for itself.",
    "policy.preset": "What researchers may ask of this node. `closed`: nothing. "
    "`reading`: enrolled researchers may run this node's own reading pipelines on open and restricted images, "
    "everything else waits for a person. "
    "`open`: enrolled researchers may run every pipeline of this node, others wait for a person.",
    "policy.rules": "Rules that are asked before the preset, in order; the first that fits decides. "
    "See `[[policy.rules]]`.",
    "policy.rules.decide": "What happens to a request that the rule fits.",
    "policy.rules.requesters": "`enrolled`, `anyone`, or key ids. "
    "Somebody who is not enrolled is held or refused, whatever a rule says.",
    "policy.rules.access": "Classes of images that the rule covers; empty: all but private.",
    "policy.rules.max_images": "Of a rule that accepts: at most so many images. "
    "Of a rule that holds or refuses: more than so many.",
    "policy.rules.granularity": "The finest that is given out: whether there is any, numbers, or rows.",
    "policy.rules.publish": "Whether the rule also covers jobs that publish their results as annotations.",
    "policy.rules.reason": "Shown to the requester, and in the readable policy.",
    "corrections.columns": "Columns of the file of `vasculum corrections export`; see `[[corrections.columns]]`. "
    "Empty: all of them, under their own names.",
    "corrections.columns.field": "What stands in the column: `occurrenceID`, `catalogNumber`, `institutionCode`, "
    "`collectionCode`, `source`, `key`, `field`, `old`, `new`, `evidence`, `pipeline`, `score`, `reviewer`, `date`, "
    "`status`, `annotation`, `number`, or a term of the specimen's row such as `dwc:recordNumber`.",
    "corrections.columns.name": "Heading of the column; empty: the name of the field.",
    "volumes.scans.root": "The folder; relative to the folder of this file.",
    "volumes.scans.identity": "How a file is recognised as the one that was taken in; "
    "`size+mtime` is for network drives.",
    "volumes.scans.max_read_mib_s": "Most that scrub, jobs and leaf tables read from it in a second. "
    "Visitors are counted and never wait.",
    "tiers.archive.path": "A folder, an empty one at first use; relative to the folder of this file. "
    "Either this or `bucket`.",
    "tiers.archive.bucket": "A bucket of an S3-compatible service. Its keys stand in `keys/tier-NAME.toml` "
    "(`access_key_id`, `secret_access_key`, readable by its owner only) or in `AWS_ACCESS_KEY_ID` and "
    "`AWS_SECRET_ACCESS_KEY` of the environment, never in this file.",
    "tiers.archive.endpoint": 'Address of the service, such as "https://s3.example.org"; http only on this machine.',
    "tiers.archive.older_than_days": "Images move by themselves that were stored here for at least so long; a restore "
    "begins it anew. Every rule that is not 0 must hold; all 0: only `vasculum tier move`.",
    "tiers.archive.unused_days": "And that were neither stored nor asked for since.",
    "tiers.archive.larger_than_mib": "And that are larger than this.",
    "tiers.archive.scrub_days": "Copies are read again and hashed once in so many days. A bucket is downloaded for "
    "that, which a service may charge for. 0: never.",
    "tiers.archive.max_mib_s": "Most that moves and scrub read in a second. Restores have no limit, because somebody "
    "waits. 0: no limit.",
    "sources.herbarium.access": "The class of all images of the source; empty: by licence.",
    "sources.herbarium.key": "Columns that identify a row; empty: `occurrenceID`, "
    "else `institutionCode` + `collectionCode` + `catalogNumber`.",
    "sources.herbarium.fetch": "What becomes of images that are known only by URL. `false`: nothing, a finding says so. "
    "`true`: each is fetched at ingest and kept for good. "
    "`\"on-need\"`: records are published without a content id, and a copy is fetched when somebody needs it; "
    "see `[remote]`.",
    "remote.budget_gib": "All copies together. Those used longest ago go first; "
    "their ids and records stay. 0: no limit. 50 GiB is about 10,000 sheets of 5 MB, a tenth of an ordinary disk.",
    "remote.pause_s": "How long a host is left alone after each fetch. It is asked by one at a time, "
    "and longer pauses that it asks for are kept.",
    "sources.herbarium.identity": "How a file is recognised as the one that was taken in; "
    "`size+mtime` is for network drives.",
    "sources.herbarium.variants": "Which files of a specimen count as one exposure: `found`: those that the source says "
    "or that their names tell; `stated`: only those that it says; `none`. "
    "See [several files of one exposure](how-to-ingest.md#several-files-of-one-exposure).",
    "sources.herbarium.files": "Where the files of media rows lie; see `[[sources.NAME.files]]`.",
    "sources.herbarium.rules": "Access by record; see `[[sources.NAME.rules]]`.",
    "sources.herbarium.files.field": "What `match` is compared with: the address or path that the media row states, "
    "or the catalogue number of its specimen.",
    "sources.herbarium.files.match": "Regular expression, found anywhere in the field. "
    "The first rule that leads to a file that is there decides.",
    "sources.herbarium.files.path": "The file, below the folder of the archive; `{1}` is the first group of `match`.",
    "sources.herbarium.rules.field": "The Darwin Core column of the row that `match` is compared with.",
    "sources.herbarium.rules.match": "Regular expression, found anywhere in the field.",
    "sources.herbarium.rules.access": "The class of the images of a row that fits; "
    "of several classes the strictest counts.",
    "sensitive.value": "The name whose places are protected.",
    "sensitive.field": "The column in which the name stands.",
    "sensitive.region": "Where the rule holds: countries by code or name, or country/state, several with vertical bars between; "
    "empty: everywhere. A row that does not say where it is from falls under the rule.",
    "protection.taxa_file": "The list of sensitive taxa as CSV; relative to the folder of this file. "
    "See [how to protect sensitive taxa](how-to-protect-sensitive-taxa.md). Empty: only `[[sensitive]]`.",
    "sources.herbarium.every_hours": "How often the running node reads the source again by itself; 0: never. "
    "See [sources on a schedule](how-to-protect-sensitive-taxa.md#sources-on-a-schedule).",
}
"""Meanings that need more words than the comments of node.toml have room for."""
_HEAD: Final = re.compile(r"(?:# )?\[\[?([a-z.]+)\]\]?(?: +#.*)?\Z")
_KEY: Final = re.compile(r"(?:# )?([a-z_]+) = (.*)\Z")


def cli_reference() -> str:
    """Every command's help, as printed."""
    from node.cli.main import COMMANDS, cli

    parts = ["# Commands\n\nGenerated from the program's own help.\n"]

    def add(command: click.Command, names: list[str], parent: click.Context | None) -> None:
        context = click.Context(command, info_name=names[-1], parent=parent, max_content_width=100, terminal_width=100)
        command._help_option = None  # noqa: SLF001 - click keeps the option of whoever asked first
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
    from linkeddata.licences import TABLE

    rows = "\n".join(
        f"| {label} | {base} | {only or 'as stated'} | {', '.join(f'`{text}`' for text in spellings)} |"
        for label, base, only, spellings in TABLE
    )
    return f"""\
# Licences

A licence that this table knows makes the bytes of an image **open**.
Anything else, and nothing at all, keeps them **restricted**:
they never leave, jobs may run on them at the institution.
The text as it was stated is always kept.
A version that is not stated is not invented.
Non-commercial (NC) and no-derivatives (ND) licences allow showing the unchanged image, so such images are open too.
What may be done with them beyond looking, the licence says, and the record carries it.

| licence | address | version | for example |
|---|---|---|---|
{rows}

## How a statement is read

- Addresses at creativecommons.org count with http, https or neither, with or without `www.`, `legalcode`,
  `deed.en`, a country, a question mark behind them, or a slash at the end.
- Small and large letters, blanks, hyphens and underscores do not count; names may be long or short.
- A statement that names its licence twice gets the conditions of both:
  `Attribution Non Commercial (CC-BY-NC) 4.0` is CC BY-NC 4.0.
- One word that is not part of a licence's name, and the statement is for people to read: not recognised.
  So `CC BY 4.0 except the labels`, `not under CC BY` or a name in front keep the image restricted.
- `by`, `attribution` or `0` alone are not recognised, nor are two different versions.
- Licences made for data or software (ODbL, OGL, MIT, GPL) are not in the table: they say nothing sure about images.
  Rights statements in prose are not in it either.

## When the table does not fit

For a whole source, `[sources.NAME] licence` in node.toml states the licence of images that state none,
and `access` sets the class itself.
"""


def meanings(text: str) -> dict[str, str]:
    """What the comments of node.toml say about each key, by its full name."""
    found: dict[str, str] = {}
    section, above, last = "", [], ""
    for line in text.splitlines():
        head, key = _HEAD.match(line), _KEY.match(line)
        if head:
            section, above, last = head[1], [], ""
        elif key:
            _, _, behind = key[2].partition("  # ")
            last = behind.strip() or " ".join(above) or last
            found[f"{section}.{key[1]}"] = last[:1].upper() + last[1:]
            above = []
        elif line.startswith("#"):
            above.append(re.sub(r"\s+", " ", line.removeprefix("#")).strip())
        else:
            above = []
    return {**found, **PLAIN}


def default_text(item: "dataclasses.Field[Any]") -> str:
    """The default as it would be written in the file."""
    if item.default is dataclasses.MISSING:
        return "must be given"
    value: Any = item.default
    if value is None:
        return "no limit"
    if isinstance(value, tuple):
        return "`[" + ", ".join(f'"{each}"' for each in value) + "]`"
    return (
        f"`{str(value).lower() if isinstance(value, bool) else value}`"
        if not isinstance(value, str)
        else f'`"{value}"`'
    )


def form_text(name: str, hint: Any) -> str:
    """The unit of a key, or what may stand there."""
    for ending, unit in UNITS.items():
        if name.endswith(ending):
            return unit
    if get_origin(hint) is Literal:
        return ", ".join(f"`{str(value).lower()}`" if value != "" else "empty" for value in get_args(hint))
    if get_origin(hint) is tuple:
        inner = get_args(hint)[0]
        if dataclasses.is_dataclass(inner):
            return "tables"
        return f"list of {form_text('', inner)}" if get_origin(inner) is Literal else "list of texts"
    if hint is bool:
        return "`true` or `false`"
    return "text" if hint is str else "number"


def configuration_reference() -> str:
    """Every key of node.toml, and the file itself."""
    from node import config

    text = (ROOT / "node.toml").read_text("utf-8")
    said = meanings(text)
    parts = [
        """\
# Settings: node.toml

`vasculum init` writes a file of this kind; `vasculum doctor` checks it.
An unknown key is an error that names the nearest known one.
Times end in `_s` (seconds), sizes in `_bytes`, `_mib` or `_px` (pixels).
Paths are relative to the folder of the file.
A server reads its settings when it starts.
"""
    ]
    for place, heading, kind_name in SECTIONS:
        kind = getattr(config, kind_name)
        hints = get_type_hints(kind)
        parts.append(f"## {heading}\n\n| key | unit or form | default | meaning |\n|---|---|---|---|")
        for item in dataclasses.fields(kind):
            meaning = said[f"{place}.{item.name}"].rstrip(".") + "."
            form = form_text(item.name, hints[item.name])
            parts.append(f"| `{item.name}` | {form} | {default_text(item)} | {meaning} |")
        parts.append("")
    parts.append(f"## The whole file, with every default\n\n```toml\n{text}```\n")
    return "\n".join(parts)


def sample(server: str) -> str:
    """What ``vasculum front`` prints for a node with one volume."""
    from node.config import parse_settings
    from node.front import caddy_configuration, nginx_configuration

    document = {
        "node": {"name": "Hortus", "public_url": "https://images.example.org"},
        "server": {"accel": "nginx", "trusted_proxies": ["127.0.0.1"]},
    }
    settings = parse_settings(document, Path("/srv/hortus"))
    if server == "caddy":
        return caddy_configuration(settings)
    return nginx_configuration(settings, {"herbarium": Path("/data/export/herbarium")})


def findings_reference() -> str:
    """Every flag of records, and every finding about archives and files."""
    from linkeddata.issues import FLAGS
    from node.services.archive_findings import ABOUT_ARCHIVES

    ours = " (ours)"
    rows = "\n".join(
        f"| `{flag.code}`{ours if flag.is_ours else ''} | {flag.says} | {flag.advice} |" for flag in FLAGS.values()
    )
    others = "\n".join(f"| `{code}` | {says} | {advice} |" for code, (says, advice) in ABOUT_ARCHIVES.items())
    return f"""\
# Findings: what an ingest notices

Nothing that is noticed is dropped, and nothing is corrected: the record is published as it came, and says what was seen.

```console
$ vasculum findings hortus/ --summary
$ vasculum findings hortus/ --code RECORDED_DATE_INVALID
$ vasculum findings hortus/ --source collection --json
```

The page of a specimen shows its flags to everybody, and to staff also the values that led to them.
In the JSON-LD of a record they are `vasculum:issue`.
They can be [searched](reference-search.md), in the address and by `--where`: `issue=RECORDED_DATE_INVALID`.
Flags of a sensitive record are computed on what was generalised: they tell no more than the record does.

## Issues of records

Named like GBIF's flags (`OccurrenceIssue`, for names `NameUsageIssue`), so that they mean the same here and there.
Where GBIF has no flag, the name is *ours*.

| flag | what was seen, and why it matters | what to do |
|---|---|---|
{rows}

What is checked against what:

- **Dates** are ISO 8601, as Darwin Core asks for; other forms are flagged, not guessed (GBIF guesses some).
- **Countries** are those of ISO 3166-1, by code or by name in 16 languages.
- **Points** are compared with outlines of Natural Earth at 1:50m.
  A point within 20 km of the border, or within 200 nautical miles of the coast, is not flagged.
  Areas that are disputed are not judged.
- **Names** are taken apart by GBIF's own parser, on this machine.
  Viruses, hybrid formulas and names such as *Carex sp. 1* are not flagged.
- **Licences**: see [licences](reference-licences.md). The words of the source are kept.
- Flags across records (the same catalogue number, the same image) are known to staff only.

## MIDS: how completely a specimen is digitised

*Minimum Information about a Digital Specimen* (TDWG) has levels 0 to 3.
The level is computed by TDWG's own maps from Darwin Core (version 1 of 2026-01-12, CC0), which travel with the program:
for biology, for fossils (`basisOfRecord` FossilSpecimen), and for minerals, rocks and meteorites.
It stands in the record (`ods:midsLevel`) and on its page; `vasculum findings --summary` and `vasculum doctor` count.
Levels are cumulative, and a record without a number or an institution has none.
The institution of `node.toml` and the licence of its source count where a row states none.

## Findings about archives and files

| code | what was seen | what to do |
|---|---|---|
{others}
"""


PAGES: Final = {
    "samples/nginx.conf": lambda: sample("nginx"),
    "samples/Caddyfile": lambda: sample("caddy"),
    "reference-cli.md": cli_reference,
    "reference-licences.md": licence_reference,
    "reference-findings.md": findings_reference,
    "reference-configuration.md": configuration_reference,
}

if __name__ == "__main__":
    for page, make in PAGES.items():
        (ROOT / "docs" / page).write_text(make(), "utf-8")
