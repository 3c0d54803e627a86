"""A vassal that stands between its Emperor and another instance, and that other instance's way to it. Plain.

With `emperor-proxy-socket` a vassal does not listen to its Emperor: it gives its ends of the Emperor's pipes to who
connects there, of its own user, and that instance (in a container or namespace, say) is the vassal from then on. It is
started with UWSGI_EMPEROR_PROXY=PATH. As uWSGI, from which the other end may be.
"""

import os
import socket
import time
from collections.abc import Callable, Mapping
from typing import Final

from palatine.codec import emperor_pipe
from palatine.errors import DeadlineError, PeerError
from palatine_app_server.system import descriptor_gifts, unix_sockets
from palatine_app_server.system.descriptor_gifts import Door
from palatine_app_server.system.loop import Loop

#: Names the socket to an instance behind a proxy.
VARIABLE: Final = "UWSGI_EMPEROR_PROXY"
TAG: Final = b"uwsgi-emperor"
#: uWSGI asks for ever; who started us can do that as well.
ASK_SECONDS: Final = 60.0
_AGAIN_SECONDS: Final = 0.2


def proxy_door(path: str, environ: Mapping[str, str], loop: Loop, say: Callable[[str], None]) -> Door:
    """The door at `path`, mode 0600, that gives the pipes `environ` names; ConfigError where it cannot be bound."""
    names = (emperor_pipe.FD_VARIABLE, emperor_pipe.CONFIG_FD_VARIABLE)
    pipes = [int(environ[name]) for name in names if environ.get(name, "").isdigit()]

    def answer(client: socket.socket) -> None:
        descriptor_gifts.give(client, TAG, pipes)

    listener = unix_sockets.listening("emperor-proxy-socket", path, 0o600)
    return Door("emperor-proxy-socket", path, listener, loop, say, answer)


def through_proxy(environ: Mapping[str, str]) -> dict[str, str]:
    """`environ` with the pipes a proxy has given, where it names one; DeadlineError where none comes to give them."""
    environ = dict(environ)
    path = environ.pop(VARIABLE, "")
    os.environ.pop(VARIABLE, None)  # what the app starts is no vassal
    if not path:
        return environ
    deadline = time.monotonic() + ASK_SECONDS
    pipes = _pipes(path)
    while not pipes:
        if time.monotonic() >= deadline:
            raise DeadlineError(f"{VARIABLE}={path}: nobody gives the Emperor's pipe away there")
        time.sleep(_AGAIN_SECONDS)  # a proxy tells nobody when it comes; nothing of ours runs yet
        pipes = _pipes(path)
    for name, fd in zip((emperor_pipe.FD_VARIABLE, emperor_pipe.CONFIG_FD_VARIABLE), pipes, strict=False):
        environ[name] = str(fd)
    return environ


def _pipes(path: str) -> list[int]:
    try:
        return descriptor_gifts.fetch(path, TAG, ASK_SECONDS).descriptors
    except (OSError, PeerError):
        return []
