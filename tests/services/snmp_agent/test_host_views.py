"""The host-wide view over real segments: tables, scalars, instances that come, die, go and come again."""

import os
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from palatine import __version__
from palatine.codec import ber, snmp
from palatine.codec.snmp import PduType
from palatine.counters import Segment
from palatine.discovery import InstanceRef
from palatine.schema import AGENT, ALARMS, DAEMON, EMPEROR, SERVER_STATES, VASSAL_STATES, Table
from palatine.schema.notifications import DEFAULT_BASE
from palatine_snmp_agent import readings
from palatine_snmp_agent.host_scalars import Facts
from palatine_snmp_agent.host_tree import name_index
from palatine_snmp_agent.host_views import MAX_GONE, HostViews
from palatine_snmp_agent.responder import Responder
from palatine_snmp_agent.view import View
from snmp_master import oid, plant, request, set_requests, set_value, shown

BASE = ".".join(map(str, DEFAULT_BASE))
SHOP = "4.115.104.111.112"


@pytest.fixture
def views(tmp_path: Path) -> Iterator[HostViews]:
    made = HostViews(tmp_path, DEFAULT_BASE, Facts("www", "ops@example.org", "rack 4"))
    yield made
    made.close()


class App:
    """An instance's directory with a published segment."""

    def __init__(self, runtime: Path, name: str = "shop", *, workers: int = 2) -> None:
        self.directory = runtime / "i" / name
        self.directory.mkdir(parents=True, exist_ok=True)
        self.segment = plant(self.directory / "seg", workers=workers)
        self.segment.publish()
        self.ref = InstanceRef(name, self.directory, os.getuid())

    def say(self, table: str, field: str, value: int, row: int = 0, bank: int = 0) -> None:
        self.segment.cells(table, row, bank)[self.segment.word(table, field)] = value

    def die(self) -> None:
        self.segment.close(unlink=False)


@pytest.fixture
def app(tmp_path: Path) -> Iterator[App]:
    made = App(tmp_path)
    yield made
    made.segment.close(unlink=True)


def publish(runtime: Path, daemon: str, tables: tuple[Table, ...], rows: dict[str, int]) -> Segment:
    (runtime / daemon).mkdir()
    segment = Segment.create(runtime / daemon / "seg", (*DAEMON, *tables), rows, {})
    segment.publish()
    return segment


def walked(view: View, below: str = BASE) -> dict[str, int | bytes | None]:
    """What a walk below a name meets; names below it without it."""
    found: dict[str, int | bytes | None] = {}
    view.begin()
    name = ber.parse_oid(below)
    while following := view.next(name):
        name, value = following
        shown = ber.format_oid(name)
        if not shown.startswith(f"{below}."):
            break
        found[shown.removeprefix(f"{below}.")] = snmp.read_value(value)[1]
    return found


def look(view: View, suffix: str) -> int | bytes | None:
    view.begin()
    return snmp.read_value(view.get(ber.parse_oid(f"{BASE}.{suffix}")))[1]


def test_an_instance_is_in_every_table(views: HostViews, app: App) -> None:
    app.say("server", "state", SERVER_STATES.index("ready"))
    app.say("server", "listen_queue", 7)
    app.say("slots", "pid", 4711, 1)
    app.say("slots", "rss", 5 << 32, 1)
    app.say("workers", "accepting", 1, 1)
    app.say("cores", "avg_rt", 100, 3)
    set_requests(app.segment, 3, 5)
    set_requests(app.segment, 2, 6, bank=1)
    set_value(app.segment, 40, snmp.GAUGE32, 77)
    views.appear(app.ref)
    instance = walked(views.host, f"{BASE}.2.1")
    assert instance[f"2.{SHOP}"] == b"shop"
    assert instance[f"3.{SHOP}"] == 1
    assert [instance[f"{n}.{SHOP}"] for n in (6, 7, 8, 9)] == [1, 2, 1, 4]
    assert instance[f"26.{SHOP}"] == SERVER_STATES.index("ready") + 1
    assert instance[f"27.{SHOP}"] == 7
    assert [instance[f"{n}.{SHOP}"] for n in (51, 56, 78)] == [11, 100, 5 << 32]
    worker = walked(views.host, f"{BASE}.3.1")
    assert [worker[f"{n}.{SHOP}.2"] for n in (11, 31, 51)] == [4711, 1, 11]
    assert worker[f"51.{SHOP}.1"] == 0
    core = walked(views.host, f"{BASE}.4.1")
    assert (core[f"11.{SHOP}.2.1"], core[f"11.{SHOP}.2.2"]) == (6, 5)
    assert walked(views.host, f"{BASE}.5.1")[f"11.{SHOP}.1"] == 0
    assert walked(views.host, f"{BASE}.10.1") == {f"2.{SHOP}.40": 0x42, f"3.{SHOP}.40": 77}
    host = walked(views.host, f"{BASE}.1.1")
    assert (host["1.0"], host["2.0"], host["3.0"]) == (__version__.encode(), 1, 1)


