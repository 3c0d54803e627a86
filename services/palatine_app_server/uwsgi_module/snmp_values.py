"""The values an app publishes by SNMP: `uwsgi.snmp_set_counter32` and its kin, shared by all processes."""

import operator
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from palatine.counters import Segment, SharedLock
from palatine.errors import DeadlineError
from palatine_app_server.uwsgi_module import arguments
from palatine_app_server.uwsgi_module.seat import Seat

#: uWSGI keeps 100 custom values; the first is number 1.
SNMP_VALUES: Final = 100
COUNTER32, GAUGE32, COUNTER64 = 0x41, 0x42, 0x46
LOCK_SECONDS: Final = 5.0
_COMMUNITY_LETTERS: Final = 72


class SnmpValues:
    """Calls on the rows of `snmp_values`, under slot 0 of the lock file."""

    def __init__(self, seat: Seat, lock_path: Path, segment: Segment) -> None:
        self._seat = seat
        self._segment = segment
        self._lock = SharedLock(lock_path, 0)

    def functions(self) -> dict[str, Any]:
        """What the module offers where SNMP is on."""
        offered: dict[str, Any] = {"snmp_set_community": self._set_community}
        for suffix, kind, bits in (("counter32", COUNTER32, 32), ("counter64", COUNTER64, 64), ("gauge", GAUGE32, 32)):
            offered[f"snmp_set_{suffix}"] = self._setter(kind, bits)
            offered[f"snmp_incr_{suffix}"] = self._adder(kind, +1)
            offered[f"snmp_decr_{suffix}"] = self._adder(kind, -1)
        return offered

    def _setter(self, kind: int, bits: int) -> Callable[[int, int], bool | None]:
        def set_value(number: int, value: int) -> bool | None:
            wanted = operator.index(value) % (1 << bits)
            return self._store(arguments.byte(number), kind, lambda _old: wanted)

        return set_value

    def _adder(self, kind: int, sign: int) -> Callable[..., bool | None]:
        def add_value(number: int, *delta: int) -> bool | None:
            try:
                which, step = arguments.byte(number), sign * (operator.index(*delta or (1,)) % (1 << 32))
            except OverflowError as error:
                if not delta:
                    raise
                raise TypeError(str(error)) from error  # uWSGI's incr and decr then look for one argument, and find two
            return self._store(which, kind, lambda old: (old + step) % (1 << 64))

        return add_value

    def _store(self, number: int, kind: int, change: Callable[[int], int]) -> bool | None:
        if not 1 <= number <= SNMP_VALUES:
            return None
        cells = self._segment.cells("snmp_values", number - 1)
        type_word, value_word = self._segment.word("snmp_values", "type"), self._segment.word("snmp_values", "value")
        if not self._lock.acquire(LOCK_SECONDS):
            raise DeadlineError("the SNMP values stayed locked")
        try:
            cells[value_word] = change(cells[value_word])
            cells[type_word] = kind
        finally:
            self._lock.release()
        return True

    def _set_community(self, community: str) -> bool:
        text = arguments.text(community, "snmp_set_community")
        return self._seat.ask({"op": "community", "community": text[:_COMMUNITY_LETTERS]})
