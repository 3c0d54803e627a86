"""The JSON API as it describes itself: the committed description, and a fuzzer that goes by it."""

import json
from pathlib import Path

import pytest

from palatine_stats_exporter import openapi
from palatine_stats_exporter.routes import ROUTES, match
from running import Runner, free_port, run
from stats_master import master
from stats_planting import planted_neighbours, sample

DOCS = Path(__file__).parents[3] / "docs"


def test_the_committed_description_is_the_served_one() -> None:
    assert (DOCS / "openapi.json").read_text() == openapi.text(), (
        "python -m palatine_stats_exporter.openapi > docs/openapi.json"
    )


def test_every_route_is_found_by_its_path_and_no_other() -> None:
    for route in ROUTES:
        assert match(route.path.replace("{name}", "a b")) == (route, "a b" if "{name}" in route.path else "")
    for path in ("/api/v1/instances/", "/api/v1/instances/a/b", "/api/v1", "", "/metrics/"):
        assert match(path) is None


@pytest.mark.interop
@pytest.mark.timeout(300)  # 12 s of CPU, more by the clock where others are at work
def test_schemathesis_finds_no_answer_that_is_not_described(programs: Runner) -> None:
    port = free_port()
    config = programs.directory / "stats-exporter.yaml"
    config.write_text(f"http: {{listen: '127.0.0.1:{port}'}}\n")
    with (
        planted_neighbours(programs.runtime),
        master(programs.runtime, "app", sample("stats_with_metrics.json")) as instance,
    ):
        instance.start()
        exporter = programs.start("palatine-stats-exporter", "--config", str(config))
        exporter.wait_for("http.serving", 30)
        url = f"http://127.0.0.1:{port}/api/v1/openapi.json"
        words = [
            "--max-examples",
            "6",
            "--phases",
            "coverage,fuzzing",
            "--exclude-path",
            "/api/v1/events",
            "--checks",
            "all",
            "--no-color",
        ]
        done = run("schemathesis", "run", url, *words, check=False, seconds=250, cwd=programs.directory)
        assert done.returncode == 0, done.stdout + done.stderr
        assert json.loads(run("curl", "-s", url).stdout) == openapi.document()
        assert "Traceback" not in exporter.output()
