"""The life of a vassal as tables: what happens at which time, and what is done about it."""

from typing import TypeAlias

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from palatine.codec import emperor_pipe
from palatine_emperor import lines
from palatine_emperor.throttle_policy import Throttle
from palatine_emperor.vassal import (
    Action,
    Bind,
    Died,
    Event,
    Forget,
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
    Say,
    Send,
    SendConfig,
    Start,
    Started,
    Stop,
    Tick,
    Unbind,
    Unwant,
    Vassal,
    Want,
    Wanted,
    Watch,
)
from palatine_emperor.vassal_policy import deadline, decide

Step: TypeAlias = tuple[float, Event, Phase, list[Action]]

LIMITS = Limits()
FILE = Wanted("a.ini", stamp=10, directory="/v")
NEWER = attrs.evolve(FILE, stamp=11)
OLDER = attrs.evolve(FILE, stamp=9)
BLOB = Wanted("a.ini", stamp=10, directory="/v", config=b"[uwsgi]")
DEMAND = Wanted("a.ini", stamp=10, directory="/v", socket="127.0.0.1:9")
OWNED = attrs.evolve(FILE, uid=5, gid=6)

STOP, RELOAD = Send(emperor_pipe.STOP), Send(emperor_pipe.RELOAD)
SPAWNED, ACCEPTING, LOYAL = Said(emperor_pipe.SPAWNED), Said(emperor_pipe.ACCEPTING), Said(emperor_pipe.LOYAL)
HEARTBEAT, LEAVING, ASKS = Said(emperor_pipe.HEARTBEAT), Said(emperor_pipe.LEAVING), Said(emperor_pipe.SEND_CONFIG)

UP: list[Step] = [
    (0, Want(FILE), Phase.STARTING, [Start(FILE)]),
    (0, Started(7), Phase.RUNNING, []),
    (0, SPAWNED, Phase.RUNNING, [lines.spawned("a.ini")]),
    (0, ACCEPTING, Phase.RUNNING, [lines.ready("a.ini")]),
]
SERVING: list[Step] = [*UP, (1, LOYAL, Phase.RUNNING, [lines.loyal("a.ini")])]
DEMAND_UP: list[Step] = [
    (0, Want(DEMAND), Phase.WAITING, [lines.on_demand("a.ini", "127.0.0.1:9"), Bind("127.0.0.1:9")]),
    (1, Knock(), Phase.STARTING, [Start(DEMAND)]),
    (1, Started(7), Phase.RUNNING, []),
    (1, ACCEPTING, Phase.RUNNING, [lines.ready("a.ini")]),
]
FAILED: list[Action] = [lines.curse("a.ini", 7), lines.removed("a.ini"), KillGroup(), Forget()]


def failure(at: float, after: float, *said: Say) -> list[Step]:
    """A start that failed at `at`, and the next one `after` seconds later."""
    return [
        (at, Started(7), Phase.RUNNING, []),
        (at, Died(1 << 8), Phase.THROTTLED, [*FAILED, *said]),
        (at + after - 0.01, Tick(), Phase.THROTTLED, []),
        (at + after, Tick(), Phase.STARTING, [Start(FILE)]),
    ]


