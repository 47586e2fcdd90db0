"""Yes, no or cannot tell: a *no* is only given where the machine could have seen it."""

from typing import Any

import pytest

from linkeddata.answers import answer_of, cannot_tell
from linkeddata.job import Emit, ResultRow, found_in, parse_result_row
from linkeddata.outputs import parse_output

IMAGE = {"width": 100, "height": 100}
CODE = {"symbology": "Code128", "payload": "B 10 0001", "box": [1, 1, 50, 10], "reader": "zxing"}


def text(*lines: str, readable: bool = True, doubts: tuple[str, ...] = ()) -> Any:
    found = [{"text": line, "score": "0.900", "box": [1, 1, 50, 10], "writing": "print"} for line in lines]
    return parse_output("label-text/1", {"image": IMAGE, "lines": found, "readable": readable, "doubts": list(doubts)})


def codes(*found: dict[str, Any], doubts: tuple[str, ...] = ()) -> Any:
    return parse_output("barcode/1", {"image": IMAGE, "codes": list(found), "doubts": list(doubts)})


@pytest.mark.parametrize(
    ("output", "match", "answer", "reason"),
    [
        (text("HERBARIUM MARTII"), "Martii~1", "yes", ""),
        (text("HERBARIUM MARTII", readable=False, doubts=("handwriting",)), "Martii~1", "yes", ""),
        (text("HERBARIUM BEROLINENSE"), "Martii~1", "no", ""),
        (text("HERBARIUM", readable=False, doubts=("handwriting",)), "Martii~1", "cannot tell", "handwriting"),
        (text(readable=False), "Martii~1", "cannot tell", "unreadable"),
        (text("anything"), None, "yes", ""),
        (text(readable=False, doubts=("no text was found",)), None, "cannot tell", "no text was found"),
        (text(), None, "no", ""),
    ],
)
def test_text(output: Any, match: str | None, answer: str, reason: str) -> None:
    emit = None if match is None else Emit(step="label-text/1", match=match)
    found = answer_of(output, emit, step="label-text/1")
    assert (found.answer, found.reason) == (answer, reason)
    assert bool(found.matches) == (answer == "yes" and match is not None)
    # What did not match is not given out: not with a yes, not with a no, not with a doubt.
    if match is not None:
        assert found.values == {}


@pytest.mark.parametrize(
    ("output", "match", "answer", "reason"),
    [
        (codes(CODE), None, "yes", ""),
        (codes(), None, "no", ""),
        (codes(doubts=("blurred",)), None, "cannot tell", "blurred"),
        (codes(CODE), "0001", "yes", ""),
        (codes(CODE), "9999", "no", ""),
        (codes(CODE, doubts=("blurred",)), "9999", "cannot tell", "blurred"),
    ],
)
def test_codes(output: Any, match: str | None, answer: str, reason: str) -> None:
    emit = None if match is None else Emit(step="barcode/1", match=match)
    found = answer_of(output, emit, step="barcode/1")
    assert (found.answer, found.reason) == (answer, reason)


def test_the_question_of_another_step_does_not_filter_this_one() -> None:
    assert answer_of(codes(CODE), Emit(step="label-text/1", match="Martii"), step="barcode/1").answer == "yes"


def test_one_image_gives_out_twenty_matches_and_no_more() -> None:
    output = text(*[f"Herbarium Martii {number}" for number in range(30)])
    assert len(answer_of(output, Emit(step="label-text/1", match="Martii"), step="label-text/1").matches) == 20


def test_quality_says_what_is_poor() -> None:
    body = {
        "image": IMAGE,
        "measures": {"sharpness": "1.0"},
        "verdicts": {"sharpness": "poor", "exposure": "good"},
        "doubts": [],
    }
    found = answer_of(parse_output("quality/1", body), None, step="quality/1")
    assert (found.answer, found.reason) == ("no", "poor: sharpness")
    assert found.values == {"measures": {"sharpness": "1.0"}}
    assert cannot_tell("truncated").answer == "cannot tell"


@pytest.mark.parametrize(
    ("output", "match", "said"),
    [
        (text("HERBARIUM", "MARTII"), None, ("HERBARIUM | MARTII", "")),
        (text("HERBARIUM", "MARTII"), "MARTII", ("MARTII", "0.900")),
        (codes(CODE), None, ("B 10 0001", "")),
        (
            parse_output("kind/1", {"image": IMAGE, "kind": "sheet", "doubts": [], "scores": {
                "sheet": "0.930", "insect": "0.010", "drawer": "0.010", "fluid": "0.020", "slide": "0.010",
                "label": "0.010", "other": "0.010"}}),
            None, ("sheet", "0.930"),
        ),
        (
            parse_output("scale/1", {"image": IMAGE, "px_per_mm": "23.6", "unit": "mm", "marks": "1 mm", "rulers": 1,
                                     "score": "0.900", "box": [1, 1, 50, 10], "doubts": []}),
            None, ("pixelsPerMillimetre 23.6, unit mm", "0.900"),
        ),
        (
            parse_output("objects/1", {"image": IMAGE, "complete": True, "doubts": [], "objects": [
                {"kind": "ruler", "score": "0.800", "box": [4, 6, 20, 10], "outline": "4,6 24,6 24,16"}]}),
            None, ("ruler 1", ""),
        ),
        (
            parse_output("classes/1", {"image": IMAGE, "box": [0, 0, 100, 100], "certain": True, "doubts": [],
                                       "classes": [{"name": "red", "score": "0.900", "holds": True},
                                                   {"name": "blue", "score": "0.100", "holds": False}]}),
            None, ("red", ""),
        ),
    ],
)  # fmt: skip
def test_what_was_found_is_told_as_one_text(output: Any, match: str | None, said: tuple[str, str]) -> None:
    answer = output.answer(match)
    row = ResultRow(
        specimen="s", medium="m", image="i", step="x/1", pipeline="p", environment="e", conformance="pass",
        answer=answer.answer, reason=answer.reason, matches=answer.matches, values=answer.values,
    )  # fmt: skip
    assert found_in(row) == said


def test_values_of_an_odd_node_are_no_trouble() -> None:
    empty = {"specimen": "", "medium": "", "image": "", "step": "", "pipeline": "", "environment": "", "reason": "",
             "conformance": "", "answer": "yes", "matches": []}  # fmt: skip
    for values in ({"codes": 7}, {"classes": [7, None]}, {"kind": []}, {"kind": "x", "scores": []}, {"box": [1]},
                   {"measures": [], "counts": None}):  # fmt: skip
        text_, score = found_in(parse_result_row({**empty, "values": values}))
        assert isinstance(text_, str) and isinstance(score, str)
