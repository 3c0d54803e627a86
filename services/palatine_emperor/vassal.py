"""What is known of one vassal, what can happen to it and what can be done: values only, nothing here decides."""

from enum import Enum
from typing import TypeAlias

import attrs

from palatine_emperor.throttle_policy import Blame, Throttle


@attrs.frozen
class Wanted:
    """A vassal as a monitor wants it.

    Attributes:
        name: its id, as uWSGI would show it: a file's name or path, or what a row or message calls it.
        stamp: grows with every change of the config; unix nanoseconds.
        directory: where it starts, and `UWSGI_VASSALS_DIR`.
        config: its text where the config is not a file; it then travels on the config pipe.
        uid, gid: whom it runs as under a tyrant; None where it runs as the emperor.
        socket: on-demand socket, empty for a vassal that runs all the time.
        executable: the config is what the file prints.
        zerg_of: of a zerg, the vassal it helps: its config is the section [zerg] of that one's.
        zerg: its number among zergs; 0 for a vassal of its own.
    """

    name: str
    stamp: int
    directory: str
    config: bytes | None = attrs.field(default=None, repr=False)
    uid: int | None = None
    gid: int | None = None
    socket: str = ""
    executable: bool = False
    zerg_of: str = ""
    zerg: int = 0


class Phase(Enum):
    """Where a vassal is in its life."""

    ABSENT = "absent"
    WAITING = "waiting"  # on demand: its socket is bound, nobody has called
    STARTING = "starting"  # ordered from the keeper
    RUNNING = "running"
    STOPPING = "stopping"  # told to stop, or its pipe is closed
    THROTTLED = "throttled"
    REFUSED = "refused"  # until its config changes or somebody asks


@attrs.frozen
class Times:
    """When things last happened, on the monotonic clock; 0 for never."""

    born: float = 0
    first_run: float = 0
    last_run: float = 0
    last_ready: float = 0
    last_accepting: float = 0
    last_loyal: float = 0
    last_heartbeat: float = 0
    cursed: float = 0


@attrs.frozen
class Vassal:
    """The state `decide` works on.

    Attributes:
        wanted: what should run; None once it should go.
        started: what the present process was started as.
        until: when the phase wants a `Tick`; 0 for never.
        heartbeat_by: when the next heartbeat is due; 0 before the first.
        bound: address of the on-demand socket that is held for it.
        asks: it asked for its config before this emperor knew it.
        asked: it stops because it was told to.
        held: it was stopped by an operator and stays so until its config changes.
        foreign: it refused its config, and is another program's until that changes.
        reason: why it does not run, in its own words where it had any.
    """

    phase: Phase = Phase.ABSENT
    wanted: Wanted | None = None
    started: Wanted | None = None
    pid: int = 0
    spawned: bool = False
    accepting: bool = False
    loyal: bool = False
    reloading: bool = False
    until: float = 0
    heartbeat_by: float = 0
    bound: str = ""
    asks: bool = False
    asked: bool = False
    held: bool = False
    foreign: bool = False
    adopted: bool = False
    reason: str = ""
    status: int | None = None
    respawns: int = 0
    blame: Blame | None = None
    times: Times = attrs.field(factory=Times)


@attrs.frozen
class Limits:
    """The settings `decide` obeys; seconds."""

    throttle: Throttle = attrs.field(factory=Throttle)
    curse_tolerance: float = 30
    heartbeat: float = 30
    graceful: bool = False
    #: There is another program for vassals that refuse their config.
    other_program: bool = False
    #: Zergs there may be at once; 0: nobody gets any.
    broodlord: int = 0


# What can happen.


@attrs.frozen
class Want:
    """A monitor wants it so (again)."""

    wanted: Wanted


@attrs.frozen
class Unwant:
    """The monitor does not want it any more."""


@attrs.frozen
class Started:
    """The keeper forked it."""

    pid: int


@attrs.frozen
class NotStarted:
    """The keeper could not start it."""

    reason: str


@attrs.frozen
class Said:
    """A message came through its pipe (`palatine.codec.emperor_pipe`)."""

    kind: int
    text: str = ""


@attrs.frozen
class Lost:
    """Its end of the pipe is closed."""


@attrs.frozen
class Died:
    """Its master ended with this wait status; None where nobody could tell."""

    status: int | None


@attrs.frozen
class Knock:
    """Somebody connected to its on-demand socket."""


@attrs.frozen
class NotBound:
    """Its on-demand socket could not be bound."""

    reason: str


@attrs.frozen
class Tick:
    """The time of `deadline()` has come."""


@attrs.frozen
class Reload:
    """HUP, or an operator's touch, which also ends a wait or a refusal."""

    insist: bool = False


@attrs.frozen
class Pardon:
    """Forget its failures."""


@attrs.frozen
class Stop:
    """Stop it; `hold` keeps it known and stopped, otherwise it is forgotten."""

    hold: bool = False


@attrs.frozen
class NoMercy:
    """It had time enough to stop."""


Event: TypeAlias = (
    Want
    | Unwant
    | Started
    | NotStarted
    | Said
    | Lost
    | Died
    | Knock
    | NotBound
    | Tick
    | Reload
    | Pardon
    | Stop
    | NoMercy
)

# What can be done.


@attrs.frozen
class Start:
    """Have the keeper start it, or the other program for foreign ones."""

    wanted: Wanted
    foreign: bool = False


@attrs.frozen
class Send:
    """Write one byte to its pipe."""

    byte: int


@attrs.frozen
class SendConfig:
    """Write its newest config to its config pipe."""


@attrs.frozen
class KillGroup:
    """SIGKILL to its process group and what earlier masters left in theirs."""


@attrs.frozen
class Bind:
    """Bind its on-demand socket, have the keeper hold it, and watch it."""

    address: str


@attrs.frozen
class Watch:
    """Watch the on-demand socket (again)."""


@attrs.frozen
class Unbind:
    """Close its on-demand socket."""


@attrs.frozen
class Forget:
    """Have the keeper forget it."""


@attrs.frozen
class Summon:
    """See whether it gets a zerg: it asked for help."""


@attrs.frozen
class Say:
    """A line for the log: a dotted event name, uWSGI's text, and whether uWSGI puts the time before it."""

    event: str
    text: str
    stamped: bool = True


Action: TypeAlias = Start | Send | SendConfig | KillGroup | Bind | Watch | Unbind | Forget | Summon | Say
