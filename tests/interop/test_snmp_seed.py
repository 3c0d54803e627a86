"""Seed 000: the SNMP commands of uWSGI's manual with the program's name changed, from an installed wheel."""

import os
import re
import shutil
import signal
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from running import Runner, Running, child_of, free_port, get, run, wait_until

pytestmark = [pytest.mark.interop, pytest.mark.alone("seed-000-003")]

ROOT = Path(__file__).parents[2]
BASE = "1.3.6.1.4.1.35156.17"
AGENT = "127.0.0.1:2222"
NGINX = """
daemon off; worker_processes 1; pid {directory}/nginx.pid; error_log stderr;
events {{ worker_connections 64; }}
http {{
    access_log off;
    client_body_temp_path {directory}/b; uwsgi_temp_path {directory}/u; proxy_temp_path {directory}/p;
    fastcgi_temp_path {directory}/f; scgi_temp_path {directory}/s;
    server {{ listen 127.0.0.1:{port}; location / {{ include /etc/nginx/uwsgi_params; uwsgi_pass 127.0.0.1:3031; }} }}
}}
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin directory of an environment with palatine installed from its wheel."""
    directory = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(directory)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = directory.glob("palatine-*.whl")
    environment = directory / "env"
    venv.create(environment, with_pip=False)
    (packages,) = environment.glob("lib/python*/site-packages")
    shutil.unpack_archive(wheel, packages, "zip")
    # the dependencies come from the environment the tests run in; palatine itself does not
    (ours,) = {Path(entry) for entry in sys.path if Path(entry).name == "site-packages"}
    for path in ours.iterdir():
        if "palatine" not in path.name and not (packages / path.name).exists():
            (packages / path.name).symlink_to(path)
    script = environment / "bin" / "palatine"
    script.write_text(f"#!{environment}/bin/python -P\nimport sys\nfrom palatine.cli import main\nsys.exit(main())\n")
    script.chmod(0o755)
    return environment / "bin"


def snmp(oid: str, *, version: str = "2c", community: str = "foo") -> str:
    """The value snmpget prints, with its type."""
    words = ["snmpget", f"-v{version}", "-c", community, "-m", "", "-Oqv", "-t", "1", "-r", "0", AGENT, f"{BASE}.{oid}"]
    return run(*words).stdout.strip()


def start(programs: Runner, installed: Path, *words: str) -> tuple[Running, str]:
    """The server as the manual starts it, in an empty directory but for the app, and nginx's URL in front of it."""
    home = programs.directory / "empty"
    home.mkdir()
    shutil.copy(ROOT / "deploy" / "examples" / "snmp" / "staticfilesnmp.py", home)
    shutil.copy(ROOT / "deploy" / "examples" / "snmp" / "staticfilesnmp.py", home / "myapp.py")
    server = programs.start(str(installed / "palatine"), "-s", ":3031", *words, cwd=home)
    url = nginx(programs)
    wait_until(lambda: snmp("1.1"), "the agent to answer")
    return server, url


def nginx(programs: Runner) -> str:
    port = free_port()
    directory = programs.directory / "nginx"
    directory.mkdir()
    (directory / "nginx.conf").write_text(NGINX.format(directory=directory, port=port))
    programs.start("nginx", "-p", str(directory), "-c", str(directory / "nginx.conf"))
    url = f"http://127.0.0.1:{port}/"
    wait_until(lambda: run("curl", "-sS", url).returncode == 0, "nginx")
    return url


FORMS = {
    "udp": ("-w", "staticfilesnmp", "--udp", AGENT, "--snmp", "--snmp-community", "foo"),
    "snmp": ("-w", "myapp", "--master", "--processes", "4", f"--snmp={AGENT}", "--snmp-community", "foo"),
}


@pytest.mark.parametrize("form", FORMS)
def test_requests_and_custom_values_are_answered(programs: Runner, installed: Path, form: str) -> None:
    server, url = start(programs, installed, *FORMS[form])
    before = int(snmp("1.1"))
    for _ in range(5):
        assert b"application" in run("curl", "-sS", f"{url}staticfilesnmp.py").stdout.encode()
    wait_until(lambda: int(snmp("1.1")) == before + 5, "five more requests")
    assert int(snmp("1.1", version="1")) == before + 5
    assert snmp("2.1") == "5"
    get(f"{url}staticfilesnmp.py?users=77")
    assert snmp("2.40") == "77"
    assert snmp("2.40", version="1") == "77"
    refused = run("snmpget", "-v2c", "-c", "wrong", "-t", "1", "-r", "0", AGENT, f"{BASE}.1.1", check=False)
    assert "Timeout" in refused.stderr
    assert server.stop(signal.SIGINT) == 0


def test_values_follow_two_workers_and_the_agent_may_die(programs: Runner, installed: Path) -> None:
    server, url = start(programs, installed, *FORMS["snmp"])
    setters: set[str] = set()
    number = 0
    while len(setters) < 2:
        number += 1
        assert number < 500, "all requests went to one worker"
        get(f"{url}staticfilesnmp.py?users={number}")
        assert snmp("2.40") == str(number)
        line = wait_until(
            lambda number=number: re.search(rf"\[pid: (\d+)\|.*users={number} ", server.output()), "its request line"
        )
        setters.add(line[1])
    agent = child_of(server.pid, "palatine_snmp_agent")
    os.kill(agent, signal.SIGKILL)
    wait_until(lambda: child_of(server.pid, "palatine_snmp_agent") not in {0, agent}, "another agent")
    wait_until(lambda: snmp("2.40") == str(number), "the value again")
    get(f"{url}staticfilesnmp.py?users=9999")
    assert snmp("2.40") == "9999"


def test_the_socket_is_the_masters(programs: Runner, installed: Path) -> None:
    """Stop the agent for good: the port stays bound, and datagrams wait in the kernel."""
    server, _url = start(programs, installed, *FORMS["snmp"])
    holders = run("ss", "-H", "-lunp", "sport", "=", ":2222").stdout
    assert f"pid={server.pid}" in holders
