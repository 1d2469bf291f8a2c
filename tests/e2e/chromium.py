"""A headless Chromium, driven over its DevTools protocol: no driver and no download is needed."""

import asyncio
import base64
import itertools
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

_NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
_START_S = 30
_ANSWER_S = 20
_FLAGS = (
    "--headless=new",
    "--no-sandbox",  # tests may run as root, where the sandbox does not
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
    "--no-proxy-server",
    "--remote-debugging-port=0",
    "--window-size=900,1000",
)


def find_chromium() -> str | None:
    return next((found for name in _NAMES if (found := shutil.which(name))), None)


class Browser:
    """One person's Chromium, and the connection to it.

    context  of this person: cookies, storage and cache that no other context sees
    """

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self.context = ""
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future] = {}
        self._reader = asyncio.create_task(self._read())
        self.tabs: dict[str, Tab] = {}

    async def call(self, method: str, session: str | None = None, **named: Any) -> dict[str, Any]:
        number = next(self._numbers)
        message: dict[str, Any] = {"id": number, "method": method, "params": named}
        if session is not None:
            message["sessionId"] = session
        answer = asyncio.get_running_loop().create_future()
        self._answers[number] = answer
        await self._connection.send(json.dumps(message))
        async with asyncio.timeout(_ANSWER_S):
            return await answer

    async def open_tab(self, url: str) -> "Tab":
        target = await self.call(
            "Target.createTarget", url="about:blank", browserContextId=self.context
        )
        attached = await self.call(
            "Target.attachToTarget", targetId=target["targetId"], flatten=True
        )
        tab = Tab(self, attached["sessionId"], target["targetId"])
        self.tabs[tab.session] = tab
        for domain in ("Page", "Runtime", "DOM", "Log", "Network", "Accessibility"):
            await tab.call(f"{domain}.enable")
        await tab.go(url)
        return tab

    async def _read(self) -> None:
        async for text in self._connection:
            message = json.loads(text)
            if "id" in message:
                answer = self._answers.pop(message["id"])
                if answer.done():
                    continue
                if "error" in message:
                    answer.set_exception(RuntimeError(message["error"]["message"]))
                else:
                    answer.set_result(message["result"])
            elif (tab := self.tabs.get(message.get("sessionId"))) is not None:
                tab.hear(message["method"], message["params"])

    async def close(self) -> None:
        with suppress(Exception):
            await self.call("Target.disposeBrowserContext", browserContextId=self.context)
        self._reader.cancel()


