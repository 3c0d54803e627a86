"""What the alarm-daemon answers on ctl beside the common requests; it must never show a password or change a rule.

| request         | who      | body                              | reply                                      |
|-----------------|----------|-----------------------------------|--------------------------------------------|
| `alarm.list`    | viewer   | {"instance"?}                     | {"instances": [...], "host": {...}}        |
| `alarm.pending` | operator | {"instance"?, "limit"?}           | {"total": n, "pending": [oldest first]}    |
| `alarm.raise`   | operator | {"instance", "alarm", "message"}  | {"raised": bool, "id"?, "reason"?}         |
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, TypeVar

import msgspec

from palatine.bus import Handler, Request, Role
from palatine.errors import PeerError
from palatine_alarm_daemon.courier import Courier, Waiting
from palatine_alarm_daemon.curl_options import masked
from palatine_alarm_daemon.journal import Record
from palatine_alarm_daemon.raising import Raiser
from palatine_alarm_daemon.registry import Instance, Registry
from palatine_alarm_daemon.ruleset import Ruleset

T = TypeVar("T")

SHOWN_MESSAGE: Final = 200
SHOWN_PENDING: Final = 100
MOST_PENDING: Final = 1000
MAX_MESSAGE: Final = 64 * 1024


class _Filter(msgspec.Struct):
    instance: str = ""
    limit: int = SHOWN_PENDING


class _Raise(msgspec.Struct):
    instance: str
    alarm: str
    message: str


def alarm_handlers(
    registry: Registry,
    raiser: Raiser,
    courier: Courier,
    make: Callable[[Record], Awaitable[None]],
    clock: Callable[[], float],
) -> Mapping[str, tuple[Role, Handler]]:
    """The handlers; `make` makes a record durable and hands its deliveries to the courier."""

    async def alarm_list(asked: Request) -> dict[str, Any]:
        wanted = _body(asked, _Filter).instance
        instances = [_shown(instance) for instance in registry if wanted in {"", instance.name}]
        return {"instances": sorted(instances, key=lambda one: str(one["instance"])), "host": _rules(raiser.host)}

    async def alarm_pending(asked: Request) -> dict[str, Any]:
        body = _body(asked, _Filter)
        pending = [one for one in courier.pending() if body.instance in {"", one.delivery.lane.instance}]
        limit = max(0, min(body.limit, MOST_PENDING))
        return {"total": len(pending), "pending": [_waiting(registry, one) for one in pending[:limit]]}

    async def alarm_raise(asked: Request) -> dict[str, Any]:
        body = _body(asked, _Raise)
        instance = registry.get(body.instance)
        if instance is None:
            raise PeerError(f"no instance {body.instance!r}", "not-found")
        message = body.message.encode("utf-8", "surrogateescape")[:MAX_MESSAGE]
        if body.alarm not in _names(instance, raiser):
            raise PeerError(f"no alarm {body.alarm!r} in {body.instance}", "not-found")
        delivery, reason = raiser.named(instance, body.alarm, message, "operator", clock())
        if delivery is None:
            return {"raised": False, "reason": reason}
        await make(Record((delivery,)))
        return {"raised": True, "id": delivery.id}

    return {
        "alarm.list": (Role.VIEWER, alarm_list),
        "alarm.pending": (Role.OPERATOR, alarm_pending),
        "alarm.raise": (Role.OPERATOR, alarm_raise),
    }


def _names(instance: Instance, raiser: Raiser) -> set[str]:
    own = instance.ruleset.alarms if instance.ruleset else {}
    return {*own, *raiser.host.alarms}


def _shown(instance: Instance) -> dict[str, Any]:
    ruleset = instance.ruleset
    head = {"instance": instance.name, "uid": instance.uid, "present": instance.path is not None}
    return {**head, "configured": ruleset is not None, **_rules(ruleset or Ruleset())}


def _rules(ruleset: Ruleset) -> dict[str, Any]:
    return {
        "freq": ruleset.freq,
        "alarms": [
            {"name": alarm.name, "action": alarm.action, "arg": masked(alarm.action, alarm.arg)}
            for alarm in ruleset.alarms.values()
        ],
        "rules": [
            {
                "alarms": list(compiled.rule.alarms),
                "regexp": compiled.rule.regexp.encode("utf-8", "replace").decode(),
                "negate": compiled.rule.negate,
                "engine": compiled.regexp.engine,
            }
            for compiled in ruleset.rules
        ],
        "problems": list(ruleset.problems),
    }


def _waiting(registry: Registry, one: Waiting) -> dict[str, Any]:
    delivery = one.delivery
    return {
        "id": delivery.id,
        "instance": delivery.lane.instance,
        "present": registry.present(delivery.lane) is not None,
        "alarm": delivery.lane.alarm,
        "origin": delivery.lane.origin,
        "action": delivery.action,
        "message": delivery.message[:SHOWN_MESSAGE].decode("utf-8", "replace"),
        "source": delivery.source,
        "raised_at": delivery.raised_at,
        "expires_at": delivery.expires_at,
        "doing": one.doing,
        "attempts": one.attempts,
        "next_at": one.until,
        "reason": one.reason,
    }


def _body(asked: Request, cls: type[T]) -> T:
    try:
        return msgspec.convert(asked.body or {}, cls)
    except msgspec.ValidationError as error:
        raise PeerError(f"{asked.type}: {error}", "invalid") from error
