"""A node whose tier is a bucket of a real S3 server: the commands of the page, a download by a visitor, a withdrawal."""

import asyncio
import json
import re
import shlex
from pathlib import Path

import pytest
from aiohttp.test_utils import TestClient, TestServer
from conftest import NOW, ROOT, ingest
from contracts.tier_places import NEEDS_S3_SERVER, S3_SERVER, BucketHooks, make_bucket, s3_server
from test_tiers import Make, ids_of, zipped

from cas.tier import key_of
from node.app import build_application
from node.cli.main import run
from node.web.keys import TIERS
from runners.catalogue import Catalogue

pytestmark = [pytest.mark.peer, pytest.mark.skipif(not S3_SERVER.exists(), reason=NEEDS_S3_SERVER)]


async def test_a_node_with_a_bucket(
    make_node: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with s3_server() as port:
        make_bucket(port, "hortus-images")
        node = make_node(
            "hortus",
            settings=f'[tiers.archive]\nbucket = "hortus-images"\nprefix = "node"\nendpoint = "http://127.0.0.1:{port}"\n',
        )
        keys = node.settings.folder / "keys" / "tier-archive.toml"
        keys.write_text('access_key_id = "id"\nsecret_access_key = "hush-hush"\n')
        keys.chmod(0o600)
        ingest(node, zipped(tmp_path / "export"))
        cid = ids_of(tmp_path / "export")["open"]
        data = (tmp_path / "export/images/0.jpg").read_bytes()
        behind = BucketHooks(port, "hortus-images", "node/")
        monkeypatch.chdir(tmp_path)
        page = (ROOT / "docs" / "how-to-store.md").read_text("utf-8")
        lines = [line for line in re.findall(r"^\$ (vasculum tier .*)$", page, re.MULTILINE) if "--all" not in line]
        assert len(lines) == 6
        for line in (*lines, "vasculum scrub hortus", "vasculum fsck hortus --read", f"{lines[3]} --json"):
            words = shlex.split(line.replace(" ID", f" {cid.hex}"))[1:]
            assert await asyncio.to_thread(run, words) == 0, (line, capsys.readouterr())
        assert behind._ask("GET", key_of(cid)) == data
        assert await asyncio.to_thread(run, ["doctor", "hortus"]) in (0, 1)
        assert f"s3://hortus-images/node at http://127.0.0.1:{port} can be used" in capsys.readouterr().out
        app = build_application(node, catalogue=Catalogue.of(()), clock=lambda: NOW)
        async with TestClient(TestServer(app, host="127.0.0.1")) as client:
            assert (await client.get(f"/cas/sha256/{cid.hex}")).status == 202
            assert (await asyncio.to_thread(app[TIERS].run_restores)).problems == ()
            answer = await client.get(f"/cas/sha256/{cid.hex}")
            assert (answer.status, await answer.read()) == (200, data)
        behind.flip(cid)
        assert await asyncio.to_thread(run, ["scrub", "hortus"]) == 1
        assert await asyncio.to_thread(run, ["repair", "hortus", cid.hex]) == 0
        assert behind._ask("GET", key_of(cid)) == data
        command = ["withdraw", "hortus", cid.hex, "--reason", "asked for", "--yes", "--json"]
        assert await asyncio.to_thread(run, command) == 0
        told = json.loads(capsys.readouterr().out.splitlines()[-1])
        assert (told["tiers"], told["pending"]) == (["archive"], "")
        with pytest.raises(AssertionError):
            behind._ask("GET", key_of(cid))
        assert await asyncio.to_thread(run, ["tier", "move", "hortus", "--to", "archive", "--all", "--go"]) == 0
    capsys.readouterr()
    assert await asyncio.to_thread(run, ["fsck", "hortus"]) == 1
    assert "tier:archive: cannot be checked" in capsys.readouterr().out, (
        "the server is gone: one finding, no conclusion"
    )
