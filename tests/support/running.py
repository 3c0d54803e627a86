"""Start real programs for a test, wait for states, and end what was started: by pid, whatever happens."""

import contextlib
import fcntl
import functools
import itertools
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

BIN = Path(sys.executable).parent
#: Sanitised: a test must not depend on the caller's runtime directory or umbrella.
_OURS = ("PALATINE_", "UWSGI_", "NOTIFY_SOCKET")
#: Below those the kernel gives to connections and to who asks for any: ip(7), ip_local_port_range.
_PORTS = range(12_000, 32_000)
#: Ports one process of tests has for itself.
_BLOCK = 250


def program(name: str) -> str:
    """A command of this checkout, or of the machine; the test fails when it is missing."""
    if (BIN / name).exists():
        return str(BIN / name)
    found = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    assert found, f"{name} is not installed: run tests/peers.sh"
    return found


def free_port(kind: int = socket.SOCK_STREAM) -> int:
    """A port nobody listens on now, and nobody else's tests will, nor ours before 249 others.

    One from the kernel might be given again before who asked has bound it: 20 of them held two alike once in 80 runs.
    """
    for port in itertools.islice(_own_ports(), _BLOCK):
        with socket.socket(socket.AF_INET, kind) as sock, contextlib.suppress(OSError):
            sock.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no port is free")


@functools.cache
def _own_ports() -> Iterator[int]:
    """The ports of a block in turn; a lock keeps it ours as long as this process lives."""
    directory = Path(tempfile.gettempdir()) / f"palatine-test-ports-{os.getuid()}"
    directory.mkdir(exist_ok=True)
    for first in random.sample(_PORTS[::_BLOCK], len(_PORTS[::_BLOCK])):
        fd = os.open(directory / str(first), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            continue
        return itertools.cycle(range(first, first + _BLOCK))
    raise AssertionError("too many processes of tests hold ports")


def wait_until(probe: Callable[[], T], what: str, seconds: float = 30.0) -> T:
    """The first true value of `probe`; exceptions of it count as not yet."""
    deadline = time.monotonic() + seconds
    last: BaseException | None = None
    while time.monotonic() < deadline:
        try:
            value = probe()
        except (OSError, ValueError, AssertionError, KeyError, subprocess.SubprocessError) as error:
            last = error
        else:
            if value:
                return value
        time.sleep(0.02)
    raise AssertionError(f"{what} did not happen within {seconds} s ({last!r})")


class Running:
    """A program under test, in a session of its own, its output in a file."""

    def __init__(
        self, argv: Sequence[str], directory: Path, environ: Mapping[str, str], log: Path, **extra: Any
    ) -> None:
        self.log = log
        clean = {key: value for key, value in os.environ.items() if not key.startswith(_OURS)}
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                list(argv),
                cwd=directory,
                env={**clean, **environ},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                **extra,
            )
        self.pid = self.process.pid

    def output(self) -> str:
        """Everything printed so far."""
        return self.log.read_text(errors="replace")

    def wait_for(self, text: str, seconds: float = 30.0) -> str:
        """Wait until `text` was printed; the output."""

        def printed() -> bool:
            assert text in self.output() or self.process.poll() is None, self.output()
            return text in self.output()

        wait_until(printed, f"{text!r} in the output of {self.process.args!r}:\n{self.output()[-3000:]}\n", seconds)
        return self.output()

    def send(self, number: int) -> None:
        """Send a signal to the program itself."""
        self.process.send_signal(number)

    def wait(self, seconds: float = 15.0) -> int:
        """Wait for its end; the exit code."""
        return self.process.wait(seconds)

    def stop(self, number: int = signal.SIGINT, seconds: float = 15.0) -> int:
        """Ask it to end and wait."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(seconds)

    def end(self) -> None:
        """Make sure that nothing of its session is left."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(5)
        for pid in session(self.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait(5)


class Runner:
    """Starts programs with a runtime and state directory of the test's own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.runtime = Path(tempfile.mkdtemp(prefix="pal-"))  # socket paths are short
        self.state = directory / "state"
        self._started: list[Running] = []

    def environ(self) -> dict[str, str]:
        """Where palatine's programs put their things in this test."""
        return {"PALATINE_RUNTIME_DIR": str(self.runtime), "PALATINE_STATE_DIR": str(self.state)}

    def start(
        self, *argv: str, cwd: Path | None = None, environ: Mapping[str, str] | None = None, **extra: Any
    ) -> Running:
        """Start `argv`; the first word is looked up in the virtual environment, then on PATH."""
        log = self.directory / f"{len(self._started)}-{Path(argv[0]).name}.log"
        running = Running(
            [program(argv[0]), *argv[1:]],
            cwd or self.directory,
            {**self.environ(), **(environ or {})},
            log,
            **extra,
        )
        self._started.append(running)
        return running

    def close(self) -> None:
        """End everything started, last first."""
        for running in reversed(self._started):
            running.end()
        shutil.rmtree(self.runtime, ignore_errors=True)


@contextlib.contextmanager
def runner(directory: Path) -> Iterator[Runner]:
    """A Runner that ends what it started."""
    made = Runner(directory)
    try:
        yield made
    finally:
        made.close()


def session(leader: int) -> list[int]:
    """The processes of a session, zombies left out."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, IndexError):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                if int(fields[3]) == leader and fields[0] != "Z":
                    found.append(int(entry.name))
    return found


def children(pid: int) -> list[int]:
    """Direct children of a process."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        found += [int(child) for child in (task / "children").read_text().split()]
    return found


def parent_of(pid: int) -> int:
    """The parent of a process."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def child_of(pid: int, module: str) -> int:
    """The child of `pid` that runs `python -m module`; 0 while there is none."""
    for child in children(pid):
        with contextlib.suppress(OSError):
            if module.encode() in Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0"):
                return child
    return 0


def anyones_python() -> list[str]:
    """A Python other users may execute: this one, or the machine's of the same version where this one is root's own."""
    real = Path(sys.executable).resolve()
    reachable = all(parent.stat().st_mode & 0o001 for parent in real.parents)
    if reachable:
        return [sys.executable]
    same = f"/usr/bin/python3.{sys.version_info.minor}"
    assert Path(same).exists(), f"{sys.executable} is only root's, and there is no {same}"
    return [same]


def import_path() -> str:
    """PYTHONPATH by which another interpreter of this version sees what this one does."""
    standard = str(Path(os.__file__).parent)  # the other interpreter has its own
    ours = (entry for entry in sys.path if entry and "tests" not in Path(entry).parts)
    return os.pathsep.join(entry for entry in ours if "site-packages" in entry or not entry.startswith(standard))


def run(*argv: str, seconds: float = 20.0, check: bool = True, **extra: Any) -> subprocess.CompletedProcess[str]:
    """Run a peer to its end."""
    return subprocess.run(
        [program(argv[0]), *argv[1:]], capture_output=True, text=True, timeout=seconds, check=check, **extra
    )


def get(url: str, *options: str) -> str:
    """The body curl gets."""
    return run("curl", "-sS", "--fail", "-m", "10", *options, url).stdout
