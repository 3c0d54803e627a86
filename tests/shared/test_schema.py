"""The declarations everything else is generated from are complete and consistent."""

import re

import pytest

from palatine.schema import AGENT, ALARMS, DAEMON, EMPEROR, EXPORTER, INSTANCE, KINDS, Field, Table, by_name

SEGMENTS = {
    "instance": INSTANCE,
    "agent": DAEMON + AGENT,
    "exporter": DAEMON + EXPORTER,
    "alarms": DAEMON + ALARMS,
    "emperor": DAEMON + EMPEROR,
}
TABLES = {f"{segment}-{table.name}": table for segment, tables in SEGMENTS.items() for table in tables}
FIELDS = {f"{name}.{field.name}": field for name, table in TABLES.items() for field in table.fields}
IDENTIFIER = re.compile(r"[a-z][a-z0-9_]*\Z")


@pytest.mark.parametrize("segment", SEGMENTS)
def test_tables_of_a_segment_have_different_names(segment: str) -> None:
    assert len(by_name(SEGMENTS[segment])) == len(SEGMENTS[segment])


@pytest.mark.parametrize("name", TABLES)
def test_a_table_is_well_declared(name: str) -> None:
    table = TABLES[name]
    assert IDENTIFIER.match(table.name)
    assert all(IDENTIFIER.match(key) for key in table.key)
    assert_is_a_sentence(table.help)
    names = [field.name for field in table.fields]
    assert len(set(names)) == len(names)
    suffixes = [field.snmp for field in table.fields if field.snmp]
    assert len(set(suffixes)) == len(suffixes)
    assert table.fields or table.text_bytes


@pytest.mark.parametrize("name", FIELDS)
def test_a_field_is_well_declared(name: str) -> None:
    field = FIELDS[name]
    assert IDENTIFIER.match(field.name)
    assert field.kind in KINDS
    assert re.match(r"[a-z]+\Z", field.unit)
    assert_is_a_sentence(field.help)
    assert 1 <= field.snmp <= 255
    assert field.merge in ("sum", "last")
    assert not field.signed or field.kind == "gauge"
    if field.kind == "counter":
        assert field.merge == "sum"
    if field.kind == "flag":
        assert field.unit == "boolean"
    if field.kind == "state" and field.unit == "state":
        assert len(set(field.states)) == len(field.states) >= 2


def assert_is_a_sentence(text: str) -> None:
    assert re.match(r"([A-Z0-9]|uwsgi ).*\.\Z", text)
    assert len(text) <= 120
    assert text.isascii()


# What uWSGI's stats document and its metrics take from rows (see the spec, 2.2, 2.3 and 3.2), less what is a label.
SAID_BY_UWSGI = {
    "server": "pid uid gid listen_queue listen_queue_errors signal_queue load routed_signals "
    "unrouted_signals overloaded",
    "sockets": "queue max_queue",
    "slots": "pid cheaped last_spawn respawn_count harakiri_count requests_at_spawn signal_queue rss vsz",
    "workers": "accepting signals suspended running_signal",
    "cores": "requests static_requests routed_requests offloaded_requests write_errors read_errors in_request "
    "exceptions request_start_us running_time avg_rt tx",
    "apps": "requests exceptions startup_time",
    "locks": "owner_pid",
    "snmp_values": "type value",
    "caches": "items hits miss full last_modified_at",
    "spoolers": "pid respawns",
    "spooler_tasks": "tasks running",
    "crons": "pid started_at",
    "daemons": "pid respawns",
    "metrics": "value",
}


@pytest.mark.parametrize("table", SAID_BY_UWSGI)
def test_what_uwsgi_tells_has_a_field(table: str) -> None:
    declared = {field.name for field in by_name(INSTANCE)[table].fields}
    assert set(SAID_BY_UWSGI[table].split()) <= declared


def test_what_is_written_by_two_generations_has_two_banks() -> None:
    assert {table.name for table in INSTANCE if table.banked} == {"workers", "cores", "activity", "variables", "apps"}


def test_a_core_busy_in_both_generations_counts_in_both() -> None:
    in_request = by_name(INSTANCE)["cores"].fields[by_name(INSTANCE)["cores"].word("in_request")]
    assert in_request.merge == "sum"


def test_a_word_is_found_by_name_only() -> None:
    table = Table("t", (), "T.", (Field("a", "counter", "1", "A."), Field("b", "gauge", "1", "B.")))
    assert [table.word("a"), table.word("b")] == [0, 1]
    with pytest.raises(KeyError, match="t has no field c"):
        table.word("c")


def test_two_tables_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="two tables are called server"):
        by_name([*INSTANCE, Table("server", (), "Another.", ())])
