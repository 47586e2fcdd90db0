"""``vasculum id``: every spelling of a content id."""

import hashlib
import json
from pathlib import Path

import click
from multiformats import CID

from cas.errors import ContentIdError
from cas.ids import ContentId, parse_content_id
from cas.unixfs import leaf_digests, root_of
from node.cli.errors import CommandFailed, UserError


@click.command(
    "id",
    epilog="""\b
Examples:
  vasculum id --file sheet.jpg
  vasculum id zb2rhXKXsCsAqxmS29HZH66KQxvNdMvRS5xuKsUeBKtoDUwtm""",
)
@click.argument("text", required=False)
@click.option(
    "--file", "path", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="The bytes of this file."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def show_id(text: str | None, path: Path | None, as_json: bool) -> None:
    """Print every spelling of the content id TEXT (any spelling, also CIDs in other bases), or of a file's bytes."""
    if (text is None) == (path is None):
        raise UserError("give one content id, or --file PATH")
    cid = _of_file(path) if path is not None else _parse(text or "")
    spellings = {
        "hash": str(cid),
        "hex": cid.hex,
        "ni": cid.to_ni(),
        "cid": cid.to_cid(),
        "cid-base58btc": str(CID("base58btc", 1, "raw", ("sha2-256", cid.digest))),
        "sri": cid.to_sri(),
        "path": f"/cas/sha256/{cid.hex}",
    }
    if path is not None:
        spellings["unixfs"] = _unixfs_root(path)
    if as_json:
        click.echo(json.dumps(spellings))
    else:
        for name, value in spellings.items():
            click.echo(f"{name:<14} {value}")


def _of_file(path: Path) -> ContentId:
    try:
        with path.open("rb") as stream:
            return ContentId(hashlib.file_digest(stream, "sha256").digest())
    except OSError as error:
        raise CommandFailed(f"{path}: {error.strerror}") from error


def _unixfs_root(path: Path) -> str:
    """The name of the file in parts, as IPFS adds it (profile unixfs-v1-2025)."""
    try:
        with path.open("rb") as stream:
            leaves = list(leaf_digests(stream.fileno()))
            return root_of(leaves, path.stat().st_size).cid
    except (OSError, ValueError) as error:
        raise CommandFailed(f"{path}: {error}") from error


def _parse(text: str) -> ContentId:
    """Our strict spellings first; what they do not cover (CIDs in other bases) by the multiformats library."""
    try:
        return parse_content_id(text)
    except ContentIdError as error:
        refusal = str(error)
    if len(text) > 200:
        raise UserError(refusal)
    try:
        cid = CID.decode(text)
    except (ValueError, KeyError, IndexError) as error:
        raise UserError(refusal) from error
    if cid.version != 1 or cid.codec.name != "raw" or cid.hashfun.name != "sha2-256" or len(cid.raw_digest) != 32:
        raise UserError("this CID does not name whole bytes by SHA-256 (CIDv1, codec raw, sha2-256)")
    return ContentId(bytes(cid.raw_digest))
