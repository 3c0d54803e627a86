"""uWSGI's stats pushers as configs name them (`stats-push`, `carbon`, `rrdtool`) into what a daemon is to do; plain.

Syntax and defaults: uWSGI 2.0.31, plugins/stats_pusher_*, carbon, zabbix, rrdtool.
"""

from typing import Any, Final, NamedTuple

from palatine.codec import keyval
from palatine.errors import ConfigError

#: Seconds between two pushes unless the config says otherwise.
DEFAULT_SECONDS: Final = 3
RRDTOOL_SECONDS: Final = 300
PUSHERS: Final = ("statsd", "socket", "file", "carbon", "zabbix", "rrdtool", "mongodb")

_FILE_KEYS: Final = {"path": "path", "freq": "freq", "separator": "separator"}

_MONGODB_KEYS: Final = {"addr": "address", "address": "address", "collection": "collection", "freq": "freq"}


class Wish(NamedTuple):
    """One push a config asks for.

    Attributes:
        pusher: one of PUSHERS.
        address: `host:port`, a file's path, a directory.
        seconds: between two pushes.
        options: what this pusher needs besides.
    """

    pusher: str
    address: str
    seconds: int
    options: dict[str, Any]


def parse_push(text: str, seconds: int = DEFAULT_SECONDS, rrdtool_seconds: int = RRDTOOL_SECONDS) -> Wish:
    """The value of `stats-push`, `NAME[:ARGUMENT]`; ConfigError for what no pusher here takes."""
    name, _, argument = text.partition(":")
    if name in {"statsd", "socket", "zabbix"}:
        address, _, prefix = argument.partition(",")
        if name == "zabbix":
            address = address or "127.0.0.1:10051"
        return Wish(name, _host_port(name, address), seconds, {"prefix": prefix or "uwsgi"})
    if name == "file":
        found = keyval.parse(argument, _FILE_KEYS)
        often = _seconds(found["freq"]) if "freq" in found else seconds
        return Wish(name, found.get("path") or "uwsgi.stats", often, {"separator": found.get("separator") or "\n\n"})
    if name == "rrdtool":
        if not argument:
            raise ConfigError("stats-push = rrdtool:DIRECTORY names no directory")
        return Wish(name, argument, rrdtool_seconds, {})
    if name == "mongodb":
        found = keyval.parse(argument, _MONGODB_KEYS)
        often = _seconds(found["freq"]) if "freq" in found else seconds
        collection = found.get("collection") or "uwsgi.statistics"
        if not all(collection.partition(".")):
            raise ConfigError(f"mongodb takes collection=DATABASE.COLLECTION, not {collection!r}")
        return Wish(
            name, _host_port(name, found.get("address") or "127.0.0.1:27017"), often, {"collection": collection}
        )
    raise ConfigError(f"there is no stats pusher {name!r}: known are {', '.join(PUSHERS)}")


def parse_carbon(address: str, seconds: int, options: dict[str, Any]) -> Wish:
    """The value of `carbon`, `HOST:PORT`, with the other carbon options."""
    return Wish("carbon", _host_port("carbon", address), seconds, options)


def _host_port(name: str, address: str) -> str:
    host, colon, port = address.rpartition(":")
    if not colon or not host or not port.isdigit() or not 0 < int(port) < 1 << 16:
        raise ConfigError(f"{name} takes HOST:PORT, not {address!r}")
    return address


def _seconds(text: str) -> int:
    if not text.isdigit() or not int(text):
        raise ConfigError(f"freq takes seconds, not {text!r}")
    return int(text)
