import random
from collections.abc import Callable
from ipaddress import ip_network

import pytest

from palatine.codec import ber, snmp
from palatine.codec.snmp import Varbind
from palatine_snmp_agent.access_policy import EVERYTHING, Families, Grant
from palatine_snmp_agent.desk import MAX_KEPT, Desk
from palatine_snmp_agent.doors import Community, HostDoor, comes_from
from palatine_snmp_agent.engine import Engine
from palatine_snmp_agent.responder import BAD_COMMUNITY, BAD_VERSION, GET, MALFORMED
from palatine_snmp_agent.restricted import restricted
from palatine_snmp_agent.usm_gate import UsmGate
from palatine_snmp_agent.view import Cell, Cells, View
from snmp_master import oid, request, shown

ROOT = (1, 3, 6, 1)


def view(*names: ber.Oid) -> View:
    """Cells of these names, whose values are their places."""

    def write(number: int) -> Callable[[], bytes]:
        return lambda: snmp.write_varbind(Varbind(ber.oid_octets(names[number]), ber.encode_integer(number)))

    return View([Cells((1, 3), [Cell(name, write(number)) for number, name in enumerate(names)])])


def walked(seen: View, oid: bytes = b"\x00") -> list[ber.Oid]:
    found = []
    for target in seen.after(oid):
        start, stop = ber.content(target.name, 0, len(target.name), ber.OBJECT_IDENTIFIER)
        found.append(ber.oid_arcs(target.name[start:stop]))
    return found


@pytest.mark.parametrize(
    ("include", "exclude", "name", "has"),
    [
        ((), (), (1, 3), True),
        ((), ((1, 3, 6),), (1, 3, 6, 1), False),
        ((), ((1, 3, 6),), (1, 3, 5), True),
        (((1, 3, 6),), (), (1, 3, 6), True),
        (((1, 3, 6),), (), (1, 3), False),
        (((1, 3, 6),), ((1, 3, 6, 1),), (1, 3, 6, 1, 9), False),
        (((1, 3, 6), (1, 3, 6, 1, 9)), ((1, 3, 6, 1),), (1, 3, 6, 1, 9, 0), True),
        (((1, 3, 6),), ((1, 3, 6),), (1, 3, 6, 4), False),
    ],
)
def test_the_longest_family_that_fits_decides(
    include: tuple[ber.Oid, ...], exclude: tuple[ber.Oid, ...], name: ber.Oid, *, has: bool
) -> None:
    assert Families(include, exclude).has(name) is has


def test_a_restricted_view_shows_what_its_families_have_and_nothing_else() -> None:
    chance = random.Random(7)

    def name(most: int) -> ber.Oid:
        return (1, 3, *(chance.randrange(4) for _ in range(chance.randint(1, most))))

    for _ in range(300):
        names = sorted({name(5) for _ in range(60)})
        whole = view(*names)
        families = Families(
            tuple(name(4) for _ in range(chance.randrange(4))), tuple(name(4) for _ in range(chance.randrange(4)))
        )
        part = restricted(whole, families)
        expected = [one for one in names if families.has(one)]
        assert walked(part) == expected
        for one in names:
            assert walked(part, ber.oid_octets(one)) == [other for other in expected if other > one]
            assert bool(part.target(ber.oid_octets(one)).write()) is families.has(one)
        assert (part is whole) is families.everything


@pytest.mark.parametrize(
    ("grant", "level", "context", "allowed"),
    [
        (Grant(), 0, "", True),
        (Grant(), 0, "app", True),
        (Grant(level=3), 1, "app", False),
        (Grant(level=1), 3, "app", True),
        (Grant(contexts=("shop-*",)), 0, "shop-1", True),
        (Grant(contexts=("shop-*",)), 0, "", False),
        (Grant(contexts=("",)), 0, "", True),
        (Grant(contexts=("",)), 0, "shop-1", False),
        (Grant(contexts=()), 0, "", False),
    ],
)
def test_a_grant_is_for_a_level_and_contexts(grant: Grant, level: int, context: str, *, allowed: bool) -> None:
    assert grant.allows(level, context) is allowed


@pytest.mark.parametrize(
    ("host", "networks", "allowed"),
    [
        ("10.1.2.3", ["10.0.0.0/8"], True),
        ("11.1.2.3", ["10.0.0.0/8", "::1"], False),
        ("::ffff:10.1.2.3", ["10.0.0.0/8"], True),
        ("fe80::1%eth0", ["fe80::/10"], True),
        ("192.0.2.1", [], True),
    ],
)
def test_sources_are_networks(host: str, networks: list[str], *, allowed: bool) -> None:
    assert comes_from(host, [ip_network(one) for one in networks]) is allowed


def door(communities: dict[bytes, list[Community]]) -> HostDoor:
    views = {"": view((*ROOT, 1)), "app": view(*[ber.oid_arcs(oid(name)) for name in ("1.1", "2.40")])}
    desk = Desk(views.get, 1472)
    return HostDoor(communities, UsmGate(Engine(b"12345", 1), {}), desk)


def test_communities_are_let_in_by_name_source_and_context() -> None:
    inside = (ip_network("10.0.0.0/8"),)
    custom = Grant(Families((ber.oid_arcs(oid("2")),)), contexts=("app",))
    host = door({b"pub": [Community(Grant(), inside), Community(custom)], b"own": [Community(Grant(contexts=("",)))]})

    def asked(community: bytes, source: str) -> str:
        verdict = host.answer(request(0xA0, "2.40", "1.1", community=community), source)
        if verdict.reply is None:
            return verdict.counter
        status, _, found = shown(verdict.reply)
        return f"{verdict.counter} {status} {' '.join(value.hex() for _, value in found)}"

    assert asked(b"pub@app", "10.0.0.1") == f"{GET} 0 020101 020100"
    assert asked(b"pub@app", "192.0.2.1") == f"{GET} 0 020101 8000"
    assert asked(b"pub", "10.0.0.1") == f"{GET} 0 8000 8000"
    assert asked(b"pub@other", "10.0.0.1") == asked(b"pub@app\xff", "10.0.0.1") == "unknown_contexts"
    for community, source in (
        (b"pub", "192.0.2.1"),
        (b"pub@other", "192.0.2.1"),
        (b"pub@", "10.0.0.1"),
        (b"@app", "10.0.0.1"),
        (b"", "10.0.0.1"),
        (b"own@app", "10.0.0.1"),
        (b"nobody", "10.0.0.1"),
    ):
        assert asked(community, source) == BAD_COMMUNITY, community
    assert host.answer(b"\x30\x03\x02\x01\x09", "10.0.0.1").counter == BAD_VERSION
    assert host.answer(b"", "10.0.0.1").counter == MALFORMED


def test_a_desk_follows_a_view_that_is_replaced_and_keeps_only_so_many() -> None:
    views = {"app": view((*ROOT, 1))}
    desk = Desk(views.get, 1472)
    some = Families((ROOT,))
    before = desk.responder(b"pub", "app", some)
    assert desk.responder(b"pub", "app", some) is before
    views["app"] = view((*ROOT, 2))
    after = desk.responder(b"pub", "app", some)
    assert after is not before
    assert desk.responder(b"pub", "gone", EVERYTHING) is None
    for number in range(MAX_KEPT + 5):
        desk.responder(str(number).encode(), "app", some)
    assert desk.responder(b"pub", "app", some) is not after
