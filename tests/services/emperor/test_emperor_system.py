"""The emperor as a process with the real app-server: what operators do to it, and what happens to it."""

import os
import re
import signal
from itertools import pairwise
from pathlib import Path

import pytest
from realm import Realm, free_port, get, is_zombie, kill_and_wait, master_of, wait_for, worker_of

from palatine.errors import PeerError
from running import run, session


def test_a_directory_added_touched_removed(realm: Realm) -> None:
    realm.start()
    port = free_port()
    path = realm.vassal("one.ini", port)
    realm.wait_state("one.ini", "accepting")
    master = master_of(port)
    assert realm.list()["one.ini"]["pid"] == master
    realm.wait_state("one.ini", "loyal")
    worker = worker_of(port)
    os.utime(path)
    wait_for("another generation", lambda: worker_of(port) != worker)
    assert master_of(port) == master, "a reload keeps the master"
    assert realm.wait_state("one.ini", "loyal")["respawns"] == 1
    path.unlink()
    wait_for("it is gone", lambda: not realm.list())
    assert is_zombie(master)
    assert get(port) is None
    expected = [
        "*** starting uWSGI Emperor ***",
        f"spawned uWSGI master process (pid: {master})",
        "[emperor] vassal one.ini has been spawned",
        "[emperor] vassal one.ini is ready to accept requests",
        "[emperor] vassal one.ini is now loyal",
        "[emperor] reload the uwsgi instance one.ini",
        "[emperor] vassal one.ini is ready to accept requests",
        "[emperor] stop the uwsgi instance one.ini",
        "[emperor] removed uwsgi instance one.ini",
    ]
    log, at = realm.log(), 0
    for line in expected:
        assert line in log[at:], line
        at = log.index(line, at)
    stamp = r"[A-Z][a-z]{2} [A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d \d{4} - "
    assert re.search(rf"^{stamp}\[emperor\] vassal one\.ini is now loyal$", log, re.MULTILINE)


def test_a_changed_config_is_what_runs_after_the_reload(realm: Realm) -> None:
    port = free_port()
    path = realm.vassal("one.ini", port)
    realm.start()
    get_when_up(port)
    path.write_text(realm.ini(http_socket=f"127.0.0.1:{port}", env="MARK=new"))
    wait_for("the new config", lambda: (get(port) or "").startswith("new"), 5)


def test_a_killed_vassal_is_back_and_its_neighbour_never_notices(realm: Realm) -> None:
    one, two = free_port(), free_port()
    realm.vassal("one.ini", one)
    realm.vassal("two.ini", two)
    realm.start()
    first, neighbour = master_of(one), master_of(two)
    realm.wait_state("one.ini", "loyal")
    kill_and_wait(first)
    wait_for("another master", lambda: get(one) and master_of(one) != first)
    assert master_of(two) == neighbour
    assert realm.list()["one.ini"]["last_exit_status"] == signal.SIGKILL


def test_a_killed_emperor_is_followed_by_one_that_adopts(realm: Realm) -> None:
    one, two = free_port(), free_port()
    realm.vassal("one.ini", one)
    path = realm.vassal("two.ini", two)
    emperor = realm.start()
    masters = master_of(one), master_of(two)
    realm.wait_state("one.ini", "loyal")
    realm.wait_state("two.ini", "loyal")
    keeper = realm.keeper_pid()
    kill_and_wait(emperor.pid)
    assert (master_of(one), master_of(two)) == masters, "vassals go on without an emperor"
    worker = worker_of(two)
    os.utime(path)
    realm.start()
    assert realm.keeper_pid() == keeper
    wait_for("what changed meanwhile", lambda: worker_of(two) != worker)
    assert (master_of(one), master_of(two)) == masters
    state = realm.list()
    assert (state["one.ini"]["adopted"], state["one.ini"]["state"], state["one.ini"]["respawns"]) == (True, "loyal", 0)
    assert state["two.ini"]["respawns"] == 1
    assert "has been spawned" not in realm.log().rpartition("*** starting uWSGI Emperor ***")[2]


