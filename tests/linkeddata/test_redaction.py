"""What is covered on a picture of a sensitive specimen, and when nothing is."""

import random
from dataclasses import replace

import pytest

from linkeddata.outputs import Barcodes, Code, ImageSize, LabelText, Quality, ReadLine
from linkeddata.outputs.objects import Objects, Thing
from linkeddata.redaction import (
    Reading,
    Uncoverable,
    areas_of_statement,
    boxes_of_statement,
    cover,
    plan_redaction,
    reading_of,
)

SIZE = ImageSize(width=3000, height=4000)
IMAGE = "a" * 64


def line(box: tuple[int, int, int, int], *, writing: str = "print") -> ReadLine:
    return ReadLine(text="Word", score="0.95", box=box, writing=writing)


def text(*lines: ReadLine, readable: bool = True, doubts: tuple[str, ...] = ()) -> LabelText:
    return LabelText(image=SIZE, lines=lines, readable=readable, doubts=doubts)


def reading(output: LabelText | Barcodes | Objects, at: str = "1") -> Reading:
    found = reading_of(output, at=at)
    assert found is not None
    return found


def plan(*readings: Reading, more: tuple[tuple[int, int, int, int], ...] = ()):  # type: ignore[no-untyped-def]
    return plan_redaction(readings, more, image=IMAGE, width=3000, height=4000)


def inside(box: tuple[int, int, int, int], covers: tuple[tuple[int, int, int, int], ...]) -> bool:
    x, y, w, h = box
    return any(a <= x and b <= y and x + w <= a + c and y + h <= b + d for a, b, c, d in covers)


def test_every_line_is_covered_with_its_surroundings_and_covers_lie_apart() -> None:
    rng = random.Random(1)
    for _ in range(200):
        lines = []
        for _ in range(rng.randrange(1, 9)):
            w, h = rng.randrange(1, 900), rng.randrange(1, 120)
            lines.append((rng.randrange(0, 3000 - w), rng.randrange(0, 4000 - h), w, h))
        covers = cover(lines, 3000, 4000)
        for x, y, w, h in lines:
            grow = int(max(80, 2 * min(w, h)))
            left, top = max(0, x - grow), max(0, y - grow)
            right, bottom = min(3000, x + w + grow), min(4000, y + h + grow)
            assert inside((left, top, right - left, bottom - top), covers)
        assert covers == cover(list(reversed(lines)), 3000, 4000), "whatever the order"
        for number, (a, b, c, d) in enumerate(covers):
            assert 0 <= a < a + c <= 3000
            assert 0 <= b < b + d <= 4000
            for e, f, g, h in covers[number + 1 :]:
                assert a + c < e or e + g < a or b + d < f or f + h < b


def test_how_long_a_word_is_and_how_many_lines_there_are_does_not_show() -> None:
    one = cover([(1000, 2000, 300, 40), (1000, 2060, 280, 40)], 3000, 4000)
    other = cover([(1004, 2003, 330, 38), (1001, 2030, 250, 20), (1003, 2055, 309, 41)], 3000, 4000)
    assert one == other


def test_the_digest_changes_with_what_is_covered_and_with_nothing_else() -> None:
    first = plan(reading(text(line((100, 100, 300, 40)))))
    again = plan(reading(text(line((104, 99, 310, 42))), at="2"))
    assert first.digest == again.digest
    assert plan(reading(text(line((100, 900, 300, 40))))).digest != first.digest
    assert plan_redaction(
        [reading(text(line((100, 100, 300, 40))))], image="b" * 64, width=3000, height=4000
    ).digest != first.digest  # fmt: skip


def test_codes_older_readings_and_statements_are_covered_too() -> None:
    code = Code(symbology="Code128", payload="X 1", box=(2000, 100, 400, 200), reader="zxing-cpp")
    codes = reading(Barcodes(image=SIZE, codes=(code,), doubts=("nothing else",)))
    document = {
        "vasculum:hasRegion": [{"vasculum:x": 50, "vasculum:y": 3500, "vasculum:width": 90, "vasculum:height": 30}]
    }
    old = reading(text(line((2500, 2500, 60, 30), writing="uncertain"), doubts=("blur",)), at="1")
    found = plan(old, reading(text(line((100, 100, 300, 40))), at="2"), codes, more=boxes_of_statement(document))
    for box in ((100, 100, 300, 40), (2000, 100, 400, 200), (2500, 2500, 60, 30), (50, 3500, 90, 30)):
        assert inside(box, found.boxes)
    assert reading_of(Quality(image=SIZE, measures={}, verdicts={}, doubts=()), at="1") is None


@pytest.mark.parametrize(
    ("output", "why"),
    [
        (text(line((1, 1, 9, 9)), doubts=("much of the text is uncertain",)), "much of the text"),
        (text(line((1, 1, 9, 9)), line((1, 50, 9, 9), writing="uncertain")), "1 of 2 lines"),
        (text(readable=False), "could not be read"),
        (text(line((0, 0, 3000, 3900))), "hardly anything is left"),
        (replace(text(line((1, 1, 9, 9))), image=ImageSize(width=10, height=10)), "another size"),
    ],
)  # fmt: skip
def test_what_is_not_sure_is_not_covered_at_all(output: LabelText, why: str) -> None:
    with pytest.raises(Uncoverable, match=why):
        plan(reading(text(line((5, 5, 9, 9))), at="1"), reading(output, at="2"))


def test_without_a_reading_nothing_is_covered() -> None:
    with pytest.raises(Uncoverable, match="not read"):
        plan(reading(Barcodes(image=SIZE, codes=(), doubts=())))
    with pytest.raises(Uncoverable, match="taken back"):
        plan(replace(reading(text(line((5, 5, 9, 9)))), unsure="it was taken back"))


def test_labels_and_stamps_on_which_nothing_was_read_are_covered_and_the_plant_is_not() -> None:
    boxes = {"label": (200, 300, 800, 500), "stamp": (2500, 200, 200, 200), "specimen": (400, 1200, 2200, 2500)}
    found = tuple(Thing(kind=kind, score="0.9", box=box, outline="") for kind, box in boxes.items())
    objects = reading(Objects(image=SIZE, objects=found, complete=True, doubts=()), at="9")
    with pytest.raises(Uncoverable, match="not read by this node"):
        plan(objects)
    read = reading(text(line((2000, 3800, 300, 40))))
    covers = plan(read, objects).boxes
    assert inside(boxes["label"], covers)
    assert inside(boxes["stamp"], covers)
    assert not any(x < 1500 < x + w and y < 2500 < y + h for x, y, w, h in covers)
    assert sum(w * h for _, _, w, h in covers) < 0.25 * 3000 * 4000, "a label has no height of a line to grow by"
    document = {
        "vasculum:hasRegion": [
            {
                "vasculum:class": kind,
                **dict(zip(("vasculum:x", "vasculum:y", "vasculum:width", "vasculum:height"), box, strict=True)),
            }
            for kind, box in boxes.items()
        ]
    }
    stated = plan_redaction([read], (), areas_of_statement(document), image=IMAGE, width=3000, height=4000)
    assert stated.boxes == covers
