"""dir:// and glob:// monitors on real directories."""

import os
import stat
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import attrs
import pytest
import trio

from palatine.errors import ConfigError
from palatine_emperor.deploy_journal import DeployJournal, open_journal
from palatine_emperor.monitors import Monitor, Report, open_monitor
from palatine_emperor.monitors.scan import scan_directory, scan_glob, watched_directories
from palatine_emperor.settings import Settings
from palatine_emperor.vassal import Wanted

#: Only inotify can be this quick, and only a scan this slow.
SLOW = Settings(emperor_freq=60)


def write(path: Path, text: str = "[uwsgi]\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def names(wanted: tuple[Wanted, ...]) -> list[str]:
    return [vassal.name for vassal in wanted]


def test_a_directory_is_scanned_for_config_files(tmp_path: Path) -> None:
    for name in ("b.ini", "a.xml", "c.yaml", "d.yml", "e.json", "f.js", ".hidden.ini", "README.txt", "g.lua"):
        write(tmp_path / name)
    (tmp_path / "dir.ini").mkdir()
    os.mkfifo(tmp_path / "pipe.ini")
    (tmp_path / "dangling.ini").symlink_to("/nowhere.ini")
    (tmp_path / "link.ini").symlink_to(tmp_path / "b.ini")
    found = scan_directory(str(tmp_path), Settings()).wanted
    assert names(found) == [".hidden.ini", "a.xml", "b.ini", "c.yaml", "d.yml", "e.json", "f.js", "link.ini"]
    assert {vassal.directory for vassal in found} == {str(tmp_path)}
    assert found[2].stamp == (tmp_path / "b.ini").stat().st_mtime_ns
    assert "g.lua" in names(scan_directory(str(tmp_path), Settings(emperor_extra_extension=(".lua",))).wanted)
    assert "dangling.ini" in names(scan_directory(str(tmp_path), Settings(emperor_nofollow=True)).wanted)


def test_a_glob_names_vassals_by_the_matched_path(tmp_path: Path) -> None:
    write(tmp_path / "domains/one.example/conf/uwsgi.xml")
    write(tmp_path / "domains/two.example/conf/uwsgi.xml")
    write(tmp_path / "domains/two.example/conf/other.xml")
    found = scan_glob("domains/*/conf/uwsgi.xml", str(tmp_path), Settings()).wanted
    assert names(found) == ["domains/one.example/conf/uwsgi.xml", "domains/two.example/conf/uwsgi.xml"]
    assert found[0].directory == str(tmp_path)
    absolute = scan_glob(f"{tmp_path}/domains/t*/conf/*.xml", "/", Settings()).wanted
    assert names(absolute) == [f"{tmp_path}/domains/two.example/conf/{name}.xml" for name in ("other", "uwsgi")]


def test_directories_a_glob_watches(tmp_path: Path) -> None:
    write(tmp_path / "domains/one/conf/uwsgi.xml")
    (tmp_path / "domains/two").mkdir()
    top = str(tmp_path)
    assert watched_directories("domains/*/conf/uwsgi.xml", top, 99) == [
        f"{top}/domains", f"{top}/domains/one", f"{top}/domains/two", f"{top}/domains/one/conf",
    ]  # fmt: skip
    assert watched_directories(f"{top}/domains/one/conf/uwsgi.xml", "/", 99) == [f"{top}/domains/one/conf"]
    assert watched_directories("*.ini", top, 99) == [f"{top}/."]
    assert len(watched_directories("domains/*/conf/uwsgi.xml", top, 2)) == 2


def test_on_demand_sockets_by_the_first_option_set(tmp_path: Path) -> None:
    write(tmp_path / "a.ini")
    write(tmp_path / "a.ini.socket", "127.0.0.1:99\nignored")
    write(tmp_path / "b.ini")

    def sockets(settings: Settings) -> list[str]:
        return [vassal.socket for vassal in scan_directory(str(tmp_path), settings).wanted]

    assert sockets(Settings(emperor_on_demand_extension=".socket")) == ["127.0.0.1:99", ""]
    assert sockets(Settings(emperor_on_demand_directory="/run/od")) == ["/run/od/a.socket", "/run/od/b.socket"]
    assert sockets(Settings(emperor_on_demand_exec="echo sock-of")) == ["sock-of a.ini", "sock-of b.ini"]
    assert sockets(Settings(emperor_on_demand_extension=".socket", emperor_on_demand_directory="/x"))[1] == ""


def test_magic_exec(tmp_path: Path) -> None:
    write(tmp_path / "a.ini").chmod(0o755)
    assert scan_directory(str(tmp_path), Settings(emperor_magic_exec=True)).wanted[0].executable
    assert not scan_directory(str(tmp_path), Settings()).wanted[0].executable


@pytest.mark.root
def test_a_tyrant_takes_the_owner_of_the_file(tmp_path: Path) -> None:
    os.chown(write(tmp_path / "good.ini"), 33, 34)
    os.chown(write(tmp_path / "gidzero.ini"), 33, 0)
    write(tmp_path / "root.ini")
    (tmp_path / "link.ini").symlink_to(tmp_path / "good.ini")
    os.chown(tmp_path / "link.ini", 44, 44, follow_symlinks=False)
    found = scan_directory(str(tmp_path), Settings(emperor_tyrant=True))
    assert [(vassal.name, vassal.uid, vassal.gid) for vassal in found.wanted] == [
        ("good.ini", 33, 34), ("link.ini", 33, 34),
    ]  # fmt: skip
    assert [line for _, line in found.refused] == [
        "[emperor-tyrant] invalid permissions for vassal gidzero.ini (its owner is 33:0)",
        "[emperor-tyrant] invalid permissions for vassal root.ini (its owner is 0:0)",
    ]
    nofollow = scan_directory(str(tmp_path), Settings(emperor_tyrant=True, emperor_tyrant_nofollow=True))
    assert [(vassal.uid, vassal.gid) for vassal in nofollow.wanted] == [(33, 34), (44, 44)]
    assert names(scan_directory(str(tmp_path), Settings(emperor_tyrant=True, min_uid=34)).wanted) == []


def test_schemes(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    vassals = tmp_path / "vassals"
    vassals.mkdir()
    top = str(tmp_path)

    def key(url: str) -> str:
        return open_monitor(url, Settings(), journal, top).key

    assert key(str(vassals)) == key("vassals") == key(f"dir://{vassals}") == key("dir://vassals/") == f"dir:{vassals}"
    assert key("vassals/*.ini") == key("glob://vassals/*.ini") == f"glob:{top}:vassals/*.ini"
    assert key("missing.ini") == f"glob:{top}:missing.ini", "a config that may come"
    assert key("missing") == f"dir:{top}/missing", "a directory that may come: the same vassals before and after"
    assert key("zmq://tcp://127.0.0.1:5252") == "zmq:tcp://127.0.0.1:5252"
    with pytest.raises(ConfigError, match="is not a directory"):
        key("dir://missing")
    with pytest.raises(ConfigError, match="no imperial monitor knows zoo://"):
        key("zoo://localhost")
    journal.close()


@asynccontextmanager
async def watching(monitor: Monitor) -> AsyncIterator[Callable[[], "trio.abc.ReceiveChannel[Report]"]]:
    send, receive = trio.open_memory_channel[Report](1000)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(monitor.watch, send)
        with trio.fail_after(10):
            yield lambda: receive
        nursery.cancel_scope.cancel()
    receive.close()


async def until(reports: "trio.abc.ReceiveChannel[Report]", *wanted: str) -> Report:
    async for report in reports:
        if names(report.wanted) == list(wanted):
            return report
    raise AssertionError("unreachable")


async def test_inotify_tells_of_files_at_once(tmp_path: Path, journal: DeployJournal) -> None:
    monitor = open_monitor(f"dir://{tmp_path}", SLOW, journal, "/")
    async with watching(monitor) as reports:
        await until(reports())
        write(tmp_path / "a.ini")
        first = (await until(reports(), "a.ini")).wanted[0]
        os.utime(tmp_path / "a.ini", ns=(first.stamp + 5, first.stamp + 5))
        while (await until(reports(), "a.ini")).wanted[0].stamp == first.stamp:
            pass
        (tmp_path / "b.ini").symlink_to(tmp_path / "a.ini")
        await until(reports(), "a.ini", "b.ini")
        write(tmp_path / "tmp").rename(tmp_path / "c.ini")
        await until(reports(), "a.ini", "b.ini", "c.ini")
        (tmp_path / "a.ini").rename(tmp_path / "off")
        (tmp_path / "b.ini").unlink()
        await until(reports(), "c.ini")


async def test_a_glob_sees_new_directories_at_once(tmp_path: Path, journal: DeployJournal) -> None:
    (tmp_path / "domains").mkdir()
    monitor = open_monitor(f"{tmp_path}/domains/*/conf/uwsgi.xml", SLOW, journal, "/")
    async with watching(monitor) as reports:
        await until(reports())
        (tmp_path / "domains/one").mkdir()
        await until(reports())
        (tmp_path / "domains/one/conf").mkdir()
        await until(reports())
        write(tmp_path / "domains/one/conf/uwsgi.xml")
        await until(reports(), f"{tmp_path}/domains/one/conf/uwsgi.xml")


@pytest.mark.parametrize(
    ("url", "file"),
    [
        ("{top}/to/come", "to/come/a.ini"),
        ("{top}/to/come/a.ini", "to/come/a.ini"),
        ("{top}/to/come/*.ini", "to/come/a.ini"),
        ("glob://{top}/to/come/*", "to/come/a.ini"),
    ],
)
async def test_what_is_not_there_yet_is_said_once_and_started_when_it_comes(
    tmp_path: Path, url: str, file: str, journal: DeployJournal
) -> None:
    settings = Settings(emperor_freq=0.05)
    monitor = open_monitor(url.format(top=tmp_path), settings, journal, "/")
    path = url.format(top=tmp_path).removeprefix("glob://")
    async with watching(monitor) as reports:
        first = await reports().receive()
        assert first.said == (f"[emperor] WARNING: nothing is at {path} yet; what appears there is started",)
        assert not first.error
        assert (await reports().receive()).said == ()
        (tmp_path / file).parent.mkdir(parents=True)
        write(tmp_path / file)
        async for report in reports():
            assert report.said == ()
            if report.wanted:
                break
    assert [vassal.name for vassal in report.wanted] == ["a.ini" if url == "{top}/to/come" else str(tmp_path / file)]


async def test_a_directory_that_came_and_went_is_an_error(tmp_path: Path, journal: DeployJournal) -> None:
    """And not empty: its vassals go on."""
    monitor = open_monitor(str(tmp_path / "v"), Settings(emperor_freq=0.05), journal, "/")
    async with watching(monitor) as reports:
        await until(reports())
        (tmp_path / "v").mkdir()
        write(tmp_path / "v/a.ini")
        await until(reports(), "a.ini")
        (tmp_path / "v").rename(tmp_path / "w")
        async for report in reports():
            if report.error:
                break
    assert report.error == f"{tmp_path}/v: No such file or directory"


async def test_without_inotify_the_scans_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, journal: DeployJournal
) -> None:
    monkeypatch.setattr("palatine_emperor.monitors.files.INotify", no_inotify)
    monitor = open_monitor(str(tmp_path), Settings(emperor_freq=0.05), journal, "/")
    async with watching(monitor) as reports:
        await until(reports())
        write(tmp_path / "a.ini")
        await until(reports(), "a.ini")


def no_inotify(**_: bool) -> None:
    raise OSError(24, "Too many open files")


async def test_rescan_looks_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, journal: DeployJournal) -> None:
    monkeypatch.setattr("palatine_emperor.monitors.files.INotify", no_inotify)
    monitor = open_monitor(str(tmp_path), SLOW, journal, "/")
    async with watching(monitor) as reports:
        await until(reports())
        write(tmp_path / "a.ini")
        monitor.rescan()
        await until(reports(), "a.ini")


