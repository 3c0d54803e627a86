"""OTLP by HTTP: what a collector receives from the exporter as a program."""

import gzip
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from google.protobuf.json_format import Parse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from running import Runner, free_port, wait_until
from stats_master import master
from stats_planting import sample


class Collector(BaseHTTPRequestHandler):
    """Refuses twice, as a collector does that is busy, and then takes what comes."""

    def do_POST(self) -> None:
        server: Any = self.server
        body = self.rfile.read(int(self.headers["Content-Length"]))
        right = self.path == "/v1/metrics" and self.headers["Content-Type"] == "application/json"
        known = self.headers["Content-Encoding"] == "gzip" and self.headers["api-key"] == "hush"
        server.asked += 1
        accepted = right and known and server.asked > 2
        if accepted:
            text = gzip.decompress(body)
            Parse(text, ExportMetricsServiceRequest())  # the standard's own reader: refuses what it does not know
            server.bodies.append(json.loads(text))
        answer = b'{"partialSuccess":{"rejectedDataPoints":"1","errorMessage":"one too many"}}' if accepted else b"{}"
        self.send_response(200 if accepted else 503)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def collector() -> Iterator[Any]:
    with ThreadingHTTPServer(("127.0.0.1", free_port()), Collector) as server:
        found: Any = server
        found.bodies, found.asked = [], 0
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield found
        server.shutdown()
        thread.join()


def values(body: dict[str, Any], name: str) -> list[int]:
    """The points of a metric, by whatever kind it is."""
    (resource,) = body["resourceMetrics"]
    (metric,) = [one for one in resource["scopeMetrics"][0]["metrics"] if one["name"] == name]
    return [int(point["asInt"]) for point in (metric.get("sum") or metric["gauge"])["dataPoints"]]


def test_a_collector_gets_every_number(programs: Runner, collector: Any) -> None:
    captured = sample("stats_hello_under_load.json")
    config = programs.directory / "stats-exporter.yaml"
    url = f"http://127.0.0.1:{collector.server_address[1]}"
    config.write_text(
        f"push: {{interval: 0.2, tags: {{deployment: test}}, otlp: [{{url: '{url}', headers: {{api-key: hush}}}}]}}\n"
    )
    with master(programs.runtime, captured=captured) as instance:
        instance.start()
        exporter = programs.start("palatine-stats-exporter", "--config", str(config))
        exporter.wait_for("one too many", 40)
        exporter.wait_for("push.recovered")
        wait_until(lambda: len(collector.bodies) > 1, "requests", 30)
        exporter.stop()
    body, workers = collector.bodies[0], captured["workers"]
    assert values(body, "uwsgi.worker.requests") == [worker["requests"] for worker in workers]
    assert values(body, "uwsgi.worker.delta_requests") == [worker["delta_requests"] for worker in workers]
    assert values(body, "uwsgi.core.in_request") == [core["in_request"] for w in workers for core in w["cores"]]
    assert values(body, "uwsgi.listen_queue") == [captured["listen_queue"]]
    assert values(body, "uwsgi.workers") == [
        sum(worker["status"] == word for worker in workers) for word in ("busy", "idle", "cheap", "pause")
    ]
    said = {one["key"]: one["value"]["stringValue"] for one in body["resourceMetrics"][0]["resource"]["attributes"]}
    assert said["service.name"] == "app"
    assert said["deployment"] == "test"
    assert said["service.instance.id"] == f"{said['host.name']}/app"
    assert "hush" not in exporter.output()
