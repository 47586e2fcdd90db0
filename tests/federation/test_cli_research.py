"""The researcher's and the curator's commands, against nodes and a registry served in this process."""

import asyncio
import contextlib
import csv
import io
import json
import os
import re
import shlex
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest
from aiohttp.test_utils import TestServer
from conftest import ROOT
from federation_world import BRIGHTNESS, ENVIRONMENT, STAINS, Clock, SmallNode, free_port, make_node, serving
from rich.console import Console

from federation.handle import load_handle
from federation.merge import merge
from linkeddata.job import Emit
from node.access import STAFF
from node.cli.job import draw_sample, find_handle
from node.cli.job_output import choose, names_of, print_table
from node.cli.main import run
from node.registry_app import RegistrySettings, build_registry
from node.services.job_rules import OfferedPipeline


class RealClock(Clock):
    def __call__(self) -> datetime:
        return datetime.now(UTC)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("XDG_CONFIG_HOME", "XDG_STATE_HOME", "HOME"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    monkeypatch.delenv("VASCULUM_KEY", raising=False)
    monkeypatch.delenv("VASCULUM_REGISTRY", raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path / "home"


class Shell:
    """Runs commands in a thread, as a process would, and keeps what they print."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    async def __call__(self, *arguments: str, code: int = 0) -> str:
        self._capsys.readouterr()
        found = await asyncio.to_thread(run, list(arguments))
        captured = self._capsys.readouterr()
        self.err = captured.err
        assert found == code, captured.err
        return captured.out


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(capsys)


@contextlib.asynccontextmanager
async def working(*nodes: SmallNode, wake: asyncio.Event) -> AsyncIterator[None]:
    async def work() -> None:
        while True:
            await wake.wait()
            wake.clear()
            for node in nodes:
                await node.work()

    async with serving(*nodes):
        task = asyncio.create_task(work())
        yield
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@pytest.fixture
async def world(tmp_path: Path, shell: Shell):
    """Two herbaria, an insect collection, a closed herbarium, a registry; the researcher is enrolled at all."""
    wake, clock = asyncio.Event(), RealClock()
    nodes = [
        make_node(
            tmp_path / name, clock=clock, port=free_port(), name=name, seed=seed, wake=wake.set,
            preset="closed" if name == "Closed" else "open",
        )
        for seed, name in enumerate(("Leiden", "Berlin", "Insects", "Closed"), start=1)
    ]  # fmt: skip
    document = json.loads(await shell("key", "new", "--json"))
    from federation.identity import SigningKey

    key = SigningKey.load(Path(document["path"]))
    for node in nodes:
        node.enrol(key)
        node.add_sheet("s1", lines=["HERBARIUM MARTII"], kingdom="Animalia" if node is nodes[2] else "Plantae")
        node.add_sheet("s2", lines=["=cmd"], kingdom="Animalia" if node is nodes[2] else "Plantae")
        node.add_sheet("s3", lines=["x"], sensitive=True, kingdom="Animalia" if node is nodes[2] else "Plantae")
    settings = RegistrySettings(folder=tmp_path / "r", insecure_loopback=True)
    server = TestServer(build_registry(settings, clock=clock), host="127.0.0.1")
    async with working(*nodes, wake=wake):
        await server.start_server()
        registry = str(server.make_url("")).rstrip("/")
        from federation.http_transport import HttpTransport
        from node.services.registry_ping import registry_ping

        async with HttpTransport() as http:
            for node in nodes:
                await registry_ping(http, origin=node.origin, registries=[registry])
        yield nodes, registry, server
        await server.close()


async def test_key_new_and_show(shell: Shell, home: Path) -> None:
    out = await shell("key", "new")
    assert "ed25519:" in out
    assert "secret-ed25519" not in out
    kid = (await shell("key", "show")).strip()
    assert kid in out
    await shell("key", "new", code=2)
    assert "never overwritten" in shell.err
    await shell("key", "show", "--key", str(home / "none.key"), code=2)
    assert "vasculum key new" in shell.err


async def test_one_question_from_the_command_line(world, shell: Shell, tmp_path: Path) -> None:
    nodes, registry, _ = world
    listed = json.loads(await shell("nodes", "--registry", registry, "--json"))["nodes"]
    assert sorted(item["name"] for item in listed) == ["Berlin", "Closed", "Insects", "Leiden"]
    text = await shell("nodes", "--registry", registry)
    assert "conformance pass" in text
    assert "refuse: everything else" in text
    question = ["--registry", registry, "--where", "kingdom=Plantae", "--match", "Martii~1"]
    await shell("job", "submit", "label-text,barcode", *question, code=2)
    assert "--yes" in shell.err
    out = json.loads(await shell("job", "submit", "label-text,barcode", *question, "--yes", "--json"))
    assert {item["name"] for item in out["answered"]} == {"Leiden", "Berlin"}
    assert {item["name"]: item["rule"] for item in out["notAsked"]} == {
        "Insects": "by its summary it holds nothing of kingdom Plantae",
        "Closed": "its policy takes no jobs",
    }
    text_counts = next(item for item in out["totals"] if item["step"] == "label-text/1")
    assert (text_counts["yes"], text_counts["no"], text_counts["cannotTell"]) == (2, 2, 2)
    rows = [json.loads(line) for line in (await shell("job", "results", "--format", "ndjson")).splitlines()]
    assert len(rows) == 12
    for row in rows:
        assert row["node"] and row["image"].startswith("hash://sha256/")
        assert row["pipeline"].startswith("sha256:")
        assert row["environment"].startswith("sha256:")
    table = list(csv.DictReader(io.StringIO(await shell("job", "results", "--format", "csv", "--answer", "yes"))))
    assert {row["text"] for row in table} == {"HERBARIUM MARTII"}
    wide = await shell("job", "results", "--answer", "yes")
    assert "HERBARIUM MARTII" in wide
    assert "│" in wide
    handle = load_handle(find_handle(None))
    answer = merge(handle.job.courses.values(), handle.not_asked, granularity="record")
    narrow = io.StringIO()
    some = choose(answer, answers=["yes"], step=None, with_failing=False)
    print_table(Console(file=narrow, width=80), some, names_of(answer))
    for row in some:  # on a narrow screen nothing is cut into columns of six letters
        said = f"{row.row.specimen}\n  image {row.row.image[-64:-52]}  pipeline {row.row.pipeline[:19]}  environment"
        assert said in narrow.getvalue()
    assert "│" not in narrow.getvalue()
    drawn = json.loads(await shell("job", "sample", "-n", "3", "--json"))
    assert sorted(row["answer"] for row in drawn) == ["cannot tell", "no", "yes"]
    computed = [node.computed for node in nodes]
    again = json.loads(await shell("job", "results", "--match", "cmd", "--format", "json"))
    assert [row["matches"][0]["text"] for row in again["rows"] if row["matches"]] == ["=cmd", "=cmd"]
    assert [node.computed for node in nodes] == computed
    assert "'=cmd" in await shell("job", "results", "--format", "csv", "--answer", "yes")
    kept = json.loads(await shell("job", "list", "--json"))
    assert len(kept) == 2
    assert kept[0]["nodes"] == {"done": 2}


async def test_a_plugged_model_is_asked_for_by_its_name(world, shell: Shell) -> None:
    nodes, _, _ = world
    node = nodes[0]
    node.offers += [OfferedPipeline(manifest=item, environment=ENVIRONMENT) for item in (STAINS, BRIGHTNESS)]
    question = ["--node", node.origin, "--where", "kingdom=Plantae", "--match", "bright", "--yes", "--json"]
    said = await shell("job", "submit", "classes:brightness", *question)
    rows = [json.loads(line) for line in (await shell("job", "results", "--format", "ndjson")).splitlines()]
    assert {row["pipeline"] for row in rows if row["answer"] == "yes"} == {BRIGHTNESS.digest}, said
    await shell("job", "submit", "classes:phenology", *question, code=2)
    assert "no node that is asked has a model 'phenology': they have brightness, stains" in shell.err
    await shell("job", "submit", "classes:stains,classes:brightness", *question, code=2)
    assert "each once" in shell.err


@pytest.mark.parametrize("step", ["kind", "objects"])
async def test_a_kind_may_be_asked_for(world, shell: Shell, step: str, tmp_path: Path) -> None:
    nodes, _, _ = world
    node, path = nodes[0], tmp_path / "job.json"
    manifest = replace(BRIGHTNESS, output=f"{step}/1", name=step)
    node.offers.append(OfferedPipeline(manifest=manifest, environment=ENVIRONMENT))
    await shell("job", "submit", step, "--node", node.origin, "--match", "ruler", "--yes", "--no-wait", "--handle",
                str(path))  # fmt: skip
    assert load_handle(path).job.spec.emit == Emit(step=f"{step}/1", match="ruler")


async def test_a_selection_is_saved_counted_at_nodes_and_sent(world, shell: Shell) -> None:
    nodes, registry, _ = world
    out = await shell("selection", "save", "plants", "--where", "kingdom=Plantae year=1900", "--registry", registry)
    assert f"{nodes[0].origin}: 0 specimens, 0 images, 0.0 MB; 3 more have no year" in out
    predicate = '{"type": "or", "predicates": [{"type": "equals", "key": "KINGDOM", "value": "plantae"}, {"type": "isNotNull", "parameter": "YEAR"}]}'
    saved = json.loads(
        await shell("selection", "save", "plants", "--replace", "--where", predicate, "--registry", registry, "--json")
    )
    assert {saved["covers"][node.origin]["records"] for node in (nodes[0], nodes[1], nodes[3])} == {3}
    assert saved["covers"][nodes[2].origin]["records"] == 0
    found = json.loads(await shell("search", "--selection", "plants", "--registry", registry, "--json"))["nodes"]
    assert {item["node"]: item["total"] for item in found}[nodes[1].origin] == 3
    sent = json.loads(
        await shell("job", "submit", "barcode", "--selection", "plants", "--node", nodes[0].origin, "--yes", "--json")
    )
    assert "would look at 3 specimens\n  3 images" in shell.err
    assert sent["answered"][0]["name"] == "Leiden"
    assert len(sent["rows"]) == 3


async def test_what_is_said_around_a_job_is_short_and_can_be_typed(world, shell: Shell, tmp_path: Path) -> None:
    nodes, registry, _ = world
    elsewhere = tmp_path / "my jobs" / "martius.json"
    question = ["--registry", registry, "--where", "kingdom=Plantae", "--match", "Martii~1", "--yes"]
    out = await shell("job", "submit", "label-text", *question, "--handle", str(elsewhere))
    for node in nodes[:2]:
        assert f"{node.settings.node.name}  {node.origin}  would look at 3 specimens" in shell.err
    # Both have the same policy and pipelines: said once.
    assert shell.err.count("hold: requests by anyone") == 1
    assert shell.err.count("label-text 1.0.0") == 1
    # People read names; two nodes of one name would get their address beside it.
    assert "Leiden" in out
    assert nodes[0].origin not in out
    hint = next(line for line in shell.err.splitlines() if line.startswith("rows: vasculum "))
    words = shlex.split(hint)[2:]
    assert "HERBARIUM MARTII" in await shell(*words)
    await shell("job", "submit", "barcode", *question[:-3], "--yes")
    hint = next(line for line in shell.err.splitlines() if line.startswith("rows: vasculum "))
    assert "/" not in hint
    await shell(*shlex.split(hint)[2:])


@pytest.mark.parametrize("page", ["docs/tutorial-researcher.md", "README.md"])
async def test_the_commands_for_researchers_run_as_they_are_written(world, shell: Shell, page: str) -> None:
    """In their order, against two herbaria; only the address of the registry and the question before sending differ."""
    _, registry, _ = world
    text = (ROOT / page).read_text("utf-8")
    text = text.partition("## A researcher's")[2] or text
    ran: dict[str, str] = {}
    for block in re.findall(r"```console\n(.*?)```", text, re.DOTALL):
        for line in (item[2:] for item in block.splitlines() if item.startswith("$ vasculum ")):
            words = shlex.split(line.replace("https://registry.example.org", registry))[1:]
            if words == ["key", "new"]:
                continue  # made by the fixture, and never made twice
            ran[" ".join(words[:2])] = await shell(*words, *(["--yes"] if words[:2] == ["job", "submit"] else []))
    assert {"job submit", "job results"} <= set(ran)
    found = list(csv.DictReader(io.StringIO(ran["job results"])))
    assert {row["answer"] for row in found} == {"yes", "no", "cannot tell"}
    assert {row["text"] for row in found if row["answer"] == "yes"} == {"HERBARIUM MARTII"}
    if page.startswith("docs"):
        assert "yes" in ran["job sample"]
        assert {"key show", "search family=Fagaceae year=1800,1900"} <= set(ran)


async def test_every_option_reaches_the_specification_that_is_signed(world, shell: Shell, tmp_path: Path) -> None:
    nodes, _, _ = world
    node, path = nodes[0], tmp_path / "job.json"
    options = [
        "--first",
        "1",
        "--granularity",
        "count",
        "--purpose",
        "a thesis",
        "--name",
        "R. R.",
        "--publish",
        "--exact",
    ]
    out = await shell("job", "submit", "label-text", "--node", node.origin, "--match", "Martii~1", *options, "--yes",
                      "--handle", str(path), "--json")  # fmt: skip
    spec = load_handle(path).job.spec
    assert (spec.first, spec.granularity, spec.purpose, spec.requester_name) == (1, "count", "a thesis", "R. R.")
    assert (spec.publish, spec.reuse) == (True, "exact")
    answer = json.loads(out)
    assert answer["rows"] == [], "who asked for numbers gets no rows"
    assert answer["totals"][0]["yes"] == 1
    plain = tmp_path / "plain.json"
    await shell("job", "submit", "label-text", "--node", node.origin, "--yes", "--handle", str(plain), "--json")
    spec = load_handle(plain).job.spec
    assert (spec.first, spec.granularity, spec.publish, spec.reuse) == (None, "record", False, "conformant")


def test_a_sample_draws_each_answer_in_turn_and_the_same_again() -> None:
    def row(answer: str, number: int) -> SimpleNamespace:
        return SimpleNamespace(row=SimpleNamespace(answer=answer, medium=f"m{number:02}", step="label-text/1"))

    rows = [row("no", number) for number in range(40)] + [row("yes", 50), row("yes", 51), row("cannot tell", 60)]
    answer = SimpleNamespace(rows=rows)
    drawn = draw_sample(answer, 7, 1)  # type: ignore[arg-type]
    assert [item.row.answer for item in drawn] == ["yes", "no", "cannot tell", "yes", "no", "no", "no"]
    media = [item.row.medium for item in drawn]
    assert len(set(media)) == 7
    assert [item.row.medium for item in draw_sample(answer, 7, 1)] == media  # type: ignore[arg-type]
    others = {tuple(item.row.medium for item in draw_sample(answer, 7, seed)) for seed in range(2, 8)}  # type: ignore[arg-type]
    assert len(others) > 3, "another seed draws other rows"
    assert len(draw_sample(answer, 100, 1)) == 43  # type: ignore[arg-type]


def test_two_nodes_of_one_name_are_told_apart() -> None:
    from federation.dispatch import NodeCourse

    courses = [NodeCourse(origin=f"https://{place}.example", name=name, phase="done")
               for place, name in (("a", "Herbarium"), ("b", "Herbarium"), ("c", "Fishes"))]  # fmt: skip
    assert names_of(merge(courses, (), granularity="record")) == {
        "https://a.example": "Herbarium https://a.example",
        "https://b.example": "Herbarium https://b.example",
        "https://c.example": "Fishes",
    }


async def test_no_wait_watch_and_cancel(world, shell: Shell) -> None:
    nodes, registry, _ = world
    for node in nodes:
        node.work = _nothing  # type: ignore[method-assign]
    question = ["--registry", registry, "--where", "kingdom=Plantae", "--match", "Martii~1", "--yes"]
    out = json.loads(await shell("job", "submit", "label-text", *question, "--no-wait", "--json"))
    assert {item["name"] for item in out["working"]} == {"Leiden", "Berlin"}
    assert "cancelled" in await shell("job", "cancel")
    out = json.loads(await shell("job", "watch", "--json"))
    assert {item["name"] for item in out["cancelled"]} == {"Leiden", "Berlin"}


async def test_ctrl_c_leaves_the_job_running(world, shell: Shell, tmp_path: Path) -> None:
    nodes, _, _ = world
    node, arrived, works = nodes[0], asyncio.Event(), nodes[0].work
    submit = node.jobs.submit

    async def noted(*arguments, **named):
        made = await submit(*arguments, **named)
        arrived.set()
        return made

    node.jobs.submit = noted  # type: ignore[method-assign]
    node.work = _nothing  # type: ignore[method-assign]
    handle = tmp_path / "job.json"
    # A suite that was started in the background ignores Ctrl-C, and so would this child.
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-m", "node.cli.main", "job", "submit", "label-text", "--node", node.origin, "--yes",
        "--handle", str(handle), stdin=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    signal.signal(signal.SIGINT, before)
    async with asyncio.timeout(60):
        await arrived.wait()
        process.send_signal(signal.SIGINT)
        _, said = await process.communicate()
    assert process.returncode == 130, said
    assert f"take it up again with: vasculum job watch {handle}" in said.decode()
    assert "Traceback" not in said.decode()
    (job,) = await node.jobs.list_jobs(STAFF)
    assert job.status == "running", "the node was not told to stop"
    node.work = works  # type: ignore[method-assign]
    await node.work()
    out = json.loads(await shell("job", "watch", str(handle), "--json"))
    assert [item["name"] for item in out["answered"]] == ["Leiden"]


async def _nothing(**_: object) -> int:
    return 0


async def test_lost_handles_are_rebuilt_from_the_key(world, shell: Shell, home: Path) -> None:
    _, registry, _ = world
    question = ["--registry", registry, "--where", "kingdom=Plantae", "--match", "Martii~1", "--yes", "--json"]
    first = json.loads(await shell("job", "submit", "label-text", *question))
    await asyncio.to_thread(Path(first["handle"]).unlink)
    await shell("job", "results", code=2)
    found = json.loads(await shell("job", "recover", "--registry", registry, "--json"))
    assert [item["isNew"] for item in found["jobs"]] == [True]
    again = json.loads(await shell("job", "watch", "--json"))
    assert again["rows"] == first["rows"]
    found = json.loads(await shell("job", "recover", "--registry", registry, "--json"))
    assert [item["isNew"] for item in found["jobs"]] == [False]


async def test_a_registry_that_is_down_hides_nobody_who_was_seen_before(world, shell: Shell) -> None:
    _, registry, server = world
    await shell("nodes", "--registry", registry, "--json")
    await server.close()
    out = json.loads(await shell("nodes", "--registry", registry, "--json"))
    assert len(out["nodes"]) == 4
    assert "going on with 4 nodes" in out["problems"][0]
    answer = json.loads(
        await shell("job", "submit", "barcode", "--registry", registry, "--where", "kingdom=Plantae", "--yes", "--json")
    )
    assert {item["name"] for item in answer["answered"]} == {"Leiden", "Berlin"}


async def test_a_node_that_is_down_is_reported_and_the_others_answer(world, shell: Shell) -> None:
    nodes, registry, _ = world
    await nodes[1].stop()
    out = json.loads(
        await shell("job", "submit", "barcode", "--registry", registry, "--where", "kingdom=Plantae", "--yes", "--json")
    )
    assert {item["name"] for item in out["answered"]} == {"Leiden"}
    assert {item["name"] for item in out["failed"]} == {"Berlin"}
    assert "not reached" in out["failed"][0]["reasons"][0]


async def test_a_request_waits_for_the_curator(world, shell: Shell, tmp_path: Path) -> None:
    nodes, _, _ = world
    node = nodes[0]
    folder = str(node.folder)
    (node.folder / "node.toml").write_text(
        f'[node]\nname = "Leiden"\npublic_url = "{node.origin}"\n[federation]\ninsecure_loopback = true\n'
    )
    stranger = str(tmp_path / "stranger.key")
    await shell("key", "new", "--key", stranger)
    question = ["--node", node.origin, "--match", "Martii", "--yes", "--key", stranger, "--purpose", "a thesis"]
    out = json.loads(await shell("job", "submit", "label-text", *question, "--json"))
    assert [item["name"] for item in out["held"]] == ["Leiden"]
    waiting = json.loads(await shell("requests", "list", folder, "--json"))
    assert len(waiting) == 1
    assert waiting[0]["purpose"] == "a thesis"
    shown = await shell("requests", "show", folder, waiting[0]["id"][:8])
    assert "a thesis" in shown
    assert "3 (3.0 kB): 2 open, 1 withheld (sensitive)" in shown
    assert "a row per image" in shown
    assert not re.search(r'null|\["|\{"', shown), "it is for people"
    hint = shell.err.partition("To let exactly this run: vasculum ")[2]
    assert shlex.split(hint)[:3] == ["requests", "approve", folder]
    assert waiting[0]["snapshot"] in hint, "what is approved is what was shown"
    await shell("requests", "approve", folder, waiting[0]["id"], "--snapshot", "sha256:" + "0" * 64, code=1)
    assert "something else" in shell.err
    await shell("requests", "approve", folder, waiting[0]["id"][:8], "--reason", "fine")
    await node.jobs.poll()
    out = json.loads(await shell("job", "watch", "--json", "--key", stranger))
    assert [item["name"] for item in out["answered"]] == ["Leiden"]
    assert out["answered"][0]["reasons"] == ["approved by the collection: fine"]
    out = json.loads(
        await shell("job", "submit", "barcode", "--node", node.origin, "--yes", "--key", stranger, "--json")
    )
    waiting = json.loads(await shell("requests", "list", folder, "--json"))
    await shell("requests", "refuse", folder, waiting[0]["id"], "--reason", "on loan")
    out = json.loads(await shell("job", "watch", "--json", "--key", stranger))
    assert out["refused"][0]["reasons"] == ["refused by the collection: on loan"]


async def test_enrolment(world, shell: Shell) -> None:
    nodes, _, _ = world
    folder = str(nodes[0].folder)
    (nodes[0].folder / "node.toml").write_text('[node]\nname = "L"\npublic_url = "https://l.example.org"\n')
    kid = json.loads(await shell("key", "new", "--key", str(nodes[0].folder / "x.key"), "--json"))["kid"]
    await shell("researchers", "add", folder, "ed25519:short", "--name", "X", code=2)
    await shell("researchers", "add", folder, kid, "--name", "X\u001b[2J", code=2)
    await shell("researchers", "add", folder, kid, "--name", "X. Y.")
    found = json.loads(await shell("researchers", "list", folder, "--json"))
    assert {item["name"]: item["state"] for item in found}["X. Y."] == "enrolled"
    await shell("researchers", "revoke", folder, kid)
    await shell("researchers", "revoke", folder, kid, code=1)
    assert "revoked" in await shell("researchers", "list", folder)


@pytest.mark.parametrize(
    "arguments",
    [
        ["nodes"], ["job", "submit", "label-text"], ["job", "submit", "nonsense", "--node", "https://x.example.org"],
        ["nodes", "--registry", "http://x.example.org"], ["nodes", "--registry", "https://x.example.org/path"],
        ["job", "submit", "label-text", "--node", "https://x.example.org", "--where", "kindom=Plantae"],
        ["job", "submit", "quality", "--node", "http://127.0.0.1:9", "--match", "x", "--yes"],
        ["job", "submit", "embed", "--node", "https://x.example.org", "--yes"],
        ["job", "watch"], ["job", "results", "none"], ["requests", "list", "/nonexistent"],
        ["registry", "serve", "/nonexistent"],
    ],
)  # fmt: skip
async def test_bad_input_is_one_line(shell: Shell, arguments: list[str]) -> None:
    await shell("key", "new")
    code = 1 if "http://127.0.0.1:9" in arguments else 2
    await shell(*arguments, code=code)
    assert "Traceback" not in shell.err
    assert "Error: " in shell.err


async def test_registry_init(shell: Shell, tmp_path: Path) -> None:
    folder = str(tmp_path / "index")
    await shell("registry", "init", folder, "--name", "R", "--insecure-loopback")
    await shell("registry", "init", folder, code=2)
    await shell("registry", "init", str(tmp_path / "o"), "--host", "0.0.0.0", "--insecure-loopback", code=2)
    assert not (tmp_path / "o" / "registry.toml").exists()
