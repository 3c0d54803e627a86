"""Where lines end up, with real files, sockets, pipes and programs."""

import contextlib
import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from palatine.errors import ConfigError
from palatine_app_server.config.log_settings import LogSettings
from palatine_app_server.log import log_opening, log_sinks
from palatine_app_server.log.log_grammar import parse_logger
from palatine_app_server.log.log_sinks import FileSink, ProgramSink, Sink, StreamSink
from running import wait_until


@contextlib.contextmanager
def opened(text: str, log: Sink | None = None, **settings: int) -> Iterator[Sink]:
    """The sink of the logger `text`."""
    fallback = log or StreamSink(os.open(os.devnull, os.O_WRONLY))
    sink = log_opening.open_loggers(LogSettings(**settings), [parse_logger(text)], fallback)[0][1]  # type: ignore[arg-type]
    try:
        yield sink
    finally:
        for each in {sink, fallback}:
            each.close()


def test_a_file_is_appended_to_and_rotated_by_size(tmp_path: Path) -> None:
    path, old = tmp_path / "log", tmp_path / "old"
    path.write_bytes(b"before\n")
    with opened(f"file:logfile={path},maxsize=20,backupname={old}") as sink:
        for line in (b"one\n", b"two, which is too much\n", b"three\n"):
            assert sink.write(line) == 0
    kept = old.read_text()
    assert kept.startswith("before\none\ntwo, which is too much\n")
    assert re.search(rf"\w+ - logsize: 34, triggering rotation to {old}\.\.\.\n$", kept)
    assert path.read_text() == "three\n"


def test_a_file_without_a_backup_name_gets_the_time(tmp_path: Path) -> None:
    sink = FileSink(str(tmp_path / "log"), most_bytes=3, mode=0o604)
    sink.write(b"much\n")
    sink.close()
    assert re.fullmatch(r"log\.\d{10}", next(name for name in os.listdir(tmp_path) if name != "log"))
    assert (tmp_path / "log").stat().st_mode & 0o777 == 0o604


def test_a_file_that_was_moved_away_is_opened_again(tmp_path: Path) -> None:
    path = tmp_path / "log"
    sink = FileSink(str(path))
    sink.write(b"one\n")
    path.rename(tmp_path / "moved")
    sink.reopen()
    sink.write(b"two\n")
    sink.close()
    assert re.fullmatch(r"one\n\[\d+\] logsize: 4, triggering log-reopen\.\.\.\n", (tmp_path / "moved").read_text())
    assert re.fullmatch(rf"\[\d+\] {path} reopened\.\ntwo\n", path.read_text())


def test_a_file_that_cannot_be_renamed_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "log"
    sink = FileSink(str(path), backup=str(tmp_path / "no" / "where"))
    sink.rotate()
    sink.write(b"on\n")
    sink.close()
    assert "unable to rotate log: rename(): No such file or directory" in path.read_text()
    assert path.read_text().endswith("on\n")


def test_nobody_waits_for_a_slow_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_sinks, "PENDING_BYTES", 100_000)
    reader, writer = os.pipe()
    sink = log_sinks.inherited(writer)
    assert os.get_blocking(writer)  # others write to it, too
    lines = [b"%06d %s\n" % (number, b"x" * 990) for number in range(400)]
    lost = sum(sink.write(line) for line in lines)
    assert lost > 100
    assert not sink.flush()
    os.close(writer)
    received = b""
    with open(reader, "rb", buffering=0) as pipe:
        while not sink.flush():
            received += pipe.read(65536) or b""
        sink.close()
        received += pipe.read()
    kept = received.splitlines(keepends=True)
    assert len(kept) == 400 - lost
    assert set(kept) <= set(lines)  # no line is cut in two
    assert kept[0] == lines[0]
    assert kept[-1] == lines[-1]


def test_a_stream_socket_is_not_waited_for_either() -> None:
    ours, theirs = socket.socketpair()
    sink = log_sinks.inherited(ours.fileno())
    sink.write(b"one\n")
    assert theirs.recv(10) == b"one\n"
    theirs.close()
    assert sink.write(b"lost\n") == 0  # and no SIGPIPE
    sink.close()
    ours.close()


