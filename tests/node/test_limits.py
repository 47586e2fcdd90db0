"""Limits for strangers: counted by address and block, fair among the waiting, blind to what visitors claim."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from aiohttp.test_utils import TestClient, TestServer
from conftest import NOW, ingest, jpeg, rows_of, write_archive
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from cas.ids import ContentId
from node.app import build_application
from node.config import ConfigError, LimitsSection, parse_settings
from node.folder import NodeFolder
from node.web import gate as gate_module
from node.web.gate import Gate
from node.web.limits import LIMITS, VisitorLimits, keys_of
from node.web.rates import Allowance, Counter, Rates
from node.web.session import make_token
from runners.catalogue import Catalogue


# ---------------------------------------------------------------------- counting
def test_a_minute_is_a_minute_and_then_it_flows() -> None:
    rates = Rates(Allowance(requests_per_minute=60))
    counter, refused = rates.counter("a"), 0
    for _ in range(100):
        if rates.excess(counter, 1000.0) is None:
            rates.begin(counter, 1000.0)
            rates.end(counter, 1000.0, 0)
        else:
            refused += 1
    assert refused == 40
    excess = rates.excess(counter, 1000.0)
    assert excess is not None
    assert excess.retry_after_s == pytest.approx(1.0)
    assert rates.excess(counter, 1001.01) is None


def test_bytes_and_what_is_under_way() -> None:
    rates = Rates(Allowance(bytes_per_day=86_400, concurrent=2))
    counter = rates.counter("a")
    rates.begin(counter, 0.0)
    rates.begin(counter, 0.0)
    assert rates.excess(counter, 0.0) is not None
    rates.end(counter, 0.0, 100_000)
    excess = rates.excess(counter, 0.0)
    assert excess is not None
    assert excess.retry_after_s == pytest.approx(13_600)
    assert rates.excess(counter, 13_601.0) is None


@given(st.lists(st.integers(0, 400), max_size=300))
def test_memory_is_fixed_and_what_is_kept_was_used_last(keys: list[int]) -> None:
    rates = Rates(Allowance(concurrent=1), most=16)
    for key in keys:
        rates.counter(str(key))
    assert len(rates) <= 16
    last = list(dict.fromkeys(reversed(keys)))[:16]
    before = len(rates)
    for key in last:
        rates.counter(str(key))
    assert len(rates) == before


def test_nothing_is_limited_where_everything_is_zero() -> None:
    rates = Rates(Allowance())
    counter = Counter()
    for _ in range(10_000):
        assert rates.excess(counter, 0.0) is None
        rates.begin(counter, 0.0)


# ---------------------------------------------------------------------- who asks
@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("192.0.2.77", ("192.0.2.77", "192.0.2")),
        ("::ffff:192.0.2.77", ("192.0.2.77", "192.0.2")),
        ("2001:db8:1:2:3:4:5:6", ("20010db800010002", "20010db80001")),
        ("fe80::1%eth0", ("fe80000000000000", "fe8000000000")),
        ("127.0.0.1", None),
        ("::1", None),
    ],
)
def test_an_address_and_its_block(text: str, keys: tuple[str, str] | None) -> None:
    assert keys_of(text) == keys


def visitor(peer: str, *forwarded: str, trusted: tuple[str, ...] = ()) -> tuple[str, str] | None:
    headers = CIMultiDict([("X-Forwarded-For", value) for value in forwarded])
    request = SimpleNamespace(remote=peer, headers=headers, get=lambda key: None)
    return VisitorLimits(LimitsSection(), trusted).visitor(request)  # type: ignore[arg-type]


def test_who_writes_the_header_himself_changes_nothing() -> None:
    front = ("127.0.0.1", "10.0.0.0/8")
    # Nobody is believed, unless the settings say so.
    assert visitor("192.0.2.1", "198.51.100.9") == ("192.0.2.1", "192.0.2")
    assert visitor("127.0.0.1", "198.51.100.9") is None
    assert visitor("192.0.2.1", "198.51.100.9", trusted=front) == ("192.0.2.1", "192.0.2")
    # The front appends the address it saw; what stood before it is the visitor's own invention.
    assert visitor("127.0.0.1", "198.51.100.9", trusted=front) == ("198.51.100.9", "198.51.100")
    for invented in ("203.0.113.5", "127.0.0.1", "10.1.1.1", "nonsense", "", "1.2.3.4, 5.6.7.8", "," * 5000):
        assert visitor("127.0.0.1", f"{invented}, 198.51.100.9", trusted=front) == ("198.51.100.9", "198.51.100")
        assert visitor("127.0.0.1", invented, "198.51.100.9, 10.2.3.4", trusted=front) == ("198.51.100.9", "198.51.100")
    assert visitor("127.0.0.1", "198.51.100.9:4711", trusted=front) == ("198.51.100.9", "198.51.100")
    assert visitor("127.0.0.1", "[2001:db8::1]:80", trusted=front) == ("20010db800000000", "20010db80000")
    # A front that passes rubbish on: counted together, never free.
    assert visitor("127.0.0.1", "198.51.100.9, rubbish", trusted=front) == ("unreadable from 127.0.0.1",) * 2
    assert visitor("127.0.0.1", trusted=front) is None


def test_settings_that_mean_nothing_are_refused(tmp_path: Path) -> None:
    node = {"node": {"name": "n", "public_url": "https://x.example"}}
    for wrong in (
        {"limits": {"concurrent": -1}},
        {"server": {"trusted_proxies": ["nginx"]}},
        {"limits": {"reqests": 1}},
    ):
        with pytest.raises(ConfigError):
            parse_settings({**node, **wrong}, tmp_path)


# ---------------------------------------------------------------------- the line
async def test_first_come_first_served_and_never_more_than_allowed() -> None:
    gate, order, running, most = Gate(3, time.monotonic), [], 0, 0

    async def work(number: int) -> None:
        nonlocal running, most
        if not gate.try_enter():
            await gate.enter()
        running += 1
        most = max(most, running)
        order.append(number)
        await asyncio.sleep(0)
        running -= 1
        gate.leave()

    async with asyncio.TaskGroup() as group:
        for number in range(50):
            group.create_task(work(number))
    assert order == list(range(50))
    assert most == 3
    assert gate.try_enter()


async def test_who_gives_up_leaves_the_line_whole() -> None:
    gate = Gate(1, time.monotonic)
    assert gate.try_enter()
    waiting = [asyncio.create_task(gate.enter()) for _ in range(4)]
    await asyncio.sleep(0)
    assert gate.waiting == 4
    waiting[0].cancel()
    gate.leave()  # the turn goes to the second, who is cancelled in the same moment
    waiting[1].cancel()
    await asyncio.gather(*waiting[:2], return_exceptions=True)
    await asyncio.wait_for(waiting[2], 300)
    gate.leave()
    await asyncio.wait_for(waiting[3], 300)
    gate.leave()
    assert gate.try_enter()


async def test_nothing_begins_while_a_known_person_is_answered() -> None:
    now = [100.0]
    gate = Gate(16, lambda: now[0])
    gate.person_came()
    assert not gate.try_enter()
    waiting = [asyncio.create_task(gate.enter()) for _ in range(5)]
    await asyncio.sleep(0)
    assert gate.waiting == 5
    gate.person_left()  # she is still about: one by one, with a pause after each
    await asyncio.sleep(0)
    assert gate.waiting == 4
    now[0] += 0.03
    gate.leave()
    await asyncio.sleep(0)
    assert gate.waiting == 4
    now[0] += 0.031
    gate._timer_over()
    await asyncio.sleep(0)
    assert gate.waiting == 3
    now[0] += 61.0
    gate.leave()
    await asyncio.gather(*waiting)
    assert gate.waiting == 0


async def test_who_waits_for_a_pause_or_a_person_is_not_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the real clock: every turn comes by itself, whatever the line was waiting for."""
    monkeypatch.setattr(gate_module, "HOLD_S", 0.01)
    gate = Gate(4, time.monotonic)

    async def stranger() -> None:
        if not gate.try_enter():
            await gate.enter()
        await asyncio.sleep(0.001)
        gate.leave()

    async def person() -> None:
        gate.person_came()
        await asyncio.sleep(0.005)
        gate.person_left()

    async with asyncio.timeout(300), asyncio.TaskGroup() as group:
        for number in range(60):
            group.create_task(stranger() if number % 6 else person())
            await asyncio.sleep(0)
    assert gate.waiting == 0


