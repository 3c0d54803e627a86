"""The app-server as a program: started with an app of the test's own, watched through its segment."""

import contextlib
import os
import re
import socket
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from palatine.counters import SegmentView
from palatine.errors import PalatineError
from palatine.schema import SERVER_STATES
from running import Runner, anyones_python, children, import_path, wait_until
from worker_inside import Client

#: /wait/NAME stays in the app until the test calls `let(NAME)`; /regex holds the GIL for very long; /pid tells who.
APP = """
import os, re, sys, time
try:
    import uwsgi
except ImportError:
    uwsgi = None

HERE = os.path.dirname(os.path.abspath(__file__))

def application(environ, start_response):
    path = environ["PATH_INFO"]
    body = b"ok"
    if path.startswith("/wait/"):
        name = os.path.join(HERE, path[6:])
        open(name + ".in", "a").close()
        while not os.path.exists(name + ".go"):
            time.sleep(0.01)
    elif path == "/gil":
        open(os.path.join(HERE, "gil.in"), "a").close()
        sum(range(10**13))
    elif path == "/regex":
        open(os.path.join(HERE, "regex.in"), "a").close()
        re.match(r"(a+)+$", "a" * 60 + "b")
    elif path == "/pid":
        body = str(os.getpid()).encode()
    elif path == "/echo":
        body = environ["wsgi.input"].read()
    else:
        body = more(environ) or body
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [body]

def more(environ):
    return None
"""


def knock(directory: Path) -> None:
    """Have the link of an instance started, which is not there before somebody wants it."""
    with socket.socket(socket.AF_UNIX) as caller:
        caller.connect(os.fspath(directory / "ctl"))


class AppServer:
    """One running instance named `app`."""

    def __init__(
        self,
        programs: Runner,
        *words: str,
        app: str = "",
        name: str = "app",
        processes: int = 1,
        threads: int = 1,
        program: str = "palatine-app-server",
        listen: tuple[str, ...] = ("--http-socket", "127.0.0.1:0"),
        environ: Mapping[str, str] | None = None,
        wait: bool = True,
        **extra: Any,
    ) -> None:
        self.programs = programs
        self.name = name
        self.home = programs.directory / name
        self.home.mkdir(exist_ok=True)
        if not (self.home / "app.py").exists():
            self.write(app)
        self.running = programs.start(
            program, "--master", "--name", name, "--wsgi-file", str(self.home / "app.py"), *listen,
            "--processes", str(processes), "--threads", str(threads), *words,
            cwd=self.home, environ=environ, **extra,
        )  # fmt: skip
        self.pid = self.running.pid
        if wait:
            self.wait_ready()
            self.knock()

    def knock(self) -> None:
        """Have the link started."""
        wait_until(lambda: knock(self.directory) is None, "the door, or a link wanted from the start")
        wait_until(self.link, "the link")

    def write(self, more: str) -> None:
        """Put an app there: the standard one, and `more` behind it."""
        (self.home / "app.py").write_text(APP + textwrap.dedent(more))

    def let(self, name: str) -> None:
        """Let requests for /wait/`name` go on."""
        (self.home / f"{name}.go").touch()

    def entered(self, name: str) -> None:
        """Wait until a request for /wait/`name` is in the app."""
        wait_until((self.home / f"{name}.in").exists, f"/wait/{name} in the app")

    # ------------------------------------------------------------------ what it shows

    @property
    def directory(self) -> Path:
        return self.programs.runtime / "i" / self.name

    def read(self, table: str) -> list[dict[str, int]]:
        """Rows of the segment; OSError while there is none."""
        try:
            with SegmentView.open(self.directory / "seg") as view:
                return view.read(table)
        except PalatineError as error:
            raise OSError(str(error)) from error

    def server(self) -> dict[str, int]:
        return self.read("server")[0]

    def state(self) -> str:
        return SERVER_STATES[self.server()["state"]]

    def pids(self) -> list[int]:
        """Of the workers in their slots."""
        return [row["pid"] for row in self.read("slots")]

    def requests(self) -> int:
        return sum(row["requests"] for row in self.read("cores"))

    def zygote(self) -> int:
        return self.server()["zygote_pid"]

    def link(self) -> int:
        return self.server()["link_pid"]

    def generation(self) -> int:
        return self.server()["generation"]

    def wait_ready(self) -> None:
        """All workers of the serving generation accept."""

        def ready() -> bool:
            code = self.running.process.poll()
            if code is not None:
                raise RuntimeError(f"it ended with {code}: {self.running.output()}")
            ours = self.server()["pid"] == self.pid  # and not a killed predecessor's
            accepting = all(row["accepting"] for row in self.read("workers")) and all(self.pids())
            return ours and accepting and self.state() == "ready"

        wait_until(ready, f"ready: {self.running.output()}", 20)

    def wait_other_worker(self, old: int, index: int = 0) -> None:
        """Another process than `old` is in slot `index`."""
        wait_until(
            lambda: self.pids()[index] not in {0, old}, f"another worker {index + 1}: {self.running.output()}", 20
        )

    def wait_other_zygote(self, old: int) -> None:
        wait_until(lambda: self.zygote() != old and alive(self.zygote()), "another zygote", 20)

    def wait_log(self, text: str, count: int) -> None:
        """`text` was printed so often."""
        wait_until(lambda: self.running.output().count(text) >= count, f"{count} times {text!r}")

    def wait_processes(self, count: int) -> None:
        """So many processes are below the master: nobody lingers, nobody is missing."""
        wait_until(lambda: len(self.processes()) == count, f"{count} processes, not {self.processes()}")

    def processes(self) -> list[int]:
        """Every process below the master, zombies left out."""
        found = []
        for child in children(self.pid) if Path(f"/proc/{self.pid}").exists() else []:
            with contextlib.suppress(OSError):
                if Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
                    found.append(child)
        return found

    # ------------------------------------------------------------------ clients

    def address(self, number: int = 0) -> Any:
        """Where socket `number` listens, as a client connects to it."""
        found = re.search(rf"uwsgi socket {number} .* address (\S+) fd ", self.running.output())
        assert found, self.running.output()
        name = found[1]
        if name.startswith("@"):
            return "\0" + name[1:]
        if ":" not in name:
            return str(self.home / name)
        host, _, port = name.rpartition(":")
        return host.strip("[]"), int(port)

    def connect(self, number: int = 0) -> Client:
        return Client(self.address(number))

    def get(self, path: str = "/", number: int = 0) -> bytes:
        """The body of one request on a connection of its own; OSError or AssertionError where there is none."""
        with self.connect(number) as client:
            return client.get(path, "Connection: close")[1]


def for_everybody(programs: Runner) -> dict[str, Any]:
    """Let other users into the test's directories; how an AppServer is started that such a user can go on with."""
    programs.directory.chmod(0o777)
    for parent in programs.directory.parents:
        if parent != Path("/") and parent.stat().st_mode & 0o001 == 0:
            parent.chmod(parent.stat().st_mode | 0o011)
    programs.runtime.chmod(0o777)
    program = programs.directory / "app-server"
    program.write_text(f'#!/bin/sh\nexec {anyones_python()[0]} -P -m palatine_app_server "$@"\n')
    program.chmod(0o755)
    return {"program": str(program), "environ": {"PYTHONPATH": import_path()}}


def alive(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def cpu_seconds(pid: int) -> float:
    """User and system time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
