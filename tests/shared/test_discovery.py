"""Instances come, go and change; whatever is in the directory, watching goes on."""

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from palatine.counters import Segment
from palatine.discovery import Change, Changes, InstanceRef, scan_instances, watch_instances
from palatine.schema import INSTANCE

#: Longer than any test: what is seen was told by inotify.
NEVER = 1000.0


@pytest.fixture
def runtime(tmp_path: Path) -> Path:
    (tmp_path / "i").mkdir()
    return tmp_path


def start(runtime: Path, name: str) -> Segment:
    """What a starting instance does."""
    (runtime / "i" / name).mkdir(exist_ok=True)
    segment = Segment.create(runtime / "i" / name / "seg", INSTANCE, {}, {})
    segment.publish()
    return segment


def remove(runtime: Path, name: str) -> None:
    for file in (runtime / "i" / name).iterdir():
        file.unlink()
    (runtime / "i" / name).rmdir()


def told(changes: list[Change]) -> list[tuple[str, str]]:
    return [(change.kind, change.ref.name) for change in changes]


@asynccontextmanager
async def watching(runtime: Path, rescan: float = NEVER) -> AsyncIterator[Changes]:
    with trio.fail_after(10):
        async with watch_instances(runtime, rescan=rescan) as changes:
            yield changes


async def take(changes: Changes, count: int = 1) -> list[tuple[str, str]]:
    return told([await anext(changes) for _ in range(count)])


async def nothing_more(changes: Changes) -> bool:
    """Whether nothing is pending: an instance started now is the next to be told of."""
    start(changes._watches._runtime, "marker")
    return await take(changes) == [("appeared", "marker")]


def test_a_scan_finds_what_opens(runtime: Path) -> None:
    start(runtime, "two")
    start(runtime, "one")
    (runtime / "i" / "empty").mkdir()
    assert scan_instances(runtime) == [
        InstanceRef("one", runtime / "i" / "one", os.getuid()),
        InstanceRef("two", runtime / "i" / "two", os.getuid()),
    ]


@pytest.mark.parametrize("missing", ["i", "runtime"])
def test_a_scan_of_nothing_finds_nothing(tmp_path: Path, missing: str) -> None:
    assert scan_instances(tmp_path if missing == "i" else tmp_path / "nowhere") == []


async def test_those_present_are_told_first(runtime: Path) -> None:
    start(runtime, "b")
    start(runtime, "a")
    async with watching(runtime) as changes:
        assert await take(changes, 2) == [("appeared", "a"), ("appeared", "b")]
        assert changes.statistics().shown == changes.statistics().watched == 2


async def test_an_instance_comes_and_goes(runtime: Path) -> None:
    async with watching(runtime) as changes:
        for _ in range(3):
            start(runtime, "app")
            assert await take(changes) == [("appeared", "app")]
            remove(runtime, "app")
            assert await take(changes) == [("vanished", "app")]
        assert changes.statistics().watched == 0


async def test_a_directory_may_be_there_long_before_its_segment(runtime: Path) -> None:
    async with watching(runtime) as changes:
        (runtime / "i" / "app").mkdir()
        start(runtime, "other")
        assert await take(changes) == [("appeared", "other")]
        start(runtime, "app")
        assert await take(changes) == [("appeared", "app")]


async def test_a_new_segment_in_place_of_the_old_is_a_change(runtime: Path) -> None:
    start(runtime, "app")
    async with watching(runtime) as changes:
        assert await take(changes) == [("appeared", "app")]
        for _ in range(3):
            start(runtime, "app")
            assert await take(changes) == [("changed", "app")]
        assert await nothing_more(changes)


async def test_a_segment_that_goes_takes_the_instance_with_it(runtime: Path) -> None:
    segment = start(runtime, "app")
    async with watching(runtime) as changes:
        assert await take(changes) == [("appeared", "app")]
        segment.close(unlink=True)
        assert await take(changes) == [("vanished", "app")]
        start(runtime, "app")
        assert await take(changes) == [("appeared", "app")]


