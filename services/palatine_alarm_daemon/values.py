"""What the alarm-daemon passes between its parts; values only, it must never hold behaviour or state."""

from typing import Final

import attrs

#: Who asked for a delivery, and so whose rights it runs with.
APP: Final = "app"
HOST: Final = "host"

PENDING: Final = "pending"
DELIVERED: Final = "delivered"
FAILED: Final = "failed"
EXPIRED: Final = "expired"
OVERFLOWED: Final = "overflowed"


@attrs.frozen
class Lane:
    """Deliveries of one lane leave one after the other, in the order they were raised."""

    instance: str
    uid: int
    origin: str
    alarm: str


@attrs.frozen
class Delivery:
    """One action to run for one raised alarm; what it needs is in it, so it outlives the rules that raised it.

    Attributes:
        id: 32 hex digits, the same in every attempt.
        lane: whose it is. The uid keeps it from another user's later instance of the same name.
        action, arg: as configured when it was raised; `arg` may hold secrets.
        message: the bytes to deliver.
        raised_at, expires_at: unix seconds.
        source: "log", "api", "backlog", "fd", "segfault", "metric", "operator", ...
        attempts: made by earlier runs of the daemon.
    """

    id: str
    lane: Lane
    action: str
    arg: str = attrs.field(repr=False)
    message: bytes
    raised_at: float
    expires_at: float
    source: str = "log"
    attempts: int = 0


@attrs.frozen
class Progress:
    """What became of a delivery: `state` is one of the words above, `reason` is for people."""

    id: str
    state: str
    attempts: int
    reason: str
    at: float
