import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from palatine.counters import Segment
from palatine.discovery import InstanceRef
from palatine_stats_exporter.board import Board, Unreadable, summary
from palatine_stats_exporter.instances import Served
from palatine_stats_exporter.metrics import labels, render
from running import program, run
from stats_planting import plant, sample, store

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
    found = families(render(*board.look()))
    for name, (kind, own) in UWSGI_EXPORTER.items():
        assert name in found, name
        assert found[name][0] == kind, name
        assert set(found[name][1][0].labels) == {"stats_uri", "uwsgi_instance", *own.split()}, name


def test_values_and_units(hosted: Hosted, board: Board) -> None:
    captured = sample(HELLO)
    hosted("hello", captured)
    page = render(*board.look())
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
    page = render(*board.look())
    started = [str(worker["id"]) for worker in captured["workers"] if worker["id"]]
    assert [one.labels["worker_id"] for one in families(page)["uwsgi_worker_requests_total"][1]] == started
    assert value(page, "uwsgi_workers") == len(started)


def test_two_sockets_of_one_name_are_one(hosted: Hosted, board: Board) -> None:
    captured = sample(HELLO)
    captured["sockets"] *= 2
    hosted("hello", captured)
    assert len(families(render(*board.look()))["uwsgi_socket_queue_length"][1]) == 1


def test_an_instance_that_died_is_down_and_keeps_its_numbers(hosted: Hosted, board: Board) -> None:
    segment = hosted("hello", sample(HELLO))
    segment.close(unlink=False)
    page = render(*board.look())
    assert value(page, "uwsgi_up", uwsgi_instance="hello") == 0
    assert value(page, "uwsgi_worker_requests_total", worker_id="1") == 22
    facts, _ = board.look()
    assert summary(facts[0])["state"] == "gone"


def test_an_instance_that_cannot_be_read_stops_no_other(hosted: Hosted, board: Board) -> None:
    broken, _ = hosted("broken", sample(HELLO)), hosted("hello", sample(HELLO))
    broken.path.write_bytes(b"garbage")
    facts, unreadable = board.look()
    page = render(facts, unreadable)
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
    assert families(render(*board.look())) == {}
    page = render([], [], {"uwsgi_exporter_scrapes_total": 1})
    assert value(page, "uwsgi_exporter_scrapes_total") == 1


@given(text=st.text())
def test_any_label_is_read_back(text: str) -> None:
    line = f"metric{{{labels(name=text)}}} 1\n# EOF\n"
    assert "\n" not in line[: line.index("# EOF") - 1]
    clean = text.encode("utf-8", "backslashreplace").decode()
    if "\r" not in clean and not any(letter in clean for letter in "\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"):
        (family,) = text_string_to_metric_families(line)
        assert family.samples[0].labels == {"name": clean}


def test_a_summary_is_json_with_totals(hosted: Hosted, board: Board) -> None:
    segment = hosted("hello", sample(HELLO))
    store(segment, "server", state=1)
    found = json.loads(json.dumps(summary(board.look()[0][0])))
    assert found["state"] == "ready"
    assert found["requests"] == sum(worker["requests"] for worker in sample(HELLO)["workers"])
    assert found["status"] == {"busy": 4}
    assert found["in_request"] == 8
    assert [worker["in_request"] for worker in found["workers"]] == [2, 2, 2, 2]
    assert 245_000 < found["avg_rt"] < 265_000


def test_three_hundred_instances_are_one_page(hosted: Hosted, board: Board) -> None:
    captured = sample(HELLO)
    for number in range(300):  # how long it takes is bench_metrics' business
        hosted(f"app-{number}", captured)
    found = families(render(*board.look()))
    assert {one.value for one in found["uwsgi_up"][1]} == {1}
    assert len(found["uwsgi_up"][1]) == 300
    assert len(found["uwsgi_worker_requests_total"][1]) == 300 * 4


@pytest.mark.interop
def test_promtool_finds_nothing_to_say(hosted: Hosted, board: Board) -> None:
    hosted("kitchen", sample(KITCHEN_SINK))
    hosted('odd "name"', sample(HELLO))
    own = {"uwsgi_exporter_scrapes_total": 3, "uwsgi_exporter_scrape_duration_seconds": 0.01}
    page = render(*board.look(), own) + render([], [Unreadable("x", "y")]).replace(b"uwsgi_up", b"uwsgi_other_up")
    done = run("promtool", "check", "metrics", input=page.decode(), check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", ""), program("promtool")
