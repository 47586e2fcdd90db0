"""Each line of ``vasculum doctor`` that is not ok: what makes it, and that it says what to do."""

import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import NOW, ingest, jpeg, rows_of, write_archive

from node import doctor
from node.cli.main import run
from node.folder import NodeFolder
from runners.sandbox import IsolationReport

Make = Callable[..., NodeFolder]


def said(node: NodeFolder, level: str) -> dict[str, str]:
    found = doctor.examine(node.settings.folder, now=NOW)
    return {item.about: item.text for item in found if item.level == level}


def change(node: NodeFolder, old: str, new: str) -> None:
    path = node.settings.folder / "node.toml"
    text = path.read_text("utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), "utf-8")


def test_a_full_disk_is_said_before_it_is_full(make_node: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    node = make_node()
    for free, level in ((4, "problem"), (50, "ok")):
        monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _, free=free: SimpleNamespace(total=100, free=free))
        assert f"({free}%)" in said(node, level)["disk"]


def test_a_database_on_a_network_drive_is_a_problem(make_node: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    node = make_node()
    for kind, is_bad in (("nfs4", True), ("ext4", False)):
        monkeypatch.setattr(doctor, "_filesystem", lambda _, kind=kind: kind)
        assert ("database" in said(node, "problem")) == is_bad
    monkeypatch.undo()
    assert doctor._filesystem(Path("/proc/self")) == "proc", "the kernel's own table is read"


def test_two_runtimes_or_none_are_a_problem(make_node: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    node = make_node()
    monkeypatch.setattr(doctor, "_installed", lambda name: "1.0")
    assert "uninstall one" in said(node, "problem")["program"]
    monkeypatch.setattr(doctor, "_installed", lambda name: None)
    assert "vasculum[cpu]" in said(node, "problem")["program"]


def test_a_missing_second_reader_is_a_warning(make_node: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    node = make_node()
    monkeypatch.setattr("ctypes.util.find_library", lambda name: None)
    assert "apt install libzbar0" in said(node, "warning")["program"]


def test_pipelines_that_cannot_run_are_a_problem(make_node: Make) -> None:
    node = make_node()
    change(node, 'pipelines = ["label-text", "barcode", "quality"]', 'pipelines = ["quality", "kind", "stains"]')
    folder = node.settings.folder / "models" / "stains"
    folder.mkdir(parents=True)
    lines = [item for item in doctor.examine(node.settings.folder, now=NOW) if item.about == "pipelines"]
    assert [(item.level, item.text) for item in lines][:1] == [("ok", "quality")]
    texts = {item.text.partition(" ")[0]: item.text for item in lines if item.level == "problem"}
    assert set(texts) == {"kind", "stains"}
    assert "usually embed" in texts["kind"] and "pipeline.toml" in texts["stains"]


@pytest.mark.parametrize(("is_required", "consequence"), [(True, "are refused"), (False, "run all the same")])
def test_walls_that_do_not_stand_are_said_with_what_follows(
    make_node: Make, monkeypatch: pytest.MonkeyPatch, is_required: bool, consequence: str
) -> None:
    node = make_node()
    if not is_required:
        change(node, "[jobs]", "[jobs]\nrequire_isolation = false")
    report = IsolationReport(is_enforced=False, text="libseccomp is missing")
    monkeypatch.setattr(doctor, "report_isolation", lambda: report)
    text = said(node, "problem")["isolation"]
    assert "libseccomp is missing" in text
    assert consequence in text


def test_an_open_door_without_a_proxy_and_a_low_port_are_said(make_node: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    node = make_node()
    assert "server" not in said(node, "warning") | said(node, "problem")
    change(node, 'host = "127.0.0.1"', 'host = "0.0.0.0"')
    change(node, "insecure_loopback = true", "insecure_loopback = false")
    change(node, 'public_url = "http://127.0.0.1:8765"', 'public_url = "https://h.example"')
    assert "put nginx or caddy in front" in said(node, "warning")["server"]
    change(node, "port = 8080", "port = 443")
    monkeypatch.setattr(doctor.os, "geteuid", lambda: 1000)
    assert "port 443 needs root" in said(node, "problem")["server"]


def test_an_empty_policy_and_a_trial_are_said(make_node: Make) -> None:
    node = make_node(policy="closed")
    assert "every job is refused" in said(node, "ok")["policy"]
    assert "a trial on this machine" in said(node, "warning")["federation"]
    assert "they never leave" in said(node, "ok")["source collection"]


def test_an_ingest_that_stopped_and_a_drive_that_is_not_mounted_are_said(make_node: Make, tmp_path: Path) -> None:
    node = make_node()
    archive = write_archive(tmp_path / "a", rows_of(2), images=jpeg)
    ingest(node, archive)
    with node.database.transaction() as conn:
        conn.execute("UPDATE ingest_run SET state = 'running'")
    assert "goes on" in said(node, "warning")["ingest"]
    shutil.rmtree(archive)
    assert "cannot be read" in said(node, "problem")["images"]
    change(node, "[sources.collection]", f'[sources.collection]\npath = "{tmp_path}/gone"')
    assert "not mounted" in said(node, "problem")["source collection"]


def test_a_newer_database_is_said(make_node: Make) -> None:
    node = make_node()
    with node.database.transaction() as conn:
        conn.execute("PRAGMA user_version = 9999")
    assert "newer than this program" in said(node, "problem")["database"]


def test_the_exit_code_says_whether_anything_is_wrong(make_node: Make, capsys: pytest.CaptureFixture[str]) -> None:
    node = make_node()
    assert run(["doctor", str(node.settings.folder)]) == 0
    assert "nothing is wrong" in capsys.readouterr().out
    node.settings.key_path.chmod(0o644)
    assert run(["doctor", str(node.settings.folder)]) == 1
    assert "chmod 600" in capsys.readouterr().out
