"""The metrics subsystem: uWSGI's own metrics, those of the config, what the app does with them, thresholds, files."""

import json
from pathlib import Path
from typing import Any

import pytest

from api_app import CALLING_APP, call
from app_server import AppServer
from palatine import config
from palatine.counters import SegmentView
from palatine.errors import ConfigError
from palatine_app_server.config import metric_settings
from palatine_app_server.config.metric_settings import ALIAS, Metric, MetricsSettings, Threshold
from palatine_app_server.sharing import metric_table
from running import Runner, free_port, run, wait_until


def read(*words: str) -> MetricsSettings:
    return metric_settings.read(config.load(words, {}, cwd="/tmp"), {"known"})


def test_settings() -> None:
    assert read("--master") == MetricsSettings()
    assert read("--enable-metrics").enabled
    settings = read(
        "--metric", "plain", "--metric", "name=n,oid=100.1,type=gauge,initial_value=-3,freq=5",
        "--metric", "name=sum,collector=sum,children=plain;n", "--metric", "name=a,type=alias,alias=n",
        "--metric", "name=f,collector=file,arg1=/tmp/x,arg1n=2", "--metrics-no-cores",
        "--metric-threshold", "key=n,value=10,alarm=known,rate=20,reset=0,msg=too many",
    )  # fmt: skip
    assert settings.declared == (
        Metric("plain"),
        Metric("n", "100.1", 1, -3, 5),
        Metric("sum", collector="sum", children=("plain", "n")),
        Metric("a", kind=ALIAS, alias="n"),
        Metric("f", collector="file", file="/tmp/x", number=2),
    )
    assert settings.thresholds == (Threshold("n", 10, "known", 20, 0, "too many"),)
    assert not settings.cores


