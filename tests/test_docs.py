"""The documentation is checked: references equal the code, commands and links exist, the tutorial runs."""

import asyncio
import contextlib
import csv
import dataclasses
import hashlib
import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest
from abcd_documents import document, pictured
from aiohttp.test_utils import TestClient, TestServer
from conftest import NOW, ROOT, ingest, jpeg, rows_of, write_archive
from remote_world import ON_NEED, Elsewhere, elsewhere
from review_world import CODES, ReviewWorld, review_world, text_result
from review_world import line as read_line

from linkeddata.search_terms import SEARCH_PARAMETERS
from linkeddata.selection import parse_where
from node import config
from node.app import build_application
from node.cli.main import cli, run
from node.config import load_settings
from node.demo import collections
from node.folder import NodeFolder, open_folder
from node.setup import NewNode, create_node
from node.web.search_question import read_body
from runners.catalogue import Catalogue

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


CONFIGURATION = (
    ("[node]", config.NodeSection),
    ("[server]", config.ServerSection),
    ("[limits]", config.LimitsSection),
    ("[federation]", config.FederationSection),
    ("[images]", config.ImagesSection),
    ("[care]", config.CareSection),
    ("[remote]", config.RemoteSection),
    ("[jobs]", config.JobsSection),
    ("[policy]", config.PolicySection),
    ("[[policy.rules]]", config.PolicyRule),
    ("[review]", config.ReviewSection),
    ("[corrections]", config.CorrectionsSection),
    ("[[corrections.columns]]", config.CorrectionColumn),
    ("[volumes.NAME]", config.VolumeSettings),
    ("[tiers.NAME]", config.TierSettings),
    ("[sources.NAME]", config.SourceSettings),
    ("[[sources.NAME.files]]", config.FileRule),
    ("[[sources.NAME.rules]]", config.AccessRule),
    ("[protection]", config.ProtectionSection),
    ("[[sensitive]]", config.SensitiveTaxon),
)


def test_the_settings_page_names_every_key_with_its_default() -> None:
    text = (DOCS / "reference-configuration.md").read_text("utf-8")
    pages = dict(re.findall(r"^## (\[[^\n]+\])\n(.*?)(?=^## )", text, re.MULTILINE | re.DOTALL))
    assert set(pages) == {heading for heading, _ in CONFIGURATION}
    classes = {item for item in vars(config).values() if isinstance(item, type) and dataclasses.is_dataclass(item)}
    assert classes - {config.Settings} == {kind for _, kind in CONFIGURATION}, "a table of settings has no section"
    for heading, kind in CONFIGURATION:
        rows = {
            name: (default, meaning)
            for name, default, meaning in re.findall(
                r"^\| `(\w+)` \| [^|]+ \| ([^|]+) \| ([^|]+) \|$", pages[heading], re.MULTILINE
            )
        }
        assert set(rows) == {item.name for item in dataclasses.fields(kind)}, heading
        for item in dataclasses.fields(kind):
            default, meaning = rows[item.name]
            assert len(meaning) > 8, f"{heading} {item.name} is not explained"
            if item.default is dataclasses.MISSING:
                assert default == "must be given"
            elif item.default is None:
                assert default == "no limit"
            else:
                written = tomllib.loads("x = " + default.strip("`"))["x"]
                known = list(item.default) if isinstance(item.default, tuple) else item.default
                assert (written, type(written)) == (known, type(known)), f"{heading} {item.name}"


def test_every_link_leads_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#\s]+)", page.read_text("utf-8")):
            if not target.startswith(("http://", "https://")):
                assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_every_module_and_file_that_is_named_exists() -> None:
    named = 0
    for page in PAGES:
        for path in re.findall(
            r"`((?:cas|linkeddata|federation|runners|node|tests|docs)/[\w./-]+\.\w+)`", page.read_text("utf-8")
        ):
            assert (ROOT / path).is_file(), f"{page.name}: {path}"
            named += 1
    assert named > 40


def shown_lines(text: str) -> list[str]:
    """The commands in the console blocks of a page; what they print stands in lines without the dollar."""
    blocks = re.findall(r"```console\n(.*?)```", text, re.DOTALL)
    return [line[2:] for block in blocks for line in block.splitlines() if line.startswith("$ ")]


