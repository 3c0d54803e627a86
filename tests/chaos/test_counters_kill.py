"""Counters under processes that store, read and are killed at once: nothing torn, nothing unreadable, no lock kept."""

import os
import select
import signal
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from palatine.counters import NotReadyError, Segment, SegmentView, SharedLock
from palatine.errors import DeadlineError
from palatine.schema import Field, Table

READS = 10_000_000
KILLS = 60
SECONDS = 20.0

WORDS = 16
PATTERNS = (0x0101010101010101, 0xFFFFFFFFFFFFFFFF, 0x5555555555555555, 0xAAAAAAAA00000001)
BUSY = Table(
    "busy",
    (),
    "Words that change all the time.",
    tuple(Field(f"word{n}", "gauge", "things", "One of the patterns.") for n in range(WORDS)),
    text_bytes=480,
)


class Child:
    """A Python program of ours that is certainly gone after the test."""

    def __init__(self, code: str, *arguments: object) -> None:
        words = [sys.executable, "-c", code, *(str(argument) for argument in arguments)]
        self.process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def line(self) -> str:
        """The next line it prints; fails when it takes too long."""
        assert self.process.stdout is not None
        said = b""
        while not said.endswith(b"\n"):
            readable, _, _ = select.select([self.process.stdout], [], [], SECONDS)
            assert readable, "the child says nothing"
            more = os.read(self.process.stdout.fileno(), 1)
            assert more, "the child is gone"
            said += more
        return said.decode().strip()

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate(timeout=SECONDS)


@pytest.fixture
def children() -> Iterator[list[Child]]:
    started: list[Child] = []
    yield started
    for child in started:
        child.kill()


@pytest.fixture
def spot(tmp_path: Path) -> Path:
    """Where the segments and locks of a test are."""
    return tmp_path


def create(path: Path) -> Segment:
    segment = Segment.create(path, [BUSY], {}, {})
    segment.publish()
    return segment


ATTACH = """
import itertools, mmap, os, signal, struct, sys
from palatine.codec.segment import parse_fixed
from palatine.counters.latch import TextLatch
file = open(sys.argv[1], "r+b")
memory = memoryview(mmap.mmap(file.fileno(), 0))
rows = memory[parse_fixed(memory[:128].tobytes()).rows_offset:]
words = rows[:128].cast("Q")
latch = TextLatch(rows[128:], 480)
"""

STORE_FOR_EVER = (
    ATTACH
    + """
patterns = [int(word) for word in sys.argv[2].split(",")]
for word in range(len(words)):
    words[word] = patterns[0]
print("storing", flush=True)
for pattern in itertools.cycle(patterns):
    for word in range(16):
        words[word] = pattern
"""
)

PACK_FOR_EVER = STORE_FOR_EVER.replace("words[word] = pattern\n", 'struct.pack_into("=Q", rows, word * 8, pattern)\n')


def torn_reads(view: SegmentView, reads: int) -> tuple[int, int, int]:
    """How many words were none of the patterns, of how many read, and how many changes were seen."""
    unpack = struct.Struct(f"={WORDS}Q").unpack_from
    known = set(PATTERNS)
    torn = changes = done = 0
    before: tuple[int, ...] = ()
    while done < reads:
        words = unpack(view.copy("busy"))
        torn += sum(word not in known for word in set(words))
        changes += words != before
        before = words
        done += WORDS
    return torn, done, changes


def test_no_word_is_ever_seen_half_stored(spot: Path, children: list[Child]) -> None:
    create(spot / "seg")
    children.append(Child(STORE_FOR_EVER, spot / "seg", ",".join(map(str, PATTERNS))))
    assert children[0].line() == "storing"
    with SegmentView.open(spot / "seg") as view:
        torn, reads, changes = torn_reads(view, READS)
    print(f"{torn} torn of {reads} reads, {changes} reads apart from the one before")
    assert torn == 0
    assert changes > 1000  # it was a race, also on a machine that has other things to do


def test_this_would_see_a_word_half_stored(spot: Path, children: list[Child]) -> None:
    """The same with the store that is forbidden, to know that the test above can fail."""
    create(spot / "seg")
    children.append(Child(PACK_FOR_EVER, spot / "seg", ",".join(map(str, PATTERNS))))
    assert children[0].line() == "storing"
    with SegmentView.open(spot / "seg") as view:
        seen = (torn_reads(view, 100_000)[0] for _ in range(50))
        assert any(seen)


# Each text is one letter over and over, its length following from the letter.
TEXTS = [bytes([letter]) * (480 - 3 * (letter - 65)) for letter in range(65, 91)]

