"""`docker compose up` for real: five containers on one tmpfs serve seeds 000-002, on a base image made here."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from running import Runner, program, run, runner, wait_until

pytestmark = [pytest.mark.interop, pytest.mark.root, pytest.mark.timeout(900), pytest.mark.alone("docker")]

ROOT = Path(__file__).parents[2]
#: debootstrap takes a minute; its result is the same for every run on a machine.
BASE = Path("/var/tmp/palatine-tests/bookworm")
DAEMONS = {"app-server", "stats-exporter", "snmp-agent", "alarm-daemon", "emperor"}


class Host:
    """A docker engine in a network namespace of its own, and what runs in it."""

    def __init__(self, programs: Runner, directory: Path) -> None:
        self.directory = directory
        self.socket = directory / "docker.sock"
        self.environ = {**os.environ, "DOCKER_HOST": f"unix://{self.socket}", "PALATINE_BASE": "local/base"}
        script = (
            "ip link set lo up && exec dockerd --storage-driver overlay2 --data-root {0}/data --exec-root {0}/exec"
            " --pidfile {0}/pid -H unix://{0}/docker.sock"
        )
        self.engine = programs.start("unshare", "-n", "sh", "-c", script.format(directory))
        wait_until(lambda: self.docker("info"), "the docker engine", 60)

    def docker(self, *words: str) -> str:
        return subprocess.run(
            ["/usr/bin/docker", *words], env=self.environ, capture_output=True, text=True, check=True
        ).stdout

    def compose(self, *words: str) -> str:
        done = subprocess.run(
            [program("docker-compose"), *words], cwd=self.directory / "checkout", env=self.environ,
            capture_output=True, text=True, check=False, timeout=600,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
        return done.stdout

    def inside(self, *words: str) -> str:
        """A command in the engine's network, where the published ports are."""
        return run("nsenter", "-n", "-t", str(self.engine.pid), program(words[0]), *words[1:]).stdout

    def healthy(self) -> bool:
        """All five run and say so."""
        found = self.containers()
        return set(found) == DAEMONS and all(one["health"] == "healthy" for one in found.values())

    def containers(self) -> dict[str, dict[str, str]]:
        found = {}
        for name in self.docker("ps", "--format", "{{.Names}}").split():
            state = json.loads(self.docker("inspect", name))[0]
            service = state["Config"]["Labels"]["com.docker.compose.service"]
            found[service] = {"name": name, "health": state["State"]["Health"]["Status"]}
        return found


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    directory = tmp_path_factory.mktemp("docker")
    with runner(directory) as programs:
        engine = Host(programs, directory)
        base_image(engine)
        checkout(directory / "checkout")
        try:
            engine.compose("up", "--build", "--detach")
            wait_until(engine.healthy, "five healthy containers", 120)
            yield engine
        finally:
            engine.compose("down", "--volumes", "--timeout", "5")
            engine.engine.stop(signal.SIGTERM, 60)


def base_image(host: Host) -> None:
    if not (BASE / "usr/bin/python3").exists():
        shutil.rmtree(BASE, ignore_errors=True)
        BASE.parent.mkdir(parents=True, exist_ok=True)
        packages = "--include=python3,python3-venv,ca-certificates"
        run("debootstrap", "--variant=minbase", packages, "bookworm", f"{BASE}.part", seconds=600)
        Path(f"{BASE}.part").rename(BASE)
    with subprocess.Popen(["tar", "-C", str(BASE), "-c", "."], stdout=subprocess.PIPE) as tar:
        subprocess.run(
            ["/usr/bin/docker", "import", "-", "local/base"],
            stdin=tar.stdout, env=host.environ, check=True, capture_output=True,
        )  # fmt: skip


def checkout(where: Path) -> None:
    """What git tracks, and wheels of everything in it: the image is built without a network."""
    listed = run("git", "ls-files", "-z", cwd=ROOT).stdout
    for name in filter(None, listed.split("\0")):
        (where / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, where / name)
    pins = where / "pins"
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins.write_text("\n".join(line.removesuffix("\\") for line in lines if line[:1].isalnum()))
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check"]
    subprocess.run(
        [*build, "--constraint", str(pins), "--wheel-dir", "build/wheels", ".[all]"],
        cwd=where, check=True, capture_output=True,
    )  # fmt: skip


def test_five_containers_serve_the_seeds(host: Host) -> None:
    # seed 001: the app and its stats, served by another container on the socket the app's master bound
    assert "It works" in host.inside("curl", "-sS", "http://127.0.0.1:9090/")
    stats = json.loads(host.inside("curl", "-sS", "http://127.0.0.1:9191/"))
    assert len(stats["workers"]) == 4
    # seed 000
    host.inside("curl", "-sS", "http://127.0.0.1:9090/users?42")
    assert snmp(host, "2.40") == "42"
    assert int(snmp(host, "1.1")) >= 2
    # seed 002: the alarm's action is back in the app's log
    host.inside("curl", "-sS", "http://127.0.0.1:9090/alarm")
    wait_until(lambda: "ALARM: TERRIBLE ALARM!" in logs(host, "app-server"), "the alarm")
    # the emperor's vassal
    wait_until(lambda: "hello from a vassal" in host.inside("curl", "-sS", "http://127.0.0.1:9091/"), "the vassal")
    assert "uwsgi_worker_requests_total" in host.inside("curl", "-sS", "http://127.0.0.1:9117/metrics")


def test_each_container_may_be_killed(host: Host) -> None:
    containers = host.containers()
    for service in ("stats-exporter", "snmp-agent", "alarm-daemon"):
        pid = host.docker("inspect", "--format", "{{.State.Pid}}", containers[service]["name"]).strip()
        os.kill(int(pid), signal.SIGKILL)
    assert "It works" in host.inside("curl", "-sS", "http://127.0.0.1:9090/")
    wait_until(lambda: snmp(host, "2.40") == "42", "the agent, restarted", 60)
    wait_until(lambda: json.loads(host.inside("curl", "-sS", "http://127.0.0.1:9191/")), "the exporter, restarted", 60)


def snmp(host: Host, oid: str) -> str:
    words = ["snmpget", "-v2c", "-c", "public", "-m", "", "-Oqv", "-t", "1", "-r", "0", "127.0.0.1:2222"]
    return host.inside(*words, f"1.3.6.1.4.1.35156.17.{oid}").strip()


def logs(host: Host, service: str) -> str:
    name = host.containers()[service]["name"]
    done = subprocess.run(
        ["/usr/bin/docker", "logs", name], env=host.environ, capture_output=True, text=True, check=True
    )
    return done.stdout + done.stderr
