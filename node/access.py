"""May this requester see this? The one function every door asks.

Owns the table of who sees what, by access class and sensitivity.

Invariants:
- Private is indistinguishable from absent for everybody but staff.
- Bytes of restricted media, and everything drawn from them, never leave; jobs may run on them, by policy.
- An original whose metadata tells more than may be told is for staff only, and so is one that nobody has looked at.
- No text read from the image of a sensitive specimen reaches any requester.
- A picture with blacked out labels is there only where the caller says that the settings show it; what was read from
  the picture it was made of stays.
- Every answer carries a reason that may be shown to the requester (and gives nothing away).

It leaves out: the policy for jobs (``federation.policy``), looking facts up (``node.storage.facts``), HTTP.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from linkeddata.access import AccessClass
from linkeddata.luggage import Luggage, WithheldFor, is_withheld


class Door(StrEnum):
    """What is asked for."""

    RECORD = "record"
    """The public projection of a specimen, medium or annotation: its metadata."""
    BYTES = "bytes"
    """Anything that shows its pixels, up to the size that the caller draws."""
    ORIGINAL = "original"
    """The file itself, whole or in parts, by whatever address: like BYTES, and never larger than may be shown."""
    IMAGE = "image"
    """The image service: its pixels at any size, cut and scaled; ``Visibility.max_px`` says how much of them."""
    TEXT = "text"
    """What was read from the image, in any form: annotation, snippet, index, result row."""
    JOB = "job"
    """Whether a job of this requester may select it."""


@dataclass(frozen=True, slots=True)
class Viewer:
    """Who asks: anybody, staff of this institution, or a researcher with a key."""

    is_staff: bool = False
    kid: str | None = None


ANONYMOUS: Final = Viewer()
STAFF: Final = Viewer(is_staff=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What the decision rests on; the strictest over all media and specimens concerned."""

    access: AccessClass
    sensitive: bool = False
    otherwise: AccessClass = AccessClass.RESTRICTED
    """What the access class would be if the taxon were not sensitive."""
    exists: bool = True
    luggage: frozenset[Luggage] | None = None
    """What the metadata of the file tells (``Door.ORIGINAL``); None: nobody has looked."""
    public_original: str | None = None
    """SHA-256 (hex) of the same picture without its metadata."""
    is_redacted: bool = False
    """It is a picture of a sensitive specimen on which the labels are blacked out."""
    longest_px: int | None = None
    """The longest side of the image, where it is asked for (``Door.ORIGINAL``); None when it is not known."""


ABSENT: Final = Facts(access=AccessClass.PRIVATE, exists=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Visibility:
    """The decision, and what may be said about it."""

    allowed: bool
    absent: bool = False
    """Answer exactly as if it did not exist."""
    reason: str = ""
    kind: str = "restricted"
    """Why it is refused, in a word: the kind of problem a client is told."""
    instead: str | None = None
    """``Door.ORIGINAL``: SHA-256 (hex) of the public original, which this viewer gets."""
    max_px: int | None = None
    """``Door.IMAGE``: the longest side at which the whole image is offered, as if it had no more; None: as it is."""


_NOT_HERE: Final = Visibility(allowed=False, absent=True, reason="nothing is published under this name")
_YES: Final = Visibility(allowed=True)


def decide(
    viewer: Viewer,
    door: Door,
    facts: Facts,
    *,
    anonymous_max_px: int = 0,
    restricted_thumbnail_px: int = 0,
    sensitive_px: int = 0,
    shows_redacted: bool = False,
    withheld_for: WithheldFor = "all",
) -> Visibility:
    """The decision for one requester at one door.

    Args:
        viewer: who asks.
        door: what for.
        facts: about what.
        anonymous_max_px: of the settings; larger originals are not for anonymous viewers. 0: no such limit.
        restricted_thumbnail_px: of the settings; how large ``Door.IMAGE`` shows what is restricted. 0: not at all.
        sensitive_px: the same for images of sensitive taxa, whose labels must not be readable; where no licence opens
            them either, both limits hold.
        shows_redacted: of the settings; pictures of sensitive taxa with blacked out labels are given out.
        withheld_for: of the settings; the luggage for which an original stays (``Door.ORIGINAL``).
    """
    if not facts.exists or (facts.is_redacted and not shows_redacted):
        return _NOT_HERE
    if viewer.is_staff:
        return _YES
    if facts.access is AccessClass.PRIVATE:
        return _NOT_HERE
    match door:
        case Door.RECORD:
            return _YES
        case Door.BYTES:
            return _decide_bytes(facts)
        case Door.ORIGINAL:
            return _decide_original(viewer, facts, anonymous_max_px, withheld_for)
        case Door.IMAGE:
            closed_px = restricted_thumbnail_px
            if facts.sensitive:  # a small picture of it is no freer than one of a specimen that is not sensitive
                is_open = facts.otherwise is AccessClass.OPEN
                closed_px = sensitive_px if is_open else min(sensitive_px, restricted_thumbnail_px)
            return _decide_image(viewer, facts, anonymous_max_px, closed_px)
        case Door.TEXT:
            return _decide_text(viewer, facts)
        case Door.JOB:
            if facts.sensitive:
                return Visibility(allowed=False, reason="withheld: the specimen is of a sensitive taxon")
            return _YES


def _decide_bytes(facts: Facts) -> Visibility:
    if facts.sensitive and not facts.is_redacted:
        return Visibility(allowed=False, reason="the image is withheld: the specimen is of a sensitive taxon")
    if facts.access is AccessClass.OPEN:
        return _YES
    return Visibility(
        allowed=False,
        reason="the image does not leave this institution: no open licence is stated for it; jobs may run on it here",
    )


def _decide_original(viewer: Viewer, facts: Facts, anonymous_max_px: int, withheld_for: WithheldFor) -> Visibility:
    seen = _decide_bytes(facts)
    if not seen.allowed:
        return seen
    is_small = facts.longest_px is not None and facts.longest_px <= anonymous_max_px
    if anonymous_max_px and viewer.kid is None and not is_small:
        return Visibility(
            allowed=False,
            kind="preview-only",
            reason=f"the original is larger than {anonymous_max_px} pixels, which is what is shown to everybody",
        )
    if is_withheld(facts.luggage, withheld_for):
        reason = "the metadata of the original file tells more than is published"
        if facts.luggage is None:
            reason = "the metadata of the original file was not looked at yet"
        instead = facts.public_original if facts.luggage else None
        return Visibility(allowed=False, kind="metadata-withheld", reason=reason, instead=instead)
    return seen


def _decide_image(viewer: Viewer, facts: Facts, anonymous_max_px: int, closed_px: int) -> Visibility:
    seen = _decide_bytes(facts)
    limits = [anonymous_max_px] if anonymous_max_px and viewer.kid is None else []
    if not seen.allowed:
        if not closed_px:
            return seen
        limits.append(closed_px)
    return Visibility(allowed=True, max_px=min(limits, default=None))


def _decide_text(viewer: Viewer, facts: Facts) -> Visibility:
    if facts.sensitive:
        return Visibility(allowed=False, reason="withheld: the specimen is of a sensitive taxon")
    if facts.access is AccessClass.OPEN or viewer.kid is not None:
        # A researcher's key reaches text only through the results of an accepted job (node.services.jobs).
        return _YES
    return Visibility(allowed=False, reason="text read from a restricted image is not public")
