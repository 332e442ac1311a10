"""A headless Chromium that a test drives by the DevTools protocol over a pipe: no port, no further package."""

from __future__ import annotations

import base64
import io
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

OPTIONS = (
    *("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--no-first-run", "--mute-audio"),
    *("--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--hide-scrollbars"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--force-color-profile=srgb"),
)
ALLOWED = ("file:", "data:", "blob:", "about:")
PROBLEMS = ("Runtime.exceptionThrown", "Log.entryAdded", "Runtime.consoleAPICalled")


class Browser:
    """One page of Chromium, and what it said and asked for.

    Attributes:
        requests: Addresses that the page asked for.
        problems: Messages on the console that are warnings or errors, and uncaught exceptions.
    """

    def __init__(self, process: subprocess.Popen, read: int, write: int) -> None:
        self.process, self.read, self.write = process, read, write
        self.number, self.waiting, self.session = 0, b"", ""
        self.requests: list[str] = []
        self.problems: list[str] = []

    def call(self, method: str, timeout: float = 120.0, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol and return its result."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.write, json.dumps(message).encode() + b"\0")
        number, until = self.number, time.monotonic() + timeout
        while True:
            answer = self._next(until, method)
            if answer.get("id") == number:
                assert "error" not in answer, (method, answer)
                return answer["result"]
            self._note(answer)

    def _next(self, until: float, method: str) -> dict[str, Any]:
        while b"\0" not in self.waiting:
            ready, _, _ = select.select([self.read], [], [], max(until - time.monotonic(), 0))
            assert ready, f"Chromium did not answer {method}"
            self.waiting += (data := os.read(self.read, 1 << 20))
            assert data, f"Chromium ended during {method}"
        line, _, self.waiting = self.waiting.partition(b"\0")
        return json.loads(line)

    def _note(self, event: dict[str, Any]) -> None:
        name, said = event.get("method"), event.get("params", {})
        if name == "Network.requestWillBeSent":
            self.requests.append(said["request"]["url"])
        elif name == "Runtime.exceptionThrown":
            self.problems.append(json.dumps(said["exceptionDetails"])[:2000])
        elif name == "Log.entryAdded" and said["entry"]["level"] in ("warning", "error"):
            self.problems.append(said["entry"]["text"])
        elif name == "Runtime.consoleAPICalled" and said["type"] in ("warning", "error", "assert"):
            self.problems.append(json.dumps(said["args"])[:2000])

    def open(self, page: Path, *, width: int = 1280, height: int = 900, dark: bool = False) -> None:
        """Open a page from the disk in a window of the given size."""
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.call("Emulation.setEmulatedMedia", features=scheme)
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        self.call("Page.navigate", url=page.resolve().as_uri())
        self.until("document.readyState === 'complete'")

    def value(self, expression: str) -> Any:
        """Evaluate JavaScript in the page."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def until(self, expression: str, timeout: float = 120.0) -> None:
        """Wait until JavaScript is true."""
        end = time.monotonic() + timeout
        while not self.value(expression):
            assert time.monotonic() < end, (
                expression,
                self.problems,
                self.value("document.body.innerText.slice(0, 900)"),
            )
            time.sleep(0.1)

    def key(self, key: str) -> None:
        """Press and release a key."""
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key)

    def mouse(self, kind: str, x: float, y: float, **more: Any) -> None:
        """Send an event of the mouse."""
        self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **more)

    def picture(self, selector: str | None = None) -> np.ndarray:
        """Take a picture of an element, or of the window: `(rows, columns, 3)` in 0 to 255."""
        options: dict[str, Any] = {}
        if selector:
            box = self.value(
                f"(() => {{ const b = document.querySelector({json.dumps(selector)}).getBoundingClientRect();"
                " return [b.x + scrollX, b.y + scrollY, b.width, b.height]; })()"
            )
            clip = dict(zip(("x", "y", "width", "height"), box, strict=True)) | {"scale": 1}
            options = {"clip": clip, "captureBeyondViewport": True}
        png = base64.b64decode(self.call("Page.captureScreenshot", format="png", **options)["data"])
        return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"), dtype=float)


def find_chromium() -> str | None:
    """Return the path of Chromium or Chrome, if there is one."""
    return next(
        (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
    )


@contextmanager
def browser(profile: Path) -> Iterator[Browser]:
    """Start Chromium with a fresh profile, and end it afterwards."""
    chromium = find_chromium()
    assert chromium, "Chromium is not there: run `make .venvs/browser/ready`, or install the package chromium"
    to_read, from_write = os.pipe()
    from_read, to_write = os.pipe()

    options = [*OPTIONS, f"--user-data-dir={profile}", "--remote-debugging-pipe", "about:blank"]
    # The protocol's pipes are the descriptors 3 and 4 of the process.
    start = f'exec "$0" "$@" 3<&{to_read} 4>&{to_write}'
    process = subprocess.Popen(
        ["bash", "-c", start, chromium, *options],
        pass_fds=(to_read, to_write),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(to_read)
    os.close(to_write)
    found = Browser(process, from_read, from_write)
    try:
        targets = found.call("Target.getTargets")["targetInfos"]
        page = next(target for target in targets if target["type"] == "page")
        found.session = found.call("Target.attachToTarget", targetId=page["targetId"], flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            found.call(f"{domain}.enable")
        yield found
    finally:
        process.terminate()
        process.wait(timeout=30)
        os.close(from_read)
        os.close(from_write)