def test_names_that_are_no_cells(views: HostViews, app: App) -> None:
    views.appear(app.ref)
    view = views.host
    view.begin()
    for suffix, exception in {
        "2": snmp.NO_SUCH_OBJECT,
        "2.1": snmp.NO_SUCH_OBJECT,
        "2.2.3": snmp.NO_SUCH_OBJECT,
        f"2.1.99.{SHOP}": snmp.NO_SUCH_OBJECT,
        f"2.1.1.{SHOP}": snmp.NO_SUCH_OBJECT,
        "2.1.3": snmp.NO_SUCH_INSTANCE,
        "2.1.3.4.115": snmp.NO_SUCH_INSTANCE,
        f"2.1.3.{SHOP}.0": snmp.NO_SUCH_INSTANCE,
    }.items():
        assert view.get(ber.parse_oid(f"{BASE}.{suffix}")) == exception, suffix


def test_a_walk_from_anywhere_is_the_rest_of_the_walk(views: HostViews, app: App, tmp_path: Path) -> None:
    other = App(tmp_path, "blog", workers=1)
    views.appear(app.ref)
    views.appear(other.ref)
    view = views.host
    view.begin()
    names = [b"\0"]
    while following := view.next(names[-1]):
        names.append(following.oid)
    order = [ber.oid_arcs(name) for name in names]
    assert order == sorted(set(order))
    assert len(names) > 250
    for name, following_name in pairwise(names):
        arcs = ber.oid_arcs(name)
        for before in (arcs, (*arcs, 0), (*arcs, 4_000_000_000)):
            found = view.next(ber.oid_octets(before))
            assert found is not None
            assert found.oid == following_name
        assert view.get(following_name) == view.next(name)[1]  # type: ignore[index]  # it is there
    other.segment.close(unlink=True)


def test_indexes_are_names_whatever_the_order_of_coming(views: HostViews, app: App, tmp_path: Path) -> None:
    first, last = App(tmp_path, "aaa"), App(tmp_path, "zz")
    for one in (last, app, first):
        views.appear(one.ref)
    assert list(walked(views.host, f"{BASE}.2.1.2").values()) == [b"zz", b"aaa", b"shop"]  # by length, then name
    views.appear(app.ref)
    assert look(views.host, f"2.1.2.{SHOP}") == b"shop"
    for one in (first, last):
        one.segment.close(unlink=True)


