"""Notifications as net-snmp's snmptrapd takes them: v1, v2c and v3, traps and informs, through kills and restarts."""

import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

from palatine.bus import request
from palatine.counters import SegmentView
from palatine.errors import PeerError
from palatine_snmp_agent.v3_peer import V3Peer
from running import Runner, Running, free_port, run, wait_until
from snmp_master import BASE, StandInMaster, stand_in

pytestmark = pytest.mark.interop
ENGINE = "8000895405aabbccddee"
OURS = f".{BASE}.1000"
TRAPD = f"""
authCommunity log trapper
createUser -e 0x{ENGINE} ops SHA-256 maplesyrup AES privpriv1
createUser inf SHA-512 maplesyrup AES-256 privpriv1
authUser log ops priv
authUser log inf priv
authUser log quiet noauth
createUser quiet
format1 v1 %N %w.%q %v\\n
format2 %P %v\\n
"""
AGENT = f"""
engine-id: {ENGINE}
users:
  - {{name: quiet}}
  - {{name: ops, auth: sha256, auth-passphrase: maplesyrup, priv: aes128, priv-passphrase: privpriv1}}
  - {{name: inf, auth: sha512, auth-passphrase: maplesyrup, priv: aes256, priv-passphrase: privpriv1}}
targets:
"""
TARGETS = {
    "v1": 'version: v1, community: trapper, address: "127.0.0.1:PORT"',
    "v2c": 'community: trapper, address: "127.0.0.1:PORT"',
    "inform": 'community: trapper, inform: true, timeout: 1, address: "localhost:PORT"',
    "v3": 'version: v3, user: ops, address: "127.0.0.1:PORT"',
    "v3-inform": 'version: v3, user: inf, inform: true, timeout: 1, address: "127.0.0.1:PORT"',
    "v3-open": 'version: v3, user: quiet, inform: true, timeout: 1, address: "[::1]:PORT"',
}


class Scene:
    """An agent with targets, an app, and perhaps a snmptrapd."""

    def __init__(self, programs: Runner, directory: Path, master: StandInMaster) -> None:
        self.programs = programs
        self.directory = directory
        self.master = master
        self.port = free_port(socket.SOCK_DGRAM)
        self.config = directory / "agent.yaml"

    def agent(self, *targets: str, more: str = "") -> Running:
        lines = [f"  - {{name: {name}, {TARGETS[name]}{more}}}" for name in targets]
        self.config.write_text(AGENT + "\n".join(lines).replace("PORT", str(self.port)) + "\n")
        running = self.programs.start("palatine-snmp-agent", "--config", str(self.config))
        running.wait_for("instance.serving", 30)
        return running

    def trapd(self) -> Running:
        config = self.directory / "snmptrapd.conf"
        config.write_text(TRAPD)
        running = self.programs.start(
            "snmptrapd", "-f", "-Lo", "-n", "-On", "-C", "-c", str(config),
            f"udp:127.0.0.1:{self.port}", f"udp6:[::1]:{self.port}",
            environ={"MIBS": "", "SNMP_PERSISTENT_DIR": str(self.directory / "snmptrapd")},
        )  # fmt: skip
        running.wait_for("NET-SNMP version", 30)
        return running

    def pending(self) -> int:
        with SegmentView.open(self.programs.runtime / "snmp-agent" / "seg") as view:
            return view.row("agent")["notifications_pending"]

    def segfault(self) -> None:
        cells, word = self.master.segment.cells("slots", 1), self.master.segment.word
        cells[word("slots", "last_exit_status")] = signal.SIGSEGV
        cells[word("slots", "respawn_count")] += 1

    async def raise_alarm(self, message: str, **more: Any) -> Any:
        body = {"instance": "app", "alarm": "page", "message": message, **more}
        return await request(self.programs.runtime / "snmp-agent" / "ctl", "notify", body)


@pytest.fixture
def scene(programs: Runner, tmp_path: Path) -> Iterator[Scene]:
    with stand_in(programs.runtime) as master:
        yield Scene(programs, tmp_path, master)


def lines(trapd: Running, part: str) -> list[str]:
    return [line for line in trapd.output().splitlines() if part in line]


def test_every_version_brings_every_kind(scene: Scene) -> None:
    trapd = scene.trapd()
    agent = scene.agent(*TARGETS)
    cold = ".1.3.6.1.6.3.1.1.5.1"
    wait_until(lambda: len(lines(trapd, cold)) == 5 and lines(trapd, "v1 .1.3.6.1.6.3.1.1.5 0.0"), "coldStart", 30)
    run("snmpget", "-v2c", "-cwrong", "-t0.1", "-r0", f"127.0.0.1:{scene.master.port}", f"{BASE}.1.1", check=False)
    wait_until(lambda: len(lines(trapd, 'STRING: "from 127.0.0.1"')) == 6, "authenticationFailure", 30)
    assert len(lines(trapd, "v1 .1.3.6.1.6.3.1.1.5 4.0")) == 1
    scene.segfault()
    wait_until(lambda: len(lines(trapd, "ended by SIGSEGV")) == 6, "the segfault", 30)
    carried = f'{OURS}.90.1.0 = STRING: "app"\t{OURS}.90.2.0 = Gauge32: 2\t{OURS}.90.3.0 = Gauge32: 11'
    assert len(lines(trapd, carried)) == 6
    assert len(lines(trapd, f"v1 {OURS} 6..2")) == 1
    assert len(lines(trapd, f"OID: {OURS}.0.2")) == 5
    assert len(lines(trapd, "INFORM")) == len(lines(trapd, "TRAP2")) + 3
    wait_until(lambda: scene.pending() == 0, "all informs acknowledged", 30)
    agent.send(signal.SIGHUP)
    wait_until(lambda: len(lines(trapd, "OID: .1.3.6.1.6.3.1.1.5.2")) == 5, "warmStart", 30)
    assert "Traceback" not in agent.output()
    assert agent.stop(signal.SIGTERM) == 0


