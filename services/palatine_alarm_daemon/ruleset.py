"""One instance's alarms and rules, compiled, and which alarms a log line raises; it must never deliver anything.

A rule or alarm that cannot be served becomes a problem in words and leaves the others as they are.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import attrs
import msgspec

from palatine.codec.alarm_grammar import APP_ACTIONS, OWN_LINE, Alarm, Rule
from palatine.codec.alarm_regexp import required_literals
from palatine.errors import ConfigError, ProtocolError
from palatine_alarm_daemon.curl_options import parse_curl
from palatine_alarm_daemon.pcre2 import Pcre2Error
from palatine_alarm_daemon.regexps import Regexp, compile_regexp

#: What a hostile instance may make this daemon compile.
MAX_RULES = 1000


class _AlarmBody(msgspec.Struct):
    name: str
    action: str
    arg: str = ""


class _RuleBody(msgspec.Struct):
    alarms: list[str]
    regexp: str
    negate: bool = False


class _ConfigBody(msgspec.Struct):
    alarms: list[_AlarmBody] = []
    rules: list[_RuleBody] = []
    freq: float = 3.0


@attrs.frozen
class CompiledRule:
    """A rule with its matcher, and the literals of which a matching line has at least one (None: unknown)."""

    rule: Rule
    regexp: Regexp
    literals: tuple[bytes, ...] | None

    def found(self, line: bytes) -> bool:
        """Whether the rule's regexp occurs in `line`. Looking for a literal costs a tenth of a regexp."""
        if self.literals is not None and not any(literal in line for literal in self.literals):
            return False
        return self.regexp.found(line)


@attrs.frozen
class Ruleset:
    """What an instance asked for, as far as it can be served; `problems` says what cannot, a sentence each."""

    alarms: Mapping[str, Alarm] = attrs.field(factory=dict)
    rules: tuple[CompiledRule, ...] = ()
    freq: float = 3.0
    problems: tuple[str, ...] = ()

    def raised_by(self, line: bytes, troubled: Callable[[Rule, str], None]) -> list[Alarm]:
        """The alarms `line` raises, in firing order; `troubled` hears of rules that gave this line up.

        Every matching rule fires all its alarms; a matching `not-log-alarm` ends the search.
        """
        if line.startswith(OWN_LINE):
            return []
        raised: list[Alarm] = []
        for rule in self.rules:
            try:
                if not rule.found(line):
                    continue
            except Pcre2Error as error:
                troubled(rule.rule, str(error))
                continue
            if rule.rule.negate:
                break
            raised += [self.alarms[name] for name in rule.rule.alarms]
        return raised


def read_ruleset(body: Any, *, actions: Iterable[str] = APP_ACTIONS) -> Ruleset:
    """The ruleset of a `config` event; ProtocolError if its body does not have the shape. `actions` run by name."""
    try:
        config = msgspec.convert(body, _ConfigBody)
    except msgspec.ValidationError as error:
        raise ProtocolError(f"config event: {error}") from error
    alarms = [Alarm(alarm.name, alarm.action, alarm.arg) for alarm in config.alarms]
    rules = [Rule(tuple(rule.alarms), rule.regexp, rule.negate) for rule in config.rules]
    return build_ruleset(alarms, rules, config.freq, frozenset(actions))


def build_ruleset(alarms: Iterable[Alarm], rules: Iterable[Rule], freq: float, actions: frozenset[str]) -> Ruleset:
    """Compile what can be served; the first alarm of a name is the one rules mean, as in uWSGI."""
    problems: list[str] = []
    served: dict[str, Alarm] = {}
    for alarm in alarms:
        trouble = _unservable(alarm, actions)
        if trouble:
            problems.append(f"alarm {alarm.name}: {trouble}")
        else:
            served.setdefault(alarm.name, alarm)
    compiled: list[CompiledRule] = []
    for rule in rules:
        if len(compiled) == MAX_RULES:
            problems.append(f"only the first {MAX_RULES} rules are served")
            break
        ready = _compiled(rule, served, problems)
        if ready is not None:
            compiled.append(ready)
    return Ruleset(served, tuple(compiled), freq, tuple(problems))


def _unservable(alarm: Alarm, actions: frozenset[str]) -> str:
    """Why an alarm cannot be served, empty if it can."""
    if alarm.action in actions or alarm.action == "snmptrap":
        return ""
    if alarm.action != "curl":
        return f"not served yet: {alarm.action}"
    try:
        parse_curl(alarm.arg)
    except ConfigError as error:
        return str(error)
    return ""


def _compiled(rule: Rule, served: Mapping[str, Alarm], problems: list[str]) -> CompiledRule | None:
    """The rule ready to use, without alarms that cannot be served; None if nothing of it is left."""
    option = "not-log-alarm" if rule.negate else "log-alarm"
    try:
        regexp = compile_regexp(rule.pattern())
    except ConfigError as error:
        problems.append(f"{option} {','.join(rule.alarms)} {rule.regexp}: {error}")
        return None
    names = tuple(name for name in rule.alarms if name in served)
    if not names and not rule.negate:
        problems.append(f"{option} {','.join(rule.alarms)} {rule.regexp}: none of its alarms is served")
        return None
    need = required_literals(rule.pattern())
    return CompiledRule(rule._replace(alarms=names), regexp, tuple(need) if need else None)
