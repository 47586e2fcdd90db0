"""What an ingest would do, decided before it does anything. Pure.

The brake: an archive that lost or re-keyed more than 5 % of what is known (records, or images), or that ends early,
changes nothing until a person accepts the plan by its id. Identity churn is the complaint of every aggregator, and a
half-written export looks exactly like a deaccession.
So is a tree held most of whose files are not those that were indexed.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

BRAKE: Final = 0.05
"""Share of known records that may vanish or change their key without a person's word."""
BRAKE_FLOOR: Final = 20
"""Below this many known records one or two changes are not yet a pattern; the brake counts from two on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Keys:
    """Keys of incoming rows, the first of each key, by what became of them."""

    new: Sequence[str]
    changed: Sequence[str]
    unchanged: Sequence[str]


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
            for piece in _pieces(part):
                sha.update(piece.encode())
        return sha.hexdigest()[:16]

    @property
    def brake_reason(self) -> str | None:
        """Why a person has to accept this plan first; None when it may go ahead."""
        if self.ends_early:
            return "the archive ends early: a table is cut off, or a page is missing"
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


def plan_from(
    keys: Keys,
    *,
    vanished: Mapping[str, str],
    new: Mapping[str, str],
    duplicates: Sequence[str],
    contents: str,
    ends_early: bool,
    vanished_media: Sequence[str] = (),
    known_media: int = 0,
    same_image: Mapping[str, str] | None = None,
) -> IngestPlan:
    """The plan of rows that were compared somewhere else, because they are too many to hold.

    Args:
        keys: of the first rows, by what became of them, in the order of the archive.
        vanished: key -> twin of known rows that did not come.
        new: key -> twin of new rows; may be empty when nothing vanished.
        duplicates: keys of rows that stood before.
        contents: digest of everything that came.
        ends_early: whether a table of the archive is cut off.
        vanished_media: keys of media that no row names any more.
        known_media: how many media were known.
        same_image: new key -> known key of a row whose image has the same bytes.
    """
    rekeyed = _rekeyed(new, vanished, same_image or {}) if vanished else {}
    gone = set(rekeyed.values())
    return IngestPlan(
        new=tuple(key for key in keys.new if key not in rekeyed) if rekeyed else tuple(keys.new),
        changed=tuple(keys.changed), unchanged=tuple(keys.unchanged),
        vanished=tuple(key for key in vanished if key not in gone), rekeyed=rekeyed, duplicates=tuple(duplicates),
        ends_early=ends_early, vanished_media=tuple(vanished_media), known_media=known_media, contents=contents,
    )  # fmt: skip


def _pieces(part: object) -> Iterator[str]:
    """``repr(part)`` in pieces: a tuple of a million keys is never one text."""
    if not isinstance(part, tuple):
        yield repr(part)
        return
    yield "("
    for number, item in enumerate(part):
        yield (", " if number else "") + repr(item)
    yield ",)" if len(part) == 1 else ")"


def _rekeyed(new: Mapping[str, str], vanished: Mapping[str, str], same_image: Mapping[str, str]) -> dict[str, str]:
    """New key -> old key, where exactly one vanished row fits: by catalogue number first, then by image."""
    by_twin: dict[str, list[str]] = {}
    for key, twin in vanished.items():
        if twin:
            by_twin.setdefault(twin, []).append(key)
    found: dict[str, str] = {}
    for key, twin in new.items():
        old_keys = by_twin.get(twin) if twin else None
        if old_keys and len(old_keys) == 1:
            found[key] = old_keys.pop()
    taken = set(found.values())
    for key in new:
        old = same_image.get(key)
        if key not in found and old is not None and old in vanished and old not in taken:
            found[key] = old
            taken.add(old)
    return found