LIVES: dict[str, list[Step]] = {
    "a new one is started, and becomes loyal": SERVING,
    "it says loyal as often as it has workers": [*SERVING, (2, LOYAL, Phase.RUNNING, [])],
    "an equal or lower stamp is nothing new": [
        *UP,
        (1, Want(FILE), Phase.RUNNING, []),
        (1, Want(OLDER), Phase.RUNNING, []),
    ],
    "a higher stamp reloads, and ready is said again": [
        *SERVING,
        (2, Want(NEWER), Phase.RUNNING, [lines.reload("a.ini"), RELOAD]),
        (2, Want(NEWER), Phase.RUNNING, []),
        (3, ACCEPTING, Phase.RUNNING, [lines.ready("a.ini")]),
    ],
    "a config travels on the pipe at the start and whenever asked for": [
        (0, Want(BLOB), Phase.STARTING, [Start(BLOB)]),
        (0, Started(7), Phase.RUNNING, [SendConfig()]),
        (1, Want(attrs.evolve(BLOB, stamp=11)), Phase.RUNNING, [lines.reload("a.ini"), RELOAD]),
        (1, ASKS, Phase.RUNNING, [SendConfig()]),
    ],
    "a file's vassal gets no config": [*UP, (1, ASKS, Phase.RUNNING, [])],
    "removed: told to stop, forgotten when dead": [
        *SERVING,
        (2, Unwant(), Phase.STOPPING, [lines.stop("a.ini"), STOP]),
        (2, Unwant(), Phase.STOPPING, []),
        (3, Lost(), Phase.STOPPING, []),
        (3, Died(0), Phase.ABSENT, [lines.removed("a.ini"), KillGroup(), Forget()]),
        (4, Unwant(), Phase.ABSENT, []),
    ],
    "removed and back before it is dead: started again": [
        *SERVING,
        (2, Unwant(), Phase.STOPPING, [lines.stop("a.ini"), STOP]),
        (2, Want(FILE), Phase.STOPPING, []),
        (3, Died(0), Phase.STARTING, [lines.removed("a.ini"), KillGroup(), Start(FILE)]),
    ],
    "removed while it is being forked": [
        (0, Want(FILE), Phase.STARTING, [Start(FILE)]),
        (0, Unwant(), Phase.STOPPING, [lines.stop("a.ini")]),
        (0, Started(7), Phase.STOPPING, [STOP]),
        (1, Died(0), Phase.ABSENT, [lines.removed("a.ini"), KillGroup(), Forget()]),
    ],
    "told to stop and does not: its group is killed, again and again": [
        *SERVING,
        (2, Unwant(), Phase.STOPPING, [lines.stop("a.ini"), STOP]),
        (31.9, Tick(), Phase.STOPPING, []),
        (32, Tick(), Phase.STOPPING, [lines.will_not_stop("a.ini", 30), KillGroup()]),
        (62, Tick(), Phase.STOPPING, [lines.will_not_stop("a.ini", 30), KillGroup()]),
        (63, Died(9), Phase.ABSENT, [lines.removed("a.ini"), KillGroup(), Forget()]),
    ],
    "a loyal one that dies is started again at once": [
        *SERVING,
        (2, Died(9), Phase.STARTING, [lines.curse("a.ini", 7), lines.removed("a.ini"), Start(FILE)]),
    ],
    "the end of its pipe is seen before its death": [
        *SERVING,
        (2, Lost(), Phase.STOPPING, [lines.curse("a.ini", 7)]),
        (2, Died(9), Phase.STARTING, [lines.removed("a.ini"), Start(FILE)]),
    ],
    "the end of its pipe without a death: its group is killed": [
        *SERVING,
        (2, Lost(), Phase.STOPPING, [lines.curse("a.ini", 7)]),
        (32, Tick(), Phase.STOPPING, [lines.will_not_stop("a.ini", 30), KillGroup()]),
        (32, Died(9), Phase.STARTING, [lines.removed("a.ini"), Start(FILE)]),
    ],
    "not loyal, but it served for a while": [
        *UP,
        (3, Died(9), Phase.STARTING, [lines.curse("a.ini", 7), lines.removed("a.ini"), Start(FILE)]),
    ],
    "not loyal and not for long": [*UP, (2.9, Died(9), Phase.THROTTLED, FAILED)],
    "broken: started at t, +3, +3, +3, +3, +6, +6, +6, as measured": [
        (0, Want(FILE), Phase.STARTING, [Start(FILE)]),
        *failure(0, 3),
        *failure(3, 3),
        *failure(6, 3, lines.throttling("a.ini")),
        *failure(9, 3),
        *failure(12, 6),
        *failure(18, 6),
        *failure(24, 6),
        *failure(30, 9),
    ],
    "a changed config ends the wait, once a second": [
        (0, Want(FILE), Phase.STARTING, [Start(FILE)]),
        (0, Started(7), Phase.RUNNING, []),
        (0, Died(256), Phase.THROTTLED, FAILED),
        (0.5, Want(NEWER), Phase.THROTTLED, []),
        (1, Tick(), Phase.STARTING, [Start(NEWER)]),
        (1, Started(7), Phase.RUNNING, []),
        (1, Died(256), Phase.THROTTLED, FAILED),
        (2.5, Want(attrs.evolve(FILE, stamp=12)), Phase.STARTING, [Start(attrs.evolve(FILE, stamp=12))]),
    ],
    "removed and added does not end the wait": [
        (0, Want(FILE), Phase.STARTING, [Start(FILE)]),
        (0, Started(7), Phase.RUNNING, []),
        (0, Died(256), Phase.THROTTLED, FAILED),
        (1, Unwant(), Phase.ABSENT, [Forget(), lines.removed("a.ini")]),
        (2, Want(NEWER), Phase.THROTTLED, []),
        (3, Tick(), Phase.STARTING, [Start(NEWER)]),
    ],
    "removed before it served anything: listed, not punished": [
        *UP,
        (1, Unwant(), Phase.STOPPING, [lines.stop("a.ini"), STOP]),
        (1, Died(0), Phase.ABSENT, [lines.removed("a.ini"), KillGroup(), Forget()]),
        (1, Want(NEWER), Phase.STARTING, [Start(NEWER)]),
        (1, Started(7), Phase.RUNNING, []),
        (1, Died(256), Phase.THROTTLED, FAILED),
    ],
    "a pardon ends the wait and the list": [
        (0, Want(FILE), Phase.STARTING, [Start(FILE)]),
        (0, Started(7), Phase.RUNNING, []),
        (0, Died(256), Phase.THROTTLED, FAILED),
        (1, Pardon(), Phase.STARTING, [Start(FILE)]),
    ],
    "an operator's touch ends the wait, HUP does not": [
        (0, Want(FILE), Phase.STARTING, [Start(FILE)]),
        (0, Started(7), Phase.RUNNING, []),
        (0, Died(256), Phase.THROTTLED, FAILED),
        (1, Reload(), Phase.THROTTLED, []),
        (1, Reload(insist=True), Phase.STARTING, [Start(FILE)]),
    ],
    "HUP reloads what runs": [*UP, (1, Reload(), Phase.RUNNING, [lines.reload("a.ini"), RELOAD])],
    "a bad config is refused until it changes": [
        (0, Want(FILE), Phase.STARTING, [Start(FILE)]),
        (0, Started(7), Phase.RUNNING, []),
        (0, Said(emperor_pipe.REASON, "no ruby here"), Phase.RUNNING, []),
        (0, Lost(), Phase.STOPPING, [lines.curse("a.ini", 7)]),
        (
            0,
            Died(78 << 8),
            Phase.REFUSED,
            [lines.removed("a.ini"), KillGroup(), Forget(), lines.refused("a.ini", "no ruby here")],
        ),
        (9, Tick(), Phase.REFUSED, []),
        (9, Want(FILE), Phase.REFUSED, []),
        (9, Pardon(), Phase.REFUSED, []),
        (10, Want(NEWER), Phase.STARTING, [Start(NEWER)]),
    ],
    "no app (exit 22) is tried again": [
        (0, Want(FILE), Phase.STARTING, [Start(FILE)]),
        (0, Started(7), Phase.RUNNING, []),
        (0, Died(22 << 8), Phase.THROTTLED, FAILED),
    ],
    "held by an operator until its config changes": [
        *SERVING,
        (2, Stop(hold=True), Phase.STOPPING, [lines.stop("a.ini"), STOP]),
        (3, Died(0), Phase.REFUSED, [lines.removed("a.ini"), KillGroup(), Forget()]),
        (4, Want(FILE), Phase.REFUSED, []),
        (5, Want(NEWER), Phase.STARTING, [Start(NEWER)]),
    ],
    "held, then touched": [
        *SERVING,
        (2, Stop(hold=True), Phase.STOPPING, [lines.stop("a.ini"), STOP]),
        (3, Died(0), Phase.REFUSED, [lines.removed("a.ini"), KillGroup(), Forget()]),
        (5, Reload(insist=True), Phase.STARTING, [Start(FILE)]),
    ],
    "the keeper could not fork": [
        (0, Want(FILE), Phase.STARTING, [Start(FILE)]),
        (0, NotStarted("no memory"), Phase.THROTTLED, [lines.not_started("a.ini", "no memory"), KillGroup(), Forget()]),
        (3, Tick(), Phase.STARTING, [Start(FILE)]),
    ],
    "heartbeats are demanded after the first": [
        *SERVING,
        (40, Tick(), Phase.RUNNING, []),
        (50, HEARTBEAT, Phase.RUNNING, []),
        (70, HEARTBEAT, Phase.RUNNING, []),
        (99.9, Tick(), Phase.RUNNING, []),
        (100, Tick(), Phase.STOPPING, [lines.no_heartbeat("a.ini", 30), KillGroup()]),
        (100, Died(9), Phase.STARTING, [lines.removed("a.ini"), Start(FILE)]),
    ],
    "a reload is no lost heartbeat": [
        *SERVING,
        (2, HEARTBEAT, Phase.RUNNING, []),
        (3, Reload(), Phase.RUNNING, [lines.reload("a.ini"), RELOAD]),
        (60, Tick(), Phase.RUNNING, []),
    ],
    "the owner of its file changed": [
        *SERVING,
        (2, Want(OWNED), Phase.STOPPING, [lines.permissions_changed("a.ini"), STOP]),
        (3, Died(0), Phase.STARTING, [lines.removed("a.ini"), KillGroup(), Start(OWNED)]),
    ],
    "the owner changed while it was being forked": [
        (0, Want(FILE), Phase.STARTING, [Start(FILE)]),
        (0, Want(OWNED), Phase.STARTING, []),
        (0, Started(7), Phase.STOPPING, [lines.permissions_changed("a.ini"), STOP]),
        (3, Died(0), Phase.STARTING, [lines.removed("a.ini"), KillGroup(), Start(OWNED)]),
    ],
    "on demand: started by a knock, back to waiting when idle": [
        *DEMAND_UP,
        (1, Knock(), Phase.RUNNING, []),
        (9, LEAVING, Phase.STOPPING, [lines.bringing_back("a.ini"), STOP]),
        (
            9,
            Died(0),
            Phase.WAITING,
            [lines.removed("a.ini"), KillGroup(), lines.back_on_demand("a.ini", "127.0.0.1:9"), Watch()],
        ),
        (20, Knock(), Phase.STARTING, [Start(DEMAND)]),
    ],
    "on demand: touched while it waits": [
        *DEMAND_UP[:1],
        (1, Want(attrs.evolve(DEMAND, stamp=11)), Phase.WAITING, [lines.updated_on_demand("a.ini")]),
        (2, Knock(), Phase.STARTING, [Start(attrs.evolve(DEMAND, stamp=11))]),
    ],
    "on demand: removed while it waits": [
        *DEMAND_UP[:1],
        (1, Unwant(), Phase.ABSENT, [Unbind(), Forget(), lines.removed("a.ini")]),
    ],
    "on demand: broken, and its socket stays while it is held back": [
        *DEMAND_UP[:3],
        (
            1,
            Died(256),
            Phase.THROTTLED,
            [lines.curse("a.ini", 7), lines.removed("a.ini"), KillGroup()],
        ),
        (2, Knock(), Phase.THROTTLED, []),
        (4, Tick(), Phase.WAITING, [lines.back_on_demand("a.ini", "127.0.0.1:9"), Watch()]),
    ],
    "on demand: another socket while it waits": [
        *DEMAND_UP[:1],
        (
            1,
            Want(attrs.evolve(DEMAND, socket="/s", stamp=11)),
            Phase.WAITING,
            [Unbind(), lines.on_demand("a.ini", "/s"), Bind("/s")],
        ),
    ],
    "on demand no more": [
        *DEMAND_UP,
        (2, Want(NEWER), Phase.STOPPING, [lines.moved("a.ini", on_demand=False), STOP]),
        (3, Died(0), Phase.STARTING, [lines.removed("a.ini"), KillGroup(), Unbind(), Start(NEWER)]),
    ],
    "on demand from now on": [
        *SERVING,
        (2, Want(DEMAND), Phase.STOPPING, [lines.moved("a.ini", on_demand=True), STOP]),
        (
            3,
            Died(0),
            Phase.WAITING,
            [
                lines.removed("a.ini"),
                KillGroup(),
                lines.on_demand("a.ini", "127.0.0.1:9"),
                Bind("127.0.0.1:9"),
            ],
        ),
    ],
    "on demand: the address is taken": [
        *DEMAND_UP[:1],
        (0, NotBound("in use"), Phase.THROTTLED, [lines.not_bound("a.ini", "in use"), KillGroup(), Forget()]),
        (3, Tick(), Phase.WAITING, [lines.on_demand("a.ini", "127.0.0.1:9"), Bind("127.0.0.1:9")]),
    ],
    "leaving without a socket is a stop, and the monitor still wants it": [
        *SERVING,
        (2, LEAVING, Phase.STOPPING, [lines.stop("a.ini"), STOP]),
        (3, Died(0), Phase.STARTING, [lines.removed("a.ini"), KillGroup(), Start(FILE)]),
    ],
    "the Emperor leaves without mercy": [
        *SERVING,
        (2, Stop(), Phase.STOPPING, [lines.stop("a.ini"), STOP]),
        (32, NoMercy(), Phase.STOPPING, [lines.no_mercy("a.ini"), KillGroup()]),
        (32, Died(9), Phase.ABSENT, [lines.removed("a.ini"), KillGroup(), Forget()]),
        (33, NoMercy(), Phase.ABSENT, []),
    ],
    "numbers nobody knows are ignored": [*UP, (1, Said(99), Phase.RUNNING, []), (1, Said(30), Phase.RUNNING, [])],
}


