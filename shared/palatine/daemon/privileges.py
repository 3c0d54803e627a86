"""Become another user for good, and die with one's parent; must never leave a way back to the first user."""

import ctypes
import grp
import os
import pwd
import signal
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import attrs

from palatine.errors import ConfigError, PalatineError
from palatine.exits import NO_PERMISSION

_PR_SET_PDEATHSIG: Final = 1

#: Set by whoever starts a companion: the pid it must not outlive.
PARENT_VARIABLE: Final = "PALATINE_PARENT"


class PermissionRefusedError(PalatineError):
    """This process may not do what it was asked to do."""

    exit_status = NO_PERMISSION


@attrs.frozen
class Identity:
    """A user and group to run as; `groups` are the supplementary ones."""

    uid: int
    gid: int
    groups: tuple[int, ...]


def find_identity(user: str | None, group: str | None) -> Identity | None:
    """The identity `--user` and `--group` (names or numbers) ask for, None without; ConfigError if unknown."""
    if user is None and group is None:
        return None
    uid, gid, groups = os.geteuid(), os.getegid(), tuple(os.getgroups())
    if user is not None:
        entry = _passwd(user)
        uid, gid = (entry.pw_uid, entry.pw_gid) if entry else (int(user), gid)
        groups = tuple(os.getgrouplist(entry.pw_name, gid)) if entry else (gid,)
    if group is not None:
        gid = _gid(group)
        groups = tuple(dict.fromkeys((gid, *groups)))
    return Identity(uid, gid, groups)


def become(identity: Identity, directories: Iterable[Path]) -> None:
    """Give the `directories` to the identity, then take it on for good; PermissionRefusedError if not allowed."""
    if (os.getuid(), os.getgid()) == (identity.uid, identity.gid):
        return
    try:
        for path in directories:
            _give(path, identity)
        os.setgroups(identity.groups)
        os.setresgid(identity.gid, identity.gid, identity.gid)
        os.setresuid(identity.uid, identity.uid, identity.uid)
    except PermissionError as error:
        raise PermissionRefusedError(
            f"only root may become uid {identity.uid}, gid {identity.gid}: {error.strerror}"
        ) from error
    if identity.uid and os.getresuid() != (identity.uid,) * 3:
        raise PermissionRefusedError(f"the uid is {os.getresuid()} after becoming {identity.uid}")


def _give(directory: Path, identity: Identity) -> None:
    """What is in a directory is given away only while nobody but us can have put it there: it may hold links."""
    owner = directory.stat(follow_symlinks=False).st_uid
    if owner == identity.uid:
        return
    if owner != os.geteuid():
        raise PermissionRefusedError(f"{directory} belongs to uid {owner}: give it to uid {identity.uid} or remove it")
    for _, names, files, descriptor in os.fwalk(directory):
        for name in (*names, *files):
            os.chown(name, identity.uid, identity.gid, dir_fd=descriptor, follow_symlinks=False)
    os.chown(directory, identity.uid, identity.gid, follow_symlinks=False)


def die_with_parent(parent: int, signum: int = signal.SIGTERM) -> bool:
    """Have the kernel send `signum` when the parent dies; False if `parent` is already gone.

    Call it after a change of uid: that clears the setting (prctl(2)).
    """
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signum, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    return os.getppid() == parent


def _passwd(user: str) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwuid(int(user)) if user.isdigit() else pwd.getpwnam(user)
    except KeyError as error:
        if user.isdigit():
            return None
        raise ConfigError(f"--user: there is no user {user!r}") from error


def _gid(group: str) -> int:
    if group.isdigit():
        return int(group)
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError as error:
        raise ConfigError(f"--group: there is no group {group!r}") from error
