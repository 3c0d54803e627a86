"""Caches, the queue and shared areas of a running server: every worker sees the same, whoever is killed."""

import json
import os
import signal
from typing import Any
from urllib.parse import quote

import pytest

from api_app import CALLING_APP, PROBE, call, events
from app_server import AppServer
from palatine.counters import SegmentView
from running import Runner, free_port, get, run, wait_until

#: Calls beside the real uWSGI: value for value, exception for exception.
CALLS = """
uwsgi.cache_set(b'a', b'1')
uwsgi.cache_set(b'a', b'2')
uwsgi.cache_get(b'a')
uwsgi.cache_get('a')
uwsgi.cache_update('a', 'text', 0)
uwsgi.cache_get('a')
uwsgi.cache_get('missing')
uwsgi.cache_exists('a')
uwsgi.cache_exists('missing')
uwsgi.cache_get('a', 'second')
uwsgi.cache_set('a', 'in the second', 0, 'second')
uwsgi.cache_get('a', 'second')
uwsgi.cache_get('a', 'first')
uwsgi.cache_get('a', 'unknown')
uwsgi.cache_set('a', 'b', 0, 'unknown')
uwsgi.cache_keys('second')
uwsgi.cache_keys('unknown')
uwsgi.cache_del('a')
uwsgi.cache_del('a')
uwsgi.cache_inc('n')
uwsgi.cache_inc('n', 10)
uwsgi.cache_dec('n', 3)
uwsgi.cache_mul('n', 5)
uwsgi.cache_num('n')
uwsgi.cache_div('n', 7)
uwsgi.cache_num('n')
uwsgi.cache_div('n', 0)
uwsgi.cache_num('n')
uwsgi.cache_dec('m', 2**40)
uwsgi.cache_num('m')
uwsgi.cache_div('m', 3)
uwsgi.cache_num('m')
uwsgi.cache_get('n')
uwsgi.cache_num('missing')
uwsgi.cache_set('empty', '')
uwsgi.cache_set('', 'x')
uwsgi.cache_set('long', 'x' * 200)
uwsgi.cache_set('k' * 3000, 'x')
uwsgi.cache_set('big', 'x' * 200, 0, 'second')
uwsgi.cache_get('big', 'second')
uwsgi.cache_set('e', 'x', 1000)
uwsgi.cache_get('e')
uwsgi.cache_clear('second')
uwsgi.cache_keys('second')
uwsgi.cache_clear()
uwsgi.cache_keys()
uwsgi.cache_clear('unknown')
uwsgi.cache_get(5)
uwsgi.cache_get()
uwsgi.cache_set('a')
uwsgi.cache_set('a', 5)
uwsgi.cache_inc('a', 'x')
uwsgi.cache_set('a', 'b', 'x')
uwsgi.queue_size
uwsgi.queue_slot()
uwsgi.queue_pull()
uwsgi.queue_push(b'one')
uwsgi.queue_push('two')
uwsgi.queue_push(b'')
uwsgi.queue_push(b'x' * 4081)
uwsgi.queue_push(b'x' * 4080)
uwsgi.queue_slot()
uwsgi.queue_get(0)
uwsgi.queue_get(7)
uwsgi.queue_last()[:3]
uwsgi.queue_pop()[:3]
uwsgi.queue_last(2)
uwsgi.queue_last(99)
uwsgi.queue_pull()
uwsgi.queue_pull_slot()
uwsgi.queue_pull()
uwsgi.queue_pull()
uwsgi.queue_set(3, b'three')
uwsgi.queue_get(3)
uwsgi.queue_set(99, b'x')
uwsgi.queue_set(0, b'')
uwsgi.queue_push(5)
uwsgi.queue_get('x')
uwsgi.sharedarea_write(0, 0, b'hello')
uwsgi.sharedarea_read(0, 0, 5)
uwsgi.sharedarea_write64(0, 8, -5)
uwsgi.sharedarea_read64(0, 8)
uwsgi.sharedarea_writelong(0, 8, 2**40)
uwsgi.sharedarea_readlong(0, 8)
uwsgi.sharedarea_inc64(0, 8)
uwsgi.sharedarea_dec64(0, 8, 11)
uwsgi.sharedarea_inclong(0, 8, 1)
uwsgi.sharedarea_read64(0, 8)
uwsgi.sharedarea_write32(0, 16, 7)
uwsgi.sharedarea_inc32(0, 16, 3)
uwsgi.sharedarea_dec32(0, 16)
uwsgi.sharedarea_read32(0, 16)
uwsgi.sharedarea_write16(0, 20, 300)
uwsgi.sharedarea_read16(0, 20)
uwsgi.sharedarea_write8(0, 22, 100)
uwsgi.sharedarea_read8(0, 22)
uwsgi.sharedarea_writebyte(0, 23, 99)
uwsgi.sharedarea_readbyte(0, 23)
uwsgi.sharedarea_read(0, 0, 24)
len(uwsgi.sharedarea_read(0, 0))
uwsgi.sharedarea_read(0, 4090, 10)
uwsgi.sharedarea_read(9, 0, 1)
uwsgi.sharedarea_write(0, 4095, b'xy')
uwsgi.sharedarea_read64(0, 4095)
uwsgi.sharedarea_read('x', 0)
len(uwsgi.sharedarea_memoryview(1))
"""
WORDS = (
    "--cache2", "name=first,items=100,blocksize=100",
    "--cache2", "name=second,items=10,blocks=20,blocksize=64,bitmap=1",
    "--queue", "10", "--queue-blocksize", "4096", "--sharedarea", "1", "--sharedarea", "size=0x2000",
)  # fmt: skip


