import copy
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from palatine.counters import Segment, SegmentView
from palatine.errors import ProtocolError
from palatine.schema import DAEMON, INSTANCE, U64
from palatine_stats_exporter.document import Form, document, variables
from palatine_stats_exporter.doing import named
from palatine_stats_exporter.encoder import Encoder
from palatine_stats_exporter.layout import lay_out
from palatine_stats_exporter.reading import MOST_CORES
from stats_planting import SAMPLES, normal, plant, sample, store

DOCUMENTS = sorted(path.name for path in SAMPLES.glob("stats_*.json"))
HELLO = "stats_hello_idle_after_load.json"
KITCHEN_SINK = "stats_2.0.30_kitchen_sink.json"

Planted = Callable[..., tuple[Segment, SegmentView]]


@pytest.fixture
def planted(tmp_path: Path) -> Iterator[Planted]:
    """Plants a captured document; the segment and a view of it."""
    made: list[tuple[Segment, SegmentView]] = []

    def do(captured: dict[str, Any], **extra: Any) -> tuple[Segment, SegmentView]:
        segment = plant(tmp_path / f"seg{len(made)}", captured, **extra)
        segment.publish()
        made.append((segment, SegmentView.open(segment.path)))
        return made[-1]

    yield do
    for segment, view in made:
        view.close()
        segment.close(unlink=True)


def rendered(view: SegmentView, form: Form | None = None) -> str:
    """The document by both ways, which must agree."""
    form = form or Form()
    encoder = Encoder(view, form)
    text = lay_out(document(view, form), minified=form.minified)
    assert encoder.render().decode() == text
    assert encoder.render().decode() == text
    return text


def worker(view: SegmentView, index: int = 0) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(rendered(view))["workers"][index]
    return found


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_captured_document_comes_out_of_counters_that_say_the_same(name: str, planted: Planted) -> None:
    captured = sample(name)
    form = Form(minified="minified" in name)
    _, view = planted(captured)
    assert rendered(view, form) == lay_out(normal(captured), minified=form.minified)


@pytest.mark.parametrize("name", [HELLO, "stats_minified.json", "stats_worker_in_signal.json"])
def test_it_is_uwsgis_to_the_byte(name: str, planted: Planted) -> None:
    captured = (SAMPLES / name).read_text()
    _, view = planted(json.loads(captured))
    assert rendered(view, Form(minified="minified" in name)) == captured.replace("2.0.21-debian", "2.0.31")


def test_cores_and_metrics_can_be_left_out(planted: Planted) -> None:
    captured = sample("stats_with_metrics.json")
    _, view = planted(captured)
    found = json.loads(rendered(view, Form(no_cores=True, no_metrics=True)))
    assert "metrics" not in found
    assert all(list(one)[-2:] == ["avg_rt", "apps"] for one in found["workers"])
    assert json.loads(rendered(view, Form(no_metrics=True)))["workers"] == normal(captured)["workers"]


@pytest.mark.parametrize("generation", [1, 2, 3])
def test_counters_of_both_banks_are_added_and_levels_are_not(generation: int, planted: Planted) -> None:
    segment, view = planted(sample(HELLO), generation=generation)
    before = worker(view)
    past = 1 - generation % 2
    store(segment, "cores", 0, past, requests=100, tx=7, running_time=9, exceptions=2, avg_rt=1, static_requests=3)
    store(segment, "workers", 0, past, signals=4, accepting=0)
    store(segment, "apps", 0, past, requests=11, exceptions=1, startup_time=99)
    after = worker(view)
    assert after["requests"] == before["requests"] + 100
    assert after["delta_requests"] == before["delta_requests"] + 100
    assert (after["tx"], after["running_time"]) == (before["tx"] + 7, before["running_time"] + 9)
    assert (after["exceptions"], after["signals"]) == (2, 4)
    assert (after["avg_rt"], after["accepting"]) == (before["avg_rt"], 1)
    assert after["cores"][0]["static_requests"] == 3
    assert after["apps"][0]["requests"] == before["apps"][0]["requests"] + 11
    assert after["apps"][0]["startup_time"] == 0


