"""Rules about the code that the code itself cannot show."""

import ast
import subprocess
import sys
from pathlib import Path

from conftest import ROOT

PACKAGES = ("cas", "linkeddata", "federation", "runners", "node")
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
HEAVY = {"torch", "onnx", "onnxruntime", "rapidocr", "cv2", "zxingcpp", "pyzbar", "pdqhash"}


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for item in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(item, ast.Import):
            names |= {alias.name.split(".")[0] for alias in item.names}
        elif isinstance(item, ast.ImportFrom) and item.module:
            names.add(item.module.split(".")[0])
    return names


def test_imports_go_down_only() -> None:
    run = subprocess.run(
        [Path(sys.executable).parent / "lint-imports", "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout


def test_every_module_says_what_it_is_for_and_none_is_a_drawer() -> None:
    for path in MODULES:
        assert ast.get_docstring(ast.parse(path.read_text("utf-8"))), f"{path} has no docstring"
        assert path.name not in ("utils.py", "helpers.py", "common.py", "misc.py")


def test_no_module_grows_beyond_600_lines() -> None:
    for path in MODULES:
        assert len(path.read_text("utf-8").splitlines()) <= 600, path


def test_heavy_libraries_stay_in_the_adapters() -> None:
    for path in MODULES:
        if path.parent.name not in ("pipelines", "training"):
            assert not imported(path) & HEAVY, path
        if path.parent.name != "training":
            is_command = path.relative_to(ROOT) == Path("node/cli/train.py")
            assert "torch" not in imported(path), path
            assert is_command or "runners.training" not in path.read_text("utf-8").replace("``runners.training", ""), (
                path
            )


def test_only_adapters_speak_http_and_nothing_unpickles() -> None:
    allowed = ("node", "federation")
    for path in MODULES:
        names = imported(path)
        assert not names & {"pickle", "shelve", "marshal", "yaml", "dill"}, path
        if "aiohttp" in names:
            assert path.relative_to(ROOT).parts[0] in allowed, path


def test_pure_modules_touch_no_clock_socket_or_disk() -> None:
    pure = [ROOT / "linkeddata" / f"{name}.py" for name in (
        "answers", "canon", "descriptor", "envelope", "ingest_plan", "job", "json_strict", "licences", "matching",
        "pipeline", "publication", "records", "selection", "sensitive", "local_contexts", "sensitive_list", "sensitive_taxa", "source",
    )]  # fmt: skip
    pure += sorted((ROOT / "linkeddata" / "outputs").glob("*.py"))
    pure += [
        ROOT / "federation" / f"{name}.py"
        for name in ("continuity", "dispatch", "merge", "policy", "registry", "status")
    ]
    pure += [ROOT / "node" / "access.py", ROOT / "node" / "web" / "ranges.py"]
    for path in pure:
        assert not imported(path) & {
            "asyncio",
            "aiohttp",
            "sqlite3",
            "socket",
            "time",
            "random",
            "os",
            "secrets",
            "subprocess",
        }, path