def commands() -> list[tuple[str, str]]:
    """Page and command, from console blocks and from running text that shows a whole command."""
    found = []
    for page in PAGES:
        text = page.read_text("utf-8")
        if page.name == "reference-cli.md":
            continue  # generated from the commands themselves
        found += [(page.name, line) for line in shown_lines(text) if line.startswith("vasculum ")]
        prose = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
        found += [(page.name, line) for line in re.findall(r"`(vasculum [^`]+)`", prose)]
    return found


def parse(line: str) -> tuple[click.Command, list[str]]:
    """The command of a line and what is left for it; click says when there is none of this name."""
    words = shlex.split(line)[1:]
    context = click.Context(cli, info_name="vasculum")
    command: click.Command = cli
    while isinstance(command, click.Group) and words:
        name = words.pop(0)
        inner = command.get_command(context, name)
        assert inner is not None, f"there is no command {name}: {line}"
        command, context = inner, click.Context(inner, info_name=name, parent=context)
    return command, words


def test_every_shown_command_exists_with_these_options() -> None:
    shown = commands()
    assert len(shown) > 25
    for page, line in shown:
        command, words = parse(line)
        try:
            command.make_parser(click.Context(command)).parse_args(words)
        except click.UsageError as error:
            pytest.fail(f"{page}: {line}: {error.format_message()}")
    for path in PAGES:
        for line in shown_lines(path.read_text("utf-8")):
            if line.startswith("vasculum ") and not isinstance(parse(line)[0], click.Group):
                command, words = parse(line)
                _, left, _ = command.make_parser(click.Context(command)).parse_args(list(words))
                assert not left, f"{path.name}: {line}: too many words"


def test_twin_a_wrong_option_or_command_is_noticed() -> None:
    command, words = parse("vasculum ingest hortus --dryrun")
    with pytest.raises(click.NoSuchOption):
        command.make_parser(click.Context(command)).parse_args(words)
    with pytest.raises(AssertionError, match="no command ingst"):
        parse("vasculum ingst hortus")


@pytest.mark.parametrize("page", ["tutorial-institution.md", "../README.md"])
def test_the_commands_for_institutions_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], page: str
) -> None:
    """Every command of the page, in its order, on two drawn herbarium sheets."""
    text = (DOCS / page).read_text("utf-8").partition("## A researcher's")[0]
    hortus = next(item for item in collections.institutions() if item.folder == "hortus")
    tiny = dataclasses.replace(hortus, folder="export", sheets=hortus.sheets[:2])
    monkeypatch.setattr(collections, "institutions", lambda: (tiny,))
    assert collections.write_collections(tmp_path, tmp_path / "truth" / "truth.json", seed=1) == 2
    monkeypatch.chdir(tmp_path)
    said: dict[str, str] = {}
    for line in shown_lines(text):
        words = shlex.split(line)[1:]
        if words[0] == "serve":
            continue  # runs until it is stopped; the demo tests serve
        code = run(words)
        printed = capsys.readouterr()
        assert code == 0, f"{line}: {printed.out}{printed.err}"
        said[" ".join(words[:1] + [word for word in words if word == "--dry-run"])] = printed.out
    assert {"init", "ingest --dry-run", "ingest", "doctor"} <= set(said)
    assert "Recovery key" in said["init"]
    assert "nothing is changed" in said["ingest --dry-run"]
    assert "2 new" in said["ingest --dry-run"]
    assert "2 images" in said["ingest"]
    assert "nothing is wrong" in said["doctor"]
    if page.startswith("tutorial"):
        assert {"findings", "backup", "restore"} <= set(said)
        assert "2 specimens indexed" in said["reindex"]
        assert (tmp_path / "hortus-again" / "node.toml").is_file()


@pytest.fixture
def far() -> Iterator[Elsewhere]:
    with elsewhere() as found:
        yield found


