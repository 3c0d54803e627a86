"""The instances the daemon knows: which are there, what they asked for, what they last raised. One owner, no I/O."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import trio

from palatine_alarm_daemon.ruleset import Ruleset
from palatine_alarm_daemon.storm_policy import Last
from palatine_alarm_daemon.values import APP, Lane


@attrs.define(eq=False)
class Instance:
    """One instance by name.

    Attributes:
        uid: owner of its directory, or of the one it had.
        path: its directory, None while it is gone.
        ruleset: what it asked for, None before its first `config`.
        body: the same in its own words.
        lasts: the anti-storm slots of its alarms.
        asked: its config was asked for since it appeared.
        troubled: rules already complained about since the ruleset came.
    """

    name: str
    uid: int
    path: Path | None = None
    ruleset: Ruleset | None = None
    body: Any = None
    lasts: dict[Lane, Last] = attrs.field(factory=dict)
    asked: bool = False
    troubled: set[str] = attrs.field(factory=set)

    def lane(self, origin: str, alarm: str) -> Lane:
        """The lane of one of its alarms."""
        return Lane(self.name, self.uid, origin, alarm)

    def adopt(self, ruleset: Ruleset, body: Any) -> None:
        """Take a new ruleset, said by `body`; slots of alarms that are gone are dropped."""
        self.ruleset, self.body = ruleset, body
        self.troubled.clear()
        self.lasts = {
            lane: last for lane, last in self.lasts.items() if lane.origin != APP or lane.alarm in ruleset.alarms
        }


class Registry:
    """Instances by name; those that are gone stay while something of theirs is wanted."""

    def __init__(self) -> None:
        self._instances: dict[str, Instance] = {}
        self._epochs: dict[str, int] = {}
        self._changed: dict[str, trio.Event] = {}

    def __iter__(self) -> Iterator[Instance]:
        return iter(list(self._instances.values()))

    def get(self, name: str) -> Instance | None:
        """The instance called `name`, there or gone; None if unknown."""
        return self._instances.get(name)

    def known(self, name: str, uid: int) -> Instance:
        """The instance called `name` of `uid`, made if need be; what another uid's instance left is forgotten."""
        instance = self._instances.get(name)
        if instance is None or instance.uid != uid:
            instance = self._instances[name] = Instance(name, uid)
            self._tell(name)
        return instance

    def appeared(self, name: str, uid: int, path: Path) -> Instance:
        """An instance is there (again)."""
        instance = self.known(name, uid)
        instance.path = path
        instance.asked = False
        self._epochs[name] = self.epoch(name) + 1
        self._tell(name)
        return instance

    def vanished(self, name: str) -> None:
        """An instance is gone; what is pending for it waits."""
        instance = self._instances.get(name)
        if instance is not None and instance.path is not None:
            instance.path = None
            self._tell(name)

    def present(self, lane: Lane) -> Instance | None:
        """The instance a lane's deliveries run in, None while it is gone or the name is another user's now."""
        instance = self._instances.get(lane.instance)
        if instance is None or instance.path is None or instance.uid != lane.uid:
            return None
        return instance

    def epoch(self, name: str) -> int:
        """How often an instance of that name appeared."""
        return self._epochs.get(name, 0)

    def changed(self, name: str) -> trio.Event:
        """Set when an instance of that name next comes or goes."""
        return self._changed.setdefault(name, trio.Event())

    def _tell(self, name: str) -> None:
        event = self._changed.pop(name, None)
        if event is not None:
            event.set()
