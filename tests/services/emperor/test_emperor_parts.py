"""The emperor's parts that need no process: notes, names, addresses, the board, lines."""

import socket
import time
from pathlib import Path

import attrs
import pytest
import structlog

from palatine.codec.keeper import Held
from palatine.counters import Segment, SegmentView
from palatine.errors import ConfigError
from palatine.schema import VASSAL_STATES
from palatine_emperor.board import ROWS, Board, state_of
from palatine_emperor.composer import Composer
from palatine_emperor.deploy_journal import open_journal
from palatine_emperor.on_demand import bind_socket
from palatine_emperor.settings import Settings
from palatine_emperor.supervisor import MOST_ABSENT, Supervisor
from palatine_emperor.throttle_policy import Blame
from palatine_emperor.vassal import Limits, Phase, Say, Stop, Times, Unwant, Vassal, Want, Wanted
from palatine_emperor.vassal_note import key_of, read_held, split_key, write_note
from palatine_emperor.voice import Voice

FILE = Wanted("a.ini", 10**18, "/v", b"[uwsgi]\nsecret = 1\n")
RUNNING = Vassal(
    Phase.RUNNING,
    FILE,
    FILE,
    pid=7,
    spawned=True,
    accepting=True,
    loyal=True,
    heartbeat_by=500,
    respawns=3,
    blame=Blame(1, 0, 2, 3),
    times=Times(1, 2, 3, 4, 5, 6, 7, 8),
)
KEY = key_of("dir:/v", "a.ini")


def test_a_note_brings_a_vassal_over_without_its_config() -> None:
    note = write_note(RUNNING)
    assert "secret" not in note
    over = read_held(Held(KEY, 7, 1234, note=note, parts=("pipe",)), 1000, Limits())
    bare = attrs.evolve(FILE, config=None)
    times = attrs.evolve(RUNNING.times, last_heartbeat=0)
    assert over == attrs.evolve(RUNNING, wanted=bare, started=bare, adopted=True, heartbeat_by=1030, times=times), (
        "and its heart is given time to beat"
    )
    assert write_note(attrs.evolve(RUNNING, heartbeat_by=600)) == note, "a heartbeat is no news"


@pytest.mark.parametrize(
    ("phase", "held", "expected"),
    [
        (Phase.STARTING, Held("k", 7), Phase.RUNNING),
        (Phase.STOPPING, Held("k", 7), Phase.STOPPING),
        (Phase.WAITING, Held("k", 0), Phase.WAITING),
        (Phase.WAITING, Held("k", 7, dead=True), Phase.WAITING),
        (Phase.THROTTLED, Held("k", 7, dead=True), Phase.THROTTLED),
        (Phase.RUNNING, Held("k", 7, dead=True, status=9), Phase.RUNNING),
    ],
)
def test_the_keeper_knows_better_what_runs(phase: Phase, held: Held, expected: Phase) -> None:
    note = write_note(attrs.evolve(RUNNING, phase=phase))
    over = read_held(held._replace(key=KEY, note=note), 0, Limits())
    assert over.phase is expected
    assert bool(over.pid) == (expected in {Phase.RUNNING, Phase.STOPPING})


@pytest.mark.parametrize("note", ["", "{", '{"phase": "unheard of"}', '{"pid": "seven"}'])
def test_an_unreadable_note_is_an_unknown_config(note: str) -> None:
    over = read_held(Held(KEY, 7, note=note), 0, Limits())
    assert over.phase is Phase.RUNNING
    assert over.wanted == Wanted("a.ini", 0, "/")
    newer = read_held(Held(KEY, 7, note='{"phase": "running", "of_the_next_version": 1}'), 0, Limits())
    assert newer.phase is Phase.RUNNING


def test_keys() -> None:
    assert split_key(key_of("glob:/:*.ini", "/etc/x|y.ini")) == ("glob:/:*.ini", "/etc/x|y.ini")


def test_instance_names_are_distinct_and_telling() -> None:
    composer = Composer(Settings(), Path("/run/palatine"), "", {})
    assert composer.instance_of(key_of("dir:/a", "app.ini")) == "app.ini"
    second = composer.instance_of(key_of("dir:/b", "app.ini"))
    assert second.startswith("app.ini-")
    assert composer.instance_of(key_of("dir:/b", "app.ini")) == second
    long = [composer.instance_of(key_of("glob", f"/srv/customers/domains/{name}/conf/uwsgi.xml")) for name in "abc"]
    assert len(set(long)) == 3
    assert all(len(name) <= 40 and "uwsgi.xml-" in name for name in long)
    composer.forget(key_of("dir:/a", "app.ini"))
    assert composer.instance_of(key_of("dir:/c", "app.ini")) == "app.ini"


