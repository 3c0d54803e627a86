"""The life of one vassal as a pure function of its state, what happened and the time; must never do anything itself.

`decide` follows uWSGI's Emperor, except where alarm_emperor section 0 shows it broken. Differences on purpose:
- a vassal that served for a while, or was loyal, is restarted at once when it dies, whatever its monitor;
- one that says its config is bad (exit 78) is not started again before the config changes or somebody asks;
- a zerg follows its vassal: reloaded, stopped and gone with it;
- a changed config ends the wait of a throttled vassal, at most once a second;
- what is killed is the process group, with what earlier masters left in theirs, never the master alone.
"""

from collections.abc import Callable
from typing import Any, Final

import attrs

from palatine.codec import emperor_pipe
from palatine_emperor import lines
from palatine_emperor.throttle_policy import retry_at
from palatine_emperor.vassal import (
    Died,
    Event,
    KillGroup,
    Knock,
    Limits,
    Lost,
    NoMercy,
    NotBound,
    NotStarted,
    Pardon,
    Phase,
    Reload,
    Said,
    Send,
    SendConfig,
    Start,
    Started,
    Stop,
    Summon,
    Tick,
    Times,
    Unwant,
    Vassal,
    Want,
    Wanted,
)
from palatine_emperor.vassal_steps import (
    ALIVE,
    HELD,
    Decision,
    begin,
    bury,
    hold_back,
    leave_socket,
    let_go,
    name_of,
    reload_running,
    stop,
    stop_byte,
)

#: A config saved again and again ends its own throttling only this often, in seconds.
IMPATIENCE: Final = 1.0


def decide(vassal: Vassal, event: Event, now: float, limits: Limits) -> Decision:
    """The state after `event`, and what is to be done, in order."""
    return _RULES[type(event)](vassal, event, now, limits)


def deadline(vassal: Vassal) -> float:
    """When the vassal wants a `Tick`, on the monotonic clock; 0 for never."""
    times = [at for at in (vassal.until, vassal.heartbeat_by) if at]
    return min(times, default=0)


# Monitors


def _want(vassal: Vassal, event: Want, now: float, limits: Limits) -> Decision:
    wanted, before = event.wanted, vassal.wanted
    if vassal.phase is Phase.ABSENT:
        vassal = Vassal(blame=vassal.blame, times=Times(born=now))
        until = retry_at(vassal.blame, limits.throttle, now) if vassal.blame else 0
        if now < until:
            return attrs.evolve(vassal, phase=Phase.THROTTLED, wanted=wanted, until=until), ()
        return begin(vassal, wanted)
    if before is not None and wanted.stamp < before.stamp:
        return vassal, ()
    newer = before is None or wanted.stamp > before.stamp
    vassal = attrs.evolve(vassal, wanted=wanted, foreign=vassal.foreign and not newer)
    match vassal.phase:
        case Phase.RUNNING:
            return _want_running(vassal, wanted, now, limits, newer=newer)
        case Phase.WAITING if wanted.socket != vassal.bound:
            return begin(vassal, wanted)
        case Phase.WAITING if newer:
            return vassal, (lines.updated_on_demand(wanted.name),)
        case Phase.THROTTLED if newer:
            soon = vassal.blame.last + IMPATIENCE if vassal.blame else now
            return begin(vassal, wanted) if now >= soon else (attrs.evolve(vassal, until=min(soon, vassal.until)), ())
        case Phase.REFUSED if newer:
            return begin(vassal, wanted)
    return vassal, ()


def _want_running(vassal: Vassal, wanted: Wanted, now: float, limits: Limits, *, newer: bool) -> Decision:
    started = vassal.started
    if started is not None and (wanted.uid, wanted.gid) != (started.uid, started.gid):
        return stop(vassal, now, limits, lines.permissions_changed(wanted.name))
    if wanted.socket != vassal.bound:
        return stop(vassal, now, limits, lines.moved(wanted.name, on_demand=bool(wanted.socket)))
    asks = vassal.asks and wanted.config is not None
    vassal, actions = reload_running(vassal) if newer else (vassal, ())
    return attrs.evolve(vassal, asks=False), ((SendConfig(), *actions) if asks else actions)


