"""A few lines of the Chrome DevTools protocol over aiohttp: open a page, look at it, run a question in it."""

import asyncio
import base64
import contextlib
import json
import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--hide-scrollbars", "--remote-debugging-port=0", "--disable-dev-shm-usage",
)  # fmt: skip


class Page:
    """One tab."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._number = 0
        self.complaints: list[str] = []
        """Console errors, exceptions, blocked loads and security policy violations."""
        self.answers: list[tuple[int, str]] = []
        """Status and address of everything that was loaded."""

    async def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        number = self._number
        await self._socket.send_json({"id": number, "method": method, "params": parameters})
        while True:
            message = json.loads((await self._socket.receive(timeout=300)).data)
            if message.get("id") == number:
                assert "error" not in message, message
                return dict(message["result"])
            self._note(message)

    async def wait_for(self, event: str) -> None:
        while True:
            message = json.loads((await self._socket.receive(timeout=300)).data)
            self._note(message)
            if message.get("method") == event:
                return

    async def open(self, address: str, *, headers: dict[str, str] | None = None) -> None:
        for domain in ("Page", "Runtime", "Log", "Network"):
            await self.send(f"{domain}.enable")
        if headers:
            await self.send("Network.setExtraHTTPHeaders", headers=headers)
        await self.send("Page.navigate", url=address)
        await self.wait_for("Page.loadEventFired")
        await self.ask("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")

    async def ask(self, expression: str) -> Any:
        answer = await self.send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    async def screenshot(self, path: Path) -> None:
        answer = await self.send("Page.captureScreenshot", format="png")
        path.write_bytes(base64.b64decode(answer["data"]))

    def _note(self, message: dict[str, Any]) -> None:
        method, parameters = message.get("method"), message.get("params", {})
        if method == "Log.entryAdded" and parameters["entry"]["level"] == "error":
            self.complaints.append(parameters["entry"]["text"])
        elif method == "Runtime.exceptionThrown":
            self.complaints.append(str(parameters["exceptionDetails"].get("text")))
        elif method == "Runtime.consoleAPICalled" and parameters["type"] == "error":
            self.complaints.append(str(parameters["args"]))
        elif method == "Network.responseReceived":
            self.answers.append((parameters["response"]["status"], parameters["response"]["url"]))
        elif method == "Network.loadingFailed" and parameters.get("blockedReason"):
            self.complaints.append(str(parameters["blockedReason"]))


@contextlib.asynccontextmanager
async def browser(*, width: int = 1280, height: int = 1000, scripts: bool = True) -> AsyncIterator[Page]:
    """A fresh headless Chromium with one empty tab."""
    program = shutil.which("chromium")
    assert program is not None
    profile = tempfile.mkdtemp(prefix="chromium-")
    process = await asyncio.create_subprocess_exec(
        program, *FLAGS, f"--window-size={width},{height}", f"--user-data-dir={profile}", "about:blank",
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        assert process.stderr is not None
        async with asyncio.timeout(300):
            async for line in process.stderr:
                if b"DevTools listening on" in line:
                    break
        port = line.decode().partition("127.0.0.1:")[2].partition("/")[0]
        async with aiohttp.ClientSession() as session:
            async with session.get(f"http://127.0.0.1:{port}/json") as answer:
                tabs = await answer.json()
            address = next(tab["webSocketDebuggerUrl"] for tab in tabs if tab["type"] == "page")
            async with session.ws_connect(address, max_msg_size=0) as socket:
                page = Page(socket)
                if not scripts:
                    await page.send("Emulation.setScriptExecutionDisabled", value=True)
                yield page
    finally:
        process.kill()
        await process.wait()
        shutil.rmtree(profile, ignore_errors=True)
