"""Policies: empty refuses, strangers are never accepted, first match decides, reasons always."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from federation.policy import PRESETS, Policy, RequestFacts, Rule, decide, policy_of
from node.config import parse_settings
from node.services.job_rules import policy_from

FACTS = RequestFacts(
    requester_kid="ed25519:a", is_enrolled=True, steps=("label-text/1",), access=frozenset({"open"}), images=10
)
STRANGER = replace(FACTS, is_enrolled=False)


def test_an_empty_policy_refuses_everybody() -> None:
    for facts in (FACTS, STRANGER):
        decision = decide(Policy(), facts)
        assert decision.verdict == "refused"
        assert decision.reasons


@pytest.mark.parametrize(
    ("preset", "facts", "verdict"),
    [
        ("closed", FACTS, "refused"),
        ("closed", STRANGER, "refused"),
        ("reading", FACTS, "accepted"),
        ("reading", replace(FACTS, access=frozenset({"open", "restricted"})), "accepted"),
        ("reading", replace(FACTS, access=frozenset({"private"})), "held"),
        ("reading", replace(FACTS, steps=("label-text/1", "segment/1")), "held"),
        ("reading", replace(FACTS, publish=True), "held"),
        ("reading", STRANGER, "held"),
        ("open", FACTS, "accepted"),
        ("open", replace(FACTS, publish=True, steps=("segment/1",)), "accepted"),
        ("open", STRANGER, "held"),
    ],
)
def test_presets(preset: str, facts: RequestFacts, verdict: str) -> None:
    decision = decide(policy_of(preset), facts)
    assert decision.verdict == verdict
    assert decision.reasons


def test_the_first_rule_that_fits_decides() -> None:
    policy = policy_of(
        "open",
        [
            Rule(decide="refuse", requesters=("ed25519:bad",), reason="broke the terms of use"),
            Rule(decide="hold", max_images=5, reason="the curator looks at large requests first"),
        ],
    )
    assert decide(policy, FACTS).reasons == ("the curator looks at large requests first",)
    assert decide(policy, replace(FACTS, images=5)).verdict == "accepted"
    assert decide(policy, replace(FACTS, requester_kid="ed25519:bad", images=1)).verdict == "refused"


def test_an_accepting_rule_covers_all_of_a_request_or_none() -> None:
    rule = Rule(decide="accept", steps=("barcode/1",), access=("open",), max_images=5, granularity="count")
    policy = Policy(rules=(rule,))
    inside = replace(FACTS, steps=("barcode/1",), images=5, granularity="count")
    assert decide(policy, inside).verdict == "accepted"
    for outside in (
        replace(inside, steps=("barcode/1", "label-text/1")),
        replace(inside, access=frozenset({"open", "restricted"})),
        replace(inside, images=6),
        replace(inside, granularity="record"),
        replace(inside, publish=True),
        replace(inside, is_enrolled=False),
    ):
        decision = decide(policy, outside)
        assert decision.verdict == "refused"
        assert decision.reasons


def test_an_accepting_rule_for_anyone_still_only_holds_strangers() -> None:
    decision = decide(Policy(rules=(Rule(decide="accept", requesters=("anyone",)),)), STRANGER)
    assert decision.verdict == "held"
    assert "not enrolled" in decision.reasons[0]


def test_a_held_request_is_told_what_kept_it_from_being_accepted() -> None:
    decision = decide(policy_of("reading"), replace(FACTS, publish=True))
    assert any("publishing" in reason for reason in decision.reasons)


def rules() -> st.SearchStrategy[Rule]:
    classes = st.sampled_from(["open", "restricted", "private"])
    steps = st.sampled_from(["label-text/1", "barcode/1"])
    return st.builds(
        Rule,
        decide=st.sampled_from(["accept", "hold", "refuse"]),
        requesters=st.lists(st.sampled_from(["enrolled", "anyone", "ed25519:a"]), max_size=3).map(tuple),
        steps=st.lists(steps, max_size=2).map(tuple),
        access=st.lists(classes, max_size=2).map(tuple),
        max_images=st.none() | st.integers(0, 20),
        granularity=st.sampled_from(["record", "count", "boolean"]),
        publish=st.booleans(),
    )


def requests() -> st.SearchStrategy[RequestFacts]:
    return st.builds(
        RequestFacts,
        requester_kid=st.sampled_from(["ed25519:a", "ed25519:b"]),
        is_enrolled=st.booleans(),
        steps=st.lists(st.sampled_from(["label-text/1", "barcode/1"]), min_size=1, unique=True).map(tuple),
        access=st.frozensets(st.sampled_from(["open", "restricted", "private"])),
        images=st.integers(0, 30),
        granularity=st.sampled_from(["record", "count", "boolean"]),
        publish=st.booleans(),
    )


@settings(max_examples=300, deadline=None)
@given(policy=st.lists(rules(), max_size=4).map(lambda found: Policy(rules=tuple(found))), facts=requests())
def test_whatever_the_rules_say(policy: Policy, facts: RequestFacts) -> None:
    decision = decide(policy, facts)
    assert decision.reasons
    assert all(decision.reasons)
    assert decision.rule in policy.readable()
    if not facts.is_enrolled:
        assert decision.verdict != "accepted"
    if decision.verdict == "accepted":
        # Asking for less is never worse: fewer images at a coarser granularity, without publishing.
        less = replace(facts, images=0, granularity="boolean", publish=False)
        assert decide(policy, less).verdict == "accepted"


def test_rules_print_as_sentences() -> None:
    texts = policy_of("reading", [Rule(decide="hold", max_images=5)]).readable()
    assert texts[0] == "hold: requests by enrolled researchers of more than 5 images"
    assert texts[-1] == "refuse: everything else"
    assert policy_of("closed").readable() == ("refuse: everything else",)


def test_node_toml_and_policy_know_the_same_presets_and_rules(tmp_path) -> None:
    document = {
        "node": {"name": "x", "public_url": "https://x.example.org"},
        "policy": {"preset": "reading", "rules": [{"decide": "hold", "max_images": 3, "reason": "why"}]},
    }
    policy = policy_from(parse_settings(document, tmp_path).policy)
    assert policy.rules[0] == Rule(decide="hold", max_images=3, reason="why")
    assert policy.rules[1:] == PRESETS["reading"]
