"""The notifications the snmp-agent may send and the objects they carry, declared once; declares no others.

Below the base of palatine's own MIB (`snmp-agent.yaml`, `base`): `<base>.0.N` names notification N, `<base>.90.K`
object K, which is accessible for notifications only. The MIB file and the agent are made from these.
"""

from typing import Final, NamedTuple

#: Where palatine's own objects begin unless configured otherwise: beside uWSGI's tree, far beyond the arcs it uses
#: (1 and 2) and those that metrics of its users do (small numbers).
DEFAULT_BASE: Final = (1, 3, 6, 1, 4, 1, 35156, 17, 1000)
NOTIFICATIONS_ARC: Final = 0
OBJECTS_ARC: Final = 90

TEXT: Final = "text"
NUMBER: Final = "number"


class NotificationObject(NamedTuple):
    """A value in notifications: a DisplayString ("text") or an Unsigned32 ("number")."""

    name: str
    number: int
    kind: str
    help: str


class Notification(NamedTuple):
    """What is told, and the objects it carries, in order, each as `<base>.90.K.0`."""

    name: str
    number: int
    help: str
    objects: tuple[str, ...]


NOTIFICATION_OBJECTS: Final = (
    NotificationObject("instance", 1, TEXT, "Name of the app-server instance."),
    NotificationObject("worker", 2, NUMBER, "Number of the worker, from 1."),
    NotificationObject("status", 3, NUMBER, "Wait status of the process that ended, as wait(2) gives it."),
    NotificationObject("queue", 4, NUMBER, "Connections waiting in the fullest listen queue."),
    NotificationObject("queueMax", 5, NUMBER, "Capacity of the fullest listen queue."),
    NotificationObject("vassal", 6, TEXT, "Name of the vassal."),
    NotificationObject("seconds", 7, NUMBER, "Seconds a vassal is held back."),
    NotificationObject("alarm", 8, TEXT, "Name of the alarm."),
    NotificationObject("message", 9, TEXT, "Text of the alarm, or of the event in words."),
    NotificationObject("count", 10, NUMBER, "How often it happened since it was last told."),
)

NOTIFICATIONS: Final = (
    Notification(
        "workerDied",
        1,
        "A worker ended that was not asked to, by an exit status or a signal.",
        ("instance", "worker", "status", "count", "message"),
    ),
    Notification(
        "workerSegfault",
        2,
        "A worker was ended by SIGSEGV.",
        ("instance", "worker", "status", "count", "message"),
    ),
    Notification(
        "workerHarakiri",
        3,
        "A worker was killed because a request took longer than harakiri allows.",
        ("instance", "worker", "count", "message"),
    ),
    Notification(
        "listenQueueFull",
        4,
        "A listen queue became full, or the kernel dropped connections because one was.",
        ("instance", "queue", "queueMax", "count", "message"),
    ),
    Notification("vassalDown", 5, "A vassal of the Emperor has no process any more.", ("vassal", "message")),
    Notification("vassalUp", 6, "A vassal of the Emperor serves, after it did not.", ("vassal", "message")),
    Notification(
        "vassalBlacklisted",
        7,
        "A vassal is held back because it failed again and again.",
        ("vassal", "seconds", "message"),
    ),
    Notification(
        "reloadFailed",
        8,
        "A reload failed; the generation before it goes on serving.",
        ("instance", "count", "message"),
    ),
    Notification(
        "alarmRaised",
        9,
        "An alarm whose action is snmptrap was raised.",
        ("instance", "alarm", "message"),
    ),
)