def test_one_that_died_is_down_with_its_last_values_and_their_age(
    views: HostViews, app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    app.say("server", "state", SERVER_STATES.index("ready"))
    app.say("server", "started", 5)
    set_requests(app.segment, 0, 9)
    views.appear(app.ref)
    assert look(views.host, f"2.1.3.{SHOP}") == 1
    assert look(views.host, f"2.1.5.{SHOP}") == 0
    assert f"4.{SHOP}" in walked(views.host, f"{BASE}.2.1")
    monkeypatch.setattr(readings, "LIVENESS_SECONDS", 0.0)
    views._pace._clock = lambda: 4e9
    app.die()
    assert look(views.host, f"2.1.3.{SHOP}") == 2
    age = look(views.host, f"2.1.5.{SHOP}")
    assert isinstance(age, int)
    assert age > 1e9
    assert look(views.host, f"2.1.51.{SHOP}") == 9
    assert f"4.{SHOP}" not in walked(views.host, f"{BASE}.2.1")
    (app.directory / "seg").unlink()
    app.directory.rmdir()
    views.vanish("shop")
    assert look(views.host, f"2.1.51.{SHOP}") == 9
    again = App(app.directory.parents[1])
    views.appear(again.ref)
    assert look(views.host, f"2.1.51.{SHOP}") == 0
    assert look(views.host, f"2.1.3.{SHOP}") == 1
    again.segment.close(unlink=True)


def test_one_that_was_told_to_stop_goes(views: HostViews, app: App) -> None:
    views.appear(app.ref)
    app.say("server", "state", SERVER_STATES.index("stopping"))
    app.segment.close(unlink=True)
    views.vanish("shop")
    assert views.view("shop") is None
    assert walked(views.host, f"{BASE}.2") == {}
    views.vanish("shop")


def test_only_so_many_that_are_gone_are_shown(
    views: HostViews, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("palatine_snmp_agent.host_views.MAX_GONE", 2)
    assert MAX_GONE > 2
    for name in ("a", "b", "c"):
        one = App(tmp_path, name)
        views.appear(one.ref)
        one.die()
        views.vanish(name)
    assert list(walked(views.host, f"{BASE}.2.1.2").values()) == [b"b", b"c"]


def test_an_instance_has_its_own_tree_by_its_name(views: HostViews, app: App, tmp_path: Path) -> None:
    other = App(tmp_path, "blog")
    set_requests(other.segment, 0, 1000)
    set_requests(app.segment, 0, 3)
    views.appear(app.ref)
    views.appear(other.ref)
    view = views.view("shop")
    assert view is not None
    view.begin()
    assert view.get(oid("1.1")) == snmp.counter64(3)
    assert view.next(ber.parse_oid(BASE)) is None
    assert views.view("sho") is None
    assert len(views) == 2
    other.segment.close(unlink=True)


def test_a_damaged_segment_costs_its_owner_only(views: HostViews, app: App, tmp_path: Path) -> None:
    other = App(tmp_path, "blog")
    views.appear(app.ref)
    views.appear(other.ref)
    os.truncate(other.directory / "seg", 2000)
    found = walked(views.host, f"{BASE}.2.1.51")
    assert found == {SHOP: 0}
    assert walked(views.host, f"{BASE}.10") == {}
    other.segment.close(unlink=True)
    views.appear(InstanceRef("nobody", tmp_path / "i" / "nobody", os.getuid()))
    assert len(views) == 2


def test_a_table_larger_than_any_instance_needs_is_not_shown(
    views: HostViews, app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readings, "MAX_ROWS", 3)
    views.appear(app.ref)
    assert walked(views.host, f"{BASE}.4") == {}
    assert len(walked(views.host, f"{BASE}.3.1.11")) == 2


def test_vassals_and_alarms_come_from_their_daemons(views: HostViews, tmp_path: Path) -> None:
    assert walked(views.host, f"{BASE}.7") == {}
    emperor = publish(tmp_path, "emperor", EMPEROR, {"vassals": 3})
    alarms = publish(tmp_path, "alarm-daemon", ALARMS, {"alarms": 2})
    long = "/etc/vassals/" + "x" * 60 + ".ini"
    for slot, text in ((0, "shop.ini\0dir:///etc/vassals\0\0shop"), (2, long)):
        emperor.text("vassals", slot).write(text.encode())
        cells = emperor.cells("vassals", slot)
        cells[emperor.word("vassals", "state")] = VASSAL_STATES.index("loyal")
        cells[emperor.word("vassals", "pid")] = 2**64 - 1
    emperor.cells("emperor")[emperor.word("emperor", "vassals")] = 2
    alarms.text("alarms", 1).write(b"shop\0disk")
    alarms.cells("alarms", 1)[alarms.word("alarms", "raised")] = 3
    clock = iter(range(10**10, 2 * 10**10, 10))
    views._pace._clock = lambda: next(clock)
    vassals = walked(views.host, f"{BASE}.7.1")
    ini = ".".join(map(str, name_index(b"shop.ini")))
    cut = ".".join(map(str, name_index(long.encode())))
    assert (vassals[f"2.{ini}"], vassals[f"5.{ini}"]) == (b"shop.ini", b"shop")
    assert (vassals[f"11.{ini}"], vassals[f"12.{ini}"]) == (-1, VASSAL_STATES.index("loyal") + 1)
    assert (vassals[f"2.{cut}"], vassals[f"5.{cut}"]) == (long.encode(), b"")
    assert cut.startswith("48.")
    found = walked(views.host, f"{BASE}.8.1")
    disk = f"{SHOP}.4.100.105.115.107"
    assert (found[f"2.{disk}"], found[f"3.{disk}"], found[f"11.{disk}"]) == (b"disk", b"shop", 3)
    assert walked(views.host, f"{BASE}.1.3")["1.0"] == 2
    daemons = walked(views.host, f"{BASE}.11.1.3")
    assert list(daemons.values()) == [1, 1]
    alarms.text("alarms", 1).write(b"")
    assert walked(views.host, f"{BASE}.8") == {}
    emperor.cells("vassals", 0)[emperor.word("vassals", "state")] = VASSAL_STATES.index("unused")
    assert f"2.{ini}" not in walked(views.host, f"{BASE}.7.1")
    emperor.close(unlink=True)
    alarms.close(unlink=True)
    assert walked(views.host, f"{BASE}.7") == {}
    assert walked(views.host, f"{BASE}.1.3") == {}


def test_mib_ii_is_the_agents(views: HostViews, tmp_path: Path) -> None:
    agent = publish(tmp_path, "snmp-agent", AGENT, {})
    agent.cells("agent")[agent.word("agent", "in_pkts")] = 2**32 + 5
    system = walked(views.host, "1.3.6.1.2.1.1")
    assert (system["4.0"], system["5.0"], system["6.0"], system["7.0"]) == (b"ops@example.org", b"www", b"rack 4", 72)
    assert system["2.0"] == ber.oid_octets(DEFAULT_BASE)
    assert str(system["1.0"]).startswith("b'palatine ")
    counted = walked(views.host, "1.3.6.1.2.1.11")
    assert (counted["1.0"], counted["30.0"]) == (5, 2)
    assert max(int(name.split(".")[0]) for name in counted) == 32
    agent.close(unlink=True)


def test_what_changes_makes_another_generation_and_nothing_else_does(views: HostViews, app: App) -> None:
    views.host.begin()
    before = views.host.generation
    views.appear(app.ref)
    views.host.begin()
    shown = views.host.generation
    set_requests(app.segment, 0, 9)
    views.host.begin()
    assert before != shown == views.host.generation
    set_value(app.segment, 3, snmp.GAUGE32, 1)
    views._pace._clock = lambda: 4e9
    views.host.begin()
    assert views.host.generation != shown


@pytest.mark.parametrize("pdu_type", [PduType.GET, PduType.GET_NEXT])
def test_an_instance_is_there_at_the_first_question_after_it_came(views: HostViews, app: App, pdu_type: int) -> None:
    responder = Responder(views.host, b"foo")
    names = ["1000.2.1.3.4.115.104.111.112" if pdu_type == PduType.GET else "1000.2.1.3"]
    datagram = request(pdu_type, *names)
    for _ in range(3):
        ((name, value),) = shown(responder.answer(datagram).reply)[2]
        assert name != "1000.2.1.3.4.115.104.111.112" or value == snmp.NO_SUCH_INSTANCE
    views.appear(app.ref)
    for _ in range(3):
        assert shown(responder.answer(datagram).reply)[2] == [("1000.2.1.3.4.115.104.111.112", snmp.integer32(1))]


def test_one_that_comes_and_goes_all_the_time_keeps_nobody_busy(
    views: HostViews, app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = iter([0.0, 5.0])  # CPU seconds before and after all rows are put together
    clock = iter([100.0, 100.0, 120.0, 151.0])
    monkeypatch.setattr("palatine_snmp_agent.host_tree.time.thread_time", lambda: next(looks, 5.0))
    monkeypatch.setattr("palatine_snmp_agent.host_tree.time.monotonic", lambda: next(clock))
    views.host.begin()
    views.appear(app.ref)
    views.host.begin()
    assert views.host.get(ber.parse_oid(f"{BASE}.2.1.3.{SHOP}")) == snmp.NO_SUCH_INSTANCE
    views.host.begin()
    assert views.host.get(ber.parse_oid(f"{BASE}.2.1.3.{SHOP}")) == snmp.integer32(1)
