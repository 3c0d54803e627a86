"""CPU per SNMP request: the snmp-agent beside net-snmp's snmpd and uWSGI's own agent, in one run.

    python tests/bench/bench_snmp.py [ROUNDS [REQUESTS]]

Contestants alternate within each round; a figure is on-CPU time of all of a server's processes (schedstat) divided by
requests, the ratio the median of pairwise ratios. One client asks, windowed (16 under way) or in lock step; every reply
is verified. uWSGI is taken from PATH or $PALATINE_BENCH_UWSGI and left out where there is none.

Beside load (an app-server whose 8 workers wrk keeps busy), what counts is the wait: in lock step without a pause, and
of a poller that asks every 5 ms. The contestants run as they are shipped; the client alone runs before all of them
(SCHED_RR, which needs root), for all of them alike: otherwise it would measure how long it waits for a CPU itself.
"""

import contextlib
import os
import shutil
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from palatine.codec import ber, snmp
from palatine.codec.snmp import Body, Message, PduType, Varbind
from running import Runner, Running, free_port, get, runner, session, wait_until
from snmp_master import BASE, set_value, stand_in
from snmpd import start_snmpd

DEFAULTS = ("7", "4000")
WINDOW = 16
SYSTEM = "1.3.6.1.2.1.1"
#: A group of scalars that snmpd answers out of its own memory, long enough for a GETBULK.
SNMP_GROUP = "1.3.6.1.2.1.11"
BULK_ROWS = 25
IN_LOCK_STEP = "GET, 1 name, in lock step"
#: Beside an app's busy workers, and the client's pause between two questions, in seconds.
BESIDE_LOAD = {"the same, 8 workers busy": 0.0, "the same, one every 5 ms": 0.005}
WORKERS = 8
APP = """
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"%d" % sum(range(2000))]
"""


class Question(NamedTuple):
    """What one workload asks a server."""

    pdu_type: int
    names: Sequence[str]
    rows: int = 0

    def datagram(self, number: int) -> bytes:
        varbinds = tuple(Varbind(ber.parse_oid(name), snmp.NULL) for name in self.names)
        request_id = (0x01000000 + number).to_bytes(4, "big")
        return snmp.write_message(Message(1, b"foo", self.pdu_type, request_id, Body(0, self.rows, varbinds)))


class Server(NamedTuple):
    """A contestant: its process, its port, and what it can be asked."""

    name: str
    running: Running
    port: int
    questions: dict[str, Question]


class Figure(NamedTuple):
    """One measurement: CPU microseconds a request, and the client's waits in milliseconds."""

    cpu: float
    median: float
    p99: float


def main() -> int:
    rounds, requests = (int(word) for word in [*sys.argv[1:3], *DEFAULTS[len(sys.argv) - 1 :]])
    with (
        tempfile.TemporaryDirectory(prefix="palatine-bench-") as directory,
        runner(Path(directory)) as programs,
        stand_in(programs.runtime) as master,
    ):
        for number in range(1, 101):
            set_value(master.segment, number, snmp.COUNTER64, number)
        servers = [start_agent(programs, master.port), front_snmpd(programs), *start_uwsgi(programs)]
        figures = measure(programs, servers, rounds, requests)
    report(servers, figures, rounds, requests)
    return 0


def start_agent(programs: Runner, port: int) -> Server:
    config = programs.directory / "snmp-agent.yaml"
    config.write_text("rate: {per-second: 0}\n")  # one client asks as fast as it can
    running = programs.start("palatine-snmp-agent", "--config", str(config))
    running.wait_for("instance.serving")
    names = [f"{BASE}.{suffix}" for suffix in ("2.40", "1.1", "2.2", "1.31")] * 5
    questions = {
        "GET, 1 name": Question(PduType.GET, [f"{BASE}.1.1"]),
        IN_LOCK_STEP: Question(PduType.GET, [f"{BASE}.1.1"]),
        **dict.fromkeys(BESIDE_LOAD, Question(PduType.GET, [f"{BASE}.1.1"])),
        "GET, 20 names": Question(PduType.GET, names),
        "GETBULK, 25 rows": Question(PduType.GET_BULK, [f"{BASE}.2"], BULK_ROWS),
    }
    return Server("palatine", running, port, questions)


def front_snmpd(programs: Runner) -> Server:
    port = free_port(socket.SOCK_DGRAM)
    config = "rocommunity foo 127.0.0.1\ndontLogTCPWrappersConnects yes\n"
    running = start_snmpd(programs, port, config, "snmp_mib")
    questions = {
        "GET, 1 name": Question(PduType.GET, [f"{SYSTEM}.3.0"]),
        IN_LOCK_STEP: Question(PduType.GET, [f"{SYSTEM}.3.0"]),
        **dict.fromkeys(BESIDE_LOAD, Question(PduType.GET, [f"{SYSTEM}.3.0"])),
        "GET, 20 names": Question(PduType.GET, [f"{SYSTEM}.{n}.0" for n in (1, 3, 4, 7)] * 5),
        "GETBULK, 25 rows": Question(PduType.GET_BULK, [SNMP_GROUP], BULK_ROWS),
    }
    return answering(Server("snmpd", running, port, questions))