async def test_a_long_download_of_staff_does_not_stop_the_public(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate_module, "HOLD_S", 0.01)
    gate = Gate(4, time.monotonic)
    gate.person_came()
    assert not gate.try_enter()
    await asyncio.wait_for(gate.enter(), 300)


# ---------------------------------------------------------------------- over HTTP
SMALL, LARGE = jpeg(0), jpeg(1) + bytes(256 * 8192 - len(jpeg(1)))


def serve(node: NodeFolder, folder: Path, **limits: int) -> TestClient:  # type: ignore[type-arg]
    ingest(node, write_archive(folder, rows_of(2), images=lambda number: (SMALL, LARGE)[number]))
    app = build_application(node, catalogue=Catalogue.of(()), clock=lambda: NOW)
    app[LIMITS] = VisitorLimits(LimitsSection(**limits), ("127.0.0.1",), refusal_delay_s=0.0)
    return TestClient(TestServer(app))


def address(data: bytes) -> str:
    return f"/cas/sha256/{ContentId.of(data).hex}"


async def test_who_asks_too_often_is_told_where_else_to_look(
    make_node: Callable[..., NodeFolder], tmp_path: Path
) -> None:
    async with serve(make_node(), tmp_path / "a", requests_per_minute=5) as client:
        one = {"X-Forwarded-For": "198.51.100.1"}
        assert [(await client.get("/changes", headers=one)).status for _ in range(7)] == [200] * 5 + [429] * 2
        refused = await client.get(address(SMALL), headers=one)
        problem = await refused.json()
        assert refused.content_type == "application/problem+json"
        assert problem["type"] == "/problems/too-many-requests"
        assert "/processes" in problem["detail"]
        assert "/changes" in problem["detail"]
        assert 1 <= int(refused.headers["Retry-After"]) <= 13
        page = await client.get("/", headers={**one, "Accept": "text/html"})
        assert (page.status, page.content_type) == (429, "text/html")
        assert (await client.get("/healthz", headers=one)).status == 200
        # Inventing addresses in front of the one that the front saw does not help; another visitor is not concerned.
        invented = {"X-Forwarded-For": "203.0.113.77, 198.51.100.1"}
        assert (await client.get("/changes", headers=invented)).status == 429
        assert (await client.get("/changes", headers={"X-Forwarded-For": "198.51.100.2"})).status == 200