def test_what_died_or_went_without_an_emperor_is_put_right(realm: Realm) -> None:
    one, two = free_port(), free_port()
    realm.vassal("one.ini", one)
    path = realm.vassal("two.ini", two)
    emperor = realm.start()
    first, second = master_of(one), master_of(two)
    realm.wait_state("one.ini", "loyal")
    kill_and_wait(emperor.pid)
    kill_and_wait(first)
    path.unlink()
    realm.start()
    wait_for("another master", lambda: get(one) and master_of(one) != first)
    wait_for("two is stopped", lambda: is_zombie(second))
    wait_for("two is forgotten", lambda: list(realm.list()) == ["one.ini"])


def test_a_killed_keeper_is_replaced_and_its_vassals_go_on(realm: Realm) -> None:
    port = free_port()
    path = realm.vassal("one.ini", port)
    realm.start()
    master = master_of(port)
    realm.wait_state("one.ini", "loyal")
    keeper = realm.keeper_pid()
    kill_and_wait(keeper)
    wait_for("another keeper", lambda: realm.keeper_pid() not in {0, keeper})
    assert master_of(port) == master
    os.utime(path)
    realm.wait_log("reload the uwsgi instance one.ini")
    wait_for("reloaded", lambda: realm.list()["one.ini"]["state"] in {"accepting", "loyal"})
    assert master_of(port) == master, "its pipe is the same"
    kill_and_wait(master)
    wait_for("another master", lambda: get(port) and master_of(port) != master)


def test_when_both_are_killed_vassals_end_and_the_next_emperor_starts_them(realm: Realm) -> None:
    port = free_port()
    realm.vassal("one.ini", port)
    emperor = realm.start()
    master = master_of(port)
    keeper = realm.keeper_pid()
    os.kill(emperor.pid, signal.SIGKILL)
    os.kill(keeper, signal.SIGKILL)
    wait_for("the vassal ends", lambda: is_zombie(master))
    realm.start()
    assert wait_for("another master", lambda: get(port) and master_of(port)) != master


def test_term_leaves_the_vassals_and_int_ends_them(realm: Realm) -> None:
    port = free_port()
    realm.vassal("one.ini", port)
    emperor = realm.start()
    master = master_of(port)
    emperor.send_signal(signal.SIGTERM)
    assert emperor.wait(10) == 0
    assert master_of(port) == master
    again = realm.start()
    keeper = realm.keeper_pid()
    again.send_signal(signal.SIGINT)
    again.send_signal(signal.SIGINT)
    assert again.wait(20) == 0
    assert is_zombie(master)
    wait_for("the keeper ends with its last vassal", lambda: is_zombie(keeper))
    log = realm.log()
    assert "[emperor] *** RAGNAROK EVOKED ***\n" in log
    assert " - The Emperor is buried.\n" in log


def test_under_an_umbrella_term_ends_the_vassals(realm: Realm) -> None:
    port = free_port()
    realm.vassal("one.ini", port)
    emperor = realm.start(umbrella=True)
    master = master_of(port)
    keeper = realm.keeper_pid()
    emperor.send_signal(signal.SIGTERM)
    assert emperor.wait(20) == 0
    assert is_zombie(master)
    wait_for("the keeper ends", lambda: is_zombie(keeper))


def test_no_mercy_for_a_vassal_that_does_not_stop(realm: Realm) -> None:
    deaf = realm.directory / "deaf.sh"
    deaf.write_text('#!/bin/sh\nprintf "\\001\\005" >&$UWSGI_EMPEROR_FD\nsleep 1000 & wait\nexec sleep 1000\n')
    deaf.chmod(0o755)
    (realm.vassals / "deaf.ini").write_text("[uwsgi]\n")
    words = ("--emperor", str(realm.vassals), "--emperor-wrapper", str(deaf))
    emperor = realm.start(*words, "--reload-mercy", "1", "--emperor-curse-tolerance", "20")
    pid = realm.wait_state("deaf.ini", "accepting")["pid"]
    emperor.send_signal(signal.SIGQUIT)
    assert emperor.wait(20) == 0
    assert is_zombie(pid)
    assert "[emperor] NO MERCY for vassal deaf.ini !!!" in realm.log()


