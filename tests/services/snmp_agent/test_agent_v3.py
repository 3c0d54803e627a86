"""The agent asked by net-snmp's tools for what only the host's own configuration gives: v3, communities, contexts."""

import os
import signal
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from palatine.bus import request
from palatine.counters import SegmentView
from running import Runner, Running, anyones_python, free_port, import_path, program, run, wait_until
from snmp_master import BASE, StandInMaster, stand_in

pytestmark = pytest.mark.interop
QUIET = {**os.environ, "MIBS": ""}
CONFIG = """
listen: ["127.0.0.1:{port}", "[::1]:{port}"]
rate: {{per-second: {rate}}}
views:
  custom: {{include: [1.3.6.1.4.1.35156.17.2]}}
communities:
  - {{community: pub, sources: [127.0.0.1, "::1"]}}
  - {{community: far, sources: [192.0.2.0/24]}}
  - {{community: some, view: custom, contexts: [app]}}
groups:
  watchers: {{level: authNoPriv, view: custom, contexts: [app]}}
users:
  - {{name: plain}}
  - {{name: sha1, auth: sha, auth-passphrase: maplesyrup}}
  - {{name: sha224, auth: sha224, auth-passphrase: maplesyrup}}
  - {{name: sha384, auth: sha384, auth-passphrase: maplesyrup}}
  - {{name: aes128, auth: sha256, auth-passphrase: maplesyrup, priv: aes128, priv-passphrase: privpriv1}}
  - {{name: aes256, auth: sha512, auth-passphrase: maplesyrup, priv: aes256, priv-passphrase: privpriv1}}
  - {{name: blumenthal, auth: sha, auth-passphrase: maplesyrup, priv: aes256, priv-passphrase: privpriv1}}
  - {{name: reeder, auth: sha, auth-passphrase: maplesyrup, priv: aes256c, priv-passphrase: privpriv1}}
  - {{name: eve, auth: sha, auth-passphrase: maplesyrup, group: watchers}}
"""


class Host(NamedTuple):
    """An agent with sockets of its own, and one app."""

    agent: Running
    master: StandInMaster
    port: int
    config: Path

    @property
    def ctl(self) -> Path:
        return self.master.directory.parents[1] / "snmp-agent" / "ctl"


@pytest.fixture
def host(programs: Runner, tmp_path: Path) -> Iterator[Host]:
    port = free_port(socket.SOCK_DGRAM)
    config = tmp_path / "agent.yaml"
    config.write_text(CONFIG.format(port=port, rate=5000))
    with stand_in(programs.runtime) as master:
        agent = programs.start("palatine-snmp-agent", "--config", str(config))
        agent.wait_for("instance.serving", 30)
        yield Host(agent, master, port, config)


def asked(tool: str, address: str | int, *words: str, tries: int = 5) -> str:
    where = f"127.0.0.1:{address}" if isinstance(address, int) else address
    done = run(tool, "-On", "-t1", f"-r{tries - 1}", *words[:-1], where, words[-1], check=False, env=QUIET)
    return (done.stdout + done.stderr).replace(f".{BASE}", "~").strip()


def v3(user: str, auth: str = "", priv: str = "", passphrase: str = "maplesyrup", context: str = "") -> list[str]:
    level = "authPriv" if priv else "authNoPriv" if auth else "noAuthNoPriv"
    words = ["-v3", "-l", level, "-u", user]
    words += ["-a", auth, "-A", passphrase] if auth else []
    words += ["-x", priv, "-X", "privpriv1"] if priv else []
    return words + (["-n", context] if context else [])


NAME = f".{BASE}.1.1"
ONE = "~.1.1 = Counter64: 1"
USERS = [
    ("plain", "", ""),
    ("sha1", "SHA", ""),
    ("sha224", "SHA-224", ""),
    ("sha384", "SHA-384", ""),
    ("aes128", "SHA-256", "AES"),
    ("aes256", "SHA-512", "AES-256"),
    ("blumenthal", "SHA", "AES-256"),
    ("reeder", "SHA", "AES-256-C"),
]


