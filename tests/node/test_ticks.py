"""The periodic work of a served node and of a registry really runs, again and again, and survives its own failures."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from aiohttp.test_utils import TestClient, TestServer
from conftest import NOW

from federation.identity import SigningKey
from node import app as application
from node import registry_app
from node.app import build_application
from node.folder import NodeFolder
from node.registry_app import REGISTRY, RegistrySettings, build_registry
from node.web.keys import JOBS
from runners.catalogue import Catalogue

Make = Callable[..., NodeFolder]
SOON_S = 0.02


async def test_jobs_are_looked_after_without_any_request_and_a_failure_ends_nothing(
    make_node: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What a command decided beside the server (`vasculum requests approve`) is found by the tick."""
    monkeypatch.setattr(application, "JOBS_TICK_S", SOON_S)
    app = build_application(make_node(), catalogue=Catalogue.of(()), clock=lambda: NOW)
    turns, enough = 0, asyncio.Event()

    async def poll() -> None:
        nonlocal turns
        turns += 1
        if turns == 2:
            raise RuntimeError("this turn fails")
        if turns == 4:
            enough.set()

    app[JOBS].poll = poll  # type: ignore[method-assign]
    async with TestClient(TestServer(app)), asyncio.timeout(30):
        await enough.wait()
    assert "it runs again at its next turn" in caplog.text


async def test_old_nonces_are_forgotten_by_the_clock(make_node: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    node, forgotten = make_node(), asyncio.Event()
    monkeypatch.setattr(application, "NONCES_TICK_S", SOON_S)
    real = application._forget_nonces

    async def noted(app) -> None:
        await real(app)
        forgotten.set()

    monkeypatch.setattr(application, "_forget_nonces", noted)
    kid = SigningKey.from_seed(b"r" * 32).kid
    with node.database.transaction() as conn:
        conn.execute("INSERT INTO nonce VALUES (?, 'old', ?)", (kid, int((NOW - timedelta(days=2)).timestamp())))
        conn.execute("INSERT INTO nonce VALUES (?, 'new', ?)", (kid, int((NOW + timedelta(minutes=2)).timestamp())))
    app = build_application(node, catalogue=Catalogue.of(()), clock=lambda: NOW)
    async with TestClient(TestServer(app)), asyncio.timeout(30):
        await forgotten.wait()
    with node.database.reader() as conn:
        assert [row["nonce"] for row in conn.execute("SELECT nonce FROM nonce")] == ["new"]


async def test_a_registry_pulls_again_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry_app, "_TICK_S", SOON_S)
    monkeypatch.setattr(registry_app, "_JITTER_S", 0)
    app = build_registry(RegistrySettings(folder=tmp_path / "r"), clock=lambda: NOW)
    enough, turns = asyncio.Event(), 0

    async def refresh() -> None:
        nonlocal turns
        turns += 1
        if turns == 2:
            enough.set()

    monkeypatch.setattr(app[REGISTRY], "refresh", refresh)
    async with TestClient(TestServer(app, host="127.0.0.1")), asyncio.timeout(30):
        await enough.wait()
