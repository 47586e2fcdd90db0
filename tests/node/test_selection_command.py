"""``vasculum selection``: names for selections, and how much they cover in a node on this machine."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ingest, jpeg, rows_of, write_archive

from linkeddata.coverage import Covered, NoValue, parse_search_coverage
from linkeddata.errors import DocumentError
from node.cli.main import run
from node.cli.selection import to_text
from node.folder import NodeFolder

Make = Callable[..., NodeFolder]
PREDICATE = '{"type": "or", "predicates": [{"type": "isNull", "parameter": "TYPE_STATUS"}, {"type": "equals", "key": "YEAR", "value": "1800"}]}'


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("VASCULUM_REGISTRY", raising=False)
    return tmp_path / "state" / "vasculum" / "selections"


class Shell:
    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self.err = ""

    def __call__(self, *words: str, code: int = 0) -> str:
        self._capsys.readouterr()
        assert run(list(words)) == code, self._capsys.readouterr()
        captured = self._capsys.readouterr()
        self.err = captured.err
        return captured.out


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(capsys)


def test_a_selection_says_how_much_it_covers_when_it_is_saved_and_shown(
    make_node: Make, tmp_path: Path, shell: Shell
) -> None:
    node = make_node()
    rows = rows_of(5)
    rows[3]["eventDate"] = ""
    rows[4]["image"] = "images/0.jpg"  # an image that two specimens share is covered once
    ingest(node, write_archive(tmp_path / "a", rows, images=jpeg))
    folder = str(node.settings.folder)
    size = sum((tmp_path / "a/images" / f"{number}.jpg").stat().st_size for number in (0, 1, 2))
    out = shell("selection", "save", "old", "--where", "year=1900,1902 family=Testaceae", "--folder", folder)
    assert f"{folder}: 4 specimens, 3 images, {size / 1e6:,.1f} MB; 1 more have no year" in out
    shown = json.loads(shell("selection", "show", "old", "--folder", folder, "--json"))
    assert shown["covers"][folder] == {
        "records": 4, "images": 3, "bytes": size, "noValue": [{"keys": ["year"], "count": 1}]
    }  # fmt: skip
    assert shown["selection"] == {"year": ["1900,1902"], "family": ["Testaceae"]}
    node.database.close()


def test_names_are_kept_listed_replaced_and_forgotten(shell: Shell, home: Path) -> None:
    assert "not counted" in shell("selection", "save", "a-b.1", "--where", "family=Fabaceae 'locality~Rio*'")
    shell("selection", "save", "a-b.1", "--where", "family=Poaceae", code=2)
    assert "--replace" in shell.err
    assert "family=Fabaceae" in shell("selection", "list")
    shell("selection", "save", "a-b.1", "--where", "family=Poaceae", "--replace")
    shell("selection", "save", "b", "--where", PREDICATE)
    listed = json.loads(shell("selection", "list", "--json"))
    assert [item["name"] for item in listed] == ["a-b.1", "b"]
    assert listed[1]["selection"]["predicate"] == json.loads(PREDICATE)
    assert json.loads(shell("selection", "show", "a-b.1", "--json"))["where"] == "family=Poaceae"
    shell("selection", "remove", "a-b.1")
    for words in (["show", "a-b.1"], ["remove", "a-b.1"], ["save", "../x"], ["save", "A"], ["save", "x", "--where", "famly=x"],
                  ["save", "x", "--where", "localSource=x", "--folder", str(home)]):  # fmt: skip
        shell("selection", *words, code=2)
        assert len([line for line in shell.err.splitlines() if line.startswith("Error:")]) == 1
    assert sorted(path.name for path in home.iterdir()) == ["b.json"]
    (home / "b.json").write_text('{"selection": {"colour": ["x"]}, "saved": "2026-01-01T00:00:00Z"}')
    shell("selection", "show", "b", code=2)
    assert "unknown search parameter" in shell.err


def test_a_saved_selection_stands_for_where_in_jobs_and_searches(shell: Shell) -> None:
    shell("selection", "save", "here", "--where", "localAccess=open")
    assert "one node only" in shell.err
    shell("key", "new")
    for words in (["job", "submit", "label-text"], ["search"]):
        shell(*words, "--selection", "nothing", "--node", "http://127.0.0.1:1", code=2)
        assert "no selection nothing" in shell.err
        shell(
            *words,
            "--selection",
            "nothing",
            *(["family=A"] if words == ["search"] else ["--where", "family=A"]),
            code=2,
        )
        assert "not both" in shell.err
    shell("job", "submit", "label-text", "--selection", "here", "--node", "http://127.0.0.1:1", code=2)
    assert "one node only" in shell.err


@pytest.mark.parametrize(
    "answer",
    [
        {}, {"total": -1}, {"total": "4"}, {"total": 4, "noValue": [{"keys": "year", "count": 1}]},
        {"total": 4, "noValue": {}}, {"total": 4, "covers": {"records": 5, "images": 1, "bytes": 1}},
        {"total": 4, "covers": {"records": 4, "images": -1, "bytes": 1}}, [],
    ],
)  # fmt: skip
def test_a_node_that_does_not_say_well_is_not_believed(answer: object) -> None:
    with pytest.raises(DocumentError):
        parse_search_coverage(answer)


def test_what_is_covered_reads_well() -> None:
    found = Covered(records=1200, no_value=(NoValue(keys=("year", "month"), count=3),))
    assert to_text(found) == "1,200 specimens; 3 more have no year or month"
    assert to_text(None) == "did not say"
    assert parse_search_coverage({"total": 5}) == Covered(records=5)
