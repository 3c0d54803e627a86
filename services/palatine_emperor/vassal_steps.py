"""Steps several rules of `vassal_policy` share, as pure as the rules; must never look at an event or a clock."""

import os
import signal
from typing import Final, TypeAlias

import attrs

from palatine.codec import emperor_pipe
from palatine.exits import BAD_CONFIG
from palatine_emperor import lines
from palatine_emperor.throttle_policy import BAD_BEHAVIOUR_ATTEMPT, blamed, retry_at
from palatine_emperor.vassal import (
    Action,
    Bind,
    Forget,
    KillGroup,
    Limits,
    Phase,
    Say,
    Send,
    Start,
    Unbind,
    Vassal,
    Wanted,
    Watch,
)

Decision: TypeAlias = tuple[Vassal, tuple[Action, ...]]

#: Phases in which a process exists or is about to.
ALIVE: Final = (Phase.STARTING, Phase.RUNNING, Phase.STOPPING)

#: Reasons that are not a vassal's own words.
HELD: Final = "stopped by request"
NO_REASON: Final = "exited with 78, its configuration is bad"


def begin(vassal: Vassal, wanted: Wanted) -> Decision:
    """Start it, or wait for somebody to call on its socket."""
    unbind = leave_socket(vassal) if vassal.bound != wanted.socket else ()
    foreign = vassal.foreign and (vassal.wanted is None or vassal.wanted.stamp == wanted.stamp)
    begun = attrs.evolve(vassal, wanted=wanted, bound=wanted.socket, until=0, held=False, reason="", foreign=foreign)
    if not wanted.socket:
        return attrs.evolve(begun, phase=Phase.STARTING, started=wanted), (*unbind, Start(wanted, begun.foreign))
    waiting = attrs.evolve(begun, phase=Phase.WAITING)
    if vassal.bound == wanted.socket:
        return waiting, (lines.back_on_demand(wanted.name, wanted.socket), Watch())
    return waiting, (*unbind, lines.on_demand(wanted.name, wanted.socket), Bind(wanted.socket))


def reload_running(vassal: Vassal) -> Decision:
    """Tell it to reload; its heartbeats count again from the first one after."""
    reloading = attrs.evolve(
        vassal, reloading=True, spawned=False, accepting=False, respawns=vassal.respawns + 1, heartbeat_by=0
    )
    return reloading, (lines.reload(name_of(vassal)), Send(emperor_pipe.RELOAD))


def stop(vassal: Vassal, now: float, limits: Limits, said: Say | None = None) -> Decision:
    """Tell it to stop; what happens after its death depends on `wanted` and `held` then."""
    if vassal.phase is Phase.STOPPING:
        return attrs.evolve(vassal, asked=True), ()
    stopping = attrs.evolve(
        vassal,
        phase=Phase.STOPPING,
        asked=True,
        heartbeat_by=0,
        until=now + limits.curse_tolerance,
        times=attrs.evolve(vassal.times, cursed=now),
    )
    byte = (Send(stop_byte(limits)),) if vassal.pid else ()
    return stopping, (said or lines.stop(name_of(vassal)), *byte)


def let_go(vassal: Vassal, now: float, limits: Limits) -> Decision:
    """Stop it for good, or forget it where nothing runs."""
    if vassal.phase is Phase.ABSENT:
        return vassal, ()
    if vassal.phase in ALIVE:
        return stop(attrs.evolve(vassal, wanted=None, started=vassal.started or vassal.wanted), now, limits)
    gone = Vassal(blame=vassal.blame, times=vassal.times)
    return gone, (*leave_socket(vassal), Forget(), lines.removed(name_of(vassal)))


def bury(vassal: Vassal, status: int | None, now: float, limits: Limits) -> Decision:
    """What follows the end of its process: forgotten, kept stopped, started again now or later."""
    wanted = vassal.wanted
    if wanted is None or wanted.zerg:
        blame = vassal.blame
        if wanted is not None and not (vassal.loyal or vassal.asked) and limits.throttle.enabled:
            blame = blamed(blame, limits.throttle, now)[0]  # a zerg that failed: it is not to come back at once
        elif blame is None and not vassal.loyal:
            blame = attrs.evolve(blamed(None, limits.throttle, now)[0], listed_only=True)
        return Vassal(blame=blame, times=vassal.times), (KillGroup(), *leave_socket(vassal), Forget())
    after = _without_process(vassal)
    if vassal.held:
        after = attrs.evolve(after, phase=Phase.REFUSED, bound="")
        return after, (KillGroup(), *leave_socket(vassal), Forget())
    if vassal.asked:
        after, actions = begin(after, wanted)
        return after, (KillGroup(), *actions)
    if status is not None and os.waitstatus_to_exitcode(status) == BAD_CONFIG:
        if limits.other_program and not vassal.foreign:
            after, actions = begin(attrs.evolve(after, foreign=True), wanted)
            return after, (KillGroup(), lines.foreign(wanted.name, vassal.reason or NO_REASON), *actions)
        blame = blamed(vassal.blame, limits.throttle, now)[0] if limits.throttle.enabled else None
        after = attrs.evolve(after, phase=Phase.REFUSED, reason=vassal.reason or NO_REASON, bound="", blame=blame)
        refused = lines.refused(wanted.name, after.reason)
        return after, (KillGroup(), *leave_socket(vassal), Forget(), refused)
    settled = vassal.accepting and now - vassal.times.last_accepting >= limits.throttle.freq
    if vassal.loyal or settled:
        return begin(attrs.evolve(after, respawns=vassal.respawns + 1), wanted)
    return hold_back(after, wanted, now, limits)


def hold_back(vassal: Vassal, wanted: Wanted, now: float, limits: Limits) -> Decision:
    """It failed before it was of any use: blame it, and start it again only after a while."""
    said: list[Say] = []
    blame = None
    if limits.throttle.enabled:
        blame, halved = blamed(vassal.blame, limits.throttle, now)
        if halved:
            said.append(lines.maximum_throttle(wanted.name))
        if blame.attempt == BAD_BEHAVIOUR_ATTEMPT:
            said.append(lines.throttling(wanted.name))
    held_back = attrs.evolve(
        vassal,
        phase=Phase.THROTTLED,
        until=retry_at(blame, limits.throttle, now),
        blame=blame,
        reason=vassal.reason or _described(vassal.status),
        respawns=vassal.respawns + 1,
    )
    forget = () if vassal.bound else (Forget(),)
    return held_back, (KillGroup(), *forget, *said)


def leave_socket(vassal: Vassal) -> tuple[Action, ...]:
    """Close its on-demand socket if one is bound."""
    return (Unbind(),) if vassal.bound else ()


def stop_byte(limits: Limits) -> int:
    """The byte that stops a vassal."""
    return emperor_pipe.GRACEFUL_STOP if limits.graceful else emperor_pipe.STOP


def name_of(vassal: Vassal) -> str:
    """Its id, also once nobody wants it any more."""
    known = vassal.wanted or vassal.started
    return known.name if known else ""


def _without_process(vassal: Vassal) -> Vassal:
    return attrs.evolve(
        vassal,
        started=None,
        pid=0,
        spawned=False,
        accepting=False,
        loyal=False,
        reloading=False,
        until=0,
        heartbeat_by=0,
        asks=False,
        asked=False,
        adopted=False,
    )


def _described(status: int | None) -> str:
    if status is None:
        return "its process is gone"
    code = os.waitstatus_to_exitcode(status)
    return f"exited with {code}" if code >= 0 else f"killed by {signal.Signals(-code).name}"
