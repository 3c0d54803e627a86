"""UWSGI's addresses as bound sockets."""

import os
import socket
import stat
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from palatine.errors import ConfigError
from palatine_app_server.config.socket_settings import SocketSettings, SocketWish
from palatine_app_server.config.zerg_settings import ZergSettings
from palatine_app_server.supervision import foundation
from palatine_app_server.system import sockets
from palatine_app_server.system.sockets import BindError


def reach(family: int, address: object) -> None:
    client = socket.socket(family)
    client.settimeout(5)
    client.connect(address)  # type: ignore[arg-type] # as the family has it
    client.close()


@pytest.mark.parametrize("address", ["127.0.0.1:0", "localhost:0", ":0", "*:0"])
def test_tcp(address: str) -> None:
    bound = sockets.bind_stream("http", address, 10)
    with bound.socket:
        port = bound.socket.getsockname()[1]
        assert bound.name == f"{address[:-1]}{port}"
        assert bound.socket.family == socket.AF_INET
        assert bound.path == ""
        assert not bound.inherited
        assert not bound.socket.get_inheritable()
        assert bound.queue() == (0, 10)
        assert sockets.request_variables(bound)["SERVER_PORT"] == str(port)
        reach(socket.AF_INET, ("127.0.0.1", port))


def test_ipv6() -> None:
    bound = sockets.bind_stream("http", "[::1]:0", 10)
    with bound.socket:
        reach(socket.AF_INET6, ("::1", bound.socket.getsockname()[1]))
        assert bound.queue()[1] == 10


def test_streamed_pieces_do_not_wait_for_acknowledgements() -> None:
    with sockets.bind_stream("http", "127.0.0.1:0", 10).socket as listener:
        client = socket.create_connection(listener.getsockname())
        listener.setblocking(True)
        accepted, _ = listener.accept()
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        client.close()
        accepted.close()


def test_a_path(tmp_path: Path) -> None:
    path = tmp_path / "app.sock"
    for mode in (0, 0o666, 0o600):  # an old socket is replaced
        bound = sockets.bind_stream("http", str(path), 10, how=SocketSettings(mode=mode))
        with bound.socket:
            assert bound.path == str(path)
            assert bound.queue() == (0, 10)
            assert not mode or stat.S_IMODE(path.stat().st_mode) == mode
            assert sockets.request_variables(bound)["SERVER_PORT"] == "80"
            reach(socket.AF_UNIX, str(path))
    path.unlink()
    path.write_text("somebody's")
    with pytest.raises(BindError, match="Address already in use"):
        sockets.bind_stream("http", str(path), 10)
    assert path.read_text() == "somebody's"


def test_a_paths_socket_is_removed_only_while_it_is_one(tmp_path: Path) -> None:
    path = tmp_path / "app.sock"
    bound = sockets.bind_stream("http", str(path), 10)
    assert sockets.remove_path(bound)
    assert not path.exists()
    assert sockets.remove_path(bound)
    path.write_text("somebody's")
    assert not sockets.remove_path(bound)
    path.unlink()
    with sockets.bind_stream("http", str(path), 10).socket:
        assert not sockets.remove_path(bound)
    assert path.exists()
    bound.socket.close()


def test_an_abstract_name() -> None:
    name = f"palatine-test-{os.getpid()}"
    bound = sockets.bind_stream("uwsgi", f"@{name}", 10)
    with bound.socket:
        reach(socket.AF_UNIX, f"\0{name}")
        assert bound.path == ""


@pytest.mark.parametrize("listening", [True, False])
def test_an_inherited_descriptor(*, listening: bool) -> None:
    given = socket.socket()
    given.bind(("127.0.0.1", 0))
    if listening:
        given.listen(7)
    given.set_inheritable(True)
    address = given.getsockname()
    bound = sockets.bind_stream("http", f"fd://{given.detach()}", 50)
    with bound.socket:
        assert bound.inherited
        assert bound.name == f"127.0.0.1:{address[1]}"
        assert not bound.socket.get_inheritable()
        assert bound.queue() == (0, 7 if listening else 50)
        reach(socket.AF_INET, address)


