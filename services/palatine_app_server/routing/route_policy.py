"""Routing decided: `run` walks a table for one request, changes its variables and says what is to be done. No I/O.

What has to look at files, clocks or the server is asked of `World`; what has to be done outside is listed as effects,
in order. Values a client sends are never expanded a second time.
"""

import enum
import ipaddress
import re
from collections.abc import Callable, MutableMapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol

from palatine_app_server.routing.route_grammar import Condition, Rule
from palatine_app_server.routing.route_steps import STEPS, Effect, Reply, number

if TYPE_CHECKING:  # loaded where a rule wants them
    from palatine_app_server.routing.body_transforms import Transform
    from palatine_app_server.routing.upstream_address import Upstream

_TEMPLATE: Final = re.compile(r"\$(?:([0-9])|\{([^}]*)\})")
_GROUP: Final = re.compile(r"\$([0-9])")
_FUNCTION: Final = re.compile(r"([a-z0-9]+)\[(.*)\]", re.DOTALL)


class World(Protocol):
    """What rules may ask about."""

    def is_file(self, kind: str, path: str) -> bool:
        """Whether `path` exists, is a file, a dir, a link or executable, by the condition's name."""

    def value(self, function: str, key: str) -> str:
        """`${function[key]}` for functions that are about the server."""

    def say(self, text: str) -> None:
        """A line for the log, now."""

    def path(self, text: str) -> str:
        """A path as request variables spell it, as the file system does."""

    def modified(self, path: str) -> int | None:
        """When a file was changed last, in seconds; None where there is none."""

    def turn(self) -> int:
        """0, 1, 2 ...: another number every time."""

    def cached(self, key: str, cache: str) -> bytes | None:
        """An item of a cache, "" for the first of them; None where there is none."""

    def cache(self, verb: str, key: str, value: bytes | int, expires: int, cache: str) -> None:
        """Change an item: set, update, inc, dec, mul or div."""

    def password_fits(self, authorization: str, secret: str) -> str:
        """The user of an Authorization header that fits `user:password` or the password file `secret`; "" for none."""


class End(enum.Enum):
    """How a table ended."""

    THROUGH = "through"  # the request goes on
    BREAK = "break"  # it ends here, with `reply` where there is one


