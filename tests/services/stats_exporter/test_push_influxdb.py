"""The exporter pushes to a real InfluxDB 1.x: seed 001's queries, outages, kills."""

import gzip
import signal
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import trio

from influx import Influx, rows
from palatine.bus import request
from palatine.codec.line_protocol import decode
from palatine.counters import SegmentView
from running import Runner, Running, free_port, wait_until
from stats_master import StandInMaster, master
from stats_planting import sample, store

pytestmark = [pytest.mark.interop, pytest.mark.timeout(300)]

#: Seed 001's queries, word for word but for the time range and interval Grafana fills in.
SEED = {
    "harakiri": 'SELECT sum("harakiri_count") FROM "uwsgi_workers" WHERE {when} GROUP BY time({step}) fill(null)',
    "busy": 'SELECT count("status") FROM "uwsgi_workers" WHERE  {when} and "status"=\'busy\' '
    "GROUP BY time({step}) fill(null)",
    "queue": 'SELECT sum("listen_queue") FROM "uwsgi_overview" WHERE {when} GROUP BY time({step})',
    "workers": 'SELECT count("avg_rt") FROM "uwsgi_workers" WHERE {when} AND ("worker_id"=\'1\' OR "worker_id"=\'2\' '
    "OR \"worker_id\"='3' OR \"worker_id\"='4') GROUP BY time({step}) fill(null)",
    "requests": 'SELECT mean("requests") FROM "uwsgi_workers" WHERE {when} GROUP BY time({step}), "worker_id"',
    "in_request": 'SELECT sum("in_request") FROM "uwsgi_cores" WHERE {when} GROUP BY time({step})',
    "respawns": 'SELECT sum("respawn_count") FROM "uwsgi_workers" WHERE {when} GROUP BY time({step}), "uwsgi_host"',
    "avg_rt": 'SELECT mean("avg_rt") FROM "uwsgi_workers" WHERE {when} GROUP BY time({step}), "worker_id" fill(null)',
    "running": 'SELECT mean("running_time") FROM "uwsgi_workers" WHERE  {when} GROUP BY time({step}), "worker_id"',
}
STEP = 0.2


@pytest.fixture
def instance(programs: Runner) -> Iterator[StandInMaster]:
    """Seed 001's app under load: four workers of two threads."""
    with master(programs.runtime, captured=sample("stats_hello_under_load.json")) as made:
        made.bind()
        store(made.segment, "slots", 1, harakiri_count=3, respawn_count=3)
        made.start()
        yield made


def exporter(programs: Runner, push: str) -> Running:
    config = programs.directory / "stats-exporter.yaml"
    config.write_text(f"push:\n  interval: {STEP}\n  {push}\n")
    running = programs.start("palatine-stats-exporter", "--config", str(config))
    running.wait_for("daemon.ready", 30)
    return running


def status(programs: Runner) -> dict[str, Any]:
    async def ask() -> Any:
        return await request(programs.runtime / "stats-exporter" / "ctl", "status", timeout=20)

    found: dict[str, Any] = trio.run(ask)["push"][0]
    return found


def waiting(programs: Runner, count: int) -> dict[str, Any]:
    """The target's state once so many batches wait."""

    def enough() -> dict[str, Any] | None:
        found = status(programs)
        return found if found["waiting"] >= count else None

    found = wait_until(enough, f"{count} batches waiting", 40)
    assert found is not None
    return found


def moments(influx: Influx, until: float) -> list[int]:
    """When readings were taken, in milliseconds, up to a reading."""
    before = f"time <= {round(until * 1000)}ms"
    return [row["time"] for row in rows(influx.ask(f'SELECT "load" FROM "uwsgi_overview" WHERE {before}'))]


def arrived(influx: Influx, reading: dict[str, Any]) -> list[int]:
    """The moments of all readings of a run up to this one, once the last of them is there."""

    def there() -> list[int]:
        found = moments(influx, reading["last_reading"])
        return found if found[-1:] == [round(reading["last_reading"] * 1000)] else []

    return wait_until(there, f"{reading} in the database", 100)  # retries are up to a minute apart


def test_seeds_queries_return_what_was_counted(programs: Runner, instance: StandInMaster) -> None:
    assert instance
    influx = Influx(programs).start()
    exporter(programs, f'influxdb: [{{url: "{influx.url}", tags: {{dc: ams}}}}]')
    wait_until(lambda: len(influx.values('SELECT "load" FROM "uwsgi_overview"')) >= 2, "two readings", 30)
    last = rows(influx.ask('SELECT last("load") FROM "uwsgi_overview"'))[0]["time"]
    when = f"time >= {last}ms AND time <= {last}ms"
    found = {name: influx.ask(query.format(when=when, step="1s")) for name, query in SEED.items()}
    value = {name: [row[-1] for series in one for row in series["values"]] for name, one in found.items()}
    captured = sample("stats_hello_under_load.json")
    assert value["harakiri"] == [3]
    assert value["busy"] == [sum(worker["status"] == "busy" for worker in captured["workers"])]
    assert value["queue"] == [captured["listen_queue"]]
    assert value["workers"] == [4]
    assert sorted(value["requests"]) == sorted(worker["requests"] for worker in captured["workers"])
    assert value["in_request"] == [sum(core["in_request"] for w in captured["workers"] for core in w["cores"])]
    assert value["respawns"] == [1 + 3 + 1 + 1]
    assert found["respawns"][0]["tags"] == {"uwsgi_host": socket.gethostname()}
    assert sorted(value["avg_rt"]) == sorted(worker["avg_rt"] for worker in captured["workers"])
    assert sorted(value["running"]) == sorted(worker["running_time"] for worker in captured["workers"])
    tags = influx.values('SHOW TAG KEYS FROM "uwsgi_workers"')
    assert sorted(tags) == ["dc", "host", "instance", "source", "uwsgi_host", "worker_id"]

    def counted() -> int:
        with SegmentView.open(programs.runtime / "stats-exporter" / "seg") as view:
            return view.row("exporter")["pushes"]

    wait_until(counted, "pushes counted in the segment", 30)


