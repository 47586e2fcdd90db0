"""Checks of statements, what is read back from their documents, and the interval of a sample."""

import math

import pytest

from linkeddata.annotation_checks import VOCABULARY, Evidence, check_statement, is_same
from linkeddata.outputs import objects
from linkeddata.precision import wilson
from linkeddata.statement import StatedRegion, measures_of, proposals_of, said_of, summarise
from runners.pipelines.barcode import SYMBOLOGIES

IMAGE = "a" * 64


def region(x: int = 0, y: int = 0, w: int = 10, h: int = 10, *, text: str = "t", label: str = "print") -> StatedRegion:
    return StatedRegion(box=(x, y, w, h), text=text, score="0.9", label=label)


def codes(**changes: object) -> list[tuple[str, bool]]:
    given = {
        "contract": "label-text/1", "image": IMAGE, "width": 100, "height": 50, "regions": (region(),),
        "evidence": Evidence(image=IMAGE, width=100, height=50), "labels": frozenset[str](), "others": {},
        "conformance": "pass", **changes,
    }  # fmt: skip
    return [(item.code, item.blocks) for item in check_statement(**given)]  # type: ignore[arg-type]


def test_a_sound_statement_has_no_findings() -> None:
    assert codes() == []
    assert codes(regions=(region(90, 40),)) == [], "up to the last pixel"
    assert codes(evidence=Evidence(image=IMAGE, width=None, height=None)) == [], (
        "what is not known is not held against it"
    )


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"evidence": None}, [("image-unknown", True)]),
        ({"evidence": Evidence(image=None, width=1, height=1)}, [("image-unknown", True)]),
        ({"evidence": Evidence(image="b" * 64, width=100, height=50)}, [("image-differs", True)]),
        ({"width": 50, "height": 100}, [("size-differs", True)]),
        ({"regions": (region(91, 40),)}, [("region-outside", True)]),
        ({"regions": (region(90, 41),)}, [("region-outside", True)]),
        ({"regions": (region(-1, 0),)}, [("region-outside", True)]),
        ({"regions": (region(0, 0, 0, 10),)}, [("region-outside", True)]),
        ({"conformance": "fail"}, [("not-conformant", True)]),
        ({"regions": (region(label="scribble"),)}, [("label-unknown", False)]),
        ({"contract": "nobody/1"}, [("label-unknown", False)]),
        ({"others": {"https://x.example/1": (region(),)}}, [("duplicate", False)]),
        ({"others": {"https://x.example/1": (region(text="u"),)}}, []),
        ({"regions": (region(label="scribble"),), "labels": frozenset({"scribble"})}, []),
    ],
)  # fmt: skip
def test_each_check_finds_its_own(changes: dict[str, object], found: list[tuple[str, bool]]) -> None:
    assert codes(**changes) == found


def test_the_same_is_the_same_in_any_order_and_with_a_pixel_of_jitter() -> None:
    one, other = region(text="a"), region(40, 20, text="b")
    assert is_same((one, other), (other, one))
    assert is_same((region(0, 0, 50, 20),), (region(1, 0, 50, 20),))
    assert not is_same((region(0, 0, 50, 20),), (region(6, 0, 50, 20),))
    assert is_same((region(text="a  b"),), (region(text="a b"),))
    assert is_same((region(text="e\u0301"),), (region(text="\u00e9"),))
    assert not is_same((one,), (one, other))
    assert not is_same((one, one), (one, other)), "each region counts once"
    assert not is_same((), ()), "two that say nothing are not duplicates"
    assert not is_same((region(label="print"),), (region(label="uncertain"),))


def test_every_class_that_our_pipelines_say_is_in_the_vocabulary() -> None:
    assert VOCABULARY["label-text/1"] == {"print", "uncertain"}
    assert set(SYMBOLOGIES) <= VOCABULARY["barcode/1"]
    assert set(objects.KINDS) <= VOCABULARY["objects/1"]
    for kind in objects.KINDS:
        assert codes(contract="objects/1", regions=(region(text="", label=kind),)) == []


def test_a_statement_is_told_in_a_line_whatever_it_is_about() -> None:
    def place(**said: str) -> dict[str, object]:
        return {"vasculum:x": 0, "vasculum:y": 0, "vasculum:width": 1, "vasculum:height": 1, **said}

    def measures(**values: str) -> list[dict[str, str]]:
        return [{"schema:name": name, "schema:value": value} for name, value in values.items()]

    text = {"vasculum:hasRegion": [place(**{"vasculum:text": "Acer"}), place(**{"vasculum:text": "1907"})]}
    assert said_of(text) == "Acer / 1907"
    kind = {
        "vasculum:outputContract": "kind/1", "vasculum:measure": measures(drawer="0.010", sheet="0.950", fluid="0.040"),
    }  # fmt: skip
    assert said_of(kind) == "sheet 0.950, fluid 0.040, drawer 0.010", "the likeliest first"
    scale = {
        "vasculum:hasRegion": [place(**{"vasculum:score": "0.9"})], "vasculum:measure": measures(pixelsPerMillimetre="23.6"),
    }  # fmt: skip
    assert said_of(scale) == "pixelsPerMillimetre 23.6"
    assert said_of({"vasculum:hasRegion": [place(**{"vasculum:class": "oak"})], "vasculum:answer": "yes"}) == "oak"
    nothing = {"vasculum:answer": "cannot tell", "vasculum:doubt": ["no ruler was found", "it is blurred"]}
    assert said_of(nothing) == "cannot tell: no ruler was found"
    assert said_of({**nothing, "vasculum:measure": measures(certainty="0.000")}) == said_of(nothing)
    assert said_of({"vasculum:answer": "no"}) == "no"
    assert measures_of(text) == ()


def test_a_value_that_is_said_goes_before_one_that_follows() -> None:
    document = {
        "vasculum:outputContract": "barcode/1",
        "vasculum:hasRegion": [{"vasculum:x": 0, "vasculum:y": 0, "vasculum:width": 1, "vasculum:height": 1,
                                "vasculum:text": "X-1", "vasculum:symbology": "Code128"}],
    }  # fmt: skip
    assert [(item.field, item.value) for item in proposals_of(document)] == [("dwc:catalogNumber", "X-1")]
    said = {**document, "oa:hasBody": [{"ods:term": "dwc:country", "oa:value": ["Peru"]}]}
    assert [(item.field, item.value) for item in proposals_of(said)] == [("dwc:country", "Peru")]
    twice = {**document, "vasculum:hasRegion": document["vasculum:hasRegion"] * 2}
    assert proposals_of(twice) == (), "of two codes nobody knows which one is the number"
    assert summarise(document).score is None
    assert summarise({}).label == ""


@pytest.mark.parametrize(
    ("right", "decided", "low", "high"),
    # Newcombe 1998, Statistics in Medicine 17: 857-872, table I, method 3 (score, without continuity correction).
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_the_interval_is_that_of_the_literature(right: int, decided: int, low: float, high: float) -> None:
    found = wilson(right, decided)
    assert found.estimate == right / decided
    assert math.isclose(found.low, low, abs_tol=5e-5)
    assert math.isclose(found.high, high, abs_tol=5e-5)


def test_nothing_decided_says_nothing_and_more_right_than_decided_is_a_mistake() -> None:
    assert (wilson(0, 0).low, wilson(0, 0).high) == (0.0, 1.0)
    assert wilson(9, 9).high == 1.0
    assert "not known yet" in wilson(0, 0).to_text()
    with pytest.raises(ValueError, match="cannot be right"):
        wilson(2, 1)
