"""Lines become labels: close lines of like size together, others apart, every line in exactly one block."""

from hypothesis import given
from hypothesis import strategies as st

from linkeddata.label_blocks import join_lines
from linkeddata.outputs import parse_output

LABEL = [((100, 500, 300, 20), "HERBARIUM MARTII"), ((100, 530, 200, 20), "Quercus robur"), ((320, 531, 80, 19), "L.")]
FAR = ((100, 900, 300, 20), "Det. A. Example 1907")
HEADLINE = ((100, 440, 300, 70), "PLANTS")


def test_lines_of_one_label_are_joined_and_others_are_not() -> None:
    blocks = join_lines([*LABEL, FAR, HEADLINE])
    assert [block.lines for block in blocks] == [(0, 1, 2), (3,), (4,)]
    assert blocks[0].box == (100, 500, 300, 50)


def test_labels_side_by_side_stay_apart() -> None:
    [one, two] = join_lines([((10, 10, 100, 20), "leg. Example"), ((300, 10, 100, 20), "det. Example")])
    assert (one.lines, two.lines) == ((0,), (1,))


def test_a_label_on_its_side_is_joined_by_its_own_directions() -> None:
    standing = [((500, 100, 20, 300), "HERBARIUM MARTII"), ((530, 100, 20, 200), "Quercus robur")]
    assert [block.lines for block in join_lines(standing)] == [(0, 1)]
    assert [block.lines for block in join_lines([*standing, ((500, 410, 200, 20), "not turned")])] == [(0, 1), (2,)]


boxes = st.tuples(st.integers(0, 500), st.integers(0, 500), st.integers(1, 300), st.integers(1, 80))


@given(st.lists(st.tuples(boxes, st.text(max_size=8)), max_size=12))
def test_every_line_is_in_exactly_one_block_that_holds_it(lines: list[tuple[tuple[int, int, int, int], str]]) -> None:
    blocks = join_lines(lines)
    assert sorted(number for block in blocks for number in block.lines) == list(range(len(lines)))
    for block in blocks:
        x, y, w, h = block.box
        for number in block.lines:
            left, top, width, height = lines[number][0]
            assert x <= left and y <= top and left + width <= x + w and top + height <= y + h


def test_answers_and_annotations_say_which_lines_are_one_label() -> None:
    lines = [{"text": text, "score": "0.900", "box": list(box), "writing": "print"} for box, text in [*LABEL, FAR]]
    image = {"width": 1000, "height": 1000}
    output = parse_output("label-text/1", {"image": image, "lines": lines, "readable": True, "doubts": []})
    assert output.answer(None).values["blocks"] == [
        {"box": [100, 500, 300, 50], "lines": [0, 1, 2]},
        {"box": [100, 900, 300, 20], "lines": [3]},
    ]
    assert [region.terms["vasculum:block"] for region in output.regions()] == [1, 1, 1, 2]
