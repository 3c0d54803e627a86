"""A realm for system tests: real emperors, keepers and vassals in a directory of their own, ended with it."""

import contextlib
import http.client
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import trio

from palatine.bus import request
from palatine.errors import PalatineError
from running import free_port

T = TypeVar("T")

HERE = Path(__file__).parent
#: Vassals serve within a second; a machine that runs many other tests beside may take far longer.
PATIENCE = 45.0

APP = """
import os

def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{os.environ.get('MARK', '')} {os.getpid()} {os.getsid(0)}".encode()]
"""


def wait_for(what: str, probe: Callable[[], T | None], patience: float = PATIENCE) -> T:
    """The first result of `probe` that is true; fails with `what` when there is none in time."""
    deadline = time.monotonic() + patience
    while True:
        result = probe()
        if result:
            return result
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.02)


class Realm:
    """One runtime directory, and the emperors that governed it one after the other."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.runtime = Path(tempfile.mkdtemp(prefix="pal-"))  # sockets have short paths
        self.runtime.chmod(0o755)
        self.vassals = directory / "v"
        self.vassals.mkdir()
        self.log_path = directory / "log"
        self.log_path.touch()
        self.emperors: list[subprocess.Popen[bytes]] = []
        (directory / "app.py").write_text(APP)

    def ini(self, **options: Any) -> str:
        given = {"chdir": self.directory, "module": "app", "master": "true", "processes": 1, **options}
        return "[uwsgi]\n" + "".join(f"{name.replace('_', '-')} = {value}\n" for name, value in given.items())

    def vassal(self, name: str, port: int, directory: Path | None = None, **options: Any) -> Path:
        path = (directory or self.vassals) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.ini(http_socket=f"127.0.0.1:{port}", **options))
        return path

    def start(
        self, *words: str, umbrella: bool = False, python: str = sys.executable, **environ: str
    ) -> subprocess.Popen[bytes]:
        """An emperor over `v`, or as the words say, once it is ready or gone."""
        before = self.log().count("daemon.ready")
        places = ("--runtime-dir", str(self.runtime), "--state-dir", str(self.directory / "s"))
        with self.log_path.open("ab") as log:
            emperor = subprocess.Popen(
                [python, "-P", "-m", "palatine_emperor", *places, *(words or ("--emperor", str(self.vassals)))],
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **environ, **({"PALATINE_UMBRELLA": "1"} if umbrella else {})},
            )
        self.emperors.append(emperor)

        def up_or_gone() -> bool:
            return self.log().count("daemon.ready") > before or emperor.poll() is not None

        wait_for(f"ready: {self.log()}", up_or_gone)
        return emperor

    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def wait_log(self, pattern: str, count: int = 1) -> list[str]:
        """The lines that match, once there are `count` of them."""

        def found() -> list[str]:
            lines = [line for line in self.log().splitlines() if re.search(pattern, line)]
            return lines if len(lines) >= count else []

        try:
            return wait_for(f"{count} x {pattern}", found)
        except AssertionError as error:
            error.add_note(self.log())
            raise

    def ask(self, kind: str, body: Any = None) -> Any:
        return trio.run(request, self.runtime / "emperor" / "ctl", kind, body)

    def list(self) -> dict[str, dict[str, Any]]:
        """Vassals by name, as ctl tells."""
        return {vassal["name"]: vassal for vassal in self.ask("vassal.list")["vassals"]}

    def wait_state(self, name: str, *states: str) -> dict[str, Any]:
        def reached() -> dict[str, Any] | None:
            vassal = self.list().get(name)
            return vassal if vassal and vassal["state"] in states else None

        return wait_for(f"{name} is {states}", reached)

    def keeper_pid(self) -> int:
        pid: int = self.ask("status")["keeper_pid"]
        return pid

    def close(self) -> None:
        """End everything: an emperor that still runs by INT, else what the last keeper holds by a last emperor."""
        governed = any(emperor.poll() is None for emperor in self.emperors)
        if not governed and (self.runtime / "emperor/keeper.sock").exists():
            with contextlib.suppress(AssertionError):
                self.start("--emperor-freq", "1")
        for emperor in self.emperors:
            if emperor.poll() is None:
                emperor.send_signal(signal.SIGINT)
        for emperor in self.emperors:
            emperor.wait(PATIENCE * 2)
        shutil.rmtree(self.runtime, ignore_errors=True)  # a vassal may be taking its own files away just now


def get(port: int) -> str | None:
    """What the app on this port answers; None if nobody does."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/")
        return connection.getresponse().read().decode()
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def master_of(port: int) -> int:
    """The pid of the master behind the answers: the leader of the session the keeper made for it."""
    return int(wait_for(f"an answer on {port}", lambda: get(port)).split()[-1])


def worker_of(port: int) -> int:
    """The pid of the worker that answers; another one after a reload."""
    return int(wait_for(f"an answer on {port}", lambda: get(port)).split()[-2])


def kill_and_wait(pid: int, signum: int = signal.SIGKILL) -> None:
    """Kill a process of ours that is somebody else's child, and wait until it is gone."""
    pidfd = os.pidfd_open(pid)
    signal.pidfd_send_signal(pidfd, signum)
    wait_for(f"{pid} is gone", lambda: not Path(f"/proc/{pid}").exists() or is_zombie(pid))
    os.close(pidfd)


def is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


__all__ = [
    "PalatineError",
    "Realm",
    "free_port",
    "get",
    "is_zombie",
    "kill_and_wait",
    "master_of",
    "wait_for",
    "worker_of",
]