@pytest.mark.parametrize("life", LIVES.values(), ids=LIVES)
def test_lives(life: list[Step]) -> None:
    vassal = Vassal()
    for now, event, phase, actions in life:
        vassal, done = decide(vassal, event, now, LIMITS)
        assert (vassal.phase, list(done)) == (phase, actions), (now, event)


def play(*events: tuple[float, Event], limits: Limits = LIMITS) -> Vassal:
    vassal = Vassal()
    for now, event in events:
        vassal, _ = decide(vassal, event, now, limits)
    return vassal


def test_what_is_known_of_a_failing_one() -> None:
    vassal = play((5, Want(FILE)), (6, Started(7)), (7, Died(256)), (10, Tick()), (10, Started(8)), (11, Died(9)))
    assert vassal.blame is not None
    assert (vassal.blame.level, vassal.blame.attempt, vassal.blame.first, vassal.blame.last) == (1001, 1, 7, 11)
    assert (vassal.reason, vassal.status, vassal.respawns) == ("killed by SIGKILL", 9, 2)
    assert (vassal.times.born, vassal.times.first_run, vassal.times.last_run) == (5, 6, 10)
    assert deadline(vassal) == 14


def test_the_level_halves_at_the_ceiling() -> None:
    limits = Limits(Throttle(ceiling=2000))
    vassal, said = play((0, Want(FILE))), list[Action]()
    levels = []
    for attempt in range(6):
        now = attempt * 1000
        vassal, _ = decide(vassal, Started(7), now, limits)
        vassal, actions = decide(vassal, Died(256), now, limits)
        said += [action for action in actions if action == lines.maximum_throttle("a.ini")]
        levels.append(vassal.blame.level if vassal.blame else 0)
        vassal, _ = decide(vassal, Tick(), now + 500, limits)
    assert levels == [1, 1001, 2001, 1000, 2000, 1000]
    assert len(said) == 2


