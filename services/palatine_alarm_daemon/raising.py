"""From events to deliveries: matching, the anti-storm rule, ids and expiry. Synchronous, and it must never do I/O."""

import secrets
from collections.abc import Callable

import structlog

from palatine.codec.alarm_grammar import Alarm, Rule
from palatine_alarm_daemon.counters import Counters
from palatine_alarm_daemon.registry import Instance
from palatine_alarm_daemon.ruleset import Ruleset
from palatine_alarm_daemon.storm_policy import judge
from palatine_alarm_daemon.values import APP, HOST, Delivery


class Raiser:
    """Makes deliveries of what instances report; the caller makes them durable."""

    def __init__(self, counters: Counters, log: structlog.stdlib.BoundLogger, expire: Callable[[], float]) -> None:
        """`expire()` gives the seconds a delivery is tried."""
        self._counters = counters
        self._log = log
        self._expire = expire
        self.host = Ruleset()

    def lines(self, instance: Instance, lines: list[str], now: float) -> list[Delivery]:
        """The deliveries of some log datagrams (latin-1 text), in order."""
        deliveries: list[Delivery] = []
        self._counters.lines(len(lines))

        def troubled(rule: Rule, reason: str) -> None:
            if rule.regexp not in instance.troubled:
                instance.troubled.add(rule.regexp)
                self._counters.rule_errors(1)
                self._log.warning(
                    "rule.gave_up", instance=instance.name, regexp=rule.regexp, reason=reason, effect="line not matched"
                )

        for text in lines:
            line = text.encode("latin-1", "replace")
            own = instance.ruleset.raised_by(line, troubled) if instance.ruleset else []
            host = self.host.raised_by(line, troubled) if self.host.rules else []
            if own or host:
                self._counters.matched()
            raised = [(APP, alarm) for alarm in own] + [(HOST, alarm) for alarm in host]
            for origin, alarm in raised:
                delivery, _ = self.alarm(instance, origin, alarm, line, "log", now)
                if delivery is not None:
                    deliveries.append(delivery)
        return deliveries

    def named(
        self, instance: Instance, name: str, message: bytes, source: str, now: float
    ) -> tuple[Delivery | None, str]:
        """Raise one of the instance's alarms (or a host alarm, for the operator) by name; None and why not."""
        own = instance.ruleset.alarms.get(name) if instance.ruleset else None
        host = self.host.alarms.get(name) if source == "operator" else None
        alarm = own or host
        if alarm is None:
            return None, f"no alarm {name!r}"
        return self.alarm(instance, APP if own else HOST, alarm, message, source, now)

    def alarm(
        self, instance: Instance, origin: str, alarm: Alarm, message: bytes, source: str, now: float
    ) -> tuple[Delivery | None, str]:
        """Raise an alarm unless it said just the same a moment ago; None and why not."""
        lane = instance.lane(origin, alarm.name)
        freq = self.host.freq if origin == HOST or instance.ruleset is None else instance.ruleset.freq
        verdict = judge(instance.lasts.get(lane), message, now, freq)
        instance.lasts[lane] = verdict.last
        self._counters.raised(lane, now)
        if not verdict.raised:
            self._counters.suppressed(lane)
            return None, verdict.reason
        expires_at = now + self._expire()
        ident = secrets.token_hex(16)
        return Delivery(ident, lane, alarm.action, alarm.arg, message, now, expires_at, source), ""
