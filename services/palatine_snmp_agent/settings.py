"""/etc/palatine/snmp-agent.yaml: the host's sockets, communities, users, views, and who is notified; must do no I/O."""

import re
from fnmatch import fnmatchcase
from ipaddress import ip_network
from typing import Any, Final, Literal, TypeAlias

import attrs

from palatine.codec import ber, usm
from palatine.codec.snmp import MAX_COMMUNITY, MAX_DATAGRAM
from palatine.codec.snmp_v3 import MAX_USER
from palatine.daemon import Secret
from palatine.errors import ProtocolError
from palatine.schema.notifications import DEFAULT_BASE, NOTIFICATIONS
from palatine_snmp_agent.access_policy import EVERYTHING, LEVELS, Families, Grant
from palatine_snmp_agent.doors import Community
from palatine_snmp_agent.engine import parse_engine_id
from palatine_snmp_agent.rate_policy import DEFAULT_RATE, Rate
from palatine_snmp_agent.responder import LEAST_MAX_REPLY, MAX_REPLY
from palatine_snmp_agent.scheduling_policy import DEFAULT_SHARE
from palatine_snmp_agent.usm_gate import User

#: The view that shows everything, unless the file defines one of that name.
ALL: Final = "all"
_ENTERPRISES: Final = (1, 3, 6, 1, 4, 1)
#: Notifications that are not in our MIB but in SNMPv2-MIB.
GENERIC: Final = ("coldStart", "warmStart", "authenticationFailure")
EVENTS: Final = (*GENERIC, *(one.name for one in NOTIFICATIONS))
_ADDRESS: Final = re.compile(r"(?:udp:)?(?:\[([^\]]*)\]|([^:\[\]]*)):([0-9]{1,5})")

_Field: TypeAlias = "attrs.Attribute[Any]"


def parse_address(text: str) -> tuple[str, int]:
    """`HOST:PORT`, `[IPV6]:PORT` or `:PORT` (all of IPv4) as host and port; ValueError if it is none of them."""
    found = _ADDRESS.fullmatch(text)
    if found is None or not 0 < int(found[3]) < 65536:
        raise ValueError(f"an address is HOST:PORT, [IPV6]:PORT or :PORT, not {text!r}")
    return found[1] or found[2] or "0.0.0.0", int(found[3])


def _addresses(_: Any, field: _Field, values: tuple[str, ...]) -> None:
    for value in values:
        try:
            parse_address(value)
        except ValueError as error:
            raise ValueError(str(error), field) from error


def _address(instance: Any, field: _Field, value: str) -> None:
    _addresses(instance, field, (value,))


def _networks(_: Any, field: _Field, values: tuple[str, ...]) -> None:
    for value in values:
        try:
            ip_network(value)
        except ValueError as error:
            raise ValueError(f"{value!r} is no address or network: {error}", field) from error


def _names(_: Any, field: _Field, values: tuple[str, ...]) -> None:
    for value in values:
        try:
            ber.parse_oid(value)
        except ProtocolError as error:
            raise ValueError(str(error), field) from error


def _events(_: Any, field: _Field, patterns: tuple[str, ...]) -> None:
    for pattern in patterns:
        if not any(fnmatchcase(event, pattern) for event in EVENTS):
            raise ValueError(f"{pattern!r} is no notification; they are {', '.join(EVENTS)}", field)


def _community(_: Any, field: _Field, value: Secret) -> None:
    if not 0 < len(value.value.encode()) <= MAX_COMMUNITY or "@" in value.value:
        raise ValueError(f"a community has 1 to {MAX_COMMUNITY} octets and no @", field)


def _positive(_: Any, field: _Field, value: float) -> None:
    if not value > 0:
        raise ValueError("must be more than 0", field)


def _base(_: Any, field: _Field, value: str) -> None:
    try:
        below_enterprises = ber.oid_arcs(ber.parse_oid(value))[:6] == _ENTERPRISES
    except ProtocolError as error:
        raise ValueError(str(error), field) from error
    if not below_enterprises:
        raise ValueError(f"a base is below 1.3.6.1.4.1, and {value} is not", field)


@attrs.frozen
class SystemLine:
    """What the system group says of the host; without a `name` it is the host's own."""

    name: str = ""
    contact: str = ""
    location: str = ""


