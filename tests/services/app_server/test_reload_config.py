"""A reload reads the config again: what a generation can change it changes, for the rest the master succeeds itself."""

import signal
import subprocess
from pathlib import Path

import pytest

from palatine_app_server.config.settings import AppSettings
from palatine_app_server.supervision.succession import _GENERATIONAL
from running import Runner, Running, children, free_port, get, wait_until

APP = """
import os
import uwsgi

def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{os.environ.get('MARK', '-')} {uwsgi.numproc} {uwsgi.masterpid()}".encode()]
"""


class Site:
    """An app whose ini can be written anew."""

    def __init__(self, programs: Runner) -> None:
        self.directory = programs.directory
        (self.directory / "app.py").write_text(APP)
        self.ports = [free_port(), free_port()]
        self.ini = self.directory / "site.ini"
        self.write("env = MARK=one")
        self.server: Running = programs.start("palatine-app-server", "--ini", "site.ini", cwd=self.directory)
        wait_until(lambda: self.answer() == f"one 1 {self.server.pid}", "the first answer")

    def write(self, *lines: str) -> None:
        common = f"[uwsgi]\nhttp-socket = 127.0.0.1:{self.ports[0]}\nwsgi-file = app.py\nmaster = true\n"
        self.ini.write_text(common + "\n".join(lines) + "\n")

    def answer(self, port: int = 0) -> str:
        return get(f"http://127.0.0.1:{self.ports[port]}/")


@pytest.fixture
def site(programs: Runner) -> Site:
    return Site(programs)


def test_every_name_that_needs_no_successor_is_a_setting() -> None:
    assert set(AppSettings._fields) >= _GENERATIONAL


def test_a_new_environment_needs_only_a_generation(site: Site) -> None:
    link = [pid for pid in children(site.server.pid) if b"link" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    site.write("env = MARK=two")
    site.server.send(signal.SIGHUP)
    wait_until(lambda: site.answer() == f"two 1 {site.server.pid}", "the new environment")
    assert set(link) <= set(children(site.server.pid))


def test_more_processes_and_another_socket_keep_the_pid_and_refuse_nobody(programs: Runner, site: Site) -> None:
    load = programs.start("wrk", "-t1", "-c2", "-d3s", "-H", "Connection: close", f"http://127.0.0.1:{site.ports[0]}/")
    site.write("env = MARK=two", "processes = 3", f"http-socket = 127.0.0.1:{site.ports[1]}")
    site.server.send(signal.SIGHUP)
    wait_until(lambda: site.answer(1) == f"two 3 {site.server.pid}", f"the successor: {site.server.output()}")
    assert site.answer() == f"two 3 {site.server.pid}"
    assert load.wait(20) == 0
    assert "Socket errors" not in load.output(), load.output()
    site.write("env = MARK=three")
    site.server.send(signal.SIGHUP)
    wait_until(lambda: site.answer() == f"three 1 {site.server.pid}", "the third")
    with pytest.raises(subprocess.CalledProcessError):
        site.answer(1)  # its socket is closed
    assert site.server.stop(signal.SIGTERM) == 0


@pytest.mark.parametrize("broken", ["processes = many", "strict = true\nprocceses = 2", "ini = gone.ini"])
def test_a_config_that_cannot_be_read_changes_nothing(site: Site, broken: str) -> None:
    site.write(broken)
    site.server.send(signal.SIGHUP)
    site.server.wait_for("the config cannot be read again, the old one stays in force")
    assert site.answer() == f"one 1 {site.server.pid}"
    site.write("env = MARK=mended")
    site.server.send(signal.SIGHUP)
    wait_until(lambda: site.answer() == f"mended 1 {site.server.pid}", "the mended config")
