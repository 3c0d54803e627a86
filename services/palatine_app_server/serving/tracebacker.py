"""py-tracebacker: a thread of each worker that shows, to whoever connects, where all its threads are.

For people: `palatine --connect-and-read PATH1`. Only the user the app runs as may connect, besides root.
"""

import contextlib
import socket
import sys
import threading
import traceback
from typing import Final

from palatine.errors import ConfigError
from palatine_app_server.system import own_lines, unix_sockets

#: A reader that takes nothing is given up after so many seconds.
_PATIENCE: Final = 10.0


def serve(path: str, worker: int) -> None:
    """Listen at `path` with the worker's number behind it, in a thread of its own; a line says where, or why not."""
    place = f"{path}{worker}"
    try:
        listener = unix_sockets.listening("py-tracebacker", place, 0o600, 8)
    except ConfigError as error:
        own_lines.say(f"python tracebacker for worker {worker}: {error.message}")
        return
    listener.setblocking(True)
    own_lines.say(f"python tracebacker for worker {worker} available on {place}")
    threading.Thread(target=_answer_for_ever, args=(listener,), name="uWSGITraceBacker", daemon=True).start()


def _answer_for_ever(listener: socket.socket) -> None:
    while True:
        try:
            client, _ = listener.accept()
        except OSError:  # out of descriptors: somebody else's problem, and soon over
            threading.Event().wait(1)
            continue
        with client, contextlib.suppress(OSError):  # gone again
            client.settimeout(_PATIENCE)
            client.sendall(told().encode("utf-8", "backslashreplace"))


def told() -> str:
    """Where each thread of this process is, in uWSGI's words."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    lines = ["*** uWSGI Python tracebacker output ***", ""]
    for ident, frame in sys._current_frames().items():  # noqa: SLF001 - there is no other way to ask
        name = names.get(ident, "<UnnamedPythonThread>")
        for entry in traceback.extract_stack(frame):
            where = f"filename = {entry.filename} lineno = {entry.lineno} function = {entry.name}"
            lines.append(f"thread_id = {name} {where}{f' line = {entry.line}' if entry.line else ''}")
        lines.append("")
    return "\n".join([*lines, ""])
