"""zmq:// deploys: what messages mean, that they are durable, and uWSGI's clients over a real socket."""

import socket
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import trio
import zmq

from palatine.errors import ConfigError
from palatine_emperor.deploy_journal import DeployJournal, open_journal, stamped
from palatine_emperor.deploy_policy import Command, Destroy, Refusal, Touch, read_message
from palatine_emperor.monitors.interface import Report
from palatine_emperor.monitors.queue import QueueMonitor, exposure
from palatine_emperor.settings import Settings
from palatine_emperor.vassal import Wanted

TYRANT = Settings(emperor_tyrant=True)
INI = b"[uwsgi]\nsocket=:4142"

MESSAGES: list[tuple[list[bytes], Settings, Command]] = [
    ([b"touch", b"foo.ini", INI], Settings(), Touch("foo.ini", INI)),
    ([b"touch", b"foo.ini"], Settings(), Touch("foo.ini")),
    ([b"touch", b"foo.ini", b""], Settings(), Touch("foo.ini")),
    ([b"destroy", b"foo.ini"], Settings(), Destroy("foo.ini")),
    ([b"destroy", b"foo.ini", INI], Settings(), Destroy("foo.ini")),
    ([b"touch", b"foo.ini", INI, b"33", b"33"], Settings(), Touch("foo.ini", INI)),
    ([b"touch", b"foo.ini", INI, b"33", b"34", b""], TYRANT, Touch("foo.ini", INI, 33, 34)),
    ([b"touch", b"foo.ini", INI, b"33", b"34", b":99"], TYRANT, Touch("foo.ini", INI, 33, 34, ":99")),
    (
        [b"touch"],
        Settings(),
        Refusal("[emperor-zeromq] bad message received (command and instance name required)"),
    ),
    ([b"bogus", b"foo.ini"], Settings(), Refusal('[emperor-zeromq] unknown command "bogus"')),
    ([b"touch", b"noext", INI], Settings(), Refusal('[emperor-zeromq] invalid instance name "noext"')),
    ([b"touch", b"a\n.ini", INI], Settings(), Refusal('[emperor-zeromq] invalid instance name "a?.ini"')),
    (
        [b"touch", b"foo.ini", INI],
        TYRANT,
        Refusal("[emperor-tyrant] invalid permissions for vassal foo.ini (uid and gid: '', '')"),
    ),
    (
        [b"touch", b"foo.ini", INI, b"0", b"33"],
        TYRANT,
        Refusal("[emperor-tyrant] invalid permissions for vassal foo.ini (uid and gid: '0', '33')"),
    ),
    (
        [b"touch", b"foo.ini", b"x" * 65536],
        Settings(),
        Refusal("[emperor-zeromq] the config of foo.ini has more than 65535 bytes"),
    ),
    (
        [b"touch", b"\xff.ini"],
        Settings(),
        Refusal("[emperor-zeromq] bad message received (only the config may be other than UTF-8)"),
    ),
    ([b"touch", b"foo.ini", b"\xff"], Settings(), Touch("foo.ini", b"\xff")),
    (
        [b"touch", b"foo.ini", INI, b"", b"", b"/s\n"],
        Settings(),
        Refusal('[emperor-zeromq] invalid socket "/s?" for foo.ini'),
    ),
    (
        [b"touch"] * 7,
        Settings(),
        Refusal("[emperor-zeromq] bad message received (7 parts, at most 6 make sense)"),
    ),
]


@pytest.mark.parametrize(("parts", "settings", "command"), MESSAGES)
def test_messages(parts: list[bytes], settings: Settings, command: Command) -> None:
    assert read_message(parts, settings) == command


