"""Real Chromium, driven over its debugging pipe: no driver, no port, nothing downloaded."""

import base64
import json
import os
import select
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from running import program


class Browser:
    """One page in a headless Chromium of its own; ended with the `with` block. A script error on the page is kept."""

    def __init__(self, *, width: int = 1280, height: int = 900, dark: bool = False) -> None:
        self.errors: list[str] = []
        self._profile = tempfile.TemporaryDirectory(prefix="pal-chromium-", ignore_cleanup_errors=True)
        ours_in, theirs_out = os.pipe()
        theirs_in, self._out = os.pipe()
        self._in = ours_in
        options = [
            "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync",
            "--disable-component-update", "--no-first-run", "--disable-dev-shm-usage", "--remote-debugging-pipe",
            f"--user-data-dir={self._profile.name}", f"--window-size={width},{height}",
        ]  # fmt: skip
        script = f'exec "$@" 3<&{theirs_in} 4>&{theirs_out}'
        with (Path(self._profile.name) / "log").open("wb") as log:
            self.process = subprocess.Popen(
                ["/bin/bash", "-c", script, "bash", program("chromium"), *options, "about:blank"],
                pass_fds=(theirs_in, theirs_out),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        os.close(theirs_in)
        os.close(theirs_out)
        self._number = 0
        self._received = b""
        self._session = ""
        try:
            self._attach(width, height, dark=dark)
        except BaseException:
            self.close()
            raise

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command of the DevTools protocol; its result."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + 60
        while True:
            said = self._receive(deadline)
            self._note(said)
            if said.get("id") == self._number:
                assert "error" not in said, (method, said["error"])
                found: dict[str, Any] = said["result"]
                return found

    def go(self, url: str) -> None:
        """Open a page."""
        self.call("Page.navigate", url=url)

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression."""
        done = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in done, done["exceptionDetails"]
        return done["result"].get("value")

    def wait_for(self, script: str, seconds: float = 30.0) -> Any:
        """Evaluate until it is true; the value."""
        deadline = time.monotonic() + seconds
        while not (value := self.run(script)):
            shown = self.run("document.body?.innerText")
            assert time.monotonic() < deadline, f"{script} did not become true; errors {self.errors}; shown:\n{shown}"
            time.sleep(0.05)
        return value

    def press(self, key: str, code: int, text: str = "") -> None:
        """Press a key; `code` is its Windows virtual key code, `text` what it types: a button wants Enter's."""
        self.call("Input.dispatchKeyEvent", type="keyDown", key=key, code=key, windowsVirtualKeyCode=code, text=text)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key, code=key, windowsVirtualKeyCode=code)

    def picture(self, path: Path, *, whole: bool = True) -> None:
        """A PNG of the page."""
        shot = self.call("Page.captureScreenshot", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(shot["data"]))

    def close(self) -> None:
        """End it, whatever it does."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, 9)
        self.process.wait(10)
        for fd in (self._in, self._out):
            os.close(fd)
        self._profile.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _attach(self, width: int, height: int, *, dark: bool) -> None:
        targets = self.call("Target.getTargets")["targetInfos"]
        page = next(target["targetId"] for target in targets if target["type"] == "page")
        self._session = self.call("Target.attachToTarget", targetId=page, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def _receive(self, deadline: float) -> dict[str, Any]:
        poll = select.poll()
        poll.register(self._in, select.POLLIN)
        while b"\0" not in self._received:
            assert poll.poll(max(0, deadline - time.monotonic()) * 1000), "Chromium does not answer"
            data = os.read(self._in, 1 << 20)
            assert data, "Chromium ended"
            self._received += data
        said, _, self._received = self._received.partition(b"\0")
        found: dict[str, Any] = json.loads(said)
        return found

    def _note(self, said: dict[str, Any]) -> None:
        if said.get("method") == "Runtime.exceptionThrown":
            self.errors.append(str(said["params"]["exceptionDetails"]))
        elif said.get("method") == "Log.entryAdded" and said["params"]["entry"]["level"] == "error":
            self.errors.append(f"{said['params']['entry']['text']} {said['params']['entry'].get('url', '')}")
