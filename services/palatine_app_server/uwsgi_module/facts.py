"""What the server tells of itself: `uwsgi.workers`, `uwsgi.mem` and their kin, read from the segment and /proc."""

import os
import time
from typing import Any, Final

from palatine.codec.uwsgi_packet import HEADER_BYTES, parse_header
from palatine.counters import Segment, SegmentView
from palatine.errors import ProtocolError
from palatine.process_title import set_title
from palatine_app_server.sharing import spool
from palatine_app_server.system import linux
from palatine_app_server.uwsgi_module import arguments
from palatine_app_server.uwsgi_module.seat import Seat

#: Modifiers of files `parsefile` reads: requests and tasks.
_PARSED: Final = frozenset({0, spool.MODIFIER})
_APP_KEYS: Final = ("requests", "exceptions", "startup_time")


class Facts:
    """Calls that only look."""

    def __init__(self, seat: Seat, segment: Segment) -> None:
        self._seat = seat
        self._segment = segment

    def functions(self) -> dict[str, Any]:
        """What the module offers."""
        return {
            "workers": self._workers,
            "mem": _memory,
            "listen_queue": self._listen_queue,
            "logsize": lambda: self._server("log_bytes"),
            "ready": lambda: True if self._server("generation") else None,
            "micros": lambda: time.time_ns() // 1000,
            "accepting": self._accepting,
            "parsefile": self._parsed_file,
            "extract": self._extracted,
            "setprocname": lambda name: set_title(arguments.text(name, "setprocname")),
            "set_warning_message": lambda text: bool(arguments.text(text, "set_warning_message")),
        }

    def _server(self, name: str) -> int:
        value: int = self._segment.cells("server")[self._segment.word("server", name)]
        return value

    def _listen_queue(self, number: int = 0) -> int:
        index = arguments.integer(number)
        if not 0 <= index < self._segment.rows("sockets"):
            raise ValueError(f"unable to find socket {index}")
        value: int = self._segment.cells("sockets", index)[self._segment.word("sockets", "queue")]
        return value

    def _accepting(self, accepting: int = 1) -> None:
        taken = int(bool(arguments.integer(accepting)))
        if self._seat.worker:
            cells = self._segment.cells("workers", self._seat.worker - 1, self._seat.generation & 1)
            cells[self._segment.word("workers", "accepting")] = taken

    def _workers(self) -> tuple[dict[str, Any], ...]:
        with SegmentView.open(self._segment.path) as view:
            slots, states, cores, apps = (view.read(name) for name in ("slots", "workers", "cores", "apps"))
            labels = view.labels.get("apps", [])
        threads = len(cores) // len(slots)
        of_app = len(apps) // len(cores) if cores else 0
        found = []
        for index, slot in enumerate(slots):
            mine = cores[index * threads : (index + 1) * threads]
            served = sum(core["requests"] for core in mine)
            found.append(
                {
                    "id": index + 1,
                    "pid": slot["pid"],
                    "requests": served,
                    "delta_requests": max(0, served - slot["requests_at_spawn"]),
                    "signals": states[index]["signals"],
                    "exceptions": sum(core["exceptions"] for core in mine),
                    "status": _status(slot, states[index], mine),
                    "rss": slot["rss"],
                    "vsz": slot["vsz"],
                    "running_time": sum(core["running_time"] for core in mine),
                    "last_spawn": slot["last_spawn"],
                    "respawn_count": max(0, slot["respawn_count"] - 1),
                    "tx": sum(core["tx"] for core in mine),
                    "avg_rt": sum(core["avg_rt"] for core in mine) // max(1, len(mine)),
                    "apps": _apps(apps[index * threads * of_app : (index + 1) * threads * of_app], of_app, labels),
                }
            )
        return tuple(found)

    @staticmethod
    def _parsed_file(path: str) -> dict[bytes, bytes] | None:
        try:
            with open(arguments.text(path, "parsefile"), "rb") as file:
                data = file.read()
            if len(data) < HEADER_BYTES or parse_header(data).modifier1 not in _PARSED:
                return None
            return spool.decode(data).variables
        except (OSError, ProtocolError):
            return None

    @staticmethod
    def _extracted(path: str) -> bytes | None:
        try:
            with open(arguments.text(path, "extract"), "rb") as file:
                return file.read() or None
        except OSError:
            return None


def _memory() -> tuple[int, int]:
    """Resident and virtual bytes of this process."""
    vsz, rss = linux.memory_of(os.getpid())
    return rss, vsz


def _status(slot: dict[str, int], state: dict[str, int], cores: list[dict[str, int]]) -> bytes:
    busy = any(core["in_request"] for core in cores)
    if slot["cheaped"]:
        return b"cheap"
    if state["suspended"] and not busy:
        return b"pause"
    if state["running_signal"]:
        return b"sig%d" % (state["running_signal"] - 1)
    return b"busy" if busy else b"idle"


def _apps(rows: list[dict[str, int]], of_core: int, labels: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One entry an app, the worker's cores summed."""
    found = []
    for number in range(of_core):
        label = labels[number] if number < len(labels) else {}
        mine = rows[number::of_core]
        entry: dict[str, Any] = {"id": number, "modifier1": 0, "mountpoint": str(label.get("mountpoint", "")).encode()}
        entry |= {key: sum(row[key] for row in mine) for key in _APP_KEYS[:2]}
        entry["startup_time"] = max((row["startup_time"] for row in mine), default=0)
        found.append({**entry, "chdir": str(label.get("chdir", "")).encode()})
    return found
