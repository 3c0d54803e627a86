import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families

from palatine.counters import Segment
from palatine.discovery import InstanceRef
from palatine_stats_exporter import api
from palatine_stats_exporter.board import Board
from palatine_stats_exporter.exposition import HISTOGRAM, Distribution, Family, labels, render, wants_openmetrics
from palatine_stats_exporter.instance_metrics import durations
from palatine_stats_exporter.instances import Served
from palatine_stats_exporter.metrics_page import metrics_page
from running import program, run
from stats_planting import plant, planted_neighbours, sample, store

HELLO = "stats_hello_under_load.json"
KITCHEN_SINK = "stats_2.0.30_kitchen_sink.json"

#: Every metric of uwsgi_exporter (spec/server.md 6.5) with its type there and the labels beside stats_uri.
UWSGI_EXPORTER = {
    f"{group}_{name}{ending}": (kind, labels_of)
    for group, ending, kind, labels_of, names in (
        ("uwsgi", "", "gauge", "", "up listen_queue_length listen_queue_errors signal_queue_length workers"),
        ("uwsgi_socket", "", "gauge", "name proto", "queue_length max_queue_length shared can_offload"),
        (
            "uwsgi_worker",
            "",
            "gauge",
            "worker_id",
            (
                "accepting delta_requests signal_queue_length rss_bytes vsz_bytes running_time_seconds "
                "last_spawn_time_seconds average_response_time_seconds apps cores busy idle cheap"
            ),
        ),
        (
            "uwsgi_worker",
            "_total",
            "counter",
            "worker_id",
            "requests exceptions harakiri_count signals respawn_count transmitted_bytes",
        ),
        ("uwsgi_worker_app", "", "gauge", "worker_id app_id mountpoint chdir", "startup_time_seconds"),
        ("uwsgi_worker_app", "_total", "counter", "worker_id app_id mountpoint chdir", "requests exceptions"),
        ("uwsgi_worker_core", "", "gauge", "worker_id core_id", "busy"),
        (
            "uwsgi_worker_core",
            "_total",
            "counter",
            "worker_id core_id",
            "requests static_requests routed_requests offloaded_requests write_errors read_errors",
        ),
        # counters there; without _total promtool wants them untyped
        ("uwsgi_cache", "", "unknown", "name", "hits misses full"),
        ("uwsgi_cache", "", "gauge", "name", "items max_items"),
    )
    for name in names.split()
}

Hosted = Callable[..., Segment]


@pytest.fixture
def hosted(tmp_path: Path, served: dict[str, Served]) -> Iterator[Hosted]:
    """Adds an instance that says what a captured document says."""
    made: list[Segment] = []

    def add(name: str, captured: dict[str, Any], address: str = "tcp://127.0.0.1:1717") -> Segment:
        directory = tmp_path / name
        directory.mkdir()
        segment = plant(directory / "seg", captured)
        segment.publish()
        made.append(segment)
        served[name] = Served(InstanceRef(name, directory, directory.stat().st_uid), addresses=[address])
        return segment

    yield add
    for segment in made:
        segment.close(unlink=True)


@pytest.fixture
def served() -> dict[str, Served]:
    return {}


@pytest.fixture
def board(served: dict[str, Served]) -> Iterator[Board]:
    made = Board(served)
    yield made
    made.close()


def families(page: bytes) -> dict[str, Any]:
    """The page as Prometheus' own parser reads it: samples by name."""
    found: dict[str, Any] = {}
    for family in text_string_to_metric_families(page.decode()):
        for one in family.samples:
            found.setdefault(one.name, (family.type, []))[1].append(one)
    return found


def value(page: bytes, metric: str, /, **wanted: str) -> float:
    """The one sample with these labels."""
    samples = [one for one in families(page)[metric][1] if wanted.items() <= one.labels.items()]
    assert len(samples) == 1, samples
    number: float = samples[0].value
    return number


