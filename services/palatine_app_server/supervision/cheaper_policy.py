"""How many workers there should be, as pure functions of what is seen once a second. No clock, no I/O.

`decide(settings, state, view) -> (state, delta, notes)`: workers to start (delta > 0) or to stop (-1). The algorithms
are uWSGI's spare, spare2, backlog and busyness; `manual` leaves it to the master FIFO.
"""

from collections.abc import Callable
from typing import Final, NamedTuple


class BusynessSettings(NamedTuple):
    """Options cheaper-busyness-*: percentages, cycles, connections, seconds."""

    most: int = 50
    least: int = 25
    multiplier: int = 10
    penalty: int = 2
    verbose: bool = False
    backlog_alert: int = 33
    backlog_multiplier: int = 3
    backlog_step: int = 1
    backlog_nonzero: int = 60


class CheaperSettings(NamedTuple):
    """Options cheaper-*; `least` 0 turns the subsystem off. Limits of resident memory are bytes, 0 for none."""

    least: int = 0
    initial: int = 0
    step: int = 1
    overload: int = 3
    algorithm: str = "spare"
    idle_seconds: int = 10
    rss_soft: int = 0
    rss_hard: int = 0
    busyness: BusynessSettings = BusynessSettings()


class Seen(NamedTuple):
    """One running worker: whether it is in a request, and the microseconds it has spent in requests so far."""

    busy: bool
    running_time: int


class View(NamedTuple):
    """What the master sees at `now` (seconds, monotonic): the running workers by index, and what waits."""

    now: float
    workers: dict[int, Seen]
    processes: int
    backlog: int = 0
    rss: int = 0  # bytes of all workers together

    @property
    def idle(self) -> int:
        """Workers that are in no request."""
        return sum(not worker.busy for worker in self.workers.values())

    @property
    def room(self) -> int:
        """Workers that could be started."""
        return self.processes - len(self.workers)


class State(NamedTuple):
    """What an algorithm remembers between two looks."""

    overloads: int = 0
    idles: int = 0
    checked: float = 0.0
    seen: tuple[tuple[int, Seen], ...] = ()
    next_cheap: float = 0.0
    cheaped: float = 0.0  # when a worker was stopped last
    stopped_last: bool = False  # and none was started since
    tolerated: int = 0  # cycles in a row that were neither busy nor idle
    multiplier: int = 0
    emergencies: int = 0
    waiting_since: float = 0.0


Decision = tuple[State, int, list[str]]
_NOTHING: Final[list[str]] = []
#: So many cycles between the two percentages begin the wait for the next stop anew.
_TOLERANCE: Final = 3


def decide(settings: CheaperSettings, state: State, view: View) -> Decision:
    """The next state, how many workers to start or stop, and lines for the log."""
    state, delta, notes = ALGORITHMS[settings.algorithm](settings, state, view)
    if settings.rss_hard and view.rss >= settings.rss_hard and len(view.workers) > settings.least:
        note = f"cheaper hard rss memory limit exceeded, cheap one of {len(view.workers)} workers"
        return state, -1, [*notes, note]
    if delta > 0 and settings.rss_soft and view.rss >= settings.rss_soft:
        return state, 0, notes
    return state, min(delta, view.room), notes


def spare(settings: CheaperSettings, state: State, view: View) -> Decision:
    """Start workers when all have been busy for more than `overload` looks, stop one when more than one is idle."""
    overloads = max(0, state.overloads - 1) if view.idle else state.overloads + 1
    idles = state.idles if view.idle else 0
    if overloads > settings.overload and view.room > 0:
        return state._replace(overloads=0, idles=idles), settings.step, _NOTHING
    delta = 0
    if overloads == 0 and view.idle != 1:
        idles += 1
        if len(view.workers) > settings.least and idles % max(1, settings.overload) == 0:
            delta = -1
    return state._replace(overloads=overloads, idles=idles), delta, _NOTHING


