import tomllib
from pathlib import Path

import pytest

from running import run

DEPLOY = Path(__file__).parents[3] / "deploy"


@pytest.mark.interop
def test_prometheus_takes_its_config() -> None:
    done = run("promtool", "check", "config", str(DEPLOY / "prometheus" / "prometheus.yml"))
    assert "SUCCESS" in done.stdout


def test_telegraf_reads_the_stats_of_seed_001_into_its_database() -> None:
    config = tomllib.loads((DEPLOY / "telegraf" / "telegraf.conf").read_text())
    assert config["inputs"]["uwsgi"][0]["servers"] == ["http://127.0.0.1:9191"]
    assert config["outputs"]["influxdb"][0] == {"urls": ["http://127.0.0.1:8086"], "database": "uWSGI"}