def test_without_a_blacklist_every_scan_tries_again() -> None:
    limits = Limits(Throttle(enabled=False))
    vassal = play((0, Want(FILE)), (0, Started(7)), (0, Died(256)), limits=limits)
    assert (vassal.blame, deadline(vassal)) == (None, 3)


def test_loyalty_clears_the_record_and_graceful_changes_the_byte() -> None:
    vassal = play((0, Want(FILE)), (0, Started(7)), (0, Died(256)), (3, Tick()), (3, Started(7)), (4, LOYAL))
    assert vassal.blame is None
    _, actions = decide(vassal, Unwant(), 5, Limits(graceful=True))
    assert actions == (lines.stop("a.ini"), Send(emperor_pipe.GRACEFUL_STOP))


EVENTS = st.one_of(
    st.sampled_from([FILE, NEWER, OLDER, BLOB, DEMAND, OWNED]).map(Want),
    st.sampled_from([
        Unwant(), Started(7), NotStarted("x"), SPAWNED, ACCEPTING, LOYAL, HEARTBEAT, LEAVING, ASKS, Lost(), Died(9),
        Died(256), Died(78 << 8), Died(None), Knock(), NotBound("x"), Tick(), Reload(), Reload(insist=True), Pardon(),
        Stop(), Stop(hold=True), NoMercy(),
    ]),
)  # fmt: skip


@given(st.lists(st.tuples(EVENTS, st.floats(0, 40)), max_size=40))
def test_whatever_happens_it_makes_sense(events: list[tuple[Event, float]]) -> None:
    vassal, now, bound = Vassal(), 0.0, ""
    for event, later in events:
        now += later
        if isinstance(event, Started | NotStarted) and (vassal.pid or vassal.started is None):
            continue  # the keeper answers an order, once
        if isinstance(event, Died) and not vassal.pid:
            continue
        vassal, actions = decide(vassal, event, now, LIMITS)
        for action in actions:
            bound = action.address if isinstance(action, Bind) else "" if isinstance(action, Unbind) else bound
            assert not isinstance(action, Start) or (vassal.phase is Phase.STARTING and not vassal.pid)
            assert not isinstance(action, Forget) or (not vassal.pid and not vassal.bound)
        if isinstance(event, NotBound):
            bound = vassal.bound
        assert bound == vassal.bound
        assert bool(vassal.wanted) or vassal.phase in {Phase.ABSENT, Phase.STOPPING}
        assert not vassal.pid or vassal.phase in {Phase.RUNNING, Phase.STOPPING}
        if vassal.phase in {Phase.THROTTLED, Phase.STOPPING}:
            assert deadline(vassal) > 0
