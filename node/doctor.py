"""``vasculum doctor``: what is wrong with this node, in plain words.

Every check is a function from the folder to findings; none changes anything.
A *problem* stops the node or endangers data; a *warning* is worth a look; *ok* says what was looked at.
"""

import importlib.metadata
import json
import os
import shutil
import sqlite3
import stat
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal

from cas.errors import CasError, TierFailed
from cas.remote import RemoteBytes
from cas.store import BlobStore
from linkeddata.times import parse_time
from node.config import ConfigError, Settings, load_settings
from node.guard import FlatNameError, check_flat_names
from node.services.ingest_rules import RULES_PREFIX, outdated_sources
from node.services.new_bytes import RESCANNED
from node.services.schedule import SCHEDULE_PREFIX
from node.services.tiers import open_tiering
from node.setup import check_origin
from node.storage.db import connect, migrations, schema_version
from node.storage.luggage import FORM
from node.storage.records import TO_PURGE
from runners.catalogue import Catalogue
from runners.engine import read_manifests
from runners.pictures import check_decoder
from runners.sandbox import report_isolation

Level = Literal["ok", "warning", "problem"]
LOW_SPACE: Final = 0.05
"""Below this free share of the disk the node is at risk: SQLite cannot even delete on a full disk."""
_NETWORK_FILESYSTEMS: Final = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "fuse.sshfs", "9p"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing looked at."""

    level: Level
    about: str
    text: str


def examine(folder: Path, *, now: datetime) -> list[Finding]:
    """Looks at everything that can be looked at without changing anything."""
    findings = [*_program()]
    try:
        settings = load_settings(folder)
    except ConfigError as error:
        return [*findings, Finding(level="problem", about="settings", text=str(error))]
    findings.append(Finding(level="ok", about="settings", text=f"{folder / 'node.toml'} can be used"))
    checks: tuple[Callable[[Settings], Iterator[Finding]], ...] = (
        _keys, _database, _space, _sources, _volumes, _tiers, _pipelines, _policy, _server,
    )  # fmt: skip
    for check in checks:
        findings.extend(check(settings))
    findings.extend(_clock(settings, now))
    findings.extend(_isolation(settings))
    findings.extend(_pictures())
    return findings


def _program() -> Iterator[Finding]:
    try:
        parent = check_flat_names()
        yield Finding(level="ok", about="program", text=f"Python {sys.version.split()[0]}, packages from {parent}")
    except FlatNameError as error:
        yield Finding(level="problem", about="program", text=str(error))
    runtimes = [name for name in ("onnxruntime", "onnxruntime-gpu") if _installed(name)]
    if len(runtimes) == 2:
        yield Finding(
            level="problem",
            about="program",
            text="onnxruntime and onnxruntime-gpu are both installed and overwrite each other: uninstall one",
        )
    elif not runtimes:
        yield Finding(
            level="problem", about="program", text='no onnxruntime: install "vasculum[cpu]" or "vasculum[gpu]"'
        )
    else:
        yield Finding(level="ok", about="program", text=f"{runtimes[0]} {_installed(runtimes[0])}")
    from ctypes.util import find_library

    if find_library("zbar") is None:
        yield Finding(
            level="warning",
            about="program",
            text="libzbar is missing: barcodes are read by one reader instead of two (Debian: apt install libzbar0)",
        )


def _installed(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _keys(settings: Settings) -> Iterator[Finding]:
    path = settings.key_path
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except FileNotFoundError:
        yield Finding(
            level="problem", about="keys", text=f"{path} is missing: restore a backup, or use the recovery key"
        )
        return
    if mode & 0o077:
        yield Finding(level="problem", about="keys", text=f"{path} can be read by others: run chmod 600 {path}")
    else:
        yield Finding(level="ok", about="keys", text="the node's key is readable by its owner only")


def _database(settings: Settings) -> Iterator[Finding]:
    path = settings.database_path
    if not path.exists():
        yield Finding(level="problem", about="database", text=f"{path} is missing: restore a backup")
        return
    filesystem = _filesystem(path)
    if filesystem in _NETWORK_FILESYSTEMS:
        yield Finding(
            level="problem",
            about="database",
            text=f"{path} lies on a network drive ({filesystem}), where SQLite loses data: move it to a disk",
        )
    newest = migrations()[-1][0]
    try:
        version = schema_version(path)
        conn = connect(path, read_only=True)
        try:
            verdict = conn.execute("PRAGMA quick_check").fetchone()[0]
            wrong = check_origin(conn, settings.origin) if version else None
            stopped = (
                conn.execute("SELECT count(*) FROM ingest_run WHERE state = 'running'").fetchone()[0] if version else 0
            )
        finally:
            conn.close()
    except sqlite3.DatabaseError as error:
        yield Finding(level="problem", about="database", text=f"{path} is damaged ({error}): restore a backup")
        return
    if verdict != "ok":
        yield Finding(level="problem", about="database", text=f"{path} is damaged ({verdict}): restore a backup")
    elif version > newest:
        yield Finding(level="problem", about="database", text=f"schema {version} is newer than this program: update it")
    else:
        yield Finding(level="ok", about="database", text=f"sound, schema {version} of {newest}")
    if wrong:
        yield Finding(level="problem", about="settings", text=wrong)
    if stopped:
        yield Finding(
            level="warning",
            about="ingest",
            text="an ingest was interrupted or is running: `vasculum ingest` again goes on",
        )


def _filesystem(path: Path) -> str:
    """Type of the filesystem that holds ``path``, from the kernel's mount table; empty when unknown."""
    best, kind = "", ""
    try:
        lines = Path("/proc/self/mounts").read_text("utf-8").splitlines()
    except OSError:
        return ""
    target = str(path.resolve())
    for line in lines:
        parts = line.split(" ")
        if len(parts) > 2 and len(parts[1]) > len(best) and (target + "/").startswith(parts[1].rstrip("/") + "/"):
            best, kind = parts[1], parts[2]
    return kind


