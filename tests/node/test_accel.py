"""What the node hands over to a front server, and to whom; and the configurations it prints. Without the programs."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp.test_utils import TestClient, TestServer
from conftest import NOW, ingest, jpeg, rows_of, write_archive

from cas.ids import ContentId
from cas.reader import BlobPlace
from node.app import build_application
from node.cli.main import run
from node.config import ConfigError, ServerSection, Settings, parse_settings
from node.folder import NodeFolder
from node.front import NoFront, caddy_configuration, nginx_configuration
from node.web.accel import address_of, headers_for_front, is_asked
from runners.catalogue import Catalogue

MINE = {"X-Node-Accel": "nginx"}


def place(volume: str = "", relpath: str = "") -> BlobPlace:
    return BlobPlace(
        id=ContentId.of(b"x"), size=1, open_fd=lambda: -1, is_same=lambda found: True, volume=volume, relpath=relpath
    )


def test_addresses_are_made_of_the_id_or_the_row() -> None:
    digits = ContentId.of(b"x").hex
    assert address_of(place()) == f"/_o/{digits[:2]}/{digits[2:4]}/{digits}"
    assert address_of(place("scans", "a b/ü%20#?.jpg")) == "/_v/scans/a%20b/%C3%BC%2520%23%3F.jpg"
    assert address_of(place("scans", "x\r\nSet-Cookie: a")) == "/_v/scans/x%0D%0ASet-Cookie%3A%20a"


@pytest.mark.parametrize(
    ("headers", "method", "accel", "asked"),
    [
        (MINE, "GET", "nginx", True), (MINE, "HEAD", "nginx", False), (MINE, "GET", "", False), ({}, "GET", "nginx", False),
        ({"X-Node-Accel": "caddy"}, "GET", "nginx", False), ({"X-Nginx-Accel": "nginx"}, "GET", "nginx", False),
        (MINE | {"Range": "bytes=0-1"}, "GET", "nginx", True), (MINE | {"Range": "bytes=-1"}, "GET", "nginx", True),
        (MINE | {"Range": "bytes=1-"}, "GET", "nginx", True), (MINE | {"Range": "bytes=-"}, "GET", "nginx", False),
        (MINE | {"Range": "bytes=0-1,2-3"}, "GET", "nginx", False), (MINE | {"Range": "Bytes=0-1"}, "GET", "nginx", False),
        *((MINE | {name: "x"}, "GET", "nginx", False) for name in ("If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since", "If-Range")),
    ],
)  # fmt: skip
def test_only_plain_requests_of_a_front_that_announces_itself(
    headers: dict[str, str], method: str, accel: str, asked: bool
) -> None:
    assert is_asked(headers, method, accel) is asked  # type: ignore[arg-type]


def test_the_front_gets_every_header_but_those_it_makes() -> None:
    headers = {"ETag": '"x"', "Accept-Ranges": "bytes", "Content-Range": "bytes 0-0/1", "Cache-Control": "no-store"}
    whole = headers_for_front(place(), headers, is_range=False)
    assert set(whole) == {"ETag", "X-Accel-Redirect", "X-Node-Cache-Control"}
    part = headers_for_front(place(), headers, is_range=True)
    assert set(part) == {"ETag", "X-Accel-Redirect", "X-Node-Cache-Control", "X-Node-Accept-Ranges"}


@pytest.mark.parametrize(("trusted", "told"), [(("127.0.0.1",), True), (("10.0.0.0/8",), False)])
async def test_only_a_trusted_front_is_told_where_a_file_lies(
    make_node: Callable[..., NodeFolder], tmp_path: Path, trusted: tuple[str, ...], told: bool
) -> None:
    node = make_node()
    node = replace(node, settings=replace(node.settings, server=ServerSection(accel="nginx", trusted_proxies=trusted)))
    ingest(node, write_archive(tmp_path / "a", rows_of(1), images=lambda number: jpeg(1)))
    app = build_application(node, catalogue=Catalogue.of(()), clock=lambda: NOW)
    async with TestClient(TestServer(app)) as client:
        for _ in range(3):  # from the database, and from memory
            hostile = {**MINE, "X-Accel-Redirect": "/_v/../etc/passwd", "X-Forwarded-For": "1.2.3.4"}
            answer = await client.get(f"/cas/sha256/{ContentId.of(jpeg(1)).hex}", headers=hostile)
            assert answer.status == 200
            assert await answer.read() == (b"" if told else jpeg(1))
            assert answer.headers.get("X-Accel-Redirect") == ("/_v/collection/images/0.jpg" if told else None)
        for method in ("PUT", "POST"):
            assert "X-Accel-Redirect" not in (await client.request(method, "/nope", headers=MINE)).headers
        assert "X-Accel-Redirect" not in (await client.get("/cas/sha256/" + "0" * 64, headers=MINE)).headers


def settings(**server: object) -> Settings:
    document = {"node": {"name": "H", "public_url": "https://images.example.org"}, "server": server}
    return parse_settings(document, Path("/srv/hortus"))


def test_settings_that_cannot_work_are_refused() -> None:
    with pytest.raises(ConfigError, match="accel needs trusted_proxies"):
        settings(accel="nginx")
    with pytest.raises(ConfigError, match="accel must be one of"):
        settings(accel="caddy", trusted_proxies=["127.0.0.1"])
    for count in (0, 65):
        with pytest.raises(ConfigError, match="processes must be 1 to 64"):
            settings(processes=count)


@pytest.mark.parametrize("accel", ["", "nginx"])
def test_what_must_be_in_the_nginx_configuration(accel: str) -> None:
    text = nginx_configuration(settings(accel=accel, trusted_proxies=["127.0.0.1"]), {"v": Path("/data/v")})
    assert re.search(r"^\s*tcp_nopush off;$", text, re.MULTILINE), "on: ranges are fifty times slower"
    assert "open_file_cache" not in text
    assert "client_max_body_size 1048576;" in text
    locations = text.count("proxy_pass ")
    assert text.count("proxy_set_header X-Forwarded-For $remote_addr;") == locations
    assert text.count('proxy_set_header X-Node-Accel "') == locations
    assert text.count("internal;") == text.count("location ^~ /_")
    assert text.count('X-Node-Accel "nginx"') == (1 if accel else 0)


def test_a_path_that_nginx_cannot_name_is_left_to_the_node() -> None:
    text = nginx_configuration(
        settings(accel="nginx", trusted_proxies=["127.0.0.1"]), {"odd": Path('/data/"; }'), "good": Path("/data/good")}
    )
    assert "/_v/good/" in text
    assert "/_v/odd/" not in text
    assert '/data/"; }' not in text


def test_the_node_cannot_have_the_public_port_of_its_front(make_node: Callable[..., NodeFolder]) -> None:
    node = make_node(origin="http://127.0.0.1:8080")
    for make in (lambda item: nginx_configuration(item, {}), caddy_configuration):
        with pytest.raises(NoFront, match="give it another one"):
            make(replace(node.settings, server=ServerSection(port=8080)))


def test_the_command_prints_it_and_says_what_is_missing(
    make_node: Callable[..., NodeFolder], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_node(origin="https://images.example.org")
    for name in ("nginx", "caddy"):
        assert run(["front", str(tmp_path / "node"), name]) == 0
        printed = capsys.readouterr()
        assert "images.example.org" in printed.out
        assert "trusted_proxies" in printed.err
    assert run(["front", str(tmp_path / "nowhere"), "nginx"]) == 2
