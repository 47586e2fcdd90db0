"""The five flat names: guarded at start, and exactly these in the build."""

import importlib.metadata
import importlib.util
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from conftest import ROOT

from node.guard import FLAT_NAMES, FlatNameError, check_flat_names


def test_all_five_come_from_one_folder() -> None:
    assert check_flat_names() == ROOT


def test_another_owner_of_a_name_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.metadata, "packages_distributions", lambda: {"cas": ["python-cas", "vasculum"]})
    with pytest.raises(FlatNameError, match="python-cas also installs a package named cas"):
        check_flat_names()


def test_an_installed_distribution_with_one_of_our_names_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A made one, as pip would leave it behind: its package lies last on the path, so ours is still imported."""
    (tmp_path / "runners").mkdir()
    (tmp_path / "runners" / "__init__.py").write_text("", "utf-8")
    metadata = tmp_path / "other_runners-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: other-runners\nVersion: 1.0\n", "utf-8")
    (metadata / "RECORD").write_text("runners/__init__.py,,\nother_runners-1.0.dist-info/METADATA,,\n", "utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))  # and undone with its caches afterwards
    sys.path.remove(str(tmp_path))
    sys.path.append(str(tmp_path))
    with pytest.raises(FlatNameError, match="other-runners also installs a package named runners"):
        check_flat_names()


def test_a_package_from_another_folder_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "__init__.py").write_text("", "utf-8")
    real = importlib.util.find_spec

    def find(name: str) -> object:
        if name == "cas":
            return importlib.util.spec_from_file_location("cas", tmp_path / "cas" / "__init__.py")
        return real(name)

    monkeypatch.setattr(importlib.util, "find_spec", find)
    with pytest.raises(FlatNameError, match="packages of other programs stand in for ours"):
        check_flat_names()


def test_the_wheel_holds_exactly_the_five_packages(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == set(FLAT_NAMES)
    assert {f"{name}/py.typed" for name in FLAT_NAMES} <= set(names)


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
    wanted = {re.split(r"[<>=!~\[; ]", item)[0].lower() for item in project["dependencies"]}
    assert wanted <= pinned, wanted - pinned
