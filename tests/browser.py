"""A headless Chromium that a test opens pages in, clicks and types in, and asks what there is, by the DevTools protocol.

https://chromedevtools.github.io/devtools-protocol/
"""

import asyncio
import base64
import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import aiohttp

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
MISSING = "no Chromium on this machine: install the package chromium"
OPTIONS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-extensions",
    "--no-first-run",
    "--hide-scrollbars",
    "--remote-debugging-port=0",
)
KEYS = {" ": ("Space", 32), "ArrowLeft": ("ArrowLeft", 37), "ArrowUp": ("ArrowUp", 38), "ArrowRight": ("ArrowRight", 39)}
KEYS |= {"ArrowDown": ("ArrowDown", 40), "Tab": ("Tab", 9), "Enter": ("Enter", 13)}


def program() -> str | None:
    """Chromium's path; None where there is none."""
    return next((found for name in PROGRAMS if (found := shutil.which(name))), None)


class Browser:
    """One tab."""

    def __init__(self, address: str) -> None:
        self.loop = asyncio.new_event_loop()
        self.address = address
        self.number = 0
        self.events: list[dict[str, Any]] = []
        self.session: str | None = None
        self.loop.run_until_complete(self._connect())
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.send(f"{domain}.enable")

    async def _connect(self) -> None:
        self.client = aiohttp.ClientSession()
        self.socket = await self.client.ws_connect(self.address, max_msg_size=0)

    def close(self) -> None:
        self.loop.run_until_complete(self.client.close())
        self.loop.close()

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """The answer to a command."""
        return self.loop.run_until_complete(asyncio.wait_for(self._send(method, parameters), 120))

    async def _send(self, method: str, parameters: dict[str, Any]) -> dict[str, Any]:
        self.number += 1
        number = self.number
        message: dict[str, Any] = {"id": number, "method": method, "params": parameters}
        if self.session is not None:
            message["sessionId"] = self.session
        await self.socket.send_str(json.dumps(message))
        while True:
            answer = json.loads((await self.socket.receive()).data)
            if answer.get("id") == number:
                assert "error" not in answer, answer["error"]
                return dict(answer["result"])
            self.events.append(answer)

    def named(self, method: str) -> list[dict[str, Any]]:
        """What events of one kind said, since the page was opened."""
        return [event["params"] for event in self.events if event.get("method") == method]

    # ---- pages

    def open(self, page: Path, width: int = 1200, height: int = 900, dark: bool = False, scale: int = 1) -> None:
        """Open a file, and wait until its scripts have run."""
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=width < 600)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", features=[scheme])
        self.events.clear()
        self.send("Page.navigate", url=page.resolve().as_uri())
        self.do("new Promise(done => document.readyState === 'complete' ? done() : addEventListener('load', done))")
        self.settle()

    def do(self, expression: str) -> Any:
        """The value of a JavaScript expression; what it throws fails the test."""
        answer = self.send("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def settle(self, pause: int = 250) -> None:
        """Wait for what a control has set off: a pause, then two frames."""
        frames = "requestAnimationFrame(() => requestAnimationFrame(done))"
        self.do(f"new Promise(done => setTimeout(() => {frames}, {pause}))")

    def requests(self) -> list[str]:
        """The addresses of all that the page has asked for, but for what stands in the page itself."""
        sent = [str(event["request"]["url"]) for event in self.named("Network.requestWillBeSent")]
        return [address for address in sent if not address.startswith("data:")]

    def errors(self) -> list[str]:
        """What the page has complained of."""
        thrown = [str(event["exceptionDetails"]) for event in self.named("Runtime.exceptionThrown")]
        return thrown + [
            str(event["entry"]["text"]) for event in self.named("Log.entryAdded") if event["entry"]["level"] == "error"
        ]

    # ---- what a person does

    def press(self, key: str, times: int = 1, shift: bool = False) -> None:
        code, number = KEYS.get(key, (key, ord(key[0])))
        for _ in range(times):
            for kind in ("keyDown", "keyUp"):
                text = {"text": key} if kind == "keyDown" and len(key) == 1 else {}
                common = {"key": key, "code": code, "windowsVirtualKeyCode": number, "modifiers": 8 if shift else 0}
                self.send("Input.dispatchKeyEvent", type=kind, **common, **text)

    def drag(self, points: list[tuple[float, float]]) -> None:
        """Press the mouse at the first point, move it along the others, and let it go."""
        for kind, (x, y) in (
            ("mousePressed", points[0]),
            *(("mouseMoved", point) for point in points[1:]),
            ("mouseReleased", points[-1]),
        ):
            self.send(
                "Input.dispatchMouseEvent",
                type=kind,
                x=x,
                y=y,
                button="left",
                buttons=0 if kind == "mouseReleased" else 1,
                clickCount=1,
            )

    def picture(self, path: Path, selector: str | None = None) -> None:
        """A screenshot of the window, or of an element however long."""
        clip: dict[str, Any] = {}
        if selector:
            box = f"(box => ({{x: box.x + scrollX, y: box.y + scrollY, width: box.width, height: box.height}}))(document.querySelector({selector!r}).getBoundingClientRect())"
            clip = {"clip": {**self.do(box), "scale": 1}, "captureBeyondViewport": True}
        path.write_bytes(base64.b64decode(self.send("Page.captureScreenshot", format="png", **clip)["data"]))


@contextmanager
def browser() -> Iterator[Browser]:
    """A tab of a browser of its own, which ends with the block."""
    path = program()
    assert path is not None, MISSING
    with TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process = subprocess.Popen([path, *OPTIONS, f"--user-data-dir={profile}", "about:blank"], stderr=subprocess.PIPE, text=True)
        try:
            assert process.stderr is not None
            address = next(line.split()[-1] for line in process.stderr if line.startswith("DevTools listening on "))
            tab = Browser(address)
            try:
                yield tab
            finally:
                tab.close()
        finally:
            process.terminate()
            process.wait(30)
