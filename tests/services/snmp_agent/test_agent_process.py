"""The agent as a program, asked by net-snmp's tools: directly, and through Debian's snmpd."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from palatine.bus import request
from palatine.codec import snmp
from palatine.counters import SegmentView
from running import Runner, Running, free_port, run, wait_until
from snmp_master import BASE, StandInMaster, set_requests, set_value, stand_in
from snmpd import start_snmpd

pytestmark = pytest.mark.interop
QUIET = {**os.environ, "MIBS": ""}
SNMPD_CONF = Path(__file__).parents[3] / "deploy" / "snmpd" / "snmpd.conf"


def tool(name: str, port: int, *words: str, version: str = "2c", community: str = "foo", tries: int = 1) -> str:
    """What a tool of net-snmp prints; names below uWSGI's base are shown from there, a walk without its last word."""
    options = ["-v", version, "-c", community, "-On", "-t", "1", "-r", str(tries - 1)]
    done = run(name, *options, f"127.0.0.1:{port}", *words, check=False, env=QUIET)
    printed = (done.stdout + done.stderr).replace(f".{BASE}", "~").strip()
    return printed.removesuffix(f"\n{NO_MORE}").removesuffix("\nEnd of MIB") if name.endswith("walk") else printed


def names(*suffixes: str) -> list[str]:
    return [f".{BASE}.{suffix}" for suffix in suffixes]


@pytest.fixture
def master(programs: Runner) -> Iterator[StandInMaster]:
    with stand_in(programs.runtime) as made:
        yield made


@pytest.fixture
def agent(programs: Runner, master: StandInMaster) -> Running:
    running = started(programs)
    assert str(master.port) in running.output()
    return running


def started(programs: Runner) -> Running:
    """An agent that serves all the instances there are."""
    instances = len(list((programs.runtime / "i").iterdir()))
    running = programs.start("palatine-snmp-agent")
    wait_until(lambda: running.output().count('"instance.serving"') >= instances, f"serving:\n{running.output()}")
    return running


VALUES = "~.2.2 = Counter64: 18446744073709551615\n~.2.40 = Gauge32: 77"
WALK = f"""~.1.1 = Counter64: 1
~.1.31 = Counter64: 1
~.1.32 = Counter64: 0
~.1.33 = Counter64: 0
~.1.34 = Counter64: 0
{VALUES}"""
NO_MORE = "~.2.40 = No more variables left in this MIB View (It is past the end of the MIB tree)"

ASKED = [
    ("snmpget", "2c", names("1.1"), "~.1.1 = Counter64: 1"),
    (
        "snmpget",
        "2c",
        names("1.1", "2.40", "1.32"),
        "~.1.1 = Counter64: 1\n~.2.40 = Gauge32: 77\n~.1.32 = Counter64: 0",
    ),
    ("snmpget", "2c", names("2.1"), "~.2.1 = No Such Instance currently exists at this OID"),
    ("snmpget", "2c", names("9"), "~.9 = No Such Object available on this agent at this OID"),
    ("snmpget", "1", names("1.1"), "~.1.1 = Counter64: 1"),
    ("snmpget", "1", names("2.40"), "~.2.40 = Gauge32: 77"),
    ("snmpget", "1", names("2.40", "2.41"), "noSuchName"),
    ("snmpgetnext", "2c", names("1.1"), "~.1.31 = Counter64: 1"),
    ("snmpgetnext", "2c", names("2.40"), NO_MORE),
    ("snmpgetnext", "1", names("1.1"), "~.2.40 = Gauge32: 77"),
    ("snmpgetnext", "1", names("2.40"), "noSuchName"),
    ("snmpwalk", "2c", [f".{BASE}"], WALK),
    ("snmpwalk", "1", [f".{BASE}"], "~.2.40 = Gauge32: 77"),
    ("snmpwalk", "2c", names("2"), VALUES),
    ("snmpwalk", "2c", ["."], WALK),
    ("snmpbulkwalk", "2c", [f".{BASE}"], WALK),
    ("snmpbulkwalk", "2c", ["-Cr100", f".{BASE}"], WALK),
    (
        "snmpbulkget",
        "2c",
        ["-Cn1", "-Cr2", *names("1", "2")],
        "~.1.1 = Counter64: 1\n" + "\n".join(WALK.split("\n")[-2:]),
    ),
    ("snmpset", "2c", [*names("2.40"), "u", "5"], "notWritable"),
    ("snmpset", "1", [*names("2.40"), "u", "5"], "noSuchName"),
    ("snmpset", "2c", [*names("9.9"), "s", "x"], "notWritable"),
]


