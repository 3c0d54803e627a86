"""Broodlord mode: who gets a zerg and what becomes of it, and a real uWSGI as the emperor or as the vassals."""

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest
from realm import Realm, free_port, get, wait_for

from palatine.codec import emperor_pipe
from palatine_emperor import lines
from palatine_emperor.broodlord_policy import reinforcement
from palatine_emperor.command_line import arguments, environment
from palatine_emperor.settings import Settings
from palatine_emperor.throttle_policy import Blame
from palatine_emperor.vassal import (
    Died,
    Forget,
    KillGroup,
    Limits,
    Phase,
    Said,
    Send,
    Start,
    Started,
    Stop,
    Summon,
    Vassal,
    Want,
    Wanted,
)
from palatine_emperor.vassal_policy import decide
from running import children, program

FILE = Wanted("a.ini", stamp=10, directory="/v", uid=5, gid=6, socket="/x")
ZERG = Wanted("a.ini:zerg", stamp=10, directory="/v", uid=5, gid=6, zerg_of="a.ini", zerg=1)
SECOND = attrs.evolve(ZERG, name="a.ini:zerg-2", zerg=2)
LIMITS = Limits(broodlord=2)


def running(wanted: Wanted) -> Vassal:
    return Vassal(phase=Phase.RUNNING, wanted=wanted, started=wanted, pid=7)


@pytest.mark.parametrize(
    ("caller", "others", "given"),
    [
        (FILE, [], ZERG),
        (FILE, [running(ZERG)], SECOND),
        (ZERG, [running(FILE)], SECOND),  # one that helps asks for its vassal
        (FILE, [running(ZERG), running(SECOND)], None),
        (FILE, [running(attrs.evolve(ZERG, name="b.ini:zerg", zerg=3))], attrs.evolve(ZERG, zerg=4)),
        (FILE, [running(attrs.evolve(ZERG, name="b.ini:zerg")), running(ZERG)], None),  # so many in all
        (attrs.evolve(FILE, config=b"[uwsgi]"), [], attrs.evolve(ZERG, config=b"[uwsgi]")),
        (attrs.evolve(FILE, executable=True), [], None),  # a program's output has no second section
    ],
)
def test_who_gets_a_zerg(caller: Wanted, others: list[Vassal], given: Wanted | None) -> None:
    known = {vassal.wanted.name: vassal for vassal in (running(caller), *others) if vassal.wanted}
    assert reinforcement(running(caller), known, 100.0, LIMITS) == given


def test_a_zerg_that_failed_is_not_there_again_at_once() -> None:
    known = {"a.ini:zerg": Vassal(blame=Blame(level=5000, attempt=3, first=90, last=99))}
    assert reinforcement(running(FILE), known, 100.0, LIMITS) is None
    assert reinforcement(running(FILE), known, 110.0, LIMITS) == ZERG


def test_the_life_of_a_zerg() -> None:
    """It is started once; whatever ends it, it is gone, and counts as a failure if it was of no use."""
    begun, actions = decide(Vassal(), Want(ZERG), 1.0, LIMITS)
    assert actions == (Start(ZERG),)
    serving, _ = decide(begun, Started(7), 1.0, LIMITS)
    gone, actions = decide(serving, Died(1 << 8), 2.0, LIMITS)
    assert (gone.phase, gone.blame) == (Phase.ABSENT, Blame(level=1, attempt=0, first=2, last=2))
    assert actions == (lines.curse(ZERG.name, 7), lines.removed(ZERG.name), KillGroup(), Forget())
    again, _ = decide(decide(gone, Want(ZERG), 9.0, LIMITS)[0], Started(8), 9.0, LIMITS)
    assert decide(again, Died(1 << 8), 10.0, LIMITS)[0].blame == Blame(level=1001, attempt=1, first=2, last=10)
    loyal, _ = decide(serving, Said(emperor_pipe.LOYAL), 2.0, LIMITS)
    leaving, actions = decide(loyal, Said(emperor_pipe.LEAVING), 3.0, LIMITS)
    assert actions == (lines.stop(ZERG.name), Send(emperor_pipe.STOP))
    assert decide(leaving, Died(0), 4.0, LIMITS)[0].phase is Phase.ABSENT
    held, _ = decide(loyal, Stop(hold=True), 3.0, LIMITS)
    assert decide(held, Died(0), 4.0, LIMITS)[0] == Vassal(times=held.times)


def test_only_a_broodlord_answers() -> None:
    asks = Said(emperor_pipe.REINFORCEMENTS)
    assert decide(running(FILE), asks, 1.0, LIMITS) == (running(FILE), (Summon(),))
    assert decide(running(FILE), asks, 1.0, Limits()) == (running(FILE), ())


def test_a_zerg_s_words() -> None:
    assert arguments(ZERG, Settings(vassal_set=("a=1",)), None, "/u") == ("/u", "--set", "a=1", "--ini", "a.ini:zerg")
    pushed = attrs.evolve(SECOND, config=b"[uwsgi]")
    assert arguments(pushed, Settings(), None, "/u") == ("/u", "--ini", "emperor://a.ini:zerg")
    assert environment(SECOND, {})["UWSGI_BROODLORD_NUM"] == "2"
    assert "UWSGI_BROODLORD_NUM" not in environment(FILE, {})


# ------------------------------------------------------------------ for real