def test_equal_pages_of_vassals_may_be_merged(realm: Realm) -> None:
    app = "import ctypes\ndef application(environ, start_response):\n    start_response('200 OK', [])\n"
    (realm.directory / "app.py").write_text(app + "    return [b'%d' % ctypes.CDLL(None).prctl(68, 0, 0, 0, 0)]\n")
    answers = []
    for words in (["--ksm"], []):  # what PR_GET_MEMORY_MERGE says in a worker
        port = free_port()
        realm.vassal("one.ini", port)
        emperor = realm.start("--emperor", str(realm.vassals), *words)
        answers.append(wait_for("an answer", lambda port=port: get(port)))
        emperor.send_signal(signal.SIGINT)
        emperor.wait()
    assert answers == ["1", "0"]


def test_two_directories_may_have_the_same_name(realm: Realm) -> None:
    one, two = free_port(), free_port()
    realm.vassal("app.ini", one, realm.directory / "d1")
    realm.vassal("app.ini", two, realm.directory / "d2")
    realm.start("--emperor", "d1", "--emperor", "dir://d2")
    get_when_up(one)
    get_when_up(two)
    vassals = realm.ask("vassal.list")["vassals"]
    assert sorted((v["name"], v["monitor"]) for v in vassals) == [("app.ini", "d1"), ("app.ini", "d2")]
    assert len({v["instance"] for v in vassals}) == 2
    with pytest.raises(PeerError, match=r"no vassal is called 'nobody\.ini'"):
        realm.ask("vassal.touch", {"name": "nobody.ini"})
    assert realm.ask("vassal.touch", {"name": "app.ini", "monitor": "d2"}) == {"touched": 1}
    assert realm.ask("vassal.touch", {"name": "app.ini"}) == {"touched": 2}


def get_when_up(port: int) -> str:
    return wait_for(f"an answer on {port}", lambda: get(port))


def test_a_glob_with_two_domains(realm: Realm) -> None:
    one, two = free_port(), free_port()
    xml = "<uwsgi><module>app</module><master/><chdir>{}</chdir><http-socket>127.0.0.1:{}</http-socket></uwsgi>"
    for domain, port in (("one.example", one), ("two.example", two)):
        path = realm.directory / f"domains/{domain}/conf/uwsgi.xml"
        path.parent.mkdir(parents=True)
        path.write_text(xml.format(realm.directory, port))
    realm.start("--emperor", f"{realm.directory}/domains/*/conf/uwsgi.xml")
    get_when_up(one)
    get_when_up(two)
    name = f"{realm.directory}/domains/two.example/conf/uwsgi.xml"
    Path(name).rename(realm.directory / "off.xml")
    wait_for("two is stopped", lambda: name not in realm.list())
    assert get(one)
    assert get(two) is None


def test_a_refused_config_is_said_once_and_disturbs_nobody(realm: Realm) -> None:
    port = free_port()
    realm.vassal("good.ini", port)
    rails = realm.vassals / "rails.yml"
    rails.write_text("uwsgi:\n    plugins: rack\n    rack: config.ru\n    master: 1\n")
    realm.start("--emperor", str(realm.vassals), "--emperor-freq", "1")
    assert get_when_up(port)
    refused = realm.wait_state("rails.yml", "refused")
    assert "plugin 'rack' needs uWSGI's ruby runtime" in refused["reason"]
    assert refused["pid"] == 0
    realm.emperors[-1].send_signal(signal.SIGWINCH)
    realm.ask("ping")
    assert len(realm.wait_log(r"\[emperor\] vassal rails\.yml refuses its configuration")) == 1
    assert realm.ask("status")["refused"] == {"rails.yml": refused["reason"]}
    rails.write_text(f"uwsgi:\n    module: app\n    http-socket: 127.0.0.1:0\n    chdir: {realm.directory}\n")
    realm.wait_state("rails.yml", "accepting", "ready")