async def test_a_dead_instance_stays_until_its_directory_goes(runtime: Path) -> None:
    segment = start(runtime, "app")
    async with watching(runtime) as changes:
        assert await take(changes) == [("appeared", "app")]
        segment.close(unlink=False)
        assert await nothing_more(changes)


async def test_a_directory_renamed_is_another_instance(runtime: Path) -> None:
    start(runtime, "old")
    async with watching(runtime) as changes:
        assert await take(changes) == [("appeared", "old")]
        (runtime / "i" / "old").rename(runtime / "i" / "new")
        assert set(await take(changes, 2)) == {("vanished", "old"), ("appeared", "new")}
        start(runtime, "new")
        assert await take(changes) == [("changed", "new")]
        start(runtime, "old")
        assert await take(changes) == [("appeared", "old")]


async def test_a_directory_that_comes_back_at_once_is_noticed(runtime: Path) -> None:
    start(runtime, "app")
    async with watching(runtime) as changes:
        assert await take(changes) == [("appeared", "app")]
        remove(runtime, "app")
        start(runtime, "app")
        assert await take(changes) == [("changed", "app")]
        start(runtime, "app")
        assert await take(changes) == [("changed", "app")]


async def test_i_may_be_made_later(tmp_path: Path) -> None:
    async with watching(tmp_path) as changes, trio.open_nursery() as nursery:

        @nursery.start_soon
        async def make() -> None:
            await trio.testing.wait_all_tasks_blocked()
            (tmp_path / "i").mkdir()
            start(tmp_path, "app")

        assert await take(changes) == [("appeared", "app")]


async def test_i_may_be_removed_and_made_again(runtime: Path) -> None:
    start(runtime, "app")
    async with watching(runtime) as changes:
        assert await take(changes) == [("appeared", "app")]
        remove(runtime, "app")
        (runtime / "i").rmdir()
        assert await take(changes) == [("vanished", "app")]
        (runtime / "i").mkdir()
        start(runtime, "app")
        assert await take(changes) == [("appeared", "app")]


async def test_a_runtime_directory_that_does_not_exist_yet_is_found_by_a_rescan(tmp_path: Path) -> None:
    runtime = tmp_path / "later"
    async with watching(runtime, rescan=0.05) as changes, trio.open_nursery() as nursery:

        @nursery.start_soon
        async def make() -> None:
            await trio.testing.wait_all_tasks_blocked()
            (runtime / "i").mkdir(parents=True)
            start(runtime, "app")

        assert await take(changes) == [("appeared", "app")]


async def test_a_segment_seen_before_it_is_ready_is_looked_at_again(runtime: Path) -> None:
    """Its reader can be faster than the last store of its writer, which makes no event."""
    segment = start(runtime, "app")
    words = segment._words
    words[15] = 0
    async with watching(runtime) as changes, trio.open_nursery() as nursery:

        @nursery.start_soon
        async def finish() -> None:
            await trio.testing.wait_all_tasks_blocked()
            assert changes.statistics().shown == 0
            words[15] = 1

        assert await take(changes) == [("appeared", "app")]
        assert changes.statistics().refused == 0


async def test_a_segment_that_is_never_ready_is_refused_in_the_end(
    runtime: Path, autojump_clock: trio.testing.MockClock
) -> None:
    del autojump_clock
    start(runtime, "app")
    start(runtime, "half")
    async with watching(runtime, rescan=3) as changes:
        assert await take(changes, 2) == [("appeared", "app"), ("appeared", "half")]
        start(runtime, "half")._words[15] = 0
        with trio.move_on_after(2):
            await anext(changes)
        assert changes.statistics().shown == 2
        assert await take(changes) == [("vanished", "half")]
        assert changes.statistics().refused == 1


async def test_one_being_replaced_is_not_lost_before_the_new_one_is_ready(runtime: Path) -> None:
    start(runtime, "app")
    async with watching(runtime) as changes, trio.open_nursery() as nursery:
        assert await take(changes) == [("appeared", "app")]
        words = start(runtime, "app")._words
        words[15] = 0

        @nursery.start_soon
        async def finish() -> None:
            await trio.testing.wait_all_tasks_blocked()
            words[15] = 1

        assert await take(changes) == [("changed", "app")]