def test_the_page_about_the_store_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], far: Elsewhere
) -> None:
    """Every command of the page, in its order: two sheets, one of which rots while its copy elsewhere does not."""
    hortus = next(item for item in collections.institutions() if item.folder == "hortus")
    tiny = dataclasses.replace(hortus, folder="export", sheets=hortus.sheets[:2])
    monkeypatch.setattr(collections, "institutions", lambda: (tiny,))
    collections.write_collections(tmp_path, tmp_path / "truth" / "truth.json", seed=1)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "masters").mkdir()
    for path in (tmp_path / "export" / "images").iterdir():
        shutil.copy2(path, tmp_path / "masters" / path.with_suffix(".tif").name)
    init = ["init", "hortus", "--name", "Hortus", "--public-url", "https://images.example.org", "--licence", "CC0"]
    assert run([*init, "--source", "herbarium"]) == 0
    toml = tmp_path / "hortus" / "node.toml"
    toml.write_text(toml.read_text("utf-8").replace("[federation]", "[federation]\ninsecure_loopback = true"), "utf-8")
    with toml.open("a", encoding="utf-8") as stream:
        stream.write('\n[volumes.masters]\nroot = "../masters"\n' + ON_NEED)
        stream.write('\n[tiers.archive]\npath = "../archive"\nunused_days = 365\n')
    (tmp_path / "archive").mkdir()
    assert run(["ingest", "hortus", "export", "--source", "herbarium"]) == 0
    row = {**rows_of(1)[0], "image": far.hold("/1.jpg", jpeg(1))}
    assert run(["ingest", "hortus", str(write_archive(tmp_path / "far", [row])), "--source", "web"]) == 0
    shutil.copytree(tmp_path / "export", tmp_path / "new-disk" / "herbarium")
    damaged = ""
    said: dict[str, str] = {}
    for line in shown_lines(without_section((DOCS / "how-to-store.md").read_text("utf-8"), BACKUP)):
        if " scrub " in line and not damaged:
            damaged = rot(sorted((tmp_path / "new-disk" / "herbarium" / "images").iterdir())[0])
        words = shlex.split(re.sub(r" ID\b", f" {damaged}", line))[1:]
        capsys.readouterr()
        code = run([word for word in words if word not in ("--older-than", "90")])
        printed = capsys.readouterr()
        # What is damaged stays so in the institution's file: scrub and fsck say it to whoever asks for the exit code.
        assert code == (1 if words[0] in ("scrub", "fsck") else 0), f"{line}: {printed.out}{printed.err}"
        said.setdefault(
            " ".join(words[:2] if words[0] in ("volume", "pin", "tier") else words[:1]), printed.out + printed.err
        )
    assert "2 images" in said["ingest"]
    assert "2 unchanged" in said["volume scan"]
    assert "2 files found" in said["volume moved"]
    assert "2 files hashed" in said["hash"]
    assert "1 damaged" in said["scrub"]
    assert damaged in said["quarantine"]
    assert "good bytes" in said["repair"]
    assert "quarantined" in said["fsck"]
    assert "named by nobody" in said["gc"]
    assert "exhibition-2027" in said["pin list"]
    assert "own copies" in said["du"]
    assert "1 fetched" in said["fetch"]
    assert "remote" in said["du"]
    assert "would move to archive" in said["tier move"]
    assert "restored from archive" in said["tier restore"]
    assert "1 images" in said["tier list"]
    capsys.readouterr()
    assert run(["quarantine", "hortus"]) == 0
    assert "herbarium:" in capsys.readouterr().out, "the institution's file itself is still damaged"