@pytest.mark.usefixtures("agent")
def test_net_snmps_tools_get_what_they_ask_for(master: StandInMaster) -> None:
    for name, version, words, printed in ASKED:
        said = tool(name, master.port, *words, version=version)
        assert said == printed or (printed.isalpha() and printed in said), f"{name} -v {version} {words}: {said}"
    assert tool("snmpget", master.port, *names("2.40")) == "~.2.40 = Gauge32: 77"
    set_value(master.segment, 40, snmp.GAUGE32, 2**32 - 1)
    assert tool("snmpget", master.port, *names("2.40")) == "~.2.40 = Gauge32: 4294967295"


async def test_strangers_get_silence_and_the_agent_knows_of_them(master: StandInMaster, agent: Running) -> None:
    for community, version in (("bar", "2c"), ("bar", "1"), ("", "2c")):
        assert "Timeout" in tool("snmpget", master.port, *names("1.1"), version=version, community=community)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as rude:
        for octets in (b"", b"0", b"hello", bytes.fromhex("30290201030403666f6f")):
            rude.sendto(octets, ("127.0.0.1", master.port))
    assert tool("snmpget", master.port, *names("1.1")) == "~.1.1 = Counter64: 1"
    directory = master.directory.parents[1] / "snmp-agent"
    status: dict[str, Any] = await request(directory / "ctl", "status")
    (listed,) = status["sockets"]
    assert listed["instance"] == "app"
    assert listed["address"] == f"127.0.0.1:{master.port}"
    source = status["sources"]["127.0.0.1"]
    assert (source["bad_communities"], source["malformed"], source["replies"]) == (3, 4, 1)
    with SegmentView.open(directory / "seg") as view:
        counted = view.row("agent")
        assert view.row("daemon")["instances"] == 1
    assert {name: counted[name] for name in ("in_bad_community_names", "in_asn_parse_errs", "get_requests")} == {
        "in_bad_community_names": 3,
        "in_asn_parse_errs": 4,
        "get_requests": 1,
    }
    assert counted["endpoints"] == 1
    assert "foo" not in agent.output()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_an_agent_that_ends_is_replaced_without_the_app_noticing(
    programs: Runner, master: StandInMaster, agent: Running, number: signal.Signals
) -> None:
    assert tool("snmpget", master.port, *names("1.1")) == "~.1.1 = Counter64: 1"
    code = agent.stop(number)
    assert code == (-signal.SIGKILL if number == signal.SIGKILL else 0)
    set_requests(master.segment, 1, 41)
    options = ["-v2c", "-cfoo", "-On", "-t30", "-r0", f"127.0.0.1:{master.port}", *names("1.1")]
    with subprocess.Popen(["snmpget", *options], env=QUIET, stdout=subprocess.PIPE, text=True) as waiting:
        started(programs)
        assert waiting.communicate(timeout=40)[0] == f".{BASE}.1.1 = Counter64: 42\n"


def test_the_agent_may_start_before_any_instance(programs: Runner) -> None:
    agent = programs.start("palatine-snmp-agent")
    agent.wait_for("daemon.ready")
    with stand_in(programs.runtime, "late") as late:
        assert tool("snmpget", late.port, *names("1.1"), tries=5) == "~.1.1 = Counter64: 1"


def test_a_second_agent_is_refused(programs: Runner, agent: Running) -> None:
    second = programs.start("palatine-snmp-agent")
    assert second.wait() == 75
    assert agent.process.poll() is None


def test_a_bad_config_names_file_line_and_column(programs: Runner, tmp_path: Path) -> None:
    config = tmp_path / "agent.yaml"
    config.write_text("# comment\nmax-reply: 12\n")
    refused = programs.start("palatine-snmp-agent", "--config", str(config))
    assert refused.wait() == 78
    assert f"{config}:2:" in refused.output()
    config.write_text("max-replly: 1400\n")
    refused = programs.start("palatine-snmp-agent", "--config", str(config))
    assert refused.wait() == 78
    assert "did you mean 'max-reply'" in refused.output()


