"""Records between emperor and keeper: a round trip for each, and what is refused."""

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palatine.codec.keeper import (
    Adopt,
    Died,
    Failed,
    Forget,
    Held,
    Hello,
    Hold,
    Note,
    Record,
    Release,
    Show,
    Signal,
    Spawn,
    Spawned,
    Welcome,
    decode,
    encode,
)
from palatine.errors import ProtocolError


def as_fields(value: object) -> bytes:
    """A record of every field name, all with this value."""
    names = ("key", "pid", "parts", "environ", "note", "number", "status", "group", "argv", "name", "cwd", "reason")
    return json.dumps({"v": 1, "is": "spawn", **dict.fromkeys(names, value)}).encode()


RECORDS: list[Record] = [
    Hello(7, ("log", "log")),
    Welcome(8, 3),
    Show(0),
    Held("dir|a", 9, 1234, True, 256, "note", ("pipe", "config")),
    Held(""),
    Spawn("dir|a", "a", ("x", "--ini"), {"LANG": "\udcff"}, "/", "/bin/x", 1, 2, (2, 3), True, False, "hook", "note"),
    Spawned("dir|a", 9, 1234, ("pipe",)),
    Failed("dir|a", "fork: why"),
    Died("dir|a", 9, None),
    Died("dir|a", 9, 15),
    Signal("dir|a", 9, True),
    Hold("dir|a"),
    Adopt("dir|a", 9, 1234, "note", ("pipe",)),
    Note("dir|a", "{}"),
    Forget("dir|a"),
    Release(),
]


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_round_trip(record: Record) -> None:
    assert decode(encode(record)) == record
    newer = {**json.loads(encode(record)), "a_field_of_the_next_version": 1}
    assert decode(json.dumps(newer).encode()) == record


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"\xff", "is not JSON"),
        (b"[]", "version 1"),
        (b'{"v":2,"is":"show","number":1}', "version 1"),
        (b'{"v":1,"is":"conquer"}', "unknown type 'conquer'"),
        (b'{"v":1,"is":"show"}', "'show' without number"),
        (b'{"v":1,"is":"show","number":"1"}', "bad 'number'"),
        (b'{"v":1,"is":"show","number":true}', "bad 'number'"),
        (b'{"v":1,"is":"signal","key":"a","signum":9,"group":1}', "bad 'group'"),
        (b'{"v":1,"is":"hello","pid":1,"parts":[1]}', "bad 'parts'"),
        (b'{"v":1,"is":"hello","pid":1,"parts":"log"}', "bad 'parts'"),
        (b'{"v":1,"is":"failed","key":"a","reason":null}', "bad 'reason'"),
    ],
)
def test_what_is_refused(data: bytes, why: str) -> None:
    with pytest.raises(ProtocolError, match=why):
        decode(data)


@given(st.binary(max_size=200) | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(as_fields))
def test_hostile_bytes_are_refused_as_what_they_are(data: bytes) -> None:
    with suppress(ProtocolError):
        decode(data)


def test_deep_nesting_is_refused() -> None:
    with pytest.raises(ProtocolError):
        decode(b"[" * 100_000)


def test_a_record_has_a_largest_size() -> None:
    with pytest.raises(ProtocolError, match="at most"):
        encode(Note("dir|a", "x" * 200_000))
