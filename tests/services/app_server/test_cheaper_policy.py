"""The cheaper algorithms, look by look: what each sees, and what it wants then."""

import pytest

from palatine_app_server.supervision.cheaper_policy import (
    ALGORITHMS,
    BusynessSettings,
    CheaperSettings,
    Seen,
    State,
    View,
    decide,
)


def view(busy: int, idle: int, *, now: float = 0.0, processes: int = 8, backlog: int = 0, rss: int = 0) -> View:
    workers = {index: Seen(index <= busy, 0) for index in range(1, busy + idle + 1)}
    return View(now, workers, processes, backlog, rss)


def deltas(settings: CheaperSettings, views: list[View]) -> list[int]:
    """What is wanted look after look, where nothing comes of it."""
    state, wanted = State(), []
    for each in views:
        state, delta, _ = decide(settings, state, each)
        wanted.append(delta)
    return wanted


SPARE = CheaperSettings(least=2, initial=2, step=2, overload=3)


@pytest.mark.parametrize(
    ("views", "wanted"),
    [
        ([view(2, 0)] * 5, [0, 0, 0, 2, 0]),  # overloaded for more than three looks
        ([view(2, 0)] * 3 + [view(2, 1)] * 2 + [view(3, 0)] * 3, [0, 0, 0, 0, 0, 0, 0, 2]),  # one pause takes one back
        ([view(7, 0)] * 4, [0, 0, 0, 1]),  # there are eight at most
        ([view(8, 0)] * 6, [0] * 6),
        ([view(3, 1)] * 9, [0] * 9),  # exactly one idle is what it wants
        ([view(1, 3)] * 6, [0, 0, -1, 0, 0, -1]),
        ([view(0, 2)] * 6, [0] * 6),  # never below `cheaper`
    ],
)
def test_spare(views: list[View], wanted: list[int]) -> None:
    assert deltas(SPARE, views) == wanted


@pytest.mark.parametrize(
    ("views", "wanted"),
    [
        ([view(4, 0)], [3]),
        ([view(4, 2)], [2]),
        ([view(4, 4)] * 3, [0, 0, 0]),
        ([view(1, 5)] * 5, [0, 0, -1, 0, 0]),
        ([view(1, 5)] * 2 + [view(4, 2), view(1, 5)], [0, 0, 2, 0]),  # starting some forgets the idleness
        ([view(0, 4)] * 5, [0] * 5),
    ],
)
def test_spare2(views: list[View], wanted: list[int]) -> None:
    settings = CheaperSettings(least=4, initial=4, step=3, algorithm="spare2", idle_seconds=3)
    assert deltas(settings, views) == wanted


@pytest.mark.parametrize(
    ("waiting", "workers", "wanted"), [(4, 2, 2), (3, 4, 0), (2, 4, -1), (0, 2, 0), (99, 8, 0), (99, 7, 1)]
)
def test_backlog(waiting: int, workers: int, wanted: int) -> None:
    settings = SPARE._replace(algorithm="backlog")
    assert deltas(settings, [view(workers, 0, backlog=waiting)]) == [wanted]


def test_manual_wants_nothing() -> None:
    assert deltas(SPARE._replace(algorithm="manual"), [view(8, 0, backlog=99), view(0, 8)]) == [0, 0]


def test_limits_of_memory() -> None:
    settings = SPARE._replace(algorithm="backlog", rss_soft=100, rss_hard=200)
    assert deltas(settings, [view(2, 0, backlog=9, rss=99)]) == [2]
    assert deltas(settings, [view(2, 0, backlog=9, rss=100)]) == [0]
    assert deltas(settings, [view(2, 0, backlog=9, rss=200)]) == [0]
    state, delta, notes = decide(settings, State(), view(3, 0, backlog=9, rss=200))
    assert (state, delta) == (State(), -1)
    assert notes == ["cheaper hard rss memory limit exceeded, cheap one of 3 workers"]


BUSYNESS = CheaperSettings(
    least=2, initial=2, step=1, overload=10, algorithm="busyness",
    busyness=BusynessSettings(multiplier=2, penalty=1, backlog_multiplier=1, backlog_nonzero=5, verbose=True),
)  # fmt: skip


def spent(now: float, *micros: int, busy: bool = False, backlog: int = 0) -> View:
    return View(now, {number: Seen(busy, time) for number, time in enumerate(micros, 1)}, 4, backlog)


def notes(views: list[View]) -> list[tuple[int, list[str]]]:
    """What is decided and said, the lines of every cycle left out."""
    state, said = State(), []
    for each in views:
        state, delta, lines = decide(BUSYNESS, state, each)
        said.append((delta, [line for line in lines if "s average busyness of" not in line]))
    return said


