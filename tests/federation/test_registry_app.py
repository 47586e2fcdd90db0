"""The registry: pulls from origins, believes nothing else, survives restarts, and cannot be used against others."""

import json
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import aiohttp
import pytest
from aiohttp.test_utils import TestClient, TestServer
from federation_world import Clock, free_port, make_node, make_ports, serving

from federation.client import list_registry
from federation.http_transport import HttpTransport
from federation.identity import SigningKey
from federation.registry import after_failure, health, is_due, matches_summary, parse_node_list
from node.registry_app import REGISTRY, RegistryConfigError, RegistrySettings, build_registry, load_registry_settings
from node.services.registry_ping import PING_EVERY, Heartbeat, PingOutcome, registry_ping


@pytest.fixture
async def world(tmp_path: Path):
    clock = Clock()
    node = make_node(tmp_path / "n", clock=clock, port=free_port())
    node.add_sheet("s1")
    settings = RegistrySettings(folder=tmp_path / "r", insecure_loopback=True)
    app = build_registry(settings, clock=clock)
    async with serving(node), TestClient(TestServer(app, host="127.0.0.1")) as registry:
        yield node, registry, clock, settings


def address(registry: TestClient) -> str:
    return str(registry.make_url("")).rstrip("/")


async def test_a_pinged_node_is_listed_with_its_own_signature(world) -> None:
    node, registry, clock, settings = world
    assert "No node has announced itself yet" in await (await registry.get("/")).text()
    async with HttpTransport() as http:
        outcomes = await registry_ping(http, origin=node.origin, registries=[address(registry)])
        assert [(item.listed, item.detail) for item in outcomes] == [(True, "fresh")]
        listed = await list_registry(make_ports(http, SigningKey.create(), clock), address(registry))
    assert [item.origin for item in listed] == [node.origin]
    assert listed[0].envelope.to_json() == (await node.descriptor.current()).to_json()
    page = await (await registry.get("/")).text()
    assert node.origin in page
    assert "No node has" not in page
    assert "<script" not in page
    again = build_registry(settings, clock=clock)  # another process on the same folder
    assert [entry.origin for entry in await again[REGISTRY].entries()] == [node.origin]


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"[]", b"{}", b'{"origin": 1}', b'{"origin": "http://169.254.169.254"}', b'{"origin": "https://10.0.0.1"}',
        b'{"origin": "file:///etc/passwd"}', b'{"origin": "https://images.example.org/path"}',
        b'{"origin": "https://IMAGES.example.org"}', b'{"origin": "https://images.example.org:22"}', b"[" * 4000,
        b"x" * 5000, b'{"origin": "https://user@images.example.org"}',
    ],
)  # fmt: skip
async def test_bad_pings_are_refused(world, body: bytes) -> None:
    _, registry, _, _ = world
    async with registry.post("/ping", data=body) as response:
        assert 400 <= response.status < 500
        assert response.content_type == "application/problem+json"


async def test_one_post_makes_at_most_one_pull_a_minute(world) -> None:
    node, registry, clock, _ = world
    pulls: list[str] = []
    current = node.descriptor.current

    async def counted():
        pulls.append("x")
        return await current()

    node.descriptor.current = counted
    for _ in range(5):
        await registry.post("/ping", json={"origin": node.origin})
    assert len(pulls) == 1
    clock.forward(61)
    await registry.post("/ping", json={"origin": node.origin})
    assert len(pulls) == 2
    dead = f"http://127.0.0.1:{free_port()}"
    for _ in range(2):
        async with registry.post("/ping", json={"origin": dead}) as response:
            assert response.status == 422
            detail = (await response.json())["detail"]
    assert "tried less than a minute ago" in detail


async def test_pings_of_one_address_are_limited(world) -> None:
    _, registry, clock, _ = world
    statuses = [(await registry.post("/ping", json={})).status for _ in range(32)]
    assert statuses[:30] == [400] * 30
    assert statuses[30:] == [429, 429]
    clock.forward(61)
    assert (await registry.post("/ping", json={})).status == 400


async def test_a_node_cannot_register_another_origin(tmp_path: Path, world) -> None:
    node, registry, clock, _ = world
    other = make_node(tmp_path / "o", clock=clock, port=free_port(), seed=2)
    other.descriptor.current = node.descriptor.current  # serves the descriptor of somebody else
    async with serving(other), registry.post("/ping", json={"origin": other.origin}) as response:
        assert response.status == 422
        assert "is for" in (await response.json())["detail"]
    assert (await (await registry.get("/nodes")).json())["nodes"] == []