async def test_a_block_may_not_take_everything(make_node: Callable[..., NodeFolder], tmp_path: Path) -> None:
    async with serve(make_node(), tmp_path / "a", requests_per_minute=2) as client:
        seen = [
            (await client.get("/changes", headers={"X-Forwarded-For": f"198.51.100.{number}"})).status
            for number in range(20)
        ]
        assert seen == [200] * 16 + [429] * 4
        assert (await client.get("/changes", headers={"X-Forwarded-For": "198.51.101.1"})).status == 200


async def test_bytes_of_a_day_count_what_was_sent(make_node: Callable[..., NodeFolder], tmp_path: Path) -> None:
    async with serve(make_node(), tmp_path / "a", bytes_per_day=3_000_000) as client:
        one = {"X-Forwarded-For": "198.51.100.1"}
        for _ in range(3):
            assert (await client.head(address(LARGE), headers=one)).status == 200
        assert len(await (await client.get(address(LARGE), headers=one)).read()) == len(LARGE)
        ranged = await client.get(address(LARGE), headers={**one, "Range": "bytes=0-1048575"})
        assert (ranged.status, len(await ranged.read())) == (206, 1_048_576)
        refused = await client.get(address(SMALL), headers=one)
        assert refused.status == 429
        assert int(refused.headers["Retry-After"]) > 1000


