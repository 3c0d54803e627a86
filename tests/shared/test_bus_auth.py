import grp
import os
import pwd
from types import SimpleNamespace

import pytest

from palatine.bus import Peer, Role, default_role_of
from palatine.bus.auth import parse_peer

OURS = os.geteuid()


def peer(uid: int | None, gid: int = 54321) -> Peer:
    return Peer(uid, gid, 1, "")


@pytest.fixture
def group(monkeypatch: pytest.MonkeyPatch) -> None:
    """A group palatine (gid 777) with one member by name (uid 2001), whatever this machine has."""
    monkeypatch.setattr(grp, "getgrnam", lambda _: SimpleNamespace(gr_gid=777))

    def getpwuid(uid: int) -> SimpleNamespace:
        if uid not in {2001, 2002}:
            raise KeyError(uid)
        return SimpleNamespace(pw_name=f"user{uid}", pw_gid=100)

    monkeypatch.setattr(pwd, "getpwuid", getpwuid)
    monkeypatch.setattr(os, "getgrouplist", lambda name, gid: [gid, 777] if name == "user2001" else [gid])


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("localhost:0:0:9636", (0, 0, 9636)),
        ("localhost:65534:65533:1", (65534, 65533, 1)),
        ("127.0.0.1", (None, None, None)),
        ("localhost", (None, None, None)),
        ("", (None, None, None)),
        ("::1:0:0:1", (None, None, None)),
        ("localhost:0:0", (None, None, None)),
        ("localhost:0:0:0:0", (None, None, None)),
        ("localhost:-1:0:0", (None, None, None)),
        ("localhost:²:0:0", (None, None, None)),
    ],
)
def test_the_peer_address_of_libzmq(address: str, expected: tuple[int | None, ...]) -> None:
    found = parse_peer(address)
    assert (found.uid, found.gid, found.pid) == expected
    assert found.address == address


@pytest.mark.usefixtures("group")
@pytest.mark.parametrize(
    ("who", "expected"),
    [
        (peer(0), Role.DEPLOYER),
        (peer(OURS), Role.DEPLOYER),
        (peer(3000), Role.DEPLOYER),
        (peer(1000), Role.OPERATOR),
        (peer(2001), Role.OPERATOR),
        (peer(2002), None),
        (peer(2002, 777), Role.OPERATOR),
        (peer(4000), Role.VIEWER),
        (peer(5000), None),
        (peer(None), None),
    ],
)
def test_roles(who: Peer, expected: Role | None) -> None:
    assert default_role_of({1000}, deployers={3000}, viewers={4000})(who) is expected


def test_without_a_group_palatine_only_the_lists_count(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_group(name: str) -> None:
        raise KeyError(name)

    monkeypatch.setattr(grp, "getgrnam", no_group)
    role_of = default_role_of(())
    assert role_of(peer(OURS)) is Role.DEPLOYER
    assert role_of(peer(1)) is None


@pytest.mark.usefixtures("group")
def test_membership_is_remembered_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    role_of = default_role_of(())
    assert role_of(peer(2001)) is Role.OPERATOR
    monkeypatch.setattr(os, "getgrouplist", lambda _name, gid: [gid])
    assert role_of(peer(2001)) is Role.OPERATOR
    assert default_role_of(())(peer(2001)) is None


def test_roles_include_the_ones_below() -> None:
    assert Role.DEPLOYER > Role.OPERATOR > Role.VIEWER
