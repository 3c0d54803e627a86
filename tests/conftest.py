import fcntl
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from running import Runner, runner


@pytest.fixture(scope="session", autouse=True)
def aimed() -> Iterator[None]:
    """A pid read too early is 0, and kill(2) of 0 would end the whole run with everything it has started."""
    kill = os.kill

    def careful(pid: int, number: int) -> None:
        assert pid > 0, f"a signal to a whole group: {pid}"
        kill(pid, number)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "kill", careful)
        yield


@pytest.fixture
def programs(tmp_path: Path) -> Iterator[Runner]:
    """Starts real programs in directories of this test's own, and ends them."""
    with runner(tmp_path) as made:
        yield made


@pytest.fixture(scope="module", autouse=True)
def alone(request: pytest.FixtureRequest) -> Iterator[None]:
    """Modules marked `alone` take turns on this machine, whichever process runs them."""
    marks = getattr(request.module, "pytestmark", [])
    names = [mark.args[0] for mark in (marks if isinstance(marks, list) else [marks]) if mark.name == "alone"]
    if not names:
        yield
        return
    with (Path(tempfile.gettempdir()) / f"palatine-test-{names[0]}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
