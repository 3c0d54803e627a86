"""The layout of a segment: what is planned is what is parsed, and what a hostile head says is an error, no more."""

import json
import struct
import tracemalloc
import zlib
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palatine.codec import segment
from palatine.codec.segment import (
    ALIGN,
    FIXED_BYTES,
    MAX_ROWS,
    READY_OFFSET,
    NotReadyError,
    encode_head,
    parse_fixed,
    parse_head,
    plan,
)
from palatine.codec.segment_rows import WORD, RowReader, mark, read_latch, text_copy_bytes
from palatine.errors import ProtocolError
from palatine.schema import ALARMS, DAEMON, EMPEROR, INSTANCE, U64, Field, Table

ROWS = {"sockets": 1, "slots": 4, "workers": 4, "cores": 8, "activity": 8, "apps": 8, "snmp_values": 100, "locks": 3}
LABELS = {"name": "hello", "sockets": [{"name": "127.0.0.1:9090", "proto": "http"}], "note": "ünïcode\0"}
UUID = bytes(range(16))
BOOT = bytes(range(16, 32))

names = st.text("abcdefghijklmnopqrstuvwxyz_", min_size=1, max_size=20)
fields = st.builds(
    Field,
    name=names,
    kind=st.sampled_from(("counter", "gauge", "time", "state", "flag")),
    unit=names,
    help=st.text(max_size=40),
    snmp=st.integers(0, 1000),
    combine=st.sampled_from(("sum", "last")),
    signed=st.booleans(),
    states=st.lists(names, max_size=4).map(tuple),
)
tables = st.builds(
    Table,
    name=names,
    key=st.lists(names, max_size=3).map(tuple),
    help=st.text(max_size=40),
    fields=st.lists(fields, max_size=20, unique_by=lambda field: field.name).map(tuple),
    banked=st.booleans(),
    text_bytes=st.integers(0, 700),
)
segments = st.lists(tables, max_size=6, unique_by=lambda table: table.name)


def head_of(declared: Any = INSTANCE, rows: Any = None, labels: Any = None) -> bytes:
    """A head that is ready."""
    layout = plan(declared, ROWS if rows is None else rows)
    head = encode_head(
        layout, LABELS if labels is None else labels, uuid=UUID, boot_id=BOOT, created=1_700_000_000_000_000
    )
    return ready(head)


def ready(head: bytes, word: int = 1) -> bytes:
    return head[:READY_OFFSET] + struct.pack("=Q", word) + head[READY_OFFSET + WORD :]


def signed_off(head: bytes) -> bytes:
    """The head with a checksum that fits it, as an attacker would write it."""
    schema_bytes = min(struct.unpack_from("=I", head, 12)[0], len(head) - FIXED_BYTES)
    schema = head[FIXED_BYTES : FIXED_BYTES + schema_bytes]
    return head[:72] + struct.pack("=I", zlib.crc32(schema, zlib.crc32(head[:72]))) + head[76:]


def rewritten(change: Callable[[dict[str, Any]], None]) -> bytes:
    """A head whose schema was changed, its sizes and checksum put right."""
    head = head_of()
    fixed = parse_fixed(head)
    said = json.loads(head[FIXED_BYTES : FIXED_BYTES + fixed.schema_bytes])
    change(said)
    return with_schema(json.dumps(said).encode())


