"""The lead is bounded: lost when its bucket is empty, given back when it is half full, never without a share."""

import pytest

from palatine_snmp_agent.scheduling_policy import WINDOW, Lead, begun, decide

SHARE = 0.5
FULL = SHARE * WINDOW


def test_it_begins_with_a_full_bucket() -> None:
    assert begun(SHARE, 3.0, 7.0) == Lead(True, FULL, 3.0, 7.0)
    assert not begun(0.0, 3.0, 7.0).first


@pytest.mark.parametrize(
    ("lead", "used", "passed", "first", "left"),
    [
        (Lead(True, FULL), 0.01, 0.02, True, FULL),  # as much as its share: nothing is lost
        (Lead(True, FULL), FULL, 0.0, False, 0.0),
        (Lead(True, 0.001), 0.4, 0.1, False, 0.001 - 0.4 + 0.05),  # what was too much is paid for later
        (Lead(False, 0.0), 0.0, WINDOW / 4, False, FULL / 4),
        (Lead(False, 0.0), 0.0, WINDOW / 2, True, FULL / 2),
        (Lead(False, -0.1), 0.0, 100.0, True, FULL),  # never more than the bucket holds
        (Lead(True, 0.01), 0.001, -5.0, True, 0.009),  # a clock that was set back gives nothing
    ],
)
def test_what_is_used_is_paid_for(lead: Lead, used: float, passed: float, *, first: bool, left: float) -> None:
    after = decide(SHARE, lead, lead.cpu + used, lead.now + passed)
    assert after.first is first
    assert after.left == pytest.approx(left)


def test_a_flood_gets_its_share_on_average_and_no_more() -> None:
    lead, led, step = begun(SHARE, 0.0, 0.0), 0.0, 0.001
    for tick in range(1, 10_001):  # ten seconds on the CPU all the time
        led += step * lead.first
        lead = decide(SHARE, lead, tick * step, tick * step)
    assert led < 10 * SHARE + FULL


def test_without_a_share_nothing_leads() -> None:
    assert not decide(0.0, Lead(False, 0.0), 0.0, 100.0).first
