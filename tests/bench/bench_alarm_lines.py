"""What one log line costs the alarm-daemon: run as a program; figures are CPU microseconds, the best of five rounds.

Prints the pure part (prefilter, matching, raising) in this process, then a real daemon fed over the real bus: CPU of
all its threads by schedstat, divided by lines.
"""

import importlib.util
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import structlog
import trio

from palatine.codec.alarm_grammar import Alarm, Prefilter, Rule
from palatine.counters import Segment
from palatine.schema import ALARMS, DAEMON
from palatine_alarm_daemon.counters import Counters
from palatine_alarm_daemon.raising import Raiser
from palatine_alarm_daemon.registry import Registry
from palatine_alarm_daemon.ruleset import build_ruleset

REQUEST = (
    "[pid: 23456|app: 0|req: {0}/{0}] 127.0.0.1 () {{24 vars in 347 bytes}} [Sun Nov 22 02:41:48 2026] GET /print/{0}"
    " => generated 2 bytes in 0 msecs (HTTP/1.1 200) 1 headers in 45 bytes (1 switches on core 0)\n"
)
HIT = "Sun Nov 22 02:41:48 2026 - *** HARAKIRI ON WORKER 1 (pid: {0}, try: 1) ***\n"
RULES = [
    Rule(("note",), "uWSGI listen queue of socket"),
    Rule(("note",), "HARAKIRI ON WORKER"),
    Rule(("note",), "^TERRIBLE ALARM"),
]
LINES = 20_000
ROUNDS = 5


def best(measured: Callable[[], object], lines: int) -> float:
    """CPU microseconds a line."""
    rounds = []
    for _ in range(ROUNDS):
        began = time.process_time_ns()
        measured()
        rounds.append((time.process_time_ns() - began) / 1000 / lines)
    return min(rounds)


def pure(folder: Path) -> dict[str, float]:
    segment = Segment.create(folder / "seg", (*DAEMON, *ALARMS), {"alarms": 4}, {})
    raiser = Raiser(Counters(segment, lambda _: True), structlog.get_logger(), lambda: 60.0)
    instance = Registry().appeared("app", 0, folder)
    quiet = [REQUEST.format(number) for number in range(LINES)]
    hits = [HIT.format(number) for number in range(LINES)]
    prefilter = Prefilter(RULES)
    raw = [line.encode() for line in quiet]
    blocks = [b"".join(raw[at : at + 50]) for at in range(0, LINES, 50)]
    figures = {
        "prefilter, a line at a time": best(lambda: [prefilter.may_match(line) for line in raw], LINES),
        "prefilter, blocks of 50 lines": best(lambda: [prefilter.may_match(block) for block in blocks], LINES),
    }
    rulesets = {
        "3 literal rules": RULES,
        "3 rules, none with a literal": [Rule(("note",), f"{word}\\d{{9}}$") for word in ("[xy]", "[ab]", ".+")],
        "1 rule in PCRE2": [Rule(("note",), "(?i)terrible alarm")],
    }
    for name, rules in rulesets.items():
        instance.adopt(build_ruleset([Alarm("note", "log", "")], rules, 3.0, frozenset({"log"})))
        figures[f"no match, {name}"] = best(lambda: raiser.lines(instance, quiet, 0.0), LINES)
    instance.adopt(build_ruleset([Alarm("note", "log", "")], RULES, 3.0, frozenset({"log"})))
    figures["match and raise, 3 literal rules"] = best(lambda: raiser.lines(instance, hits, 0.0), LINES)
    return figures


def cpu_ns(pid: int) -> int:
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks)


async def whole(folder: Path) -> dict[str, float]:
    stand_in = Path(__file__).parents[1] / "services" / "alarm_daemon" / "conftest.py"
    spec = importlib.util.spec_from_file_location("alarm_stand_in", stand_in)
    assert spec is not None
    assert spec.loader is not None
    parts = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(parts)
    runtime = folder / "run"
    runtime.mkdir()
    daemon: Any = parts.Daemon(runtime, folder / "state", level="info")
    link: Any = parts.FakeLink(runtime)
    link.config["rules"] = [rule._asdict() for rule in RULES]
    figures: dict[str, float] = {}
    async with trio.open_nursery() as nursery:
        await daemon.start()
        await nursery.start(link.run)
        pid = daemon.process.pid
        for name, text, count in (("no match", REQUEST, 100_000), ("match, journal and deliver", HIT, 2_000)):
            await link.sender.settled()
            before = cpu_ns(pid)
            for at in range(0, count, 50):
                link.put("log", {"lines": [text.format(number) for number in range(at, at + 50)]})
                if at % 5000 == 0:
                    await link.sender.settled()
            await link.sender.settled()
            await daemon.idle(120)
            figures[f"whole daemon, batches of 50: {name}"] = (cpu_ns(pid) - before) / 1000 / count
        await link.stop()
        await daemon.stop()
    return figures


def main() -> int:
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    with tempfile.TemporaryDirectory() as folder:
        figures = pure(Path(folder)) | trio.run(whole, Path(folder))
    print(json.dumps({name: round(value, 2) for name, value in figures.items()}, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