def test_a_worker_of_the_old_generation_shows_what_it_is_still_doing(planted: Planted) -> None:
    segment, view = planted(sample(HELLO), generation=2)
    store(segment, "cores", 1, 1, in_request=1, request_start_us=1_700_000_000_999_999)
    segment.text("activity", 1, 1).write(b"POST\0/old\0host\0::1")
    segment.text("activity", 1, 0).write(b"GET\0/new\0host\0::1")
    core = worker(view)["cores"][1]
    assert core["in_request"] == 1
    assert core["vars"] == ["REQUEST_METHOD=POST", "REQUEST_URI=/old", "HTTP_HOST=host", "REMOTE_ADDR=::1", ""]
    assert core["req_info"] == {"request_start": 1_700_000_000}
    assert worker(view)["status"] == "busy"


def test_many_busy_cores_read_as_few(planted: Planted) -> None:
    segment, view = planted(sample(HELLO))
    for core in range(8):
        store(segment, "cores", core, 1, in_request=1, request_start_us=(core + 1) * 10**6)
        segment.text("activity", core, 1).write(b"GET\0/%d\0h\0p" % core)
    cores = [core for one in json.loads(rendered(view))["workers"] for core in one["cores"]]
    assert [core["vars"][1] for core in cores] == [f"REQUEST_URI=/{number}" for number in range(8)]
    assert [core["req_info"]["request_start"] for core in cores] == list(range(1, 9))


def test_the_next_request_of_a_core_is_shown_however_long_the_one_before_took(planted: Planted) -> None:
    segment, view = planted(sample(HELLO))
    encoder = Encoder(view, Form())
    for began, uri in enumerate((b"/first", b"/second", b"/first")):
        segment.text("activity", 0, 1).write(b"GET\0%s\0h\0p" % uri)
        store(segment, "cores", 0, 1, in_request=1, request_start_us=(began + 1) * 10**6)
        for _ in range(2):
            assert b'"REQUEST_URI=%s"' % uri in encoder.render()
            assert b'"request_start":%d' % (began + 1) in encoder.render()
    store(segment, "cores", 0, 1, in_request=0)
    assert b"REQUEST_URI" not in encoder.render()


@pytest.mark.parametrize(
    ("slot", "own", "core", "status"),
    [
        ({}, {}, {}, "idle"),
        ({}, {}, {"in_request": 1}, "busy"),
        ({"cheaped": 1}, {"suspended": 1, "running_signal": 3}, {"in_request": 1}, "cheap"),
        ({}, {"suspended": 1}, {}, "pause"),
        ({}, {"suspended": 1}, {"in_request": 1}, "busy"),
        ({}, {"suspended": 1, "running_signal": 18}, {}, "sig17"),
        ({}, {"running_signal": 1}, {"in_request": 1}, "sig0"),
    ],
)
def test_the_status_is_the_first_that_holds(
    slot: dict[str, int], own: dict[str, int], core: dict[str, int], status: str, planted: Planted
) -> None:
    segment, view = planted(sample(HELLO))
    store(segment, "slots", 0, **slot)
    store(segment, "workers", 0, 1, **own)
    store(segment, "cores", 1, 1, **core)
    assert worker(view)["status"] == status


def test_a_slot_never_used_has_the_id_0(planted: Planted) -> None:
    segment, view = planted(sample(HELLO))
    store(segment, "slots", 2, respawn_count=0, cheaped=1, pid=0)
    assert [one["id"] for one in json.loads(rendered(view))["workers"]] == [1, 2, 0, 4]