def test_v3_at_every_level_on_an_apps_socket_and_the_hosts(host: Host) -> None:
    for user, auth, priv in USERS:
        assert asked("snmpget", host.master.port, *v3(user, auth, priv), NAME) == ONE, user
        assert asked("snmpget", host.port, *v3(user, auth, priv, context="app"), NAME) == ONE, user
    walk = asked("snmpbulkwalk", host.master.port, *v3("aes256", "SHA-512", "AES-256"), f".{BASE}.2")
    assert walk.split("\n")[0] == "~.2.2 = Counter64: 18446744073709551615"
    assert asked("snmpwalk", host.master.port, *v3("aes128", "SHA-256", "AES"), f".{BASE}.2") == walk
    assert asked("snmpget", f"udp6:[::1]:{host.port}", *v3("plain", context="app"), NAME) == ONE
    refused = {
        "Authentication failure": v3("sha1", "SHA", passphrase="maplesyrux"),
        "Unknown user name": v3("nobody", "SHA"),
        "Unsupported security level": v3("sha1", "SHA", "AES"),
        "authorizationError": v3("aes128", "SHA-256"),
    }
    for message, words in refused.items():
        assert message in asked("snmpget", host.master.port, *words, NAME), message
    assert "Bad context" in asked("snmpget", host.port, *v3("sha1", "SHA", context="other"), NAME)
    assert "authorizationError" in asked("snmpget", host.port, *v3("eve", "SHA"), NAME)
    assert "No Such Object" in asked("snmpget", host.port, *v3("eve", "SHA", context="app"), NAME)
    writes = v3("sha1", "SHA")
    done = run(
        "snmpset", "-t2", *writes, f"127.0.0.1:{host.master.port}", f".{BASE}.2.40", "u", "5", check=False, env=QUIET
    )
    assert "notWritable" in done.stderr
    assert asked("snmpget", host.master.port, *v3("plain"), f".{BASE}.2.40") == "~.2.40 = Gauge32: 77"
    assert "Traceback" not in host.agent.output()
    assert "maplesyrup" not in host.agent.output()


def test_communities_of_the_host_name_instances_and_come_from_their_networks(host: Host) -> None:
    def got(community: str, name: str = NAME, version: str = "2c", address: str | int = host.port) -> str:
        return asked("snmpget", address, f"-v{version}", "-c", community, name)

    assert got("pub@app") == got("pub@app", version="1") == got("pub@app", address=f"udp6:[::1]:{host.port}") == ONE
    assert "No Such Object" in got("some@app")
    assert got("some@app", f".{BASE}.2.40") == "~.2.40 = Gauge32: 77"
    for community in ("far", "far@app", "pub@other", "foo", "some"):
        assert "Timeout" in asked("snmpget", host.port, "-v2c", "-c", community, NAME, tries=1), community


@pytest.mark.parametrize(
    ("user", "auth", "priv"),
    [
        ("plain", "", ""),
        ("sha384", "sha384", ""),
        ("aes128", "sha256", "aes128"),
        ("aes256", "sha512", "aes256"),
        ("reeder", "sha", "aes256c"),
    ],
)
def test_palatine_s_own_manager_asks_by_v3(host: Host, user: str, auth: str, priv: str) -> None:
    """`palatine snmp` has pysnmp ask: an implementation that is neither ours nor net-snmp's."""
    secrets = {"PALATINE_SNMP_AUTH": "maplesyrup" if auth else "", "PALATINE_SNMP_PRIV": "privpriv1" if priv else ""}
    protocols = (*(("-a", auth) if auth else ()), *(("-x", priv) if priv else ()))
    words = (f"127.0.0.1:{host.port}", "-u", user, *protocols, "--timeout", "5")
    environ = {**os.environ, **secrets}
    with SegmentView.open(host.ctl.with_name("seg")) as view:
        whole = run("palatine", "snmp", "walk", *words, "palatine", env=environ).stdout
        assert "palInstanceUp.app = yes" in whole
        assert whole.count("\n") > 200  # eight steps and more, and the agent was asked once who it is
        assert view.row("agent")["usm_unknown_engine_ids"] == 1
    asked_for = ("palatine", "snmp", "get", *words, "-n", "app", "uwsgiRequests", "uwsgiCustom.2", "uwsgiCustom.40")
    assert run(*asked_for, env=environ).stdout.splitlines() == [
        "uwsgiRequests = 1",
        f"uwsgiCustom.2 = {2**64 - 1}",  # which pysnmp would take for -1 as uWSGI writes it, and drop the reply
        "uwsgiCustom.40 = 77",
    ]
    if auth:
        wrong = run(*asked_for, env={**environ, "PALATINE_SNMP_AUTH": "not the one"}, check=False)
        assert (wrong.returncode, wrong.stdout) == (69, "")
        assert "Wrong SNMP PDU digest" in wrong.stderr