async def test_without_inotify_rescans_do(
    runtime: Path, monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    def refuse(**_: object) -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr("palatine.discovery.INotify", refuse)
    start(runtime, "a")
    async with watching(runtime, rescan=3) as changes, trio.open_nursery() as nursery:
        assert await take(changes) == [("appeared", "a")]

        @nursery.start_soon
        async def later() -> None:
            await trio.sleep(1)
            start(runtime, "b")
            start(runtime, "a")

        assert await take(changes, 2) == [("changed", "a"), ("appeared", "b")]
        assert autojump_clock.current_time() < 10


async def test_events_that_were_lost_are_made_up_for(runtime: Path, autojump_clock: trio.testing.MockClock) -> None:
    """Instances come while nobody looks, and the watches are gone."""
    del autojump_clock
    start(runtime, "a")
    async with watching(runtime, rescan=3) as changes:
        assert await take(changes) == [("appeared", "a")]
        for number in [*changes._watches._names, changes._watches._root_number]:
            changes._watches._inotify.rm_watch(number)  # type: ignore[union-attr]  # it is there
        list(changes._watches._inotify.read(timeout=0))  # type: ignore[union-attr]  # likewise
        start(runtime, "a")
        start(runtime, "b")
        assert await take(changes, 2) == [("changed", "a"), ("appeared", "b")]


async def test_hundreds_of_instances(runtime: Path) -> None:
    names = [f"app{number:03}" for number in range(300)]
    for name in names[:100]:
        start(runtime, name).close(unlink=False)
    async with watching(runtime) as changes:
        assert await take(changes, 100) == [("appeared", name) for name in names[:100]]
        for name in names[100:]:
            start(runtime, name).close(unlink=False)
        assert sorted(await take(changes, 200)) == [("appeared", name) for name in names[100:]]
        assert changes.statistics().watched == 300
        for name in names:
            remove(runtime, name)
        assert sorted(await take(changes, 300)) == [("vanished", name) for name in names]
        assert changes.statistics().watched == 0


def make_link(runtime: Path) -> None:
    real = runtime / "real"
    real.mkdir()
    Segment.create(real / "seg", INSTANCE, {}, {}).publish()
    (runtime / "i" / "bad").symlink_to(real)


def make_linked_segment(runtime: Path) -> None:
    make_link(runtime)
    (runtime / "i" / "bad").unlink()
    (runtime / "i" / "bad").mkdir()
    (runtime / "i" / "bad" / "seg").symlink_to(runtime / "real" / "seg")


def make_file(runtime: Path) -> None:
    (runtime / "i" / "bad").write_text("not a directory")


def make_garbage(runtime: Path) -> None:
    (runtime / "i" / "bad").mkdir()
    (runtime / "i" / "bad" / "seg").write_bytes(b"garbage" * 1000)


def make_fifo(runtime: Path) -> None:
    (runtime / "i" / "bad").mkdir()
    os.mkfifo(runtime / "i" / "bad" / "seg")


HOSTILE: dict[str, Callable[[Path], None]] = {
    "a link to a directory": make_link,
    "a link to a segment": make_linked_segment,
    "a file": make_file,
    "garbage": make_garbage,
    "a fifo": make_fifo,
    "spaces": lambda runtime: start(runtime, "b a d").close(unlink=False),
    "a hidden one": lambda runtime: start(runtime, ".bad").close(unlink=False),
    "a long name": lambda runtime: start(runtime, "b" * 41).close(unlink=False),
    "no text": lambda runtime: os.mkdir(os.fsencode(runtime / "i") + b"/b\xff\n"),
}


@pytest.mark.parametrize("kind", HOSTILE)
async def test_what_is_no_instance_is_refused_and_disturbs_nobody(runtime: Path, kind: str) -> None:
    HOSTILE[kind](runtime)
    start(runtime, "good")
    assert [ref.name for ref in scan_instances(runtime)] == ["good"]
    async with watching(runtime) as changes:
        assert await take(changes) == [("appeared", "good")]
        assert await nothing_more(changes)
        assert changes.statistics().refused == 1


@pytest.mark.parametrize("kind", HOSTILE)
async def test_what_is_no_instance_may_come_later(runtime: Path, kind: str) -> None:
    async with watching(runtime, rescan=0.05) as changes:
        start(runtime, "good")
        assert await take(changes) == [("appeared", "good")]
        HOSTILE[kind](runtime)
        assert await nothing_more(changes)
        assert changes.statistics().refused == 1


async def test_one_refused_is_shown_when_it_is_put_right(runtime: Path) -> None:
    make_garbage(runtime)
    async with watching(runtime) as changes:
        assert await nothing_more(changes)
        start(runtime, "bad")
        assert await take(changes) == [("appeared", "bad")]
        (runtime / "i" / "bad" / "seg").unlink()
        make_garbage_again = runtime / "i" / "bad" / "new"
        make_garbage_again.write_bytes(b"x")
        make_garbage_again.rename(runtime / "i" / "bad" / "seg")
        assert await take(changes) == [("vanished", "bad")]
        assert changes.statistics().refused == 1


async def test_names_refused_are_forgotten_when_they_go(runtime: Path) -> None:
    make_file(runtime)
    async with watching(runtime, rescan=0.02) as changes:
        assert await nothing_more(changes)
        assert changes.statistics().refused == 1
        (runtime / "i" / "bad").unlink()
        start(runtime, "other")
        assert await take(changes) == [("appeared", "other")]
        assert changes.statistics().refused == 0


@pytest.mark.root
async def test_a_segment_of_another_owner_than_its_directory_is_refused(runtime: Path) -> None:
    start(runtime, "app")
    start(runtime, "stolen")
    os.chown(runtime / "i" / "app", 12345, -1)
    os.chown(runtime / "i" / "app" / "seg", 12345, -1)
    os.chown(runtime / "i" / "stolen", 12345, -1)
    assert scan_instances(runtime) == [InstanceRef("app", runtime / "i" / "app", 12345)]
    async with watching(runtime) as changes:
        assert await take(changes) == [("appeared", "app")]
        assert await nothing_more(changes)
        os.chown(runtime / "i" / "stolen", 0, -1)
        start(runtime, "stolen")
        assert await take(changes) == [("appeared", "stolen")]


@pytest.mark.root
async def test_an_instance_given_to_another_user_is_another_instance(runtime: Path) -> None:
    start(runtime, "app")
    async with watching(runtime, rescan=0.02) as changes:
        assert await take(changes) == [("appeared", "app")]
        (runtime / "i" / "new").mkdir()
        os.chown(runtime / "i" / "new", 12345, -1)
        Segment.create(runtime / "i" / "new" / "seg", INSTANCE, {}, {}).publish()
        os.chown(runtime / "i" / "new" / "seg", 12345, -1)
        assert await take(changes) == [("appeared", "new")]
        for path in (runtime / "i" / "new" / "seg", runtime / "i" / "new"):
            os.chown(path, 0, -1)
        assert [await anext(changes) for _ in range(2)] == [
            Change("vanished", InstanceRef("new", runtime / "i" / "new", 12345)),
            Change("appeared", InstanceRef("new", runtime / "i" / "new", 0)),
        ]


async def test_two_tasks_cannot_wait_for_the_same_changes(runtime: Path) -> None:
    async with watching(runtime) as changes, trio.open_nursery() as nursery:
        nursery.start_soon(anext, changes)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(trio.BusyResourceError):
            await anext(changes)
        nursery.cancel_scope.cancel()


async def test_waiting_can_be_cancelled_without_losing_a_change(runtime: Path) -> None:
    async with watching(runtime) as changes:
        with trio.move_on_after(0):
            await anext(changes)
        start(runtime, "app")
        with trio.CancelScope() as scope:
            scope.cancel()
            await anext(changes)
        assert await take(changes) == [("appeared", "app")]
