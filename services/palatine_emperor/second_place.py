"""Where `palatine --emperor` lives when another emperor governs the runtime directory; never takes that one's lock."""

import fcntl
import hashlib
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from palatine import places


def find_place() -> Path | None:
    """A runtime directory of this process's own, where the usual one is governed; None where it is free."""
    runtime = places.runtime_dir()
    return runtime / _name() if is_locked(runtime / "emperor" / "ctl.lock") else None


def leave_place(runtime: Path) -> None:
    """Remove such a directory, once its keeper has gone with its vassals; any other stays."""
    if runtime.name == _name() and not (runtime / "emperor" / "keeper.sock").exists():
        shutil.rmtree(runtime, ignore_errors=True)


def vassals_state(runtime: Path, override: str | None, identity: Sequence[str]) -> str:
    """The state directory vassals and their daemons are told; empty for the usual one.

    In a place of one's own their names may be others' too, so their state is kept apart, by what the emperor governs.
    """
    if runtime.name != _name():
        return str(Path(override).absolute()) if override else ""
    digest = hashlib.sha256("\0".join(identity).encode(errors="surrogateescape")).hexdigest()[:6]
    return str(places.state_dir(f"private/emperor-{digest}", override))


def _name() -> str:
    return f"emperor-{os.getpid()}"


def is_locked(path: Path) -> bool:
    """Whether a live process holds the lock of a daemon's ctl."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        return False
    finally:
        os.close(descriptor)