def test_the_journal_keeps_what_messages_left(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    assert journal.record("zmq:x", "/v", stamped([Touch("a.ini", INI), Touch("b.ini")], 100)) == [
        Wanted("a.ini", 100, "/v", INI),
        Wanted("b.ini", 101, "/v"),
    ]
    assert journal.record("zmq:x", "/v", [(Touch("a.ini", socket=":9"), 50)]) == [
        Wanted("a.ini", 101, "/v", INI, socket=":9")
    ], "the config stays, the stamp never goes back"
    assert journal.record("zmq:x", "/v", [(Destroy("b.ini"), 60), (Destroy("b.ini"), 61)]) == ["b.ini", None]
    journal.close()
    again = open_journal(tmp_path)
    assert again.vassals("zmq:x", "/w") == (Wanted("a.ini", 101, "/w", INI, socket=":9"),)
    assert again.vassals("zmq:y", "/w") == ()
    again.close()
    assert (tmp_path / "deploy.db").stat().st_mode & 0o077 == 0


def test_a_refused_write_changes_nothing(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    with pytest.raises(OverflowError):
        journal.record("zmq:x", "/v", [(Touch("a.ini"), 1), (Touch("b.ini"), 2**64)])
    assert journal.vassals("zmq:x", "/v") == ()
    journal.close()
    with closing(sqlite3.connect(tmp_path / "deploy.db")) as other:
        assert other.execute("PRAGMA journal_mode").fetchone() == ("wal",)


@pytest.mark.parametrize(
    ("address", "warned"),
    [
        ("tcp://127.0.0.1:5252", False),
        ("tcp://[::1]:5252", False),
        ("tcp://localhost:5252", False),
        ("ipc:///run/x", False),
        ("tcp://0.0.0.0:5252", True),
        ("tcp://*:5252", True),
        ("tcp://eth0:5252", True),
        ("tcp://10.0.0.1:5252", True),
    ],
)
def test_who_can_reach_the_socket(address: str, warned: bool) -> None:  # noqa: FBT001 - a table
    assert bool(exposure(address)) == warned


class Client:
    """uWSGI's client of seed 003, in bytes as pyzmq wants them today."""

    def __init__(self) -> None:
        self.context = zmq.Context()
        self.socket = zmq.Socket(self.context, zmq.PUSH)

    def connect(self, address: str) -> None:
        self.socket.connect(address)

    def send(self, *parts: bytes) -> None:
        self.socket.send_multipart(parts)

    def close(self) -> None:
        self.socket.close(linger=1000)
        self.context.term()


@pytest.fixture
def client() -> Iterator[Client]:
    client = Client()
    yield client
    client.close()


async def test_the_seed_s_script(tmp_path: Path, client: Client, journal: DeployJournal) -> None:
    monitor = QueueMonitor("zmq://tcp://127.0.0.1:*", "tcp://127.0.0.1:*", "/v", Settings(), journal)
    send, receive = trio.open_memory_channel[Report](1000)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(monitor.watch, send)
        with trio.fail_after(10):
            assert await receive.receive() == Report(complete=True)
            client.connect(monitor.bound)
            client.send(b"touch", b"foo.ini", INI)
            first = (await receive.receive()).wanted[0]
            assert (first.name, first.config) == ("foo.ini", INI)
            client.send(b"touch", b"foo.ini", INI + b"3")
            second = (await receive.receive()).wanted[0]
            assert second.stamp > first.stamp
            assert second.config == INI + b"3"
            client.send(b"destroy", b"unknown.ini")
            assert (await receive.receive()).said == ('[emperor-zeromq] unknown instance "unknown.ini"',)
            client.send(b"destroy", b"foo.ini")
            assert (await receive.receive()).gone == ("foo.ini",)
            for number in range(300):
                client.send(b"touch", b"%d.ini" % (number % 7), INI)
            client.send(b"touch", b"last.ini", INI)
            names: set[str] = set()
            while "last.ini" not in names:
                names |= {vassal.name for vassal in (await receive.receive()).wanted}
        nursery.cancel_scope.cancel()
    again = open_journal(tmp_path)
    kept = again.vassals(monitor.key, "/v")
    again.close()
    assert {vassal.name for vassal in kept} == names
    assert kept[-1].name == "last.ini"
    assert len({vassal.stamp for vassal in kept}) == 8


async def test_a_restarted_monitor_reports_the_journal_first(journal: DeployJournal) -> None:
    journal.record("zmq:tcp://127.0.0.1:*", "/v", [(Touch("a.ini", INI), 7)])
    monitor = QueueMonitor("u", "tcp://127.0.0.1:*", "/v", Settings(), journal)
    send, receive = trio.open_memory_channel[Report](10)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(monitor.watch, send)
        with trio.fail_after(10):
            assert await receive.receive() == Report((Wanted("a.ini", 7, "/v", INI),), complete=True)
        nursery.cancel_scope.cancel()


async def test_an_address_in_use_is_said_with_its_reason(journal: DeployJournal) -> None:
    held = socket.create_server(("127.0.0.1", 0))
    address = f"tcp://127.0.0.1:{held.getsockname()[1]}"
    monitor = QueueMonitor("u", address, "/v", Settings(), journal)
    send, _ = trio.open_memory_channel[Report](10)
    with held, pytest.raises(ConfigError, match="Address already in use"):
        await monitor.watch(send)
