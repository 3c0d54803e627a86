"""Links of vassals are forked from a warm sibling of the keeper, with their master's rights, and outlast its deaths."""

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import trio
from realm import Realm, free_port, kill_and_wait, master_of, wait_for

from palatine.bus import request
from palatine.counters import SegmentView
from palatine.errors import PalatineError
from running import anyones_python, import_path


def status(pid: int, field: str) -> list[str]:
    """A line of /proc/<pid>/status, without its name."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(line for line in lines if line.startswith(f"{field}:")).split()[1:]


def program(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[3].decode()


def link_of(realm: Realm, name: str, *, other_than: int = 0) -> int:
    """The pid of a vassal's link, once `ctl` answers through it."""

    def answering() -> int:
        directory = realm.runtime / "i" / name
        try:
            view = SegmentView.open(directory / "seg")
            pid = view.row("server")["link_pid"]
            view.close()
            trio.run(partial(request, directory / "ctl", "ping", timeout=2))
        except (PalatineError, OSError):
            return 0
        return pid if pid != other_than else 0

    return wait_for(f"a link of {name}", answering)


def test_links_come_from_one_warm_sibling(realm: Realm) -> None:
    ports = free_port(), free_port()
    for number, port in enumerate(ports):
        realm.vassal(f"v{number}.ini", port)
    realm.start()
    masters = [master_of(port) for port in ports]
    links = [link_of(realm, f"v{number}.ini") for number in (0, 1)]
    sibling = {int(status(link, "PPid")[0]) for link in links}
    assert len(sibling) == 1
    assert program(next(iter(sibling))) == "palatine_app_server.linking.link_server"
    answer = trio.run(request, realm.runtime / "i/v0.ini/ctl", "ping")
    assert answer["pid"] == masters[0]
    kill_and_wait(links[0])
    again = link_of(realm, "v0.ini", other_than=links[0])
    assert {int(status(again, "PPid")[0])} == sibling
    # one that dies young is not tried again: each master executes its own link from then on
    executed = again
    for _ in range(3):  # on a busy machine the first may be old enough for another
        kill_and_wait(int(status(executed, "PPid")[0]))
        kill_and_wait(executed)
        executed = link_of(realm, "v0.ini", other_than=executed)
        if program(executed) == "palatine_app_server.linking.link":
            break
    assert program(executed) == "palatine_app_server.linking.link"
    assert int(status(executed, "PPid")[0]) == masters[0]
    assert [master_of(port) for port in ports] == masters
    assert Path(f"/proc/{links[1]}").exists()  # links outlive the sibling
    (realm.vassals / "v1.ini").unlink()
    wait_for("it goes with its master", lambda: not Path(f"/proc/{links[1]}").exists())


@pytest.fixture
def open_realm() -> Iterator[Realm]:
    """A realm every user may look into."""
    directory = Path(tempfile.mkdtemp(prefix="pal-"))
    directory.chmod(0o755)
    realm = Realm(directory)
    yield realm
    realm.close()
    shutil.rmtree(directory)


@pytest.mark.root
def test_a_link_has_its_masters_rights_and_no_groups(open_realm: Realm) -> None:
    assert os.geteuid() == 0, "needs root"
    port = free_port()
    open_realm.vassal("tenant.ini", port, uid=65534, gid=65534)
    open_realm.start(python=anyones_python()[0], PYTHONPATH=import_path())
    master = master_of(port)
    link = link_of(open_realm, "tenant.ini")
    assert program(int(status(link, "PPid")[0])) == "palatine_app_server.linking.link_server"
    assert status(link, "Uid") == status(master, "Uid") == ["65534"] * 4
    assert status(link, "Gid") == ["65534"] * 4
    assert status(link, "Groups") == ["65534"]
    os.kill(link, signal.SIGKILL)
    assert status(link_of(open_realm, "tenant.ini", other_than=link), "Uid") == ["65534"] * 4


def test_a_link_nobody_needs_is_not_there_until_somebody_knocks(realm: Realm) -> None:
    port = free_port()
    realm.vassal("quiet.ini", port)
    realm.start()
    master = master_of(port)
    directory = realm.runtime / "i/quiet.ini"
    view = SegmentView.open(directory / "seg")
    assert view.row("server")["link_pid"] == 0
    view.close()
    assert not (directory / "events").exists()
    answer = trio.run(request, directory / "ctl", "ping")
    assert answer["pid"] == master
    assert (directory / "events").exists()


def test_links_that_are_wanted_at_once_wait_for_the_sibling(realm: Realm) -> None:
    for number in range(3):
        realm.vassal(f"v{number}.ini", free_port(), alarm="keep log:kept", log_alarm="keep ^TERRIBLE")
    realm.start()
    for number in range(3):
        assert program(link_of(realm, f"v{number}.ini")) == "palatine_app_server.linking.link_server"
    assert "link was killed" not in realm.log()
