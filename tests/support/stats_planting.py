"""Plant counter segments that say what captured stats documents say."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from palatine.counters import Segment
from palatine.schema import ALARMS, DAEMON, EMPEROR, INSTANCE, U64, VASSAL_STATES
from palatine_stats_exporter.neighbours import Neighbours

SAMPLES = Path(__file__).parents[1] / "services" / "stats_exporter" / "samples"
ACTIVITY = ("REQUEST_METHOD", "REQUEST_URI", "HTTP_HOST", "REMOTE_ADDR")


def sample(name: str) -> dict[str, Any]:
    """A captured document."""
    found: dict[str, Any] = json.loads((SAMPLES / name).read_text())
    return found


def normal(captured: dict[str, Any]) -> dict[str, Any]:
    """A captured document as palatine says it: our version, four variables, attached daemons' respawns as they are."""
    found = {**captured, "version": "2.0.31"}
    found["workers"] = [{**worker} for worker in captured["workers"]]
    for worker in found["workers"]:
        if "cores" in worker:
            worker["cores"] = [{**core, "vars": four(core["vars"])} for core in worker["cores"]]
    return found


def four(variables: list[str]) -> list[str]:
    """The variables palatine shows, in its order."""
    values = dict(variable.partition("=")[::2] for variable in variables if variable)
    return [f"{name}={values[name]}" for name in ACTIVITY] + [""] if variables else []


def plant(path: Path, captured: dict[str, Any], *, generation: int = 1) -> Segment:
    """A segment, not yet published, from which the captured document should come out again."""
    workers = captured["workers"]
    cores, apps = len(workers[0]["cores"]), len(workers[0]["apps"])
    rows = {
        "sockets": len(captured["sockets"]),
        "locks": len(captured["locks"]),
        "slots": len(workers),
        "workers": len(workers),
        "cores": len(workers) * cores,
        "activity": len(workers) * cores,
        "apps": len(workers) * cores * apps,
        "daemons": len(captured.get("daemons", [])),
        "caches": len(captured.get("caches", [])),
        "metrics": len(captured.get("metrics", {})),
        "spoolers": len(captured.get("spoolers", [])),
        "spooler_tasks": len(captured.get("spoolers", [])),
        "crons": len(captured.get("crons", [])),
    }
    labels = {
        "cwd": captured["cwd"],
        "sockets": _only(captured["sockets"], "name", "proto", "shared", "can_offload"),
        "apps": _only(workers[0]["apps"], "id", "modifier1", "mountpoint", "chdir"),
        "locks": [{"name": next(iter(lock))} for lock in captured["locks"]],
        "daemons": _only(captured.get("daemons", []), "cmd"),
        "caches": _only(
            captured.get("caches", []), "name", "hash", "hashsize", "keysize", "max_items", "blocks", "blocksize"
        ),
        "metrics": [{"name": name, **metric} for name, metric in captured.get("metrics", {}).items()],
        "spoolers": _only(captured.get("spoolers", []), "dir"),
        "crons": _only(captured.get("crons", []), "minute", "hour", "day", "month", "week", "command", "unique"),
    }
    segment = Segment.create(path, INSTANCE, rows, labels)
    store(segment, "server", generation=generation, **_known("server", captured))
    for row, lock in enumerate(captured["locks"]):
        store(segment, "locks", row, owner_pid=next(iter(lock.values())))
    for table in ("sockets", "daemons", "caches", "spoolers", "crons"):
        for row, item in enumerate(captured.get(table, [])):
            store(segment, table, row, **_known(table, item))
            if table == "spoolers":
                store(segment, "spooler_tasks", row, **_known("spooler_tasks", item))
    for row, metric in enumerate(captured.get("metrics", {}).values()):
        store(segment, "metrics", row, value=metric["value"])
    for index, worker in enumerate(workers):
        _plant_worker(segment, index, worker, generation & 1)
    return segment


