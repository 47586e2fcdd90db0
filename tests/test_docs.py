"""The documentation is checked: references equal the code, commands and links exist, the tutorial runs."""

import importlib.util
import re
import shlex
import shutil
import tomllib
from pathlib import Path

import click
import pytest
from conftest import ROOT, jpeg, rows_of, write_archive

from node.cli.main import cli, run

DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]


def make_references():  # type: ignore[no-untyped-def]
    spec = importlib.util.spec_from_file_location("make_references", DOCS / "make_references.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_generated_references_equal_the_code() -> None:
    for name, make in make_references().PAGES.items():
        assert (DOCS / name).read_text("utf-8") == make(), f"run: python docs/make_references.py ({name})"


def test_every_link_leads_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#\s]+)", page.read_text("utf-8")):
            if not target.startswith(("http://", "https://")):
                assert (page.parent / target).exists(), f"{page.name}: {target}"


def commands() -> list[tuple[str, list[str]]]:
    found = []
    for page in PAGES:
        for block in re.findall(r"```console\n(.*?)```", page.read_text("utf-8"), re.DOTALL):
            for line in block.splitlines():
                if line.startswith("$ vasculum "):
                    found.append((page.name, shlex.split(line[2:])[1:]))
    return found


def test_every_shown_command_exists_with_these_options() -> None:
    shown = commands()
    assert len(shown) > 15
    for page, words in shown:
        context = click.Context(cli, info_name="vasculum")
        command: click.Command = cli
        while isinstance(command, click.Group):
            name = words.pop(0)
            inner = command.get_command(context, name)
            assert inner is not None, f"{page}: there is no command {name}"
            command = inner
        known = {option for parameter in command.params for option in getattr(parameter, "opts", [])}
        for word in words:
            if word.startswith("-") and len(word) > 1:
                assert word in known, f"{page}: {command.name} has no option {word}"


def test_the_tutorial_for_institutions_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_archive(tmp_path / "export", rows_of(3), images=jpeg)
    monkeypatch.chdir(tmp_path)
    text = (DOCS / "tutorial-institution.md").read_text("utf-8")
    ran = 0
    for block in re.findall(r"```console\n(.*?)```", text, re.DOTALL):
        for line in block.splitlines():
            words = shlex.split(line.removeprefix("$ "))[1:]
            if words[0] == "serve":
                continue  # runs until it is stopped; the demo tests serve
            code = run(words)
            said = capsys.readouterr()
            assert code == 0, f"{line}: {said.out}{said.err}"
            ran += 1
    assert ran >= 10
    shutil.rmtree(tmp_path / "hortus")


def test_every_endpoint_is_documented() -> None:
    text = (DOCS / "reference-interfaces.md").read_text("utf-8")
    from node.web import blobs, descriptor_api, job_pages, jobs_api, listing_api, pages, records_api

    for module in (pages, blobs, records_api, listing_api, jobs_api, descriptor_api, job_pages):
        for route in module.routes():
            path = re.sub(r"\{(\w+)(:(?:[^{}]|\{[^{}]*\})*)?\}", r"{\1}", route.path)
            start = path.split("{")[0]
            assert start in text or start.rstrip("/") in text or start.startswith(("/static", "/logout", "/hash:")), (
                path
            )


def test_the_list_of_dependencies_equals_pyproject_and_each_is_used_and_tested() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    text = (DOCS / "dependencies.md").read_text("utf-8")

    def name(requirement: str) -> str:
        return re.split(r"[<>=!~\[; ]", requirement)[0].lower()

    rows = dict(re.findall(r"^\| ([a-z0-9-]+) \| (.+) \|$", text, re.MULTILINE))
    wanted = {name(item) for item in project["dependencies"]}
    assert {row for row in rows if row not in ("package", "extra", "cpu", "gpu", "ipfs", "train", "dev")} == wanted
    imports = {
        "apscheduler": "apscheduler", "pillow": "PIL", "pyld": "pyld", "opencv-python-headless": "cv2", "sqlite-utils": "sqlite_utils",
        "zxing-cpp": "zxingcpp", "http-message-signatures": "http_message_signatures",
    }  # fmt: skip
    for package in wanted:
        why, place, test = (cell.strip() for cell in rows[package].split("|"))
        assert why
        source = (ROOT / place.strip("`")).read_text("utf-8")
        assert re.search(
            rf"^\s*(import|from) {imports.get(package, package.replace('-', '_'))}\b", source, re.MULTILINE
        ), package
        assert (ROOT / test.strip("`")).is_file(), test
    for extra, requirements in project["optional-dependencies"].items():
        assert f"| {extra} |" in text
        for requirement in requirements:
            assert name(requirement) in text, requirement


def test_the_readme_names_the_two_commands_and_shows_their_output() -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    for words in (
        "make demo",
        "make test",
        "DATA=../shared/data make demo",
        "image bytes that left any node: 0",
        "docs/flow.svg",
    ):
        assert words in text
