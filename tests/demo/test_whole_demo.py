"""The whole demo in processes of its own; and the same with a pipeline that leaks, which the relay must catch."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

PROGRAM = [sys.executable, "-P", "-m", "node.cli.main"]


def demo(*arguments: str, environment: dict[str, str] | None = None) -> dict[str, object]:
    run = subprocess.run(
        [*PROGRAM, "demo", "--json", "--exit", *arguments], capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), **(environment or {})}, timeout=3500,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr[-3000:]
    answer: dict[str, object] = json.loads(run.stdout.splitlines()[-1])
    return answer


def processes_of(marker: str) -> list[str]:
    found = []
    for entry in Path("/proc").iterdir():
        try:
            line = (entry / "cmdline").read_bytes() if entry.name.isdecimal() else b""
        except OSError:
            continue
        if marker.encode() in line and str(os.getpid()) != entry.name:
            found.append(line.replace(b"\0", b" ").decode())
    return found


@pytest.mark.fault
@pytest.mark.timeout(3600)
def test_three_nodes_one_job_no_image_leaves(tmp_path: Path) -> None:
    answer = demo("--keep", str(tmp_path / "kept"))
    assert answer["nodes"] == 3
    assert answer["images"] == 21
    assert answer["image_bytes_left"] == 0
    assert (answer["found"], answer["missed"], answer["false"]) == (7, 0, 0)
    assert answer["barcodes_found"] == answer["barcodes_known"] == 20
    assert answer["units_done"] == 42
    assert answer["units_failed"] == 0
    assert answer["annotations"] == 30
    for match in answer["matches"]:  # type: ignore[attr-defined]
        assert set(match) >= {"node", "specimen", "image", "text", "score"}
    assert not processes_of(str(tmp_path / "kept"))


@pytest.mark.fault
@pytest.mark.timeout(3600)
def test_a_leaking_pipeline_makes_the_count_rise(tmp_path: Path) -> None:
    """The same course with a pipeline that hides pixels in its text, within its output contract."""
    site = tmp_path / "site"
    site.mkdir()
    # Children of the demo start with this folder on their path and find another label-text pipeline.
    (site / "sitecustomize.py").write_text(
        "import runners.catalogue as c\n"
        "c.BUILT_IN = {**c.BUILT_IN, 'label-text': 'pipelines_for_tests:Leaking'}\n"
        f"c.Entry.__init__.__kwdefaults__['python_path'] = ({str(ROOT / 'tests')!r},)\n",
        "utf-8",
    )
    path = os.pathsep.join((str(site), str(ROOT), str(ROOT / "tests")))
    answer = demo("--keep", str(tmp_path / "kept"), environment={"PYTHONPATH": path})
    assert int(str(answer["image_bytes_left"])) > 0


@pytest.mark.real_data
@pytest.mark.timeout(3600)
def test_the_real_collections_answer_and_no_image_leaves(shared_data: Path) -> None:
    answer = demo("--data", str(shared_data))
    assert answer["nodes"] == 3
    assert answer["images"] == 96
    assert answer["image_bytes_left"] == 0
    assert answer["false"] == 0
    assert int(str(answer["found"])) >= 9
    assert int(str(answer["missed"])) <= 1
    assert int(str(answer["barcodes_found"])) >= 17


async def test_the_relay_passes_everything_on_unchanged_and_captures_it() -> None:
    from node.demo.relay import Relay

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"<" + await reader.read() + b">")
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    relay = Relay()
    port = await relay.open("x", server.sockets[0].getsockname()[1])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    message = bytes(range(256)) * 500
    writer.write(message)
    writer.write_eof()
    assert await reader.read() == b"<" + message + b">"
    writer.close()
    assert relay.bytes_passed == 2 * len(message) + 2
    await relay.close()
    server.close()
    await server.wait_closed()
