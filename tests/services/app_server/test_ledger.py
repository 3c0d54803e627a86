"""What a core stores about its requests: durations by bucket, time with and without work, for a successor too."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from palatine.counters import Segment, SegmentView
from palatine.schema import DURATION_BOUNDS_US, DURATION_FIELDS, INSTANCE
from palatine_app_server.serving.ledger import Ledger
from running import wait_until
from worker_inside import hello, inside


@pytest.fixture
def segment(tmp_path: Path) -> Iterator[Segment]:
    rows = {"workers": 1, "slots": 1} | dict.fromkeys(("cores", "activity", "apps"), 1)
    made = Segment.create(tmp_path / "seg", INSTANCE, rows, {})
    made.publish()
    yield made
    made.close(unlink=True)


def stored(segment: Segment, name: str) -> int:
    return segment.cells("cores")[segment.word("cores", name)]


def durations(segment: Segment) -> dict[str, int]:
    found = {name: stored(segment, name) for name in DURATION_FIELDS}
    return {name: value for name, value in found.items() if value}


@pytest.mark.parametrize(
    ("micros", "bucket"),
    [
        (0, "duration_le_100us"),
        *((bound, f"duration_le_{bound}us") for bound in DURATION_BOUNDS_US),
        (101, "duration_le_250us"),
        (9_999_999, "duration_le_10000000us"),
        (10_000_001, "duration_le_inf"),
        (3_600_000_000, "duration_le_inf"),
    ],
)
def test_a_duration_falls_into_one_bucket(segment: Segment, micros: int, bucket: str) -> None:
    ledger = Ledger(segment, 0, 0)
    ledger.begin(1, 0, "")
    ledger.end(micros, 10, 0.0)
    assert durations(segment) == {bucket: 1}
    assert stored(segment, "running_time") == micros


def test_time_without_a_request_and_time_waiting_for_a_client(segment: Segment) -> None:
    ledger = Ledger(segment, 0, 0)
    ledger.rest(1000)
    ledger.begin(1, 500, "")
    ledger.end(7000, 10, 0.005)
    ledger.begin(2, 250, "")
    ledger.end(1000, 10, 0.0)
    assert stored(segment, "idle_time") == 1750
    assert stored(segment, "write_wait_time") == 5000
    assert stored(segment, "running_time") == 8000


def test_a_successor_goes_on_counting(segment: Segment) -> None:
    for _ in range(3):
        ledger = Ledger(segment, 0, 0)
        ledger.reset_state()
        ledger.begin(1, 10, "GET\0/\0h\0p")
        ledger.end(200, 30, 0.0)
    names = ("requests", "running_time", "tx", "idle_time", "avg_rt", "in_request")
    assert [stored(segment, name) for name in names] == [3, 600, 90, 30, 200, 0]
    assert durations(segment) == {"duration_le_250us": 3}


def test_the_activity_is_there_also_when_it_is_the_same_again(segment: Segment) -> None:
    first = Ledger(segment, 0, 0)
    for text in ("GET\0/\xe4\0h\0p", "GET\0/\xe4\0h\0p", "POST\0/\0h\0p", "GET\0/\xe4\0h\0p"):
        first.begin(1, 0, text)
        with SegmentView.open(segment.path) as view:
            assert view.text("activity", 0, 0) == text.encode("latin-1")
        first.end(1, 1, 0.0)


def test_an_armed_deadline_ends_with_its_request(segment: Segment) -> None:
    ledger = Ledger(segment, 0, 0)
    ledger.begin(1, 0, "")
    ledger.arm(5000)
    assert ledger.overdue(5000)
    ledger.end(1, 1, 0.0)
    assert not ledger.overdue(6000)
    assert stored(segment, "harakiri_deadline_ms") == 0


def test_every_request_of_a_worker_is_in_the_histogram(tmp_path: Path) -> None:
    with inside(tmp_path, hello) as server:
        with server.connect() as client:
            for _ in range(20):
                client.get()
        # the last is counted after its client has the answer
        wait_until(lambda: server.counter("requests") == 20, "20 requests")
        wait_until(lambda: sum(server.counter(name) for name in DURATION_FIELDS) == 20, "all of them in buckets")
        assert server.counter("idle_time") > 0