async def test_a_restart_keeps_the_engine_and_a_reload_takes_up_users(programs: Runner, host: Host) -> None:
    def engine() -> Any:
        return wait_until(lambda: found if (found := status_file()) else None, "an engine")

    def status_file() -> str:
        return (programs.state / "snmp-agent" / "engine.json").read_text()

    before = engine()
    host.agent.stop(signal.SIGKILL)
    again = programs.start("palatine-snmp-agent", "--config", str(host.config))
    again.wait_for("instance.serving", 30)
    assert engine() == before.replace('"boots": 1', '"boots": 2')
    status = await request(host.ctl, "status")
    assert (status["engine"]["boots"], status["engine"]["id"] in before) == (2, True)
    assert [one["address"] for one in status["sockets"] if one.get("host")] == [
        f"127.0.0.1:{host.port}",
        f"[::1]:{host.port}",
    ]
    assert asked("snmpget", host.port, *v3("aes128", "SHA-256", "AES", context="app"), NAME) == ONE
    text = host.config.read_text()
    host.config.write_text(text.replace("name: plain", "name: new"))
    again.send(signal.SIGHUP)
    wait_until(lambda: asked("snmpget", host.port, *v3("new", context="app"), NAME) == ONE, "the new user is known", 30)
    assert "Unknown user" in asked("snmpget", host.port, *v3("plain", context="app"), NAME)
    host.config.write_text(text.replace("name: plain", "name: new").replace('["127.0.0.1:', '["localhost:'))
    again.send(signal.SIGHUP)
    wait_until(lambda: again.output().count('"config.reloaded"') == 2, "the same sockets, by name", 30)
    assert asked("snmpget", host.port, *v3("new", context="app"), NAME) == ONE
    host.config.write_text(text.replace('["127.0.0.1', '["192.0.2.77:1", "127.0.0.1'))
    again.send(signal.SIGHUP)
    refused = again.wait_for("config.refused", 30)
    assert "192.0.2.77:1 cannot be bound" in refused
    assert "`ip address` shows" in refused
    assert asked("snmpget", host.port, *v3("new", context="app"), NAME) == ONE


async def test_a_reload_takes_up_another_engine_base_and_system(programs: Runner, host: Host) -> None:
    def got(name: str) -> str:
        return asked("snmpget", host.port, *v3("aes128", "SHA-256", "AES"), name)

    base = "1.3.6.1.4.1.99999.5"
    before = (await request(host.ctl, "status"))["engine"]
    version, contact = f".{base}.1.1.1.0", ".1.3.6.1.2.1.1.4.0"
    assert "No Such Object" in got(version)
    named = {"engine-id": "800000090455667788", "base": base, "system": "{contact: ops@example.org}"}
    text = host.config.read_text()
    host.config.write_text(text + "".join(f"{key}: {value}\n" for key, value in named.items()))
    host.agent.send(signal.SIGHUP)
    host.agent.wait_for("config.reloaded")
    assert "ops@example.org" in got(contact)  # a manager that knows nothing; and one that knew the engine before:
    assert "No Such" not in got(version)
    engine = (await request(host.ctl, "status"))["engine"]
    assert (engine["id"], engine["boots"]) == (named["engine-id"], before["boots"] + 1)
    assert asked("snmpget", host.port, *v3("sha1", "SHA-1", context="app"), NAME) == ONE
    stale = asked("snmpget", host.port, *v3("sha1", "SHA-1"), "-e", f"0x{before['id']}", NAME, tries=1)
    assert "Timeout" in stale or "engine" in stale.lower()
    with SegmentView.open(host.ctl.with_name("seg")) as view:
        assert view.row("agent")["engine_boots"] == engine["boots"]
    host.config.write_text(text.replace('["127.0.0.1', '["192.0.2.77:1", "127.0.0.1') + "engine-id: 800000090411\n")
    host.agent.send(signal.SIGHUP)
    host.agent.wait_for("config.refused")
    assert (await request(host.ctl, "status"))["engine"]["id"] == named["engine-id"]
    assert named["engine-id"] in (programs.state / "snmp-agent" / "engine.json").read_text()
    assert "ops@example.org" in got(contact)


