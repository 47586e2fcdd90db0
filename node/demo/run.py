"""The demo's course: processes, the one job, the comparison with the truth, the count outside the nodes.

Every step goes through the real command line in processes of its own, as an institution and a researcher would do it.

Invariants:
- Whatever ends the demo, no process of it stays behind.
- A given collection folder is only read: its images are adopted in place.
"""

import asyncio
import contextlib
import json
import os
import secrets
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from node.demo import collections
from node.demo.leaks import LeakFinder
from node.demo.relay import Relay
from node.demo.truth import Score, Truth, drawn_truth, real_truth, score
from node.storage.db import connect

SEED: Final = 20261124
HANGS_S: Final = 1800.0
"""Ends a step that hangs. A step whose process has ended fails at once, so a slow machine may take its time."""
JOB_HANGS_S: Final = 7200.0
WORD_EVERY_S: Final = 30.0
"""How often a step that takes long says what it waits for."""
Say = Callable[[str], None]


class DemoFailed(Exception):
    """A step did not work; the message holds what its command said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoNode:
    """One institution of the demo."""

    name: str
    folder: Path
    archive: Path
    origin: str
    port: int


@dataclass(slots=True, kw_only=True)
class DemoResult:
    """What came out."""

    nodes: int
    images: int
    units_done: int = 0
    units_failed: int = 0
    annotations: int = 0
    matches: list[dict[str, Any]] = field(default_factory=list)
    score: Score
    codes: list[dict[str, Any]] = field(default_factory=list)
    codes_known: int = 0
    codes_found: int = 0
    counts: Any = field(default_factory=dict)
    """Per node and step: yes, no, cannot tell, and why."""
    image_bytes_left: int = 0
    bytes_passed: int = 0
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """The one object of ``--json``."""
        return {
            "nodes": self.nodes, "images": self.images, "units_done": self.units_done,
            "units_failed": self.units_failed, "annotations": self.annotations, "matches": self.matches,
            "found": len(self.score.found), "missed": len(self.score.missed), "false": len(self.score.false),
            "image_bytes_left": self.image_bytes_left, "seconds": round(self.seconds, 1),
            "missed_files": list(self.score.missed), "false_files": list(self.score.false),
            "unjudged_files": list(self.score.unjudged), "barcodes_known": self.codes_known,
            "barcodes_found": self.codes_found, "bytes_passed": self.bytes_passed, "counts": self.counts,
        }  # fmt: skip


class Demo:
    """One run; use ``run`` once."""

    def __init__(
        self, root: Path, *, data: Path | None, say: Say, is_quiet: bool, pipelines: Sequence[str] = ()
    ) -> None:
        self._root = root
        self._data = data
        self._say = say
        self._is_quiet = is_quiet
        self._pipelines = tuple(pipelines)
        self._relay = Relay()
        self._processes: list[asyncio.subprocess.Process] = []
        self._nodes: list[DemoNode] = []
        self._registry = ""
        self.truth: Truth | None = None

    @property
    def names(self) -> dict[str, str]:
        """Origin -> name of each node."""
        return {node.origin: node.name for node in self._nodes}

    async def run(self) -> DemoResult:
        """Everything up to the counted answer; the nodes keep running until ``close``."""
        started = time.monotonic()
        self._prepare_collections()
        await self._start_registry()
        for institution in self._institutions():
            await self._start_node(*institution)
        key = await self._enrol()
        await asyncio.gather(*(self._serve(node) for node in self._nodes))
        await self._wait_for_registry()
        answer = await self._ask(key)
        images = self._images()
        result = await self._result(answer, len(images))
        self._relay.stop_capturing()
        finder = await asyncio.to_thread(LeakFinder.of_files, images)
        result.image_bytes_left = await asyncio.to_thread(self._relay.count_leaks, finder)
        result.bytes_passed = self._relay.bytes_passed
        result.seconds = time.monotonic() - started
        return result

    async def close(self) -> None:
        """Ends every process and the relay."""
        for process in reversed(self._processes):
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
        for process in self._processes:
            try:
                async with asyncio.timeout(15):
                    await process.wait()
            except TimeoutError:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
        await self._relay.close()

    async def pages(self, result: DemoResult) -> list[tuple[str, str]]:
        """Addresses worth opening: (what, address)."""
        found = [("registry", self._registry + "/")]
        found.extend((node.name, node.origin + "/") for node in self._nodes)
        if result.matches:
            found.append(("a specimen that matched", result.matches[0]["specimen"]))
        for node in self._nodes[:1]:
            login = await self._command("staff", "token", str(node.folder))
            found.append((f"staff of {node.name} (works once, 10 minutes)", login.strip()))
        return found

    # ------------------------------------------------------------------ steps
    def _prepare_collections(self) -> None:
        if self._data is not None:
            self._say(f"collections: {self._data} (read in place, never written to)")
            self.truth = real_truth(self._data / "truth")
            return
        truth_path = self._root / "truth" / "truth.json"
        count = collections.write_collections(self._root / "collections", truth_path, seed=SEED)
        self._say(f"collections: {count} images drawn for three institutions")
        self.truth = drawn_truth(truth_path, collections.QUESTION)

    def _institutions(self) -> list[tuple[str, str, Path]]:
        if self._data is None:
            return [
                (item.folder, item.name, self._root / "collections" / item.folder)
                for item in collections.institutions()
            ]
        return [
            (name, title, self._data / name)
            for name, title in (("herbarium", "The herbarium"), ("insects", "The insects"), ("zoology", "The zoology"))
        ]

    async def _start_registry(self) -> None:
        port, folder = _free_port(), self._root / "registry"
        self._registry = f"http://127.0.0.1:{await self._relay.open('registry', port)}"
        await self._command(
            "registry", "init", str(folder), "--name", "Demo registry", "--port", str(port), "--insecure-loopback"
        )
        await self._start("registry", "serve", str(folder), "--json", until=b"{")
        self._say(f"registry: {self._registry}")

    async def _start_node(self, folder_name: str, title: str, archive: Path) -> None:
        port, folder = _free_port(), self._root / "nodes" / folder_name
        origin = f"http://127.0.0.1:{await self._relay.open(folder_name, port)}"
        await self._command(
            "init", str(folder), "--name", title, "--public-url", origin, "--port", str(port), "--licence", "",
            "--contact", f"collections@{folder_name}.example", "--policy", "reading", "--source", folder_name,
            "--registry", self._registry, "--insecure-loopback",
        )  # fmt: skip
        settings = (folder / "node.toml").read_text("utf-8").replace("[jobs]\n", _DEMO_JOBS, 1)
        (folder / "node.toml").write_text(settings + _DEMO_RULE, "utf-8")
        node = DemoNode(name=title, folder=folder, archive=archive, origin=origin, port=port)
        self._nodes.append(node)
        said = await self._command("ingest", str(folder), str(archive))
        self._say(f"{title}: {said.strip().splitlines()[0].removeprefix(f'{folder_name}: ')}")

    async def _enrol(self) -> Path:
        key = self._root / "researcher" / "researcher.key"
        key.parent.mkdir(parents=True, exist_ok=True)
        await self._command("key", "new", "--key", str(key))
        kid = json.loads(await self._command("key", "show", "--key", str(key), "--json"))["kid"]
        for node in self._nodes:
            await self._command("researchers", "add", str(node.folder), kid, "--name", "Demo researcher")
        return key

    async def _serve(self, node: DemoNode) -> None:
        await self._start("serve", str(node.folder), until=b": serving")
        self._say(f"{node.name}: {node.origin}")

    async def _wait_for_registry(self) -> None:
        deadline, next_word = time.monotonic() + HANGS_S, time.monotonic() + WORD_EVERY_S
        said = ""
        while time.monotonic() < deadline:
            if any(process.returncode is not None for process in self._processes):
                raise DemoFailed(f"a registry or node ended: {said}\n{self._last_words()}")
            try:
                listing = json.loads(await self._command("nodes", "--registry", self._registry, "--json"))
                if len(listing["nodes"]) >= len(self._nodes):
                    return
                said = f"{len(listing['nodes'])} listed; {'; '.join(listing['problems'])}"
            except DemoFailed as error:
                said = str(error)
            if time.monotonic() > next_word:
                next_word += WORD_EVERY_S
                self._say(f"waiting until the registry lists all nodes: {said}")
            await asyncio.sleep(0.5)
        raise DemoFailed(f"the registry did not list all nodes in time: {said}\n{self._last_words()}")

    def _last_words(self) -> str:
        """The ends of what registry and nodes logged."""
        logs = sorted(self._root.glob("*.log"))
        return "\n".join(f"{path.name}: {path.read_text('utf-8', 'replace')[-600:]}" for path in logs)

    async def _ask(self, key: Path) -> dict[str, Any]:
        question = self.truth.question if self.truth else ""
        handle = self._root / "researcher" / "job.json"
        self._say(f"\nthe job: label-text and barcode at {len(self._nodes)} nodes, question {question}\n")
        arguments = [
            "job", "submit", "label-text,barcode", "--registry", self._registry, "--match", question, "--publish",
            "--purpose", "the Vasculum demo", "--name", "Demo researcher", "--yes", "--handle", str(handle),
            "--key", str(key),
        ]  # fmt: skip
        await self._command(*arguments, is_shown=not self._is_quiet, timeout_s=JOB_HANGS_S)
        text = await self._command("job", "results", str(handle), "--format", "json", "--key", str(key))
        answer: dict[str, Any] = json.loads(text)
        return answer

    async def _result(self, answer: dict[str, Any], images: int) -> DemoResult:
        truth = self.truth
        if truth is None:
            raise DemoFailed("there is no truth to compare with")
        rows: list[dict[str, Any]] = answer["rows"]
        files = await self._file_names(rows)
        matches: list[dict[str, Any]] = []
        for row in rows:
            if row["step"] == "label-text/1" and row["answer"] == "yes":
                best = row["matches"][0] if row["matches"] else {}
                matches.append(
                    {
                        "node": row["node"], "specimen": row["specimen"], "image": row["image"],
                        "text": best.get("text", ""), "score": best.get("score", ""),
                        "file": files.get(row["medium"], ""),
                        "boxes": [tuple(item["box"]) for item in row["matches"]],
                    }
                )  # fmt: skip
        codes: list[dict[str, Any]] = []
        found: dict[str, set[str]] = {}
        for row in rows:
            for code in row["values"].get("codes", []) if row["step"] == "barcode/1" else []:
                name = files.get(row["medium"], "")
                found.setdefault(name, set()).add(code["payload"])
                expected = truth.codes.get(name, frozenset())
                verdict = "as in the truth" if code["payload"] in expected else "extra"
                codes.append(
                    {"file": name, "payload": code["payload"], "symbology": code["symbology"], "verdict": verdict}
                )
        known = sum(len(expected) for expected in truth.codes.values())
        right = sum(len(expected & found.get(name, set())) for name, expected in truth.codes.items())
        failed = sum(
            row["answer"] == "cannot tell" and not row["matches"] and row["reason"].startswith("failed") for row in rows
        )
        return DemoResult(
            nodes=len(self._nodes), images=images, units_done=len(rows) - failed, units_failed=failed,
            annotations=await self._count_annotations(), matches=matches,
            score=score(truth, {match["file"]: match["boxes"] for match in matches}), codes=codes, codes_known=known,
            codes_found=right, counts=answer.get("counts", {}),
        )  # fmt: skip

    def _images(self) -> list[Path]:
        """Every image file that a node holds."""
        found: list[Path] = []
        for node in self._nodes:
            conn = connect(node.folder / "data" / "node.sqlite", read_only=True)
            try:
                rows = conn.execute("SELECT locator FROM medium WHERE image IS NOT NULL").fetchall()
            finally:
                conn.close()
            found.extend(node.archive / row["locator"] for row in rows)
        return sorted(found)

    async def _file_names(self, rows: list[dict[str, Any]]) -> dict[str, str]:
        """Medium -> file name, from the institutions' own databases (the demo owns them; results do not name files)."""
        names: dict[str, str] = {}
        for node in self._nodes:
            conn = connect(node.folder / "data" / "node.sqlite", read_only=True)
            try:
                for row in conn.execute("SELECT iri, locator FROM medium"):
                    names[row["iri"]] = Path(row["locator"]).name
            finally:
                conn.close()
        return {row["medium"]: names.get(row["medium"], "") for row in rows}

    async def _count_annotations(self) -> int:
        total = 0
        for node in self._nodes:
            conn = connect(node.folder / "data" / "node.sqlite", read_only=True)
            try:
                total += int(conn.execute("SELECT count(*) FROM annotation WHERE state = 'current'").fetchone()[0])
            finally:
                conn.close()
        return total

    # ------------------------------------------------------------------ processes
    async def _command(self, *arguments: str, is_shown: bool = False, timeout_s: float = HANGS_S) -> str:
        process = await asyncio.create_subprocess_exec(
            *_program(), *arguments, stdin=asyncio.subprocess.DEVNULL,
            stdout=None if is_shown else asyncio.subprocess.PIPE, stderr=None if is_shown else asyncio.subprocess.PIPE,
            env=self._environment(),
        )  # fmt: skip
        try:
            async with asyncio.timeout(timeout_s):
                out, err = await process.communicate()
        except (TimeoutError, asyncio.CancelledError) as error:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
            if isinstance(error, TimeoutError):
                raise DemoFailed(f"vasculum {' '.join(arguments[:3])} did not end in {timeout_s:g} s") from error
            raise
        if process.returncode != 0:
            said = (err or out or b"").decode("utf-8", "replace").strip()
            raise DemoFailed(f"vasculum {' '.join(arguments[:3])} failed ({process.returncode}): {said[-1500:]}")
        return (out or b"").decode("utf-8", "replace")

    async def _start(self, *arguments: str, until: bytes) -> None:
        log = self._root / f"{'-'.join(part for part in arguments if '/' not in part)}-{secrets.token_hex(3)}.log"
        with log.open("wb") as stream:
            process = await asyncio.create_subprocess_exec(
                *_program(), *arguments, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
                stderr=stream, env=self._environment(),
            )  # fmt: skip
        self._processes.append(process)
        assert process.stdout is not None
        try:
            async with asyncio.timeout(HANGS_S):
                async for line in process.stdout:
                    if until in line:
                        break
                else:
                    raise DemoFailed(f"vasculum {' '.join(arguments[:2])} ended: {log.read_text('utf-8')[-1500:]}")
        except TimeoutError as error:
            raise DemoFailed(f"vasculum {' '.join(arguments[:2])} was not ready in {HANGS_S:g} s") from error

    def _environment(self) -> dict[str, str]:
        return {**os.environ, "PYTHONUNBUFFERED": "1", "ORT_DISABLE_TELEMETRY": "1"}


_DEMO_JOBS: Final = """[jobs]
# For the demo: three nodes share one machine, which may be slow.
unit_timeout_s = 1200
lease_s = 7200
"""

_DEMO_RULE: Final = """
# For the demo: results may be published as annotations (only those of open images are).
[[policy.rules]]
decide = "accept"
requesters = ["enrolled"]
steps = ["label-text/1", "barcode/1"]
access = ["open", "restricted"]
publish = true
reason = "the demo"
"""


@contextlib.asynccontextmanager
async def running_demo(root: Path, *, data: Path | None, say: Say, is_quiet: bool) -> AsyncIterator[Demo]:
    """A demo that is ended whatever happens."""
    demo = Demo(root, data=data, say=say, is_quiet=is_quiet)
    try:
        yield demo
    finally:
        await demo.close()


def _program() -> list[str]:
    return [sys.executable, "-P", "-m", "node.cli.main"]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
