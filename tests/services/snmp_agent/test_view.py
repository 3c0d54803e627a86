from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palatine.codec import ber, snmp
from palatine.codec.snmp import Varbind
from palatine_snmp_agent.view import Cell, Cells, View, nothing


def value_cell(arcs: ber.Oid, number: int) -> Cell:
    return Cell(arcs, partial(snmp.write_varbind, Varbind(ber.oid_octets(arcs), snmp.gauge32(number))))


def branch(prefix: str, *names: str, objects: tuple[str, ...] = ()) -> Cells:
    known = [arcs(name) for name in objects]

    def exception(found: ber.Oid) -> bytes:
        there = any(found[: len(name)] == name for name in known)
        return snmp.NO_SUCH_INSTANCE if there else snmp.NO_SUCH_OBJECT

    return Cells(arcs(prefix), [value_cell(arcs(name), n) for n, name in enumerate(names)], exception)


def view_of(*names: str, objects: tuple[str, ...] = ()) -> View:
    return View([branch("1.3", *names, objects=objects)])


def arcs(text: str) -> ber.Oid:
    return tuple(map(int, text.split(".")))


def after(view: View, name: str) -> list[str]:
    found = [ber.content(target.name, 0, len(target.name), 6) for target in view.after(ber.parse_oid(name))]
    names = [target.name for target in view.after(ber.parse_oid(name))]
    return [ber.format_oid(octets[start:stop]) for octets, (start, stop) in zip(names, found, strict=True)]


def test_cells_come_in_the_order_of_names_not_of_octets() -> None:
    view = view_of("1.3.16384", "1.3.16383", "1.3.2", "1.3.2.0", "1.3.10", "1.3.1")
    assert after(view, "0.0") == ["1.3.1", "1.3.2", "1.3.2.0", "1.3.10", "1.3.16383", "1.3.16384"]


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("1.3", ["1.3.2", "1.3.4"]),
        ("1.3.1", ["1.3.2", "1.3.4"]),
        ("1.3.2", ["1.3.4"]),
        ("1.3.2.0", ["1.3.4"]),
        ("1.3.3.9.9", ["1.3.4"]),
        ("1.3.4", []),
        ("2.0", []),
    ],
)
def test_what_follows_a_name(name: str, found: list[str]) -> None:
    assert after(view_of("1.3.4", "1.3.2"), name) == found


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("1.3.2.1", snmp.gauge32(0)),
        ("1.3.2.2", snmp.NO_SUCH_INSTANCE),
        ("1.3.2", snmp.NO_SUCH_INSTANCE),
        ("1.3.2.1.0", snmp.NO_SUCH_INSTANCE),
        ("1.3.4.4.4", snmp.NO_SUCH_INSTANCE),
        ("1.3.4.4", snmp.NO_SUCH_INSTANCE),
        ("1.3.4.5", snmp.NO_SUCH_OBJECT),
        ("1.3", snmp.NO_SUCH_OBJECT),
        ("1.3.3", snmp.NO_SUCH_OBJECT),
        ("2.3", snmp.NO_SUCH_OBJECT),
        ("0.0", snmp.NO_SUCH_OBJECT),
    ],
)
def test_an_exact_name(name: str, value: bytes) -> None:
    view = view_of("1.3.2.1", objects=("1.3.2", "1.3.4.4"))
    assert view.get(ber.parse_oid(name)) == value
    assert view.target(ber.parse_oid(name)).name == ber.encode(6, ber.parse_oid(name))


def test_two_cells_of_one_name_are_a_fault() -> None:
    with pytest.raises(ValueError, match="two cells"):
        view_of("1.3.1", "1.3.1")


def test_a_branch_inside_another_is_a_fault() -> None:
    with pytest.raises(ValueError, match="part of another"):
        View([branch("1.3"), branch("1.3.1")])


def test_a_walk_goes_from_branch_to_branch() -> None:
    view = View([branch("1.5", "1.5.1"), branch("1.3", "1.3.2", "1.3.9"), branch("1.4")])
    assert after(view, "1.3.2") == ["1.3.9", "1.5.1"]
    assert after(view, "1.4.7") == after(view, "1.3.9.9") == ["1.5.1"]
    assert after(view, "1.5.1") == []
    assert after(View(), "1.3") == []


def test_next_is_the_next_that_has_a_value() -> None:
    hollow = Cells((1, 3), [Cell((1, 3, 1), nothing), value_cell((1, 3, 2), 7)])
    view = View([hollow])
    assert view.next(ber.parse_oid("1.3")) == Varbind(ber.parse_oid("1.3.2"), snmp.gauge32(7))
    assert view.get(ber.parse_oid("1.3.1")) == snmp.NO_SUCH_INSTANCE
    assert view.next(ber.parse_oid("1.3.2")) is None


@given(st.sets(st.lists(st.integers(0, 70_000), min_size=1, max_size=4).map(lambda rest: (1, 3, *rest)), max_size=20))
def test_a_walk_meets_every_cell_once_in_order(names: set[ber.Oid]) -> None:
    view = View([Cells((1, 3), [Cell(name, nothing) for name in names])])
    found = []
    name = "1.3"
    while following := after(view, name):
        name = following[0]
        found.append(arcs(name))
    assert found == sorted(names)