def start_uwsgi(programs: Runner) -> list[Server]:
    command = os.environ.get("PALATINE_BENCH_UWSGI") or shutil.which("uwsgi") or shutil.which("uwsgi-core")
    if not command:
        print("no uwsgi on PATH: measured without it")
        return []
    port = free_port(socket.SOCK_DGRAM)
    options = ["--master", "--processes", "4", "--socket", f"127.0.0.1:{free_port()}"]
    running = programs.start(command, *options, f"--snmp=127.0.0.1:{port}", "--snmp-community", "foo")
    questions = {
        "GET, 1 name": Question(PduType.GET, [f"{BASE}.1.1"]),
        IN_LOCK_STEP: Question(PduType.GET, [f"{BASE}.1.1"]),
        **dict.fromkeys(BESIDE_LOAD, Question(PduType.GET, [f"{BASE}.1.1"])),
    }
    return [answering(Server("uWSGI", running, port, questions))]


def answering(server: Server) -> Server:
    """The server, once it answers."""

    def asked() -> bool:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(0.2)
            sock.connect(("127.0.0.1", server.port))
            sock.send(server.questions["GET, 1 name"].datagram(0))
            return bool(sock.recv(2000))

    wait_until(asked, f"{server.name} answers")
    return server


def measure(
    programs: Runner, servers: Sequence[Server], rounds: int, requests: int
) -> dict[tuple[str, str], list[Figure]]:
    figures: dict[tuple[str, str], list[Figure]] = {}

    def one_round(workload: str) -> None:
        for server in servers:
            if workload in server.questions:
                figures.setdefault((workload, server.name), []).append(ask(server, workload, requests))

    quiet = [workload for workload in servers[0].questions if workload not in BESIDE_LOAD]
    for _ in range(rounds):
        for workload in quiet:
            one_round(workload)
    with saturated(programs), first_in_line():
        for _ in range(rounds):
            for workload in BESIDE_LOAD:
                one_round(workload)
    return figures


@contextlib.contextmanager
def saturated(programs: Runner) -> Iterator[None]:
    """An app whose workers have always something to do."""
    (programs.directory / "app.py").write_text(APP)
    address = f"127.0.0.1:{free_port()}"
    app = programs.start(
        "palatine-app-server", "--http-socket", address, "--processes", str(WORKERS), "--wsgi-file", "app.py",
        "--disable-logging",
    )  # fmt: skip
    wait_until(lambda: get(f"http://{address}/"), "the app answers")
    wrk = programs.start("wrk", "-t2", "-c64", "-d1h", f"http://{address}/")
    try:
        yield
    finally:
        wrk.stop()
        app.stop()


@contextlib.contextmanager
def first_in_line() -> Iterator[None]:
    """The client runs before every server."""
    try:
        os.sched_setscheduler(0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(50))
    except PermissionError:
        print("no right to SCHED_RR: the client's own waits for a CPU are measured, too")
        yield
        return
    try:
        yield
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def ask(server: Server, workload: str, requests: int) -> Figure:
    question = server.questions[workload]
    pause = BESIDE_LOAD.get(workload, 0.0)
    window = 1 if workload in {IN_LOCK_STEP, *BESIDE_LOAD} else WINDOW
    if pause:
        requests //= 8
    datagrams = [question.datagram(number) for number in range(requests)]
    replies: list[bytes] = []
    waits: list[float] = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(2)
        sock.connect(("127.0.0.1", server.port))
        before = on_cpu(server.running.pid)
        sent: list[float] = []
        for number in range(min(window, requests)):
            sent.append(time.perf_counter())
            sock.send(datagrams[number])
        while len(replies) < requests:
            replies.append(sock.recv(2000))
            now = time.perf_counter()
            waits.append(now - sent[len(replies) - 1])
            if len(sent) < requests:
                if pause:
                    time.sleep(pause)
                    now = time.perf_counter()
                sent.append(now)
                sock.send(datagrams[len(sent) - 1])
        spent = on_cpu(server.running.pid) - before
    verify(question, replies)
    waits.sort()
    cpu = spent / 1000 / requests
    return Figure(cpu, waits[len(waits) // 2] * 1000, waits[len(waits) * 99 // 100] * 1000)


def verify(question: Question, replies: Sequence[bytes]) -> None:
    """Every question has its own reply, without an error and with as many names as asked for."""
    messages = [snmp.read_message(reply) for reply in replies]
    wanted = question.rows * len(question.names) or len(question.names)
    for message in messages:
        assert message.body.error_status == 0
        assert len(message.body.varbinds) == wanted
    assert sorted(message.request_id for message in messages) == sorted(
        (0x01000000 + number).to_bytes(4, "big") for number in range(len(replies))
    )


def on_cpu(leader: int) -> int:
    """Nanoseconds all processes of a session have run."""
    return sum(
        int((task / "schedstat").read_text().split()[0])
        for pid in session(leader)
        for task in Path(f"/proc/{pid}/task").iterdir()
    )


def report(servers: Sequence[Server], figures: dict[tuple[str, str], list[Figure]], rounds: int, requests: int) -> None:
    print(f"CPU per request in us, median of {rounds} rounds of {requests} requests; ratio palatine/other, pairwise\n")
    print(f"{'workload':28}{'server':10}{'CPU us':>8}{'ratio':>8}{'wait ms':>10}{'p99 ms':>9}")
    for workload in servers[0].questions:
        ours = figures[workload, servers[0].name]
        for server in servers:
            theirs = figures.get((workload, server.name))
            if theirs is None:
                continue
            ratio = statistics.median(one.cpu / other.cpu for one, other in zip(ours, theirs, strict=True))
            cpu, median, p99 = (statistics.median(column) for column in zip(*theirs, strict=True))
            print(f"{workload:28}{server.name:10}{cpu:8.1f}{ratio:8.2f}{median:10.3f}{p99:9.3f}")


if __name__ == "__main__":
    sys.exit(main())