def test_failures_are_throttled_by_uwsgi_s_numbers(realm: Realm) -> None:
    broken = realm.directory / "broken.sh"
    broken.write_text('#!/bin/sh\necho "attempt $(date +%s.%N)"\nexit 1\n')
    broken.chmod(0o755)
    (realm.vassals / "v6.ini").write_text("[uwsgi]\n")
    realm.start("--emperor", str(realm.vassals), "--emperor-wrapper", str(broken), "--emperor-freq", "1")
    times = [float(line.split()[1]) for line in realm.wait_log("^attempt ", 5)]
    gaps = [round(after - before, 1) for before, after in pairwise(times)]
    assert gaps == pytest.approx([1, 1, 2, 3], abs=0.4)
    assert " - [emperor] unloyal bad behaving vassal found: v6.ini throttling it...\n" in realm.log()
    vassal = realm.list()["v6.ini"]
    assert (vassal["state"], vassal["reason"], vassal["attempts"]) == ("throttled", "exited with 1", 4)
    assert vassal["blacklist_level_ms"] == 4001
    realm.emperors[-1].send_signal(signal.SIGURG)
    realm.wait_log("^attempt ", 6)
    assert " - [emperor] cleaning up blacklist ...\n" in realm.log()


def test_signals_hup_usr1(realm: Realm) -> None:
    one, two = free_port(), free_port()
    path = realm.vassal("one.ini", one)
    realm.vassal("two.ini", two)
    emperor = realm.start()
    masters = master_of(one), master_of(two)
    realm.wait_state("one.ini", "loyal")
    realm.wait_state("two.ini", "loyal")
    emperor.send_signal(signal.SIGUSR1)
    stamp = int(path.stat().st_mtime)
    line = rf"^vassal instance one\.ini \(last modified {stamp}\) status 0 loyal 1 zerg 0$"
    assert realm.wait_log(line)
    emperor.send_signal(signal.SIGHUP)
    realm.wait_log("reload the uwsgi instance (one|two).ini", 2)
    realm.wait_log("is ready to accept requests", 4)
    assert (master_of(one), master_of(two)) == masters


def test_hup_reads_the_yaml_again(realm: Realm) -> None:
    one, two = free_port(), free_port()
    realm.vassal("one.ini", one, realm.directory / "d1")
    realm.vassal("two.ini", two, realm.directory / "d2")
    config = realm.directory / "emperor.yaml"
    config.write_text("emperors: [d1]\n")
    emperor = realm.start("--config", str(config))
    get_when_up(one)
    config.write_text("emperors: [d2, nonsense]\nemperor-freq: never\n")
    emperor.send_signal(signal.SIGHUP)
    assert realm.wait_log(r"config\.refused .*emperor\.yaml:2")
    assert get(one)
    config.write_text("emperors: [d2]\n")
    emperor.send_signal(signal.SIGHUP)
    get_when_up(two)
    wait_for("one is stopped", lambda: list(realm.list()) == ["two.ini"])


def test_requests_deploy_and_destroy(realm: Realm) -> None:
    port, other = free_port(), free_port()
    realm.vassal("file.ini", other)
    emperor = realm.start()
    assert realm.ask("vassal.touch", {"name": "sent.ini", "config": realm.ini(http_socket=f"127.0.0.1:{port}")}) == {
        "touched": 1
    }
    get_when_up(port)
    get_when_up(other)
    with pytest.raises(PeerError, match="invalid instance name"):
        realm.ask("vassal.touch", {"name": "noext", "config": "x"})
    assert realm.ask("vassal.destroy", {"name": "file.ini"}) == {"destroyed": 1}
    realm.wait_state("file.ini", "paused")
    assert realm.list()["file.ini"]["reason"] == "stopped by request"
    emperor.send_signal(signal.SIGWINCH)
    assert realm.list()["file.ini"]["state"] == "paused", "its file is unchanged"
    realm.ask("vassal.touch", {"name": "file.ini"})
    get_when_up(other)
    emperor.send_signal(signal.SIGINT)
    emperor.wait(20)
    realm.start()
    get_when_up(port)
    realm.ask("vassal.destroy", {"name": "sent.ini"})
    wait_for("sent.ini is gone", lambda: "sent.ini" not in realm.list())
    realm.emperors[-1].send_signal(signal.SIGINT)
    realm.emperors[-1].wait(20)
    realm.start()
    get_when_up(other)
    assert list(realm.list()) == ["file.ini"]


