"""`uwsgi.websocket_*`: a request that has become a WebSocket, held by the thread that serves it. Loaded by the first.

Every wait has an end: a client that does not answer a ping in time is gone, and the app gets an OSError.
"""

import contextlib
import re
import select
import time
from collections.abc import Mapping
from typing import Any, Final

from palatine.codec import websocket
from palatine.codec.websocket import Message, WebsocketError
from palatine_app_server.config.http_settings import WebsocketSettings
from palatine_app_server.serving.connection import Connection
from palatine_app_server.serving.core import Core
from palatine_app_server.serving.request import log

_KEY: Final = re.compile(r"[A-Za-z0-9+/]{22}==")
_WORD: Final = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?")
#: Of one call that does not wait: the pieces of a long message.
_MOST_READS: Final = 16
_STATUS: Final = "101 Web Socket Protocol Handshake"


class Websocket:
    """One of them, over `connection`."""

    def __init__(self, connection: Connection, settings: WebsocketSettings) -> None:
        self.connection = connection
        self._settings = settings
        self._decoder = websocket.Decoder(settings.most_bytes)
        self._decoder.feed(connection.take())
        self._pinged = time.monotonic()
        self._answered = True  # the last ping was
        self._closed = False

    def receive(self, *, wait: bool) -> bytes:
        """The next message; b"" where there is none and `wait` is not set. OSError once the connection is over.

        Who does not wait is not kept by a client that only pings: behind a control frame no more is read.
        """
        controls, reads = 0, 0
        try:
            while not self._closed:
                message = self._decoder.next()
                if message is not None:
                    if self._is_data(message):
                        return message.data
                    controls += 1
                    continue
                self._keep_up()
                if not wait and (controls or reads >= _MOST_READS):
                    return b""
                reads += 1
                if not self._read(wait=wait) and not wait:
                    return b""
        except WebsocketError as error:
            self._complain(str(error))
            self._end(error.code)
        except OSError:
            self._closed = True
        raise OSError("unable to receive websocket message")

    def send(self, kind: int, data: bytes) -> int:
        """Send a message; how many bytes that took. OSError."""
        if not self._closed:
            frame = websocket.encode(kind, data)
            try:
                self.connection.send(frame)
            except OSError:
                self._closed = True
            else:
                return len(frame)
        raise OSError("unable to send websocket message")

    def _is_data(self, message: Message) -> bool:
        """Whether the app gets it; control frames are answered here."""
        if message.kind == websocket.PING:
            self.connection.send(websocket.encode(websocket.PONG, message.data))
        elif message.kind == websocket.PONG:
            self._answered = True
        elif message.kind == websocket.CLOSE:
            self.connection.send(websocket.encode(websocket.CLOSE, message.data[:2]))
            self._closed = True
        else:
            return True
        return False

    def _keep_up(self) -> None:
        """Ping, where it is time to; OSError for a client that did not answer."""
        waited = time.monotonic() - self._pinged
        if not self._answered and waited >= self._settings.pong_seconds:
            self._complain(f"no PONG received in {self._settings.pong_seconds} seconds !!!")
            raise OSError("no pong")
        if self._answered and waited >= self._settings.ping_seconds:
            self.connection.send(websocket.encode(websocket.PING))
            self._pinged, self._answered = time.monotonic(), False

    def _read(self, *, wait: bool) -> bool:
        """Whether something came, within the time until `_keep_up` has something to do."""
        try:
            data = self.connection.read()
        except BlockingIOError:
            if wait:
                patience = self._settings.ping_seconds if self._answered else self._settings.pong_seconds
                until = max(0.0, self._pinged + patience - time.monotonic())
                poll = select.poll()
                poll.register(self.connection.fd, select.POLLIN | select.POLLRDHUP)
                poll.poll(until * 1000 + 1)
            return False
        if not data:
            raise OSError("the client is gone")
        self._decoder.feed(data)
        return True

    def _end(self, code: int) -> None:
        self._closed = True
        with contextlib.suppress(OSError):  # it is over in any case
            self.connection.send(websocket.close_frame(code))

    def _complain(self, what: str) -> None:
        environ = self.connection.environ
        request = f'"{environ.get("REQUEST_METHOD", "")} {environ.get("REQUEST_URI", "")}"'
        log(f"[uwsgi-websocket] {request} ({environ.get('REMOTE_ADDR', '')}) {what}\n")


def handshake(core: Core, settings: WebsocketSettings, key: str, origin: str, protocol: str) -> Websocket:
    """Make the request of `core` a WebSocket; "" stands for what the client asked for. OSError where that cannot be."""
    connection, response = core.connection, core.response
    assert connection is not None
    assert response is not None
    environ = connection.environ
    key = key or environ.get("HTTP_SEC_WEBSOCKET_KEY", "")
    origin = origin or environ.get("HTTP_ORIGIN", "") or "*"
    protocol = protocol or environ.get("HTTP_SEC_WEBSOCKET_PROTOCOL", "").partition(",")[0].strip()
    version = environ.get("HTTP_SEC_WEBSOCKET_VERSION", "13")
    words = (origin, protocol or "-")
    if not _asked_for(environ):
        raise OSError("unable to complete websocket handshake: the client asked for none")
    if response.head_sent or version != "13" or not _KEY.fullmatch(key) or not all(map(_WORD.fullmatch, words)):
        raise OSError("unable to complete websocket handshake")
    headers = [("Upgrade", "WebSocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Origin", origin)]
    if protocol:
        headers.append(("Sec-WebSocket-Protocol", protocol))
    headers.append(("Sec-WebSocket-Accept", websocket.accept_key(key)))
    lines = [f"HTTP/1.1 {_STATUS}", *map(": ".join, headers), "", ""]
    head = "\r\n".join(lines).encode("latin-1")
    connection.send(head)
    response.abandon()  # what the app returns in the end is no response any more
    response.status, response.header_count, response.header_bytes = 101, len(headers), len(head)
    return Websocket(connection, settings)


def _asked_for(environ: Mapping[str, Any]) -> bool:
    """Whether the client has asked for it (section 4.2.1): a proxy before us must not take the frames for requests."""
    wanted = [word.strip().lower() for word in environ.get("HTTP_CONNECTION", "").split(",")]
    protocols = [word.strip().lower() for word in environ.get("HTTP_UPGRADE", "").split(",")]
    return environ.get("REQUEST_METHOD") == "GET" and "upgrade" in wanted and "websocket" in protocols
