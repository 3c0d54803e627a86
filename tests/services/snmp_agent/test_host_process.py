"""The host-wide agent as a program, asked by net-snmp's tools with the MIB: the names, tables and units people see."""

import os
import signal
import socket
from pathlib import Path

import pytest

from palatine.codec import snmp
from palatine.schema.notifications import DEFAULT_BASE
from running import Runner, Running, free_port, run, wait_until
from snmp_master import set_requests, set_value, stand_in
from snmpd import start_snmpd

pytestmark = pytest.mark.interop

ROOT = Path(__file__).parents[3]
NAMES = {**os.environ, "MIBDIRS": f"{ROOT}/tests/support/mibs:{ROOT}/deploy/mibs", "MIBS": "PALATINE-MIB"}
CONFIG = """\
listen: ["127.0.0.1:{port}"]
system: {{name: www1, contact: ops@example.org, location: rack 4}}
communities:
  - community: public
  - {{community: tenant, contexts: [shop]}}
"""


class Host:
    """An agent that listens for the host as a whole."""

    def __init__(self, programs: Runner) -> None:
        self.port = free_port(socket.SOCK_DGRAM)
        self._programs = programs
        self._config = programs.directory / "agent.yaml"
        self._config.write_text(CONFIG.format(port=self.port))
        self.agent = self.start()

    def start(self) -> Running:
        agent = self._programs.start("palatine-snmp-agent", "--config", str(self._config))
        agent.wait_for("daemon.ready")
        return agent

    def ask(self, tool: str, *words: str, version: str = "2c", community: str = "public", tries: int = 5) -> str:
        options = ["-v", version, "-c", community, "-t", "1" if tries > 1 else "0.3", "-r", str(tries - 1)]
        done = run(tool, *options, *words[:-1], f"127.0.0.1:{self.port}", words[-1], check=False, env=NAMES)
        return (done.stdout + done.stderr).strip()

    def value(self, name: str) -> str:
        return self.ask("snmpget", "-Oqv", f"PALATINE-MIB::{name}")


@pytest.fixture
def host(programs: Runner) -> Host:
    return Host(programs)


def test_tables_and_walks_have_names_and_units(programs: Runner, host: Host) -> None:
    with stand_in(programs.runtime, "shop") as one, stand_in(programs.runtime, "blog"):
        wait_until(lambda: host.value('palInstanceUp."shop"') == "true", "the shop")
        wait_until(lambda: host.value('palInstanceUp."blog"') == "true", "the blog")
        set_requests(one.segment, 5, 41)
        assert host.ask("snmpget", "-OS", 'PALATINE-MIB::palInstanceRequests."shop"') == (
            'PALATINE-MIB::palInstanceRequests."shop" = Counter64: 42 requests'
        )
        assert host.ask("snmpget", "-OS", 'PALATINE-MIB::palInstanceState."shop"').endswith("INTEGER: starting(1)")
        table = host.ask("snmptable", "-Ci", "-CH", "-Cf", "|", "PALATINE-MIB::palSocketTable")
        assert [line.split("|")[0] for line in table.splitlines()] == ['"blog".1', '"shop".1']
        walk = host.ask("snmpwalk", "-OS", "PALATINE-MIB::palWorkerRequests")
        assert walk.count("requests") == 8
        assert 'palWorkerRequests."shop".3 = Counter64: 41 requests' in walk
        bulk = host.ask("snmpbulkwalk", "-Cr50", "-OSq", "PALATINE-MIB::palatine")
        assert len(bulk.splitlines()) > 500
        assert 'palCustomValue."shop".40 77' in bulk
        assert "palDaemonUp" in bulk
        assert "Wrong Type" not in bulk
        assert "Unknown Object" not in bulk
        first = host.ask("snmpwalk", "-OSq", "PALATINE-MIB::palInstanceTable", version="1")
        assert 'palInstanceUp."shop" true' in first
        assert "palInstanceRequests" not in first  # v1 has no Counter64
        system = host.ask("snmpwalk", "-On", "-m", "", ".1.3.6.1.2.1.1")
        assert 'STRING: "www1"' in system or "STRING: www1" in system
        assert f"OID: .{'.'.join(map(str, DEFAULT_BASE))}" in system
        assert host.ask("snmpget", "-Oqv", "-m", "", ".1.3.6.1.2.1.11.1.0").isdigit()