def spare2(settings: CheaperSettings, state: State, view: View) -> Decision:
    """Keep `least` workers idle: start what is missing at once, stop one after each `idle_seconds` with more."""
    missing = settings.least - view.idle
    if missing > 0:
        return state._replace(idles=0), min(settings.step, missing), _NOTHING
    if missing == 0 or len(view.workers) <= settings.least:
        return state, 0, _NOTHING
    idles = state.idles + 1
    if idles >= settings.idle_seconds:
        return state._replace(idles=0), -1, _NOTHING
    return state._replace(idles=idles), 0, _NOTHING


def backlog(settings: CheaperSettings, state: State, view: View) -> Decision:
    """Start workers while more than `overload` connections wait, stop one while fewer do."""
    if view.backlog > settings.overload and view.room > 0:
        return state, settings.step, _NOTHING
    stop = view.backlog < settings.overload and len(view.workers) > settings.least
    return state, -1 if stop else 0, _NOTHING


def manual(settings: CheaperSettings, state: State, view: View) -> Decision:
    """Change nothing."""
    del settings, view
    return state, 0, _NOTHING


def busyness(settings: CheaperSettings, state: State, view: View) -> Decision:
    """Keep the share of time workers spend in requests between two percentages; a long backlog is an emergency."""
    options = settings.busyness
    if not state.checked:
        state = state._replace(checked=view.now, seen=_remember(view), multiplier=options.multiplier)
        return _postponed(settings, state, view)[0], 0, _busyness_settings(settings)
    if view.now - state.checked < settings.overload:
        return _look_at_backlog(settings, state, view)
    average = _average(state, view)
    state = state._replace(checked=view.now, seen=_remember(view))
    notes = [f"[busyness] {settings.overload}s average busyness of {len(view.workers)} worker(s) is at {average}%"]
    rule = _too_busy if average > options.most else _too_idle if average < options.least else _well
    if average <= options.most and view.backlog > options.backlog_alert and view.room > 0:
        state, delta, more = _emergency(settings, state, view)
    else:
        state, delta, more = rule(settings, state, view, f"{settings.overload}s average busyness is at {average}%")
    return state, delta, [*(notes if options.verbose else []), *more]


def _busyness_settings(settings: CheaperSettings) -> list[str]:
    options = settings.busyness
    bounds = f"min={options.least}%, max={options.most}%, overload={settings.overload}"
    return [
        f"[busyness] settings: {bounds}, multiplier={options.multiplier}, respawn penalty={options.penalty}",
        f"[busyness] backlog alert is set to {options.backlog_alert} request(s), step is {options.backlog_step}",
        f"[busyness] backlog non-zero alert is set to {options.backlog_nonzero} second(s)",
    ]


def _too_busy(settings: CheaperSettings, state: State, view: View, text: str) -> Decision:
    options = settings.busyness
    state = state._replace(tolerated=0)
    count = min(settings.step, view.room)
    if count <= 0:
        full = f"but we already started maximum number of workers available with current limits ({len(view.workers)})"
        return state, 0, [f"[busyness] {text} {full}"]
    notes = []
    if state.cheaped and (view.now - state.cheaped) // settings.overload <= state.multiplier:
        state = state._replace(multiplier=state.multiplier + options.penalty)
        fast = "[busyness] worker(s) respawned to fast, increasing cheaper multiplier to"
        notes.append(f"{fast} {state.multiplier} (+{options.penalty})")
    else:
        state, notes = _relaxed(settings, state)
    state, more = _postponed(settings, state._replace(stopped_last=False), view)
    return state, count, [*notes, *more, f"[busyness] {text}, will spawn {count} new worker(s)"]


def _too_idle(settings: CheaperSettings, state: State, view: View, text: str) -> Decision:
    running = len(view.workers)
    if running == 1:
        return state, 0, _NOTHING
    state = state._replace(tolerated=0)
    if running <= settings.least:
        return state, 0, _NOTHING
    if view.now < state.next_cheap:
        wait = f"[busyness] need to wait {int(state.next_cheap - view.now)} more second(s) to cheap worker"
        return state, 0, [wait] if settings.busyness.verbose else _NOTHING
    state, notes = _relaxed(settings, state) if state.stopped_last else (state, [])
    state, more = _postponed(settings, state, view)
    emergencies = max(0, state.emergencies - 1)
    state = state._replace(cheaped=view.now, stopped_last=True, emergencies=emergencies)
    return state, -1, [*notes, *more, f"[busyness] {text}, cheap one of {running} running workers"]