def with_schema(schema: bytes) -> bytes:
    """A head with any bytes for its schema, and as many bytes of rows as before."""
    head = head_of()
    fixed = parse_fixed(head)
    offset = -(-(FIXED_BYTES + len(schema)) // ALIGN) * ALIGN
    size = offset + fixed.size - fixed.rows_offset
    start = head[:12] + struct.pack("=IQQ", len(schema), size, offset) + head[32:FIXED_BYTES]
    return signed_off((start + schema).ljust(offset, b"\0"))


def test_a_head_says_what_was_planned() -> None:
    layout = plan(INSTANCE, ROWS)
    head = parse_head(head_of())
    assert head.labels == LABELS
    assert [placed.table for placed in head.tables.values()] == [
        table._replace(fields=tuple(field._replace(combine=field.merge) for field in table.fields))
        for table in INSTANCE
    ]
    assert [placed[1:] for placed in head.tables.values()] == [placed[1:] for placed in layout.tables]
    assert (head.fixed.uuid, head.fixed.boot_id, head.fixed.created) == (UUID, BOOT, 1_700_000_000_000_000)
    assert head.fixed.size == head.fixed.rows_offset + layout.size


@settings(deadline=None)
@given(segments, st.dictionaries(names, st.text(max_size=20), max_size=3), st.data())
def test_any_tables_make_the_round_trip(declared: list[Table], labels: dict[str, str], data: st.DataObject) -> None:
    rows = {table.name: data.draw(st.integers(0, 50)) for table in declared}
    head = parse_head(head_of(declared, rows, labels))
    assert head.labels == labels
    assert {name: placed.rows for name, placed in head.tables.items()} == rows
    assert [placed.table for placed in head.tables.values()] == [
        table._replace(fields=tuple(field._replace(combine=field.merge) for field in table.fields))
        for table in declared
    ]


@settings(deadline=None)
@given(segments, st.data())
def test_rows_are_aligned_and_apart(declared: list[Table], data: st.DataObject) -> None:
    layout = plan(declared, {table.name: data.draw(st.integers(0, 5)) for table in declared})
    end = 0
    for placed in layout.tables:
        for bank in range(placed.table.banks):
            for row in range(placed.rows):
                start = placed.row_offset(row, bank)
                assert start % ALIGN == 0
                assert start >= end
                end = start + len(placed.table.fields) * WORD
                if placed.table.text_bytes:
                    end = start + placed.text_offset + WORD + 2 * text_copy_bytes(placed.table.text_bytes)
    assert end <= layout.size


def test_a_table_without_a_key_has_one_row_and_others_none() -> None:
    assert {placed.table.name: placed.rows for placed in plan(INSTANCE, {}).tables if placed.rows} == {"server": 1}


@pytest.mark.parametrize(
    ("declared", "rows", "complaint"),
    [
        (INSTANCE, {"wrokers": 4}, "does not have: wrokers"),
        (INSTANCE, {"workers": -1}, "cannot have -1 rows"),
        (INSTANCE, {"workers": MAX_ROWS + 1}, "cannot have 65537 rows"),
        (INSTANCE, {"cores": MAX_ROWS, "apps": MAX_ROWS}, "too large"),
        (INSTANCE, {"activity": MAX_ROWS}, "too large"),
        ((*INSTANCE, INSTANCE[0]._replace(help="Twice.")), {}, "two tables are called server"),
    ],
)
def test_a_plan_that_cannot_be_is_refused(declared: Any, rows: Any, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        plan(declared, rows)


def test_a_large_instance_can_be() -> None:
    workers, cores, apps = 256, 16, 2
    each = workers * cores
    rows = {"slots": workers, "workers": workers, "cores": each, "activity": each, "apps": each * apps, "locks": 50}
    assert len(head_of(rows=rows)) < 64 << 10


def test_two_thousand_vassals_and_alarms_can_be() -> None:
    plan(DAEMON + EMPEROR, {"vassals": 2000})
    plan(DAEMON + ALARMS, {"alarms": 4000})


@pytest.mark.parametrize("labels", [{"x": float("nan")}, {"x": b"bytes"}, {"x": "y" * segment.MAX_HEAD_BYTES}])
def test_labels_json_cannot_say_are_refused(labels: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        head_of(labels=labels)


def test_before_the_ready_word_nothing_is_shown() -> None:
    for word in (0, 2, U64):
        with pytest.raises(NotReadyError):
            parse_head(ready(head_of(), word))


def test_every_truncated_head_is_refused() -> None:
    head = head_of()
    said = parse_fixed(head)
    for length in range(FIXED_BYTES + said.schema_bytes):
        with pytest.raises(ProtocolError):
            parse_head(head[:length])
    assert parse_head(head[: FIXED_BYTES + said.schema_bytes]).labels == LABELS  # the rest is padding


BROKEN: dict[str, Callable[[dict[str, Any]], Any]] = {
    "labels are a list": lambda said: said.update(labels=[]),
    "no labels": lambda said: said.pop("labels"),
    "no tables": lambda said: said.pop("tables"),
    "too many tables": lambda said: said.update(tables=[said["tables"][1]] * 65),
    "a table twice": lambda said: said["tables"].append(
        {**said["tables"][-1], "offset": table_end(said["tables"][-1])}
    ),
    "a table is a number": lambda said: said["tables"].append(3),
    "two tables in one place": lambda said: said["tables"][2].update(offset=said["tables"][1]["offset"]),
    "a table beyond the end": lambda said: said["tables"][-1].update(offset=1 << 40),
    "a table at the end": lambda said: said["tables"][0].update(rows=60_000),
    "a negative offset": lambda said: said["tables"][0].update(offset=-64),
    "an odd offset": lambda said: said["tables"][0].update(offset=8),
    "rows that overlap": lambda said: said["tables"][0].update(stride=64),
    "no stride": lambda said: said["tables"][0].update(stride=0),
    "an odd stride": lambda said: said["tables"][0].update(stride=1000),
    "too many rows": lambda said: said["tables"][1].update(rows=1 << 62),
    "rows are a truth value": lambda said: said["tables"][0].update(rows=True),
    "rows are a float": lambda said: said["tables"][0].update(rows=1.0),
    "rows are a text": lambda said: said["tables"][0].update(rows="1"),
    "three banks": lambda said: said["tables"][0].update(banks=3),
    "a name that is a list": lambda said: said["tables"][0].update(name=["server"]),
    "a long name": lambda said: said["tables"][0].update(name="x" * 65),
    "a long text": lambda said: said["tables"][0].update(text=1 << 20),
    "fields are an object": lambda said: said["tables"][0].update(fields={}),
    "too many fields": lambda said: said["tables"][0].update(fields=said["tables"][0]["fields"] * 20),
    "a field twice": lambda said: said["tables"][0]["fields"][1].update(name=said["tables"][0]["fields"][0]["name"]),
    "a field is null": lambda said: said["tables"][0]["fields"].append(None),
    "a field elsewhere": lambda said: said["tables"][0]["fields"][0].update(word=5),
    "a key that is a number": lambda said: said["tables"][0].update(key=[1]),
    "states that are numbers": lambda said: said["tables"][0]["fields"][0].update(states=[1]),
    "a negative suffix": lambda said: said["tables"][0]["fields"][0].update(snmp=-1),
}


def table_end(said: dict[str, Any]) -> int:
    return int(said["offset"] + said["banks"] * said["rows"] * said["stride"])


@pytest.mark.parametrize("case", BROKEN)
def test_a_schema_that_cannot_be_is_refused(case: str) -> None:
    with pytest.raises(ProtocolError):
        parse_head(rewritten(BROKEN[case]))


def test_what_a_later_palatine_may_add_is_ignored() -> None:
    def change(said: dict[str, Any]) -> None:
        said["weather"] = "fine"
        said["tables"][0]["colour"] = "blue"
        said["tables"][0]["fields"][0].update(kind="histogram", merge="max", note=[])

    field = parse_head(rewritten(change)).tables["server"].table.fields[0]
    assert (field.kind, field.merge) == ("gauge", "last")


@pytest.mark.parametrize(
    "schema",
    [
        b"",
        b"\xff",
        b"{",
        b"[]",
        b"null",
        b"[" * 900_000,
        b'{"labels":{},"tables":[' + b"9" * 900_000 + b"]}",
        b"{}" * 1000,
    ],
    ids=lambda schema: f"{schema[:20]!r} of {len(schema)}",
)
def test_a_schema_that_is_not_ours_is_refused(schema: bytes) -> None:
    with pytest.raises(ProtocolError):
        parse_head(with_schema(schema))


def test_rows_spread_over_many_tables_are_counted_together() -> None:
    wide = tuple(Field(f"f{n}", "counter", "x", "X.") for n in range(8))
    declared = [Table(f"t{n}", ("k",), "T.", wide) for n in range(7)]
    with pytest.raises(ValueError, match="too large"):
        plan(declared, {table.name: 10_000 for table in declared})


FIXED_FIELDS = [(0, 8), (8, 2), (10, 2), (12, 4), (16, 8), (24, 8)]


@settings(deadline=None)
@given(st.sampled_from(FIXED_FIELDS), st.integers(0, U64))
def test_a_fixed_header_with_any_number_is_refused_or_harmless(place: tuple[int, int], value: int) -> None:
    offset, size = place
    head = bytearray(head_of())
    head[offset : offset + size] = value.to_bytes(8, "little")[:size]
    refused_or_sound(signed_off(bytes(head)))


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(head_of()) - 1), st.integers(0, 255)), min_size=1, max_size=8))
def test_a_head_with_flipped_bytes_is_refused_or_harmless(changes: list[tuple[int, int]]) -> None:
    head = bytearray(head_of())
    for position, byte in changes:
        head[position] = byte
    refused_or_sound(bytes(head))
    refused_or_sound(signed_off(bytes(head)))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