def test_a_tenant_sees_its_instance_and_nobody_elses(programs: Runner, host: Host) -> None:
    with stand_in(programs.runtime, "shop"), stand_in(programs.runtime, "blog") as other:
        set_value(other.segment, 7, snmp.GAUGE32, 4711)
        wait_until(lambda: host.value('palInstanceUp."blog"') == "true", "the blog")
        wait_until(lambda: host.value('palInstanceUp."shop"') == "true", "the shop")
        own = host.ask("snmpwalk", "-On", "-m", "", ".1", community="tenant@shop")
        assert own.count("35156.17") == own.count("\n") + 1 == 8
        assert "4711" not in own
        for community in ("tenant", "tenant@blog", "tenant@", "@shop", "foo", "foo@shop", "public@nobody"):
            assert "Timeout" in host.ask("snmpget", "PALATINE-MIB::palHostVersion.0", community=community, tries=1)
        assert "4711" in host.ask("snmpwalk", "-On", "-m", "", ".1", community="public@blog")


def test_an_app_that_is_killed_is_down_and_counters_outlive_the_agent(programs: Runner, host: Host) -> None:
    with stand_in(programs.runtime, "shop") as one:
        set_requests(one.segment, 0, 99)
        wait_until(lambda: host.value('palInstanceUp."shop"') == "true", "the shop")
        assert host.agent.stop(signal.SIGKILL) == -signal.SIGKILL
        host.start()
        wait_until(lambda: host.value('palInstanceRequests."shop"') == "99 requests", "the counter again")
        one.fall_silent()
        one.segment.close(unlink=False)
        wait_until(lambda: host.value('palInstanceUp."shop"') == "false", "the shop is seen down")
        assert host.value('palInstanceRequests."shop"') == "99 requests"
        wait_until(lambda: host.value('palInstanceAge."shop"') not in {"0 seconds", ""}, "its values age")


# --- Debian's snmpd in front ------------------------------------------------------------------------------------------

V3 = ("-l", "authPriv", "-u", "ops", "-a", "SHA", "-A", "authpassphrase", "-x", "AES", "-X", "privpassphrase")


@pytest.fixture
def snmpd(programs: Runner, host: Host) -> int:
    """snmpd on a port of its own, with seed 000's lines for the host's socket; the port."""
    port = free_port(socket.SOCK_DGRAM)
    shipped = (ROOT / "deploy" / "snmpd" / "snmpd.conf").read_text()
    shipped = shipped.replace("-c foo 127.0.0.1:2222", f"-c public 127.0.0.1:{host.port}")
    user = "createUser ops SHA authpassphrase AES privpassphrase\nrouser ops authPriv .1\n"
    start_snmpd(programs, port, f"rocommunity front 127.0.0.1\n{user}{shipped}", "usmUser")
    return port


def through(port: int, tool: str, *words: str, version: str = "2c") -> str:
    access = V3 if version == "3" else ("-c", "front")
    done = run(
        tool, "-v", version, *access, "-t", "2", "-r", "3", *words[:-1], f"127.0.0.1:{port}", words[-1],
        check=False, env=NAMES,
    )  # fmt: skip
    return (done.stdout + done.stderr).strip()


@pytest.mark.parametrize("version", ["1", "2c", "3"])
def test_the_tables_through_snmpd(programs: Runner, host: Host, snmpd: int, version: str) -> None:
    def ask(tool: str, *words: str) -> str:
        return through(snmpd, tool, *words, version=version)

    with stand_in(programs.runtime, "shop") as one:
        wait_until(lambda: ask("snmpget", "-Oqv", 'PALATINE-MIB::palInstanceUp."shop"') == "true", "the shop")
        assert ask("snmpgetnext", "-OSq", "PALATINE-MIB::palInstanceUp") == 'PALATINE-MIB::palInstanceUp."shop" true'
        walk = ask("snmpwalk", "-OSq", "PALATINE-MIB::palWorkerTable")
        assert walk.count("palWorkerPid.") == 4
        assert walk.count("palWorkerRequests.") == (0 if version == "1" else 4)
        table = ask("snmptable", "-Ci", "-CH", "-Cf", "|", "PALATINE-MIB::palSocketTable")
        assert table.split("|")[0] == '"shop".1'
        if version != "1":
            assert ask("snmpbulkwalk", "-OSq", "PALATINE-MIB::palWorkerTable") == walk
        if version == "3":
            set_requests(one.segment, 0, 7)
            host.agent.stop(signal.SIGKILL)
            host.start()
            name = 'PALATINE-MIB::palInstanceRequests."shop"'
            wait_until(lambda: ask("snmpget", "-Oqv", name) == "7 requests", "the agent is asked again")