def test_instance_names_leave_room_for_socket_paths() -> None:
    deep = Path("/" + "d" * 70)
    composer = Composer(Settings(), deep, "", {})
    names = [
        composer.instance_of(key_of("m", name)) for name in ("app.ini", "x" * 30 + ".ini", "/a/long/path/uwsgi.ini")
    ]
    assert names[0] == "app.ini"
    assert all(len(f"{deep}/i/{name}/handoff") <= 107 for name in names)
    assert len(set(names)) == 3


def test_the_order_to_start(tmp_path: Path) -> None:
    composer = Composer(Settings(vassals_start_hook="hook"), tmp_path, "/state", {"UWSGI_VASSAL_X": "1", "HOME": "/h"})
    order = composer.compose(KEY, attrs.evolve(FILE, socket=":9"), False)
    assert order.argv == (
        "palatine-app-server", "--name", "a.ini", "--runtime-dir", str(tmp_path), "--state-dir", "/state",
        "--ini", "emperor://a.ini",
    )  # fmt: skip
    assert order.environ == {"UWSGI_X": "1", "HOME": "/h", "UWSGI_VASSALS_DIR": "/v"}
    assert (order.cwd, order.program, order.config, order.on_demand, order.start_hook) == ("/v", "", True, True, "hook")
    composer.settings = Settings(emperor_wrapper_override=("/nowhere", "sh"), emperor_exec="true")
    assert composer.compose(KEY, FILE, False).program.endswith("/sh")
    assert composer.compose(KEY, FILE, True).program.endswith("/true")


@pytest.mark.parametrize(
    ("address", "family"),
    [
        ("127.0.0.1:0", socket.AF_INET),
        (":0", socket.AF_INET),
        ("[::1]:0", socket.AF_INET6),
        ("{tmp}/s", socket.AF_UNIX),
        ("{tmp}/with:colon", socket.AF_UNIX),
    ],
)
def test_on_demand_addresses(tmp_path: Path, address: str, family: int) -> None:
    address = address.format(tmp=tmp_path)
    for _ in range(2):  # a socket file left behind is in nobody's way
        with bind_socket(address, 5) as listener:
            assert listener.family == family


@pytest.mark.parametrize(
    ("address", "error"),
    [("127.0.0.1:http", ConfigError), ("127.0.0.1:99999", ConfigError), ("192.0.2.1:1", OSError), ("/no/s", OSError)],
)
def test_addresses_that_cannot_be(tmp_path: Path, address: str, error: type[Exception]) -> None:
    (tmp_path / "file").write_text("kept")
    with pytest.raises(error):
        bind_socket(address, 5)
    with pytest.raises(OSError, match="in use"):
        bind_socket(str(tmp_path / "file"), 5)
    assert (tmp_path / "file").read_text() == "kept"


def test_the_board_shows_vassals_and_grows(tmp_path: Path) -> None:
    segments: list[Segment] = []
    offset = time.time() - 100
    board = Board(tmp_path / "seg", {"monitors": ["/v"]}, offset, lambda key: split_key(key)[1], segments.append)
    board.show(KEY, RUNNING, "/v")
    with SegmentView.open(tmp_path / "seg") as view:
        row = view.row("vassals", 0)
        assert view.text("vassals", 0) == b"a.ini\0/v\0\0a.ini"
        assert (row["pid"], row["state"], row["respawns"]) == (7, VASSAL_STATES.index("loyal"), 3)
        assert (row["last_mod"], row["born"]) == (10**9, int(offset + 1))
        board.show(KEY, attrs.evolve(RUNNING, phase=Phase.THROTTLED, pid=0), "/v")
        assert view.row("vassals", 0)["pid"] == -1
        board.show(KEY, Vassal(blame=Blame(1, 0, 0, 0)), "/v")
        assert (view.row("vassals", 0)["state"], view.row("vassals", 0)["blacklist_level"]) == (0, 1)
        board.show(KEY, Vassal(), "/v")
        assert view.text("vassals", 0) == b""
        assert not any(view.row("vassals", 0).values())
        for number in range(ROWS + 1):
            board.show(key_of("dir:/v", f"{number}.ini"), RUNNING, "/v")
        assert view.replaced()
    with SegmentView.open(tmp_path / "seg") as view:
        assert view.rows("vassals") == 2 * ROWS
        assert sum(bool(view.text("vassals", slot)) for slot in range(2 * ROWS)) == ROWS + 1
        assert view.labels["monitors"] == ["/v"]
        board.relabel({"monitors": []})
        board.close()
        assert not view.alive()
    assert not (tmp_path / "seg").exists()
    assert len(segments) == 3