@pytest.mark.parametrize(
    ("words", "refusal"),
    [
        (("--metric", "no spaces"), "a name of letters"),
        (("--metric", "oid=1.2"), "a name of letters"),
        (("--metric", "name=x,oid=a.b"), "oid=a.b"),
        (("--metric", "name=x,type=histogram"), "type=histogram"),
        (("--metric", "name=x,initial_value=y"), "initial_value=y"),
        (("--metric", "name=x,collector=magic"), "unknown collector 'magic'"),
        (("--metric", "name=x,collector=func,arg1=f"), "calls into C"),
        (("--metric", "name=x,type=alias"), "belong together"),
        (("--metric", "name=x,color=red"), "unknown key 'color'"),
        (("--metric-threshold", "value=1"), "needs key= and value="),
        (("--metric-threshold", "key=x,value=1,alarm=unknown"), "unknown alarm"),
    ],
)
def test_refusals(words: tuple[str, ...], refusal: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(*words)
    assert refusal in str(caught.value)
    assert caught.value.path == "command line"


@pytest.mark.parametrize(
    ("words", "refusal"),
    [
        (("--metric", "name=x,collector=sum,children=nobody"), 'unable to find metric "nobody"'),
        (("--metric", "name=x,type=alias,alias=nobody"), 'unable to find metric "nobody"'),
        (("--metric", "worker.1.requests"), "is built in"),
        (("--metric-threshold", "key=nobody,value=1"), "unable to find metric nobody"),
    ],
)
def test_what_names_no_metric(words: tuple[str, ...], refusal: str) -> None:
    with pytest.raises(ConfigError, match=refusal):
        metric_table.make(read(*words), 1, 1, 1)


def test_more_than_a_segment_describes() -> None:
    with pytest.raises(ConfigError, match="use metrics-no-cores"):
        metric_table.make(MetricsSettings(enabled=True), 100, 100, 1)
    assert metric_table.make(MetricsSettings(enabled=True, cores=False), 100, 100, 1).labels()


def shown(server: AppServer) -> dict[str, Any]:
    """The metrics as the segment has them."""
    with SegmentView.open(server.directory / "seg") as view:
        return {
            view.row_labels("metrics", row)["name"]: {**view.row_labels("metrics", row), **values}
            for row, values in enumerate(view.read("metrics"))
        }


@pytest.mark.interop
def test_they_have_the_names_oids_and_types_of_the_real_ones(programs: Runner) -> None:
    words = ("--enable-metrics", "--metric", "name=mine,oid=100.1,type=gauge,initial_value=7", "--metric", "plain")
    server = AppServer(programs, *words, processes=2, threads=2)
    port = free_port()
    programs.start(
        "uwsgi-core", "--plugin", "python3", "--master", "--http-socket", f"127.0.0.1:{free_port()}", *words,
        "--wsgi-file", str(server.home / "app.py"), "--processes", "2", "--threads", "2",
        "--stats", f"127.0.0.1:{port}",
    )  # fmt: skip
    document = wait_until(lambda: json.loads(run("nc", "127.0.0.1", str(port)).stdout), "the real one's stats", 30)
    real = {name: (metric["type"], metric["oid"]) for name, metric in document["metrics"].items()}
    assert {name: (metric["type"], metric["oid"]) for name, metric in shown(server).items()} == real


def test_values(programs: Runner) -> None:
    counted = programs.directory / "counted"
    counted.write_text("load 1.5 42 7")
    words = (
        "--metric", "name=mine,initial_value=5", "--metric", "other",
        "--metric", "name=sum,collector=sum,children=mine;other",
        "--metric", "name=mean,collector=avg,children=mine;other",
        "--metric", "name=grows,collector=accumulator,children=other",
        "--metric", "name=times,collector=multiplier,children=mine;other,arg1n=3",
        "--metric", "name=plus,collector=adder,children=mine,arg1n=100",
        "--metric", f"name=file,collector=file,arg1={counted},arg1n=2", "--metric", "name=twin,type=alias,alias=mine",
    )  # fmt: skip
    server = AppServer(programs, *words, app=CALLING_APP, processes=2)
    for function, value, expected in (
        ("inc", 2, 7), ("dec", 3, 4), ("mul", 5, 20), ("div", 3, 6), ("set", -9, -9), ("set_max", 4, 4),
        ("set_max", 1, 4), ("set_min", 2, 2), ("set_min", 3, 2), ("set", 10, 10),
    ):  # fmt: skip
        assert call(server, f"uwsgi.metric_{function}('mine', {value})") is True
        assert call(server, "uwsgi.metric_get('mine')") == expected
    assert call(server, "uwsgi.metric_inc('other')") is True
    for refused in ("metric_set('unknown', 1)", "metric_set('sum', 1)", "metric_inc('twin')", "metric_div('mine', 0)"):
        assert call(server, f"uwsgi.{refused}") is None
    assert call(server, "uwsgi.metric_set('worker.1.requests', 1)") is None
    assert call(server, "uwsgi.metric_get('unknown')") == 0
    assert call(server, "uwsgi.metric_get('twin')") == 10
    assert call(server, "uwsgi.metric_get(5)").startswith("TypeError")
    wait_until(lambda: shown(server)["sum"]["value"] == 11, "the sum", 30)
    values = {name: metric["value"] for name, metric in shown(server).items()}
    assert (values["mean"], values["times"], values["plus"], values["twin"]) == (5, 33, 110, 10)
    assert (values["file"], values["core.busy_workers"], values["core.idle_workers"]) == (42, 0, 2)
    wait_until(lambda: shown(server)["grows"]["value"] >= 2, "what grows", 30)
    served = server.requests()
    wait_until(lambda: shown(server)["worker.0.requests"]["value"] == served, "the requests", 30)
    values = {name: metric["value"] for name, metric in shown(server).items()}
    assert values["worker.1.requests"] + values["worker.2.requests"] == served
    assert values["worker.1.core.0.requests"] == values["worker.1.requests"] == values["worker.1.delta_requests"]
    assert values["worker.1.respawns"] == 1
    assert values["core.total_tx"] == values["worker.1.total_tx"] + values["worker.2.total_tx"] > 0
    assert call(server, "uwsgi.metric_get('worker.0.requests')") >= served


def test_without_them(programs: Runner) -> None:
    server = AppServer(programs, app=CALLING_APP)
    assert call(server, "(uwsgi.metric_get('worker.1.requests'), uwsgi.metric_set('x', 1))") == (0, None)


def test_thresholds_and_files(programs: Runner) -> None:
    words = (
        "--metric", "level", "--metric", "kept", "--metrics-dir", "kept", "--metrics-dir-restore",
        "--metric-threshold", "key=level,value=5,reset=1,alarm=full,msg=the level is high",
        "--alarm", "full log:",
    )  # fmt: skip
    (programs.directory / "app" / "kept").mkdir(parents=True)
    server = AppServer(programs, *words, app=CALLING_APP)
    files = server.home / "kept"
    call(server, "uwsgi.metric_set('kept', 33) and uwsgi.metric_set('level', 4)")
    wait_until(lambda: (files / "level").read_text() == "4\n", "the file", 30)
    assert server.server()["alarms_raised"] == 0
    call(server, "uwsgi.metric_set('level', 6)")
    wait_until(lambda: call(server, "uwsgi.metric_get('level')") == 1, "the reset", 30)
    assert server.server()["alarms_raised"] == 1
    wait_until(lambda: (files / "kept").read_text() == "33\n", "the file", 30)
    served = int((files / "worker.0.requests").read_text())
    server.running.stop()
    again = AppServer(programs, *words)
    assert call(again, "uwsgi.metric_get('kept')") == 33
    assert call(again, "uwsgi.metric_get('worker.0.requests')") >= served


def test_a_file_that_is_none(tmp_path: Path) -> None:
    from palatine_app_server.sharing.metrics import _of_file

    path = tmp_path / "f"
    assert _of_file(Metric("x", file=str(path))) == 0
    path.write_text("word")
    assert _of_file(Metric("x", file=str(path))) == 0
    path.write_bytes(b"1\0002\t3\n")
    assert [_of_file(Metric("x", file=str(path), number=number)) for number in range(4)] == [1, 2, 3, 0]
