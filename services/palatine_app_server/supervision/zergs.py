"""Zergs: instances that serve the sockets of another one, or of a pool; both sides, as uWSGI's. Plain.

A zerg asks once, when it starts; what it was given stays open in it whatever becomes of the giver, and over its own
reloads. What the sockets speak a uWSGI does not say, so a zerg takes its own `protocol` for all of them. An instance of
palatine says it to those of palatine, and gives them its router sockets (`http`) as well: uWSGI has a process behind
those, and gives its zergs only what that one talks to.
"""

import contextlib
import json
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Final, NamedTuple

from palatine.errors import PalatineError
from palatine_app_server.config.settings import AppSettings
from palatine_app_server.config.socket_settings import CGI, SocketWish
from palatine_app_server.config.zerg_settings import ZergSettings
from palatine_app_server.system import descriptor_gifts, sockets, unix_sockets
from palatine_app_server.system.descriptor_gifts import Door
from palatine_app_server.system.loop import Loop
from palatine_app_server.system.sockets import Bound

#: What uWSGI sends before the number of descriptors.
TAG: Final = b"uwsgi-zerg"
#: As long as uWSGI waits for a zerg server.
ASK_SECONDS: Final = 30.0
#: What a giver may say its sockets speak; TLS stays with the instance that has the keys.
_SPOKEN: Final = frozenset({"uwsgi", "http", *CGI})


class ZergError(PalatineError):
    """There are no sockets to be had: exit code 1, as uWSGI's."""


class Given(NamedTuple):
    """A socket a zerg server gave: its descriptor, and what is spoken on it."""

    fd: int
    kind: str


def ask(settings: ZergSettings, kind: str, say: Callable[[str], None]) -> list[Given]:
    """Every socket the zerg servers of `settings` give; `kind` is what is spoken where they do not say it.

    ZergError where one of them is not there, unless the config says what to fall back on.
    """
    found: list[Given] = []
    for node in settings.nodes:
        try:
            found += _asked(node, kind)
        except (OSError, PalatineError, ValueError) as error:
            what = "unable to connect to" if isinstance(error, OSError) else "invalid data received from"
            text = f"--- {what} zerg server {node} ---"
            if not settings.fallback:
                for given in found:
                    os.close(given.fd)
                raise ZergError(f"{text} ({error})") from error
            say(text)
    return found


def _asked(node: str, kind: str) -> list[Given]:
    gift = descriptor_gifts.fetch(node, TAG, ASK_SECONDS)
    try:
        kinds = json.loads(gift.note)["kinds"] if gift.note else []
        if not all(map(sockets.listens, gift.descriptors)):
            raise ValueError("not every descriptor it gives is a listening stream socket")
        told = [word if word in _SPOKEN else kind for word in kinds]
    except (ValueError, KeyError, TypeError) as error:
        for fd in gift.descriptors:
            os.close(fd)
        raise ValueError(f"{node}: {error}") from error
    told += [kind] * (len(gift.descriptors) - len(told))
    return [Given(fd, word) for fd, word in zip(gift.descriptors, told, strict=False)]


def wishes(given: Sequence[Given], configured: Sequence[SocketWish]) -> Iterator[tuple[SocketWish, int]]:
    """What was given, as sockets of this instance: those the config names itself are what it says they are."""
    named, others = sockets.matched(configured, [each.fd for each in given])
    yield from named.items()
    kinds = {each.fd: each.kind for each in given}
    for number, fd in enumerate(others):
        yield SocketWish(kinds[fd], f"{sockets.GIVEN}{number}"), fd


def zerg_server(settings: AppSettings, requests: Sequence[Bound], loop: Loop, say: Callable[[str], None]) -> Door:
    """`zerg-server`: gives this instance's sockets to who may connect, which the file's mode says (by the umask)."""
    pairs = zip(settings.traits, settings.sockets, requests, strict=False)
    ours = [(trait.router, bound) for trait, _, bound in pairs if bound.kind in _SPOKEN]
    plain = [bound for router, bound in ours if not router]
    routers = [bound for router, bound in ours if router]
    note = json.dumps({"kinds": [bound.kind for bound in (*plain, *routers)]}).encode()

    def answer(client: socket.socket) -> None:
        descriptor_gifts.give(client, TAG, [bound.socket.fileno() for bound in plain])
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # a uWSGI has what it wants
            socket.send_fds(client, [note], [bound.socket.fileno() for bound in routers])

    listener = unix_sockets.listening("zerg-server", settings.zerg.server, None)
    say(f"*** Zerg server enabled on {settings.zerg.server} ***")
    return Door("zerg-server", settings.zerg.server, listener, loop, say, answer)


def zerg_pools(
    settings: ZergSettings, bound: Sequence[Bound], loop: Loop, say: Callable[[str], None]
) -> Iterator[Door]:
    """`zergpool`: each gives sockets that were bound for zergs alone, and are served by nobody here."""
    waiting = iter(bound)  # in the order of `settings.wishes`
    for pool in settings.pools:
        door = next(waiting)
        pooled = [next(waiting) for _ in pool.addresses]
        for one in pooled:
            family = "UNIX" if one.socket.family == socket.AF_UNIX else "TCP"
            say(f"zergpool {pool.name} bound to {family} socket {one.name} (fd: {one.socket.fileno()})")
        fds = [one.socket.fileno() for one in pooled]
        answer = partial(descriptor_gifts.give, tag=TAG, descriptors=fds)
        beside = [one.socket for one in pooled]
        yield Door("zergpool", pool.name, door.socket, loop, say, answer, stays=True, beside=beside)