PLACES = ["name", "key", "help", "banks", "rows", "offset", "stride", "text", "fields"]
FIELD_PLACES = ["name", "kind", "unit", "help", "word", "merge", "snmp", "signed", "states"]


@settings(deadline=None)
@given(st.integers(0, len(INSTANCE) - 1), st.sampled_from(PLACES), json_values)
def test_a_table_that_says_anything_is_refused_or_harmless(table: int, place: str, value: Any) -> None:
    refused_or_sound(rewritten(lambda said: said["tables"][table].update({place: value})))


@settings(deadline=None)
@given(st.integers(0, 24), st.sampled_from(FIELD_PLACES), json_values)
def test_a_field_that_says_anything_is_refused_or_harmless(field: int, place: str, value: Any) -> None:
    refused_or_sound(rewritten(lambda said: said["tables"][0]["fields"][field].update({place: value})))


@settings(deadline=None)
@given(st.binary(max_size=400))
def test_garbage_is_refused(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        parse_head(data)


def refused_or_sound(head: bytes) -> None:
    """The invariant: ProtocolError, or a head all of whose rows lie in the size it states."""
    try:
        said = parse_head(head)
    except ProtocolError:
        return
    room = said.fixed.size - said.fixed.rows_offset
    assert 0 <= room <= segment.MAX_SIZE
    for placed in said.tables.values():
        assert 0 <= placed.offset <= placed.offset + placed.size <= room
        assert not placed.table.text_bytes or placed.text_offset + WORD <= placed.stride
        RowReader(placed.table)
    assert sum(placed.values for placed in said.tables.values()) <= segment.MAX_VALUES


def test_parsing_the_worst_head_takes_bounded_memory() -> None:
    schema = b'{"labels":{"x":[' + b"{}," * 300_000 + b'0]},"tables":[]}'
    head = with_schema(schema)
    tracemalloc.start()
    try:
        parse_head(head)
        assert tracemalloc.get_traced_memory()[1] < 100 << 20
    finally:
        tracemalloc.stop()


ROW = Table(
    "row",
    (),
    "A row.",
    (
        Field("many", "counter", "things", "Summed."),
        Field("level", "gauge", "things", "Of the current bank."),
        Field("busy", "gauge", "things", "Summed though a gauge.", combine="sum"),
        Field("balance", "gauge", "things", "Below zero.", signed=True),
    ),
    banked=True,
)


@pytest.mark.parametrize(
    ("current", "other", "expected"),
    [
        ((1, 2, 3, 4), (10, 20, 30, 40), {"many": 11, "level": 2, "busy": 33, "balance": 4}),
        ((U64, 0, 0, U64), (1, 5, 0, 0), {"many": 0, "level": 0, "busy": 0, "balance": -1}),
        ((0, U64, U64, 1 << 63), (U64, 0, 2, 9), {"many": U64, "level": U64, "busy": 1, "balance": -(1 << 63)}),
        ((5, 6, 7, 8), None, {"many": 5, "level": 6, "busy": 7, "balance": 8}),
    ],
)
def test_banks_are_merged_by_what_fields_are(current: Any, other: Any, expected: dict[str, int]) -> None:
    data = struct.pack("=4Q", *current) + (b"" if other is None else struct.pack("=4Q", *other))
    assert RowReader(ROW).values(data, 0, None if other is None else 32) == expected


CAPACITY = 20


def latch_of(sequence: int, first: bytes, second: bytes) -> bytes:
    copies = (struct.pack("=Q", mark(text)) + text.ljust(24, b"\0") for text in (first, second))
    return struct.pack("=Q", sequence) + b"".join(copies)


@pytest.mark.parametrize(
    ("latch", "expected"),
    [
        (bytes(WORD + 2 * text_copy_bytes(CAPACITY)), b""),
        (latch_of(0, b"even", b"odd"), b"even"),
        (latch_of(1, b"even", b"odd"), b"odd"),
        (latch_of(U64, b"even", b"x" * CAPACITY), b"x" * CAPACITY),
        (latch_of(2, b"", b"odd"), b""),
    ],
)
def test_the_copy_in_force_is_read(latch: bytes, expected: bytes) -> None:
    assert read_latch(b"before" + latch, 6, CAPACITY) == expected


@pytest.mark.parametrize("change", [(WORD, 5), (WORD + 4, 1), (2 * WORD, 0xFF), (WORD + 3, 0xFF)])
def test_a_copy_that_does_not_fit_its_mark_is_not_read(change: tuple[int, int]) -> None:
    latch = bytearray(latch_of(0, b"even", b"odd"))
    latch[change[0]] = change[1]
    assert read_latch(bytes(latch), 0, CAPACITY) is None
