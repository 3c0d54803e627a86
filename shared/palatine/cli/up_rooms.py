"""The directories of `palatine up`: claimed, cleared of what a killed parent left, removed; must never touch state."""

import fcntl
import os
import select
import shutil
import time
from pathlib import Path
from typing import Final, Self

from palatine import places
from palatine.cli.found import DAEMONS, look
from palatine.errors import AlreadyRunningError

_LOCK: Final = "up.lock"
#: What is left of a former run is ending by itself: its parent's death was a TERM to it.
LEFTOVER_SECONDS: Final = 15.0


class Rooms:
    """The runtime and state directories of one `palatine up`, which nobody else uses meanwhile."""

    def __init__(self, runtime: Path, state: Path, made: list[Path], locks: list[int]) -> None:
        self.runtime = runtime
        self.state = state
        self._made = made
        self._locks = locks

    @classmethod
    def claim(cls, runtime_dir: str | None, state_dir: str | None) -> Self:
        """Make and claim them. AlreadyRunningError if another `palatine up`, or any daemon, lives there.

        Without a name the runtime directory is `up` in the usual one, so that it meets no daemon of the host.
        """
        state = places.state_dir("up") if state_dir is None else Path(state_dir).absolute()
        state.mkdir(parents=True, exist_ok=True)
        locks = [_locked(state)]
        try:
            tops = [Path(runtime_dir).absolute()] if runtime_dir else [Path("/run/palatine"), *_private_tops()]
            existed = [path for path in tops if path.exists()]
            top = places.runtime_dir(runtime_dir)
            runtime = top if runtime_dir else top / "up"
            runtime.mkdir(mode=0o755, exist_ok=True)
            ours = not runtime_dir or (runtime / _LOCK).exists()  # ... which a killed `palatine up` has left
            made = list(dict.fromkeys([*([runtime] if ours else []), *([] if top in existed else [top])]))
            if runtime != state:
                locks.append(_locked(runtime))
        except BaseException:
            os.close(locks[0])
            raise
        rooms = cls(runtime, state, made, locks)
        rooms._clear()
        return rooms

    def leave(self) -> None:
        """Remove what this run and its children made outside the state directory."""
        self._clear()
        (self.runtime / _LOCK).unlink(missing_ok=True)
        for lock in self._locks:
            os.close(lock)
        for path in self._made:
            try:
                path.rmdir()
            except OSError:  # somebody else has come to live there
                break

    def _clear(self) -> None:
        _wait_for_leftovers(self.runtime)
        for name in ("i", *DAEMONS):
            shutil.rmtree(self.runtime / name, ignore_errors=True)


def _private_tops() -> list[Path]:
    xdg = os.environ.get("XDG_RUNTIME_DIR")
    return [*([Path(xdg) / "palatine"] if xdg else []), Path(f"/tmp/palatine-{os.geteuid()}")]  # noqa: S108 - only looked at


def _locked(directory: Path) -> int:
    lock = os.open(directory / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = os.pread(lock, 20, 0).decode().strip()
        os.close(lock)
        raise AlreadyRunningError(f"palatine up runs here already (pid {owner}, {directory})") from None
    os.ftruncate(lock, 0)
    os.pwrite(lock, b"%d\n" % os.getpid(), 0)
    return lock


def _wait_for_leftovers(runtime: Path) -> None:
    """Until nobody lives in the directory; AlreadyRunningError if somebody stays."""
    deadline = time.monotonic() + LEFTOVER_SECONDS
    for thing in [thing for thing in look(runtime) if thing.alive and thing.pid]:
        try:
            process = os.pidfd_open(thing.pid)
        except ProcessLookupError:
            continue
        try:
            if not select.select([process], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise AlreadyRunningError(f"{thing.name} runs in {runtime} (pid {thing.pid}) and does not end")
        finally:
            os.close(process)
