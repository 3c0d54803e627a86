from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from palatine.codec import ber, snmp
from palatine.codec.segment import Placed
from palatine.counters import Segment, SegmentView
from palatine.errors import ProtocolError
from palatine.schema import INSTANCE, U64, by_name
from palatine_snmp_agent.uwsgi_tree import MAX_TABLE_OCTETS, instance_view
from palatine_snmp_agent.view import View
from snmp_master import oid, plant, set_requests, set_value


@pytest.fixture
def segment(tmp_path: Path) -> Iterator[Segment]:
    made = plant(tmp_path / "seg", workers=3, threads=2)
    made.publish()
    yield made
    made.close(unlink=True)


@pytest.fixture
def reader(segment: Segment) -> Iterator[SegmentView]:
    with SegmentView.open(segment.path) as made:
        yield made


def look(view: View, suffix: str) -> bytes:
    view.begin()
    return view.get(oid(suffix))


def there(view: View) -> dict[str, bytes]:
    """What a walk of everything meets."""
    view.begin()
    found: dict[str, bytes] = {}
    name = b"\0"
    while following := view.next(name):
        name, value = following
        found[ber.format_oid(name).removeprefix("1.3.6.1.4.1.35156.17.")] = value
    return found


def test_a_fresh_instance_shows_its_requests_and_no_value(reader: SegmentView) -> None:
    assert there(instance_view(reader)) == dict.fromkeys(("1.1", "1.31", "1.32", "1.33"), snmp.counter64(0))


def test_requests_are_summed_over_cores_and_banks(segment: Segment, reader: SegmentView) -> None:
    view = instance_view(reader)
    for core in range(6):
        set_requests(segment, core, 10**core)
        set_requests(segment, core, 2 * 10**core, bank=1)
    assert look(view, "1.1") == snmp.counter64(333_333)
    assert look(view, "1.31") == snmp.counter64(33)
    assert look(view, "1.32") == snmp.counter64(3_300)
    assert look(view, "1.33") == snmp.counter64(330_000)


def test_a_sum_wraps_as_a_counter64_does(segment: Segment, reader: SegmentView) -> None:
    set_requests(segment, 0, U64)
    set_requests(segment, 1, 3)
    assert look(instance_view(reader), "1.1") == snmp.counter64(2)
    set_requests(segment, 1, 0)
    assert look(instance_view(reader), "1.1") == snmp.counter64(U64)
    assert look(instance_view(reader, null_unset=True), "1.1").hex() == "4608ffffffffffffffff"


@pytest.mark.parametrize(
    ("tag", "value", "element", "as_uwsgi"),
    [
        (snmp.COUNTER32, 2**32 + 5, "410400000005", "410400000005"),
        (snmp.GAUGE32, 2**31 - 1, "42047fffffff", "42047fffffff"),
        (snmp.GAUGE32, 2**32 - 1, "420500ffffffff", "4204ffffffff"),
        (snmp.COUNTER64, 2**64 - 1, "460900ffffffffffffffff", "4608ffffffffffffffff"),
    ],
)
def test_a_value_is_shown_as_the_type_the_app_last_used(
    segment: Segment, reader: SegmentView, tag: int, value: int, element: str, as_uwsgi: str
) -> None:
    view = instance_view(reader)
    set_value(segment, 100, tag, value)
    assert look(view, "2.100").hex() == element
    assert look(instance_view(reader, null_unset=True), "2.100").hex() == as_uwsgi
    set_value(segment, 100, 0, value)
    assert look(view, "2.100") == snmp.NO_SUCH_INSTANCE


def test_a_type_nobody_knows_is_no_value(segment: Segment, reader: SegmentView) -> None:
    set_value(segment, 1, 0x04, 7)
    assert look(instance_view(reader), "2.1") == snmp.NO_SUCH_INSTANCE


@pytest.mark.parametrize(
    ("suffix", "standard", "as_uwsgi"),
    [
        ("2.1", snmp.NO_SUCH_INSTANCE, snmp.NULL),
        ("2.100", snmp.NO_SUCH_INSTANCE, snmp.NULL),
        ("1.2", snmp.NO_SUCH_INSTANCE, snmp.NULL),
        ("1.30", snmp.NO_SUCH_INSTANCE, snmp.NULL),
        ("1.34", snmp.NO_SUCH_INSTANCE, snmp.NULL),
        ("1.100", snmp.NO_SUCH_INSTANCE, snmp.NULL),
        ("1.1.0", snmp.NO_SUCH_INSTANCE, snmp.NO_SUCH_INSTANCE),
        ("2.1.0", snmp.NO_SUCH_INSTANCE, snmp.NO_SUCH_INSTANCE),
        ("1.101", snmp.NO_SUCH_OBJECT, snmp.NO_SUCH_OBJECT),
        ("1.0", snmp.NO_SUCH_OBJECT, snmp.NO_SUCH_OBJECT),
        ("2.101", snmp.NO_SUCH_OBJECT, snmp.NO_SUCH_OBJECT),
        ("2.0", snmp.NO_SUCH_OBJECT, snmp.NO_SUCH_OBJECT),
        ("1", snmp.NO_SUCH_OBJECT, snmp.NO_SUCH_OBJECT),
        ("", snmp.NO_SUCH_OBJECT, snmp.NO_SUCH_OBJECT),
        ("3.1.2.0.1", snmp.NO_SUCH_OBJECT, snmp.NO_SUCH_OBJECT),
    ],
)
def test_names_without_a_value(reader: SegmentView, suffix: str, standard: bytes, as_uwsgi: bytes) -> None:
    assert look(instance_view(reader), suffix) == standard
    assert look(instance_view(reader, null_unset=True), suffix) == as_uwsgi


