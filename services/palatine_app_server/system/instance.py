"""An instance's own directory in the runtime directory: made, named, claimed and removed by its master.

A claim is a lock on the directory itself (flock(2)), taken before anything is in it and gone with its holder: of two
that start at once one gets the name, and what a killed master left behind is nobody's.
"""

import contextlib
import fcntl
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from palatine import places
from palatine.counters import SegmentView
from palatine.errors import AlreadyRunningError, ConfigError, PalatineError

#: setgid, so that what the app-server makes in it belongs to group palatine.
DIRECTORY_MODE: Final = 0o2750
#: sun_path holds 108 bytes (unix(7)); the longest name in an instance's directory is `handoff`.
SOCKET_PATH_BYTES: Final = 107
#: Daemons whose lock shows that a runtime directory is served.
HOST_DAEMONS: Final = ("stats-exporter", "snmp-agent", "alarm-daemon")


class Place(NamedTuple):
    """Where an instance lives; `private` when it owns the whole runtime directory and starts its own companions.

    `claims` are descriptors that hold the name: forked children close them. `after_crash` tells that a master was
    killed here, so that its workers may still be letting go of its sockets.
    """

    name: str
    directory: Path
    runtime: Path
    private: bool
    claims: tuple[int, ...] = ()
    after_crash: bool = False


def settle(name: str, runtime_override: str, *, may_be_private: bool, identity: str) -> Place:
    """Make and claim the instance's directory.

    `identity` tells two configs of one name apart (host and absolute path): the second gets six hex digits of it.
    """
    runtime = places.runtime_dir(runtime_override or None)
    private = may_be_private and not served(runtime)
    claims: list[int] = []
    after_crash = False
    if private:
        after_crash = sweep(runtime)
        runtime = runtime / f"private-{os.getpid()}"
        fd = _claimed(runtime, 0o700, wait=True)  # a sweeper may hold it for a moment: it bears our pid
        assert fd is not None
        claims.append(fd)
    safe = places.safe_name(name or f"app-{os.getpid()}")
    directory, fd = _claim(places.instances_dir(runtime), safe, identity)
    after_crash = _emptied(directory) or after_crash
    return Place(directory.name, directory, runtime, private, (*claims, fd), after_crash)


def served(runtime: Path) -> bool:
    """Whether a host daemon runs on this runtime directory."""
    return any(_locked(runtime / daemon / "ctl.lock") for daemon in HOST_DAEMONS)


def sweep(runtime: Path) -> bool:
    """Remove private runtime directories whose app-server is gone (killed -9); whether there was one."""
    swept = False
    for directory in runtime.glob("private-*"):
        try:
            if any(_alive(one) for one in (directory / "i").glob("*")):
                continue
        except FileNotFoundError:  # swept by another starter while we looked
            continue
        try:
            fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:  # not ours to see, or just removed by another sweeper
            continue
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _remove(directory)
            swept = True
        except BlockingIOError:
            continue
        finally:
            os.close(fd)
    return swept


def leave(place: Place) -> None:
    """Remove what `settle` made."""
    _remove(place.runtime if place.private else place.directory)
    for fd in place.claims:
        os.close(fd)


def release_in_child(place: Place) -> None:
    """In a forked child: the claim ends with the master, not with the last of its workers."""
    for fd in place.claims:
        os.close(fd)


def identity_of(cwd: str, source: str) -> str:
    """What makes this config different from every other: the host and where it stands."""
    return f"{socket.gethostname()}:{os.path.join(cwd, source)}"


def _candidates(name: str, identity: str) -> Iterator[str]:
    yield name
    from hashlib import sha256  # rarely needed, and half a megabyte

    yield f"{name[: places.INSTANCE_NAME_BYTES - 7]}-{sha256(identity.encode()).hexdigest()[:6]}"


def _remove(directory: Path) -> None:
    from shutil import rmtree  # at an end or after a crash: a server that runs does without half a megabyte

    rmtree(directory, ignore_errors=True)


def _claim(instances: Path, name: str, identity: str) -> tuple[Path, int]:
    for candidate in _candidates(name, identity):
        directory = instances / candidate
        longest = len(os.fsencode(directory / "handoff"))
        if longest > SOCKET_PATH_BYTES:
            raise ConfigError(
                f"sockets in it would have {longest} bytes, the kernel allows {SOCKET_PATH_BYTES}: "
                "choose a shorter --runtime-dir or --name",
                str(directory),
            )
        try:
            fd = _claimed(directory, DIRECTORY_MODE, wait=False)
        except OSError as error:
            raise ConfigError(f"instance directory: {error.strerror}", str(directory)) from error
        if fd is not None:
            return directory, fd
    raise AlreadyRunningError(f"an instance of this name and config runs already: {instances / name}")


def _claimed(directory: Path, mode: int, *, wait: bool) -> int | None:
    """The descriptor that holds `directory`, made if need be; None where another process lives in it."""
    while True:
        with contextlib.suppress(FileExistsError):  # a killed master's, or a tyrant's for us where we may make none
            directory.mkdir(mode=0o700)
        try:
            fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            os.close(fd)
            return None
        if _is(directory, fd):
            if _alive(directory):
                os.close(fd)
                return None
            os.fchmod(fd, mode)
            return fd
        os.close(fd)  # its last owner has removed it meanwhile


def _is(directory: Path, fd: int) -> bool:
    try:
        return os.path.samestat(os.stat(directory, follow_symlinks=False), os.fstat(fd))
    except FileNotFoundError:
        return False


def _emptied(directory: Path) -> bool:
    """Remove what is in a claimed directory; whether a master was killed there."""
    after_crash = (directory / "seg").exists()
    for entry in directory.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            _remove(entry)
        else:
            entry.unlink(missing_ok=True)
    return after_crash


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