def _unwant(vassal: Vassal, _: Unwant, now: float, limits: Limits) -> Decision:
    return let_go(vassal, now, limits)


# Operators


def _reload(vassal: Vassal, event: Reload, _: float, __: Limits) -> Decision:
    wanted = vassal.wanted
    if wanted is None:
        return vassal, ()
    match vassal.phase:
        case Phase.RUNNING:
            return reload_running(vassal)
        case Phase.WAITING:
            return vassal, (lines.updated_on_demand(wanted.name),)
        case Phase.THROTTLED | Phase.REFUSED if event.insist:
            return begin(vassal, wanted)
    return vassal, ()


def _pardon(vassal: Vassal, _: Pardon, __: float, ___: Limits) -> Decision:
    vassal = attrs.evolve(vassal, blame=None)
    if vassal.phase is Phase.THROTTLED and vassal.wanted:
        return begin(vassal, vassal.wanted)
    return vassal, ()


def _stop_event(vassal: Vassal, event: Stop, now: float, limits: Limits) -> Decision:
    if not event.hold or vassal.wanted is None or vassal.wanted.zerg:
        return let_go(vassal, now, limits)
    vassal = attrs.evolve(vassal, held=True, reason=HELD)
    if vassal.phase in ALIVE:
        return stop(vassal, now, limits)
    if vassal.phase is Phase.ABSENT:
        return attrs.evolve(vassal, held=False, reason=""), ()
    return attrs.evolve(vassal, phase=Phase.REFUSED, until=0, bound=""), leave_socket(vassal)


def _no_mercy(vassal: Vassal, _: NoMercy, __: float, ___: Limits) -> Decision:
    if vassal.phase not in ALIVE:
        return vassal, ()
    return vassal, (lines.no_mercy(name_of(vassal)), KillGroup())


# The keeper


def _started(vassal: Vassal, event: Started, now: float, limits: Limits) -> Decision:
    times = attrs.evolve(vassal.times, first_run=vassal.times.first_run or now, last_run=now)
    vassal = attrs.evolve(vassal, pid=event.pid, times=times)
    started, wanted = vassal.started, vassal.wanted
    config = (SendConfig(),) if started and started.config is not None else ()
    if vassal.phase is Phase.STOPPING:  # told so while it was being forked
        return vassal, (*config, Send(stop_byte(limits)))
    vassal = attrs.evolve(vassal, phase=Phase.RUNNING)
    if wanted is None:
        return vassal, config
    vassal, actions = _want_running(vassal, wanted, now, limits, newer=False)
    return vassal, (*config, *actions)


def _not_started(vassal: Vassal, event: NotStarted, now: float, limits: Limits) -> Decision:
    said = lines.not_started(name_of(vassal), event.reason)
    vassal, actions = bury(attrs.evolve(vassal, reason=event.reason), None, now, limits)
    return vassal, (said, *actions)


def _died(vassal: Vassal, event: Died, now: float, limits: Limits) -> Decision:
    if vassal.phase not in ALIVE:
        return vassal, ()
    name = name_of(vassal)
    said = (lines.curse(name, vassal.pid),) if vassal.phase is Phase.RUNNING else ()
    vassal, actions = bury(attrs.evolve(vassal, status=event.status), event.status, now, limits)
    return vassal, (*said, lines.removed(name), *actions)


# The vassal itself


