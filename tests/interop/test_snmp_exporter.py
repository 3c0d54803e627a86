"""Prometheus' snmp_exporter reads the host's tables with the module deploy/prometheus ships."""

import re
import socket
import urllib.request
from pathlib import Path

import pytest
import yaml

from running import Runner, free_port, run, wait_until
from snmp_master import set_requests, stand_in

pytestmark = pytest.mark.interop

SHIPPED = Path(__file__).parents[2] / "deploy" / "prometheus" / "snmp.yml"
PROGRAM = "prometheus-snmp-exporter"
#: The version whose files have modules and auths apart; Debian 12 has an earlier one.
APART = (0, 23)


def version() -> tuple[int, ...]:
    done = run(PROGRAM, "--version", check=False)
    found = re.search(r"version (\d+)\.(\d+)", done.stdout + done.stderr)
    assert found is not None
    return tuple(map(int, found.groups()))


def test_the_shipped_module_shows_every_instance(programs: Runner, tmp_path: Path) -> None:
    config = SHIPPED
    if version() < APART:
        shipped = yaml.safe_load(SHIPPED.read_text())
        before = {"version": 2, "auth": {"community": "public"}, **shipped["modules"]["palatine"]}
        config = tmp_path / "snmp.yml"
        config.write_text(yaml.safe_dump({"palatine": before}))
    port, web = free_port(socket.SOCK_DGRAM), free_port()
    agent = tmp_path / "agent.yaml"
    agent.write_text(f'listen: ["127.0.0.1:{port}"]\ncommunities: [{{community: public}}]\n')
    with stand_in(programs.runtime, "shop") as shop, stand_in(programs.runtime, "blog"):
        set_requests(shop.segment, 1, 41)
        programs.start("palatine-snmp-agent", "--config", str(agent)).wait_for("daemon.ready")
        programs.start(PROGRAM, f"--config.file={config}", f"--web.listen-address=127.0.0.1:{web}")
        url = f"http://127.0.0.1:{web}/snmp?module=palatine&auth=palatine&target=127.0.0.1:{port}"

        def scraped() -> str:
            with urllib.request.urlopen(url, timeout=30) as reply:
                return str(reply.read().decode())

        page = wait_until(lambda: (text := scraped()) and "palHostInstancesUp 2" in text and text, "both instances")
    assert 'palInstanceRequests{palInstanceName="shop"} 42' in page
    assert 'palWorkerRequests{palInstanceName="shop",palWorkerNumber="1"} 42' in page
    assert 'palCustomValue{palCustomNumber="40",palInstanceName="blog"} 77' in page
    assert 'palDaemonUp{palDaemonName="snmp-agent"} 1' in page
    assert "# HELP palInstanceRequests Requests finished." in page
