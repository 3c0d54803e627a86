"""WebSockets of a running instance: a client library's, hand-made bytes, over TLS, and waiting for several things."""

import contextlib
import os
import select
import socket
import ssl
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Event,
    Message,
    Ping,
    Pong,
    Request,
    TextMessage,
)

from app_server import AppServer
from browser import Browser
from palatine_app_server.config.http_settings import WebsocketSettings
from palatine_app_server.serving.clients import READ_BYTES, Limits, Listener
from palatine_app_server.serving.connection import Connection
from palatine_app_server.uwsgi_module import websockets
from running import Runner
from secure import Certificates, wrapped
from worker_inside import Client

APP = """
import select
plain = application
def application(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/echo":
        return plain(environ, start_response)
    if path == "/binary":
        return binary(environ)
    if path == "/two":
        return two(environ)
    if path == "/none":
        try:
            uwsgi.websocket_recv()
        except OSError as error:
            start_response("200 OK", [])
            return [str(error).encode()]
    if path.startswith("/socket"):
        uwsgi.websocket_handshake()
        while True:
            message = uwsgi.websocket_recv()
            if message == b"bye":
                return [b"nobody gets this"] if environ["QUERY_STRING"] else []
            uwsgi.websocket_send(message)
    return plain(environ, start_response)
def binary(environ):
    uwsgi.websocket_handshake("", "here", "")
    uwsgi.websocket_send_binary(b"\\0" * 300000)
    assert uwsgi.websocket_recv() == b"\\1" * 200000
    uwsgi.websocket_send("done")
    return []
def two(environ):
    uwsgi.websocket_handshake()
    fd = uwsgi.connection_fd()
    reader, writer = os.pipe()
    os.write(writer, b"piped")
    seen = []
    while len(seen) < 3:
        uwsgi.wait_fd_read(fd, 30)
        if b"piped" not in seen:
            uwsgi.wait_fd_read(reader)
        uwsgi.suspend()
        if uwsgi.ready_fd() == reader:
            seen.append(os.read(reader, 100))
            continue
        while message := uwsgi.websocket_recv_nb():
            seen.append(message)
    os.close(reader)
    os.close(writer)
    uwsgi.async_sleep(0.01)
    uwsgi.suspend()
    assert uwsgi.ready_fd() == -1
    uwsgi.websocket_send(b" ".join(sorted(seen)))
    return []
"""
KEY = "dGhlIHNhbXBsZSBub25jZQ=="


class Peer:
    """A client by wsproto, over anything like a socket."""

    def __init__(self, sock: socket.socket, path: str, protocols: tuple[str, ...] = ()) -> None:
        self.socket = sock
        self.socket.settimeout(30)
        self._events: list[Event] = []
        self._protocol = WSConnection(ConnectionType.CLIENT)
        self.send(Request(host="h", target=path, subprotocols=list(protocols)))
        accepted = self.next()
        assert isinstance(accepted, AcceptConnection), accepted
        self.accepted = accepted

    def send(self, event: Event) -> None:
        self.socket.sendall(self._protocol.send(event))

    def next(self) -> Event:
        while not self._events:
            data = self.socket.recv(65536)
            self._protocol.receive_data(data or None)
            self._events = list(self._protocol.events())
        return self._events.pop(0)

    def message(self) -> str | bytes:
        found: Any = None
        while True:
            event = self.next()
            assert isinstance(event, Message), event
            found = event.data if found is None else found + event.data
            if event.message_finished:
                return bytes(found) if isinstance(event, BytesMessage) else str(found)


@contextlib.contextmanager
def peer(server: AppServer, path: str = "/socket", protocols: tuple[str, ...] = ()) -> Iterator[Peer]:
    with socket.create_connection(server.address(), 30) as sock:
        yield Peer(sock, path, protocols)


def request(*headers: str) -> bytes:
    lines = ["GET /socket HTTP/1.1", "Host: h", "Upgrade: websocket", "Connection: Upgrade", *headers, "", ""]
    return "\r\n".join(lines).encode()


def test_a_client_library(programs: Runner) -> None:
    server = AppServer(programs, "--threads", "2", app=APP)
    with peer(server, protocols=("chat", "other")) as client:
        assert client.accepted.subprotocol == "chat"
        client.send(TextMessage("hallo ü"))
        assert client.message() == "hallo ü"
        client.send(TextMessage("in ", message_finished=False))
        client.send(Ping(b"between"))
        client.send(TextMessage("pieces"))
        assert client.next() == Pong(b"between")
        assert client.message() == "in pieces"
        assert server.get("/pid") == str(server.pids()[0]).encode()  # the other thread serves meanwhile
        client.send(CloseConnection(1000))
        closed = client.next()
        assert isinstance(closed, CloseConnection)
        assert closed.code == 1000
    server.running.wait_for("GET /socket => generated 21 bytes in")  # two messages with their heads
    assert "(HTTP/1.1 101)" in server.running.output()
    with peer(server, "/binary") as client:
        assert client.message() == b"\0" * 300000
        client.send(BytesMessage(b"\1" * 200000))
        assert client.message() == "done"
        assert client.socket.recv(1) == b""
    with peer(server, "/socket?more") as client:
        client.send(TextMessage("bye"))
        assert client.socket.recv(1) == b""
    assert server.get("/none") == b"this request is no websocket: call uwsgi.websocket_handshake() first"
    assert server.read("slots")[0]["respawn_count"] == 1


