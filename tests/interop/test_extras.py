"""`pip install ".[snmp-agent]"` into an empty environment gives a daemon that starts, and nothing of the others."""

import re
import signal
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

import pytest

from running import Runner, run, wait_until

pytestmark = [pytest.mark.interop, pytest.mark.timeout(600), pytest.mark.alone("extras")]

ROOT = Path(__file__).parents[2]
#: What must not come along with anybody but the emperor.
HEAVY = {"asyncpg", "motor", "pymongo", "aiormq"}
#: One package of each extra by which its absence is known.
NEEDS = {"snmp-agent": "pysnmp", "stats-exporter": "hypercorn", "alarm-daemon": "google-re2", "emperor": "motor"}
EXTRAS = {
    "app-server": ["--http-socket", "127.0.0.1:0", "--master"],
    "snmp-agent": [],
    "stats-exporter": [],
    "alarm-daemon": [],
    "emperor": ["--emperor", "."],
}


def test_the_extras_are_those_of_the_daemons() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        assert set(tomllib.load(file)["project"]["optional-dependencies"]) == {*EXTRAS, "all"}


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Wheels of palatine and everything pinned: fetched once, installed five times."""
    directory = tmp_path_factory.mktemp("wheels")
    pins = directory / "pins"
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins.write_text("\n".join(line.removesuffix("\\") for line in lines if line[:1].isalnum()))
    pip(sys.executable, "wheel", "--constraint", str(pins), "--wheel-dir", str(directory), f"{ROOT}[all]")
    return directory


def pip(python: str | Path, *words: str) -> str:
    command = [str(python), "-m", "pip", "--quiet", "--disable-pip-version-check", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.parametrize("extra", EXTRAS)
def test_an_extra_is_enough_for_its_daemon(programs: Runner, wheels: Path, extra: str) -> None:
    home = programs.directory / "env"
    venv.create(home, with_pip=True)
    python = home / "bin" / "python"
    pip(python, "install", "--no-index", "--find-links", str(wheels), f"palatine[{extra}]")
    installed = {re.sub(r"[-_.]+", "-", line.split("==")[0]).lower() for line in pip(python, "freeze").splitlines()}
    assert "palatine" in installed
    assert not (installed & HEAVY) or extra == "emperor"

    daemon = programs.start(str(home / "bin" / f"palatine-{extra}"), *EXTRAS[extra], cwd=programs.directory)
    status = [str(home / "bin" / "palatine"), "status", "--runtime-dir", str(programs.runtime)]
    wait_until(lambda: " ready " in run(*status, check=False).stdout, f"{extra}: {daemon.output()}", 20)
    assert daemon.stop(signal.SIGTERM) == 0

    for other in set(EXTRAS) - {extra, "app-server"}:
        needs = {
            "snmp-agent": "pysnmp",
            "stats-exporter": "hypercorn",
            "alarm-daemon": "google-re2",
            "emperor": "motor",
        }
        if needs[other] not in installed:
            refused = run(str(home / "bin" / f"palatine-{other}"), check=False)
            assert refused.returncode == 69, refused.stderr
            assert f"palatine[{other}]" in refused.stderr
