"""Reads the instances' events and turns each batch into one durable record; it must never acknowledge by itself.

| event    | body                                                                    |
|----------|-------------------------------------------------------------------------|
| `config` | alarms, rules, freq: what stands from here on                           |
| `log`    | lines: log datagrams as latin-1 text                                    |
| `raise`  | alarm, message (latin-1 text), source                                   |

`log` and `raise` may carry `at`, the unix time of what they tell; without it the time of reading counts.
"""

from collections.abc import Callable
from typing import Any, Final

import attrs
import msgspec
import structlog
import trio

from palatine.bus import Batch, Event, Intake, request
from palatine.errors import PalatineError, ProtocolError
from palatine_alarm_daemon.counters import Counters
from palatine_alarm_daemon.journal import Record
from palatine_alarm_daemon.raising import Raiser
from palatine_alarm_daemon.registry import Instance, Registry
from palatine_alarm_daemon.ruleset import read_ruleset
from palatine_alarm_daemon.values import Delivery

#: An event's `at` further than this from now is not believed.
BELIEVED_SECONDS: Final = 7 * 86400.0
CONFIG_SECONDS: Final = 5.0


class _Lines(msgspec.Struct):
    lines: list[str]
    at: float = 0.0


class _Raise(msgspec.Struct):
    alarm: str
    message: str
    source: str = "api"
    at: float = 0.0


@attrs.define
class _Taken:
    """What the events read so far come to."""

    deliveries: list[Delivery] = attrs.field(factory=list)
    rulesets: dict[str, tuple[int, object]] = attrs.field(factory=dict)


class Reader:
    """Takes events in; one task."""

    def __init__(
        self,
        registry: Registry,
        raiser: Raiser,
        counters: Counters,
        log: structlog.stdlib.BoundLogger,
        clock: Callable[[], float],
        recorded: Callable[[bytes], int],
    ) -> None:
        """`recorded(sender)` is the last event of a sender that is in the journal, 0 for none."""
        self._registry = registry
        self._raiser = raiser
        self._counters = counters
        self._log = log
        self._clock = clock
        self._recorded = recorded
        self._read: dict[bytes, int] = {}  # by sender, recorded or not

    async def run(
        self, intake: Intake, submit: Callable[[Record, Batch], Any], ask: Callable[[Instance], None]
    ) -> None:
        """Read until cancelled. `submit` makes a record durable and then acknowledges; `ask` fetches a config."""
        async for batch in intake:
            record = self.take(batch.source, batch.sender, batch.events)
            await submit(record, batch)
            instance = self._registry.get(batch.source)
            if instance is not None and instance.ruleset is None and not instance.asked:
                instance.asked = True
                ask(instance)

    def take(self, source: str, sender: bytes, events: list[Event]) -> Record:
        """What a batch comes to; events read before come to nothing."""
        instance = self._registry.get(source)
        last = max(self._read.get(sender, 0), self._recorded(sender))
        fresh = [event for event in events if event.seq > last]
        if not fresh or instance is None:
            return Record()
        taken = _Taken()
        self._counters.events(len(fresh))
        for event in fresh:
            try:
                self._event(instance, event, taken)
            except (ProtocolError, msgspec.ValidationError) as error:
                self._log.warning("event.refused", instance=source, type=event.type, seq=event.seq, reason=str(error))
        self._read[sender] = fresh[-1].seq
        return Record(tuple(taken.deliveries), taken.rulesets, {sender: fresh[-1].seq})

    def adopt(self, instance: Instance, body: Any) -> None:
        """Take a config's body as what stands; ProtocolError if it is none."""
        ruleset = read_ruleset(body)
        known = instance.body == body  # it says so when it starts, and was asked as well
        instance.adopt(ruleset, body)
        if known:
            return
        self._counters.rule_errors(len(ruleset.problems))
        for problem in ruleset.problems:
            self._log.warning("config.not_served", instance=instance.name, problem=problem)
        self._log.info("config.taken", instance=instance.name, alarms=len(ruleset.alarms), rules=len(ruleset.rules))

    def _event(self, instance: Instance, event: Event, taken: _Taken) -> None:
        if event.type == "log":
            body = msgspec.convert(event.body, _Lines)
            taken.deliveries += self._raiser.lines(instance, body.lines, self._time(body.at))
        elif event.type == "raise":
            raised = msgspec.convert(event.body, _Raise)
            message = raised.message.encode("latin-1", "replace")
            delivery, reason = self._raiser.named(instance, raised.alarm, message, raised.source, self._time(raised.at))
            if delivery is not None:
                taken.deliveries.append(delivery)
            else:
                self._log.debug("alarm.not_raised", instance=instance.name, alarm=raised.alarm, reason=reason)
        elif event.type == "config":
            self.adopt(instance, event.body)
            taken.rulesets[instance.name] = (instance.uid, event.body)
        else:
            self._log.debug("event.unknown", instance=instance.name, type=event.type)

    def _time(self, at: float) -> float:
        now = self._clock()
        return at if at and abs(now - at) < BELIEVED_SECONDS else now


async def fetch_config(instance: Instance) -> Any:
    """The body of the `config` event an instance would send now; PalatineError if it does not say."""
    path = instance.path
    if path is None:
        raise PalatineError("the instance is gone")
    with trio.fail_after(CONFIG_SECONDS * 2):
        return await request(path / "ctl", "alarm.config", timeout=CONFIG_SECONDS)