@pytest.mark.parametrize("target", ["inform", "v3-inform"])
async def test_a_killed_agent_loses_no_inform(scene: Scene, target: str) -> None:
    agent = scene.agent(target)
    for number in range(12):
        assert await scene.raise_alarm(f"alarm {number}.") == {"accepted": True, "targets": 1}
    agent.stop(signal.SIGKILL)
    trapd = scene.trapd()
    scene.agent(target)
    for number in range(12):
        wait_until(lambda number=number: lines(trapd, f"alarm {number}."), f"alarm {number}", 30)  # type: ignore[misc]
    wait_until(lambda: scene.pending() == 0, "all informs acknowledged", 30)
    assert len(lines(trapd, f"OID: {OURS}.0.9")) >= 12


async def test_informs_reach_a_trapd_that_was_restarted_and_expire_without_one(scene: Scene) -> None:
    trapd = scene.trapd()
    agent = scene.agent("v3-inform", more=", expire: 5")
    await scene.raise_alarm("before")
    wait_until(lambda: lines(trapd, "before"), "the first", 30)
    trapd.stop(signal.SIGTERM)
    again = scene.trapd()
    await scene.raise_alarm("after")
    wait_until(lambda: lines(again, "after"), "the far engine's new time is learnt", 30)
    again.stop(signal.SIGTERM)
    await scene.raise_alarm("lost")
    agent.wait_for("notify.expired", 30)
    wait_until(lambda: scene.pending() == 0, "nothing is kept for ever", 30)


async def test_alarms_are_refused_where_no_target_takes_them(scene: Scene) -> None:
    agent = scene.agent("v2c", more=", events: [coldStart]")
    with pytest.raises(PeerError, match="takes alarmRaised"):
        await scene.raise_alarm("x")
    agent.stop(signal.SIGTERM)
    scene.agent("v2c", "v1")
    trapd = scene.trapd()
    with pytest.raises(PeerError, match="no target called nms"):
        await scene.raise_alarm("x", targets=["nms"])
    with pytest.raises(PeerError, match="takes texts"):
        await request(scene.programs.runtime / "snmp-agent" / "ctl", "notify", {"alarm": 7})
    assert await scene.raise_alarm("only one", targets=["v1"]) == {"accepted": True, "targets": 1}
    wait_until(lambda: lines(trapd, "only one"), "the alarm", 30)
    assert lines(trapd, "only one")[0].startswith("v1 ")


def test_a_peer_believes_nobody_about_the_time_who_is_not_authentic() -> None:
    from palatine.codec import snmp_v3, usm
    from palatine.codec.snmp import PduType, Varbind, gauge32, write_varbind
    from palatine_snmp_agent.scoped_pdu import write_pdu

    secrets = usm.secrets("sha", "maplesyrup")
    keys = secrets.towards(b"engine")

    def report(counter: bytes, flags: int, boots: int) -> bytes:
        pdu = write_pdu(PduType.REPORT, b"\0", 0, 0, write_varbind(Varbind(counter, gauge32(1))))
        security = snmp_v3.Security(b"engine", boots, 50, b"inf")
        data = snmp_v3.write_scoped(snmp_v3.Scoped(b"engine", b"", pdu))
        return usm.seal(snmp_v3.MessageV3(5, 65507, flags, security, data), keys, 0)

    peer = V3Peer(b"inf", secrets)
    assert peer.received(report(snmp_v3.UNKNOWN_ENGINE, 0, 3), 4, 9, 1.0) == ""
    assert peer.received(report(snmp_v3.UNKNOWN_ENGINE, 0, 3), 5, 9, 1.0) == "learnt"
    assert (peer.engine_id, peer._boots) == (b"engine", 3)
    assert peer.received(report(snmp_v3.NOT_IN_TIME_WINDOW, 0, 9), 5, 9, 1.0) == ""
    assert peer.received(report(snmp_v3.NOT_IN_TIME_WINDOW, snmp_v3.AUTH, 9), 5, 9, 1.0) == "learnt"
    assert peer._boots == 9
    for garbage in (b"", b"0", report(snmp_v3.WRONG_DIGEST, 0, 1)):
        assert peer.received(garbage, 5, 9, 1.0) == ""


async def test_a_target_that_does_not_resolve_is_said_once(scene: Scene) -> None:
    scene.config.write_text(
        "targets:\n  - {address: 'no-such-host.invalid:162', community: x, inform: true, timeout: 1}\n"
    )
    agent = scene.programs.start("palatine-snmp-agent", "--config", str(scene.config))
    agent.wait_for("notify.not_delivered", 30)
    with trio.fail_after(30):
        await scene.raise_alarm("kept")
    assert agent.output().count("notify.not_delivered") == 1
    assert agent.process.poll() is None