async def test_a_bad_answer_never_replaces_a_good_entry(tmp_path: Path, world) -> None:
    node, registry, clock, _ = world
    await registry.post("/ping", json={"origin": node.origin})
    await node.stop()
    thief = make_node(tmp_path / "thief", clock=clock, port=node.sock_port, seed=3)
    clock.forward(1000)
    async with serving(thief):
        async with registry.post("/ping", json={"origin": thief.origin}) as response:
            assert response.status == 422
            assert "key changed" in (await response.json())["detail"]
        document = await (await registry.get("/nodes")).json()
    line = document["nodes"][0]
    assert line["descriptor"] == (await node.descriptor.current()).to_json()
    assert "key changed" in line["problem"]
    assert line["lastSuccess"] == "2026-11-24T10:00:00Z"


async def test_entries_are_pulled_again_and_grow_stale(world) -> None:
    node, registry, clock, _ = world
    service = registry.server.app[REGISTRY]
    await registry.post("/ping", json={"origin": node.origin})
    assert await service.refresh() == 0
    clock.forward(16 * 60)
    assert await service.refresh() == 1
    await node.stop()
    clock.forward(25 * 3600)
    await service.refresh()
    entry = (await service.entries())[0]
    assert (entry.failures, health(entry.last_success, clock())) == (1, "stale")
    assert not is_due(entry, clock())
    assert is_due(entry, clock() + timedelta(minutes=31))
    worn = entry
    for _ in range(20):
        worn = after_failure(worn, "down", now=clock())
    assert is_due(worn, clock() + timedelta(hours=13))
    clock.forward(31 * 24 * 3600)
    assert (await (await registry.get("/nodes")).json())["nodes"][0]["health"] == "lost"


async def test_one_bad_line_hides_no_other_node(world) -> None:
    node, registry, _, _ = world
    await registry.post("/ping", json={"origin": node.origin})
    document = await (await registry.get("/nodes")).json()
    document["nodes"] = [None, {"origin": 1}, {"origin": "x", "descriptor": {}}, *document["nodes"]]
    assert [item.origin for item in parse_node_list(document)] == [node.origin]


async def test_summaries_leave_room_where_they_do_not_know(tmp_path: Path) -> None:
    from linkeddata.descriptor import parse_node_descriptor
    from linkeddata.json_strict import parse_json

    node = make_node(tmp_path / "n", clock=Clock())
    node.add_sheet("s1", kingdom="Animalia")
    found = parse_node_descriptor(parse_json((await node.descriptor.current()).payload))
    assert matches_summary(found, ())
    assert matches_summary(found, ("animalia",))
    assert not matches_summary(found, ("Plantae",))
    node.database.close()


@pytest.mark.parametrize(
    "text", ["nme = 'x'", "port = 'x'", "port = 99999", "insecure_loopback = true\nhost = '0.0.0.0'", "= ="]
)
def test_bad_settings_are_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "registry.toml").write_text(text)
    with pytest.raises(RegistryConfigError):
        load_registry_settings(tmp_path)
    with pytest.raises(RegistryConfigError, match="registry init"):
        load_registry_settings(tmp_path / "none")


async def test_a_registry_that_is_down_is_an_outcome(world) -> None:
    async with HttpTransport() as http:
        outcomes = await registry_ping(
            http, origin="https://x.example.org", registries=[f"http://127.0.0.1:{free_port()}"]
        )
    assert [item.listed for item in outcomes] == [False]
    assert json.dumps(outcomes[0].detail)
    assert aiohttp.__version__


def test_a_ping_that_was_not_followed_by_a_listing_is_tried_again_soon() -> None:
    now = Clock()()
    heartbeat = Heartbeat(["https://a.example.org", "https://b.example.org"])
    assert heartbeat.due(now) == [], "the node does not listen yet"
    heartbeat.begin()
    assert heartbeat.due(now) == ["https://a.example.org", "https://b.example.org"]
    good = PingOutcome(registry="https://a.example.org", listed=True, detail="fresh")
    poor = PingOutcome(registry="https://b.example.org", listed=False, detail="cannot connect")
    heartbeat.after([good, poor], now=now)
    assert heartbeat.due(now + timedelta(seconds=4)) == []
    asked, at = [], now
    for _ in range(12):
        while heartbeat.due(at) != ["https://b.example.org"]:
            at += timedelta(seconds=1)
            if heartbeat.due(at) == ["https://a.example.org", "https://b.example.org"]:
                break
            if heartbeat.due(at) == ["https://a.example.org"]:
                heartbeat.after([good], now=at)
        asked.append(at)
        heartbeat.after([poor], now=at)
    pauses = [later - earlier for earlier, later in pairwise([now, *asked])]
    assert pauses[:4] == [timedelta(seconds=5 * 2**turn) for turn in range(4)]
    assert max(pauses) == PING_EVERY
    heartbeat.after([PingOutcome(registry="https://b.example.org", listed=True, detail="fresh")], now=at)
    assert "https://b.example.org" not in heartbeat.due(at + PING_EVERY - timedelta(seconds=1))