def test_the_pages_about_ingest_and_findings_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every command of both pages; the mapping that the page shows is the one that is drafted."""
    monkeypatch.chdir(tmp_path)
    address = "https://images.example.org"
    assert (
        run(["init", "hortus", "--name", "Hortus", "--public-url", address, "--licence", "", "--contact", "a@x.org"])
        == 0
    )
    toml = tmp_path / "hortus/node.toml"
    toml.write_text(
        toml.read_text("utf-8").replace(
            "[sources.collection]", "[sources.list]\n[sources.herbarium]\n[sources.collection]"
        ),
        "utf-8",
    )
    write_archive(tmp_path / "export", rows_of(2), images=jpeg)
    shutil.make_archive("export", "zip", "export")
    (tmp_path / "list.csv").write_text("Inv. Nr.;Artname;Bild;Bildlizenz;Schrank\n1;Acer campestre;;;4\n", "utf-8")
    (tmp_path / "abcd").mkdir()
    (tmp_path / "abcd/export.xml").write_text(document(pictured(1, "https://img.example/1.jpg")), "utf-8")
    page = (DOCS / "how-to-ingest.md").read_text("utf-8")
    for line in shown_lines(page) + shown_lines((DOCS / "reference-findings.md").read_text("utf-8")):
        words = shlex.split(line.replace("hortus/", "hortus"))[1:]
        named = any(word == "--source" for word in words)
        code = run([*words, *(["--source", "collection"] if words[0] == "ingest" and not named else [])])
        printed = capsys.readouterr()
        assert code == 0, f"{line}: {printed.out}{printed.err}"
        if "--guess-mapping" in words:
            drafted = tomllib.loads((tmp_path / "list.csv.mapping.toml").read_text("utf-8"))
            assert drafted == tomllib.loads(re.findall(r"```toml\n(.*?)```", page, re.DOTALL)[0])
        if "abcd" in words:
            assert "no change" in printed.out
        if "LICENSE_MISSING" in words:
            assert "2 finding(s)" in printed.out


def test_the_page_about_fronts_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every ``vasculum`` command of the page, after its settings; the curl lines run behind nginx, in the tier peer."""
    monkeypatch.chdir(tmp_path)
    address = "https://images.example.org"
    assert run(["init", "hortus", "--name", "Hortus", "--public-url", address, "--licence", ""]) == 0
    text = (DOCS / "how-to-proxy.md").read_text("utf-8")
    asked: dict[str, object] = {}
    for block in re.findall(r"```toml\n(.*?)```", text, re.DOTALL):
        asked |= tomllib.loads(block)["server"]
    assert set(asked) == {"host", "port", "trusted_proxies", "accel", "processes"}
    file = tmp_path / "hortus" / "node.toml"
    lines = "".join(f"{name} = {json.dumps(value)}\n" for name, value in asked.items() if name not in ("host", "port"))
    file.write_text(file.read_text("utf-8").replace("[server]\n", "[server]\n" + lines, 1), "utf-8")
    ran = 0
    for line in shown_lines(text):
        if line.startswith("vasculum "):
            capsys.readouterr()
            assert run(shlex.split(line)[1:]) == 0, line
            printed = capsys.readouterr().out
            after = text.partition(f"$ {line}\n")[2].partition("\n")[0]
            assert after in printed or after == "```", line
            ran += 1
        else:
            assert line.startswith("curl "), line
    assert ran == 3