@pytest.mark.parametrize(
    ("address", "error", "why"),
    [
        ("fd://x", ConfigError, "takes a number"),
        ("fd://-1", ConfigError, "takes a number"),
        ("fd://987654", BindError, "Bad file descriptor"),
        ("fd://1000000000000000000000", ConfigError, "takes a number"),
        ("127.0.0.1:port", ConfigError, "number up to 65535"),
        ("127.0.0.1:99999", ConfigError, "number up to 65535"),
        ("127.0.0.1:", ConfigError, "number up to 65535"),
        ("192.0.2.1:0", BindError, "Cannot assign"),
        ("no.such.host.invalid:80", BindError, "no.such.host"),
        ("/no/such/dir/sock", BindError, "No such file"),
        ("/tmp/" + "x" * 200, BindError, "too long"),
    ],
)
def test_what_cannot_be_bound(address: str, error: type[Exception], why: str) -> None:
    with pytest.raises(error, match=why):
        sockets.bind_stream("http", address, 10)


def test_a_datagram_socket_is_no_stream() -> None:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as given,
        pytest.raises(ConfigError, match="not a stream socket"),
    ):
        sockets.bind_stream("http", f"fd://{given.fileno()}", 10)


def test_a_backlog_beyond_the_kernels() -> None:
    with pytest.raises(ConfigError, match="greater than the system max"):
        sockets.bind_stream("http", "127.0.0.1:0", 10_000_000)


@pytest.mark.parametrize("address", ["127.0.0.1:0", ":0", "224.0.0.71:0"])
def test_datagrams(address: str) -> None:
    with sockets.bind_datagram("snmp", address).socket as bound:
        assert bound.type == socket.SOCK_DGRAM


def test_a_datagram_address_has_a_port() -> None:
    with pytest.raises(ConfigError, match="takes host:port"):
        sockets.bind_datagram("snmp", "2222")


def test_systemds_sockets() -> None:
    assert sockets.systemd_sockets({"LISTEN_PID": "7", "LISTEN_FDS": "2"}, 7) == [3, 4]
    assert sockets.systemd_sockets({"LISTEN_PID": "8", "LISTEN_FDS": "2"}, 7) == []
    assert sockets.systemd_sockets({"LISTEN_PID": "7", "LISTEN_FDS": "x"}, 7) == []
    assert sockets.systemd_sockets({}, 7) == []


def test_only_an_address_in_use_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a crash: until the killed master's workers have let go."""
    tries: list[str] = []
    holder = socket.socket()
    holder.bind(("127.0.0.1", 0))
    holder.listen(1)
    address = f"127.0.0.1:{holder.getsockname()[1]}"

    def bind(_settings: object, _kind: str, wanted: str) -> sockets.Bound:
        tries.append(wanted)
        if len(tries) == 3:
            holder.close()
        return sockets.bind_stream("http", wanted, 10)

    monkeypatch.setattr(foundation, "_bind_now", bind)
    wishes: Any = SimpleNamespace(sockets=[SocketWish("http", address)], daemon_sockets=[], zerg=ZergSettings())
    found = foundation.bind_all(wishes, {}, 10.0)
    assert len(tries) == 3
    with pytest.raises(BindError, match="in use"):
        foundation.bind_all(wishes, {})
    assert len(tries) == 4
    found.requests[0].socket.close()


def test_the_queue_of_a_unix_socket(tmp_path: Path) -> None:
    bound = sockets.bind_stream("http", str(tmp_path / "s"), 5)
    clients = []
    try:
        assert bound.queue() == (0, 5)
        for waiting in (1, 2, 3):
            client = socket.socket(socket.AF_UNIX)
            clients.append(client)
            client.connect(str(tmp_path / "s"))
            assert bound.queue() == (waiting, 5)
    finally:
        for each in (*clients, bound.socket):
            each.close()
