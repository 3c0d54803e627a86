"""Spool files: uWSGI's format, whole or not at all, one runner each."""

import os
from pathlib import Path

import pytest

from palatine.errors import ProtocolError
from palatine_app_server.sharing.spool import Task, Writer, claim, decode, encode, entries, read, variables_of

TABLE = [
    (Task({}, b""), b"\x11\x00\x00\x00"),
    (Task({b"a": b"1"}, b""), b"\x11\x06\x00\x00\x01\x00a\x01\x001"),
    (Task({b"a": b""}, b"body"), b"\x11\x05\x00\x00\x01\x00a\x00\x00body"),
    (Task({b"k": b"v" * 300}, b""), b"\x11\x31\x01\x00\x01\x00k\x2c\x01" + b"v" * 300),
]


@pytest.mark.parametrize(("task", "data"), TABLE)
def test_both_directions(task: Task, data: bytes) -> None:
    assert encode(task) == data
    assert decode(data) == task


@pytest.mark.parametrize(
    "data", [b"\x11", b"\x11\x06\x00\x00\x01\x00a", b"\x11\x06\x00\x00\x01\x00a\x09\x001", b"\x11\x01\x00\x00\x01"]
)
def test_what_is_no_task(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode(data)


def test_what_does_not_fit_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="64k"):
        Writer().write(str(tmp_path), Task({b"k": b"v" * 65536}, b""))
    with pytest.raises(ValueError, match="64k"):
        Writer().write(str(tmp_path), Task({b"k": b"v" * 65000, b"l": b"v" * 1000}, b""))
    assert list(tmp_path.iterdir()) == []


def test_a_written_task_is_read_again(tmp_path: Path) -> None:
    writer, task = Writer(), Task({b"a": b"1"}, b"x" * 100_000)
    path = writer.write(str(tmp_path), task, at=4_000_000_000.7)
    assert [entry.path for entry in entries(str(tmp_path))] == [path]
    assert next(entries(str(tmp_path))).due == pytest.approx(4_000_000_000.7)
    fd = claim(path)
    assert fd is not None
    try:
        assert read(fd) == task
        assert claim(path) is None  # by another description, as another process has
    finally:
        os.close(fd)


def test_priorities_come_first_and_names_in_their_natural_order(tmp_path: Path) -> None:
    writer = Writer()
    paths = [writer.write(str(tmp_path), Task({b"n": b"%d" % number}, b"")) for number in range(12)]
    urgent = writer.write(str(tmp_path), Task({}, b""), priority="2")
    most_urgent = writer.write(str(tmp_path), Task({}, b""), priority="1")
    (tmp_path / "other").mkdir()
    (tmp_path / "notes.txt").write_text("not a task")
    found = [entry.path for entry in entries(str(tmp_path))]
    assert found == [most_urgent, urgent, *paths]


def test_a_file_that_is_still_being_written_waits(tmp_path: Path) -> None:
    path = tmp_path / "uwsgi_spoolfile_on_host_1_1_1_1_1"
    path.touch(0o600)
    fd = claim(str(path))
    assert fd is not None
    try:
        assert read(fd) is None
    finally:
        os.close(fd)


def test_arguments_are_bytes_or_text() -> None:
    assert variables_of({"a": "é", b"b": bytearray(b"x")}) == {b"a": b"\xc3\xa9", b"b": b"x"}
    for wrong in ({"a": 5}, {5: b"a"}, {"a": None}, {"a": 1.5}):
        with pytest.raises(ValueError, match="only bytes"):
            variables_of(wrong)