@attrs.frozen
class RateLine:
    """Datagrams a second that are looked at from one source, and at once; 0 a second is any number."""

    per_second: float = attrs.field(default=DEFAULT_RATE, validator=attrs.validators.ge(0))
    burst: float = attrs.field(default=0.0, validator=attrs.validators.ge(0))


@attrs.frozen
class ViewLine:
    """Subtrees of a view, as dotted numbers."""

    include: tuple[str, ...] = attrs.field(default=(), validator=_names)
    exclude: tuple[str, ...] = attrs.field(default=(), validator=_names)

    def families(self) -> Families:
        """The same as arcs."""
        return Families(*(tuple(ber.oid_arcs(ber.parse_oid(one)) for one in some) for some in attrs.astuple(self)))


@attrs.frozen
class CommunityLine:
    """A community of the host's sockets; `contexts` are patterns of instances, `""` the host."""

    community: Secret = attrs.field(validator=_community)
    sources: tuple[str, ...] = attrs.field(default=(), validator=_networks)
    view: str = ALL
    contexts: tuple[str, ...] = ("*",)


@attrs.frozen
class GroupLine:
    """What the users of a group may read."""

    level: Literal["noAuthNoPriv", "authNoPriv", "authPriv"] = "authPriv"
    view: str = ALL
    contexts: tuple[str, ...] = ("*",)


@attrs.frozen
class UserLine:
    """A user of SNMPv3. Without a group he may read everything, at the highest level his keys allow."""

    name: str
    auth: Literal["", "sha", "sha224", "sha256", "sha384", "sha512"] = ""
    auth_passphrase: Secret = attrs.field(factory=lambda: Secret(""))
    priv: Literal["", "aes128", "aes256", "aes256c"] = ""
    priv_passphrase: Secret = attrs.field(factory=lambda: Secret(""))
    group: str = ""

    def __attrs_post_init__(self) -> None:
        fields = attrs.fields(UserLine)
        if not 0 < len(self.name.encode()) <= MAX_USER:
            raise ValueError(f"a user's name has 1 to {MAX_USER} octets", fields.name)
        if self.priv and not self.auth:
            raise ValueError("privacy needs authentication: `auth` is missing", fields.priv)
        for protocol, secret, field in (
            (self.auth, self.auth_passphrase, fields.auth_passphrase),
            (self.priv, self.priv_passphrase, fields.priv_passphrase),
        ):
            if protocol and len(secret.value.encode()) < usm.LEAST_PASSPHRASE:
                raise ValueError(f"{self.name}: a passphrase has {usm.LEAST_PASSPHRASE} octets or more", field)
            if secret.value and not protocol:
                raise ValueError(f"{self.name}: a passphrase of no protocol; name `auth` or `priv`", field)

    @property
    def level(self) -> int:
        """Flags of the most he can do."""
        return LEVELS["authPriv" if self.priv else "authNoPriv" if self.auth else "noAuthNoPriv"]

    def secrets(self) -> usm.Secrets:
        """His passphrases as keys; takes some milliseconds."""
        return usm.secrets(self.auth, self.auth_passphrase.value, self.priv, self.priv_passphrase.value)


@attrs.frozen
class TargetLine:
    """Who is notified: by traps, or by informs, which are repeated until acknowledged or `expire` seconds old.

    `events` are patterns of notifications; `timeout` is how long an inform is waited for before it is repeated.
    """

    address: str = attrs.field(validator=_address)
    name: str = ""
    version: Literal["v1", "v2c", "v3"] = "v2c"
    community: Secret | None = None
    user: str = ""
    context: str = ""
    inform: bool = False
    events: tuple[str, ...] = attrs.field(default=("*",), validator=_events)
    timeout: float = attrs.field(default=5.0, validator=_positive)
    expire: float = attrs.field(default=86_400.0, validator=_positive)

    def __attrs_post_init__(self) -> None:
        fields = attrs.fields(TargetLine)
        if self.version == "v3" and not self.user:
            raise ValueError("a target of v3 needs a `user`", fields.version)
        if self.version != "v3" and self.community is None:
            raise ValueError(f"a target of {self.version} needs a `community`", fields.version)
        if self.version == "v1" and self.inform:
            raise ValueError("v1 has no informs; use v2c or v3", fields.inform)

    @property
    def called(self) -> str:
        """What it is called in logs, in the journal and by alarms."""
        return self.name or self.address