def test_a_walk_passes_over_nulls_too(reader: SegmentView) -> None:
    assert there(instance_view(reader, null_unset=True)) == there(instance_view(reader))


def test_workers_beyond_the_seventieth_go_on(tmp_path: Path) -> None:
    segment = plant(tmp_path / "many", workers=80, threads=1)
    segment.publish()
    set_requests(segment, 79, 5)
    with SegmentView.open(segment.path) as reader:
        view = instance_view(reader)
        assert look(view, "1.110") == snmp.counter64(5)
        assert look(view, "1.111") == snmp.NO_SUCH_OBJECT
        assert len(there(view)) == 81
    segment.close(unlink=True)


def test_one_datagram_sees_one_instant(segment: Segment, reader: SegmentView) -> None:
    view = instance_view(reader)
    view.begin()
    assert view.get(oid("1.1")) == snmp.counter64(0)
    set_requests(segment, 0, 9)
    assert view.get(oid("1.1")) == snmp.counter64(0)
    assert look(view, "1.1") == snmp.counter64(9)


def test_a_segment_cut_short_while_mapped_is_an_error_not_a_crash(segment: Segment, reader: SegmentView) -> None:
    view = instance_view(reader)
    with segment.path.open("r+b") as file:
        file.truncate(100)
    with pytest.raises(ProtocolError):
        look(view, "1.1")


class Odd:
    """A segment that says odd things."""

    def __init__(self, **rows: int) -> None:
        self.rows = rows
        self.missing = ""
        self.stride = 128

    def placed(self, table: str) -> Placed:
        if table == self.missing:
            raise KeyError(table)
        return Placed(by_name(INSTANCE)[table], self.rows.get(table, 0), 0, self.stride)

    def row_labels(self, _table: str, _row: int = 0) -> dict[str, str]:
        return {}

    def copier(self, table: str) -> Callable[[], bytes]:
        return lambda: bytes(self.rows.get(table, 0) * self.stride * 2)


@pytest.mark.parametrize("table", ["cores", "workers", "snmp_values"])
def test_a_segment_without_a_table_is_refused(table: str) -> None:
    odd = Odd()
    odd.missing = table
    with pytest.raises(ProtocolError, match=table):
        instance_view(odd)


def test_a_table_too_large_to_read_for_every_datagram_is_refused() -> None:
    odd = Odd(workers=1, cores=1)
    odd.stride = MAX_TABLE_OCTETS
    with pytest.raises(ProtocolError, match="too large"):
        instance_view(odd)


def test_cores_that_do_not_divide_among_workers_are_refused() -> None:
    with pytest.raises(ProtocolError, match="7 cores of 2 workers"):
        instance_view(Odd(workers=2, cores=7))


def test_no_workers_and_no_values_are_a_view_of_one_cell() -> None:
    view = instance_view(Odd())
    assert there(view) == {"1.1": snmp.counter64(0)}


METRICS: list[tuple[dict[str, str], int]] = [
    ({"name": "core.busy_workers", "oid": "5.3", "type": "gauge"}, -3),
    ({"name": "core.overloaded", "oid": "5.5", "type": "counter"}, -3),
    ({"name": "worker.1.delta_requests", "oid": "3.1.2", "type": "absolute"}, 7),
    ({"name": "busy", "oid": "5.3", "type": "alias"}, 99),
    ({"name": "mine", "oid": "100.100.100", "type": "gauge"}, 2**32 + 5),
    ({"name": "single", "oid": "9", "type": "counter"}, 4),
    ({"name": "as uWSGI's own", "oid": "1.2", "type": "counter"}, 1),
    ({"name": "none", "oid": "", "type": "counter"}, 1),
    ({"name": "garbage", "oid": "5.x", "type": "counter"}, 1),
    ({"name": "too large", "oid": "5.99999999999", "type": "counter"}, 1),
    ({"name": "negative", "oid": "5.-1", "type": "counter"}, 1),
    ({"name": "long", "oid": ".".join(["1"] * 200), "type": "counter"}, 1),
    ({}, 1),
]


def test_metrics_are_at_their_own_names(tmp_path: Path) -> None:
    rows = {"cores": 1, "workers": 1, "slots": 1, "snmp_values": 1, "metrics": len(METRICS)}
    segment = Segment.create(tmp_path / "seg", INSTANCE, rows, {"metrics": [labels for labels, _ in METRICS]})
    for row, (_, value) in enumerate(METRICS):
        segment.cells("metrics", row)[0] = value & U64
    segment.publish()
    with SegmentView.open(segment.path) as reader:
        view = instance_view(reader)
        assert there(view) == {
            "1.1": snmp.counter64(0),
            "1.31": snmp.counter64(0),
            "3.1.2": snmp.counter64(7),
            "5.3": snmp.gauge32(-3),
            "5.5": snmp.counter64(-3),
            "9": snmp.counter64(4),
            "100.100.100": snmp.gauge32(5),
        }
        assert look(view, "5.3") == bytes.fromhex("420500fffffffd")
        assert look(view, "5.4") == snmp.NO_SUCH_OBJECT
        segment.cells("metrics", 2)[0] = 8
        assert look(view, "3.1.2") == snmp.counter64(8)
    segment.close(unlink=True)
