"""Who a peer is and what it may do: uids of ipc peers to roles; never trusts a word of the message itself."""

import grp
import os
import pwd
import time
from collections.abc import Callable, Container
from enum import IntEnum
from typing import Final

import attrs

from palatine.places import GROUP

#: Group membership is asked anew after this many seconds, so that adding an operator needs no restart.
MEMBERSHIP_SECONDS: Final = 30.0
MEMBERSHIP_UIDS: Final = 4096


class Role(IntEnum):
    """What a peer may do; each includes the ones below it."""

    VIEWER = 1
    OPERATOR = 2
    DEPLOYER = 3


@attrs.frozen
class Peer:
    """The other end of a connection: by the kernel's SO_PEERCRED on ipc, only an address otherwise."""

    uid: int | None
    gid: int | None
    pid: int | None
    address: str


RoleOf = Callable[[Peer], Role | None]


def parse_peer(address: str) -> Peer:
    """The peer in libzmq's Peer-Address: on ipc `localhost:<uid>:<gid>:<pid>`; of anything else only the address."""
    head, *ids = address.rsplit(":", 3)
    if head == "localhost" and len(ids) == 3 and all(word.isascii() and word.isdigit() for word in ids):
        uid, gid, pid = map(int, ids)
        return Peer(uid, gid, pid, address)
    return Peer(None, None, None, address)


def default_role_of(
    operators: Container[int], *, deployers: Container[int] = (), viewers: Container[int] = ()
) -> RoleOf:
    """Root, our own uid and `deployers` deploy; `operators` and group palatine operate, `viewers` look, others None."""
    members: dict[int, tuple[float, bool]] = {}

    def in_group(peer: Peer, uid: int) -> bool:
        now = time.monotonic()
        known = members.get(uid)
        if known is None or known[0] < now:
            if len(members) >= MEMBERSHIP_UIDS:
                members.clear()
            known = members[uid] = (now + MEMBERSHIP_SECONDS, _is_member(uid))
        return known[1] or peer.gid == _group_id()

    def role_of(peer: Peer) -> Role | None:
        uid = peer.uid
        if uid is None:
            return None
        if uid in {0, os.geteuid()} or uid in deployers:
            return Role.DEPLOYER
        if uid in operators or in_group(peer, uid):
            return Role.OPERATOR
        return Role.VIEWER if uid in viewers else None

    return role_of


def _group_id() -> int | None:
    try:
        return grp.getgrnam(GROUP).gr_gid
    except KeyError:
        return None


def _is_member(uid: int) -> bool:
    wanted = _group_id()
    try:
        user = pwd.getpwuid(uid)
    except KeyError:
        return False
    return wanted is not None and wanted in os.getgrouplist(user.pw_name, user.pw_gid)
