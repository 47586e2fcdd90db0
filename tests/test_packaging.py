"""The five flat names: guarded at start, and exactly these in the build."""

import importlib.metadata
import tomllib

import pytest
from conftest import ROOT

from node.guard import FLAT_NAMES, FlatNameError, check_flat_names


def test_all_five_come_from_one_folder() -> None:
    assert check_flat_names() == ROOT


def test_another_owner_of_a_name_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.metadata, "packages_distributions", lambda: {"cas": ["python-cas", "vasculum"]})
    with pytest.raises(FlatNameError, match="python-cas also installs a package named cas"):
        check_flat_names()


def test_the_build_lists_exactly_the_five_packages() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    assert sorted(project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]) == sorted(FLAT_NAMES)
    requirements = project["project"]["dependencies"]
    assert not [
        item for item in requirements if item.split(">")[0].strip() in ("node", "federation", "cas", "python-cas")
    ]
    for name in FLAT_NAMES:
        assert (ROOT / name / "py.typed").is_file()


def test_every_dependency_is_pinned_for_a_repeatable_install() -> None:
    pinned = {
        line.split("==")[0].lower().replace("_", "-")
        for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines()
        if "==" in line
    }
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    import re

    wanted = {re.split(r"[<>=!~\[; ]", item)[0].lower() for item in project["dependencies"]}
    assert wanted <= pinned, wanted - pinned