def test_everything_uwsgi_exporter_shows_is_there_by_name_type_and_label(hosted: Hosted, board: Board) -> None:
    hosted("kitchen", sample(KITCHEN_SINK))
    found = families(metrics_page(*board.look()))
    for name, (kind, own) in UWSGI_EXPORTER.items():
        assert name in found, name
        assert found[name][0] == kind, name
        assert set(found[name][1][0].labels) == {"stats_uri", "uwsgi_instance", *own.split()}, name


def test_values_and_units(hosted: Hosted, board: Board) -> None:
    captured = sample(HELLO)
    hosted("hello", captured)
    page = metrics_page(*board.look())
    for worker in captured["workers"]:
        one = {"worker_id": str(worker["id"]), "uwsgi_instance": "hello", "stats_uri": "tcp://127.0.0.1:1717"}
        assert value(page, "uwsgi_worker_requests_total", **one) == worker["requests"]
        assert value(page, "uwsgi_worker_busy", **one) == 1
        assert value(page, "uwsgi_worker_idle", **one) == 0
        assert math.isclose(value(page, "uwsgi_worker_average_response_time_seconds", **one), worker["avg_rt"] / 1e6)
        assert math.isclose(value(page, "uwsgi_worker_running_time_seconds", **one), worker["running_time"] / 1e6)
        assert value(page, "uwsgi_worker_last_spawn_time_seconds", **one) == worker["last_spawn"]
        assert value(page, "uwsgi_worker_cores", **one) == 2
    assert value(page, "uwsgi_workers") == 4
    assert value(page, "uwsgi_up") == 1
    assert value(page, "uwsgi_socket_max_queue_length", name="127.0.0.1:21090", proto="http") == 100


def test_a_slot_never_used_is_left_out(hosted: Hosted, board: Board) -> None:
    captured = sample(KITCHEN_SINK)
    hosted("kitchen", captured)
    page = metrics_page(*board.look())
    started = [str(worker["id"]) for worker in captured["workers"] if worker["id"]]
    assert [one.labels["worker_id"] for one in families(page)["uwsgi_worker_requests_total"][1]] == started
    assert value(page, "uwsgi_workers") == len(started)


def test_two_sockets_of_one_name_are_one(hosted: Hosted, board: Board) -> None:
    captured = sample(HELLO)
    captured["sockets"] *= 2
    hosted("hello", captured)
    assert len(families(metrics_page(*board.look()))["uwsgi_socket_queue_length"][1]) == 1


def test_an_instance_that_died_is_down_and_keeps_its_numbers(hosted: Hosted, board: Board) -> None:
    segment = hosted("hello", sample(HELLO))
    segment.close(unlink=False)
    page = metrics_page(*board.look())
    assert value(page, "uwsgi_up", uwsgi_instance="hello") == 0
    assert value(page, "uwsgi_worker_requests_total", worker_id="1") == 22
    facts, _ = board.look()
    assert api.instance(facts[0]).state == "gone"


def test_an_instance_that_cannot_be_read_stops_no_other(hosted: Hosted, board: Board) -> None:
    broken, _ = hosted("broken", sample(HELLO)), hosted("hello", sample(HELLO))
    broken.path.write_bytes(b"garbage")
    facts, unreadable = board.look()
    page = metrics_page(facts, unreadable)
    assert [one.name for one in facts] == ["hello"]
    assert value(page, "uwsgi_up", uwsgi_instance="broken") == 0
    assert value(page, "uwsgi_up", uwsgi_instance="hello") == 1
    assert "broken/seg" in unreadable[0].reason


def test_a_replaced_segment_is_read_instead(hosted: Hosted, board: Board, tmp_path: Path) -> None:
    hosted("hello", sample(HELLO))
    board.look()
    captured = sample(HELLO)
    captured["workers"] = captured["workers"][:1]
    again = plant(tmp_path / "hello" / "seg", captured)
    again.publish()
    facts, _ = board.look()
    assert len(facts[0].columns.workers["id"]) == 1
    again.close(unlink=True)


