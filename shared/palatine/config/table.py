"""The option table: is a name an option, of which kind, and what is it really called. Must never unpack it all.

A lookup is a substring search in one string literal (about 5 µs), remembered for good; a config asks for 300
names, so this costs less than parsing the whole table would, in time and in memory (measured: see tests).
"""

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Final, NamedTuple

from palatine.config.options import OPTIONS


class Kind(NamedTuple):
    """What is known about an option.

    `name` is the canonical spelling. `argument` is "none", "opt" or "req", as getopt knows them. `type` is flag,
    int, signed, short (16 bit), size (64 bit), megabytes, text or list. `implies` holds words such as "master".
    `immediate` options act while the configuration is being read, before `$()` and `%()` are expanded.
    `language` names the runtime of another language the option belongs to, "" for ours.
    """

    name: str
    argument: str = "req"
    type: str = "text"
    implies: tuple[str, ...] = ()
    immediate: bool = False
    language: str = ""


#: getopt's short options; where uWSGI gives a letter to several names, the first one counts.
SHORT: Final[Mapping[str, str]] = {
    "A": "sharedarea",
    "C": "chmod-socket",
    "H": "home",
    "J": "test",
    "L": "disable-logging",
    "M": "master",
    "O": "optimize",
    "Q": "spooler",
    "R": "max-requests",
    "S": "set",
    "T": "enable-threads",
    "a": "abstract-socket",
    "b": "buffer-size",
    "c": "cgi-mode",
    "d": "daemonize",
    "h": "help",
    "i": "single-interpreter",
    "j": "json",
    "l": "listen",
    "m": "memory-report",
    "p": "processes",
    "r": "reaper",
    "s": "socket",
    "t": "harakiri",
    "v": "max-vars",
    "w": "module",
    "x": "xmlconfig",
    "y": "yaml",
    "z": "socket-timeout",
}

#: Options palatine adds to uWSGI's own.
OWN: Final[tuple[Kind, ...]] = (
    Kind("name"),
    Kind("runtime-dir"),
    Kind("state-dir"),
    Kind("keeper", "none", "flag"),
    Kind("stats-vars"),
    Kind("snmp-null-unset", "none", "flag"),
    Kind("emperor-exec"),
    Kind("min-uid", "req", "int"),
    Kind("cheaper-idle", "req", "int"),
    Kind("allow-uwsgi-variables", "none", "flag"),
)


def parse_header(name: str, header: str) -> Kind:
    """One group line of the table (without its colon) as the kind of the option `name`."""
    argument, type_, *rest = header.split()
    implies = tuple(word[1:] for word in rest if word[0] == "+")
    language = next((word[1:] for word in rest if word[0] == "@"), "")
    return Kind(name, argument, type_, implies, "immediate" in rest, language)


class Table:
    """uWSGI's options, palatine's own and those a configuration declares; remembers what it has looked up."""

    def __init__(self, extra: Mapping[str, Kind] | None = None) -> None:
        self._known: dict[str, Kind | None] = {}
        self._own: dict[str, Kind] = {kind.name: kind for kind in OWN} | dict(extra or {})

    def find(self, name: str) -> Kind | None:
        """The kind of the option spelled `name`, or None where no such option exists."""
        if name in self._known:
            return self._known[name]
        kind = self._own.get(name) or _search(name)
        self._known[name] = kind
        return kind

    def canonical(self, name: str) -> str:
        """The first spelling uWSGI gives the option `name`; `name` itself where it is no option."""
        kind = self.find(name)
        return kind.name if kind else name

    def declare(self, kind: Kind) -> None:
        """Add an option a configuration made up (`declare-option`)."""
        self._own[kind.name] = kind
        self._known.pop(kind.name, None)

    def is_uwsgi(self, name: str) -> bool:
        """Whether uWSGI 2.0.31 itself has the option; palatine's own and declared ones do not count."""
        return _search(name) is not None

    def names(self) -> Iterator[str]:
        """Every spelling of every option; slow, for messages only."""
        yield from self._own
        for line in OPTIONS.split("\n"):
            if line.startswith(" "):
                for word in line.split():
                    yield word.rstrip(",").partition("=")[0]


@lru_cache(maxsize=2048)
def _search(name: str) -> Kind | None:
    if not name or not name.replace("-", "").replace("_", "").isalnum():
        return None
    at = OPTIONS.find(f" {name},")
    canonical = name
    if at < 0:
        at = OPTIONS.find(f" {name}=")
        if at < 0:
            return None
        canonical = OPTIONS[at + len(name) + 2 : OPTIONS.index(",", at)]
    start = OPTIONS.rindex("\n:", 0, at) + 2
    return parse_header(canonical, OPTIONS[start : OPTIONS.index("\n", start)])
