"""The dashboards' queries, as Grafana fills them in, against a real InfluxDB and a real Prometheus with known events.

Planted: four workers, three harakiris and two respawns in the last 15 minutes, on top of counts from before.
"""

import json
import re
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml

from influx import Influx
from palatine.codec.line_protocol import Point, encode
from palatine_stats_exporter.board import Facts
from palatine_stats_exporter.push.points import common_tags, points
from push_planting import facts_of
from running import Runner, free_port, get, run, runner, wait_until
from stats_master import master
from stats_planting import sample

pytestmark = pytest.mark.interop

GRAFANA = Path(__file__).parents[3] / "deploy" / "grafana"
SCHEMAS = Path(__file__).parent / "samples" / "grafana"
MINUTE = 60
RANGES = {"15 minutes": 15 * MINUTE, "6 hours": 360 * MINUTE, "7 days": 7 * 1440 * MINUTE}
#: What Grafana takes for 1000 points, with our least interval.
INTERVALS = {
    "influxdb": {"15 minutes": 10, "6 hours": 20, "7 days": 600},
    "prometheus": {"15 minutes": 15, "6 hours": 20, "7 days": 600},
}
END = int(time.time()) // 600 * 600 - 600
#: Seconds before the end at which a worker (by id) is killed for a request, and at which one is started again.
HARAKIRIS = ((840, "1"), (420, "2"), (60, "2"))
RESPAWNS = ((600, "3"), (120, "2"))
BEFORE = {"harakiri_count": 7, "respawn_count": 5}
SERVING = ((0, 0), (1, 1), (1, 1), (1, 0))
SPAWNED = END - 30 * 24 * 3600


def grown(field: str, worker: str, moment: int) -> int:
    """What a counter of a worker stands at."""
    events = HARAKIRIS if field == "harakiri_count" else RESPAWNS
    return BEFORE[field] + sum(end == worker and END - ago <= moment for ago, end in events)


def moments() -> list[int]:
    """When readings were taken: often of late, seldom before."""
    late = set(range(END - 20 * MINUTE, END + 1, 10))
    today = set(range(END - 365 * MINUTE, END + 1, 20))
    return sorted(late | today | set(range(END - 7 * 1440 * MINUTE - 1200, END + 1, 240)))


