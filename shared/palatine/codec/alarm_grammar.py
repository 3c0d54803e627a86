"""uWSGI's alarm options as values, and the prefilter for log blocks. Plain; it must never touch the outside.

| option                        | value                               |
|-------------------------------|-------------------------------------|
| `alarm`                       | `<name> <action>:<arg>`             |
| `log-alarm`, `not-log-alarm`  | `<name>[,<name>...] <regexp>`       |
| `alarm-fd`                    | `<name> <fd>[:<bytes>] <message>`   |

The first space ends a name; everything behind it, spaces included, belongs to the next part.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from palatine.errors import ConfigError

#: What the app-server runs for the alarm-daemon, with the app's rights.
APP_ACTIONS: Final = frozenset({"cmd", "signal", "mule", "log", "speech"})
#: What the alarm-daemon sends itself: these only talk to the network.
NETWORK_ACTIONS: Final = frozenset({"curl", "xmpp", "airbrake", "snmptrap"})
#: Looking for more literals than this costs as much as matching.
MAX_LITERALS: Final = 256
#: Lines that start so are the alarm system's own and never raise an alarm.
OWN_LINE: Final = b"[uwsgi-alarm"


class Alarm(NamedTuple):
    """One `alarm`: what raising `name` does. `arg` is the action's own text, it may be empty and may hold secrets."""

    name: str
    action: str
    arg: str


class Rule(NamedTuple):
    """One `log-alarm`, or `not-log-alarm` where `negate`: a datagram that has `regexp` raises `alarms` in order."""

    alarms: tuple[str, ...]
    regexp: str
    negate: bool = False

    def pattern(self) -> bytes:
        """The regexp as the bytes it stands for in log lines."""
        return self.regexp.encode("utf-8", "surrogateescape")


class AlarmFd(NamedTuple):
    """One `alarm-fd`: when `fd` is readable, `size` bytes are read from it and `alarm` is raised with `message`."""

    alarm: str
    fd: int
    size: int
    message: str


def parse_alarm(value: str) -> Alarm:
    """Read an `alarm` value; ConfigError in uWSGI's words for a wrong shape or an unknown action."""
    name, space, rest = value.partition(" ")
    action, colon, arg = rest.partition(":")
    if not space or not colon or not name:
        raise ConfigError(f"invalid alarm syntax: {value}")
    if action not in APP_ACTIONS | NETWORK_ACTIONS:
        raise ConfigError(f"invalid alarm: {value} (no action {action!r})")
    if action == "signal" and not (re.fullmatch(r" *[0-9]{1,3} *", arg) and int(arg) <= 255):
        raise ConfigError(f"invalid alarm: {value} (a signal is a number from 0 to 255)")
    if action == "mule" and not re.fullmatch(r" *[0-9]{0,5} *", arg):
        raise ConfigError(f"invalid alarm: {value} (a mule is a number, 0 for all)")
    return Alarm(name, action, arg)


def parse_rule(value: str, negate: bool) -> Rule:  # noqa: FBT001 - the option's name decides it, not the caller
    """Read a `log-alarm` value, or `not-log-alarm` where `negate`; ConfigError in uWSGI's words. Compiles no regexp."""
    names, space, regexp = value.partition(" ")
    alarms = tuple(name for name in names.split(",") if name)
    if not space or not alarms:
        raise ConfigError(f"invalid log-alarm syntax: {value}")
    return Rule(alarms, regexp, negate)


def parse_alarm_fd(value: str) -> AlarmFd:
    """Read an `alarm-fd` value; ConfigError in uWSGI's words. No `<bytes>`, or 0, is 1; the message may hold colons."""
    found = re.fullmatch(r"([^ ]+) ([0-9]{1,9})(?::([0-9]{0,9}))? (.*)", value, re.DOTALL)
    if found is None:
        raise ConfigError(f"invalid alarm-fd syntax: {value}")
    return AlarmFd(found[1], int(found[2]), int(found[3] or 1) or 1, found[4])


def check_rules(alarms: Iterable[Alarm], rules: Iterable[Rule]) -> None:
    """ConfigError in uWSGI's words for the first rule that names an alarm nobody defined."""
    known = {alarm.name for alarm in alarms}
    for rule in rules:
        for name in rule.alarms:
            if name not in known:
                raise ConfigError(f"invalid log-alarm: {','.join(rule.alarms)} {rule.regexp} (no alarm {name!r})")


class Prefilter:
    """Tells which log blocks cannot match any rule, by the literals the regexps require; it errs only towards True.

    `not-log-alarm` rules need no line of their own: a line no `log-alarm` matches raises nothing.
    """

    def __init__(self, rules: Iterable[Rule]) -> None:
        from palatine.codec.alarm_regexp import required_literals  # few masters have rules

        wanted: set[bytes] = set()
        self.literals: tuple[bytes, ...] | None = None
        for rule in rules:
            if rule.negate:
                continue
            need = required_literals(rule.pattern())
            if need is None:
                return
            wanted |= need
        if len(wanted) <= MAX_LITERALS:
            self.literals = _shortest(sorted(wanted, key=len))

    def may_match(self, block: bytes) -> bool:
        """Whether a log datagram inside `block` could match a rule; one block may hold many datagrams."""
        if self.literals is None:
            return True
        return any(literal in block for literal in self.literals)


def _shortest(literals: Sequence[bytes]) -> tuple[bytes, ...]:
    """Without those that contain another one: where the longer occurs the shorter does too."""
    kept: list[bytes] = []
    for literal in literals:
        if not any(shorter in literal for shorter in kept):
            kept.append(literal)
    return tuple(kept)
