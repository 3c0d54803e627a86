"""Alarm actions that run as the app: commands, signals, mule messages and log lines, each once per id.

Plain; a command is started and forgotten until it is reaped: the master never waits for it.
"""

import os
import sys
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, Final

from palatine_app_server.log.logs import Logs
from palatine_app_server.sharing.mule_queues import ANY, MuleQueues

#: Requests are repeated only within the alarm-daemon's retry time; this many ids cover a storm of that long.
REMEMBERED_IDS: Final = 20_000
MOST_COMMANDS: Final = 64
#: A message must fit the pipe a command reads it from, so that writing it never waits (pipe(7)).
MESSAGE_BYTES: Final = 65536
SHELL: Final = "/bin/sh"


class Actions:
    """Runs what `alarm.action` requests name; `deliver_signal` hands a uWSGI signal to its target."""

    def __init__(
        self,
        logs: Logs,
        deliver_signal: Callable[[int], None],
        queues: MuleQueues | None,
        environ: Mapping[str, str],
    ) -> None:
        self._logs = logs
        self._queues = queues
        self._deliver_signal = deliver_signal
        self._environ = dict(environ)
        self._seen: OrderedDict[str, None] = OrderedDict()
        self._commands: set[int] = set()

    def run(self, request: dict[str, Any]) -> dict[str, Any]:
        """Carry out one request; {"accepted": true}, or {"error": code, "message": text} to be asked again later."""
        identity, action = str(request.get("id", "")), str(request.get("action", ""))
        if identity and identity in self._seen:
            return {"accepted": True}
        message = str(request.get("message", "")).encode("latin-1", "replace")[:MESSAGE_BYTES]
        refusal = self._carry_out(action, str(request.get("arg", "")), message)
        if refusal:
            return refusal
        self._seen[identity] = None
        if len(self._seen) > REMEMBERED_IDS:
            self._seen.popitem(last=False)
        return {"accepted": True}

    def reaped(self, pid: int, status: int) -> bool:
        """A child ended; whether it was a command."""
        if pid not in self._commands:
            return False
        self._commands.discard(pid)
        code = os.waitstatus_to_exitcode(status)
        ended = f"killed by signal {-code}" if code < 0 else f"exited with code {code}"
        self._logs.say(f"subprocess {pid} {ended}")
        return True

    def _carry_out(self, action: str, arg: str, message: bytes) -> dict[str, Any] | None:
        if action == "cmd":
            return self._command(arg, message)
        if action == "signal" and arg.strip().isdigit() and int(arg) <= 255:
            self._deliver_signal(int(arg))
            return None
        if action == "mule":
            return self._tell_mule(arg, message)
        if action == "log":
            text = message.decode("utf-8", "replace").rstrip("\n")
            self._logs.say_alarm(f"ALARM: {arg + ' ' if arg else ''}{text}")
            return None
        return {"error": "unsupported", "message": f"alarm action {action}:{arg} cannot be run here"}

    def _tell_mule(self, arg: str, message: bytes) -> dict[str, Any] | None:
        if self._queues is None:
            return None  # as in uWSGI: nobody is there to hear it
        number = int(arg) if arg.strip().isdigit() else ANY
        if number > self._queues.mules:
            self._logs.say(f"[uwsgi-alarm] invalid mule_id ({self._queues.mules} mules available), fallback to 0")
            number = ANY
        if self._queues.send(number, message):
            return None
        return {"error": "busy", "message": f"the queue of mule {number} is full"}

    def _command(self, text: str, message: bytes) -> dict[str, Any] | None:
        if len(self._commands) >= MOST_COMMANDS:
            return {"error": "busy", "message": f"{MOST_COMMANDS} alarm commands are running"}
        reader, writer = os.pipe2(os.O_CLOEXEC)
        try:
            os.write(writer, message)
            pid = os.posix_spawn(
                SHELL,
                [SHELL, "-c", text],
                self._environ,
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, reader, 0),
                    (os.POSIX_SPAWN_DUP2, self._logs.child_fd, 1),
                    (os.POSIX_SPAWN_DUP2, self._logs.child_fd, 2),
                ],
                setsid=True,
                setsigdef=_signals_to_reset(),
            )
        except OSError as error:
            sys.stderr.write(f"[uwsgi-alarm] cannot run {SHELL}: {error.strerror}\n")
            return {"error": "failed", "message": f"{SHELL}: {error.strerror}"}
        finally:
            os.close(reader)
            os.close(writer)
        self._commands.add(pid)
        return None


def _signals_to_reset() -> list[int]:
    import signal

    return [number for number in signal.valid_signals() if number not in {signal.SIGKILL, signal.SIGSTOP}]