@pytest.mark.parametrize(
    ("vassal", "word"),
    [
        (Vassal(), "unused"),
        (Vassal(blame=Blame(1, 0, 0, 0)), "unused"),
        (Vassal(Phase.STARTING), "starting"),
        (Vassal(Phase.RUNNING), "starting"),
        (Vassal(Phase.RUNNING, spawned=True), "ready"),
        (Vassal(Phase.RUNNING, spawned=True, accepting=True), "accepting"),
        (Vassal(Phase.RUNNING, accepting=True, loyal=True), "loyal"),
        (Vassal(Phase.RUNNING, loyal=True, reloading=True), "reloading"),
        (Vassal(Phase.WAITING), "waiting"),
        (Vassal(Phase.REFUSED), "refused"),
        (Vassal(Phase.REFUSED, held=True), "paused"),
    ],
)
def test_states_have_words_of_the_schema(vassal: Vassal, word: str) -> None:
    assert state_of(vassal) == word
    assert word in VASSAL_STATES


def test_lines_are_uwsgi_s_or_events() -> None:
    written: list[str] = []
    Voice(written.append, None).say(Say("a.b", "text"))
    Voice(written.append, None).plain("a.b", "text")
    assert written[0].endswith(" - text")
    assert time.strptime(written[0].removesuffix(" - text"))
    assert written[1] == "text"
    with structlog.testing.capture_logs() as events:
        Voice(written.append, structlog.get_logger()).stamped("vassal.ready", "text")
    assert events == [{"event": "vassal.ready", "message": "text", "log_level": "info"}]
    assert len(written) == 2


def test_entries_of_vassals_nobody_wants_are_bounded() -> None:
    gone: list[str] = []
    supervisor = Supervisor(
        Limits(), lambda _: None, lambda key, vassal: gone.append(key) if vassal == Vassal() else None, lambda: 5.0
    )
    for number in range(MOST_ABSENT + 10):
        key = key_of("m", f"{number}.ini")
        supervisor.happened(key, Want(Wanted(f"{number}.ini", 1, "/")))
        supervisor.vassals[key] = attrs.evolve(supervisor.vassals[key], phase=Phase.ABSENT, blame=Blame(1, 0, 0, 0))
        supervisor.happened(key, Unwant())
        supervisor.vassals[key] = attrs.evolve(supervisor.vassals[key], phase=Phase.REFUSED)
        supervisor.happened(key, Stop())
    assert len(supervisor.vassals) == MOST_ABSENT
    assert gone == [key_of("m", f"{number}.ini") for number in range(10)]


def test_a_fault_of_ours_is_one_vassal_s_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[Say] = []
    supervisor = Supervisor(Limits(), said.append, lambda *_: None, lambda: 5.0)

    def faulty(vassal: Vassal, event: Want, _: float, __: Limits) -> tuple[Vassal, tuple[Say, ...]]:
        if event.wanted.name == "bad.ini":
            raise ZeroDivisionError
        return attrs.evolve(vassal, phase=Phase.STARTING, wanted=event.wanted), ()

    monkeypatch.setattr("palatine_emperor.supervisor.decide", faulty)
    for name in ("bad.ini", "good.ini"):
        supervisor.happened(key_of("m", name), Want(Wanted(name, 1, "/")))
    assert [line.event for line in said] == ["vassal.fault"]
    assert "ZeroDivisionError" in said[0].text
    assert list(supervisor.vassals) == [key_of("m", "good.ini")]


def test_a_journal_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "deploy.db").write_text("this is no database, and it is long enough to be taken for one" * 20)
    with pytest.raises(ConfigError, match="deploy journal cannot be used"):
        open_journal(tmp_path)
