"""The request a thread is in: `uwsgi.set_logvar`, `uwsgi.disconnect` and their kin. Outside a request they refuse."""

import contextlib
import os
import select
import socket
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from palatine.counters import Segment
from palatine_app_server.config.front_settings import FrontSettings
from palatine_app_server.config.http_settings import WebsocketSettings
from palatine_app_server.serving.core import Core
from palatine_app_server.serving.file_wrapper import FileWrapper
from palatine_app_server.system import own_lines
from palatine_app_server.system.dialling import dial
from palatine_app_server.uwsgi_module import arguments
from palatine_app_server.uwsgi_module.seat import Seat

if TYPE_CHECKING:  # loaded by the app that has a websocket, waits or routes
    from palatine_app_server.routing.app_routes import AppRoutes
    from palatine_app_server.serving.chunked_body import ChunkedBody
    from palatine_app_server.uwsgi_module.waiting import Waiting
    from palatine_app_server.uwsgi_module.websockets import Websocket

#: Of palatine.codec.websocket, which is loaded by the first handshake.
TEXT: Final = 1
BINARY: Final = 2
_RECEIVE_BYTES: Final = 4096
_CHUNK_BYTES: Final = 65536
_CONNECT_SECONDS: Final = 4


class Current:
    """Calls about the running request, and on plain descriptors."""

    def __init__(self, seat: Seat, segment: Segment, websockets: WebsocketSettings, front: FrontSettings) -> None:
        self._seat = seat
        self._segment = segment
        self._websocket_settings = websockets
        self._front = front
        self._routes: AppRoutes | None = None
        self._websockets: dict[int, Websocket] = {}  # by core; that of a request before is known by its connection
        self._waiting = threading.local()

    def functions(self) -> dict[str, Any]:
        """What the module offers."""
        return {
            "request_id": self._request_id,
            "log_this_request": self._log_this,
            "set_logvar": self._set_logvar,
            "get_logvar": self._get_logvar,
            "add_var": self._add_var,
            "cl": lambda: int(self._environ().get("CONTENT_LENGTH") or 0),
            "connection_fd": lambda: self._connection().fd,
            "disconnect": self._disconnect,
            "sendfile": self._send_file,
            "offload": lambda path, length=0: self._send_file(path, length=length),
            "chunked_read": self._chunked_read,
            "chunked_read_nb": self._chunked_read_now,
            "route": self._route,
            "set_user_harakiri": self._set_harakiri,
            "suspend": lambda: self._waits().suspend(),
            "green_schedule": lambda: self._waits().suspend(),
            "wait_fd_read": lambda fd, timeout=0: self._want(fd, select.POLLIN, timeout),
            "wait_fd_write": lambda fd, timeout=0: self._want(fd, select.POLLOUT, timeout),
            "ready_fd": lambda: self._waits().ready,
            "async_sleep": self._sleep,
            "async_connect": _connect_now,
            "websocket_handshake": self._handshake,
            "websocket_recv": lambda: self._websocket().receive(wait=True),
            "websocket_recv_nb": lambda: self._websocket().receive(wait=False),
            "websocket_send": lambda data: self._send_message(TEXT, arguments.data(data, "websocket_send")),
            "websocket_send_binary": lambda data: self._send_message(
                BINARY, arguments.data(data, "websocket_send_binary")
            ),
            "connect": _connect,
            "is_connected": _is_connected,
            "send": self._send,
            "recv": self._receive,
            "close": os.close,
        }

    def environ(self) -> dict[str, Any]:
        """The variables of the running request; {} outside one."""
        core = self._core_or_none()
        return self._environ() if core is not None else {}

    def start_response(self) -> Callable[..., Any] | None:
        """That of the running request; None outside one."""
        core = self._core_or_none()
        return None if core is None or core.response is None else core.response.start_response

    def _core_or_none(self) -> Core | None:
        thread = threading.get_ident()
        for core in self._seat.cores:
            if core.thread == thread and core.connection is not None:
                return core
        return None

    def _core(self) -> Core:
        core = self._core_or_none()
        if core is None:
            raise RuntimeError("this thread is in no request")
        return core

    def _connection(self) -> Any:
        return self._core().connection

    def _environ(self) -> dict[str, Any]:
        found: dict[str, Any] = self._connection().environ
        return found

    def _route(self, router: str, argument: str) -> int:
        """One action of the routing's, now; 0, 1 or 2: how a table would go on; -1 where there is no such action."""
        words = arguments.text(router, "route"), arguments.text(argument, "route", 2)
        if self._routes is None:
            from palatine_app_server.routing.app_routes import AppRoutes

            self._routes = AppRoutes(self._front)
        return self._routes.route(self._core(), *words)

    # ---------------------------------------------------------------- log

    def _request_id(self) -> int:
        row = (self._seat.worker - 1) * len(self._seat.cores) + self._core().id
        word = self._segment.word("cores", "requests")
        return sum(self._segment.cells("cores", row, bank)[word] for bank in (0, 1))

    def _log_this(self) -> None:
        self._core().note().log_this = True

    def _set_logvar(self, name: str | bytes, value: str | bytes) -> None:
        key, text = arguments.data(name, "set_logvar"), arguments.data(value, "set_logvar", 2)
        self._core().note().variables[key.decode("latin-1")] = text.decode("latin-1")

    def _get_logvar(self, name: str | bytes) -> bytes | None:
        value = self._core().note().variables.get(arguments.data(name, "get_logvar").decode("latin-1"))
        return None if value is None else value.encode("latin-1")

    def _add_var(self, name: str | bytes, value: str | bytes) -> bool:
        key, text = arguments.data(name, "add_var"), arguments.data(value, "add_var", 2)
        self._environ()[key.decode("latin-1")] = text.decode("latin-1")
        return True

    # ---------------------------------------------------------------- the connection

    def _disconnect(self) -> None:
        """The client has its answer; the app goes on."""
        core = self._core()
        response, connection = core.response, core.connection
        assert response is not None
        assert connection is not None
        response.keep_alive = False
        with socket.socket(fileno=os.dup(connection.fd)) as peer, contextlib.suppress(OSError):  # gone by itself
            peer.shutdown(socket.SHUT_RDWR)

    # ---------------------------------------------------------------- websockets and waiting

    def _handshake(self, key: str | bytes = "", origin: str | bytes = "", protocol: str | bytes = "") -> None:
        from palatine_app_server.uwsgi_module import websockets  # few apps have any

        words = [
            arguments.data(word, "websocket_handshake", number).decode("latin-1")
            for number, word in enumerate((key, origin, protocol), 1)
        ]
        core = self._core()
        self._websockets[core.id] = websockets.handshake(core, self._websocket_settings, *words)

    def _websocket(self) -> "Websocket":
        core = self._core()
        found = self._websockets.get(core.id)
        if found is None or found.connection is not core.connection:
            raise OSError("this request is no websocket: call uwsgi.websocket_handshake() first")
        return found

    def _send_message(self, kind: int, data: bytes) -> None:
        sent = self._websocket().send(kind, data)
        response = self._core().response
        assert response is not None
        response.body_bytes += sent

    def _waits(self) -> "Waiting":
        found: Waiting | None = getattr(self._waiting, "waiting", None)
        if found is None:
            from palatine_app_server.uwsgi_module import waiting

            found = self._waiting.waiting = waiting.Waiting()
        return found

    def _sleep(self, seconds: float) -> bytes:
        self._waits().sleep(float(seconds))
        return b""

    def _want(self, fd: int, events: int, seconds: int) -> bytes:
        self._waits().want(fd, events, seconds)
        return b""

    def _send_file(self, what: Any, chunk: int = 0, start: int = 0, length: int = 0) -> bytes | None:
        """Send a file, named, open or a descriptor (which is closed), as the response's body or a part of it.

        A file that cannot be opened is a line in the log and None, as in uWSGI.
        """
        del chunk  # of a C buffer
        response = self._core().response
        assert response is not None
        with contextlib.ExitStack() as opened:
            file = what
            if isinstance(what, str | bytes | int | os.PathLike):
                try:
                    file = opened.enter_context(open(what, "rb"))
                except OSError as error:
                    own_lines.say(f"sendfile(): {error}")
                    return None
            if start:
                file.seek(start)
            left = length or None
            for block in FileWrapper(file, _CHUNK_BYTES):
                response.write(block if left is None else block[:left])
                left = None if left is None else left - len(block)
                if left is not None and left <= 0:
                    break
        return b""

    def _chunked_read(self, timeout: int = 0) -> bytes:
        """The next chunk, within `timeout` seconds; b"" behind the last. Of a body that is all here a part."""
        body = self._chunks()
        return body.chunk(arguments.integer(timeout)) if body is not None else self._part_of_body()

    def _chunked_read_now(self) -> bytes | None:
        """The same; None where it is not here yet."""
        body = self._chunks()
        return body.chunk_now() if body is not None else self._part_of_body()

    def _chunks(self) -> "ChunkedBody | None":
        from palatine_app_server.serving.chunked_body import ChunkedBody

        raw = getattr(self._connection().body, "raw", None)
        return raw if isinstance(raw, ChunkedBody) else None

    def _part_of_body(self) -> bytes:
        body = self._connection().body
        return b"" if body is None else bytes(body.read(_CHUNK_BYTES))

    def _send(self, fd_or_data: Any, data: Any = None) -> bool:
        if data is None:
            response = self._core().response
            assert response is not None
            response.write(arguments.data(fd_or_data, "send"))
            return True
        return os.write(fd_or_data, arguments.data(data, "send", 2)) > 0

    @staticmethod
    def _receive(fd: int, size: int = _RECEIVE_BYTES) -> bytes | None:
        return os.read(fd, min(size, _RECEIVE_BYTES)) or None

    def _set_harakiri(self, seconds: int) -> None:
        """End this process in `seconds` unless this is called again; 0: what the config says counts again."""
        seconds = arguments.integer(seconds)
        if self._seat.aide is not None:
            self._seat.aide.arm(seconds)
            return
        core = self._core_or_none()
        if core is None:
            return
        configured = self._seat.harakiri_seconds
        deadline = time.monotonic() + seconds if seconds else core.started + configured if configured else 0.0
        core.ledger.arm(int(deadline * 1000))
        if seconds:
            self._seat.ask({"op": "harakiri"})  # the master may have had no reason to look until now


def _connect(address: str, timeout: int = _CONNECT_SECONDS) -> int:
    """A descriptor connected to host:port or a UNIX socket's path; -1 where nobody answers, as in uWSGI."""
    try:
        return dial(arguments.text(address, "connect"), timeout or _CONNECT_SECONDS).detach()
    except OSError:
        return -1


def _connect_now(address: str) -> int:
    from palatine_app_server.uwsgi_module.waiting import connect_now

    return connect_now(address)


def _is_connected(fd: int) -> bool:
    try:
        with socket.socket(fileno=os.dup(fd)) as peer:
            if peer.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                return False
    except OSError:  # no socket at all
        return False
    poll = select.poll()
    poll.register(fd, select.POLLRDHUP)
    return not poll.poll(0)
