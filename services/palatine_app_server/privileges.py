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


def become(user: str, group: str, additional: Sequence[str] = (), *, init_groups: bool = False) -> None:
    """Become `user` and `group`, for ever; nothing happens where both are ""; ConfigError where only root could.

    `init_groups` gives the process the groups of the user's account, as uWSGI does when only a uid is named.
    """
    uid, gid = ids(user, group)
    if uid is None and gid is None:
        return
    if os.geteuid() != 0:
        if uid not in {None, os.geteuid()}:
            raise ConfigError("only root can run as another user (uid, gid)")
        return
    more = [number for number in map(_gid, additional) if number is not None]
    if gid is not None or more:
        os.setgroups(more)
    if gid is not None:
        os.setgid(gid)
    if uid is not None:
        if init_groups and not more:
            _init_groups(uid, os.getgid())
        os.setuid(uid)


def _init_groups(uid: int, gid: int) -> None:
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:  # a number without an account has no groups
        return
    os.initgroups(name, gid)
