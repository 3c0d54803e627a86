"""Who a datagram is for: an app's own responder, a community of the host, or a user of v3; must never keep a secret.

An app's socket shows that app only, to its own community and to users of v3 who may look at it, whose context may then
be left out. The host's sockets show what communities and users are granted: the host's view, and with `name@instance`
as the community, or an instance's name as the context, that instance's.
"""

from collections.abc import Mapping, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import Final

import attrs

from palatine.codec import snmp_v3
from palatine.codec.snmp import VersionError, read_community
from palatine.errors import ProtocolError
from palatine_snmp_agent.access_policy import HOST, Grant
from palatine_snmp_agent.desk import Desk
from palatine_snmp_agent.responder import BAD_COMMUNITY, BAD_VERSION, MALFORMED, Responder, Verdict
from palatine_snmp_agent.usm_gate import UsmGate

Network = IPv4Network | IPv6Network

#: Decisions about a source remembered; looking at its networks takes as long as a whole GET.
_REMEMBERED_SOURCES: Final = 4096
#: Verdict on a community that may look, into an instance that is not there: no reply, and no stranger either.
UNKNOWN_CONTEXT: Final = "unknown_contexts"


@attrs.frozen
class Community:
    """What a community may read, and from where; no network means from anywhere. Never shown."""

    grant: Grant = attrs.field(factory=Grant)
    sources: tuple[Network, ...] = ()


class AppDoor:
    """The door of one instance's own socket. Without a `gate` there is no v3."""

    def __init__(self, responder: Responder, gate: UsmGate | None = None, desk: Desk | None = None) -> None:
        self._responder = responder
        self._gate = gate
        self._desk = desk

    def answer(self, datagram: bytes, _host: str) -> Verdict:
        """The verdict on one datagram."""
        verdict = self._responder.answer(datagram)
        if (
            verdict.counter == BAD_VERSION
            and self._gate is not None
            and self._desk is not None
            and snmp_v3.is_v3(datagram)
        ):
            return self._gate.answer(datagram, self._desk)
        return verdict

    def proves(self, datagram: bytes, _host: str) -> bool:
        """Whether it names the community, or is a user's."""
        try:
            _, community, _ = read_community(datagram)
        except VersionError:
            return self._gate is not None and self._gate.proves(datagram)
        except ProtocolError:
            return False
        return self._responder.knows(community)


class HostDoor:
    """The door of the host's sockets."""

    def __init__(self, communities: Mapping[bytes, Sequence[Community]], gate: UsmGate, desk: Desk) -> None:
        self._communities = communities
        self._gate = gate
        self._desk = desk
        self._allowed: dict[tuple[bytes, str], Grant | None] = {}

    def replace(self, communities: Mapping[bytes, Sequence[Community]], desk: Desk) -> None:
        """From here on these communities are known, and `desk` is asked."""
        self._communities = communities
        self._desk = desk
        self._allowed.clear()

    def answer(self, datagram: bytes, host: str) -> Verdict:
        """The verdict on one datagram of `host`."""
        try:
            _, named, _ = read_community(datagram)
        except VersionError:
            return self._gate.answer(datagram, self._desk) if snmp_v3.is_v3(datagram) else Verdict(BAD_VERSION)
        except ProtocolError:
            return Verdict(MALFORMED)
        community, context = self._meant(named)
        grant = self._grant(community, host) if community else None
        if grant is None or not grant.allows(0, context):
            return Verdict(BAD_COMMUNITY)
        responder = self._desk.responder(named, context, grant.families)
        return Verdict(UNKNOWN_CONTEXT) if responder is None else responder.answer(datagram)

    def proves(self, datagram: bytes, host: str) -> bool:
        """Whether it names a community that may ask from `host`, or is a user's."""
        try:
            _, named, _ = read_community(datagram)
        except VersionError:
            return self._gate.proves(datagram)
        except ProtocolError:
            return False
        community, _ = self._meant(named)
        return bool(community) and self._grant(community, host) is not None

    def _meant(self, named: bytes) -> tuple[bytes, str]:
        """The configured community in what a message names, b"" for none, and the context."""
        if named in self._communities:
            return named, HOST
        community, _, instance = named.rpartition(b"@")
        known = community in self._communities and bool(instance)
        return (community, instance.decode("utf-8", "replace")) if known else (b"", HOST)

    def _grant(self, community: bytes, host: str) -> Grant | None:
        """What the first entry of a community that `host` fits grants."""
        key = (community, host)
        if key not in self._allowed:
            if len(self._allowed) >= _REMEMBERED_SOURCES:
                self._allowed.clear()
            self._allowed[key] = next(
                (one.grant for one in self._communities[community] if comes_from(host, one.sources)), None
            )
        return self._allowed[key]


def comes_from(host: str, networks: Sequence[Network]) -> bool:
    """Whether an address is in one of the networks; any is in none. IPv4 in IPv6 counts as the IPv4 it is."""
    if not networks:
        return True
    address = ip_address(host.partition("%")[0])
    mapped = getattr(address, "ipv4_mapped", None) or address
    return any(mapped in network for network in networks)
