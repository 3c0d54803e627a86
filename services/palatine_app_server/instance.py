"""An instance's own directory in the runtime directory: made, named, claimed and removed by its master."""

import fcntl
import hashlib
import os
import shutil
import socket
from pathlib import Path
from typing import Final, NamedTuple

from palatine import places
from palatine.counters import SegmentView
from palatine.errors import ConfigError, PalatineError

#: setgid, so that what the app-server makes in it belongs to group palatine.
DIRECTORY_MODE: Final = 0o2750
#: sun_path holds 108 bytes (unix(7)); the longest name in an instance's directory is `handoff`.
SOCKET_PATH_BYTES: Final = 107
#: Daemons whose lock shows that a runtime directory is served.
HOST_DAEMONS: Final = ("stats-exporter", "snmp-agent", "alarm-daemon")


class Place(NamedTuple):
    """Where an instance lives; `private` when it owns the whole runtime directory and starts its own companions."""

    name: str
    directory: Path
    runtime: Path
    private: bool


def settle(name: str, runtime_override: str, *, may_be_private: bool, identity: str) -> Place:
    """Make and claim the instance's directory.

    `identity` tells two configs of one name apart (host and absolute path): the second gets six hex digits of it.
    """
    runtime = places.runtime_dir(runtime_override or None)
    private = may_be_private and not served(runtime)
    if private:
        sweep(runtime)
        runtime = runtime / f"private-{os.getpid()}"
        runtime.mkdir(mode=0o700, exist_ok=True)
    safe = places.safe_name(name or f"app-{os.getpid()}")
    directory = _claim(places.instances_dir(runtime), safe, identity)
    return Place(directory.name, directory, runtime, private)


def served(runtime: Path) -> bool:
    """Whether a host daemon runs on this runtime directory."""
    return any(_locked(runtime / daemon / "ctl.lock") for daemon in HOST_DAEMONS)


def sweep(runtime: Path) -> None:
    """Remove private runtime directories whose app-server is gone (killed -9): their segments have no live writer."""
    for directory in runtime.glob("private-*"):
        if not any(_alive(instance) for instance in (directory / "i").glob("*")):
            shutil.rmtree(directory, ignore_errors=True)


def leave(place: Place) -> None:
    """Remove what `settle` made."""
    shutil.rmtree(place.runtime if place.private else place.directory, ignore_errors=True)


def identity_of(cwd: str, source: str) -> str:
    """What makes this config different from every other: the host and where it stands."""
    return f"{socket.gethostname()}:{os.path.join(cwd, source)}"


def _claim(instances: Path, name: str, identity: str) -> Path:
    digest = hashlib.sha256(identity.encode()).hexdigest()[:6]
    for candidate in (name, f"{name[: places.INSTANCE_NAME_BYTES - 7]}-{digest}"):
        directory = instances / candidate
        longest = len(os.fsencode(directory / "handoff"))
        if longest > SOCKET_PATH_BYTES:
            raise ConfigError(
                f"sockets in it would have {longest} bytes, the kernel allows {SOCKET_PATH_BYTES}: "
                "choose a shorter --runtime-dir or --name",
                str(directory),
            )
        if directory.exists():
            if _alive(directory):
                continue
            shutil.rmtree(directory, ignore_errors=True)
        try:
            directory.mkdir(mode=0o750, exist_ok=True)  # a tyrant made it for us: the runtime directory is not ours
            directory.chmod(DIRECTORY_MODE)
        except OSError as error:
            raise ConfigError(f"instance directory: {error.strerror}", str(directory)) from error
        return directory
    raise ConfigError("an instance of this name and config runs already", str(instances / name))


def _alive(directory: Path) -> bool:
    try:
        with SegmentView.open(directory / "seg") as view:
            return view.alive()
    except (OSError, PalatineError):
        return False


def _locked(path: Path) -> bool:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    else:
        return False
    finally:
        os.close(fd)
