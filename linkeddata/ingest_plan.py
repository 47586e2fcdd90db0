"""What an ingest would do, decided before it does anything. Pure.

The brake: an archive that lost or re-keyed more than 5 % of what is known, or that ends early, changes nothing until
a person accepts the plan by its id. Identity churn is the complaint of every aggregator, and a half-written export
looks exactly like a deaccession.
"""

import hashlib
from collections.abc import Mapping, Sequence
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

    @property
    def id(self) -> str:
        """Names exactly this plan: another archive, or another state of the node, gives another id."""
        sha = hashlib.sha256()
        for part in (self.new, self.changed, self.vanished, sorted(self.rekeyed.items()), [self.ends_early]):
            sha.update(repr(part).encode())
        return sha.hexdigest()[:16]

    @property
    def brake_reason(self) -> str | None:
        """Why a person has to accept this plan first; None when it may go ahead."""
        if self.ends_early:
            return "the archive ends early: its last row is cut off"
        known = len(self.changed) + len(self.unchanged) + len(self.vanished) + len(self.rekeyed)
        for count, what in ((len(self.vanished), "are missing from"), (len(self.rekeyed), "have another key in")):
            if known and count > BRAKE * known and (known >= BRAKE_FLOOR or count > 1):
                return f"{count} of {known} known records {what} this archive (more than {BRAKE:.0%})"
        return None

    @property
    def is_empty(self) -> bool:
        """Whether nothing at all would change in the records."""
        return not (self.new or self.changed or self.vanished or self.rekeyed)


def make_plan(known: Mapping[str, KnownRow], incoming: Sequence[IncomingRow], *, ends_early: bool) -> IngestPlan:
    """Compares what is known with what came; of rows with one key the first counts."""
    new: list[str] = []
    changed: list[str] = []
    unchanged: list[str] = []
    duplicates: list[str] = []
    seen: dict[str, IncomingRow] = {}
    for row in incoming:
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
    by_twin: dict[str, list[str]] = {}
    for key in vanished:
        if known[key].twin:
            by_twin.setdefault(known[key].twin, []).append(key)
    rekeyed: dict[str, str] = {}
    for key in list(new):
        old_keys = by_twin.get(seen[key].twin) if seen[key].twin else None
        if old_keys and len(old_keys) == 1:
            rekeyed[key] = old_keys.pop()
            new.remove(key)
    gone = set(rekeyed.values())
    return IngestPlan(
        new=tuple(new), changed=tuple(changed), unchanged=tuple(unchanged),
        vanished=tuple(key for key in vanished if key not in gone), rekeyed=rekeyed, duplicates=tuple(duplicates),
        ends_early=ends_early,
    )  # fmt: skip
