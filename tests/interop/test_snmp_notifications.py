"""What really happens to real apps reaches a real snmptrapd: dead and killed workers, vassals, and alarms as traps."""

import socket
from pathlib import Path

import pytest

from running import Runner, Running, free_port, get, run, wait_until

pytestmark = pytest.mark.interop
APP = """
import os, signal, time

def application(environ, start_response):
    match environ["PATH_INFO"]:
        case "/sleep":
            time.sleep(60)
        case "/segfault":
            os.kill(os.getpid(), signal.SIGSEGV)
        case "/exit":
            os._exit(7)
        case "/alarm":
            print("OUT OF MEMORY, nearly", flush=True)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"done"]
"""


def trapd(programs: Runner, port: int) -> Running:
    config = programs.directory / "snmptrapd.conf"
    config.write_text("authCommunity log trapper\nformat2 %v\\n\n")
    running = programs.start(
        "snmptrapd", "-f", "-Lo", "-n", "-On", "-C", "-c", str(config), f"udp:127.0.0.1:{port}",
        environ={"MIBS": "", "SNMP_PERSISTENT_DIR": str(programs.directory / "snmptrapd")},
    )  # fmt: skip
    running.wait_for("NET-SNMP version", 30)
    return running


def agent(programs: Runner, port: int) -> Running:
    config = programs.directory / "snmp-agent.yaml"
    config.write_text(
        f'targets: [{{name: nms, address: "127.0.0.1:{port}", community: trapper, inform: true, timeout: 1}}]\n'
    )
    running = programs.start("palatine-snmp-agent", "--config", str(config))
    running.wait_for("daemon.ready", 30)
    return running


def told(trapd: Running, *parts: str) -> None:
    """Wait until one notification has all these parts."""
    wait_until(
        lambda: any(all(part in line for part in parts) for line in trapd.output().splitlines()),
        f"{parts} in:\n{trapd.output()}",
        30,
    )


def test_workers_and_alarms_of_an_app(programs: Runner, tmp_path: Path) -> None:
    port = free_port(socket.SOCK_DGRAM)
    listener = trapd(programs, port)
    agent(programs, port)
    programs.start("palatine-alarm-daemon").wait_for("daemon.ready", 30)
    (tmp_path / "app.py").write_text(APP)
    address = f"127.0.0.1:{free_port()}"
    words = ["--http-socket", address, "--wsgi-file", str(tmp_path / "app.py"), "--master", "--harakiri", "1"]
    alarms = [
        "--alarm",
        "page snmptrap:nms",
        "--alarm",
        "void snmptrap:nobody",
        "--log-alarm",
        "page,void OUT OF MEMORY",
    ]
    server = programs.start("palatine-app-server", "--name", "shop", *words, *alarms)
    wait_until(lambda: get(f"http://{address}/") == "done", "the app", 30)
    get(f"http://{address}/alarm")
    told(listener, ".1000.0.9", 'STRING: "shop"', 'STRING: "page"', "OUT OF MEMORY, nearly")
    run("curl", "-sS", "-m", "20", f"http://{address}/sleep", check=False)
    told(listener, ".1000.0.3", 'STRING: "shop"', "Gauge32: 1")
    for path, number, words_of_it in (("segfault", 2, "ended by SIGSEGV"), ("exit", 1, "exited with code 7")):
        wait_until(lambda: get(f"http://{address}/") == "done", "the worker is back", 30)
        run("curl", "-sS", "-m", "20", f"http://{address}/{path}", check=False)
        told(listener, f".1000.0.{number}\t", 'STRING: "shop"', words_of_it)
    pending = run("palatine", "alarm", "pending", env={**programs.environ(), "PATH": "/usr/bin:/bin"}, check=False)
    assert "page" not in pending.stdout
    assert server.process.poll() is None


def test_vassals_of_an_emperor(programs: Runner, tmp_path: Path) -> None:
    port = free_port(socket.SOCK_DGRAM)
    listener = trapd(programs, port)
    agent(programs, port)
    vassals = tmp_path / "vassals"
    vassals.mkdir()
    (tmp_path / "app.py").write_text(APP)
    programs.start("palatine-emperor", "--emperor", str(vassals))
    wait_until((programs.runtime / "emperor" / "seg").exists, "the emperor", 30)
    config = f"[uwsgi]\nhttp-socket = 127.0.0.1:{free_port()}\nwsgi-file = {tmp_path / 'app.py'}\nmaster = true\n"
    (vassals / "shop.ini").write_text(config)
    told(listener, ".1000.0.6", "shop.ini")
    (vassals / "shop.ini").unlink()
    told(listener, ".1000.0.5", "shop.ini")
    (vassals / "broken.ini").write_text("[uwsgi]\nmaster = true\nwsgi-file = /nowhere.py\nneed-app = true\n")
    told(listener, ".1000.0.7", "broken.ini", "held back")