@attrs.frozen
class Settings:
    """The file's keys. `listen` are the host's own sockets; apps bring theirs. `base` is where the host's tables are.

    `max_reply` is octets of the longest reply; `engine_id`, in hex digits, replaces the one made at the first start;
    `realtime_share` is the part of one CPU for which the agent is run before ordinary processes.
    """

    listen: tuple[str, ...] = attrs.field(default=(), validator=_addresses)
    base: str = attrs.field(default=".".join(map(str, DEFAULT_BASE)), validator=_base)
    system: SystemLine = attrs.field(factory=SystemLine)
    max_reply: int = attrs.field(
        default=MAX_REPLY, validator=[attrs.validators.ge(LEAST_MAX_REPLY), attrs.validators.le(MAX_DATAGRAM)]
    )
    rate: RateLine = attrs.field(factory=RateLine)
    realtime_share: float = attrs.field(
        default=DEFAULT_SHARE, validator=[attrs.validators.ge(0), attrs.validators.le(0.9)]
    )
    engine_id: str = ""
    views: dict[str, ViewLine] = attrs.field(factory=dict)
    communities: tuple[CommunityLine, ...] = ()
    groups: dict[str, GroupLine] = attrs.field(factory=dict)
    users: tuple[UserLine, ...] = ()
    targets: tuple[TargetLine, ...] = ()

    def __attrs_post_init__(self) -> None:
        fields = attrs.fields(Settings)
        if self.engine_id:
            try:
                parse_engine_id(self.engine_id)
            except ValueError as error:
                raise ValueError(str(error), fields.engine_id) from error
        for field, lines in ((fields.communities, self.communities), (fields.groups, self.groups.values())):
            for line in lines:
                if line.view not in {ALL, *self.views}:
                    raise ValueError(f"no view {line.view!r}; views are {', '.join([ALL, *self.views])}", field)
        self._check_users(fields.users)
        for target in self.targets:
            if target.version == "v3" and target.user not in {user.name for user in self.users}:
                raise ValueError(f"{target.called}: no user {target.user!r}", fields.targets)
        if len({target.called for target in self.targets}) < len(self.targets):
            raise ValueError("two targets have one name", fields.targets)

    def _check_users(self, field: _Field) -> None:
        if len({user.name for user in self.users}) < len(self.users):
            raise ValueError("two users have one name", field)
        for user in self.users:
            if not user.group:
                continue
            group = self.groups.get(user.group)
            if group is None:
                known = ", ".join(self.groups) or "none"
                raise ValueError(f"{user.name}: no group {user.group!r}; there are {known}", field)
            if LEVELS[group.level] & ~user.level:
                raise ValueError(
                    f"{user.name}: group {user.group!r} asks for {group.level}, which he has no keys for", field
                )

    def buckets(self) -> Rate:
        """What each source may send."""
        return Rate(self.rate.per_second, self.rate.burst)

    def community_grants(self) -> dict[bytes, list[Community]]:
        """Communities by name; one name may be granted more than one thing, by where it comes from."""
        granted: dict[bytes, list[Community]] = {}
        for line in self.communities:
            networks = tuple(ip_network(source) for source in line.sources)
            grant = Grant(self._families(line.view), 0, line.contexts)
            granted.setdefault(line.community.value.encode(), []).append(Community(grant, networks))
        return granted

    def grant(self, user: UserLine) -> Grant:
        """What a user may read."""
        if not user.group:
            return Grant(EVERYTHING, user.level)
        group = self.groups[user.group]
        return Grant(self._families(group.view), LEVELS[group.level], group.contexts)

    def v3_users(self, engine_id: bytes) -> dict[bytes, User]:
        """The users with their keys towards one engine; takes some milliseconds for each."""
        return {
            line.name.encode(): User(line.name.encode(), line.secrets().towards(engine_id), self.grant(line))
            for line in self.users
        }

    def _families(self, view: str) -> Families:
        return self.views[view].families() if view in self.views else EVERYTHING