def dashboard(kind: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((GRAFANA / "dashboards" / f"uwsgi-{kind}.json").read_text())
    return found


def queries(kind: str, key: str) -> list[tuple[str, str]]:
    """Title and text of every query."""
    return [(panel["title"], target[key]) for panel in dashboard(kind)["panels"] for target in panel["targets"]]


#: What every value of a panel's query is, by the panel's title; microseconds and seconds where databases differ.
ALWAYS: dict[str, set[float]] = {
    "Workers now": {4},
    "Workers": {4},
    "Listen queue": {16},
    "Requests in progress": {5},
    "Average request time": {250_000, 0.25},
    "Running time": {5_500_000, 5.5},
    "Requests per worker": {22},
    "Requests since respawn": {22},
}
#: What all values of a panel's query add up to.
SUMS = {
    "Harakiris": 3,
    "Harakiris in this range": 3,
    "Respawns": 2,
    "Respawns in this range": 2,
    "Requests in this range": 0,
}
STATUSES = {"busy": 3, "idle": 1, "cheap": 0, "pause": 0}


def check(title: str, text: str, values: list[float], start: int) -> None:
    """What a panel shows, the series of its query together, against what was planted."""
    words = [word for word in STATUSES if f"'{word}'" in text or f"uwsgi_worker_{word}{{" in text]
    if title == "Worker status" and words:
        assert set(values) <= {STATUSES[words[0]]}, text  # InfluxDB has no series of what never was
        assert values or not STATUSES[words[0]], text
        return
    assert values, (title, text)
    if title in SUMS:
        assert sum(values) == SUMS[title]
    elif title == "Worker status":
        assert set(values) == {4}
    elif title == "Worker uptime" and "SELECT" in text:
        assert set(values) == {SPAWNED * 1000}
    elif title == "Worker uptime":
        assert start - SPAWNED <= min(values) <= max(values) <= END - SPAWNED + 1
    else:
        assert {round(value, 6) for value in values} <= ALWAYS[title], title


@pytest.fixture(scope="module")
def captured() -> dict[str, Any]:
    """One instance at one moment: four workers of two threads, three of them busy with five requests."""
    found = sample("stats_hello_under_load.json")
    for worker, serving in zip(found["workers"], SERVING, strict=True):
        worker |= {"requests": 22, "delta_requests": 22, "avg_rt": 250_000, "running_time": 5_500_000}
        worker |= {"last_spawn": SPAWNED, "status": "busy" if any(serving) else "idle"}
        for core, busy in zip(worker["cores"], serving, strict=True):
            core |= {"requests": 11, "in_request": busy, "vars": [], "req_info": {"request_start": END}}
    return found


@pytest.fixture(scope="module")
def influx(captured: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Influx]:
    """InfluxDB with a week of readings, and with another host's instance that must not be counted in."""
    with runner(tmp_path_factory.mktemp("influx")) as programs:
        made = Influx(programs).start()
        plant_week(made, facts_of(programs.directory / "seg", captured))
        yield made


def plant_week(made: Influx, reading: Facts) -> None:
    """All readings, in batches."""
    made.ask('CREATE DATABASE "uWSGI"')
    here = list(points(reading, "web1", common_tags("app", "web1", {}), 0))
    other = list(points(reading, "web2", common_tags("other", "web2", {}), 0))
    found: list[bytes] = []
    for moment in moments():
        found += [encode(at(point, moment)) for point in here]
        found += [encode(at(point, moment)) for point in other if moment > END - 1000]
        if len(found) > 20_000:
            made.write(b"".join(found))
            found.clear()
    made.write(b"".join(found))


def at(point: Point, moment: int) -> Point:
    """A planted point as it was at a moment."""
    fields = dict(point.fields)
    if point.measurement == "uwsgi_workers":
        fields |= {field: grown(field, point.tags["worker_id"], moment) for field in BEFORE}
    return point._replace(fields=fields, time_ns=moment * 10**9)


def filled(text: str, kind: str, name: str, host: str = "web1.*", instance: str = "app") -> str:
    """A query as Grafana sends it: variables, then its macros."""
    interval, start = INTERVALS[kind][name], END - RANGES[name]
    rate = max(interval + 15, 60)
    for macro, value in {
        "$timeFilter": f"time >= {start * 1000}ms and time <= {END * 1000}ms",
        "$__rate_interval": f"{rate}s",
        "$__interval": f"{interval}s",
        "$host": host,
        "$instance": instance,
    }.items():
        text = text.replace(macro, value)
    assert "$" not in text.replace("$/", ""), text
    return text


def test_influxdb_returns_what_was_planted_at_any_range(influx: Influx) -> None:
    for name, seconds in RANGES.items():
        for title, text in queries("influxdb", "query"):
            check(title, text, influx.values(filled(text, "influxdb", name)), END - seconds)


def test_influxdb_shows_all_hosts_and_telegrafs_series(influx: Influx) -> None:
    """With "All" chosen two instances add up, and series without our tags, which telegraf wrote, are there too."""
    (now,) = [text for title, text in queries("influxdb", "query") if title == "Workers now"]
    asked = filled(now, "influxdb", "15 minutes", ".*", ".*")
    assert set(influx.values(asked)) == {8}
    fields = b'pid=1i,status="idle"'
    influx.write(b"uwsgi_workers,source=elsewhere,worker_id=1 %s %d\n" % (fields, END * 10**9))
    assert influx.values(asked)[-1] == 9


def test_influxdbs_variables(influx: Influx) -> None:
    source, host, instance, reading = dashboard("influxdb")["templating"]["list"]
    assert [one["name"] for one in (source, host, instance, reading)] == ["datasource", "host", "instance", "reading"]
    assert influx.values(host["query"]) == ["web1", "web2"]
    assert influx.values(instance["query"].replace("$host", ".*")) == ["app", "other"]
    assert influx.values(instance["query"].replace("$host", "(web2)")) == ["other"]


class Prometheus:
    """A server on blocks that promtool made."""

    def __init__(self, programs: Runner, openmetrics: str) -> None:
        home = programs.directory / "prometheus"
        home.mkdir()
        (home / "metrics").write_text(openmetrics)
        (home / "prometheus.yml").write_text("scrape_configs: []\n")
        made = ("tsdb", "create-blocks-from", "openmetrics", "--max-block-duration=720h", str(home / "metrics"))
        run("promtool", *made, str(home / "data"), seconds=100)
        self.url = f"http://127.0.0.1:{(port := free_port())}"
        self.running = programs.start(
            "prometheus", f"--config.file={home}/prometheus.yml", f"--storage.tsdb.path={home}/data",
            f"--web.listen-address=127.0.0.1:{port}", "--storage.tsdb.retention.time=60d",
            environ={"GOMAXPROCS": "1"},
        )  # fmt: skip
        wait_until(lambda: self.ask("query", query="vector(1)"), f"Prometheus: {self.running.output()}", 30)

    def ask(self, path: str, **words: Any) -> list[Any]:
        try:
            with urllib.request.urlopen(
                f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(words)}", timeout=20
            ) as answer:
                data = json.loads(answer.read())["data"]
        except urllib.error.HTTPError as error:
            with error:
                raise AssertionError(f"{words}: {error.code} {error.read().decode()}") from error
        found: list[Any] = data["result"] if isinstance(data, dict) else data
        return found

    def values(self, query: str, start: int, end: int, step: int) -> list[float]:
        """All values of all series, at the multiples of the step Grafana asks for."""
        found = self.ask("query_range", query=query, start=start // step * step, end=end // step * step, step=step)
        return [float(value) for series in found for _, value in series["values"]]


@pytest.fixture
def prometheus(programs: Runner, captured: dict[str, Any]) -> Prometheus:
    """Prometheus with a week of what the exporter's own page says at one moment, but for the counters that grow."""
    names = {name for _, text in queries("prometheus", "expr") for name in re.findall(r"\buwsgi_\w+(?=\{)", text)}
    found = [line for line in page(programs, captured) if line.partition("{")[0] in names]
    assert {line.partition("{")[0] for line in found} == names
    lines, when = [], moments()
    for name in sorted(names):
        lines.append(f"# TYPE {name} unknown")
        field = name.removeprefix("uwsgi_worker_").removesuffix("_total")
        for line in found:
            if line.startswith(f"{name}{{"):
                series, _, value = line.replace("{", '{instance="web1:9117",job="palatine",').rpartition(" ")
                worker = re.search(r'worker_id="(\d+)"', series)
                for moment in when:
                    said = grown(field, worker[1], moment) if field in BEFORE and worker else value
                    lines.append(f"{series} {said} {moment}")
    return Prometheus(programs, "\n".join([*lines, "# EOF\n"]))


def page(programs: Runner, captured: dict[str, Any]) -> list[str]:
    """The exporter's page for Prometheus."""
    address = f"127.0.0.1:{free_port()}"
    with master(programs.runtime, captured=captured) as instance:
        instance.bind(http=True)
        instance.start()
        running = programs.start("palatine-stats-exporter", "--http", address)
        running.wait_for("daemon.ready", 30)

        def complete() -> str:
            found = get(f"http://{address}/metrics")
            return found if "uwsgi_workers{" in found else ""

        text = wait_until(complete, f"the instance on the page: {running.output()}", 30)
        running.stop()
    return text.splitlines()


def test_prometheus_returns_what_was_planted_at_any_range(prometheus: Prometheus) -> None:
    for name, seconds in RANGES.items():
        for title, text in queries("prometheus", "expr"):
            query, step = filled(text, "prometheus", name), INTERVALS["prometheus"][name]
            check(title, text, prometheus.values(query, END - seconds, END, step), END - seconds - step)
    _, host, instance, _ = dashboard("prometheus")["templating"]["list"]
    assert host["query"]["query"] == "label_values(uwsgi_workers, instance)"
    match = {"match[]": "uwsgi_workers", "start": END - 900, "end": END}
    assert prometheus.ask("label/instance/values", **match) == ["web1:9117"]
    assert instance["query"]["query"].endswith(", uwsgi_instance)")
    assert prometheus.ask("label/uwsgi_instance/values", **match) == ["app"]


def test_committed_dashboards_are_what_the_generator_makes() -> None:
    run(sys.executable, str(GRAFANA / "generate.py"), "--check")


SEED_PANELS = {
    "Harakiris", "Worker status", "Listen queue", "Workers", "Requests per worker", "Requests in progress", "Respawns",
    "Average request time", "Running time", "Requests since respawn", "Worker uptime",
}  # fmt: skip


@pytest.mark.parametrize("kind", ["influxdb", "prometheus"])
def test_dashboards_are_whole(kind: str) -> None:
    found = dashboard(kind)
    panels = found["panels"]
    assert {panel["title"] for panel in panels} >= SEED_PANELS
    assert len({panel["id"] for panel in panels}) == len(panels)
    for panel in panels:
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert panel["description"]
        assert panel["datasource"] == {"type": kind, "uid": "${datasource}"}
    places = [panel["gridPos"] for panel in panels]
    squares = [
        (x, y)
        for place in places
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(squares) == len(set(squares))
    assert all(x < 24 for x, _ in squares)


def complaints(document: dict[str, Any]) -> list[str]:
    """What Grafana's published schema says of a dashboard and of its panels' options."""

    def checked(schema: str, what: str, value: Any) -> list[str]:
        validator = jsonschema_rs.Draft7Validator(json.loads((SCHEMAS / f"{schema}.schema.json").read_text()))
        return [
            f"{what}: {'/'.join(map(str, error.instance_path))}: {error.message}"
            for error in validator.iter_errors(value)
        ]

    found = checked("dashboard", "dashboard", document)
    for panel in document["panels"]:
        value = {"options": panel["options"]}
        if panel["type"] == "timeseries":
            value["custom"] = panel["fieldConfig"]["defaults"]["custom"]
        found += checked(panel["type"], panel["title"], value)
    return found


@pytest.mark.parametrize("kind", ["influxdb", "prometheus"])
def test_grafanas_own_schema_finds_nothing(kind: str) -> None:
    """The types of @grafana/schema, closed: a key they do not know is a fault."""
    document = dashboard(kind)
    assert complaints(document) == []
    document["panels"][0]["gridPosition"] = document["panels"][0].pop("gridPos")
    document["panels"][-1]["options"]["tooltips"] = {}
    assert len(complaints(document)) >= 2


def test_compose_brings_a_grafana_that_knows_databases_and_dashboards() -> None:
    root = GRAFANA.parents[1]
    files = ("-f", str(root / "compose.yaml"), "-f", str(GRAFANA / "compose.yaml"))
    merged = yaml.safe_load(run("docker-compose", *files, "config").stdout)["services"]
    mounts = {one.split(":")[1]: Path(one.split(":")[0]) for one in merged["grafana"]["volumes"]}
    sources = yaml.safe_load((mounts["/etc/grafana/provisioning"] / "datasources" / "palatine.yaml").read_text())
    hosts = {urllib.parse.urlsplit(source["url"]).hostname for source in sources["datasources"]}
    assert hosts == {"influxdb", "prometheus"} <= merged.keys()
    shown = yaml.safe_load((mounts["/etc/grafana/provisioning"] / "dashboards" / "palatine.yaml").read_text())
    assert len(list(mounts[shown["providers"][0]["options"]["path"]].glob("*.json"))) == 2
    config = next(one for one in merged["stats-exporter"]["volumes"] if "stats-exporter.yaml" in one).split(":")
    assert config[1] in merged["stats-exporter"]["command"]
    assert yaml.safe_load(Path(config[0]).read_text())["push"]["influxdb"][0]["database"] == "uWSGI"
    run("promtool", "check", "config", str(GRAFANA / "prometheus.yml"))
