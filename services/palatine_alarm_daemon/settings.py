"""/etc/palatine/alarm-daemon.yaml: limits, and the host's own alarms and rules.

It must never run a command out of a file that anybody but root can write.
"""

import os
import stat
from pathlib import Path
from typing import Any

import attrs

from palatine.codec.alarm_grammar import Alarm, Rule, check_rules, parse_alarm, parse_rule
from palatine.errors import ConfigError
from palatine_alarm_daemon.delivery_policy import Backoff
from palatine_alarm_daemon.ruleset import Ruleset, build_ruleset

#: Run in the daemon for a trusted file; `log` is a line of the daemon's own log.
HOST_ACTIONS = frozenset({"cmd", "log"})


def _positive(_: object, field: "attrs.Attribute[Any]", value: float) -> None:
    if not value > 0:
        raise ValueError(f"{field.name.replace('_', '-')} must be more than 0", field)


@attrs.frozen
class RuleLine:
    """One rule, `log-alarm: NAMES REGEXP` or `not-log-alarm: NAMES REGEXP`."""

    log_alarm: str = ""
    not_log_alarm: str = ""

    def rule(self) -> Rule:
        """The rule; ConfigError unless exactly one of the two is given."""
        if bool(self.log_alarm) == bool(self.not_log_alarm):
            raise ConfigError("a rule is either log-alarm or not-log-alarm")
        return parse_rule(self.log_alarm or self.not_log_alarm, negate=bool(self.not_log_alarm))


@attrs.frozen
class Settings:
    """The file's keys.

    Attributes:
        expire: seconds after which an alarm not delivered is given up.
        retry_first, retry_longest: seconds between attempts, doubled from the first to the longest.
        max_pending: undelivered alarms kept for each instance; the oldest is given up for a new one.
        freq: seconds in which a host alarm does not repeat the same message.
        alarms: `NAME ACTION:ARG` as in an app's config; `cmd`, `log` and `curl`.
        rules: matched against the log lines of every instance, beside its own.
    """

    expire: float = attrs.field(default=86400.0, validator=_positive)
    retry_first: float = attrs.field(default=1.0, validator=_positive)
    retry_longest: float = attrs.field(default=300.0, validator=_positive)
    max_pending: int = attrs.field(default=10_000, validator=_positive)
    freq: float = 3.0
    alarms: tuple[str, ...] = ()
    rules: tuple[RuleLine, ...] = ()

    @property
    def backoff(self) -> Backoff:
        """The retry policy's numbers."""
        return Backoff(self.retry_first, max(self.retry_first, self.retry_longest))

    def host_rules(self, path: str) -> Ruleset:
        """The host's ruleset, compiled; ConfigError at `path` for a wrong value or `cmd` in a file others can write."""
        try:
            alarms = [parse_alarm(value) for value in self.alarms]
            rules = [line.rule() for line in self.rules]
            check_rules(alarms, rules)
        except ConfigError as error:
            raise ConfigError(error.message, path) from error
        self._check_rights(alarms, path)
        ruleset = build_ruleset(alarms, rules, self.freq, HOST_ACTIONS)
        if ruleset.problems:
            raise ConfigError("; ".join(ruleset.problems), path)
        return ruleset

    @staticmethod
    def _check_rights(alarms: list[Alarm], path: str) -> None:
        if any(alarm.action == "cmd" for alarm in alarms) and not is_trusted(Path(path)):
            raise ConfigError("cmd runs only from a file that root owns and nobody else can write", path)


def is_trusted(path: Path) -> bool:
    """Whether only root can have written `path`: owner and mode of the file and of every directory above it."""
    path = Path(os.path.realpath(path))
    for place in (path, *path.parents):
        facts = place.lstat()
        writable = facts.st_mode & 0o022 and not (stat.S_ISDIR(facts.st_mode) and facts.st_mode & stat.S_ISVTX)
        if facts.st_uid != 0 or writable:
            return False
    return True