class Tab:
    """One page.

    complaints  what the browser logged as errors: refused by the policy, thrown, not found
    requested   URLs of all requests
    """

    def __init__(self, browser: Browser, session: str, target: str) -> None:
        self._browser = browser
        self.session = session
        self._target = target
        self.complaints: list[str] = []
        self.requested: list[str] = []
        self._tasks: set[asyncio.Task] = set()

    async def call(self, method: str, **named: Any) -> dict[str, Any]:
        return await self._browser.call(method, self.session, **named)

    def hear(self, method: str, told: dict[str, Any]) -> None:
        if method == "Runtime.exceptionThrown":
            self.complaints.append(str(told["exceptionDetails"]))
        elif method == "Log.entryAdded" and told["entry"]["level"] == "error":
            self.complaints.append(f"{told['entry']['text']} {told['entry'].get('url', '')}")
        elif method == "Network.requestWillBeSent":
            self.requested.append(told["request"]["url"])
        elif method == "Page.javascriptDialogOpening":
            # It asks whether to leave in the middle of an upload: yes.
            task = asyncio.create_task(self.call("Page.handleJavaScriptDialog", accept=True))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def go(self, url: str) -> None:
        await self.call("Page.navigate", url=url)
        await self.until("document.readyState === 'complete' && location.href !== 'about:blank'")

    async def reload(self) -> None:
        await self.run("window.isOld = true")
        await self.call("Page.reload")
        await self.until("document.readyState === 'complete' && !window.isOld")

    async def run(self, script: str) -> Any:
        """Evaluate an expression; a promise is waited for."""
        answer = await self.call(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    async def until(self, condition: str, *, within_s: float = 30) -> None:
        """Wait until an expression is true."""
        last = None
        try:
            async with asyncio.timeout(within_s):
                while True:
                    # While a page is loaded there may be nothing to evaluate in.
                    with suppress(RuntimeError):
                        last = await self.run(condition)
                        if last:
                            return
                    await asyncio.sleep(0.02)
        except TimeoutError:
            shown = await self.run("document.body.innerText")
            message = f"never: {condition} ({last!r})\n{shown}\n{self.complaints}"
            raise AssertionError(message) from None

    async def choose_files(self, selector: str, *paths: Path) -> None:
        document = await self.call("DOM.getDocument")
        found = await self.call(
            "DOM.querySelector", nodeId=document["root"]["nodeId"], selector=selector
        )
        files = [str(path) for path in paths]
        await self.call("DOM.setFileInputFiles", files=files, nodeId=found["nodeId"])

    async def press(self, key: str, *, shift: bool = False) -> None:
        """Press a key, as a person without a mouse does."""
        codes = {"Tab": 9, "Enter": 13}
        text = {"text": "\r"} if key == "Enter" else {}
        shared = {"key": key, "code": key, "windowsVirtualKeyCode": codes[key]}
        modifiers = 8 if shift else 0
        for kind, more in (("keyDown", text), ("keyUp", {})):
            event = {"type": kind, "modifiers": modifiers, **shared, **more}
            await self.call("Input.dispatchKeyEvent", **event)

    async def type(self, text: str) -> None:
        await self.call("Input.insertText", text=text)

    async def controls(self) -> list[tuple[str, str]]:
        """Return (role, name) of all that a person may operate, as a screen reader is told it."""
        tree = await self.call("Accessibility.getFullAXTree")
        roles = {"button", "textbox", "progressbar", "link", "DateTime", "InputTime", "Date"}
        return [
            (node["role"]["value"], node.get("name", {}).get("value", ""))
            for node in tree["nodes"]
            if not node["ignored"] and node["role"]["value"] in roles
        ]

    async def take_picture(self) -> bytes:
        """Return the whole page as a PNG."""
        shot = await self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        return base64.b64decode(shot["data"])

    async def close(self) -> None:
        await self._browser.call("Target.closeTarget", targetId=self._target)


@contextmanager
def running_chromium(program: str, folder: Path) -> Iterator[str]:
    """Start a Chromium whose profile is in a folder, for many browsers; the address of its door."""
    profile, log_file = folder / "profile", folder / "chromium.log"
    with log_file.open("wb") as log:
        process = subprocess.Popen(
            [program, *_FLAGS, f"--user-data-dir={profile}", "about:blank"],
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        yield _find_url(process, profile, log_file)
    finally:
        # It has children of its own, which would hold the profile's folder.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@asynccontextmanager
async def open_browser(url: str) -> AsyncIterator[Browser]:
    """Open a browser in a running Chromium, as new to everything as a fresh profile."""
    async with connect(url, max_size=None, proxy=None) as connection:
        browser = Browser(connection)
        made = await browser.call("Target.createBrowserContext", disposeOnDetach=True)
        browser.context = made["browserContextId"]
        try:
            yield browser
        finally:
            await browser.close()


def _find_url(process: subprocess.Popen, profile: Path, log: Path) -> str:
    port_file = profile / "DevToolsActivePort"
    deadline = time.monotonic() + _START_S
    while process.poll() is None and time.monotonic() < deadline:
        if port_file.exists() and len(lines := port_file.read_text().splitlines()) > 1:
            return f"ws://127.0.0.1:{lines[0]}{lines[1]}"
        time.sleep(0.05)
    message = f"Chromium did not start:\n{log.read_text()[-2000:]}"
    raise AssertionError(message)
