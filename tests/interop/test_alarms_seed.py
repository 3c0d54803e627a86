"""Seed 002: its alarms, raised by a real harakiri and a really full listen queue; kills and tenants."""

import os
import pwd
import re
import signal
from collections import Counter
from pathlib import Path

import pytest

from running import Runner, Running, anyones_python, child_of, free_port, get, import_path, run, wait_until

pytestmark = pytest.mark.interop

ALARMS = Path(__file__).parents[2] / "deploy" / "examples" / "alarms" / "alarms.ini"
APP = """
import time
import uwsgi

uwsgi.register_signal(17, "worker", lambda number: print("handler ran for", number, flush=True))

def application(environ, start_response):
    path = environ["PATH_INFO"]
    if path.startswith("/sleep/"):
        time.sleep(float(path[7:]))
    if path.startswith("/print/"):
        for number in range(int(path[7:])):
            print(f"LINE {number:05d}", flush=True)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"done"]
"""
LINES = 1000


def serve(programs: Runner, *words: str, environ: dict[str, str] | None = None) -> tuple[Running, str]:
    app = programs.directory / "app.py"
    app.write_text(APP)
    address = f"127.0.0.1:{free_port()}"
    server = programs.start(
        "palatine", *words, "--http-socket", address, "--wsgi-file", str(app), "--master", environ=environ
    )
    wait_until(lambda: get(f"http://{address}/"), "the app")
    server.wait_for('"event": "config.taken"')
    return server, f"http://{address}"


def mail_on_path(programs: Runner) -> tuple[dict[str, str], Path]:
    """A `mail` that keeps what it is given."""
    kept = programs.directory / "mails"
    command = programs.directory / "bin" / "mail"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\n{{ echo "ARGS $*"; cat; }} >> {kept}\n')
    command.chmod(0o755)
    return {"PATH": f"{command.parent}:{os.environ['PATH']}"}, kept


def test_a_harakiri_mails(programs: Runner) -> None:
    environ, kept = mail_on_path(programs)
    server, url = serve(programs, "--ini", str(ALARMS), "--harakiri", "1", environ=environ)
    answer = run("curl", "-sS", "-i", "-m", "10", f"{url}/sleep/60").stdout
    assert answer.startswith("HTTP/1.1 504")
    wait_until(kept.exists, "the mail")
    wait_until(lambda: "HARAKIRI ON WORKER 1" in kept.read_text(), "its message")
    assert "ARGS -s uWSGI alarm -a From: foobar@example.com admin@example.com" in kept.read_text()
    server.wait_for("Respawned uWSGI worker 1")
    assert "Current thread" in server.output()
    assert 'app.py", line' in server.output()
    assert get(f"{url}/") == "done"


def test_a_full_listen_queue_mails_and_signals(programs: Runner) -> None:
    environ, kept = mail_on_path(programs)
    server, url = serve(programs, "--ini", str(ALARMS), "--listen", "4", environ=environ)
    for _ in range(12):
        programs.start("curl", "-sS", "-m", "20", f"{url}/sleep/1")
    wait_until(lambda: kept.exists() and "uWSGI listen queue of socket" in kept.read_text(), "the mail")
    assert re.search(r'listen queue of socket "127\.0\.0\.1:\d+" \(fd: \d+\) full !!! \([4-9]/4\)', kept.read_text())
    server.wait_for("handler ran for 17", 20)


def delivered(kept: Path) -> Counter[str]:
    return Counter(kept.read_text().split("\n")[:-1]) if kept.exists() else Counter()


def line_words(kept: Path) -> list[str]:
    return ["--alarm", f"keep cmd:cat >> {kept}", "--log-alarm", "keep ^LINE"]


EXPECTED = Counter(f"LINE {number:05d}" for number in range(LINES))


def test_every_line_arrives_exactly_once(programs: Runner) -> None:
    kept = programs.directory / "kept"
    _server, url = serve(programs, *line_words(kept))
    get(f"{url}/print/{LINES}")
    wait_until(lambda: sum(delivered(kept).values()) >= LINES, "a thousand deliveries", 60)
    assert delivered(kept) == EXPECTED


def test_every_line_arrives_across_a_kill(programs: Runner) -> None:
    kept = programs.directory / "kept"
    server, url = serve(programs, *line_words(kept))
    client = programs.start("curl", "-sS", f"{url}/print/{LINES}")
    wait_until(lambda: len(delivered(kept)) > 50, "the first deliveries", 30)
    os.kill(child_of(server.pid, "palatine_alarm_daemon"), signal.SIGKILL)
    assert client.wait() == 0
    wait_until(lambda: set(delivered(kept)) >= set(EXPECTED), "all lines", 60)
    assert set(delivered(kept)) == set(EXPECTED)


@pytest.mark.root
def test_a_tenants_command_runs_as_the_tenant(programs: Runner) -> None:
    """One root alarm-daemon for the host, two apps of two users: each command has its own app's rights."""
    tenants = ["nobody", "www-data"]
    programs.runtime.chmod(0o755)
    homes = programs.runtime / "homes"  # pytest's own directories are only root's
    homes.mkdir()
    app = homes / "app.py"
    app.write_text(APP)
    programs.start("palatine-alarm-daemon", "--runtime-dir", str(programs.runtime))
    for tenant in tenants:
        home = homes / tenant
        home.mkdir()
        os.chown(home, pwd.getpwnam(tenant).pw_uid, -1)
        address = f"127.0.0.1:{free_port()}"
        server = programs.start(
            *anyones_python(), "-P", "-m", "palatine_app_server",
            "--name", tenant, "--http-socket", address, "--wsgi-file", str(app),
            "--uid", tenant, "--gid", "nogroup",
            "--state-dir", str(home),
            "--alarm", f"who cmd:{{ id -un; pwd; cat; }} > {home}/who.part && mv {home}/who.part {home}/who",
            "--log-alarm", "who ^LINE",
            cwd=home, environ={"PYTHONPATH": import_path()},
        )  # fmt: skip
        wait_until(lambda address=address: get(f"http://{address}/print/1"), f"the app of {tenant}")
        wait_until((home / "who").exists, f"the command of {tenant}: {server.output()[-2000:]}")
        assert (home / "who").read_text().splitlines() == [tenant, str(home), "LINE 00000"]
        assert (home / "who").owner() == tenant
