"""Media that are known only by their address: fetched when asked, through the one fetcher, each failure with its reason."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from conftest import jpeg, rows_of, write_archive

from cas.ids import ContentId
from node.cli.ingest import _time_text
from node.cli.main import run
from node.folder import NodeFolder
from node.storage.db import connect

Make = Callable[..., NodeFolder]


class Elsewhere:
    """A server of images that counts what is asked of it."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.address = ""

    async def image(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        self.asked.append(name)
        match name:
            case "good.jpg":
                return web.Response(body=jpeg(1), content_type="image/jpeg")
            case "page.jpg":
                return web.Response(text="<html>log in</html>", content_type="text/html")
            case "text.jpg":
                return web.Response(body=b"no image at all", content_type="image/jpeg")
            case _:
                raise web.HTTPNotFound


@pytest.fixture
async def elsewhere() -> AsyncIterator[Elsewhere]:
    made, app = Elsewhere(), web.Application()
    app.router.add_get("/{name}", made.image)
    server = TestServer(app, host="127.0.0.1")
    await server.start_server()
    made.address = str(server.make_url("")).rstrip("/")
    yield made
    await server.close()


async def test_only_when_asked_and_each_failure_has_its_reason(
    make_node: Make, tmp_path: Path, elsewhere: Elsewhere, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = rows_of(5)
    addresses = [f"{elsewhere.address}/{name}.jpg" for name in ("good", "page", "text", "absent")]
    for row, address in zip(rows, [*addresses, "http://169.254.169.254/latest/secret.jpg"], strict=True):
        row["image"] = address
    folder, archive = str(make_node().settings.folder), str(write_archive(tmp_path / "a", rows))

    async def vasculum(*arguments: str) -> str:
        capsys.readouterr()
        code = await asyncio.to_thread(run, list(arguments))
        found = capsys.readouterr()
        assert code == 0, found.err
        return found.out

    assert "by address   5" in await vasculum("ingest", folder, archive, "--dry-run")
    assert json.loads(await vasculum("ingest", folder, archive, "--json"))["new"] == 5
    assert elsewhere.asked == [], "nobody is asked unless a person wants it"
    await vasculum("ingest", folder, archive, "--fetch")
    assert sorted(elsewhere.asked) == ["absent.jpg", "good.jpg", "page.jpg", "text.jpg"]
    reasons = await vasculum("findings", folder)
    for expected in ("404", "no image", "text/html", "169.254.169.254"):
        assert expected in reasons, reasons
    conn = connect(Path(folder) / "data" / "node.sqlite", read_only=True)
    images = [row[0] for row in conn.execute("SELECT image FROM medium WHERE image IS NOT NULL")]
    conn.close()
    assert images == [ContentId.of(jpeg(1)).hex]
    # What is there is not asked for again.
    elsewhere.asked.clear()
    await vasculum("ingest", folder, archive, "--fetch")
    assert "good.jpg" not in elsewhere.asked


async def test_a_dry_run_says_what_fits_and_what_does_not(
    make_node: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = rows_of(3)
    rows[2]["image"] = "images/lost.jpg"
    archive = write_archive(tmp_path / "a", rows[:2], images=jpeg)
    write_archive(archive, rows)
    (archive / "images" / "stray.jpg").write_bytes(jpeg(9))
    folder = str(make_node().settings.folder)
    assert run(["ingest", folder, str(archive), "--dry-run"]) == 0
    text = capsys.readouterr().out
    assert "nothing is changed" in text
    assert "3 new" in text
    assert "2 matched" in text
    assert "1 media rows: " in text
    assert "lost.jpg" in text
    assert "stray.jpg" in text
    assert "less than a minute of reading" in text
    assert run(["ingest", folder, str(archive), "--dry-run", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["bytes"] == sum((archive / f"images/{number}.jpg").stat().st_size for number in range(2))
    assert found["orphanFiles"] == ["images/stray.jpg"]
    assert run(["ingest", folder, str(archive)]) == 0
    hint = next(line for line in capsys.readouterr().out.splitlines() if "vasculum findings" in line)
    assert run(hint.partition("vasculum ")[2].split()) == 0, "the hint can be typed"
    assert "lost.jpg" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("hours", "text"),
    [(0.001, "less than a minute"), (1 / 60, "about 1 minute"), (0.5, "about 30 minutes"), (7.26, "about 7.3 hours")],
)
def test_times_are_said_as_people_say_them(hours: float, text: str) -> None:
    assert _time_text(hours) == text


def test_a_held_plan_names_the_option_that_lets_it_go_ahead(
    make_node: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    archive = write_archive(tmp_path / "a", rows_of(10), images=jpeg)
    folder = str(make_node().settings.folder)
    assert run(["ingest", folder, str(archive)]) == 0
    write_archive(archive, rows_of(5))
    capsys.readouterr()
    assert run(["ingest", folder, str(archive), "--dry-run"]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if "HELD" in line)
    plan = line.partition("--accept-plan ")[2].split()[0]
    assert run(["ingest", folder, str(archive), "--accept-plan", plan]) == 0
    assert "5 records are no longer in the archive and were kept" in capsys.readouterr().out