def test_user_and_password_and_the_servers_socket(programs: Runner, instance: StandInMaster) -> None:
    assert instance
    influx = Influx(programs, auth=True).start()
    influx.make_admin("palatine", "secret")
    secret = programs.directory / "secret"
    secret.write_text("wrong\n")
    push = f'{{url: "unix://{influx.socket}", database: "my db", user: palatine, password: {{file: {secret}}}}}'
    running = exporter(programs, f"influxdb: [{push}]")
    running.wait_for("authorization failed", 30)
    assert "wrong" not in running.output()
    secret.write_text("secret\n")
    running.send(signal.SIGHUP)
    wait_until(lambda: influx.values('SELECT "load" FROM "uwsgi_overview"', "my db"), "a point", 30)
    first = influx.values('SELECT first("load") FROM "uwsgi_overview"', "my db")
    assert first == [16]  # what was read while the password was wrong has arrived too


def test_by_udp(programs: Runner, instance: StandInMaster) -> None:
    assert instance
    influx = Influx(programs).start()
    influx.ask('CREATE DATABASE "udp"')
    exporter(programs, f'influxdb: [{{url: "udp://127.0.0.1:{influx.udp}"}}]')
    four = 'SELECT last("avg_rt") FROM "uwsgi_workers" GROUP BY "worker_id"'
    wait_until(lambda: len(influx.values(four, "udp")) == 4, "four workers", 30)


def test_kill_during_an_outage_loses_no_reading(programs: Runner, instance: StandInMaster) -> None:
    assert instance
    influx = Influx(programs)
    push = f'influxdb: [{{url: "{influx.url}"}}]'
    running = exporter(programs, push)
    first = waiting(programs, 8)
    running.stop(signal.SIGKILL)
    exporter(programs, push)
    second = waiting(programs, first["waiting"] + 5)
    influx.start()
    found = arrived(influx, second)
    assert found == sorted(set(found))
    before = [moment for moment in found if moment <= round(first["last_reading"] * 1000)]
    assert len(before) == first["readings"]
    after = [moment for moment in found if moment > round(first["last_reading"] * 1000)]
    assert len(after) >= second["readings"]  # and what was read between the question and the kill
    before_then = f"time <= {found[-1]}ms"  # later ones arrive while we ask
    assert influx.values(f'SELECT count("avg_rt") FROM "uwsgi_workers" WHERE {before_then}') == [4 * len(found)]


def test_a_database_killed_again_and_again_gets_every_reading(programs: Runner, instance: StandInMaster) -> None:
    assert instance
    influx = Influx(programs).start()
    exporter(programs, f'influxdb: [{{url: "{influx.url}"}}]')
    for _ in range(3):
        wait_until(lambda: influx.values('SELECT last("load") FROM "uwsgi_overview"'), "points", 30)
        influx.kill()
        waiting(programs, 3)
        influx.start()
    reading = status(programs)
    assert len(arrived(influx, reading)) == reading["readings"]


def test_what_the_database_never_takes_holds_nothing_up(programs: Runner, instance: StandInMaster) -> None:
    """A field changes its type: InfluxDB refuses the batch with 400, now and ever; other fields' points go on."""
    assert instance
    influx = Influx(programs).start()
    influx.ask('CREATE DATABASE "uWSGI"')
    influx.write(b'uwsgi_overview load="high"\n')
    running = exporter(programs, f'influxdb: [{{url: "{influx.url}"}}]')
    running.wait_for("push.refused", 30)
    wait_until(lambda: len(influx.values('SELECT "avg_rt" FROM "uwsgi_workers"')) >= 8, "workers' points", 30)
    assert status(programs)["waiting"] < 5


class V2(BaseHTTPRequestHandler):
    """What InfluxDB 2's documentation says of `/api/v2/write`: a token, an organisation, a bucket, 204."""

    def do_POST(self) -> None:
        server: Any = self.server
        body = self.rfile.read(int(self.headers["Content-Length"]))
        body = gzip.decompress(body) if self.headers["Content-Encoding"] == "gzip" else body
        fits = self.path == "/api/v2/write?org=my+org&bucket=b&precision=ns"
        known = self.headers["Authorization"] == "Token hush"
        server.points += [decode(line) for line in body.splitlines()] if fits and known else []
        self.send_response(204 if fits and known else 401)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


def test_version_two_by_token(programs: Runner, instance: StandInMaster) -> None:
    assert instance
    with ThreadingHTTPServer(("127.0.0.1", free_port()), V2) as server:
        found: Any = server
        found.points = []
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            url = f"http://127.0.0.1:{server.server_address[1]}/"
            running = exporter(programs, f'influxdb-v2: [{{url: "{url}", org: my org, bucket: b, token: hush}}]')
            wait_until(lambda: len(found.points) > 30, "points", 30)
            running.stop()
        finally:
            server.shutdown()
            thread.join()
    assert {point.measurement for point in found.points} == {
        "uwsgi_overview",
        "uwsgi_workers",
        "uwsgi_apps",
        "uwsgi_cores",
    }
    assert "hush" not in running.output()
