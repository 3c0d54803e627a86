"""The units in deploy/systemd, judged by systemd itself."""

import configparser
import subprocess
from pathlib import Path

import pytest

UNITS = Path(__file__).parents[2] / "deploy" / "systemd"
SERVICES = sorted(path.name for path in UNITS.glob("*.service"))


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A root directory in which palatine is installed where the units expect it."""
    for name in ("opt/palatine/bin", "bin", "etc/systemd/system", "usr/lib/systemd/system"):
        (tmp_path / name).mkdir(parents=True)
    commands = [f"opt/palatine/bin/{name.removesuffix('.service').rstrip('@')}" for name in SERVICES]
    for name in (*commands, "bin/chgrp", "bin/kill"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    for unit in (*UNITS.glob("*.service"), *UNITS.glob("*.socket"), *UNITS.glob("*.target")):
        (tmp_path / "etc/systemd/system" / unit.name).write_text(unit.read_text())
    for target in ("basic", "network", "multi-user", "sysinit", "shutdown", "sockets", "timers", "paths", "slices"):
        (tmp_path / f"usr/lib/systemd/system/{target}.target").write_text(f"[Unit]\nDescription={target}\n")
    return tmp_path


def verify(machine: Path, *units: str) -> "subprocess.CompletedProcess[str]":
    command = ["systemd-analyze", "verify", "--man=no", f"--root={machine}", *units]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_there_is_a_unit_for_each_daemon() -> None:
    daemons = ("alarm-daemon", "app-server@", "emperor", "snmp-agent", "stats-exporter")
    assert [f"palatine-{daemon}.service" for daemon in daemons] == SERVICES


@pytest.mark.interop
def test_systemd_finds_nothing_wrong(machine: Path) -> None:
    done = verify(
        machine, *(name.replace("@.", "@hello.") for name in SERVICES), "palatine-snmp-agent.socket", "palatine.target"
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.interop
def test_the_judge_would_see_a_fault(machine: Path) -> None:
    unit = machine / "etc/systemd/system/palatine-emperor.service"
    unit.write_text(unit.read_text().replace("Type=notify", "Type=notfy"))
    assert "notfy" in verify(machine, "palatine-emperor.service").stderr


@pytest.mark.parametrize("name", SERVICES)
def test_every_unit_keeps_the_rules(name: str) -> None:
    unit = configparser.RawConfigParser(strict=False)
    unit.optionxform = str  # type: ignore[assignment,method-assign] # systemd's names have capitals
    unit.read(UNITS / name)
    service = unit["Service"]
    assert service["Type"] == "notify"
    assert "78" in service["RestartPreventExitStatus"].split()
    assert "KillSignal" not in service  # TERM drains
    assert service["Environment"] == "PALATINE_RUNTIME_DIR=/run/palatine PALATINE_STATE_DIR=/var/lib/palatine"
    daemon = name.removeprefix("palatine-").removesuffix(".service")
    if not daemon.endswith("@"):
        assert service["RuntimeDirectory"] == service["StateDirectory"] == f"palatine/{daemon}"
        assert "WatchdogSec" in service
