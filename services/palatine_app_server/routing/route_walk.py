"""One request on its way through the tables: its variables, what rules made of them, what is to be done. No I/O.

What has to look at files, clocks or the server is asked of `World`; what has to be done outside is listed as effects,
in order. Values a client sends are never expanded a second time.
"""

import re
from collections.abc import Callable, MutableMapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

if TYPE_CHECKING:  # loaded where a rule wants them
    from palatine_app_server.routing.body_transforms import Transform
    from palatine_app_server.routing.upstream_address import Upstream

_TEMPLATE: Final = re.compile(r"\$(?:([0-9])|\{([^}]*)\})")
_GROUP: Final = re.compile(r"\$([0-9])")
_FUNCTION: Final = re.compile(r"([a-z0-9]+)\[(.*)\]", re.DOTALL)
_NUMBER: Final = re.compile(r"\s*([+-]?[0-9]{1,18})")


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

    def expiry(self, key: str, cache: str) -> int:
        """When that item expires, in unix seconds; 0 for never."""

    def attribute(self, path: str, name: str) -> str:
        """An extended attribute of a file; "" where there is none."""

    def cache(self, verb: str, key: str, value: bytes | int, expires: int, cache: str) -> None:
        """Change an item: set, update, inc, dec, mul or div."""

    def password_fits(self, authorization: str, secret: str) -> str:
        """The user of an Authorization header that fits `user:password` or the password file `secret`; "" for none."""


class Reply(NamedTuple):
    """An answer of a rule; `path` names a file to send instead of `body`."""

    status: str
    headers: tuple[tuple[str, str], ...]
    body: bytes = b""
    path: str = ""


class Effect(NamedTuple):
    """Something to be done outside: log, alarm, signal, harakiri, chdir, procname, metric."""

    name: str
    arguments: tuple[str, ...]


class Walk:
    """One request on its way through the tables."""

    def __init__(
        self,
        environ: MutableMapping[str, Any],
        world: World,
        about: Callable[[str], str] = lambda _key: "",
        status: int = 0,
    ) -> None:
        self.environ = environ
        self._about = about  # what `${uwsgi[...]}` is of the running request
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
        self.groups: Sequence[str] = ()  # of the expression the running rule matched, the whole match first

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
        groups = self.groups

        def expand(template: str) -> str:
            self.groups = groups
            return self.expand(template)

        return expand

    def _group(self, found: "re.Match[str]") -> str:
        """What `$1` stands for: itself where nothing was matched, nothing where the expression has no such group."""
        if not self.groups:
            return found[0]
        index = int(found[1])
        return self.groups[index] if index < len(self.groups) else ""

    def log(self, text: str) -> None:
        """A line for the log."""
        self.effects.append(Effect("log", (text,)))

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
                return data.hex().upper()
            import binascii

            return binascii.b2a_base64(data, newline=False).decode()
        if function == "mime":
            return self.world.value("mime", self.get(key))
        if function in {"xattr", "xattr2"}:
            return self._attribute(key, named=function == "xattr")
        if function == "math":
            from palatine_app_server.routing import route_math

            return route_math.evaluate(key, self.get)
        if function == "uwsgi":
            return str(self.status) if key == "status" else self._about(key) or self.world.value(function, key)
        return self.world.value(function, key)

    def _attribute(self, key: str, *, named: bool) -> str:
        """`VARIABLE:NAME`: an attribute of the file a variable holds; where not `named`, one holds its name, too."""
        variable, colon, name = key.partition(":")
        path, name = self.get(variable), name if named else self.get(name)
        return self.world.attribute(path, name) if colon and path and name else ""


def number(text: str) -> int:
    """As strtol(3) reads it: what does not begin with a number is 0."""
    found = _NUMBER.match(text)
    return int(found[1]) if found else 0


def header_text(text: str) -> str:
    """What a client sent cannot begin a header of its own."""
    return text.replace("\r", "").replace("\n", "").replace("\0", "")


def _item(text: str, separator: str, key: str) -> str:
    for item in text.split(separator):
        name, equals, value = item.strip(" ").partition("=")
        if equals and name == key:
            return value
    return ""