def _said(vassal: Vassal, event: Said, now: float, limits: Limits) -> Decision:
    if event.kind == emperor_pipe.REASON:
        return attrs.evolve(vassal, reason=event.text), ()
    if vassal.phase is not Phase.RUNNING:
        return vassal, ()
    name, times = name_of(vassal), vassal.times
    match event.kind:
        case emperor_pipe.SPAWNED:
            times = attrs.evolve(times, last_ready=now)
            return attrs.evolve(vassal, spawned=True, times=times), (lines.spawned(name),)
        case emperor_pipe.ACCEPTING:
            times = attrs.evolve(times, last_accepting=now)
            vassal = attrs.evolve(vassal, spawned=True, accepting=True, reloading=False, times=times, reason="")
            return vassal, (lines.ready(name),)
        case emperor_pipe.LOYAL if not vassal.loyal:
            times = attrs.evolve(times, last_loyal=now)
            return attrs.evolve(vassal, loyal=True, blame=None, times=times), (lines.loyal(name),)
        case emperor_pipe.HEARTBEAT:
            times = attrs.evolve(times, last_heartbeat=now)
            return attrs.evolve(vassal, heartbeat_by=now + limits.heartbeat, times=times), ()
        case emperor_pipe.SEND_CONFIG:
            return _asks(vassal)
        case emperor_pipe.REINFORCEMENTS if limits.broodlord and vassal.wanted:
            return vassal, (Summon(),)
        case emperor_pipe.LEAVING:
            return stop(vassal, now, limits, lines.bringing_back(name) if vassal.bound else None)
    return vassal, ()


def _asks(vassal: Vassal) -> Decision:
    if vassal.wanted and vassal.wanted.config is not None:
        return vassal, (SendConfig(),)
    # what an adopted one was started with, its monitor has yet to say
    return attrs.evolve(vassal, asks=vassal.asks or vassal.adopted), ()


def _lost(vassal: Vassal, _: Lost, now: float, limits: Limits) -> Decision:
    if vassal.phase is not Phase.RUNNING:
        return vassal, ()
    times = attrs.evolve(vassal.times, cursed=now)
    until = now + limits.curse_tolerance
    cursed = attrs.evolve(vassal, phase=Phase.STOPPING, until=until, heartbeat_by=0, times=times)
    return cursed, (lines.curse(name_of(vassal), vassal.pid),)


def _knock(vassal: Vassal, _: Knock, __: float, ___: Limits) -> Decision:
    if vassal.phase is not Phase.WAITING or vassal.wanted is None:
        return vassal, ()
    return attrs.evolve(vassal, phase=Phase.STARTING, started=vassal.wanted), (Start(vassal.wanted, vassal.foreign),)


def _not_bound(vassal: Vassal, event: NotBound, now: float, limits: Limits) -> Decision:
    if vassal.phase is not Phase.WAITING or vassal.wanted is None:
        return vassal, ()
    said = lines.not_bound(vassal.wanted.name, event.reason)
    vassal, actions = hold_back(attrs.evolve(vassal, reason=event.reason, bound=""), vassal.wanted, now, limits)
    return vassal, (said, *actions)


# Time


def _tick(vassal: Vassal, _: Tick, now: float, limits: Limits) -> Decision:
    name = name_of(vassal)
    if vassal.heartbeat_by and now >= vassal.heartbeat_by:
        until = now + limits.curse_tolerance
        vassal = attrs.evolve(vassal, phase=Phase.STOPPING, heartbeat_by=0, until=until)
        return vassal, (lines.no_heartbeat(name, limits.heartbeat), KillGroup())
    if not vassal.until or now < vassal.until:
        return vassal, ()
    if vassal.phase is Phase.THROTTLED and vassal.wanted:
        return begin(vassal, vassal.wanted)
    if vassal.phase is Phase.STOPPING:
        vassal = attrs.evolve(vassal, until=now + limits.curse_tolerance)
        return vassal, (lines.will_not_stop(name, limits.curse_tolerance), KillGroup())
    return attrs.evolve(vassal, until=0), ()


_RULES: Final[dict[type[Event], Callable[[Vassal, Any, float, Limits], Decision]]] = {
    Want: _want,
    Unwant: _unwant,
    Started: _started,
    NotStarted: _not_started,
    Said: _said,
    Lost: _lost,
    Died: _died,
    Knock: _knock,
    NotBound: _not_bound,
    Tick: _tick,
    Reload: _reload,
    Pardon: _pardon,
    Stop: _stop_event,
    NoMercy: _no_mercy,
}
