"""When a delivery is tried, tried again, and given up. Pure: `decide(state, event, now) -> (state, action)`.

At least once and no sooner given up than `expires_at`: only a refusal that cannot change ends a delivery early. A
delivery that needs an instance waits for it without counting attempts, and is tried at once when it comes back.
"""

from typing import Final

import attrs

from palatine_alarm_daemon.values import DELIVERED, EXPIRED, FAILED

#: Delays spread by this much around their value, so that many lanes do not retry one mail server in step.
SPREAD: Final = 0.2
GONE: Final = "the instance is gone"


@attrs.frozen
class Backoff:
    """Seconds before the second attempt; doubled for each further one up to `longest`."""

    first: float = 1.0
    longest: float = 300.0

    def delay(self, attempts: int, seed: int) -> float:
        """Seconds to wait after `attempts` attempts; `seed` (0-255) places it within the spread."""
        plain = min(self.first * 2.0 ** min(attempts - 1, 60), self.longest)
        return plain * (1 - SPREAD + 2 * SPREAD * seed / 255)


@attrs.frozen
class State:
    """A delivery under way; `wants_peer` where it runs in the instance, `until` is when the present wait ends."""

    expires_at: float
    wants_peer: bool
    present: bool = True
    attempts: int = 0
    seed: int = 128
    reason: str = ""
    until: float = 0.0


@attrs.frozen
class Due:
    """It is at the head of its lane, or its wait is over."""


@attrs.frozen
class Succeeded:
    """The attempt was accepted; `note` says what was less than perfect."""

    note: str = ""


@attrs.frozen
class Failed:
    """The attempt came to nothing; `lasting` where another one could not do better."""

    reason: str
    lasting: bool = False


@attrs.frozen
class Presence:
    """The instance has come (back) or gone."""

    present: bool


@attrs.frozen
class Attempt:
    """Run the action now."""


@attrs.frozen
class Wait:
    """Do nothing before `until` (unix seconds) unless the instance comes or goes."""

    until: float
    reason: str


@attrs.frozen
class Finish:
    """It is over: delivered, failed or expired."""

    outcome: str
    reason: str


Event = Due | Succeeded | Failed | Presence
Action = Attempt | Wait | Finish


def decide(state: State, event: Event, now: float, backoff: Backoff) -> tuple[State, Action]:
    """The one next thing to do for a delivery; `now` is unix seconds."""
    match event:
        case Succeeded(note):
            return state, Finish(DELIVERED, note)
        case Failed(reason, lasting=True):
            return state, Finish(FAILED, reason)
        case Failed(reason):
            until = min(now + backoff.delay(state.attempts, state.seed), state.expires_at)
            return _wait(attrs.evolve(state, reason=reason, until=until), now)
        case Presence(present) if present == state.present:
            return _wait(state, now)
        case Presence(present):
            return _next(attrs.evolve(state, present=present), now)
        case Due():
            return _next(state, now)


def _next(state: State, now: float) -> tuple[State, Action]:
    """Try it, unless it is too late or its instance is away."""
    absent = state.wants_peer and not state.present
    if now >= state.expires_at:
        return state, Finish(EXPIRED, state.reason or (GONE if absent else "its turn never came"))
    if absent:
        return attrs.evolve(state, until=state.expires_at), Wait(state.expires_at, GONE)
    return attrs.evolve(state, attempts=state.attempts + 1), Attempt()


def _wait(state: State, now: float) -> tuple[State, Action]:
    """Wait on, unless there is nothing left to wait for."""
    if now >= state.expires_at:
        return state, Finish(EXPIRED, state.reason)
    if state.wants_peer and not state.present:
        return _next(state, now)
    return state, Wait(state.until, state.reason)
