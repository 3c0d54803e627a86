"""Writing, publishing and reading segments, and refusing files that are not what they should be."""

import os
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from palatine.codec.segment import READY_OFFSET, encode_head, parse_fixed, plan
from palatine.codec.segment_rows import WORD, mark, text_copy_bytes
from palatine.counters import NotReadyError, Segment, SegmentView, TextLatch
from palatine.errors import PeerError, ProtocolError
from palatine.schema import INSTANCE, U64

ROWS = {"sockets": 1, "slots": 4, "workers": 4, "cores": 8, "activity": 8, "apps": 16, "snmp_values": 100, "crons": 2}
LABELS: dict[str, Any] = {
    "name": "hello",
    "sockets": [{"name": "127.0.0.1:9090"}],
    "apps": [{"id": 0, "mountpoint": ""}, {"id": 1, "mountpoint": "/two"}],
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "seg"


def published(path: Path, **rows: int) -> Segment:
    segment = Segment.create(path, INSTANCE, {**ROWS, **rows}, LABELS)
    segment.publish()
    return segment


def valid_file(path: Path) -> bytes:
    published(path)
    return path.read_bytes()


def store(segment: Segment, table: str, row: int = 0, bank: int = 0, /, **values: int) -> None:
    cells = segment.cells(table, row, bank)
    for field, value in values.items():
        cells[segment.word(table, field)] = value


def test_what_is_stored_is_read(path: Path) -> None:
    segment = published(path)
    store(segment, "server", pid=42, uid=1000, started=1_700_000_000, state=1)
    store(segment, "sockets", queue=7, max_queue=100)
    store(segment, "slots", 3, pid=99, rss=U64)
    with SegmentView.open(path) as view:
        assert {field: value for field, value in view.row("server").items() if value} == {
            "pid": 42,
            "uid": 1000,
            "started": 1_700_000_000,
            "state": 1,
        }
        assert view.row("sockets") == {"queue": 7, "max_queue": 100, "queued_time": 0}
        assert [row["pid"] for row in view.read("slots")] == [0, 0, 0, 99]
        assert view.row("slots", 3)["rss"] == U64
        assert view.read("mules") == []
        assert view.rows("apps") == 16


def test_a_view_says_what_the_segment_is(path: Path) -> None:
    segment = published(path)
    with SegmentView.open(path, owner=os.getuid()) as view:
        assert view.uuid == segment.uuid
        assert view.labels == segment.labels == LABELS
        assert list(view.tables) == [table.name for table in INSTANCE]
        assert view.tables["cores"].key == ("worker", "core")
        assert abs(view.created - path.stat().st_mtime) < 60


def test_labels_of_rows_are_those_of_their_last_key(path: Path) -> None:
    published(path)
    with SegmentView.open(path) as view:
        assert view.row_labels("sockets") == {"name": "127.0.0.1:9090"}
        assert [view.row_labels("apps", row)["id"] for row in (0, 1, 2, 15)] == [0, 1, 0, 1]
        assert view.row_labels("sockets", 1) == view.row_labels("slots") == {}


@pytest.mark.parametrize("labels", [{"sockets": 3}, {"sockets": []}, {"sockets": ["x"]}, {"sockets": {"0": 1}}])
def test_labels_of_another_shape_are_no_labels(path: Path, labels: Any) -> None:
    Segment.create(path, INSTANCE, ROWS, labels).publish()
    with SegmentView.open(path) as view:
        assert view.row_labels("sockets") == {}


def test_a_column_is_what_the_rows_have(path: Path) -> None:
    segment = published(path)
    store(segment, "cores", 5, 0, requests=10, in_request=1, avg_rt=100, tx=U64)
    store(segment, "cores", 5, 1, requests=32, in_request=1, avg_rt=900, tx=3)
    store(segment, "slots", 3, rss=U64)
    with SegmentView.open(path) as view:
        for generation in (0, 1):
            store(segment, "server", 0, generation=generation)
            for name, table in view.tables.items():
                rows, data = view.read(name), view.copy(name)
                for field in table.fields:
                    found = view.column(name, field.name, data)
                    assert found == [row[field.name] for row in rows], (name, field.name)
        with pytest.raises(KeyError):
            view.column("cores", "nothing", data)


def test_generations_share_counters_and_do_not_share_levels(path: Path) -> None:
    segment = published(path)
    store(segment, "cores", 5, 0, requests=10, in_request=1, avg_rt=100, tx=U64)
    store(segment, "cores", 5, 1, requests=32, in_request=1, avg_rt=900, tx=3)
    store(segment, "workers", 2, 1, accepting=1, signals=4)
    expected = {"requests": 42, "in_request": 2, "tx": 2}
    with SegmentView.open(path) as view:
        for generation, avg_rt, accepting in ((0, 100, 0), (1, 900, 1), (2, 100, 0), (3, 900, 1)):
            store(segment, "server", generation=generation)
            assert view.row("cores", 5).items() >= {**expected, "avg_rt": avg_rt}.items()
            assert view.read("cores")[5] == view.row("cores", 5)
            assert view.read("workers")[2] == view.row("workers", 2)
            assert view.row("workers", 2).items() >= {"accepting": accepting, "signals": 4}.items()


def test_signed_fields_are_read_as_signed(path: Path) -> None:
    segment = published(path)
    store(segment, "crons", 1, pid=-1 & U64, started_at=5)
    with SegmentView.open(path) as view:
        assert view.row("crons", 1)["pid"] == view.read("crons")[1]["pid"] == -1


def test_texts_are_kept_per_bank(path: Path) -> None:
    segment = published(path)
    segment.text("activity", 3, 0).write(b"GET\0/old")
    segment.text("activity", 3, 1).write(b"GET\0/new")
    store(segment, "server", generation=1)
    with SegmentView.open(path) as view:
        assert view.text("activity", 3) == b"GET\0/new"
        assert view.text("activity", 3, 0) == b"GET\0/old"
        assert view.texts("activity", 0) == [b"", b"", b"", b"GET\0/old", b"", b"", b"", b""]
        assert view.texts("activity")[3] == b"GET\0/new"


@given(st.lists(st.binary(max_size=600), max_size=6))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_text_is_the_last_one_written_cut_to_its_room(tmp_path: Path, texts: list[bytes]) -> None:
    segment = published(tmp_path / "seg")
    with SegmentView.open(tmp_path / "seg") as view:
        latch = segment.text("activity", 7, 1)
        assert view.text("activity", 7, 1) == b""
        for text in texts:
            latch.write(text)
            assert view.text("activity", 7, 1) == text[: latch.capacity]
        assert view.text("activity", 6, 1) == b""


def test_a_writer_that_stops_anywhere_in_a_write_leaves_the_text_before(path: Path) -> None:
    """Each store of a write, one by one, as a writer killed after it would leave the latch; then a new writer."""
    capacity = 480
    segment = published(path)
    latch = segment.text("activity", 0)
    raw = latch._bytes
    with SegmentView.open(path) as view:
        for turn in range(4):
            before = bytes([65 + turn]) * (100 + turn)
            latch.write(before)
            text = b"x" * 300
            start = WORD + (~latch._words[0] & 1) * text_copy_bytes(capacity)
            for length in (1, 7, 8, 9, 299, 300):
                raw[start + WORD : start + WORD + length] = text[:length]
                assert view.text("activity") == before
            latch._words[start // WORD] = mark(text)
            assert view.text("activity") == before
            TextLatch(raw, capacity).write(b"from the next worker")
            assert view.text("activity") == b"from the next worker"


def test_a_text_that_never_holds_still_reads_as_empty(path: Path) -> None:
    segment = published(path)
    latch = segment.text("activity")
    latch.write(b"hello")
    latch._words[1 + text_copy_bytes(480) // WORD] = U64
    with SegmentView.open(path) as view:
        assert view.text("activity") == b""
        assert view.texts("activity")[0] == b""


@pytest.mark.parametrize(
    "mistake",
    [
        lambda segment: segment.cells("wrokers"),
        lambda segment: segment.word("server", "uidd"),
        lambda segment: segment.text("server"),
        lambda segment: segment.rows("nothing"),
    ],
)
def test_a_wrong_name_is_an_error(path: Path, mistake: Callable[[Segment], object]) -> None:
    with pytest.raises(KeyError):
        mistake(published(path))


@pytest.mark.parametrize(("row", "bank"), [(8, 0), (-1, 0), (0, 2), (0, -1)])
def test_a_row_that_is_not_there_is_an_error(path: Path, row: int, bank: int) -> None:
    segment = published(path)
    with pytest.raises(IndexError):
        segment.cells("cores", row, bank)
    with SegmentView.open(path) as view, pytest.raises(IndexError):
        view.text("activity", row, bank)


@pytest.mark.parametrize("value", [-1, U64 + 1, 1.5, "1"])
def test_what_is_no_word_cannot_be_stored(path: Path, value: Any) -> None:
    cells = published(path).cells("server")
    with pytest.raises((ValueError, TypeError)):
        cells[0] = value


def test_a_row_ends_with_its_fields(path: Path) -> None:
    cells = published(path).cells("sockets")
    (fields,) = (table.fields for table in INSTANCE if table.name == "sockets")
    with pytest.raises(IndexError):
        cells[len(fields)] = 1


def test_nothing_is_visible_before_it_is_published(path: Path) -> None:
    segment = Segment.create(path, INSTANCE, ROWS, LABELS)
    store(segment, "server", pid=1)
    assert not path.exists()
    (temporary,) = path.parent.iterdir()
    with pytest.raises(NotReadyError):
        SegmentView.open(temporary)
    segment.publish()
    assert list(path.parent.iterdir()) == [path]
    with SegmentView.open(path) as view:
        assert view.row("server")["pid"] == 1


def test_what_was_never_published_leaves_nothing(path: Path) -> None:
    Segment.create(path, INSTANCE, ROWS, LABELS).close(unlink=False)
    assert list(path.parent.iterdir()) == []


def test_the_mode_does_not_depend_on_the_umask(path: Path) -> None:
    before = os.umask(0o777)
    try:
        Segment.create(path, INSTANCE, ROWS, LABELS, mode=0o640).publish()
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o7777 == 0o640


def test_a_new_segment_replaces_the_old_one_under_its_readers(path: Path) -> None:
    old = published(path)
    store(old, "server", pid=1)
    with SegmentView.open(path) as view:
        assert not view.replaced()
        new = published(path)
        store(old, "server", pid=2)
        assert view.replaced()
        assert view.row("server")["pid"] == 2
        with SegmentView.open(path) as again:
            assert again.uuid == new.uuid
        old.close(unlink=True)  # is not the one at the path any more
        assert path.exists()
        new.close(unlink=True)
        assert not path.exists()
        assert view.replaced()
        new.close(unlink=True)


def test_the_path_given_away_to_something_else_is_not_unlinked(path: Path) -> None:
    segment = published(path)
    path.unlink()
    path.write_text("mine")
    segment.close(unlink=True)
    assert path.read_text() == "mine"


def test_windows_survive_the_segment(path: Path) -> None:
    segment = published(path)
    cells, latch = segment.cells("server"), segment.text("activity")
    segment.close(unlink=True)
    del segment
    cells[0] += 1
    latch.write(b"late")
    assert cells[0] == 1


def test_liveness_is_that_of_the_writer(path: Path) -> None:
    segment = published(path)
    with SegmentView.open(path) as view:
        assert view.alive()
        segment.close(unlink=False)
        assert not view.alive()
        assert view.row("server")["pid"] == 0


def test_a_reader_is_not_taken_for_a_writer(path: Path) -> None:
    """Anyone who may open the file for reading may take read locks on it."""
    import fcntl

    segment = published(path)
    segment.close(unlink=False)
    with path.open("rb") as file, SegmentView.open(path) as view:
        fcntl.fcntl(file, fcntl.F_OFD_SETLK, struct.pack("hhqqi4x", fcntl.F_RDLCK, 0, 0, 0, 0))
        assert not view.alive()


def test_closing_a_view_twice_is_fine(path: Path) -> None:
    published(path)
    view = SegmentView.open(path)
    view.close()
    view.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        view.row("server")


def test_views_leave_no_descriptors(path: Path) -> None:
    published(path)
    path.with_name("garbage").write_bytes(b"x" * 5000)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(10):
        SegmentView.open(path).close()
        with pytest.raises(ProtocolError):
            SegmentView.open(path.with_name("garbage"))
        with pytest.raises(PeerError):
            SegmentView.open(path, owner=os.getuid() + 1)
    assert len(os.listdir("/proc/self/fd")) == before


# Files that are not what they should be.


def test_there_is_no_segment(path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        SegmentView.open(path)


def test_an_owner_who_is_not_who_the_directory_says_is_refused(path: Path) -> None:
    published(path)
    with pytest.raises(PeerError, match=f"belongs to uid {os.getuid()}, not to 12345") as caught:
        SegmentView.open(path, owner=12345)
    assert caught.value.code == "owner"


@pytest.mark.root
def test_a_file_given_to_another_user_is_refused(path: Path) -> None:
    published(path)
    os.chown(path, 12345, -1)
    with pytest.raises(PeerError, match="belongs to uid 12345"):
        SegmentView.open(path, owner=os.getuid())
    SegmentView.open(path, owner=12345).close()


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))


ODD_FILES: dict[str, Callable[[Path], object]] = {
    "a link": lambda path: path.symlink_to(path.with_name("real")),
    "a link to nothing": lambda path: path.symlink_to("nothing"),
    "a fifo": os.mkfifo,
    "a directory": os.mkdir,
    "a socket": make_socket,
    "a link to a device": lambda path: path.symlink_to("/dev/zero"),
}


@pytest.mark.parametrize("kind", ODD_FILES)
def test_what_is_not_a_regular_file_is_refused(path: Path, kind: str) -> None:
    published(path.with_name("real"))
    ODD_FILES[kind](path)
    with pytest.raises(ProtocolError, match="is not a regular file"):
        SegmentView.open(path)


def test_a_device_is_refused() -> None:
    for device in ("/dev/null", "/dev/zero", "/dev/tty"):
        with pytest.raises((ProtocolError, OSError)):
            SegmentView.open(Path(device))


def test_a_file_truncated_anywhere_is_refused(path: Path) -> None:
    whole = valid_file(path)
    head = parse_fixed(whole).rows_offset
    cut = path.with_name("cut")
    for length in {*range(0, len(whole), 97), *range(256), head - 1, head, head + 1, len(whole) - 1}:
        cut.write_bytes(whole[:length])
        with pytest.raises(ProtocolError):
            SegmentView.open(cut)
    cut.write_bytes(whole + b"\0")
    with pytest.raises(ProtocolError, match="says it has"):
        SegmentView.open(cut)
    cut.write_bytes(whole)
    SegmentView.open(cut).close()


def test_a_file_truncated_under_its_reader_is_an_error_and_not_the_end_of_the_reader(path: Path) -> None:
    """A reader that had it mapped would be killed by SIGBUS here."""
    published(path)
    with SegmentView.open(path) as view:
        os.truncate(path, parse_fixed(path.read_bytes()).rows_offset + 8)
        for read in (view.read, view.row, view.text, view.texts, view.copy):
            with pytest.raises(ProtocolError, match="ends at byte"):
                read("activity")
        os.truncate(path, 0)
        with pytest.raises(ProtocolError, match="ends at byte"):
            view.row("server")
        assert view.alive()


def test_a_segment_of_an_earlier_boot_is_refused(path: Path) -> None:
    layout = plan(INSTANCE, ROWS)
    head = encode_head(layout, LABELS, uuid=bytes(16), boot_id=bytes(16), created=0)
    head = head[:READY_OFFSET] + struct.pack("=Q", 1) + head[READY_OFFSET + WORD :]
    path.write_bytes(head + bytes(layout.size))
    with pytest.raises(ProtocolError, match="before the machine was booted"):
        SegmentView.open(path)


def test_a_sparse_giant_is_refused(path: Path) -> None:
    whole = valid_file(path)
    giant = path.with_name("giant")
    for size in (1 << 40, (1 << 63) - 1):
        giant.write_bytes(whole[:16] + struct.pack("=Q", size) + whole[24:])
        with pytest.raises(ProtocolError, match="cannot be"):
            SegmentView.open(giant)


@given(data=st.data())
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
def test_a_file_with_any_bytes_replaced_is_refused_or_readable(tmp_path: Path, data: st.DataObject) -> None:
    """Also its rows: whatever they hold, reading them gives numbers and texts."""
    path = tmp_path / "seg"
    whole = bytearray(path.read_bytes() if path.exists() else valid_file(path))
    anywhere = st.integers(0, len(whole) - 1) | st.integers(0, 200)
    for position, patch in data.draw(st.lists(st.tuples(anywhere, st.binary(min_size=1, max_size=16)), max_size=6)):
        whole[position : position + len(patch)] = patch
    hostile = tmp_path / "hostile"
    hostile.write_bytes(whole)
    try:
        view = SegmentView.open(hostile)
    except ProtocolError:
        return
    with view:
        for name, table in view.tables.items():
            assert len(view.read(name)) == view.rows(name)
            if table.text_bytes:
                assert all(len(text) <= table.text_bytes for text in view.texts(name))


@given(st.binary(max_size=2000))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_file_of_garbage_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "seg").write_bytes(data)
    with pytest.raises(ProtocolError):
        SegmentView.open(tmp_path / "seg")