WRITE_TEXTS = (
    ATTACH
    + """
texts = [bytes([letter]) * (480 - 3 * (letter - 65)) for letter in range(65, 91)]
for turn, text in enumerate(itertools.cycle(texts)):
    latch.write(text)
    if turn == 20:
        os.write(1, b"writing\\n")
"""
)


def test_texts_are_whole_under_their_writer(spot: Path, children: list[Child]) -> None:
    create(spot / "seg")
    children.append(Child(WRITE_TEXTS, spot / "seg"))
    assert children[0].line() == "writing"
    known = set(TEXTS)
    with SegmentView.open(spot / "seg") as view:
        texts = [view.text("busy") for _ in range(100_000)]
    assert set(texts) - known == set()
    assert len(set(texts)) > len(known) // 2


FORK_AND_KILL = (
    ATTACH
    + """
texts = [bytes([letter]) * (480 - 3 * (letter - 65)) for letter in range(65, 91)]
for round in range(int(sys.argv[2])):
    ours, theirs = os.pipe()
    pid = os.fork()
    if not pid:
        for turn, text in enumerate(itertools.cycle(texts)):
            if turn == 100 + 7 * round:
                os.write(theirs, b"x")
            latch.write(text)
    assert os.read(ours, 1) == b"x"
    os.kill(pid, signal.SIGKILL)
    assert os.WIFSIGNALED(os.waitpid(pid, 0)[1])
    os.close(ours), os.close(theirs)
    print(round, flush=True)
    sys.stdin.buffer.readline()
"""
)


def test_a_text_survives_every_kill_of_its_writer(spot: Path, children: list[Child]) -> None:
    """kill -9 at sixty moments of a busy writer; each time the text can be read, and written by the next writer."""
    segment = create(spot / "seg")
    latch = segment.text("busy")
    children.append(Child(FORK_AND_KILL, spot / "seg", KILLS))
    unreadable = interrupted = 0
    with SegmentView.open(spot / "seg") as view:
        for round_ in range(KILLS):
            assert children[0].line() == str(round_)
            unreadable += view.text("busy") not in TEXTS
            interrupted += in_the_middle(latch._bytes)
            latch.write(b"the next writer")
            assert view.text("busy") == b"the next writer"
            assert children[0].process.stdin is not None
            children[0].process.stdin.write(b"\n")
            children[0].process.stdin.flush()
    print(f"{KILLS} kills, {interrupted} in the middle of a write, {unreadable} unreadable")
    assert unreadable == 0


def in_the_middle(latch: memoryview) -> bool:
    """Whether the copy not in force is anything but the text before the one in force."""
    sequence = latch.cast("Q")[0]
    now, other = (bytes(latch[8 + copy * 488 :][8:488]) for copy in (sequence & 1, ~sequence & 1))
    before = TEXTS[(now[0] - 65 - 1) % len(TEXTS)]
    return other[: len(before)] != before


LIVE = """
import os, signal, sys
from pathlib import Path
from palatine.counters import Segment
from palatine.schema import INSTANCE
segment = Segment.create(Path(sys.argv[1]), INSTANCE, {}, {})
segment.publish()
child = os.fork()
if not child:
    if sys.argv[2] == "release":
        segment.release_in_child()
    print(os.getpid(), flush=True)
signal.pause()
"""


@pytest.mark.parametrize("child", ["release", "keep"])
def test_liveness_ends_with_a_killed_writer_unless_a_child_keeps_it(
    spot: Path, children: list[Child], child: str
) -> None:
    children.append(Child(LIVE, spot / "seg", child))
    forked = int(children[0].line())
    try:
        with SegmentView.open(spot / "seg") as view:
            assert view.alive()
            children[0].process.kill()
            children[0].process.wait(SECONDS)
            assert Path(f"/proc/{forked}").exists()
            assert view.alive() == (child == "keep")
            assert view.row("server")["pid"] == 0
    finally:
        os.kill(forked, signal.SIGKILL)


ENDLESS_SEGMENT = """
import os, sys
from pathlib import Path
from palatine.counters import Segment
from palatine.schema import INSTANCE
while True:
    segment = Segment.create(Path(sys.argv[1]), INSTANCE, {"cores": 8}, {"n": 1})
    segment.publish()
    segment.close(unlink=False)
    os.write(1, b"published\\n")
"""


