"""SharedLock within one process; what kills and forks do to it is in tests/chaos/test_counters_kill.py."""

import gc
import threading
from pathlib import Path

import pytest

from palatine.counters import SharedLock


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "locks"


def test_a_lock_is_held_until_it_is_released(path: Path) -> None:
    lock, rival = SharedLock(path), SharedLock(path)
    assert not lock.locked()
    assert lock.acquire(0)
    assert lock.locked()
    assert rival.locked()
    assert not rival.acquire(0)
    lock.release()
    assert rival.acquire(0)
    assert not lock.acquire(0)
    rival.release()


def test_slots_are_locks_of_their_own(path: Path) -> None:
    locks = [SharedLock(path, slot) for slot in range(4)]
    assert all(lock.acquire(0) for lock in locks)
    assert not SharedLock(path, 2).acquire(0)
    locks[2].release()
    assert SharedLock(path, 2).acquire(0)


def test_it_is_not_reentrant(path: Path) -> None:
    lock = SharedLock(path)
    with lock:
        assert not lock.acquire(0)
    assert lock.acquire(0)


def test_the_deadline_is_kept_by_both_halves(path: Path) -> None:
    lock, rival = SharedLock(path), SharedLock(path)
    with rival:
        assert not lock.acquire(0.02)
    with lock:
        assert not lock.acquire(0.02)


def test_only_a_holder_releases(path: Path) -> None:
    lock = SharedLock(path)
    with pytest.raises(RuntimeError, match="lock 0 is not held"):
        lock.release()
    lock.acquire(0)
    lock.release()
    with pytest.raises(RuntimeError):
        lock.release()


def test_a_thread_that_waits_gets_it(path: Path) -> None:
    lock = SharedLock(path)
    order: list[str] = []
    waiting = threading.Event()

    def wait() -> None:
        waiting.set()
        assert lock.acquire(None)
        order.append("thread")
        lock.release()

    thread = threading.Thread(target=wait)
    with lock:
        thread.start()
        waiting.wait(5)
        order.append("main")
    thread.join(5)
    assert order == ["main", "thread"]


def test_closing_gives_it_up(path: Path) -> None:
    lock = SharedLock(path)
    assert lock.acquire(0)
    lock.close()
    assert not SharedLock(path).locked()
    assert lock.acquire(0)


def test_a_lock_nobody_keeps_is_collected(path: Path) -> None:
    """Though every lock must hear of forks."""
    import weakref

    lock = SharedLock(path)
    seen = weakref.ref(lock)
    del lock
    gc.collect()
    assert seen() is None


def test_a_link_is_not_followed(path: Path) -> None:
    path.symlink_to(path.with_name("elsewhere"))
    lock = SharedLock(path)
    with pytest.raises(OSError, match="Too many levels of symbolic links"):
        lock.acquire(0)
    path.unlink()
    assert lock.acquire(0)


def test_nothing_is_made_before_it_is_used(path: Path) -> None:
    SharedLock(path)
    assert not path.exists()