def test_the_page_about_the_review_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every command of the page, in its order, over results as a job leaves them."""
    monkeypatch.chdir(tmp_path)

    def make(**options: str) -> NodeFolder:
        create_node(
            tmp_path / "hortus",
            NewNode(name="Hortus", public_url="http://127.0.0.1:8765", insecure_loopback=True, policy="open"),
            now=NOW,
        )
        return stack.enter_context(open_folder(tmp_path / "hortus"))

    said: dict[str, str] = {}
    with contextlib.ExitStack() as stack:
        world: ReviewWorld = review_world(make, tmp_path)
        results = {number: text_result(read_line(f"word{number}")) for number in range(6)}
        asyncio.run(world.run_job(results))
        job = asyncio.run(world.run_job({}, publish=False, offer=CODES))
        pipeline = world.statement(0).pipeline
        words = {"ID": world.statement(0).id, "ID2": world.statement(2).id, "DIGEST": pipeline[:24], "JOB": job}
        for text in shown_lines((DOCS / "how-to-review.md").read_text("utf-8")):
            with world.node.database.reader() as conn:
                rows = conn.execute("SELECT iri FROM review_sample_item ORDER BY iri").fetchall()
            words["SAMPLED"] = " ".join(row["iri"].rpartition("/")[2] for row in rows)
            filled = re.sub(r"\b(ID2|ID|DIGEST|JOB|SAMPLED)\b", lambda found: words[found[0]], text)
            capsys.readouterr()
            code = run(shlex.split(filled)[1:])
            printed = capsys.readouterr()
            assert code == 0, f"{filled}: {printed.out}{printed.err}"
            said[" ".join(text.split()[1:3]) + " " + " ".join(re.findall(r"--\w+", text))] = printed.out + printed.err
    assert "login?token=" in said["staff token --name"]
    assert "6 of 6 pending" in said["review list --state --class --min"]
    assert "word0" in said["review show "]
    assert "corrected" in said["review correct --line --field"]
    assert "6 new statements wait" in said["review take --job"]
    assert "sample 1: 3 of 4" in said["review sample --size --seed --pipeline --min"]
    assert "3 of 3 right" in said["review sample --show"]
    assert "by rule: 1 statements" in said["review accept --sample"]
    assert "nothing was changed" in said["retract hortus --pipeline"]
    assert "retracted as number 1" in said["retract hortus --pipeline --reason --yes"]
    assert "undone" in said["retract hortus --undo"]
    assert "next time: --since" in said["corrections export --since --out"]
    assert "X-0" in said["corrections export --since"]


def test_the_page_about_searching_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every command of the page; its predicate and its parameters are read, and it names every parameter there is."""
    hortus = next(item for item in collections.institutions() if item.folder == "hortus")
    tiny = dataclasses.replace(hortus, folder="export", sheets=hortus.sheets[:2])
    monkeypatch.setattr(collections, "institutions", lambda: (tiny,))
    collections.write_collections(tmp_path, tmp_path / "truth" / "truth.json", seed=1)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.delenv("VASCULUM_REGISTRY", raising=False)
    init = ["init", "hortus", "--name", "Hortus", "--public-url", "https://images.example.org", "--licence", "CC0"]
    assert run([*init, "--source", "herbarium"]) == 0
    assert run(["ingest", "hortus", "export", "--source", "herbarium"]) == 0
    text = (DOCS / "reference-search.md").read_text("utf-8")
    said: dict[str, str] = {}
    for line in shown_lines(text):
        words = shlex.split(line)[1:]
        capsys.readouterr()
        assert run(words) == 0, f"{line}: {capsys.readouterr()}"
        said[" ".join(words[:2])] = capsys.readouterr().out
    assert len(said) == 5
    assert [item["name"] for item in json.loads(said["selection list"])] == ["early-types", "not-german"]
    assert "hortus: 0 specimens, 0 images" in said["selection show"]
    assert "2 specimens indexed" in said["reindex hortus"]
    body = json.loads(re.findall(r"```json\n(.*?)```", text, re.DOTALL)[0])
    assert read_body(json.dumps(body).encode()).wanted.facets == ("family", "typeStatus")
    for where in re.findall(
        r"^\| `([^`]+)`(?:, `([^`]+)`)? \| [^|]+ \|$", text.partition("## Parameters")[0], re.MULTILINE
    ):
        for item in filter(None, where):
            if "=" in item or "~" in item:
                parse_where(item if item.count("=") > 1 and not item.startswith("q") else shlex.quote(item))
    table = text.partition("## Parameters")[2].partition("## Predicates")[0]
    assert set(re.findall(r"`([\w.]+)`", "".join(re.findall(r"^\| ([^|]+) \|", table, re.MULTILINE)))) == set(
        SEARCH_PARAMETERS
    )


BACKUP = "## Backup of the store"


def without_section(text: str, title: str) -> str:
    """A page without one of its sections; each has a test of its own."""
    before, found, after = text.partition(title)
    assert found, title
    return before + "".join(re.split(r"(?m)^(?=## )", after)[1:])