def test_a_segment_is_whole_or_absent_whenever_its_writer_is_killed(spot: Path, children: list[Child]) -> None:
    """Killed between any two steps of publishing: a reader sees the segment before, the new one, or one not ready."""
    for _ in range(8):
        child = Child(ENDLESS_SEGMENT, spot / "seg")
        children.append(child)
        assert child.line() == "published"
        while not opens(spot / "seg"):
            assert child.process.poll() is None
        child.kill()
        opens(spot / "seg")
        create(spot / "seg").close(unlink=True)


def opens(path: Path) -> bool:
    """Whether the segment is ready; any other error is one."""
    try:
        SegmentView.open(path).close()
    except NotReadyError:
        return False
    return True


FULL = """
mount -t tmpfs -o size=64k,mode=700 palatine-test "$1" && exec "$2" -c "$3" "$1"
"""
FILL = """
import errno, os, sys
from pathlib import Path
from palatine.counters import Segment, SegmentView
from palatine.schema import INSTANCE
place = Path(sys.argv[1])
small = Segment.create(place / "seg", INSTANCE, {}, {})
small.publish()
small.cells("server")[0] = 42
try:
    Segment.create(place / "seg", INSTANCE, {"activity": 100}, {})
except OSError as error:
    assert error.errno == errno.ENOSPC, error
    print(error)
assert os.listdir(place) == ["seg"]
with SegmentView.open(place / "seg") as view:
    assert view.alive() and view.row("server")["pid"] == 42
"""


@pytest.mark.root
def test_a_full_file_system_is_an_error_and_not_a_signal(spot: Path) -> None:
    words = ["unshare", "-m", "sh", "-c", FULL, "sh", str(spot), sys.executable, FILL]
    done = subprocess.run(words, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "No space left on device" in done.stdout
    assert str(spot / ".seg.") in done.stdout


HOLD = """
import os, signal, sys
from pathlib import Path
from palatine.counters import SharedLock
lock = SharedLock(Path(sys.argv[1]), int(sys.argv[2]))
assert lock.acquire(5)
if len(sys.argv) > 3:
    child = os.fork()
    if not child:
        print(os.getpid(), flush=True)
        signal.pause()
else:
    print("held", flush=True)
signal.pause()
"""


def test_a_lock_is_free_when_its_holder_is_killed(spot: Path, children: list[Child]) -> None:
    lock = SharedLock(spot / "locks", 3)
    for _ in range(5):
        child = Child(HOLD, spot / "locks", 3)
        children.append(child)
        assert child.line() == "held"
        assert lock.locked()
        assert not lock.acquire(0)
        assert not lock.acquire(0.01)
        child.kill()
        assert lock.acquire(0)
        lock.release()
    assert (spot / "locks").stat().st_mode & 0o777 == 0o600


def test_a_fork_does_not_keep_its_parents_lock(spot: Path, children: list[Child]) -> None:
    children.append(Child(HOLD, spot / "locks", 0, "fork"))
    forked = int(children[0].line())
    lock = SharedLock(spot / "locks")
    try:
        assert lock.locked()
        children[0].process.kill()
        children[0].process.wait(SECONDS)
        assert Path(f"/proc/{forked}").exists()
        assert lock.acquire(0)
    finally:
        os.kill(forked, signal.SIGKILL)


def test_who_waits_too_long_is_told(spot: Path, children: list[Child]) -> None:
    children.append(Child(HOLD, spot / "locks", 0))
    assert children[0].line() == "held"
    lock = SharedLock(spot / "locks", timeout=0.02)
    with pytest.raises(DeadlineError, match="lock 0 was not free"), lock:
        pass
    children[0].kill()
    with lock:
        assert lock.locked()


COUNT = """
import mmap, os, sys, threading
from pathlib import Path
from palatine.counters import SharedLock
path = Path(sys.argv[1])
lock = SharedLock(path / "locks")
with open(path / "value", "r+b") as file:
    words = memoryview(mmap.mmap(file.fileno(), 8)).cast("Q")
def count():
    for _ in range(int(sys.argv[2])):
        assert lock.acquire(20)
        words[0] += 1
        lock.release()
if os.fork():  # the lock is used in parent and child
    count()
    assert os.wait()[1] == 0
else:
    threads = [threading.Thread(target=count) for _ in range(2)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    os._exit(0)
"""


def test_processes_and_threads_take_turns(spot: Path, children: list[Child]) -> None:
    (spot / "value").write_bytes(bytes(8))
    children += [Child(COUNT, spot, 300), Child(COUNT, spot, 300)]
    for child in children:
        assert child.process.wait(SECONDS) == 0
    assert int.from_bytes((spot / "value").read_bytes(), sys.byteorder) == 2 * 3 * 300
