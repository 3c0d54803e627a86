import pytest

from palatine_stats_exporter.push.retry_policy import Backoff, Failed, Forget, Sent, Wait, decide, outcome_of_status

BACKOFF = Backoff(first=1, longest=60)


@pytest.mark.parametrize(
    ("attempts", "outcome", "spread", "action"),
    [
        (1, Sent(), 0.5, Forget()),
        (9, Sent("late"), 0.5, Forget()),
        (1, Failed("no", lasting=True), 0.5, Forget(lost=True)),
        (1, Failed("away"), 0.5, Wait(1)),
        (2, Failed("away"), 0.5, Wait(2)),
        (7, Failed("away"), 0.5, Wait(60)),
        (10**6, Failed("away"), 0.5, Wait(60)),
        (1, Failed("away"), 0.0, Wait(0.8)),
        (1, Failed("away"), 1.0, Wait(0.8 + 0.4)),
    ],
)
def test_what_becomes_of_a_batch(attempts: int, outcome: Sent | Failed, spread: float, action: Forget | Wait) -> None:
    assert decide(attempts, outcome, spread, BACKOFF) == action


@pytest.mark.parametrize("status", [200, 204])
def test_accepted(status: int) -> None:
    assert outcome_of_status(status, "") == Sent()


@pytest.mark.parametrize("status", [401, 403, 404, 408, 425, 429, 500, 503])
def test_what_can_be_mended_is_tried_again(status: int) -> None:
    assert outcome_of_status(status, "why") == Failed(f"answered {status}: why")


@pytest.mark.parametrize("status", [301, 400, 413, 422])
def test_what_can_never_be_accepted_is_given_up(status: int) -> None:
    assert outcome_of_status(status, "") == Failed(f"answered {status}", lasting=True)