def test_the_backup_of_the_store_and_its_restore_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every command of that section; afterwards the node and both kinds of images are gone but for the backup."""
    hortus = next(item for item in collections.institutions() if item.folder == "hortus")
    tiny = dataclasses.replace(hortus, folder="export", sheets=hortus.sheets[:2])
    monkeypatch.setattr(collections, "institutions", lambda: (tiny,))
    collections.write_collections(tmp_path, tmp_path / "truth" / "truth.json", seed=1)
    monkeypatch.chdir(tmp_path)
    init = ["init", "hortus", "--name", "Hortus", "--public-url", "https://images.example.org", "--licence", "CC0"]
    assert run([*init, "--source", "herbarium"]) == 0
    assert run(["ingest", "hortus", "export"]) == 0
    (tmp_path / "own.jpg").write_bytes(b"an own copy")
    with open_folder(tmp_path / "hortus") as node:
        own = node.blobs.put_bytes(b"an own copy", now=NOW).id
        adopted = next(cid for cid in node.blobs.all_ids() if cid != own)
    page = (DOCS / "how-to-store.md").read_text("utf-8")
    rest = without_section(page, BACKUP)
    lines = [line for line in shown_lines(page) if line not in shown_lines(rest) or line.startswith("mkdir")]
    assert len(lines) == 12
    said: dict[str, str] = {}
    for line in lines:
        words = shlex.split(line)
        if words[0] != "vasculum":
            done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=True)
            assert not done.stdout + done.stderr, line
            continue
        if words[1] == "restore":  # everything but the backup is lost
            shutil.rmtree(tmp_path / "hortus")
            shutil.rmtree(tmp_path / "export")
        capsys.readouterr()
        code = run(words[1:])
        printed = capsys.readouterr()
        assert code == 0, f"{line}: {printed.out}{printed.err}"
        said[words[1]] = printed.out + printed.err
    assert "checked" in said["backup"]
    assert "2 files found" in said["volume"]
    assert "are indexed" in said["doctor"]
    assert "nothing is wrong" in said["fsck"]
    assert "3 of 3 files good" in said["scrub"]
    with open_folder(tmp_path / "hortus-again") as node:
        assert node.blobs.verify(own)
        assert node.blobs.verify(adopted)
        node.blobs.tree.path(own).unlink()
    assert run(["fsck", "hortus-again"]) == 1, "an own copy that was not copied back is said"
    assert "bytes-missing" in capsys.readouterr().out
    next((tmp_path / "herbarium-again" / "images").iterdir()).unlink()
    assert run(["fsck", "hortus-again"]) == 1
    assert "file-missing" in capsys.readouterr().out


def test_the_page_about_sensitive_taxa_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every command of the page, with its own list and settings: three of its taxa are among the sheets."""
    hortus = next(item for item in collections.institutions() if item.folder == "hortus")
    sheets = [sheet for sheet in hortus.sheets if sheet.name.startswith(("Cypripedium", "Trollius", "Quercus"))][:6]
    tiny = dataclasses.replace(hortus, folder="export", sheets=tuple(sheets))
    monkeypatch.setattr(collections, "institutions", lambda: (tiny,))
    collections.write_collections(tmp_path, tmp_path / "truth" / "truth.json", seed=1)
    monkeypatch.chdir(tmp_path)
    text = (DOCS / "how-to-protect-sensitive-taxa.md").read_text("utf-8")
    init = ["init", "hortus", "--name", "Hortus", "--public-url", "https://images.example.org", "--licence", "CC0"]
    assert run([*init, "--source", "herbarium"]) == 0
    written = re.findall(r"```csv\n(.*?)```", text, re.DOTALL)[0]
    (tmp_path / "hortus" / "sensitive-taxa.csv").write_text(written, "utf-8")
    protection, schedule, rules = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    file = tmp_path / "hortus" / "node.toml"
    table = "[sources.herbarium]\n"
    file.write_text(file.read_text("utf-8").replace(table, schedule) + "\n" + rules + "\n" + protection, "utf-8")
    settings = load_settings(tmp_path / "hortus")
    assert settings.sources["herbarium"].every_hours == 168
    assert len(settings.listed) == 3
    said: list[str] = []
    for line in shown_lines(text):
        words = shlex.split(line.replace("PLAN", "0" * 16))[1:]
        capsys.readouterr()
        assert run(words) == 0, f"{line}: {capsys.readouterr()}"
        said.append(" ".join(capsys.readouterr().out.split()))
    assert len(said) == 6
    hidden = sum(sheet.name.startswith(("Cypripedium", "Trollius")) for sheet in sheets)
    assert 0 < hidden < len(sheets)
    assert "3 on the list; 0 specimens are generalised" in said[0]
    assert f"3 on the list; {hidden} specimens are generalised" in said[2]
    public = (tmp_path / "public.csv").read_text("utf-8")
    for row in csv.DictReader(public.splitlines()):
        is_listed = row["scientific_name"].startswith(("Cypripedium", "Trollius"))
        assert bool(row["locality"]) is not is_listed
    assert run(["backup", "hortus", "hortus.backup"]) == 0
    assert run(["restore", "hortus.backup", "again"]) == 0
    assert len(load_settings(tmp_path / "again").listed) == 3, "a backup takes the list with it"