def test_replies_are_as_long_as_the_config_says_also_after_a_reload(
    programs: Runner, master: StandInMaster, tmp_path: Path
) -> None:
    for number in range(1, 101):
        set_value(master.segment, number, snmp.COUNTER64, number)
    config = tmp_path / "agent.yaml"
    config.write_text("max-reply: 8000\n")
    agent = programs.start("palatine-snmp-agent", "--config", str(config))
    agent.wait_for("instance.serving")

    def rows() -> int:
        return tool("snmpbulkget", master.port, "-Cr100", *names("2"), tries=5).count("\n") + 1

    assert rows() == 100
    config.write_text("max-reply: 484\n")
    agent.send(signal.SIGHUP)
    wait_until(lambda: rows() < 20, "the reload is in force")
    assert agent.stop(signal.SIGTERM) == 0


def test_the_agent_loads_nothing_of_other_daemons_or_of_v3() -> None:
    program = "import sys, json, palatine_snmp_agent.__main__; print(json.dumps(sorted(sys.modules)))"
    loaded = {name.split(".")[0] for name in json.loads(run(sys.executable, "-c", program).stdout)}
    others = {"app_server", "stats_exporter", "alarm_daemon", "emperor"}
    assert loaded.isdisjoint({f"palatine_{name}" for name in others})
    assert loaded.isdisjoint(
        {"pysnmp", "cryptography", "httpx", "hypercorn", "prometheus_client", "re2", "asyncpg", "motor", "aiormq"}
    )


def test_help_says_what_is_served(programs: Runner) -> None:
    done = programs.start("palatine-snmp-agent", "--help")
    assert done.wait() == 0
    assert "SNMPv1, v2c and v3" in done.output()


# --- Debian's snmpd in front, with seed 000's lines -----------------------------------------------------------------


@pytest.fixture
def snmpd(programs: Runner, master: StandInMaster) -> int:
    """snmpd on a port of its own, proxying to the app's socket; the port."""
    port = free_port(socket.SOCK_DGRAM)
    shipped = SNMPD_CONF.read_text().replace("127.0.0.1:2222", f"127.0.0.1:{master.port}")
    start_snmpd(programs, port, f"rocommunity front 127.0.0.1\n{shipped}")
    wait_until(lambda: "Timeout" not in tool("snmpget", port, ".1.3.6.1.2.1.1.3.0", community="front"), "snmpd answers")
    return port


def test_seed_000_through_snmpd(programs: Runner, master: StandInMaster, agent: Running, snmpd: int) -> None:
    def through(name: str, *words: str, version: str = "2c") -> str:
        return tool(name, snmpd, *words, version=version, community="front", tries=3)

    assert through("snmpget", *names("1.1")) == "~.1.1 = Counter64: 1"
    assert through("snmpget", *names("1.1", "2.40", "1.31")) == (
        "~.1.1 = Counter64: 1\n~.2.40 = Gauge32: 77\n~.1.31 = Counter64: 1"
    )
    assert "No Such Instance" in through("snmpget", *names("2.1"))
    set_value(master.segment, 40, snmp.GAUGE32, 2**31)
    assert through("snmpget", *names("2.2", "2.40")) == VALUES.replace("77", "2147483648")
    set_value(master.segment, 40, snmp.GAUGE32, 77)
    assert through("snmpget", *names("2.40"), version="1") == "~.2.40 = Gauge32: 77"
    assert through("snmpgetnext", *names("1.1")) == "~.1.31 = Counter64: 1"
    assert through("snmpwalk", f".{BASE}") == WALK
    assert through("snmpbulkwalk", f".{BASE}") == WALK
    assert through("snmpwalk", f".{BASE}", version="1") == "~.2.40 = Gauge32: 77"
    agent.stop(signal.SIGKILL)
    set_value(master.segment, 40, snmp.GAUGE32, 78)
    started(programs)
    assert through("snmpget", *names("2.40")) == "~.2.40 = Gauge32: 78"
    assert "Error" in through("snmpset", *names("2.40"), "u", "5")
    assert through("snmpget", *names("2.40")) == "~.2.40 = Gauge32: 78"