@pytest.mark.interop
def test_it_returns_and_raises_what_the_real_one_does(programs: Runner) -> None:
    calls = CALLS.strip().splitlines()
    (programs.directory / "app").mkdir()
    (programs.directory / "app" / "app.py").write_text(PROBE % calls)
    ours = AppServer(programs, *WORDS)
    port = free_port()
    programs.start(
        "uwsgi-core", "--plugin", "python3", "--master", "--http-socket", f"127.0.0.1:{port}",
        "--wsgi-file", str(ours.home / "app.py"), *WORDS,
    )  # fmt: skip
    real: dict[str, Any] = json.loads(wait_until(lambda: get(f"http://127.0.0.1:{port}/"), "the real uwsgi"))
    assert json.loads(ours.get()) == real


def test_workers_share_a_cache_that_survives_kills_and_reloads(programs: Runner) -> None:
    words = ("--cache2", "name=c,items=20,blocksize=64", "--cache2", "name=lru,items=2,purge_lru=1")
    server = AppServer(programs, *words, "--cache-expire-freq", "1", app=CALLING_APP, processes=2)
    first = call(server, "[uwsgi.cache_update('k', str(n)) for n in range(5)] and uwsgi.worker_id()")
    with server.connect() as client:  # keeps the other worker, or this one, out of the way
        client.get("/pid")
        assert call(server, "uwsgi.cache_get('k')") == b"4"
    assert first in {1, 2}
    with server.connect() as client:
        writing = "note(uwsgi.worker_id()) or all(uwsgi.cache_update('k', str(n) * 64) for n in iter(int, 1))"
        client.send(f"GET /call?{quote(writing)} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
        busy = int(wait_until(lambda: events(server), "the writer")[0]) - 1
        old = server.pids()[busy]
        os.kill(old, signal.SIGKILL)
    server.wait_other_worker(old, busy)
    assert call(server, "uwsgi.cache_get('k')") in {b"4", b"0" * 64, None}
    assert call(server, "uwsgi.cache_update('k', 'kept')") is True
    for key in "abc":
        assert call(server, f"uwsgi.cache_set({key!r}, 'x', 0, 'lru')") is True
    assert call(server, "sorted(uwsgi.cache_keys('lru'))") == [b"b", b"c"]
    server.running.wait_for('LRU item will be purged from cache "lru"')
    server.running.send(signal.SIGHUP)
    wait_until(lambda: server.generation() == 2, "the new generation")
    assert call(server, "uwsgi.cache_get('k')") == b"kept"
    assert call(server, "uwsgi.cache_set('gone', 'soon', 1)") is True
    wait_until(lambda: server.read("caches")[0]["items"] == 1, "the sweep", 30)
    row = server.read("caches")[1]
    assert (row["items"], row["full"]) == (2, 1)
    assert row["last_modified_at"]


def test_a_full_cache_says_so(programs: Runner) -> None:
    words = ("--cache", "2", "--cache-blocksize", "100", "--cache2", "name=quiet,items=1,ignore_full=1")
    server = AppServer(programs, *words, app=CALLING_APP)
    assert call(server, "[uwsgi.cache_set(k, 'v', 0, 'quiet') for k in 'ab']") == [True, None]
    assert "is FULL" not in server.running.output()
    assert call(server, "[uwsgi.cache_set(k, 'v') for k in 'abc']") == [True, True, None]
    server.running.wait_for('*** DANGER cache "default" is FULL !!! ***')
    assert call(server, "uwsgi.cache_get('a', 'default@127.0.0.1:1')").startswith("NotImplementedError")


def test_stores_are_found_again(programs: Runner) -> None:
    words = (
        "--cache2",
        "name=c,items=9,store=cache.store,store_sync=1",
        "--queue",
        "2",
        "--queue-store",
        "queue.store",
    )
    first = AppServer(programs, *words, app=CALLING_APP)
    call(first, "(uwsgi.cache_set('k', 'kept'), uwsgi.queue_push('kept too'))")
    first.running.stop()
    second = AppServer(programs, *words)
    assert call(second, "(uwsgi.cache_get('k'), uwsgi.queue_pull())") == (b"kept", b"kept too")
    os.kill(second.pid, signal.SIGKILL)
    second.running.wait()
    third = AppServer(programs, *words)
    assert call(third, "uwsgi.cache_get('k')") == b"kept"
    third.running.stop()
    other = AppServer(programs, "--cache2", "name=c,items=8,store=cache.store", wait=False)
    assert other.running.wait() == 78
    assert "cache.store: invalid store file" in other.running.output()


def test_an_area_is_locked_by_one(programs: Runner) -> None:
    server = AppServer(programs, "--sharedarea", "1", app=CALLING_APP, processes=2, threads=2)
    assert (
        call(server, "uwsgi.sharedarea_wlock(0) or uwsgi.sharedarea_inc32(0, 0) or uwsgi.sharedarea_unlock(0)") is None
    )
    path = "/call?[uwsgi.sharedarea_inc32(0,0)%20for%20n%20in%20range(500)]"
    add = f"GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
    clients = [server.connect() for _ in range(4)]
    for client in clients:
        client.send(add.encode())
    for client in clients:
        client.rest()
        client.socket.close()
    assert call(server, "uwsgi.sharedarea_read32(0, 0)") == 2001


def test_without_any_of_it(programs: Runner) -> None:
    server = AppServer(programs, app=CALLING_APP)
    assert call(server, "(uwsgi.cache_get('a'), uwsgi.cache_set('a', 'b'), uwsgi.cache_num('n'))") == (None, None, 0)
    for name in ("queue_push", "sharedarea_read"):
        assert call(server, f"uwsgi.{name}").startswith("AttributeError")


@pytest.mark.interop
def test_the_locks_have_the_names_of_the_real_ones(programs: Runner) -> None:
    words = (*WORDS, "--spooler", "spool", "--enable-metrics", "--locks", "1", "--snmp")
    server = AppServer(programs, *words)
    with SegmentView.open(server.directory / "seg") as view:
        ours = [view.row_labels("locks", row)["name"] for row in range(view.rows("locks"))]
    port = free_port()
    programs.start(
        "uwsgi-core", "--plugin", "python3", "--master", "--socket", "u.sock", "--stats", f"127.0.0.1:{port}",
        "--wsgi-file", "app.py", *words, cwd=server.home,
    )  # fmt: skip
    document = wait_until(lambda: json.loads(run("nc", "127.0.0.1", str(port)).stdout), "the real one's stats", 30)
    assert ours == [name for lock in document["locks"] for name in lock]
