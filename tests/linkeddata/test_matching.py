"""Text search over machine-read labels: tolerant of what reading machines do, strict about what is another word."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from linkeddata.errors import MatchError
from linkeddata.matching import TextLine, match_lines, parse_match
from linkeddata.outputs import MAX_TEXT_CHARS


def lines(*texts: str) -> list[TextLine]:
    """Lines of one label, one below the other."""
    return [TextLine(text=text, score=0.9, box=(10, 10 + 40 * index, 300, 30)) for index, text in enumerate(texts)]


@pytest.mark.parametrize(
    ("query", "text", "found"),
    [
        ('"Herbarium Martii"~1', ("HERBARIUM MARTII",), True),
        ('"Herbarium Martii"~1', ("HerbariumMartii",), True),
        ('"Herbarium Martii"~1', ("HERBARIUMMARTII",), True),
        ('"Herbarium Martii"~1', ("Her barium Martii",), True),
        ('"Herbarium Martii"~1', ("Herbarium", "Martii"), True),
        ('"Herbarium Martii"~1', ("Herbarlum Martli",), True),
        ('"Herbarium Martii"~1', ("HERBÁRIUM: MARTII.",), True),
        ('"Herbarium Martii"~1', ("Herbarium Martius",), False),
        ('"Herbarium Martii"~1', ("Martii Herbarium",), False),
        ('"Herbarium Martii"~1', ("Herbarium", "x", "x", "Martii"), False),
        ('"Herbarium Martii"~1', ("HerbariumMartius",), False),
        ('"Herbarium Martii"~1', ("HERBARIUMMARTIUS",), False),
        ('"Herbarium Martii"~1', ("HERBARLUMMARTLI",), True),
        ('"Herbarium Martii"~1', ("HER BARIUMMARTII",), True),
        ('"Herbarium Martii"~2', ("Herbariurn Martii",), True),
        ('"Herbarium Martii"~1', ("Herbariurn Martii",), False),
        ("Lodz", ("Łódź",), True),
        ("Sørum", ("SORUM",), True),
        ("Herbarium", ("Herba-", "rium"), True),
        ("Martii", ("Martii",), True),
        ("Martii", ("Martinii",), False),
        ("Martii", ("Martli",), False),
        ("Martii", ("Martiinae",), False),
        ("Martii", ("HerbariumMartii",), True),
        ("Martii~1", ("Martli",), True),
        ("Martii~1", ("Martius",), False),
        ("Martii~", ("Martli",), True),
        ("Herbarium Martii", ("Martii x Herbarium",), True),
        ("Herbarium Martii", ("Herbarium",), False),
        ("leg~1", ("log",), False),
        ("1907", ("leg. 1907",), True),
        ("Nuß", ("NUSS",), True),
    ],
)
def test_what_counts_as_found(query: str, text: tuple[str, ...], found: bool) -> None:
    assert bool(match_lines(parse_match(query), lines(*text))) is found


def test_a_match_says_where_and_how_far() -> None:
    match = match_lines(parse_match('"Herbarium Martii"~1'), lines("x", "Herbarium", "Martli"))[0]
    assert match.text == "Herbarium / Martli"
    assert match.distance == 1
    assert match.box == (10, 50, 300, 70)


@pytest.mark.parametrize("query", ["", "  ", '"', "***", "~", "a" * 400, "a~9", " ".join(["word"] * 40)])
def test_a_query_that_asks_nothing_or_too_much_is_refused(query: str) -> None:
    with pytest.raises(MatchError):
        parse_match(query)


WORD = st.text("abcdefghijklmnopqrstuvwxyz", min_size=5, max_size=12)


@settings(max_examples=80, deadline=None)
@given(st.lists(WORD, min_size=1, max_size=4), st.data())
def test_a_phrase_is_found_in_its_own_text_also_with_one_wrong_letter(words: list[str], data: st.DataObject) -> None:
    text = " ".join(words)
    assert match_lines(parse_match(f'"{text}"'), lines(text))
    index = data.draw(st.integers(0, len(words) - 1))
    place = data.draw(st.integers(0, len(words[index]) - 1))
    wrong = [*words]
    wrong[index] = words[index][:place] + "#".replace("#", "0") + words[index][place + 1 :]
    assert match_lines(parse_match(f'"{text}"~1'), lines(" ".join(wrong)))


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=60), st.lists(st.text(max_size=80), max_size=5))
def test_any_query_over_any_lines_answers_or_refuses(query: str, texts: list[str]) -> None:
    try:
        parsed = parse_match(query)
    except MatchError:
        return
    match_lines(parsed, lines(*texts))


def test_a_no_rests_on_every_word_that_the_output_contract_can_hold() -> None:
    """80 lines of 300 characters are all that a result may carry; the last word of the last line is searched too."""
    full = lines(*["a " * 150] * 79, "a " * 147 + "Martii")
    assert sum(len(line.text) for line in full) <= MAX_TEXT_CHARS
    assert match_lines(parse_match("Martii"), full)


@settings(max_examples=60, deadline=None)
@given(st.lists(WORD, min_size=2, max_size=4), st.data())
def test_words_run_together_may_hold_as_many_wrong_letters_as_words_apart(
    words: list[str], data: st.DataObject
) -> None:
    phrase = parse_match('"' + " ".join(words) + '"~1')
    index = data.draw(st.integers(0, len(words) - 1))
    wrong = [*words]
    wrong[index] = "0" + words[index][1:]
    assert match_lines(phrase, lines("".join(words)))
    assert match_lines(phrase, lines("".join(wrong)))
    wrong[index] = "000" + words[index][3:]
    assert not match_lines(phrase, lines("".join(wrong)))


def test_hostile_lines_cost_a_bounded_time() -> None:
    long = [TextLine(text="ab " * 100, score=1.0, box=(0, 40 * number, 900, 30)) for number in range(400)]
    query = parse_match(" ".join(f"word{number}~3" for number in range(20)))
    assert match_lines(query, long) == []
