"""Plant a counter segment that says what a captured stats document says."""

from pathlib import Path
from typing import Any

from palatine.counters import Segment
from palatine.schema import INSTANCE, U64

ACTIVITY = ("REQUEST_METHOD", "REQUEST_URI", "HTTP_HOST", "REMOTE_ADDR")


def normal(sample: dict[str, Any]) -> dict[str, Any]:
    """A captured document as palatine says it: our version, four variables, attached daemons' respawns as they are."""
    found = {**sample, "version": "2.0.31"}
    found["workers"] = [{**worker} for worker in sample["workers"]]
    for worker in found["workers"]:
        if "cores" in worker:
            worker["cores"] = [{**core, "vars": four(core["vars"])} for core in worker["cores"]]
    return found


def four(variables: list[str]) -> list[str]:
    """The variables palatine shows, in its order."""
    values = dict(variable.partition("=")[::2] for variable in variables if variable)
    return [f"{name}={values[name]}" for name in ACTIVITY] + [""] if variables else []


def plant(path: Path, sample: dict[str, Any], *, generation: int = 1) -> Segment:
    """A published segment from which the sample should come out again."""
    workers = sample["workers"]
    cores, apps = len(workers[0]["cores"]), len(workers[0]["apps"])
    rows = {
        "sockets": len(sample["sockets"]),
        "locks": len(sample["locks"]),
        "slots": len(workers),
        "workers": len(workers),
        "cores": len(workers) * cores,
        "activity": len(workers) * cores,
        "apps": len(workers) * cores * apps,
        "daemons": len(sample.get("daemons", [])),
        "caches": len(sample.get("caches", [])),
        "metrics": len(sample.get("metrics", {})),
        "spoolers": len(sample.get("spoolers", [])),
        "spooler_tasks": len(sample.get("spoolers", [])),
        "crons": len(sample.get("crons", [])),
    }
    labels = {
        "cwd": sample["cwd"],
        "sockets": _only(sample["sockets"], "name", "proto", "shared", "can_offload"),
        "apps": _only(workers[0]["apps"], "id", "modifier1", "mountpoint", "chdir"),
        "locks": [{"name": next(iter(lock))} for lock in sample["locks"]],
        "daemons": _only(sample.get("daemons", []), "cmd"),
        "caches": _only(
            sample.get("caches", []), "name", "hash", "hashsize", "keysize", "max_items", "blocks", "blocksize"
        ),
        "metrics": [{"name": name, **metric} for name, metric in sample.get("metrics", {}).items()],
        "spoolers": _only(sample.get("spoolers", []), "dir"),
        "crons": _only(sample.get("crons", []), "minute", "hour", "day", "month", "week", "command", "unique"),
    }
    segment = Segment.create(path, INSTANCE, rows, labels)
    store(segment, "server", generation=generation, **_known("server", sample))
    for row, lock in enumerate(sample["locks"]):
        store(segment, "locks", row, owner_pid=next(iter(lock.values())))
    for table in ("sockets", "daemons", "caches", "spoolers", "crons"):
        for row, item in enumerate(sample.get(table, [])):
            store(segment, table, row, **_known(table, item))
            if table == "spoolers":
                store(segment, "spooler_tasks", row, **_known("spooler_tasks", item))
    for row, metric in enumerate(sample.get("metrics", {}).values()):
        store(segment, "metrics", row, value=metric["value"])
    for index, worker in enumerate(workers):
        _plant_worker(segment, index, worker, generation & 1)
    segment.publish()
    return segment


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
