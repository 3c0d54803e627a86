"""Who a process runs as: users and groups by name or number, supplementary groups, capabilities. Plain."""

import grp
import os
import pwd
from collections.abc import Sequence

from palatine.errors import ConfigError


def ids(user: str, group: str) -> tuple[int | None, int | None]:
    """The numbers of a user and a group given by name or number, None for ""; ConfigError for one nobody knows."""
    try:
        uid = int(user) if user.isdigit() else pwd.getpwnam(user).pw_uid if user else None
    except KeyError as error:
        raise ConfigError(f"no user {user!r}") from error
    return uid, _gid(group)


def _gid(group: str) -> int | None:
    try:
        return int(group) if group.isdigit() else grp.getgrnam(group).gr_gid if group else None
    except KeyError as error:
        raise ConfigError(f"no group {group!r}") from error


def become(
    user: str,
    group: str,
    additional: Sequence[str] = (),
    *,
    init_groups: bool = False,
    capabilities: frozenset[int] = frozenset(),
) -> None:
    """Become `user` and `group`, for ever; nothing happens where both are ""; ConfigError where only root could.

    `init_groups` gives the process the groups of the user's account, as uWSGI does when only a uid is named. Of
    `capabilities`, where there are any, exactly those are left.
    """
    uid, gid = ids(user, group)
    if os.geteuid() != 0:
        if uid not in {None, os.geteuid()}:
            raise ConfigError("only root can run as another user (uid, gid)")
        return
    if not capabilities:
        _take_groups(uid, gid, additional, init_groups=init_groups)
        if uid is not None:
            os.setuid(uid)
        return
    from palatine_app_server.starting import kernel_jails  # rarely needed

    kernel_jails.keep_capabilities()
    _take_groups(uid, gid, additional, init_groups=init_groups)
    if uid is not None:
        os.setuid(uid)
    kernel_jails.set_capabilities(capabilities)


def step_down(user: str, group: str, additional: Sequence[str] = (), *, init_groups: bool = False) -> None:
    """As `become`, but root stays the saved user, which `step_up` takes back in a forked child.

    What this process executes does not have it: execve(2) makes the effective user the saved one.
    """
    uid, gid = ids(user, group)
    if os.geteuid() != 0:
        become(user, group)
        return
    _take_groups(uid, gid, additional, init_groups=init_groups)
    if uid is not None:
        os.setresuid(uid, uid, 0)


def step_up() -> None:
    """Be root again, where `step_down` has left that."""
    if os.getresuid()[2] == 0:
        os.setresuid(0, 0, 0)


def kill(pid: int, number: int) -> None:
    """Send a signal to a child, which may be root for a moment while we have stepped down."""
    try:
        os.kill(pid, number)
    except PermissionError:
        own, _, saved = os.getresuid()
        if saved:
            raise
        os.seteuid(0)
        try:
            os.kill(pid, number)
        finally:
            os.seteuid(own)


def _take_groups(uid: int | None, gid: int | None, additional: Sequence[str], *, init_groups: bool) -> None:
    if uid is None and gid is None:
        return
    more = [number for number in map(_gid, additional) if number is not None]
    if gid is not None or more:
        os.setgroups(more)
    if gid is not None:
        os.setgid(gid)
    if uid is not None and init_groups and not more:
        _init_groups(uid, os.getgid())


def _init_groups(uid: int, gid: int) -> None:
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:  # a number without an account has no groups
        return
    os.initgroups(name, gid)
