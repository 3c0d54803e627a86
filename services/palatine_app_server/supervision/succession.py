"""A reload that needs another master: the same process, executed anew with the sockets of the one before.

Most reloads bring up a new generation beside the old one and need nothing of this. What a master is made of cannot
change under it, though: its sockets, its number of processes and threads, its rights, its log. Then the old workers
finish, and the process executes itself again with its own words: same pid, same descriptors. Connections that come
meanwhile wait in the kernel's queue, so nobody is refused; counters begin anew, as with every reload of uWSGI.
"""

import json
import os
import sys
from collections.abc import Mapping, MutableMapping, Sequence
from typing import Final, NamedTuple, NoReturn

from palatine.codec import emperor_pipe
from palatine_app_server.config.settings import AppSettings
from palatine_app_server.config.socket_settings import SocketWish
from palatine_app_server.linking import link_sibling
from palatine_app_server.starting import privileges
from palatine_app_server.system.sockets import GIVEN, STDIN, Bound

#: Names the descriptors a master leaves to its successor: JSON, a list of [kind, address, descriptor].
VARIABLE: Final = "PALATINE_SOCKETS"

#: What a new generation can change without another master.
_GENERATIONAL: Final = frozenset({
    "app", "env", "unenv", "mode", "harakiri_seconds", "mercy_seconds", "lazy_apps", "need_app", "limits",
    "die_on_term", "options", "vacuum", "life", "front", "catch_exceptions", "traits", "http",
})  # fmt: skip


class Words(NamedTuple):
    """How this master was called: what its successor is called with."""

    argv: tuple[str, ...]
    environ: Mapping[str, str]
    cwd: str
    umbrella: bool
    #: What zerg servers gave it when it started, and whether its stdin is a socket.
    given: tuple[tuple[SocketWish, int], ...] = ()
    serves_stdin: bool = False


def needs_successor(old: AppSettings, new: AppSettings) -> bool:
    """Whether the change from `old` to `new` is one a running master cannot make."""
    if old.app.points != new.app.points:  # each has a row of counters
        return True
    return any(getattr(old, name) != getattr(new, name) for name in AppSettings._fields if name not in _GENERATIONAL)


def inherited(environ: MutableMapping[str, str]) -> dict[SocketWish, int]:
    """Take the descriptors a predecessor left out of `environ`, by what the config asked for."""
    left = _left(environ)
    environ.pop(VARIABLE, None)
    return left


def remembered(words: Words) -> Words:
    """What a successor must know of sockets its config does not name: `words` with those its predecessor left it."""
    left = _left(words.environ)
    given = tuple((wish, fd) for wish, fd in left.items() if wish.address.startswith(GIVEN))
    return words._replace(given=given, serves_stdin=any(wish.address == STDIN for wish in left))


def _left(environ: Mapping[str, str]) -> dict[SocketWish, int]:
    left = json.loads(environ.get(VARIABLE, "[]"))
    return {SocketWish(str(kind), str(address)): int(fd) for kind, address, fd in left}


def hand_over(words: Words, wishes: Sequence[SocketWish], bound: Sequence[Bound]) -> NoReturn:
    """Become the successor: every socket stays open, everything else this process has opened closes."""
    left = []
    for wish, one in zip(wishes, bound, strict=True):
        one.socket.set_inheritable(True)
        left.append([wish.kind, wish.address, one.socket.fileno()])
    environ = {**words.environ, VARIABLE: json.dumps(left)}
    if words.umbrella:
        environ["PALATINE_UMBRELLA"] = "1"
    for name in (emperor_pipe.FD_VARIABLE, emperor_pipe.CONFIG_FD_VARIABLE, link_sibling.VARIABLE):
        if environ.get(name, "").isdigit():
            os.set_inheritable(int(environ[name]), True)
    privileges.step_up()
    os.chdir(words.cwd)
    sys.stdout.flush()
    command = [sys.executable, "-P", "-m", "palatine_app_server", *words.argv]
    os.execve(sys.executable, command, environ)  # noqa: S606 - no shell wanted
