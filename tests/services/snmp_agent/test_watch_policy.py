import signal
from pathlib import Path
from typing import Any

import pytest

from palatine.counters import Segment, SegmentView
from palatine.schema import EMPEROR, VASSAL_STATES
from palatine_snmp_agent.inform_policy import LONGEST_PAUSE, MOST_STRANGERS, QUIET_SECONDS, Strangers, pause
from palatine_snmp_agent.watch_policy import (
    InstanceSeen,
    VassalSeen,
    WorkerSeen,
    ended,
    instance_news,
    vassal_news,
)
from palatine_snmp_agent.watching import Watch
from snmp_master import plant

WORKER = WorkerSeen(1, 0, 0, 1)
CALM = InstanceSeen(b"u", 0, 0, 100, 0, (WORKER, WORKER))


def worker(**changes: int) -> InstanceSeen:
    return CALM._replace(workers=(WORKER, WORKER._replace(**changes)))


LOOKS: list[tuple[str, list[InstanceSeen], list[str]]] = [
    ("nothing", [CALM], []),
    ("a worker recycled", [worker(spawns=2)], []),
    ("a reload", [worker(spawns=2, status=9, generation=2)], []),
    ("an exit", [worker(spawns=2, status=1 << 8)], ["workerDied 1 exited with code 1"]),
    ("a signal", [worker(spawns=4, status=9)], ["workerDied 3 ended by SIGKILL"]),
    ("a segfault", [worker(spawns=2, status=11 | 128)], ["workerSegfault 1 ended by SIGSEGV"]),
    (
        "harakiri, then the respawn",
        [worker(harakiris=1), worker(harakiris=1, spawns=2, status=9), worker(harakiris=1, spawns=3, status=9)],
        ["workerHarakiri 1 a request took too long", "workerDied 1 ended by SIGKILL"],
    ),
    ("both at once", [worker(harakiris=2, spawns=3, status=9)], ["workerHarakiri 2 a request took too long"]),
    ("another start", [worker(spawns=9, status=11)._replace(uuid=b"v")], []),
    ("failed reloads", [CALM._replace(reload_failures=2)], ["reloadFailed 2 the generation before serves on"]),
    (
        "a queue full, fuller, emptier, full again, calm, full",
        [CALM._replace(queue=queue) for queue in (99, 100, 140, 60, 100, 49, 100)],
        ["listenQueueFull 1 new connections will be refused"] * 2,
    ),
    ("drops", [CALM._replace(queue_errors=7)], ["listenQueueFull 7 7 connections dropped"]),
    ("a UNIX socket without a capacity", [CALM._replace(queue_max=0)], []),
]


@pytest.mark.parametrize(("looks", "told"), [case[1:] for case in LOOKS], ids=[case[0] for case in LOOKS])
def test_what_looks_at_an_instance_mean(looks: list[InstanceSeen], told: list[str]) -> None:
    seen, found = CALM, []
    for look in looks:
        seen, news = instance_news("app", seen, look)
        assert all(values["instance"] == "app" for _, values in news)
        found += [f"{name} {values['count']} {values['message']}" for name, values in news]
    assert found == told


DOWN = VassalSeen(running=False, accepting=False, blacklist=0, state="throttled")
UP = VassalSeen(running=True, accepting=True, blacklist=0, state="accepting")
STARTING = VassalSeen(running=True, accepting=False, blacklist=0, state="starting")


@pytest.mark.parametrize(
    ("before", "now", "told"),
    [
        (UP, UP, []),
        (UP, DOWN, ["vassalDown throttled"]),
        (UP, None, ["vassalDown gone from the configuration"]),
        (DOWN, None, []),
        (None, STARTING, []),
        (STARTING, UP, ["vassalUp accepting"]),
        (None, UP, ["vassalUp accepting"]),
        (None, UP._replace(adopted=True), []),
        (DOWN, UP._replace(adopted=True), ["vassalUp accepting"]),
        (UP, STARTING, []),
        (UP, DOWN._replace(blacklist=2500), ["vassalDown throttled", "vassalBlacklisted held back for 3 s"]),
        (DOWN._replace(blacklist=1), DOWN._replace(blacklist=9), []),
    ],
)
def test_what_looks_at_a_vassal_mean(before: VassalSeen | None, now: VassalSeen | None, told: list[str]) -> None:
    def one(seen: VassalSeen | None) -> dict[str, VassalSeen]:
        return {"a.ini": seen} if seen else {}

    assert [f"{name} {values['message']}" for name, values in vassal_news(one(before), one(now))] == told


