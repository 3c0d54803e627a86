import errno
import os
import resource
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
import structlog

from palatine.bus import spool as spool_module
from palatine.bus.outbox import Item
from palatine.bus.spool import EPOCH_BITS, Spool
from palatine.errors import AlreadyRunningError, ConfigError

LIMIT = 64 * 1024 * 1024
FIRST = (1 << EPOCH_BITS) + 1


def items(first: int, count: int, size: int = 20) -> list[Item]:
    return [Item(seq, str(seq).encode().ljust(size, b" ")) for seq in range(first, first + count)]


def read_all(spool: Spool) -> list[Item]:
    found: list[Item] = []
    while batch := spool.read(7, 1000):
        found += batch
    return found


def segments(directory: Path) -> list[Path]:
    return sorted(directory.glob("*.seg"))


def test_what_is_appended_is_read_in_order_and_again_after_a_restart(tmp_path: Path) -> None:
    spool = Spool(tmp_path, LIMIT)
    assert spool.base + 1 == FIRST
    assert spool.append(items(FIRST, 50)) == (50, 0)
    assert spool.unread == 50
    assert read_all(spool) == items(FIRST, 50)
    assert (spool.unread, spool.read(10, 1000)) == (0, [])
    spool.append(items(FIRST + 50, 5))
    assert read_all(spool) == items(FIRST + 50, 5)
    spool.ack(FIRST + 19)
    spool.close()
    again = Spool(tmp_path, LIMIT)
    assert (again.uuid, again.unread, again.acked) == (spool.uuid, 35, FIRST + 19)
    assert read_all(again) == items(FIRST + 20, 35)
    again.close()


def test_numbers_are_never_given_twice_whatever_was_lost(tmp_path: Path) -> None:
    bases = []
    for _ in range(3):
        spool = Spool(tmp_path, LIMIT)
        bases.append(spool.base)
        spool.append(items(spool.base + 1, 3))
        spool.close()
        for path in segments(tmp_path):
            path.unlink()
    assert bases == [1 << EPOCH_BITS, 2 << EPOCH_BITS, 3 << EPOCH_BITS]


def test_what_went_through_memory_is_not_read_again(tmp_path: Path) -> None:
    spool = Spool(tmp_path, LIMIT)
    spool.append(items(FIRST, 5))
    spool.skip()
    spool.append(items(FIRST + 5, 5))
    assert spool.unread == 5
    assert read_all(spool) == items(FIRST + 5, 5)
    spool.close()


@pytest.mark.parametrize("cut", [1, 15, 16, 17, 35])
def test_a_cut_tail_costs_only_itself(tmp_path: Path, cut: int) -> None:
    spool = Spool(tmp_path, LIMIT)
    spool.append(items(FIRST, 10))
    spool.close()
    (path,) = segments(tmp_path)
    os.truncate(path, path.stat().st_size - cut)
    again = Spool(tmp_path, LIMIT)
    assert read_all(again) == items(FIRST, 9)
    again.append(items(again.base + 1, 2))
    assert read_all(again) == items(again.base + 1, 2)
    again.close()


@pytest.mark.parametrize("damage", [b"\xff" * 40, b"\0" * 40, b"\0" * 16])
def test_damage_costs_the_rest_of_its_file_only(tmp_path: Path, damage: bytes) -> None:
    first = Spool(tmp_path, LIMIT)
    first.append(items(FIRST, 10))
    first.close()
    second = Spool(tmp_path, LIMIT)
    second.append(items(second.base + 1, 10))
    second.close()
    with segments(tmp_path)[0].open("r+b") as file:
        file.seek(36 * 5)
        file.write(damage)
    third = Spool(tmp_path, LIMIT)
    assert third.unread == 15
    assert read_all(third) == items(FIRST, 5) + items(second.base + 1, 10)
    third.close()


def test_damage_while_it_is_open_does_not_leave_it_waiting_for_ever(tmp_path: Path) -> None:
    spool = Spool(tmp_path, LIMIT)
    spool.append(items(FIRST, 10))
    os.truncate(segments(tmp_path)[0], 36 * 4)
    assert read_all(spool) == items(FIRST, 4)
    assert spool.unread == 0
    spool.close()


def test_zeros_after_the_last_record_are_no_events(tmp_path: Path) -> None:
    spool = Spool(tmp_path, LIMIT)
    spool.append(items(FIRST, 2))
    spool.close()
    os.truncate(segments(tmp_path)[0], 4096)
    again = Spool(tmp_path, LIMIT)
    assert read_all(again) == items(FIRST, 2)
    again.close()


def test_a_lost_ack_repeats_and_does_not_lose(tmp_path: Path) -> None:
    spool = Spool(tmp_path, LIMIT)
    spool.append(items(FIRST, 4))
    read_all(spool)
    spool.ack(FIRST + 2)
    spool.close()
    (tmp_path / "acked").write_bytes(b"\xff" * 12)
    again = Spool(tmp_path, LIMIT)
    assert again.acked == 0
    assert read_all(again) == items(FIRST, 4)
    again.close()


