"""Two whole nodes with real workers, a registry and the command line: the pipeline ``quality`` on drawn pictures."""

import asyncio
import contextlib
import io
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from federation_world import free_port
from PIL import Image

from cas.ids import ContentId
from federation.identity import SigningKey
from linkeddata.access import AccessClass
from node.app import build_application
from node.cli.main import run
from node.folder import open_folder
from node.registry_app import RegistrySettings, build_registry
from node.setup import NewNode, create_node
from node.storage import records
from node.storage.people import enrol
from node.storage.search_index import index_specimen
from runners.catalogue import Catalogue


def picture(number: int) -> bytes:
    image = Image.effect_noise((800, 700), 60 + number).convert("RGB")
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


@contextlib.asynccontextmanager
async def whole_node(folder: Path, name: str, researcher: str, registry: str) -> AsyncIterator[str]:
    port = free_port()
    origin, now = f"http://127.0.0.1:{port}", datetime.now(UTC)
    create_node(
        folder,
        NewNode(name=name, public_url=origin, policy="open", port=port, insecure_loopback=True, registries=(registry,)),
        now=now,
    )
    with open_folder(folder) as opened:
        with opened.database.transaction() as conn:
            enrol(conn, researcher, "R", note="", now=now)
        for number in range(3):
            data = picture(number) if number < 2 else b"\x89PNG\r\n\x1a\n truncated"
            stored = opened.blobs.put_bytes(data, now=now)
            add(opened.database, origin, f"{name}-{number}", stored.id, now)
        app = build_application(opened, catalogue=Catalogue.of(("quality",)), clock=lambda: datetime.now(UTC))
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        try:
            yield origin
        finally:
            await runner.cleanup()


def add(database, origin: str, name: str, image: ContentId, now: datetime) -> None:
    specimen, medium = f"{origin}/specimen/{name}", f"{origin}/media/{name}"
    with database.transaction() as conn:
        for kind, iri in (("specimen", specimen), ("medium", medium)):
            body = {"@id": iri, "dwc:kingdom": "Plantae"}
            records.publish(conn, records.NewRecord(kind=kind, iri=iri, body=body, access=AccessClass.OPEN), now=now)
        conn.execute(
            "INSERT INTO medium (iri, source, key, image, size_bytes, access, version) VALUES (?, 't', ?, ?, 1, 0, 1)",
            (medium, name, image.hex),
        )
        conn.execute("INSERT INTO medium_specimen VALUES (?, ?, 0)", (medium, specimen))
        index_specimen(conn, specimen)


async def test_two_nodes_compute_and_publish(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for variable in ("XDG_CONFIG_HOME", "XDG_STATE_HOME", "HOME"):
        monkeypatch.setenv(variable, str(tmp_path / "home"))
    key = SigningKey.create()
    key.save(tmp_path / "r.key")
    monkeypatch.setenv("VASCULUM_KEY", str(tmp_path / "r.key"))
    index = build_registry(
        RegistrySettings(folder=tmp_path / "index", insecure_loopback=True), clock=lambda: datetime.now(UTC)
    )
    async with TestServer(index, host="127.0.0.1") as server:
        registry = str(server.make_url("")).rstrip("/")
        async with (
            whole_node(tmp_path / "a", "A", key.kid, registry) as first,
            whole_node(tmp_path / "b", "B", key.kid, registry) as second,
        ):
            arguments = ["--node", first, "--node", second, "--publish", "--yes", "--json"]
            code = await asyncio.to_thread(run, ["job", "submit", "quality", *arguments])
            captured = capsys.readouterr()
            assert code == 0, captured.err
            answer = json.loads(captured.out)
    assert {item["origin"] for item in answer["answered"]} == {first, second}
    total = answer["totals"][0]
    assert (total["yes"] + total["no"], total["cannotTell"], total["pending"]) == (4, 2, 0)
    assert sum(total["reasons"].values()) == 2
    assert {row["conformance"] for row in answer["rows"] if row["answer"] != "cannot tell"} == {"pass"}
    for name in ("a", "b"):
        with open_folder(tmp_path / name) as opened, opened.database.reader() as conn:
            assert conn.execute("SELECT count(*) FROM annotation WHERE state = 'current'").fetchone()[0] == 2