def test_averages_are_over_cores_that_served(planted: Planted) -> None:
    segment, view = planted(sample(HELLO))
    store(segment, "cores", 0, 1, avg_rt=300)
    store(segment, "cores", 1, 1, avg_rt=0)
    assert worker(view)["avg_rt"] == 300
    store(segment, "cores", 1, 1, avg_rt=101)
    assert worker(view)["avg_rt"] == 200
    store(segment, "cores", 0, 1, avg_rt=0)
    store(segment, "cores", 1, 1, avg_rt=0)
    assert worker(view)["avg_rt"] == 0


def test_requests_since_the_spawn_are_never_negative(planted: Planted) -> None:
    segment, view = planted(sample(HELLO))
    store(segment, "slots", 0, requests_at_spawn=10**6)
    assert worker(view)["delta_requests"] == 0


def test_a_resting_instance_is_seen_to_move(planted: Planted) -> None:
    segment, view = planted(sample(HELLO))
    encoder = Encoder(view, Form())
    first = encoder.render()
    assert encoder.render() is first
    for table, bank, values in (
        ("cores", 1, {"requests": 53}),
        ("slots", 0, {"rss": 4096}),
        ("workers", 1, {"accepting": 0}),
        ("apps", 1, {"exceptions": 1}),
        ("server", 0, {"listen_queue": 5}),
        ("sockets", 0, {"queue": 5}),
        ("locks", 0, {"owner_pid": 77}),
        ("server", 0, {"generation": 2}),
    ):
        before = encoder.render()
        store(segment, table, 0, bank, **values)
        assert encoder.render() != before
        assert encoder.render().decode() == lay_out(document(view))


def test_the_activity_of_a_request_that_has_just_begun_may_come_after_its_counters(planted: Planted) -> None:
    segment, view = planted(sample(HELLO))
    store(segment, "cores", 0, 1, in_request=1, request_start_us=int((time.time() + 60) * 1e6))
    encoder = Encoder(view, Form())
    for uri in (b"/first", b"/second", b"/first", b""):
        segment.text("activity", 0, 1).write(b"GET\0%s\0h\0p" % uri)
        assert b'"REQUEST_URI=%s"' % uri in encoder.render()
    segment.text("activity", 0, 1).write(b"")
    assert worker(view)["cores"][0]["vars"] == [""]


def test_secrets_in_the_query_of_a_running_request_are_masked(planted: Planted) -> None:
    segment, view = planted(sample(HELLO))
    store(segment, "cores", 0, 1, in_request=1)
    segment.text("activity", 0, 1).write(b"GET\0/x?id=7&access_token=abc&%6bey=def\0host\0::1")
    assert worker(view)["cores"][0]["vars"][1] == "REQUEST_URI=/x?id=7&access_token=***&%6bey=***"


def test_all_variables_are_shown_where_the_worker_keeps_them(tmp_path: Path) -> None:
    rows = {"slots": 1, "workers": 1, "cores": 2, "activity": 2, "apps": 2, "variables": 2}
    segment = Segment.create(tmp_path / "seg", INSTANCE, rows, {})
    segment.publish()
    store(segment, "cores", 1, 0, in_request=1)
    segment.text("activity", 1).write(b"GET\0/\0h\0p")
    segment.text("variables", 1).write(b"QUERY_STRING=\0REQUEST_METHOD=GET\0HTTP_ACCEPT=*/*\xff")
    with SegmentView.open(segment.path) as view:
        assert worker(view)["cores"][1]["vars"] == [
            "QUERY_STRING=",
            "REQUEST_METHOD=GET",
            "HTTP_ACCEPT=*/*\\xff",
            "",
        ]
        assert worker(view)["cores"][0]["vars"] == []
    segment.close(unlink=True)


def test_an_instance_without_workers_has_an_empty_list(tmp_path: Path) -> None:
    segment = Segment.create(tmp_path / "seg", INSTANCE, {}, {})
    segment.publish()
    with SegmentView.open(segment.path) as view:
        found = rendered(view)
        assert json.loads(found)["workers"] == []
        assert '"workers":[\n\n\t]\n}' in found
        rendered(view, Form(minified=True, no_cores=True))
    segment.close(unlink=True)