def _space(settings: Settings) -> Iterator[Finding]:
    usage = shutil.disk_usage(settings.folder)
    free = usage.free / usage.total
    text = f"{usage.free / 1e9:.1f} GB free where the node keeps its data ({free:.0%})"
    yield Finding(level="problem" if free < LOW_SPACE else "ok", about="disk", text=text)


def _sources(settings: Settings) -> Iterator[Finding]:
    for name, source in settings.sources.items():
        if source.path and not (settings.folder / source.path).exists():
            yield Finding(
                level="problem", about=f"source {name}", text=f"{source.path} does not exist (a drive not mounted?)"
            )
        if not source.licence and not source.access:
            yield Finding(
                level="ok",
                about=f"source {name}",
                text="images without a stated licence are restricted: they never leave",
            )
    digests = {row[0]: row[1] for row in _ask(settings, "SELECT key, value FROM meta")}
    sources = [row[0] for row in _ask(settings, "SELECT DISTINCT source FROM source_row ORDER BY source")]
    published = {name: digests.get(RULES_PREFIX + name) for name in sources}
    for name in outdated_sources(published, settings, version=importlib.metadata.version("vasculum")):
        yield Finding(
            level="warning",
            about=f"source {name}",
            text="settings that decide what is public (licence, access, sensitive taxa, limits) have changed, or an "
            "ingest stopped: what is published still follows the old ones until `vasculum ingest` runs again",
        )
    yield from _schedule(settings)
    rules = len(settings.sensitive_rules)
    if rules:
        found = _ask(settings, "SELECT count(*) FROM record WHERE kind = 'specimen' AND sensitive = 1")
        text = f"{rules} on the list; {found[0][0] if found else 0} specimens are generalised"
        yield Finding(level="ok", about="sensitive taxa", text=text)
    if TO_PURGE in digests:
        yield Finding(
            level="warning",
            about="sensitive taxa",
            text="nothing tells their places any more, but the files of the database still hold what was said before: "
            f"run `vasculum withdraw {settings.folder} --finish`",
        )
    yield from _quality(settings)
    yield from _originals(settings)
    yield from _replaced(settings)
    rows = _ask(settings, "SELECT code, count(*) FROM finding GROUP BY code ORDER BY 2 DESC LIMIT 5")
    for code, count in rows:
        yield Finding(
            level="warning", about="ingest", text=f"{count} x {code}: see `vasculum findings {settings.folder}`"
        )


def _schedule(settings: Settings) -> Iterator[Finding]:
    """Ingests that wait for a person, and sources that the schedule could not read."""
    for source, plan, summary in _ask(
        settings, "SELECT source, id, summary FROM ingest_plan WHERE accepted IS NULL ORDER BY created"
    ):
        known = settings.sources.get(source)
        place = "" if known is not None and known.path else "PATH "
        yield Finding(
            level="warning",
            about=f"source {source}",
            text=f"an ingest waits for a person: {json.loads(summary)['reason']}. If that is right, run "
            f"`vasculum ingest {settings.folder} {place}--source {source} --accept-plan {plan}`"
            + (" with the PATH that it read" if place else ""),
        )
    for key, value in _ask(settings, f"SELECT key, value FROM meta WHERE key LIKE '{SCHEDULE_PREFIX}%'"):  # noqa: S608
        turn = json.loads(value)
        if turn["state"] == "failed":
            yield Finding(
                level="warning",
                about=f"source {key.removeprefix(SCHEDULE_PREFIX)}",
                text=f"the schedule could not read it at {turn['at']}: {turn['text']}",
            )


