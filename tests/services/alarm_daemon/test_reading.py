from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from structlog.testing import capture_logs

from palatine.bus import Event
from palatine.codec.alarm_grammar import Alarm, Rule
from palatine.counters import Segment
from palatine.schema import ALARMS, DAEMON
from palatine_alarm_daemon.counters import Counters
from palatine_alarm_daemon.journal import Record
from palatine_alarm_daemon.raising import Raiser
from palatine_alarm_daemon.reading import Reader
from palatine_alarm_daemon.registry import Registry
from palatine_alarm_daemon.ruleset import build_ruleset
from palatine_alarm_daemon.values import APP, HOST, Lane

NOW = 5000.0
SENDER = b"s" * 16
CONFIG: dict[str, Any] = {
    "alarms": [{"name": "note", "action": "log", "arg": "PRE"}, {"name": "web", "action": "curl", "arg": "http://h/"}],
    "rules": [{"alarms": ["note", "web"], "regexp": "ALARM", "negate": False}],
    "freq": 3,
}


class Desk:
    """A reader with everything real but the bus."""

    def __init__(self, tmp_path: Path, seen: dict[bytes, int] | None = None) -> None:
        self.registry = Registry()
        segment = Segment.create(tmp_path / "seg", (*DAEMON, *ALARMS), {"alarms": 4}, {})
        self.counters = Counters(segment, lambda _: False)
        log = structlog.get_logger()
        self.raiser = Raiser(self.counters, log, lambda: 60.0)
        self.reader = Reader(
            self.registry, self.raiser, self.counters, log, lambda: NOW, lambda sender: (seen or {}).get(sender, 0)
        )
        self.registry.appeared("app", 1000, tmp_path)
        self._seq = 0

    def take(self, *events: tuple[str, Any], sender: bytes = SENDER, source: str = "app") -> Record:
        numbered = []
        for kind, body in events:
            self._seq += 1
            numbered.append(Event(self._seq, kind, body))
        return self.reader.take(source, sender, numbered)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with capture_logs():
        yield Desk(tmp_path)


def test_a_batch_becomes_one_record(desk: Desk) -> None:
    record = desk.take(
        ("config", CONFIG),
        ("log", {"lines": ["quiet\n", "ALARM \xe9\n"]}),
        ("raise", {"alarm": "note", "message": "by api", "source": "api"}),
    )
    assert [(one.lane, one.action, one.arg, one.message, one.source) for one in record.deliveries] == [
        (Lane("app", 1000, APP, "note"), "log", "PRE", b"ALARM \xe9\n", "log"),
        (Lane("app", 1000, APP, "web"), "curl", "http://h/", b"ALARM \xe9\n", "log"),
        (Lane("app", 1000, APP, "note"), "log", "PRE", b"by api", "api"),
    ]
    assert {one.expires_at for one in record.deliveries} == {NOW + 60}
    assert len({one.id for one in record.deliveries}) == 3
    assert record.rulesets == {"app": (1000, CONFIG)}
    assert record.senders == {SENDER: 3}


def test_events_read_before_come_to_nothing(tmp_path: Path) -> None:
    with capture_logs():
        desk = Desk(tmp_path, seen={SENDER: 2})
        desk.registry.known("app", 1000)
        assert not desk.take(("config", CONFIG))
        desk.reader.adopt(desk.registry.known("app", 1000), CONFIG)
        record = desk.take(("log", {"lines": ["ALARM 1"]}), ("log", {"lines": ["ALARM 2"]}))
        assert {one.message for one in record.deliveries} == {b"ALARM 2"}
        assert not desk.reader.take("app", SENDER, [Event(3, "log", {"lines": ["ALARM 3"]})])
        other = desk.reader.take("app", b"t" * 16, [Event(3, "log", {"lines": ["ALARM 3"]})])
        assert len(other.deliveries) == 2


