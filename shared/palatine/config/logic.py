"""`for-…` and `if-…`: how often, and with which `%(_)`, the options up to the next `end` count. Must change nothing.

uWSGI's logic works line by line and does not nest. A condition looks at the machine only when an option follows it.
"""

import os
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from palatine.codec.config_math import leading_int
from palatine.config.readers import Reader
from palatine.errors import ConfigError

#: Names that end whatever logic is open.
ENDS = frozenset({"end", "endfor", "end-for", "endif", "end-if"})


class Context(NamedTuple):
    """What conditions may ask: environment, options read so far, the host, and whether this is a reload."""

    environ: Mapping[str, str]
    option: Callable[[str], str | None]
    hostname: Callable[[], str]
    plugin: Callable[[str], bool]
    path: Callable[[str], str]
    read: Reader
    reload: bool


def repetitions(name: str, argument: str, context: Context) -> Iterable[str | None]:
    """What `%(_)` is in each repetition of an option under `name = argument`; None leaves `%(_)` as it is."""
    if name.startswith("for"):
        return _loop(name, argument, context)
    condition = _ALIASES.get(name, name).removeprefix("if-")
    wanted = not condition.startswith("not-")
    return _condition(condition.removeprefix("not-"), argument, context, wanted=wanted)


def _loop(name: str, argument: str, context: Context) -> Iterable[str]:
    if name == "for":
        return (word for word in argument.split(" ") if word)
    if name == "for-times":
        return (str(number) for number in range(1, leading_int(argument) + 1))
    if name == "for-readline":
        text = context.read(argument).decode("utf-8", "surrogateescape")
        return (line.rstrip("\r") for line in text.removesuffix("\n").split("\n")) if text else ()
    return _glob(argument, context)


def _glob(pattern: str, context: Context) -> list[str]:
    """As glob(3) with MARK and NOCHECK: sorted, directories with a slash, the pattern itself where nothing matches."""
    import glob

    found = sorted(glob.glob(context.path(pattern)))
    base = context.path("")
    marked = [path + "/" if os.path.isdir(path) and not path.endswith("/") else path for path in found]
    return [path if pattern.startswith("/") else path.removeprefix(base) for path in marked] or [pattern]


def _condition(condition: str, argument: str, context: Context, *, wanted: bool) -> Iterable[str | None]:
    if condition in {"env", "opt"}:
        return _compare(condition, argument, context, wanted=wanted)
    if condition == "reload":
        return (None,) if context.reload == wanted else ()
    return (argument,) if _holds(condition, argument, context) == wanted else ()


def _compare(condition: str, argument: str, context: Context, *, wanted: bool) -> Iterable[str | None]:
    """`if-env = NAME` or `NAME=value`; `%(_)` becomes the value found."""
    name, equals, expected = argument.partition("=")
    found = context.environ.get(name) if condition == "env" else context.option(name)
    matches = found is not None and (not equals or found == expected)
    return (found,) if matches == wanted else ()


def _holds(condition: str, argument: str, context: Context) -> bool:
    if condition == "hostname":
        return context.hostname() == argument
    if condition == "hostname-match":
        return _matches(argument, context.hostname())
    if condition == "plugin":
        return context.plugin(argument)
    path = context.path(argument)
    if condition == "file":
        return os.path.isfile(path)
    if condition == "dir":
        return os.path.isdir(path)
    return os.access(path, os.R_OK)


def _matches(pattern: str, hostname: str) -> bool:
    import re

    try:
        return re.search(pattern, hostname) is not None
    except (re.error, OverflowError, RecursionError) as error:
        raise ConfigError(f"{pattern!r} is no regular expression: {error}") from error


_ALIASES = {
    "ifenv": "if-env",
    "ifexists": "if-exists",
    "ifplugin": "if-plugin",
    "ifdir": "if-dir",
    "if-directory": "if-dir",
}