def _quality(settings: Settings) -> Iterator[Finding]:
    """How completely specimens are digitised, and which flags most of them carry; nothing here is a fault."""
    levels = _ask(settings, "SELECT mids, count(*) FROM source_row WHERE state = 'present' GROUP BY mids ORDER BY mids")
    if levels:
        text = ", ".join(f"{count} at {'no level' if level is None else f'MIDS {level}'}" for level, count in levels)
        yield Finding(level="ok", about="records", text=text)
    flags = _ask(settings, "SELECT code, count(*) FROM record_issue GROUP BY code ORDER BY 2 DESC LIMIT 3")
    if flags:
        text = ", ".join(f"{count} x {code}" for code, count in flags)
        yield Finding(
            level="ok",
            about="records",
            text=f"most frequent issues: {text}; see `vasculum findings {settings.folder} --summary`",
        )


def _originals(settings: Settings) -> Iterator[Finding]:
    """Files that were not looked at are given out to nobody; that should not be for long."""
    if settings.images.originals_withheld_for == "nothing":
        return
    rows = _ask(
        settings,
        f"""SELECT count(DISTINCT image) FROM medium WHERE state = 'active' AND image IS NOT NULL
            AND image NOT IN (SELECT image FROM luggage WHERE form = {FORM:d})""",  # noqa: S608 - a number
    )
    if rows and rows[0][0]:
        yield Finding(
            level="warning",
            about="originals",
            text=f"the metadata of {rows[0][0]} files was not looked at yet, so the files are not given out: "
            f"run `vasculum images public-original {settings.folder}`",
        )


def _replaced(settings: Settings) -> Iterator[Finding]:
    """Images that were replaced, and that no pipeline of the node's own was queued for since."""
    rows = _ask(
        settings,
        f"""SELECT count(*) FROM pipeline_request p JOIN medium m ON m.iri = p.medium AND m.image = p.image
            WHERE m.state = 'active' AND p.reason = '{RESCANNED}'""",  # noqa: S608 - a constant
    )
    if rows and rows[0][0]:
        yield Finding(
            level="ok", about="images",
            text=f"{rows[0][0]} replaced images wait for the pipelines that on_new_images names; what was read before"
            " is marked meanwhile",
        )  # fmt: skip


def _volumes(settings: Settings) -> Iterator[Finding]:
    """Whether the trees of adopted images are there and still what was indexed."""
    if not (settings.blobs_path / "index.sqlite").exists():
        yield Finding(level="problem", about="images", text="the index of images is missing: restore a backup")
        return
    try:
        store = BlobStore.open(settings.blobs_path)
        try:
            problems, (count, size) = store.volume_problems(), store.counts()
            remote = list(_remote(settings, RemoteBytes(store)))
            drives = [
                (row.name, _filesystem(row.root)) for row in store.index.volumes().values() if row.identity == "inode"
            ]
        finally:
            store.close()
    except CasError as error:
        yield Finding(level="problem", about="images", text=str(error))
        return
    for problem in problems:
        yield Finding(level="problem", about="images", text=problem)
    yield from remote
    for name, kind in drives:
        if kind in _NETWORK_FILESYSTEMS:
            yield Finding(
                level="warning",
                about="images",
                text=f"volume {name} lies on a network drive ({kind}), which may renumber its files, and then none of"
                ' them is served: write identity = "size+mtime" where node.toml has this volume or source',
            )
    if not problems:
        yield Finding(level="ok", about="images", text=f"{count} images ({size / 1e6:,.0f} MB) are indexed")


def _remote(settings: Settings, remote: RemoteBytes) -> Iterator[Finding]:
    """Images that lie elsewhere: what failed, and whether there is room for what is to be kept."""
    usage, budget = remote.usage(), settings.remote.budget_gib << 30
    if not usage.addresses and not any(source.fetch == "on-need" for source in settings.sources.values()):
        return
    text = f"{usage.copies} copies of {usage.addresses} known addresses ({usage.bytes / 1e9:.1f} GB)"
    yield Finding(level="ok", about="remote images", text=text)
    if usage.failing:
        yield Finding(
            level="warning", about="remote images",
            text=f"{usage.failing} could not be fetched: see `vasculum fetch {settings.folder} --failed`",
        )  # fmt: skip
    free = shutil.disk_usage(settings.folder).free
    if budget and budget - usage.bytes > free:
        yield Finding(
            level="warning", about="remote images",
            text=f"[remote] budget_gib = {settings.remote.budget_gib} is more than the disk has room for "
            f"({free / 1e9:.1f} GB free): set it lower, so that old copies go in time",
        )  # fmt: skip


