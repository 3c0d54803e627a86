import math
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from palatine.counters import SegmentView
from palatine_stats_exporter.board import Facts
from palatine_stats_exporter.history import COARSE_SECONDS, FINE_SECONDS, HOST, SERIES, History, coarser
from palatine_stats_exporter.reading import Reader
from stats_planting import plant, sample

HELLO = "stats_hello_under_load.json"
START = 1_700_000_000.0


@pytest.fixture
def facts(tmp_path: Path) -> Iterator[Facts]:
    """An instance of four workers with two cores each."""
    segment = plant(tmp_path / "seg", sample(HELLO))
    segment.publish()
    with SegmentView.open(segment.path) as view:
        columns = Reader(view).read()
        sockets = [{"name": "x", "queue": 3, "max_queue": 100}]
        yield Facts("app", "", True, view.row("server"), columns, 2, [], sockets, [])
    segment.close(unlink=True)


def after(facts: Facts, **columns: list[int]) -> Facts:
    """The same instance with other numbers of its workers."""
    return attrs.evolve(facts, columns=facts.columns._replace(workers={**facts.columns.workers, **columns}))


def numbers(facts: Facts, key: str, *more: int) -> list[int]:
    return [int(number) + grown for number, grown in zip(facts.columns.workers[key], more, strict=True)]


def last(history: History, name: str = "app", *, coarse: bool = False) -> dict[str, float]:
    series = history.series(name, 0, coarse=coarse)
    assert series is not None
    return {key: values[-1] for key, values in series.items()}


def test_a_sample_is_what_happened_in_between(facts: Facts) -> None:
    history = History()
    history.take([facts], START)
    assert history.series("app", 0, coarse=False) == {"time": [], **{name: [] for name in SERIES}}
    grown = after(
        facts,
        requests=numbers(facts, "requests", 100, 0, 50, 10),
        running_time=numbers(facts, "running_time", 10_000_000, 0, 5_000_000, 100_000),
        harakiri_count=numbers(facts, "harakiri_count", 0, 2, 1, 0),
        respawn_count=numbers(facts, "respawn_count", 0, 2, 0, 0),
    )
    history.take([grown], START + 10)
    found = last(history)
    assert found["time"] == START + 10
    assert (found["requests"], found["harakiri"], found["respawns"]) == (16, 3, 2)
    assert (found["worker_requests_min"], found["worker_requests_max"]) == (0, 10)
    assert math.isclose(found["request_time_min"], 0.01, rel_tol=1e-5)
    assert math.isclose(found["request_time_max"], 0.1, rel_tol=1e-5)
    assert (found["running_max"], found["in_request"], found["busy"]) == (0.5, 8, 4)
    assert (found["queue"], found["queue_capacity"]) == (3, 100)
    assert last(history, HOST)["requests"] == 16


def test_counters_that_begin_again_are_no_negative_rate(facts: Facts) -> None:
    history = History()
    history.take([facts], START)
    history.take([after(facts, requests=[4, 0, 0, 0], running_time=[0, 0, 0, 0], tx=[0, 0, 0, 0])], START + 1)
    found = last(history)
    assert found["requests"] == 4
    assert min(found.values()) >= 0


def test_a_restart_with_more_or_fewer_workers_is_no_error(facts: Facts) -> None:
    history = History()
    history.take([facts], START)
    fewer = {key: column[:2] for key, column in facts.columns.workers.items()}
    history.take([attrs.evolve(facts, columns=facts.columns._replace(workers=fewer))], START + 10)
    history.take([facts], START + 20)
    assert last(history)["workers"] == 4


def test_rings_are_bounded_and_the_coarse_one_goes_back_further(facts: Facts) -> None:
    history = History()
    for step in range(500):
        history.take([after(facts, harakiri_count=[step, 0, 0, 0])], START + step * FINE_SECONDS)
    fine, coarse = (history.series("app", 0, coarse=which) for which in (False, True))
    assert fine is not None
    assert coarse is not None
    assert len(fine["time"]) == 180
    assert len(coarse["time"]) == 499 // (COARSE_SECONDS // FINE_SECONDS)
    assert set(fine["harakiri"]) == {1}
    assert set(coarse["harakiri"]) == {6}
    newer = history.series("app", START + 498 * FINE_SECONDS, coarse=False)
    assert newer is not None
    assert newer["time"] == [START + 499 * FINE_SECONDS]


def test_what_is_gone_is_forgotten_and_what_died_gets_no_samples(facts: Facts) -> None:
    history = History()
    for step in range(3):
        history.take([facts, attrs.evolve(facts, name="other", alive=step < 2)], START + step)
    dead = history.series("other", 0, coarse=False)
    assert dead is not None
    assert len(dead["time"]) == 1
    history.take([facts], START + 4)
    assert history.series("other", 0, coarse=False) is None
    assert history.instances == 1


@given(
    st.lists(st.lists(st.floats(0, 1e6, width=32), min_size=len(SERIES), max_size=len(SERIES)), min_size=1, max_size=6)
)
def test_a_coarser_sample_lies_within_what_it_stands_for(samples: list[list[float]]) -> None:
    for name, value, column in zip(SERIES, coarser(samples), zip(*samples, strict=True), strict=True):
        if name in {"harakiri", "respawns", "exceptions"}:
            assert math.isclose(value, sum(column))
        else:
            assert min(column) - 1e-3 <= value <= max(column) + 1e-3
