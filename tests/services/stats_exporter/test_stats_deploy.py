import re
import tomllib
from pathlib import Path

import attrs
import pytest

from palatine.counters import SegmentView
from palatine_stats_exporter.board import Facts
from palatine_stats_exporter.document import app_labels
from palatine_stats_exporter.metrics_page import metrics_page
from palatine_stats_exporter.reading import Reader
from running import run
from stats_planting import plant, planted_neighbours, sample

DEPLOY = Path(__file__).parents[3] / "deploy"


@pytest.mark.interop
def test_prometheus_takes_its_config() -> None:
    done = run("promtool", "check", "config", str(DEPLOY / "prometheus" / "prometheus.yml"))
    assert "SUCCESS" in done.stdout


@pytest.mark.interop
def test_every_rule_fires_when_it_should_and_not_before() -> None:
    done = run("promtool", "test", "rules", "palatine.rules.test.yml", cwd=DEPLOY / "prometheus", check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_rules_ask_for_metrics_there_are(tmp_path: Path) -> None:
    rules = (DEPLOY / "prometheus" / "palatine.rules.yml").read_text()
    expressions = "\n".join(re.findall(r"expr:.*|^ {10,}.*", rules, re.MULTILINE))
    asked = set(re.findall(r"(?<![:\w.])(?:uwsgi|palatine)_[a-z0-9_]+", expressions)) - {"uwsgi_instance"}
    segment = plant(tmp_path / "seg", sample("stats_hello_under_load.json"))
    segment.publish()
    with planted_neighbours(tmp_path) as neighbours, SegmentView.open(segment.path) as view:
        reader = Reader(view)
        apps = [app_labels(view, index) for index in range(reader.apps)]
        facts = Facts("app", "", True, view.row("server"), reader.read(), reader.cores, apps, [], [])
        page = metrics_page([attrs.evolve(facts, totals={"duration_le_inf": 1})], [], neighbours.look()).decode()
    segment.close(unlink=True)
    assert len(asked) >= 15
    assert [name for name in asked if f"\n{name}{{" not in page and f"\n{name} " not in page] == []


def test_telegraf_reads_the_stats_of_seed_001_into_its_database() -> None:
    config = tomllib.loads((DEPLOY / "telegraf" / "telegraf.conf").read_text())
    assert config["inputs"]["uwsgi"][0]["servers"] == ["http://127.0.0.1:9191"]
    assert config["outputs"]["influxdb"][0] == {"urls": ["http://127.0.0.1:8086"], "database": "uWSGI"}