def test_an_empty_host_gives_a_page(board: Board) -> None:
    assert families(metrics_page(*board.look())) == {}
    page = metrics_page([], [], [], {"uwsgi_exporter_scrapes_total": 1})
    assert value(page, "uwsgi_exporter_scrapes_total") == 1


@given(text=st.text())
def test_any_label_is_read_back(text: str) -> None:
    line = f"metric{{{labels(name=text)}}} 1\n# EOF\n"
    assert "\n" not in line[: line.index("# EOF") - 1]
    clean = text.encode("utf-8", "backslashreplace").decode()
    if "\r" not in clean and not any(letter in clean for letter in "\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"):
        (family,) = text_string_to_metric_families(line)
        assert family.samples[0].labels == {"name": clean}


def test_a_summary_has_totals(hosted: Hosted, board: Board) -> None:
    segment = hosted("hello", sample(HELLO))
    store(segment, "server", state=1)
    found = api.instance(board.look()[0][0])
    assert found.state == "ready"
    assert found.requests == sum(worker["requests"] for worker in sample(HELLO)["workers"])
    assert found.status == {"busy": 4}
    assert (found.in_request, found.workers, found.cores) == (8, 4, 2)
    assert 245_000 < found.avg_rt < 265_000
    whole = api.detail(board.look()[0][0], 1.0)
    assert [worker.in_request for worker in whole.workers] == [2, 2, 2, 2]
    core = whole.workers[0].cores[0]
    assert (core.method, core.uri, core.in_request) == ("GET", "/", True)
    assert core.since == sample(HELLO)["workers"][0]["cores"][0]["req_info"]["request_start"]


def test_our_own_metrics_of_an_instance(hosted: Hosted, board: Board) -> None:
    segment = hosted("hello", sample(HELLO))
    store(segment, "server", state=5, reloads=3)
    store(segment, "slots", 0, cheaped=1)
    store(segment, "sockets", 0, queued_time=7_250_000)
    page = metrics_page(*board.look())
    assert value(page, "palatine_instance_state", state="paused") == 1
    assert value(page, "palatine_instance_reloads_total") == 3
    assert value(page, "palatine_workers", state="busy") == 3
    assert value(page, "palatine_workers", state="cheap") == 1
    assert value(page, "palatine_cores_busy") == 8
    assert value(page, "palatine_queue_capacity") == 100
    assert value(page, "palatine_queued_seconds_total") == 7.25
    running = sum(worker["running_time"] for worker in sample(HELLO)["workers"])
    assert math.isclose(value(page, "palatine_core_seconds_total", state="busy"), running / 1e6)


def test_durations_are_a_histogram_where_the_segment_keeps_them() -> None:
    totals = {"running_time": 2_500_000, "duration_le_inf": 1, "duration_le_1000us": 5, "duration_le_250us": 2}
    assert durations(totals) == Distribution([0.00025, 0.001], [2, 7, 8], 2.5)
    family = Family("x_seconds", HISTOGRAM, "X.", [('a="b"', durations(totals))])
    assert families(render([family]))["x_seconds_bucket"][1][1].value == 7
    assert value(render([family]), "x_seconds_bucket", le="+Inf", a="b") == 8
    assert value(render([family]), "x_seconds_sum") == 2.5
    assert durations({"running_time": 5}) is None


def test_metrics_of_the_app_are_counters_or_gauges_by_name(hosted: Hosted, board: Board) -> None:
    captured = sample("stats_with_metrics.json")
    hosted("hello", captured)
    page = metrics_page(*board.look())
    for name, metric in captured["metrics"].items():
        counts = metric["type"] == 0 and metric["value"] >= 0
        shown = "palatine_metric_value_total" if counts else "palatine_metric_value"
        assert value(page, shown, metric=name) == metric["value"]