BROOD = """[uwsgi]
{plugins}
chdir = {home}
wsgi-file = app.py
http-socket = 127.0.0.1:{port}
zerg-server = {home}/server
master = true
master-fifo = {home}/fifo
processes = 1
[zerg]
{plugins}
master = true
chdir = {home}
wsgi-file = app.py
zerg = {home}/server
protocol = http
env = MARK=zerg

{more}
"""


def brood(home: Path, directory: Path, port: int, *, plugins: str = "", more: str = "") -> Path:
    path = directory / "brood.ini"
    path.write_text(BROOD.format(home=home, port=port, plugins=plugins, more=more))
    return path


def ask(home: Path) -> None:
    """As the vassal's master-fifo has it ask."""

    def written() -> bool:
        descriptor = os.open(home / "fifo", os.O_WRONLY | os.O_NONBLOCK)
        try:
            return os.write(descriptor, b"B") == 1
        finally:
            os.close(descriptor)

    wait_for("a reader of the fifo", lambda: (home / "fifo").exists() and written())


def answered_by_a_zerg(port: int) -> None:
    wait_for("an answer of a zerg", lambda: (get(port) or "").startswith("zerg"))


@pytest.mark.parametrize("real", [False, pytest.param(True, marks=pytest.mark.interop)])
def test_a_vassal_that_asks_gets_zergs(realm: Realm, real: bool) -> None:  # noqa: FBT001 - a test's parameter
    port = free_port()
    path = brood(realm.directory, realm.vassals, port, plugins="plugins = python3" if real else "")
    wrapper = ("--emperor-wrapper", program("uwsgi-core")) if real else ()
    realm.start("--emperor", str(realm.vassals), "--emperor-broodlord", "2", *wrapper)
    wait_for("an answer", lambda: get(port))
    for name in ("brood.ini:zerg", "brood.ini:zerg-2"):
        ask(realm.directory)
        realm.wait_state(name, "accepting", "loyal")
    assert len(realm.wait_log(r"\[emperor\] going in broodlord mode: launching zergs for brood\.ini$")) == 2
    ask(realm.directory)  # three are too many
    master = realm.list()["brood.ini"]["pid"]
    family = [master, *children(master)]
    for pid in family:
        os.kill(pid, signal.SIGSTOP)  # now they must
    try:
        answered_by_a_zerg(port)
    finally:
        for pid in family:
            os.kill(pid, signal.SIGCONT)
    assert set(realm.list()) == {"brood.ini", "brood.ini:zerg", "brood.ini:zerg-2"}
    if not real:  # a uWSGI zerg that is reloaded has lost its sockets, and ends
        os.utime(path)
        realm.wait_log(r"reload the uwsgi instance brood\.ini:zerg-2")
        realm.wait_state("brood.ini:zerg-2", "accepting", "loyal")
    path.unlink()
    wait_for("all are gone", lambda: not realm.list())


def test_zergs_are_adopted_and_leave_when_idle(realm: Realm) -> None:
    port = free_port()
    brood(realm.directory, realm.vassals, port, more="idle = 2\ndie-on-idle = true")
    words = ("--emperor", str(realm.vassals), "--emperor-broodlord", "1")
    emperor = realm.start(*words)
    wait_for("an answer", lambda: get(port))
    ask(realm.directory)
    pid = realm.wait_state("brood.ini:zerg", "accepting", "loyal")["pid"]
    emperor.send_signal(signal.SIGKILL)
    emperor.wait()
    realm.start(*words)
    realm.wait_log(rf"adopted vassal brood\.ini:zerg \(pid: {pid}\)")
    wait_for("the zerg has left", lambda: "brood.ini:zerg" not in realm.list())
    assert get(port) is not None
    assert realm.list()["brood.ini"]["state"] in {"accepting", "loyal"}


@pytest.fixture
def real_emperor(tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    """A real uWSGI broodlord whose vassals are ours: where they are, and its log."""
    directory, log = tmp_path / "vassals", tmp_path / "log"
    directory.mkdir()
    words = ["--emperor", str(directory), "--emperor-broodlord", "1", "--emperor-freq", "1"]
    wrapper = tmp_path / "app-server"
    wrapper.write_text(f'#!/bin/sh\nexec {program("palatine-app-server")} --runtime-dir {tmp_path}/r "$@"\n')
    wrapper.chmod(0o755)
    with log.open("wb") as output:
        process = subprocess.Popen(
            [program("uwsgi-core"), *words, "--emperor-wrapper", str(wrapper)],
            cwd=tmp_path, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
        )  # fmt: skip
    yield directory, log
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 0, log.read_text()


@pytest.mark.interop
def test_our_vassal_gets_a_zerg_of_a_real_emperor(tmp_path: Path, real_emperor: tuple[Path, Path]) -> None:
    directory, log = real_emperor
    port = free_port()
    (tmp_path / "app.py").write_text(
        "import os\ndef application(environ, start_response):\n    start_response('200 OK', [])\n"
        "    return [os.environ.get('MARK', 'own').encode()]\n"
    )
    brood(tmp_path, directory, port)
    wait_for("an answer", lambda: get(port))
    ask(tmp_path)
    wait_for("the zerg", lambda: "vassal brood.ini:zerg is ready to accept requests" in log.read_text())
    answered_by_a_zerg(port)