def test_wait_statuses_in_words() -> None:
    assert ended(22 << 8) == "exited with code 22"
    assert ended(int(signal.SIGTERM)) == "ended by SIGTERM"
    assert ended(63) == "ended by signal 63"


def test_a_watch_compares_segments_and_outlives_strange_ones(tmp_path: Path) -> None:
    told: list[tuple[str, Any]] = []
    emperor = Segment.create(tmp_path / "emperor", EMPEROR, {"vassals": 2}, {})
    emperor.publish()
    row = emperor.cells("vassals", 1)

    def vassal(pid: int, state: str) -> None:
        emperor.text("vassals", 1).write(b"shop.ini\0dir:///etc/vassals")
        row[emperor.word("vassals", "pid")] = pid
        row[emperor.word("vassals", "state")] = VASSAL_STATES.index(state)
        row[emperor.word("vassals", "accepting")] = int(state == "accepting")

    app = plant(tmp_path / "seg", workers=2)
    app.publish()
    with SegmentView.open(app.path) as segment, SegmentView.open(emperor.path) as strange:
        watch = Watch(
            lambda: iter([("app", segment), ("odd", strange)]),
            emperor.path,
            lambda name, values: told.append((name, values)),
        )
        watch.meet()
        watch.look()
        app.cells("slots", 1)[app.word("slots", "harakiri_count")] += 1
        vassal(7, "accepting")
        watch.look()
        vassal(0, "throttled")
        watch.look()
        vassal(7, "accepting")
        watch.look()
        vassal(0, "unused")
        watch.look()
        emperor.close(unlink=True)
        watch.look()
    assert told == [
        ("workerHarakiri", {"instance": "app", "worker": 2, "count": 1, "message": "a request took too long"}),
        ("vassalUp", {"vassal": "shop.ini", "message": "accepting"}),
        ("vassalDown", {"vassal": "shop.ini", "message": "throttled"}),
        ("vassalUp", {"vassal": "shop.ini", "message": "accepting"}),
        ("vassalDown", {"vassal": "shop.ini", "message": "gone from the configuration"}),
    ]
    app.close(unlink=True)


def test_an_emperor_that_starts_anew_does_not_bring_its_vassals_down(tmp_path: Path) -> None:
    told: list[str] = []
    watch = Watch(
        lambda: iter(()), tmp_path / "emperor", lambda name, values: told.append(f"{name} {values['vassal']}")
    )

    def look(**pids: int) -> None:
        emperor = Segment.create(tmp_path / "emperor", EMPEROR, {"vassals": 4}, {})
        for row, (name, pid) in enumerate(pids.items()):
            emperor.text("vassals", row).write(name.encode() + b"\0dir:///etc/vassals")
            cells = emperor.cells("vassals", row)
            for field, value in {"pid": pid, "accepting": pid > 0, "adopted": 1, "state": 3}.items():
                cells[emperor.word("vassals", field)] = int(value)
        emperor.publish()
        watch.look()
        emperor.close(unlink=True)

    look(one=1, two=2)
    watch.look()
    look()
    look(one=1)
    look(one=1, two=2)
    assert told == []
    look(one=0, two=2)
    assert told == ["vassalDown one"]


def test_pauses_double_up_to_a_minute() -> None:
    assert [pause(attempts, 5) for attempts in (1, 2, 3, 4, 5, 6, 7, 99)] == [0, 5, 10, 20, 40, 60, 60, 60]
    assert pause(50, 120) == LONGEST_PAUSE


def test_a_flood_from_forged_addresses_is_told_of_a_few_times() -> None:
    strangers = Strangers()
    assert [strangers.worth_telling("a", 10.0), strangers.worth_telling("a", 11.0)] == [True, False]
    assert sum(strangers.worth_telling(str(number), 12.0) for number in range(1000)) == MOST_STRANGERS - 1
    assert strangers.worth_telling("a", 10.0 + QUIET_SECONDS)
    assert not strangers.worth_telling("new", 11.0 + QUIET_SECONDS)
    assert strangers.worth_telling("new", 12.0 + QUIET_SECONDS)
