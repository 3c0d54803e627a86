"""Typed answers from a loaded configuration: flags, integers, sizes, texts, lists. Must never change what was read.

Every getter takes any spelling of an option and every error names file, line and column of the value it is about.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Final, NamedTuple, TypeVar, overload

from palatine.codec.config_math import leading_int
from palatine.codec.config_source import Origin
from palatine.config.directives import is_true
from palatine.config.table import Table
from palatine.errors import ConfigError

T = TypeVar("T")

#: Options that other options switch on, by the word the table uses.
IMPLIED_FLAGS: Final[Mapping[str, str]] = {
    "master": "master",
    "log-master": "log-master",
    "enable-threads": "threads",
    "enable-metrics": "metrics",
    "auto-procname": "procname",
    "vhost": "vhost",
    "no-server": "no-server",
    "no-initial-output": "no-initial",
}
#: What an implied word implies in turn.
_CHAIN: Final = {"log-master": ("master",), "req-log-master": ("master", "log-master")}
_NOTHING: Final = frozenset({"", "false", "off", "no", "none"})
_MEGABYTE: Final = 1 << 20
_SHORT_MAX: Final = 65535


class Option(NamedTuple):
    """One option as it ended up: `name` as written, its value (None for a bare flag), and where it was written."""

    name: str
    value: str | None
    origin: Origin

    def parsed(self, parse: Callable[[str], T]) -> T:
        """What `parse` makes of the value, "" where there is none; its ConfigError gets the option's name and place."""
        try:
            return parse(self.value or "")
        except ConfigError as error:
            raise self.origin.error(f"{self.name}: {error.message}") from error


class Settings:
    """The options of one configuration by canonical name, with what they imply."""

    def __init__(self, options: Iterable[Option], table: Table, warnings: list[str]) -> None:
        self._table = table
        self._warnings = warnings
        self._options: dict[str, list[Option]] = {}
        implied: set[str] = set()
        for option in options:
            kind = table.find(option.name)
            if kind is None:
                continue
            self._options.setdefault(kind.name, []).append(option)
            for word in kind.implies:
                implied.update((word, *_CHAIN.get(word, ())))
            if kind.name == "snmp" and option.value and is_true(option.value):
                implied.add("master")  # an address of its own needs somebody to serve it
        self.implied = frozenset(implied)

    def given(self, name: str) -> Option | None:
        """The last option spelled `name` in any way, which is the one that counts; None if there is none."""
        found = self._options.get(self._table.canonical(name))
        return found[-1] if found else None

    def items(self, name: str) -> list[Option]:
        """All options spelled `name` in any way, in order; `Option.name` says which spelling was used."""
        return list(self._options.get(self._table.canonical(name), ()))

    def flag(self, name: str, *, default: bool = False) -> bool:
        """Whether a switch is on: by itself (the last one wins), else because another option implies it."""
        option = self.given(name)
        if option is not None:
            return is_true(option.value)
        return default or IMPLIED_FLAGS.get(self._table.canonical(name), "") in self.implied

    @overload
    def text(self, name: str) -> str | None: ...

    @overload
    def text(self, name: str, default: str) -> str: ...

    def text(self, name: str, default: str | None = None) -> str | None:
        """The value of a text option; "" where it was given without one."""
        option = self.given(name)
        return default if option is None else option.value or ""

    def texts(self, name: str) -> tuple[str, ...]:
        """The values of an option that may come several times, in order."""
        return tuple(option.value or "" for option in self.items(name))

    def each(self, name: str, parse: Callable[[str], T]) -> tuple[T, ...]:
        """The same, parsed; a ConfigError of `parse` gets its option's name and place."""
        return tuple(option.parsed(parse) for option in self.items(name))

    def integer(self, name: str, default: int = 0, *, minimum: int = 0, maximum: int | None = None) -> int:
        """The value of an integer option: 1 where it has no value, 0 for "" and false words.

        Raises ConfigError for a value below `minimum`, above `maximum`, or not beginning with a number. What follows
        the number is ignored, as uWSGI does, with a warning.
        """
        option = self.given(name)
        if option is None:
            return default
        number = self._number(option)
        if number < minimum:
            raise option.origin.error(f"{option.name} = {number}: it must be at least {minimum}")
        if maximum is not None and number > maximum:
            raise option.origin.error(f"{option.name} = {number}: it must be at most {maximum}")
        return number

    def size(self, name: str, default: int = 0) -> int:
        """The value of a size option in its natural unit: bytes for megabyte options, clamped for 16-bit ones."""
        option = self.given(name)
        if option is None:
            return default
        number = self._number(option)
        if number < 0:
            raise option.origin.error(f"{option.name} = {number}: it must not be negative")
        kind = self._table.find(option.name)
        if kind and kind.type == "megabytes":
            return number * _MEGABYTE
        return min(number, _SHORT_MAX) if kind and kind.type == "short" else number

    def _number(self, option: Option) -> int:
        if option.value is None:
            return 1
        text = option.value.strip()
        if text.lower() in _NOTHING:
            return 0
        digits = text.lstrip("+-")
        number = leading_int(text)
        if len(text) - len(digits) > 1 or not "0" <= digits[:1] <= "9":
            raise option.origin.error(f"{option.name} = {option.value}: this is not a number")
        length = len(digits) - len(digits.lstrip("0123456789"))
        if digits[length:]:
            warning = f"{option.origin}: {option.name} = {option.value}: everything after the number is ignored"
            if warning not in self._warnings:
                self._warnings.append(warning)
        return number
