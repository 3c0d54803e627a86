"""What an empire costs: start-up of many vassals, memory of emperor, keeper and vassals; run with -s to see it."""

import time
from pathlib import Path

from realm import Realm, free_port, get, wait_for

VASSALS = 20


def proportional_kib(pid: int) -> int:
    """PSS of one process; 0 if it has just ended."""
    try:
        return int(Path(f"/proc/{pid}/smaps_rollup").read_text().split("\nPss:")[1].split()[0])
    except OSError:
        return 0


def session(leader: int) -> list[tuple[int, str]]:
    """(pid, name) of every process of a vassal: its session, and companions its master put into their own."""
    found = []
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            fields = (directory / "stat").read_text().rpartition(")")[2].split()
            name = (directory / "cmdline").read_text().replace("\0", " ")
        except OSError:
            continue
        pid, parent, leader_of = int(directory.name), int(fields[1]), int(fields[3])
        if leader in {leader_of, parent}:
            found.append((pid, "link" if "app_server.link" in name else "app"))
    return found


def test_twenty_vassals(realm: Realm) -> None:
    ports = [free_port() for _ in range(VASSALS)]
    for number, port in enumerate(ports):
        realm.vassal(f"{number}.ini", port)
    began = time.monotonic()
    emperor = realm.start()
    realm.wait_log("is ready to accept requests", VASSALS)
    ready = time.monotonic() - began
    began = time.monotonic()
    path = realm.vassal("late.ini", free_port())
    realm.wait_state("late.ini", "accepting")
    late = time.monotonic() - began
    path.unlink()
    wait_for("late.ini is gone", lambda: "late.ini" not in realm.list())
    assert all(get(port) for port in ports)
    masters = [vassal["pid"] for vassal in realm.list().values()]
    memory = [sum(proportional_kib(pid) for pid, kind in session(master) if kind == "app") for master in masters]
    links = [sum(proportional_kib(pid) for pid, kind in session(master) if kind == "link") for master in masters]
    print(
        f"\n{VASSALS} vassals accepting {ready:.1f} s after the emperor's exec, a late one after {late * 1000:.0f} ms;"
        f" PSS: emperor {proportional_kib(emperor.pid)} KiB, keeper {proportional_kib(realm.keeper_pid())} KiB, vassal"
        f" {sorted(memory)[VASSALS // 2]} KiB (master, zygote, worker), its link {sorted(links)[VASSALS // 2]} KiB"
    )
    assert ready < 60
