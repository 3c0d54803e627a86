"""When a worker leaves: every limit below, at and above it."""

import pytest

from palatine_app_server.supervision.recycle_policy import (
    Memory,
    RecycleSettings,
    after_request,
    is_evil,
    is_monitored,
    jittered,
)

MEGABYTE = 1 << 20


@pytest.mark.parametrize(
    ("requests", "age", "memory", "reason"),
    [
        (4, 10, Memory(), ""),
        (5, 10, Memory(), "max-requests"),
        (5, 9.9, Memory(), ""),  # too young for anything
        (0, 60, Memory(99 * MEGABYTE, 0), ""),
        (0, 60, Memory(100 * MEGABYTE, 0), "reload-on-as"),
        (0, 60, Memory(0, 50 * MEGABYTE), "reload-on-rss"),
    ],
)
def test_after_a_request(requests: int, age: float, memory: Memory, reason: str) -> None:
    settings = RecycleSettings(reload_on_as=100 * MEGABYTE, reload_on_rss=50 * MEGABYTE)
    assert after_request(settings, most_requests=5, requests=requests, age=age, memory=memory) == reason
    assert not after_request(RecycleSettings(), most_requests=0, requests=9**9, age=9**9, memory=memory)


@pytest.mark.parametrize(("chance", "limit"), [(0.0, 90), (0.5, 100), (1.0, 110)])
def test_the_delta_goes_both_ways(chance: float, limit: int) -> None:
    assert jittered(100, 10, chance) == limit
    assert jittered(100, 0, chance) == 100
    assert jittered(5, 100, 0.0) == 1


@pytest.mark.parametrize(
    ("settings", "monitored"),
    [
        (RecycleSettings(), False),
        (RecycleSettings(on_exception=True), True),
        (RecycleSettings(exception_types=("KeyError", "ValueError")), True),
        (RecycleSettings(exception_types=("KeyError",)), False),
        (RecycleSettings(exception_values=("no good",)), True),
        (RecycleSettings(exception_reprs=("ValueError: no good",)), True),
        (RecycleSettings(exception_reprs=("ValueError: fine",)), False),
    ],
)
def test_exceptions(settings: RecycleSettings, *, monitored: bool) -> None:
    assert is_monitored(settings, ValueError("no good")) is monitored


def test_evil() -> None:
    settings = RecycleSettings(evil_reload_on_as=100, evil_reload_on_rss=50)
    assert is_evil(settings, Memory(100, 0)) == "ADDRESS SPACE: 100"
    assert is_evil(settings, Memory(99, 50)) == "RSS: 50"
    assert is_evil(settings, Memory(99, 49)) == ""
    assert is_evil(RecycleSettings(), Memory(9**15, 9**15)) == ""