@pytest.mark.parametrize("damage", [b"", b"{", b'{"uuid":"xx","epoch":1}', b'{"uuid":"' + b"0" * 32 + b'","epoch":-1}'])
def test_a_lost_identity_delivers_what_is_there_under_a_new_one(tmp_path: Path, damage: bytes) -> None:
    spool = Spool(tmp_path, LIMIT)
    spool.append(items(FIRST, 4))
    spool.close()
    (tmp_path / "sender").write_bytes(damage)
    with structlog.testing.capture_logs() as logs:
        again = Spool(tmp_path, LIMIT)
    assert [entry["event"] for entry in logs] == ["bus.spool.renamed"]
    assert again.uuid != spool.uuid
    assert again.base == 2 << EPOCH_BITS
    assert read_all(again) == items(FIRST, 4)
    again.close()


def test_files_go_when_all_in_them_is_acknowledged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool_module, "SEGMENT_BYTES", 0)
    spool = Spool(tmp_path, LIMIT)
    spool.append(items(FIRST, 3000, 1000))
    files = segments(tmp_path)
    assert len(files) == 3
    assert len(read_all(spool)) == 3000
    spool.ack(FIRST + 1500)
    assert segments(tmp_path) == files[1:]
    spool.ack(FIRST + 2999)
    assert segments(tmp_path) == []
    assert spool.bytes == 0
    spool.append(items(FIRST + 3000, 1))
    assert read_all(spool) == items(FIRST + 3000, 1)
    spool.ack(FIRST + 3000)
    assert len(segments(tmp_path)) == 1  # too small to be worth a new file
    spool.close()
    Spool(tmp_path, LIMIT).close()
    assert segments(tmp_path) == []


def test_past_the_limit_the_oldest_go_and_are_counted(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 2 * 1024 * 1024)
    lost = 0
    for first in range(FIRST, FIRST + 10_000, 100):
        written, gone = spool.append(items(first, 100, 1000))
        assert written == 100
        lost += gone
    assert spool.bytes <= 2 * 1024 * 1024
    assert sum(path.stat().st_size for path in segments(tmp_path)) == spool.bytes
    left = read_all(spool)
    assert len(left) + lost == 10_000
    assert left == items(FIRST + lost, 10_000 - lost, 1000)
    assert 1500 < len(left) < 2100
    spool.close()


def test_what_the_reader_had_is_not_counted_as_lost(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 2 * 1024 * 1024)
    spool.append(items(FIRST, 1000, 1000))
    assert len(spool.read(700, 10_000_000)) == 700
    lost = spool.append(items(FIRST + 1000, 3000, 1000)).lost
    left = read_all(spool)
    assert lost + len(left) == 3300
    assert left[-1].seq == FIRST + 3999
    spool.close()


def test_one_sender_at_a_time(tmp_path: Path) -> None:
    spool = Spool(tmp_path, LIMIT)
    with pytest.raises(AlreadyRunningError):
        Spool(tmp_path, LIMIT)
    spool.close()


def test_a_directory_that_cannot_be_is_a_config_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be used as a spool"):
        Spool(tmp_path / "file" / "spool", LIMIT)


def test_a_full_disk_leaves_whole_records_only(tmp_path: Path) -> None:
    """A file size limit stands in for the full disk: a short write, then EFBIG, as ENOSPC would come."""
    code = (
        "import resource, signal, sys, pathlib\n"
        "from palatine.bus.spool import Spool\nfrom palatine.bus.outbox import Item\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (10000, 10000))\n"
        "spool = Spool(pathlib.Path(sys.argv[1]), 1 << 26)\n"
        "made = lambda first, count: [Item(seq, b'x' * 100) for seq in range(first, first + count)]\n"
        "print(spool.append(made(spool.base + 1, 50)))\n"
        "try:\n    spool.append(made(spool.base + 51, 100))\nexcept OSError as error:\n    print(error.errno)\n"
        "print(spool.append(made(spool.base + 51, 5)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        "Appended(written=50, lost=0)",
        str(errno.EFBIG),
        "Appended(written=5, lost=0)",
    ]
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 10_000
    spool = Spool(tmp_path, LIMIT)
    assert [item.seq for item in read_all(spool)] == list(range(FIRST, FIRST + 55))
    spool.close()


def test_a_record_carries_the_crc_of_its_event(tmp_path: Path) -> None:
    spool = Spool(tmp_path, LIMIT)
    spool.append([Item(FIRST, b"[1]")])
    spool.close()
    data = segments(tmp_path)[0].read_bytes()
    assert data[:8] == FIRST.to_bytes(8, "big")
    assert data[8:12] == (3).to_bytes(4, "big")
    assert data[12:16] == zlib.crc32(b"[1]", (FIRST ^ FIRST >> 32) & 0xFFFFFFFF).to_bytes(4, "big")
    assert data[16:] == b"[1]"
