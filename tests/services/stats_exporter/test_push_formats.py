from pathlib import Path
from typing import Any

import attrs
import pytest

from palatine.errors import ProtocolError
from palatine_stats_exporter.board import Facts
from palatine_stats_exporter.push.uwsgi_formats import Carbon, Wish, rrdtool
from palatine_stats_exporter.push.uwsgi_metrics import GAUGE, Fresh, Metric, metrics
from palatine_stats_exporter.push.uwsgi_pushers import pusher_for
from push_planting import facts_of
from stats_planting import sample

WISH = Wish("carbon", "127.0.0.1:2003", 10, host="web.one", id="app")


@pytest.fixture
def captured() -> dict[str, Any]:
    return sample("stats_hello_idle_after_load.json")


@pytest.fixture
def facts(captured: dict[str, Any], tmp_path: Path) -> Facts:
    return facts_of(tmp_path / "seg", captured)


def said(lines: bytes) -> dict[str, str]:
    return {line.split()[0].removeprefix("uwsgi.web.one.app."): line.split()[1] for line in lines.decode().splitlines()}


def test_metrics_of_the_segment_are_taken_as_they_are(facts: Facts) -> None:
    named = attrs.evolve(facts, metrics=[{"name": "foo", "type": 1, "oid": "", "value": -3}])
    assert metrics(named) == [Metric("foo", GAUGE, -3)]


def test_a_metric_that_is_reset_after_a_push_comes_as_what_is_new(facts: Facts) -> None:
    def at(value: int) -> Facts:
        reset = {"name": "sold", "type": 0, "reset_after_push": 1, "initial_value": 1, "value": value}
        rows = [reset, {"name": "kept", "value": value}]
        return attrs.evolve(facts, metrics=rows)

    statsd, zabbix = Fresh(), Fresh()
    assert [[metric.value for metric in statsd.metrics(at(value))] for value in (5, 5, 12, 3)] == [
        [5, 5], [1, 5], [8, 12], [3, 3],
    ]  # fmt: skip
    assert [metric.value for metric in zabbix.metrics(at(12))] == [12, 12]


def test_carbon_averages_while_nothing_is_served(facts: Facts, captured: dict[str, Any]) -> None:
    values = {}
    for idle in ("last", "zero", "none"):
        carbon = Carbon(Wish("carbon", "h:1", 10, host="web.one", id="app", idle_avg=idle))
        values[idle] = [said(carbon.lines(facts, now)).get("worker1.avg_rt") for now in (1, 2)]
    average = str(captured["workers"][0]["avg_rt"])
    assert values == {"last": [average, average], "zero": ["0", "0"], "none": [None, None]}


def test_carbon_busyness_is_the_share_of_time_in_requests(
    facts: Facts, captured: dict[str, Any], tmp_path: Path
) -> None:
    carbon = Carbon(WISH)
    assert said(carbon.lines(facts, 1))["worker1.busyness"] == "100"  # all there was, as uWSGI has it
    captured["workers"][0]["running_time"] += 2_500_000
    captured["workers"][1]["status"] = "busy"
    captured["workers"][1]["cores"][0] |= {"in_request": 1, "req_info": {"request_start": 1}}
    later = said(carbon.lines(facts_of(tmp_path / "later", captured), 11))
    busyness = [later[f"worker{number}.busyness"] for number in (1, 2, 3, 4)]
    assert busyness == ["25", "100", "0", "0"]
    assert later["busyness"] == str((25 + 100) // 4)
    assert later["active_workers"] == "4"


def test_carbon_options(facts: Facts) -> None:
    few = said(Carbon(Wish("carbon", "h:1", 10, host="web.one", id="app", workers=False, cheaper=True)).lines(facts, 1))
    assert not any(name.startswith("worker") for name in few)
    assert few["cheaped_workers"] == "0"
    facts = attrs.evolve(facts, metrics=[{"name": "core.idle_workers", "type": GAUGE, "value": 4}])
    lines = Carbon(Wish("carbon", "h:1", 10, host="a.b", id="x", root="", dots="-", metrics=True)).lines(facts, 5)
    assert b"a-b.x.core.idle_workers 4 5\n" in lines


def test_rrdtool_is_told_nothing_it_could_misread() -> None:
    found = [Metric("good.one", GAUGE, 1), Metric('bad" quit', GAUGE, 1), Metric("two\nlines", GAUGE, 1)]
    commands = rrdtool("/d", found, frozenset({"other.rrd"})).decode().splitlines()
    archives = "RRA:AVERAGE:0.5:1:288 RRA:AVERAGE:0.5:12:168 RRA:AVERAGE:0.5:288:31 RRA:AVERAGE:0.5:2016:52"
    made = f'create "/d/good.one.rrd" DS:metric:GAUGE:600:0:U {archives}'
    assert commands == [made, 'update "/d/good.one.rrd" N:1', "quit"]
    with pytest.raises(ProtocolError):
        rrdtool('/d"', found, frozenset())


def test_no_app_has_files_written_with_our_rights() -> None:
    with pytest.raises(ProtocolError, match="runs as the app's user"):
        pusher_for(Wish("rrdtool", "/etc", 300), own=False)
    with pytest.raises(ProtocolError, match="no pusher"):
        pusher_for(Wish("mail", "x", 3), own=True)