async def test_staff_are_counted_by_session_and_not_with_strangers(
    make_node: Callable[..., NodeFolder], tmp_path: Path
) -> None:
    node = make_node()
    async with serve(node, tmp_path / "a", requests_per_minute=3, known_requests_per_minute=6) as client:
        with node.database.transaction() as conn:
            token = make_token(conn, now=NOW)
        one = {"X-Forwarded-For": "198.51.100.1"}
        login = await client.post(
            "/login", data={"token": token}, headers={"Sec-Fetch-Site": "same-origin"}, allow_redirects=False
        )
        client.session.cookie_jar.clear()
        staff = {**one, "Cookie": f"vasculum_staff={login.cookies['vasculum_staff'].value}"}
        forged = {**one, "Cookie": "vasculum_staff=made-up"}
        assert [(await client.get("/changes", headers=forged)).status for _ in range(4)] == [200] * 3 + [429]
        assert [(await client.get("/changes", headers=staff)).status for _ in range(7)] == [200] * 6 + [429]


async def test_too_many_at_a_time_are_told_to_come_back(make_node: Callable[..., NodeFolder], tmp_path: Path) -> None:
    async with serve(make_node(), tmp_path / "a", all_concurrent=4, at_work=1, concurrent=3) as client:
        gate = client.server.app[LIMITS]._gate  # type: ignore[attr-defined, union-attr]
        assert gate is not None
        assert gate.try_enter()  # somebody's work takes long

        async def ask(number: int) -> int:
            async with client.get("/changes", headers={"X-Forwarded-For": f"198.51.{number}.1"}) as answer:
                return answer.status

        waiting = [asyncio.create_task(ask(number)) for number in (1, 1, 1, 2)]
        while gate.waiting < 4:
            await asyncio.sleep(0.001)
        assert await ask(1) in (429, 503)
        assert await ask(3) == 503
        gate.leave()
        assert await asyncio.gather(*waiting) == [200] * 4


async def test_a_slow_reader_holds_no_place(make_node: Callable[..., NodeFolder], tmp_path: Path) -> None:
    async with serve(make_node(), tmp_path / "a", at_work=1) as client:
        reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
        writer.write(f"GET {address(LARGE)} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
        await reader.readuntil(b"\r\n\r\n")  # and then reads no further
        answer = await asyncio.wait_for(client.get("/changes"), 300)
        assert answer.status == 200
        writer.close()


@pytest.mark.parametrize("kind", ["polite", "none", "all"])
async def test_robots(make_node: Callable[..., NodeFolder], kind: str) -> None:
    node = make_node(settings="")
    text = (node.settings.folder / "node.toml").read_text("utf-8")
    path = node.settings.folder / "node.toml"
    path.write_text(text.replace("[server]", f'[server]\nrobots = "{kind}"'), "utf-8")
    from node.folder import open_folder

    with open_folder(node.settings.folder) as again:
        app = build_application(again, catalogue=Catalogue.of(()), clock=lambda: NOW)
        async with TestClient(TestServer(app)) as client:
            answer = await client.get("/robots.txt")
            assert answer.content_type == "text/plain"
            text = await answer.text()
    assert ("Disallow: /\n" in text) == (kind == "none")
    assert ("Disallow: /cas/" in text) == (kind == "polite")
