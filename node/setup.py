"""Making a new node folder: settings with comments, keys, an empty database.

Invariants:
- An existing node is never overwritten.
- The recovery key is returned once and not kept: whoever holds it can replace the node's key after a loss.

It leaves out: asking people (``node.cli.init``).
"""

import os
import re
import sqlite3
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final, Literal

from cas.store import BlobStore
from federation.identity import SigningKey
from linkeddata.times import format_time
from node.config import ConfigError, check_public_url, load_settings
from node.storage.db import Database
from node.storage.records import ensure_salts

Preset = Literal["closed", "reading", "open"]
_NAME: Final = re.compile(r"[^\x00-\x1f\"\\]{1,200}\Z")

TEMPLATE: Final = """\
# Settings of this Vasculum node. The documented reference of every key is docs/reference-configuration.md.
# An unknown key is an error that names the nearest known one. `vasculum doctor FOLDER` checks this file.

[node]
# The name people see on the pages of this node.
name = "{name}"
# The address under which others reach this node: the start of every identifier it mints. It does not change.
public_url = "{public_url}"
# Whom to write to; shown on the pages of restricted images.
contact = "{contact}"

[server]
# Where the node listens. Put nginx or caddy with TLS in front and keep this on loopback.
host = "{host}"
port = {port}

[federation]
# Registries that index this node; none is needed.
registries = [{registries}]
{loopback}
[jobs]
# What this node offers to compute; docs/reference-pipelines.md lists what else there is.
pipelines = ["label-text", "barcode", "quality"]
# Which of them run by themselves over new images; what they find waits for a person (vasculum review).
# on_new_images = ["label-text", "barcode"]
# Worker processes per pipeline.
workers = 1

[policy]
# closed: nothing. reading: enrolled researchers may run label-text, barcode and quality, the rest waits for a person.
# open: enrolled researchers may run every pipeline, others wait for a person.
preset = "{policy}"

# The first source. Give its folder or archive to `vasculum ingest`, or write it here as path = "...".
[sources.{source}]
# Licence of media that state none, for example "CC BY 4.0" or "CC0". Empty: such images are restricted,
# their bytes never leave; jobs may run on them here.
licence = "{licence}"

# Sensitive taxa: places are generalised before anything is published, the image is restricted, its text is withheld.
# [[sensitive]]
# field = "scientificName"
# value = "Cypripedium calceolus"
# category = 2
"""


class SetupError(Exception):
    """The folder cannot become a node; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewNode:
    """What a new node starts with."""

    name: str
    public_url: str
    policy: Preset = "closed"
    licence: str = ""
    contact: str = ""
    source: str = "collection"
    host: str = "127.0.0.1"
    port: int = 8080
    registries: tuple[str, ...] = ()
    insecure_loopback: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CreatedNode:
    """Where it is, who it is, and the one thing to write down."""

    folder: Path
    kid: str
    recovery_key: str
    """Text to print and keep offline; it is stored nowhere on this machine."""


def create_node(folder: Path, new: NewNode, *, now: datetime) -> CreatedNode:
    """Makes ``folder`` a node.

    Raises:
        SetupError: it is one already, or something given cannot be used.
    """
    if (folder / "node.toml").exists() or (folder / "keys").exists():
        raise SetupError(f"{folder} is a node already: nothing was changed")
    for label, text in (("name", new.name), ("contact", new.contact or "-"), ("licence", new.licence or "-")):
        if not _NAME.match(text):
            raise SetupError(f"{label} must be one line of 1 to 200 characters without quotation marks or backslashes")
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,63}", new.source):
        raise SetupError("a source is named with lower-case letters, digits, - and _")
    try:
        check_public_url(new.public_url, insecure_loopback=new.insecure_loopback)
    except ConfigError as error:
        raise SetupError(str(error)) from error
    folder.mkdir(parents=True, exist_ok=True)
    keys = folder / "keys"
    keys.mkdir(mode=0o700)
    key, recovery = SigningKey.create(), SigningKey.create()
    key.save(keys / "node.key")
    (keys / "recovery.pub").write_text(recovery.public_key_b64 + "\n", encoding="ascii")
    _write_settings(folder / "node.toml", new)
    settings = load_settings(folder)
    database = Database.open(settings.database_path)
    try:
        with database.transaction() as conn:
            ensure_salts(conn)
            _remember(conn, "public_url", settings.origin)
            _remember(conn, "created", format_time(now))
    finally:
        database.close()
    BlobStore.open(settings.blobs_path).close()
    return CreatedNode(folder=folder, kid=key.kid, recovery_key=recovery.secret_text())


def check_origin(conn: sqlite3.Connection, origin: str) -> str | None:
    """What is wrong when the settings' public_url is not the one this node started with; None when it is."""
    row = conn.execute("SELECT value FROM meta WHERE key = 'public_url'").fetchone()
    if row is None or row[0] == origin:
        return None
    return (
        f"this node's identifiers begin with {row[0]}, but node.toml says public_url = {origin}: "
        "set it back (a move needs a signed statement, which a later version brings)"
    )


def _remember(conn: sqlite3.Connection, key: str, value: str) -> None:
    conn.execute("INSERT OR IGNORE INTO meta VALUES (?, ?)", (key, value))


def _write_settings(path: Path, new: NewNode) -> None:
    loopback = (
        "# A trial on one machine: http and loopback addresses are allowed; this shows in the node's descriptor.\n"
        "insecure_loopback = true\n"
        if new.insecure_loopback
        else ""
    )
    text = TEMPLATE.format(
        name=new.name, public_url=new.public_url, contact=new.contact, host=new.host, port=new.port,
        registries=", ".join(f'"{url}"' for url in new.registries), loopback=loopback, policy=new.policy,
        source=new.source, licence=new.licence,
    )  # fmt: skip
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.write(text)
