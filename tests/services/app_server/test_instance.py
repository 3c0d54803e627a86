"""Claims of instance directories: one holder each, gone with its holder, and nothing of a dead one's is kept."""

import fcntl
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from palatine.counters import Segment
from palatine.errors import AlreadyRunningError, ConfigError
from palatine.schema import INSTANCE
from palatine_app_server.system import instance
from palatine_app_server.system.instance import Place

SETTLE = """
import sys
from palatine_app_server.system import instance
place = instance.settle(sys.argv[1], sys.argv[2], may_be_private=sys.argv[3] == "private", identity=sys.argv[4])
(place.directory / "seg").touch()
print(place.directory, place.after_crash, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def runtime(tmp_path: Path) -> Path:
    return tmp_path / "rt"


def settle(runtime: Path, name: str = "app", identity: str = "here", *, private: bool = False) -> Place:
    return instance.settle(name, str(runtime), may_be_private=private, identity=identity)


class Holder:
    """Another process that has settled."""

    def __init__(self, runtime: Path, name: str = "app", kind: str = "public", identity: str = "here") -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", SETTLE, name, str(runtime), kind, identity],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self.process.stdout is not None
        directory, crash = self.process.stdout.readline().split()
        self.directory = Path(directory)
        self.after_crash = crash == "True"

    def end(self, number: int = signal.SIGKILL) -> None:
        self.process.send_signal(number)
        self.process.communicate(timeout=10)


def test_a_directory_is_made_named_and_removed(runtime: Path) -> None:
    place = settle(runtime, "my app/../é")
    assert place.directory == runtime / "i" / "my-app"
    assert place.name == "my-app"
    assert place.directory.stat().st_mode & 0o7777 == instance.DIRECTORY_MODE
    assert not place.after_crash
    instance.leave(place)
    assert not place.directory.exists()


def test_the_second_of_a_name_gets_six_digits_and_the_third_is_refused(runtime: Path) -> None:
    first, second = settle(runtime), settle(runtime)
    assert first.name == "app"
    assert second.name.startswith("app-")
    assert len(second.name) == len("app-") + 6
    with pytest.raises(AlreadyRunningError, match="runs already"):
        settle(runtime)
    other = settle(runtime, identity="elsewhere")
    assert other.name not in {first.name, second.name}
    for place in (first, second, other):
        instance.leave(place)
    assert settle(runtime).name == "app"


def test_what_a_killed_master_left_is_nobodys(runtime: Path) -> None:
    holder = Holder(runtime)
    (holder.directory / "ctl").touch()
    (holder.directory / "sub").mkdir()
    (holder.directory / "sub" / "file").touch()
    assert settle(runtime).name != "app"
    holder.end()
    place = settle(runtime)
    assert place.directory == holder.directory
    assert place.after_crash
    assert list(place.directory.iterdir()) == []


def test_a_directory_made_for_us_is_taken(runtime: Path) -> None:
    """By an emperor: where we could not make it, we cannot remove it either."""
    (runtime / "i" / "app").mkdir(parents=True)
    place = settle(runtime)
    assert place.name == "app"
    assert not place.after_crash


def test_a_live_segment_is_a_claim_too(runtime: Path) -> None:
    directory = runtime / "i" / "app"
    directory.mkdir(parents=True)
    segment = Segment.create(directory / "seg", INSTANCE, {}, {})
    segment.publish()
    assert settle(runtime).name != "app"
    assert (directory / "seg").exists()
    segment.close(unlink=True)


def test_a_claim_does_not_pass_to_children(runtime: Path) -> None:
    place = settle(runtime)
    fork = multiprocessing.get_context("fork")
    release, hold = fork.Event(), fork.Event()

    def child() -> None:
        instance.release_in_child(place)
        release.set()
        hold.wait(10)

    process = fork.Process(target=child)
    process.start()
    assert release.wait(10)
    for fd in place.claims:
        os.close(fd)
    again = settle(runtime)
    assert again.name == "app"
    hold.set()
    process.join(10)


def test_long_names_and_paths(tmp_path: Path) -> None:
    runtime = Path("/tmp") / f"pal-{os.getpid()}"
    try:
        names = {settle(runtime, "x" * 60).name, settle(runtime, "x" * 60).name}
        assert {len(name) for name in names} == {40}
    finally:
        shutil.rmtree(runtime)
    with pytest.raises(ConfigError, match="the kernel allows 107"):
        settle(tmp_path / ("d" * 100))


def test_private_directories(runtime: Path) -> None:
    place = settle(runtime, private=True)
    assert place.private
    assert place.runtime == runtime / f"private-{os.getpid()}"
    assert place.runtime.stat().st_mode & 0o777 == 0o700
    assert place.directory == place.runtime / "i" / "app"
    instance.leave(place)
    assert not place.runtime.exists()


def test_the_next_start_sweeps_the_dead_and_spares_the_living(runtime: Path) -> None:
    dead, alive = Holder(runtime, kind="private"), Holder(runtime, kind="private")
    dead.end()
    place = settle(runtime, private=True)
    assert place.after_crash
    assert not dead.directory.exists()
    assert alive.directory.exists()
    alive.end()
    last = Holder(runtime, kind="private")
    assert last.after_crash
    last.end()


def test_a_host_daemon_makes_the_runtime_directory_public(runtime: Path) -> None:
    lock = runtime / "alarm-daemon" / "ctl.lock"
    lock.parent.mkdir(parents=True)
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        place = settle(runtime, private=True)
        assert not place.private
        assert place.runtime == runtime
    assert settle(runtime, private=True).private


@pytest.mark.parametrize("kind", ["public", "private"])
def test_of_many_that_start_at_once_each_gets_a_name_of_its_own(runtime: Path, kind: str) -> None:
    """Ten rounds of two at once: with the test after the fact, both would have had the name."""
    for number in range(10):
        processes = [
            subprocess.Popen(
                [sys.executable, "-c", SETTLE, "app", str(runtime), kind, f"{number}-{which}"],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            )
            for which in "ab"
        ]  # fmt: skip
        lines = [process.stdout.readline() for process in processes if process.stdout]
        assert all(Path(line.split()[0]).is_dir() for line in lines), lines
        assert len({line.split()[0] for line in lines}) == 2
        if kind == "public":
            assert sum(line.split()[0].endswith("/app") for line in lines) == 1
        for process in processes:
            process.kill()
            process.communicate(timeout=10)


def test_a_released_name_is_free_at_once(runtime: Path) -> None:
    for _ in range(3):
        holder = Holder(runtime)
        assert holder.directory.name == "app"
        holder.end()
