"""The cache in shared memory: what is put is found, in any order of events, whoever is killed at any moment."""

import os
import signal
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palatine.counters import SharedLock
from palatine.counters.cache import Cache, Outcome, Shape
from palatine.counters.memory import SharedMemory
from palatine.errors import AlreadyRunningError, ConfigError

NOW = 1000
SMALL = Shape(items=4, blocks=4, blocksize=16, keysize=8, hashsize=2)
CHAINED = Shape(items=4, blocks=6, blocksize=16, keysize=8, hashsize=3, chained=True)


@pytest.fixture
def make(tmp_path: Path) -> Callable[[Shape], Cache]:
    numbers = count()
    return lambda shape: Cache(
        shape, SharedMemory.anonymous(shape.size), SharedLock(tmp_path / f"lock{next(numbers)}", 0)
    )


def put(cache: Cache, key: bytes, value: bytes, expires: int = 0, now: int = NOW) -> Outcome:
    return cache.store(key, value, expires, now, update=True)


def test_what_is_put_is_found(make: Callable[[Shape], Cache]) -> None:
    cache = make(SMALL)
    assert cache.get(b"a", NOW) is None
    assert cache.store(b"a", b"1", 0, NOW, update=False) is Outcome.STORED
    assert cache.store(b"a", b"2", 0, NOW, update=False) is Outcome.REFUSED
    assert cache.get(b"a", NOW) == b"1"
    assert put(cache, b"a", b"x" * 16) is Outcome.STORED
    assert cache.get(b"a", NOW) == b"x" * 16
    assert (cache.exists(b"a", NOW), cache.exists(b"b", NOW)) == (True, False)
    assert cache.keys(NOW) == [b"a"]
    assert (cache.delete(b"a", NOW), cache.delete(b"a", NOW)) == (True, False)
    assert cache.statistics()[:4] == (0, 2, 1, 0)
    assert cache.statistics().last_modified == NOW


@pytest.mark.parametrize(("key", "value"), [(b"", b"v"), (b"k" * 9, b"v"), (b"k", b""), (b"k", b"v" * 17)])
def test_what_does_not_fit(make: Callable[[Shape], Cache], key: bytes, value: bytes) -> None:
    assert put(make(SMALL), key, value) is Outcome.REFUSED


def test_full(make: Callable[[Shape], Cache]) -> None:
    cache = make(SMALL)
    for key in b"abcd":
        assert put(cache, bytes([key]), b"v") is Outcome.STORED
    assert put(cache, b"e", b"v") is Outcome.FULL
    assert cache.statistics().full == 1
    assert put(cache, b"a", b"w") is Outcome.STORED
    cache.delete(b"b", NOW)
    assert put(cache, b"e", b"v") is Outcome.STORED
    cache.clear(NOW)
    assert cache.keys(NOW) == []
    assert put(cache, b"a", b"v") is Outcome.STORED


def test_least_recently_used(make: Callable[[Shape], Cache]) -> None:
    cache = make(SMALL._replace(purge_lru=True))
    for key in b"abcd":
        put(cache, bytes([key]), b"v")
    cache.get(b"a", NOW)
    put(cache, b"b", b"w")
    assert put(cache, b"e", b"v") is Outcome.PURGED
    assert sorted(cache.keys(NOW)) == [b"a", b"b", b"d", b"e"]


def test_clear_on_full(make: Callable[[Shape], Cache]) -> None:
    cache = make(SMALL._replace(clear_on_full=True))
    for key in b"abcde":
        put(cache, bytes([key]), b"v")
    assert cache.keys(NOW) == [b"e"]


def test_what_has_expired_is_not_there(make: Callable[[Shape], Cache]) -> None:
    cache = make(SMALL)
    put(cache, b"a", b"v", expires=5)
    put(cache, b"b", b"v")
    assert cache.get(b"a", NOW + 4) == b"v"
    assert cache.get(b"a", NOW + 5) is None
    assert cache.store(b"a", b"again", 5, NOW + 5, update=False) is Outcome.STORED
    assert cache.keys(NOW + 10) == [b"b"]
    assert cache.sweep(NOW + 10, 1) + cache.sweep(NOW + 10, 100) + cache.sweep(NOW + 10, 100) == 1
    assert cache.statistics().items == 1
    for key in b"cde":
        put(cache, bytes([key]), b"v", expires=1)
    assert put(cache, b"f", b"v", now=NOW + 20) is Outcome.STORED  # room is made of what has expired


def test_numbers(make: Callable[[Shape], Cache]) -> None:
    cache = make(SMALL._replace(math_initial=10))
    for _ in range(2):
        assert cache.change(b"n", lambda number: number - 7, 5, NOW) is Outcome.STORED
    assert cache.get(b"n", NOW) == (-4).to_bytes(8, "little", signed=True)
    assert cache.get(b"n", NOW + 5) is None
    cache.change(b"n", lambda _: 2**63 - 1, 0, NOW + 5)
    cache.change(b"n", lambda number: number + 1, 0, NOW)
    assert cache.get(b"n", NOW) == (-(2**63)).to_bytes(8, "little", signed=True)


