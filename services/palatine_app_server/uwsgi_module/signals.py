"""Signals, timers, crons and file monitors: `uwsgi.register_signal` and its kin."""

import operator
import os
from collections.abc import Callable
from typing import Any, Final

from palatine.codec.uwsgi_packet import HEADER_BYTES, SIGNAL, PacketHeader, encode_header, parse_header
from palatine_app_server.sharing import mule_queues
from palatine_app_server.system import own_lines
from palatine_app_server.system.dialling import dial
from palatine_app_server.system.last_words import print_exc
from palatine_app_server.uwsgi_module import arguments
from palatine_app_server.uwsgi_module.seat import Seat

Handler = Callable[[int], Any]

#: How long a signal to another server may take, uWSGI's socket-timeout.
_REMOTE_SECONDS: Final = 4.0
_LONGEST_TARGET: Final = 63
_LONGEST_PATH: Final = 254


class Signals:
    """The handlers of this process; those of the zygote are inherited."""

    def __init__(self, seat: Seat) -> None:
        self._seat = seat
        self._handlers: dict[int, Handler] = {}
        self._received = 0

    def functions(self) -> dict[str, Any]:
        """What the module offers."""
        return {
            "signal": self._signal,
            "register_signal": self._register,
            "signal_registered": lambda number: True if operator.index(number) in self._handlers else None,
            "signal_wait": self._wait,
            "signal_received": lambda: self._received,
            "add_timer": self._add_timer,
            "add_ms_timer": self._add_ms_timer,
            "add_rb_timer": self._add_rb_timer,
            "add_cron": self._add_cron,
            "add_file_monitor": self._add_file_monitor,
        }

    def run(self, number: int) -> None:
        """Run the handler registered for a signal; an exception of its is logged and is nobody else's."""
        handler = self._handlers.get(number)
        if handler is None:
            own_lines.say(f"[uwsgi-signal] signal {number} has no handler in this process")
            return
        try:
            handler(number)
        except Exception:  # noqa: BLE001 - the app's handler may raise anything
            print_exc()

    def _signal(self, number: int, node: str = "") -> None:
        if node:
            _send_remote(arguments.text(node, "signal", 2), _number(number))
        else:
            self._seat.ask({"op": "signal", "number": _number(number)})

    def _register(self, number: int, target: str, handler: Handler) -> None:
        if len(arguments.text(target, "register_signal", 2)) > _LONGEST_TARGET:
            raise ValueError("unable to register signal")
        if not callable(handler):
            raise TypeError("the handler must be callable")
        self._handlers[_number(number)] = handler
        self._seat.ask({"op": "register", "number": number, "target": target})
        shown = target or "default, any worker"
        own_lines.say(
            f"[uwsgi-signal] signum {number} registered (wid: {self._seat.worker} modifier1: 0 target: {shown})"
        )

    def _wait(self, number: int | None = None) -> bytes:
        """Wait for a signal (for `number`, where given), and run its handler."""
        wanted = None if number is None else arguments.byte(number)
        if not self._seat.signals:
            raise SystemError("error waiting for signal")
        while True:
            for fd in mule_queues.wait(self._seat.signals, None):
                try:
                    data = os.read(fd, 1)
                except BlockingIOError:
                    continue  # another process took it
                if data:
                    self.run(data[0])
                    if wanted in {None, data[0]}:
                        self._received = data[0]
                        return b""

    # ---------------------------------------------------------------- what the master does by itself

    def _wish(self, *wish: Any) -> None:
        self._seat.ask({"op": "schedule", "wish": wish})

    def _add_timer(self, number: int, seconds: int) -> None:
        self._wish("timer", _number(number), arguments.integer(seconds), 0)

    def _add_ms_timer(self, number: int, milliseconds: int) -> None:
        self._wish("timer", _number(number), arguments.integer(milliseconds) / 1000, 0)

    def _add_rb_timer(self, number: int, seconds: int, iterations: int = 0) -> None:
        pause = max(1, arguments.integer(seconds))  # uWSGI would keep the master busy with nothing else
        self._wish("timer", _number(number), pause, arguments.integer(iterations))

    def _add_cron(self, number: int, minute: int, hour: int, day: int, month: int, week: int) -> bool:
        self._wish("cron", _number(number), *map(arguments.integer, (minute, hour, day, month, week)))
        return True

    def _add_file_monitor(self, number: int, path: str) -> None:
        if len(arguments.text(path, "add_file_monitor", 2)) > _LONGEST_PATH:
            raise ValueError("unable to add file monitor")
        self._wish("file", _number(number), os.path.abspath(path))


def _send_remote(node: str, number: int) -> None:
    """Send a signal to another server's uwsgi socket; OSError where it cannot be reached, ValueError where refused."""
    try:
        with dial(node, _REMOTE_SECONDS) as peer:
            peer.sendall(encode_header(PacketHeader(SIGNAL, 0, number)))
            answer = b""
            while len(answer) < HEADER_BYTES and (more := peer.recv(HEADER_BYTES - len(answer))):
                answer += more
    except (OSError, ValueError) as error:
        raise OSError(f"unable to deliver signal {number} to node {node}") from error
    if len(answer) < HEADER_BYTES:
        raise OSError(f"unable to deliver signal {number} to node {node}")
    if parse_header(answer).modifier2 != 1:
        raise ValueError(f"node {node} rejected signal {number}")


def _number(value: Any) -> int:
    number = operator.index(value)
    if not 0 <= number <= 255:
        raise ValueError("invalid signal number")
    return number
