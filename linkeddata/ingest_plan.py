"""What an ingest would do, decided before it does anything. Pure.

The brake: an archive that lost or re-keyed more than 5 % of what is known (records, or images), or that ends early,
changes nothing until a person accepts the plan by its id. Identity churn is the complaint of every aggregator, and a
half-written export looks exactly like a deaccession.
So is a tree held most of whose files are not those that were indexed.
"""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

BRAKE: Final = 0.05
"""Share of known records that may vanish or change their key without a person's word."""
BRAKE_FLOOR: Final = 20
"""Below this many known records one or two changes are not yet a pattern; the brake counts from two on."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestPlan:
    """The difference, by key."""

    new: tuple[str, ...]
    changed: tuple[str, ...]
    unchanged: tuple[str, ...]
    vanished: tuple[str, ...]
    rekeyed: Mapping[str, str]
    """New key -> old key."""
    duplicates: tuple[str, ...]
    ends_early: bool
    vanished_media: tuple[str, ...] = ()
    """Keys of media that no row names any more."""
    known_media: int = 0
    contents: str = ""
    """Digest of everything that came."""
    tree_problem: str = ""
    """Why the files below the archive look like those of another tree; empty when they do not."""

    @property
    def id(self) -> str:
        """Names exactly this plan: another archive, or another state of the node, gives another id."""
        sha = hashlib.sha256()
        parts = (
            self.new, self.changed, self.vanished, sorted(self.rekeyed.items()), self.vanished_media,
            [self.ends_early, self.known_media, self.contents],
        )  # fmt: skip
        for part in (*parts, "another tree") if self.tree_problem else parts:
            sha.update(repr(part).encode())
        return sha.hexdigest()[:16]

    @property
    def brake_reason(self) -> str | None:
        """Why a person has to accept this plan first; None when it may go ahead."""
        if self.ends_early:
            return "the archive ends early: a table is cut off"
        if self.tree_problem:
            return self.tree_problem
        known = len(self.changed) + len(self.unchanged) + len(self.vanished) + len(self.rekeyed)
        for count, of, what in (
            (len(self.vanished), known, "known records are missing from"),
            (len(self.rekeyed), known, "known records have another key in"),
            (len(self.vanished_media), self.known_media, "known images are not named by"),
        ):
            if count > BRAKE * of and (of >= BRAKE_FLOOR or count > 1):
                return f"{count} of {of} {what} this archive (more than {BRAKE:.0%})"
        return None

    @property
    def is_empty(self) -> bool:
        """Whether nothing at all would change in the records."""
        return not (self.new or self.changed or self.vanished or self.rekeyed or self.vanished_media)


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
    vanished = [key for key in known if key not in seen]
    twins = {key: known[key].twin for key in vanished}
    rekeyed = _rekeyed([seen[key] for key in new], twins, same_image or {})
    gone = set(rekeyed.values())
    arrived = set(incoming_media)
    return IngestPlan(
        new=tuple(key for key in new if key not in rekeyed), changed=tuple(changed), unchanged=tuple(unchanged),
        vanished=tuple(key for key in vanished if key not in gone), rekeyed=rekeyed, duplicates=tuple(duplicates),
        ends_early=ends_early, vanished_media=tuple(key for key in known_media if key not in arrived),
        known_media=len(known_media), contents=contents.hexdigest(),
    )  # fmt: skip


def _rekeyed(new: Sequence[IncomingRow], vanished: Mapping[str, str], same_image: Mapping[str, str]) -> dict[str, str]:
    """New key -> old key, where exactly one vanished row fits: by catalogue number first, then by image."""
    by_twin: dict[str, list[str]] = {}
    for key, twin in vanished.items():
        if twin:
            by_twin.setdefault(twin, []).append(key)
    found: dict[str, str] = {}
    for row in new:
        old_keys = by_twin.get(row.twin) if row.twin else None
        if old_keys and len(old_keys) == 1:
            found[row.key] = old_keys.pop()
    taken = set(found.values())
    for row in new:
        old = same_image.get(row.key)
        if row.key not in found and old is not None and old in vanished and old not in taken:
            found[row.key] = old
            taken.add(old)
    return found
