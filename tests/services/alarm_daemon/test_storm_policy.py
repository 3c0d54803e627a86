import pytest

from palatine_alarm_daemon.storm_policy import Last, judge

SAME = Last(b"full", 100.0)

# last, message, now, freq -> raised
CASES = [
    (None, b"full", 100.0, 3.0, True),
    (SAME, b"full", 100.0, 3.0, False),
    (SAME, b"full", 102.9, 3.0, False),
    (SAME, b"full", 103.0, 3.0, True),
    (SAME, b"Full", 100.1, 3.0, True),
    (SAME, b"", 100.1, 3.0, True),
    (SAME, b"full", 100.0, 0.0, True),
    (SAME, b"full", 99.0, 3.0, True),  # the clock was set back
    (Last(b"", 100.0), b"", 101.0, 3.0, False),
]


@pytest.mark.parametrize(("last", "message", "now", "freq", "raised"), CASES)
def test_the_same_message_waits_for_freq(
    last: Last | None,
    message: bytes,
    now: float,
    freq: float,
    raised: bool,  # noqa: FBT001 - a table
) -> None:
    verdict = judge(last, message, now, freq)
    assert verdict.raised is raised
    assert bool(verdict.reason) is not raised
    assert verdict.last == (Last(message, now) if raised else last)


def test_alternating_messages_are_never_limited_as_in_uwsgi() -> None:
    last = None
    for second in range(10):
        verdict = judge(last, b"ab"[second % 2 : second % 2 + 1], float(second), 3.0)
        assert verdict.raised
        last = verdict.last


def test_dropped_messages_do_not_prolong_the_silence() -> None:
    last, raised = None, []
    for tenth in range(100):
        verdict = judge(last, b"full", tenth / 10, 3.0)
        last = verdict.last
        if verdict.raised:
            raised.append(tenth / 10)
    assert raised == [0.0, 3.0, 6.0, 9.0]
