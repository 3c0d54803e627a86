import json
import logging
import os
import pty
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import structlog

from palatine.daemon.logs import MASK, Logs, mask_secrets

PROGRAM = """
from palatine.daemon.logs import Logs
log = Logs("tiny", {style!r}).install()
log.info("tiny.begun", password="abc", url="http://me:abc@host/", count=3, text="two words")
"""


@contextmanager
def captured(style: str = "json", level: str = "info") -> Iterator[tuple[Logs, list[str]]]:
    """A log that writes into a list; structlog and logging as they were afterwards."""
    lines: list[str] = []
    logs = Logs("tiny", style, level)
    logs.write = lines.append  # type: ignore[assignment] # the descriptor is pytest's
    before = logging.getLogger().handlers[:]
    logs.install()
    try:
        yield logs, lines
    finally:
        structlog.reset_defaults()
        logging.captureWarnings(False)
        logging.getLogger().handlers[:] = before


def test_json_lines_begin_with_the_same_four_keys() -> None:
    with captured() as (_, lines):
        structlog.get_logger("somebody").bind(peer="x").info("tiny.begun", count=3)
    event = json.loads(lines[0])
    assert list(event) == ["timestamp", "level", "daemon", "event", "peer", "count"]
    assert (event["level"], event["daemon"], event["event"]) == ("info", "tiny", "tiny.begun")


def test_the_level_can_change_while_running() -> None:
    with captured() as (logs, lines):
        log = structlog.get_logger()
        log.debug("no")
        logs.level = "debug"
        log.debug("yes")
        logs.level = "error"
        log.warning("no")
    assert [json.loads(line)["event"] for line in lines] == ["yes"]


def test_errors_are_counted_and_carry_their_traceback() -> None:
    with captured() as (logs, lines):
        errors: list[int] = []
        logs.on_error = lambda: errors.append(1)
        try:
            raise LookupError("no luck")
        except LookupError:
            structlog.get_logger().exception("tiny.failed")
        structlog.get_logger().warning("tiny.warned")
    assert len(errors) == 1
    assert "LookupError: no luck" in json.loads(lines[0])["exception"]
    assert json.loads(lines[0])["level"] == "error"


def test_libraries_and_warnings_end_in_the_same_log() -> None:
    with captured() as (_, lines):
        logging.getLogger("hypercorn.error").warning("odd: %s", 3)
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.warn("old", DeprecationWarning, stacklevel=1)
    first, second = map(json.loads, lines)
    assert (first["event"], first["logger"], first["message"]) == ("library.log", "hypercorn.error", "odd: 3")
    assert second["logger"] == "py.warnings"


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ({"password": "a"}, {"password": MASK}),
        ({"snmp_community": "a"}, {"snmp_community": MASK}),
        ({"api-key": "a"}, {"api-key": MASK}),
        ({"has_token": True, "password": None}, {"has_token": True, "password": None}),
        ({"headers": {"Authorization": "a", "Host": "b"}}, {"headers": {"Authorization": MASK, "Host": "b"}}),
        ({"url": "see amqp://me:pw@h/x"}, {"url": f"see amqp://me:{MASK}@h/x"}),
        ({"urls": ["redis://:pw@h", 3]}, {"urls": [f"redis://:{MASK}@h", 3]}),
        ({"url": "http://h:80/a@b", "path": "/a:b@c"}, {"url": "http://h:80/a@b", "path": "/a:b@c"}),
    ],
)
def test_secrets_are_masked(given: dict[str, object], shown: dict[str, object]) -> None:
    assert mask_secrets(None, "info", dict(given)) == shown


def run_on_terminal(**environ: str) -> str:
    """What the program writes when its stderr is a terminal."""
    reader, terminal = pty.openpty()
    program = PROGRAM.format(style="auto")
    env = {name: value for name, value in os.environ.items() if name != "NO_COLOR"} | {"TERM": "xterm"} | environ
    subprocess.run([sys.executable, "-c", program], stderr=terminal, env=env, check=True)
    os.close(terminal)
    text = os.read(reader, 65536).decode()
    os.close(reader)
    return text


def test_a_terminal_gets_colours_unless_told_otherwise() -> None:
    assert "\033[" in run_on_terminal()
    plain = run_on_terminal(NO_COLOR="1")
    assert "\033[" not in plain
    assert plain.rstrip().endswith("password=*** url=http://me:***@host/ count=3 text='two words'")
    assert "tiny           info    tiny.begun" in plain


def test_a_pipe_gets_json_and_stdout_nothing() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(style="auto")], capture_output=True, text=True, check=True
    )
    assert json.loads(done.stderr)["count"] == 3
    assert not done.stdout


def test_a_log_nobody_reads_is_counted_and_harms_nobody() -> None:
    program = (
        "import os; from palatine.daemon.logs import Logs\nr, w = os.pipe(); os.dup2(w, 2); os.close(w); os.close(r)\n"
    )
    program += "logs = Logs('tiny'); log = logs.install(); log.info('a'); log.info('b'); print(logs.dropped)"
    done = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, check=True)
    assert done.stdout == "2\n"


def test_closed_descriptors_are_given_something_to_be(tmp_path: Path) -> None:
    out = tmp_path / "out"
    program = (
        f"import os; from palatine.daemon.logs import standard_streams; standard_streams()\nopen({str(out)!r}, 'w')"
    )
    program += ".write(' '.join(os.readlink('/proc/self/fd/%d' % n) for n in range(3)))"
    subprocess.run(["sh", "-c", 'exec "$0" -c "$1" <&- >&- 2>&-', sys.executable, program], check=True)
    assert out.read_text() == "/dev/null /dev/null /dev/null"