def test_a_segment_that_is_no_instances_is_refused(tmp_path: Path) -> None:
    segment = Segment.create(tmp_path / "seg", DAEMON, {}, {})
    segment.publish()
    with SegmentView.open(segment.path) as view, pytest.raises(ProtocolError, match="not an app-server's"):
        Encoder(view, Form())
    segment.close(unlink=True)


@pytest.mark.parametrize(
    "rows",
    [
        {"slots": 2, "workers": 1},
        {"slots": 2, "workers": 2, "cores": 3},
        {"slots": 1, "workers": 1, "cores": MOST_CORES + 1, "activity": 1},
        {"slots": 2, "workers": 2, "cores": 2, "activity": 1},
        {"slots": 2, "workers": 2, "cores": 2, "activity": 2, "apps": 3},
    ],
)
def test_tables_that_do_not_fit_together_are_refused(rows: dict[str, int], tmp_path: Path) -> None:
    few = [table._replace(fields=table.fields[:13]) for table in INSTANCE]
    segment = Segment.create(tmp_path / "seg", few, rows, {})
    segment.publish()
    with SegmentView.open(segment.path) as view, pytest.raises(ProtocolError, match="fit together"):
        Encoder(view, Form())
    segment.close(unlink=True)


def only_integers_and_text(value: Any) -> bool:
    if isinstance(value, dict):
        return all(map(only_integers_and_text, value.values()))
    if isinstance(value, list):
        return all(map(only_integers_and_text, value))
    return type(value) in {int, str}


WORD = st.one_of(st.integers(0, U64), st.integers(0, 3))
LABEL = (
    st.text()
    | st.integers()
    | st.none()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.lists(st.integers(), max_size=1)
)
NAMES = st.text(st.characters(), max_size=30)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    activity=st.binary(max_size=600),
    name=NAMES,
    label=LABEL,
    words=st.lists(WORD, min_size=13, max_size=13),
    minified=st.booleans(),
)
def test_any_bytes_give_valid_json_of_integers_and_text(
    activity: bytes, name: str, label: Any, words: list[int], *, minified: bool, tmp_path: Path
) -> None:
    rows = dict.fromkeys(("sockets", "locks", "caches", "metrics", "crons", "daemons", "spoolers"), 1)
    rows |= {"spooler_tasks": 1, "slots": 2, "workers": 2, "cores": 4, "activity": 4, "apps": 8}
    odd = dict.fromkeys(("shared", "modifier1", "oid", "type", "minute", "unique", "hashsize", "hash"), label)
    labels: dict[str, Any] = {
        table: [{**odd, "name": name, "mountpoint": name, "command": name, "dir": name, "cmd": name}] for table in rows
    }
    segment = Segment.create(tmp_path / "seg", INSTANCE, rows, {**labels, "cwd": name})
    for table, count in rows.items():
        declared = next(found for found in INSTANCE if found.name == table)
        for bank in range(declared.banks):
            for row in range(count):
                values = dict(zip((field.name for field in declared.fields), words[row % 3 :], strict=False))
                store(segment, table, row, bank, **values)
    for row in range(4):
        for bank in range(2):
            segment.text("activity", row, bank).write(activity)
    segment.publish()
    try:
        with SegmentView.open(segment.path) as view:
            found = json.loads(rendered(view, Form(minified=minified)))
            assert only_integers_and_text(found)
            assert list(found)[:9] == list(sample(HELLO))[:9]
    finally:
        segment.close(unlink=True)


@given(text=st.binary())
def test_variables_are_four_at_most_and_end_with_an_empty_one(text: bytes) -> None:
    found = variables(named(text))
    assert found[-1] == ""
    assert len(found) <= 5
    assert all("=" in variable for variable in found[:-1])


def test_a_document_is_not_changed_by_being_read(planted: Planted) -> None:
    captured = sample(KITCHEN_SINK)
    before = copy.deepcopy(captured)
    _, view = planted(captured)
    assert document(view) == document(view)
    assert captured == before