def test_waiting_for_two_things(programs: Runner) -> None:
    server = AppServer(programs, app=APP)
    with peer(server, "/two") as client:
        client.send(TextMessage("one"))
        client.send(TextMessage("more"))
        assert client.message() == "more one piped"


def test_over_tls_and_behind_the_handshake(programs: Runner) -> None:
    secure = Certificates(programs)
    server = AppServer(programs, app=APP, listen=("--https-socket", secure.value))
    context: ssl.SSLContext = secure.context()
    with wrapped(server.address(), b"", context) as sock:
        client = Peer(sock, "/socket")
        client.send(TextMessage("secret" * 10000))
        assert client.message() == "secret" * 10000


def frames(client: Client) -> bytes:
    client.until(b"\r\n\r\n")
    return client.rest()


def test_what_is_refused_and_who_does_not_answer(programs: Runner) -> None:
    words = ("--websockets-max-size", "1", "--websockets-ping-freq", "1", "--websockets-pong-tolerance", "1")
    server = AppServer(programs, *words, app=APP)
    good = request(f"Sec-WebSocket-Key: {KEY}", "Sec-WebSocket-Version: 13")
    with server.connect() as client:
        client.send(good)
        head = client.until(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 Web Socket Protocol Handshake\r\nUpgrade: WebSocket\r\n")
        assert b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" in head
        assert b"Content-Length" not in head
        client.send(b"\x81\x05Hello")
        assert client.rest() == b"\x88\x02\x03\xea"
    with server.connect() as client:  # what comes with the request is not lost
        client.send(good + bytes.fromhex("82fe0401") + os.urandom(4) + b"x" * 1025)
        assert frames(client) == b"\x88\x02\x03\xf1"
    with server.connect() as client:
        client.send(good)
        assert frames(client) == b"\x89\x00"  # a ping, and then the end
    output = server.running.wait_for("no PONG received in 1 seconds !!!")
    assert '[uwsgi-websocket] "GET /socket" (127.0.0.1) frame without a mask' in output
    for wrong in (
        request("Sec-WebSocket-Version: 13"),
        request("Sec-WebSocket-Key: short", "Sec-WebSocket-Version: 13"),
        request(f"Sec-WebSocket-Key: {KEY}", "Sec-WebSocket-Version: 8"),
        good.replace(b"Upgrade: websocket\r\n", b""),
        good.replace(b"GET", b"POST"),
    ):
        with server.connect() as client:
            client.send(wrong)
            assert client.response()[0].startswith(b"HTTP/1.1 500 ")
    with server.connect() as client:
        client.send(good)
        client.until(b"\r\n\r\n")  # and gone
    server.running.wait_for("unable to receive websocket message")
    assert server.get("/pid") == str(server.pids()[0]).encode()


@pytest.mark.interop
def test_a_flood_of_pings_does_not_keep_who_does_not_wait() -> None:
    """All of it is there before the first call, which comes back before it has read all; nothing behind it is lost."""
    ours, theirs = socket.socketpair()
    with theirs:
        ours.setblocking(False)
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
        theirs.settimeout(30)
        pongs: list[bytes] = []
        reader = threading.Thread(target=lambda: pongs.extend(iter(lambda: theirs.recv(1 << 20), b"")))
        listener = Listener(ours, ours.fileno(), "", "http", {})
        connection = Connection(ours.detach(), "", listener, Limits(), 0.0)
        reader.start()  # or the kernel would have no room for the answers
        try:
            peer = websockets.Websocket(connection, WebsocketSettings())
            count = 2 * READ_BYTES // 6
            theirs.sendall(b"\x89\x80\0\0\0\0" * count + b"\x81\x83\0\0\0\0end")
            answers = [peer.receive(wait=False)]
            assert select.select([connection.fd], [], [], 0)[0], "there is more to read"
            while not answers[-1]:
                answers.append(peer.receive(wait=False))
        finally:
            connection.close()
            reader.join(30)
        assert answers == [b""] * (len(answers) - 1) + [b"end"]
        assert b"".join(pongs) == b"\x8a\0" * count


def test_a_browser(programs: Runner) -> None:
    server = AppServer(programs, app=APP)
    host, port = server.address()
    script = """(async () => {
        const socket = new WebSocket("ws://%s/socket", ["chat", "other"]);
        await new Promise((done, failed) => { socket.onopen = done; socket.onerror = failed; });
        const said = new Promise((done) => { socket.onmessage = (event) => done(event.data); });
        socket.send("x".repeat(70000) + "ü");
        const answer = await said;
        const closed = new Promise((done) => { socket.onclose = (event) => done(event.wasClean); });
        socket.close(1000);
        return [socket.protocol, answer.length, answer.endsWith("ü"), await closed].join();
    })()"""
    with Browser() as browser:
        browser.go(f"http://{host}:{port}/")
        browser.wait_for("document.body && document.body.innerText == 'ok'")
        assert browser.run(script % f"{host}:{port}") == "chat,70001,true,true"