def test_a_second_emperor_of_one_place_is_told_so(realm: Realm) -> None:
    realm.start()
    second = realm.start()
    assert second.wait(10) == 75
    assert "owned by a live process" in realm.log()


@pytest.mark.root
def test_a_tyrant_s_vassals_run_as_the_owners_of_their_files(realm: Realm) -> None:
    for path in (realm.directory, *realm.directory.parents[:3]):
        path.chmod(0o755)
    program = realm.directory / "who.sh"  # no Python: the tests' own may be readable by root only
    program.write_text('#!/bin/sh\necho "I am $(id)"\nprintf "\\001\\005\\021" >&$UWSGI_EMPEROR_FD\nexec sleep 1000\n')
    program.chmod(0o755)
    path = realm.vassals / "good.ini"
    path.write_text("[uwsgi]\n")
    os.chown(path, 1234, 2345)
    (realm.vassals / "root.ini").write_text("[uwsgi]\n")
    words = ("--emperor", str(realm.vassals), "--emperor-wrapper", str(program), "--emperor-curse-tolerance", "1")
    realm.start(*words, "--emperor-tyrant")
    pid = realm.wait_state("good.ini", "loyal")["pid"]
    status = Path(f"/proc/{pid}/status").read_text()
    assert "Uid:\t1234\t1234\t1234\t1234\nGid:\t2345\t2345\t2345\t2345\n" in status
    assert re.search(r"^Groups:\s*$", status, re.MULTILINE)
    assert list(realm.list()) == ["good.ini"]
    assert "[emperor-tyrant] invalid permissions for vassal root.ini" in realm.log()
    os.chown(path, 1235, 2345)
    wait_for(
        "the new owner", lambda: realm.list()["good.ini"]["uid"] == 1235 and realm.list()["good.ini"]["pid"] != pid
    )
    realm.wait_log(r"^I am uid=1235 gid=2345 groups=2345$")
    assert "!!! permissions of file good.ini changed. stopping the instance... !!!" in realm.log()


def test_a_vassals_only_worker_is_its_zygote(realm: Realm) -> None:
    """Two processes instead of three, where nothing but an accident ends the worker; the accident costs an import."""
    lone, recycled = free_port(), free_port()
    path = realm.vassal("lone.ini", lone)
    realm.vassal("recycled.ini", recycled, max_requests=1000)
    realm.start("--emperor", str(realm.vassals), "--emperor-freq", "1")
    master, worker = master_of(lone), worker_of(lone)
    assert sorted(session(master)) == sorted([master, worker])
    assert len(session(master_of(recycled))) == 3
    kill_and_wait(worker)
    realm.wait_log(rf"DAMN ! worker 1 \(pid: {worker}\) died, killed by signal 9")
    second = worker_of(lone)
    assert second != worker
    os.utime(path)
    wait_for("a third", lambda: get(lone) and worker_of(lone) not in {worker, second})
    assert master_of(lone) == master
    wait_for("the second's end", lambda: len(session(master)) == 2)
    assert "NO MERCY" not in realm.log()


def test_an_operator_ends_the_emperor_with_or_without_vassals(realm: Realm) -> None:
    port = free_port()
    realm.vassal("one.ini", port)
    emperor = realm.start()
    master = master_of(port)
    where = ("--runtime-dir", str(realm.runtime))
    assert "stopping" in run("palatine", "emperor", "stop", *where).stdout
    assert emperor.wait(30) == 0
    assert master_of(port) == master
    second = realm.start()
    realm.wait_state("one.ini", "accepting", "loyal")
    assert "vassals" in run("palatine", "emperor", "stop", "--vassals", *where).stdout
    assert second.wait(60) == 0
    assert get(port) is None
    assert run("palatine", "emperor", "stop", *where, check=False).returncode == 69
