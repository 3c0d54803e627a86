"""What sender and intake say to each other, and how much may be under way; values only.

| frame   | from      | id      | seq                         | body                        |
|---------|-----------|---------|-----------------------------|-----------------------------|
| (empty) | connector | -       | -                           | libzmq's probe: "I am here" |
| invite  | binder    | zero    | 0                           | -                           |
| hello   | connector | session | 0                           | Hello                       |
| welcome | binder    | session | 0                           | Hello                       |
| events  | sender    | session | number of the event before  | list of Event               |
| ack     | intake    | session | all up to here are durable  | -                           |
| beat    | both      | session | 0                           | -                           |
| error   | both      | session | 0                           | Refusal                     |

The connector opens the session whenever it is invited; the binder invites whoever it does not know. In each session
the sender starts again after the last acknowledged event. `seq` of an `events` frame is the last number sent before it
in this session (0 at first), so what was lost on the way shows, while a number that was never sent (dropped, or skipped
at a restart) does not matter.
"""

from typing import Any, Final

import msgspec

#: Unacknowledged events and bytes a sender lets out: a slow consumer costs both sides this much memory per session.
WINDOW_EVENTS: Final = 2048
WINDOW_BYTES: Final = 1024 * 1024
#: Events and bytes of one message.
BATCH_EVENTS: Final = 256
BATCH_BYTES: Final = 192 * 1024
#: The largest event, as JSON.
EVENT_BYTES: Final = 256 * 1024
#: Seconds between two beats of a connector, and of silence until a peer counts as gone. Long, because an alarm-daemon
#: may have hundreds of idle sources: a peer's death is noticed by its connection; the beat is for one that hangs.
BEAT: Final = 5.0
DEAD: Final = 16.0
#: A connector refused by its peer says hello again after so many seconds.
REFUSED: Final = 15.0
NO_SESSION: Final = bytes(16)


class Event(msgspec.Struct, frozen=True, array_like=True):
    """One event: its number (rising per sender, with gaps), its type and plain JSON values."""

    seq: int
    type: str
    body: Any = None


class Hello(msgspec.Struct, frozen=True):
    """Who opens a session: `role` is "sender" or "intake"; a sender's `uuid` (32 hex digits) names its numbering."""

    role: str
    uuid: str = ""


class Refusal(msgspec.Struct, frozen=True):
    """Why something was refused: `code` for programs, `message` for people."""

    code: str = "error"
    message: str = "no reason given"
