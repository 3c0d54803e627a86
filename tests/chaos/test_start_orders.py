"""The five daemons may be started in any order: within ten seconds every slice works, without a manual step."""

import itertools
import os
import random
from pathlib import Path

import pytest

from running import Runner, free_port, get, run, wait_until

DAEMONS = ("app-server", "stats-exporter", "snmp-agent", "alarm-daemon", "emperor")
ORDERS = list(itertools.permutations(DAEMONS))
SEED = int(os.environ.get("PALATINE_SEED", random.randrange(1 << 32)))
#: All 120 take some minutes: `make chaos` runs them.
CHOSEN = ORDERS if os.environ.get("PALATINE_LONG") else random.Random(SEED).sample(ORDERS, 20)
CHUNKS = 4
PROBE_SECONDS = 10.0

APP = """
def application(environ, start_response):
    if environ["PATH_INFO"] == "/alarm":
        print("TERRIBLE ALARM!", flush=True)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"app"]
"""
VASSAL = """[uwsgi]
http-socket = 127.0.0.1:{port}
wsgi-file = {app}
master = true
"""


class Machine:
    """One runtime directory, the words of each daemon, and the probes."""

    def __init__(self, programs: Runner) -> None:
        self.programs = programs
        directory = programs.directory
        (directory / "app.py").write_text(APP)
        self.app, self.stats, self.vassal = (f"http://127.0.0.1:{free_port()}/" for _ in range(3))
        self.agent = f"127.0.0.1:{free_port()}"
        self.alarms = directory / "alarms"
        vassals = directory / "vassals"
        vassals.mkdir()
        (vassals / "blog.ini").write_text(VASSAL.format(port=self.vassal[17:-1], app=directory / "app.py"))
        common = ("--runtime-dir", str(programs.runtime), "--state-dir", str(programs.state))
        self.words: dict[str, tuple[str, ...]] = dict.fromkeys(DAEMONS, common)
        self.words["emperor"] = (*common, "--emperor", str(vassals))
        self.words["app-server"] = (
            *common, "--name", "app", "--http-socket", self.app[7:-1], "--wsgi-file", str(directory / "app.py"),
            "--master", "--processes", "2", "--stats", self.stats[7:-1], "--stats-http",
            f"--snmp={self.agent}", "--snmp-community", "foo",
            "--alarm", f"keep cmd:cat >> {self.alarms}", "--log-alarm", "keep ^TERRIBLE",
        )  # fmt: skip

    def start(self, daemon: str) -> None:
        self.programs.start(f"palatine-{daemon}", *self.words[daemon])

    def prove(self) -> None:
        """Every slice works."""

        def answered() -> bool:
            self.probe()
            return True

        wait_until(answered, "the probes", PROBE_SECONDS)
        get(f"{self.app}alarm")
        wait_until(lambda: "TERRIBLE ALARM!" in self.alarms.read_text(), "the alarm", PROBE_SECONDS)

    def probe(self) -> None:
        assert get(self.app) == "app"
        assert '"accepting":1' in get(self.stats)
        run("snmpget", "-v2c", "-c", "foo", "-m", "", "-t", "1", "-r", "0", self.agent, "1.3.6.1.4.1.35156.17.1.1")
        assert get(self.vassal) == "app"


def shown(programs: Runner) -> str:
    return "\n".join(f"== {log.name}\n{log.read_text()[-1500:]}" for log in sorted(programs.directory.glob("*.log")))


@pytest.mark.interop
@pytest.mark.chaos
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_any_order_will_do(chunk: int, tmp_path: Path) -> None:
    print(f"PALATINE_SEED={SEED}")
    for number, order in enumerate(CHOSEN[chunk::CHUNKS]):
        directory = tmp_path / str(number)
        directory.mkdir()
        programs = Runner(directory)
        try:
            machine = Machine(programs)
            for daemon in order:
                machine.start(daemon)
            try:
                machine.prove()
            except AssertionError as error:
                raise AssertionError(f"PALATINE_SEED={SEED}, order {order}: {error}\n{shown(programs)}") from error
        finally:
            programs.close()
