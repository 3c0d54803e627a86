"""Records between an emperor and its keeper; plain, no I/O; must refuse what it cannot read rather than guess.

One record is one datagram of a SOCK_SEQPACKET connection: a JSON object `{"v": 1, "is": "spawn", ...fields}`. Where a
record brings descriptors, its field `parts` names them in order: `pipe` and `config` are the emperor's ends of a
vassal's pipes, `socket` its on-demand socket, `log` what new vassals write their output to. Unknown fields are ignored;
a record of another version, or of a type the reader does not know, is a ProtocolError.
"""

import json
from typing import Any, Final, NamedTuple, TypeAlias

from palatine.errors import ProtocolError

VERSION: Final = 1
#: Largest record: an environment may be long, and a datagram must fit the socket's buffer (212,992 bytes by default).
RECORD_BYTES: Final = 160 * 1024
#: Most descriptors beside one record.
MOST_PARTS: Final = 3

PIPE: Final = "pipe"
CONFIG: Final = "config"
SOCKET: Final = "socket"
LOG: Final = "log"


class Hello(NamedTuple):
    """Emperor: I govern from here on; new vassals write to the `log` descriptors (stdout, stderr) beside this."""

    pid: int
    parts: tuple[str, ...] = ()


class Welcome(NamedTuple):
    """Keeper's answer to `Hello`: how many vassals it holds."""

    pid: int
    vassals: int


class Show(NamedTuple):
    """Emperor: give me vassal `number` (0-based)."""

    number: int


class Held(NamedTuple):
    """Keeper's answer to `Show`: one vassal with its descriptors; `key` is empty when `number` was past the last.

    `pid` is 0 for one that only has an on-demand socket; `born` is when it started, in clock ticks since boot; `dead`
    says that it ended, and `status` with which wait status (None if it was not the keeper's own child).
    """

    key: str
    pid: int = 0
    born: int = 0
    dead: bool = False
    status: int | None = None
    note: str = ""
    parts: tuple[str, ...] = ()


class Spawn(NamedTuple):
    """Emperor: start this vassal. Answered by `Spawned` or `Failed`."""

    key: str
    name: str
    argv: tuple[str, ...]
    environ: dict[str, str]
    cwd: str
    #: Run this program instead of serving in the forked process.
    program: str = ""
    #: Become these before anything of the vassal is read; None stays as the keeper is.
    uid: int | None = None
    gid: int | None = None
    groups: tuple[int, ...] = ()
    #: Make a config pipe as well.
    config: bool = False
    #: The held on-demand socket becomes descriptor 0.
    on_demand: bool = False
    #: A shell command run in the vassal before it starts.
    start_hook: str = ""
    note: str = ""
    #: Hooks of the moment as-vassal, run behind the start hook.
    hooks: tuple[str, ...] = ()
    #: Words of the namespaces it gets of its own.
    namespaces: tuple[str, ...] = ()
    #: Numbers of the capabilities it and what it executes may have; all where there is none.
    capabilities: tuple[int, ...] = ()


class Spawned(NamedTuple):
    """Keeper: the vassal runs; its pipes are beside this."""

    key: str
    pid: int
    born: int
    parts: tuple[str, ...] = ()


class Failed(NamedTuple):
    """Keeper: an order could not be carried out."""

    key: str
    reason: str


class Died(NamedTuple):
    """Keeper: the vassal's master ended, with this wait status; None if it was not the keeper's own child."""

    key: str
    pid: int
    status: int | None


class Signal(NamedTuple):
    """Emperor: signal the vassal's master, or its process group and what earlier masters left in theirs."""

    key: str
    signum: int
    group: bool


class Hold(NamedTuple):
    """Emperor: keep the on-demand socket beside this for that vassal, in the place of an earlier one."""

    key: str
    parts: tuple[str, ...] = (SOCKET,)


class Adopt(NamedTuple):
    """Emperor to a new keeper: a vassal of its predecessor with its descriptors, if `pid` still is who it was."""

    key: str
    pid: int
    born: int
    note: str = ""
    parts: tuple[str, ...] = ()


class Note(NamedTuple):
    """Emperor: remember this text for my successor."""

    key: str
    note: str


class Forget(NamedTuple):
    """Emperor: drop a vassal that is dead or has only a socket."""

    key: str


class Release(NamedTuple):
    """Emperor: leave once the last vassal is gone."""


Record: TypeAlias = (
    Hello | Welcome | Show | Held | Spawn | Spawned | Failed | Died | Signal | Hold | Adopt | Note | Forget | Release
)

_TYPES: Final[dict[str, type[Any]]] = {
    cls.__name__.lower(): cls
    for cls in (
        Hello,
        Welcome,
        Show,
        Held,
        Spawn,
        Spawned,
        Failed,
        Died,
        Signal,
        Hold,
        Adopt,
        Note,
        Forget,
        Release,
    )
}


def encode(record: Record) -> bytes:
    """One record as a datagram.

    Raises:
        ProtocolError: it is larger than `RECORD_BYTES`.
    """
    fields = {"v": VERSION, "is": type(record).__name__.lower(), **record._asdict()}
    data = json.dumps(fields, separators=(",", ":"), ensure_ascii=True).encode()
    if len(data) > RECORD_BYTES:
        raise ProtocolError(f"a keeper record of {len(data)} bytes; at most {RECORD_BYTES} fit")
    return data


def decode(data: bytes) -> Record:
    """A datagram as a record.

    Raises:
        ProtocolError: not one of ours, of another version, or with a field missing or of another type.
    """
    try:
        fields = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ProtocolError("a keeper record is not JSON") from error
    if not isinstance(fields, dict) or fields.get("v") != VERSION:
        raise ProtocolError(f"a keeper record is not of version {VERSION}")
    cls = _TYPES.get(str(fields.get("is")))
    if cls is None:
        raise ProtocolError(f"a keeper record of unknown type {fields.get('is')!r}")
    known = {name: _typed(cls, name, fields[name]) for name in cls._fields if name in fields}
    missing = [name for name in cls._fields if name not in known and name not in cls._field_defaults]
    if missing:
        raise ProtocolError(f"a keeper record {cls.__name__.lower()!r} without {', '.join(missing)}")
    record: Record = cls(**known)
    return record


def _typed(cls: type[Any], name: str, value: Any) -> Any:
    """`value` as the field's annotation wants it; JSON has lists where records have tuples."""
    kind = str(cls.__annotations__[name])
    if kind.startswith("tuple") and isinstance(value, list):
        item = int if "int" in kind else str
        if all(isinstance(member, item) for member in value):
            return tuple(value)
    elif kind.startswith("dict") and isinstance(value, dict):
        if all(isinstance(member, str) for member in value.values()):
            return value
    elif value is None and "None" in kind:
        return None
    else:
        wanted = {"<class 'str'>": str, "<class 'bool'>": bool}.get(kind, int)
        if isinstance(value, wanted) and isinstance(value, bool) == (wanted is bool):
            return value
    raise ProtocolError(f"a keeper record {cls.__name__.lower()!r} with a bad {name!r}")