def test_lines_that_match_nothing_need_no_disk(desk: Desk) -> None:
    desk.take(("config", CONFIG))
    record = desk.take(("log", {"lines": ["quiet\n"] * 50}))
    assert not record
    assert desk.counters.totals()["log_lines"] == 50


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("log", None),
        ("log", {"lines": "text"}),
        ("log", {"lines": [1]}),
        ("raise", {"alarm": "note"}),
        ("raise", []),
        ("config", {"alarms": 3}),
    ],
)
def test_a_bad_event_is_refused_and_the_next_one_read(tmp_path: Path, kind: str, body: Any) -> None:
    desk = Desk(tmp_path)
    with capture_logs() as logs:
        record = desk.take(("config", CONFIG), (kind, body), ("newer", {}), ("log", {"lines": ["ALARM"]}))
    assert len(record.deliveries) == 2
    assert record.senders == {SENDER: 4}
    assert [log["type"] for log in logs if log["event"] == "event.refused"] == [kind]


def test_the_same_config_again_is_no_news(tmp_path: Path) -> None:
    """An instance says it when it starts, and is asked for it as well."""
    with capture_logs() as logs:
        desk = Desk(tmp_path)
        desk.take(("config", CONFIG), ("config", CONFIG), ("config", {**CONFIG, "freq": 9}))
    assert [log["rules"] for log in logs if log["event"] == "config.taken"] == [len(CONFIG["rules"])] * 2


def test_the_time_of_an_event_is_what_it_says_within_reason(desk: Desk) -> None:
    desk.take(("config", CONFIG))
    for at, expected in [(NOW - 100, NOW - 100), (0, NOW), (NOW - 1e9, NOW), (NOW + 1e9, NOW)]:
        record = desk.take(("log", {"lines": [f"ALARM {at}"], "at": at}))
        assert record.deliveries[0].raised_at == expected


def test_the_storm_is_judged_by_the_time_it_was_printed(desk: Desk) -> None:
    desk.take(("config", CONFIG))
    taken = [desk.take(("log", {"lines": ["ALARM"], "at": NOW - 10 + second})) for second in range(7)]
    assert [len(record.deliveries) for record in taken] == [2, 0, 0, 2, 0, 0, 2]
    assert desk.counters.totals()["suppressed"] == 8


def test_a_reload_keeps_the_storm_of_alarms_that_stay(desk: Desk) -> None:
    desk.take(("config", CONFIG), ("log", {"lines": ["ALARM"]}))
    record = desk.take(("config", CONFIG), ("log", {"lines": ["ALARM"]}))
    assert not record.deliveries
    assert record.rulesets


def test_host_rules_see_every_instances_lines(desk: Desk) -> None:
    desk.raiser.host = build_ruleset([Alarm("ops", "log", "")], [Rule(("ops",), "ALARM")], 3.0, frozenset({"log"}))
    record = desk.take(("log", {"lines": ["ALARM"]}))
    assert [one.lane for one in record.deliveries] == [Lane("app", 1000, HOST, "ops")]
    taken, reason = desk.raiser.named(desk.registry.known("app", 1000), "ops", b"x", "api", NOW)
    assert taken is None
    assert reason == "no alarm 'ops'"


def test_an_unknown_source_and_text_beyond_latin_1_are_harmless(desk: Desk) -> None:
    desk.take(("config", CONFIG))
    assert not desk.take(("log", {"lines": ["ALARM"]}), source="nosuch")
    record = desk.take(("log", {"lines": ["ALARM \u20ac"]}))
    assert record.deliveries[0].message == b"ALARM ?"


def test_a_rule_that_gives_up_is_told_once(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    slow = {**CONFIG, "rules": [{"alarms": ["note"], "regexp": r"^(a+)+(?=b)\1$", "negate": False}]}
    with capture_logs() as logs:
        desk.take(("config", slow), ("log", {"lines": ["a" * 60 + "bc"] * 3}))
    assert [log["event"] for log in logs].count("rule.gave_up") == 1
    assert desk.counters.totals()["rule_errors"] == 1
