"""Groups of what looks alike: mutual neighbours that hang together, the same every time."""

from node.services.cluster import Neighbour, groups


def near(**others: dict[str, float]) -> dict[str, list[Neighbour]]:
    return {name: [Neighbour(name=key, score=score) for key, score in found.items()] for name, found in others.items()}


def test_both_must_be_near_and_near_enough() -> None:
    assert groups(near(a={"b": 0.9}, b={"a": 0.9}, c={"a": 0.9}), threshold=0.7) == [("a", "b")]
    assert groups(near(a={"b": 0.69}, b={"a": 0.69}), threshold=0.7) == []
    assert groups({}, threshold=0.7) == []


def test_what_hangs_together_is_one_group_and_the_largest_comes_first() -> None:
    chain = near(d={"e": 0.8}, e={"d": 0.8}, a={"b": 0.8}, b={"a": 0.8, "c": 0.8}, c={"b": 0.8}, x={})
    expected = [("a", "b", "c"), ("d", "e")]
    assert groups(chain, threshold=0.8) == expected
    assert groups(dict(reversed(chain.items())), threshold=0.8) == expected, "whatever the order"