def test_chained_blocks(make: Callable[[Shape], Cache]) -> None:
    cache = make(CHAINED)
    assert put(cache, b"a", b"a" * 40) is Outcome.STORED  # three of six
    assert put(cache, b"b", b"b" * 16) is Outcome.STORED
    assert put(cache, b"c", b"c" * 33) is Outcome.FULL
    assert put(cache, b"a", b"A" * 80) is Outcome.STORED  # its own blocks are free for it
    assert cache.get(b"a", NOW) == b"A" * 80
    assert put(cache, b"b", b"b" * 33) is Outcome.FULL
    assert cache.get(b"b", NOW) is None
    assert put(cache, b"b", b"b") is Outcome.STORED
    assert put(cache, b"x", b"x" * 97) is Outcome.REFUSED


KEYS = st.sampled_from([b"a", b"b", b"c", b"d", b"e", b"f"])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), KEYS, st.binary(min_size=1, max_size=70), st.integers(0, 3)),
        st.tuples(st.just("delete"), KEYS),
        st.tuples(st.just("get"), KEYS),
        st.tuples(st.just("wait"), st.integers(1, 2)),
        st.tuples(st.just("sweep")),
        st.tuples(st.just("die")),
    ),
    max_size=60,
)


@settings(max_examples=150, deadline=None)
@given(STEPS, st.booleans())
def test_against_a_dictionary(steps: list[tuple], chained: bool) -> None:  # type: ignore[type-arg]  # noqa: FBT001
    """Whatever is found is what was put; what was refused or had no room is not there."""
    shape = CHAINED if chained else CHAINED._replace(chained=False, blocksize=70)
    cache = Cache(shape, SharedMemory.anonymous(shape.size), SharedLock(Path(f"/tmp/palatine-cache-{os.getpid()}")))
    model: dict[bytes, tuple[bytes, int]] = {}
    now = NOW
    try:
        for what, *rest in steps:
            if what == "put":
                key, value, expires = rest
                outcome = put(cache, key, value, expires, now)
                model.pop(key, None)
                if outcome is Outcome.STORED:
                    model[key] = value, now + expires if expires else now + 10**6
            elif what == "delete":
                present = model.pop(rest[0], (b"", 0))[1] > now
                assert cache.delete(rest[0], now) is present
            elif what == "get":
                value, until = model.get(rest[0], (None, 0))
                assert cache.get(rest[0], now) == (value if until > now else None)
            elif what == "wait":
                now += rest[0]
            elif what == "sweep":
                cache.sweep(now, 2)
            else:
                cache._header[2] = 1  # as a killed writer leaves it
            assert {key for key, (_, until) in model.items() if until > now} == set(cache.keys(now))
    finally:
        cache._lock.close()


def test_writers_killed_at_any_moment_leave_a_whole_cache(make: Callable[[Shape], Cache]) -> None:
    cache = make(Shape(items=32, blocks=64, blocksize=64, keysize=8, hashsize=16, chained=True, purge_lru=True))
    for round_ in range(25):
        children = []
        for seed in range(2):
            pid = os.fork()
            if not pid:
                _write_for_ever(cache, seed + 2 * round_)
            children.append(pid)
        time.sleep(0.01 + 0.001 * (round_ % 7))  # not to wait for anything: the moment of the kill is the variable
        for pid in children:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        for key in cache.keys(NOW):
            value = cache.get(key, NOW)
            assert value is not None
            assert value == key * (len(value) // len(key)), round_
        put(cache, b"mine", b"mine")
        assert cache.get(b"mine", NOW) == b"mine"
    assert cache.statistics().items == len(cache.keys(NOW)) > 1


def _write_for_ever(cache: Cache, seed: int) -> None:
    try:
        for number in count(seed):
            key = b"%04d" % (number % 50)
            if number % 5 == 4:
                cache.delete(key, NOW)
            else:
                put(cache, key, key * (1 + number % 60))
    finally:
        os._exit(1)


def test_a_store_is_found_again(tmp_path: Path) -> None:
    path, lock = str(tmp_path / "store"), SharedLock(tmp_path / "lock")
    first = Cache(CHAINED, SharedMemory.of_file(path, CHAINED.size), lock)
    put(first, b"a", b"a" * 40)
    put(first, b"b", b"b", expires=10)
    put(first, b"c", b"c")
    first.flush()
    with pytest.raises(AlreadyRunningError):
        SharedMemory.of_file(path, CHAINED.size)
    first.release_in_child()
    again = SharedMemory.of_file(path, CHAINED.size)
    second = Cache(CHAINED, again, lock)
    assert second.get(b"a", NOW) == b"a" * 40
    assert second.get(b"b", NOW + 10) is None
    place = bytes(again.view).index(b"a" * 16)
    again.view[place] = 0  # a page that never reached the disk
    again.release_in_child()
    third = SharedMemory.of_file(path, CHAINED.size)
    assert Cache(CHAINED, third, lock).keys(NOW) == [b"c"]
    third.release_in_child()
    with pytest.raises(ConfigError, match="remove it"):
        SharedMemory.of_file(path, CHAINED.size + 8)
    other = SharedMemory.of_file(path, CHAINED.size)
    with pytest.raises(ConfigError, match="remove it"):
        Cache(CHAINED._replace(items=3, hashsize=13), other, lock)
    other.release_in_child()
    lock.close()