def _tiers(settings: Settings) -> Iterator[Finding]:
    """Whether the tiers can be used: their drive is there, their bucket answers."""
    if not settings.tiers or not (settings.blobs_path / "index.sqlite").exists():
        return
    try:
        store = BlobStore.open(settings.blobs_path)
    except CasError:
        return  # said by the check of the images
    try:
        tiering = open_tiering(settings, store, clock=lambda: datetime.now(UTC), environ=os.environ)
        for name, tier in tiering.tiers.items():
            about = f"tier {name}"
            is_used = bool(store.index.select("SELECT 1 FROM tier_location WHERE tier = ? LIMIT 1", name))
            try:
                next(iter(tier.list()), None)
                yield Finding(level="ok", about=about, text=f"{tier.where} can be used")
            except TierFailed as error:
                text = str(error) if is_used else f"not in use yet: {error}"
                yield Finding(level="problem" if is_used else "warning", about=about, text=text)
    finally:
        store.close()


def _ask(settings: Settings, sql: str) -> list[sqlite3.Row]:
    """Rows of the database; none when it is missing or damaged (which has its own finding)."""
    if not settings.database_path.exists():
        return []
    try:
        conn = connect(settings.database_path, read_only=True)
        try:
            return conn.execute(sql).fetchall()
        finally:
            conn.close()
    except sqlite3.DatabaseError:
        return []


def _pipelines(settings: Settings) -> Iterator[Finding]:
    """Manifests are read, so a model that is not there or a step whose giver is missing shows; nothing is started."""
    found, problems = read_manifests(Catalogue.of(settings.jobs.pipelines, models=settings.models_path))
    if found:
        yield Finding(level="ok", about="pipelines", text=", ".join(found))
    for name, problem in problems.items():
        yield Finding(level="problem", about="pipelines", text=f"{name} cannot run: {problem}")


def _policy(settings: Settings) -> Iterator[Finding]:
    preset, rules = settings.policy.preset, len(settings.policy.rules)
    if preset == "closed" and not rules:
        text = 'every job is refused; write preset = "reading" under [policy] to let enrolled researchers read labels'
    else:
        own = f"{rules} rules of your own before it" if rules else "no rules of your own"
        text = f'preset "{preset}", {own}'
    yield Finding(level="ok", about="policy", text=text)
    if settings.federation.insecure_loopback:
        yield Finding(
            level="warning",
            about="federation",
            text="insecure_loopback is on: a trial on this machine, nobody else can reach it",
        )


def _server(settings: Settings) -> Iterator[Finding]:
    if settings.server.host not in ("127.0.0.1", "::1", "localhost"):
        yield Finding(
            level="warning",
            about="server",
            text=f"the node listens on {settings.server.host} without TLS: put nginx or caddy in front of it",
        )
    if settings.server.port and settings.server.port < 1024 and os.geteuid() != 0:
        yield Finding(
            level="problem", about="server", text=f"port {settings.server.port} needs root: choose one above 1023"
        )


def _clock(settings: Settings, now: datetime) -> Iterator[Finding]:
    rows = _ask(settings, "SELECT max(at) FROM change")
    latest = rows[0][0] if rows else None
    if latest is not None and (parse_time(latest) - now).total_seconds() > 60:
        yield Finding(
            level="problem",
            about="clock",
            text=f"the clock says {now:%Y-%m-%d %H:%M} but something was published at {latest}: set the clock",
        )


def _isolation(settings: Settings) -> Iterator[Finding]:
    report = report_isolation()
    if report.is_enforced:
        yield Finding(level="ok", about="isolation", text=report.text)
    else:
        consequence = (
            "jobs on restricted images are refused"
            if settings.jobs.require_isolation
            else "jobs run all the same, because require_isolation is off"
        )
        yield Finding(level="problem", about="isolation", text=f"{report.text}; {consequence}")


def _pictures() -> Iterator[Finding]:
    problem = check_decoder()
    if problem:
        text = f"pictures cannot be decoded, so nobody can zoom: {problem}; reinstall pyvips and pyvips-binary"
        yield Finding(level="problem", about="pictures", text=text)
    else:
        version = _installed("pyvips-binary")
        yield Finding(level="ok", about="pictures", text=f"decoded in processes of their own (libvips {version})")