def test_busyness_says_what_uwsgi_says() -> None:
    """The lines of cheaper_busyness.c, as a real one has them in its log."""
    said = decide(BUSYNESS, State(), spent(1, 0, 0))
    assert said[2] == [
        "[busyness] settings: min=25%, max=50%, overload=10, multiplier=2, respawn penalty=1",
        "[busyness] backlog alert is set to 33 request(s), step is 1",
        "[busyness] backlog non-zero alert is set to 5 second(s)",
    ]
    assert decide(BUSYNESS, said[0], spent(11, 0, 0))[2] == ["[busyness] 10s average busyness of 2 worker(s) is at 0%"]


def test_busyness_starts_and_stops() -> None:
    second = 1_000_000
    said = notes(
        [
            spent(1, 0, 0),
            spent(6, 9 * second, 9 * second),  # half a period is no period
            spent(11, 6 * second, 6 * second),
            spent(21, 9 * second, 9 * second, 3 * second),  # 30, 30 and 0 per cent: the third is new
            spent(31, 9 * second, 9 * second, 3 * second),
            spent(42, 9 * second, 9 * second, 3 * second),
        ]
    )
    assert said[2] == (1, ["[busyness] 10s average busyness is at 60%, will spawn 1 new worker(s)"])
    assert [delta for delta, _ in said[3:]] == [0, -1, 0]  # two periods of 10 seconds after the start; two are least
    assert said[4][1] == ["[busyness] 10s average busyness is at 0%, cheap one of 3 running workers"]


def test_busyness_counts_a_long_request_as_work() -> None:
    said = notes([spent(1, 5, 5, busy=True), spent(11, 5, 5, busy=True)])
    assert said[1] == (1, ["[busyness] 10s average busyness is at 100%, will spawn 1 new worker(s)"])
    said = notes([spent(1, 5, 5, 5, 5, busy=True), spent(11, 5, 5, 5, 5, busy=True)])
    full = "but we already started maximum number of workers available with current limits (4)"
    assert said[1] == (0, [f"[busyness] 10s average busyness is at 100% {full}"])


def test_busyness_learns_from_stopping_too_early() -> None:
    second = 1_000_000
    idle, full = spent(21, 0, 0, 0), (10 * second,) * 3
    said = notes([spent(1, 0, 0, 0), spent(11, 0, 0, 0), idle, spent(31, *full[:2])])
    assert said[1] == (0, ["[busyness] need to wait 10 more second(s) to cheap worker"])
    assert said[2][0] == -1
    assert said[3] == (
        1,
        [
            "[busyness] worker(s) respawned to fast, increasing cheaper multiplier to 3 (+1)",
            "[busyness] 10s average busyness is at 100%, will spawn 1 new worker(s)",
        ],
    )
    views = [spent(1, 0, 0, 0), spent(11, 0, 0, 0), idle, spent(31, *full[:2])]  # and forgets it again
    said = notes([*views, *(spent(31 + 10 * n, *full) for n in range(1, 8))])
    assert [delta for delta, _ in said[4:]] == [0, 0, -1, 0, 0, -1, 0]
    assert said[9][1][0] == "[busyness] decreasing cheaper multiplier to 2"


def test_busyness_waits_longer_while_there_is_some_work() -> None:
    second = 1_000_000
    said = notes([spent(1 + 10 * n, *(4 * second * n,) * 3) for n in range(5)])
    adjusting, resetting = "adjusting cheaper timer", "resetting cheaper timer"
    assert [lines[0].rpartition(", ")[2] for _, lines in said[1:]] == [adjusting, adjusting, resetting, resetting]
    assert said[2][1] == [f"[busyness] 10s average busyness is at 40%, 2 non-idle cycle(s), {adjusting}"]


def test_busyness_does_not_wait_in_an_emergency() -> None:
    emergency = "[busyness] 34 requests in listen queue, spawning 1 emergency worker(s) (1)!"
    assert notes([spent(1, 0, 0), spent(2, 0, 0, backlog=34)])[1] == (1, [emergency])
    said = notes([spent(1, 0, 0), *(spent(2 + n, 0, 0, backlog=1) for n in range(6)), spent(8, 0, 0)])
    assert said[1] == (0, ["[busyness] backlog is starting to fill (1)"])
    assert said[6] == (
        1,
        [
            "[busyness] backlog was non-zero for 5 second(s), spawning new worker(s)",
            "[busyness] 1 requests in listen queue, spawning 1 emergency worker(s) (1)!",
        ],
    )
    assert not any(delta for delta, _ in said[:6])
    assert said[7] == (0, ["[busyness] backlog is now empty"])


def test_every_algorithm_stands_an_empty_house() -> None:
    for name in ALGORITHMS:
        state = State()
        for now in (1, 100, 200):
            state, delta, _ = decide(SPARE._replace(algorithm=name), state, View(now, {}, 4))
            assert delta >= 0
