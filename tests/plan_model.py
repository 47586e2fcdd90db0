"""The comparison of what came with what is known, in memory: the model of what the spool of an intake does in SQL."""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from linkeddata.ingest_plan import IngestPlan, Keys, plan_from


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownRow:
    """A row as it was at the last ingest."""

    digest: str
    twin: str
    """What it would be recognised by under another key: institution, collection, catalogue number; may be empty."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IncomingRow:
    """A row as it is now."""

    key: str
    digest: str
    twin: str


def make_plan(
    known: Mapping[str, KnownRow],
    incoming: Sequence[IncomingRow],
    *,
    ends_early: bool,
    known_media: Collection[str] = (),
    incoming_media: Collection[str] = (),
    same_image: Mapping[str, str] | None = None,
) -> IngestPlan:
    """Compares what is known with what came; of rows with one key the first counts.

    Args:
        known: rows of this source, by key.
        incoming: rows of the archive, in its order.
        ends_early: whether a table of the archive is cut off.
        known_media: keys of the source's media.
        incoming_media: keys of media that the archive names.
        same_image: new key -> known key of a row whose image has the same bytes.
    """
    keys, duplicates, contents = _compare(known, incoming)
    rows = {row.key: row for row in reversed(incoming)}
    arrived = set(incoming_media)
    return plan_from(
        keys, vanished={key: known[key].twin for key in known if key not in rows},
        new={key: rows[key].twin for key in keys.new}, duplicates=duplicates, contents=contents, ends_early=ends_early,
        vanished_media=[key for key in known_media if key not in arrived], known_media=len(known_media),
        same_image=same_image,
    )  # fmt: skip


def _compare(known: Mapping[str, KnownRow], incoming: Sequence[IncomingRow]) -> tuple[Keys, list[str], str]:
    new: list[str] = []
    changed: list[str] = []
    unchanged: list[str] = []
    duplicates: list[str] = []
    seen: dict[str, IncomingRow] = {}
    contents = hashlib.sha256()
    for row in incoming:
        contents.update(repr((row.key, row.digest)).encode())
        if row.key in seen:
            duplicates.append(row.key)
            continue
        seen[row.key] = row
        old = known.get(row.key)
        if old is None:
            new.append(row.key)
        elif old.digest == row.digest:
            unchanged.append(row.key)
        else:
            changed.append(row.key)
    return Keys(new=new, changed=changed, unchanged=unchanged), duplicates, contents.hexdigest()
