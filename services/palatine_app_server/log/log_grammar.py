"""uWSGI's small languages of logging as values: `log-format`, loggers, encoders and their `${}`. Text in, values out.

Errors are ConfigError without a place; whoever knows the option's origin adds it.
"""

import re
from typing import Final, NamedTuple

from palatine.errors import ConfigError
from palatine_app_server.config.values import compiled

_FORMAT_VARIABLE: Final = re.compile(r"%\(([^)]+)\)")
_TEMPLATE_VARIABLE: Final = re.compile(r"\$\{([^}]*)\}")
_IDENTIFIER: Final = re.compile(r"[0-9A-Za-z]+")


class Variable(NamedTuple):
    """A `%(name)` of a log format or a `${name}` of an encoder."""

    name: str


class Logger(NamedTuple):
    """`[name ]plugin[:argument]`: where lines go. A named one is reached by log-route only."""

    name: str
    plugin: str
    argument: str


class Encoder(NamedTuple):
    """`plugin[:logger][ arguments]`: what happens to a line before it is written; without `logger`, to every line."""

    plugin: str
    logger: str
    arguments: str


class Route(NamedTuple):
    """`logger regexp`: lines in which `regexp` is found go to the named logger and nowhere else."""

    logger: str
    pattern: "re.Pattern[bytes]"


def parse_format(text: str) -> tuple[str | Variable, ...]:
    """The literals and variables of a `log-format`, in order."""
    return _split(text, _FORMAT_VARIABLE)


def parse_template(text: str) -> tuple[str | Variable, ...]:
    """The literals and variables of an encoder's arguments."""
    return _split(text, _TEMPLATE_VARIABLE)


def parse_logger(text: str) -> Logger:
    """The value of `logger` and `req-logger`."""
    name, space, rest = text.partition(" ")
    if not space or not _IDENTIFIER.fullmatch(name):
        name, rest = "", text
    plugin, _, argument = rest.lstrip().partition(":")
    return Logger(name, plugin, argument)


def parse_encoder(text: str) -> Encoder:
    """The value of `log-encoder` and `log-req-encoder`."""
    head, _, arguments = text.partition(" ")
    plugin, _, logger = head.partition(":")
    return Encoder(plugin, logger, arguments)


def parse_route(text: str) -> Route:
    """The value of `log-route` and `log-req-route`."""
    logger, space, pattern = text.partition(" ")
    if not space:
        raise ConfigError(f"{text!r}: a log route is a logger's name, a space and a regular expression")
    return Route(logger, compile_pattern(pattern))


def compile_pattern(text: str) -> "re.Pattern[bytes]":
    """A regular expression over the bytes of a line."""
    return compiled(text, lambda said: said.encode("utf-8", "surrogateescape"))


def parse_keyvals(text: str) -> dict[str, str]:
    """`a=1,b=2`: uWSGI's key-value lists; ConfigError for an item without `=`."""
    items = {}
    for item in text.split(","):
        key, equals, value = item.partition("=")
        if not equals:
            raise ConfigError(f"{text!r}: {item!r} is not key=value")
        items[key.strip()] = value
    return items


def _split(text: str, pattern: "re.Pattern[str]") -> tuple[str | Variable, ...]:
    parts: list[str | Variable] = []
    at = 0
    for found in pattern.finditer(text):
        if found.start() > at:
            parts.append(text[at : found.start()])
        parts.append(Variable(found[1]))
        at = found.end()
    if at < len(text):
        parts.append(text[at:])
    return tuple(parts)