def test_the_page_about_content_ids_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every command of the page; its examples are those of the bytes ``hello world``."""
    monkeypatch.chdir(tmp_path)
    address = "https://images.example.org"
    assert run(["init", "hortus", "--name", "Hortus", "--public-url", address, "--licence", ""]) == 0
    (tmp_path / "sheet.jpg").write_bytes(b"hello world")
    text = (DOCS / "reference-content-ids.md").read_text("utf-8")
    ran = 0
    for line in shown_lines(text):
        capsys.readouterr()
        assert run(shlex.split(line)[1:]) == 0, line
        printed = capsys.readouterr().out
        for example in re.findall(r"`((?:ni:///|bafkrei|sha256-)\S{30,})`", text) if " id " in line else ():
            assert example in printed, f"{line}: {example}"
        ran += 1
    assert ran == 3


async def test_the_page_about_pictures_runs(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    make_node: Callable[..., NodeFolder],
) -> None:
    """Every command of the page; what curl asks for is asked of a served node."""
    node = make_node("hortus")
    data = jpeg(1, size=(1500, 1200))
    ingest(node, write_archive(tmp_path / "archive", rows_of(1), images=lambda number: data))
    monkeypatch.chdir(tmp_path)
    app = build_application(node, catalogue=Catalogue.of(()), clock=lambda: NOW)
    asked = ran = 0
    async with TestClient(TestServer(app)) as client:
        for line in shown_lines((DOCS / "reference-iiif.md").read_text("utf-8")):
            words = shlex.split(line.replace("/ID/", f"/{hashlib.sha256(data).hexdigest()}/"))
            if words[0] == "curl":
                address = words[-1].removeprefix("https://images.example.org")
                accept = words[2].removeprefix("Accept: ") if words[1] == "-H" else "*/*"
                answer = await client.get(address, headers={"Accept": accept})
                kinds = {
                    "json": accept if accept != "*/*" else "application/json",
                    "jpg": "image/jpeg",
                    "png": "image/png",
                }
                assert (answer.status, answer.content_type) == (200, kinds[address.rpartition(".")[2]]), line
                asked += 1
            else:
                assert await asyncio.to_thread(run, words[1:]) == 0, line
                ran += 1
    assert (asked, ran) == (4, 3)
    printed = capsys.readouterr().out
    assert "1 open images have their pyramid" in printed
    assert "1 pyramids with tiles of 512 pixels" in printed
    assert not list(node.settings.derived_path.glob("pyramids/*/*"))


def rot(path: Path) -> str:
    """Flips a bit as a failing disk does; returns the hash that the bytes had."""
    digest, before = hashlib.sha256(path.read_bytes()).hexdigest(), path.stat()
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    return digest


def test_every_endpoint_is_documented() -> None:
    text = (DOCS / "reference-interfaces.md").read_text("utf-8")
    from node.web import (
        blobs,
        descriptor_api,
        iiif,
        job_pages,
        jobs_api,
        listing_api,
        pages,
        presentation,
        records_api,
        review_pages,
        similar_api,
    )

    web = (
        similar_api,
        pages,
        blobs,
        iiif,
        records_api,
        presentation,
        listing_api,
        jobs_api,
        descriptor_api,
        job_pages,
        review_pages,
    )
    for module in web:
        for route in module.routes():
            path = re.sub(r"\{(\w+)(:(?:[^{}]|\{[^{}]*\})*)?\}", r"{\1}", route.path)
            start = path.split("{")[0]
            assert start in text or start.rstrip("/") in text or start.startswith(("/static", "/logout", "/hash:")), (
                path
            )


IMPORTED_AS = {
    "gbif-name-parser": "nameparser",
    "pillow": "PIL",
    "pyvips-binary": "pyvips",
    "opencv-python-headless": "cv2",
    "zxing-cpp": "zxingcpp",
}
"""Where the name to import is not the name of the package with underscores."""


def imports(path: Path, module: str) -> bool:
    """Whether a file imports a library, at its top or where it is used."""
    return re.search(rf"^\s*(import|from) {re.escape(module)}\b", path.read_text("utf-8"), re.MULTILINE) is not None


def requirement_name(requirement: str) -> str:
    return re.split(r"[<>=!~\[; ]", requirement)[0].lower()


def test_the_list_of_dependencies_equals_pyproject_and_each_is_used_and_tested() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    plain, _, extra = (DOCS / "dependencies.md").read_text("utf-8").partition("## Extras")
    rows = re.findall(r"^\| ([a-z0-9-]+) \| ([^|]+) \| `([^|`]+)` \| `([^|`]+)` \|$", plain, re.MULTILINE)
    assert [row[0] for row in rows] == sorted(requirement_name(item) for item in project["dependencies"])
    for package, why, place, test in rows:
        assert len(why) > 5
        assert place.split("/")[0] in ("cas", "linkeddata", "federation", "runners", "node"), place
        assert imports(ROOT / place, IMPORTED_AS.get(package, package.replace("-", "_"))), f"{place}: {package}"
        assert (ROOT / test).is_file(), test
    found = re.findall(r"^\| (\w+) \| ([a-z0-9-]+) \|(.*)\|$", extra, re.MULTILINE)
    wanted = [
        (name, requirement_name(item))
        for name, items in project["optional-dependencies"].items()
        for item in items
        if name != "dev"
    ]
    assert sorted((name, package) for name, package, _ in found if package != "package") == sorted(wanted)
    for requirement in project["optional-dependencies"]["dev"]:
        assert f"`{requirement_name(requirement)}`" in extra, requirement


def test_files_of_others_are_what_the_page_says() -> None:
    text = (DOCS / "dependencies.md").read_text("utf-8")
    rows = re.findall(r"^\| `(node/web/static/vendor/[^`]+)` .*`([0-9a-f]{64})` \|$", text, re.MULTILINE)
    folder = ROOT / "node" / "web" / "static" / "vendor"
    assert {path for path, _ in rows} == {f"node/web/static/vendor/{item.name}" for item in folder.glob("*.js")}
    for path, digest in rows:
        assert hashlib.sha256((ROOT / path).read_bytes()).hexdigest() == digest, path
    from node.web.pages import STATIC

    static = folder.parent
    kept = {str(item.relative_to(static)) for item in static.rglob("*") if item.is_file()}
    assert kept == set(STATIC), "every static file is served, and nothing else"


def test_extras_are_used_where_the_page_says() -> None:
    modules = [
        path for name in ("cas", "linkeddata", "federation", "runners", "node") for path in (ROOT / name).rglob("*.py")
    ]
    assert imports(ROOT / "node" / "kubo.py", "ipfshttpclient")
    assert imports(ROOT / "runners" / "pipelines" / "label_text.py", "rapidocr")  # which runs on onnxruntime
    users = {str(path.relative_to(ROOT)) for path in modules if imports(path, "torch")}
    assert users == {f"runners/training/{name}.py" for name in ("network", "segment", "export_embed")}
    assert "`runners/training/network.py`" in (DOCS / "dependencies.md").read_text("utf-8")


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


def test_no_page_holds_the_marks_of_an_unfinished_merge() -> None:
    marks = re.compile(r"^(<{7} |={7}$|>{7} )", re.MULTILINE)
    pages = [*DOCS.rglob("*.md"), *ROOT.glob("*.md"), ROOT / "node.toml"]
    assert len(pages) > 20
    assert [page.name for page in pages if marks.search(page.read_text("utf-8"))] == []