def test_what_uwsgi_seldom_has_is_shown_row_by_row(hosted: Hosted, board: Board) -> None:
    captured = sample(KITCHEN_SINK)
    hosted("kitchen", captured)
    page = metrics_page(*board.look())
    assert value(page, "palatine_spooler_respawns_total", name=captured["spoolers"][0]["dir"]) == 0
    assert value(page, "palatine_cron_started_at_timestamp_seconds", cron="0") == captured["crons"][0]["started_at"]
    assert value(page, "palatine_attached_daemon_respawns_total", name=captured["daemons"][0]["cmd"]) >= 0


def test_daemons_vassals_and_alarms_are_shown(tmp_path: Path) -> None:
    with planted_neighbours(tmp_path) as neighbours:
        page = metrics_page([], [], neighbours.look())
        assert value(page, "palatine_daemon_up", daemon="emperor") == 1
        assert value(page, "palatine_vassal_state", vassal="one.ini", state="accepting") == 1
        assert value(page, "palatine_vassal_state", state="throttled") == 1
        assert value(page, "palatine_alarm_raised_total", uwsgi_instance="app", alarm='say "hi"') == 7
        assert value(page, "palatine_alarms_pending") == 2


def test_a_daemon_that_was_killed_or_cannot_be_read_is_down(tmp_path: Path) -> None:
    with planted_neighbours(tmp_path) as neighbours:
        neighbours.look()
        (tmp_path / "emperor" / "seg").write_bytes(b"garbage")
        page = metrics_page([], [], neighbours.look())
        assert value(page, "palatine_daemon_up", daemon="emperor") == 0
        assert value(page, "palatine_daemon_up", daemon="alarm-daemon") == 1


@pytest.mark.parametrize(
    ("accept", "openmetrics"),
    [
        ("", False),
        ("*/*", False),
        ("text/html", False),
        ("application/openmetrics-text", True),
        ("application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1", True),
        ("text/plain;q=0.5, application/openmetrics-text; q=0.4", False),
        ("application/openmetrics-text;q=0", False),
        ("application/openmetrics-text;q=x", False),
    ],
)
def test_the_format_is_what_accept_prefers(accept: str, openmetrics: bool) -> None:  # noqa: FBT001
    assert wants_openmetrics(accept) is openmetrics


def test_openmetrics_is_read_by_its_own_strict_parser(hosted: Hosted, board: Board, tmp_path: Path) -> None:
    hosted("kitchen", sample(KITCHEN_SINK))
    hosted('odd "name"\n', sample(HELLO))
    with planted_neighbours(tmp_path) as neighbours:
        page = metrics_page(*board.look(), neighbours.look(), {"uwsgi_exporter_scrapes_total": 1}, openmetrics=True)
    found = {family.name: family for family in openmetrics_families(page.decode())}
    assert found["uwsgi_worker_requests"].type == "counter"
    assert found["uwsgi_cache_hits"].type == "unknown"
    assert page.endswith(b"# EOF\n")


def test_three_hundred_instances_are_one_page(hosted: Hosted, board: Board) -> None:
    captured = sample(HELLO)
    for number in range(300):  # how long it takes is bench_metrics' business
        hosted(f"app-{number}", captured)
    page = metrics_page(*board.look())
    assert len(re.findall(rb"^uwsgi_up\{.*\} 1$", page, re.MULTILINE)) == 300
    assert page.count(b"\nuwsgi_worker_requests_total{") == 300 * 4


@pytest.mark.interop
def test_promtool_finds_nothing_to_say(hosted: Hosted, board: Board, tmp_path: Path) -> None:
    hosted("kitchen", sample(KITCHEN_SINK))
    hosted('odd "name"', sample(HELLO))
    own = {"uwsgi_exporter_scrapes_total": 3, "uwsgi_exporter_scrape_duration_seconds": 0.01}
    totals = {"running_time": 5, "duration_le_inf": 1, "duration_le_250us": 2}
    with planted_neighbours(tmp_path) as neighbours:
        page = metrics_page(*board.look(), neighbours.look(), own)
    page += render([Family("other_seconds", HISTOGRAM, "X.", [("", durations(totals))])])
    done = run("promtool", "check", "metrics", input=page.decode(), check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", ""), program("promtool")
