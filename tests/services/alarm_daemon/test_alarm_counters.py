from pathlib import Path

from palatine.counters import Segment, SegmentView
from palatine.schema import ALARMS, DAEMON
from palatine_alarm_daemon.counters import Counters
from palatine_alarm_daemon.values import APP, Lane


def lane(number: int) -> Lane:
    return Lane("app", 0, APP, f"alarm{number}")


def test_rows_are_given_back_only_when_the_table_is_full(tmp_path: Path) -> None:
    segment = Segment.create(tmp_path / "seg", (*DAEMON, *ALARMS), {"alarms": 2}, {})
    segment.publish()
    wanted = {lane(0), lane(1), lane(2)}
    counters = Counters(segment, wanted.__contains__)
    for number in range(3):
        counters.queued(lane(number))
        counters.raised(lane(number), 10.0)
    with SegmentView.open(tmp_path / "seg") as view:
        assert [view.text("alarms", row) for row in range(2)] == [b"app\0alarm0", b"app\0alarm1"]
        wanted.discard(lane(0))
        counters.raised(lane(2), 11.0)
        assert view.text("alarms", 0) == b"app\0alarm2"
        assert view.row("alarms", 0)["raised"] == 1
        assert view.row("alarms", 0)["pending"] == 0
        counters.finished(lane(0), "delivered", 12.0)
        counters.finished(lane(2), "expired", 13.0)
        assert view.row("alarms", 0)["last_failed"] == 13
        totals = view.row("alarm_totals")
        assert (totals["raised"], totals["delivered"], totals["failed"], totals["pending"]) == (4, 1, 1, 1)
    segment.close(unlink=True)