async def test_a_directory_that_cannot_be_read_changes_nothing(tmp_path: Path, journal: DeployJournal) -> None:
    vassals = tmp_path / "vassals"
    write(vassals / "a.ini")
    monitor = open_monitor(str(vassals), attrs.evolve(SLOW, emperor_freq=0.1), journal, "/")
    async with watching(monitor) as reports:
        await until(reports(), "a.ini")
        vassals.rename(tmp_path / "away")
        async for report in reports():
            if report.error:
                assert report == Report(error=f"{vassals}: No such file or directory")
                break
        (tmp_path / "away").rename(vassals)
        await until(reports(), "a.ini")
        write(vassals / "b.ini")
        await until(reports(), "a.ini", "b.ini")


async def test_a_complaint_is_made_once(tmp_path: Path, journal: DeployJournal) -> None:
    path = write(tmp_path / "a.ini")
    settings = Settings(emperor_freq=0.02, emperor_tyrant=True, min_uid=2**31)
    monitor = open_monitor(str(tmp_path), settings, journal, "/")
    async with watching(monitor) as reports:
        said = [(await reports().receive()).said for _ in range(5)]
    owner = path.stat()
    assert [line for lines in said for line in lines] == [
        f"[emperor-tyrant] invalid permissions for vassal a.ini (its owner is {owner.st_uid}:{owner.st_gid})"
    ]
    assert stat.S_ISREG(owner.st_mode)