@pytest.mark.parametrize(
    ("logger", "pattern"),
    [
        ("socket:{address}", rb"line\n"),
        ("socket:{address},tag ", rb"tag line\n"),
        ("rsyslog:{address}", rb"<29>\w{3} [ \d]\d \d\d:\d\d:\d\d \S+ uwsgi: line"),
        ("rsyslog:{address},mine,134", rb"<134>\w{3} [ \d]\d \d\d:\d\d:\d\d mine: line"),
    ],
)
def test_datagrams(logger: str, pattern: bytes, tmp_path: Path) -> None:
    places = [(socket.AF_INET, ("127.0.0.1", 0)), (socket.AF_UNIX, str(tmp_path / "s"))]
    for family, place in places:
        with socket.socket(family, socket.SOCK_DGRAM) as server:
            server.bind(place)
            server.settimeout(10)
            name = server.getsockname()
            address = name if isinstance(name, str) else f"{name[0]}:{name[1]}"
            with opened(logger.format(address=address)) as sink:
                assert sink.write(b"line\n") == 0
                assert re.fullmatch(pattern, server.recv(4096))
                sink.write(b"y" * 3000)
                size = len(server.recv(4096))
                assert size <= 1024 if "rsyslog" in logger else size >= 3000


def test_a_burst_is_kept_for_a_local_receiver(tmp_path: Path) -> None:
    """Where the kernel has room for ten datagrams (net.unix.max_dgram_qlen), a traceback was cut short."""
    lines = [b"%d\n" % number for number in range(2000)]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(str(tmp_path / "s"))
        server.settimeout(10)
        with opened(f"socket:{tmp_path / 's'}") as sink:
            assert sum(map(sink.write, lines)) == 0
            received = []
            while not sink.flush():
                received.append(server.recv(100))
            received += [server.recv(100) for _ in range(len(lines) - len(received))]
    assert received == lines


def test_long_lines_in_several_packets() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(10)
        address = f"rsyslog:127.0.0.1:{server.getsockname()[1]},me"
        with opened(address, packet_bytes=130, split_packets=True) as sink:
            sink.write(b"a" * 100 + b"b" * 100 + b"c\n")
            pieces = [server.recv(4096).partition(b" me: ")[2] for _ in range(3)]
            assert pieces == [b"a" * 100, b"b" * 100, b"c"]


def test_syslog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_sinks, "SYSLOG_SOCKET", str(tmp_path / "log"))
    for argument, start in (("", b"<30>"), (":myapp", b"<30>"), (":myapp,local6", b"<182>")):
        with opened(f"syslog{argument}") as sink:
            assert sink.write(b"nobody listens\n") == 1
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
                server.bind(str(tmp_path / "log"))
                sink.write(b"line\n")
                data = server.recv(4096)
            assert data.startswith(start)
            assert data.endswith(b" myapp: line" if argument else b" uwsgi: line")
        (tmp_path / "log").unlink()


def test_a_program_is_started_and_started_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_sinks, "RESTART_SECONDS", 0.0)
    out = tmp_path / "out"
    sink = ProgramSink(f"read line; echo $line >>{out}")
    sink.write(b"one\n")
    wait_until(lambda: out.read_text() == "one\n", "the first line")

    def again() -> bool:
        sink.write(b"two\n")
        return "two" in out.read_text()

    wait_until(again, "another program")
    sink.close()
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, 0):
            pass


def test_a_descriptor_and_the_log_itself(tmp_path: Path) -> None:
    log = FileSink(str(tmp_path / "log"))
    with opened("stdio", log) as sink:
        sink.write(b"a\n")
    with open(tmp_path / "fd", "wb") as file, opened(f"fd:{file.fileno()}") as sink:
        sink.write(b"b\n")
    assert (tmp_path / "log").read_bytes() + (tmp_path / "fd").read_bytes() == b"a\nb\n"


@pytest.mark.parametrize(
    ("logger", "reason"),
    [
        ("file:", "takes a path"),
        ("file:/no/where/log", "open\\(/no/where/log\\): No such file"),
        ("file:logfile=a,maxsize=x", "maxsize=BYTES"),
        ("file:maxsize=1", "logfile=PATH"),
        ("fd:x", "no such descriptor"),
        ("pipe", "takes a command"),
        ("socket:127.0.0.1:x", "no address"),
    ],
)
def test_what_is_wrong_is_refused(logger: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason), opened(logger):
        pass