def test_a_source_that_asks_too_fast_is_throttled(host: Host) -> None:
    host.config.write_text(host.config.read_text().replace("5000", "10"))
    host.agent.send(signal.SIGHUP)
    host.agent.wait_for("config.reloaded", 30)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as rude:
        for _ in range(200):
            rude.sendto(b"hello", ("127.0.0.1", host.port))
    with SegmentView.open(host.ctl.with_name("seg")) as view:
        wait_until(lambda: view.row("agent")["in_pkts"] == 200, "all were counted", 30)
        assert view.row("agent")["throttled"] >= 100
        # Whoever sent that in the name of a manager has not silenced him, who knows a secret.
        before = view.row("agent")["throttled"]
        for words in (("-v2c", "-cpub@app"), v3("aes128", "SHA-256", "AES", context="app")):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as rude:
                for _ in range(100):
                    rude.sendto(b"hello", ("127.0.0.1", host.port))
            assert asked("snmpget", host.port, *words, NAME) == ONE
        assert view.row("agent")["throttled"] > before


@pytest.mark.parametrize(
    ("address", "remedy"),
    [
        ("192.0.2.77:1161", "`ip address` shows"),
        ("no-such-host.invalid:1161", "getent"),
        ("127.0.0.1:{taken}", "ss -lunp"),
    ],
)
def test_an_address_that_cannot_be_bound_is_refused_with_a_remedy(
    programs: Runner, tmp_path: Path, address: str, remedy: str
) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        config = tmp_path / "agent.yaml"
        config.write_text(f"listen:\n  - {address.format(taken=taken.getsockname()[1])}\n")
        agent = programs.start("palatine-snmp-agent", "--config", str(config))
        assert agent.wait(30) == 78
    assert f"{config}:2:5" in agent.output()
    assert remedy in agent.output()


def test_an_apps_own_agent_leaves_the_hosts_sockets_alone(programs: Runner, tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        config = tmp_path / "agent.yaml"
        config.write_text(f"listen: ['127.0.0.1:{taken.getsockname()[1]}']\n")
        place = {"PALATINE_RUNTIME_DIR": str(programs.runtime / "private-1")}
        agent = programs.start("palatine-snmp-agent", "--config", str(config), environ=place)
        agent.wait_for("daemon.ready", 30)


def inheriting(programs: Runner, number: int, *more: str) -> Running:
    """An agent that is given a descriptor as systemd gives a socket: as number 3, with sd_listen_fds(3)'s variables."""
    words = f"exec 3<&{number}; LISTEN_PID=$$ LISTEN_FDS=1 exec {program('palatine-snmp-agent')} {' '.join(more)}"
    return programs.start("bash", "-c", words, pass_fds=[number])


def test_a_socket_of_systemds_is_served_and_what_is_none_refused(programs: Runner, tmp_path: Path) -> None:
    config = tmp_path / "agent.yaml"
    config.write_text("communities: [{community: pub}]\n")
    with stand_in(programs.runtime), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        agent = inheriting(programs, sock.fileno(), "--config", str(config))
        agent.wait_for("instance.serving", 30)
        assert asked("snmpget", sock.getsockname()[1], "-v2c", "-cpub@app", NAME) == ONE
        assert agent.stop(signal.SIGTERM) == 0
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as wrong:
        refused = inheriting(programs, wrong.fileno())
        assert refused.wait(30) == 78
        assert "ListenDatagram=" in refused.output()


@pytest.mark.root
def test_a_port_below_1024_needs_a_capability_and_says_so(programs: Runner) -> None:
    """In a network of the test's own, where port 161 is nobody's and privileged."""
    start = "ip link set lo up; echo 1024 > /proc/sys/net/ipv4/ip_unprivileged_port_start; exec"
    as_nobody = "setpriv --reuid=65534 --regid=65534 --clear-groups"
    with tempfile.TemporaryDirectory(prefix="pal-") as name:
        home = Path(name)
        (home / "agent.yaml").write_text("listen: ['127.0.0.1:161']\n")
        for path in (home, home / "agent.yaml"):
            os.chown(path, 65534, 65534)
        command = f"{' '.join(anyones_python())} -m palatine_snmp_agent --config {home / 'agent.yaml'}"
        environ = {"PYTHONPATH": import_path(), "PALATINE_RUNTIME_DIR": name, "PALATINE_STATE_DIR": name}
        for capability, ready in (("", False), ("--inh-caps=+net_bind_service --ambient-caps=+net_bind_service", True)):
            words = f"{start} {as_nobody} {capability} {command}"
            agent = programs.start("unshare", "--net", "bash", "-c", words, environ=environ, cwd=home)
            if ready:
                agent.wait_for("daemon.ready", 30)
                assert agent.stop(signal.SIGTERM) == 0
            else:
                assert agent.wait(30) == 78, agent.output()
                assert "CAP_NET_BIND_SERVICE" in agent.output()
