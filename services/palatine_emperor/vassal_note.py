"""What an emperor leaves with the keeper about each vassal, for its successor; must never carry a config's text."""

import attrs
import msgspec

from palatine.codec.keeper import Held
from palatine_emperor.vassal import Limits, Phase, Vassal, Wanted

#: Between monitor and name in a vassal's key; neither can contain it.
_SEPARATOR = "\n"


def key_of(monitor: str, name: str) -> str:
    """How emperor and keeper call a vassal: two monitors may know one name each."""
    return f"{monitor}{_SEPARATOR}{name}"


def split_key(key: str) -> tuple[str, str]:
    """(monitor, name) of a key."""
    monitor, _, name = key.partition(_SEPARATOR)
    return monitor, name


def write_note(vassal: Vassal) -> str:
    """The state as text. The time of the last heartbeat is left out: it would be written every few seconds."""
    times = attrs.evolve(vassal.times, last_heartbeat=0)
    bare = attrs.evolve(
        vassal,
        wanted=_bare(vassal.wanted),
        started=_bare(vassal.started),
        times=times,
        heartbeat_by=1 if vassal.heartbeat_by else 0,
    )
    return msgspec.json.encode(bare).decode()


def read_held(held: Held, now: float, limits: Limits) -> Vassal:
    """The state of a vassal taken over: as its note says, corrected by what the keeper knows of its process.

    Without a readable note it is taken for running an unknown config: the next look at its monitor reloads it.
    """
    _, name = split_key(held.key)
    try:
        vassal = msgspec.json.decode(held.note.encode(), type=Vassal)
    except (msgspec.DecodeError, msgspec.ValidationError):
        unknown = Wanted(name, 0, "/")
        vassal = Vassal(phase=Phase.RUNNING if held.pid else Phase.ABSENT, wanted=unknown, started=unknown)
    heartbeat_by = now + limits.heartbeat if vassal.heartbeat_by else 0
    vassal = attrs.evolve(vassal, adopted=True, heartbeat_by=heartbeat_by)
    if not held.pid or (held.dead and vassal.phase in {Phase.WAITING, Phase.THROTTLED}):
        return attrs.evolve(vassal, pid=0, adopted=False)
    phase = Phase.STOPPING if vassal.phase is Phase.STOPPING else Phase.RUNNING
    return attrs.evolve(vassal, phase=phase, pid=held.pid, started=vassal.started or vassal.wanted)


def _bare(wanted: Wanted | None) -> Wanted | None:
    return wanted and attrs.evolve(wanted, config=None)
