"""What a node allows: rules in order, the first that fits decides, and every decision says why.

Invariants:
- No rule fits: refused. So an empty policy refuses everything.
- A requester who is not enrolled is held or refused, never accepted, whatever a rule says.
- A decision always has at least one reason that may be shown to the requester.
- Rules print as sentences; a requester can read them before sending anything.

How a rule fits. An *accept* rule covers a request only when all of it lies inside: every step, every class of image,
no more than ``max_images``, no finer than ``granularity``, publishing only with ``publish``.
A *hold* or *refuse* rule fits as soon as some of the request lies in its way: any of its steps, any of its classes,
more than ``max_images``, finer than ``granularity``, publishing when ``publish``; a part that is not given fits always.

It leaves out: who is enrolled and what is selected (facts, given), and what a person decides later.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

from linkeddata.job import GRANULARITIES, Granularity

Verdict = Literal["accepted", "held", "refused"]
Decide = Literal["accept", "hold", "refuse"]
ENROLLED: Final = "enrolled"
ANYONE: Final = "anyone"
READING: Final = ("label-text/1", "barcode/1", "quality/1")
"""Output contracts of the reading pipelines that come with a node."""
_VERDICTS: Final[dict[Decide, Verdict]] = {"accept": "accepted", "hold": "held", "refuse": "refused"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One rule; empty means no condition of that kind."""

    decide: Decide
    requesters: tuple[str, ...] = (ENROLLED,)
    """``enrolled``, ``anyone`` or key ids."""
    steps: tuple[str, ...] = ()
    access: tuple[str, ...] = ()
    """Labels of access classes."""
    max_images: int | None = None
    granularity: Granularity = "record"
    publish: bool = False
    reason: str = ""

    def to_text(self) -> str:
        """The rule as a sentence."""
        who = " or ".join(f"the key {item}" if item not in (ENROLLED, ANYONE) else item for item in self.requesters)
        who = who.replace(ENROLLED, "enrolled researchers")
        parts = [f"{self.decide}: requests by {who}"]
        if self.steps:
            parts.append("for " + ", ".join(self.steps))
        if self.access:
            parts.append("on " + " or ".join(self.access) + " images")
        covers = self.decide == "accept"
        if self.max_images is not None:
            parts.append(f"of {'at most' if covers else 'more than'} {self.max_images} images")
        if self.granularity != "record":
            parts.append(
                f"at granularity {self.granularity} or coarser" if covers else f"finer than {self.granularity}"
            )
        if covers:
            ending = "; results are published if asked" if self.publish else "; results are not published"
        else:
            ending = " that ask for published results" if self.publish else ""
        return " ".join(parts) + ending + (f" ({self.reason})" if self.reason else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Rules in the order in which they are asked."""

    rules: tuple[Rule, ...] = ()
    preset: str = "closed"

    def readable(self) -> tuple[str, ...]:
        """Every rule as a sentence, and what happens otherwise."""
        return (*(rule.to_text() for rule in self.rules), "refuse: everything else")


PRESETS: Final[dict[str, tuple[Rule, ...]]] = {
    "closed": (),
    "reading": (
        Rule(decide="accept", steps=READING, access=("open", "restricted"), reason="preset reading"),
        Rule(decide="hold", requesters=(ANYONE,), reason="preset reading: a person of the institution decides"),
    ),
    "open": (
        Rule(decide="accept", publish=True, reason="preset open"),
        Rule(decide="hold", requesters=(ANYONE,), reason="preset open: a person decides about unknown requesters"),
    ),
}
"""The presets of ``[policy] preset``, as rules that anyone can read."""


def policy_of(preset: str, rules: Iterable[Rule] = ()) -> Policy:
    """The given rules, then those of the preset.

    Raises:
        KeyError: there is no such preset.
    """
    return Policy(rules=(*rules, *PRESETS[preset]), preset=preset)


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestFacts:
    """What a decision rests on."""

    requester_kid: str
    is_enrolled: bool
    steps: tuple[str, ...]
    access: frozenset[str]
    """Labels of the classes of the images selected."""
    images: int
    granularity: Granularity = "record"
    publish: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The verdict, and why; ``rule`` is the sentence of the rule that decided."""

    verdict: Verdict
    reasons: tuple[str, ...]
    rule: str


def decide(policy: Policy, facts: RequestFacts) -> Decision:
    """What the policy says about a request."""
    near_misses: list[str] = []
    for rule in policy.rules:
        if not _is_meant(rule, facts):
            continue
        misses = _outside(rule, facts) if rule.decide == "accept" else ()
        if misses:
            near_misses.extend(misses)
            continue
        if rule.decide != "accept" and not _stands_in_the_way(rule, facts):
            continue
        return _decided(rule, facts, tuple(dict.fromkeys(near_misses)))
    why = tuple(dict.fromkeys(near_misses))
    rule_text = "refuse: everything else"
    if not policy.rules:
        return Decision(verdict="refused", reasons=("this node takes no jobs (its policy is empty)",), rule=rule_text)
    return Decision(verdict="refused", reasons=(*why, "no rule of this node covers the request"), rule=rule_text)


def _decided(rule: Rule, facts: RequestFacts, near_misses: tuple[str, ...]) -> Decision:
    text = rule.to_text()
    if rule.decide == "accept" and not facts.is_enrolled:
        return Decision(
            verdict="held", reasons=("the requester's key is not enrolled at this node: a person decides",), rule=text
        )
    reason = rule.reason or text
    if rule.decide == "accept":
        return Decision(verdict="accepted", reasons=(reason,), rule=text)
    unknown = () if facts.is_enrolled else ("the requester's key is not enrolled at this node",)
    return Decision(verdict=_VERDICTS[rule.decide], reasons=(*unknown, *near_misses, reason), rule=text)


def _is_meant(rule: Rule, facts: RequestFacts) -> bool:
    if ANYONE in rule.requesters or facts.requester_kid in rule.requesters:
        return True
    return ENROLLED in rule.requesters and facts.is_enrolled


def _outside(rule: Rule, facts: RequestFacts) -> tuple[str, ...]:
    found: list[str] = []
    other_steps = [step for step in facts.steps if rule.steps and step not in rule.steps]
    if other_steps:
        found.append(f"the step {', '.join(other_steps)} is not accepted without a person")
    other_classes = sorted(label for label in facts.access if rule.access and label not in rule.access)
    if other_classes:
        found.append(f"{' and '.join(other_classes)} images are not covered")
    if rule.max_images is not None and facts.images > rule.max_images:
        found.append(f"{facts.images} images are more than the {rule.max_images} that are accepted without a person")
    if _is_finer(facts.granularity, rule.granularity):
        found.append(f"granularity {facts.granularity} is finer than {rule.granularity}")
    if facts.publish and not rule.publish:
        found.append("publishing results is not accepted without a person")
    return tuple(found)


def _stands_in_the_way(rule: Rule, facts: RequestFacts) -> bool:
    return (
        (not rule.steps or any(step in rule.steps for step in facts.steps))
        and (not rule.access or any(label in rule.access for label in facts.access))
        and (rule.max_images is None or facts.images > rule.max_images)
        and (rule.granularity == "record" or _is_finer(facts.granularity, rule.granularity))
        and (not rule.publish or facts.publish)
    )


def _is_finer(asked: Granularity, limit: Granularity) -> bool:
    return GRANULARITIES.index(asked) > GRANULARITIES.index(limit)