def _well(settings: CheaperSettings, state: State, view: View, text: str) -> Decision:
    """Neither: a moment of that keeps a worker from being stopped for a while, three in a row begin the wait anew."""
    if len(view.workers) == 1:
        return state, 0, _NOTHING
    state = state._replace(emergencies=max(0, state.emergencies - 1), tolerated=state.tolerated + 1)
    text = f"[busyness] {text}, {state.tolerated} non-idle cycle(s), "
    if state.tolerated >= _TOLERANCE:
        text, (state, notes) = f"{text}resetting cheaper timer", _postponed(settings, state, view)
    else:
        text, state = f"{text}adjusting cheaper timer", state._replace(next_cheap=state.next_cheap + settings.overload)
        notes = []
    return state, 0, [text, *notes] if settings.busyness.verbose else _NOTHING


def _look_at_backlog(settings: CheaperSettings, state: State, view: View) -> Decision:
    """Between two checks of the workers: once a second."""
    options = settings.busyness
    if view.backlog > options.backlog_alert and view.room > 0:
        return _emergency(settings, state, view)
    if view.backlog and not state.waiting_since:
        text = f"[busyness] backlog is starting to fill ({view.backlog})"
        return state._replace(waiting_since=view.now), 0, [text] if options.verbose else _NOTHING
    waited = int(view.now - state.waiting_since)
    if view.backlog and waited >= options.backlog_nonzero and view.room > 0:
        state, delta, notes = _emergency(settings, state._replace(waiting_since=view.now), view)
        text = f"[busyness] backlog was non-zero for {waited} second(s), spawning new worker(s)"
        return state, delta, [text, *notes]
    if not view.backlog and state.waiting_since:
        empty = ["[busyness] backlog is now empty"]
        return state._replace(waiting_since=0.0), 0, empty if options.verbose else _NOTHING
    return state, 0, _NOTHING


def _emergency(settings: CheaperSettings, state: State, view: View) -> Decision:
    options = settings.busyness
    count = min(options.backlog_step, view.room)
    state, notes = _postponed(settings, state._replace(multiplier=options.multiplier, stopped_last=False), view)
    state = state._replace(emergencies=state.emergencies + count)
    text = f"[busyness] {view.backlog} requests in listen queue, spawning {count} emergency worker(s)"
    return state, count, [*notes, f"{text} ({state.emergencies})!"]


def _relaxed(settings: CheaperSettings, state: State) -> tuple[State, list[str]]:
    """The multiplier one less, down to what the config says."""
    if state.multiplier <= settings.busyness.multiplier:
        return state, []
    state = state._replace(multiplier=state.multiplier - 1)
    return state, [f"[busyness] decreasing cheaper multiplier to {state.multiplier}"]


def _postponed(settings: CheaperSettings, state: State, view: View) -> tuple[State, list[str]]:
    """Nobody is stopped before so many cycles from now."""
    seconds = settings.overload * (settings.busyness.backlog_multiplier if state.emergencies else state.multiplier)
    notes = []
    if state.emergencies and settings.busyness.verbose:
        using = f"using {seconds} seconds cheaper timer"
        notes.append(f"[busyness] {state.emergencies} emergency worker(s) running, {using}")
    return state._replace(next_cheap=view.now + seconds), notes


def _average(state: State, view: View) -> int:
    """Per cent of the time since the last check that the workers spent in requests, on average."""
    period_us = (view.now - state.checked) * 1_000_000
    before = dict(state.seen)
    shares = []
    for index, worker in view.workers.items():
        spent = worker.running_time - before.get(index, worker).running_time
        # one that is in a long request has finished nothing, and is anything but idle
        shares.append(100 if worker.busy and not spent else min(100, int(spent * 100 / period_us)))
    return sum(shares) // len(shares) if shares else 0


def _remember(view: View) -> tuple[tuple[int, Seen], ...]:
    return tuple(view.workers.items())


ALGORITHMS: Final[dict[str, Callable[[CheaperSettings, State, View], Decision]]] = {
    "spare": spare,
    "spare2": spare2,
    "backlog": backlog,
    "busyness": busyness,
    "manual": manual,
}