class Walk:
    """One request on its way through the tables."""

    def __init__(self, environ: MutableMapping[str, Any], world: World, status: int = 0) -> None:
        self.environ = environ
        self.world = world
        self.status = status
        self.changed: dict[str, str] = {}
        self.log_variables: dict[str, str] = {}
        self.silent = False
        self.app = ""  # a mount point, where a rule chose one
        self.add: list[tuple[str, str]] = []
        self.remove: list[str] = []
        self.fresh_status = ""  # clearheaders: the app's headers go, and this is the status
        self.raw = b""
        self.effects: list[Effect] = []
        self.reply: Reply | None = None
        self.static = ""  # a file to serve as static-map would
        self.upstream: Upstream | None = None  # the server that answers instead
        self.transforms: list[Transform] = []  # of the response's body, not taken up yet
        self._groups: Sequence[str] = ()
        self._goto = 0

    def get(self, name: str) -> str:
        """A request variable; "" where there is none."""
        value = self.environ.get(name, "")
        return value if isinstance(value, str) else ""

    def set(self, name: str, value: str) -> None:
        """Change a request variable."""
        self.environ[name] = self.changed[name] = value

    def expand(self, template: str) -> str:
        """`template` with `$1` and `${NAME}` replaced."""

        def value(found: "re.Match[str]") -> str:
            if found[1] is not None:
                return self._group(found)
            return self._variable(_GROUP.sub(self._group, found[2]))

        return _TEMPLATE.sub(value, template) if "$" in template else template

    def expander(self) -> Callable[[str], str]:
        """`expand` with the groups of the rule that is being done, for whoever needs it later."""
        groups = self._groups

        def expand(template: str) -> str:
            self._groups = groups
            return self.expand(template)

        return expand

    def _group(self, found: "re.Match[str]") -> str:
        """What `$1` stands for: itself where nothing was matched, nothing where the expression has no such group."""
        if not self._groups:
            return found[0]
        index = int(found[1])
        return self._groups[index] if index < len(self._groups) else ""

    def run(self, rules: Sequence[Rule]) -> End:
        """Walk a table."""
        self._goto = 0
        for position, rule in enumerate(rules):
            if rule.label or position < self._goto:
                continue
            self._goto = 0
            self._groups = ()
            if not self._applies(rule):
                continue
            step = STEPS[rule.action](self, rule)
            if step == "continue":
                return End.THROUGH
            if step == "break":
                return End.BREAK
            if step == "goto" and not self._jump(rules, position, self.expand(rule.argument)):
                return End.BREAK
        return End.THROUGH

    def log(self, text: str) -> None:
        """A line for the log."""
        self.effects.append(Effect("log", (text,)))

    def _applies(self, rule: Rule) -> bool:
        if rule.pattern is not None:
            found = rule.pattern.search(self.get(rule.subject))
            if found is None:
                return False
            self._groups = (found[0], *(group or "" for group in found.groups()))
            return True
        if rule.condition is None:
            return True
        return self._holds(rule.condition) is not rule.condition.negated

    def _holds(self, condition: Condition) -> bool:
        if condition.name == "status":
            return str(self.status) == condition.left
        if condition.name == "incache":
            from palatine_app_server.routing import route_extras  # loaded with the first worker that has such a rule

            return route_extras.in_cache(self, condition.left)
        left = self.expand(condition.left)
        if condition.name == "empty":
            return not left
        if condition.name == "regexp":
            found = re.search(condition.right, left)  # re keeps what it has compiled
            if found is None:
                return False
            self._groups = (found[0], *(group or "" for group in found.groups()))
            return True
        if condition.name in _COMPARISONS:
            return _COMPARISONS[condition.name](left, self.expand(condition.right))
        return self.world.is_file(condition.name, left)

    def _jump(self, rules: Sequence[Rule], position: int, label: str) -> bool:
        labels = {rule.label: at for at, rule in enumerate(rules) if rule.label}
        target = labels.get(label, int(label) if label.isdigit() else 0)
        if target <= position:
            self.log('[uwsgi-route] ERROR "goto" instruction can only jump forward (check your label !!!)')
            return False
        self._goto = target
        return True

    def _variable(self, name: str) -> str:
        found = _FUNCTION.fullmatch(name)
        if found is None:
            return self.get(name)
        function, key = found.groups()
        if function == "cookie":
            return _item(self.get("HTTP_COOKIE"), ";", key)
        if function == "qs":
            return _item(self.get("QUERY_STRING"), "&", key)
        if function in {"base64", "hex"}:
            data = self.get(key).encode("latin-1", "replace")
            if function == "hex":
                return data.hex()
            import binascii

            return binascii.b2a_base64(data, newline=False).decode()
        if function == "mime":
            return self.world.value("mime", self.get(key))
        if function == "uwsgi" and key == "status":
            return str(self.status)
        return self.world.value(function, key)


def _item(text: str, separator: str, key: str) -> str:
    for item in text.split(separator):
        name, equals, value = item.strip(" ").partition("=")
        if equals and name == key:
            return value
    return ""


def _in_network(address: str, network: str) -> bool:
    try:
        there, net = ipaddress.ip_address(address), ipaddress.ip_network(network, strict=False)
    except ValueError:
        return False
    if net.version == 4 and isinstance(there, ipaddress.IPv6Address):
        there = there.ipv4_mapped or there  # who comes to a socket of both by IPv4 (RFC 4291 2.5.5.2)
    return there in net


_COMPARISONS: Final[dict[str, Callable[[str, str], bool]]] = {
    "equal": lambda left, right: left == right,
    "startswith": lambda left, right: left.startswith(right),
    "endswith": lambda left, right: left.endswith(right),
    "contains": lambda left, right: right in left,
    "higher": lambda left, right: number(left) > number(right),
    "higherequal": lambda left, right: number(left) >= number(right),
    "lower": lambda left, right: number(left) < number(right),
    "lowerequal": lambda left, right: number(left) <= number(right),
    "network": _in_network,
}