def plant_emperor(path: Path, captured: dict[str, Any]) -> Segment:
    """The same for an emperor's document."""
    vassals, blacklist = captured["vassals"], captured["blacklist"]
    tables = (*DAEMON, *EMPEROR)
    rows = {"daemon": 1, "emperor": 1, "vassals": len(vassals) + len(blacklist) + 3}
    segment = Segment.create(path, tables, rows, {"cwd": captured["cwd"], "monitors": captured["emperor"]})
    store(segment, "daemon", **{key: captured[key] for key in ("pid", "uid", "gid")})
    store(segment, "emperor", tyrant=captured["emperor_tyrant"], throttle_level=captured["throttle_level"])
    names = {"last_run": "last_start", "cursed": "cursed_at"}
    for row, vassal in enumerate(vassals):
        numbers = {names.get(key, key): value for key, value in vassal.items() if isinstance(value, int)}
        store(segment, "vassals", row, state=VASSAL_STATES.index("accepting"), **numbers)
        texts = (vassal["id"], vassal["monitor"], vassal["on_demand"], "instance")
        segment.text("vassals", row).write("\0".join(texts).encode())
    for row, held in enumerate(blacklist, len(vassals)):
        times = {key: held[key] for key in ("first_attempt", "last_attempt")}
        state = VASSAL_STATES.index("throttled")
        store(segment, "vassals", row, state=state, pid=-1, attempts=held["attempt"], **times)
        store(segment, "vassals", row, blacklist_level=held["throttle_level"])
        segment.text("vassals", row).write(held["id"].encode())
    return segment


@contextlib.contextmanager
def planted_neighbours(runtime: Path) -> Iterator[Neighbours]:
    """An emperor with the vassals of a captured document and an alarm-daemon with one alarm, both alive."""
    for name in ("emperor", "alarm-daemon"):
        (runtime / name).mkdir(parents=True)
    emperor = plant_emperor(runtime / "emperor" / "seg", sample("emperor_stats_2.json"))
    daemon = Segment.create(runtime / "alarm-daemon" / "seg", (*DAEMON, *ALARMS), {"alarms": 3}, {})
    store(daemon, "daemon", pid=77, state=1, ready=1)
    store(daemon, "alarm_totals", raised=7, pending=2, oldest_pending=1_700_000_000)
    store(daemon, "alarms", 0, raised=7, delivered=5, pending=2, last_raised=1_700_000_000)
    daemon.text("alarms", 0).write(b'app\0say "hi"')
    neighbours = Neighbours(runtime)
    try:
        emperor.publish()
        daemon.publish()
        yield neighbours
    finally:
        neighbours.close()
        emperor.close(unlink=True)
        daemon.close(unlink=True)


def store(segment: Segment, table: str, row: int = 0, bank: int = 0, **values: int) -> None:
    """Store fields of a row by name."""
    cells = segment.cells(table, row, bank)
    for name, value in values.items():
        cells[segment.word(table, name)] = value & U64


def _plant_worker(segment: Segment, index: int, worker: dict[str, Any], bank: int) -> None:
    store(
        segment,
        "slots",
        index,
        **_known("slots", worker),
        cheaped=worker["status"] == "cheap",
        requests_at_spawn=worker["requests"] - worker["delta_requests"],
    )
    status = worker["status"]
    store(
        segment,
        "workers",
        index,
        bank,
        **_known("workers", worker),
        suspended=status == "pause",
        running_signal=int(status[3:]) + 1 if status.startswith("sig") else 0,
    )
    cores = worker["cores"]
    for number, core in enumerate(cores):
        row = index * len(cores) + number
        store(segment, "cores", row, bank, **_known("cores", core), avg_rt=worker["avg_rt"])
        if core["in_request"]:
            store(segment, "cores", row, bank, request_start_us=core["req_info"]["request_start"] * 10**6 + 7)
            values = [variable.partition("=")[2] for variable in four(core["vars"])[:-1]]
            segment.text("activity", row, bank).write("\0".join(values).encode())
        for app, numbers in enumerate(worker["apps"]):
            if number == 0:
                store(segment, "apps", row * len(worker["apps"]) + app, bank, **_known("apps", numbers))
    store(
        segment,
        "cores",
        index * len(cores),
        bank,
        running_time=worker["running_time"],
        tx=worker["tx"],
        exceptions=worker["exceptions"],
    )


def _known(table: str, values: dict[str, Any]) -> dict[str, int]:
    fields = {field.name for declared in INSTANCE if declared.name == table for field in declared.fields}
    return {name: value for name, value in values.items() if name in fields and isinstance(value, int)}


def _only(items: list[dict[str, Any]], *names: str) -> list[dict[str, Any]]:
    return [{name: item[name] for name in names} for item in items]
